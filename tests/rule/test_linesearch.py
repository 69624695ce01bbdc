"""The line search: Wolfe's conditions where they can be met, and what it does where they cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.rule.linesearch import CURVATURE, DECREASE, wolfe

CURVES = {
    "a parabola": lambda x: jnp.sum((x - 3.0) ** 2),
    "a long way": lambda x: jnp.sum((x - 300.0) ** 2),
    "a valley close by": lambda x: jnp.sum((x - 1e-3) ** 2),
    "a wave": lambda x: jnp.sum(jnp.sin(3 * x) + 0.1 * x**2),
    "a quartic": lambda x: jnp.sum((x - 2) ** 4),
    "a wall": lambda x: jnp.sum(jnp.where(x < 2, (x - 1.5) ** 2, 1e6)),
}


def search(f, w, p):
    value, g = jax.value_and_grad(f)(w)
    return jax.jit(lambda w, p: wolfe(f, w, p, value, jnp.vdot(g, p)))(w, p)


@pytest.mark.parametrize("curve", CURVES)
def test_wolfe_conditions_hold(curve, x64):
    f, w = CURVES[curve], jnp.zeros(1)
    g = jax.grad(f)(w)
    for size in (1e-3, 1.0, 30.0):
        p = -size * jnp.sign(g)
        a = search(f, w, p)
        assert a > 0
        slope, there = jnp.vdot(g, p), jnp.vdot(jax.grad(f)(w + a * p), p)
        assert f(w + a * p) <= f(w) + DECREASE * a * slope + 1e-6 * abs(f(w)), (curve, size)
        assert abs(there) <= CURVATURE * abs(slope), (curve, size)


def test_an_infinite_loss_is_stepped_back_from(x64):
    f = lambda x: jnp.sum(jnp.where(x < 0.4, (x - 0.3) ** 2, jnp.inf))
    a = search(f, jnp.zeros(1), jnp.ones(1))
    assert 0 < a < 0.4


def test_uphill_takes_no_step_that_raises_the_loss(x64):
    f = CURVES["a parabola"]
    a = search(f, jnp.zeros(1), -jnp.ones(1))
    assert f(-a * jnp.ones(1)) <= f(jnp.zeros(1)) * (1 + 1e-3)


def test_many_searches_at_once(x64):
    f = CURVES["a quartic"]
    ps = jnp.array([[0.1], [1.0], [9.0]])
    together = jax.vmap(lambda p: search(f, jnp.zeros(1), p))(ps)
    np.testing.assert_allclose(together, [search(f, jnp.zeros(1), p) for p in ps], rtol=1e-12)
