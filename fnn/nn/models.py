"""Networks from layers: the multilayer network of the notes, a small convolutional one, a transformer."""

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Array

from fnn.base.errors import listed, require, whole
from fnn.base.types import Initializer, Scalar
from fnn.nn.activations import elementwise, gelu, relu
from fnn.nn.attention import attention
from fnn.nn.contract import Layer, residual, serial
from fnn.nn.convolution import Window, convolution, flatten, max_pool
from fnn.nn.dense import affine
from fnn.nn.dropout import dropout, inverted_dropout
from fnn.nn.embedding import embedding, positions
from fnn.nn.init import he, xavier
from fnn.nn.normalization import batch_norm, layer_norm


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


def transformer(
    vocabulary: int,
    context: int = 64,
    *,
    blocks: int = 2,
    width: int = 64,
    heads: int = 4,
    place: Literal["learned", "rotary"] = "learned",
    causal: bool = True,
    activation: Callable[[Array], Array] = gelu,
    weights: Initializer | None = None,
    dropout_ratio: Scalar | None = None,
) -> Layer:
    """From tokens `[batch, time]`, time at most `context`, to logits of the next ones `[batch, time, vocabulary]`.

    Embedding and learned positions; then for each block x + attention(norm(x)) and x + mlp(norm(x)), where the
    multilayer part is four times as wide inside; layer norm; and an affine layer to the logits. With rotary positions
    the attention has them, and the context has no limit. `weights` (variance 1 / inputs by default) initializes all
    matrices but the table; dropout, where a ratio is given, acts on what a block adds.

    Vaswani et al. 2017, arXiv:1706.03762, with the norms where Xiong et al. 2020, arXiv:2002.04745, §3, put them.
    """
    require(whole(blocks), f"A transformer has 0 blocks or more, not {blocks!r}.")
    require(place in ("learned", "rotary"), f"The places of tokens are 'learned' or 'rotary', not {place!r}.")
    weights = xavier() if weights is None else weights
    base = 10_000.0 if place == "rotary" else None
    drop = [] if dropout_ratio is None else [inverted_dropout(dropout_ratio)]
    layers = [embedding(vocabulary, width)]
    layers += [positions(context)] if place == "learned" else []
    for _ in range(blocks):
        inside = (affine(4 * width, weights), elementwise(activation), affine(width, weights))
        layers.append(residual(layer_norm(), attention(heads, causal, base=base, w=weights), *drop))
        layers.append(residual(layer_norm(), *inside, *drop))
    return serial(*layers, layer_norm(), affine(vocabulary, weights))
