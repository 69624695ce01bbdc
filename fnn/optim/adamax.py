"""AdaMax: Adam with the largest gradient in place of their mean square. Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2.

    m ← b1 · m + (1 − b1) · g
    u ← max(b2 · u, |g| + eps)
    w ← w − lr / (1 − b1ᵗ) · m / u

eps inside the maximum is optax's and torch's; the paper has none, and divides 0 by 0 where gradients were always 0.
torch's gradient has an L2 term, and its lr is 2e-3.

When not to use it: with rare huge gradients, each of which shortens about 1 / (1 − b2) steps after it.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the maximum; eps: keeps the divisor from 0."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8


class State(NamedTuple):
    """m: the mean; u: the largest gradient, fading."""

    m: Array
    u: Array


def init(hp: Any, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w))


def direction(hp: Any, t: Array, g: Array, s: State):
    """m / (1 − b1ᵗ) / u and the state."""
    m, u = s
    m = hp.b1 * m + (1 - hp.b1) * g
    u = jnp.maximum(hp.b2 * u, jnp.abs(g) + hp.eps)
    return m / (1 - hp.b1**t) / u, State(m, u)


def update(hp: Any, t: Array, g: Array, s: State, w: Array):
    step, s = direction(hp, t, g, s)
    return -hp.lr * step, s


class TorchHyper(NamedTuple):
    """As `Hyper`; weight_decay: L2."""

    lr: NonNegative = 2e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


adamax = leafwise(Hyper(), init, update)
DIALECTS = {"torch": leafwise(TorchHyper(), init, coupled(update))}
