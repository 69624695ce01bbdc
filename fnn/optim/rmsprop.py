"""RMSProp. Tieleman & Hinton 2012, Coursera lecture 6e; the notes' §1.3.

    h ← rho · h + (1 − rho) · g²            h starts at 0, uncorrected
    optax   w ← w − lr · g / √(h + eps)     rho 0.9,  eps 1e-8
    book    w ← w − lr · g / (√h + eps)     rho 0.99, eps 1e-7
    torch   the book's, with eps 1e-8

When not to use it: for short runs with rho near 1, since the first steps are 1/√(1 − rho) times too long.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.rule import leafwise
from fnn.types import Scalar


class Hyper(NamedTuple):
    """lr: step size; rho: what is kept of the mean square each step, in [0, 1); eps: keeps the divisor from 0."""

    lr: Scalar = 0.01
    rho: Scalar = 0.9
    eps: Scalar = 1e-8


def init(hp: Hyper, w: Array):
    return jnp.zeros_like(w)


def update(hp: Hyper, t: Array, g: Array, h: Array, w: Array):
    h = hp.rho * h + (1 - hp.rho) * g**2
    return -hp.lr * g / jnp.sqrt(h + hp.eps), h


def book_update(hp: Hyper, t: Array, g: Array, h: Array, w: Array):
    h = hp.rho * h + (1 - hp.rho) * g**2
    return -hp.lr * g / (jnp.sqrt(h) + hp.eps), h


rmsprop = leafwise(Hyper(), init, update)
DIALECTS = {
    "book": leafwise(Hyper(rho=0.99, eps=1e-7), init, book_update),
    "torch": leafwise(Hyper(rho=0.99), init, book_update),
}
