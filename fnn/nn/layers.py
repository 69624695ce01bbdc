"""All layers by one name; `contract` says what a layer is, and every other file holds one kind."""

from fnn.nn.activations import elementwise, gelu, identity, leaky_relu, relu, sigmoid, softplus, tanh
from fnn.nn.attention import Attention, attention, weighted_values
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
from fnn.nn.embedding import Table, embedding, positions, rotary
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
from fnn.nn.recurrence import GRU, LSTM, gru, last, lstm

__all__ = [
    "GRU",
    "LSTM",
    "Affine",
    "Attention",
    "BatchNorm",
    "Convolution",
    "Gain",
    "Layer",
    "Running",
    "Scaled",
    "Table",
    "affine",
    "attention",
    "average_pool",
    "batch_norm",
    "convolution",
    "dropout",
    "elementwise",
    "embedding",
    "flatten",
    "gelu",
    "global_average",
    "group_norm",
    "gru",
    "identity",
    "inverted_dropout",
    "last",
    "layer_norm",
    "leaky_relu",
    "lstm",
    "max_pool",
    "normalize",
    "positions",
    "relu",
    "residual",
    "rms_norm",
    "rotary",
    "serial",
    "sigmoid",
    "softplus",
    "tanh",
    "through",
    "weighted_values",
]
