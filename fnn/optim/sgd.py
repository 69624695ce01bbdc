"""Stochastic gradient descent. Robbins & Monro 1951, eq. 6; the notes' §1.1. All dialects agree.

    w ← w − lr · g

When not to use it: on badly conditioned losses, where the one step size that the steepest direction allows
(lr < 2/L) leaves the flat directions crawling.
"""

from typing import NamedTuple

from jaxtyping import Array

from fnn.rule import leafwise
from fnn.types import Scalar


class Hyper(NamedTuple):
    """lr: step size."""

    lr: Scalar = 0.01


def init(hp: Hyper, w: Array):
    return ()


def update(hp: Hyper, t: Array, g: Array, s: tuple[()], w: Array):
    return -hp.lr * g, s


sgd = leafwise(Hyper(), init, update)
DIALECTS = {"book": sgd}
