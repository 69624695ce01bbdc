"""Every rule in other libraries: in flax and equinox, in optax's wrappers, with sharding, donation and checkpoints.

What each rule does in a loop of optax's, under `flax.nnx.Optimizer`, in flax's `TrainState` and with an equinox model
is compared, bit for bit, with the same steps taken by hand by `Rule.update`: the rule alone, and inside one of optax's
wrappers. Rules, dialects and what they need are discovered. A selection that covers every rule in every library, every
wrapper with every kind of rule, and both dtypes runs always; the full product is slow.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec

from fnn import interop, optim
from fnn.base.errors import InputError
from fnn.base.trees import widen
from fnn.rule import Rule, gradient_streams, hyper

RULES = optim.rules()
STEPS = 4
SHAPES = {"matrix": (3, 2), "number": (), "vector": (3,)}
CHOSEN = {"matrix": True, "number": True, "vector": False}
"""The parameters that optax's masks choose."""


def learning_rate(rule: Rule) -> tuple[str, float]:
    """Its name and a value that bfloat16 holds, large enough to move bfloat16 parameters."""
    name = hyper.lr_path(rule.hyper)
    return name, 2.0 ** round(np.log2(max(hyper.get(rule.hyper, name), 2.0**-5)))


def trees(dtype, count):
    """`count` trees of normal numbers, stacked."""
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.standard_normal((count, *shape)), dtype) for name, shape in SHAPES.items()}


def extras(rule: Rule, i, g, w):
    """What step i gives the rule beyond the gradient, in the structure of g and w; nothing where it needs nothing."""
    key = jax.random.fold_in(jax.random.key(0), i)
    return gradient_streams.extra(widen(g), widen(w), 1 + jnp.cos(i / 7.0) / 2, key) if needy(rule) else None


@cache
def needy(rule: Rule) -> bool:
    """Whether the rule refuses to step from a gradient alone."""
    w = jnp.ones(2)
    try:
        jax.eval_shape(lambda: rule.update(rule.hyper, w, rule.init(rule.hyper, w), w))
    except InputError:
        return True
    return False


def keywords(extra) -> dict[str, Any]:
    """An `Extra` by the names that `to_optax` takes it by."""
    names = ("value", "value_fn", "example_grads", "key")
    return {} if extra is None else {name: getattr(extra, name) for name in names}


# By hand: `init(rule, hp, w) -> state` and `step(rule, hp, i, g, s, w) -> (update of every parameter, state)`.


def plainly(rule, hp, i, g, s, w, changed=None):
    """The rule's step with the gradient g, or with it `changed`; the rest is the minibatch's."""
    extra, g = extras(rule, i, g, w), g if changed is None else changed
    u, s = rule.update(hp, g, s, w) if extra is None else rule.update(hp, g, s, w, extra)
    return jax.tree.map(lambda u, w: u.astype(w.dtype), u, w), s


def begin(rule, hp, w):
    return rule.init(hp, w)


def chosen(tree):
    return {name: x if CHOSEN[name] else None for name, x in tree.items()}


def begin_chosen(rule, hp, w):
    return rule.init(hp, chosen(w))


def step_chosen(otherwise):
    def step(rule, hp, i, g, s, w):
        u, s = plainly(rule, hp, i, chosen(g), s, chosen(w))
        return {name: u[name] if CHOSEN[name] else otherwise(g[name]) for name in u}, s

    return step


def begin_pairs(rule, hp, w):
    return rule.init(hp, w), jax.tree.map(lambda w: jnp.zeros(w.shape), w)


def step_pairs(rule, hp, i, g, s, w):
    inner, mean = s
    seen = i % 2
    mean = jax.tree.map(lambda m, g: m + (g - m) / (seen + 1), mean, g)
    u, after = plainly(rule, hp, i, g, inner, w, jax.tree.map(lambda m, g: m.astype(g.dtype), mean, g))
    full = seen == 1
    pick = lambda a, b: jax.tree.map(lambda a, b: jnp.where(full, a, b), a, b)
    return pick(u, jax.tree.map(jnp.zeros_like, u)), (pick(after, inner), jax.tree.map(lambda m: (1 - full) * m, mean))


