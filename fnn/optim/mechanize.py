"""Mechanic: a learning rate for any rule. Cutkosky, Defazio & Mehta 2023, arXiv:2306.00144, Algorithm 1.

    u = the inner rule's step           Δ = (w₀ − w) / (Σs + eps)
    g ← g + weight_decay · Σs · ‖g‖ / (‖w‖ + eps) · w
    h = ⟨g, Δ⟩                          β = 1 − 0.1ᵏ, k = 1…6; m, v, r and s for each of them
    r ← β · r + clip(h, −m, m) · s      with m of the step before
    m ← max(β · m, |h| + eps)           v ← β² · v + h²
    s ← (s_init / 6 · m + max(r, 0)) / (√v + eps)
    w ← w₀ − Σs · (Δ − u)

`mechanized(rule)` is Mechanic around any rule, whose own lr is then 1 (and may follow a schedule); `mechanize` is the
one around Adam.

When not to use it: around rules that choose their own scale, as DoG or Prodigy do; with bfloat16 parameters, whose
spacing is longer than its first steps, without `fnn.wrappers.master`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import require
from fnn.base.trees import dot, norm
from fnn.base.types import NonNegative, Params, Positive
from fnn.optim.adam import adam
from fnn.rule.contract import Extra, Rule, checked, composed

HORIZONS = 6


class Hyper(NamedTuple):
    """inner: the inner rule's; s_init: the first scale; eps: keeps divisors from 0; weight_decay: relative to ‖g‖."""

    inner: Any
    s_init: Positive = 1e-6
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01


class State(NamedTuple):
    """inner: the inner rule's; w_0: the weights at first; m, v, r, s: see above, `[6]`."""

    inner: Any
    w_0: Params
    m: Array
    v: Array
    r: Array
    s: Array


def mechanized(rule: Rule) -> Rule:
    """The rule with its steps scaled by a learned factor.

    Raises `InputError` for a rule with further iterates, as schedule-free ones and lookahead: the whole way from w₀ to
    w is rescaled at every step, and the way to those is not.
    """
    rule = checked(rule)
    refused = "Mechanic rescales the parameters alone, so a rule with further iterates beside them cannot be in it."
    require(not rule.iterates, refused)

    def init(hp, w):
        nothing = jnp.zeros(HORIZONS, hp.eps.dtype)
        return State(rule.init(hp.inner, w), w, nothing, nothing, nothing, nothing + hp.s_init)

    def update(hp: Hyper, t: Array, g: Params, state: State, w: Params, extra: Extra):
        inner, w_0, m, v, r, s = state
        u, inner = rule.update(hp.inner, g, inner, w, extra)
        pull = hp.weight_decay * s.sum() * norm(g) / (norm(w) + hp.eps)
        g = jax.tree.map(lambda g, w: g + pull * w, g, w)
        gone = jax.tree.map(lambda w_0, w, s=s: (w_0 - w) / (s.sum() + hp.eps), w_0, w)
        h = dot(g, gone)
        beta = jnp.asarray([1 - 0.1**k for k in range(1, HORIZONS + 1)], s.dtype)
        r = beta * r + jnp.clip(h, -m, m) * s
        m = jnp.maximum(beta * m, jnp.abs(h) + hp.eps)
        v = beta**2 * v + h**2
        s = (hp.s_init / HORIZONS * m + jnp.maximum(r, 0)) / (jnp.sqrt(v) + hp.eps)
        step = jax.tree.map(lambda w_0, gone, u, w: w_0 - s.sum() * (gone - u) - w, w_0, gone, u, w)
        return step, State(inner, w_0, m, v, r, s)

    return composed(Hyper(rule.hyper), init, update, lambda hp, t, w, s: rule.result(hp.inner, w, s.inner))


mechanize = mechanized(adam._replace(hyper=adam.hyper._replace(lr=1.0)))
