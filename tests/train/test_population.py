"""Population-based training: who copies whom, what is tried, and that nothing else differs from training alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.base.errors import InputError
from fnn.train import Run, population

EVERY, ROUNDS, N = 3, 6, 10


class Rate(NamedTuple):
    lr: jax.Array


def slope():
    """A run that climbs by its learning rate at every step; the start, and the numbers of the steps, are on record."""
    start = lambda hp, key, data: {"at": jax.random.normal(key), "last": jnp.int32(-1)}
    step = lambda hp, data, state, i: ({"at": state["at"] + hp.lr, "last": i}, {})
    return Run(start, step, lambda key, data, i: i)


def height(hp, state, data):
    return state["at"]


def evolved(explore=None, score=height, rates=None, batch_size=None, **options):
    explore = explore or population.perturb()
    rates = jnp.linspace(0.1, 1, N) if rates is None else rates
    evolve = population.population(slope(), EVERY, ROUNDS, score, explore, batch_size=batch_size, **options)
    return jax.jit(evolve)(Rate(rates), jax.random.key(1), jax.random.key(2), ())


@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_worst_go_on_from_the_best_with_settings_near_theirs(batch_size):
    found = evolved(batch_size=batch_size, final=lambda hp, state, data: (state["at"], state["last"], hp.lr))
    values, rates, parents = (np.asarray(a) for a in (found.values, found.hps.lr, found.parents))
    np.testing.assert_array_equal(parents[0], np.arange(N))
    np.testing.assert_allclose(rates[0], np.linspace(0.1, 1, N), rtol=1e-6)
    for before in range(ROUNDS - 1):
        order = np.argsort(-values[before], kind="stable")
        copies = np.flatnonzero(parents[before + 1] != np.arange(N))
        assert set(copies) == set(order[-2:])
        assert set(parents[before + 1][copies]) <= set(order[:2])
        # Who copies nobody keeps its settings; who does multiplies its parent's by a factor.
        ratio = rates[before + 1] / rates[before][parents[before + 1]]
        np.testing.assert_allclose(np.delete(ratio, copies), 1, rtol=1e-6)
        assert all(np.isclose(r, 0.8) or np.isclose(r, 1.2) for r in ratio[copies])
        climbed = values[before][parents[before + 1]] + EVERY * rates[before + 1]
        np.testing.assert_allclose(values[before + 1], climbed, rtol=1e-5)
    at, last, lr = found.final
    np.testing.assert_allclose(at, values[-1], rtol=1e-6)
    np.testing.assert_allclose(lr, rates[-1])
    assert (last == EVERY * ROUNDS - 1).all(), "every step once"


def test_luck_draws_the_copies_and_nothing_else():
    evolve = jax.jit(population.population(slope(), EVERY, ROUNDS, height, population.perturb()))
    hps = Rate(jnp.linspace(0.1, 1, N))
    one, other = (evolve(hps, jax.random.key(1), jax.random.key(luck), ()) for luck in (2, 3))
    np.testing.assert_array_equal(one.values[0], other.values[0])
    assert (one.hps.lr != other.hps.lr).any()


def test_what_is_not_a_number_is_worst_and_is_given_up():
    broken = lambda hp, state, data: jnp.where(hp.lr > 0.75, jnp.nan, state["at"])
    found = evolved(score=broken, explore=lambda key, hp: hp)
    assert np.isnan(found.values[0]).sum() == 3
    assert np.isfinite(found.values[2]).all(), "two of them are replaced in a round"


def test_trying_other_settings_pays_where_the_best_rate_changes():
    """Large steps are good at first and bad later: copies that keep the settings they take over are no match."""

    step = lambda hp, data, at, noise: (at - hp.lr * (at + noise), {})
    noise = lambda key, data, i: jax.random.normal(jax.random.fold_in(key, i))
    run = Run(lambda hp, key, data: jnp.float32(30), step, noise)
    score = lambda hp, at, data: -jnp.square(at)
    evolve = population.population(run, 5, 20, score, population.perturb(0.5, 1.5), share=0.3)
    rates = jnp.geomspace(0.003, 0.9, 16)
    keys = jax.random.split(jax.random.key(0), 40)
    luck = jax.random.split(jax.random.key(5), 40)
    found = jax.jit(jax.vmap(evolve, (None, 0, 0, None)))(Rate(rates), keys, luck, ())
    copying = population.population(run, 5, 20, score, lambda key, hp: hp, share=0.3)
    unchanged = jax.jit(jax.vmap(copying, (None, 0, 0, None)))(Rate(rates), keys, luck, ())
    assert np.median(found.values[:, -1]) > np.median(unchanged.values[:, -1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: evolved(share=0.6), "above 0 and at most a half, not 0.6"),
        (lambda: evolved(rates=jnp.ones(1)), "at least 2 networks, not 1"),
        (lambda: evolved(batch_size=0), "batch_size is a number of networks"),
        (lambda: population.population(slope(), 0, 3, height, population.perturb()), "not 3 of 0"),
        (lambda: population.perturb(0.0, 1.2), "0 < down < up, not 0.0 and 1.2"),
    ],
)
def test_what_cannot_be_is_a_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
