"""AMSGrad: Adam whose divisor never shrinks. Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2.

    m ← b1 · m + (1 − b1) · g       v ← b2 · v + (1 − b2) · g²
    optax   v_max ← max(v_max, v̂)     w ← w − lr · m̂ / (√v_max + eps)                 v̂ corrected before the maximum
    torch   v_max ← max(v_max, v)     w ← w − lr · m̂ / (√(v_max / (1 − b2ᵗ)) + eps)    corrected after it
    paper   no correction of either

torch adds weight_decay · w to the gradient (`Adam(amsgrad=True)`) or, as torch_decoupled, lr · weight_decay · w to the
step (`AdamW(amsgrad=True)`).

When not to use it: where gradients fall by orders of magnitude, since the early ones set the step for good.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import coupled, decoupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8


class State(NamedTuple):
    """m: the mean; v: the mean square; v_max: the largest of those so far."""

    m: Array
    v: Array
    v_max: Array


def init(hp: Any, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v, v_max = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    m_hat = m / (1 - hp.b1**t)
    v_max = jnp.maximum(v_max, v / (1 - hp.b2**t))
    return -hp.lr * m_hat / (jnp.sqrt(v_max) + hp.eps), State(m, v, v_max)


class TorchHyper(NamedTuple):
    """As `Hyper`; weight_decay: L2, or the share of w, times lr, that is lost each step."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


def torch_update(hp: TorchHyper, t: Array, g: Array, s: State, w: Array):
    m, v, v_max = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    v_max = jnp.maximum(v_max, v)
    m_hat = m / (1 - hp.b1**t)
    return -hp.lr * m_hat / (jnp.sqrt(v_max / (1 - hp.b2**t)) + hp.eps), State(m, v, v_max)


def paper_update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v, v_max = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    v_max = jnp.maximum(v_max, v)
    return -hp.lr * m / (jnp.sqrt(v_max) + hp.eps), State(m, v, v_max)


amsgrad = leafwise(Hyper(), init, update)
DIALECTS = {
    "paper": leafwise(Hyper(), init, paper_update),
    "torch": leafwise(TorchHyper(), init, coupled(torch_update)),
    "torch_decoupled": leafwise(TorchHyper(weight_decay=1e-2), init, decoupled(torch_update)),
}
