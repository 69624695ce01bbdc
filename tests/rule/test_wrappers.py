"""Rules in company: parity with optax's chains, masks, groups, accumulation, averaging and lookahead; and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from problems import RTOL, along, streams

from fnn import interop, optim, schedules, wrappers
from fnn.base.errors import InputError
from fnn.nn.axes import inputs_first, outputs_first
from fnn.nn.layers import Affine, Table
from fnn.rule import Extra, Rule, apply_updates, twins
from fnn.rule.wrappers import (
    accumulate,
    by_group,
    clip_adaptive,
    clip_norm,
    clip_rms,
    clip_value,
    decay,
    decay_decoupled,
    ema,
    lookahead,
    matrices,
    max_norm,
    only,
    polyak,
    smooth,
)

pytestmark = pytest.mark.usefixtures("x64")

SGD, MOMENTUM, ADAM = (optim.rule(name) for name in ("sgd", "momentum", "adam"))


def adam(hp):
    return twins.TWINS["adam"](hp)


def momentum(hp):
    return twins.TWINS["momentum"](hp)


def sgd(hp):
    return twins.TWINS["sgd"](hp)


def groups(params):
    return {"scalar": "slow", "layers": jax.tree.map(lambda w: "fast", params["layers"]), "deep": {"er": {"x": "slow"}}}


def named(tree):
    return jax.tree.map(lambda on: "on" if on else "off", tree)


CHAINS = {
    "clip_value": (clip_value(ADAM), lambda hp: optax.chain(optax.clip(hp.limit), adam(hp.inner))),
    "clip_rms": (clip_rms(ADAM), lambda hp: optax.chain(optax.clip_by_block_rms(hp.limit), adam(hp.inner))),
    "clip_norm": (clip_norm(ADAM), lambda hp: optax.chain(optax.clip_by_global_norm(hp.limit), adam(hp.inner))),
    "clip_adaptive": (clip_adaptive(ADAM), lambda hp: optax.chain(optax.adaptive_grad_clip(hp.limit), adam(hp.inner))),
    "clip_adaptive, units in rows": (
        clip_adaptive(ADAM, outputs_first),
        lambda hp: optax.partition(
            {
                name: optax.chain(optax.adaptive_grad_clip(hp.limit, axis=axis), adam(hp.inner))
                for name, axis in (("on", 1), ("off", None))
            },
            lambda p: named(matrices(p)),
        ),
    ),
    "decay": (
        decay(MOMENTUM),
        lambda hp: optax.chain(optax.add_decayed_weights(hp.weight_decay, matrices), momentum(hp.inner)),
    ),
    "clip, then decay": (
        clip_norm(decay(MOMENTUM, wrappers.everywhere)),
        lambda hp: optax.chain(
            optax.clip_by_global_norm(hp.limit),
            optax.add_decayed_weights(hp.inner.weight_decay),
            momentum(hp.inner.inner),
        ),
    ),
    "decay, then clip": (
        decay(clip_norm(MOMENTUM), wrappers.everywhere),
        lambda hp: optax.chain(
            optax.add_decayed_weights(hp.weight_decay),
            optax.clip_by_global_norm(hp.inner.limit),
            momentum(hp.inner.inner),
        ),
    ),
    "only": (
        only(ADAM, matrices),
        lambda hp: optax.partition({"on": adam(hp.inner), "off": optax.set_to_zero()}, lambda p: named(matrices(p))),
    ),
    "by_group": (
        by_group({"fast": ADAM, "slow": SGD}, groups),
        lambda hp: optax.multi_transform({"fast": adam(hp["fast"]), "slow": sgd(hp["slow"])}, groups),
    ),
    "accumulate": (
        accumulate(ADAM, 3),
        lambda hp: optax.MultiSteps(adam(hp.inner), 3, accumulator_dtype=jnp.float64).gradient_transformation(),
    ),
    "smooth": (smooth(SGD), lambda hp: optax.chain(optax.ema(hp.keep), sgd(hp.inner))),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_wrapped_rule_is_its_optax_chain(name):
    rule, chain = CHAINS[name]
    hps = jax.tree.map(lambda h: jnp.asarray([h, h / 2], jnp.float64), rule.hyper)
    ours, theirs = along(rule, hps), along(interop.from_optax(rule.hyper, chain), hps)
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=0)
    if name != "only":
        assert all(np.abs(a[0, 0]).max() > 0 for a in jax.tree.leaves(ours))
    assert any(np.any(a[0] != a[1]) for a in jax.tree.leaves(ours))


def test_decoupled_decay_makes_adamw_of_adam():
    wrapped = decay_decoupled(ADAM, wrappers.everywhere)
    one = jax.tree.map(lambda h: jnp.asarray([h], jnp.float64), wrapped.hyper)
    other = jax.tree.map(lambda h: jnp.asarray([h], jnp.float64), optim.rule("adamw").hyper)
    ours, theirs = along(wrapped, one), along(optim.rule("adamw"), other)
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15)
    nested = decay_decoupled(clip_norm(ADAM))
    assert nested.hyper.inner.inner == ADAM.hyper


def run(rule, kind="normal", steps=12):
    """Parameters after every step and the rule's `result` there, with lists of trees."""
    params, grads = streams()
    k = problems.KINDS.index(kind)
    hp, state, ws, results = rule.hyper, rule.init(rule.hyper, params), [], []
    for i in range(steps):
        updates, state = rule.update(hp, jax.tree.map(lambda g, i=i: g[k, i], grads), state, params)
        params = apply_updates(params, updates)
        ws.append(params)
        results.append(rule.result(hp, params, state))
    return ws, results


