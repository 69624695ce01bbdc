"""Successive halving: who goes on trains best, nothing is computed for those given up; Hyperband's arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import models, optim, tasks, train
from fnn.base.errors import InputError
from fnn.train import engine, halving

RATES = [1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 1e4]
RUNGS = (4, 8, 16)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 300)
    x = rng.integers(0, 60, (300, 4, 4))
    x.reshape(300, 16)[np.arange(300), y] += 190
    data = {"train": tasks.Split(jnp.asarray(x, jnp.uint8), jnp.asarray(y, jnp.int32))}
    task = tasks.classification(lambda hp: models.multilayer((12,), 10), batch=32)
    rule = optim.rule("sgd")
    run = train.training(task, rule, RUNGS[-1], evaluate_at=RUNGS)

    def score(hp, state, data):
        return -task.metrics(hp.task, state.params, state.stats, data)["train_loss"]

    return run, train.Hyper(engine.grid(rule.hyper, lr=RATES)), data, score


@pytest.mark.parametrize("batch_size", [None, 3])
def test_survivors_are_those_who_train_best_and_train_as_if_alone(problem, batch_size):
    run, hps, data, score = problem
    key = jax.random.key(1)
    found = jax.jit(halving.halving(run, RUNGS, score, 0.5, batch_size, score))(hps, key, data)
    _, record = train.train(engine.over_hypers(run), RUNGS[-1], hps, key, data)
    complete = -np.asarray(record["train_loss"])[np.array(RUNGS) - 1].T
    alive = np.arange(len(RATES))
    for place in range(len(RUNGS)):
        there = ~np.isnan(found.values[:, place]) | ~np.isfinite(complete[:, place])
        assert set(np.flatnonzero(there)) >= set(alive)
        np.testing.assert_allclose(found.values[alive, place], complete[alive, place], rtol=1e-4)
        gone = np.setdiff1d(np.arange(len(RATES)), alive)
        assert np.isnan(found.values[gone, place]).all()
        order = np.argsort(-np.nan_to_num(complete[alive, place], nan=-np.inf), kind="stable")
        alive = alive[order][: halving.kept(len(alive), 0.5)]
    np.testing.assert_array_equal(sorted(found.survivors), sorted(np.flatnonzero(~np.isnan(found.values[:, -1]))))
    assert (np.diff(found.values[found.survivors, -1]) <= 0).all()
    np.testing.assert_allclose(found.final, found.values[found.survivors, -1], rtol=1e-5)
    assert 7 not in found.survivors, "the one that diverges"


def test_what_is_given_up_costs_nothing(problem):
    """The compiled program's arithmetic is that of the networks that are left."""
    run, hps, data, score = problem

    def flops(keep):
        program = jax.jit(halving.halving(run, (1, 2, 3), score, keep))
        [text] = [program.lower(hps, jax.random.key(0), data).as_text()]
        return {n for n in range(1, 9) if f"tensor<{n}x12x32xf32>" in text or f"tensor<{n}x32x12xf32>" in text}

    assert flops(1.0) == {8}
    assert flops(0.5) == {8, 4, 2}


def test_costs():
    assert halving.counts(100, (4, 12, 36), 1 / 3) == [100, 34, 12]
    assert halving.updates(100, (4, 12, 36), 1 / 3) == 100 * 4 + 34 * 8 + 12 * 24
    assert halving.counts(9, (1, 3, 9), 1 / 3) == [9, 3, 1]
    assert halving.updates(8, (10,), 0.5) == 80


def test_hyperband_is_the_papers_table():
    """Li et al. 2018, Table 1: R = 81, η = 3."""
    brackets = halving.hyperband(81)
    assert [bracket.networks for bracket in brackets] == [81, 34, 15, 8, 5]
    assert [bracket.rungs[0] for bracket in brackets] == [1, 3, 9, 27, 81]
    assert brackets[0].rungs == (1, 3, 9, 27, 81)
    assert halving.counts(81, brackets[0].rungs, 1 / 3) == [81, 27, 9, 3, 1]
    assert [bracket.rungs for bracket in halving.hyperband(9, least=9)] == [(9,)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: halving.halving(run, (), min), "rising numbers of updates"),
        (lambda run: halving.halving(run, (4, 4), min), "rising numbers of updates"),
        (lambda run: halving.halving(run, (0, 4), min), "rising numbers of updates"),
        (lambda run: halving.halving(run, (4,), min, 0.0), "more than 0 and at most 1"),
        (lambda run: halving.halving(run, (4,), min, batch_size=0), "batch_size is a number of networks"),
        (lambda run: halving.hyperband(10, least=11), "after 1 to 10 updates"),
        (lambda run: halving.hyperband(10, 1.0), "between 0 and 1"),
    ],
)
def test_what_cannot_be_is_a_sentence(problem, make, message):
    with pytest.raises(InputError, match=message):
        make(problem[0])
