"""The tuned race: choosing by validation loss alone, extending grids, and verdicts in both directions."""

import numpy as np
import pytest
import xarray as xr

from experiments import _lab
from experiments import optimizer_compare_tuned as tuned
from fnn.base.errors import InputError


def dataset(validation, test=None, loss=None, lr=(0.01, 0.1, 1.0)):
    """Two contenders at three rates: validation losses `[optimizer, rate]`, the same for every seed but for noise."""
    validation = np.asarray(validation, float)
    noise = 1e-3 * np.random.default_rng(0).random((*validation.shape, 6))
    mean = validation if loss is None else np.asarray(loss, float)
    accuracy = 0.9 - 0.1 * validation if test is None else np.asarray(test, float)
    three, four = ("optimizer", "rate", "seed"), ("optimizer", "rate", "seed", "step")
    return xr.Dataset(
        {
            "loss": (four, np.repeat((mean[..., None] + noise)[..., None], 40, -1)),
            "validation_loss": (three, validation[..., None] + noise),
            "validation_accuracy": (three, accuracy[..., None] + noise),
            "test_loss": (three, validation[..., None] + noise),
            "test_accuracy": (three, accuracy[..., None] + noise),
        },
        {
            "optimizer": ["sgd", "adam"],
            "lr": (("optimizer", "rate"), [lr, lr]),
            "default_lr": ("optimizer", [0.01, 0.001]),
            "seed": range(6),
            "step": range(40),
        },
        {"dataset": "mnist", "batch": 128, "target": 1.5},
    )


def test_the_rate_is_chosen_by_validation_and_not_by_test():
    ds = dataset([[3, 1, 2], [1.5, 0.5, 1]], test=[[0.1, 0.2, 0.9], [0.1, 0.3, 0.9]])
    assert [float(tuned.at_best(ds, name).lr) for name in ("sgd", "adam")] == [0.1, 0.1]
    assert not tuned.on_edge(ds, "sgd")


def test_a_rate_that_diverges_for_some_seed_is_not_the_best():
    ds = dataset([[3, 1, 2], [1.5, 0.5, 1]])
    ds.validation_loss[0, 1, 4] = np.nan
    assert float(tuned.at_best(ds, "sgd").lr) == 1.0
    assert tuned.on_edge(ds, "sgd")
    for figure in tuned.figures(ds).values():
        figure.canvas.draw()
    assert "on the edge" in tuned.summary(ds)
    assert "SGD on the edge of the grid" in tuned.verdicts(ds)[0].sentence


@pytest.mark.parametrize(("adam", "outcome"), [(0.5, "holds"), (2.0, "does not hold")])
def test_verdicts_follow_the_numbers(adam, outcome):
    ds = dataset([[3, 1, 2], [3, adam, 3]], loss=[[3, 1, 2], [3, adam, 3]])
    faster, better = tuned.verdicts(ds)
    assert faster.outcome == better.outcome == outcome
    assert (faster.seeds, faster.source) == (6, "claim 2")
    assert faster.effect == pytest.approx(1 - adam, abs=0.01)


@pytest.mark.parametrize(
    ("losses", "wider"),
    [([3, 2, 1], [10**0.5, 10]), ([1, 2, 3], [10**-2.5, 10**-3]), ([2, 1, 2], None), ([np.nan] * 3, None)],
)
def test_a_grid_is_extended_on_the_side_of_its_best(losses, wider):
    found = {"sgd": {lr: {"validation_loss": np.full(4, x)} for lr, x in zip((0.01, 0.1, 1.0), losses, strict=True)}}
    assert tuned.beyond(found) == ({"sgd": pytest.approx(wider)} if wider else {})


def test_a_race_takes_the_seconds_of_all_its_sweeps():
    grid = {"complete": 1, "train_seconds": 1.25, "compile_seconds": 3.0}
    extension = {"complete": 0, "train_seconds": 0.5, "compile_seconds": 2.0}
    assert _lab.in_all(grid, extension) == {"complete": 0, "train_seconds": 1.75, "compile_seconds": 5.0}


