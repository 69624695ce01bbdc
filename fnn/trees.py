"""Algebra of pytrees of arrays: what rules that see the whole tree say with one word."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.types import Key, Params


def widen(tree: Params) -> Params:
    """Every array in at least float32: bfloat16 moments would forget small gradients."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)), tree)


def dot(a: Params, b: Params) -> Array:
    """⟨a, b⟩ over all arrays of two trees."""
    return _total(jax.tree.map(jnp.vdot, a, b))


def norm(a: Params) -> Array:
    """‖a‖₂ over all arrays of a tree."""
    return jnp.sqrt(_total(jax.tree.map(lambda x: jnp.square(x).sum(), a)))


def norm1(a: Params) -> Array:
    """‖a‖₁ over all arrays of a tree."""
    return _total(jax.tree.map(lambda x: jnp.abs(x).sum(), a))


def _total(a: Params) -> Array:
    """The sum of a tree of numbers."""
    return functools.reduce(jnp.add, jax.tree.leaves(a), jnp.zeros((), jnp.float32))


def rms(x: Array) -> Array:
    """√ mean x², of one array."""
    return jnp.sqrt(jnp.square(x).mean())


def zeros_like(a: Params) -> Params:
    """The tree of zeros of the same shapes."""
    return jax.tree.map(jnp.zeros_like, a)


def random_like(draw: Callable[..., Array], key: Key, a: Params) -> Params:
    """A tree of `draw(key, shape, dtype)`, `jax.random.normal` say, every array from a key of its own."""
    leaves, tree = jax.tree.flatten(a)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([draw(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)])
