"""What every rule promises: traced hyperparameters, stable dtypes, leaf by leaf, and life inside other libraries."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from fnn import interop, optim, schedules
from fnn.errors import InputError
from fnn.rule import Rule, apply_updates

RULES = optim.rules()


def steps(rule: Rule, hp, params, grads):
    """Parameters and state after these gradients."""
    state = rule.init(hp, params)
    for g in grads:
        updates, state = rule.update(hp, g, state, params)
        params = apply_updates(params, updates)
    return params, state


def signature(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


@pytest.mark.parametrize("spec", RULES)
def test_new_hyperparameters_do_not_recompile(spec):
    rule, params, traces = RULES[spec], problems.tree(), []
    grads = problems.gradients("normal", params, 1)[0]

    @jax.jit
    def update(hp, state):
        traces.append(1)
        return rule.update(hp, grads, state, params)[0]

    state = rule.init(rule.hyper, params)
    results = [update(jax.tree.map(lambda h, f=f: h * f, rule.hyper), state) for f in (1.0, 0.9, 0.5)]
    assert len(traces) == 1
    assert not np.allclose(results[0]["deep"]["er"]["x"], results[2]["deep"]["er"]["x"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("spec", RULES)
def test_dtypes_are_stable(spec, dtype, x64):
    """State and updates keep their dtypes (at least float32), whatever dtype the hyperparameters come in."""
    rule, params = RULES[spec], problems.tree(dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    for hp in (rule.hyper, jax.tree.map(jnp.float32, rule.hyper), jax.tree.map(jnp.float64, rule.hyper)):
        state = rule.init(hp, params)
        for g in problems.gradients("normal", params, 2):
            updates, after = rule.update(hp, g, state, params)
            assert signature(after) == signature(state)
            assert all(u.dtype == wide for u in jax.tree.leaves(updates))
            params, state = apply_updates(params, updates), after
    assert all(w.dtype == dtype for w in jax.tree.leaves(params))


@pytest.mark.parametrize("spec", RULES)
def test_bfloat16_parameters_have_float32_moments(spec):
    """1e-3 of a gradient is lost beside 1 in bfloat16: the accumulators must not be."""
    rule = RULES[spec]
    narrow = {"w": jnp.ones(3, jnp.bfloat16)}
    wide = {"w": jnp.ones(3, jnp.float32)}
    gs = [{"w": jnp.full(3, 2.0**-k, jnp.bfloat16)} for k in range(6)]
    state, wide_state = rule.init(rule.hyper, narrow), rule.init(rule.hyper, wide)
    for g in gs:
        updates, state = rule.update(rule.hyper, g, state, narrow)
        wide_updates, wide_state = rule.update(rule.hyper, g, wide_state, wide)
    np.testing.assert_array_equal(updates["w"], wide_updates["w"])


@pytest.mark.parametrize("spec", RULES)
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
def test_a_vmapped_rule_is_the_rule(spec):
    rule, params = RULES[spec], problems.tree()
    grads = problems.gradients("normal", params, 5)
    factors = jnp.array([0.2, 0.7, 1.0])
    hps = jax.tree.map(lambda h: h * factors, rule.hyper)
    mapped, _ = jax.vmap(lambda hp: steps(rule, hp, params, grads))(hps)
    for i in range(len(factors)):
        single, _ = steps(rule, jax.tree.map(lambda h, i=i: h[i], hps), params, grads)
        jax.tree.map(lambda m, s, i=i: np.testing.assert_allclose(m[i], s, rtol=1e-5), mapped, single)


@pytest.mark.parametrize("spec", RULES)
def test_resuming_is_running_through(spec):
    rule, params = RULES[spec], problems.tree()
    grads = problems.gradients("normal", params, 10)
    through, _ = steps(rule, rule.hyper, params, grads)
    half, state = steps(rule, rule.hyper, params, grads[:5])
    for g in grads[5:]:
        updates, state = rule.update(rule.hyper, g, state, half)
        half = apply_updates(half, updates)
    jax.tree.map(np.testing.assert_array_equal, through, half)


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
    params = {"w": jnp.ones(2), "frozen": None}
    updates, _ = rule.update(rule.hyper, {"w": jnp.ones(2), "frozen": None}, rule.init(rule.hyper, params), params)
    assert updates["frozen"] is None
    assert np.all(updates["w"] < 0)


@pytest.mark.parametrize("spec", RULES)
def test_there_and_back_is_the_same(spec):
    """from_optax(to_optax(rule)) is the rule, to_optax(from_optax(build)) the transformation."""
    rule, params = RULES[spec], problems.tree()
    grads = problems.gradients("normal", params, 4)
    back = interop.from_optax(rule.hyper, lambda hp: interop.to_optax(rule, hp))
    jax.tree.map(np.testing.assert_array_equal, *(steps(r, rule.hyper, params, grads)[0] for r in (rule, back)))

    tx = optax.adamw(1e-2)
    again = interop.to_optax(interop.from_optax((), lambda hp: tx))
    for t in (tx, again):
        state, w = t.init(params), params
        for g in grads:
            updates, state = t.update(g, state, w)
            w = optax.apply_updates(w, updates)
        np.testing.assert_array_equal(w["scalar"], (last := w["scalar"]) if t is tx else last)


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
    theirs = train(interop.TWINS[spec](hp))
    assert ours[-1] < ours[0] / 4
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_to_optax_chains_with_optax():
    """Clipping by optax before our rule."""
    params, g = {"w": jnp.zeros(2)}, {"w": jnp.array([30.0, 40.0])}
    tx = optax.chain(optax.clip_by_global_norm(1.0), interop.to_optax(RULES["sgd"]))
    updates, _ = tx.update(g, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.006, -0.008], rtol=1e-5)


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


def test_a_rule_without_a_twin_is_told(monkeypatch):
    monkeypatch.delitem(interop.TWINS, "sgd")
    with pytest.raises(InputError, match="sgd has no optax twin"):
        interop.twin("sgd")


def test_a_new_file_is_a_new_rule(tmp_path, monkeypatch):
    """Dropping a file into the folder is all it takes to be found."""
    (tmp_path / "signs.py").write_text(
        "import jax.numpy as jnp\n"
        "from typing import NamedTuple\n"
        "from fnn.rule import leafwise\n"
        "class Hyper(NamedTuple):\n"
        "    lr: float = 0.5\n"
        "signs = leafwise(Hyper(), lambda hp, w: (), lambda hp, t, g, s, w: (-hp.lr * jnp.sign(g), s))\n"
    )
    monkeypatch.setattr(optim, "__path__", [*optim.__path__, str(tmp_path)])
    assert "signs" in optim.names()
    rule = optim.rule("signs")
    np.testing.assert_array_equal(steps(rule, rule.hyper, jnp.zeros(2), [jnp.array([3.0, -4.0])])[0], [-0.5, 0.5])


def test_schedules_reach_any_hyperparameter():
    hp = RULES["adam"].hyper
    both = schedules.both(schedules.on("lr", schedules.cosine()), schedules.on("b1", schedules.steps(0.5, 0.5)))
    np.testing.assert_allclose(both(hp, 0.0).lr, hp.lr, rtol=1e-6)
    np.testing.assert_allclose(both(hp, 1.0).lr, 0, atol=1e-9)
    np.testing.assert_allclose([both(hp, p).b1 for p in (0.0, 0.49, 0.5, 1.0)], [0.9, 0.9, 0.45, 0.45], rtol=1e-6)
    with pytest.raises(InputError, match="no hyperparameter 'rate'"):
        schedules.on("rate", schedules.cosine())(hp, 0.0)


def test_a_schedule_stays_at_its_end():
    rule = schedules.scheduled(RULES["sgd"], schedules.on("lr", schedules.polynomial(floor=0.1)), 4)
    state, sizes = rule.init(rule.hyper, jnp.zeros(1)), []
    for _ in range(7):
        update, state = rule.update(rule.hyper, jnp.ones(1), state, jnp.zeros(1))
        sizes.append(-float(update[0]) / 0.01)
    np.testing.assert_allclose(sizes, [1, 0.775, 0.55, 0.325, 0.1, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_warm_up_takes_a_share(share):
    with pytest.raises(InputError, match="between 0 and 1"):
        schedules.warmup(share)
