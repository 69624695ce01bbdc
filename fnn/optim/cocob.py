"""COCOB: no learning rate; each weight bets on its gradients. Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2.

    g ← lr · (g + weight_decay · w)
    L ← max(L, |g|)       G ← G + |g|       R ← max(R − g · β, 0)       θ ← θ − g
    β ← θ / (L · max(G + L, alpha · L)) · (L + R)
    w ← w₀ + β, as Δw = β − β of the step before

The state is the bet β = w − w₀, so whatever else moves w, as decoupled decay, moves w₀ with it; stored in place of β,
w₀ would undo it at the next step.

lr rescales the gradient, which changes nothing but the first steps: 1 is what is meant.

When not to use it: where the gradient's largest size comes early and by accident; it divides by that for good; with
bfloat16 parameters, whose spacing is longer than its first steps, without `fnn.wrappers.master`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: the gradient's scale; alpha: the least sum of gradients, in units of the largest, by which a bet is divided;
    eps: the least largest gradient; weight_decay: L2."""

    lr: NonNegative = 1.0
    alpha: NonNegative = 100.0
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """bet: w − w₀; largest: gradient so far; total: Σ |g|; reward: won so far; theta: −Σ g."""

    bet: Array
    largest: Array
    total: Array
    reward: Array
    theta: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros_like(w), jnp.full_like(w, hp.eps), jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    before, largest, total, reward, theta = s
    g = hp.lr * g
    largest = jnp.maximum(largest, jnp.abs(g))
    total = total + jnp.abs(g)
    reward = jnp.maximum(reward - g * before, 0)
    theta = theta - g
    share = theta / (largest * jnp.maximum(total + largest, hp.alpha * largest))
    bet = share * (largest + reward)
    return bet - before, State(bet, largest, total, reward, theta)


SCHEDULE = {}
cocob = leafwise(Hyper(), init, coupled(update))
