"""Update rules: an optimizer is its default hyperparameters and two pure functions of them."""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, get_type_hints

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from fnn.base.checks import check_fields, check_gradients, check_hyper, check_params, check_single
from fnn.base.errors import require
from fnn.base.trees import Vector, cast_like, plain, widen
from fnn.base.types import Hyper, Key, Params, Scalar
from fnn.nn.axes import Convention, axes
from fnn.rule.hyper import get, lr_path, own_lr


class Extra(NamedTuple):
    """The arguments of an update beyond the gradient; training gives the first four.

    value: the loss at the parameters.
    value_fn: `params -> loss` on the same minibatch, for rules that evaluate the loss at other parameters.
    example_grads: `() -> gradients`, one for each example of the minibatch: leaves `[examples, …]`.
    key: for the noise of this update.
    decay: decoupled weight decay, a number for each array: every step loses lr · decay · w.
    scale: a factor of the step, the decay's part included (see `adjusted` for both).
    """

    value: Scalar | None = None
    value_fn: Callable[[Params], Scalar] | None = None
    example_grads: Callable[[], Params] | None = None
    key: Key | None = None
    decay: Params | None = None
    scale: Scalar | None = None


NOTHING = Extra()
"""The `Extra` of a caller that has gradients only."""


class Rule(NamedTuple):
    """An optimizer.

    hyper: its default hyperparameters, a `NamedTuple` of numbers; pass your own, they are traced.
    init: `(hp, params) -> state`.
    update: `(hp, grads, state, params, extra) -> (updates, state)`; updates are *added* to the parameters. Most rules
        do without `extra`, and then so may their callers.
    result: `(hp, params, state) -> params`, the parameters to be used, where those trained are others (an average).
    adjusts: whether update applies `Extra.decay` and `Extra.scale`, as that of a lifted rule does; for others wrappers
        do, see `checked`.
    iterates: whether the state holds further iterates beside the parameters. Such a rule applies `Extra.decay` and
        `Extra.scale` itself, to the iterate that steps; rules that only rescale its updates cannot be around it.
    """

    hyper: Hyper
    init: Callable[[Hyper, Params], Any]
    update: Callable[..., tuple[Params, Any]]
    result: Callable[[Hyper, Params, Any], Params] = lambda hp, params, state: params
    adjusts: bool = False
    iterates: bool = False


class Lifted(NamedTuple):
    """State of a lifted rule: the number of updates done, and the rule's own state.

    Every part of the latter is an array, or a tree of one array for each of the parameters: what optax, flax and
    checkpointers expect of a state.
    """

    t: Array
    own: Any


class Empty(NamedTuple):
    """A node without leaves, in a state's tree at a parameter that has no such part."""


EMPTY = Empty()

Part = Any
"""A part of the state of one array: an array, or `EMPTY`."""


def leafwise(
    hyper: Hyper,
    init: Callable[..., Any],
    update: Callable[..., tuple[Array, Any]],
    result: Callable[..., Array] = lambda hp, t, w, s: w,
    *,
    layout: Convention | None = None,
) -> Rule:
    """Lift a rule for one array to any pytree of arrays, in at least float32.

    init: `(hp, w) -> s`, a `NamedTuple` whose every field is an array, or `EMPTY` where an array such as w has no such
        part; `()` where there is no state at all.
    update: `(hp, t, g, s, w) -> (Δw, s)` with t = 1, 2, … the number of this update.
    result: `(hp, t, w, s) -> w` after t updates, as a rule's.
    layout: for rules that depend on which axes of an array are outputs and inputs: init and update take the array's
        `Axes` as a last argument, as its layer declares them, elsewhere by this convention.

    The lifted state is that `NamedTuple` of trees like the parameters. Hyperparameters are brought to each array's own
    precision, so float64 ones do not widen a float32 state. Raises `InputError` for a state of another type.
    """
    # jit, so that arrays of one shape and the same axes are traced once.
    step = jax.jit(update, static_argnums=() if layout is None else 5)

    def at(hp, w):
        return _like(hp, w.dtype)

    def known(tree, params):
        """The axes of every array as further arguments, none where the rule does without."""
        if layout is None:
            return [()] * tree.num_leaves
        return [(found,) for found in tree.flatten_up_to(axes(params, layout))]

    def init_tree(hp, params):
        ws, tree = jax.tree.flatten(params)
        # Of a tree without arrays the state's type is found from a number.
        number = jnp.zeros((), jnp.float32)
        each = zip(ws, known(tree, params), strict=True) if ws else [(number, (layout(number),) if layout else ())]
        states = [init(at(hp, w), w, *found) for w, found in each]
        require(all(map(_is_state, states)), f"A state is a NamedTuple of arrays, or (), not {states[0]!r}.")
        return _transposed(tree, states[0], states if ws else [])

    def update_tree(hp, t, grads, state, params, extra):
        ws, tree = jax.tree.flatten(params)
        gs, states = tree.flatten_up_to(grads), _by_leaf(tree, state)
        arrays = zip(gs, states, ws, known(tree, params), strict=True)
        done = [step(at(hp, w), t, g, s, w, *found) for g, s, w, found in arrays]
        return tree.unflatten([u for u, _ in done]), _transposed(tree, state, [s for _, s in done])

    def result_tree(hp, t, params, state):
        ws, tree = jax.tree.flatten(params)
        states = _by_leaf(tree, state)
        return tree.unflatten([result(at(hp, w), t, w, s) for w, s in zip(ws, states, strict=True)])

    return _lift(hyper, init_tree, update_tree, result_tree)


