"""GaLore: Adam in the gradient's few strongest directions. Zhao et al. 2024, arXiv:2403.03507, Algorithm 2.

    every 200 steps       P = the first `rank` singular vectors of g, on its longer side
    r = Pᵀ g              u = Adam's step for r
    w ← w − lr · (scale · P u + weight_decay · w)

For a matrix that is wide, g P and u Pᵀ. What is not a matrix is trained by Adam. Moments are kept in the small space,
through changes of P. The singular vectors are found in float32.

Which side is projected differs. Algorithm 2 and the authors' code project the shorter one, so that moments are
`[rank, longer side]` and P is small; optax projects the longer one, so that moments are small and P is long:

    galore          optax's, the longer side
    galore:paper    the paper's, the shorter side; scale 0.25, the authors' default

When not to use it: where memory is no concern; it saves that and nothing else.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base import linear_algebra
from fnn.base.errors import require
from fnn.base.types import Kept, NonNegative
from fnn.optim import adam
from fnn.rule.contract import EMPTY, Part, Rule, leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2, eps: Adam's; scale: of the steps of matrices; weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    scale: NonNegative = 1.0
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """p: a matrix's directions, `[projected side, rank]`; m, v: Adam's means, of a matrix `[rank, other side]`."""

    p: Part
    m: Array
    v: Array


def low_rank(rank: int, every: int, *, longer: bool = True, scale: float = 1.0) -> Rule:
    """GaLore of this rank, with new singular vectors of the longer or the shorter side every `every` steps."""
    require(rank >= 1, f"GaLore's rank is at least 1, not {rank}.")
    require(every >= 1, f"GaLore renews its directions every 1 or more steps, not {every}.")

    def upright(x):
        """The matrix with its projected side as rows."""
        rows, columns = x.shape
        return x if (rows >= columns if longer else rows <= columns) else x.T

    def init(hp, w):
        if w.ndim != 2:
            return State(EMPTY, *adam.init(moments(hp), w))
        p = jnp.zeros((len(upright(w)), min(rank, *w.shape)), w.dtype)
        return State(p, *adam.init(moments(hp), p.T @ upright(w)))

    def update(hp, t, g, s, w):
        p, *means = s
        if w.ndim != 2:
            step, means = adam.update(moments(hp), t, g, adam.State(*means), w)
            return hp.lr * (step - hp.weight_decay * w), State(EMPTY, *means)
        p = jax.lax.cond((t - 1) % every == 0, lambda: strongest(g, rank, upright(g) is g), lambda: p)
        step, means = adam.update(moments(hp), t, p.T @ upright(g), adam.State(*means), w)
        step = p @ step
        step = step if upright(w) is w else step.T
        return hp.lr * (hp.scale * step - hp.weight_decay * w), State(p, *means)

    return leafwise(Hyper(scale=scale), init, update)


def moments(hp: Hyper) -> adam.Hyper:
    return adam.Hyper(jnp.ones_like(hp.lr), hp.b1, hp.b2, hp.eps)


def strongest(g: Array, rank: int, rows: bool) -> Array:
    """The first singular vectors of the rows' side, else of the columns', `[side, rank]`."""
    u, _, vt = linear_algebra.svd(g.astype(jnp.float32))
    return (u if rows else vt.T)[:, :rank].astype(g.dtype)


galore = low_rank(rank=128, every=200)
DIALECTS = {"paper": low_rank(rank=128, every=200, longer=False, scale=0.25)}
