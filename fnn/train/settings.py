"""The settings of a sweep: what `over` names, as labeled axes and as stacked hyperparameters."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fnn.base.errors import listed, real, require
from fnn.base.types import Hyper
from fnn.rule.hyper import get, paths, put

SETTING = "setting"
"""The dimension of several hyperparameters that vary together, and of values that differ by rule."""

DIMS = ("task", "rule", "seed", "step", "update", "observed")
"""The other dimensions of a sweep."""


@dataclass(frozen=True)
class Axis:
    """One dimension of a sweep.

    dim: its name.
    names: the hyperparameters that vary along it, as `over` names them. coordinates: the names of their coordinates.
    rows: their values at each index, one for every name; by rule, under "" where all rules have the same.
    labels: the coordinates where these are names; None where they are the values.
    """

    dim: str
    names: tuple[str, ...]
    coordinates: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[Any, ...], ...]]
    labels: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Its length."""
        return len(next(iter(self.rows.values())))

    def row(self, rule: str, index: int) -> tuple[Any, ...]:
        """The values of a rule at an index, one for every name."""
        return self.rows.get(rule, self.rows.get("", ()))[index]

    def coords(self) -> dict[str, Any]:
        """Its coordinates, as `xarray.Dataset` takes them."""
        if self.labels is not None:
            return {self.dim: (self.dim, list(self.labels), {"long_name": self.names[0]})}
        dims = self.dim if "" in self.rows else ("rule", self.dim)
        coords = {}
        for i, (name, coordinate) in enumerate(zip(self.names, self.coordinates, strict=True)):
            columns = [[row[i] for row in rows] for rows in self.rows.values()]
            coords[coordinate] = (dims, columns[0] if "" in self.rows else columns, {"long_name": name})
        return coords


def axes(over: Mapping[Any, Any] | None, rules: Sequence[str]) -> tuple[Axis, ...]:
    """The axes that `over` names, in its order.

    rules: the names of the rules; none for a single one without a name. Raises `InputError` where `over` is not a
    mapping from names to values, and where two dimensions would have the same name.
    """
    over = {} if over is None else over
    named = isinstance(over, Mapping)
    require(named, f"over is a mapping of names to values, over={{'lr': [1e-3, 1e-2]}}, not {over!r:.80}.")
    names = [one for name in over for one in (name if isinstance(name, tuple) else (name,))]
    for one in names:
        require(isinstance(one, str) and one != "", f"A hyperparameter is named by text, 'lr' say, not by {one!r}.")
    found = tuple(_axis(name, values, rules, names) for name, values in over.items())
    together = sum(axis.dim == SETTING for axis in found)
    require(together <= 1, "Values by rule and values that vary together are of one dimension: name them in one tuple.")
    coords = [one for axis in found for one in {axis.dim, *axis.coordinates}]
    taken = sorted({one for one in coords if coords.count(one) > 1 or one in DIMS})
    require(not taken, f"Dimensions of a sweep have different names, and {', '.join(taken)} is taken.")
    return found


def _axis(name, values, rules, every):
    if isinstance(name, tuple):
        require(len(name) > 0, "Hyperparameters that vary together are named, ('lr', 'b1') say, not by ().")
        rows = tuple(tuple(row) if _series(row) else (row,) for row in _rows(name, values))
        fits = all(len(row) == len(name) for row in rows)
        require(fits, f"Each place of {', '.join(name)} has {len(name)} values.")
        return Axis(SETTING, name, tuple(_short(one, every) for one in name), {"": rows})
    short = _short(name, every)
    if not isinstance(values, Mapping):
        return Axis(short, (name,), (short,), {"": _numbers(name, values)})
    require(len(values) > 0, f"There is no value of {name}.")
    if not (any(rule in values for rule in rules) and all(_series(one) for one in values.values())):
        return Axis(short, (name,), (short,), {"": tuple((one,) for one in values.values())}, tuple(map(str, values)))
    differ = [str(rule) for rule in (*values, *rules) if rule not in values or rule not in rules]
    require(not differ, f"Lists of {name} by rule are for {', '.join(rules)}, and {', '.join(differ)} differs.")
    by_rule = {rule: _numbers(name, values[rule]) for rule in rules}
    require(len(set(map(len, by_rule.values()))) == 1, f"Every rule has as many values of {name} as the others.")
    return Axis(SETTING, (name,), (short,), by_rule)


def _series(values):
    """Whether this is a list of values and not a tree of hyperparameters."""
    return listed(values) and not hasattr(values, "_fields")


def _rows(name, values):
    what = ", ".join(name) if isinstance(name, tuple) else name
    require(_series(values), f"The values of {what} are a list, not {values!r:.80}.")
    rows = [one.item() if hasattr(one, "item") and np.ndim(one) == 0 else one for one in values]
    require(len(rows) > 0, f"There is no value of {what}.")
    return rows


def _numbers(name, values):
    rows = _rows(name, values)
    wrong = [one for one in rows if not real(one)]
    require(not wrong, f"The values of {name} are numbers, unlike {', '.join(map(repr, wrong[:3]))}.")
    return tuple((one,) for one in rows)


def _short(name, every):
    """The last part of a name where no other name ends with it, else the whole name."""
    last = lambda name: name.rpartition(".")[2]
    return last(name) if [last(one) for one in every].count(last(name)) == 1 else name.removeprefix("*.")


def stacked(axes: Sequence[Axis], hyper: Hyper, rule: str) -> Hyper:
    """The hyperparameters of a rule at all settings, leaves `[G]`, the last axis fastest; without axes `hyper` itself.

    Raises `InputError` where a name means no hyperparameter, or one that another name means too, and where the
    structure or shape of a value is not the default's.
    """
    if not axes:
        return hyper
    meant = {name: paths(hyper, name) for axis in axes for name in axis.names}
    every = [path for found in meant.values() for path in found]
    within = lambda a, b: a == b or b.startswith(f"{a}.")
    twice = [b for a, b in itertools.permutations(every, 2) if within(a, b)]
    require(not twice, f"The hyperparameter {', '.join(dict.fromkeys(twice))} is varied twice.")
    points = []
    for places in itertools.product(*(range(len(axis)) for axis in axes)):
        point = hyper
        for axis, place in zip(axes, places, strict=True):
            for name, value in zip(axis.names, axis.row(rule, place), strict=True):
                for path in meant[name]:
                    point = put(point, path, _like(get(hyper, path), value, name))
        points.append(point)

    def stack(default, *values):
        stacked = np.stack([np.asarray(value) for value in values])
        # Integers among the values of a floating-point hyperparameter become floating-point too.
        return stacked.astype(np.result_type(np.asarray(default), stacked))

    return jax.tree.map(stack, hyper, *points)


def size(axes: Sequence[Axis]) -> int:
    """The number of settings; 0 where nothing is varied."""
    return math.prod(map(len, axes)) if axes else 0


def first(hps: Hyper, settings: int) -> Hyper:
    """The hyperparameters of the first setting; `hps` itself where the number of settings is 0."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], hps) if settings else hps


def _like(default, value, name):
    """The value. Raises `InputError` where its structure or shapes are not the default's."""
    same = jax.tree.structure(default) == jax.tree.structure(value)
    same = same and all(map(_same_shape, jax.tree.leaves(default), jax.tree.leaves(value)))
    require(same, f"A value of {name} is like its default {default!r:.60}, unlike {value!r:.60}.")
    return value


def _same_shape(a, b):
    return np.shape(a) == np.shape(b)
