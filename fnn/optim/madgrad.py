"""MADGRAD: dual averaging with a cube root, and momentum. Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1.

    g ← g + weight_decay · w        λ = (lr + eps) · √t, 0 where lr = 0
    s ← s + λ · g                   v ← v + λ · g²
    z = w₀ − s / (∛v + eps)
    w ← mu · w + (1 − mu) · z

The state is w − w₀, so whatever else moves w, as decoupled decay, moves w₀ with it; z would soon undo it otherwise.
mu is the share of the old w (the paper's c is that of the new point). eps beside lr and √t in float32 are the authors'
code's and optax's; λ = 0 at lr 0 is the authors' code's alone.

When not to use it: with weight decay as one is used to; the weights stay tied to w₀, and less of it is needed.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; mu: the share of w in the next w; eps: keeps the divisor from 0; weight_decay: L2."""

    lr: NonNegative = 0.01
    mu: Kept = 0.9
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """gone: w − w₀; s, v: the weighted sums of the gradients and of their squares."""

    gone: Array
    s: Array
    v: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, state: State, w: Array):
    gone, s, v = state
    rate = jnp.where(hp.lr > 0, hp.lr + hp.eps, 0) * jnp.sqrt(t)
    s = s + rate * g
    v = v + rate * g**2
    step = -(1 - hp.mu) * (gone + s / (jnp.cbrt(v) + hp.eps))
    return step, State(gone + step, s, v)


madgrad = leafwise(Hyper(), init, coupled(update))
