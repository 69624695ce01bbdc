"""SGD with Polyak's step size, from the loss above its least. Loizou et al. 2021, arXiv:2002.10542, eq. 3 (SPS_max).

    w ← w − min((f − f_min) / (‖g‖² + eps), lr) · g

f is the loss at w, the norm that of all weights together, and f_min the least loss, 0 where a network can fit its data.

When not to use it: where the least loss is unknown, as under weight decay or label noise: it then keeps stepping.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, dot
from fnn.base.types import NonNegative, Real
from fnn.rule.contract import Extra, needed, treewise


class Hyper(NamedTuple):
    """lr: the largest step size; f_min: the least loss; eps: keeps the divisor from 0."""

    lr: NonNegative = 1.0
    f_min: Real = 0.0
    eps: NonNegative = 0.0


def init(hp: Hyper, w: Vector):
    return ()


def update(hp: Hyper, t: Array, g: Vector, s: tuple[()], w: Vector, extra: Extra):
    [value] = needed(extra, "value")
    square = dot(g, g) + hp.eps
    rate = jnp.where(square <= jnp.finfo(float).eps, 0, jnp.minimum((value - hp.f_min) / square, hp.lr))
    return -rate * g, s


SCHEDULE = {}
polyak_sgd = treewise(Hyper(), init, update)
