"""AdamW: Adam with decoupled weight decay. Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2.

    w ← w − lr · (m̂ / (√v̂ + eps) + weight_decay · w)        m̂, v̂ as in Adam

The decay is not divided by √v̂, as an L2 term in the loss would be. As in optax and torch it is multiplied by lr; the
paper keeps it apart from lr and scales both by the schedule. torch's default weight_decay is 0.01.

When not to use it: where an L2 penalty is part of the objective that is meant.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.optim.adam import State, init, moments
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0;
    weight_decay: the share of w, times lr, that is lost each step."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 1e-4


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m_hat, v_hat, s = moments(hp, t, g, s)
    return -hp.lr * (m_hat / (jnp.sqrt(v_hat) + hp.eps) + hp.weight_decay * w), s


SPACE = {"lr": (1e-4, 0.1), "weight_decay": (1e-3, 1.0)}
adamw = leafwise(Hyper(), init, update)
DIALECTS = {"torch": leafwise(Hyper(weight_decay=1e-2), init, update)}
