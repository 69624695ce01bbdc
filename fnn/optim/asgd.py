"""Averaged SGD. Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4), 838–855; step sizes of Xu 2011, arXiv:1107.2490.

    lr_t = lr / (1 + decay · lr · (t − 1))^alpha
    w ← w − lr_t · (g + (decay + weight_decay) · w)
    x ← x + (w − x) / max(1, t − 1 − t0)            the mean of w from update t0 + 2 on, until then w

The parameters trained are w, those to be used x, the rule's `result`. The average forgets the start only like 1/t, so
it may begin at a t0 when w has come close. torch, whose form this is, sets t0 to 10⁶: a shorter run uses the last w.
It computes lr_t and the weights of the mean in its default type, float32, even where weights are float64.

When not to use it: on losses with many valleys, where the mean of points in two of them lies in neither.
"""

from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Interval, NonNegative, Scalar
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: the first step size; decay: how fast it falls, and L2; alpha: the power it falls with; t0: updates
    before those averaged; weight_decay: L2 that lr does not fall with."""

    lr: NonNegative = 0.01
    decay: NonNegative = 1e-4
    alpha: Annotated[Scalar, Interval("(0.5, 1]")] = 0.75
    t0: NonNegative = 0.0
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """x: the average without the parameters after the last step, which a rule around this one may have moved."""

    x: Array


def init(hp: Hyper, w: Array):
    return State(w)


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    lr_t = hp.lr / (1 + hp.decay * hp.lr * (t - 1)) ** hp.alpha
    step = -lr_t * (g + (hp.decay + hp.weight_decay) * w)
    return step, State(average(hp, t - 1, w, s.x))


def result(hp: Hyper, t: Array, w: Array, s: State):
    """x, the parameters to be used."""
    return average(hp, t, w, s.x)


def average(hp: Hyper, t: Array, w: Array, x: Array):
    """x with w, the parameters after update t."""
    return x + (w - x) / jnp.maximum(1, t - 1 - hp.t0)


SCHEDULE = {}
asgd = leafwise(Hyper(), init, update, result)
DIALECTS = {"torch": leafwise(Hyper(t0=1e6), init, update, result)}
