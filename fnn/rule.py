"""Update rules: an optimizer is its default hyperparameters and two pure functions of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.types import Hyper, Params


class Rule(NamedTuple):
    """An optimizer.

    hyper: its default hyperparameters, a `NamedTuple` of numbers; pass your own, they are traced.
    init: `(hp, params) -> state`.
    update: `(hp, grads, state, params) -> (updates, state)`; updates are *added* to the parameters.
    """

    hyper: Hyper
    init: Callable[[Hyper, Params], Any]
    update: Callable[[Hyper, Params, Any, Params], tuple[Params, Any]]


class Leafwise(NamedTuple):
    """State of a lifted rule: the number of updates done, and one array's state at each leaf."""

    t: Array
    leaves: Any


def widen(tree: Params) -> Params:
    """Every array in at least float32: bfloat16 moments would forget small gradients."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)


def leafwise(
    hyper: Hyper,
    init: Callable[[Hyper, Array], Any],
    update: Callable[[Hyper, Array, Array, Any, Array], tuple[Array, Any]],
) -> Rule:
    """Lift a rule for one array to any pytree of arrays, in at least float32.

    init: `(hp, w) -> s`. update: `(hp, t, g, s, w) -> (Δw, s)` with t = 1, 2, … the number of this update.
    Hyperparameters are brought to each array's own precision, so float64 ones do not widen a float32 state.
    """

    def like(hp, w):
        return jax.tree.map(lambda h: jnp.asarray(h, w.dtype), hp)

    def init_tree(hp, params):
        params = widen(params)
        return Leafwise(jnp.zeros((), jnp.int32), jax.tree.map(lambda w: init(like(hp, w), w), params))

    def update_tree(hp, grads, state, params):
        t = state.t + 1
        ws, tree = jax.tree.flatten(widen(params))
        gs = tree.flatten_up_to(grads)
        steps = [
            update(like(hp, w), t, g.astype(w.dtype), s, w)
            for g, s, w in zip(gs, tree.flatten_up_to(state.leaves), ws, strict=True)
        ]
        updates, leaves = zip(*steps, strict=True) if steps else ((), ())
        return tree.unflatten(updates), Leafwise(t, tree.unflatten(leaves))

    return Rule(hyper, init_tree, update_tree)


def apply_updates(params: Params, updates: Params) -> Params:
    """w + Δw, added in the update's precision and kept in the parameter's."""
    return jax.tree.map(lambda w, dw: (w + dw).astype(w.dtype), params, updates)
