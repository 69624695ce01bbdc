"""Schedule-free SGD: an average of iterates in place of a schedule. Defazio et al. 2024, arXiv:2405.15682, eq. 1–3.

    z ← z − lr · (g + weight_decay · y)         g at y
    x ← (1 − c) · x + c · z                     c = lr² / Σ lr², lr the largest so far
    y ← b1 · x + (1 − b1) · z

The parameters trained are y, those to be used x, the rule's `result`; x is not kept, but found from y and z. Of
parameters in bfloat16 or float16 y is kept in float32 as master weights, since an x found from a rounded y would drift.
Under a schedule of lr the first update here has that of 0 updates done, as all schedules do;
optax's has that of 1, and so has the authors' warm-up, lr · (k + 1) / warmup at update k = 0, 1, ….

When not to use it: with a schedule that brings lr to 0, which it replaces; with batch normalization whose statistics
are taken at y.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.rule import Extra, treewise
from fnn.types import Fraction, NonNegative, Params
from fnn.wrappers import cast_result, master


class Hyper(NamedTuple):
    """lr: step size; b1: the share of x in y; weight_decay: at y."""

    lr: NonNegative = 1.0
    b1: Fraction = 0.9
    weight_decay: NonNegative = 0.0


class Average(NamedTuple):
    """z: the iterate that steps; total: of the weights so far; lr: the largest so far."""

    z: Params
    total: Array
    lr: Array


def begun(hp: Any, w: Params) -> Average:
    """The average of the initial weights alone."""
    return Average(w, jnp.zeros_like(hp.lr), jnp.zeros_like(hp.lr))


def averaged(hp: Any, step: Params, s: Average, y: Params) -> tuple[Params, Average]:
    """Move z by `step`, x and y after it: `(Δy, s)`; of hp it reads lr and b1."""
    lr = jnp.maximum(s.lr, hp.lr)
    total = s.total + lr**2
    c = jnp.where(total > 0, lr**2 / total, 0)
    z = jax.tree.map(jnp.add, s.z, step)
    x = jax.tree.map(lambda x, z: (1 - c) * x + c * z, average(hp, y, s), z)
    return jax.tree.map(lambda x, y, z: hp.b1 * x + (1 - hp.b1) * z - y, x, y, z), Average(z, total, lr)


def average(hp: Any, y: Params, s: Average) -> Params:
    """x, found from y and z."""
    return jax.tree.map(lambda y, z: (y - (1 - hp.b1) * z) / hp.b1, y, s.z)


def update(hp: Hyper, t: Array, g: Params, s: Average, y: Params, extra: Extra):
    return averaged(hp, jax.tree.map(lambda g, y: -hp.lr * (g + hp.weight_decay * y), g, y), s, y)


def result(hp: Hyper, t: Array, y: Params, s: Average) -> Params:
    """x, the parameters to be used."""
    return average(hp, y, s)


schedule_free_sgd = cast_result(master(treewise(Hyper(), begun, update, result)))
