"""Momentum, the heavy ball. Polyak 1964, eq. 9; the notes' §1.2.

    optax   v ← mu · v + g                      w ← w − lr · v
    book    v ← mu · v − lr · g                 w ← w + v             (also Polyak's)
    torch   v ← mu · v + (1 − dampening) · g    w ← w − lr · v        v = g at first; g with an L2 term; lr 1e-3

Equal while lr stands still and torch's dampening is 0. Under a schedule the book's differs: its buffer holds old
steps at their old lr. torch's first gradient is not dampened.

When not to use it: with mu near 1 on few steps, where the ball is still rolling when the run ends.
"""

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Interval, Kept, NonNegative, Scalar
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


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    v = hp.mu * s.v + g
    return -hp.lr * v, State(v)


def book_update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    v = hp.mu * s.v - hp.lr * g
    return v, State(v)


class TorchHyper(NamedTuple):
    """lr: step size; mu: decay rate of the velocity; dampening: the share of a gradient that is
    left out of it; weight_decay: L2."""

    lr: NonNegative = 1e-3
    mu: Kept = 0.9
    dampening: Annotated[Scalar, Interval("[0, 1]")] = 0.0
    weight_decay: NonNegative = 0.0


def torch_update(hp: TorchHyper, t: Array, g: Array, s: State, w: Array):
    v = hp.mu * s.v + jnp.where(t == 1, 1, 1 - hp.dampening) * g
    return -hp.lr * v, State(v)


SPACE = {"lr": (1e-3, 1.0)}
momentum = leafwise(Hyper(), init, update)
DIALECTS = {"book": leafwise(Hyper(), init, book_update), "torch": leafwise(TorchHyper(), init, coupled(torch_update))}
