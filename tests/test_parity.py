"""Every rule equals its optax twin: float64, 120 steps, nested trees, adversarial gradients, 1e-12 a coordinate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from fnn import interop, optim, schedules
from fnn.rule import Rule, apply_updates

RTOL = 1e-12

pytestmark = pytest.mark.usefixtures("x64")


def trajectory(rule: Rule, params, grads, hp=None):
    """All updates of a rule along given gradients, each leaf `[steps, …]`, computed one operation at a time.

    Inside one compiled program XLA rounds a·b + c once or twice as it likes, and differently in two programs; where a
    moving average passes through zero that shows. Operation by operation both sides round alike.
    """
    hp = jax.tree.map(lambda h: jnp.asarray(h, jnp.float64), rule.hyper if hp is None else hp)
    state, found = rule.init(hp, params), []
    for g in grads:
        updates, state = rule.update(hp, g, state, params)
        params = apply_updates(params, updates)
        found.append(updates)
    return jax.tree.map(lambda *u: np.stack(u), *found)


def assert_same(ours, theirs, rtol=RTOL):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=0), ours, theirs)


def test_every_rule_and_dialect_has_a_twin():
    assert set(interop.TWINS) == set(optim.rules())


@pytest.mark.parametrize("kind", problems.KINDS)
@pytest.mark.parametrize("spec", optim.rules())
def test_parity(spec, kind):
    params = problems.tree(jnp.float64)
    grads = problems.gradients(kind, params)
    ours = trajectory(optim.rule(spec), params, grads)
    assert all(u.dtype == jnp.float64 for u in jax.tree.leaves(ours))
    if kind != "zeros":
        assert all(np.abs(u).max() > 0 for u in jax.tree.leaves(ours))
    assert_same(ours, trajectory(interop.twin(spec), params, grads))


@pytest.mark.parametrize("spec", optim.rules())
def test_parity_at_other_hyperparameters(spec):
    """Every hyperparameter moved off its default reaches the twin too."""
    params = problems.tree(jnp.float64)
    grads = problems.gradients("all scales", params)
    rule = optim.rule(spec)
    for field, value in rule.hyper._asdict().items():
        # Decay rates stay below 1; the rest doubles.
        moved = rule.hyper._replace(**{field: 0.5 * value + 0.25 if field in ("mu", "rho", "b1", "b2") else 2 * value})
        ours = trajectory(rule, params, grads, moved)
        assert_same(ours, trajectory(interop.twin(spec), params, grads, moved))
        assert any(
            np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (ours, trajectory(rule, params, grads))), strict=True)
        )


SHAPES = {
    "cosine": (schedules.cosine(0.1), lambda lr, n: optax.cosine_decay_schedule(lr, n, alpha=0.1)),
    "linear": (schedules.polynomial(), lambda lr, n: optax.linear_schedule(lr, 0.0, n)),
    "cubic": (schedules.polynomial(3, 0.2), lambda lr, n: optax.polynomial_schedule(lr, 0.2 * lr, 3, n)),
    "exponential": (schedules.exponential(0.01), lambda lr, n: optax.exponential_decay(lr, n, 0.01)),
    "steps": (
        schedules.steps(0.1, 0.25, 0.75),
        lambda lr, n: optax.piecewise_constant_schedule(lr, {n // 4: 0.1, 3 * n // 4: 0.1}),
    ),
    "warm-up": (
        schedules.warmup(0.25, schedules.cosine()),
        lambda lr, n: optax.join_schedules(
            [optax.linear_schedule(0.0, lr, n // 4), optax.cosine_decay_schedule(lr, n - n // 4)], [n // 4]
        ),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"])
def test_parity_under_a_schedule(spec, shape):
    ours, theirs = SHAPES[shape]
    params = problems.tree(jnp.float64)
    grads = problems.gradients("normal", params)
    rule = optim.rule(spec)
    scheduled = schedules.scheduled(rule, schedules.on("lr", ours), problems.STEPS)

    # optax takes a schedule wherever it takes a learning rate. It divides its int32 count, which JAX rounds to
    # float32 even where float64 is on, so its schedules are handed a count in float64.
    def build(hp):
        schedule = theirs(hp.lr, problems.STEPS)
        return interop.TWINS[spec](hp._replace(lr=lambda count: schedule(count.astype(jnp.float64))))

    twin = interop.from_optax(rule.hyper, build)
    assert_same(trajectory(scheduled, params, grads), trajectory(twin, params, grads))


def test_book_momentum_parts_from_optax_under_a_schedule_only():
    params = problems.tree(jnp.float64)
    grads = problems.gradients("normal", params)
    optax_form, book = optim.rule("momentum"), optim.rule("momentum:book")
    assert_same(trajectory(book, params, grads), trajectory(optax_form, params, grads), rtol=1e-9)
    falling = partial(schedules.scheduled, schedule=schedules.on("lr", schedules.cosine()), updates=problems.STEPS)
    a, b = (trajectory(falling(r), params, grads)["scalar"] for r in (optax_form, book))
    assert np.max(np.abs(a - b)) > 1e-4


@pytest.mark.parametrize("spec", ["adagrad", "adam", "rmsprop"])
def test_book_form_is_not_its_namesake_in_optax(spec):
    """At the very same numbers, tiny gradients meet eps in another place: why each form has a twin of its own."""
    params = problems.tree(jnp.float64)
    grads = problems.gradients("tiny", params)
    book, own = optim.rule(f"{spec}:book"), optim.rule(spec)
    same_numbers = own.hyper._replace(**book.hyper._asdict())
    if spec == "adagrad":
        same_numbers = same_numbers._replace(h0=0.0)
    ours = trajectory(book, params, grads)["scalar"]
    theirs = trajectory(own, params, grads, same_numbers)["scalar"]
    assert np.max(np.abs(ours / theirs - 1)) > 1e-2


def test_a_float32_parity_would_miss_a_misplaced_eps():
    """The reason for float64: eps under Adam's root instead of beside it hides below 1e-5, not below 1e-12."""
    params = problems.tree(jnp.float64)
    grads = problems.gradients("normal", params)
    adam = optim.rule("adam")
    misplaced = interop.from_optax(adam.hyper, lambda hp: optax.adam(hp.lr, hp.b1, hp.b2, 0.0, eps_root=hp.eps))
    gap = max(
        float(np.max(np.abs(a / b - 1)))
        for a, b in zip(*(jax.tree.leaves(trajectory(r, params, grads)) for r in (adam, misplaced)), strict=True)
    )
    assert RTOL * 100 < gap < 1e-3