def test_a_tiny_race_with_an_extension():
    cfg = tuned.Config(seeds=2, steps=12, batch=16, optimizers="sgd,adam", rates=2, extensions=1, dataset="mnist_5k")
    ds = tuned.run(cfg)
    rates = ds.lr.sel(optimizer="sgd").values
    assert np.isfinite(rates).sum() == 4, "two rates on a grid of two are both on an end"
    assert np.all(np.diff(rates) > 0)
    assert ds.loss.dims == ("optimizer", "rate", "seed", "step")
    # Before the first update all rates are one network: after it the smallest rate has moved least.
    first = ds.loss.sel(optimizer="sgd", step=0).mean("seed")
    assert float(np.ptp(first.values)) < 0.5
    assert len(tuned.verdicts(ds)) == 2
    for figure in tuned.figures(ds).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "--seeds is at least 1"),
        ({"rates": 1}, "--rates is at least 2"),
        ({"extensions": -1}, "--extensions is at least 0"),
        ({"optimizers": "sgd,sgd"}, "names sgd more than once"),
        ({"optimizers": "adma"}, "no optimizer 'adma'"),
        ({"dialect": "x"}, "--dialect is book or own"),
    ],
)
def test_bad_options_are_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        tuned.Config(**options).check()


def test_too_large_a_batch_is_one_sentence():
    with pytest.raises(InputError, match="at most the 3,334 images of mnist_5k"):
        tuned.run(tuned.Config(batch=4000, dataset="mnist_5k"))


def test_rules_are_ranked_by_steps_to_the_target():
    ds = dataset([[3, 1, 2], [1.5, 0.5, 1]])
    falls = np.linspace(2, 0, 40)
    ds.loss[0, 1] = falls  # SGD at its best: at 1.5 after a quarter of the way
    ds.loss[1, 1] = falls[::2].repeat(2)
    ds.loss[1, 1, :2] = np.nan
    sgd, adam = tuned.ranking(ds)
    assert (sgd["optimizer"], adam["optimizer"]) == ("sgd", "adam")
    assert sgd["best"]["reached"] == 6
    assert sgd["best"]["steps"] == sgd["best"]["low"] == pytest.approx(11, abs=1)
    assert sgd["default"] == {"reached": 0, "steps": None, "low": None, "high": None}, "it stays at 3"
    assert adam["best"]["reached"] == 4
    assert adam["best"]["steps"] is None, "a mean without the seeds that never came there would flatter"
    assert adam["default"]["reached"] is None, "its default was not tried"
    assert "4 of 6 seeds at its best rate" in tuned.summary(ds)


def test_every_rule_races(monkeypatch):
    from experiments import optimizer_compare_mnist as compare
    from fnn import optim

    assert set(tuned.Config(optimizers="all").specs()) == set(optim.names())
    assert all(np.isfinite(r).all() and len(r) == 7 for r in tuned.first_grid(tuned.Config(optimizers="all")).values())
    tuned.Config(optimizers="all").check()
    with pytest.raises(InputError, match="--twins goes with rules by name"):
        compare.Config(optimizers="all", twins=True).check()
    monkeypatch.setattr(optim, "names", lambda: ("adam", "sam", "sgd"))
    monkeypatch.setattr(_lab, "NOTES", ("sgd", "adam"))
    monkeypatch.setattr(tuned, "FEW", 2)
    ds = compare.run(compare.Config(optimizers="all", seeds=2, steps=3, dataset="mnist_5k"))
    assert list(ds.optimizer.values) == ["sgd", "adam", "sam"]
    assert ds.sizes["rate"] >= 7
    assert float(tuned.at_default(ds, "sam").lr) == pytest.approx(0.01)
    assert set(compare.figures(ds)) == {"loss_at_best", "steps_to_target", "sensitivity"}
    for figure in compare.figures(ds).values():
        figure.canvas.draw()
    assert len(compare.tables(ds)["ranking"]) == 3
    assert compare.verdicts(ds)


def test_contenders_share_programs_while_there_is_room(monkeypatch):
    monkeypatch.setattr(tuned, "HELD", 10)
    sizes = {"a": 4, "b": 6, "c": 1, "d": 30, "e": 10, "f": 1}
    assert tuned.groups(sizes) == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]


SMALL = tuned.Config(
    seeds=2, steps=6, rates=2, extensions=0, optimizers="sgd,momentum", dataset="mnist_5k", checkpoint=None
)


@pytest.mark.slow
def test_several_programs_find_what_one_does(monkeypatch):
    one = tuned.run(SMALL)
    monkeypatch.setattr(tuned, "HELD", 1)
    several = tuned.run(SMALL)
    xr.testing.assert_allclose(several.drop_attrs(), one.drop_attrs(), rtol=1e-5)


def test_an_interrupt_keeps_the_programs_that_were_done(monkeypatch):
    monkeypatch.setattr(tuned, "HELD", 1)
    follow, calls = _lab.follow, []

    def interrupted(chunks, steps, row=None):
        calls.append(steps)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return follow(chunks, steps, row)

    monkeypatch.setattr(_lab, "follow", interrupted)
    ds = tuned.run(SMALL)
    assert ds.optimizer.values.tolist() == ["sgd"]
    assert ds.complete == 0
    assert ds.loss.notnull().all()
