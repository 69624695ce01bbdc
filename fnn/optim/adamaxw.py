"""AdaMaxW: AdaMax with decoupled weight decay, as Loshchilov & Hutter 2019, arXiv:1711.05101, do it to Adam.

    w ← w − lr · (m / (1 − b1ᵗ) / u + weight_decay · w)      m, u as in AdaMax

When not to use it: as AdaMax.
"""

from typing import NamedTuple

from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.optim.adamax import State, direction, init
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the maximum; eps: keeps the divisor from 0;
    weight_decay: the share of w, times lr, that is lost each step."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 1e-4


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    step, s = direction(hp, t, g, s)
    return -hp.lr * (step + hp.weight_decay * w), s


adamaxw = leafwise(Hyper(), init, update)
