"""NAdam: Adam with Nesterov's momentum. Dozat 2016, ICLR workshop, "Incorporating Nesterov Momentum into Adam".

    m ← b1 · m + (1 − b1) · g       v ← b2 · v + (1 − b2) · g²       v̂ = v / (1 − b2ᵗ)
    optax   m̄ = b1 · m / (1 − b1ᵗ⁺¹) + (1 − b1) · g / (1 − b1ᵗ)
    torch   m̄ = μₜ₊₁ · m / (1 − ∏ᵗ⁺¹ μ) + (1 − μₜ) · g / (1 − ∏ᵗ μ),   μₜ = b1 · (1 − ½ · 0.96^(t · psi))
    w ← w − lr · m̄ / (√v̂ + eps)

torch's momentum μ rises from b1/2 to b1, and its gradient has an L2 term. torch keeps ∏ μ in its default type, float32,
even where weights are float64; here it has the weights' type.

When not to use it: as Adam.
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
    """m̄, v̂ and the state, for all rules that are built on NAdam's."""
    m, v = s
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    m_bar = hp.b1 * (m / (1 - hp.b1 ** (t + 1))) + (1 - hp.b1) * (g / (1 - hp.b1**t))
    v_hat = v / (1 - hp.b2**t)
    return m_bar, v_hat, State(m, v)


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m_bar, v_hat, s = moments(hp, t, g, s)
    return -hp.lr * m_bar / (jnp.sqrt(v_hat) + hp.eps), s


class TorchHyper(NamedTuple):
    """As `Hyper`; psi: how fast the momentum rises from b1/2 to b1; weight_decay: L2."""

    lr: NonNegative = 2e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    psi: NonNegative = 4e-3
    weight_decay: NonNegative = 0.0


class TorchState(NamedTuple):
    """m: the mean; v: the mean square; product: of the momenta so far."""

    m: Array
    v: Array
    product: Array


def torch_init(hp: TorchHyper, w: Array):
    return TorchState(jnp.zeros_like(w), jnp.zeros_like(w), jnp.ones((), w.dtype))


def torch_update(hp: TorchHyper, t: Array, g: Array, s: TorchState, w: Array):
    m, v, product = s
    mu, mu_next = (hp.b1 * (1 - 0.96 ** (k * hp.psi) / 2) for k in (t, t + 1))
    product = product * mu
    m = hp.b1 * m + (1 - hp.b1) * g
    v = hp.b2 * v + (1 - hp.b2) * g**2
    m_bar = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
    v_hat = v / (1 - hp.b2**t)
    return -hp.lr * m_bar / (jnp.sqrt(v_hat) + hp.eps), TorchState(m, v, product)


nadam = leafwise(Hyper(), init, update)
DIALECTS = {"torch": leafwise(TorchHyper(), torch_init, coupled(torch_update))}