def step_finite(rule, hp, i, g, s, w):
    u, after = plainly(rule, hp, i, g, s, w)
    pick = lambda a, b: jax.tree.map(lambda a, b: jnp.where(i == HOLE, b, a), a, b)
    return pick(u, jax.tree.map(jnp.zeros_like, u)), pick(after, s)


def step_late(rule, hp, i, g, s, w):
    u, after = plainly(rule, hp, i, g, s, w)
    pick = lambda a, b: jax.tree.map(lambda a, b: jnp.where(i > 0, a, b), a, b)
    return pick(u, g), pick(after, s)


def step_halved(rule, hp, i, g, s, w):
    u, s = plainly(rule, hp, i, g, s, w, jax.tree.map(lambda g: 0.5 * g, g))
    return jax.tree.map(lambda u: 2 * u, u), s


HOLE = 1
"""The step whose gradient is not finite, where that is what a wrapper is for."""


class Wrapper(NamedTuple):
    """wrap: `(rule, hp) -> transformation` by optax; init and step by hand; broken: whether step HOLE is; masked:
    whether optax hides some parameters from the rule."""

    wrap: Callable
    init: Callable
    step: Callable
    broken: bool = False
    masked: bool = False


def _injected(rule, hp):
    name, lr = learning_rate(rule)
    return optax.inject_hyperparams(lambda lr: interop.to_optax(rule, hyper.put(hp, name, lr)))(lr=lr)


def around(wrap):
    return lambda rule, hp: wrap(interop.to_optax(rule, hp))


LABELS = {name: "rule" if on else "sgd" for name, on in CHOSEN.items()}
WRAPPERS = {
    "bare": Wrapper(interop.to_optax, begin, plainly),
    "chain": Wrapper(around(lambda tx: optax.chain(optax.scale(0.5), tx, optax.scale(2.0))), begin, step_halved),
    "MultiSteps": Wrapper(around(lambda tx: optax.MultiSteps(tx, 2)), begin_pairs, step_pairs),
    "apply_if_finite": Wrapper(around(lambda tx: optax.apply_if_finite(tx, 3)), begin, step_finite, broken=True),
    "conditionally_transform": Wrapper(
        around(lambda tx: optax.conditionally_transform(tx, lambda step, **_: step > 0, forward_extra_args=True)),
        begin,
        step_late,
    ),
    "multi_transform": Wrapper(
        around(lambda tx: optax.multi_transform({"rule": tx, "sgd": optax.sgd(0.5)}, labels)),
        begin_chosen,
        step_chosen(lambda g: -0.5 * g),
        masked=True,
    ),
    "masked": Wrapper(
        around(lambda tx: optax.masked(tx, lambda p: like(p, CHOSEN))),
        begin_chosen,
        step_chosen(lambda g: g),
        masked=True,
    ),
    "inject_hyperparams": Wrapper(_injected, begin, plainly),
}


def like(params, by_name):
    """What is given by name in the structure of params, whose leaves are in the order of the names."""
    return jax.tree.unflatten(jax.tree.structure(params), [by_name[name] for name in SHAPES])


def labels(params):
    return like(params, LABELS)


# The libraries: `begin(tx, w) -> carry`, `step(rule, tx, kw, i, g, carry) -> carry` and `read(carry) -> w by name`.


class Library(NamedTuple):
    begin: Callable
    step: Callable
    read: Callable


def loop_step(tx, given, i, g, carry):
    w, s = carry
    u, s = tx.update(g, s, w, **given(i, g, w))
    return optax.apply_updates(w, u), s


class Net(nnx.Module):
    def __init__(self, w):
        self.matrix, self.number, self.vector = (nnx.Param(w[name]) for name in SHAPES)


def nnx_begin(tx, w):
    net = Net(w)
    return nnx.split((net, nnx.Optimizer(net, tx, wrt=nnx.Param)))


def nnx_step(tx, given, i, g, carry):
    graph, state = carry
    net, optimizer = nnx.merge(graph, state)
    params = nnx.state(net, nnx.Param)
    grads = like(params, g)
    optimizer.update(net, grads, **given(i, *map(nnx.as_pure, (grads, params))))
    return nnx.split((net, optimizer))


