"""Yogi: Adam whose mean square moves by bounded steps. Zaheer et al. 2018, NeurIPS, Algorithm 2.

    m ← b1 · m + (1 − b1) · g
    v ← v − (1 − b2) · sign(v − g²) · g²
    w ← w − lr · m̂ / (√v̂ + eps)

As in optax, m and v start at 1e-6 and are corrected as if they had started at 0; the paper corrects neither.

When not to use it: where gradients shrink fast, since v forgets an old large one only slowly.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0;
    start: where m and v begin."""

    lr: NonNegative = 1e-2
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-3
    start: NonNegative = 1e-6


class State(NamedTuple):
    """m: the mean; v: the mean square."""

    m: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.full_like(w, hp.start), jnp.full_like(w, hp.start))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = v - (1 - hp.b2) * jnp.sign(v - g**2) * g**2
    m_hat = m / (1 - hp.b1**t)
    v_hat = v / (1 - hp.b2**t)
    return -hp.lr * m_hat / (jnp.sqrt(v_hat) + hp.eps), State(m, v)


yogi = leafwise(Hyper(), init, update)
