"""The settings of a sweep: what `over` names, as labelled axes and as stacked hyperparameters."""

import itertools
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


@dataclass(frozen=True)
class Axis:
    """One dimension of a sweep.

    dim: its name.
    names: the hyperparameters that vary along it, as they were named.
    rows: what they are at each place, one value for every name; by rule, under "" where all rules have the same.
    labels: what people call the places; None where the values say it.
    """

    dim: str
    names: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[Any, ...], ...]]
    labels: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """How many places it has."""
        return len(next(iter(self.rows.values())))

    def row(self, rule: str, place: int) -> tuple[Any, ...]:
        """The values of a rule at a place."""
        return (self.rows[rule] if rule in self.rows else self.rows[""])[place]

    def coords(self) -> dict[str, Any]:
        """Its coordinates, as `xarray.Dataset` takes them."""
        if self.labels is not None:
            return {self.dim: list(self.labels)}
        found: dict[str, Any] = {}
        for i, name in enumerate(self.names):
            by_rule = {rule: [row[i] for row in rows] for rule, rows in self.rows.items()}
            attrs = {"long_name": name}
            if "" in by_rule:
                found[_short(name)] = (self.dim, by_rule[""], attrs)
            else:
                found[_short(name)] = (("rule", self.dim), list(by_rule.values()), attrs)
        return found


def axes(over: Mapping[Any, Any] | None, rules: Sequence[str]) -> tuple[Axis, ...]:
    """The axes that `over` names, in its order. Raises `InputError` for what is none."""
    over = {} if over is None else over
    named = isinstance(over, Mapping)
    require(named, f"What is varied is named, over={{'lr': [1e-3, 1e-2]}}, not {over!r:.80}.")
    found = tuple(_axis(name, values, rules) for name, values in over.items())
    dims = [axis.dim for axis in found]
    taken = sorted({dim for dim in dims if dims.count(dim) > 1 or dim in ("task", "rule", "seed", "step", "update")})
    require(not taken, f"Dimensions of a sweep have names of their own, and {', '.join(taken)} is taken.")
    return found


def _axis(name, values, rules):
    names = name if isinstance(name, tuple) else (name,)
    texts = all(isinstance(one, str) for one in names) and len(names) > 0
    require(texts, f"A hyperparameter is named by text, 'lr' say, not by {name!r}.")
    if isinstance(name, tuple):
        rows = [tuple(row) if listed(row) else (row,) for row in _rows(name, values)]
        fits = all(len(row) == len(names) for row in rows)
        require(fits, f"Each place of {', '.join(names)} has {len(names)} values.")
        return Axis(SETTING, names, {"": tuple(rows)})
    if isinstance(values, Mapping) and values and all(_series(one) for one in values.values()):
        unknown = [rule for rule in values if rule not in rules] + [rule for rule in rules if rule not in values]
        require(not unknown, f"Values of {name} by rule are for {', '.join(rules)}; {', '.join(unknown)} differ.")
        by_rule = {rule: tuple((one,) for one in _rows(name, values[rule])) for rule in rules}
        sizes = {len(rows) for rows in by_rule.values()}
        require(len(sizes) == 1, f"Every rule has as many values of {name} as the others.")
        return Axis(SETTING, names, by_rule)
    if isinstance(values, Mapping):
        require(len(values) > 0, f"There is no value of {name}.")
        return Axis(_short(name), names, {"": tuple((one,) for one in values.values())}, tuple(map(str, values)))
    rows = _rows(name, values)
    wrong = [one for one in rows if not real(one)]
    require(not wrong, f"The values of {name} are numbers, unlike {', '.join(map(repr, wrong[:3]))}.")
    return Axis(_short(name), names, {"": tuple((one,) for one in rows)})


def _series(values):
    """Whether this is a list of values and no tree of hyperparameters."""
    return listed(values) and not hasattr(values, "_fields")


def _rows(name, values):
    what = ", ".join(name) if isinstance(name, tuple) else name
    require(_series(values), f"The values of {what} are a list, not {values!r:.80}.")
    rows = [one.item() if hasattr(one, "item") and np.ndim(one) == 0 else one for one in values]
    require(len(rows) > 0, f"There is no value of {what}.")
    return rows


def _short(name):
    return name.removeprefix("*.").rpartition(".")[2]


def stacked(axes: Sequence[Axis], hyper: Hyper, rule: str) -> Hyper:
    """The hyperparameters of a rule at all settings, leaves `[G]`, the last axis fastest; of no axes `hyper` itself."""
    if not axes:
        return hyper
    points = []
    for places in itertools.product(*(range(len(axis)) for axis in axes)):
        point = hyper
        for axis, place in zip(axes, places, strict=True):
            for name, value in zip(axis.names, axis.row(rule, place), strict=True):
                for path in paths(hyper, name):
                    point = put(point, path, _like(get(hyper, path), value, name))
        points.append(point)
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *points)


def _like(before, value, name):
    same = jax.tree.structure(before) == jax.tree.structure(value)
    require(same, f"A value of {name} is like its default {before!r:.60}, unlike {value!r:.60}.")
    return value
