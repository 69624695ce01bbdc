"""Tasks: what is learned. `contract` defines a task; every other file holds one kind."""

from fnn.tasks.classification import (
    Sample,
    Split,
    WithReplacement,
    averaged,
    check_splits,
    classification,
    rows,
    splits,
    stratified,
)
from fnn.tasks.contract import Label, Task, Trial

__all__ = [
    "Label",
    "Sample",
    "Split",
    "Task",
    "Trial",
    "WithReplacement",
    "averaged",
    "check_splits",
    "classification",
    "rows",
    "splits",
    "stratified",
]
