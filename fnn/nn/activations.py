"""Activations, and layers of any function that has nothing to learn."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import require
from fnn.base.types import Scalar
from fnn.nn.contract import Layer


def elementwise(f: Callable[[Array], Array]) -> Layer:
    """y = f(x), nothing to learn."""
    require(callable(f), f"An elementwise layer takes a function of arrays, not {f!r}.")
    return Layer(lambda key, x: ((), ()), lambda params, stats, x, key, train: (f(x), stats))


def identity(x: Array) -> Array:
    """x."""
    return x


def relu(x: Array) -> Array:
    """max(x, 0), with slope 0 at 0 as in the notes. (The gradient of `jnp.maximum` there would be 1/2.)"""
    # Not `x > 0`: a NaN must pass, or a diverged network would look like a dead one.
    return jnp.where(x <= 0, 0, x)


def leaky_relu(x: Array, slope: Scalar = 0.01) -> Array:
    """x where positive, slope · x elsewhere. Maas et al. 2013, eq. 2."""
    return jnp.where(x > 0, x, slope * x).astype(x.dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^−x), written so that neither end overflows."""
    return jax.nn.sigmoid(x)


def tanh(x: Array) -> Array:
    """(e^x − e^−x) / (e^x + e^−x)."""
    return jnp.tanh(x)


def softplus(x: Array) -> Array:
    """ln(1 + e^x)."""
    return jnp.logaddexp(x, 0.0)


def gelu(x: Array) -> Array:
    """x Φ(x), exact (by erf). Hendrycks & Gimpel 2016, arXiv:1606.08415, eq. 1."""
    return jax.nn.gelu(x, approximate=False)
