"""RAdam: Adam that divides by √v̂ only once its variance is known. Liu et al. 2020, arXiv:1908.03265, Algorithm 2.

    ρ∞ = 2 / (1 − b2) − 1        ρ = ρ∞ − 2 t b2ᵗ / (1 − b2ᵗ)
    ρ ≥ threshold   w ← w − lr · r · m̂ / (√v̂ + eps),    r = √((ρ − 4)(ρ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ))
    else            w ← w − lr · m̂

    torch   ρ > 5   w ← w − lr · r · √(1 − b2ᵗ) · m̂ / (√v + eps)

The threshold is 4 in the paper and 5 in optax. torch's eps stands beside the uncorrected √v. Its gradient has an L2
term; as torch_decoupled (`RAdam(decoupled_weight_decay=True)`) lr · weight_decay · w is added to the step instead.

When not to use it: with a warm-up, which does the same job.
"""

from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Interval, Kept, NonNegative, Scalar
from fnn.optim.adam import State, init, moments
from fnn.rule.contract import coupled, decoupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; b1, b2: decay rates of the mean and the mean square; eps: keeps the divisor from 0;
    threshold: the ρ from which on the step is adaptive."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    threshold: Annotated[Scalar, Interval("[4, ∞)")] = 5.0


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    m_hat, v_hat, s = moments(hp, t, g, s)
    rho_inf = 2 / (1 - hp.b2) - 1
    rho = rho_inf - 2 * t * hp.b2**t / (1 - hp.b2**t)
    r = jnp.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    step = jnp.where(rho >= hp.threshold, r * m_hat / (jnp.sqrt(v_hat) + hp.eps), m_hat)
    return -hp.lr * step, s


class TorchHyper(NamedTuple):
    """As `Hyper`, with the threshold 5; weight_decay: L2, or the share of w, times lr, that is lost each step."""

    lr: NonNegative = 1e-3
    b1: Kept = 0.9
    b2: Kept = 0.999
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0


def torch_update(hp: TorchHyper, t: Array, g: Array, s: State, w: Array):
    early_eps = hp.eps / jnp.sqrt(1 - hp.b2**t)
    return update(Hyper(hp.lr, hp.b1, hp.b2, early_eps), t, g, s, w)


radam = leafwise(Hyper(), init, update)
DIALECTS = {
    "torch": leafwise(TorchHyper(), init, coupled(torch_update)),
    "torch_decoupled": leafwise(TorchHyper(), init, decoupled(torch_update)),
}
