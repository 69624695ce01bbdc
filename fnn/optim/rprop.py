"""Rprop: signs alone, and a step size for every weight. Riedmiller & Braun 1993, ICNN; without backtracking as
iRprop−: Igel & Hüsken 2000, Algorithm 4.

    step ← min(step · eta_plus, step_max)      where g keeps the sign of u
           max(step · eta_minus, step_min)     where it flips
    u ← step · sign(g), and 0 where the sign flips, so that the next gradient flips nothing
    torch   w ← w − u                          (also the paper's)
    optax   w ← w − the u before this one, and no move where the sign flips

optax 0.2.8 is a step late: it keeps u and moves by the one that it kept before. `lr` is the first step of every weight;
torch brings it between step_min and step_max at once, optax at the first sign that it compares.

When not to use it: with minibatches, whose signs flip by chance and shrink every step.
"""

from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import Fraction, Interval, Limit, NonNegative, Scalar
from fnn.rule.contract import leafwise


class Hyper(NamedTuple):
    """lr: the first step; eta_minus, eta_plus: factors at a flipped and a kept sign; step_min, step_max: its bounds."""

    lr: NonNegative = 0.01
    eta_minus: Fraction = 0.5
    eta_plus: Annotated[Scalar, Interval("(1, ∞)")] = 1.2
    step_min: NonNegative = 1e-6
    step_max: Limit = 50.0


class State(NamedTuple):
    """step: its size; u: the last one, towards the gradient."""

    step: Array
    u: Array


def init(hp: Hyper, w: Array):
    return State(jnp.full_like(w, hp.lr), jnp.zeros_like(w))


def torch_init(hp: Hyper, w: Array):
    return State(jnp.full_like(w, jnp.clip(hp.lr, hp.step_min, hp.step_max)), jnp.zeros_like(w))


def torch_update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    step, u = s
    agrees = jnp.sign(g) * jnp.sign(u)
    grown = step * jnp.where(agrees > 0, hp.eta_plus, hp.eta_minus)
    step = jnp.where(agrees == 0, step, jnp.clip(grown, hp.step_min, hp.step_max))
    u = jnp.where(agrees < 0, 0, step * jnp.sign(g))
    return -u, State(step, u)


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    _, u_before = s
    _, after = torch_update(hp, t, g, s, w)
    return jnp.where(jnp.sign(g) * jnp.sign(u_before) < 0, 0, -u_before), after


SCHEDULE = {}
rprop = leafwise(Hyper(), init, update)
DIALECTS = {"torch": leafwise(Hyper(), torch_init, torch_update)}
