"""Classification by softmax cross-entropy, of images or rows of numbers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from fnn.base.checks import check_key
from fnn.base.errors import InputError, require, whole
from fnn.base.types import Hyper, Key, Scalar
from fnn.data import DataSet
from fnn.nn.layers import Layer
from fnn.nn.losses import SUM_TOLERANCE, accuracy, l2_penalty, softmax_cross_entropy, weights
from fnn.tasks.contract import Label, Task, everything


class Split(NamedTuple):
    """Part of a data set: images `[n, height, width]` or rows `[n, features]`, and their labels.

    x: bytes (uint8, 0…255), or floating-point numbers, which are not scaled.
    y: classes 0, 1, …, or rows of probabilities `[n, classes]`.
    """

    x: UInt8[Array, "n ..."] | Float[Array, "n ..."]
    y: Int[Array, " n"] | Float[Array, "n classes"]


def check_splits(data: Any) -> None:
    """Raise `InputError` where a `Split` in a tree of data is not valid.

    Its images are bytes (uint8), or finite numbers other than whole ones up to 255, which are unscaled bytes; there is
    a label for each; labels are classes from 0 on, or rows of probabilities. Of traced arrays only shapes and types
    are checked.
    """
    is_split = lambda part: isinstance(part, Split)
    for path, split in jax.tree_util.tree_leaves_with_path(data, is_leaf=is_split):
        if is_split(split):
            _check_split(jax.tree_util.keystr(path, simple=True, separator=".") or "the split", split)


def _check_split(name, split, features=None):
    """features: the shape that every image must have, if that is known."""
    _check_images(name, split, features)
    _check_labels(name, split)


def _check_images(name, split, features):
    what, x = f"The images of {name}", split.x
    kind: Any = getattr(x, "dtype", None)
    require(kind is not None, f"{what} are an array, not {type(x).__name__}.")
    require(not isinstance(x, np.ma.MaskedArray), f"{what} have masked entries: fill them first, or leave them out.")
    as_bytes, as_numbers = kind == np.uint8, jnp.issubdtype(kind, jnp.floating)
    require(as_bytes or as_numbers, f"{what} are bytes (uint8) or floating-point numbers, not {kind}.")
    require(x.ndim >= 2 and x.size > 0, f"{what} are at least one, of shape (n, features …), not {x.shape}.")
    if features is not None:
        require(x.shape[1:] == features, f"{what} are of shape {x.shape[1:]} each, not {features} as those of train.")
    if as_numbers and (values := _values(x)) is not None:
        finite = np.isfinite(values).all() and np.abs(values).max() <= jnp.finfo(jnp.float32).max
        require(bool(finite), f"{what} hold numbers that are infinite, NaN or beyond float32.")
        low, high = float(values.min()), float(values.max())
        unscaled = low >= 0 and 1 < high <= 255 and bool((values == np.floor(values)).all())
        require(
            not unscaled,
            f"{what} hold whole numbers up to {high:g} as {kind}: give bytes as uint8, which are divided by 255, or "
            "numbers that are scaled already.",
        )


def _check_labels(name, split, classes=None):
    what, y, n = f"The labels of {name}", split.y, len(split.x)
    kind: Any = getattr(y, "dtype", None)
    require(kind is not None, f"{what} are an array, not {type(y).__name__}.")
    require(not isinstance(y, np.ma.MaskedArray), f"{what} have masked entries: fill them first, or leave them out.")
    require(y.ndim >= 1 and len(y) == n, f"{what} are of shape {y.shape}, and there are {n} images.")
    integers = jnp.issubdtype(kind, jnp.integer)
    rows = y.ndim == 2 and (classes is None or y.shape[1] == classes) and y.shape[1] > 1
    require(
        (integers and y.ndim == 1) or (rows and (integers or jnp.issubdtype(kind, jnp.floating))),
        f"{what} are whole numbers of shape ({n},) or probabilities of shape ({n}, {classes or 'classes'}), not {kind} "
        f"of shape {y.shape}.",
    )
    values = _values(y)
    if values is not None and rows:
        off = np.abs(values.astype(float).sum(1) - 1).max()
        sound = bool(off <= SUM_TOLERANCE and values.min() >= 0)
        require(sound, f"{what} are probabilities: rows from 0 on that sum to 1.")
    elif values is not None:
        low, high = int(values.min()), int(values.max())
        most = math.inf if classes is None else classes - 1
        allowed = "from 0 on" if classes is None else f"0 to {most}, as the network has {classes} outputs"
        wrong = low if low < 0 else high
        require(low >= 0 and high <= most, f"{what} are classes {allowed}, and one is {wrong}.")


def _values(array):
    """The array in NumPy; None where it is traced, or spread over hosts."""
    traced = isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True)
    return None if traced else np.asarray(array)


def stratified(key: Key, labels: Int[Array, " n"] | Int[np.ndarray, " n"]) -> Int[Array, " n"]:
    """The indices `[n]` of n examples in a random order, in every prefix of which the classes are in proportion.

    Of the first m examples m · n_c / n are of class c, to within (1 + C · n_c / n) / 2 with C classes: one, where all
    are equally common. So it may be cut anywhere to train, validate and test on. The n_c examples of a class are
    shuffled, number r = 0, 1, … of them gets the sort key (r + ½) / n_c, and equal sort keys are ordered at random.
    """
    check_key(key)
    one_axis = getattr(labels, "ndim", None) == 1 and len(labels) > 0
    require(one_axis, f"Labels are an array of one axis, not {getattr(labels, 'shape', repr(labels))}.")
    labels = jnp.asarray(labels)
    k_shuffle, k_equals = jax.random.split(key)
    by_class = jnp.lexsort((jax.random.uniform(k_shuffle, labels.shape), labels))
    ordered = labels[by_class]
    first, end = (jnp.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    at = (jnp.arange(len(labels)) - first + 0.5) / (end - first)
    return by_class[jnp.lexsort((jax.random.uniform(k_equals, at.shape), at))]


@dataclass(frozen=True)
class WithReplacement:
    """`(key, data) -> indices` `[n]` of examples of `data["train"]`, drawn uniformly with replacement."""

    n: int

    def __call__(self, key: Key, data: Mapping[str, Split]) -> Int[Array, " n"]:
        """The indices."""
        return jax.random.randint(key, (self.n,), 0, len(data["train"].y))


def rows(x: UInt8[Array, "n ..."] | Float[Array, "n ..."]) -> Float[Array, "n features"]:
    """Bytes 0…255 as rows of numbers 0…1; floating-point numbers as rows of float32, not scaled."""
    numbers = x.reshape(len(x), -1).astype(jnp.float32)
    return numbers / 255 if x.dtype == jnp.uint8 else numbers


@dataclass(frozen=True)
class Sample:
    """`(key, data) -> data` with n of the examples of `data["train"]`, drawn without replacement."""

    n: int

    def __call__(self, key: Key, data: Mapping[str, Split]) -> Mapping[str, Split]:
        """The data of one seed."""
        indices = jax.random.choice(key, len(data["train"].y), (self.n,), replace=False)
        return {**data, "train": jax.tree.map(lambda a: a[indices], data["train"])}


def splits(images: DataSet, train: int | None = None) -> dict[str, Split]:
    """A data set as splits "train", of its first `train` training examples or of all, and "test"."""
    known: Any = images  # NumPy arrays in fields for JAX arrays
    return {
        "train": Split(known.x_train[:train], known.y_train[:train]),
        "test": Split(known.x_test, known.y_test),
    }


def classification(
    network: Layer | Callable[[Hyper], Layer],
    data: DataSet | Mapping[str, Split] | None = None,
    batch: int = 128,
    *,
    hyper: Hyper = (),
    weight_decay: Callable[[Hyper], Scalar] | None = None,
    sample: int | None = None,
    block: int = 1000,
) -> Task:
    """The task of classifying examples by softmax cross-entropy.

    network: a layer, or `hp -> Layer`, called while tracing, so its numbers may be swept.
    data: a data set as `fnn.data.load` returns it, or splits by name, of which "train" is learned. None: the run gets
        its data from its caller.
    batch: examples per step, drawn with replacement.
    hyper: the defaults of the task's hyperparameters.
    weight_decay: `hp -> λ`, which adds ½ λ ‖W‖² to the loss; None: no such term.
    sample: each seed trains on this many examples of "train", drawn by its key; None trains all seeds on all.
    block: examples that are evaluated together, which bounds the memory of `metrics`.

    Its metrics are `SPLIT_loss` (without the penalty) and `SPLIT_accuracy` for every split in `data`. Data that do not
    fit (labels out of range, say) raise `InputError` before training where their values are known; where they are
    traced, the loss is NaN.
    """
    build: Any = network
    require(
        isinstance(network, Layer) or callable(network),
        f"The network of a task is a Layer, or a function hp -> Layer, not {network!r}.",
    )
    decays = weight_decay is None or callable(weight_decay)
    require(decays, f"The weight decay of a task is a function hp -> λ, not {weight_decay!r}.")
    require(whole(batch, 1), f"A minibatch needs at least 1 example, not {batch}.")
    require(whole(block, 1), f"A block needs at least 1 example, not {block}.")
    require(sample is None or whole(sample, 1), f"A sample has at least 1 example, not {sample!r}.")
    about: dict[str, Any] = {"batch": batch}
    if isinstance(data, DataSet):
        about |= data.about
        data = splits(data)
    if sample is not None and data is not None and "train" in data:
        most = len(data["train"].y)
        require(sample <= most, f"A sample of {sample:,} is more than the {most:,} examples of train.")

    def built(hp) -> Layer:
        layer = network if isinstance(network, Layer) else _of_hyper(build, hp)
        require(isinstance(layer, Layer), f"The network of a task is a function hp -> Layer, not -> {layer!r}.")
        return layer

    def check(hp, data):
        splits = isinstance(data, Mapping) and all(isinstance(split, Split) for split in data.values())
        require(splits, "The data of a classification are a mapping from names to tasks.Split(x, y).")
        require("train" in data, f"There is no split 'train' to learn from; there are {', '.join(data) or 'none'}.")
        _check_split("train", data["train"])
        for name in data.keys() - {"train"}:
            _check_split(name, data[name], data["train"].x.shape[1:])

        def outputs(hp, x):
            layer, x = built(hp), rows(x)
            return layer.apply(*layer.init(jax.random.key(0), x), x, None, False)[0]

        x = data["train"].x
        logits = jax.eval_shape(outputs, hp, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
        several = logits.ndim == 2 and logits.shape[1] > 1
        require(several, f"A classification needs a network of 2 outputs or more; it has the shape {logits.shape}.")
        for name, split in data.items():
            _check_labels(name, split, logits.shape[1])

    def init(hp, key, data):
        n_in = data["train"].x[0].size
        return built(hp).init(key, jax.ShapeDtypeStruct((batch, n_in), jnp.float32))

    def minibatch(data, indices):
        split = data["train"]
        return rows(split.x[indices]), split.y[indices]

    def loss(hp, params, stats, batch, key, train):
        x, y = batch
        logits, stats = built(hp).apply(params, stats, x, key, train)
        return softmax_cross_entropy(logits, y) + penalty(hp, params), stats

    def penalty(hp, params):
        if weight_decay is None:
            return 0.0
        require(bool(weights(params)), "Weight decay is of the weights, arrays named w, and this network has none.")
        return _of_hyper(weight_decay, hp) * l2_penalty(params)

    def metrics(hp, params, stats, data):
        def score(split):
            logits, _ = built(hp).apply(params, stats, rows(split.x), None, False)
            return jnp.stack([softmax_cross_entropy(logits, split.y), accuracy(logits, split.y)])

        scores = {name: averaged(score, split, block) for name, split in data.items()}
        return {f"{name}_{what}": s[i] for name, s in scores.items() for i, what in enumerate(("loss", "accuracy"))}

    mixes = lambda hp: built(hp).mixes
    return Task(
        *(init, WithReplacement(batch), minibatch, loss, metrics, check, mixes),
        own=everything if sample is None else Sample(sample),
        data=data,
        hyper=hyper,
        labels={"loss": Label("loss on the minibatch", "nats"), **_labels(data or {})},
        about=about,
    )


def _labels(names):
    of = lambda name: f"the {'training' if name == 'train' else name} set"
    losses = {f"{name}_loss": Label(f"loss on {of(name)}", "nats") for name in names}
    return losses | {f"{name}_accuracy": Label(f"accuracy on {of(name)}", "1") for name in names}


def _of_hyper(f: Callable[[Hyper], Any], hp: Hyper) -> Any:
    """`f(hp)`. Raises `InputError` where f reads a hyperparameter and hp is empty."""
    try:
        return f(hp)
    except AttributeError as error:
        if jax.tree.leaves(hp):
            raise
        raise InputError(f"The task has hyperparameters, and Hyper(task=…) has none: {error}.") from error


def averaged(score: Callable[[Split], Array], split: Split, block: int) -> Array:
    """The mean of `score` over a split, taken `block` examples at a time."""
    n = len(split.y)
    whole = n - n % block
    blocks = jax.tree.map(lambda a: a[:whole].reshape(whole // block, block, *a.shape[1:]), split)
    total = jnp.float32(0)
    if whole:
        total += jax.lax.map(score, blocks).sum(0) * block
    if whole < n:
        total += score(jax.tree.map(lambda a: a[whole:], split)) * (n - whole)
    return total / n
