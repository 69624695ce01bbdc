"""Sophia-H: momentum over the Hessian's diagonal, clipped. Liu et al. 2023, arXiv:2305.14342, Algorithm 3.

    m ← b1 · m + (1 − b1) · g
    w ← w − lr · (clip(m̂ / max(gamma · h, eps), −1, 1) + weight_decay · w)
    h ← b2 · h + (1 − b2) · z ⊙ ∇²f z        every tenth step, z of random signs (Hutchinson), f the minibatch's loss

In the paper h is renewed before it is used, and m is not corrected; this is optax's. Curvature costs about two
gradients, which is why it is computed every tenth step; under `vmap` it is computed at every step.

When not to use it: on short runs, since h starts at 0 and the step is lr · sign(m) until it has grown.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, each, random_like, zeros_like
from fnn.base.types import Kept, Limit, NonNegative, Params
from fnn.rule.contract import Extra, needed, treewise

EVERY = 10


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the curvature; gamma: the curvature's weight; eps: the
    least divisor; bound: of a step, before lr; weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.965
    b2: Kept = 0.99
    gamma: NonNegative = 0.01
    eps: NonNegative = 1e-8
    bound: Limit = 1.0
    weight_decay: NonNegative = 1e-4


class State(NamedTuple):
    """m: the mean; h: the Hessian's diagonal."""

    m: Params
    h: Params


def init(hp: Hyper, w: Vector):
    return State(zeros_like(w), zeros_like(w))


def update(hp: Hyper, t: Array, g: Vector, s: State, w: Vector, extra: Extra):
    value_fn, key = needed(extra, "value_fn", "key")
    m, h = s
    m = hp.b1 * m + (1 - hp.b1) * g
    u = m / (1 - hp.b1**t) / each(lambda h: jnp.maximum(hp.gamma * h, hp.eps))(h)
    step = -hp.lr * (each(lambda u: jnp.clip(u, -hp.bound, hp.bound))(u) + hp.weight_decay * w)

    def renewed():
        z = random_like(jax.random.rademacher, jax.random.split(key)[1], w)
        _, curved = jax.jvp(jax.grad(value_fn), (w,), (z,))
        return hp.b2 * h + (1 - hp.b2) * (z * curved)

    return step, State(m, jax.lax.cond((t - 1) % EVERY == 0, renewed, lambda: h))


sophia = treewise(Hyper(), init, update)
