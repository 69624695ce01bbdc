"""L-BFGS against optax's, on functions: the direction, the search and both together; and pairs that are left out.

Along given gradients, as other rules are held to their twins, ⟨Δw, Δg⟩ is of either sign, and exactly 0 where they are
sparse, so that which pairs are kept is decided by a rounding, and differently on another processor. On functions whose
curvature is positive nothing is near such a decision.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from fnn import interop, optim, schedules
from fnn.base.trees import Vector, dot, norm, random_like
from fnn.optim.lbfgs import nothing, remember, two_loops
from fnn.rule import Extra, apply_updates, twins
from fnn.rule.linesearch import wolfe

pytestmark = pytest.mark.usefixtures("x64")

RULE, TORCH = optim.rule("lbfgs"), optim.rule("lbfgs:torch")
RNG = np.random.default_rng(3)
TARGET = jax.tree.map(lambda w: RNG.standard_normal(w.shape), problems.tree())  # NumPy's, in float64 from the start
START = jax.tree.map(np.zeros_like, TARGET)


def curvatures(tree, condition):
    """Numbers from 1 to `condition` for all coordinates, evenly in their logarithm."""
    flat, back = jax.flatten_util.ravel_pytree(tree)
    return back(jnp.logspace(0, jnp.log10(condition), len(flat)))


def quadratic(condition):
    c = curvatures(TARGET, condition)
    return lambda w: sum(jax.tree.leaves(jax.tree.map(lambda c, w, a: (c * (w - a) ** 2).sum() / 2, c, w, TARGET)))


def logistic(w):
    """A penalized logistic loss of 40 examples with random labels."""
    flat, _ = jax.flatten_util.ravel_pytree(w)
    x = jax.random.normal(jax.random.key(0), (40, len(flat)), flat.dtype)
    y = jnp.where(jax.random.bernoulli(jax.random.key(1), shape=(40,)), 1, -1)
    return jnp.logaddexp(0, -y * (x @ flat)).mean() + 0.05 * flat @ flat


def quartic(w):
    return quadratic(5.0)(w) + sum((a**4).sum() for a in jax.tree.leaves(w)) / 4


FUNCTIONS = {
    "flat": lambda w: 0.3 * quadratic(3.0)(w),
    "steep": lambda w: 1e6 * quadratic(30.0)(w),
    "logistic": logistic,
    "quartic": quartic,
}


def trajectory(rule, hp, f, w, steps):
    """Weights after every step, each coordinate `[steps, coordinates]`."""

    def step(carry, _):
        w, s = carry
        value, g = jax.value_and_grad(f)(w)
        change, s = rule.update(hp, g, s, w, Extra(value, f))
        w = apply_updates(w, change)
        return (w, s), jax.flatten_util.ravel_pytree(w)[0]

    return np.asarray(jax.jit(lambda w: jax.lax.scan(step, (w, rule.init(hp, w)), length=steps)[1])(w))


@pytest.mark.parametrize(("function", "lr"), [*((name, 1.0) for name in FUNCTIONS), ("logistic", 0.3)])
def test_a_trajectory_is_optaxs(function, lr):
    """Directions and searches together, over more steps than there are pairs."""
    hp, f = RULE.hyper._replace(lr=jnp.float64(lr)), FUNCTIONS[function]
    ours, theirs = (
        trajectory(rule, hp, f, START, 14) for rule in (RULE, twins.twin("lbfgs", optim.rule("lbfgs").hyper))
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(ours).max())
    assert np.abs(np.diff(ours, axis=0)).max() > 0.01


def test_a_trajectory_under_a_schedule_is_optaxs():
    shape = schedules.steps(0.5, 0.25, 0.5)
    ours = schedules.scheduled(RULE, schedules.on("lr", shape), 12)
    lr = optax.piecewise_constant_schedule(1.0, {3: 0.5, 6: 0.5})
    theirs = interop.from_optax(RULE.hyper, lambda hp: optax.lbfgs(lr))
    hp = RULE.hyper._replace(lr=jnp.float64(1))
    sides = [trajectory(rule, hp, FUNCTIONS["logistic"], START, 12) for rule in (ours, theirs)]
    np.testing.assert_allclose(*sides, rtol=0, atol=1e-10 * np.abs(sides[0]).max())


def pairs(n, condition=50.0):
    """Weights and gradients of a quadratic at n random points, and the memory that ours has after them."""
    f, known = quadratic(condition), nothing(RULE.hyper._replace(lr=jnp.float64(1)), Vector(START), 10)
    ws = [random_like(jax.random.normal, jax.random.key(i), TARGET) for i in range(n)]
    gs = [jax.jit(jax.grad(f))(w) for w in ws]

    @jax.jit
    def add(known, *ends):
        dw, dg = (Vector(one) - Vector(other) for one, other in ends)
        return remember(known, dw, dg, dot(dw, dg), jnp.asarray(True))

    for i in range(1, n):
        known = add(known, (ws[i], ws[i - 1]), (gs[i], gs[i - 1]))
    return ws, gs, known


@pytest.mark.parametrize("n", [2, 11, 25])
def test_the_direction_is_optaxs_given_the_same_pairs(n):
    """Fewer pairs than are remembered, as many, and more."""
    ws, gs, known = pairs(n)
    theirs = optax.scale_by_lbfgs()
    state = theirs.init(TARGET)
    update = jax.jit(theirs.update)
    for w, g in zip(ws, gs, strict=True):
        direction, state = update(g, state, w)
    ours = two_loops(Vector(gs[-1]), known, known.begin)
    for a, b in zip(*map(jax.tree.leaves, (ours, direction)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * float(norm(ours)))


def test_the_newest_pair_is_met_exactly():
    """The secant equation, H Δg = Δw; and H is symmetric and positive definite."""
    _, _, known = pairs(25)
    newest = lambda memory: jax.tree.map(lambda m: m[-1], memory)
    h = lambda x: two_loops(x, known, known.begin)
    for a, b in zip(*map(jax.tree.leaves, (h(newest(known.dg)), newest(known.dw))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    x, y = (Vector(random_like(jax.random.normal, jax.random.key(k), TARGET)) for k in (7, 8))
    np.testing.assert_allclose(dot(x, h(y)), dot(y, h(x)), rtol=1e-10)
    assert dot(x, h(x)) > 0


CURVES = {
    "a parabola": lambda x: jnp.sum((x - 3.1) ** 2),
    "far": lambda x: jnp.sum((x - 290.0) ** 2),
    "close": lambda x: jnp.sum((x - 1.3e-3) ** 2),
    "a wave": lambda x: jnp.sum(jnp.sin(3 * x) + 0.1 * x**2),
    "a quartic": lambda x: jnp.sum((x - 2) ** 4),
}


@pytest.mark.parametrize("curve", CURVES)
def test_the_search_finds_optaxs_length(curve):
    f, w = CURVES[curve], jnp.array([0.1])
    value, g = jax.value_and_grad(f)(w)
    theirs = optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one")

    @jax.jit
    @jax.vmap
    def both(size):
        p = -size * jnp.sign(g)
        step, _ = theirs.update(p, theirs.init(w), w, value=value, grad=g, value_fn=f)
        return wolfe(f, w, p, value, dot(p, g)) * p, step

    np.testing.assert_allclose(*both(jnp.array([1e-3, 0.02, 0.7, 4.0, 30.0])), rtol=1e-9)


@pytest.mark.parametrize("rule", [RULE, TORCH], ids=["optax", "torch"])
@pytest.mark.parametrize("still", [1, 12])
def test_a_learning_rate_of_0_is_forgotten_once_it_is_over(rule, still):
    """A warm-up from 0 over minibatches: steps of no length leave no pair, at the start and later."""
    x = jax.random.normal(jax.random.key(0), (4, 16, 3))
    y = x @ jnp.array([1.0, -2.0, 0.5])
    batches = 4 if rule is RULE else 1  # torch's takes every step whole, and noise would be in every pair

    def step(carry, i):
        w, s = carry
        part = i % batches
        f = lambda w: jnp.mean((x[part] @ w - y[part]) ** 2)
        value, g = jax.value_and_grad(f)(w)
        lr = jnp.where((i < still) | ((i > 30) & (i < 30 + still)), 0.0, 1.0)
        change, s = rule.update(rule.hyper._replace(lr=lr), g, s, w, Extra(value, f))
        return (w + change, s), change

    w = jnp.zeros(3)
    (w, _), changes = jax.lax.scan(step, (w, rule.init(rule.hyper._replace(lr=jnp.float64(1)), w)), jnp.arange(120))
    assert (changes[:still] == 0).all()
    assert (jnp.abs(changes[still]) > 0).all()
    np.testing.assert_allclose(w, [1, -2, 0.5], atol=1e-2)


def remembered(rule, *points):
    """The rule's memory after it met these `(w, g)`."""
    hp = rule.hyper._replace(lr=jnp.float64(1))
    state, f = rule.init(hp, points[0][0]), lambda w: (w**2).sum()
    update = jax.jit(lambda g, state, w: rule.update(hp, g, state, w, Extra(f(w), f))[1])
    for w, g in points:
        state = update(g, state, w)
    return state.own.pairs


