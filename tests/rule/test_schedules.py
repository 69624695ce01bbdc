"""Every schedule of optax is one of our shapes, value by value; and what shapes refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import optim, schedules, tasks, train
from fnn.base.errors import InputError
from fnn.rule.schedules import (
    at_least,
    cosine,
    exponential,
    flat,
    joined,
    one_cycle,
    polynomial,
    progress,
    staircase,
    steps,
    through,
    times,
    warmup,
    within,
)

N = 120
LR = 0.3
KEY = jax.random.key(0)
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
    """At every count from 0 to the run's end. optax divides its int32 count in float32: it is given a float64 one."""
    shape, theirs = TWINS[name]
    counts = np.arange(N + 1)
    ours = [float(LR * shape(progress(jnp.int32(c), N))) for c in counts]
    np.testing.assert_allclose(ours, [float(theirs(jnp.float64(c))) for c in counts], rtol=1e-12, atol=1e-16)


def test_schedules_reach_any_hyperparameter():
    hp = optim.rule("adam").hyper
    at = lambda done: progress(jnp.int32(done), 100)
    both = schedules.both(schedules.on("lr", cosine()), schedules.on("b1", steps(0.5, 0.5)))
    np.testing.assert_allclose(both(hp, at(0)).lr, hp.lr, rtol=1e-6)
    np.testing.assert_allclose(both(hp, at(100)).lr, 0, atol=1e-9)
    np.testing.assert_allclose([both(hp, at(t)).b1 for t in (0, 49, 50, 100)], [0.9, 0.9, 0.45, 0.45], rtol=1e-6)
    nested = {"trained": optim.rule("sam").hyper}
    half = schedules.on("trained.inner.lr", flat)(nested, at(50))
    assert half["trained"].inner.lr == nested["trained"].inner.lr
    assert schedules.on("trained.inner.lr", cosine())(nested, at(50))["trained"].inner.lr == pytest.approx(0.005)
    with pytest.raises(InputError, match="no hyperparameter 'rate'; there are lr, b1"):
        schedules.on("rate", cosine())(hp, at(0))
    with pytest.raises(InputError, match="no hyperparameter 'x'"):
        schedules.on("lr.x", cosine())(hp, at(0))


UPDATES = (*range(1, 12), 49, 50, 64, 100, 101, 120, 151, 200, 250, 333, 1000, 4096)
SHARES = tuple(k / 100 for k in range(101)) + tuple(k / n for n in (3, 6, 7, 12, 128) for k in range(n + 1))


def compiled(updates, *shapes):
    """The shapes' values before every update, and after the last, from one compiled program in float32."""
    program = jax.jit(jax.vmap(lambda t: [shape(progress(t, updates)) for shape in shapes]))
    return [np.asarray(values) for values in program(jnp.arange(updates + 1))]


def changes(values):
    """The updates before which a value is another than before the one before."""
    return list(np.flatnonzero(np.diff(values)) + 1)


@pytest.mark.parametrize("updates", UPDATES)
def test_boundaries_are_whole_updates(updates):
    """`steps` falls before update round(b · N), counted from 0, for every share b, compiled in float32."""
    passed = lambda shares: sum((np.arange(updates + 1) >= round(b * updates)).astype(int) for b in shares)
    counted = lambda progress: sum(progress.reached(b).astype(jnp.int32) for b in SHARES)
    some = (0.1, 0.2, 0.3, 1 / 3, 0.7, 0.95)
    falls, every = compiled(updates, steps(0.5, *some), counted)
    np.testing.assert_array_equal(every, passed(SHARES))
    np.testing.assert_array_equal(falls, np.float32(0.5) ** passed(some))


