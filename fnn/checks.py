"""What an update rule is spared: hyperparameters out of range, and arrays that do not fit together."""

import math
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from fnn.errors import require
from fnn.types import Hyper, Params

RANGES = {
    "lr": (0, math.inf),
    **dict.fromkeys(("mu", "rho", "b1", "b2", "b3"), (0, 1)),
    **dict.fromkeys(("eps", "eps_root", "weight_decay"), (0, math.inf)),
}
"""Where hyperparameters of these names may lie: from the first number on, below the second."""


def check_hyper(hp: Hyper) -> None:
    """Raise `InputError` where a number among the hyperparameters is out of `RANGES`; traced ones are let through."""
    for path, value in jax.tree_util.tree_leaves_with_path(hp):
        name = str(getattr(path[-1], "name", "")) if path else ""
        if name not in RANGES or isinstance(value, jax.core.Tracer):
            continue
        low, high = RANGES[name]
        wrong = [v for v in np.ravel(value) if not low <= v < high]
        allowed = f"from {low} on" if math.isinf(high) else f"from {low} on and below {high}"
        require(not wrong, f"The hyperparameter {name} is a number {allowed}, not {', '.join(map(str, wrong))}.")


def check_params(params: Params) -> None:
    """Raise `InputError` where a parameter is not an array of floating-point numbers."""
    for path, w in jax.tree_util.tree_leaves_with_path(params):
        dtype = getattr(w, "dtype", type(w).__name__)
        floating = hasattr(w, "dtype") and jnp.issubdtype(w.dtype, jnp.floating)
        require(floating, f"Parameters are arrays of floating-point numbers; {_place(path)} is of {dtype}.")


def check_gradients(grads: Params, params: Params) -> None:
    """Raise `InputError` where the gradients are not a tree like the parameters, in structure, shapes and kind."""
    theirs, ours = jax.tree.structure(grads), jax.tree.structure(params)
    require(theirs == ours, f"The gradients are not a tree like the parameters: {theirs} against {ours}.")
    for (path, g), w in zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(params), strict=True):
        require(g.shape == w.shape, f"The gradient of {_place(path)} has shape {g.shape}, not {w.shape}.")
        floating = jnp.issubdtype(g.dtype, jnp.floating)
        require(floating, f"Gradients are floating-point numbers; that of {_place(path)} is of {g.dtype}.")


def check_key(key: Any) -> None:
    """Raise `InputError` where a key is none of `jax.random`, new-style or old-style (two numbers of 32 bits)."""
    require(_is_key(key, 0), f"A key is what jax.random.key(0) gives, not {_shown(key)}.")


def check_keys(keys: Any) -> None:
    """Raise `InputError` where keys are not an array of them `[seeds]`."""
    require(_is_key(keys, 1), f"Keys are what fnn.sweep.seeds(10) gives, an array of keys, not {_shown(keys)}.")


def _is_key(key, axes):
    dtype, axis = getattr(key, "dtype", None), getattr(key, "ndim", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return axis == axes and key.size > 0
    return dtype == jnp.uint32 and axis == axes + 1 and key.size > 0


def _shown(value):
    """A value for a sentence: an array by its type and shape."""
    return f"{value.dtype} of shape {value.shape}" if hasattr(value, "dtype") else repr(value)


def _place(path):
    return f"the leaf {jax.tree_util.keystr(path)}" if path else "the array"
