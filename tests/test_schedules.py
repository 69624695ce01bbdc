"""Every schedule of optax is one of our shapes, value by value; and what shapes refuse."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import optim, schedules
from fnn.errors import InputError
from fnn.schedules import (
    at_least,
    cosine,
    exponential,
    flat,
    joined,
    one_cycle,
    polynomial,
    staircase,
    steps,
    through,
    times,
    warmup,
    within,
)

N = 120
LR = 0.3
TWINS = {
    "constant_schedule": (flat, optax.constant_schedule(LR)),
    "linear_schedule": (polynomial(floor=0.2), optax.linear_schedule(LR, 0.2 * LR, N)),
    "polynomial_schedule": (within(0.25, 0.75, polynomial(3, 0.2)), optax.polynomial_schedule(LR, 0.2 * LR, 3, 60, 30)),
    "cosine_decay_schedule": (cosine(0.1, 2.0), optax.cosine_decay_schedule(LR, N, 0.1, 2.0)),
    "exponential_decay": (exponential(0.01), optax.exponential_decay(LR, N, 0.01)),
    "exponential_decay, in stairs": (
        at_least(0.05, staircase(exponential(0.01), 8)),
        optax.exponential_decay(LR, N // 8, 0.01 ** (1 / 8), staircase=True, end_value=0.05 * LR),
    ),
    "exponential_decay, late": (
        within(0.5, 1, exponential(0.3)),
        optax.exponential_decay(LR, N // 2, 0.3, transition_begin=N // 2),
    ),
    "piecewise_constant_schedule": (steps(0.1, 0.25, 0.75), optax.piecewise_constant_schedule(LR, {30: 0.1, 90: 0.1})),
    "piecewise_interpolate_schedule": (
        through([1, 0.5, 0.1, 0.1], [0.25, 0.75]),
        optax.piecewise_interpolate_schedule("linear", LR, {30: 0.5, 90: 0.2}),
    ),
    "piecewise_interpolate_schedule, cosine": (
        through([1, 0.5, 0.1], [0.25], "cosine"),
        optax.piecewise_interpolate_schedule("cosine", LR, {30: 0.5, 120: 0.2}),
    ),
    "linear_onecycle_schedule": (
        one_cycle(turn=0.85, end=1e-4 / 25, between="linear"),
        optax.linear_onecycle_schedule(N, LR),
    ),
    "cosine_onecycle_schedule": (one_cycle(end=1e-4 / 25), optax.cosine_onecycle_schedule(N, LR)),
    "warmup_constant_schedule": (warmup(0.25), optax.warmup_constant_schedule(0.0, LR, 30)),
    "warmup_cosine_decay_schedule": (
        warmup(0.25, cosine(0.1), 0.2),
        optax.warmup_cosine_decay_schedule(0.2 * LR, LR, 30, N, 0.1 * LR),
    ),
    "warmup_exponential_decay_schedule": (
        warmup(0.25, exponential(0.05)),
        optax.warmup_exponential_decay_schedule(0.0, LR, 30, 90, 0.05),
    ),
    "sgdr_schedule": (
        joined([warmup(0.25, cosine()), times(0.5, warmup(0.25, cosine()))], [1 / 3]),
        optax.sgdr_schedule(
            [
                {"init_value": 0.0, "peak_value": LR, "warmup_steps": 10, "decay_steps": 40},
                {"init_value": 0.0, "peak_value": LR / 2, "warmup_steps": 20, "decay_steps": 80},
            ]
        ),
    ),
    "join_schedules": (
        joined([flat, polynomial(2)], [0.5]),
        optax.join_schedules([optax.constant_schedule(LR), optax.polynomial_schedule(LR, 0.0, 2, 60)], [60]),
    ),
}


def test_every_schedule_of_optax_is_here():
    import optax.schedules

    public = {
        name for name in dir(optax.schedules) if name[0] != "_" and name.endswith(("_schedule", "_decay", "_schedules"))
    }
    assert public == {name.partition(",")[0] for name in TWINS}


@pytest.mark.parametrize("name", TWINS)
def test_a_shape_is_its_optax_schedule(name, x64):
    """At every count from 0 to the run's end. optax divides its int32 count in float32: it is handed a float64 one."""
    shape, theirs = TWINS[name]
    counts = np.arange(N + 1)
    ours = [float(LR * shape(schedules.progress(jnp.int32(c), N))) for c in counts]
    np.testing.assert_allclose(ours, [float(theirs(jnp.float64(c))) for c in counts], rtol=1e-12, atol=1e-16)


def test_schedules_reach_any_hyperparameter():
    hp = optim.rule("adam").hyper
    both = schedules.both(schedules.on("lr", cosine()), schedules.on("b1", steps(0.5, 0.5)))
    np.testing.assert_allclose(both(hp, 0.0).lr, hp.lr, rtol=1e-6)
    np.testing.assert_allclose(both(hp, 1.0).lr, 0, atol=1e-9)
    np.testing.assert_allclose([both(hp, p).b1 for p in (0.0, 0.49, 0.5, 1.0)], [0.9, 0.9, 0.45, 0.45], rtol=1e-6)
    nested = {"trained": optim.rule("sam").hyper}
    half = schedules.on("trained.inner.lr", flat)(nested, 0.5)
    assert half["trained"].inner.lr == nested["trained"].inner.lr
    assert schedules.on("trained.inner.lr", cosine())(nested, 0.5)["trained"].inner.lr == pytest.approx(0.005)
    with pytest.raises(InputError, match="no hyperparameter 'rate'; there are lr, b1"):
        schedules.on("rate", cosine())(hp, 0.0)
    with pytest.raises(InputError, match="no hyperparameter 'x'"):
        schedules.on("lr.x", cosine())(hp, 0.0)


def test_a_schedule_stays_at_its_end():
    rule = schedules.scheduled(optim.rule("sgd"), schedules.on("lr", polynomial(floor=0.1)), 4)
    state, sizes = rule.init(rule.hyper, jnp.zeros(1)), []
    for _ in range(7):
        update, state = rule.update(rule.hyper, jnp.ones(1), state, jnp.zeros(1))
        sizes.append(-float(update[0]) / 0.01)
    np.testing.assert_allclose(sizes, [1, 0.775, 0.55, 0.325, 0.1, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: warmup(0.0), "between 0 and 1, not 0.0"),
        (lambda: warmup(1.0), "between 0 and 1, not 1.0"),
        (lambda: within(0.5, 0.5, flat), "forwards, not 0.5 to 0.5"),
        (lambda: within(-0.1, 0.5, flat), "not -0.1 to 0.5"),
        (lambda: joined([flat, flat], []), "2 shapes have 1 boundaries"),
        (lambda: joined([flat, flat, flat], [0.5, 0.2]), "not 0.5 to 0.2"),
        (lambda: through([1, 2], [0.5]), "3 values are reached, not 2"),
        (lambda: through([1, 2], [], "sine"), "not by 'sine'"),
        (lambda: staircase(flat, 0), "at least 1 stair, not 0"),
        (lambda: schedules.scheduled(optim.rule("sgd"), schedules.constant, 0), "at least 1 update, not 0"),
    ],
)
def test_bad_shapes_get_one_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
