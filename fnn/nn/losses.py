"""Losses and scores: `(outputs, targets) -> scalar`, averaged over the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.base.errors import require
from fnn.base.types import Params, Scalar
from fnn.nn.axes import axes, undeclared

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
        known = _known(targets, logits.shape[-1])
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    else:
        known = (targets >= 0).all(-1) & (jnp.abs(targets.sum(-1) - 1) <= SUM_TOLERANCE)
    targets = jnp.where(known[:, None], targets, jnp.nan)
    return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean()


def mean_squared_error(
    outputs: Float[Array, "batch features"], targets: Float[Array, "batch features"]
) -> Float[Array, ""]:
    """mean over batch and features of (y − t)². Raises `InputError` where the shapes differ."""
    _check_same(outputs, targets)
    return jnp.square(outputs - targets).mean()


def huber(
    outputs: Float[Array, "batch features"], targets: Float[Array, "batch features"], delta: Scalar = 1.0
) -> Float[Array, ""]:
    """mean of ½ d² where |d| = |y − t| ≤ δ, and of δ (|d| − ½ δ) elsewhere. Huber 1964, https://doi.org/10.1214/aoms/1177703732.

    Raises `InputError` where the shapes differ.
    """
    _check_same(outputs, targets)
    distance = jnp.abs(outputs - targets)
    near = jnp.minimum(distance, delta)
    return (near * (distance - near / 2)).mean()


def _check_same(outputs, targets):
    """Raise `InputError` where the shapes differ: they would broadcast."""
    same = outputs.shape == targets.shape
    require(same, f"Outputs of shape {outputs.shape} need targets of the same shape, not of {targets.shape}.")


def sigmoid_cross_entropy(logits: Float[Array, "batch 1"], targets: Int[Array, " batch"]) -> Float[Array, ""]:
    """mean over the batch of −t log σ(z) − (1 − t) log(1 − σ(z)), in nats, for classes t of 0 and 1.

    Another class gives NaN, since traced values cannot be refused. Raises `InputError` for other shapes.
    """
    z = _only_logit(logits, targets)
    return jnp.where(_known(targets, 2), jax.nn.softplus(z) - targets * z, jnp.nan).mean()


def sign_accuracy(logits: Float[Array, "batch 1"], targets: Int[Array, " batch"]) -> Float[Array, ""]:
    """The share of rows, 0…1, whose logit is above 0 where the class is 1 and not where it is 0; NaN for others.

    Raises `InputError` for other shapes.
    """
    z = _only_logit(logits, targets)
    return jnp.where(_known(targets, 2), ((z > 0) == targets).astype(z.dtype), jnp.nan).mean()


def _only_logit(logits, targets):
    fits = logits.ndim == 2 and logits.shape[1] == 1 and targets.shape == logits.shape[:1]
    require(
        fits, f"A class of two takes one logit: logits of shape [batch, 1], not {logits.shape} for {targets.shape}."
    )
    require(jnp.issubdtype(targets.dtype, jnp.integer), f"Classes are whole numbers, not {targets.dtype}.")
    return logits[:, 0]


def next_token_cross_entropy(
    logits: Float[Array, "batch length tokens"], targets: Int[Array, "batch length"]
) -> Float[Array, ""]:
    """mean over batch and places of −log softmax(z)[t], in nats per token. Raises `InputError` for other shapes."""
    fits = logits.ndim == 3 and targets.shape == logits.shape[:2]
    require(fits, f"Logits are of shape [batch, length, tokens], not {logits.shape} for targets {targets.shape}.")
    return softmax_cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


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
    return jnp.where(_known(classes, logits.shape[-1]), right, jnp.nan).mean()


def error(
    logits: Float[Array, "batch classes"],
    targets: Int[Array, " batch"] | Float[Array, "batch classes"],
) -> Float[Array, ""]:
    """1 − `accuracy`: a metric of which the lower is the better."""
    return 1 - accuracy(logits, targets)


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


def _known(classes, n):
    """Which of the classes are from 0 to n − 1."""
    return (classes >= 0) & (classes < n)


def weights(params: Params) -> list[Array]:
    """The arrays that their layer declares to be weights or a table, without biases, scales and shifts; where no layer
    declares anything, those named `w`."""

    def name(path):
        return getattr(path[-1], "name", getattr(path[-1], "key", None)) if path else None

    declared = jax.tree.leaves(axes(params, undeclared))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [
        leaf
        for (path, leaf), found in zip(leaves, declared, strict=True)
        if (not found.exempt if found.known else name(path) == "w")
    ]


def l2_penalty(params: Params) -> Float[Array, ""]:
    """½ Σ ‖W‖² over the weights only; times λ it is the notes' weight decay (§4.2), whose gradient is λW."""
    return sum((jnp.vdot(w, w) for w in weights(params)), jnp.asarray(0.0)) / 2
