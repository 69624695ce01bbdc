"""D-Adaptation for AdamW. Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 5, with corrected means.

    γ = d · lr · √(1 − b2ᵗ) / (1 − b1ᵗ)
    r ← √b2 · r + (1 − √b2) · γ · ⟨g, s / (√v + eps)⟩           s and v of the step before
    m ← b1 · m + (1 − b1) · γ g        v ← b2 · v + (1 − b2) · g²        s ← √b2 · s + (1 − √b2) · γ g
    w ← w − m / (√v + eps) − γ · weight_decay · w
    d ← max(d, r / ((1 − √b2) · ‖s‖₁))

Products and norms are of all weights together; lr is 1 and may follow a schedule.

When not to use it: where Prodigy may be used, whose estimate is never worse (its paper); with bfloat16 parameters,
whose spacing is longer than its first steps, without `fnn.wrappers.master`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, dot, norm1, ratio, sqrt, zeros_like
from fnn.base.types import Kept, NonNegative, Params, Positive
from fnn.rule.contract import Extra, treewise


class Hyper(NamedTuple):
    """lr: a factor, 1; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0; d0:
    the first estimate of the distance to go; weight_decay: decoupled."""

    lr: NonNegative = 1.0
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: Positive = 1e-8
    d0: Positive = 1e-6
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m, v: Adam's means; s, r: of the estimate's denominator and its numerator; d: the estimate."""

    m: Params
    v: Params
    s: Params
    r: Array
    d: Array


def init(hp: Hyper, w: Vector) -> State:
    nothing = zeros_like(w)
    return State(nothing, nothing, nothing, jnp.zeros_like(hp.d0), jnp.asarray(hp.d0))


def update(hp: Hyper, t: Array, g: Vector, state: State, w: Vector, extra: Extra) -> tuple[Vector, State]:
    m, v, s, r, d = state
    keep = jnp.sqrt(hp.b2)
    gamma = d * hp.lr * (jnp.sqrt(1 - hp.b2**t) / (1 - hp.b1**t))
    r = keep * r + (1 - keep) * gamma * dot(g, s / (sqrt(v) + hp.eps))
    m = hp.b1 * m + (1 - hp.b1) * gamma * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    s = keep * s + (1 - keep) * gamma * g
    d = jnp.maximum(d, ratio(r, (1 - keep) * norm1(s)))
    return -m / (sqrt(v) + hp.eps) - hp.weight_decay * gamma * w, State(m, v, s, r, d)


dadapt_adamw = treewise(Hyper(), init, update)
