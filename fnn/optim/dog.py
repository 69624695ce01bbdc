"""DoG: the distance from the start over the gradients' norm. Ivgi, Hinder & Carmon 2023, arXiv:2302.12022, eq. (DoG).

    r ← max(r, ‖w − w₀‖)            r_eps · (1 + ‖w₀‖) at first
    G ← G + ‖g‖²
    w ← w − lr · r / √(G + eps) · g

Norms are of all weights together; lr is 1 in the paper. The paper evaluates an average of w.

When not to use it: on networks with normalization and without averaging, where the last w is noisy; with bfloat16
parameters, whose spacing is longer than its first steps, without `fnn.wrappers.master`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, dot, norm
from fnn.base.types import NonNegative, Params, Positive
from fnn.rule.contract import Extra, treewise


class Hyper(NamedTuple):
    """lr: a factor, 1; r_eps: the first distance, relative to the weights; eps: keeps the divisor from 0."""

    lr: NonNegative = 1.0
    r_eps: Positive = 1e-6
    eps: NonNegative = 1e-8


class State(NamedTuple):
    """w_0: the weights at first; r: the longest distance from there; total: of the squared gradients."""

    w_0: Params
    r: Array
    total: Array


def init(hp: Hyper, w: Vector) -> State:
    return State(w, hp.r_eps * (1 + norm(w)), jnp.zeros_like(hp.eps))


def update(hp: Hyper, t: Array, g: Vector, s: State, w: Vector, extra: Extra) -> tuple[Vector, State]:
    r = jnp.maximum(s.r, norm(w - s.w_0))
    total = s.total + dot(g, g)
    rate = hp.lr * r / jnp.sqrt(total + hp.eps)
    return -rate * g, State(s.w_0, r, total)


SCHEDULE = {}
dog = treewise(Hyper(), init, update)
