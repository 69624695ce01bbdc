"""What the four problems of `optimizer_oracles` share: keys and hyperparameters of every seed."""

import functools
from collections.abc import Iterable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from fnn.base.types import Hyper, Keys

ONCE = {"xla_backend_optimization_level": 0}
"""Compiler options for short programs that run once: optimizing them would take longer."""
NOTHING = 1e-60
"""A replacement of 0 with which 0/0 is 0: far below the last bit of any number that it is added to."""


@functools.partial(jax.jit, static_argnums=1, compiler_options=ONCE)
def split(keys: Keys, n: int) -> Keys:
    """n keys for every seed, `[n, seeds]`."""
    return jax.vmap(lambda key: jax.random.split(key, n), out_axes=1)(keys)


@functools.partial(jax.jit, static_argnums=1, compiler_options=ONCE)
def uniform(keys: Keys, n: int) -> Float[Array, "seeds n"]:
    """n numbers from 0 to 1 for every seed."""
    return jax.vmap(lambda key: jax.random.uniform(key, (n,)))(keys)


@functools.partial(jax.jit, static_argnums=2, compiler_options=ONCE)
def tosses(keys: Keys, probability: float, n: int) -> Bool[Array, "seeds n"]:
    """n tosses of a coin for every seed."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, probability, (n,)))(keys)


def repeated(hyper: Hyper, n: int) -> Hyper:
    """The hyperparameters with n of each; scalars are repeated."""
    return jax.tree.map(lambda h: np.broadcast_to(np.float64(h), n), hyper)


def marks(n: int, points: int = 60) -> np.ndarray:
    """Some of the numbers 1 … n, evenly spaced on a log axis."""
    return np.unique(np.geomspace(1, n, points).round().astype(int))


def in_words(names: Iterable[str]) -> str:
    """The names as a phrase: "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
