"""Population-based training: the worst networks are replaced by copies of the best, with changed settings.

    for every round     train all networks for some updates, and score them;
    exploit             each of the worst share becomes a copy of a random network of the best share;
    explore             the settings of the copies are changed a little.

So the settings along a network's ancestors are a schedule, found while training. Jaderberg et al. 2017,
arXiv:1711.09846, Algorithm 1, with the truncation selection of §4.1. The whole population is one compiled program.
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
from fnn.train.halving import best_first, segment
from fnn.train.run import Run

Explore = Callable[[Key, Hyper], Hyper]
"""`(key, hp) -> hp`: random settings near those of one network."""


class Evolved(NamedTuple):
    """The result of a population of n networks.

    values: every network's value after every round, the higher the better.
    hps: the settings it was trained with in every round, each leaf `[rounds, n]`.
    parents: the index of the network of the round before that it continues: itself, or the one it copies.
    final: `final(hp, state, data)` at the end, each leaf `[n, …]`.
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
    batch_size: int | None = None,
) -> Callable[[Hyper, Key, Key, Any], Evolved]:
    """`(hps, key, k_search, data) -> Evolved`: population-based training from the initial settings `hps`, leaves `[n]`.

    key: for the initial weights and the minibatches, which are the same for all networks. k_search: for the choice of
    parents and for `explore`.

    every: updates per round. score: `(hp, state, data) -> value`, the higher the better; what is not a number is worst.
    explore: see `Explore`; `perturb` is the paper's.
    share: the part of the population that is replaced, and the part that may be copied; rounded down, but at least one
        network; in (0, ½].
    final: `(hp, state, data) -> anything`, computed for every network at the end.
    batch_size: networks that are stepped together, all by default; on a CPU best so few that they stay in its cache.
    Raises `InputError` for arguments of other kinds or out of range.
    """
    rounded = whole(every, 1) and whole(rounds, 1)
    require(rounded, f"A population trains in rounds of updates, not {rounds!r} of {every!r}.")
    part = real(share, 0, 0.5) and share > 0
    require(part, f"The share of networks that is replaced is above 0 and at most a half, not {share!r}.")
    require(callable(explore), f"What explores is a function (key, hp) -> hp, not {explore!r}.")
    train = segment(run, score, batch_size)

    def evolve(hps, key, k_search, data):
        n = check_settings(hps)
        check_key(key)
        check_key(k_search)
        require(n >= 2, f"A population has at least 2 networks, not {n}.")
        replaced = max(1, int(share * n + 1e-9))
        indices = jnp.arange(n)

        def exploit(k_parent, values):
            order = best_first(values)
            return indices.at[order[-replaced:]].set(jax.random.choice(k_parent, order[:replaced], (replaced,)))

        def one_round(carry, number):
            hps, state, values = carry
            k_parent, k_explore = jax.random.split(jax.random.fold_in(k_search, number))
            parents = jnp.where(number > 0, exploit(k_parent, values), indices)
            hps, state = jax.tree.map(lambda a: a[parents], (hps, state))
            tried = jax.vmap(explore)(jax.random.split(k_explore, n), hps)
            hps = jax.tree.map(functools.partial(jnp.where, parents != indices), tried, hps)
            state, values = train(hps, key, data, state, number * every + jnp.arange(every))
            return (hps, state, values), (values, hps, parents)

        data = run.own(key, data)
        state = jax.vmap(run.start, (0, None, None))(hps, key, data)
        (last, state, _), history = jax.lax.scan(one_round, (hps, state, jnp.zeros(n)), jnp.arange(rounds))
        return Evolved(*history, jax.vmap(final, (0, 0, None))(last, state, data))

    return evolve


def perturb(down: float = 0.8, up: float = 1.2) -> Explore:
    """The `Explore` that multiplies every number of the settings by `down` or `up`, with equal probability (§4.1.1)."""
    factors = real(down) and real(up) and 0 < down < up
    require(factors, f"Factors are 0 < down < up, not {down!r} and {up!r}.")

    def explore(key, hp):
        leaves, tree = jax.tree.flatten(hp)
        keys = jax.random.split(key, len(leaves))
        return tree.unflatten(
            [x * jnp.where(jax.random.bernoulli(k), up, down) for k, x in zip(keys, leaves, strict=True)]
        )

    return explore
