"""Early stopping inside the compiled program: the worst networks are dropped, and cost nothing from then on.

    successive halving   train n networks to the first rung; keep the best ⌈keep · n⌉; train those to the next rung; …
    Hyperband            several of them side by side, from many networks with a low first rung to few with none

Jamieson & Talwalkar 2016, AISTATS, Algorithm 1 (successive halving); Li et al. 2018, JMLR 18(185), Algorithm 1
(Hyperband). The survivors of a rung are gathered into smaller arrays, so that only their steps are computed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.base.checks import check_key, check_settings
from fnn.base.errors import listed, real, require, whole
from fnn.base.types import Hyper, Key, Scalar
from fnn.train.run import Run, advance, check_run, draw


class Halved(NamedTuple):
    """The result of successive halving of n networks.

    values: every network's value at every rung `[n, rungs]`, the higher the better; NaN after it was dropped.
    survivors: the indices of the networks that were trained to the end, best first.
    final: `final(hp, state, data)` of these, each leaf `[kept, …]`.
    """

    values: Float[Array, "n rungs"]
    survivors: Int[Array, " kept"]
    final: Any


def halving(
    run: Run,
    rungs: Sequence[int],
    score: Callable[[Hyper, Any, Any], Scalar],
    keep: float = 1 / 3,
    batch_size: int | None = None,
    final: Callable[[Hyper, Any, Any], Any] = lambda hp, state, data: (),
) -> Callable[[Hyper, Key, Any], Halved]:
    """`(hps, key, data) -> Halved`: successive halving of the n networks with hyperparameters `hps`, leaves `[n]`.

    All networks have the same key, hence the same initial weights and minibatches.

    rungs: the numbers of updates after which networks are compared, rising; the last is the whole training.
    score: `(hp, state, data) -> value`, the higher the better; what is not a number is worst.
    keep: the share of the networks that is trained on after a rung, in (0, 1].
    batch_size: networks that are stepped together, all by default; on a CPU best so few that they stay in its cache.
    final: `(hp, state, data) -> anything`, computed for the survivors at the end.
    Raises `InputError` for arguments of other kinds or out of range.
    """
    check(rungs, keep)
    train = segment(run, score, batch_size)

    def halve(hps, key, data):
        n = check_settings(hps)
        check_key(key)
        alive, values, done = jnp.arange(n), jnp.full((n, len(rungs)), jnp.nan), 0
        data = run.own(key, data)
        state = jax.vmap(run.start, (0, None, None))(hps, key, data)

        for place, rung in enumerate(rungs):
            state, now = train(hps, key, data, state, jnp.arange(done, rung))
            values, done = values.at[alive, place].set(now), rung
            best = best_first(now)
            best = best if rung == rungs[-1] else best[: kept(len(alive), keep)]
            alive, hps, state = jax.tree.map(lambda a, best=best: a[best], (alive, hps, state))
        return Halved(values, alive, jax.vmap(final, (0, 0, None))(hps, state, data))

    return halve


def segment(
    run: Run, score: Callable[[Hyper, Any, Any], Scalar], batch_size: int | None
) -> Callable[..., tuple[Any, Float[Array, " n"]]]:
    """`(hps, key, data, state, steps) -> (state, values)`: every network after a segment of training, and its score.

    score, batch_size: see `halving`. Raises `InputError` for arguments of other kinds.
    """
    check_run(run)
    require(callable(score), f"A score is a function (hp, state, data) -> value, not {score!r}.")
    require(
        batch_size is None or whole(batch_size, 1), f"batch_size is a number of networks from 1 on, not {batch_size!r}."
    )

    def train(hps, key, data, state, steps):
        drawn = draw(run, key, data, steps)

        def one(network):
            hp, state = network
            state, _ = advance(run, hp, data, state, drawn)
            return state, score(hp, state, data)

        return jax.lax.map(one, (hps, state), batch_size=batch_size or len(jax.tree.leaves(hps)[0]))

    return train


def best_first(values: Float[Array, " n"]) -> Int[Array, " n"]:
    """Indices from the best value to the worst; what is not a number is worst."""
    return jnp.argsort(-jnp.nan_to_num(values, nan=-jnp.inf, neginf=-jnp.inf))


def check(rungs: Sequence[int], keep: float) -> None:
    """Raise `InputError` where rungs do not rise from 1 on or `keep` is not in (0, 1]."""
    numbers = listed(rungs) and len(rungs) > 0 and all(map(whole, rungs))
    rising = numbers and all(a < b for a, b in zip((0, *rungs), rungs, strict=False))
    require(rising, f"Rungs are rising numbers of updates, unlike {tuple(rungs) if listed(rungs) else rungs!r}.")
    share = real(keep, 0, 1) and keep > 0
    require(share, f"The share of networks that is kept is more than 0 and at most 1, not {keep!r}.")


def kept(n: int, keep: float) -> int:
    """How many of n networks are kept after a rung."""
    return math.ceil(keep * n - 1e-9)


def counts(n: int, rungs: Sequence[int], keep: float) -> list[int]:
    """How many networks are trained to each rung."""
    numbers = [n]
    for _ in rungs[1:]:
        numbers.append(kept(numbers[-1], keep))
    return numbers


def updates(n: int, rungs: Sequence[int], keep: float) -> int:
    """The number of updates of all networks together."""
    segments = [b - a for a, b in zip((0, *rungs), rungs, strict=False)]
    return sum(count * length for count, length in zip(counts(n, rungs, keep), segments, strict=True))


class Bracket(NamedTuple):
    """One successive halving of Hyperband: its number of networks, and the updates after which they are compared."""

    networks: int
    rungs: tuple[int, ...]


def hyperband(most: int, keep: float = 1 / 3, least: int = 1) -> list[Bracket]:
    """Hyperband's brackets for trainings of `most` updates, none of which is compared before `least`.

    With η = 1 / keep and s_max = ⌊log_η (most / least)⌋: for s = s_max … 0 a bracket of
    ⌈(s_max + 1) / (s + 1) · ηˢ⌉ networks, whose first rung is at most · η⁻ˢ. All brackets cost about the same.
    """
    require(whole(most, 1), f"Trainings are of at least 1 update, not of {most!r}.")
    require(whole(least, 1, most), f"Networks are compared after 1 to {most} updates, not after {least!r}.")
    share = real(keep, 0, 1) and 0 < keep < 1
    require(share, f"The share of networks that is kept is between 0 and 1, not {keep!r}.")
    eta = 1 / keep
    s_max = math.floor(math.log(most / least) / math.log(eta) + 1e-9)
    brackets = []
    for s in range(s_max, -1, -1):
        networks = math.ceil((s_max + 1) / (s + 1) * eta**s - 1e-9)
        brackets.append(Bracket(networks, tuple(round(most * eta**-i) for i in range(s, -1, -1))))
    return brackets
