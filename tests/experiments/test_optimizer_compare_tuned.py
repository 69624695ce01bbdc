"""The tuned race: rates chosen on some seeds and judged on others, extended grids, and the ranking."""

import numpy as np
import pytest
import xarray as xr

from experiments.updates import _contest
from experiments.updates import optimizer_compare_mnist as compare
from experiments.updates import optimizer_compare_tuned as tuned
from fnn import optim
from fnn.base.errors import InputError
from fnn.lab.verdicts import Verdict


def dataset(mean, accuracy=None, lr=(0.01, 0.1, 1.0)):
    """Two rules at three rates: mean training losses `[rule, setting]`, the same for every seed but for noise."""
    mean = np.asarray(mean, float)
    noise = 1e-3 * np.random.default_rng(0).random((*mean.shape, 6))
    accuracy = 0.9 - 0.1 * mean if accuracy is None else np.asarray(accuracy, float)
    three, four = ("rule", "setting", "seed"), ("rule", "setting", "seed", "step")
    return xr.Dataset(
        {
            "loss": (four, np.repeat((mean[..., None] + noise)[..., None], 40, -1)),
            "validation_loss": (three, mean[..., None] + noise),
            "validation_accuracy": (three, 0.9 - 0.1 * mean[..., None] + noise),
            "test_loss": (three, mean[..., None] + noise),
            "test_accuracy": (three, accuracy[..., None] + noise),
        },
        {
            "rule": ["sgd", "adam"],
            "lr": (("rule", "setting"), [lr, lr]),
            "default_lr": ("rule", [0.01, 0.001]),
            "seed": range(6),
            "step": range(40),
        },
        {"dataset": "mnist", "batch": 128, "target": 1.5},
    )


def judged(ds) -> list[Verdict]:
    return tuned.EXPERIMENT.judge(ds)


@pytest.mark.parametrize(("adam", "outcome"), [(0.5, "holds"), (2.0, "does not hold")])
def test_verdicts_follow_the_numbers(adam, outcome):
    faster, better = judged(dataset([[3, 1, 2], [3, adam, 3]]))
    assert faster.outcome == better.outcome == outcome
    assert (faster.seeds, faster.source, better.secondary) == (6, "claim 2", True)
    assert faster.effect == pytest.approx(1 - adam, abs=0.01)
    assert faster.sentence.endswith("Chosen on the other half of the seeds: Adam, lr 0.1; SGD, lr 0.1.")


def test_a_seed_does_not_choose_its_own_learning_rate():
    ds = dataset([[2, 2, 2], [3, 3, 3]])
    luck = np.random.default_rng(1).normal(0, 0.5, (3, 6))
    luck -= luck.mean(1, keepdims=True)  # SGD is as good at one rate as at another, but for chance
    ds["loss"].loc[{"rule": "sgd"}] = np.repeat((2 + luck)[..., None], 40, -1)
    picked = tuned.judged_speed(ds).sel(rule="sgd").values
    assert picked.mean() > luck.min(0).mean() + 2, "the best of three for each seed would flatter"
    for seed in range(6):
        others = luck[:, 1 - seed % 2 :: 2].mean(1)
        assert picked[seed] == pytest.approx(2 + luck[others.argmin(), seed], rel=1e-6)


def test_accuracy_is_chosen_on_validation_images_and_judged_on_test_images():
    ds = dataset([[3, 1, 2], [1.5, 0.5, 1]], accuracy=[[0.1, 0.2, 0.9], [0.1, 0.3, 0.9]])
    np.testing.assert_allclose(tuned.judged_accuracy(ds).mean("seed"), [20, 30], atol=0.1)


def test_a_rate_that_diverges_for_some_seed_is_not_the_best():
    ds = dataset([[3, 1, 2], [1.5, 0.5, 1]])
    ds.loss[0, 1, 4, 30:] = np.nan
    ds.validation_loss[0, 1, 4] = np.nan
    assert float(tuned.at_best(ds, "sgd").lr) == 1.0
    assert tuned.on_edge(ds).values.tolist() == [True, False]
    for figure in tuned.EXPERIMENT.draw(ds).values():
        figure.canvas.draw()
    assert "on the edge" in tuned.summary(ds)
    assert "SGD, lr 0.1 or 1 (on the edge of its grid)" in judged(ds)[0].sentence, "the odd seeds all converge"


@pytest.mark.parametrize(
    ("losses", "wider"),
    [([3, 2, 1], [10**0.5, 10]), ([1, 2, 3], [10**-2.5, 10**-3]), ([2, 1, 2], None), ([np.nan] * 3, None)],
)
def test_a_grid_is_extended_on_the_side_of_its_best(losses, wider):
    found = tuned.beyond(dataset([losses, [2, 1, 2]]))
    assert found == ({"sgd": pytest.approx(wider)} if wider else {})


