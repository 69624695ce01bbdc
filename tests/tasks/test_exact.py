"""The workloads of which something is known exactly: optima, curves in closed form, solutions of equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

from fnn import optim, tasks
from fnn.tasks import deep_linear, modular_addition, pinn, quadratic
from fnn.train import Hyper, train, training

pytestmark = pytest.mark.usefixtures("unchecked", "quickly_compiled")

KEY = jax.random.key(0)


def trained(task, rule, steps, at, key=KEY, **hyper):
    """The record of a run that is evaluated after these numbers of updates."""
    rule = optim.rule(rule)
    hp = Hyper(rule.hyper._replace(**hyper), task.hyper)
    return train(training(task, rule, steps, evaluate_at=at), steps, hp, key, task.data)[1]


def newton(task, loss, steps):
    """The parameters after steps of Newton's method from a start in float64, and the gradient there."""
    params, stats = task.init(task.hyper, KEY, task.data)
    flat, tree = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params))
    value = lambda w: loss(tree(w), stats)
    step = jax.jit(lambda w: w - jnp.linalg.solve(jax.hessian(value)(w), jax.grad(value)(w)))
    for _ in range(steps):
        flat = step(flat)
    return tree(flat), jax.grad(value)(flat)


# The quadratic


def test_one_step_of_newton_is_at_the_optimum_of_the_quadratic(x64):
    task = tasks.workload("quadratic").task
    data = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), task.data)
    expected = lambda w, stats: task.metrics((), w, stats, data)["expected_loss"]
    w, _ = newton(task, expected, 1)
    assert float(expected(w, ())) < 1e-10
    np.testing.assert_allclose(w, data.optimum, atol=1e-10)


def test_the_spectrum_is_four_decades_and_no_axis_is_an_eigenvector():
    data = quadratic.quadratic(100)
    np.testing.assert_allclose(np.linalg.eigvalsh(data.hessian)[::-1], np.logspace(0, -4, 100), atol=1e-6)
    np.testing.assert_allclose(data.root @ data.root, data.hessian, atol=1e-6)
    assert np.abs(np.linalg.eigh(data.hessian)[1]).max() < 0.7


def test_the_expected_loss_of_sgd_is_that_of_the_closed_form():
    """e(t + 1) = (1 − η h)² e(t) + η² h σ² for each eigenvalue h, over the seeds' mean to four standard errors."""
    lr, noise, steps, seeds = 0.5, 1.0, 60, 500
    h, e, exact = quadratic.eigenvalues(10), np.ones(10), []
    for _ in range(steps):
        e = (1 - lr * h) ** 2 * e + lr**2 * h * noise**2
        exact.append((h * e).sum() / 2)
    task = quadratic.noisy(quadratic.quadratic(10), noise)
    run = jax.jit(jax.vmap(lambda key: trained(task, "sgd", steps, tuple(range(1, steps + 1)), key, lr=lr)))
    found = np.asarray(run(jax.random.split(KEY, seeds))["expected_loss"])
    off = (found.mean(0) - exact) / (found.std(0) / seeds**0.5)
    assert np.abs(off).max() < 4
    assert exact[-1] < 0.6 * exact[0]


# Logistic regression


def test_newton_finds_the_optimum_of_logistic_regression_which_is_that_of_scikit_learn(x64):
    from sklearn.linear_model import LogisticRegression

    task = tasks.workload("logistic").task
    train = task.data["train"]
    batch = (jnp.asarray(train.x, jnp.float64), jnp.asarray(train.y))
    objective = lambda params, stats: task.loss((), params, stats, batch, None, False)[0]
    params, slope = newton(task, objective, 12)
    assert float(jnp.abs(slope).max()) < 1e-14
    other = LogisticRegression(C=1.0, tol=1e-12, solver="newton-cholesky", max_iter=100)
    other.fit(np.asarray(batch[0]), train.y)
    theirs = params._replace(w=jnp.asarray(other.coef_), b=jnp.asarray(other.intercept_))
    best = float(objective(params, ()))
    assert abs(float(objective(theirs, ())) - best) < 1e-10
    np.testing.assert_allclose(params.w, other.coef_, atol=1e-6)
    assert f"f* = {best:.4f}" in tasks.workload("logistic").known


def test_lbfgs_comes_to_the_optimum_and_sgd_does_not():
    workload = tasks.workload("logistic")
    lbfgs, sgd = (trained(workload.task, *rule, (60,))["objective"][-1] for rule in (("lbfgs", 60), ("sgd", 60)))
    assert float(lbfgs) < 0.0828 < float(sgd)


# Deep linear networks


@pytest.fixture(scope="module")
def plateaus():
    """Expected loss and what is left of the weakest singular value under small steps, and both by the exact curves."""
    lr, steps = 0.01, 6000
    at = tuple(range(250, steps + 1, 250))
    task = tasks.workload("deep_linear").task
    every = 4 * jnp.eye(16)  # examples whose second moments are those of N(0, I): n = 16, Σ x xᵀ / n = I
    task = task._replace(draw=lambda key, data, i: every)
    record = trained(task, "sgd", steps, at, lr=lr)
    flow = lambda t, a: a**2 * (task.data.s - a**3)
    curve = solve_ivp(flow, (0, lr * steps), np.full(16, deep_linear.START), t_eval=lr * np.array(at), rtol=1e-9)
    learned = curve.y.T**3
    rows = np.array(at) - 1
    return {
        "loss": (np.asarray(record["expected_loss"])[rows], np.square(learned - task.data.s).sum(1) / 2),
        "weakest": (np.asarray(record["weakest"])[rows], 1 - learned[:, 3] / task.data.s[3]),
    }


