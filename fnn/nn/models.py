"""Networks from layers: the multilayer network of the notes, a small convolutional one."""

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Array

from fnn.base.errors import listed, require
from fnn.base.types import Initializer, Scalar
from fnn.nn.activations import elementwise, relu
from fnn.nn.contract import Layer, serial
from fnn.nn.convolution import Window, convolution, flatten, max_pool
from fnn.nn.dense import affine
from fnn.nn.dropout import dropout
from fnn.nn.init import he
from fnn.nn.normalization import batch_norm


def multilayer(
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: Callable[[Array], Array] = relu,
    weights: Initializer | None = None,
    normalize: Literal["before", "after"] | None = None,
    dropout_ratio: Scalar | None = None,
    drop: Callable[[Scalar], Layer] = dropout,
) -> Layer:
    """Hidden layers of the given widths, then an affine layer to `outputs` logits.

    A hidden layer is affine → [batch norm] → activation → [batch norm] → [dropout], with batch norm before or
    after the activation as `normalize` says and dropout where a ratio is given. `weights` (He by default)
    initializes every affine layer; biases start at 0. Numbers (`dropout_ratio`, scales inside `weights`) may be
    traced: build the network inside the function that receives them.
    """
    require(listed(hidden), f"The widths of hidden layers are a list of whole numbers, not {hidden!r}.")
    require(normalize in ("before", "after", None), f"normalize is 'before', 'after' or None, not {normalize!r}.")
    weights = he() if weights is None else weights
    layers = []
    for width in hidden:
        layers.append(affine(width, weights))
        layers += [batch_norm()] if normalize == "before" else []
        layers.append(elementwise(activation))
        layers += [batch_norm()] if normalize == "after" else []
        layers += [drop(dropout_ratio)] if dropout_ratio is not None else []
    return serial(*layers, affine(outputs, weights))


def cnn(
    outputs: int,
    channels: Sequence[int] = (16, 32),
    dense: Sequence[int] = (128,),
    *,
    window: Window = 3,
    activation: Callable[[Array], Array] = relu,
    weights: Initializer | None = None,
) -> Layer:
    """From images `[batch, height, width, channels]` to logits `[batch, outputs]`.

    For each of `channels` a convolution with "same" padding → activation → 2 × 2 maxima; then flattened, for each of
    `dense` an affine layer → activation; and an affine layer to the logits. `weights` (He by default) initializes all
    of them. LeCun et al. 1998, Gradient-based learning applied to document recognition, in today's form.
    """
    require(listed(channels), f"The channels of convolutions are a list of whole numbers, not {channels!r}.")
    require(listed(dense), f"The widths of dense layers are a list of whole numbers, not {dense!r}.")
    layers = []
    for n in channels:
        layers += [convolution(n, window, w=weights), elementwise(activation), max_pool(2)]
    layers.append(flatten())
    for n in dense:
        layers += [affine(n, weights), elementwise(activation)]
    return serial(*layers, affine(outputs, weights))
