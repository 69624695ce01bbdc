"""What rules refuse before they start: one sentence each, for every rule alike."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim, train, wrappers
from fnn.base import checks
from fnn.base.errors import InputError
from fnn.base.types import Interval, NonNegative
from fnn.rule import Extra, apply_updates, hyper
from fnn.train import engine

RULES = optim.rules()


WRAPPED = {
    name: getattr(wrappers, name)(RULES["sgd"])
    for name in ("clip_value", "clip_rms", "clip_norm", "clip_adaptive", "decay", "decay_decoupled", "smooth", "ema")
} | {"lookahead": wrappers.lookahead(RULES["sgd"])}


def ends(allowed):
    """Numbers just inside the interval, and just outside of it."""
    inside, outside = [], [np.nan]
    for end, closed, out in ((allowed.low, allowed.with_low, -np.inf), (allowed.high, allowed.with_high, np.inf)):
        end = np.float32(end)  # what rules inside rules are given
        beyond = [float(np.nextafter(end, np.float32(out)))] if np.isfinite(end) else []
        inward = float(np.nextafter(end, -np.float32(out))) if np.isfinite(end) else np.copysign(1e30, out)
        inside.append(float(end) if closed else inward)
        outside += beyond if closed else [float(end), *beyond]
    return inside, outside


@pytest.mark.parametrize("spec", [*RULES, *WRAPPED])
def test_every_hyperparameter_has_a_range_that_is_kept(spec):
    rule, w = (RULES | WRAPPED)[spec], {"w": jnp.ones(2)}
    found = {path: allowed for path, _, allowed in checks.intervals(rule.hyper)}
    assert set(found) == set(hyper.names(rule.hyper))
    for name, allowed in found.items():
        assert allowed is not checks.ANY, f"{name} says nothing of its range"
        inside, outside = ends(allowed)
        for good in inside:
            rule.init(hyper.put(rule.hyper, name, good), w)
        for bad in outside:
            with pytest.raises(InputError) as error:
                rule.init(hyper.put(rule.hyper, name, bad), w)
            assert str(error.value) == f"The hyperparameter {name} is a number in {allowed}, not {bad}."


@pytest.mark.parametrize("spec", [*RULES, *WRAPPED])
def test_a_rule_steps_by_a_number_at_the_ends_of_every_range(spec):
    """The first two updates are finite where a hyperparameter is at an end of its range, or next to one it excludes."""
    rule = (RULES | WRAPPED)[spec]
    w = {"matrix": jnp.asarray([[0.5, -1.0], [2.0, 0.3]], jnp.float32), "vector": jnp.asarray([0.7, -0.2], jnp.float32)}
    loss = lambda w: sum(jnp.sum((x - 0.45) ** 2) for x in jax.tree.leaves(w))
    each = lambda w: jax.tree.map(lambda g: jnp.stack([g, 2 * g]), jax.grad(loss)(w))

    @jax.jit
    @jax.vmap
    def two(hp):
        at, state, steps = w, rule.init(hp, w), []
        for i in range(2):
            value, g = jax.value_and_grad(loss)(at)
            extra = Extra(value, loss, lambda at=at: each(at), jax.random.fold_in(jax.random.key(0), i))
            step, state = rule.update(hp, g, state, at, extra)
            at = apply_updates(at, step)
            steps.append(step)
        return steps, rule.result(hp, at, state)

    names, hps = [], []
    for name, _, allowed in checks.intervals(rule.hyper):
        for end, closed in ((allowed.low, allowed.with_low), (allowed.high, allowed.with_high)):
            near = {0.0: 1e-3, 1.0: 1 - 1e-3 if allowed.low != 1 else 1 + 1e-3}.get(end, 2 * end)
            value = end if closed else near
            if np.isfinite(value) or closed:
                names.append((name, value))
                hps.append(hyper.put(rule.hyper, name, value))
    found = two(jax.tree.map(lambda *h: jnp.asarray(h, jnp.float32), *hps))
    for i, case in enumerate(names):
        assert all(np.isfinite(x[i]).all() for x in jax.tree.leaves(found)), case


def test_a_declared_range_is_kept_and_without_one_every_number_passes():
    class Hyper(NamedTuple):
        """Three hyperparameters."""

        turn: Annotated[float, Interval("(-1, 2]")] = 0.0
        free: float = 0.0
        lr: NonNegative = 0.1

    for good in ({"turn": 2.0}, {"free": -np.inf}, {"free": 1e9}, {"lr": 0}):
        checks.check_hyper({"group": Hyper(**good)})
    bad: Any
    for name, bad, allowed in (("turn", -1.0, "(-1, 2]"), ("free", np.nan, "[-∞, ∞]"), ("lr", "1", "[0, ∞)")):
        with pytest.raises(InputError) as error:
            checks.check_hyper({"group": Hyper(**{name: bad})})
        assert str(error.value) == f"The hyperparameter group.{name} is a number in {allowed}, not {bad}."


def test_hyperparameters_inside_others_are_checked_too():
    rule = wrappers.clip_norm(RULES["adam"])
    with pytest.raises(InputError, match=r"hyperparameter inner.b2 is a number in \[0, 1\), not 1"):
        rule.init(rule.hyper._replace(inner=RULES["adam"].hyper._replace(b2=1.0)), jnp.ones(2))


def test_nan_is_out_of_range():
    with pytest.raises(InputError, match=r"hyperparameter lr .* not nan"):
        RULES["sgd"].init(RULES["sgd"].hyper._replace(lr=float("nan")), jnp.ones(2))


def test_traced_hyperparameters_are_let_through():
    sgd = RULES["sgd"]
    jax.jit(lambda lr: sgd.init(sgd.hyper._replace(lr=lr), jnp.ones(2)))(-1.0)


def test_a_sweep_checks_its_grid_before_it_starts():
    rule = RULES["adam"]
    runs = {"adam": train.Run(lambda hp, key, data: (), lambda hp, data, state, i: (state, {}), lambda key, data, i: i)}
    hps = {"adam": train.Hyper(engine.grid(rule.hyper, b1=[0.9, 1.0, 1.5]))}
    with pytest.raises(InputError, match=r"b1 is a number in \[0, 1\), not 1.0, 1.5"):
        next(engine.stream(runs, hps, engine.seeds(1), (), 1))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"w": jnp.ones(2, jnp.int32)}, r"the leaf \['w'\] is of int32"),
        ({"a": [jnp.ones(2), jnp.ones(2, bool)]}, r"the leaf \['a'\]\[1\] is of bool"),
        (jnp.ones(2, jnp.complex64), "the array is of complex64"),
        ({"w": 1.0}, r"the leaf \['w'\] is of float"),
    ],
)
@pytest.mark.parametrize("spec", ["adam", "dog"])
def test_parameters_are_floating_point_arrays(spec, params, sentence):
    with pytest.raises(InputError, match=sentence):
        RULES[spec].init(RULES[spec].hyper, params)


@pytest.mark.parametrize(
    ("grads", "sentence"),
    [
        ({"w": jnp.ones(3)}, r"gradient of the leaf \['w'\] has shape \(3,\), not \(2,\)"),
        ({"w": jnp.ones((2, 1))}, r"has shape \(2, 1\), not \(2,\)"),
        ({"w": jnp.ones(2, jnp.int32)}, r"that of the leaf \['w'\] is of int32"),
        ({"v": jnp.ones(2)}, "not a tree like the parameters"),
        (jnp.ones(2), "not a tree like the parameters"),
    ],
)
@pytest.mark.parametrize("spec", ["adam", "dog", "sam"])
def test_gradients_are_like_the_parameters(spec, grads, sentence):
    rule, w = RULES[spec], {"w": jnp.ones(2)}
    with pytest.raises(InputError, match=sentence):
        rule.update(rule.hyper, grads, rule.init(rule.hyper, w), w)


def test_what_a_rule_needs_beyond_gradients_is_named():
    w = jnp.ones(2)
    for spec, lacking in {
        "polyak_sgd": "value",
        "lbfgs": "value and value_fn",
        "noisy_sgd": "key",
        "sam": "value_fn",
    }.items():
        rule = RULES[spec]
        with pytest.raises(InputError, match=f"needs {lacking}: update"):
            rule.update(rule.hyper, w, rule.init(rule.hyper, w), w)
