"""A deep autoencoder of digits with sigmoid units: ill-conditioned, the classic of second-order methods.

Hinton & Salakhutdinov 2006, Reducing the dimensionality of data with neural networks: 784-1000-500-250-30 and back,
sigmoid units but for a linear code, cross-entropy of pixels. Martens 2010, Deep learning via Hessian-free optimization,
trains it without pre-training, from sparse weights (§5): 15 of each unit's are drawn from N(0, 1), the rest is 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Key
from fnn.data import DataSet
from fnn.nn.activations import sigmoid
from fnn.nn.contract import serial
from fnn.nn.models import multilayer
from fnn.tasks.contract import Label
from fnn.tasks.sources import HELD_OUT, digits
from fnn.tasks.splits import Split, rows
from fnn.tasks.supervised import supervised
from fnn.tasks.workload import Size, Workload, sized

CONNECTIONS = 15


class Scale(NamedTuple):
    """The widths of the layers down to the code, the examples of a minibatch and the horizon."""

    widths: tuple[int, ...]
    batch: int
    steps: int


SIZES = {
    "tiny": Scale((20, 5), 16, 40),
    "small": Scale((128, 64, 32, 12), 128, 300),
    "full": Scale((1000, 500, 250, 30), 200, 10_000),
}


def workload(size: Size = "small") -> Workload:
    """784-128-64-32-12 and back at small: the published widths scaled down by 8, code and batch less so."""
    widths, batch, steps = sized(SIZES, size)
    images = digits(size)
    task = supervised(
        *(network(widths), pictures(images), cross_entropy),
        batch=batch,
        prepare=rows,
        metrics={"error": squared_error},
        metrics_of=HELD_OUT,
        labels={"loss": Label("loss", "nats"), "error": Label("squared error", "1")},
        about=images.about,
    )
    known = (
        "Ill-conditioned: at full size the squared error of a training image is 2.1 by SGD and 0.73 by Nesterov's "
        "momentum (Sutskever et al. 2013, On the importance of initialization and momentum, table 1)."
    )
    return Workload(task, steps, "validation_loss", "test_error", known)


def network(widths: tuple[int, ...]):
    """From pixels to the code and back to logits of pixels, layers of these widths on either side."""
    *down, code = widths
    return serial(
        multilayer(down, code, activation=sigmoid, weights=sparse),
        multilayer(down[::-1], 784, activation=sigmoid, weights=sparse),
    )


def sparse(key: Key, shape: tuple[int, int], dtype=jnp.float32) -> Array:
    """`CONNECTIONS` weights of each unit from N(0, 1), the others 0. Martens 2010, §5."""
    k_weights, k_places = jax.random.split(key)
    rank = jax.random.uniform(k_places, shape).argsort(0).argsort(0)
    return jnp.where(rank < CONNECTIONS, jax.random.normal(k_weights, shape, dtype), 0)


def pictures(images: DataSet) -> dict[str, Split]:
    """The images as splits whose targets are the images."""
    parts: Any = images.parts  # NumPy arrays in fields for JAX arrays
    return {part: Split(x, x) for part, (x, _) in parts.items()}


def cross_entropy(logits: Array, images: Array) -> Array:
    """The mean over images of the sum over pixels of −t log σ(z) − (1 − t) log(1 − σ(z)), in nats; t are 0…1."""
    return (jax.nn.softplus(logits) - rows(images) * logits).sum(1).mean()


def squared_error(logits: Array, images: Array) -> Array:
    """The mean over images of the sum over pixels of (σ(z) − t)²."""
    return jnp.square(sigmoid(logits) - rows(images)).sum(1).mean()
