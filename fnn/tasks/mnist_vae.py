"""A variational autoencoder of digits: an objective that is stochastic beyond its minibatches.

    −ELBO = E_q [−log p(x | z)] + KL(q(z | x) ‖ N(0, I)),    q(z | x) = N(μ(x), σ(x)²),    z = μ + σ ε

Kingma & Welling 2014, arXiv:1312.6114, eq. 10 and appendix C: one hidden layer of tanh units on either side, pixels are
probabilities, one draw of ε for each example. Metrics draw the same ε at every evaluation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.nn.activations import tanh
from fnn.nn.contract import Layer
from fnn.nn.init import normal
from fnn.nn.models import multilayer
from fnn.tasks.contract import Label
from fnn.tasks.mnist_autoencoder import cross_entropy, pictures
from fnn.tasks.sources import HELD_OUT, digits
from fnn.tasks.splits import rows
from fnn.tasks.supervised import supervised
from fnn.tasks.workload import Size, Workload, sized


class Scale(NamedTuple):
    """The width of the hidden layers, the number of latent variables, the examples of a minibatch and the horizon."""

    hidden: int
    latent: int
    batch: int
    steps: int


SIZES = {"tiny": Scale(16, 2, 16, 40), "small": Scale(100, 8, 100, 300), "full": Scale(500, 20, 100, 50_000)}


def workload(size: Size = "small") -> Workload:
    """100 hidden units and 8 latent variables at small, instead of 500 and 20."""
    hidden, latent, batch, steps = sized(SIZES, size)
    images = digits(size)
    task = supervised(
        *(autoencoder(hidden, latent), pictures(images), negative_elbo),
        batch=batch,
        prepare=rows,
        metrics_of=HELD_OUT,
        labels={"loss": Label("negative ELBO", "nats")},
        about=images.about,
    )
    known = (
        "A stochastic objective. On all of MNIST 500 hidden units and 20 latent variables come to an ELBO of about "
        "−100 nats (Kingma & Welling 2014, arXiv:1312.6114, figure 2)."
    )
    return Workload(task, steps, "validation_loss", "test_loss", known)


def autoencoder(hidden: int, latent: int) -> Layer:
    """From pixels `[batch, n]` to `[batch, n + 2 · latent]`: logits of the pixels, means and log variances of z."""
    half = lambda outputs: multilayer((hidden,), outputs, activation=tanh, weights=normal(0.1))

    def init(key, x):
        k_encoder, k_decoder = jax.random.split(key)
        z = jax.ShapeDtypeStruct((x.shape[0], latent), x.dtype)
        encoder, decoder = half(2 * latent).init(k_encoder, x), half(x.shape[1]).init(k_decoder, z)
        return (encoder[0], decoder[0]), (encoder[1], decoder[1])

    def apply(params, stats, x, key, train):
        key = jax.random.key(0) if key is None else key
        code, encoder = half(2 * latent).apply(params[0], stats[0], x, None, train)
        mean, log_variance = jnp.split(code, 2, axis=1)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape, mean.dtype)
        logits, decoder = half(x.shape[1]).apply(params[1], stats[1], z, None, train)
        return jnp.concatenate([logits, mean, log_variance], axis=1), (encoder, decoder)

    return Layer(init, apply)


def negative_elbo(outputs: Array, images: Array) -> Array:
    """The mean over images of the cross-entropy of their pixels and KL = ½ Σ (μ² + σ² − log σ² − 1), in nats."""
    pixels = rows(images).shape[1]
    logits, (mean, log_variance) = outputs[:, :pixels], jnp.split(outputs[:, pixels:], 2, axis=1)
    divergence = (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum(1).mean() / 2
    return cross_entropy(logits, images) + divergence
