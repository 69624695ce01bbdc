"""What every rule promises: traced hyperparameters, stable dtypes, leaf by leaf, and life inside other libraries."""

import importlib
import os
import pathlib
import subprocess
import sys
from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from fnn import interop, optim, schedules, wrappers
from fnn.base.errors import InputError
from fnn.rule import Extra, Rule, apply_updates, gradient_streams, leafwise, twins

RULES = optim.rules()
QUICK = {"xla_backend_optimization_level": 0}
"""Compilation takes nearly all of the time."""


def steps(rule: Rule, hp, params, grads, state=None, first=0):
    """Parameters and state after these gradients; each has a loss that rules may evaluate."""
    update = compiled(rule.update)
    state = rule.init(hp, params) if state is None else state
    for i, g in enumerate(grads, start=first):
        params, state = update(hp, g, state, params, jax.random.fold_in(jax.random.key(0), i))
    return params, state


@cache
def compiled(update):
    """An update and its addition. Rules that loop or branch are compiled, others are quicker without."""

    def step(hp, g, state, params, key):
        updates, state = update(hp, g, state, params, gradient_streams.extra(g, params, 0.9, key))
        return apply_updates(params, updates), state

    return (
        jax.jit(step)
        if update in [RULES[name].update for name in ("lbfgs", "lbfgs:torch", "galore", "sophia")]
        else step
    )


def signature(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


@pytest.mark.parametrize("spec", RULES)
def test_new_hyperparameters_do_not_recompile(spec):
    rule, params, traces = RULES[spec], problems.small(), []
    before, grads = problems.gradients("normal", params, 2)
    extra = gradient_streams.extra(grads, params, 60.0, jax.random.key(0))  # so large that lr as a bound matters

    @partial(jax.jit, compiler_options=QUICK)
    def update(hp, state):
        traces.append(1)
        return rule.update(hp, grads, state, params, extra)

    state = jax.jit(lambda: steps(rule, rule.hyper, params, [before])[1], compiler_options=QUICK)()
    results = [update(jax.tree.map(lambda h, f=f: h * f, rule.hyper), state) for f in (1.0, 0.9, 0.5)]
    assert len(traces) == 1
    if spec != "lbfgs":  # whose line search finds the same place from any length it is given
        assert any(not np.allclose(a, b) for a, b in zip(*map(jax.tree.leaves, (results[0], results[2])), strict=True))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("spec", RULES)
def test_dtypes_are_stable(spec, dtype, x64):
    """State and updates keep their dtypes (at least float32), whatever dtype the hyperparameters come in."""
    rule, params = RULES[spec], problems.tree(dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    for hp in (rule.hyper, jax.tree.map(jnp.float32, rule.hyper), jax.tree.map(jnp.float64, rule.hyper)):
        state, g = rule.init(hp, params), problems.gradients("normal", params, 1)[0]
        extra = gradient_streams.extra(g, params, 0.9, jax.random.key(0))
        update = partial(rule.update, params=params, extra=extra)
        updates, after = jax.eval_shape(update, hp, g, state)
        assert signature(after) == signature(state)
        assert all(u.dtype == wide for u in jax.tree.leaves(updates))
        used = jax.eval_shape(lambda hp, state: rule.result(hp, params, state), hp, state)
        assert signature(used) == signature(params)
        kept = jax.eval_shape(lambda updates: apply_updates(params, updates), updates)
        assert signature(kept) == signature(params)


@pytest.mark.parametrize("spec", RULES)
def test_bfloat16_parameters_have_float32_moments(spec):
    """1e-3 of a gradient is lost beside 1 in bfloat16: the accumulators must not be."""
    rule = RULES[spec]
    narrow = {"w": jnp.ones(4, jnp.bfloat16)}
    wide = {"w": jnp.ones(4, jnp.float32)}
    gs = [{"w": jnp.full(4, 2.0**-k, jnp.bfloat16)} for k in range(6)]
    state, wide_state = rule.init(rule.hyper, narrow), rule.init(rule.hyper, wide)
    for i, g in enumerate(gs):
        extra = gradient_streams.extra(jax.tree.map(jnp.float32, g), wide, 0.9, jax.random.key(i))
        updates, state = rule.update(rule.hyper, g, state, narrow, extra)
        wide_updates, wide_state = rule.update(rule.hyper, g, wide_state, wide, extra)
    if isinstance(state, wrappers.Mastered):  # its updates end at rounded parameters
        jax.tree.map(np.testing.assert_array_equal, state.inner, wide_state.inner)
        return
    np.testing.assert_array_equal(updates["w"], wide_updates["w"])


def leaf_by_leaf(spec):
    """Whether a rule is written for one array: lifted by `leafwise`."""
    return hasattr(importlib.import_module(f"fnn.optim.{spec.partition(':')[0]}"), "leafwise")


@pytest.mark.parametrize("spec", [spec for spec in RULES if leaf_by_leaf(spec)])
def test_a_rule_sees_one_leaf_at_a_time(spec):
    """Nesting and order of the leaves change nothing."""
    rule = RULES[spec]
    rng = np.random.default_rng(0)
    a, b, ga, gb = (jnp.asarray(rng.standard_normal(4), jnp.float32) for _ in range(4))
    together, _ = steps(rule, rule.hyper, {"x": a, "y": {"z": b}}, [{"x": ga, "y": {"z": gb}}] * 3)
    turned, _ = steps(rule, rule.hyper, (b, [a]), [(gb, [ga])] * 3)
    alone, _ = steps(rule, rule.hyper, a, [ga] * 3)
    np.testing.assert_array_equal(together["x"], turned[1][0])
    np.testing.assert_array_equal(together["y"]["z"], turned[0])
    np.testing.assert_array_equal(together["x"], alone)


@pytest.mark.parametrize("spec", RULES)
def test_a_vmapped_rule_is_the_rule(spec, x64):
    rule, params = RULES[spec], problems.small(jnp.float64)
    grads = problems.gradients("normal", params, 3)
    factors = jnp.array([0.85, 0.9, 1.0])  # within every range
    hps = jax.tree.map(lambda h: h * factors, rule.hyper)
    run = lambda hp: steps(rule, hp, params, grads)[0]
    mapped = jax.jit(jax.vmap(run), compiler_options=QUICK)(hps)
    alone = jax.jit(run, compiler_options=QUICK)
    for i in range(len(factors)):
        single = alone(jax.tree.map(lambda h, i=i: h[i], hps))
        jax.tree.map(lambda m, s, i=i: np.testing.assert_allclose(m[i], s, rtol=1e-5), mapped, single)


@pytest.mark.parametrize("spec", RULES)
def test_resuming_is_running_through(spec):
    rule, params = RULES[spec], problems.small()
    grads = problems.gradients("normal", params, 6)
    through, _ = steps(rule, rule.hyper, params, grads)
    half, state = steps(rule, rule.hyper, params, grads[:3])
    on, _ = steps(rule, rule.hyper, half, grads[3:], state, first=3)
    jax.tree.map(np.testing.assert_array_equal, through, on)


OWNERS = RULES | {
    "lookahead": wrappers.lookahead(RULES["cocob"]),
    "ema": wrappers.ema(RULES["prodigy"]),
    "scheduled": schedules.scheduled(RULES["dowg"], schedules.constant, 10),
    "optax.lookahead": interop.from_optax((), lambda hp: optax.lookahead(optax.adam(1e-3), 5, 0.5)),
    "optax.contrib.sam": interop.from_optax((), lambda hp: optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1))),
}


