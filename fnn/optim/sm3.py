"""SM3: AdaGrad's sums in the memory of a row and a column. Anil et al. 2019, arXiv:1901.11150, Algorithm SM3-II.

    h = g² + min over the axes of the sums of each axis         (broadcast)
    each axis's sums become the maximum of h over the other axes
    m ← b1 · m + (1 − b1) · g / √(h + eps)                      0 where h = 0
    w ← w − lr · m

When not to use it: where memory is not short: AdaGrad's own sums are better.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size; b1: decay rate of the momentum; eps: keeps the divisor from 0."""

    lr: NonNegative = 0.1
    b1: Kept = 0.9
    eps: NonNegative = 1e-8


class State(NamedTuple):
    """kept: the sums of the axes, one axis after the other, `[Σ shape]`, of a number `[1]`; m: the momentum."""

    kept: Array
    m: Array


def init(hp: Hyper, w: Array):
    return State(jnp.zeros(sum(w.shape) if w.ndim else 1, w.dtype), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    square = jnp.atleast_1d(g**2)
    axes = range(square.ndim)
    others = [[a for a in axes if a != axis] for axis in axes]
    kept = jnp.split(s.kept, list(itertools.accumulate(square.shape[:-1])))
    h = square + functools.reduce(jnp.minimum, map(jnp.expand_dims, kept, others))
    kept = jnp.concatenate([h.max(rest, initial=0) for rest in others])  # 0 where there is nothing to sum
    h = h.reshape(g.shape)
    m = hp.b1 * s.m + (1 - hp.b1) * jnp.where(h == 0, 0, g * jax.lax.rsqrt(h + hp.eps))
    return -hp.lr * m, State(kept, m)


sm3 = leafwise(Hyper(), init, update)