def _is_state(s):
    parts = isinstance(s, tuple) and all(hasattr(x, "dtype") or isinstance(x, Empty) for x in s)
    return parts and (hasattr(s, "_fields") or not s)


def _transposed(tree, kind, states):
    """A state of every array as one state of trees; `kind` is any state of its type."""
    other = [type(s).__name__ for s in states if type(s) is not type(kind)]
    require(not other, f"A rule's state stays a {type(kind).__name__}; this one became a {', '.join(other[:1])}.")
    return type(kind)(*(tree.unflatten([s[i] for s in states]) for i in range(len(kind))))


def _by_leaf(tree, state):
    """A state of trees as one state of every array."""
    parts = [tree.flatten_up_to(part) for part in state]
    return [type(state)(*(part[i] for part in parts)) for i in range(tree.num_leaves)]


def treewise(
    hyper: Hyper,
    init: Callable[[Hyper, Vector], Any],
    update: Callable[..., tuple[Vector, Any]],
    result: Callable[..., Vector] = lambda hp, t, w, s: w,
    *,
    iterates: bool = False,
) -> Rule:
    """A rule whose equation is of all parameters together, as one `Vector`, in at least float32.

    init: `(hp, w) -> s`, a `NamedTuple` whose fields of type `Params` are vectors like w, the others arrays; `()` where
        there is no state.
    update: `(hp, t, g, s, w, extra) -> (Δw, s)`, where g, w and Δw are vectors, t = 1, 2, … is the number of this
        update, and the functions of `extra` take and give vectors.
    result: `(hp, t, w, s) -> w` after t updates.
    iterates: as a `Rule`'s; then update applies `Extra.decay` and `Extra.scale` itself.
    """

    def update_vectors(hp, t, g, s, w, extra):
        value_fn, example_grads = extra.value_fn, extra.example_grads
        extra = extra._replace(
            value_fn=value_fn and (lambda w: value_fn(w.tree)),
            example_grads=example_grads and (lambda: Vector(example_grads())),
            decay=None if extra.decay is None else Vector(extra.decay),
        )
        return plain(update(hp, t, Vector(g), vectors(s), Vector(w), extra))

    return composed(
        hyper,
        lambda hp, w: plain(init(hp, Vector(w))),
        update_vectors,
        lambda hp, t, w, s: plain(result(hp, t, Vector(w), vectors(s))),
        iterates=iterates,
    )


def vectors(state: Any) -> Any:
    """A state of plain trees with its fields of type `Params` as vectors."""
    if not hasattr(state, "_fields"):
        return state
    types = _types(type(state))
    return type(state)(
        *(Vector(part) if types[name] is Params else vectors(part) for name, part in state._asdict().items())
    )


@functools.cache
def _types(kind):
    return get_type_hints(kind)


def coupled(update: Callable[..., Any]) -> Callable[..., Any]:
    """A leaf's update with weight decay in its gradient, g + weight_decay · w."""
    return lambda hp, t, g, s, w: update(hp, t, g + hp.weight_decay * w, s, w)


def decoupled(update: Callable[..., Any]) -> Callable[..., Any]:
    """A leaf's update with weight decay beside its step, − lr · weight_decay · w."""

    def decayed(hp, t, g, s, w):
        step, s = update(hp, t, g, s, w)
        return step - hp.lr * hp.weight_decay * w, s

    return decayed


def composed(
    hyper: Hyper,
    init: Callable[[Hyper, Params], Any],
    update: Callable[..., tuple[Params, Any]],
    result: Callable[..., Params] = lambda hp, t, w, s: w,
    *,
    inside: Sequence[Rule] = (),
    iterates: bool = False,
) -> Rule:
    """A rule around others, or one that treats the parameters' tree as such, in at least float32.

    init: `(hp, w) -> s`, best a `NamedTuple` of arrays and of trees like the parameters; `()` where there is no state.
    update: `(hp, t, g, s, w, extra) -> (Δw, s)`, where g, w and Δw are trees of arrays and t = 1, 2, … is the number of
        this update.
    result: `(hp, t, w, s) -> w` after t updates.
    inside: the rules whose updates get `extra` whole, and apply `Extra.decay` and `Extra.scale`.
    iterates: as a `Rule`'s; then update applies the two itself.

    Hyperparameters and the loss come in the tree's widest precision.
    """

    def at(hp, w):
        return _like(hp, _widest(w))

    def update_tree(hp, t, g, s, w, extra):
        value = None if extra.value is None else jnp.asarray(extra.value, _widest(w))
        grads = extra.example_grads and (lambda f=extra.example_grads: widen(f()))
        return update(at(hp, w), t, g, s, w, extra._replace(value=value, example_grads=grads))

    return _lift(
        hyper,
        lambda hp, w: init(at(hp, w), w),
        update_tree,
        lambda hp, t, w, s: result(at(hp, w), t, w, s),
        applied=iterates or len(inside) > 0,
        iterates=iterates or any(rule.iterates for rule in inside),
    )


