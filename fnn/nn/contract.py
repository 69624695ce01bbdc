"""What a layer is: two pure functions on batches `[batch, …, features]`; and how layers are combined.

    init(key, x)                        -> (params, stats)       x: an input batch, or only its shape and dtype
    apply(params, stats, x, key, train) -> (y, stats)

`params` is what training changes, `stats` what a layer remembers without a gradient (running averages), `key` the
source of a layer's noise (None where none is drawn) and `train` the static switch between training and inference.

A layer's container of parameters declares which axes of its arrays are outputs, inputs and space, see `fnn.nn.axes`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
from jaxtyping import Array

from fnn.base.checks import check_key
from fnn.base.errors import require
from fnn.base.types import Key, Params, Spec


class Layer(NamedTuple):
    """Two pure functions, see the module's docstring for their arguments.

    parts: the layers that it applies one after the other, if it is such a series.
    mixes: whether an example's output in training depends on the other examples of its batch.
    """

    init: Callable[[Key, Spec], tuple[Params, Any]]
    apply: Callable[[Params, Any, Array, Key | None, bool], tuple[Array, Any]]
    parts: tuple["Layer", ...] = ()
    mixes: bool = False


def serial(*layers: Layer) -> Layer:
    """One layer after the other. Shapes are found by tracing, so no layer takes its input's width as an argument."""
    strangers = [layer for layer in layers if not isinstance(layer, Layer)]
    require(not strangers, f"Layers go in series, as affine(10) gives one; not {strangers}.")

    def init(key, x):
        check_key(key)
        params, stats = [], []
        for layer, k in zip(layers, jax.random.split(key, len(layers)), strict=True):
            p, s = layer.init(k, x)
            # At inference no layer needs a key, and no layer changes its shape with `train`.
            x, _ = jax.eval_shape(lambda p, s, x, f=layer.apply: f(p, s, x, None, False), p, s, x)
            params.append(p)
            stats.append(s)
        return tuple(params), tuple(stats)

    def apply(params, stats, x, key, train):
        outputs, after = through(layers, params, stats, x, key, train)
        return outputs[-1] if outputs else x, after

    return Layer(init, apply, layers, any(layer.mixes for layer in layers))


def through(
    layers: Sequence[Layer], params: Params, stats: Any, x: Array, key: Key | None, train: bool
) -> tuple[tuple[Array, ...], Any]:
    """The output of every one of `layers` in series (`network.parts`, say), and their stats afterwards."""
    keys = [None] * len(layers) if key is None else jax.random.split(key, len(layers))
    outputs, after = [], []
    for layer, p, s, k in zip(layers, params, stats, keys, strict=True):
        x, s = layer.apply(p, s, x, k, train)
        outputs.append(x)
        after.append(s)
    return tuple(outputs), tuple(after)


def residual(*layers: Layer) -> Layer:
    """y = x + f(x), f the layers one after the other. He et al. 2016, arXiv:1512.03385, eq. 1.

    Raises `InputError` where f changes the shape of its input.
    """
    f = serial(*layers)

    def init(key, x):
        params, stats = f.init(key, x)
        y, _ = jax.eval_shape(lambda p, s, x: f.apply(p, s, x, None, False), params, stats, x)
        require(y.shape == x.shape, f"A residual adds its input to its output: {x.shape} is not {y.shape}.")
        return params, stats

    def apply(params, stats, x, key, train):
        y, after = f.apply(params, stats, x, key, train)
        return x + y, after

    return Layer(init, apply, mixes=f.mixes)
