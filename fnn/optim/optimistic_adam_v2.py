"""Optimistic Adam: twice NAdam's step minus the step before. Daskalakis et al. 2018, arXiv:1711.00141, Algorithm 1.

    u = m̄ / (√v̂ + eps)                                      m̄, v̂ as in NAdam (optax's form)
    w ← w − lr · ((alpha + beta) · u − beta · u_before)     u_before = u at first

The name is optax's, whose first version tied alpha to lr. The paper has Adam's m̂ where optax has NAdam's m̄.

When not to use it: outside games.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.optim import nadam
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; alpha, beta: weights of the step and of the correction; b1, b2, eps: Adam's."""

    lr: NonNegative = 1e-3
    alpha: NonNegative = 1.0
    beta: NonNegative = 1.0
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8


class State(NamedTuple):
    """m: the mean; v: the mean square; u_before: the last step."""

    m: Array
    v: Array
    u_before: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v, u_before = s
    m_bar, v_hat, (m, v) = nadam.moments(hp, t, g, nadam.State(m, v))
    u = m_bar / (jnp.sqrt(v_hat) + hp.eps)
    u_before = jnp.where(t == 1, u, u_before)
    return -hp.lr * ((hp.alpha + hp.beta) * u - hp.beta * u_before), State(m, v, u)


optimistic_adam_v2 = leafwise(Hyper(), init, update)
