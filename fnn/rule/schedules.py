"""Schedules: maps on hyperparameters, `(hp, progress) -> hp`, so that any hyperparameter can be scheduled.

A *shape* is a function of `Progress` that returns a multiplier; `on("lr", shape)` turns it into a schedule of that
hyperparameter. Progress is read before the update (as optax reads its count).

A boundary named as a share b of a run of N updates lies before update `round(b * N)`, counted from 0; a half is rounded
to the even number. It is an integer that the number of updates done is compared with: a quotient in float32, compared
with b, would change an update late wherever the division is rounded down. A segment of the run has its own progress,
in whole updates, and the boundaries within it are shares of it.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from fnn.base.errors import listed, real, require, whole
from fnn.base.types import Hyper, Scalar
from fnn.rule.contract import NOTHING, Rule, checked, increment
from fnn.rule.hyper import get, put


@functools.partial(jax.tree_util.register_dataclass, data_fields=("done",), meta_fields=("updates",))
@dataclass(frozen=True)
class Progress:
    """The progress of a run, or of a segment of one.

    done: updates done, from 0 to `updates`.
    updates: of the run in all, at least 1; static.
    """

    done: Int[Array, ""]
    updates: int

    @property
    def t(self) -> Array:
        """`done` in the widest float there is: int32 in an equation of floats would be rounded to float32."""
        return jnp.asarray(self.done).astype(jnp.result_type(float))

    @property
    def share(self) -> Array:
        """t / updates, from 0 to exactly 1."""
        # A compiled division by a constant is a product with its reciprocal, which may miss 1 on either side.
        return jnp.where(self.done < self.updates, jnp.minimum(self.t / self.updates, 1), 1)

    def reached(self, boundary: float | int) -> Bool[Array, ""]:
        """Whether this share of the updates is done, to the nearest update."""
        return jnp.asarray(self.done >= round(boundary * self.updates))

    def segment(self, begin: float | int, end: float | int) -> "Progress":
        """Progress from one boundary to another: at its start before them and at its end after them.

        Where both are the same update, the segment is over as it starts.
        """
        first, last = (round(boundary * self.updates) for boundary in (begin, end))
        if first == last:
            return Progress(jnp.where(self.done < first, 0, 1), 1)
        return Progress(jnp.clip(self.done - first, 0, last - first), last - first)


def progress(t: Int[Array, ""], updates: int) -> Progress:
    """Progress after t updates of a run of `updates` in all; from then on it stays at the run's end."""
    return Progress(jnp.minimum(t, updates), updates)


Shape = Callable[[Progress], Scalar]
Schedule = Callable[[Hyper, Progress], Hyper]


def constant(hp: Hyper, progress: Progress) -> Hyper:
    """The schedule that changes nothing."""
    return hp


def on(name: str, shape: Shape) -> Schedule:
    """The schedule that multiplies hyperparameter `name` by `shape(progress)`.

    `name` may lead into a nested tuple, as "rule.lr" does. Raises `InputError` where there is no such name.
    """
    require(isinstance(name, str), f"A hyperparameter is named by text, 'lr' say, not by {name!r}.")
    require(callable(shape), f"A shape is a function of progress, not {shape!r}.")
    return lambda hp, progress: put(hp, name, get(hp, name) * shape(progress))


def both(*schedules: Schedule) -> Schedule:
    """The schedule that applies these one after the other, for several hyperparameters."""

    strangers = [one for one in schedules if not callable(one)]
    require(not strangers, f"Schedules are functions (hp, progress) -> hp, not {strangers}.")

    def schedule(hp, progress):
        for one in schedules:
            hp = one(hp, progress)
        return hp

    return schedule


def flat(progress: Progress) -> Scalar:
    """1, at every progress."""
    return jnp.ones_like(progress.share)


def cosine(floor: Scalar = 0.0, power: Scalar = 1.0) -> Shape:
    """floor + (1 − floor) · ((1 + cos πp) / 2)^power, where p is the share done.

    Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5 with one period, where power is 1.
    """
    return lambda progress: floor + (1 - floor) * ((1 + jnp.cos(jnp.pi * progress.share)) / 2) ** power


def polynomial(power: Scalar = 1.0, floor: Scalar = 0.0) -> Shape:
    """floor + (1 − floor) · (1 − p)^power, where p is the share done; power 1 is a straight line."""
    return lambda progress: floor + (1 - floor) * (1 - progress.share) ** power


def exponential(end: Scalar) -> Shape:
    """end^p, where p is the share done: falls (or climbs) from 1 to `end` by a constant factor per step."""
    require(real(end, 0), f"A shape falls to a number from 0 on, not to {end!r}.")
    return lambda progress: jnp.asarray(end) ** progress.share


def steps(factor: Scalar, *boundaries: float | int) -> Shape:
    """factor^k after the k-th of `boundaries` (shares of the run, 0…1)."""

    wrong = [at for at in boundaries if not real(at, 0, 1)]
    require(not wrong, f"Steps happen at progress 0 to 1, not at {wrong}.")

    def shape(progress):
        passed = sum((progress.reached(boundary) for boundary in boundaries), jnp.int32(0))
        return jnp.asarray(factor) ** passed

    return shape


