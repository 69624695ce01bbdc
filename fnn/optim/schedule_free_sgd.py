"""Schedule-free SGD: an average of iterates in place of a schedule. Defazio et al. 2024, arXiv:2405.15682, eq. 1–3.

    z ← z − lr · (g + weight_decay · y)         g at y
    x ← (1 − c) · x + c · z                     c = lr² / Σ lr², lr the largest so far
    y ← b1 · x + (1 − b1) · z

The parameters trained are y, those to be used x, the rule's `result`. The state is d = z − y, from which the three
lines are these, without differences of nearly equal numbers:

    s = −lr · (g + weight_decay · y)            z's step
    Δy = c · d + (1 − b1 + b1 · c) · s          d ← d + s − Δy
    z = y + d                                   x = y − (1 − b1) / b1 · d

So whatever else moves y, as clipping of weights or `fnn.wrappers.lookahead`, moves x and z with it. Decoupled decay
around this rule is a part of z's step, as its own weight_decay; what scales steps, as `patient`, scales z's. Of
parameters in bfloat16 or float16 y is kept in float32 as master weights, since x moves with a rounding too.
Under a schedule of lr the first update here has that of 0 updates done, as all schedules do;
optax's has that of 1, and so has the authors' warm-up, lr · (k + 1) / warmup at update k = 0, 1, ….

When not to use it: with a schedule that brings lr to 0, which it replaces; with batch normalization whose statistics
are taken at y; where its updates are scaled by what is no wrapper of ours (a chain of optax's, say): Δy is more than a
step, and x would not follow; scale lr.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, zeros_like
from fnn.base.types import Fraction, NonNegative, Params
from fnn.rule.contract import Extra, treewise
from fnn.rule.schedules import warmup
from fnn.rule.wrappers import cast_result, master


class Hyper(NamedTuple):
    """lr: step size; b1: the share of x in y; weight_decay: at y."""

    lr: NonNegative = 1.0
    b1: Fraction = 0.9
    weight_decay: NonNegative = 0.0


class Average(NamedTuple):
    """d: z − y; total: of the weights so far; lr: the largest so far."""

    d: Params
    total: Array
    lr: Array


def initial(hp: Any, y: Vector) -> Average:
    """The average of the initial weights alone."""
    return Average(zeros_like(y), jnp.zeros_like(hp.lr), jnp.zeros_like(hp.lr))


def averaged(hp: Any, u: Vector, s: Average, y: Vector, extra: Extra) -> tuple[Vector, Average]:
    """Move z by −lr · (u + weight_decay · y), x and y after it: `(Δy, s)`; of hp it reads lr, b1 and weight_decay."""
    lr = jnp.maximum(s.lr, hp.lr)
    total = s.total + lr**2
    c = jnp.where(total > 0, lr**2 / total, 0)
    length = hp.lr if extra.scale is None else hp.lr * extra.scale
    around = zeros_like(y) if extra.decay is None else extra.decay
    step = -length * (u + (hp.weight_decay + around) * y)
    change = c * s.d + (1 - hp.b1 + hp.b1 * c) * step
    return change, Average(s.d + step - change, total, lr)


def average(hp: Any, y: Vector, s: Average) -> Vector:
    """x."""
    return y - (1 - hp.b1) / hp.b1 * s.d


def update(hp: Hyper, t: Array, g: Vector, s: Average, y: Vector, extra: Extra):
    return averaged(hp, g, s, y, extra)


def result(hp: Hyper, t: Array, y: Vector, s: Average) -> Vector:
    """x, the parameters to be used."""
    return average(hp, y, s)


SCHEDULE = {"lr": warmup(0.05)}
schedule_free_sgd = cast_result(master(treewise(Hyper(), initial, update, result, iterates=True)))
