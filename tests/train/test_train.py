"""A run: one scan that resumes anywhere, evaluates at the given steps, and follows schedules."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import models, optim, schedules, tasks, train, wrappers
from fnn.base.errors import InputError
from fnn.rule import Rule, twins

SGD = optim.rule("sgd")
STEPS = 12
"""Of a run where any number would do: what is drawn for another number of steps is compiled again."""


@pytest.fixture(scope="module")
def data():
    """Small images whose class can be read off them."""
    rng = np.random.default_rng(0)

    def split(n):
        y = rng.integers(0, 10, n)
        x = rng.integers(0, 40, (n, 4, 4))
        x.reshape(n, 16)[np.arange(n), y] += 200
        return tasks.Split(jnp.asarray(x, jnp.uint8), jnp.asarray(y, jnp.int32))

    return {"train": split(200), "test": split(70)}


def task(**options):
    return tasks.classification(lambda hp: models.multilayer((12,), 10, **options), batch=16)


def whole(run, steps, data, hp=None, seed=0):
    hp = train.Hyper(SGD.hyper) if hp is None else hp
    return train.train(run, steps, hp, jax.random.key(seed), data)


def test_training_learns(data):
    run = train.training(task(), optim.rule("adam"), 300, evaluate_at=(300,))
    state, record = whole(run, 300, data, train.Hyper(optim.rule("adam").hyper._replace(lr=0.01)))
    assert record["loss"].shape == (300,)
    assert record["loss"][-20:].mean() < record["loss"][:20].mean() / 5
    assert record["test_accuracy"][-1] > 0.9
    assert state.params[0].w.shape == (12, 16)


def test_resuming_is_running_through(data):
    """Steps are numbered and draw from their numbers, so where a run was cut does not show."""
    run, hp, key = (
        train.training(task(), optim.rule("momentum"), STEPS),
        train.Hyper(optim.rule("momentum").hyper),
        jax.random.key(3),
    )
    state, record = train.train(run, STEPS, hp, key, data)
    early, late = (train.draw(run, key, data, jnp.arange(*ends)) for ends in ((5,), (5, STEPS)))
    half, first = train.advance(run, hp, data, run.start(hp, key, data), early)
    rest, second = train.advance(run, hp, data, half, late)
    jax.tree.map(np.testing.assert_array_equal, state, rest)
    np.testing.assert_array_equal(record["loss"], np.concatenate([first["loss"], second["loss"]]))


def test_the_loss_is_on_the_minibatch_before_or_after_the_update(data):
    t, hp, key = task(), train.Hyper(SGD.hyper), jax.random.key(5)
    before, after = (train.training(t, SGD, 2, loss_after=flag) for flag in (False, True))
    start = before.start(hp, key, data)
    drawn = before.draw(key, data, jnp.asarray(0))
    batch = t.batch(data, t.draw(jax.random.split(key, 5)[1], data, 0))
    state, record = before.step(hp, data, start, drawn)
    _, record_after = after.step(hp, data, start, drawn)
    np.testing.assert_allclose(record["loss"], t.loss((), start.params, start.stats, batch, None, True)[0], rtol=1e-6)
    np.testing.assert_allclose(
        record_after["loss"], t.loss((), state.params, state.stats, batch, None, False)[0], rtol=1e-6
    )
    assert record_after["loss"] < record["loss"]


def test_evaluation_happens_at_the_given_steps_only(data):
    t = task(normalize="before")
    state, record = whole(train.training(t, SGD, STEPS, evaluate_at=(1, 7, 12)), STEPS, data)
    asked = np.zeros(STEPS, bool)
    asked[[0, 6, 11]] = True
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        np.testing.assert_array_equal(np.isfinite(record[name]), asked)
        np.testing.assert_allclose(record[name][-1], t.metrics((), state.params, state.stats, data)[name], rtol=1e-6)


def test_a_schedule_reaches_rule_and_task(data):
    """A schedule on the whole `Hyper`: learning rate and weight decay, each its own way."""

    class Decay(NamedTuple):
        weight_decay: float = 1.0

    t = tasks.classification(lambda hp: models.multilayer((12,), 10), batch=16, weight_decay=lambda hp: hp.weight_decay)
    hp = train.Hyper(SGD.hyper, Decay())
    frozen = schedules.on("rule.lr", schedules.steps(0.0, 0.5))
    run = train.training(t, SGD, STEPS, schedule=frozen)
    half, _ = train.train(run, STEPS // 2, hp, jax.random.key(0), data)
    end, _ = train.train(run, STEPS, hp, jax.random.key(0), data)
    jax.tree.map(np.testing.assert_array_equal, half.params, end.params)

    lifted = train.training(t, SGD, STEPS, schedule=schedules.on("task.weight_decay", schedules.steps(0.0, 0.5)))
    plain = train.training(t, SGD, STEPS)
    a, b = (train.train(r, STEPS, hp, jax.random.key(0), data)[1]["loss"] for r in (lifted, plain))
    half = STEPS // 2
    np.testing.assert_allclose(a[:half], b[:half], rtol=1e-5)  # two programs, each rounded in its own way
    assert np.all(a[half:] < b[half:] - 1)


def test_an_optax_transformation_runs_wherever_a_rule_runs(data):
    ours, theirs = optim.rule("adam"), twins.twin("adam", optim.rule("adam").hyper)
    losses = [
        whole(train.training(task(), r, STEPS), STEPS, data, train.Hyper(r.hyper))[1]["loss"] for r in (ours, theirs)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_noise_and_statistics_are_carried(data):
    """Batch norm's running averages move, dropout draws a new mask each step, inference draws none."""
    run = train.training(task(normalize="before", dropout_ratio=0.3), SGD, STEPS)
    go = jax.jit(lambda seed: whole(run, STEPS, data, seed=seed))
    state, record = go(0)
    running = state.stats[1]
    assert np.all(running.mean != 0)
    assert np.all(np.isfinite(record["loss"]))
    np.testing.assert_array_equal(record["loss"], go(0)[1]["loss"])
    assert np.any(record["loss"] != go(1)[1]["loss"])


