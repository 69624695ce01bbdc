"""COCOB: no learning rate; each weight bets on its gradients. Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2.

    g ← lr · (g + weight_decay · w)
    L ← max(L, |g|)       G ← G + |g|       R ← max(R − g · (w − w₀), 0)       θ ← θ − g
    w ← w₀ + θ / (L · max(G + L, alpha · L)) · (L + R)

lr rescales the gradient, which changes nothing but the first steps: 1 is what is meant.

When not to use it: where the gradient's largest size comes early and by accident; it divides by that for good; with
bfloat16 parameters, whose spacing is longer than its first steps, without `fnn.wrappers.master`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.rule import leafwise
from fnn.types import NonNegative


class Hyper(NamedTuple):
    """lr: the gradient's scale; alpha: how many of its largest gradients a weight waits to bet more; eps: the least
    largest gradient; weight_decay: L2."""

    lr: NonNegative = 1.0
    alpha: NonNegative = 100.0
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """w_0: the weights at first; largest: gradient so far; total: Σ |g|; reward: won so far; theta: −Σ g."""

    w_0: Array
    largest: Array
    total: Array
    reward: Array
    theta: Array


def init(hp: Hyper, w: Array):
    return State(w, jnp.full_like(w, hp.eps), jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    w_0, largest, total, reward, theta = s
    g = hp.lr * (g + hp.weight_decay * w)
    largest = jnp.maximum(largest, jnp.abs(g))
    total = total + jnp.abs(g)
    reward = jnp.maximum(reward - g * (w - w_0), 0)
    theta = theta - g
    share = theta / (largest * jnp.maximum(total + largest, hp.alpha * largest))
    return w_0 + share * (largest + reward) - w, State(w_0, largest, total, reward, theta)


cocob = leafwise(Hyper(), init, update)
