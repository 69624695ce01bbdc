"""Splits: parts of a data set, and the checks that every task makes of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8

from fnn.base.errors import require
from fnn.data import DataSet


class Split(NamedTuple):
    """Part of a data set: examples along the first axis of both arrays.

    x: the inputs: images `[n, height, width]`, rows `[n, features]`, tokens `[n, length]`.
    y: the targets: classes 0, 1, … `[n]`, rows of probabilities, numbers `[n]` or `[n, outputs]`, tokens.
    """

    x: Shaped[Array, "n ..."]
    y: Shaped[Array, "n ..."]


def check_splits(data: Any) -> None:
    """Raise `InputError` where a `Split` in a tree of data is not valid.

    Inputs and targets are arrays of numbers with a target for each of at least one example, none of them masked, NaN or
    infinite; whole numbers as targets are classes or tokens, from 0 on. Of traced arrays only shapes and types are
    checked.
    """
    is_split = lambda part: isinstance(part, Split)
    for path, split in jax.tree_util.tree_leaves_with_path(data, is_leaf=is_split):
        if is_split(split):
            check_split(jax.tree_util.keystr(path, simple=True, separator=".") or "the split", split)


def check_split(name: str, split: Split) -> None:
    """Raise `InputError` where this split is not valid, as `check_splits` says."""
    inputs, targets = f"The inputs of {name}", f"The targets of {name}"
    for what, array in ((inputs, split.x), (targets, split.y)):
        kind: Any = getattr(array, "dtype", None)
        require(kind is not None, f"{what} are an array, not {type(array).__name__}.")
        require(not isinstance(array, np.ma.MaskedArray), f"{what} have masked entries: fill them, or leave them out.")
        numbers = jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.floating)
        require(numbers, f"{what} are whole or floating-point numbers, not {kind}.")
    n = len(split.x) if split.x.ndim else 0
    require(split.x.size > 0, f"{inputs} are at least one, of shape (n, features …), not {split.x.shape}.")
    require(
        split.y.ndim > 0 and len(split.y) == n, f"{targets} are of shape {split.y.shape}, and there are {n} inputs."
    )
    for what, array in ((inputs, split.x), (targets, split.y)):
        if jnp.issubdtype(array.dtype, jnp.floating) and (numbers := values(array)) is not None:
            finite = np.isfinite(numbers).all() and np.abs(numbers).max() <= jnp.finfo(jnp.float32).max
            require(bool(finite), f"{what} hold numbers that are infinite, NaN or beyond float32.")
    if jnp.issubdtype(split.y.dtype, jnp.integer) and (numbers := values(split.y)) is not None:
        low = int(numbers.min())
        require(low >= 0, f"{targets} are classes from 0 on, and one is {low}.")


def values(array: Any) -> np.ndarray | None:
    """The array in NumPy; None where it is traced, or spread over hosts."""
    traced = isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True)
    return None if traced else np.asarray(array)


def splits(images: DataSet, train: int | None = None) -> dict[str, Split]:
    """A data set as splits "train", of its first `train` training examples or of all, "test" and any "validation"."""
    parts: Any = images.parts  # NumPy arrays in fields for JAX arrays
    return {part: Split(x[:train], y[:train]) if part == "train" else Split(x, y) for part, (x, y) in parts.items()}


def rows(x: UInt8[Array | np.ndarray, "n ..."] | Float[Array | np.ndarray, "n ..."]) -> Float[Array, "n features"]:
    """Bytes 0…255 as rows of numbers 0…1; floating-point numbers as rows of float32, not scaled."""
    numbers = jnp.asarray(x.reshape(len(x), -1)).astype(jnp.float32)
    return numbers / 255 if x.dtype == jnp.uint8 else numbers


def images(
    x: UInt8[Array | np.ndarray, "n ..."] | Float[Array | np.ndarray, "n ..."],
) -> Float[Array, "n height width channels"]:
    """Images `[n, height, width]` or `[n, height, width, channels]` with an axis of channels, in the numbers of `rows`.

    Raises `InputError` for other shapes.
    """
    require(x.ndim in (3, 4), f"Images are of shape (n, height, width) or (n, height, width, channels), not {x.shape}.")
    return rows(x).reshape(x.shape if x.ndim == 4 else (*x.shape, 1))


def averaged(score: Callable[[Split], Array], split: Split, block: int) -> Array:
    """The mean of `score` over a split, taken `block` examples at a time."""
    n = len(split.y)
    whole = n - n % block
    blocks = jax.tree.map(lambda a: a[:whole].reshape(whole // block, block, *a.shape[1:]), split)
    total = jnp.float32(0)
    if whole:
        total += jax.lax.map(score, blocks).sum(0) * block
    if whole < n:
        total += score(jax.tree.map(lambda a: a[whole:], split)) * (n - whole)
    return total / n
