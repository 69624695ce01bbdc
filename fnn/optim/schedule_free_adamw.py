"""Schedule-free AdamW. Defazio et al. 2024, arXiv:2405.15682, Algorithm 1.

    v ← b2 · v + (1 − b2) · g²
    z ← z − lr · (g / (√v̂ + eps) + weight_decay · y)        g at y
    x, y, the weights c and the rule's `result` as in schedule-free SGD

When not to use it: as schedule-free SGD.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.optim import schedule_free_sgd
from fnn.optim.schedule_free_sgd import Average
from fnn.rule import leafwise
from fnn.types import Scalar


class Hyper(NamedTuple):
    """lr: step size; b1: the share of x in y, in (0, 1); b2: what the mean square keeps, in [0, 1); eps: keeps the
    divisor from 0; weight_decay: at y."""

    lr: Scalar = 2.5e-3
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0


def init(hp: Hyper, w: Array):
    return jnp.zeros_like(w), schedule_free_sgd.begun(w)


def update(hp: Hyper, t: Array, g: Array, s: tuple[Array, Average], y: Array):
    v, average = s
    v = hp.b2 * v + (1 - hp.b2) * g**2
    v_hat = v / (1 - hp.b2**t)
    step = -hp.lr * (1 / (jnp.sqrt(v_hat) + hp.eps) * g + hp.weight_decay * y)
    change, average = schedule_free_sgd.averaged(hp, step, average, y)
    return change, (v, average)


def result(hp: Hyper, t: Array, y: Array, s: tuple[Array, Average]) -> Array:
    return schedule_free_sgd.average(hp, y, s[1])


schedule_free_adamw = leafwise(Hyper(), init, update, result)
