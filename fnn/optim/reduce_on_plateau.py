"""Shorter steps where the loss no longer falls, as torch's and Keras's `ReduceLROnPlateau`.

    better: f < (1 − rtol) · best − atol
    after `patience` steps without a better one    scale ← max(scale · factor, least); then `cooldown` steps of rest
    w ← w + scale · the inner rule's step

torch's patience counts the steps without a better loss that it bears, ours (and optax's) those at which it acts: its
`patience=p` is p + 1 here. Its `threshold` is rtol or, with `threshold_mode="abs"`, atol; its `min_lr` is least · lr;
changes of lr by less than its `eps`, 1e-8, it leaves out. It sets the lr of the next step, ours that of this one.

f is the loss of every minibatch: with few examples in one, patience has to outlast their noise. `patient(rule)` puts it
around any rule; `reduce_on_plateau` is the one around SGD.

When not to use it: where the number of steps is known beforehand, which a schedule can use.
"""

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Fraction, Interval, Kept, NonNegative, Params, Scalar
from fnn.optim.sgd import sgd
from fnn.rule.contract import Extra, Rule, checked, composed, needed


class Hyper(NamedTuple):
    """inner: the inner rule's; factor: of the scale; patience: steps without a better loss;
    rtol, atol: by how much better it must be; cooldown: steps of rest; least: of the scale."""

    inner: Any
    factor: Fraction = 0.1
    patience: Annotated[Scalar, Interval("[1, ∞]")] = 10.0
    rtol: Kept = 1e-4
    atol: NonNegative = 0.0
    cooldown: NonNegative = 0.0
    least: Annotated[Scalar, Interval("[0, 1]")] = 0.0


class State(NamedTuple):
    """inner: the inner rule's; scale: of its steps; best: loss; waited: steps without a better one; rest: to come."""

    inner: Any
    scale: Array
    best: Array
    waited: Array
    rest: Array


def patient(rule: Rule) -> Rule:
    """The rule with its steps scaled down on plateaus; those of the rule in it, where that is a wrapper."""
    rule = checked(rule)

    def init(hp, w):
        one = jnp.ones_like(hp.factor)
        return State(rule.init(hp.inner, w), one, one * jnp.inf, 0 * one, 0 * one)

    def update(hp: Hyper, t: Array, g: Params, s: State, w: Params, extra: Extra):
        [value] = needed(extra, "value")
        value = jnp.asarray(value, s.best.dtype)
        better = value < (1 - hp.rtol) * s.best - hp.atol
        waited = jnp.where(better, 0, s.waited + 1)
        resting = s.rest > 0
        enough = ~resting & (waited >= hp.patience)
        scale = jnp.where(enough, jnp.maximum(s.scale * hp.factor, hp.least), s.scale)
        rest = jnp.where(enough, hp.cooldown, jnp.maximum(s.rest - 1, 0))
        around = 1 if extra.scale is None else extra.scale
        step, inner = rule.update(hp.inner, g, s.inner, w, extra._replace(scale=scale * around))
        after = State(inner, scale, jnp.where(better, value, s.best), jnp.where(resting | enough, 0, waited), rest)
        return step, after

    def result(hp, t, w, s):
        return rule.result(hp.inner, w, s.inner)

    return composed(Hyper(rule.hyper), init, update, result, inside=[rule])


SCHEDULE = {}
reduce_on_plateau = patient(sgd)
