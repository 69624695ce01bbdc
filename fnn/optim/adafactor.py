"""Adafactor: a mean square in the memory of a row and a column. Shazeer & Stern 2018, arXiv:1804.04235, Algorithm 4.

    b = 1 − t^−decay                                    the mean squares' decay rate: 0 at first
    matrices of at least 128 × 128, over outputs and inputs where a layer declares them, else the two largest axes:
        r ← b · r + (1 − b) · rows' mean(g² + eps)      c ← b · c + (1 − b) · columns' mean(g² + eps)
        u = g / √(r / mean(r)) / √c
    smaller arrays:  v ← b · v + (1 − b) · (g² + eps),   u = g / √v
    u ← u / max(1, rms(u) / clip)
    w ← w − lr · max(rms(w), 1e-3) · u

    torch   every array of two axes or more is factored, over its last two, and eps is no summand but a bound:
        r, c, v as above without eps                    v = r c / max(mean(r), eps)  for matrices
        u = g / √max(v, eps²)                           clipped as above
        w ← w − max(rms(w), eps_w) · min(lr, 1/√t) · u − lr · weight_decay · w
        with clip at least 1 and the eps of float32; torch takes that of the weights' type

When not to use it: where memory is not short; it trades a little accuracy of the mean square for it.
"""

from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import rms
from fnn.base.types import Interval, Limit, NonNegative, Scalar, Spec
from fnn.nn.axes import Axes, undeclared
from fnn.rule.contract import EMPTY, Part, leafwise


class Hyper(NamedTuple):
    """lr: step size, relative to the root mean square of w; decay: how fast the means lengthen; clip: the largest root
    mean square of a step before lr; eps: keeps the mean squares from 0."""

    lr: NonNegative = 0.01
    decay: Annotated[Scalar, Interval("[0, 1]")] = 0.8
    clip: Limit = 1.0
    eps: NonNegative = 1e-30


FACTORED_FROM = 128


class State(NamedTuple):
    """r, c: rows' and columns' mean squares of an array that is factored; v: the mean square of another."""

    r: Part
    c: Part
    v: Part


def init(hp: Hyper, w: Array, axes: Axes):
    return begin(w, factored(w, axes))


def begin(w: Array, axes: tuple[int, int] | None) -> State:
    """Zeros; each of `axes` is the one that a factor is a mean over."""
    if axes is None:
        return State(EMPTY, EMPTY, jnp.zeros_like(w))
    r, c = (jnp.zeros_like(w).mean(axis) for axis in axes)
    return State(r, c, EMPTY)


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array, axes: Axes):
    b = 1 - t.astype(g.dtype) ** -hp.decay
    square, two = g**2 + hp.eps, factored(w, axes)
    if two is None:
        v = b * s.v + (1 - b) * square
        s = State(EMPTY, EMPTY, v)
        u = g / jnp.sqrt(v)
    else:
        large, small = two
        r = b * s.r + (1 - b) * square.mean(large)
        c = b * s.c + (1 - b) * square.mean(small)
        s = State(r, c, EMPTY)
        rows = r / r.mean(small - (small > large), keepdims=True)
        u = g / jnp.sqrt(jnp.expand_dims(rows, large)) / jnp.sqrt(jnp.expand_dims(c, small))
    u = u / jnp.maximum(1, rms(u) / hp.clip)
    return -hp.lr * jnp.maximum(rms(w), 1e-3) * u, s


def factored(w: Spec, axes: Axes) -> tuple[int, int] | None:
    """The two axes of `w` to factor over, the largest first, where both are long enough to save memory."""
    candidates = axes.outputs + axes.inputs + axes.entries if axes.known else range(w.ndim)
    two = sorted(candidates, key=lambda axis: (w.shape[axis], axis))[-2:]
    return (two[1], two[0]) if len(two) == 2 and w.shape[two[0]] >= FACTORED_FROM else None


class TorchHyper(NamedTuple):
    """As `Hyper`; eps: bounds the roots from below; eps_w: the least root mean square that w counts with; weight_decay:
    the share of w, times lr, that is lost each step."""

    lr: NonNegative = 0.01
    decay: Annotated[Scalar, Interval("[0, 1]")] = 0.8
    clip: Limit = 1.0
    eps: NonNegative = 2.0**-23
    eps_w: NonNegative = 1e-3
    weight_decay: NonNegative = 0.0


def torch_init(hp: TorchHyper, w: Array):
    return begin(w, None if w.ndim < 2 else (-1, -2))


def torch_update(hp: TorchHyper, t: Array, g: Array, s: State, w: Array):
    t = t.astype(g.dtype)
    new = t**-hp.decay
    if w.ndim < 2:
        v = (1 - new) * s.v + new * g**2
        s = State(EMPTY, EMPTY, v)
    else:
        r = (1 - new) * s.r + new * (g**2).mean(-1)
        c = (1 - new) * s.c + new * (g**2).mean(-2)
        s = State(r, c, EMPTY)
        v = r[..., :, None] * c[..., None, :] / jnp.maximum(r.mean(-1), hp.eps)[..., None, None]
    u = g / jnp.sqrt(jnp.maximum(v, hp.eps**2))
    u = u / jnp.maximum(1, rms(u) / hp.clip)
    alpha = jnp.maximum(rms(w), hp.eps_w) * jnp.minimum(hp.lr, 1 / jnp.sqrt(t))
    return -alpha * u - hp.lr * hp.weight_decay * w, s


adafactor = leafwise(Hyper(), init, update, layout=undeclared)
DIALECTS = {"torch": leafwise(TorchHyper(), torch_init, torch_update)}
