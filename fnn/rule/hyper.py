"""Hyperparameters by name at any depth: "lr", or "inner.lr" for the lr of a rule inside a wrapper."""

import itertools
from collections.abc import Mapping
from typing import Any

import jax

from fnn.base.errors import InputError, near, require
from fnn.base.types import Hyper


def names(hp: Hyper) -> tuple[str, ...]:
    """The full names of all numbers, in the order of the leaves."""
    return tuple(
        ".".join(str(getattr(part, "name", getattr(part, "key", ""))) for part in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(hp)
    )


def get(hp: Hyper, name: str) -> Any:
    """The value of this name. Raises `InputError` where there is none."""
    require(isinstance(name, str), f"A hyperparameter is named by text, 'lr' say, not by {name!r}.")
    head, _, rest = name.partition(".")
    fields = _fields(hp)
    if head not in fields:
        raise InputError(f"There is no hyperparameter {head!r}; {near(head, fields)}.")
    return get(fields[head], rest) if rest else fields[head]


def put(hp: Hyper, name: str, value: Any) -> Hyper:
    """A copy of hp with this value under this name. Raises `InputError` where there is none."""
    head, _, rest = name.partition(".")
    inside = get(hp, head)
    value = put(inside, rest, value) if rest else value
    return {**hp, head: value} if isinstance(hp, Mapping) else hp._replace(**{head: value})


def paths(hp: Hyper, name: str) -> tuple[str, ...]:
    """The full names of the hyperparameters that `name` means.

    That is `name` itself where it is a full name; else the full name that ends with it, the shortest one; `*.lr` means
    every one that ends with `lr`. Raises `InputError` where there is none, and where several are equally short.
    """
    require(isinstance(name, str), f"A hyperparameter is named by text, 'lr' say, not by {name!r}.")
    every, full = name.startswith("*."), _full_names(hp)
    short = name.removeprefix("*.")
    found = [path for path in full if path == short or path.endswith(f".{short}")]
    if not found:
        leaves = [path.removeprefix("rule.").removeprefix("task.") for path in names(hp)]
        raise InputError(f"There is no hyperparameter {name!r}; {near(short, leaves)}.")
    if every:
        return tuple(found)
    least = min(path.count(".") for path in found)
    nearest = [path for path in found if path.count(".") == least]
    require(len(nearest) == 1, f"The name {name!r} means several hyperparameters: {', '.join(nearest)}, or *.{short}.")
    return (nearest[0],)


def _full_names(hp, path=""):
    """The full names of all numbers, and of the tuples that hold them."""
    inside = _fields(hp)
    here = [path] if path else []
    return here + [one for name, value in inside.items() for one in _full_names(value, f"{path}.{name}".strip("."))]


def lr_path(hp: Hyper) -> str | None:
    """The full name of the learning rate, the outermost `lr`; None where there is none."""
    full = [name for name in names(hp) if name.rpartition(".")[2] == "lr"]
    return min(full, key=lambda name: name.count("."), default=None)


def own_lr(hp: Hyper) -> Any:
    """The value of `hp.lr`; None where there is none, though hyperparameters inside of `hp` may have one."""
    lr = _fields(hp).get("lr")
    return lr if jax.tree_util.all_leaves([lr]) else None


def without_lr(hp: Hyper, path: str = "") -> tuple[str, ...]:
    """The paths of the innermost rules without an `lr`, where no rule around them has one; "" is `hp` itself."""
    if own_lr(hp) is not None:
        return ()
    inside = {name: value for name, value in _fields(hp).items() if isinstance(value, tuple | Mapping)}
    found = [without_lr(value, f"{path}.{name}".strip(".")) for name, value in inside.items()]
    return tuple(itertools.chain(*found)) if inside else (path,)


def _fields(hp: Hyper) -> dict[str, Any]:
    return dict(hp) if isinstance(hp, Mapping) else hp._asdict() if hasattr(hp, "_asdict") else {}
