"""GaLore: Adam in the gradient's few strongest directions. Zhao et al. 2024, arXiv:2403.03507, Algorithm 2.

    every so many steps   P = the first `rank` singular vectors of g, on its longer side
    r = Pᵀ g              u = Adam's step for r
    w ← w − lr · (scale · P u + weight_decay · w)

For a matrix that is wide, g P and u Pᵀ. What is not a matrix is trained by Adam. Moments are kept in the small space,
through changes of P. The singular vectors are found in float32.

When not to use it: where memory is no concern; it saves that and nothing else.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn import factorizations
from fnn.errors import require
from fnn.optim import adam
from fnn.rule import EMPTY, Part, Rule, leafwise
from fnn.types import Kept, NonNegative


class Hyper(NamedTuple):
    """lr: step size; b1, b2, eps: Adam's; scale: of the steps of matrices; weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    scale: NonNegative = 1.0
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """p: a matrix's directions, `[longer side, rank]`; m, v: Adam's means, of a matrix `[rank, shorter side]`."""

    p: Part
    m: Array
    v: Array


def low_rank(rank: int, every: int) -> Rule:
    """GaLore of this rank, with new singular vectors every so many steps."""
    require(rank >= 1, f"GaLore's rank is at least 1, not {rank}.")
    require(every >= 1, f"GaLore renews its directions every 1 or more steps, not {every}.")

    def init(hp, w):
        if w.ndim != 2:
            return State(EMPTY, *adam.init(moments(hp), w))
        long, short = sorted(w.shape, reverse=True)
        p = jnp.zeros((long, min(rank, short)), w.dtype)
        return State(p, *adam.init(moments(hp), p.T @ upright(w)))

    def update(hp, t, g, s, w):
        p, *means = s
        if w.ndim != 2:
            step, means = adam.update(moments(hp), t, g, adam.State(*means), w)
            return hp.lr * (step - hp.weight_decay * w), State(EMPTY, *means)
        p = jax.lax.cond((t - 1) % every == 0, lambda: strongest(g, rank), lambda: p)
        step, means = adam.update(moments(hp), t, p.T @ upright(g), adam.State(*means), w)
        step = p @ step if tall(w) else (p @ step).T
        return hp.lr * (hp.scale * step - hp.weight_decay * w), State(p, *means)

    return leafwise(Hyper(), init, update)


def moments(hp: Hyper) -> adam.Hyper:
    return adam.Hyper(jnp.ones_like(hp.lr), hp.b1, hp.b2, hp.eps)


def tall(x: Array) -> bool:
    rows, columns = x.shape
    return rows >= columns


def upright(x: Array) -> Array:
    return x if tall(x) else x.T


def strongest(g: Array, rank: int) -> Array:
    """The first singular vectors of the longer side, `[longer side, rank]`."""
    u, _, v = factorizations.svd(g.astype(jnp.float32))
    return (u if tall(g) else v.T)[:, :rank].astype(g.dtype)


galore = low_rank(rank=128, every=200)
