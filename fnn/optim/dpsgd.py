"""DP-SGD: SGD with clipped, noised gradients of single examples. Abadi et al. 2016, arXiv:1607.00133, Algorithm 1.

    ḡᵢ = gᵢ / max(1, ‖gᵢ‖ / clip)                          every example's gradient, over all weights
    w ← w − lr / B · (Σ ḡᵢ + clip · noise · n)              n ~ N(0, 1), one number per weight; B examples

Takes the gradients of the examples one by one, `Extra.example_grads`, and not their mean. It spends privacy at every
step and
keeps no account: an accountant turns clip, noise, B and the number of steps into (ε, δ).

When not to use it: where privacy is not required; noise and clipping cost accuracy.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import norm
from fnn.base.types import NonNegative, Params, Positive
from fnn.rule.contract import Extra, composed, needed


class Hyper(NamedTuple):
    """lr: step size; clip: the longest gradient an example may have; noise: its multiplier."""

    lr: NonNegative = 0.01
    clip: Positive = 1.0
    noise: NonNegative = 1.0


def init(hp: Hyper, w: Params):
    return ()


def update(hp: Hyper, t: Array, g: Params, s: tuple[()], w: Params, extra: Extra):
    example_grads, key = needed(extra, "example_grads", "key")
    examples = example_grads()
    share = jnp.minimum(hp.clip / jnp.maximum(jax.vmap(norm)(examples), 1e-38), 1)
    total = jax.tree.map(lambda g: jnp.tensordot(share.astype(g.dtype), g, 1), examples)
    sums, tree = jax.tree.flatten(total)
    _, *keys = jax.random.split(key, 1 + len(sums))  # optax keeps the first for the next update
    size = hp.clip * hp.noise
    noisy = [g + size * jax.random.normal(k, g.shape, g.dtype) for g, k in zip(sums, keys, strict=True)]
    return tree.unflatten([-hp.lr * (g / len(share)) for g in noisy]), s


dpsgd = composed(Hyper(), init, update)
