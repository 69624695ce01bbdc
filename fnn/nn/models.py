"""The multilayer network of the notes, from layers."""

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Array

from fnn.base.errors import listed, require
from fnn.base.types import Initializer, Scalar
from fnn.nn.init import he
from fnn.nn.layers import Layer, affine, batch_norm, dropout, elementwise, relu, serial


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
