"""Algebra of pytrees of arrays: what rules that see the whole tree say with one word."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.errors import InputError
from fnn.types import Key, Params


def widen(tree: Params) -> Params:
    """Every array in at least float32: bfloat16 moments would forget small gradients."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)), tree)


def dot(a: Params, b: Params) -> Array:
    """⟨a, b⟩ over all arrays of two trees."""
    return _total(jax.tree.map(jnp.vdot, a, b))


def norm(a: Params) -> Array:
    """‖a‖₂ over all arrays of a tree; finite wherever it is representable, also where the squares are not."""
    if not jax.tree.leaves(a):
        return jnp.zeros((), jnp.float32)
    up, down = _scales(functools.reduce(jnp.maximum, map(largest, jax.tree.leaves(a))))
    return up * jnp.sqrt(_total(jax.tree.map(lambda x: _squares(down, x).sum(), a)))


def norm_along(x: Array, axes: tuple[int, ...], least: float) -> Array:
    """max(‖x‖₂, least) along these axes of an array, which are kept with length 1; finite as `norm` is."""
    up, down = _scales(jnp.maximum(jnp.abs(x).max(axes, keepdims=True, initial=0), least))
    # The maximum is taken of squares: the root has no derivative at 0.
    return up * jnp.sqrt(jnp.maximum(_squares(down, x).sum(axes, keepdims=True), (down * least) ** 2))


def largest(x: Array) -> Array:
    """max |x|, and 0 of an empty array."""
    return jnp.abs(x).max(initial=0)


def _scales(x: Array) -> tuple[Array, Array]:
    """Powers of 2, s and 1 / s, where numbers up to x, times 1 / s, have squares within the range of their type.

    A gradient of 1e20, finite in float32, would otherwise have an infinite norm, and clipping would make it 0.
    """
    x, info = jax.lax.stop_gradient(x), jnp.finfo(x.dtype)
    one = jnp.ones((), x.dtype)
    exponent = jnp.clip(jnp.frexp(x)[1], info.minexp, -info.minexp)
    exponent = jnp.where((x > 0) & jnp.isfinite(x), exponent, 0)
    return jnp.ldexp(one, exponent), jnp.ldexp(one, -exponent)


def _squares(down: Array, x: Array) -> Array:
    """(down · x)²."""
    # The barrier keeps XLA from making this down² · x², which overflows.
    return jnp.square(jax.lax.optimization_barrier(down * x))


def norm1(a: Params) -> Array:
    """‖a‖₁ over all arrays of a tree."""
    return _total(jax.tree.map(lambda x: jnp.abs(x).sum(), a))


def _total(a: Params) -> Array:
    """The sum of a tree of numbers."""
    return functools.reduce(jnp.add, jax.tree.leaves(a), jnp.zeros((), jnp.float32))


def rms(x: Array) -> Array:
    """√ mean x², of one array; finite as `norm` is."""
    up, down = _scales(largest(x))
    return up * jnp.sqrt(_squares(down, x).mean())


def spread(prefix: Any, tree: Params, name: str) -> Any:
    """The tree with every leaf replaced by the leaf of `prefix` at or above it.

    Raises `InputError`, in which `prefix` is called `name`, where it is no prefix of the tree.
    """
    try:
        return jax.tree.map(lambda leaf, below: jax.tree.map(lambda _: leaf, below), prefix, tree)
    except ValueError:
        structures = f"{jax.tree.structure(prefix)} against {jax.tree.structure(tree)}"
        raise InputError(f"{name} are not a prefix of the parameters' tree: {structures}.") from None


def zeros_like(a: Params) -> Params:
    """The tree of zeros of the same shapes."""
    return jax.tree.map(jnp.zeros_like, a)


def random_like(draw: Callable[..., Array], key: Key, a: Params) -> Params:
    """A tree of `draw(key, shape, dtype)`, `jax.random.normal` say, every array from a key of its own."""
    leaves, tree = jax.tree.flatten(a)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([draw(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)])
