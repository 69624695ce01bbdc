"""NovoGrad: one mean square per layer, before the momentum. Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1.

    v ← b2 · v + (1 − b2) · ‖g‖²            one number an array; ‖g‖² at first
    m ← b1 · m + g / (√v + eps) + weight_decay · w
    w ← w − lr · m

When not to use it: where weights of one array need steps of very different lengths.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import norm
from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the momentum and the mean square; eps: keeps the divisor from 0;
    weight_decay: enters the momentum."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.25
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m: the momentum; v: the mean square of the gradient's norm, a number."""

    m: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros((), w.dtype))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v = s
    square = norm(g) ** 2
    v = jnp.where(t == 1, square, hp.b2 * v + (1 - hp.b2) * square)
    m = hp.b1 * m + (g / (jnp.sqrt(v) + hp.eps) + hp.weight_decay * w)
    return -hp.lr * m, State(m, v)


novograd = leafwise(Hyper(), init, update)
