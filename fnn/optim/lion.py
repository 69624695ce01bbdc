"""Lion: the sign of two blends of momentum and gradient. Chen et al. 2023, arXiv:2302.06675, Algorithm 2.

    w ← w − lr · (sign(b1 · m + (1 − b1) · g) + weight_decay · w)
    m ← b2 · m + (1 − b2) · g

When not to use it: with small batches, where the sign of a noisy gradient is mostly noise; or at Adam's lr, which is
three to ten times too large for it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1: the momentum's share in the step; b2: decay rate of the momentum; weight_decay: decoupled."""

    lr: NonNegative = 1e-4
    b1: Kept = 0.9
    b2: Kept = 0.99
    weight_decay: NonNegative = 1e-3


class State(NamedTuple):
    """m: the mean."""

    m: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    step = jnp.sign(hp.b1 * s.m + (1 - hp.b1) * g)
    m = hp.b2 * s.m + (1 - hp.b2) * g
    return -hp.lr * (step + hp.weight_decay * w), State(m)


SPACE = {"lr": (1e-5, 1e-2), "weight_decay": (1e-3, 1.0)}
lion = leafwise(Hyper(), init, update)
