"""Adam. Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1; the notes leave its section (§1.4) empty.

    m ← b1 · m + (1 − b1) · g       v ← b2 · v + (1 − b2) · g²
    paper   w ← w − lr · m̂ / (√v̂ + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)     (also optax)
    book    w ← w − lr_t · m / (√v + eps),  lr_t = lr · √(1 − b2ᵗ) / (1 − b1ᵗ),   eps 1e-7
    torch   the paper's, g with an L2 term

The book's is the paper's faster form (end of §2), whose eps stands beside the uncorrected √v: the paper's with
eps_t = eps / √(1 − b2ᵗ), so the first steps of tiny gradients are shorter.

When not to use it: where weight decay matters, since an L2 term is rescaled with the gradient.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Kept, NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8


class State(NamedTuple):
    """m: the mean; v: the mean square."""

    m: Array
    v: Array


def init(hp: Any, w: Array):
    return State(jnp.zeros_like(w), jnp.zeros_like(w))


def moments(hp: Any, t: Array, g: Array, s: State):
    """m̂, v̂ and the state, for all rules that are built on Adam's."""
    m, v = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    m_hat = m / (1 - hp.b1**t)
    v_hat = v / (1 - hp.b2**t)
    return m_hat, v_hat, State(m, v)


def update(hp: Any, t: Array, g: Array, s: State, w: Array):
    m_hat, v_hat, s = moments(hp, t, g, s)
    return -hp.lr * m_hat / (jnp.sqrt(v_hat) + hp.eps), s


def book_update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m, v = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    lr_t = hp.lr * jnp.sqrt(1 - hp.b2**t) / (1 - hp.b1**t)
    return -lr_t * m / (jnp.sqrt(v) + hp.eps), State(m, v)


class TorchHyper(NamedTuple):
    """As `Hyper`; weight_decay: L2, scaled by the moments as the gradient is."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


adam = leafwise(Hyper(), init, update)
DIALECTS = {
    "book": leafwise(Hyper(eps=1e-7), init, book_update),
    "torch": leafwise(TorchHyper(), init, coupled(update)),
}
