"""Algebra of pytrees of arrays: vector operations, norms, casts."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import InputError
from fnn.base.types import Key, Params


@jax.tree_util.register_pytree_node_class
class Vector:
    """A tree of arrays as one vector: + − · / ** act array by array, and with a number on every array.

    It is a pytree whose only child is `tree`.
    """

    __slots__ = ("tree",)

    def __init__(self, tree: Params):
        self.tree = tree

    def tree_flatten(self) -> tuple[tuple[Params], None]:
        """The children and no static data, for JAX."""
        return (self.tree,), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Params]) -> "Vector":
        """The vector of a tree."""
        return cls(*children)

    def __neg__(self):
        return each(operator.neg)(self)

    def __add__(self, other):
        return _binary(operator.add, self, other)

    def __radd__(self, other):
        return _binary(operator.add, other, self)

    def __sub__(self, other):
        return _binary(operator.sub, self, other)

    def __rsub__(self, other):
        return _binary(operator.sub, other, self)

    def __mul__(self, other):
        return _binary(operator.mul, self, other)

    def __rmul__(self, other):
        return _binary(operator.mul, other, self)

    def __truediv__(self, other):
        return _binary(operator.truediv, self, other)

    def __rtruediv__(self, other):
        return _binary(operator.truediv, other, self)

    def __pow__(self, power):
        return _binary(operator.pow, self, power)


def each(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function on vectors that applies f array by array."""
    return lambda first, *others: jax.tree.map(f, first, *others)


def _binary(operation, a, b):
    if isinstance(a, Vector) and isinstance(b, Vector):
        return jax.tree.map(operation, a, b)
    if isinstance(a, Vector):
        return jax.tree.map(lambda x: operation(x, b), a)
    return jax.tree.map(lambda x: operation(a, x), b)


def sqrt(a: Vector) -> Vector:
    """The square root of every number of a vector."""
    return each(jnp.sqrt)(a)


def plain(tree: Any) -> Any:
    """The tree with every `Vector` in it replaced by that vector's tree."""
    is_vector = lambda x: isinstance(x, Vector)
    return jax.tree.map(lambda x: x.tree if is_vector(x) else x, tree, is_leaf=is_vector)


def ratio(a: Array, b: Array, otherwise: float | int = 0) -> Array:
    """a / b; `otherwise` where b is 0, without a division by it."""
    return jnp.where(b == 0, otherwise, a / jnp.where(b == 0, 1, b))


def widen(tree: Params) -> Params:
    """The tree with every array in at least float32: moments in bfloat16 would lose small gradients to rounding."""
    # `result_type` of an array gives the dtype that JAX has for it: NumPy's float64 is float32 here, without x64.
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)), tree)


def cast_like(params: Params, tree: Params) -> Params:
    """The tree with every array in the dtype that JAX has for the corresponding parameter."""
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

    Raises `InputError`, in which `prefix` is called `name`, where it is not a prefix of the tree.
    """
    try:
        return jax.tree.map(lambda leaf, below: jax.tree.map(lambda _: leaf, below), prefix, tree)
    except ValueError:
        structures = f"{jax.tree.structure(prefix)} against {jax.tree.structure(tree)}"
        raise InputError(f"{name} are not a prefix of the parameters' tree: {structures}.") from None


def zeros_like(a: Params) -> Params:
    """The tree with every array replaced by zeros of its shape and dtype."""
    return jax.tree.map(jnp.zeros_like, a)


def random_like(draw: Callable[..., Array], key: Key, a: Params) -> Params:
    """A tree like `a` of `draw(key, shape, dtype)`, `jax.random.normal` say, with a different key for every array."""
    leaves, tree = jax.tree.flatten(a)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([draw(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)])
