"""Equal budgets: what is drawn, expected bests by hand, choosing and judging on different images, and verdicts."""

import numpy as np
import pytest
import xarray as xr

from experiments.updates import equal_budget as experiment
from fnn.base.errors import InputError

EXPERIMENT = experiment.EXPERIMENT


@pytest.fixture(scope="module")
def measured():
    return experiment.run(
        experiment.Config(seeds=2, optimizers=("sgd", "adam:book"), trials=4, epochs=1, dataset="mnist_5k")
    )


def made_up(**rules):
    """Results of rules whose accuracy is a function of lr's exponent; every seed draws its own."""
    unit = np.random.default_rng(0).random((10, 16))
    exponent = np.stack([low + (high - low) * unit for low, high in (experiment.SAME, (-3.5, -0.5))])
    dims = ("rule", "range", "seed", "trial")
    found = np.stack([accuracy(exponent) for accuracy in rules.values()])
    return xr.Dataset(
        {
            "accuracy": (dims, found),
            "test_accuracy": (dims, found),
            "lr": (dims, np.stack([10**exponent] * len(found))),
            "diverged_at": (dims, np.full(np.shape(found), -1)),
        },
        {
            "rule": list(rules),
            "range": list(experiment.RANGES),
            "seed": np.arange(10),
            "trial": np.arange(16),
            "default_lr": ("rule", np.full(len(found), 0.01)),
        },
        {"dataset": "made up", "epochs": 1},
    )


def peak(at, width, height=1.0):
    return lambda exponent: height * np.exp(-(((exponent - at) / width) ** 2))


def test_the_experiment_whole(measured):
    assert dict(measured.accuracy.sizes) == {"rule": 2, "seed": 2, "range": 2, "trial": 4}
    assert measured.rule.values.tolist() == ["sgd", "adam:book"]
    for score in (measured.accuracy, measured.test_accuracy):
        assert ((score >= 0) & (score <= 1)).all()
    for figure in EXPERIMENT.draw(measured).values():
        figure.canvas.draw()
    assert "k = 4" in experiment.summary(measured)
    assert len(experiment.tables(measured)["expected_best"]) == 2 * 2 * 4


def test_rules_draw_the_same_rates_or_the_same_multiples_of_their_defaults(measured):
    sgd, adam = (measured.lr.sel(rule=rule) for rule in ("sgd", "adam:book"))
    np.testing.assert_allclose(sgd.sel(range="same"), adam.sel(range="same"), rtol=1e-6)
    own = sgd.sel(range="own") / 0.01
    np.testing.assert_allclose(own, adam.sel(range="own") / 0.001, rtol=1e-5)
    assert np.abs(np.log10(own)).max() <= 1.5
    assert len(np.unique(own)) == own.size, "every seed draws its own"


def test_the_best_in_validation_is_judged_on_test_images():
    ds = made_up(sgd=peak(-1, 1), adam=peak(-3, 1))
    ds["test_accuracy"] = 1 - ds.accuracy
    curve = experiment.expected(ds, "sgd", "same")
    one = ds.sel(rule="sgd", range="same")
    best = one.accuracy.argmax("trial")
    np.testing.assert_allclose(curve.isel(k=-1), 100 * one.test_accuracy.isel(trial=best))


def test_expected_best_grows_to_the_best():
    ds = made_up(sgd=peak(-1, 0.5), adam=peak(-3, 1.5))
    for spec in ("sgd", "adam"):
        curve = experiment.expected(ds, spec, "same")
        assert (np.diff(curve, axis=1) >= -1e-9).all()
        one = ds.accuracy.sel(rule=spec, range="same").values
        np.testing.assert_allclose(curve[:, 0], 100 * one.mean(1))
        np.testing.assert_allclose(curve[:, -1], 100 * one.max(1))


def test_a_broad_peak_needs_less_tuning_than_a_narrow_one():
    outcomes = lambda ds: {v.claim: v.outcome for v in EXPERIMENT.judge(ds)}
    claim = "With 4 trials from the same range for all rules, Adam is ahead of SGD"
    assert outcomes(made_up(sgd=peak(-1, 0.3), adam=peak(-3, 3)))[claim] == "holds"
    assert outcomes(made_up(sgd=peak(-1, 3), adam=peak(-3, 0.3)))[claim] == "does not hold"
    assert EXPERIMENT.judge(made_up(sgd=peak(-1, 1))) == []


def test_diverged_trials_count_as_nothing():
    ds = made_up(sgd=lambda e: np.where(e > -2, np.nan, 0.5), adam=peak(-3, 1))
    assert np.isfinite(experiment.expected(ds, "sgd", "same")).all()
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 3}, "--trials is at least 4"),
        ({"epochs": 0}, "--epochs is at least 1"),
        ({"optimizers": ("adma",)}, "There is no optimizer 'adma'"),
        ({"optimizers": ("mechanize",)}, "learning rate `lr`, which mechanize does not have"),
    ],
)
def test_bad_options_are_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        experiment.Config(**options).check()
