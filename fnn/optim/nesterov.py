"""Nesterov's accelerated gradient, at the extrapolated point. Nesterov 1983; Sutskever et al. 2013, eq. 3–4.

    optax   v ← mu · v + g        w ← w − lr · (g + mu · v)
    book    v ← mu · v − lr · g   w ← w + mu · v − lr · g
    torch   optax's, g with an L2 term; lr 1e-3

The parameters stored are the extrapolated ones, where the gradient is taken (Bengio et al. 2013, arXiv:1212.0901,
eq. 7). Equal while lr stands still, as for momentum.

When not to use it: with very noisy gradients, where extrapolation along noise gains nothing over momentum.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; mu: decay rate of the velocity."""

    lr: NonNegative = 0.01
    mu: Kept = 0.9


class State(NamedTuple):
    """v: the velocity."""

    v: Array


def init(hp: Any, w: Array):
    return State(jnp.zeros_like(w))


def update(hp: Any, t: Array, g: Array, s: State, w: Array):
    v = hp.mu * s.v + g
    return -hp.lr * (g + hp.mu * v), State(v)


def book_update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    v = hp.mu * s.v - hp.lr * g
    return hp.mu * v - hp.lr * g, State(v)


class TorchHyper(NamedTuple):
    """lr: step size; mu: decay rate of the velocity; weight_decay: L2."""

    lr: NonNegative = 1e-3
    mu: Kept = 0.9
    weight_decay: NonNegative = 0.0


SPACE = {"lr": (1e-3, 1.0)}
nesterov = leafwise(Hyper(), init, update)
DIALECTS = {"book": leafwise(Hyper(), init, book_update), "torch": leafwise(TorchHyper(), init, coupled(update))}