@pytest.mark.parametrize("name", OWNERS)
def test_a_fresh_state_owns_its_arrays(name):
    """No buffer is shared with the parameters, the caller's hyperparameters or another part: all can be donated."""
    rule, params = OWNERS[name], problems.small()
    hp = jax.tree.map(jnp.float32, rule.hyper)
    for init in (rule.init, jax.jit(rule.init)):
        arrays = jax.tree.leaves((params, hp, init(hp, params)))
        places = [x.unsafe_buffer_pointer() for x in arrays if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize("spec", RULES)
def test_an_empty_array_is_no_trouble(spec):
    rule = RULES[spec]
    params = {str(shape): jnp.zeros(shape) for shape in ((0,), (0, 5), (5, 0), (0, 0), (2, 0, 3))}
    extra = gradient_streams.extra(params, params, 0.9, jax.random.key(0))
    update = lambda state: rule.update(rule.hyper, params, state, params, extra)
    state = rule.init(rule.hyper, params)
    assert signature(jax.eval_shape(update, state)) == signature((params, state))


def test_a_state_of_another_type_is_refused():
    w = jnp.ones(2)
    for state in ((w, w), w, [w], 0.0):
        rule = leafwise((), lambda hp, w, state=state: state, lambda hp, t, g, s, w: (-g, s))
        with pytest.raises(InputError, match="is a NamedTuple of arrays, or"):
            rule.init((), w)
    changing = leafwise((), lambda hp, w: (), lambda hp, t, g, s, w: (-g, Extra()))
    with pytest.raises(InputError, match="stays a tuple; this one became a Extra"):
        changing.update((), w, changing.init((), w), w)


def test_a_learning_rate_of_0_does_not_move_madgrad():
    madgrad, w = RULES["madgrad"], jnp.array([1.0, -2.0])
    after, _ = steps(madgrad, madgrad.hyper._replace(lr=0.0), w, [w] * 3)
    np.testing.assert_array_equal(after, w)


def test_a_counter_never_turns_negative():
    """The largest number stays, and the rule goes on."""
    adam, w, g = RULES["adam"], jnp.ones(3), jnp.arange(3.0)
    state = adam.init(adam.hyper, w)._replace(t=jnp.int32(2**31 - 2))
    first, state = adam.update(adam.hyper, g, state, w)
    assert state.t == 2**31 - 1
    second, state = adam.update(adam.hyper, g, state, w)
    assert state.t == 2**31 - 1
    np.testing.assert_array_equal(np.sign(first), [0, -1, -1])
    np.testing.assert_array_equal(np.sign(second), [0, -1, -1])
    scheduled = schedules.scheduled(adam, schedules.constant, 10)
    state = scheduled.init(adam.hyper, w)._replace(t=jnp.int32(2**31 - 1))
    assert scheduled.update(adam.hyper, g, state, w)[1].t == 2**31 - 1


def test_adam_without_eps_does_not_see_the_gradients_scale(x64):
    adam, params = RULES["adam"], problems.tree(jnp.float64)
    grads = problems.gradients("normal", params, 20)
    hp = adam.hyper._replace(eps=0.0)
    plain, _ = steps(adam, hp, params, grads)
    scaled, _ = steps(adam, hp, params, [jax.tree.map(lambda g: 1e5 * g, g) for g in grads])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), plain, scaled)


