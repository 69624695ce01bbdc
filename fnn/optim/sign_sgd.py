"""signSGD. Bernstein et al. 2018, arXiv:1802.04434, Algorithm 1.

    w ← w − lr · sign(g)

Every coordinate moves by lr exactly, or not at all where g = 0.

When not to use it: near a minimum at a constant lr, around which it bounces by lr for ever.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size of every coordinate."""

    lr: NonNegative = 1e-3


def init(hp: Hyper, w: Array):
    return ()


def update(hp: Hyper, t: Array, g: Array, s: tuple[()], w: Array):
    return -hp.lr * jnp.sign(g), s


sign_sgd = leafwise(Hyper(), init, update)
