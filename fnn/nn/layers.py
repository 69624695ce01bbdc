"""All layers by one name; `contract` says what a layer is, and every other file holds one kind."""

from fnn.nn.activations import elementwise, gelu, identity, leaky_relu, relu, sigmoid, softplus, tanh
from fnn.nn.contract import Layer, residual, serial, through
from fnn.nn.convolution import (
    Convolution,
    average_pool,
    convolution,
    flatten,
    global_average,
    max_pool,
)
from fnn.nn.dense import Affine, affine
from fnn.nn.dropout import dropout, inverted_dropout
from fnn.nn.normalization import (
    BatchNorm,
    Gain,
    Running,
    Scaled,
    batch_norm,
    group_norm,
    layer_norm,
    normalize,
    rms_norm,
)

__all__ = [
    "Affine",
    "BatchNorm",
    "Convolution",
    "Gain",
    "Layer",
    "Running",
    "Scaled",
    "affine",
    "average_pool",
    "batch_norm",
    "convolution",
    "dropout",
    "elementwise",
    "flatten",
    "gelu",
    "global_average",
    "group_norm",
    "identity",
    "inverted_dropout",
    "layer_norm",
    "leaky_relu",
    "max_pool",
    "normalize",
    "relu",
    "residual",
    "rms_norm",
    "serial",
    "sigmoid",
    "softplus",
    "tanh",
    "through",
]
