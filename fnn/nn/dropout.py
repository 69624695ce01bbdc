"""Dropout, in the notes' form and in that of today's libraries."""

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import InputError, real, require
from fnn.base.types import Key, Scalar
from fnn.nn.contract import Layer


def _keep(key: Key | None, ratio: Scalar, x: Array) -> Array:
    if key is None:
        raise InputError("Dropout draws a mask in training: pass apply a key, not None.")
    return jax.random.uniform(key, x.shape) >= ratio


def dropout(ratio: Scalar) -> Layer:
    """The notes' dropout (§4.3): a unit is dropped with probability `ratio`; inference scales by the *keep* ratio.

    train  y = mask · x,  mask ~ Bernoulli(1 − ratio);      inference  y = (1 − ratio) x.
    Srivastava et al. 2014, §4. (The notes say "deletion ratio" for the factor at inference; it is what is kept.)
    """
    require(real(ratio, 0, 1), f"The ratio of dropout is a number from 0 to 1, not {ratio!r}.")

    def apply(params, stats, x, key, train):
        y = jnp.where(_keep(key, ratio, x), x, 0) if train else ((1 - ratio) * x).astype(x.dtype)
        return y, stats

    return Layer(lambda key, x: ((), ()), apply)


def inverted_dropout(ratio: Scalar) -> Layer:
    """Dropout with the scale moved into training: y = mask · x / (1 − ratio); inference is the identity.

    The same expectation as `dropout`, and the form of today's libraries. `ratio` must be below 1.
    """
    below = real(ratio, 0, 1) and (isinstance(ratio, jax.core.Tracer) or bool(ratio < 1))
    require(below, f"The ratio of inverted dropout is a number from 0 on and below 1, not {ratio!r}.")

    def apply(params, stats, x, key, train):
        return (jnp.where(_keep(key, ratio, x), x / (1 - ratio), 0).astype(x.dtype) if train else x), stats

    return Layer(lambda key, x: ((), ()), apply)
