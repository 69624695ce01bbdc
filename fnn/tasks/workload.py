"""A workload: a task with the horizon and the metric by which update rules are compared on it."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar, get_args

from fnn.base.errors import require
from fnn.tasks.contract import Task

Size = Literal["tiny", "small", "full"]
"""tiny: for tests, seconds in all. small: a second for each network on two cores. full: as in the literature."""

SIZES: tuple[Size, ...] = get_args(Size)

S = TypeVar("S")


class Workload(NamedTuple):
    """A task with the horizon and the metrics by which rules are compared on it.

    task: with data; where these are real, its splits are train, validation and test.
    steps: the horizon, the number of updates that the task is meant for.
    metric: the metric of the task that decides: settings are chosen and targets are set by it; the lower the better.
    reported: the metric that is reported beside it and decides nothing; the lower the better.
    known: why the task is here, and its optimum or best published number, with the source.
    """

    task: Task
    steps: int
    metric: str
    reported: str
    known: str


def sized(sizes: Mapping[str, S], size: str) -> S:
    """What a task has at a size. Raises `InputError` for another size."""
    require(size in sizes, f"A task has the sizes {', '.join(sizes)}, not {size!r}.")
    return sizes[size]
