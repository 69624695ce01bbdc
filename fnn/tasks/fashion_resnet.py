"""A residual network with batch normalization on pictures of clothes: running statistics, and weights without a scale.

He et al. 2016, Identity mappings in deep residual networks, arXiv:1603.05027: blocks x + f(x), f two times batch
normalization, ReLU and a 3 × 3 convolution. Between stages a convolution of stride 2 has the place of their projection.
"""

from typing import NamedTuple

from fnn.nn.activations import elementwise, relu
from fnn.nn.contract import Layer, residual, serial
from fnn.nn.convolution import convolution, global_average
from fnn.nn.dense import affine
from fnn.nn.normalization import batch_norm
from fnn.tasks.fashion_cnn import on_clothes
from fnn.tasks.workload import Size, Workload, sized


class Scale(NamedTuple):
    """Channels of each stage, blocks in each, whether images are halved, the examples of a minibatch, the horizon."""

    channels: tuple[int, ...]
    blocks: int
    halved: bool
    batch: int
    steps: int


SIZES = {
    "tiny": Scale((4,), 1, True, 16, 30),
    "small": Scale((8, 16), 1, True, 32, 150),
    "full": Scale((16, 32, 64), 3, False, 128, 20_000),
}


def workload(size: Size = "small") -> Workload:
    """Two stages of 8 and 16 channels with a block each at small, on images of half the side."""
    channels, blocks, smaller, batch, steps = sized(SIZES, size)
    task = on_clothes(network(channels, blocks), size, batch, smaller)
    known = (
        "Batch normalization makes the scale of the weights before it act on the learning rate alone (van Laarhoven "
        "2017, arXiv:1706.05350). Residual networks err on about 5 % of Fashion-MNIST (Xiao et al. 2017, its list)."
    )
    return Workload(task, steps, "validation_loss", "test_error", known)


def network(channels: tuple[int, ...], blocks: int) -> Layer:
    """From images `[batch, height, width, 1]` to ten logits."""
    active = lambda: (batch_norm(), elementwise(relu))
    layers = [convolution(channels[0], 3)]
    for stage, n in enumerate(channels):
        layers += [*active(), convolution(n, 3, stride=2)] if stage else []
        layers += [residual(*active(), convolution(n, 3), *active(), convolution(n, 3)) for _ in range(blocks)]
    return serial(*layers, *active(), global_average(), affine(10))