def assert_same(a, b, rtol=RTOL):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol), a, b)


def test_averages_are_those_of_the_parameters():
    ws, averaged = run(ema(SGD))
    tx = optax.ema(0.99)
    state = tx.init(ws[0])
    for w, ours in zip(ws, averaged, strict=True):
        theirs, state = tx.update(w, state)
        assert_same(ours, theirs)
    ws, averaged = run(polyak(SGD))
    for t, ours in enumerate(averaged, start=1):
        assert_same(ours, jax.tree.map(lambda *w: np.mean(w, axis=0), *ws[:t]))
    params, _ = streams()
    for rule in (ema(SGD), polyak(SGD)):
        assert_same(rule.result(rule.hyper, params, rule.init(rule.hyper, params)), params)


def test_lookahead_is_optax_lookahead():
    """optax carries the slow weights beside the fast ones, ours in the state."""
    rule = lookahead(ADAM, 5)
    ws, slow = run(rule, steps=23)
    params, grads = streams()
    tx = optax.lookahead(adam(ADAM.hyper), 5, rule.hyper.share)
    both = optax.LookaheadParams.init_synced(params)
    state = tx.init(both)
    for i, (w, phi) in enumerate(zip(ws, slow, strict=True)):
        updates, state = tx.update(jax.tree.map(lambda g, i=i: g[0, i], grads), state, both)
        both = optax.apply_updates(both, updates)
        assert_same(w, both.fast)
        assert_same(phi, both.slow, rtol=1e-11)


def test_accumulated_gradients_are_a_larger_minibatch():
    params, grads = streams()
    ws, _ = run(accumulate(ADAM, 4))
    state, w = ADAM.init(ADAM.hyper, params), params
    for i in range(0, 12, 4):
        mean = jax.tree.map(lambda g, i=i: g[0, i : i + 4].mean(0), grads)
        updates, state = ADAM.update(ADAM.hyper, mean, state, w)
        w = apply_updates(w, updates)
        assert_same(ws[i + 3], w, rtol=1e-9)
    assert_same(ws[0], params, rtol=0)


def test_an_accumulated_rule_sees_the_mean_of_the_losses():
    rule, w = accumulate(optim.rule("polyak_sgd"), 2), jnp.zeros(1)
    state = rule.init(rule.hyper, w)
    for value, expected in ((0.2, 0.0), (0.4, -0.3)):
        update, state = rule.update(rule.hyper, jnp.ones(1), state, w, Extra(value))
        np.testing.assert_allclose(update, [expected], rtol=1e-6)


