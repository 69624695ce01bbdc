"""Muon: momentum with its matrices made orthogonal. Jordan et al. 2024, kellerjordan.github.io/posts/muon.

    m ← b · m + (1 − b) · g
    m̄ = b · m / (1 − bᵗ⁺¹) + (1 − b) · g / (1 − bᵗ)                     Nesterov's, as in NAdam
    X = m̄ / (‖m̄‖ + eps), and five times   A = X Xᵀ,  X ← 3.4445 X − 4.7750 A X + 2.0315 A² X
    w ← w − lr · (√max(1, outputs / max(1, inputs)) · X + weight_decay · w)     for a matrix `[inputs, outputs]`

The iteration (Newton–Schulz) brings every singular value to about 1. What is not a matrix is trained by NAdam with the
same lr. Corrected means are optax's; the authors' code leaves them out, and so does torch:

    torch   m̄ = b · m + (1 − b) · g,   X = m̄ / max(‖m̄‖, eps)       lr 1e-3, eps 1e-7, weight_decay 0.1

torch iterates in bfloat16, ours in the weights' own precision; its matrices are `[outputs, inputs]`, as those of fnn's
layers; and it takes nothing else, so that the other arrays go to the AdamW that its documentation puts beside it, with
the same lr and weight_decay.

When not to use it: for embeddings and output layers, which the authors leave to Adam; on matrices with a side of few
units, where there is little to make orthogonal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.optim import adamw, nadam
from fnn.rule import EMPTY, Part, leafwise
from fnn.types import Kept, NonNegative

STEPS = 5
COEFFICIENTS = (3.4445, -4.775, 2.0315)


class Hyper(NamedTuple):
    """lr: step size; b: what a matrix's momentum keeps; eps: keeps divisors from 0; weight_decay: decoupled, for
    matrices; b1, b2: NAdam's, for the other arrays."""

    lr: NonNegative = 0.02
    b: Kept = 0.95
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0
    b1: Kept = 0.9
    b2: Kept = 0.999


class State(NamedTuple):
    """m: the momentum; v: the mean square, of arrays that are no matrices."""

    m: Array
    v: Part


def init(hp: Any, w: Array):
    return State(jnp.zeros_like(w), EMPTY if w.ndim == 2 else jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    if w.ndim != 2:
        step, moments = nadam.update(others(hp), t, g, nadam.State(*s), w)
        return step, State(*moments)
    m = hp.b * s.m + (1 - hp.b) * g
    m_bar = hp.b * (m / (1 - hp.b ** (t + 1))) + (1 - hp.b) * (g / (1 - hp.b**t))
    inputs, outputs = w.shape
    step = max(1, outputs / max(1, inputs)) ** 0.5 * orthogonal(m_bar, lambda norm: norm + hp.eps)
    return -hp.lr * (step + hp.weight_decay * w), State(m, EMPTY)


def others(hp: Hyper) -> nadam.Hyper:
    return nadam.Hyper(hp.lr, hp.b1, hp.b2, hp.eps)


def orthogonal(x: Array, safe: Callable[[Array], Array]) -> Array:
    """The matrix, over its norm made `safe` to divide by, with its singular values brought close to 1."""
    a, b, c = COEFFICIENTS
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / safe(jnp.linalg.norm(x))
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


class TorchHyper(NamedTuple):
    """lr: step size; b: what a matrix's momentum keeps; eps: bounds its norm from below; weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b: Kept = 0.95
    eps: NonNegative = 1e-7
    weight_decay: NonNegative = 0.1


def torch_update(hp: TorchHyper, t: Array, g: Array, s: State, w: Array):
    if w.ndim != 2:
        others = adamw.Hyper(lr=hp.lr, weight_decay=hp.weight_decay)
        others = jax.tree.map(lambda h: jnp.asarray(h, w.dtype), others)
        step, moments = adamw.update(others, t, g, adamw.State(*s), w)
        return step, State(*moments)
    m = hp.b * s.m + (1 - hp.b) * g
    m_bar = hp.b * m + (1 - hp.b) * g
    outputs, inputs = w.shape
    step = max(1, outputs / max(1, inputs)) ** 0.5 * orthogonal(m_bar, lambda norm: jnp.maximum(norm, hp.eps))
    return -hp.lr * (step + hp.weight_decay * w), State(m, EMPTY)


muon = leafwise(Hyper(), init, update)
DIALECTS = {"torch": leafwise(TorchHyper(), init, torch_update)}