def test_a_tiny_race_with_an_extension():
    cfg = tuned.Config(
        seeds=2, steps=12, batch=16, optimizers=("sgd", "adam"), rates=2, extensions=1, dataset="mnist_5k"
    )
    ds = tuned.run(cfg)
    rates = ds.lr.sel(rule="sgd").values
    assert np.isfinite(rates).sum() == 4, "two rates on a grid of two are both on an end"
    assert np.all(np.diff(rates) > 0)
    assert ds.loss.dims == ("rule", "setting", "seed", "step")
    # Before the first update all rates are one network: after it the smallest rate has moved least.
    first = ds.loss.sel(rule="sgd", step=0).mean("seed")
    assert float(np.ptp(first.values)) < 0.5
    assert len(judged(ds)) == 2
    for figure in tuned.EXPERIMENT.draw(ds).values():
        figure.canvas.draw()


def test_grids_of_several_lengths_are_one_data_set():
    grid = dataset([[3, 2, 1], [2, 1, 2]])
    wider = dataset([[0.5, 2], [1, 1]], lr=(10.0, 3.0)).sel(rule=["sgd"])
    ds = tuned.joined(grid, wider)
    np.testing.assert_allclose(ds.lr, [[0.01, 0.1, 1, 3, 10], [0.01, 0.1, 1, np.nan, np.nan]])
    np.testing.assert_allclose(ds.loss.mean(("seed", "step"))[0], [3, 2, 1, 2, 0.5], atol=0.01)
    assert ds.loss.sel(rule="adam").isel(setting=slice(3, None)).isnull().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": 1}, "--rates is at least 2"),
        ({"extensions": -1}, "--extensions is at least 0"),
        ({"optimizers": ("sgd", "sgd")}, "names sgd more than once"),
        ({"optimizers": ()}, "--optimizers names no rule"),
        ({"optimizers": ("adma",)}, "no optimizer 'adma'"),
        ({"dialect": "x"}, "--dialect is book or own"),
        ({"target": 0.0}, "--target is a loss of more than 0"),
    ],
)
def test_bad_options_are_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        tuned.Config(**options).check()


def test_too_large_a_batch_is_one_sentence():
    with pytest.raises(InputError, match="at most the 3,334 images of mnist_5k"):
        tuned.run(tuned.Config(batch=4000, dataset="mnist_5k"))


def test_rules_are_ranked_by_steps_to_the_target():
    ds = dataset([[3, 1.9, 2], [1.5, 0.5, 1]])
    falls = np.linspace(2, 0, 40)
    ds.loss[0, 1] = falls  # SGD at its best: at 1.5 after a quarter of the way
    ds.loss[1, 1] = 1.6
    ds.loss[1, 1, 2:] = falls
    ds.loss[1, :, :, :] = ds.loss[1].where(ds.setting == 1, 1.9)
    sgd, adam = tuned.ranking(ds)
    assert (sgd["rule"], adam["rule"]) == ("sgd", "adam")
    assert sgd["best"]["reached"] == 6
    assert sgd["best"]["steps"] == sgd["best"]["low"] == pytest.approx(11, abs=1)
    assert sgd["default"] == {"reached": 0, "steps": None, "low": None, "high": None}, "it stays at 3"
    assert adam["best"]["reached"] == 4
    assert adam["best"]["steps"] is None, "a mean without the seeds that do not reach it would flatter"
    assert adam["default"]["reached"] is None, "its default was not tried"
    assert "4 of 6 seeds at its best rate" in tuned.summary(ds)


def test_all_means_every_rule(monkeypatch):
    all_rules = tuned.Config(optimizers=("all",))
    assert set(all_rules.specs()) == set(optim.names())
    assert np.isfinite(list(tuned.default_rates(all_rules).values())).all()
    all_rules.check()
    with pytest.raises(InputError, match="--twins goes with rules by name"):
        compare.Config(optimizers=("all",), twins=True).check()
    monkeypatch.setattr(optim, "names", lambda: ("adam", "sam", "sgd"))
    monkeypatch.setattr(_contest, "NOTES", ("sgd", "adam"))
    monkeypatch.setattr(tuned, "FEW", 2)  # two programs, and figures of a panel for each
    ds = compare.run(compare.Config(optimizers=("all",), seeds=2, steps=3, dataset="mnist_5k"))
    assert list(ds.rule.values) == ["sgd", "adam", "sam"]
    assert ds.sizes["setting"] >= 7
    default = tuned.at_default(ds, "sam")
    assert default is not None
    assert float(default.lr) == pytest.approx(0.01)
    drawn = compare.EXPERIMENT.draw(ds)
    assert set(drawn) == {"loss_at_best", "steps_to_target", "sensitivity"}
    for figure in drawn.values():
        figure.canvas.draw()
    assert compare.EXPERIMENT.tables is not None
    assert len(compare.EXPERIMENT.tables(ds)["ranking"]) == 3
    assert {v.claim.split()[0] for v in compare.EXPERIMENT.judge(ds)} == {"At"}, "claims of a tuned race only"


@pytest.mark.slow
def test_several_programs_find_what_one_does(monkeypatch):
    options = {"seeds": 2, "steps": 6, "rates": 2, "extensions": 0, "optimizers": ("sgd", "momentum")}
    one = tuned.run(tuned.Config(**options, dataset="mnist_5k"))
    monkeypatch.setattr(tuned, "FEW", 1)
    several = tuned.run(tuned.Config(**options, dataset="mnist_5k"))
    xr.testing.assert_allclose(several.drop_attrs(), one.drop_attrs(), rtol=1e-5)
