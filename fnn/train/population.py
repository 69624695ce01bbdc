"""Population-based training: networks that do badly go on from the weights and the settings of those that do well.

    for every round     train all networks for some updates, and score them;
    exploit             the worst share become copies of networks of the best share, drawn by lot;
    explore             the copies change the settings they took over a little.

So a network's settings follow a schedule that nobody wrote down. Jaderberg et al. 2017, arXiv:1711.09846, Algorithm 1,
with the truncation selection of §4.1. The whole population is one compiled program.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.base.checks import check_key, check_settings
from fnn.base.errors import real, require, whole
from fnn.base.types import Hyper, Key, Scalar
from fnn.train.halving import best_first, stretch
from fnn.train.run import Run

Explore = Callable[[Key, Hyper], Hyper]
"""`(key, hp) -> hp`: other settings near those of one network."""


class Evolved(NamedTuple):
    """What became of n networks in so many rounds.

    values: every network's value after every round, the higher the better.
    hps: what it was trained with in every round, each leaf `[rounds, n]`.
    parents: which network of the round before it goes on from: itself, or the one it copies.
    final: what was asked of the networks at the end, each leaf `[n, …]`.
    """

    values: Float[Array, "rounds n"]
    hps: Hyper
    parents: Int[Array, "rounds n"]
    final: Any


def population(
    run: Run,
    every: int,
    rounds: int,
    score: Callable[[Hyper, Any, Any], Scalar],
    explore: Explore,
    *,
    share: float = 0.2,
    final: Callable[[Hyper, Any, Any], Any] = lambda hp, state, data: (),
    at_once: int | None = None,
) -> Callable[[Hyper, Key, Key, Any], Evolved]:
    """`(hps, key, luck, data) -> Evolved`: a population whose networks begin with the settings `hps`, `[n]`.

    All of them start from the same weights and see the same minibatches, those of `key`, so they differ by settings
    and by what they took over; `luck` draws whom they copy and what they try.
    every: updates a round. score: `(hp, state, data) -> value`, the higher the better; what is not a number is worst.
    share: that part of the population, rounded down but at least one network, copies as many others.
    final: `(hp, state, data) -> anything` that is wanted of the networks at the end.
    at_once: how many networks are stepped together, all by default; on a CPU so few that they stay in its cache.
    """
    rounded = whole(every, 1) and whole(rounds, 1)
    require(rounded, f"A population trains in rounds of updates, not {rounds!r} of {every!r}.")
    part = real(share, 0, 0.5) and share > 0
    require(part, f"The share of networks that copies others is above 0 and at most a half, not {share!r}.")
    require(callable(explore), f"What explores is a function (key, hp) -> hp, not {explore!r}.")
    go_on = stretch(run, score, at_once)

    def evolve(hps, key, luck, data):
        n = check_settings(hps)
        check_key(key)
        check_key(luck)
        require(n >= 2, f"A population has at least 2 networks, not {n}.")
        copying = max(1, int(share * n + 1e-9))
        everyone = jnp.arange(n)

        def exploit(k_parent, values):
            order = best_first(values)
            return everyone.at[order[-copying:]].set(jax.random.choice(k_parent, order[:copying], (copying,)))

        def one_round(carry, number):
            hps, state, values = carry
            k_parent, k_explore = jax.random.split(jax.random.fold_in(luck, number))
            parents = jnp.where(number > 0, exploit(k_parent, values), everyone)
            hps, state = jax.tree.map(lambda a: a[parents], (hps, state))
            tried = jax.vmap(explore)(jax.random.split(k_explore, n), hps)
            hps = jax.tree.map(functools.partial(jnp.where, parents != everyone), tried, hps)
            state, values = go_on(hps, key, data, state, number * every + jnp.arange(every))
            return (hps, state, values), (values, hps, parents)

        data = run.own(key, data)
        state = jax.vmap(run.start, (0, None, None))(hps, key, data)
        (last, state, _), found = jax.lax.scan(one_round, (hps, state, jnp.zeros(n)), jnp.arange(rounds))
        return Evolved(*found, jax.vmap(final, (0, 0, None))(last, state, data))

    return evolve


def perturb(down: float = 0.8, up: float = 1.2) -> Explore:
    """Every number of the settings is multiplied by `down` or by `up`, each by its own lot (§4.1.1)."""
    factors = real(down) and real(up) and 0 < down < up
    require(factors, f"Numbers are made smaller or larger, not multiplied by {down!r} or {up!r}.")

    def explore(key, hp):
        leaves, tree = jax.tree.flatten(hp)
        keys = jax.random.split(key, len(leaves))
        return tree.unflatten(
            [x * jnp.where(jax.random.bernoulli(k), up, down) for k, x in zip(keys, leaves, strict=True)]
        )

    return explore
