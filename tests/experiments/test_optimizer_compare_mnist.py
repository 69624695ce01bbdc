"""The race: pairing, agreement with optax, and what counts as faster, slightly faster and about equally fast."""

import numpy as np
import pytest
import xarray as xr

from experiments.updates import optimizer_compare_mnist as compare

STEPS = 400


@pytest.fixture(scope="module")
def race():
    """A tiny race with twins."""
    names = ("sgd", "momentum", "adam", "adam:own")
    return compare.run(compare.Config(seeds=3, steps=120, batch=32, optimizers=names, twins=True, dataset="mnist_5k"))


def test_the_race_is_paired_and_agrees_with_optax(race):
    # The first update differs between rules, the batch and weights before it do not: SGD and book Momentum coincide.
    np.testing.assert_allclose(race.loss.sel(rule="sgd")[:, 0], race.loss.sel(rule="momentum")[:, 0], rtol=1e-6)
    # In float32 training soon amplifies the last bit; the float64 trajectories are in test_parity.py.
    np.testing.assert_allclose(race.loss[..., :6], race.twin_loss[..., :6], rtol=1e-4)
    assert (race.loss[..., -10:].mean("step") < race.loss[..., :10].mean("step")).all()
    assert list(race.rule.values) == ["sgd", "momentum", "adam", "adam:own"]


def test_the_notes_table_and_the_twins_are_printed(race):
    rows = [line.split() for line in compare.summary(race).splitlines()]
    assert rows[0][:3] == ["iteration", "SGD", "Momentum"]
    assert [row[0] for row in rows[1:3]] == ["0", "100"]
    np.testing.assert_allclose(float(rows[2][1]), float(race.loss.sel(rule="sgd", step=100).mean()), atol=1e-4)
    assert "Adam (own) and its optax twin differ" in compare.summary(race)
    assert set(compare.EXPERIMENT.draw(race)) == {"06_loss", "06_loss_log", "accuracy", "twins"}


def falling(steps, seed):
    """Losses of 8 seeds that fall from 2 and reach the target after about `steps` steps."""
    scatter = np.random.default_rng(seed).normal(1, 0.03, (8, 1))
    return 2 * (compare.TARGET / 2) ** (np.arange(STEPS) / (steps * scatter))


def judged(**steps):
    """Outcomes by claim where each rule reaches the target after about the given number of steps."""
    loss = np.stack([falling(n, seed) for seed, n in enumerate(steps.values())])
    ds = xr.Dataset(
        {"loss": (("rule", "seed", "step"), loss)},
        {"rule": list(steps), "seed": range(8), "step": range(STEPS)},
        {"dataset": "mnist", "batch": 128},
    )
    ds["test_accuracy"] = ("rule", "seed", "update"), 0.9 - loss[..., -1:] / 10
    return {v.claim: v.outcome for v in compare.EXPERIMENT.judge(ds) if not v.secondary}


FAST = "Momentum and Adam learn about equally fast: their steps to 0.2 nats differ by a factor below 1.5"
SLIGHTLY = "AdaGrad learns slightly faster than Adam: their steps to 0.2 nats differ by a factor below 1.5"


@pytest.mark.parametrize(
    ("momentum", "adam", "outcome"), [(100, 100, "holds"), (80, 100, "holds"), (60, 130, "does not hold")]
)
def test_about_equally_fast_has_bounds(momentum, adam, outcome):
    assert judged(momentum=momentum, adam=adam)[FAST] == outcome


@pytest.mark.parametrize(
    ("adagrad", "outcome"), [(85, "holds"), (100, "undecided"), (40, "does not hold"), (120, "does not hold")]
)
def test_slightly_faster_is_neither_much_faster_nor_slower(adagrad, outcome):
    assert judged(adagrad=adagrad, adam=100)[SLIGHTLY] == outcome


def test_a_diverged_run_is_a_result():
    loss = np.ones((2, 3, 300), np.float32)
    loss[0, 1, 40:] = np.nan
    loss[0, 2, 7] = np.inf
    ds = xr.Dataset(
        {"loss": (("rule", "seed", "step"), loss), "diverged_at": (("rule", "seed"), [[-1, 40, 7], [-1, -1, -1]])},
        {"rule": ["sgd", "adam"], "seed": range(3), "step": range(300), "update": [300]},
        {"dataset": "mnist", "batch": 128},
    )
    for name in ("train_accuracy", "test_accuracy"):
        ds[name] = ("rule", "seed", "update"), np.full((2, 3, 1), 0.5)
    assert "2 of 3" in compare.summary(ds)
    [line] = [line for line in compare.summary(ds).splitlines() if line.split()[:1] == ["SGD"]]
    assert line.split()[:2] == ["SGD", "inf"], "the median run diverged"
    assert compare.EXPERIMENT.judge(ds)[0].outcome == "undecided"
    for figure in compare.EXPERIMENT.draw(ds).values():
        figure.canvas.draw()
