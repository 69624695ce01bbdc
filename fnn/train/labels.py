"""From the arrays that runs record to one labelled data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import xarray as xr

from fnn.base.errors import require
from fnn.tasks.contract import Label
from fnn.train.settings import Axis


@dataclass(frozen=True)
class Labels:
    """What the arrays of a sweep are.

    tasks, rules: names along their dimensions; None where there is one without a name.
    axes: of the settings. seeds: their numbers.
    evaluated, observed: the names recorded at chosen numbers of updates, and these numbers; `at` is None for every one.
    labels, coords: of the recorded arrays and of their own dimensions. attrs: of the data set.
    """

    tasks: tuple[str, ...] | None
    rules: tuple[str, ...] | None
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    evaluated: frozenset[str] = frozenset()
    evaluate_at: tuple[int, ...] = ()
    observed: frozenset[str] = frozenset()
    observe_at: tuple[int, ...] | None = None
    stepped: bool = True
    labels: Mapping[str, Label] = field(default_factory=dict)
    coords: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def select(self, record: Mapping[str, Any], steps: range) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of every program by name, `[S, rows, G, own …]`, of chosen steps only where there are such."""

        def rows(name, array):
            chosen = self._chosen(name)
            return (
                array if chosen is None else np.take(array, [n - 1 - steps.start for n in chosen if n - 1 in steps], 1)
            )

        return {program: {name: rows(name, a) for name, a in flat(one).items()} for program, one in record.items()}

    def dataset(self, record: Mapping[str, Mapping[str, np.ndarray]], steps: range) -> xr.Dataset:
        """The data set of these steps.

        record: for every program, in the order of tasks and rules, its arrays as `select` gives them.
        """
        programs = list(record.values())
        names = list(dict.fromkeys(name for one in programs for name in one))
        found = {name: self._variable(name, programs, steps) for name in names}
        ds = xr.Dataset(found, self._coords(), self.attrs)
        if "loss" in ds and "step" in ds.loss.dims:
            ds["diverged_at"] = first_not_finite(ds.loss)
        return ds

    def _coords(self):
        found = {"task": self.tasks, "rule": self.rules}
        coords: dict[str, Any] = {dim: list(names) for dim, names in found.items() if names is not None}
        for axis in self.axes:
            coords |= axis.coords()
        return coords | {"seed": list(self.seeds)} | dict(self.coords)

    def _variable(self, name, programs, steps):
        label = self.labels.get(name, Label())
        arrays = [one.get(name) for one in programs]
        shape = next(array.shape for array in arrays if array is not None)
        alike = all(array is None or array.shape == shape for array in arrays)
        require(
            alike, f"The arrays {name} of the programs have several shapes: sweep the programs one after the other."
        )
        filled = [np.full(shape, np.nan) if array is None else array for array in arrays]
        lead = [len(names) for names in (self.tasks, self.rules) if names is not None]
        values = np.stack(filled).reshape(*lead, *shape)  # [task, rule, S, n, G, own …]
        k = len(lead)
        sizes = [len(axis) for axis in self.axes]
        if self.axes:
            values = np.moveaxis(values, k + 2, k).reshape(*lead, *sizes, *shape[:2], *shape[3:])
        settings = [axis.dim for axis in self.axes]
        at, dim, numbers = k + len(sizes) + 1, "step", np.arange(steps.start, steps.stop)
        chosen = self._chosen(name)
        if chosen is not None:
            dim = "update" if name in self.evaluated or chosen == self.evaluate_at else "observed"
            numbers = [number for number in chosen if number - 1 in steps]
        lead_dims = [dim for dim, names in (("task", self.tasks), ("rule", self.rules)) if names is not None]
        own = list(label.dims)
        extra = values.ndim - at - 1
        require(
            not own or len(own) == extra,
            f"{name} has {extra} dimensions of its own, and its label names {', '.join(own)}.",
        )
        own = own or [f"{name}_{i}" for i in range(extra)]
        dims = [*lead_dims, *settings, "seed", dim, *own]
        attrs = {what: text for what, text in (("long_name", label.long_name), ("units", label.units)) if text}
        if not self.stepped:
            return xr.DataArray(values.take(0, at), dims=dims[:at] + dims[at + 1 :], attrs=attrs)
        said = {"long_name": "updates done"} if dim != "step" else {"long_name": "step, from 0"}
        return xr.DataArray(values, {dim: (dim, numbers, said)}, dims, attrs=attrs)

    def _chosen(self, name):
        if name in self.evaluated:
            return self.evaluate_at
        return self.observe_at if name in self.observed else None


def flat(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a record by names, those of trees within it as `NAME.PART`."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(record):
        found[jax.tree_util.keystr(path, simple=True, separator=".")] = np.asarray(leaf)
    return found


def names_of(record: Any) -> frozenset[str]:
    """The names that `flat` gives the arrays of a record."""
    leaves = jax.tree_util.tree_leaves_with_path(record)
    return frozenset(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)


def first_not_finite(loss: xr.DataArray) -> xr.DataArray:
    """The first step whose loss is infinite or not a number; −1 where there is none."""
    bad = ~xr.apply_ufunc(np.isfinite, loss)
    steps = loss.step.values[bad.argmax("step").values]
    first = xr.where(bad.any("step"), bad.any("step").copy(data=steps), -1).astype(np.int32)
    return first.assign_attrs(long_name="first step whose loss is not finite, −1 for none")


def networks_of(states: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
    """The parameters of all programs by their names, every leaf `[settings …, seed, …]`."""
    sizes = [len(axis) for axis in labels.axes]

    def shaped(leaf):
        leaf = np.asarray(leaf)[: len(labels.seeds)]
        if not sizes:
            return leaf
        return np.moveaxis(leaf, 1, 0).reshape(*sizes, leaf.shape[0], *leaf.shape[2:])

    return {name: jax.tree.map(shaped, state.params) for name, state in states.items()}