@pytest.mark.parametrize("updates", [1, 3, 10, 50, 100, 151, 200])
def test_every_shape_with_a_boundary_turns_on_it(updates):
    """The same for stairs, segments, joins, warm-ups and values passed through: compiled, in float32."""
    inside = lambda *shares: sorted({round(b * updates) for b in shares} - {0})
    done = np.arange(updates + 1)
    stairs = (1, 3, 5, 10)
    for n, found in zip(stairs, compiled(updates, *(staircase(polynomial(), n) for n in stairs)), strict=True):
        assert changes(found) == inside(*(k / n for k in range(1, n + 1)))
        assert found[-1] == 0
    for b in (0.1, 0.3, 1 / 3):
        first, last = round(b * updates), round(0.9 * updates)
        constants, rising, reached, cycle, between = compiled(
            updates,
            joined([flat, times(2.0, flat), times(3.0, flat)], [b, 0.9]),
            warmup(b, times(0.5, flat)),
            through([1.0, 4.0, 2.0], [b]),
            one_cycle(b, start=0.0, end=0.0),
            within(b, 0.9, polynomial()),
        )
        assert changes(constants) == inside(b, 0.9)
        np.testing.assert_allclose(rising[:first], np.arange(first) / max(first, 1), rtol=3e-7)
        assert (rising[first:] == 0.5).all()
        assert reached[first] == 4
        assert reached[-1] == 2
        assert list(np.flatnonzero(cycle == 1)) == [first]
        gone = np.interp(done, [first, last], [0, 1]) if first < last else 1.0 * (done >= first)
        np.testing.assert_allclose(between, 1 - gone, atol=2e-7)


def test_a_segment_counts_its_own_updates():
    """Shares within a segment are shares of its updates, so that boundaries nest exactly."""
    nested = joined([steps(0.5, 0.5), steps(0.5, 0.3)], [0.3])
    short = within(0.1, 0.9, staircase(polynomial(), 4))
    of_no_update = warmup(0.001, steps(0.5, 0.5))
    expected = [[15, 30, 30 + 21], [30, 50, 70, 90], [50]]
    assert [changes(values) for values in compiled(100, nested, short, of_no_update)] == expected


def test_boundaries_hold_in_training_in_a_scheduled_rule_and_over_many_hyperparameters():
    """The learning rate of every update as the parameters show it, under scan, jit and vmap, in float32."""
    sgd, nothing = optim.rule("sgd"), lambda *everything: ()
    loss = lambda hp, w, stats, batch, key, train: (-w.sum(), stats)
    task = tasks.Task(lambda hp, key, data: (jnp.zeros(1), ()), nothing, nothing, loss, lambda *everything: {})
    lrs = jnp.array([0.5, 2.0])
    for updates, b in ((50, 0.2), (100, 0.3), (200, 0.1), (151, 0.57)):
        falling = lambda name, b=b: schedules.on(name, steps(0.5, b))
        expected = lrs[:, None] * np.where(np.arange(updates) >= round(b * updates), 0.5, 1)
        shown = lambda moment: {"change": moment.updates}
        run = train.training(task, sgd, updates, schedule=falling("rule.lr"), observe=shown)
        once = lambda lr, run=run, n=updates: train.train(run, n, train.Hyper(sgd.hyper._replace(lr=lr)), KEY, ())
        np.testing.assert_array_equal(jax.jit(jax.vmap(once))(lrs)[1]["change"][..., 0], expected)

        rule = schedules.scheduled(sgd, falling("lr"), updates)

        def alone(lr, rule=rule, n=updates):
            hp, w = sgd.hyper._replace(lr=lr), jnp.zeros(1)
            step = lambda state, _: rule.update(hp, -jnp.ones(1), state, w)[::-1]
            return jax.lax.scan(step, rule.init(hp, w), length=n)[1]

        np.testing.assert_array_equal(jax.jit(jax.vmap(alone))(lrs)[..., 0], expected)


@pytest.mark.parametrize("updates", [1, 3, 10, 49, 1000, 16_777_217, 2**31 - 1])
def test_the_share_done_ends_at_exactly_1(updates):
    """Where a compiled division misses 1, a power of 1 − p would be NaN or far from 0."""
    share = jax.jit(jax.vmap(lambda t: progress(t, updates).share))
    ends = share(jnp.array([0, updates - 1, updates], jnp.int32))
    assert ends[0] == 0
    assert ends[1] <= 1
    assert ends[2] == 1
    assert (jax.jit(jax.vmap(lambda t: polynomial(0.5)(progress(t, updates))))(jnp.array([updates])) == 0).all()


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
