"""AdEMAMix: Adam with a second, very long memory. Pagliardini et al. 2024, arXiv:2409.03137, Algorithm 1.

    m ← b1 · m + (1 − b1) · g       n ← b3 · n + (1 − b3) · g        v ← b2 · v + (1 − b2) · g²
    w ← w − lr · ((m̂ + alpha · n) / (√v̂ + eps) + weight_decay · w)   n is not corrected

The paper raises alpha and b3 to their values over the run: `fnn.schedules.on("alpha", …)`.

When not to use it: on runs of fewer than some thousand steps, which end before the long memory has filled.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2, b3: decay rates of the short mean, the mean square and the long mean; alpha: the
    long mean's weight; eps: keeps the divisor from 0; weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    b3: Kept = 0.9999
    alpha: NonNegative = 5.0
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m, n: the short and the long mean; v: the mean square."""

    m: Array
    n: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, n, v = s
    m = hp.b1 * m + (1 - hp.b1) * g
    n = hp.b3 * n + (1 - hp.b3) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    m_hat = m / (1 - hp.b1**t)
    v_hat = v / (1 - hp.b2**t)
    step = (m_hat + hp.alpha * n) / (jnp.sqrt(v_hat) + hp.eps)
    return -hp.lr * (step + hp.weight_decay * w), State(m, n, v)


ademamix = leafwise(Hyper(), init, update)
