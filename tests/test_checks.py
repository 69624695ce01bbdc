"""What rules refuse before they start: one sentence each, for every rule alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim, sweep, train, wrappers
from fnn.checks import RANGES
from fnn.errors import InputError

RULES = optim.rules()


@pytest.mark.parametrize("spec", RULES)
def test_hyperparameters_out_of_range_are_named(spec):
    rule, w = RULES[spec], {"w": jnp.ones(2)}
    for name in set(rule.hyper._fields) & set(RANGES):
        low, high = RANGES[name]
        for bad in (low - 0.5, *([high, high + 1] if np.isfinite(high) else [])):
            with pytest.raises(InputError, match=f"hyperparameter {name} is a number from 0 on.*not {bad}"):
                rule.init(rule.hyper._replace(**{name: bad}), w)
        rule.init(rule.hyper._replace(**{name: low}), w)


def test_hyperparameters_inside_others_are_checked_too():
    rule = wrappers.clip_norm(RULES["adam"])
    with pytest.raises(InputError, match=r"hyperparameter b2 .* below 1, not 1"):
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
    hps = {"adam": train.Hyper(sweep.grid(rule.hyper, b1=[0.9, 1.0, 1.5]))}
    with pytest.raises(InputError, match=r"b1 is a number from 0 on and below 1, not 1.0, 1.5"):
        next(sweep.stream(runs, hps, sweep.seeds(1), (), 1))


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
    for spec, lacking in {"polyak_sgd": "value", "lbfgs": "value and at", "noisy_sgd": "key", "sam": "at"}.items():
        rule = RULES[spec]
        with pytest.raises(InputError, match=f"needs {lacking}: update"):
            rule.update(rule.hyper, w, rule.init(rule.hyper, w), w)
