"""Schedule-free AdamW. Defazio et al. 2024, arXiv:2405.15682, Algorithm 1.

    v ← b2 · v + (1 − b2) · g²
    z ← z − lr · (g / (√v̂ + eps) + weight_decay · y)        g at y
    x, y, the weights c and the rule's `result` as in schedule-free SGD

This is optax's form. In Algorithm 1 and the authors' code lr · √(1 − b2ᵗ) stands in place of lr, also in the decay and
in the weights c, and √v uncorrected beside eps: the average gives less weight to the first steps.

When not to use it: as schedule-free SGD.
"""

from typing import NamedTuple

from jaxtyping import Array

from fnn.base.trees import Vector, sqrt, zeros_like
from fnn.base.types import Fraction, Kept, NonNegative, Params
from fnn.optim import schedule_free_sgd
from fnn.optim.schedule_free_sgd import Average
from fnn.rule.contract import Extra, treewise
from fnn.rule.schedules import warmup
from fnn.rule.wrappers import cast_result, master


class Hyper(NamedTuple):
    """lr: step size; b1: the share of x in y; b2: decay rate of the mean square; eps: keeps the
    divisor from 0; weight_decay: at y."""

    lr: NonNegative = 2.5e-3
    b1: Fraction = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """v: the mean square; average: as in schedule-free SGD."""

    v: Params
    average: Average


def init(hp: Hyper, w: Vector):
    return State(zeros_like(w), schedule_free_sgd.initial(hp, w))


def update(hp: Hyper, t: Array, g: Vector, s: State, y: Vector, extra: Extra):
    v, average = s
    v = hp.b2 * v + (1 - hp.b2) * g**2
    direction = g / (sqrt(v / (1 - hp.b2**t)) + hp.eps)
    change, average = schedule_free_sgd.averaged(hp, direction, average, y, extra)
    return change, State(v, average)


def result(hp: Hyper, t: Array, y: Vector, s: State) -> Vector:
    return schedule_free_sgd.average(hp, y, s.average)


SPACE = {"lr": (1e-4, 0.1), "weight_decay": (1e-3, 1.0)}
SCHEDULE = {"lr": warmup(0.05)}
schedule_free_adamw = cast_result(master(treewise(Hyper(), init, update, result, iterates=True)))
