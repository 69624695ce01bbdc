"""Regression on a table by a multilayer network: few examples with noise, what most people have."""

import os
from dataclasses import replace
from typing import NamedTuple

from fnn.base.errors import require
from fnn.data import DataSet, from_csv, load, standardized
from fnn.nn.init import glorot
from fnn.nn.models import multilayer
from fnn.tasks.regression import regression
from fnn.tasks.sources import HELD_OUT, held_out
from fnn.tasks.workload import Size, Workload, sized


class Scale(NamedTuple):
    """The widths of the hidden layers, the examples of a minibatch and the horizon."""

    hidden: tuple[int, ...]
    batch: int
    steps: int


SIZES = {"tiny": Scale((8,), 16, 40), "small": Scale((64, 64), 32, 1000), "full": Scale((256, 256), 32, 5000)}


def workload(size: Size = "small", table: str | os.PathLike[str] | None = None) -> Workload:
    """The progress of diabetes; or the target of a CSV file, which `from_csv` finds: `target`, `y`, …

    Columns and target are scaled to mean 0 and standard deviation 1 of the training rows, so that the loss is the share
    of the variance that is not explained.
    """
    hidden, batch, steps = sized(SIZES, size)
    rows = load("diabetes") if table is None else from_csv(table, classes=False, standardize=False)
    data = standard_target(standardized(held_out(rows, 1000)))
    known = (
        "Regression on few rows with much noise. A linear model explains half of diabetes's variance (Efron et al. "
        "2004, Least angle regression), and a network that trains for long learns the noise."
    )
    task = regression(
        *(multilayer(hidden, 1, weights=glorot()), data, batch),
        units="1",
        metrics={"absolute_error": lambda outputs, y: abs(outputs - y).mean()},
        metrics_of=HELD_OUT,
    )
    return Workload(task, steps, "validation_loss", "test_loss", known)


def standard_target(found: DataSet) -> DataSet:
    """The data set with targets of mean 0 and standard deviation 1 in the training part."""
    require(not found.classes, f"{found.name} has classes for targets, and this is a regression.")
    mean, deviation = found.y_train.mean(dtype="float64"), found.y_train.std(dtype="float64")
    require(bool(deviation > 0), f"The target of {found.name} is the same number in all rows to train on.")
    scaled = {f"y_{part}": ((y - mean) / deviation).astype("float32") for part, (_, y) in found.parts.items()}
    return replace(found, **scaled)
