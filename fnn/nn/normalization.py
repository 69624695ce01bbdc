"""Normalization: of each feature over the batch; of an example's features, all, in groups, or by their mean square."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.base.errors import real, require, whole
from fnn.base.types import Scalar
from fnn.nn.axes import NO_WEIGHTS
from fnn.nn.contract import Layer


@jax.custom_vjp
def normalize(
    x: Float[Array, "batch *space features"],
    gamma: Float[Array, " features"],
    beta: Float[Array, " features"],
    eps: Scalar,
) -> tuple[Float[Array, "batch *space features"], Float[Array, " features"], Float[Array, " features"]]:
    """y = γ x̂ + β with x̂ = (x − μ) / √(σ² + ε), over the batch and space; also μ and the biased σ².

    Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithm 1. The backward pass is written by hand below.
    """
    return _normalize_forward(x, gamma, beta, eps)[0]


def _normalize_forward(x, gamma, beta, eps):
    every = tuple(range(x.ndim - 1))
    mu = x.mean(every)
    var = jnp.square(x - mu).mean(every)
    r = jax.lax.rsqrt(var + eps)
    x_hat = (x - mu) * r
    return (gamma * x_hat + beta, mu, var), (x_hat, r, gamma, eps)


def _normalize_backward(residuals, cotangents):
    """Three sums over the batch and space are all there is, of m values of a feature:

    ∂β = Σ ∂y,   ∂γ = Σ ∂y x̂,   ∂x = (γ r / m) (m ∂y − ∂β − x̂ ∂γ) + (∂μ + 2 ∂σ² (x − μ)) / m,   r = 1/√(σ² + ε)
    """
    x_hat, r, gamma, eps = residuals
    d_y, d_mu, d_var = cotangents
    every = tuple(range(x_hat.ndim - 1))
    m = x_hat.size // x_hat.shape[-1]
    d_beta = d_y.sum(every)
    d_gamma = (d_y * x_hat).sum(every)
    d_x = (gamma * r / m) * (m * d_y - d_beta - x_hat * d_gamma) + (d_mu + 2 * d_var * x_hat / r) / m
    d_eps = -(gamma * d_gamma * r**2).sum() / 2
    return d_x, d_gamma, d_beta, jnp.asarray(d_eps, jnp.result_type(eps))


normalize.defvjp(_normalize_forward, _normalize_backward)


def _normalized(x, gamma, beta, eps):
    """`normalize` for layers, which are pickled: functions are by their names, and those of custom_vjp are not."""
    return normalize(x, gamma, beta, eps)


class BatchNorm(NamedTuple):
    """Scale γ and shift β, each `[features]`."""

    gamma: Array
    beta: Array

    AXES = (NO_WEIGHTS, NO_WEIGHTS)


class Running(NamedTuple):
    """Running mean and (biased) variance, each `[features]`, used at inference."""

    mean: Array
    var: Array


def batch_norm(momentum: Scalar = 0.9, eps: Scalar = 1e-6) -> Layer:
    """Batch normalization: by the batch's own statistics in training, by their running averages at inference.

    Of `[batch, …, features]`, by a feature's mean and variance over the batch and all places, as after a convolution.

    running ← momentum · running + (1 − momentum) · batch. ε defaults to the notes' "10e-7", which is 1e-6.
    Training raises `InputError` for one value of a feature, whose output would be β whatever the value is.
    """

    require(real(momentum, 0, 1), f"The momentum of batch normalization is a number from 0 to 1, not {momentum!r}.")
    require(real(eps, 0), f"The ε of batch normalization is a number from 0 on, not {eps!r}.")

    def init(key, x):
        ones, zero = jnp.ones(x.shape[-1:], x.dtype), jnp.zeros(x.shape[-1:], x.dtype)
        return BatchNorm(ones, zero), Running(zero, ones)

    def apply(params, stats, x, key, train):
        epsilon = jnp.asarray(eps, x.dtype)
        if not train:
            r = jax.lax.rsqrt(stats.var + epsilon)
            return params.gamma * (x - stats.mean) * r + params.beta, stats
        several = len(x) * math.prod(x.shape[1:-1]) > 1
        require(
            several, "Batch normalization trains on at least 2 examples at once: one alone gives β, whatever it is."
        )
        y, mu, var = _normalized(x, params.gamma, params.beta, epsilon)
        return y, Running(
            (momentum * stats.mean + (1 - momentum) * mu).astype(x.dtype),
            (momentum * stats.var + (1 - momentum) * var).astype(x.dtype),
        )

    return Layer(init, apply, mixes=True)


def standardize(x: Float[Array, "*any"], axes: tuple[int, ...], eps: Scalar) -> Float[Array, "*any"]:
    """(x − μ) / √(σ² + ε) with the mean and biased variance over `axes`, computed in at least float32."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    off = wide - wide.mean(axes, keepdims=True)
    return off * jax.lax.rsqrt(jnp.square(off).mean(axes, keepdims=True) + jnp.asarray(eps, wide.dtype))


