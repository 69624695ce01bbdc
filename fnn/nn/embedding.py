"""Tokens and their positions as vectors: embedding, learned positions, rotary positions."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.base.checks import check_key
from fnn.base.errors import real, require, whole
from fnn.base.types import Initializer, Scalar
from fnn.nn.axes import Axes
from fnn.nn.contract import Layer
from fnn.nn.dense import check_initializers
from fnn.nn.init import normal, xavier


class Table(NamedTuple):
    """w `[entries, features]`: a vector for each token or position."""

    w: Array

    AXES = (Axes(outputs=(1,), entries=(0,)),)


def embedding(vocabulary: int, features: int, w: Initializer | None = None, dtype=jnp.float32) -> Layer:
    """y = w[token], from tokens 0, 1, … `[batch, …]` to `[batch, …, features]`.

    w: draws `[features, vocabulary]`, as for the layer back to tokens; by default of variance 1 / features. Bengio et
        al. 2003, A neural probabilistic language model, §2.
    dtype: of the table and so of all that follows.
    A token outside of the vocabulary gives NaN, since traced values cannot be refused. Raises `InputError` for inputs
    that are not integers.
    """
    require(whole(vocabulary, 1), f"An embedding needs a vocabulary of at least 1 token, not {vocabulary!r}.")
    require(whole(features, 1), f"An embedding needs at least 1 feature, not {features!r}.")
    check_initializers(w=w)
    w = xavier() if w is None else w

    def init(key, x):
        check_key(key)
        _check_tokens(x)
        return Table(w(key, (features, vocabulary), dtype).T), ()

    def apply(params, stats, x, key, train):
        _check_tokens(x)
        tokens = x.astype(jnp.int32)  # a byte cannot be compared with a vocabulary of 256
        known = (tokens >= 0) & (tokens < vocabulary)
        y = params.w[jnp.clip(tokens, 0, vocabulary - 1)]
        return jnp.where(known[..., None], y, jnp.nan), stats

    return Layer(init, apply)


def _check_tokens(x):
    integers = jnp.issubdtype(x.dtype, jnp.integer)
    require(integers, f"An embedding reads tokens, which are integers, not {x.dtype}.")


def positions(context: int, w: Initializer | None = None) -> Layer:
    """y[b, t] = x[b, t] + w[t], a learned vector for each of the first `context` places of `[batch, time, features]`.

    w: draws `[features, context]`, by default normal of standard deviation 0.02. Gehring et al. 2017, arXiv:1705.03122,
        §3.1. Raises `InputError` for inputs longer than `context`.
    """
    require(whole(context, 1), f"Positions are of a context of at least 1 place, not {context!r}.")
    check_initializers(w=w)
    w = normal(0.02) if w is None else w

    def check(x):
        require(x.ndim == 3, f"Positions are added to inputs of shape [batch, time, features], not {x.shape}.")
        require(x.shape[1] <= context, f"There are positions for {context} places, and the input has {x.shape[1]}.")

    def init(key, x):
        check_key(key)
        check(x)
        return Table(w(key, (x.shape[-1], context), x.dtype).T), ()

    def apply(params, stats, x, key, train):
        check(x)
        return x + params.w[: x.shape[1]], stats

    return Layer(init, apply)


def rotary(x: Float[Array, "... time features"], base: Scalar = 10_000.0) -> Float[Array, "... time features"]:
    """x with the pair of features (i, i + d/2) at place t turned by the angle t · base^(−2i/d), d the features.

    So the product of a query and a key depends on their distance alone. Su et al. 2021, arXiv:2104.09864, eq. 34, with
    pairs half the features apart as in GPT-NeoX and LLaMA. Angles are computed in at least float32. Raises `InputError`
    for an odd number of features.
    """
    time, d = x.shape[-2:]
    check_rotary(d, base)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    frequency = jnp.asarray(base, wide) ** (-jnp.arange(0, d, 2, dtype=wide) / d)
    angle = jnp.arange(time, dtype=wide)[:, None] * frequency
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    one, other = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)


def check_rotary(features: int, base: Scalar) -> None:
    """Raise `InputError` where these cannot be turned in pairs by angles to this base."""
    require(features % 2 == 0, f"Rotary positions turn pairs of features, and {features} is odd.")
    require(real(base, 1), f"The base of rotary positions is a number from 1 on, not {base!r}.")
