"""Regression: numbers from numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import require
from fnn.data import DataSet
from fnn.nn.contract import Layer
from fnn.nn.losses import mean_squared_error
from fnn.tasks.contract import Label, Task
from fnn.tasks.splits import Split, rows
from fnn.tasks.supervised import Score, supervised


def regression(
    network: Layer | Callable[[Any], Layer],
    data: DataSet | Mapping[str, Split] | None = None,
    batch: int | Callable[[Any, Any, Any], Array] = 128,
    *,
    loss: Score = mean_squared_error,
    metrics: Mapping[str, Score] | None = None,
    units: str = "1",
    **options: Any,
) -> Task:
    """The task of learning numbers `[n]` or `[n, outputs]`, by their mean squared error.

    loss: or another mean over examples, `fnn.losses.huber` say. metrics: beside it, as `supervised` takes them.
    units: of the loss. options: further arguments of `supervised`; `prepare` is `rows`.
    Its metrics are `SPLIT_loss` and `SPLIT_NAME` of `metrics` for every split in `data`. Raises `InputError` where the
    network has another number of outputs than the targets.
    """

    def columns(score):
        return lambda outputs, y: score(outputs, y.reshape(outputs.shape).astype(outputs.dtype))

    return supervised(
        *(network, data, columns(loss)),
        metrics={name: columns(score) for name, score in (metrics or {}).items()},
        batch=batch,
        **{"prepare": rows, "check": _check, "labels": {"loss": Label("loss", units)}, **options},
    )


def _check(data, outputs):
    """Raise `InputError` where the targets are not numbers, one for each output."""
    for name, split in data.items():
        numbers = jnp.issubdtype(split.y.dtype, jnp.floating)
        require(numbers, f"The targets of {name} are floating-point numbers, not {split.y.dtype}.")
        given, shape = outputs(split), split.y.shape
        fits = given.ndim == 2 and shape[1:] in ((given.shape[1],), () if given.shape[1] == 1 else None)
        require(fits, f"The network has outputs of shape {given.shape[1:]}, and the targets of {name} are {shape}.")
