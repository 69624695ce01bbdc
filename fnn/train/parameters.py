"""Trained parameters in a file that other programs read, `.npz` without pickle, and training that starts from them."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import store
from fnn.base.errors import InputError, require
from fnn.base.types import Params
from fnn.tasks.contract import Task

BFLOAT16 = ":bfloat16"
"""The end of an array's name in a file where its bits are stored as uint16: NumPy's format has no such type."""


def save(path: str | Path, params: Params) -> Path:
    """Write a tree of arrays to a file; returns its path.

    Every array has its path in the tree as its name, "0.w" or "Dense_0.kernel". Raises `InputError` where two arrays
    have one name, where there is none, and where the disk refuses; what stood there before is then still there.
    """
    named = _named(params)
    require(len(named) > 0, "There are no parameters to be saved.")
    arrays = {}
    for name, array in named.items():
        array = np.asarray(array)
        is_half = array.dtype == jnp.bfloat16
        arrays[name + BFLOAT16 * is_half] = array.view(np.uint16) if is_half else array
    return store.write(Path(path), store.pack({}, arrays))


def load(path: str | Path, like: Params) -> Params:
    """The tree of arrays of a file, in the structure of `like`, whose arrays have the same names, shapes and dtypes.

    like: parameters, or their shapes and dtypes as `jax.eval_shape` returns them. Raises `InputError` where the file
    cannot be read, is damaged, or holds other parameters.
    """
    path, expected = Path(path), _named(like)
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except Exception as error:  # damaged bytes make zipfile and NumPy raise nearly anything
        raise InputError(f"{path} cannot be read as parameters: {error}") from error
    found = {
        name.removesuffix(BFLOAT16): a.view(jnp.bfloat16) if name.endswith(BFLOAT16) and a.dtype == np.uint16 else a
        for name, a in found.items()
    }
    others = sorted(found.keys() ^ expected.keys())
    require(not others, f"{path} holds other parameters: {', '.join(others)} of one of both only.")
    for name, leaf in expected.items():
        same = found[name].shape == leaf.shape and found[name].dtype == leaf.dtype
        there = f"{found[name].dtype} of shape {found[name].shape}"
        require(same, f"{name} of {path} is {there}, and the network's is {leaf.dtype} of shape {leaf.shape}.")
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(found[name]) for name in expected])


def starting_from(task: Task, params: Params, stats: Any = None) -> Task:
    """The task whose networks all start from these parameters, and from these running statistics if they are given.

    Raises `InputError` at the first run where they are not those of its network.
    """

    def init(hp, key, data):
        own, initial = task.init(hp, key, data)
        for what, given, expected in (("parameters", params, own), ("statistics", stats, initial)):
            same = given is None or _shapes(given) == _shapes(expected)
            require(same, f"The {what} to start from are not those of the network.")
        return jax.tree.map(jnp.asarray, params), initial if stats is None else stats

    return task._replace(init=init)


def _shapes(tree):
    return jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), tree)


def _named(tree):
    """The arrays of a tree by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator=".") or "array": leaf for path, leaf in leaves}
    require(len(named) == len(leaves), "Two arrays of the tree have one name.")
    return named
