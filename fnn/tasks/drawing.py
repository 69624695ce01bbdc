"""Which examples a step takes, and which a seed has: `(key, data, i) -> indices`, `(key, data) -> data`."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from fnn.base.errors import require, whole
from fnn.base.types import Key
from fnn.tasks.splits import Split


def _check_size(n):
    require(whole(n, 1), f"A minibatch needs at least 1 example, not {n!r}.")


@dataclass(frozen=True)
class WithReplacement:
    """`(key, data, i) -> indices` `[n]` of examples of `data["train"]`, drawn uniformly with replacement."""

    n: int

    def __post_init__(self):
        _check_size(self.n)

    def __call__(self, key: Key, data: Mapping[str, Split], i: Int[Array, ""] | int) -> Int[Array, " n"]:
        """The indices of step i."""
        return jax.random.randint(jax.random.fold_in(key, i), (self.n,), 0, len(data["train"].y))


@dataclass(frozen=True)
class Everything:
    """`(key, data, i) -> indices` of all examples of `data["train"]`: gradient descent on the full batch."""

    def __call__(self, key: Key, data: Mapping[str, Split], i: Int[Array, ""] | int) -> Int[Array, " n"]:
        """All indices, in order."""
        return jnp.arange(len(data["train"].y))


@dataclass(frozen=True)
class Epochs:
    """`(key, data, i) -> indices` `[n]` of examples of `data["train"]`, each once per epoch, shuffled anew in each.

    Minibatches follow each other through the epochs: where n does not divide the number of examples, the last one of an
    epoch is completed by the first examples of the next, so that none is smaller and none is left out.
    last: "span" for that; "drop" leaves the rest of an epoch out, others in every epoch.
    """

    n: int
    last: str = "span"

    def __post_init__(self):
        _check_size(self.n)
        require(self.last in ("span", "drop"), f"The rest of an epoch is for 'span' or 'drop', not {self.last!r}.")

    def __call__(self, key: Key, data: Mapping[str, Split], i: Int[Array, ""] | int) -> Int[Array, " n"]:
        """The indices of step i, computed without the steps before it."""
        examples = len(data["train"].y)
        require(self.n <= examples, f"A minibatch of {self.n:,} is more than the {examples:,} examples of train.")
        every = examples if self.last == "span" else examples - examples % self.n
        # The place in the sequence of all epochs is i · n + 0 … n − 1, in parts that do not overflow.
        rounds, i = jnp.divmod(i, every)
        at = i * self.n + jnp.arange(self.n)
        epoch = rounds * self.n + at // every
        return jax.vmap(lambda e, place: shuffled(jax.random.fold_in(key, e), place, examples))(epoch, at % every)


def shuffled(key: Key, place: Int[Array, ""], n: int) -> Int[Array, ""]:
    """The image of `place` under a random permutation of 0 … n − 1, without a table of it.

    A round of the swap-or-not shuffle pairs x with (k − x) mod n for a random k, and swaps the pair or not by a random
    bit of it. Hoang, Morris & Rogaway 2012, https://doi.org/10.1007/978-3-642-32009-5_1: after a few times log₂ n
    rounds the permutation is as good as uniform.
    """
    rounds = 6 * max(4, n.bit_length())
    offsets = jax.random.randint(key, (rounds,), 0, n)
    salts = jax.random.bits(jax.random.fold_in(key, 1), (rounds,), jnp.uint32)

    def swap(x, drawn):
        offset, salt = drawn
        partner = jnp.where(x <= offset, offset - x, offset - x + n)
        bit = _mixed(jnp.maximum(x, partner).astype(jnp.uint32) ^ salt) >> 31
        return jnp.where(bit == 1, partner, x), None

    return jax.lax.scan(swap, jnp.asarray(place), (offsets, salts))[0]


def _mixed(x):
    """A uint32 whose every bit depends on all of x's: the finalizer of MurmurHash3 (Appleby, public domain)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


@dataclass(frozen=True)
class Sample:
    """`(key, data) -> data` with n of the examples of `data["train"]`, drawn without replacement."""

    n: int

    def __call__(self, key: Key, data: Mapping[str, Split]) -> Mapping[str, Split]:
        """The data of one seed."""
        indices = jax.random.choice(key, len(data["train"].y), (self.n,), replace=False)
        return {**data, "train": jax.tree.map(lambda a: a[indices], data["train"])}
