"""a + b mod p by two layers: the network memorizes, and generalizes later; weight decay decides when.

    logits = W₂ (W₁ onehot(a) + W₁' onehot(b))² + b₂

Power et al. 2022, arXiv:2201.02177, observed it; Gromov 2023, arXiv:2301.02679, has this network, with a quadratic
activation and the full batch, and its exact solution. The loss is here the cross-entropy.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnn.nn.activations import elementwise
from fnn.nn.contract import Layer, serial
from fnn.nn.dense import affine
from fnn.nn.embedding import embedding
from fnn.nn.init import normal
from fnn.nn.losses import error, softmax_cross_entropy
from fnn.tasks.contract import Label
from fnn.tasks.drawing import Everything
from fnn.tasks.sources import HELD_OUT
from fnn.tasks.splits import Split
from fnn.tasks.supervised import supervised
from fnn.tasks.workload import Size, Workload, sized

SHARE = 0.6
"""Of all pairs those to learn from; half of the others validate, the rest is to test on."""


class Scale(NamedTuple):
    """The modulus, the hidden units and the horizon."""

    p: int
    hidden: int
    steps: int


SIZES = {"tiny": Scale(7, 32, 40), "small": Scale(31, 128, 1000), "full": Scale(97, 500, 20_000)}


def workload(size: Size = "small") -> Workload:
    """p = 31 and 128 hidden units at small; the network learns 60 % of all pairs."""
    p, hidden, steps = sized(SIZES, size)
    task = supervised(
        *(network(p, hidden), pairs(p), softmax_cross_entropy),
        batch=Everything(),
        metrics={"error": error},
        metrics_of=HELD_OUT,
        labels={"loss": Label("loss", "nats")},
        about={"modulus": p},
    )
    known = (
        "The error on held-out pairs falls to 0 long after the training error, and only with weight decay or another "
        "pull to small weights (Power et al. 2022, arXiv:2201.02177). An exact solution is known (Gromov 2023)."
    )
    return Workload(task, steps, "validation_loss", "test_error", known)


def network(p: int, hidden: int) -> Layer:
    """From pairs `[batch, 2]`, a and p + b, to p logits."""
    return serial(
        embedding(2 * p, hidden, normal(0.5)),
        elementwise(lambda x: jnp.square(x.sum(1))),
        affine(p, normal(hidden**-0.5)),
    )


def pairs(p: int) -> dict[str, Split]:
    """All p² pairs with their sums, in an order drawn with seed 0."""
    order = np.random.default_rng(0).permutation(p * p)
    a, b = (part.astype(np.int32) for part in np.divmod(order, p))
    x, y = np.stack([a, p + b], 1), (a + b) % p
    first, second = round(SHARE * p * p), round((1 + SHARE) / 2 * p * p)
    places = {"train": slice(first), "validation": slice(first, second), "test": slice(second, None)}
    parts: Any = {name: (x[part], y[part]) for name, part in places.items()}  # NumPy arrays in fields for JAX arrays
    return {name: Split(*part) for name, part in parts.items()}
