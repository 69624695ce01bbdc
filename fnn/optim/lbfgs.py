"""L-BFGS with a line search. Nocedal & Wright 2006, Algorithms 7.4 (two loops), 7.5, 3.5 and 3.6 (the search).

    p = −lr · H g       H the inverse Hessian by ten pairs (Δw, Δg), from H₀ = ⟨Δw, Δg⟩ / ‖Δg‖² · I of the last pair
    w ← w + a · p       a a step length that satisfies Wolfe's conditions, see `fnn.rule.linesearch`

Before there is a pair H = min(1, 1 / ‖g‖) · I. A pair is left out, and those before it are kept, where its curvature is
not positive: where ⟨Δw, Δg⟩ > √ε · ‖Δw‖ · ‖Δg‖ does not hold, ε the precision, so that H is positive definite and well
enough conditioned for it. Left out are pairs of no step (a learning rate of 0), of negative curvature, and of gradients
that are not finite. optax leaves none out: one of no step overwrites the oldest, and one of negative curvature makes H
indefinite. Every trial of the search costs a gradient; under `vmap` all searches last as long as the
longest.

torch remembers a hundred pairs and, unless `line_search_fn="strong_wolfe"`, takes a = 1. Its first step is
−lr · min(1, 1 / ‖g‖₁) · g, H is I until the first pair, and pairs with ⟨Δw, Δg⟩ ≤ 1e-10 are left out. An update is a
step of torch's with `max_iter=1` and tolerances of 0: when to stop is not the rule's business.

When not to use it: with minibatches, between which Δg is mostly noise; it is for whole data sets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import require
from fnn.base.trees import Vector, dot, each, norm, norm1, zeros_like
from fnn.base.types import NonNegative, Params
from fnn.rule.contract import Extra, Rule, needed, treewise
from fnn.rule.linesearch import wolfe


class Hyper(NamedTuple):
    """lr: the direction's length, of which 1 is Newton's."""

    lr: NonNegative = 1.0


class Pairs(NamedTuple):
    """dw, dg: the pairs, leading axis the memory, the last the newest; rho: 1/⟨Δw, Δg⟩, 0 where there is no pair yet;
    begin: ⟨Δw, Δg⟩ / ‖Δg‖² of the newest, 1 before it."""

    dw: Params
    dg: Params
    rho: Array
    begin: Array


class State(NamedTuple):
    """w, g: weights and gradient of the step before; pairs: the memory."""

    w: Params
    g: Params
    pairs: Pairs


def limited_memory(pairs: int) -> Rule:
    """L-BFGS that remembers this number of pairs."""
    require(pairs >= 1, f"L-BFGS remembers at least 1 pair, not {pairs}.")

    def init(hp, w):
        return State(zeros_like(w), zeros_like(w), nothing(hp, w, pairs))

    def update(hp: Hyper, t: Array, g: Vector, s: State, w: Vector, extra: Extra):
        value, value_fn = needed(extra, "value", "value_fn")
        dw, dg = w - s.w, g - s.g
        product = dot(dw, dg)
        curved = product > jnp.finfo(product.dtype).eps ** 0.5 * norm(dw) * norm(dg)
        known = remember(s.pairs, dw, dg, product, curved & (t > 1))
        begin = jnp.where(known.rho[-1] > 0, known.begin, jnp.minimum(1, 1 / norm(g)))
        p = -hp.lr * two_loops(g, known, begin)
        a = wolfe(value_fn, w, p, value, dot(p, g))
        return a * p, State(w, g, known)

    return treewise(Hyper(), init, update)


def searchless(pairs: int) -> Rule:
    """torch's L-BFGS without a line search, that remembers this number of pairs."""
    require(pairs >= 1, f"L-BFGS remembers at least 1 pair, not {pairs}.")

    def init(hp, w):
        return State(zeros_like(w), zeros_like(w), nothing(hp, w, pairs))

    def update(hp: Hyper, t: Array, g: Vector, s: State, w: Vector, extra: Extra):
        dw, dg = w - s.w, g - s.g
        product = dot(dw, dg)
        known = remember(s.pairs, dw, dg, product, (t > 1) & (product > 1e-10) & jnp.isfinite(product))
        length = hp.lr * jnp.where(t == 1, jnp.minimum(1, 1 / norm1(g)), 1)
        return -length * two_loops(g, known, known.begin), State(w, g, known)

    return treewise(Hyper(), init, update)


def nothing(hp: Hyper, w: Vector, pairs: int) -> Pairs:
    """An empty memory for this number of pairs."""
    memory = lambda: each(lambda w: jnp.zeros((pairs, *w.shape), w.dtype))(w)
    return Pairs(memory(), memory(), jnp.zeros(pairs, jnp.asarray(hp.lr).dtype), jnp.ones_like(hp.lr))


def remember(known: Pairs, dw: Vector, dg: Vector, product: Array, good: Array) -> Pairs:
    """The memory with this pair in place of the oldest, if the pair is good."""
    put = lambda memory, new: jnp.where(good, jnp.concatenate([memory[1:], new[None]]), memory)
    return Pairs(
        each(put)(known.dw, dw),
        each(put)(known.dg, dg),
        put(known.rho, 1 / product),
        jnp.where(good, product / dot(dg, dg), known.begin),
    )


def two_loops(g: Vector, known: Pairs, begin: Array) -> Vector:
    """H g, where H is begin · I before the pairs."""

    def times(rho, a, b):
        # Not 0 · ⟨a, b⟩ where there is no pair: one infinite coordinate would make every coordinate NaN.
        return jnp.where(rho > 0, rho * dot(a, b), 0)

    def back(q, pair):
        dw, dg, rho, _ = pair
        alpha = times(rho, dw, q)
        return q - alpha * dg, alpha

    def forth(r, pair_alpha):
        (dw, dg, rho, _), alpha = pair_alpha
        beta = times(rho, dg, r)
        return r + (alpha - beta) * dw, None

    pairs = known._replace(begin=None)
    q, alphas = jax.lax.scan(back, g, pairs, reverse=True)
    r, _ = jax.lax.scan(forth, begin * q, (pairs, alphas))
    return r


SCHEDULE = {}
lbfgs = limited_memory(10)
DIALECTS = {"torch": searchless(100)}
