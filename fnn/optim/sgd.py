"""Stochastic gradient descent. Robbins & Monro 1951, eq. 6; the notes' §1.1.

    w ← w − lr · g                              (optax, book)
    torch   w ← w − lr · (g + weight_decay · w)     lr 1e-3

torch's L2 term is 0 by default.

When not to use it: on badly conditioned losses, where the one step size that the steepest direction allows
(lr < 2/L) makes progress in flat directions slow.
"""

from typing import Any, NamedTuple

from jaxtyping import Array

from fnn.base.types import NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: step size."""

    lr: NonNegative = 0.01


def init(hp: Any, w: Array):
    return ()


def update(hp: Any, t: Array, g: Array, s: tuple[()], w: Array):
    return -hp.lr * g, s


class TorchHyper(NamedTuple):
    """lr: step size; weight_decay: L2."""

    lr: NonNegative = 1e-3
    weight_decay: NonNegative = 0.0


SPACE = {"lr": (3e-3, 3.0)}
sgd = leafwise(Hyper(), init, update)
DIALECTS = {"book": sgd, "torch": leafwise(TorchHyper(), init, coupled(update))}
