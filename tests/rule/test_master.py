"""Master weights: parameters in bfloat16 train as float32 ones whose gradients are taken at the rounded weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.base.trees import dot
from fnn.rule import EMPTY, Extra, apply_updates
from fnn.rule.interop import to_optax
from fnn.rule.wrappers import decay_decoupled, master

STEPS = 12
TARGET = {"w": jnp.linspace(-1.1, 2.3, 12).reshape(3, 4), "b": jnp.array([0.7, -0.4])}
START = jax.tree.map(lambda a: jnp.full(a.shape, 0.3), TARGET)
NARROW = jax.tree.map(lambda a: a.astype(jnp.bfloat16), START)


def loss(w):
    gone = jax.tree.map(lambda w, a: w.astype(jnp.float32) - a, w, TARGET)
    return dot(gone, gone) / 2


def extra(params, i):
    """All there is about the loss, at the given parameters; its examples' gradients are 3, −2 and 2 times g."""
    each = lambda: jax.tree.map(lambda g: jnp.stack([3 * g, -2 * g, 2 * g]), gradient(params))
    return Extra(loss(params), loss, each, jax.random.fold_in(jax.random.key(0), i))


def gradient(params):
    """In float32, at the parameters as they are."""
    return jax.tree.map(lambda p, a: p.astype(jnp.float32) - a, params, TARGET)


def rounded(w):
    """To bfloat16 and back; not by casts, which XLA may leave out."""
    return jax.tree.map(lambda w: jax.lax.reduce_precision(w, 8, 7), w)


def trained(rule, params, seen, steps=STEPS):
    """(parameters, result) after these steps, with gradients at `seen(parameters)`."""

    @jax.jit
    def run(params):
        def step(carry, i):
            params, state = carry
            there = seen(params)
            updates, state = rule.update(rule.hyper, gradient(there), state, params, extra(there, i))
            return (apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (params, rule.init(rule.hyper, params)), jnp.arange(steps))
        return params, rule.result(rule.hyper, params, state)

    return run(params)


def as_is(params):
    return params


@pytest.mark.parametrize("spec", optim.rules())
def test_training_in_bfloat16_is_training_in_float32(spec):
    """The master weights are those of float32 training at rounded weights, the parameters their rounding."""
    rule = optim.rule(spec)
    start = rounded(START)
    w, result = trained(rule, start, rounded)
    params, masters = trained(master(rule), NARROW, as_is)
    for name in TARGET:
        assert params[name].dtype == jnp.bfloat16
        assert masters[name].dtype == jnp.float32
        # A result of float32 weights; where the rule finds it from its parameters, with their rounding in it.
        np.testing.assert_allclose(masters[name], result[name], rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(params[name].astype(jnp.float32), w[name], rtol=2**-8, atol=1e-5)


SHORT = {"sgd": {"lr": 4e-4}, "dowg": {"r_eps2": 1e-8}}
"""Where the defaults' first steps are longer than half the spacing at `START`, 0.001."""


@pytest.mark.parametrize("name", ["prodigy", "dog", "dowg", "dadapt_adamw", "mechanize", "cocob", "sgd"])
def test_a_rule_whose_steps_are_shorter_than_the_spacing_moves(name):
    """Alone it stays where it is; on master weights the loss falls as in float32."""
    rule, steps = optim.rule(name), 1000
    rule = rule._replace(hyper=rule.hyper._replace(**SHORT.get(name, {})))
    wide = loss(trained(rule, START, as_is, steps)[1])
    assert wide < loss(START) / 2
    alone = trained(rule, NARROW, as_is, 3)[0]
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (alone, NARROW)), strict=True)) or name == "cocob"
    np.testing.assert_allclose(loss(trained(master(rule), NARROW, as_is, steps)[1]), wide, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_rules_keep_their_own_iterates(name):
    """Their result is the x of float32 training, rounded, without a wrapper."""
    rule = optim.rule(name)
    hp = {"schedule_free_sgd": 0.3, "schedule_free_adamw": 0.05}[name]
    rule = rule._replace(hyper=rule.hyper._replace(lr=hp))
    wide, narrow = (trained(rule, params, as_is, 1000)[1] for params in (START, NARROW))
    assert loss(wide) < 1e-3
    assert loss(narrow) < 2e-3


def test_float32_arrays_cost_nothing():
    rule = optim.rule("adam")
    state = master(rule).init(rule.hyper, {"a": jnp.ones(3), "b": jnp.ones(3, jnp.bfloat16)})
    assert state.w["a"] is EMPTY or state.w["a"] == EMPTY
    assert state.w["b"].dtype == jnp.float32
    plain, wrapped = (r.update(r.hyper, START, r.init(r.hyper, START), START)[0] for r in (rule, master(rule)))
    jax.tree.map(np.testing.assert_array_equal, plain, wrapped)


def test_a_change_from_outside_reaches_the_master_weights():
    """Decoupled decay around master weights decays them, as it does when it is inside."""
    rule = optim.rule("sgd")
    outside, inside = decay_decoupled(master(rule)), master(decay_decoupled(rule))
    hp = lambda r, lr: r.hyper._replace(weight_decay=0.5, inner=r.hyper.inner._replace(lr=lr))
    ends = [trained(r._replace(hyper=hp(r, 0.02)), NARROW, as_is, 60)[0]["w"] for r in (outside, inside)]
    plain = trained(master(rule._replace(hyper=rule.hyper._replace(lr=0.02))), NARROW, as_is, 60)[0]["w"]
    np.testing.assert_allclose(*(e.astype(jnp.float32) for e in ends), rtol=0.05, atol=0.02)
    assert jnp.abs(ends[0] - plain).max() > 0.1


def test_through_optax_the_updates_are_of_the_parameters_dtype_and_nothing_is_lost():
    transformation = to_optax(master(optim.rule("sgd")), optim.rule("sgd").hyper._replace(lr=1e-3))
    w, params = jax.tree.map(lambda p: p.astype(jnp.float32), NARROW), NARROW
    state = transformation.init(params)
    for _ in range(200):
        updates, state = transformation.update(gradient(params), state, params)
        assert all(u.dtype == jnp.bfloat16 for u in jax.tree.leaves(updates))
        w = jax.tree.map(lambda w, g: w - 1e-3 * g, w, gradient(params))
        params = jax.tree.map(jnp.add, params, updates)
    for name in TARGET:
        np.testing.assert_allclose(params[name].astype(jnp.float32), w[name], rtol=2**-7)