def nnx_read(carry):
    net, _ = nnx.merge(*carry)
    return {name: getattr(net, name)[...] for name in SHAPES}


def linen_begin(tx, w):
    return TrainState.create(apply_fn=None, params=w, tx=tx)


def linen_step(tx, given, i, g, state):
    more = given(i, g, state.params)
    if not more:
        return state.apply_gradients(grads=g)
    u, opt_state = tx.update(g, state.opt_state, state.params, **more)  # apply_gradients takes no more arguments
    return state.replace(step=state.step + 1, params=optax.apply_updates(state.params, u), opt_state=opt_state)


class Module(eqx.Module):
    matrix: jax.Array
    number: jax.Array
    vector: jax.Array
    activation: Callable


def equinox_begin(tx, w):
    model = Module(*(w[name] for name in SHAPES), jnp.tanh)
    return model, tx.init(eqx.filter(model, eqx.is_inexact_array))


def equinox_step(tx, given, i, g, carry):
    model, s = carry
    w = eqx.filter(model, eqx.is_inexact_array)
    g = like(w, g)
    u, s = tx.update(g, s, w, **given(i, g, w))
    return eqx.apply_updates(model, u), s


LIBRARIES = {
    "optax": Library(lambda tx, w: (w, tx.init(w)), loop_step, lambda carry: carry[0]),
    "nnx": Library(nnx_begin, nnx_step, nnx_read),
    "linen": Library(linen_begin, linen_step, lambda state: state.params),
    "equinox": Library(equinox_begin, equinox_step, lambda carry: {n: getattr(carry[0], n) for n in SHAPES}),
}


def assert_same(spec: str, dtype, pairs):
    """Four steps of the rule in these `(wrapper, library)` and by hand, from donated parameters and states.

    All of it is one program, so a rule is compiled once, and every operation is rounded alone.
    """
    rule, hands = RULES[spec], {wrapper: "by hand" for wrapper, _ in pairs}
    hp = jax.tree.map(jnp.float32, hyper.put(rule.hyper, *learning_rate(rule)))
    start, grads = jax.tree.map(lambda x: x[0], trees(dtype, 1)), trees(dtype, STEPS)
    needy(rule)  # is found before anything is traced

    carries, steps, reads = {}, {}, {}
    for pair in [*hands.items(), *pairs]:
        carry, step, reads[pair] = prepared(rule, hp, jax.tree.map(jnp.copy, start), *pair)
        carries[pair], rest = eqx.partition(carry, eqx.is_array)
        reads[pair] = holding(rest, reads[pair])
        steps[pair] = holding(rest, step)

    def body(carries, now):
        return {pair: eqx.filter(steps[pair](carry, *now), eqx.is_array) for pair, carry in carries.items()}, None

    program = jax.jit(
        lambda carries, grads: jax.lax.scan(body, carries, (jnp.arange(STEPS), grads))[0],
        donate_argnums=0,
        compiler_options=gradient_streams.EXACT,
    )
    done = program(carries, grads)
    jax.block_until_ready(hp)  # raises where a state shared the caller's own numbers and gave them away
    found = {pair: reads[pair](carry) for pair, carry in done.items()}
    for wrapper, library in pairs:
        by_hand, there = found[wrapper, "by hand"], found[wrapper, library]
        assert dtype == jnp.bfloat16 or any(np.any(by_hand[name] != start[name]) for name in SHAPES)
        for name in SHAPES:
            assert there[name].dtype == dtype, (wrapper, library, name)
            np.testing.assert_array_equal(there[name], by_hand[name], err_msg=f"{wrapper}, {library}, {name}")


