"""A convolutional network on pictures of clothes: 2c2d of DeepOBS.

Schneider, Balles & Hennig 2019, arXiv:1903.05499, appendix A: two convolutions with windows of 5 × 5, each before 2 × 2
maxima, and two dense layers; weights from a truncated normal distribution of standard deviation 0.05, biases 0.05.
"""

from typing import NamedTuple

from jaxtyping import Array

from fnn.nn.activations import elementwise, relu
from fnn.nn.contract import Layer, serial
from fnn.nn.convolution import convolution, flatten, max_pool
from fnn.nn.dense import affine
from fnn.nn.init import constant, truncated_normal
from fnn.nn.losses import error
from fnn.tasks.classification import classification
from fnn.tasks.contract import Task
from fnn.tasks.sources import HELD_OUT, clothes
from fnn.tasks.splits import images
from fnn.tasks.workload import Size, Workload, sized


class Scale(NamedTuple):
    """Channels, dense units, whether images are halved, the examples of a minibatch and the horizon."""

    channels: tuple[int, int]
    dense: int
    halved: bool
    batch: int
    steps: int


SIZES = {
    "tiny": Scale((2, 4), 8, True, 16, 30),
    "small": Scale((8, 16), 64, True, 32, 300),
    "full": Scale((32, 64), 1024, False, 128, 20_000),
}


def workload(size: Size = "small") -> Workload:
    """A quarter of the published channels and an eighth of its dense units at small, on images of half the side."""
    channels, dense, smaller, batch, steps = sized(SIZES, size)
    task = on_clothes(network(channels, dense), size, batch, smaller)
    known = (
        "The convolutional network on which optimizers are compared most: DeepOBS's 2c2d, which at full size reaches a "
        "test error of about 8 % on Fashion-MNIST (Schneider et al. 2019, arXiv:1903.05499)."
    )
    return Workload(task, steps, "validation_loss", "test_error", known)


def on_clothes(network: Layer, size: Size, batch: int, smaller: bool) -> Task:
    """The task of classifying clothes by a convolutional network, of images as they are or halved."""
    return classification(
        *(network, clothes(size), batch),
        prepare=halved if smaller else images,
        metrics={"error": error},
        metrics_of=HELD_OUT,
        block=50,
    )


def network(channels: tuple[int, int], dense: int) -> Layer:
    """From images `[batch, height, width, 1]` to ten logits."""
    w, b = truncated_normal(0.05), constant(0.05)
    pooled = lambda n: (convolution(n, 5, w=w, b=b), elementwise(relu), max_pool(2, padding="same"))
    first, second = channels
    return serial(
        *(*pooled(first), *pooled(second), flatten()),
        *(affine(dense, w, b), elementwise(relu), affine(10, w, b)),
    )


def halved(x: Array) -> Array:
    """Images of half the height and width, `[n, height, width, 1]`, by the means of 2 × 2 pixels."""
    x = images(x)
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
