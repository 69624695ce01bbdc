"""A loss for every gradient: the `Extra` of rules that are run along a stream of given gradients."""

import jax
import jax.numpy as jnp

from fnn.base.trees import dot
from fnn.base.types import Key, Params, Scalar
from fnn.rule.contract import Extra

EXACT = {"xla_backend_optimization_level": 0, "xla_disable_hlo_passes": "algsimp"}
"""Options of the compiler under which every operation is rounded once and alone, as if done one at a time.

Otherwise XLA rounds a·b + c once or twice as it likes, and differently in two programs; where a moving average passes
through 0 little is left of it but that.
"""


ON_FUNCTIONS = {
    "lbfgs": "given gradients are no function's, and which pairs have positive curvature depends on rounding",
}
"""Rules that equal their twin along the gradients of functions, not along streams."""

BY_PLACES = {
    "schedule_free_sgd": "its twin's update is the difference of two places, rounded to their spacing; ours is not",
    "schedule_free_adamw": "as schedule_free_sgd",
    "cocob": "as schedule_free_sgd",
    "madgrad": "as schedule_free_sgd",
}
"""Rules whose updates and their twin's differ by roundings of the parameters, and are compared relative to those."""


def extra(g: Params, w: Params, value: Scalar, key: Key) -> Extra:
    """The `Extra` of a loss whose gradient at w is g, whose value at w is `value` and whose Hessian is I.

    Its examples' gradients are 3, −2 and 2 times g, whose mean is g.
    """

    def value_fn(v):
        gone = jax.tree.map(jnp.subtract, v, w)
        return value + dot(g, gone) + dot(gone, gone) / 2

    def example_grads():
        return jax.tree.map(lambda x: jnp.stack([3 * x, -2 * x, 2 * x]), g)

    return Extra(value, value_fn, example_grads, key)
