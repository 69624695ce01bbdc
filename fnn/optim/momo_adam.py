"""MoMo-Adam: Adam with a step size from a model of the loss. Schaipp et al. 2023, arXiv:2305.07583, Algorithm 3.

    m ← b1 · m + (1 − b1) · g       v ← b2 · v + (1 − b2) · g²       D = eps + √v̂
    f̄ ← b1 · f̄ + (1 − b1) · f       γ ← b1 · γ + (1 − b1) · ⟨g, w⟩       c = 1 − b1ᵗ       λ = 1 + lr · weight_decay
    τ = min(lr / c, max(λ · (f̄ − c · f_min − γ) + ⟨m, w⟩, 0) / ⟨m, m / D⟩)
    w ← w / λ − τ · m / D

f is the loss at w and f_min a lower bound of it; lr bounds the step.

When not to use it: as MoMo.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, dot, sqrt, zeros_like
from fnn.base.types import Kept, NonNegative, Params, Real
from fnn.optim.momo import over
from fnn.rule.contract import Extra, needed, treewise


class Hyper(NamedTuple):
    """lr: the longest step; b1, b2: decay rates of the means and the mean square; eps: keeps the divisor from 0;
    f_min: a lower bound of the loss; weight_decay: decoupled."""

    lr: NonNegative = 1e-2
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    f_min: Real = 0.0
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m, v: Adam's means; f: the loss's; gamma: that of ⟨g, w⟩."""

    m: Params
    v: Params
    f: Array
    gamma: Array


def init(hp: Hyper, w: Vector) -> State:
    return State(zeros_like(w), zeros_like(w), jnp.zeros_like(hp.lr), jnp.zeros_like(hp.lr))


def update(hp: Hyper, t: Array, g: Vector, s: State, w: Vector, extra: Extra) -> tuple[Vector, State]:
    [value] = needed(extra, "value")
    m = hp.b1 * s.m + (1 - hp.b1) * g
    v = hp.b2 * s.v + (1 - hp.b2) * g**2
    direction = m / (hp.eps + sqrt(v / (1 - hp.b2**t)))
    f = hp.b1 * s.f + (1 - hp.b1) * value
    gamma = hp.b1 * s.gamma + (1 - hp.b1) * dot(g, w)
    shrink, c = 1 + hp.lr * hp.weight_decay, 1 - hp.b1**t
    reach = jnp.maximum(shrink * (f - c * hp.f_min - gamma) + dot(m, w), 0)
    tau = jnp.minimum(hp.lr / c, over(reach, dot(m, direction)))
    return -(hp.lr * hp.weight_decay / shrink) * w - tau * direction, State(m, v, f, gamma)


momo_adam = treewise(Hyper(), init, update)
