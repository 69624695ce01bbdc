"""SGD with decaying Gaussian noise. Neelakantan et al. 2015, arXiv:1511.06807, eq. 1–2.

    w ← w − lr · (g + √(eta / tᵞ) · n)        n ~ N(0, 1), one number per weight

Each update's noise comes from the second half of the key given to it, the half that optax draws from.

When not to use it: with small minibatches, whose own noise is larger.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import Vector, random_like
from fnn.base.types import NonNegative
from fnn.rule.contract import Extra, needed, treewise


class Hyper(NamedTuple):
    """lr: step size; eta: the noise's variance at first; gamma: how fast it falls with t."""

    lr: NonNegative = 0.01
    eta: NonNegative = 0.01
    gamma: NonNegative = 0.55


def init(hp: Hyper, w: Vector):
    return ()


def update(hp: Hyper, t: Array, g: Vector, s: tuple[()], w: Vector, extra: Extra):
    [key] = needed(extra, "key")
    size = jnp.sqrt(hp.eta / t**hp.gamma)
    noise = random_like(jax.random.normal, jax.random.split(key)[1], g)
    return -hp.lr * (g + size * noise), s


noisy_sgd = treewise(Hyper(), init, update)
