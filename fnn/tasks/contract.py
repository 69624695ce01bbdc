"""What a task is: the thing that is learnt, as pure functions with their data; and a trial, which is only measured."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fnn.base.types import Hyper, Key, Params, Scalar


class Label(NamedTuple):
    """What a recorded array is, for people: its own dimensions, its name and its unit."""

    long_name: str = ""
    units: str = ""
    dims: tuple[str, ...] = ()


def everything(key: Key, data: Any) -> Any:
    """The data of a seed where all seeds have the same."""
    return data


def fitting(hp: Hyper, data: Any) -> None:
    """The check of a task that any hyperparameters and data fit."""


def separate(hp: Hyper) -> bool:
    """Of a loss in which no example depends on another."""
    return False


class Task(NamedTuple):
    """What a run learns. `hp` are the task's own traced numbers (λ, a dropout ratio, a weight scale).

    init:    `(hp, key, data) -> (params, stats)`
    draw:    `(key, data) -> examples`, which ones a step takes: their places, say, since many are drawn at once
    batch:   `(data, examples) -> batch`
    loss:    `(hp, params, stats, batch, key, train) -> (loss, stats)`
    metrics: `(hp, params, stats, data) -> {name: scalar}`, on whole splits
    check:   `(hp, data) -> None`, raises `InputError` where the data do not fit the network; of traced data it sees
             shapes and types only
    mixes:   `hp -> bool`, whether an example's loss in training depends on the other examples of its batch
    own:     `(key, data) -> data`, the data of the seed that has this key: its own sample, say
    data:    the data of all seeds
    hyper:   the defaults of hp
    labels:  what `loss`, metrics and observations are
    coords:  coordinates of their own dimensions
    about:   attributes of what is recorded: the data set's name, the size of minibatches
    """

    init: Callable[[Hyper, Key, Any], tuple[Params, Any]]
    draw: Callable[[Key, Any], Any]
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
    """What is measured at settings and seeds without steps of training: `measure(hp, key, data) -> {name: array}`.

    data, hyper, labels, coords, about: as a `Task`'s.
    """

    measure: Callable[[Hyper, Key, Any], Mapping[str, Any]]
    data: Any = ()
    hyper: Hyper = ()
    labels: Mapping[str, Label] = {}
    coords: Mapping[str, Any] = {}
    about: Mapping[str, Any] = {}
