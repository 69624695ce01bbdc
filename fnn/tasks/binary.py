"""Classification of two classes by one logit."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import require
from fnn.data import DataSet
from fnn.nn.contract import Layer
from fnn.nn.losses import sigmoid_cross_entropy, sign_accuracy
from fnn.tasks.contract import Label, Task
from fnn.tasks.splits import Split, rows, values
from fnn.tasks.supervised import supervised


def binary(
    network: Layer | Callable[[Any], Layer],
    data: DataSet | Mapping[str, Split] | None = None,
    batch: int | Callable[[Any, Any, Any], Array] = 128,
    **options: Any,
) -> Task:
    """The task of telling two classes, 0 and 1, by the sigmoid cross-entropy of one logit.

    options: further arguments of `supervised`; `prepare` is `rows`. Its metrics are `SPLIT_loss` and `SPLIT_accuracy`.
    Raises `InputError` for a network of several outputs, and where a class is neither 0 nor 1.
    """
    metrics = {"accuracy": sign_accuracy, **options.pop("metrics", {})}
    labels = {"loss": Label("loss", "nats"), "accuracy": Label("accuracy", "1")}
    beside = {"prepare": rows, "check": _check, "labels": labels, **options}
    return supervised(network, data, sigmoid_cross_entropy, metrics=metrics, batch=batch, **beside)


def _check(data, outputs):
    """Raise `InputError` where classes are others than 0 and 1, or the network has not one output."""
    for name, split in data.items():
        classes = split.y.ndim == 1 and jnp.issubdtype(split.y.dtype, jnp.integer)
        require(classes, f"The targets of {name} are whole numbers in one axis, not {split.y.dtype} {split.y.shape}.")
        most = 0 if (numbers := values(split.y)) is None else int(numbers.max())
        require(most <= 1, f"The targets of {name} are classes 0 and 1, and one is {most}.")
        shape = outputs(split).shape
        require(shape[1:] == (1,), f"A binary classification needs a network of one output; it has {shape[1:]}.")