def test_steps_are_checked():
    with pytest.raises(InputError, match="at least 1 step"):
        train.training(task(), SGD, 0)
    with pytest.raises(InputError, match=r"after 1 to 10 updates, not after \[0, 11\]"):
        train.training(task(), SGD, 10, evaluate_at=(0, 5, 11))


def test_a_rule_may_evaluate_the_loss(data):
    """Its value, the function itself, every example's gradient, and a different key for every step and seed."""
    seen = []

    def update(hp, grads, state, params, extra):
        mean = jax.tree.map(lambda g: g.mean(0), extra.example_grads())
        gap = sum(jnp.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (mean, grads)), strict=True))
        slope = sum(
            jnp.abs(a - b).max()
            for a, b in zip(*map(jax.tree.leaves, (jax.grad(extra.value_fn)(params), grads)), strict=True)
        )
        facts = extra.value - extra.value_fn(params), gap, slope, jax.random.uniform(extra.key)
        jax.debug.callback(lambda *facts: seen.append(facts), *facts)
        return jax.tree.map(lambda g: -0.1 * g, grads), state

    asking = Rule(SGD.hyper, lambda hp, params: (), update)
    for seed in (0, 1):
        whole(train.training(task(), asking, 3), 3, data, seed=seed)
    jax.effects_barrier()
    values = np.asarray(seen)
    assert values.shape == (6, 4)
    np.testing.assert_allclose(values[:, :3], 0, atol=1e-6)
    assert len(set(values[:, 3])) == 6


def test_metrics_are_those_of_the_result(data):
    """An averaging rule is judged by its average, and trains on as if nobody averaged."""
    plain = train.training(task(), SGD, STEPS, evaluate_at=(STEPS,))
    averaging = wrappers.polyak(SGD)
    state, record = whole(
        train.training(task(), averaging, STEPS, evaluate_at=(STEPS,)), STEPS, data, train.Hyper(averaging.hyper)
    )
    other, alone = whole(plain, STEPS, data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, other.params)
    mean = averaging.result(averaging.hyper, state.params, state.opt)
    assert record["test_loss"][-1] != alone["test_loss"][-1]
    expected = task().metrics((), mean, state.stats, data)
    np.testing.assert_allclose(record["test_loss"][-1], expected["test_loss"], rtol=1e-6)


@pytest.mark.parametrize("spec", ["lbfgs", "sophia", "sam", "dpsgd", "noisy_sgd", "polyak_sgd", "momo_adam"])
def test_rules_that_evaluate_the_loss_train(data, spec):
    rule = optim.rule(spec)
    _, record = whole(train.training(task(), rule, 60), 60, data, train.Hyper(rule.hyper))
    assert np.isfinite(record["loss"]).all()
    # A median: on minibatches L-BFGS jumps now and then, and rounding decides where.
    assert np.median(record["loss"][-20:]) < np.median(record["loss"][:5])
