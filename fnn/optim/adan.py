"""Adan: Nesterov's momentum by the difference of gradients. Xie et al. 2022, arXiv:2208.06677, Algorithm 1.

    d = g − g_before (0 at first)
    m ← b1 · m + (1 − b1) · g
    v ← b2 · v + (1 − b2) · d
    n ← b3 · n + (1 − b3) · (g + (1 − b2) · d)²
    w ← w − lr · ((m̂ + (1 − b2) · v̂) / (√(n̂ + eps_root) + eps) + weight_decay · w)

Decay rates are optax's, shares of the old mean (the paper's β is that of the gradient), and so is the decay term, where
the paper divides by 1 + lr · weight_decay.

When not to use it: where memory is short, since it keeps four arrays a weight.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2, b3: decay rates of the mean, the mean difference and the mean square;
    eps, eps_root: keep the divisor from 0, beside and under the root; weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.98
    b2: Kept = 0.92
    b3: Kept = 0.99
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m, v: the means of the gradients and of their differences; n: the mean square; g_before: the last gradient."""

    m: Array
    v: Array
    n: Array
    g_before: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v, n, g_before = s
    d = jnp.where(t == 1, 0, g - g_before)
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * d
    n = hp.b3 * n + (1 - hp.b3) * (g + (1 - hp.b2) * d) ** 2
    m_hat = m / (1 - hp.b1**t)
    v_hat = v / (1 - hp.b2**t)
    n_hat = n / (1 - hp.b3**t)
    step = (m_hat + (1 - hp.b2) * v_hat) / (jnp.sqrt(n_hat + hp.eps_root) + hp.eps)
    return -hp.lr * (step + hp.weight_decay * w), State(m, v, n, g)


adan = leafwise(Hyper(), init, update)
