"""Between fnn and optax, both ways. Only this file and `fnn.rule.twins` import optax."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from fnn.base.errors import require
from fnn.base.trees import cast_like, widen
from fnn.base.types import Hyper, Params
from fnn.rule.contract import EMPTY, NOTHING, Empty, Extra, Rule, checked, needed, owned


class Masked(optax.MaskedNode):
    """`fnn.rule.Empty` for optax; distinct from the masks in the state of a rule made by `from_optax`."""


MASKED = Masked()


def _replaced(tree, kind, node):
    return jax.tree.map(lambda x: node if isinstance(x, kind) else x, tree, is_leaf=lambda x: isinstance(x, kind))


def to_optax(rule: Rule, hp: Hyper = None) -> optax.GradientTransformationExtraArgs:
    """The rule at `hp` (its defaults if None) as an optax transformation, for flax, equinox, or a loop of your own.

    `update` takes what the rule needs beyond gradients by optax's names: `value`, `value_fn`; and `example_grads`,
    `key`. Its updates come in each parameter's dtype, from an arithmetic of at least float32. Where a parameter has no
    part in the state there is an `optax.MaskedNode`, which `optax.tree_map_params` takes for a leaf if its `is_leaf`
    does.
    """
    rule = checked(rule)
    hp = rule.hyper if hp is None else hp

    def update(updates, state, params=None, *, value=None, value_fn=None, example_grads=None, key=None, **others):
        require(params is not None, "An fnn rule sees the parameters: call update(grads, state, params).")
        state = _replaced(state, Masked, EMPTY)
        extra = Extra(value, value_fn, example_grads, key)
        updates, state = rule.update(hp, updates, state, params, extra)
        return cast_like(params, updates), _replaced(state, Empty, MASKED)

    return optax.GradientTransformationExtraArgs(lambda params: _replaced(rule.init(hp, params), Empty, MASKED), update)


class Paired(NamedTuple):
    """State of `optax.lookahead`, which updates pairs of parameters: its own state, and the slow parameters."""

    inner: Any
    slow: Params


def from_optax(hyper: Hyper, build: Callable[[Hyper], optax.GradientTransformation]) -> Rule:
    """The optax transformation `build(hp)` as a rule with default hyperparameters `hyper`, in at least float32.

    `build` runs while tracing, so hp stays a traced value: one compilation serves a whole sweep. A transformation of
    extra arguments gets those that optax has names for: `value`, `grad` and `value_fn`; the same function as `obj_fn`
    for Hutchinson's estimate, its gradient as `grad_fn` for SAM; `key` and `example_grads` if it names them. Those with
    `contrib.differentially_private_aggregate` get every example's gradient in place of the mean. The rule's `result` is
    what optax evaluates: the averages of `schedule_free`, the slow parameters of `lookahead`, and, between the two
    steps of `sam`, the parameters before its step to the worst ones nearby.
    """

    require(callable(build), f"An optax transformation is built by a function of hyperparameters, not {build!r}.")

    def init(hp, params):
        w = widen(params)
        state = build(hp).init(w)
        paired = _parts(state, optax.LookaheadState)
        return owned(Paired(state, w) if paired else state, hp, params)

    def update(hp, grads, state, params, extra=NOTHING):
        transformation: Any = build(hp)
        w, grads = widen(params), widen(grads)
        if _parts(state, contrib.DifferentiallyPrivateAggregateState):
            [example_grads] = needed(extra, "example_grads")
            grads = widen(example_grads())
        known = _named(transformation.update, state, extra, grads)
        if isinstance(state, Paired):
            pair = optax.LookaheadParams(fast=w, slow=state.slow)
            step, inner = transformation.update(grads, state.inner, pair, **known)
            return step.fast, Paired(inner, optax.apply_updates(state.slow, step.slow))
        return transformation.update(grads, state, w, **known)

    def result(hp, params, state):
        used = widen(params)
        for part in _parts(state, Paired):
            used = part.slow
        for part in _parts(state, contrib.ScheduleFreeState):
            averaged = contrib.schedule_free_eval_params(part, _masked_like(part.z, used))
            used = jax.tree.map(lambda x, w: w if _masked(x) else x, averaged, used, is_leaf=_masked)
        for part in _parts(state, contrib.SAMState):
            if part.cache is not None:
                here = part.steps_since_sync == 0
                used = jax.tree.map(lambda w, c, here=here: jnp.where(here, w, c), used, part.cache)
        return cast_like(params, used)

    return Rule(hyper, init, update, result)


def _named(update, state, extra, grads):
    """The parts of `extra` that an optax update takes, by its names for them."""
    known = {"key": extra.key, "example_grads": extra.example_grads}
    if extra.value is not None:
        known |= {"value": extra.value, "grad": grads}
    if extra.value_fn is not None:
        value_fn = extra.value_fn
        # SAM calls it with the number of an inner step too.
        known |= {
            "value_fn": value_fn,
            "obj_fn": value_fn,
            "grad_fn": lambda params, number=0: jax.grad(value_fn)(params),
        }
    parameters = inspect.signature(update).parameters
    names = set(parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        # Passed on to every part, some of which refuse names that they do not have.
        sam, hutchinson = (_parts(state, kind) for kind in (contrib.SAMState, contrib.HutchinsonState))
        names |= {"grad_fn"} if sam else {"value", "grad", "value_fn"} | ({"obj_fn"} if hutchinson else set())
    return {name: x for name, x in known.items() if name in names}


def _parts(state, kind):
    """Every state of this type within a state."""
    found = lambda x: isinstance(x, kind)
    return [x for x in jax.tree.leaves(state, is_leaf=found) if found(x)]


def _masked(x):
    return isinstance(x, optax.MaskedNode)


def _masked_like(masks, tree):
    return jax.tree.map(lambda mask, x: mask if _masked(mask) else x, masks, tree, is_leaf=_masked)
