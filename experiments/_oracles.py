"""What the four problems of `optimizer_oracles` share: keys and hyperparameters a seed, verdicts of near equality."""

import functools
from collections.abc import Iterable
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from fnn.base.types import Hyper, Keys
from fnn.lab.verdicts import Outcome, Verdict, decide

ONCE = {"xla_backend_optimization_level": 0}
"""Options of the compiler for what runs once and shortly: compiling it well would take longer."""
NOTHING = 1e-60
"""What stands in for 0 where 0/0 has to be 0: far below the last bit of whatever it is added to."""


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
    """The hyperparameters with n of each, those that are numbers n times."""
    return jax.tree.map(lambda h: np.broadcast_to(np.float64(h), n), hyper)


def marks(n: int, points: int = 60) -> np.ndarray:
    """Some of the numbers 1 … n, evenly spread on a log axis."""
    return np.unique(np.geomspace(1, n, points).round().astype(int))


def in_words(names: Iterable[str]) -> str:
    """The names as they stand in a sentence."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def near(claim: str, gap: np.ndarray, tolerance: float, sentence: str, source: str) -> Verdict:
    """The verdict on a claim that says the mean of `gap`, one value a seed, is 0 up to `tolerance`.

    It *holds* where the interval of the mean lies within the tolerance and *does not hold* where it lies outside.
    `sentence` as for `decide`.
    """
    found = decide(claim, gap, "", sentence, source)
    if found.outcome == "not measurable":
        return found
    outcome: Outcome = "undecided"
    if max(-found.low, found.high) <= tolerance:
        outcome = "holds"
    elif found.low > tolerance or found.high < -tolerance:
        outcome = "does not hold"
    return replace(found, outcome=outcome)
