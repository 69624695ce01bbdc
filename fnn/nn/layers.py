"""Layers: pairs of pure functions on batches `[batch, features]`.

    init(key, x)                        -> (params, stats)       x: an input batch, or only its shape and dtype
    apply(params, stats, x, key, train) -> (y, stats)

`params` is what training changes, `stats` what a layer remembers without a gradient (running averages), `key` the
source of a layer's noise (None where none is drawn) and `train` the static switch between training and inference.

A layer's container of parameters declares which axes of its arrays are outputs, inputs and space, see `fnn.nn.axes`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.base.checks import check_key
from fnn.base.errors import InputError, real, require, whole
from fnn.base.types import Initializer, Key, Params, Scalar, Spec
from fnn.nn.axes import NO_WEIGHTS, Axes
from fnn.nn.init import he, zeros


class Layer(NamedTuple):
    """Two pure functions, see the module's docstring for their arguments.

    parts: the layers that it is made of, if any.
    mixes: whether an example's output in training depends on the other examples of its batch.
    """

    init: Callable[[Key, Spec], tuple[Params, Any]]
    apply: Callable[[Params, Any, Array, Key | None, bool], tuple[Array, Any]]
    parts: tuple["Layer", ...] = ()
    mixes: bool = False


class Affine(NamedTuple):
    """w `[n_out, n_in]`, b `[n_out]`.

    A row of w is a unit. Laid so, the product and both of its gradients contract the last axis of their left operand,
    which is what matrix libraries do fastest: stored the other way round, w's gradient costs half as much again.
    """

    w: Array
    b: Array

    AXES = (Axes(outputs=(0,), inputs=(1,)), NO_WEIGHTS)


def affine(n_out: int, w: Initializer | None = None, b: Initializer = zeros) -> Layer:
    """y = x wᵀ + b, from `[batch, n_in]` to `[batch, n_out]`; `w` defaults to He's initializer."""
    require(whole(n_out, 1), f"An affine layer needs at least 1 output, not {n_out!r}.")
    for what, initializer in (("w", w), ("b", b)):
        given = initializer is None or callable(initializer)
        require(given, f"An initializer of {what} is a function (key, shape, dtype) -> array, not {initializer!r}.")
    w = he() if w is None else w

    def init(key, x):
        check_key(key)
        k_w, k_b = jax.random.split(key)
        return Affine(w(k_w, (x.shape[-1], n_out), x.dtype).T, b(k_b, (n_out,), x.dtype)), ()

    def apply(params, stats, x, key, train):
        return jnp.einsum("bi,oi->bo", x, params.w) + params.b, stats

    return Layer(init, apply)


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


@jax.custom_vjp
def normalize(
    x: Float[Array, "batch features"],
    gamma: Float[Array, " features"],
    beta: Float[Array, " features"],
    eps: Scalar,
) -> tuple[Float[Array, "batch features"], Float[Array, " features"], Float[Array, " features"]]:
    """y = γ x̂ + β with x̂ = (x − μ) / √(σ² + ε), over the batch; also μ and the biased σ².

    Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithm 1. The backward pass is written by hand below.
    """
    return _normalize_forward(x, gamma, beta, eps)[0]


def _normalize_forward(x, gamma, beta, eps):
    mu = x.mean(0)
    var = jnp.square(x - mu).mean(0)
    r = jax.lax.rsqrt(var + eps)
    x_hat = (x - mu) * r
    return (gamma * x_hat + beta, mu, var), (x_hat, r, gamma, eps)


def _normalize_backward(residuals, cotangents):
    """Three sums over the batch are all there is:

    ∂β = Σ ∂y,   ∂γ = Σ ∂y x̂,   ∂x = (γ r / m) (m ∂y − ∂β − x̂ ∂γ) + (∂μ + 2 ∂σ² (x − μ)) / m,   r = 1/√(σ² + ε)
    """
    x_hat, r, gamma, eps = residuals
    d_y, d_mu, d_var = cotangents
    m = x_hat.shape[0]
    d_beta = d_y.sum(0)
    d_gamma = (d_y * x_hat).sum(0)
    d_x = (gamma * r / m) * (m * d_y - d_beta - x_hat * d_gamma) + (d_mu + 2 * d_var * x_hat / r) / m
    d_eps = -(gamma * d_gamma * r**2).sum() / 2
    return d_x, d_gamma, d_beta, jnp.asarray(d_eps, jnp.result_type(eps))


normalize.defvjp(_normalize_forward, _normalize_backward)


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

    running ← momentum · running + (1 − momentum) · batch. ε defaults to the notes' "10e-7", which is 1e-6.
    Training raises `InputError` for a batch of one example, whose output would be β whatever the example is.
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
        require(
            len(x) > 1, "Batch normalization trains on at least 2 examples at once: one alone gives β, whatever it is."
        )
        y, mu, var = normalize(x, params.gamma, params.beta, epsilon)
        return y, Running(
            (momentum * stats.mean + (1 - momentum) * mu).astype(x.dtype),
            (momentum * stats.var + (1 - momentum) * var).astype(x.dtype),
        )

    return Layer(init, apply, mixes=True)


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


def serial(*layers: Layer) -> Layer:
    """One layer after the other. Shapes are found by tracing, so no layer takes its input's width as an argument."""
    strangers = [layer for layer in layers if not isinstance(layer, Layer)]
    require(not strangers, f"Layers go in series, as affine(10) gives one; not {strangers}.")

    def init(key, x):
        check_key(key)
        params, stats = [], []
        for layer, k in zip(layers, jax.random.split(key, len(layers)), strict=True):
            p, s = layer.init(k, x)
            # At inference no layer needs a key, and no layer changes its shape with `train`.
            x, _ = jax.eval_shape(lambda p, s, x, f=layer.apply: f(p, s, x, None, False), p, s, x)
            params.append(p)
            stats.append(s)
        return tuple(params), tuple(stats)

    def apply(params, stats, x, key, train):
        outputs, after = through(layers, params, stats, x, key, train)
        return outputs[-1] if outputs else x, after

    return Layer(init, apply, layers, any(layer.mixes for layer in layers))


def through(
    layers: Sequence[Layer], params: Params, stats: Any, x: Array, key: Key | None, train: bool
) -> tuple[tuple[Array, ...], Any]:
    """The output of every one of `layers` in series (`network.parts`, say), and their stats afterwards."""
    keys = [None] * len(layers) if key is None else jax.random.split(key, len(layers))
    outputs, after = [], []
    for layer, p, s, k in zip(layers, params, stats, keys, strict=True):
        x, s = layer.apply(p, s, x, k, train)
        outputs.append(x)
        after.append(s)
    return tuple(outputs), tuple(after)
