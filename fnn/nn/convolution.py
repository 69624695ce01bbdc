"""Convolution and pooling of `[batch, *space, channels]`: images `[batch, height, width, channels]`, or series in time.

A convolution is the product of its weights with the patches that its window covers. XLA's own convolution takes 4 to 7
times as long on CPU inside a loop or under vmap, which is where a sweep trains. Of the ways to gather patches, joining
strided slices of the input is the fastest there, as is flattening all places before the product.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.base.checks import check_key
from fnn.base.errors import listed, require, whole
from fnn.base.types import Initializer
from fnn.nn.axes import NO_WEIGHTS, outputs_first
from fnn.nn.contract import Layer
from fnn.nn.dense import check_initializers, product
from fnn.nn.init import he, zeros

Window = int | Sequence[int]
"""A number for each axis of space, or one for all."""

Padding = Literal["same", "valid"] | Sequence[Sequence[int]]
"""What is added around space: "same" for as many outputs as inputs (over stride, rounded up), "valid" for nothing, or
pairs `(before, after)`, one for each axis of space."""


class Convolution(NamedTuple):
    """w `[outputs, inputs, *window]`, b `[outputs]`."""

    w: Array
    b: Array

    AXES = (outputs_first, NO_WEIGHTS)


def convolution(
    n_out: int,
    window: Window,
    stride: Window = 1,
    padding: Padding = "same",
    w: Initializer | None = None,
    b: Initializer = zeros,
) -> Layer:
    """y[p, o] = b[o] + Σ_{q, i} w[o, i, q] · x[stride · p + q, i], from `[batch, *space, n_in]` to `[…, n_out]`.

    p runs over places of the output and q over those of the window; nothing is flipped, as in all libraries for
    networks. LeCun et al. 1998, Gradient-based learning applied to document recognition, §II.A.

    window, stride: a number for each axis of space, or one for all.
    padding: of zeros: "same", "valid", or pairs (before, after) for each axis of space; an odd one of "same" comes
        after.
    w: draws `[*window, n_in, n_out]`, so that both fans count the window; He's by default.
    Raises `InputError` where the window does not fit into the padded input.
    """
    require(whole(n_out, 1), f"A convolution needs at least 1 output, not {n_out!r}.")
    _check_geometry("convolution", window, stride, padding)
    check_initializers(w=w, b=b)
    w = he() if w is None else w

    def init(key, x):
        check_key(key)
        k_w, k_b = jax.random.split(key)
        shape = _geometry("convolution", x, window, stride, padding).window
        drawn = w(k_w, (*shape, x.shape[-1], n_out), x.dtype)
        return Convolution(jnp.moveaxis(drawn, (-1, -2), (0, 1)), b(k_b, (n_out,), x.dtype)), ()

    def apply(params, stats, x, key, train):
        patches = _patches(x, _geometry("convolution", x, window, stride, padding), 0)
        # One product for all places of the window: [outputs, *window, inputs] as the patches have it.
        return product(patches, jnp.moveaxis(params.w, 1, -1).reshape(n_out, -1)) + params.b, stats

    return Layer(init, apply)


def max_pool(window: Window, stride: Window | None = None, padding: Padding = "valid") -> Layer:
    """The maximum of each channel over every place of a window, in steps of `stride`, by default the window's size.

    Padding counts as −∞; equal maxima share the gradient. Raises `InputError` where the window does not fit.
    """
    return _pool("max_pool", jnp.max, _maxima, -jnp.inf, window, stride, padding)


def average_pool(window: Window, stride: Window | None = None, padding: Padding = "valid") -> Layer:
    """The mean of each channel over every place of a window, in steps of `stride`, by default the window's size.

    Padding counts as zeros. Raises `InputError` where the window does not fit.
    """
    return _pool("average_pool", jnp.mean, _means, 0, window, stride, padding)


def global_average() -> Layer:
    """The mean of each channel over all places, from `[batch, *space, channels]` to `[batch, channels]`.

    Lin, Chen & Yan 2014, arXiv:1312.4400, §3.2.
    """
    return _stateless(lambda x: x.mean(tuple(range(1, x.ndim - 1))))


def flatten() -> Layer:
    """All numbers of an example in a row, from `[batch, …]` to `[batch, features]`, the last axis running fastest."""
    return _stateless(lambda x: x.reshape(len(x), math.prod(x.shape[1:])))


def _stateless(f):
    return Layer(lambda key, x: ((), ()), lambda params, stats, x, key, train: (f(x), stats))


def _pool(name, reduce, side_by_side, fill, window, stride, padding):
    stride = window if stride is None else stride
    _check_geometry(name, window, stride, padding)

    def init(key, x):
        _geometry(name, x, window, stride, padding)
        return (), ()

    def apply(params, stats, x, key, train):
        at = _geometry(name, x, window, stride, padding)
        if at.window == at.stride:
            # Windows that do not overlap are axes of the reshaped input, which gathers nothing.
            return side_by_side(_covered(x, at, fill), at.window), stats
        patches = _patches(x, at, fill)
        return reduce(patches.reshape(*patches.shape[:-1], -1, x.shape[-1]), axis=-2), stats

    return Layer(init, apply)


class Geometry(NamedTuple):
    """window, stride, low, high, places: for each axis of space the size of the window, its step, the padding before
    and after, and the number of outputs."""

    window: tuple[int, ...]
    stride: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    places: tuple[int, ...]


def _check_geometry(name: str, window: Any, stride: Any, padding: Any) -> None:
    """Raise `InputError` where these cannot be of any input."""
    for what, sizes in (("window", window), ("stride", stride)):
        several = listed(sizes) and len(sizes) > 0 and all(whole(size, 1) for size in sizes)
        sentence = f"The {what} of {name} is a whole number from 1 on, or one for each axis of space, not {sizes!r}."
        require(whole(sizes, 1) or several, sentence)
    named = isinstance(padding, str) and padding in ("same", "valid")
    pairs = listed(padding) and all(listed(pair) and len(pair) == 2 and all(map(whole, pair)) for pair in padding)
    require(named or pairs, f"The padding of {name} is 'same', 'valid' or pairs (before, after), not {padding!r}.")


def _geometry(name: str, x: Any, window: Window, stride: Window, padding: Padding) -> Geometry:
    """Where the windows lie in x. Raises `InputError` where they do not fit."""
    space = x.shape[1:-1]
    require(len(space) > 0, f"The input of {name} is of shape [batch, *space, channels], not {x.shape}.")

    def each(what: str, sizes: Any) -> tuple:
        sizes = sizes if listed(sizes) else (sizes,) * len(space)
        require(
            len(sizes) == len(space), f"The {what} {tuple(sizes)} of {name} is not for the space {space} of its input."
        )
        return tuple(sizes)

    window, stride = each("window", window), each("stride", stride)
    if padding == "same":
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(space, window, stride, strict=True)]
        low, high = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        pairs = each("padding", ((0, 0),) * len(space) if padding == "valid" else padding)
        low, high = [before for before, _ in pairs], [after for _, after in pairs]
    room = [n + before + after for n, before, after in zip(space, low, high, strict=True)]
    fits = all(n >= k for n, k in zip(room, window, strict=True))
    require(fits, f"The window {window} of {name} does not fit into {tuple(room)}, its input and padding.")
    places = tuple((n - k) // s + 1 for n, k, s in zip(room, window, stride, strict=True))
    return Geometry(window, stride, tuple(low), tuple(high), places)


def _padded(x, at: Geometry, fill):
    """x with `fill` around its space."""
    if not any(at.low + at.high):
        return x
    around = [(0, 0, 0), *((low, high, 0) for low, high in zip(at.low, at.high, strict=True)), (0, 0, 0)]
    return jax.lax.pad(x, jnp.asarray(fill, x.dtype), around)


def _patches(x: Float[Array, "batch *space channels"], at: Geometry, fill) -> Float[Array, "batch *places patch"]:
    """What the window covers at each place: its places and, running fastest, the channels of each."""
    x = _padded(x, at, fill)
    steps = (1, *at.stride, 1)

    def seen_from(offset):
        ends = (first + (n - 1) * s + 1 for first, n, s in zip(offset, at.places, at.stride, strict=True))
        return jax.lax.slice(x, (0, *offset, 0), (len(x), *ends, x.shape[-1]), steps)

    return jnp.concatenate([seen_from(offset) for offset in itertools.product(*map(range, at.window))], axis=-1)


def _covered(x, at: Geometry, fill):
    """What windows side by side cover of x."""
    covered = [n * k for n, k in zip(at.places, at.window, strict=True)]
    return jax.lax.slice(_padded(x, at, fill), (0,) * x.ndim, (len(x), *covered, x.shape[-1]))


def _tiles(x: Float[Array, "batch *space channels"], window: tuple[int, ...]) -> Float[Array, "batch ..."]:
    """`[batch, places, window, places, window, …, channels]` of windows side by side."""
    pairs = itertools.chain.from_iterable((n // k, k) for n, k in zip(x.shape[1:-1], window, strict=True))
    return x.reshape(len(x), *pairs, x.shape[-1])


def _means(x, window):
    """The mean of every window of those side by side."""
    tiles = _tiles(x, window)
    return tiles.mean(tuple(range(2, tiles.ndim - 1, 2)))


def _maxima(x, window):
    """The maximum of every window of those side by side, for layers, which are pickled: see `_normalized`."""
    return _maxima_by_hand(x, window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _maxima_by_hand(x, window):
    """The same. The backward pass is written by hand below."""
    return functools.reduce(jnp.maximum, _at_each(_tiles(x, window)))


def _at_each(tiles):
    """What the windows have at their first place, at their next, …; each of the shape of the outputs."""
    sizes = tiles.shape[2:-1:2]
    at = lambda place: (slice(None), *itertools.chain.from_iterable((slice(None), i) for i in place))
    return [tiles[at(place)] for place in itertools.product(*map(range, sizes))]


def _maxima_forward(x, window):
    y = _maxima(x, window)
    return y, (x, y)


def _maxima_backward(window, residuals, d_y):
    """∂x = ∂y / n where x is one of the n maxima of its window.

    Of arrays in the shape of the input, which XLA computes on CPU in half of the time that it takes for tiles.
    """
    x, y = residuals
    n = sum((part == y).astype(y.dtype) for part in _at_each(_tiles(x, window)))

    def at_inputs(a):
        for axis, size in enumerate(window, 1):
            a = jnp.repeat(a, size, axis)
        return a

    return ((x == at_inputs(y)) * at_inputs(d_y / n),)


_maxima_by_hand.defvjp(_maxima_forward, _maxima_backward)