def test_frozen_arrays_keep_no_state():
    params, _ = streams()
    state = only(ADAM, matrices).init(only(ADAM, matrices).hyper, params)
    assert sum(x.size for x in jax.tree.leaves(state)) < 3 * (12 + 8)


def test_company_is_vmapped_and_scheduled():
    """Hyperparameters at any depth are traced: one program for all, and a schedule reaches them by their path."""
    rule = clip_norm(decay(ADAM))
    params, grads = streams()
    g = jax.tree.map(lambda g: g[0, 0], grads)

    def step(hp):
        return rule.update(hp, g, rule.init(hp, params), params)[0]["scalar"]

    hps = jax.tree.map(lambda h: jnp.asarray([h, h / 2]), rule.hyper)
    both = jax.vmap(step)(hps)
    for i in range(2):
        np.testing.assert_allclose(both[i], step(jax.tree.map(lambda h, i=i: h[i], hps)), rtol=1e-6)
    falling = schedules.scheduled(rule, schedules.on("inner.inner.lr", schedules.polynomial()), 2)
    state, sizes = falling.init(rule.hyper, params), []
    for _ in range(3):
        updates, state = falling.update(rule.hyper, g, state, params)
        sizes.append(float(jnp.abs(updates["scalar"])))
    np.testing.assert_allclose(sizes, [1e-3, 5e-4, 0], rtol=1e-3)


def test_wrong_company_gets_one_sentence():
    params, _ = streams()
    with pytest.raises(InputError, match="1 or more steps, not 0"):
        accumulate(ADAM, 0)
    with pytest.raises(InputError, match="every 1 or more steps, not 0"):
        lookahead(ADAM, 0)
    with pytest.raises(InputError, match="scaled by the rule's lr, and this rule has none"):
        decay_decoupled(Rule((), SGD.init, SGD.update))
    rule = by_group({"fast": ADAM}, groups)
    with pytest.raises(InputError, match="no rule for the group slow; there are fast"):
        rule.init(rule.hyper, params)


def test_max_norm_brings_long_units_back():
    """To the nearest weights within the limit; others take the rule's own step, and biases are free."""
    rule = max_norm(SGD)
    hp = rule.hyper._replace(inner=rule.hyper.inner._replace(lr=0.5), limit=2.0)
    w = Affine(jnp.array([[1.0, 1.0], [0.1, 0.2], [3.0, 4.0], [0.0, 0.0]]), jnp.array([9.0, 0.0, 0.0, 0.0]))
    g = Affine(jnp.array([[-2.0, -2.0], [0.1, 0.1], [0.0, 0.0], [0.0, 0.0]]), jnp.ones(4))
    free, _ = SGD.update(hp.inner, g, SGD.init(hp.inner, w), w)
    u, _ = rule.update(hp, g, rule.init(hp, w), w)
    after = np.asarray(w.w + free.w)
    size = np.linalg.norm(after, axis=1, keepdims=True)
    np.testing.assert_allclose(w.w + u.w, after * np.minimum(1, 2 / np.maximum(size, 1e-9)), rtol=1e-12)
    assert (size > 2).ravel().tolist() == [True, False, True, False]
    np.testing.assert_array_equal(u.w[1], free.w[1])
    np.testing.assert_array_equal(u.b, free.b)
    unbounded, _ = rule.update(hp._replace(limit=jnp.inf), g, rule.init(hp, w), w)
    assert_same(unbounded, free, rtol=0)


def test_max_norm_bounds_the_units_that_layers_and_conventions_name():
    zero = lambda w: jax.tree.map(jnp.zeros_like, w)
    projected = lambda rule, w: apply_updates(w, rule.update(rule.hyper, zero(w), rule.init(rule.hyper, w), w)[0])
    bare = 10 + jnp.arange(6.0).reshape(2, 3)
    for layout, axis in [(inputs_first, 0), (outputs_first, 1)]:
        np.testing.assert_allclose(np.linalg.norm(projected(max_norm(SGD, layout), bare), axis=axis), 3.0, rtol=1e-12)
    table = projected(max_norm(SGD), Table(bare))
    np.testing.assert_allclose(np.linalg.norm(table.w, axis=1), 3.0, rtol=1e-12)
