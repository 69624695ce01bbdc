"""LAMB: Adam's step, made as long as lr times the weights of its array. You et al. 2020, arXiv:1904.00962, Algorithm 2.

    u = m̂ / (√v̂ + eps) + weight_decay · w              m̂, v̂ as in Adam
    w ← w − lr · ‖w‖ / ‖u‖ · u                          the ratio 1 where either norm is 0

Arrays that their layer declares to be no weights (biases, scales, shifts) have ratio 1 and no decay, which ports of
LAMB have as an option; outside of fnn's layers every array counts as weights, as in optax.

When not to use it: with small batches, where Adam does as well; or for biases, which begin at 0 and have no size yet.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import norm, ratio
from fnn.base.types import Kept, NonNegative
from fnn.nn.axes import Axes, undeclared
from fnn.optim import adam
from fnn.optim.adam import State, moments
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size, relative to ‖w‖; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor
    from 0; weight_decay: before the ratio."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0


def init(hp: Hyper, w: Array, axes: Axes):
    return adam.init(hp, w)


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array, axes: Axes):
    m_hat, v_hat, s = moments(hp, t, g, s)
    u = m_hat / (jnp.sqrt(v_hat) + hp.eps)
    if axes.exempt:
        return -hp.lr * u, s
    u = u + hp.weight_decay * w
    return -hp.lr * trust(w, u) * u, s


def trust(w: Array, u: Array) -> Array:
    """‖w‖ / ‖u‖, and 1 where either is 0."""
    size = norm(w)
    return jnp.where(size == 0, 1, ratio(size, norm(u), 1))


lamb = leafwise(Hyper(), init, update, layout=undeclared)
