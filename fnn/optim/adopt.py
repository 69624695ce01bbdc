"""ADOPT: Adam that divides before it averages, by the step before's root. Taniguchi et al. 2024, arXiv:2411.02853,
Algorithm 2.

    u = clip(g / max(√v, eps), −t′^¼, t′^¼)             t′ = t − 1, v of the step before
    m ← b1 · m + (1 − b1) · u
    v ← b2 · v + (1 − b2) · g²                          g² at first
    w ← w − lr · m                                      no step at first

Converges for any b2, which Adam does not.

When not to use it: on sparse gradients, where the root of the step before may be nearly 0 and only the clip is left.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: the least divisor."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.9999
    eps: NonNegative = 1e-6


class State(NamedTuple):
    """m: the mean of the steps; v: the mean square."""

    m: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v = s
    most = (t - 1).astype(w.dtype) ** 0.25
    u = jnp.clip(g / jnp.maximum(jnp.sqrt(v), hp.eps), -most, most)
    m = jnp.where(t == 1, m, hp.b1 * m + (1 - hp.b1) * u)
    v = jnp.where(t == 1, g**2, hp.b2 * v + (1 - hp.b2) * g**2)
    return -hp.lr * m, State(m, v)


adopt = leafwise(Hyper(), init, update)
