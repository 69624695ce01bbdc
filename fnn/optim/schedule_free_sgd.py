"""Schedule-free SGD: an average of iterates in place of a schedule. Defazio et al. 2024, arXiv:2405.15682, eq. 1–3.

    z ← z − lr · (g + weight_decay · y)         g at y
    x ← (1 − c) · x + c · z                     c = lr² / Σ lr², lr the largest so far
    y ← b1 · x + (1 − b1) · z

The parameters trained are y, those to be used x, the rule's `result`; x is not kept, but found from y and z. Under a
schedule of lr (a warm-up) optax counts from 1, where others count from 0.

When not to use it: with a schedule that brings lr to 0, which it replaces; with batch normalization whose statistics
are taken at y.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.rule import leafwise
from fnn.types import Scalar


class Hyper(NamedTuple):
    """lr: step size; b1: the share of x in y, in (0, 1); weight_decay: at y."""

    lr: Scalar = 1.0
    b1: Scalar = 0.9
    weight_decay: Scalar = 0.0


class Average(NamedTuple):
    """z: the iterate that steps; total: of the weights so far; lr: the largest so far."""

    z: Array
    total: Array
    lr: Array


def begun(w: Array) -> Average:
    """The average of the initial weights alone."""
    return Average(w, jnp.zeros((), w.dtype), jnp.zeros((), w.dtype))


def averaged(hp: Any, step: Array, s: Average, y: Array) -> tuple[Array, Average]:
    """Move z by `step`, x and y after it: `(Δy, s)`; of hp it reads lr and b1."""
    x = average(hp, y, s)
    z = s.z + step
    lr = jnp.maximum(s.lr, hp.lr)
    total = s.total + lr**2
    c = jnp.where(total > 0, lr**2 / total, 0)
    x = (1 - c) * x + c * z
    return hp.b1 * x + (1 - hp.b1) * z - y, Average(z, total, lr)


def average(hp: Any, y: Array, s: Average) -> Array:
    """x, found from y and z."""
    return (y - (1 - hp.b1) * s.z) / hp.b1


def result(hp: Hyper, t: Array, y: Array, s: Average) -> Array:
    """x, the parameters to be used."""
    return average(hp, y, s)


def init(hp: Hyper, w: Array) -> Average:
    return begun(w)


def update(hp: Hyper, t: Array, g: Array, s: Average, y: Array):
    return averaged(hp, -hp.lr * (g + hp.weight_decay * y), s, y)


schedule_free_sgd = leafwise(Hyper(), init, update, result)
