"""AdaDelta. Zeiler 2012, arXiv:1212.5701, Algorithm 1.

    g ← g + weight_decay · w
    e ← rho · e + (1 − rho) · g²
    u = √(d + eps) / √(e + eps) · g         d the mean square of the updates so far
    d ← rho · d + (1 − rho) · u²
    w ← w − lr · u

The units of w cancel, so the paper has no learning rate: lr 1 is its form, optax's and torch's. (`optax.adadelta()`
without a learning rate adds u and climbs.)

When not to use it: where the first steps count, since d starts at 0 and they are about √eps long.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: 1 in the paper; rho: decay rate of the means; eps: scale of the first step; weight_decay: L2."""

    lr: NonNegative = 1.0
    rho: Kept = 0.9
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """e: the mean square of the gradients; d: that of the updates."""

    e: Array
    d: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    e, d = s
    e = hp.rho * e + (1 - hp.rho) * g**2
    u = jnp.sqrt(d + hp.eps) / jnp.sqrt(e + hp.eps) * g
    d = hp.rho * d + (1 - hp.rho) * u**2
    return -hp.lr * u, State(e, d)


adadelta = leafwise(Hyper(), init, coupled(update))
