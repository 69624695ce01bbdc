"""DoWG: DoG with gradients weighted by that distance. Khaled, Mishchenko & Jin 2023, arXiv:2305.16284, Algorithm 1.

    r² ← max(r², ‖w − w₀‖²)         r_eps² at first
    V ← V + r² · ‖g‖²
    w ← w − lr · r² / (√V + eps) · g

Norms are of all weights together; lr is 1 in the paper. eps and its size are optax's, as is that r_eps² equals it.

When not to use it: as DoG; its steps are longer and it diverges where DoG does not; with bfloat16 parameters, whose
spacing is longer than its first steps, without `fnn.wrappers.master`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, dot
from fnn.base.types import NonNegative, Params, Positive
from fnn.rule.contract import Extra, treewise


class Hyper(NamedTuple):
    """lr: a factor, 1; r_eps2: the first squared distance; eps: keeps the divisor from 0."""

    lr: NonNegative = 1.0
    r_eps2: Positive = 1e-4
    eps: NonNegative = 1e-4


class State(NamedTuple):
    """w_0: the weights at first; r2: the longest squared distance from there; v: the weighted squares."""

    w_0: Params
    r2: Array
    v: Array


def init(hp: Hyper, w: Vector) -> State:
    return State(w, jnp.asarray(hp.r_eps2), jnp.zeros_like(hp.eps))


def update(hp: Hyper, t: Array, g: Vector, s: State, w: Vector, extra: Extra) -> tuple[Vector, State]:
    gone = w - s.w_0
    r2 = jnp.maximum(s.r2, dot(gone, gone))
    v = s.v + r2 * dot(g, g)
    rate = hp.lr * r2 / (jnp.sqrt(v) + hp.eps)
    return -rate * g, State(s.w_0, r2, v)


SCHEDULE = {}
dowg = treewise(Hyper(), init, update)
