"""Tasks: what is learnt, as pure functions of a data set, a network and a loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from fnn.errors import require
from fnn.layers import Layer
from fnn.losses import accuracy, l2_penalty, softmax_cross_entropy
from fnn.types import Hyper, Key, Params, Scalar


class Task(NamedTuple):
    """What a run learns. `hp` are the task's own traced numbers (λ, a dropout ratio, a weight scale; may be empty).

    init:    `(hp, key, data) -> (params, stats)`
    draw:    `(key, data) -> examples`, which ones a step takes: their places, say, since many are drawn at once
    batch:   `(data, examples) -> batch`
    loss:    `(hp, params, stats, batch, key, train) -> (loss, stats)`
    metrics: `(hp, params, stats, data) -> {name: scalar}`, on whole splits
    """

    init: Callable[[Hyper, Key, Any], tuple[Params, Any]]
    draw: Callable[[Key, Any], Any]
    batch: Callable[[Any, Any], Any]
    loss: Callable[[Hyper, Params, Any, Any, Key | None, bool], tuple[Scalar, Any]]
    metrics: Callable[[Hyper, Params, Any, Any], Mapping[str, Scalar]]


class Split(NamedTuple):
    """Part of a data set: images `[n, height, width]` or rows `[n, features]` (uint8 0…255), labels `[n]`."""

    x: UInt8[Array, "n ..."]
    y: Int[Array, " n"]


def stratified(key: Key, labels: Int[Array, " n"]) -> Int[Array, " n"]:
    """The places of n examples in a random order of which every beginning holds the classes in proportion.

    Of the first m examples m · n_c / n are of class c, to within (1 + C · n_c / n) / 2 with C classes: one, where all
    are equally common. So it may be cut anywhere to train, validate and test on. The r-th of a class's n_c examples,
    by lot, r = 0, 1, …, comes at (r + ½) / n_c, equals in an order of their own lot.
    """
    k_lot, k_equals = jax.random.split(key)
    by_class = jnp.lexsort((jax.random.uniform(k_lot, labels.shape), labels))
    ordered = labels[by_class]
    first, end = (jnp.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    at = (jnp.arange(len(labels)) - first + 0.5) / (end - first)
    return by_class[jnp.lexsort((jax.random.uniform(k_equals, at.shape), at))]


@dataclass(frozen=True)
class WithReplacement:
    """`(key, data) -> places` of n examples of `data["train"]`, any of them as likely as any other at every draw."""

    n: int

    def __call__(self, key: Key, data: Mapping[str, Split]) -> Int[Array, " n"]:
        """The places."""
        return jax.random.randint(key, (self.n,), 0, len(data["train"].y))


def rows(x: UInt8[Array, "n ..."]) -> Float[Array, "n features"]:
    """Bytes 0…255 as rows of numbers 0…1."""
    return x.reshape(len(x), -1).astype(jnp.float32) / 255


def classification(
    network: Callable[[Hyper], Layer],
    batch_size: int,
    *,
    weight_decay: Callable[[Hyper], Scalar] | None = None,
    block: int = 1000,
) -> Task:
    """Classify the examples of `data["train"]` (a `Split`) by softmax cross-entropy.

    network: `hp -> Layer`; called while tracing, so its numbers may be swept.
    batch_size: examples a step, drawn with replacement as in the notes.
    weight_decay: `hp -> λ`, adding ½ λ ‖W‖² to the loss; None leaves the term out.
    block: examples evaluated at once, which bounds the memory that `metrics` takes.
    Its metrics are `SPLIT_loss` (without the penalty) and `SPLIT_accuracy` for every split in `data`.
    """
    require(batch_size >= 1, f"A minibatch needs at least 1 example, not {batch_size}.")
    require(block >= 1, f"A block needs at least 1 example, not {block}.")

    def init(hp, key, data):
        n_in = data["train"].x[0].size
        return network(hp).init(key, jax.ShapeDtypeStruct((batch_size, n_in), jnp.float32))

    def batch(data, places):
        split = data["train"]
        return rows(split.x[places]), split.y[places]

    def loss(hp, params, stats, batch, key, train):
        x, y = batch
        logits, stats = network(hp).apply(params, stats, x, key, train)
        penalty = 0.0 if weight_decay is None else weight_decay(hp) * l2_penalty(params)
        return softmax_cross_entropy(logits, y) + penalty, stats

    def metrics(hp, params, stats, data):
        def score(split):
            logits, _ = network(hp).apply(params, stats, rows(split.x), None, False)
            return jnp.stack([softmax_cross_entropy(logits, split.y), accuracy(logits, split.y)])

        scores = {name: averaged(score, split, block) for name, split in data.items()}
        return {f"{name}_{what}": s[i] for name, s in scores.items() for i, what in enumerate(("loss", "accuracy"))}

    return Task(init, WithReplacement(batch_size), batch, loss, metrics)


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