def test_sgd_is_linear_in_the_gradient():
    sgd, w = RULES["sgd"], jnp.arange(3.0)
    a, b = jnp.array([1.0, -2.0, 4.0]), jnp.array([0.5, 8.0, -1.0])
    up = lambda g: sgd.update(sgd.hyper, g, sgd.init(sgd.hyper, w), w)[0]
    np.testing.assert_allclose(up(2 * a + b), 2 * up(a) + up(b), rtol=1e-6)


def test_first_steps_by_hand():
    """The notes' listings, worked out on paper for g = 2 and then g = −1, from w = 0."""
    expected = {
        "sgd": (-0.02, 0.01),
        "momentum:book": (-0.02, 0.9 * -0.02 + 0.01),
        "nesterov:book": (0.9 * -0.02 - 0.02, 0.9 * (0.9 * -0.02 + 0.01) + 0.01),
        "adagrad:book": (-0.01, 0.01 / 5**0.5),
        "rmsprop:book": (-0.01 * 2 / 0.04**0.5, 0.01 / (0.99 * 0.04 + 0.01) ** 0.5),
        "adam:book": (-0.001, -0.001 * (0.08 / 0.19) / ((0.999 * 0.004 + 0.001) / 0.001999) ** 0.5),
    }
    for spec, updates in expected.items():
        rule, w = RULES[spec], jnp.zeros(1)
        state = rule.init(rule.hyper, w)
        for g, by_hand in zip((2.0, -1.0), updates, strict=True):
            update, state = rule.update(rule.hyper, jnp.array([g]), state, w)
            np.testing.assert_allclose(update, [by_hand], rtol=1e-4, err_msg=spec)


@pytest.mark.parametrize("spec", RULES)
def test_a_missing_leaf_stays_missing(spec):
    """None marks what is not trained, as equinox does it."""
    rule = RULES[spec]
    params = {"w": jnp.ones(4), "frozen": None}
    after, _ = steps(rule, rule.hyper, params, [{"w": jnp.ones(4), "frozen": None}] * 2)
    assert after["frozen"] is None
    assert np.isfinite(after["w"]).all()
    assert np.any(after["w"] != 1)


@pytest.mark.parametrize("spec", RULES)
def test_to_optax_and_back_is_the_same(spec):
    """from_optax(to_optax(rule)) is the rule."""
    rule, params = RULES[spec], problems.small()
    grads = problems.gradients("normal", params, 3)
    back = interop.from_optax(rule.hyper, lambda hp: interop.to_optax(rule, hp))
    run = lambda r: jax.jit(lambda hp: steps(r, hp, params, grads)[0], compiler_options=QUICK)(rule.hyper)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), run(rule), run(back))


def test_to_optax_and_back_is_optaxs():
    """to_optax(from_optax(build)) is the transformation."""
    tx, params = optax.adamw(1e-2), problems.tree()

    def trained(tx):
        state, w = tx.init(params), params
        for g in problems.gradients("normal", params, 4):
            updates, state = tx.update(g, state, w)
            w = optax.apply_updates(w, updates)
        return w

    again = trained(interop.to_optax(interop.from_optax((), lambda hp: tx)))
    jax.tree.map(np.testing.assert_array_equal, again, trained(tx))