class Scaled(NamedTuple):
    """Scale γ and shift β, each `[features]`."""

    gamma: Array
    beta: Array

    AXES = (NO_WEIGHTS, NO_WEIGHTS)


def _scaled(x):
    """γ = 1 and β = 0."""
    return Scaled(jnp.ones(x.shape[-1:], x.dtype), jnp.zeros(x.shape[-1:], x.dtype))


def layer_norm(eps: Scalar = 1e-6) -> Layer:
    """y = γ (x − μ) / √(σ² + ε) + β, with μ and σ² over the features of one place of one example.

    Of `[batch, …, features]`; the same in training and at inference. Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 4.
    """
    _check_eps("layer", eps)

    def apply(params, stats, x, key, train):
        y = standardize(x, (x.ndim - 1,), eps).astype(x.dtype)
        return params.gamma * y + params.beta, stats

    return Layer(lambda key, x: (_scaled(x), ()), apply)


def group_norm(groups: int, eps: Scalar = 1e-6) -> Layer:
    """y = γ (x − μ) / √(σ² + ε) + β, with μ and σ² over all places and the features of one of the groups.

    Of `[batch, …, features]`, of which neighbors make a group; one group is layer norm over all of an image, and as
    many as features is instance norm. Wu & He 2018, arXiv:1803.08494, eq. 1–4. Raises `InputError` where the groups do
    not divide the features.
    """
    require(whole(groups, 1), f"Group normalization has at least 1 group, not {groups!r}.")
    _check_eps("group", eps)

    def init(key, x):
        n = x.shape[-1]
        require(n % groups == 0, f"The groups of group normalization divide the features, and {groups} does not {n}.")
        return _scaled(x), ()

    def apply(params, stats, x, key, train):
        grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
        within = (*range(1, x.ndim - 1), x.ndim)
        y = standardize(grouped, within, eps).reshape(x.shape).astype(x.dtype)
        return params.gamma * y + params.beta, stats

    return Layer(init, apply)


class Gain(NamedTuple):
    """Scale γ `[features]`."""

    gamma: Array

    AXES = (NO_WEIGHTS,)


def rms_norm(eps: Scalar = 1e-6) -> Layer:
    """y = γ x / √(mean of x² + ε) over the features of one place of one example.

    Of `[batch, …, features]`. Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
    """
    _check_eps("RMS", eps)

    def apply(params, stats, x, key, train):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        square = jnp.square(wide).mean(-1, keepdims=True)
        y = (wide * jax.lax.rsqrt(square + jnp.asarray(eps, wide.dtype))).astype(x.dtype)
        return params.gamma * y, stats

    return Layer(lambda key, x: (Gain(jnp.ones(x.shape[-1:], x.dtype)), ()), apply)


def _check_eps(which, eps):
    require(real(eps, 0), f"The ε of {which} normalization is a number from 0 on, not {eps!r}.")