def staircase(shape: Shape, stairs: int) -> Shape:
    """The shape held constant on `stairs` stairs of equal length, each at the shape's value where the stair begins."""
    require(whole(stairs, 1), f"A staircase has at least 1 stair, not {stairs!r}.")
    climbed = lambda progress: sum((progress.reached(k / stairs) for k in range(1, stairs + 1)), jnp.int32(0))
    return lambda progress: shape(Progress(jnp.asarray(climbed(progress)), stairs))


def within(begin: float | int, end: float | int, shape: Shape) -> Shape:
    """The shape between these shares of the run; before and after them the values at its ends."""
    forwards = real(begin, 0, 1) and real(end, 0, 1) and begin < end
    require(forwards, f"A segment of a run goes from 0 to 1 at most and forwards, not {begin!r} to {end!r}.")
    return lambda progress: shape(progress.segment(begin, end))


def at_least(floor: Scalar, shape: Shape) -> Shape:
    """max(floor, shape)."""
    return lambda progress: jnp.maximum(floor, shape(progress))


def times(factor: Scalar, shape: Shape) -> Shape:
    """factor · shape."""
    return lambda progress: factor * shape(progress)


def joined(shapes: Sequence[Shape], boundaries: Sequence[float | int]) -> Shape:
    """One shape after another, each over its own segment of the run; the next begins at each of `boundaries`."""
    require(listed(boundaries), f"Boundaries are a list of numbers from 0 to 1, not {boundaries!r}.")
    ends = [0.0, *boundaries, 1.0]
    require(len(boundaries) == len(shapes) - 1, f"{len(shapes)} shapes have {len(shapes) - 1} boundaries between them.")
    pieces = [within(begin, end, shape) for shape, (begin, end) in zip(shapes, itertools.pairwise(ends), strict=True)]

    def shape(progress):
        value = pieces[0](progress)
        for piece, begin in zip(pieces[1:], boundaries, strict=True):
            value = jnp.where(progress.reached(begin), piece(progress), value)
        return value

    return shape


def warmup(share: float, then: Shape = flat, start: Scalar = 0.0) -> Shape:
    """From `start` in a straight line to 1 over the first `share` of the run, then shape `then` over the rest.

    A share that rounds to no update leaves the warm-up out.
    """
    part = real(share, 0, 1) and 0 < share < 1
    require(part, f"A warm-up takes a share of the run between 0 and 1, not {share!r}.")
    return joined([lambda progress: start + (1 - start) * progress.share, then], [share])


def through(values: Sequence[Scalar], boundaries: Sequence[float | int], between: str = "linear") -> Shape:
    """From value to value, reached at 0, at each of `boundaries` and at 1, on a straight line or half a cosine."""
    require(between in ("linear", "cosine"), f"Values are joined by a linear or a cosine piece, not by {between!r}.")
    require(listed(values), f"The values of a shape are a list of numbers, not {values!r}.")
    require(len(values) == len(boundaries) + 2, f"{len(boundaries) + 2} values are reached, not {len(values)}.")
    bend = {"linear": lambda p: p, "cosine": lambda p: (1 - jnp.cos(jnp.pi * p)) / 2}[between]
    pieces = [lambda progress, a=a, b=b: a + (b - a) * bend(progress.share) for a, b in itertools.pairwise(values)]
    return joined(pieces, boundaries)


def one_cycle(
    peak: float = 0.3,
    turn: float | None = None,
    start: Scalar = 1 / 25,
    end: Scalar = 1 / 25e4,
    between: str = "cosine",
) -> Shape:
    """From `start` up to 1 at share `peak` of the run and down to `end`, by way of `start` again at `turn` if given.

    Smith & Topin 2017, arXiv:1708.07120, §2.
    """
    down = [] if turn is None else [turn]
    return through([start, 1.0, *(start for _ in down), end], [peak, *down], between)


class Scheduled(NamedTuple):
    """Updates done, and the scheduled rule's own state."""

    t: Array
    inner: object


def scheduled(rule: Rule, schedule: Schedule, updates: int) -> Rule:
    """The rule that counts its own updates and reads its hyperparameters through `schedule`.

    For loops of your own and for optax; `fnn.train` takes the schedule itself. After `updates` progress stays at its
    end.
    """
    rule = checked(rule)
    require(callable(schedule), f"A schedule is a function (hp, progress) -> hp, not {schedule!r}.")
    require(whole(updates, 1), f"A schedule needs at least 1 update, not {updates!r}.")

    def at(hp, t):
        return schedule(hp, progress(t, updates))

    def init(hp, params):
        t = jnp.zeros((), jnp.int32)
        return Scheduled(t, rule.init(at(hp, t), params))

    def update(hp, grads, state, params, extra=NOTHING):
        updates, inner = rule.update(at(hp, state.t), grads, state.inner, params, extra)
        return updates, Scheduled(increment(state.t), inner)

    def result(hp, params, state):
        return rule.result(at(hp, state.t), params, state.inner)

    return rule._replace(init=init, update=update, result=result)
