"""Schedules: maps on hyperparameters, `(hp, progress) -> hp`, so that any hyperparameter can be scheduled.

A *shape* is a function of progress 0…1 that gives a multiplier; `on("lr", shape)` turns it into a schedule of that
hyperparameter. Progress is updates done / updates in all, read before the update (as optax reads its count).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.errors import require
from fnn.hyper import get, put
from fnn.rule import NOTHING, Rule, increment
from fnn.types import Hyper, Scalar

Shape = Callable[[Scalar], Scalar]
Schedule = Callable[[Hyper, Scalar], Hyper]


def constant(hp: Hyper, progress: Scalar) -> Hyper:
    """The schedule that changes nothing."""
    return hp


def on(name: str, shape: Shape) -> Schedule:
    """The schedule that multiplies hyperparameter `name` by `shape(progress)`.

    `name` may lead into a nested tuple, as "rule.lr" does. Raises `InputError` where there is no such name.
    """
    return lambda hp, progress: put(hp, name, get(hp, name) * shape(progress))


def both(*schedules: Schedule) -> Schedule:
    """One schedule after another, for several hyperparameters at once."""

    def schedule(hp, progress):
        for each in schedules:
            hp = each(hp, progress)
        return hp

    return schedule


def flat(p: Scalar) -> Scalar:
    """1 all along."""
    return jnp.ones_like(p)


def cosine(floor: Scalar = 0.0, power: Scalar = 1.0) -> Shape:
    """floor + (1 − floor) · ((1 + cos πp) / 2)^power.

    Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5 with one period, where power is 1.
    """
    return lambda p: floor + (1 - floor) * ((1 + jnp.cos(jnp.pi * p)) / 2) ** power


def polynomial(power: Scalar = 1.0, floor: Scalar = 0.0) -> Shape:
    """floor + (1 − floor) · (1 − p)^power; power 1 is a straight line."""
    return lambda p: floor + (1 - floor) * (1 - p) ** power


def exponential(end: Scalar) -> Shape:
    """end^p: falls (or climbs) from 1 to `end` by a constant factor a step."""
    return lambda p: jnp.asarray(end) ** p


def steps(factor: Scalar, *boundaries: float) -> Shape:
    """factor^k after the k-th of `boundaries` (in progress, 0…1)."""
    return lambda p: jnp.asarray(factor) ** sum((jnp.asarray(p >= b, jnp.int32) for b in boundaries), jnp.int32(0))


def staircase(shape: Shape, stairs: int) -> Shape:
    """The shape held still on so many stairs of equal length, each at its value where the stair begins."""
    require(stairs >= 1, f"A staircase has at least 1 stair, not {stairs}.")
    return lambda p: shape(jnp.floor(p * stairs) / stairs)


def within(begin: float | int, end: float | int, shape: Shape) -> Shape:
    """The shape between these progresses; before and after them the values at its ends."""
    require(0 <= begin < end <= 1, f"A stretch of a run goes from 0 to 1 at most and forwards, not {begin} to {end}.")
    return lambda p: shape(jnp.clip((p - begin) / (end - begin), 0, 1))


def at_least(floor: Scalar, shape: Shape) -> Shape:
    """max(floor, shape)."""
    return lambda p: jnp.maximum(floor, shape(p))


def times(factor: Scalar, shape: Shape) -> Shape:
    """factor · shape."""
    return lambda p: factor * shape(p)


def joined(shapes: Sequence[Shape], boundaries: Sequence[float]) -> Shape:
    """One shape after another, each over its own stretch of the run; the next begins at each of `boundaries`."""
    ends = [0.0, *boundaries, 1.0]
    require(len(boundaries) == len(shapes) - 1, f"{len(shapes)} shapes have {len(shapes) - 1} boundaries between them.")

    def shape(p):
        value = within(ends[0], ends[1], shapes[0])(p)
        for one, (begin, end) in zip(shapes[1:], itertools.pairwise(ends[1:]), strict=True):
            value = jnp.where(p < begin, value, within(begin, end, one)(p))
        return value

    for begin, end in itertools.pairwise(ends):
        within(begin, end, flat)
    return shape


def warmup(share: float, then: Shape = flat, start: Scalar = 0.0) -> Shape:
    """From `start` in a straight line to 1 over the first `share` of the run, then shape `then` over the rest."""
    require(0 < share < 1, f"A warm-up takes a share of the run between 0 and 1, not {share}.")
    return joined([lambda p: start + (1 - start) * p, then], [share])


def through(values: Sequence[Scalar], boundaries: Sequence[float], between: str = "linear") -> Shape:
    """From value to value, reached at 0, at each of `boundaries` and at 1, on a straight line or half a cosine."""
    require(between in ("linear", "cosine"), f"Values are joined by a linear or a cosine piece, not by {between!r}.")
    require(len(values) == len(boundaries) + 2, f"{len(boundaries) + 2} values are reached, not {len(values)}.")
    bend = {"linear": lambda p: p, "cosine": lambda p: (1 - jnp.cos(jnp.pi * p)) / 2}[between]
    pieces = [lambda p, a=a, b=b: a + (b - a) * bend(p) for a, b in itertools.pairwise(values)]
    return joined(pieces, boundaries)


def one_cycle(
    peak: float = 0.3,
    turn: float | None = None,
    start: Scalar = 1 / 25,
    end: Scalar = 1 / 25e4,
    between: str = "cosine",
) -> Shape:
    """From `start` up to 1 at progress `peak` and down to `end`, by way of `start` again at `turn` if that is given.

    Smith & Topin 2017, arXiv:1708.07120, §2.
    """
    down = [] if turn is None else [turn]
    return through([start, 1.0, *(start for _ in down), end], [peak, *down], between)


def progress(t: Array, updates: int) -> Array:
    """t / updates in the widest float at hand: an int32 divided as it is would be rounded to float32."""
    return t.astype(jnp.result_type(float)) / updates


class Scheduled(NamedTuple):
    """Updates done, and the scheduled rule's own state."""

    t: Array
    inner: object


def scheduled(rule: Rule, schedule: Schedule, updates: int) -> Rule:
    """The rule that counts its own updates and reads its hyperparameters through `schedule`.

    For loops of your own and for optax; `fnn.train` takes the schedule itself. After `updates` progress stays 1.
    """
    require(updates >= 1, f"A schedule needs at least 1 update, not {updates}.")

    def at(hp, t):
        return schedule(hp, jnp.minimum(progress(t, updates), 1))

    def init(hp, params):
        t = jnp.zeros((), jnp.int32)
        return Scheduled(t, rule.init(at(hp, t), params))

    def update(hp, grads, state, params, extra=NOTHING):
        updates, inner = rule.update(at(hp, state.t), grads, state.inner, params, extra)
        return updates, Scheduled(increment(state.t), inner)

    def result(hp, params, state):
        return rule.result(at(hp, state.t), params, state.inner)

    return Rule(rule.hyper, init, update, result)
