"""Losses and scores: `(outputs, targets) -> scalar`, averaged over the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.types import Params


def softmax_cross_entropy(
    logits: Float[Array, "batch classes"],
    targets: Int[Array, " batch"] | Float[Array, "batch classes"],
) -> Float[Array, ""]:
    """mean over the batch of −Σ_c t_c log softmax(z)_c, in nats.

    `targets` are class indices, or rows of probabilities (one-hot or soft).
    """
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean()


def mean_squared_error(
    outputs: Float[Array, "batch features"], targets: Float[Array, "batch features"]
) -> Float[Array, ""]:
    """mean over batch and features of (y − t)²."""
    return jnp.square(outputs - targets).mean()


def accuracy(
    logits: Float[Array, "batch classes"],
    targets: Int[Array, " batch"] | Float[Array, "batch classes"],
) -> Float[Array, ""]:
    """The share of rows, 0…1, whose largest logit is at the target's class."""
    classes = targets if targets.ndim == 1 else targets.argmax(-1)
    return (logits.argmax(-1) == classes).astype(logits.dtype).mean()


def weights(params: Params) -> list[Array]:
    """The leaves that lie under the name `w`: weights, without biases and without batch norm's γ and β."""

    def name(path):
        return getattr(path[-1], "name", getattr(path[-1], "key", None)) if path else None

    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if name(path) == "w"]


def l2_penalty(params: Params) -> Float[Array, ""]:
    """½ Σ ‖W‖² over the weights only; times λ it is the notes' weight decay (§4.2), whose gradient is λW."""
    return sum((jnp.vdot(w, w) for w in weights(params)), jnp.asarray(0.0)) / 2
