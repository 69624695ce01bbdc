"""Prodigy: Adam that finds its learning rate. Mishchenko & Defazio 2023, arXiv:2306.06101, Algorithm 4.

    γ = d · lr · √(1 − b2ᵗ) / (1 − b1ᵗ)
    m ← b1 · m + (1 − b1) · d g            v ← b2 · v + (1 − b2) · (d g)²
    r ← √b2 · r + d / d0 · γ · ⟨g, w₀ − w⟩      s ← √b2 · s + γ · d g / d0
    w ← w − γ · (m / (√v + d⁺ eps) + weight_decay · w),    d⁺ = max(d, coef · r / ‖s‖₁)
    d ← d⁺

Products and norms are of all weights together; lr is 1 and may follow a schedule. d0 divides out, as in the authors'
code, to keep r and s from vanishing.

When not to use it: with gradients clipped beforehand, by another factor at every step, since its estimate of the
distance is built on them (a constant factor changes nothing); with bfloat16 parameters, whose spacing is longer than
its first steps, without `fnn.wrappers.master`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, dot, norm1, ratio, sqrt, zeros_like
from fnn.base.types import Kept, NonNegative, Params, Positive
from fnn.rule.contract import Extra, treewise


class Hyper(NamedTuple):
    """lr: a factor, 1; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0; d0:
    the first estimate of the distance to go; coef: the estimate's factor; weight_decay: decoupled."""

    lr: NonNegative = 1.0
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    d0: Positive = 1e-6
    coef: Positive = 1.0
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m, v: Adam's means; s, r: of the estimate's denominator and numerator; d: the estimate; w_0: weights at first."""

    m: Params
    v: Params
    s: Params
    r: Array
    d: Array
    w_0: Params


def init(hp: Hyper, w: Vector) -> State:
    nothing = zeros_like(w)
    return State(nothing, nothing, nothing, jnp.zeros_like(hp.d0), jnp.asarray(hp.d0), w)


def update(hp: Hyper, t: Array, g: Vector, state: State, w: Vector, extra: Extra) -> tuple[Vector, State]:
    m, v, s, r, d, w_0 = state
    keep = jnp.sqrt(hp.b2)
    gamma = d * hp.lr * (jnp.sqrt(1 - hp.b2**t) / (1 - hp.b1**t))
    r = keep * r + d / hp.d0 * gamma * dot(g, w_0 - w)
    s = keep * s + gamma * (d * g) / hp.d0
    m = hp.b1 * m + (1 - hp.b1) * (d * g)
    v = hp.b2 * v + (1 - hp.b2) * (d * g) ** 2
    d = jnp.maximum(d, ratio(hp.coef * r, norm1(s)))
    step = -gamma * m / (sqrt(v) + d * hp.eps) - hp.weight_decay * gamma * w
    return step, State(m, v, s, r, d, w_0)


prodigy = treewise(Hyper(), init, update)
