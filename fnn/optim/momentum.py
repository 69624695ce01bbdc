"""Momentum, the heavy ball. Polyak 1964, eq. 9; the notes' §1.2.

    optax   v ← mu · v + g        w ← w − lr · v        (also torch)
    book    v ← mu · v − lr · g   w ← w + v             (also Polyak's)

Equal while lr stands still. Under a schedule they differ: the book's buffer remembers old steps at their old lr.

When not to use it: with mu near 1 on few steps, where the ball is still rolling when the run ends.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.rule import leafwise
from fnn.types import Scalar


class Hyper(NamedTuple):
    """lr: step size; mu: what is kept of the velocity each step, in [0, 1)."""

    lr: Scalar = 0.01
    mu: Scalar = 0.9


def init(hp: Hyper, w: Array):
    return jnp.zeros_like(w)


def update(hp: Hyper, t: Array, g: Array, v: Array, w: Array):
    v = hp.mu * v + g
    return -hp.lr * v, v


def book_update(hp: Hyper, t: Array, g: Array, v: Array, w: Array):
    v = hp.mu * v - hp.lr * g
    return v, v


momentum = leafwise(Hyper(), init, update)
DIALECTS = {"book": leafwise(Hyper(), init, book_update)}
