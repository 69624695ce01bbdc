"""NAdamW: NAdam with decoupled weight decay, as Loshchilov & Hutter 2019, arXiv:1711.05101, do it to Adam.

    w ← w − lr · (m̄ / (√v̂ + eps) + weight_decay · w)        m̄, v̂ as in NAdam, optax's or torch's

torch's is `NAdam(decoupled_weight_decay=True)`; its weight_decay is 0 by default, and its lr 2e-3.

When not to use it: as AdamW.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.optim import nadam
from fnn.rule.contract import decoupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0;
    weight_decay: the share of w, times lr, that is lost each step."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 1e-4


def update(hp: Hyper, t: Array, g: Array, s: nadam.State, w: Array):
    m_bar, v_hat, s = nadam.moments(hp, t, g, s)
    return -hp.lr * (m_bar / (jnp.sqrt(v_hat) + hp.eps) + hp.weight_decay * w), s


SPACE = {"lr": (1e-4, 0.1), "weight_decay": (1e-3, 1.0)}
nadamw = leafwise(Hyper(), nadam.init, update)
DIALECTS = {"torch": leafwise(nadam.TorchHyper(), nadam.torch_init, decoupled(nadam.torch_update))}
