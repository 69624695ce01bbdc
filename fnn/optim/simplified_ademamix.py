"""Simplified AdEMAMix: one long momentum and the gradient itself. Morwani et al. 2025, arXiv:2502.02431, Algorithm 1.

    m ← b1 · m + g                  v ← b2 · v + (1 − b2) · g²
    w ← w − lr · ((m + alpha · g) / (√v̂ + eps) + weight_decay · w)

The momentum is a sum, not a mean: its steps are 1 / (1 − b1) times Adam's at the same lr.

When not to use it: at Adam's learning rate, which is a hundred times too large for b1 0.99.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the momentum and the mean square; alpha: the gradient's weight; eps:
    keeps the divisor from 0; weight_decay: decoupled."""

    lr: NonNegative = 1e-5
    b1: Kept = 0.99
    b2: Kept = 0.95
    alpha: NonNegative = 0.0
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m: the momentum; v: the mean square."""

    m: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v = s
    m = hp.b1 * m + g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    v_hat = v / (1 - hp.b2**t)
    step = (m + hp.alpha * g) / (jnp.sqrt(v_hat) + hp.eps)
    return -hp.lr * (step + hp.weight_decay * w), State(m, v)


simplified_ademamix = leafwise(Hyper(), init, update)
