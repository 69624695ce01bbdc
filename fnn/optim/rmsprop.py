"""RMSProp. Tieleman & Hinton 2012, Coursera lecture 6e; the notes' §1.3.

    h ← rho · h + (1 − rho) · g²            h starts at 0, uncorrected
    optax   w ← w − lr · g / √(h + eps)     rho 0.9,  eps 1e-8
    book    w ← w − lr · g / (√h + eps)     rho 0.99, eps 1e-7
    torch   v ← mu · v + g / (√h + eps)     w ← w − lr · v      rho 0.99, eps 1e-8, mu 0; g with an L2 term
    torch_centered   the same, with √(h − ḡ²) for √h,  ḡ ← rho · ḡ + (1 − rho) · g

At mu = 0 torch's is the book's. Centered, what is left of h − ḡ² is rounding where the gradient stands still: torch
adds eps to the root of it, or to NaN.

When not to use it: for short runs with rho near 1, since the first steps are 1/√(1 − rho) times too long.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; rho: decay rate of the mean square; eps: keeps the divisor from 0."""

    lr: NonNegative = 0.01
    rho: Kept = 0.9
    eps: NonNegative = 1e-8


class State(NamedTuple):
    """h: the mean square."""

    h: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    h = hp.rho * s.h + (1 - hp.rho) * g**2
    return -hp.lr * g / jnp.sqrt(h + hp.eps), State(h)


def book_update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    h = hp.rho * s.h + (1 - hp.rho) * g**2
    return -hp.lr * g / (jnp.sqrt(h) + hp.eps), State(h)


class TorchHyper(NamedTuple):
    """As `Hyper`; mu: decay rate of the velocity; weight_decay: L2."""

    lr: NonNegative = 0.01
    rho: Kept = 0.99
    eps: NonNegative = 1e-8
    mu: Kept = 0.0
    weight_decay: NonNegative = 0.0


class TorchState(NamedTuple):
    """h: the mean square; v: the velocity."""

    h: Array
    v: Array


def torch_init(hp: TorchHyper, w: Array):
    return TorchState(jnp.zeros_like(w), jnp.zeros_like(w))


def torch_update(hp: TorchHyper, t: Array, g: Array, s: TorchState, w: Array):
    h, v = s
    h = hp.rho * h + (1 - hp.rho) * g**2
    v = hp.mu * v + 1 / (jnp.sqrt(h) + hp.eps) * g
    return -hp.lr * v, TorchState(h, v)


class CenteredState(NamedTuple):
    """h: the mean square; g_bar: the mean; v: the velocity."""

    h: Array
    g_bar: Array
    v: Array


def centered_init(hp: TorchHyper, w: Array):
    return CenteredState(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def centered_update(hp: TorchHyper, t: Array, g: Array, s: CenteredState, w: Array):
    h, g_bar, v = s
    h = hp.rho * h + (1 - hp.rho) * g**2
    g_bar = hp.rho * g_bar + (1 - hp.rho) * g
    variance = jnp.maximum(h - g_bar**2, 0)  # rounding may take it below
    v = hp.mu * v + 1 / (jnp.sqrt(variance) + hp.eps) * g
    return -hp.lr * v, CenteredState(h, g_bar, v)


rmsprop = leafwise(Hyper(), init, update)
DIALECTS = {
    "book": leafwise(Hyper(rho=0.99, eps=1e-7), init, book_update),
    "torch": leafwise(TorchHyper(), torch_init, coupled(torch_update)),
    "torch_centered": leafwise(TorchHyper(), centered_init, coupled(centered_update)),
}
