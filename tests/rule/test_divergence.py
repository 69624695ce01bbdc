"""A run that has diverged shows it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim, wrappers
from fnn.base.trees import norm, norm_along, rms
from fnn.rule import apply_updates, gradient_streams

PARAMS = {"a": jnp.array([0.5, -1.0, 2.0]), "w": jnp.array([[1.0, -2.0, 0.5], [0.3, 0.7, -0.4]])}
GRADS = {"a": jnp.array([0.2, -0.1, 0.4]), "w": jnp.array([[0.3, 0.1, -0.2], [0.5, -0.6, 0.1]])}
SGD = optim.rule("sgd")
CLIPPED = {name: getattr(wrappers, name)(SGD) for name in ("clip_value", "clip_norm", "clip_rms", "clip_adaptive")}


def trained(rule, first, steps=4):
    """Parameters after a step with gradients `first` and further ones with `GRADS`."""

    def step(carry, i):
        params, state = carry
        g = jax.tree.map(lambda a, b: jnp.where(i == 0, a, b), first, GRADS)
        extra = gradient_streams.extra(g, params, 1.0 + 0 * norm(g), jax.random.fold_in(jax.random.key(0), i))
        updates, state = rule.update(rule.hyper, g, state, params, extra)
        return (apply_updates(params, updates), state), None

    start = (PARAMS, rule.init(rule.hyper, PARAMS))
    return jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(steps))[0][0])(start)


def with_one(x):
    """The gradients with the number x as one coordinate of either array."""
    return {"a": GRADS["a"].at[0].set(x), "w": GRADS["w"].at[0, 0].set(x)}


@pytest.mark.parametrize("name", [*optim.rules(), *CLIPPED])
def test_a_gradient_that_is_nan_shows_in_its_weight(name):
    """No comparison with a NaN hides it (`where(x > 0, …, 0)` would, for good)."""
    rule = CLIPPED[name] if name in CLIPPED else optim.rule(name)
    found = trained(rule, with_one(jnp.nan))
    assert np.isnan(found["a"][0])
    assert np.isnan(found["w"][0, 0])


@pytest.mark.parametrize("name", ["clip_norm", "clip_rms", "clip_adaptive", "lars", "fromage"])
def test_an_infinite_gradient_shows_in_its_weight_alone(name):
    """∞ / ∞ there; elsewhere, divided by an infinite norm, 0."""
    rule = CLIPPED[name] if name in CLIPPED else optim.rule(name)
    found = trained(rule, {"a": GRADS["a"], "w": with_one(jnp.inf)["w"]}, 1)
    assert list(np.flatnonzero(~np.isfinite(found["w"]))) == [0]
    assert np.isfinite(found["a"]).all()


def test_norms():
    x = jnp.array([[3.0, -4.0], [0.0, 12.0]])
    assert norm({"x": x, "none": jnp.zeros((0, 2))}) == 13
    np.testing.assert_array_equal(norm_along(x, (1,), 6.0)[:, 0], [6, 12])
    assert rms(x) == 6.5
    assert norm({}) == norm(jnp.zeros(3)) == 0
    assert np.isinf(norm(jnp.array([jnp.inf, 1.0])))
    assert np.isnan(norm(jnp.array([jnp.nan, jnp.inf])))
