"""Fromage: a relative step, then back towards the sphere. Bernstein et al. 2020, arXiv:2002.03432, Algorithm 1.

    w ← (w − lr · ‖w‖ / ‖g‖ · g) / √(1 + lr²)

Norms are of whole arrays and at least `min_norm`, as in optax.

When not to use it: where weights have to change their size, which it holds nearly constant.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import norm
from fnn.base.types import NonNegative, Positive
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size, relative to ‖w‖; min_norm: the least that a norm counts for."""

    lr: NonNegative = 0.01
    min_norm: Positive = 1e-6


def init(hp: Hyper, w: Array):
    return ()


def update(hp: Hyper, t: Array, g: Array, s: tuple[()], w: Array):
    size, step = (jnp.maximum(norm(x), hp.min_norm) for x in (w, g))
    back = 1 / jnp.sqrt(1 + hp.lr**2)
    return -hp.lr * back * (g * (size / step)) + (back - 1) * w, s


fromage = leafwise(Hyper(), init, update)
