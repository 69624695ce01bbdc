"""Algebra of pytrees of arrays: what rules that see the whole tree say with one word."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import InputError
from fnn.base.types import Key, Params


def widen(tree: Params) -> Params:
    """Every array in at least float32: bfloat16 moments would forget small gradients."""
    # `result_type` of an array gives the dtype that JAX has for it: NumPy's float64 is float32 here, without x64.
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)), tree)


def cast_like(params: Params, tree: Params) -> Params:
    """The tree with every array in the dtype that JAX has for the parameter at its place."""
    return jax.tree.map(lambda w, x: x.astype(jnp.result_type(w)), params, tree)


def dot(a: Params, b: Params) -> Array:
    """⟨a, b⟩ over all arrays of two trees."""
    return _total(jax.tree.map(jnp.vdot, a, b))


def norm(a: Params) -> Array:
    """‖a‖₂ over all arrays of a tree."""
    return jnp.sqrt(_total(jax.tree.map(lambda x: jnp.square(x).sum(), a)))


def norm_along(x: Array, axes: tuple[int, ...], least: float) -> Array:
    """max(‖x‖₂, least) along these axes of an array, which are kept with length 1."""
    # The maximum is taken of squares: the root has no derivative at 0.
    return jnp.sqrt(jnp.maximum(jnp.square(x).sum(axes, keepdims=True), least**2))


def norm1(a: Params) -> Array:
    """‖a‖₁ over all arrays of a tree."""
    return _total(jax.tree.map(lambda x: jnp.abs(x).sum(), a))


def _total(a: Params) -> Array:
    """The sum of a tree of numbers."""
    return functools.reduce(jnp.add, jax.tree.leaves(a), jnp.zeros((), jnp.float32))


def rms(x: Array) -> Array:
    """√ mean x², of one array."""
    return jnp.sqrt(jnp.square(x).mean())


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