def prepared(rule, hp, w, wrapper, library):
    """The start, the step `(carry, i, g) -> carry` and the reading of the parameters, in a library or by hand."""
    wrapper = WRAPPERS[wrapper]
    holed = lambda i, g: jax.tree.map(lambda g: jnp.where(wrapper.broken & (i == HOLE), jnp.nan, g), g)

    def given(i, g, w):
        if wrapper.masked:
            g, w = (jax.tree.map(lambda on, x: x if on else optax.MaskedNode(), like(t, CHOSEN), t) for t in (g, w))
        return keywords(extras(rule, i, g, w))

    def by_hand(carry, i, g):
        w, s = carry
        u, s = wrapper.step(rule, hp, i, holed(i, g), s, w)
        return jax.tree.map(jnp.add, w, u), s

    if library == "by hand":
        return (w, wrapper.init(rule, hp, w)), by_hand, lambda carry: carry[0]
    begin, step, read = LIBRARIES[library]
    tx = wrapper.wrap(rule, hp)
    return begin(tx, w), lambda carry, i, g: step(tx, given, i, holed(i, g), carry), read


def holding(rest, f):
    """f of a whole carry as a function of its arrays."""
    return lambda carry, *more: f(eqx.combine(carry, rest), *more)


def selected():
    """Every rule alone in every library, and in a wrapper in a library; wrappers, dtypes and libraries take turns."""
    wrappers, libraries = [name for name in WRAPPERS if name != "bare"], list(LIBRARIES)
    for i, spec in enumerate(RULES):
        turn, wrapper = divmod(i, len(wrappers))
        pairs = [
            *(("bare", library) for library in libraries),
            (wrappers[wrapper], libraries[turn // 2 % len(libraries)]),
        ]
        yield pytest.param(spec, (jnp.float32, jnp.bfloat16)[turn % 2], pairs, id=spec)


@pytest.mark.parametrize(("spec", "dtype", "pairs"), list(selected()))
def test_a_rule_is_the_same_in_every_library(spec, dtype, pairs):
    assert_same(spec, dtype, pairs)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("spec", RULES)
def test_a_rule_is_the_same_in_every_library_and_wrapper(spec, dtype):
    assert_same(spec, dtype, [(wrapper, library) for wrapper in WRAPPERS for library in LIBRARIES])


def masked(x):
    return isinstance(x, optax.MaskedNode)


@pytest.mark.parametrize("spec", RULES)
def test_a_state_takes_the_parameters_shardings(spec):
    """`optax.tree_map_params` finds every array that belongs to a parameter, and pairs it with that parameter's."""
    tx = interop.to_optax(RULES[spec])
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    state = tx.init(params)
    named = optax.tree_map_params(
        tx,
        lambda x, name: x if masked(x) else name,
        state,
        {name: name for name in SHAPES},
        transform_non_params=lambda x: "none",
        is_leaf=masked,
    )
    assert jax.tree.structure(named) == jax.tree.structure(state)
    for path, name in jax.tree_util.tree_leaves_with_path(named):
        keys = [part.key for part in path if hasattr(part, "key")]
        assert [name] == (keys or ["none"]), (path, name)
    mesh = jax.make_mesh((1,), ("devices",))
    shardings = jax.tree.map(lambda name: NamedSharding(mesh, PartitionSpec()), named)
    jax.tree.map(np.testing.assert_array_equal, jax.device_put(state, shardings), state)


def test_states_survive_checkpoints(tmp_path):
    """All of them, filled with numbers: through orbax, flax's bytes and flax's dictionaries into a fresh state."""
    w = jax.tree.map(lambda x: x[0], trees(jnp.float32, 1))
    fresh = {spec: interop.to_optax(rule).init(w) for spec, rule in RULES.items()}
    numbers = iter(range(10**6))
    fill = lambda x: np.reshape([next(numbers) for _ in range(x.size)], x.shape).astype(x.dtype)
    states = jax.tree.map(fill, fresh)
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(tmp_path / "states", states)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / "states", fresh)
    for spec, state in states.items():
        through_bytes = flax.serialization.from_bytes(fresh[spec], flax.serialization.to_bytes(state))
        by_name = flax.serialization.from_state_dict(fresh[spec], flax.serialization.to_state_dict(state))
        for again in (restored[spec], through_bytes, by_name):
            assert jax.tree.structure(again) == jax.tree.structure(state), spec
            jax.tree.map(np.testing.assert_array_equal, again, state)
