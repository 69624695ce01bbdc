"""Initializers: `(key, shape, dtype) -> array`, the signature of `jax.nn.initializers`.

A weight matrix has shape `[n_in, n_out]`; axes before those two (a convolution's window) count into both fans.
Every factory takes its scales as numbers that may be traced, so a sweep over them is one compilation.

The fan-scaled families differ in one number, the variance of a weight:

    xavier   1 / n_in             as the notes (§2.2.3) and most books write it
    lecun    1 / n_in             LeCun et al. 1998, Efficient BackProp, eq. 16
    glorot   2 / (n_in + n_out)   Glorot & Bengio 2010, eq. 12 (normal) and eq. 16 (uniform)
    he       2 / n_in             He et al. 2015, arXiv:1502.01852, eq. 10

and each takes the shape of the distribution as `draw`: `gaussian`, `flat` or `truncated`, all of unit variance.
The notes' listing of Xavier multiplies by √n where it must divide; this is the corrected form.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base import linear_algebra
from fnn.base.checks import check_key
from fnn.base.errors import listed, real, require
from fnn.base.types import Initializer, Key, Scalar

Draw = Callable[..., Array]


def gaussian(key: Key, shape: Sequence[int], dtype=jnp.float32) -> Array:
    """N(0, 1)."""
    check_key(key)
    return jax.random.normal(key, shape, dtype)


def flat(key: Key, shape: Sequence[int], dtype=jnp.float32) -> Array:
    """U(−√3, √3): uniform, variance 1."""
    check_key(key)
    return jax.random.uniform(key, shape, dtype, -math.sqrt(3), math.sqrt(3))


def truncated(key: Key, shape: Sequence[int], dtype=jnp.float32) -> Array:
    """N(0, 1) cut at ±2 and stretched back to variance 1."""
    check_key(key)
    # Var[z | −2 ≤ z ≤ 2] = 1 − 2·2φ(2)/(2Φ(2) − 1)
    density = math.exp(-2.0) / math.sqrt(2 * math.pi)
    kept = math.erf(math.sqrt(2))
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) / math.sqrt(1 - 4 * density / kept)


def constant(value: Scalar) -> Initializer:
    """Every entry `value`. Equal weights stay equal: see `experiments.initial_weights.zero_init_symmetry`."""
    return lambda key, shape, dtype=jnp.float32: jnp.full(shape, value, dtype)


zeros: Initializer = constant(0.0)


def normal(std: Scalar, draw: Draw = gaussian) -> Initializer:
    """std · z with z of variance 1: the notes' `randn(n_in, n_out) * std`."""
    require(real(std, 0), f"A standard deviation is a number from 0 on, not {std!r}.")
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(std, dtype) * draw(key, shape, dtype)


def uniform(limit: Scalar) -> Initializer:
    """U(−limit, limit), variance limit² / 3."""
    return lambda key, shape, dtype=jnp.float32: (
        jnp.asarray(limit, dtype) * jax.random.uniform(key, shape, dtype, -1.0, 1.0)
    )


def truncated_normal(std: Scalar) -> Initializer:
    """N(0, ·) cut at two standard deviations, with standard deviation `std` after the cut."""
    return normal(std, truncated)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(n_in, n_out): how many inputs a unit sums, and how many units an input feeds."""
    require(listed(shape), f"The shape of an array is a tuple of whole numbers, not {shape!r}.")
    require(len(shape) >= 2, f"An initializer of matrices needs a shape of at least 2 axes, not {tuple(shape)}.")
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


def _fan_scaled(variance: Callable[[int, int], float], draw: Draw, gain: Scalar) -> Initializer:
    def initialize(key, shape, dtype=jnp.float32):
        std = math.sqrt(variance(*fans(shape)))
        return jnp.asarray(gain * std, dtype) * draw(key, shape, dtype)

    return initialize


def xavier(draw: Draw = gaussian, gain: Scalar = 1.0) -> Initializer:
    """Variance gain² / n_in, the notes' form."""
    return _fan_scaled(lambda n_in, n_out: 1 / n_in, draw, gain)


def lecun(draw: Draw = gaussian, gain: Scalar = 1.0) -> Initializer:
    """Variance gain² / n_in: what the notes call Xavier's, by the name of its first author."""
    return xavier(draw, gain)


def glorot(draw: Draw = gaussian, gain: Scalar = 1.0) -> Initializer:
    """Variance gain² · 2 / (n_in + n_out): the compromise between forward and backward variance."""
    return _fan_scaled(lambda n_in, n_out: 2 / (n_in + n_out), draw, gain)


def he(draw: Draw = gaussian, gain: Scalar = 1.0) -> Initializer:
    """Variance gain² · 2 / n_in: ReLU lets half of the second moment through, so it is doubled."""
    return _fan_scaled(lambda n_in, n_out: 2 / n_in, draw, gain)


def orthogonal(gain: Scalar = 1.0) -> Initializer:
    """gain · Q with orthonormal rows or columns, whichever are fewer. Saxe et al. 2014, arXiv:1312.6120, §3.

    Q is uniform over such matrices (Haar), which needs the signs of R's diagonal: Mezzadri 2007,
    arXiv:math-ph/0609050, eq. 5.1.
    """

    def initialize(key, shape, dtype=jnp.float32):
        n_in, n_out = fans(shape)[0], shape[-1]
        tall = (max(n_in, n_out), min(n_in, n_out))
        # LAPACK has no QR below single precision.
        q, r = linear_algebra.qr(jax.random.normal(key, tall, jnp.promote_types(dtype, jnp.float32)))
        q = (q * jnp.sign(jnp.diagonal(r))).astype(dtype)
        return jnp.asarray(gain, dtype) * (q if n_in >= n_out else q.T).reshape(shape)

    return initialize
