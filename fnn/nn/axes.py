"""Which axes of a weight are outputs, inputs and space, for rules that depend on it.

A layer's container of parameters declares the axes of its arrays: `AXES`, for each of its fields an `Axes`, or a
`Convention` where the number of axes varies. Arrays that lie in no such container (flax's, equinox's, or bare ones) are
read by a `Convention`, which each rule that depends on axes takes as an argument.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from fnn.base.errors import require, whole
from fnn.base.types import Params


@dataclass(frozen=True)
class Axes:
    """The numbers of a weight's axes. A bias, a scale or a shift has none of any kind.

    outputs: the units, along the other axes lie the weights of one unit; in a table, the features of an entry.
    inputs: what a unit sums over, besides the places of its window.
    space: the window of a convolution.
    entries: those of a table, of which an example selects one, as of an embedding: nothing is summed over them.
    known: False where neither a layer nor a convention says which axes the array has.
    """

    outputs: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    space: tuple[int, ...] = ()
    entries: tuple[int, ...] = ()
    known: bool = True

    def __post_init__(self):
        kinds = (self.outputs, self.inputs, self.space, self.entries)
        sound = all(isinstance(kind, tuple) and all(whole(axis) for axis in kind) for kind in kinds)
        require(
            sound and len({*sum(kinds, ())}) == len(sum(kinds, ())),
            f"Axes are tuples of different whole numbers from 0 on, unlike {self}.",
        )

    @property
    def weights(self) -> bool:
        """Whether the array is one of weights, with outputs and inputs."""
        return bool(self.outputs and self.inputs)

    @property
    def exempt(self) -> bool:
        """Whether the array is declared to be a bias, a scale or a shift: neither weights nor a table."""
        return self.known and not self.weights and not self.entries

    @property
    def summed(self) -> tuple[int, ...]:
        """The axes that the output sums over: inputs and space."""
        return self.inputs + self.space

    def unit(self, x: Any) -> tuple[int, ...]:
        """The axes of x along which one unit lies: the weights of an output, an entry of a table, or else all of x."""
        if self.weights:
            return self.summed
        return self.outputs if self.entries else tuple(range(x.ndim))

    def matrix(self, x: Shaped[Array, "..."]) -> Shaped[Array, "inputs outputs"]:
        """The weights as a matrix: a row for each input and position of the window, a column for each output."""
        order = self.summed + self.outputs
        if order == (0, 1):
            return x
        rows = math.prod(x.shape[axis] for axis in self.summed)
        columns = math.prod(x.shape[axis] for axis in self.outputs)
        return jnp.transpose(x, order).reshape(rows, columns)

    def array(self, matrix: Shaped[Array, "inputs outputs"], shape: tuple[int, ...]) -> Shaped[Array, "..."]:
        """The inverse of `matrix`, for weights of this shape."""
        order = self.summed + self.outputs
        if order == (0, 1):
            return matrix
        back = sorted(range(len(order)), key=order.__getitem__)
        return jnp.transpose(matrix.reshape([shape[axis] for axis in order]), back)


NO_WEIGHTS = Axes()
"""Of biases, scales and shifts."""

Convention = Callable[[Any], Axes]
"""`array -> Axes`, by its shape alone."""


def undeclared(x: Any) -> Axes:
    """Axes unknown: for rules that treat arrays outside of fnn's layers all alike."""
    return Axes(known=False)


def inputs_first(x: Any) -> Axes:
    """flax's and optax's: `[inputs, outputs]`, and a convolution's kernel `[*space, inputs, outputs]`."""
    n = x.ndim
    return Axes((n - 1,), (n - 2,), tuple(range(n - 2))) if n >= 2 else NO_WEIGHTS


def outputs_first(x: Any) -> Axes:
    """torch's, equinox's and fnn's: `[outputs, inputs]`, and a convolution's kernel `[outputs, inputs, *space]`."""
    return Axes((0,), (1,), tuple(range(2, x.ndim))) if x.ndim >= 2 else NO_WEIGHTS


def multihead(x: Any) -> Axes:
    """As `inputs_first`, but three axes are `[inputs, heads, features]`; optax's in adaptive clipping, where an array
    with at most one axis longer than 1 is no weights."""
    if sum(n > 1 for n in x.shape) <= 1:
        return NO_WEIGHTS
    return Axes((1, 2), (0,)) if x.ndim == 3 else inputs_first(x)


def check_convention(convention: Any) -> None:
    """Raise `InputError` where this is not a convention."""
    require(
        callable(convention),
        f"A convention is a function array -> Axes, as fnn.nn.axes.inputs_first, not {convention!r}.",
    )


def only_matrices(convention: Convention) -> Convention:
    """The convention for arrays of two axes; all others are no weights."""
    check_convention(convention)
    return lambda x: convention(x) if x.ndim == 2 else NO_WEIGHTS


def axes(params: Params, convention: Convention) -> Any:
    """The tree of the `Axes` of all arrays: as their layers declare them, elsewhere by the convention."""
    check_convention(convention)

    def of(node):
        if not _declares(node):
            found = convention(node)
            require(isinstance(found, Axes), f"A convention gives Axes, not {found!r}.")
            return found
        read = lambda declared: declared if callable(declared) else lambda x: declared
        fields = zip(node, node.AXES, strict=True)
        return type(node)(*(jax.tree.map(read(declared), field) for field, declared in fields))

    return jax.tree.map(of, params, is_leaf=_declares)


def _declares(node):
    return hasattr(type(node), "AXES")