def test_pairs_without_positive_curvature_leave_the_memory_as_it_is():
    w, g = jnp.array([1.0, 2.0]), jnp.array([3.0, -1.0])
    kept = [(w, g), (w + jnp.array([0.1, 0.2]), g + jnp.array([0.3, 0.1]))]
    last_w, last_g = kept[-1]
    before = remembered(RULE, *kept)
    assert (before.rho > 0).sum() == 1
    for case in (
        (last_w, last_g + 1.0),  # no step
        (last_w + jnp.array([1.0, 0.0]), last_g + jnp.array([0.0, 1.0])),  # of no curvature
        (last_w + jnp.array([1.0, 0.0]), last_g + jnp.array([1e-9, 1.0])),  # of as good as none
        (last_w + jnp.array([1.0, 0.0]), last_g - jnp.array([1.0, 0.0])),  # of negative curvature
        (last_w + jnp.array([1.0, 0.0]), jnp.array([jnp.inf, 0.0])),
        (last_w + jnp.array([1.0, 0.0]), jnp.array([jnp.nan, 0.0])),
    ):
        jax.tree.map(np.testing.assert_array_equal, remembered(RULE, *kept, case), before)
    curved = remembered(RULE, *kept, (last_w + jnp.array([1.0, 0.0]), last_g + jnp.array([0.01, 1.0])))
    assert (curved.rho > 0).sum() == 2


@pytest.mark.parametrize("rule", [RULE, TORCH], ids=["optax", "torch"])
def test_an_infinite_coordinate_stays_the_only_one_that_is_not_finite(rule):
    """Its own update shows it; the others have the step that the equation gives, of length 0 · g."""
    f = lambda w: jnp.sum(jnp.sqrt(w)) + jnp.sum((w - 1) ** 2)
    w = jnp.array([0.0, 1.0])
    value, g = jax.value_and_grad(f)(w)
    hp = rule.hyper._replace(lr=jnp.float64(1))
    change, state = rule.update(hp, g, rule.init(hp, w), w, Extra(value, f))
    assert list(np.isfinite(change)) == [False, True]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.own.pairs))