def _widest(params):
    return jnp.result_type(jnp.float32, *jax.tree.leaves(params))


def increment(t: Int[Array, ""]) -> Int[Array, ""]:
    """t + 1, but for the largest number there is, which stays: the sum would be negative."""
    # A bare sum XLA would do twice, in place and for its readers, with t copied in between: AdaMax's update of 10⁴
    # numbers then takes twice the time.
    last = jnp.iinfo(t.dtype).max
    return jnp.where(t < last, t + 1, last)


def _like(hp, dtype):
    return jax.tree.map(lambda h: jnp.asarray(h, dtype), hp)


def owned(state: Any, *others: Any) -> Any:
    """The state with a copy of every array that is also in `others`, or that it holds twice.

    A buffer that two donated arguments of a compiled step share would be donated twice, which JAX refuses.
    """
    known = {id(x) for x in jax.tree.leaves(others)}

    def own(x):
        x = jnp.copy(x) if id(x) in known else x
        known.add(id(x))
        return x

    return jax.tree.map(own, state)


def _lift(hyper, init, update, result, applied=False, iterates=False) -> Rule:
    """A rule that checks its arguments and calls these functions with wide arrays and the number of the update.

    applied: whether its update applies `Extra.decay` and `Extra.scale`, or a rule inside it does.
    """

    def init_lifted(hp, params):
        check_fields(hp, hyper)
        check_hyper(hp)
        check_single(hp)
        check_params(params)
        state = Lifted(jnp.zeros((), jnp.int32), init(hp, widen(params)))
        return owned(state, hp, params)

    def update_lifted(hp, grads, state, params, extra=NOTHING):
        check_gradients(grads, params)
        params, t = widen(params), increment(state.t)
        grads = jax.tree.map(lambda w, g: jnp.asarray(g, w.dtype), params, grads)
        step = lambda extra: update(hp, t, grads, state.own, params, extra)
        updates, own = step(extra) if applied else adjusted(own_lr(hp), step, params, extra)
        return updates, Lifted(t, own)

    def result_lifted(hp, params, state):
        used = result(hp, state.t, widen(params), state.own)
        return cast_like(params, used)

    return Rule(hyper, init_lifted, update_lifted, result_lifted, adjusts=True, iterates=iterates)


def needed(extra: Extra, *names: str) -> list[Any]:
    """These parts of `extra`. Raises `InputError` where one is missing."""
    lacking = [name for name in names if getattr(extra, name) is None]
    require(not lacking, f"This rule needs {' and '.join(lacking)}: update(hp, grads, state, params, Extra(…)).")
    return [getattr(extra, name) for name in names]


def adjusted(
    lr: Scalar | None, step: Callable[[Extra], tuple[Params, Any]], params: Params, extra: Extra
) -> tuple[Params, Any]:
    """The updates minus lr · `extra.decay` · w, times `extra.scale`, and the state, of `step(extra)`.

    A rule without an lr leaves the decay to the rules inside it.
    """
    decay, scale = None if lr is None else extra.decay, extra.scale
    updates, state = step(extra._replace(decay=extra.decay if decay is None else None, scale=None))
    if decay is not None:
        updates = jax.tree.map(lambda u, d, w: u - jnp.asarray(lr, u.dtype) * d * w, updates, decay, params)
    if scale is not None:
        updates = jax.tree.map(lambda u: jnp.asarray(scale, u.dtype) * u, updates)
    return updates, state


def checked(rule: Any) -> Rule:
    """The rule, or that of a module which holds one under its own name, with an update that applies `Extra.decay` and
    `Extra.scale`.

    Raises `InputError` where this is no rule, a name say.
    """
    if isinstance(rule, ModuleType):  # `optim.adam` is the module `fnn.optim.adam`, which holds `adam`
        rule = getattr(rule, rule.__name__.rpartition(".")[2], rule)
    require(isinstance(rule, Rule), f"This takes a Rule, as fnn.optim.rule('adam') gives one, not {rule!r}.")
    if rule.adjusts:
        return rule

    def update(hp, grads, state, params, extra=NOTHING):
        path = lr_path(hp)
        lr = None if path is None else get(hp, path)
        return adjusted(lr, lambda extra: rule.update(hp, grads, state, params, extra), params, extra)

    return rule._replace(update=update, adjusts=True)


def apply_updates(params: Params, updates: Params) -> Params:
    """w + Δw, added in the update's precision and kept in the parameter's."""
    return cast_like(params, jax.tree.map(lambda w, dw: w + dw, params, updates))
