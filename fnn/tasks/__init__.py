"""Tasks: what is learnt. `contract` says what a task is; every other file holds one kind."""

from fnn.tasks.classification import (
    Split,
    Task,
    WithReplacement,
    averaged,
    check_splits,
    classification,
    rows,
    stratified,
)

__all__ = [
    "Split",
    "Task",
    "WithReplacement",
    "averaged",
    "check_splits",
    "classification",
    "rows",
    "stratified",
]
