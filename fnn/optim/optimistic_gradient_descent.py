"""Optimistic gradient descent, for games. Mokhtari, Ozdaglar & Pattathil 2020, arXiv:1901.08511, eq. 8 (OGDA).

    w ← w − lr · ((alpha + beta) · g − beta · g_before)         g_before = g at first

When not to use it: for plain minimization, where it is SGD with a step of momentum the wrong way round.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; alpha: the gradient's weight; beta: the correction's, against the gradient before."""

    lr: NonNegative = 0.01
    alpha: NonNegative = 1.0
    beta: NonNegative = 1.0


class State(NamedTuple):
    """g_before: the last gradient."""

    g_before: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    g_before = jnp.where(t == 1, g, s.g_before)
    return -hp.lr * ((hp.alpha + hp.beta) * g - hp.beta * g_before), State(g)


optimistic_gradient_descent = leafwise(Hyper(), init, update)
