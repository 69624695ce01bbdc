"""SM3: AdaGrad's sums in the memory of a row and a column. Anil et al. 2019, arXiv:1901.11150, Algorithm SM3-II.

    h = g² + min over the axes of what each axis remembers      (broadcast)
    each axis remembers the maximum of h over the other axes
    m ← b1 · m + (1 − b1) · g / √(h + eps)                      0 where h = 0
    w ← w − lr · m

When not to use it: where memory is not short: AdaGrad's own sums are better.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.rule import leafwise
from fnn.types import Scalar


class Hyper(NamedTuple):
    """lr: step size; b1: what the momentum keeps, in [0, 1); eps: keeps the divisor from 0."""

    lr: Scalar = 0.1
    b1: Scalar = 0.9
    eps: Scalar = 1e-8


def init(hp: Hyper, w: Array):
    return tuple(jnp.zeros(n, w.dtype) for n in w.shape) or (jnp.zeros_like(w),), jnp.zeros_like(w)


def update(hp: Hyper, g: Array, s: tuple[tuple[Array, ...], Array], w: Array):
    kept, m = s
    axes = range(g.ndim)
    bound = [jnp.expand_dims(k, [a for a in axes if a != axis]) for axis, k in enumerate(kept)]
    h = g**2 + functools.reduce(jnp.minimum, bound)
    kept = tuple(h.max([a for a in axes if a != axis]) for axis in axes) or (h,)
    m = hp.b1 * m + (1 - hp.b1) * jnp.where(h > 0, g * jax.lax.rsqrt(h + hp.eps), 0)
    return -hp.lr * m, (kept, m)


sm3 = leafwise(Hyper(), init, update)
