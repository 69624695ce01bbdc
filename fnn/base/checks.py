"""Checks of arguments: hyperparameters out of range, arrays that do not fit together, keys."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from fnn.base.errors import require
from fnn.base.types import Hyper, Interval, Params

ANY = Interval("[-∞, ∞]")
"""The interval of a hyperparameter whose type names none: every number but NaN."""


def check_hyper(hp: Hyper) -> None:
    """Raise `InputError` where a hyperparameter lies outside of its type's interval; traced ones are not checked.

    A type names it as in `b1: Annotated[Scalar, Interval("[0, 1)")]`; `fnn.base.types` has names for the usual ones.
    """
    for path, value, allowed in intervals(hp):
        if isinstance(value, jax.core.Tracer):
            continue
        numbers = np.asarray(value).dtype.kind in "iufb" or hasattr(value, "dtype")  # bfloat16 is of kind V
        require(numbers, f"The hyperparameter {path} is a number in {allowed}, not {value}.")
        wrong = [v for v in np.ravel(value) if v not in allowed]
        require(not wrong, f"The hyperparameter {path} is a number in {allowed}, not {', '.join(map(str, wrong))}.")


def intervals(hp: Hyper, path: str = "", allowed: Interval = ANY) -> Iterator[tuple[str, Any, Interval]]:
    """The (path, value, interval) of every hyperparameter, including those of rules inside rules."""
    if isinstance(hp, Mapping):
        named = {name: (value, ANY) for name, value in hp.items()}
    elif hasattr(hp, "_asdict"):
        declared = _declared(type(hp))
        named = {name: (value, declared.get(name, ANY)) for name, value in hp._asdict().items()}
    elif isinstance(hp, tuple | list):
        named = {str(i): (value, ANY) for i, value in enumerate(hp)}
    else:
        yield from ((path, value, allowed) for value in jax.tree.leaves(hp))
        return
    for name, (value, inner) in named.items():
        yield from intervals(value, f"{path}.{name}".strip("."), inner)


@functools.cache
def _declared(kind: type) -> dict[str, Interval]:
    """The intervals in the type hints of a `NamedTuple`, by field."""
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError:  # hints written as text, with names that are not defined here
        return {}
    parts = {name: [part for part in get_args(hint) if isinstance(part, Interval)] for name, hint in hints.items()}
    return {name: found[0] for name, found in parts.items() if found}


def check_single(hp: Hyper) -> None:
    """Raise `InputError` where a hyperparameter of one rule is an array of several, which would be broadcast."""
    for path, value, _ in intervals(hp):
        one = np.ndim(value) == 0
        require(one, f"The hyperparameter {path} is one number, not an array of shape {np.shape(value)}: use jax.vmap.")


def check_fields(hp: Hyper, hyper: Hyper) -> None:
    """Raise `InputError` where `hp` lacks a hyperparameter of a rule's defaults, `hyper`."""
    names = hyper if isinstance(hyper, Mapping) else getattr(hyper, "_fields", ())
    values = hp if isinstance(hp, Mapping) else {name: getattr(hp, name, None) for name in getattr(hp, "_fields", ())}
    lacking = [name for name in names if values.get(name) is None]
    require(not lacking, f"The hyperparameters {hp!r} lack {', '.join(lacking)}, which the rule has.")


def check_params(params: Params) -> None:
    """Raise `InputError` where a parameter is not an array of floating-point numbers."""
    for path, w in jax.tree_util.tree_leaves_with_path(params):
        dtype = getattr(w, "dtype", type(w).__name__)
        floating = hasattr(w, "dtype") and jnp.issubdtype(w.dtype, jnp.floating)
        require(floating, f"Parameters are arrays of floating-point numbers; {_place(path)} is of {dtype}.")
        wide = jnp.finfo(w.dtype).bits >= 16
        require(wide, f"Parameters are of float16, bfloat16 or wider; {_place(path)} is of {dtype}.")
        valued = not isinstance(w, jax.ShapeDtypeStruct)
        require(valued, f"Parameters are arrays, and {_place(path)} is only a shape: use jax.eval_shape.")


def check_gradients(grads: Params, params: Params) -> None:
    """Raise `InputError` where the gradients are not a tree like the parameters, in structure, shapes and kind."""
    found, expected = jax.tree.structure(grads), jax.tree.structure(params)
    require(found == expected, f"The gradients are not a tree like the parameters: {found} against {expected}.")
    for (path, g), w in zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(params), strict=True):
        require(hasattr(g, "dtype"), f"Gradients are arrays; that of {_place(path)} is {g!r}.")
        require(g.shape == w.shape, f"The gradient of {_place(path)} has shape {g.shape}, not {w.shape}.")
        floating = jnp.issubdtype(g.dtype, jnp.floating)
        require(floating, f"Gradients are floating-point numbers; that of {_place(path)} is of {g.dtype}.")


def check_alike(one: Any, other: Any) -> None:
    """Raise `InputError` where two trees of arrays differ in structure or shapes; nothing is broadcast."""
    first, second = jax.tree.structure(one), jax.tree.structure(other)
    require(first == second, f"These are not trees of one structure: {first} against {second}.")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        require(np.shape(a) == np.shape(b), f"{_place(path)} has the shapes {np.shape(a)} and {np.shape(b)}.")


def check_key(key: Any) -> None:
    """Raise `InputError` where this is not a key of `jax.random`, new-style or old-style (an array of uint32)."""
    require(_is_key(key, 0), f"A key is what jax.random.key(0) returns, not {_shown(key)}.")


def check_settings(hps: Any) -> int:
    """The number of settings. Raises `InputError` where they are not a tree of arrays with one leading axis."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(hps)}
    sound = len(sizes) == 1 and () not in sizes and (0,) not in sizes
    require(
        sound, "Settings are a tree of arrays with one leading axis in common, as fnn.train.engine.grid returns it."
    )
    [[settings]] = sizes
    return settings


def check_keys(keys: Any) -> None:
    """Raise `InputError` where this is not an array of keys `[seeds]`, with at least one."""
    require(
        _is_key(keys, 1), f"Keys are what fnn.train.engine.seeds(10) returns, an array of keys, not {_shown(keys)}."
    )


def _is_key(key, axes):
    """Whether this is an array of keys with `axes` axes; old-style keys have one more, for their numbers."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or key.size == 0:
        return False
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return key.ndim == axes
    return dtype == jnp.uint32 and key.ndim == axes + 1


def _shown(value):
    """The value as text for a message: of an array its type and shape."""
    return f"{value.dtype} of shape {value.shape}" if hasattr(value, "dtype") else repr(value)


def _place(path):
    return f"the leaf {jax.tree_util.keystr(path)}" if path else "the array"