@pytest.mark.parametrize("what", ["loss", "weakest"])
def test_deep_linear_networks_follow_their_exact_curves(plateaus, what):
    found, exact = plateaus[what]
    np.testing.assert_allclose(found, exact, atol=0.01 * exact[0])
    assert exact[-1] < 0.01 * exact[0]


def test_singular_values_are_learned_after_their_times(plateaus):
    """The time until a³ = s / 2, by quadrature of 1 / (a² (s − a³)), is about that of the loss's steps."""
    found, _ = plateaus["loss"]
    at = 0.01 * np.arange(250, 6001, 250)
    for number, s in enumerate(deep_linear.STRENGTHS[:3]):
        a = np.linspace(deep_linear.START, (s / 2) ** (1 / 3), 20_001)
        time = np.trapezoid(1 / (a**2 * (s - a**3)), a)
        rest = [strength**2 / 2 for strength in deep_linear.STRENGTHS[number:]]
        before, after = sum(rest), sum(rest[1:])
        loss = np.interp(time, np.r_[0, at], np.r_[2.65, found])
        assert after - 0.05 < loss < before


# Modular addition


def test_all_pairs_are_there_once_with_their_sums():
    parts = modular_addition.pairs(11)
    x, y = (np.concatenate([getattr(part, axis) for part in parts.values()]) for axis in "xy")
    a, b = x[:, 0], x[:, 1] - 11
    assert len({*zip(a.tolist(), b.tolist(), strict=True)}) == len(x) == 121
    np.testing.assert_array_equal(y, (a + b) % 11)
    assert len(parts["train"].y) == 73


def test_pairs_are_memorized_and_with_weight_decay_they_generalize():
    workload = tasks.workload("modular_addition")
    at = tuple(range(50, workload.steps + 1, 50))
    fit = lambda decay: trained(workload.task, "adamw", workload.steps, at, lr=0.01, weight_decay=decay)
    found = jax.jit(jax.vmap(fit))(jnp.array([1.0, 0.0]))
    loss, error = (np.asarray(found[name])[:, 49::50] for name in ("loss", "validation_error"))
    memorized = (loss < 0.1).argmax(1)
    assert (error[[0, 1], memorized] > 0.9).all()
    assert error[0, -1] < 0.15
    assert error[1, -1] > 0.9


# Differential equations


@pytest.mark.parametrize("equation", [pinn.POISSON, pinn.BURGERS], ids=["poisson", "burgers"])
def test_whatever_the_network_does_the_solution_is_right_at_the_boundary(equation):
    (left, down), (right, up) = equation.low, equation.high
    side = np.linspace(0, 1, 9)
    xs, ys = left + (right - left) * side, down + (up - down) * side
    edges = [(left, y) for y in ys] + [(x, y) for x in xs for y in (down, up)]
    edges += [(right, y) for y in ys] if equation is pinn.POISSON else []  # Burgers' time has no end
    points = np.array(edges, np.float32)
    values = equation.bound(jnp.asarray(points), jnp.full(len(points), 3.0))
    np.testing.assert_allclose(values, equation.solution(points), atol=1e-6)


def test_the_residual_of_poissons_solution_is_0(x64):
    points = jax.random.uniform(KEY, (50, 2), jnp.float64)
    residual = pinn.POISSON.residual(lambda p: pinn._waves(p, jnp), points)
    np.testing.assert_allclose(residual, 0, atol=1e-10)


def test_the_residual_of_burgers_solution_is_0_by_finite_differences():
    """And it steepens to the slope that Basdevant et al. 1986 report, −152.00516 at t = 1.6037 / π."""
    t, x = (part.ravel() for part in np.meshgrid([0.1, 0.25, 0.6], [-0.9, -0.5, 0.2, 0.7]))
    u = lambda t, x: pinn.cole_hopf(np.stack([t, x], 1))
    h = 1e-4
    u_t, u_x = (u(t + h, x) - u(t - h, x)) / (2 * h), (u(t, x + h) - u(t, x - h)) / (2 * h)
    u_xx = (u(t, x + h) - 2 * u(t, x) + u(t, x - h)) / h**2
    np.testing.assert_allclose(u_t + u(t, x) * u_x, pinn.VISCOSITY * u_xx, atol=1e-5)
    steep, h = np.full(2, 1.6037 / np.pi), 1e-6
    low, high = u(steep, np.array([-h, h]))
    assert (high - low) / (2 * h) == pytest.approx(-152.00516, abs=0.01)


def test_the_residual_of_burgers_equation_is_its_definition(x64):
    points = jax.random.uniform(KEY, (20, 2), jnp.float64)
    t, x = points.T
    u = lambda p: p[:, 0] ** 2 * p[:, 1] ** 3  # u_t = 2 t x³, u_x = 3 t² x², u_xx = 6 t² x
    expected = 2 * t * x**3 + t**2 * x**3 * 3 * t**2 * x**2 - pinn.VISCOSITY * 6 * t**2 * x
    np.testing.assert_allclose(pinn.BURGERS.residual(u, points), expected, rtol=1e-10)


def test_points_lie_in_each_cell_once():
    task = tasks.workload("pinn", "tiny").task
    drawn = np.asarray(task.draw(KEY, task.data, 3))
    assert len({*map(tuple, np.floor(drawn * 6).astype(int).tolist())}) == 36
    assert not np.array_equal(drawn, task.draw(KEY, task.data, 4))


def test_the_error_falls_with_lbfgs():
    task = pinn.solving(pinn.POISSON, (16,), 10)
    error = np.asarray(trained(task, "lbfgs", 120, (1, 40, 120))["relative_error"])[[0, 39, 119]]
    assert error[0] > 2 * error[1] > 4 * error[2]
    assert error[2] < 0.1
