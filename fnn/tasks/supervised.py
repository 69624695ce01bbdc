"""Supervised learning: a network, splits of examples, a loss of outputs and targets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fnn.base.errors import InputError, listed, require, whole
from fnn.base.types import Hyper, Key, Scalar
from fnn.data import DataSet
from fnn.nn.contract import Layer
from fnn.nn.losses import l2_penalty, weights
from fnn.tasks.contract import Label, Task, everything
from fnn.tasks.drawing import Sample, WithReplacement
from fnn.tasks.splits import Split, averaged, check_split, splits

Score = Callable[[Array, Array], Scalar]
"""`(outputs, targets) -> number`, the mean over a batch."""


def unchanged(x: Array) -> Array:
    """The inputs as they are."""
    return x


def supervised(
    network: Layer | Callable[[Hyper], Layer],
    data: DataSet | Mapping[str, Split] | None,
    loss: Score,
    *,
    metrics: Mapping[str, Score] | None = None,
    batch: int | Callable[[Key, Any, Any], Array] = 128,
    prepare: Callable[[Array], Array] = unchanged,
    augment: Callable[[Key, Array], Array] | None = None,
    hyper: Hyper = (),
    weight_decay: Callable[[Hyper], Scalar] | None = None,
    sample: int | None = None,
    block: int = 1000,
    metrics_of: Sequence[str] | None = None,
    check: Callable[[Mapping[str, Split], Callable[[Any], Any]], None] | None = None,
    labels: Mapping[str, Label] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Task:
    """The task of learning targets from inputs, by any loss that is a mean over examples.

    network: a layer, or `hp -> Layer`, called while tracing, so its numbers may be swept.
    data: a data set, or splits by name, of which "train" is learned. None: the run gets its data from its caller.
    loss: `(outputs, targets) -> number`, the mean over a batch; `fnn.losses` has the usual ones.
    metrics: further ones by name, taken of every split beside the loss, as `SPLIT_loss` and `SPLIT_NAME`.
    batch: examples per step, drawn with replacement; or `(key, data, i) -> indices`, `Epochs(128)` say.
    prepare: `x -> inputs` of the network, of a minibatch and of whole splits: scaling, say.
    augment: `(key, inputs) -> inputs` of the same shape and dtype, in training only.
    hyper: the defaults of the task's hyperparameters.
    weight_decay: `hp -> λ`, which adds ½ λ ‖W‖² to the loss, W the arrays named w; None: no such term.
    sample: each seed trains on this many examples of "train", drawn by its key; None trains all seeds on all.
    block: examples that are evaluated together, which bounds the memory of `metrics`.
    metrics_of: the splits that metrics are taken of, ("validation", "test") say; None for all.
    check: `(data, outputs) -> None`, raises `InputError` where the data do not fit the loss; `outputs` gives the shape
        and dtype of the network's outputs for the inputs of a split.
    labels: of the loss and the metrics by their names, "loss" and "accuracy" say.
    about: attributes of what is recorded: the data set's name.
    """
    build: Any = network
    size: Any = batch
    metrics = dict(metrics or {})
    require(
        isinstance(network, Layer) or callable(network),
        f"The network of a task is a Layer, or a function hp -> Layer, not {network!r}.",
    )
    decays = weight_decay is None or callable(weight_decay)
    require(decays, f"The weight decay of a task is a function hp -> λ, not {weight_decay!r}.")
    scores = all(callable(score) for score in (loss, *metrics.values())) and "loss" not in metrics
    require(scores, "The loss and the metrics of a task are functions (outputs, targets) -> number, none named loss.")
    drawing = WithReplacement(size) if isinstance(batch, int | np.integer) else size
    require(callable(drawing), f"A minibatch is a number of examples, or what draws them, not {batch!r}.")
    require(callable(prepare), f"What prepares inputs is a function of them, not {prepare!r}.")
    require(augment is None or callable(augment), f"An augmentation is a function (key, inputs), not {augment!r}.")
    texts = metrics_of is None or (listed(metrics_of) and all(isinstance(name, str) for name in metrics_of))
    require(texts, f"Metrics are taken of a list of splits by name, or of all, None; not {metrics_of!r}.")
    require(whole(block, 1), f"A block needs at least 1 example, not {block}.")
    require(sample is None or whole(sample, 1), f"A sample has at least 1 example, not {sample!r}.")
    if isinstance(data, DataSet):
        about, data = {**data.about, **(about or {})}, splits(data)
    if sample is not None and data is not None and "train" in data:
        most = len(data["train"].y)
        require(sample <= most, f"A sample of {sample:,} is more than the {most:,} examples of train.")

    def built(hp) -> Layer:
        layer = network if isinstance(network, Layer) else _of_hyper(build, hp)
        require(isinstance(layer, Layer), f"The network of a task is a function hp -> Layer, not -> {layer!r}.")
        return layer

    def fits(hp, data):
        named = isinstance(data, Mapping) and all(isinstance(split, Split) for split in data.values())
        require(named, "The data of a supervised task are a mapping from names to tasks.Split(x, y).")
        require("train" in data, f"There is no split 'train' to learn from; there are {', '.join(data) or 'none'}.")
        lacking = [name for name in metrics_of or () if name not in data]
        require(not lacking, f"Metrics are to be taken of {', '.join(lacking)}, and the splits are {', '.join(data)}.")
        for name in sorted(data, key="train".__ne__):
            check_split(name, data[name])

        def outputs(x):
            layer, x = built(hp), prepare(x)
            return layer.apply(*layer.init(jax.random.key(0), x), x, None, False)[0]

        (check or _fits)(data, lambda split: jax.eval_shape(outputs, _one(split.x)))

    def init(hp, key, data):
        return built(hp).init(key, jax.eval_shape(prepare, _one(data["train"].x)))

    def minibatch(data, indices):
        split = data["train"]
        return prepare(split.x[indices]), split.y[indices]

    def mean_loss(hp, params, stats, batch, key, train):
        x, y = batch
        if augment is not None and train:
            key, k_augment = jax.random.split(key)
            x = augment(k_augment, x)
        outputs, stats = built(hp).apply(params, stats, x, key, train)
        return loss(outputs, y) + penalty(hp, params), stats

    def penalty(hp, params):
        if weight_decay is None:
            return 0.0
        require(bool(weights(params)), "Weight decay is of the weights, arrays named w, and this network has none.")
        return _of_hyper(weight_decay, hp) * l2_penalty(params)

    def measured_splits(data):
        return tuple(data) if metrics_of is None else tuple(metrics_of)

    def measured(hp, params, stats, data):
        def score(split):
            outputs, _ = built(hp).apply(params, stats, prepare(split.x), None, False)
            return jnp.stack([one(outputs, split.y) for one in (loss, *metrics.values())])

        found = {name: averaged(score, data[name], block) for name in measured_splits(data)}
        return {
            f"{name}_{what}": values[i] for name, values in found.items() for i, what in enumerate(("loss", *metrics))
        }

    return Task(
        *(init, drawing, minibatch, mean_loss, measured, fits, lambda hp: built(hp).mixes),
        own=everything if sample is None else Sample(sample),
        data=data,
        hyper=hyper,
        labels=_labels(measured_splits(data or {}), ("loss", *metrics), labels or {}),
        about={**_size(drawing), **(about or {})},
    )


def _size(drawing):
    """The number of examples of a minibatch, where what draws them says it."""
    n = getattr(drawing, "n", None)
    return {} if n is None else {"batch": n}


def _one(x):
    """The shape and dtype of one of these examples, as a batch."""
    return jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)


def _fits(data, outputs):
    """The network takes the inputs of every split."""
    for split in data.values():
        outputs(split)


def _labels(splits, metrics, labels):
    """Labels of the minibatch's loss and of every metric of every split."""
    of = lambda name: f"the {'training' if name == 'train' else name} set"
    named = {name: labels.get(name, Label(name, "1")) for name in metrics}
    every = {
        f"{split}_{name}": label._replace(long_name=f"{label.long_name} on {of(split)}")
        for split in splits
        for name, label in named.items()
    }
    return {"loss": named["loss"]._replace(long_name="loss on the minibatch"), **every}


def _of_hyper(f: Callable[[Hyper], Any], hp: Hyper) -> Any:
    """`f(hp)`. Raises `InputError` where f reads a hyperparameter and hp is empty."""
    try:
        return f(hp)
    except AttributeError as error:
        if jax.tree.leaves(hp):
            raise
        raise InputError(f"The task has hyperparameters, and Hyper(task=…) has none: {error}.") from error
