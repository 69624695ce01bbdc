"""LARS: momentum with steps in proportion to each layer's weights. You, Gitman & Ginsburg 2017, arXiv:1708.03888.

    u = g + weight_decay · w
    v ← mu · v + lr · trust · ‖w‖ / ‖u‖ · u         the whole factor 1 where either norm is 0
    w ← w − v

Algorithm 1 of the paper, with lr inside the momentum as there. The paper adds weight_decay · ‖w‖ to ‖g‖; optax, which
this equals, takes the norm of the sum. Arrays that their layer declares to be no weights (biases, scales, shifts) have
factor 1 and no decay, as in TensorFlow's LARSOptimizer with the `skip_list` of the large-batch benchmarks; outside of
fnn's layers every array counts as weights, as in optax.

When not to use it: with small batches, for which plain momentum was made.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.trees import norm, ratio
from fnn.base.types import Kept, NonNegative, Positive
from fnn.nn.axes import Axes, undeclared
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: step size, relative to ‖w‖; mu: decay rate of the velocity; trust: the share of ‖w‖; weight_decay: L2."""

    lr: NonNegative = 1.0
    mu: Kept = 0.9
    trust: Positive = 1e-3
    weight_decay: NonNegative = 0.0


class State(NamedTuple):
    """v: the velocity."""

    v: Array


def init(hp: Hyper, w: Array, axes: Axes):
    return State(jnp.zeros_like(w))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array, axes: Axes):
    if axes.exempt:
        v = hp.mu * s.v + hp.lr * g
        return -v, State(v)
    u = g + hp.weight_decay * w
    size = norm(w)
    trust = jnp.where(size == 0, 1, ratio(hp.trust * size, norm(u), 1))
    v = hp.mu * s.v + hp.lr * (u * trust)
    return -v, State(v)


lars = leafwise(Hyper(), init, update, layout=undeclared)
