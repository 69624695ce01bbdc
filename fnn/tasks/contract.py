"""A task is what a run learns, as pure functions with their data; a trial is what is measured without training."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fnn.base.types import Hyper, Key, Params, Scalar


class Label(NamedTuple):
    """The label of a recorded array: its long name, its units and the names of the dimensions that only it has."""

    long_name: str = ""
    units: str = ""
    dims: tuple[str, ...] = ()


def everything(key: Key, data: Any) -> Any:
    """The data themselves: a task's `own` where all seeds have the same data."""
    return data


def fitting(hp: Hyper, data: Any) -> None:
    """Nothing: a task's `check` where all hyperparameters and data fit."""


def separate(hp: Hyper) -> bool:
    """False: a task's `mixes` where no example's loss depends on another example."""
    return False


class Task(NamedTuple):
    """What a run learns. `hp` are the task's own traced numbers (λ, a dropout ratio, a weight scale).

    init:    `(hp, key, data) -> (params, stats)`
    draw:    `(key, data, i) -> examples`, those of step i = 0, 1, …, with the same key for every step: their indices,
             say, since the draws of many steps are stored
    batch:   `(data, examples) -> batch`
    loss:    `(hp, params, stats, batch, key, train) -> (loss, stats)`
    metrics: `(hp, params, stats, data) -> {name: scalar}`, on whole splits
    check:   `(hp, data) -> None`, raises `InputError` where the data do not fit the network; of traced data it sees
             shapes and types only
    mixes:   `hp -> bool`, whether an example's loss in training depends on the other examples of its batch
    own:     `(key, data) -> data`, the data of the seed that has this key: its own sample, say
    data:    the data of all seeds
    hyper:   the defaults of hp
    labels:  of `loss`, metrics and observations, by name
    coords:  coordinates of their own dimensions
    about:   attributes of what is recorded: the data set's name, the size of minibatches
    """

    init: Callable[[Hyper, Key, Any], tuple[Params, Any]]
    draw: Callable[[Key, Any, Any], Any]
    batch: Callable[[Any, Any], Any]
    loss: Callable[[Hyper, Params, Any, Any, Key | None, bool], tuple[Scalar, Any]]
    metrics: Callable[[Hyper, Params, Any, Any], Mapping[str, Scalar]]
    check: Callable[[Hyper, Any], None] = fitting
    mixes: Callable[[Hyper], bool] = separate
    own: Callable[[Key, Any], Any] = everything
    data: Any = None
    hyper: Hyper = ()
    labels: Mapping[str, Label] = {}
    coords: Mapping[str, Any] = {}
    about: Mapping[str, Any] = {}


class Trial(NamedTuple):
    """A measurement at settings and seeds without steps of training: `measure(hp, key, data) -> {name: array}`.

    data, hyper, labels, coords, about: as a `Task`'s.
    """

    measure: Callable[[Hyper, Key, Any], Mapping[str, Any]]
    data: Any = ()
    hyper: Hyper = ()
    labels: Mapping[str, Label] = {}
    coords: Mapping[str, Any] = {}
    about: Mapping[str, Any] = {}
