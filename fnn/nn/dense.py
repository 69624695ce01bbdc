"""Affine layers: every output a sum over all inputs."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.base.checks import check_key
from fnn.base.errors import require, whole
from fnn.base.types import Initializer, Key
from fnn.nn.axes import NO_WEIGHTS, Axes
from fnn.nn.contract import Layer
from fnn.nn.init import he, zeros


class Affine(NamedTuple):
    """w `[n_out, n_in]`, b `[n_out]`.

    A row of w is a unit. Laid so, the product and both of its gradients contract the last axis of their left operand,
    which is what matrix libraries do fastest: stored the other way round, w's gradient costs half as much again.
    """

    w: Array
    b: Array

    AXES = (Axes(outputs=(0,), inputs=(1,)), NO_WEIGHTS)


def product(x: Float[Array, "*places n_in"], w: Float[Array, "n_out n_in"]) -> Float[Array, "*places n_out"]:
    """x wᵀ at every place, as one product of two matrices: loops over places cost twice as much on CPU."""
    y = jnp.einsum("bi,oi->bo", x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), w)
    return y.reshape(*x.shape[:-1], len(w))


def check_initializers(**initializers: Initializer | None) -> None:
    """Raise `InputError` where one of them is no function; None stands for a layer's default."""
    for what, initializer in initializers.items():
        given = initializer is None or callable(initializer)
        require(given, f"An initializer of {what} is a function (key, shape, dtype) -> array, not {initializer!r}.")


def affine_params(key: Key, n_in: int, n_out: int, w: Initializer, b: Initializer, dtype) -> Affine:
    """The parameters of an affine layer: `w` draws `[n_in, n_out]`, the shape that initializers read fans from."""
    check_key(key)
    k_w, k_b = jax.random.split(key)
    return Affine(w(k_w, (n_in, n_out), dtype).T, b(k_b, (n_out,), dtype))


def affine(n_out: int, w: Initializer | None = None, b: Initializer = zeros) -> Layer:
    """y = x wᵀ + b, from `[batch, …, n_in]` to `[batch, …, n_out]`; `w` defaults to He's initializer."""
    require(whole(n_out, 1), f"An affine layer needs at least 1 output, not {n_out!r}.")
    check_initializers(w=w, b=b)
    w = he() if w is None else w

    def init(key, x):
        return affine_params(key, x.shape[-1], n_out, w, b, x.dtype), ()

    def apply(params, stats, x, key, train):
        return product(x, params.w) + params.b, stats

    return Layer(init, apply)