@pytest.mark.parametrize("spec", ["sgd", "adam", "adagrad:book"])
def test_a_rule_trains_an_equinox_model(spec, x64):
    """Our rule as an optax transformation in somebody else's loop learns what its twin learns there."""
    x = jax.random.normal(jax.random.key(0), (64, 3))
    y = jnp.sin(x).sum(1, keepdims=True)
    hp = RULES[spec].hyper._replace(lr=0.05)

    def train(tx):
        model = eqx.nn.MLP(3, 1, 16, 1, key=jax.random.key(1))
        state = tx.init(eqx.filter(model, eqx.is_inexact_array))

        @eqx.filter_jit
        def step(model, state):
            loss, grads = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(x) - y) ** 2))(model)
            updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
            return eqx.apply_updates(model, updates), state, loss

        losses = []
        for _ in range(100):
            model, state, loss = step(model, state)
            losses.append(float(loss))
        return losses

    ours = train(interop.to_optax(RULES[spec], hp))
    theirs = train(twins.TWINS[spec](hp))
    assert ours[-1] < ours[0] / 4
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_to_optax_chains_with_optax():
    """Clipping by optax before our rule."""
    params, g = {"w": jnp.zeros(2)}, {"w": jnp.array([30.0, 40.0])}
    tx = optax.chain(optax.clip_by_global_norm(1.0), interop.to_optax(RULES["sgd"]))
    updates, _ = tx.update(g, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.006, -0.008], rtol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spec", ["adam", "galore", "sam"])
def test_numpys_float64_is_trained_as_what_jax_makes_of_it(spec):
    """Without x64 that is float32, and no reason for a warning."""
    rule, wide = RULES[spec], {"w": np.linspace(-1, 1, 6).reshape(3, 2)}
    extra = Extra(jnp.float32(1), lambda w: jnp.vdot(w["w"], w["w"]))

    def trained(rule, w):
        updates, state = rule.update(rule.hyper, w, rule.init(rule.hyper, w), w, extra)
        return rule.result(rule.hyper, apply_updates(w, updates), state)["w"]

    for each in (
        rule,
        wrappers.master(rule),
        wrappers.ema(rule),
        interop.from_optax(rule.hyper, lambda hp: interop.to_optax(rule, hp)),
    ):
        ours, theirs = trained(each, wide), trained(each, jax.tree.map(jnp.asarray, wide))
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


def test_to_optax_without_parameters_is_refused():
    tx = interop.to_optax(RULES["sgd"])
    with pytest.raises(InputError, match="sees the parameters"):
        tx.update({"w": jnp.ones(2)}, tx.init({"w": jnp.ones(2)}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [("adamm", "no optimizer 'adamm'"), ("adam:torhc", "no dialect 'torhc'"), ("", "no optimizer ''")],
)
def test_unknown_rules_are_named(spec, message):
    with pytest.raises(InputError, match=message):
        optim.rule(spec)


def test_a_rule_without_a_twin_is_named(monkeypatch):
    monkeypatch.delitem(twins.TWINS, "sgd")
    with pytest.raises(InputError, match="sgd has no optax twin"):
        twins.twin("sgd", optim.rule("sgd").hyper)


NEWCOMER = {
    "halved.py": """
import jax
import jax.numpy as jnp
from typing import NamedTuple
from fnn.rule import leafwise

class Hyper(NamedTuple):
    lr: float = 0.5

class State(NamedTuple):
    m: jax.Array

def init(hp, w):
    return State(jnp.zeros_like(w))

def update(hp, t, g, s, w):
    m = (s.m + g) / 2
    return -hp.lr * m, State(m)

halved = leafwise(Hyper(), init, update)
""",
    "newcomer.py": """
import pathlib
import optax
from fnn import optim
from fnn.rule import twins

optim.__path__.append(str(pathlib.Path(__file__).parent / "rules"))
twins.TWINS["halved"] = lambda hp: optax.chain(optax.ema(0.5, debias=False), optax.scale_by_learning_rate(hp.lr))
""",
}


def test_a_new_file_gets_every_test(tmp_path):
    """A file in a package beside ours, and a twin: parity, dtypes, vmap, recompilation and the rest come with it."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "halved.py").write_text(NEWCOMER["halved.py"])
    (tmp_path / "newcomer.py").write_text(NEWCOMER["newcomer.py"])
    tests = pathlib.Path(__file__).parents[1]
    paths = os.pathsep.join([str(tmp_path), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    pytest_ = [sys.executable, "-m", "pytest", "-p", "newcomer", "-p", "no:cacheprovider", "-vv", "-k", "halved"]
    command = [*pytest_, str(tests / "rule" / "test_rule.py"), str(tests / "optim" / "test_parity.py")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for test in ("test_parity", "under_a_schedule", "dtypes_are_stable", "vmapped", "do_not_recompile", "resuming"):
        assert any(test in line and "halved" in line and "PASSED" in line for line in done.stdout.splitlines()), test
