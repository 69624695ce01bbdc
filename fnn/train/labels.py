"""The labeled data set of the arrays that runs record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from fnn.base.errors import require
from fnn.tasks.contract import Label
from fnn.train.settings import DIMS, Axis

if TYPE_CHECKING:
    from xarray import DataArray, Dataset
else:
    DataArray = Dataset = Any  # xarray takes half as long to import as JAX: only where something is labeled

DIVERGED = "diverged_at"
"""The variable with the first step whose loss is not finite."""


class Rows(NamedTuple):
    """The numbers of updates after which an array is recorded, rising, and the name of this dimension."""

    dim: str
    at: tuple[int, ...]


@dataclass(frozen=True)
class Labels:
    """The dimensions, coordinates and labels of a sweep's arrays.

    tasks, rules: names along their dimensions; None for a single one without a name.
    axes: of the settings. seeds: their numbers.
    rows: of the arrays that are recorded after some updates only, by name; others are recorded at every step.
    stepped: whether there are steps; a trial has none.
    labels, coords: of the recorded arrays and of the dimensions that only they have. attrs: of the data set.
    """

    tasks: tuple[str, ...] | None
    rules: tuple[str, ...] | None
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    rows: Mapping[str, Rows] = field(default_factory=dict)
    stepped: bool = True
    labels: Mapping[str, Label] = field(default_factory=dict)
    coords: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def check(self, programs: Iterable[Mapping[str, tuple[int, ...]]]) -> None:
        """Raise `InputError` where arrays cannot be labeled.

        programs: for each program the shapes of its arrays at one step of one network, by name.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for program in programs:
            for name, shape in program.items():
                alike = shapes.setdefault(name, shape) == shape
                require(alike, f"{name} has the shapes {shapes[name]} and {shape}: sweep the tasks one by one.")
        settings = {one for axis in self.axes for one in (axis.dim, *axis.coordinates)}
        own = {*shapes, *self.coords, *(dim for name in shapes for dim in self._dims(name, shapes[name]))}
        reserved = {*DIMS, DIVERGED} if self.stepped else {"seed"}
        taken = sorted(own & (settings | reserved))
        require(not taken, f"What a sweep records has names other than its dimensions, unlike {', '.join(taken)}.")
        import xarray as xr

        sizes: dict[Any, int] = dict(xr.Dataset(coords=self._coords()).sizes)
        for name, shape in shapes.items():
            dims = self._dims(name, shape)
            require(
                len(dims) == len(shape),
                f"{name} has {len(shape)} dimensions, and its label names {len(dims)}: {', '.join(dims)}.",
            )
            for dim, size in zip(dims, shape, strict=True):
                fits = sizes.setdefault(dim, size) == size
                require(fits, f"{name} has {size} places along {dim}, which has {sizes[dim]}.")

    def select(self, record: Mapping[str, Mapping[str, np.ndarray]], steps: range) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of every program, `[S, rows, G, own …]`: all these steps, or those of them that `rows` names."""

        def chosen(name, array):
            places = self.numbers(name, steps) - 1 - steps.start
            return np.take(array, places, axis=1) if name in self.rows else array

        return {program: {name: chosen(name, a) for name, a in one.items()} for program, one in record.items()}

    def dataset(self, record: Mapping[str, Mapping[str, np.ndarray]], steps: range) -> Dataset:
        """The data set of these steps.

        record: for every program, in the order of tasks and rules, its arrays as `select` gives them.
        """
        import xarray as xr

        programs = list(record.values())
        names = dict.fromkeys(name for one in programs for name in one)
        variables = {name: self._variable(name, [one.get(name) for one in programs], steps) for name in names}
        ds = xr.Dataset(variables, self._coords(), self.attrs)
        settings = {axis.dim for axis in self.axes}
        own = {dim: np.arange(n) for dim, n in ds.sizes.items() if dim not in ds.coords and dim not in settings}
        ds = ds.assign_coords(own)
        if self.stepped:
            ds[DIVERGED] = first_not_finite(ds.loss)
        return ds

    def networks(self, networks: Mapping[str, Any]) -> dict[str, Any]:
        """The networks of all programs, from leaves `[S, G, …]` to leaves `[settings …, S, …]`."""
        return jax.tree.map(lambda leaf: self._unfolded(np.swapaxes(leaf, 0, 1)) if self.axes else leaf, dict(networks))

    def _unfolded(self, array):
        """From an array `[G, …]` to one with a dimension for each of the axes."""
        return array.reshape(*map(len, self.axes), *array.shape[1:])

    def _coords(self):
        settings = (coord for axis in self.axes for coord in axis.coords().items())
        return {**self._programs(), **dict(settings), "seed": list(self.seeds), **self.coords}

    def _programs(self):
        """The dimensions of the programs, with their names."""
        return {dim: list(names) for dim, names in (("task", self.tasks), ("rule", self.rules)) if names is not None}

    def _variable(self, name, arrays, steps):
        """The variable of arrays `[S, rows, G, own …]` of all programs; None, of a program without it, becomes NaN."""
        import xarray as xr

        known = next(array for array in arrays if array is not None)
        if any(array is None for array in arrays):
            missing = np.full(known.shape, np.nan, np.result_type(known, np.float16))
            arrays = [missing if array is None else array for array in arrays]
        if self.axes:
            arrays = [self._unfolded(np.moveaxis(array, 2, 0)) for array in arrays]
        programs = self._programs()
        values = np.stack(arrays).reshape(*map(len, programs.values()), *arrays[0].shape)
        before = [*programs, *(axis.dim for axis in self.axes), "seed"]
        label = self._label(name)
        own = self._dims(name, values.shape[len(before) + 1 :])
        attrs = {what: text for what, text in (("long_name", label.long_name), ("units", label.units)) if text}
        if not self.stepped:
            return xr.DataArray(values.take(0, len(before)), dims=[*before, *own], attrs=attrs)
        dim, long_name = ("step", "step, from 0") if name not in self.rows else (self.rows[name].dim, "updates done")
        coord = (dim, self.numbers(name, steps), {"long_name": long_name})
        return xr.DataArray(values, {dim: coord}, [*before, dim, *own], attrs=attrs)

    def _label(self, name):
        """The label of an array, or of the tree that it is part of."""
        return self.labels.get(name) or self.labels.get(name.partition(".")[0]) or Label()

    def _dims(self, name, shape):
        """The names of an array's own dimensions."""
        return self._label(name).dims or tuple(f"{name}_{i}" for i in range(len(shape)))

    def numbers(self, name: str, steps: range) -> np.ndarray:
        """The numbers of these steps at which an array is recorded; where `rows` names it, numbers of updates."""
        numbers = np.arange(steps.start, steps.stop)
        return np.array([n for n in self.rows[name].at if n - 1 in steps], int) if name in self.rows else numbers


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a record by name, those of trees within it as `NAME.PART`."""
    leaves = jax.tree_util.tree_leaves_with_path(record)
    # netCDF allows no "/" in a name.
    return {jax.tree_util.keystr(path, simple=True, separator=".").replace("/", "."): leaf for path, leaf in leaves}


def first_not_finite(loss: DataArray) -> DataArray:
    """The first step whose loss is infinite or not a number; −1 where there is none."""
    import xarray as xr

    bad = ~xr.apply_ufunc(np.isfinite, loss)
    steps = loss.step.values[bad.argmax("step").values]
    first = xr.where(bad.any("step"), bad.any("step").copy(data=steps), -1).astype(np.int32)
    return first.assign_attrs(long_name="first step whose loss is not finite, −1 for none")
