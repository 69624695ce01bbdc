"""AdaBelief: Adam divided by the gradients' deviation from the mean. Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2.

    m ← b1 · m + (1 − b1) · g
    v ← b2 · v + (1 − b2) · (g − m)² + eps_root         by the new m
    w ← w − lr · m̂ / (√v̂ + eps)

eps_root enters the stored v each step, as in the paper's algorithm (which has one eps for both places) and in optax.

When not to use it: on noiseless problems, where g − m goes to 0 and the steps grow without bound but for eps.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0;
    eps_root: added to v each step."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-16
    eps_root: NonNegative = 1e-16


class State(NamedTuple):
    """m: the mean of the gradients; v: their variance."""

    m: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * (g - m) ** 2 + hp.eps_root
    m_hat = m / (1 - hp.b1**t)
    v_hat = v / (1 - hp.b2**t)
    return -hp.lr * m_hat / (jnp.sqrt(v_hat) + hp.eps), State(m, v)


adabelief = leafwise(Hyper(), init, update)
