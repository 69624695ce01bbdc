"""Update rules: an optimizer is its default hyperparameters and two pure functions of them."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from fnn.checks import check_gradients, check_hyper, check_params
from fnn.errors import require
from fnn.trees import widen
from fnn.types import Hyper, Key, Params, Scalar


class Extra(NamedTuple):
    """What some rules ask for beyond the gradient; training gives all of it.

    value: the loss at the parameters.
    at: `params -> loss` on the same minibatch, for rules that look around.
    each: `() -> gradients`, one for each example of the minibatch, which is their leading axis.
    key: for the noise of this update.
    """

    value: Scalar | None = None
    at: Callable[[Params], Scalar] | None = None
    each: Callable[[], Params] | None = None
    key: Key | None = None


NOTHING = Extra()
"""What a caller who only has gradients gives."""


class Rule(NamedTuple):
    """An optimizer.

    hyper: its default hyperparameters, a `NamedTuple` of numbers; pass your own, they are traced.
    init: `(hp, params) -> state`.
    update: `(hp, grads, state, params, extra) -> (updates, state)`; updates are *added* to the parameters. Most rules
        do without `extra`, and then so may their callers.
    result: `(hp, params, state) -> params`, the parameters to be used, where those trained are others (an average).
    """

    hyper: Hyper
    init: Callable[[Hyper, Params], Any]
    update: Callable[..., tuple[Params, Any]]
    result: Callable[[Hyper, Params, Any], Params] = lambda hp, params, state: params


class Lifted(NamedTuple):
    """State of a lifted rule: the number of updates done, None where nothing depends on it, and its own state: of every
    array, or of the whole tree."""

    t: Array | None
    own: Any


def leafwise(
    hyper: Hyper,
    init: Callable[[Hyper, Array], Any],
    update: Callable[..., tuple[Array, Any]],
    result: Callable[..., Array] = lambda hp, w, s: w,
) -> Rule:
    """Lift a rule for one array to any pytree of arrays, in at least float32.

    init: `(hp, w) -> s`. update: `(hp, t, g, s, w) -> (Δw, s)` with t = 1, 2, … the number of this update.
    result: `(hp, t, w, s) -> w` after t updates, as a rule's. Updates are counted only if update or result names `t`
    among its arguments. Hyperparameters are brought to each array's own precision, so float64 ones do not widen a
    float32 state.
    """

    step, read = jax.jit(_told(update)), _told(result)  # jit, so that arrays of one shape are traced once

    def init_tree(hp, params):
        return jax.tree.map(lambda w: init(_like(hp, w.dtype), w), params)

    def update_tree(hp, t, grads, state, params, extra):
        ws, tree = jax.tree.flatten(params)
        steps = [
            step(_like(hp, w.dtype), t, g, s, w)
            for g, s, w in zip(tree.flatten_up_to(grads), tree.flatten_up_to(state), ws, strict=True)
        ]
        updates, leaves = zip(*steps, strict=True) if steps else ((), ())
        return tree.unflatten(updates), tree.unflatten(leaves)

    def result_tree(hp, t, params, state):
        ws, tree = jax.tree.flatten(params)
        found = [read(_like(hp, w.dtype), t, w, s) for w, s in zip(ws, tree.flatten_up_to(state), strict=True)]
        return tree.unflatten(found)

    return _lift(hyper, init_tree, update_tree, result_tree, _counts(update, result))


def treewise(
    hyper: Hyper,
    init: Callable[[Hyper, Params], Any],
    update: Callable[..., tuple[Params, Any]],
    result: Callable[..., Params] = lambda hp, w, s: w,
) -> Rule:
    """A rule that must see the whole tree, in at least float32.

    init: `(hp, w) -> s`. update: `(hp, t, g, s, w, extra) -> (Δw, s)`, where g, w and Δw are trees of arrays and
    t = 1, 2, … is the number of this update. result: `(hp, t, w, s) -> w` after t updates. Updates are counted only if
    update or result names `t` among its arguments. Hyperparameters and the loss come in the tree's widest precision.
    """
    told_update, told_result = _told(update), _told(result)

    def wide(params):
        return jnp.result_type(jnp.float32, *jax.tree.leaves(params))

    def asking(hp, t, g, s, w, extra):
        value = None if extra.value is None else jnp.asarray(extra.value, wide(w))
        return told_update(_like(hp, wide(w)), t, g, s, w, extra._replace(value=value))

    return _lift(
        hyper,
        lambda hp, w: init(_like(hp, wide(w)), w),
        asking,
        lambda hp, t, w, s: told_result(_like(hp, wide(w)), t, w, s),
        _counts(update, result),
    )


def _counts(*functions):
    """Whether one of them names `t` among its arguments."""
    return any("t" in inspect.signature(f).parameters for f in functions)


def _told(f):
    """f as a function that is told t after its hyperparameters, whether it asks or not."""
    return f if _counts(f) else lambda hp, t, *rest: f(hp, *rest)


def increment(t: Int[Array, ""]) -> Int[Array, ""]:
    """t + 1, but for the largest number there is, which stays: the sum would be negative."""
    # A bare sum XLA would do twice, in place and for its readers, with t copied in between: AdaMax's update of 10⁴
    # numbers then takes twice the time.
    last = jnp.iinfo(t.dtype).max
    return jnp.where(t < last, t + 1, last)


def _like(hp, dtype):
    return jax.tree.map(lambda h: jnp.asarray(h, dtype), hp)


def _lift(hyper, init, update, result, counts) -> Rule:
    """A rule whose functions get wide arrays, are told t if the rule counts, and are spared what is wrong."""

    def init_lifted(hp, params):
        check_hyper(hp)
        check_params(params)
        return Lifted(jnp.zeros((), jnp.int32) if counts else None, init(hp, widen(params)))

    def update_lifted(hp, grads, state, params, extra=NOTHING):
        check_gradients(grads, params)
        params, t = widen(params), increment(state.t) if counts else None
        grads = jax.tree.map(lambda w, g: jnp.asarray(g, w.dtype), params, grads)
        updates, own = update(hp, t, grads, state.own, params, extra)
        return updates, Lifted(t, own)

    def result_lifted(hp, params, state):
        used = result(hp, state.t, widen(params), state.own)
        return jax.tree.map(lambda w, r: r.astype(w.dtype), params, used)

    return Rule(hyper, init_lifted, update_lifted, result_lifted)


def needed(extra: Extra, *names: str) -> list[Any]:
    """These parts of `extra`. Raises `InputError` where one is missing."""
    lacking = [name for name in names if getattr(extra, name) is None]
    require(not lacking, f"This rule needs {' and '.join(lacking)}: update(hp, grads, state, params, Extra(…)).")
    return [getattr(extra, name) for name in names]


def apply_updates(params: Params, updates: Params) -> Params:
    """w + Δw, added in the update's precision and kept in the parameter's."""
    return jax.tree.map(lambda w, dw: (w + dw).astype(w.dtype), params, updates)
