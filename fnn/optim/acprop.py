"""ACProp: AdaBelief whose divisor is a step old. Zhuang et al. 2021, arXiv:2110.05454, Algorithm 1.

    w ← w − lr · (g / (√v̂ + eps) + weight_decay · w)     v̂ = v / (1 − b2ᵗ⁻¹) of the step before; 1 at first
    v ← b2 · v + (1 − b2) · (g − m)² + eps_root
    m ← b1 · m + (1 − b1) · g

Divisor and gradient are independent, and the step is along g itself, not along its mean. In the paper g is compared
with the mean that has taken it up, here as in optax with the one before.

When not to use it: where the batch is small enough for single gradients to point anywhere, since nothing averages them.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the variance; eps, eps_root: keep the divisor from 0;
    weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-16
    eps_root: NonNegative = 1e-16
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m: the mean of the gradients; v: their variance."""

    m: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v = s
    v_hat = jnp.where(t == 1, 1, v / (1 - hp.b2 ** jnp.maximum(t - 1, 1)))
    v = hp.b2 * v + (1 - hp.b2) * (g - m) ** 2 + hp.eps_root
    m = hp.b1 * m + (1 - hp.b1) * g
    return -hp.lr * (g / (jnp.sqrt(v_hat) + hp.eps) + hp.weight_decay * w), State(m, v)


acprop = leafwise(Hyper(), init, update)
