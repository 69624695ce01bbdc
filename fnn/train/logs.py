"""Rows for a log, of every evaluation of every network; and the tables of a data set, by variable."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn.base.errors import require
from fnn.train.labels import Labels

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any

Log = Callable[[dict[str, Any]], object]
"""A function of one row, which writes it to a file or sends it to a service."""


def rows(
    labels: Labels, record: Mapping[str, Mapping[str, np.ndarray]], settings: range, seeds: range, steps: range
) -> Iterator[dict[str, Any]]:
    """A row for each evaluation of each network within these steps.

    It has the names of the task and of the rule where they have names, the coordinates of the setting, the seed, the
    number of updates, and under their names the loss of that step and every metric that is one number.
    record: arrays `[seeds, rows, settings]` of every program, without the axis of settings where there are none.
    """
    programs = [(task, rule) for task in labels.tasks or (None,) for rule in labels.rules or (None,)]
    for (task, rule), arrays in zip(programs, record.values(), strict=True):
        names = {what: name for what, name in (("task", task), ("rule", rule)) if name is not None}
        metrics = [name for name in arrays if name in labels.rows and labels.rows[name].dim == "update"]
        single = [name for name in metrics if arrays[name].ndim == (3 if labels.axes else 2)]
        numbers = labels.numbers(single[0], steps) if single else ()
        for row, update in enumerate(numbers):
            for j, g in enumerate(settings):
                for i, s in enumerate(seeds):
                    at = lambda array, row: array[(i, row, j) if labels.axes else (i, row)].item()  # noqa: B023
                    values = {"loss": at(arrays["loss"], update - 1 - steps.start)}
                    values |= {name: at(arrays[name], row) for name in single}
                    yield {
                        **names,
                        **_setting(labels, rule, g),
                        "seed": labels.seeds[s],
                        "update": int(update),
                        **values,
                    }


def _setting(labels, rule, g):
    """The coordinates of the setting with this number."""
    found = {}
    for axis, index in zip(labels.axes, np.unravel_index(g, [len(axis) for axis in labels.axes]), strict=True):
        if axis.labels is not None:
            found[axis.dim] = axis.labels[index]
        else:
            found |= dict(zip(axis.coordinates, axis.row(rule or "", int(index)), strict=True))
    return found


def frames(ds: Any) -> dict[str, DataFrame]:
    """The variables of a data set as tables of pandas, by name: a row a value, with a column for each coordinate.

    `ds.to_dataframe()` would give all variables all dimensions: losses at every step times metrics at every evaluation.
    """
    require(hasattr(ds, "data_vars"), f"Tables are made of a data set, as sweep returns it, not of {ds!r:.80}.")
    return {
        str(name): ds[name].to_dataframe(str(name)).reset_index() for name in ds.data_vars if math.prod(ds[name].shape)
    }
