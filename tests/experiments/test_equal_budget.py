"""Equal budgets: what is drawn, expected bests by hand, verdicts both ways, and the experiment whole."""

import numpy as np
import pytest
import xarray as xr

from experiments import _cli
from experiments import equal_budget as experiment
from fnn.base.errors import InputError
from fnn.train import engine

TINY = experiment.Config(seeds=2, optimizers="sgd,adam:book", trials=4, epochs=1, dataset="mnist_5k")


@pytest.fixture(scope="module")
def measured():
    TINY.check()
    return experiment.run(TINY)


def made_up(**rules):
    """Results of rules whose accuracy is a function of lr's exponent; every seed draws its own."""
    keys, found = engine.seeds(10), []
    for spec, accuracy in rules.items():
        lr = np.stack(list(experiment.rates(keys, spec, 16).values()))
        found.append(accuracy(np.log10(lr)))
        rates = lr
    dims = ("optimizer", "range", "seed", "trial")
    return xr.Dataset(
        {
            "accuracy": (dims, np.stack(found)),
            "lr": (dims, np.stack([rates] * len(found))),
            "diverged_at": (dims, np.full(np.shape(found), -1)),
        },
        {
            "optimizer": list(rules),
            "range": list(experiment.RANGES),
            "seed": np.arange(10),
            "trial": np.arange(16),
            "default_lr": ("optimizer", np.full(len(found), 0.01)),
        },
        {"dataset": "made up", "epochs": 1},
    )


def peak(at, width, height=1.0):
    return lambda exponent: height * np.exp(-(((exponent - at) / width) ** 2))


def test_the_experiment_whole(measured):
    assert dict(measured.accuracy.sizes) == {"optimizer": 2, "range": 2, "seed": 2, "trial": 4}
    assert measured.optimizer.values.tolist() == ["sgd", "adam:book"]
    assert ((measured.accuracy >= 0) & (measured.accuracy <= 1)).all()
    assert measured.complete == 1
    for figure in experiment.figures(measured).values():
        figure.canvas.draw()
    assert "k = 4" in experiment.summary(measured)
    assert len(experiment.verdicts(measured)) == 2
    assert len(experiment.tables(measured)["expected_best"]) == 2 * 2 * 4


def test_rules_draw_the_same_rates_or_the_same_multiples_of_their_defaults():
    sgd, adam = (experiment.rates(engine.seeds(3), spec, 500) for spec in ("sgd", "adam"))
    np.testing.assert_array_equal(sgd["same"], adam["same"])
    np.testing.assert_allclose(sgd["own"] / 0.01, adam["own"] / 0.001, rtol=1e-9)
    assert np.log10(sgd["same"]).min() == pytest.approx(-6, abs=0.05)
    assert np.log10(sgd["same"]).max() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(np.log10(sgd["own"] / 0.01)[0][[0]].shape, (1,))
    assert np.abs(np.log10(sgd["own"] / 0.01)).max() <= 1.5
    assert (sgd["same"][0] != sgd["same"][1]).all(), "every seed draws its own"


def test_expected_best_grows_to_the_best():
    ds = made_up(sgd=peak(-1, 0.5), adam=peak(-3, 1.5))
    for spec in ("sgd", "adam"):
        curve = experiment.expected(ds, spec, "same")
        assert (np.diff(curve, axis=1) >= -1e-9).all()
        one = ds.accuracy.sel(optimizer=spec, range="same").values
        np.testing.assert_allclose(curve[:, 0], 100 * one.mean(1))
        np.testing.assert_allclose(curve[:, -1], 100 * one.max(1))


def test_a_broad_peak_needs_less_tuning_than_a_narrow_one():
    outcomes = lambda ds: {v.claim: v.outcome for v in experiment.verdicts(ds)}
    claim = "With 4 trials from the same range for all rules, Adam is ahead of SGD"
    assert outcomes(made_up(sgd=peak(-1, 0.3), adam=peak(-3, 3)))[claim] == "holds"
    assert outcomes(made_up(sgd=peak(-1, 3), adam=peak(-3, 0.3)))[claim] == "does not hold"
    assert experiment.verdicts(made_up(sgd=peak(-1, 1))) == []


def test_diverged_trials_count_as_nothing():
    ds = made_up(sgd=lambda e: np.where(e > -2, np.nan, 0.5), adam=peak(-3, 1))
    assert np.isfinite(experiment.expected(ds, "sgd", "same")).all()
    for figure in experiment.figures(ds).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--trials 3", "--trials is at least 4"),
        ("--epochs 0", "--epochs is at least 1"),
        ("--optimizers adma", "There is no optimizer 'adma'"),
    ],
)
def test_bad_options_are_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        _cli.configure(experiment, options.split()).check()
