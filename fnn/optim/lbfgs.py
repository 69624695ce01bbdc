"""L-BFGS with a line search. Nocedal & Wright 2006, Algorithms 7.4 (two loops), 7.5, 3.5 and 3.6 (the search).

    p = −lr · H g       H the inverse Hessian that ten pairs (Δw, Δg) imply, begun as ⟨Δw, Δg⟩ / ‖Δg‖² · I
    w ← w + a · p       a a step length that satisfies Wolfe's conditions, see `fnn.linesearch`

At first H = min(1, 1 / ‖g‖) · I. Pairs with ⟨Δw, Δg⟩ = 0 are left out. Every trial of the search costs a gradient;
under `vmap` all searches last as long as the longest.

torch remembers a hundred pairs and, unless asked for a search (`line_search_fn="strong_wolfe"`), takes a = 1. Its first
step is −lr · min(1, 1 / ‖g‖₁) · g; pairs with ⟨Δw, Δg⟩ ≤ 1e-10 are left out, and H is then begun as before. An update
is a step of torch's with `max_iter=1` and tolerances of 0: when to stop is not the rule's business.

When not to use it: with minibatches, between which Δg is mostly noise; it is for whole data sets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.errors import require
from fnn.linesearch import wolfe
from fnn.rule import Extra, Rule, needed, treewise
from fnn.trees import dot, norm, norm1, zeros_like
from fnn.types import NonNegative, Params


class Hyper(NamedTuple):
    """lr: the direction's length, of which 1 is Newton's."""

    lr: NonNegative = 1.0


class State(NamedTuple):
    """w, g: weights and gradient of the step before; dw, dg: the pairs, leading axis the memory; rho: 1/⟨Δw, Δg⟩."""

    w: Params
    g: Params
    dw: Params
    dg: Params
    rho: Array


def limited_memory(pairs: int) -> Rule:
    """L-BFGS that remembers so many pairs."""
    require(pairs >= 1, f"L-BFGS remembers at least 1 pair, not {pairs}.")

    def init(hp, w):
        memory = jax.tree.map(lambda w: jnp.zeros((pairs, *w.shape), w.dtype), w)
        return State(zeros_like(w), zeros_like(w), memory, memory, jnp.zeros(pairs, hp.lr.dtype))

    def update(hp: Hyper, t: Array, g: Params, s: State, w: Params, extra: Extra):
        value, at = needed(extra, "value", "at")
        dw, dg = (jax.tree.map(lambda a, b: jnp.where(t > 1, a - b, 0), *ab) for ab in ((w, s.w), (g, s.g)))
        product, square = dot(dg, dw), dot(dg, dg)
        last = (t - 2) % pairs
        put = lambda memory, new: jax.tree.map(lambda m, x: m.at[last].set(x), memory, new)
        rho = put(s.rho, jnp.where(product == 0, 0, 1 / jnp.where(product == 0, 1, product)))
        s = State(w, g, put(s.dw, dw), put(s.dg, dg), rho)
        first = jnp.minimum(1, 1 / norm(g))
        begin = jnp.where(t == 1, first, jnp.where(square > 0, product / jnp.where(square > 0, square, 1), 1))
        p = jax.tree.map(lambda d: -hp.lr * d, two_loops(g, s, begin, (last + 1 + jnp.arange(pairs)) % pairs))
        a = wolfe(at, w, p, value, dot(p, g))
        return jax.tree.map(lambda p: a * p, p), s

    return treewise(Hyper(), init, update)


class TorchState(NamedTuple):
    """g, step: gradient and step before; dw, dg, rho: the pairs, oldest first, as in `State`; begin: H without them."""

    g: Params
    step: Params
    dw: Params
    dg: Params
    rho: Array
    begin: Array


def searchless(pairs: int) -> Rule:
    """torch's L-BFGS without a line search, that remembers so many pairs."""
    require(pairs >= 1, f"L-BFGS remembers at least 1 pair, not {pairs}.")

    def init(hp, w):
        memory = jax.tree.map(lambda w: jnp.zeros((pairs, *w.shape), w.dtype), w)
        rho = jnp.zeros(pairs, hp.lr.dtype)
        return TorchState(zeros_like(w), zeros_like(w), memory, memory, rho, jnp.ones_like(hp.lr))

    def update(hp: Hyper, t: Array, g: Params, s: TorchState, w: Params, extra: Extra):
        dw, dg = s.step, jax.tree.map(jnp.subtract, g, s.g)
        product = dot(dw, dg)
        good = product > 1e-10
        put = lambda memory, new: jnp.where(good, jnp.concatenate([memory[1:], new[None]]), memory)
        s = s._replace(
            g=g,
            dw=jax.tree.map(put, s.dw, dw),
            dg=jax.tree.map(put, s.dg, dg),
            rho=put(s.rho, 1 / product),
            begin=jnp.where(good, product / dot(dg, dg), s.begin),
        )
        length = hp.lr * jnp.where(t == 1, jnp.minimum(1, 1 / norm1(g)), 1)
        step = jax.tree.map(lambda d: -length * d, two_loops(g, s, s.begin, jnp.arange(pairs)))
        return step, s._replace(step=step)

    return treewise(Hyper(), init, update)


def two_loops(g: Params, s: State | TorchState, begin: Array, oldest_first: Array) -> Params:
    """H g, from the pairs in this order."""

    def pair(i):
        return *jax.tree.map(lambda memory: memory[i], (s.dw, s.dg)), s.rho[i]

    def back(q, i):
        dw, dg, rho = pair(i)
        alpha = rho * dot(dw, q)
        return jax.tree.map(lambda q, dg: q - alpha * dg, q, dg), alpha

    def forth(r, i_alpha):
        i, alpha = i_alpha
        dw, dg, rho = pair(i)
        beta = rho * dot(dg, r)
        return jax.tree.map(lambda r, dw: r + (alpha - beta) * dw, r, dw), None

    q, alphas = jax.lax.scan(back, g, oldest_first, reverse=True)
    r, _ = jax.lax.scan(forth, jax.tree.map(lambda q: begin * q, q), (oldest_first, alphas))
    return r


lbfgs = limited_memory(10)
DIALECTS = {"torch": searchless(100)}
