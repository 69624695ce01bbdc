"""How much of the cache a step of a network takes, which decides how many networks should step together on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from fnn.train.run import Run


def widest(run: Run, hp: Any, key: Any, data: Any) -> int:
    """Bytes of the largest matrix product of a step that is no gradient of an array in the state, as a weight's is.

    These are a minibatch's activations, patches and scores. Products in branches, where metrics are evaluated, do not
    count.
    """

    def step(hp, key, data):
        own = run.own(key, data)
        state = run.start(hp, key, own)
        return state, run.step(hp, own, state, run.draw(key, own, jnp.asarray(0)))

    program, (state, _) = jax.make_jaxpr(step, return_shape=True)(hp, key, data)
    carried = {tuple(sorted(leaf.shape)) for leaf in jax.tree.leaves(state)}
    products = (value for value in _products(program.jaxpr) if tuple(sorted(value.shape)) not in carried)
    return max((value.size * np.dtype(value.dtype).itemsize for value in products), default=0)


def _products(jaxpr):
    """The shapes and dtypes of all matrix products of a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.outvars[0].aval
        elif equation.primitive.name != "cond":
            for inner in jaxprs_in_params(equation.params):
                yield from _products(inner)
