"""Trees as vectors, and what rules write once: an equation on a vector is that equation at every array."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.base.trees import Vector, dot, each, norm, plain, ratio, sqrt
from fnn.base.types import Params
from fnn.rule import EMPTY, Extra, coupled, decoupled, leafwise, treewise

A = {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]]), "b": (jnp.array(4.0), jnp.array([0.25, 9.0]))}
B = jax.tree.map(lambda x: 0.5 * x + 1, A)

EQUATIONS = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: 3 - a - b + 1,
    "product": lambda a, b: 2 * a * b * jnp.float32(0.5),
    "quotient": lambda a, b: a / b + 1 / b + b / 4,
    "powers": lambda a, b: a**2 - (-b) ** 3,
    "traced numbers": lambda a, b: jnp.asarray(0.9) * a + (1 - jnp.asarray(0.9)) * b,
}


@pytest.mark.parametrize("equation", EQUATIONS.values(), ids=EQUATIONS)
def test_an_equation_of_vectors_is_that_of_every_array(equation):
    ours = jax.jit(lambda a, b: equation(Vector(a), Vector(b)))(A, B)
    assert isinstance(ours, Vector)
    jax.tree.map(np.testing.assert_array_equal, ours.tree, jax.jit(lambda a, b: jax.tree.map(equation, a, b))(A, B))


def test_functions_of_vectors_are_those_of_their_trees():
    a, b = Vector(A), Vector(B)
    flat = lambda tree: jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])
    np.testing.assert_allclose(dot(a, b), flat(A) @ flat(B), rtol=1e-6)
    np.testing.assert_allclose(norm(a - b), jnp.linalg.norm(flat(A) - flat(B)), rtol=1e-6)
    np.testing.assert_allclose(flat(sqrt(a * a)), jnp.abs(flat(A)), rtol=1e-6)
    np.testing.assert_array_equal(flat(each(jnp.sign)(a)), jnp.sign(flat(A)))


def test_vectors_in_a_tree_are_replaced_by_their_own():
    found = plain({"state": (Vector(A), jnp.ones(3), EMPTY), "none": None})
    assert jax.tree.structure(found) == jax.tree.structure({"state": (A, jnp.ones(3), EMPTY), "none": None})


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(3.0, 2.0, 1.5), (3.0, 0.0, 7.0), (0.0, 0.0, 7.0), (jnp.nan, 1.0, jnp.nan)]
)
def test_a_guarded_ratio_divides_by_no_zero(a, b, expected):
    found, slope = jax.value_and_grad(lambda b: ratio(jnp.asarray(a), b, 7))(jnp.asarray(b))
    np.testing.assert_equal(float(found), expected)
    assert np.isnan(expected) or np.isfinite(slope)


class Hyper(NamedTuple):
    """lr: step size; mu: what the velocity keeps; weight_decay."""

    lr: float = 0.1
    mu: float = 0.9
    weight_decay: float = 0.03


class State(NamedTuple):
    """v: the velocity."""

    v: Params


def zero(hp, w):
    return State(0 * w)


def heavy(hp, t, g, s, w, extra=None):
    v = hp.mu * s.v - hp.lr * g
    return v, State(v)


def steps(rule, n=4):
    """The parameters after n updates by gradients that depend on them."""
    w, state = A, rule.init(rule.hyper, A)
    for _ in range(n):
        update, state = rule.update(rule.hyper, jax.tree.map(jnp.sin, w), state, w, Extra())
        w = jax.tree.map(jnp.add, w, update)
    return w, state


def test_an_equation_is_the_same_leafwise_and_treewise():
    (ours, state), (theirs, _) = (steps(lift(Hyper(), zero, heavy)) for lift in (treewise, leafwise))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert jax.tree.structure(state.own.v) == jax.tree.structure(A), "no vector is left in the state"


def test_weight_decay_is_in_the_gradient_or_beside_the_step():
    """By hand, over steps."""

    def by_hand(inside):
        w, v, hp = A, jax.tree.map(jnp.zeros_like, A), Hyper()
        for _ in range(4):
            g = jax.tree.map(lambda x: jnp.sin(x) + (hp.weight_decay * x if inside else 0), w)
            v = jax.tree.map(lambda v, g: hp.mu * v - hp.lr * g, v, g)
            w = jax.tree.map(lambda w, v: w + v - (0 if inside else hp.lr * hp.weight_decay * w), w, v)
        return w

    for kind, inside in ((coupled, True), (decoupled, False)):
        ours, _ = steps(leafwise(Hyper(), zero, kind(heavy)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, by_hand(inside))
