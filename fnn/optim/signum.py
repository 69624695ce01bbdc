"""Signum: signSGD with momentum. Bernstein et al. 2018, arXiv:1802.04434, Algorithm 2.

    m ← b1 · m + (1 − b1) · g       w ← w − lr · sign(m)

When not to use it: as signSGD.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size of every coordinate; b1: decay rate of the mean."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9


class State(NamedTuple):
    """m: the mean."""

    m: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m = hp.b1 * s.m + (1 - hp.b1) * g
    return -hp.lr * jnp.sign(m), State(m)


signum = leafwise(Hyper(), init, update)
