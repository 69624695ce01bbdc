"""Classification by softmax cross-entropy, of images or rows of numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fnn.base.errors import require
from fnn.base.types import Hyper, Key, Scalar
from fnn.data import DataSet
from fnn.nn.contract import Layer
from fnn.nn.losses import SUM_TOLERANCE, accuracy, softmax_cross_entropy
from fnn.tasks.contract import Label, Task
from fnn.tasks.splits import Split, rows, values
from fnn.tasks.supervised import supervised

LABELS = {"loss": Label("loss", "nats"), "accuracy": Label("accuracy", "1")}


def classification(
    network: Layer | Callable[[Hyper], Layer],
    data: DataSet | Mapping[str, Split] | None = None,
    batch: int | Callable[[Key, Any, Any], Array] = 128,
    *,
    prepare: Callable[[Array], Array] = rows,
    augment: Callable[[Key, Array], Array] | None = None,
    metrics: Mapping[str, Callable[[Array, Array], Scalar]] | None = None,
    hyper: Hyper = (),
    weight_decay: Callable[[Hyper], Scalar] | None = None,
    sample: int | None = None,
    block: int = 1000,
    metrics_of: Sequence[str] | None = None,
) -> Task:
    """The task of classifying examples by softmax cross-entropy.

    data: a data set as `fnn.data.load` returns it, or splits by name: images as bytes (uint8), or floats
        other than whole numbers up to 255, which are unscaled bytes; classes 0, 1, …, or rows of probabilities.
    prepare: `x -> inputs` of the network; `rows` flattens, and divides bytes by 255; `images` does not flatten, for
        convolutions.
    metrics: beside the accuracy.
    The other arguments are those of `supervised`. Its metrics are `SPLIT_loss` (without the penalty) and
    `SPLIT_accuracy` for every split in `data`. Data that do not fit (labels out of range, say) raise
    `InputError` before training where their values are known; where they are traced, the loss is NaN.
    """
    return supervised(
        *(network, data, softmax_cross_entropy),
        metrics={"accuracy": accuracy, **(metrics or {})},
        batch=batch,
        prepare=prepare,
        augment=augment,
        hyper=hyper,
        weight_decay=weight_decay,
        sample=sample,
        block=block,
        metrics_of=metrics_of,
        check=_check,
        labels=LABELS,
    )


def _check(data, outputs):
    """Raise `InputError` where images, labels and the network's outputs do not fit."""
    features = data["train"].x.shape[1:]
    for name, split in data.items():
        _check_images(name, split, features)
    logits = outputs(data["train"])
    several = logits.ndim == 2 and logits.shape[1] > 1
    require(several, f"A classification needs a network of 2 outputs or more; it has the shape {logits.shape}.")
    for name, split in data.items():
        _check_labels(name, split, logits.shape[1])


def _check_images(name, split, features):
    what, x = f"The inputs of {name}", split.x
    as_bytes, as_numbers = x.dtype == np.uint8, jnp.issubdtype(x.dtype, jnp.floating)
    require(as_bytes or as_numbers, f"{what} are bytes (uint8) or floating-point numbers, not {x.dtype}.")
    require(x.ndim >= 2, f"{what} are at least one, of shape (n, features …), not {x.shape}.")
    require(x.shape[1:] == features, f"{what} are of shape {x.shape[1:]} each, not {features} as those of train.")
    if as_numbers and (numbers := values(x)) is not None:
        low, high = float(numbers.min()), float(numbers.max())
        unscaled = low >= 0 and 1 < high <= 255 and bool((numbers == np.floor(numbers)).all())
        require(
            not unscaled,
            f"{what} hold whole numbers up to {high:g} as {x.dtype}: give bytes as uint8, which are divided by 255, or "
            "numbers that are scaled already.",
        )


def _check_labels(name, split, classes):
    what, y, n = f"The labels of {name}", split.y, len(split.x)
    integers = jnp.issubdtype(y.dtype, jnp.integer)
    rows = y.ndim == 2 and y.shape[1] == classes
    require(
        (integers and y.ndim == 1) or rows,
        f"{what} are whole numbers of shape ({n},) or probabilities of shape ({n}, {classes}), not {y.dtype} "
        f"of shape {y.shape}.",
    )
    if (numbers := values(y)) is None:
        return
    if rows:
        off = np.abs(numbers.astype(float).sum(1) - 1).max()
        sound = bool(off <= SUM_TOLERANCE and numbers.min() >= 0)
        require(sound, f"{what} are probabilities: rows from 0 on that sum to 1.")
    else:
        most = int(numbers.max())
        require(
            most < classes,
            f"{what} are classes 0 to {classes - 1}, as the network has {classes} outputs, and one is {most}.",
        )
