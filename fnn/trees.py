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
    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)), jnp.zeros((), jnp.float32))


def norm(a: Params) -> Array:
    """‖a‖₂ over all arrays of a tree."""
    return jnp.sqrt(dot(a, a))


def zeros_like(a: Params) -> Params:
    """The tree of zeros of the same shapes."""
    return jax.tree.map(jnp.zeros_like, a)


def random_like(draw: Callable[..., Array], key: Key, a: Params) -> Params:
    """A tree of `draw(key, shape, dtype)`, `jax.random.normal` say, every array from a key of its own."""
    leaves, tree = jax.tree.flatten(a)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([draw(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)])
