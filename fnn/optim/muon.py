"""Muon: momentum with its matrices made orthogonal. Jordan et al. 2024, kellerjordan.github.io/posts/muon.

    m ← b · m + (1 − b) · g
    m̄ = b · m / (1 − bᵗ⁺¹) + (1 − b) · g / (1 − bᵗ)                     Nesterov's, as in NAdam
    X = m̄ / (‖m̄‖ + eps), and five times   A = X Xᵀ,  X ← 3.4445 X − 4.7750 A X + 2.0315 A² X
    w ← w − lr · (√max(1, outputs / max(1, inputs)) · X + weight_decay · w)

The iteration (Newton–Schulz) brings every singular value to about 1. A convolution's kernel is the matrix of its
outputs by its inputs at all places of the window. Which axes those are, fnn's layers declare. Other arrays of two
axes are matrices `[outputs, inputs]` to `muon` and `muon:torch`, as in the authors' code, and `[inputs, outputs]`, as
flax has them, to `muon:optax`; `orthogonalized(layout)` is Muon with another convention, `axes.inputs_first` say, with
which kernels of three and more axes are made orthogonal too. What is no weights is trained by NAdam with the same lr.
Corrected means are optax's; the authors' code leaves them out, and so does torch:

    optax   as above, but for the axes of arrays outside of fnn's layers
    torch   m̄ = b · m + (1 − b) · g,   X = m̄ / max(‖m̄‖, eps)       lr 1e-3, eps 1e-7, weight_decay 0.1

torch iterates in bfloat16, ours in the weights' own precision; and it takes nothing but matrices, so that the other
arrays go to the AdamW that its documentation puts beside it, with the same lr and weight_decay.

When not to use it: for embeddings and output layers, which the authors leave to Adam; on matrices with a side of few
units, where there is little to make orthogonal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import norm
from fnn.base.types import Kept, NonNegative
from fnn.nn.axes import Axes, Convention, inputs_first, only_matrices, outputs_first
from fnn.optim import adamw, nadam
from fnn.rule.contract import EMPTY, Part, Rule, leafwise

STEPS = 5
COEFFICIENTS = (3.4445, -4.775, 2.0315)


class Hyper(NamedTuple):
    """lr: step size; b: decay rate of a matrix's momentum; eps: keeps divisors from 0; weight_decay: decoupled, for
    matrices; b1, b2: NAdam's, for the other arrays."""

    lr: NonNegative = 0.02
    b: Kept = 0.95
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0
    b1: Kept = 0.9
    b2: Kept = 0.999


class State(NamedTuple):
    """m: the momentum; v: the mean square, of arrays that are no weights."""

    m: Array
    v: Part


def init(hp: Any, w: Array, axes: Axes):
    return State(jnp.zeros_like(w), EMPTY if axes.weights else jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array, axes: Axes):
    if not axes.weights:
        step, moments = nadam.update(others(hp), t, g, nadam.State(*s), w)
        return step, State(*moments)
    m = hp.b * s.m + (1 - hp.b) * g
    m_bar = hp.b * (m / (1 - hp.b ** (t + 1))) + (1 - hp.b) * (g / (1 - hp.b**t))
    step = orthogonal(m_bar, axes, lambda size: size + hp.eps)
    return -hp.lr * (step + hp.weight_decay * w), State(m, EMPTY)


def others(hp: Hyper) -> nadam.Hyper:
    return nadam.Hyper(hp.lr, hp.b1, hp.b2, hp.eps)


def orthogonal(x: Array, axes: Axes, safe: Callable[[Array], Array]) -> Array:
    """√max(1, outputs / max(1, inputs)) · X, where X is the weights, over their norm made `safe` to divide by, with the
    singular values of their matrix brought close to 1."""
    a, b, c = COEFFICIENTS
    matrix = axes.matrix(x)
    inputs, outputs = matrix.shape
    m = matrix if inputs <= outputs else matrix.T
    m = m / safe(norm(m))
    for _ in range(STEPS):
        gram = m @ m.T
        m = a * m + (b * gram + c * gram @ gram) @ m
    matrix = m if inputs <= outputs else m.T
    return max(1, outputs / max(1, inputs)) ** 0.5 * axes.array(matrix, x.shape)


class TorchHyper(NamedTuple):
    """lr: step size; b: decay rate of a matrix's momentum; eps: bounds its norm from below; weight_decay: decoupled."""

    lr: NonNegative = 1e-3
    b: Kept = 0.95
    eps: NonNegative = 1e-7
    weight_decay: NonNegative = 0.1


def torch_update(hp: TorchHyper, t: Array, g: Array, s: State, w: Array, axes: Axes):
    if not axes.weights:
        others = adamw.Hyper(lr=hp.lr, weight_decay=hp.weight_decay)
        others = jax.tree.map(lambda h: jnp.asarray(h, w.dtype), others)
        step, moments = adamw.update(others, t, g, adamw.State(*s), w)
        return step, State(*moments)
    m = hp.b * s.m + (1 - hp.b) * g
    m_bar = hp.b * m + (1 - hp.b) * g
    step = orthogonal(m_bar, axes, lambda size: jnp.maximum(size, hp.eps))
    return -hp.lr * (step + hp.weight_decay * w), State(m, EMPTY)


def orthogonalized(layout: Convention) -> Rule:
    """Muon that reads the axes of arrays outside of fnn's layers by this convention."""
    return leafwise(Hyper(), init, update, layout=layout)


muon = orthogonalized(only_matrices(outputs_first))
DIALECTS = {
    "optax": orthogonalized(only_matrices(inputs_first)),
    "torch": leafwise(TorchHyper(), init, torch_update, layout=only_matrices(outputs_first)),
}
