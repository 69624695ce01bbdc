"""Schedules: maps on hyperparameters, `(hp, progress) -> hp`, so that any hyperparameter can be scheduled.

A *shape* is a function of progress 0…1 that gives a multiplier; `on("lr", shape)` turns it into a schedule of that
hyperparameter. Progress is updates done / updates in all, read before the update (as optax reads its count).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.errors import InputError, require
from fnn.rule import Rule
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
    head, _, rest = name.partition(".")

    def schedule(hp, progress):
        if head not in getattr(hp, "_fields", ()):
            raise InputError(
                f"There is no hyperparameter {head!r} to schedule; there are {', '.join(getattr(hp, '_fields', ()))}."
            )
        value = getattr(hp, head)
        after = on(rest, shape)(value, progress) if rest else value * shape(progress)
        return hp._replace(**{head: after})

    return schedule


def both(*schedules: Schedule) -> Schedule:
    """One schedule after another, for several hyperparameters at once."""

    def schedule(hp, progress):
        for each in schedules:
            hp = each(hp, progress)
        return hp

    return schedule


def cosine(floor: Scalar = 0.0) -> Shape:
    """floor + (1 − floor) · (1 + cos πp) / 2. Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5 with one period."""
    return lambda p: floor + (1 - floor) * (1 + jnp.cos(jnp.pi * p)) / 2


def polynomial(power: Scalar = 1.0, floor: Scalar = 0.0) -> Shape:
    """floor + (1 − floor) · (1 − p)^power; power 1 is a straight line."""
    return lambda p: floor + (1 - floor) * (1 - p) ** power


def exponential(end: Scalar) -> Shape:
    """end^p: falls (or climbs) from 1 to `end` by a constant factor a step."""
    return lambda p: jnp.asarray(end) ** p


def steps(factor: Scalar, *boundaries: float) -> Shape:
    """factor^k after the k-th of `boundaries` (in progress, 0…1)."""
    return lambda p: jnp.asarray(factor) ** sum((jnp.asarray(p >= b, jnp.int32) for b in boundaries), jnp.int32(0))


def warmup(share: float, then: Shape = lambda p: 1.0) -> Shape:
    """From 0 in a straight line to 1 over the first `share` of the run, then shape `then` over the rest."""
    require(0 < share < 1, f"A warm-up takes a share of the run between 0 and 1, not {share}.")
    return lambda p: jnp.where(p < share, p / share, then(jnp.maximum(p - share, 0) / (1 - share)))


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

    def update(hp, grads, state, params):
        updates, inner = rule.update(at(hp, state.t), grads, state.inner, params)
        return updates, Scheduled(state.t + 1, inner)

    return Rule(rule.hyper, init, update)
