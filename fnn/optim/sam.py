"""SAM: the gradient at the worst point nearby. Foret et al. 2021, arXiv:2010.01412, Algorithm 1.

    w ← the inner rule's step with ∇f(w + rho · g / ‖g‖)        f the minibatch's loss, the norm that of all weights

Every step costs a second gradient. `sharpness_aware(rule)` is SAM around any rule; `sam` is the one around SGD.

When not to use it: where time is counted, not steps; or where training does not overfit yet.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.base.trees import norm
from fnn.base.types import NonNegative, Params
from fnn.optim.sgd import sgd
from fnn.rule.contract import Extra, Rule, checked, needed
from fnn.rule.wrappers import before, loss_of, without


class Hyper(NamedTuple):
    """inner: the inner rule's; rho: how far around is nearby."""

    inner: Any
    rho: NonNegative = 0.05


def sharpness_aware(rule: Rule) -> Rule:
    """The rule with the loss at the worst point nearby in place of the loss, and its gradient there.

    The worst point is that of all examples together: a rule that reads every example's gradient gets an `InputError`.
    """
    rule = checked(rule)
    refused = "The worst point nearby is that of all examples, so no rule inside SAM can read every example's gradient."

    def change(hp: Hyper, g: Params, w: Params, extra: Extra) -> tuple[Params, Extra]:
        [value_fn] = needed(extra, "value_fn")

        def worst(g, w):
            size = norm(g)
            up = hp.rho / jnp.where(size == 0, 1, size)
            return jax.value_and_grad(value_fn)(jax.tree.map(lambda w, g: w + up * g, w, g))

        value, steepest = worst(g, w)
        nearby = extra._replace(value=value, value_fn=loss_of(lambda w: worst(jax.grad(value_fn)(w), w)))
        return steepest, without(nearby, "example_grads", refused)

    return before(Hyper(rule.hyper), rule, change)


sam = sharpness_aware(sgd)
