"""MoMo: momentum with a step size from a model of the loss. Schaipp et al. 2023, arXiv:2305.07583, Algorithm 1.

    m ← b · m + (1 − b) · g         f̄ ← b · f̄ + (1 − b) · f         γ ← b · γ + (1 − b) · ⟨g, w⟩      (b 0 at first)
    λ = 1 + lr · weight_decay
    τ = min(lr, max(λ · (f̄ − f_min − γ) + ⟨m, w⟩, 0) / ‖m‖²)        and 0 where m is 0
    w ← w / λ − τ · m

f is the loss at w. lr bounds the step; 1 is the paper's. f_min is a lower bound of the loss.

When not to use it: where the loss carries a term whose least value is unknown, so that no good f_min is at hand.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, dot, zeros_like
from fnn.base.types import Kept, NonNegative, Params, Real
from fnn.rule.contract import Extra, needed, treewise


class Hyper(NamedTuple):
    """lr: the longest step; b: decay rate of the means; f_min: a lower bound of the loss; weight_decay:
    decoupled."""

    lr: NonNegative = 1.0
    b: Kept = 0.9
    f_min: Real = 0.0
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """m: the gradient's mean; f: the loss's; gamma: that of ⟨g, w⟩."""

    m: Params
    f: Array
    gamma: Array


def init(hp: Hyper, w: Vector) -> State:
    return State(zeros_like(w), jnp.zeros_like(hp.lr), jnp.zeros_like(hp.lr))


def update(hp: Hyper, t: Array, g: Vector, s: State, w: Vector, extra: Extra) -> tuple[Vector, State]:
    [value] = needed(extra, "value")
    b = jnp.where(t == 1, 0, hp.b)
    f = b * s.f + (1 - b) * value
    m = b * s.m + (1 - b) * g
    gamma = b * s.gamma + (1 - b) * dot(g, w)
    shrink = 1 + hp.lr * hp.weight_decay
    reach = jnp.maximum(shrink * (f - hp.f_min - gamma) + dot(m, w), 0)
    tau = jnp.minimum(hp.lr, over(reach, dot(m, m)))
    return -(hp.lr * hp.weight_decay / shrink) * w - tau * m, State(m, f, gamma)


def over(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is as good as 0."""
    return jnp.where(b <= jnp.finfo(float).eps, 0, a / b)


momo = treewise(Hyper(), init, update)
