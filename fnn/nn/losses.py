"""Losses and scores: `(outputs, targets) -> scalar`, averaged over the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.base.errors import require
from fnn.base.types import Params

SUM_TOLERANCE = 0.01
"""How far the sum of a row of probabilities may be from 1, which is more than bfloat16 rounds."""


def softmax_cross_entropy(
    logits: Float[Array, "batch classes"],
    targets: Int[Array, " batch"] | Float[Array, "batch classes"],
) -> Float[Array, ""]:
    """mean over the batch of −Σ_c t_c log softmax(z)_c, in nats.

    `targets` are class indices, or rows of probabilities (one-hot or soft). An index out of range and a row that does
    not sum to 1 give NaN, since traced values cannot be refused. Raises `InputError` for other shapes.
    """
    _check_targets(logits, targets)
    if targets.ndim == 1:
        targets, known = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype), _known(targets, logits)
    else:
        known = (targets >= 0).all(-1) & (jnp.abs(targets.sum(-1) - 1) <= SUM_TOLERANCE)
    targets = jnp.where(known[:, None], targets, jnp.nan)
    return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean()


def mean_squared_error(
    outputs: Float[Array, "batch features"], targets: Float[Array, "batch features"]
) -> Float[Array, ""]:
    """mean over batch and features of (y − t)². Raises `InputError` where the shapes differ."""
    same = outputs.shape == targets.shape
    require(same, f"Outputs of shape {outputs.shape} need targets of the same shape, not of {targets.shape}.")
    return jnp.square(outputs - targets).mean()


def accuracy(
    logits: Float[Array, "batch classes"],
    targets: Int[Array, " batch"] | Float[Array, "batch classes"],
) -> Float[Array, ""]:
    """The share of rows, 0…1, whose largest logit is at the target's class; NaN where a class is out of range.

    Raises `InputError` for targets of other shapes.
    """
    _check_targets(logits, targets)
    classes = targets if targets.ndim == 1 else targets.argmax(-1)
    right = (logits.argmax(-1) == classes).astype(logits.dtype)
    return jnp.where(_known(classes, logits), right, jnp.nan).mean()


def _check_targets(logits, targets):
    """Raise `InputError` unless the targets are class indices or rows of probabilities for these logits."""
    require(logits.ndim == 2, f"Logits are of shape [batch, classes], not {logits.shape}.")
    whole = jnp.issubdtype(targets.dtype, jnp.integer)
    fitting = (targets.shape == logits.shape[:1] and whole) or targets.shape == logits.shape
    require(
        fitting,
        f"Targets for logits of shape {logits.shape} are class indices of shape {logits.shape[:1]} or probabilities of "
        f"shape {logits.shape}, not {targets.dtype} of shape {targets.shape}.",
    )


def _known(classes, logits):
    return (classes >= 0) & (classes < logits.shape[-1])


def weights(params: Params) -> list[Array]:
    """The leaves that lie under the name `w`: weights, without biases and without batch norm's γ and β."""

    def name(path):
        return getattr(path[-1], "name", getattr(path[-1], "key", None)) if path else None

    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if name(path) == "w"]


def l2_penalty(params: Params) -> Float[Array, ""]:
    """½ Σ ‖W‖² over the weights only; times λ it is the notes' weight decay (§4.2), whose gradient is λW."""
    return sum((jnp.vdot(w, w) for w in weights(params)), jnp.asarray(0.0)) / 2
