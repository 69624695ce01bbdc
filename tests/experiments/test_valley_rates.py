"""Arrivals and rates against the exact theory of quadratics, in float64; verdicts in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.updates import valley_rates as rates
from experiments.updates._valley import Path, book, curvatures, descend, factor_of_momentum, factor_of_sgd, valley
from experiments.updates.valley_rates import EXPERIMENT, Config
from fnn.base.errors import InputError

START = np.array([-7.0, 2.0])


@pytest.fixture(scope="module")
def ds():
    return rates.run(Config(seeds=12, horizon=400, rates=8, conditions=4))


@pytest.fixture(scope="module")
def diverged():
    """One start, an SGD that leaves float64, and a horizon that most descents do not reach the goal in."""
    return rates.run(Config(seeds=1, sgd=1e12, horizon=20, rates=2, conditions=2))


def follow(name, condition, steps, **hyper):
    rule = book(name)
    go = jax.jit(lambda hp, condition, start: descend(rule, hp, condition, start, steps))
    return go(rule.hyper._replace(**hyper), condition, jnp.asarray(START))


def test_stability_ends_where_theory_predicts(x64):
    """At 2/L for SGD and 2 (1 + α)/L for Momentum."""
    for name, hyper, limit in (("sgd", {}, 1.0), ("momentum", {"mu": 0.9}, 1.9)):
        below, above = (follow(name, 20.0, 4000, lr=limit * side, **hyper) for side in (0.999, 1.001))
        assert rates.long_run_factor(below.value) < 1 < rates.long_run_factor(above.value)
        assert below.value[-1] < 1e-3 * below.value[0] < 1e3 * above.value[0] < above.value[-1]
        assert np.isfinite(rates.arrival(below, 1e-3).steps)
        assert np.isnan(rates.arrival(above, 1e-3).steps)


@pytest.mark.parametrize("condition", [2.0, 20.0, 300.0])
def test_the_best_rates_are_the_theorys(x64, condition):
    root = np.sqrt(condition)
    lr, alpha = rates.best_momentum(condition)
    for name, hyper, exact in (
        ("sgd", {"lr": rates.best_sgd(condition)}, (condition - 1) / (condition + 1)),
        ("momentum", {"lr": lr, "mu": alpha}, (root - 1) / (root + 1)),
    ):
        measured = float(rates.long_run_factor(follow(name, condition, 2000, **hyper).value))
        np.testing.assert_allclose(measured, exact, rtol=1e-3)
        np.testing.assert_allclose(1 - measured, 1 - exact, rtol=2e-3)
        # No other rate is better: the factor grows on both sides.
        factor = factor_of_sgd if name == "sgd" else lambda lr, kappa: factor_of_momentum(lr, alpha, kappa)
        here, *beside = (float(factor(hyper["lr"] * side, condition)) for side in (1, 0.98, 1.02))
        np.testing.assert_allclose(here, exact, rtol=1e-6)
        assert min(beside) > here


def test_the_factor_of_momentum_is_its_matrix_spectral_radius():
    for lr, alpha, condition in [(0.1, 0.9, 20.0), (0.1, 0.9, 500.0), (1.95, 0.9, 20.0), (0.5, 0.0, 3.0)]:
        radii = [max(abs(np.linalg.eigvals([[1 - lr * c, alpha], [-lr * c, alpha]]))) for c in curvatures(condition)]
        np.testing.assert_allclose(factor_of_momentum(lr, alpha, condition), max(radii), rtol=1e-7)


def test_all_starts_are_on_the_notes_level(ds):
    values = jax.vmap(lambda start: valley(start, ds.condition))(ds.start.values)
    np.testing.assert_allclose(values, 6.45, rtol=1e-6)
    assert len(np.unique(ds.start, axis=0)) == ds.sizes["seed"]


def test_sgd_arrives_exactly_when_the_closed_form_predicts(ds):
    measured = ds.steps_by_rate.sel(rule="sgd", bowl="valley").transpose("lr", "seed").values
    exact = [rates.exact_steps(ds.start.values, lr, ds.condition, ds.goal, ds.horizon) for lr in ds.lr.values]
    np.testing.assert_array_equal(measured, exact)
    assert 0 < np.isnan(measured).sum() < measured.size, "some arrive and some do not"


def test_arrival_is_for_good():
    """A value that falls below the goal and rises again has not arrived; the path length ends with the steps."""
    value = jnp.array([4.0, 0.001, 2.0, 0.003, 0.002])
    path = Path(jnp.zeros((5, 2)), value, jnp.zeros((4, 2)), jnp.array([[3.0, 4.0]] * 4))
    arrival = jax.jit(rates.arrival)
    found = arrival(path, 1e-3)
    assert (float(found.steps), float(found.way)) == (3, 15)
    assert np.isnan(arrival(path._replace(value=value.at[-1].set(1.0)), 1e-3).steps)
    assert np.isnan(arrival(path._replace(value=value.at[-1].set(jnp.nan)), 1e-3).way)


def test_a_path_passes_the_minimum_where_theory_predicts(ds):
    """SGD passes the minimum of a round bowl where ηλ > 1, Momentum already where ηλ > (1 − √α)², here everywhere."""
    crossed = ds.crossed_by_rate.sel(bowl="round")
    size = rates.LARGEST * ds.lr
    for rule, passes in (("sgd", size > 1), ("momentum", size > (1 - np.sqrt(0.9)) ** 2)):
        np.testing.assert_array_equal(crossed.sel(rule=rule).all("seed"), passes)
        np.testing.assert_array_equal(crossed.sel(rule=rule).any("seed"), passes)


def test_the_line_search_is_exact(x64):
    """One step in a round bowl; from (κ, 1), its worst start, f shrinks by ((κ − 1)/(κ + 1))² every step."""
    rule = rates.LINE_SEARCH
    one = descend(rule, rates.Searched(1.0), 1.0, jnp.asarray(START), 2)
    assert one.value[1] < 1e-30
    assert np.isfinite(one.place).all(), "at the minimum it stays"
    worst = descend(rule, rates.Searched(20.0), 20.0, jnp.array([20.0, 1.0]), 10)
    np.testing.assert_allclose(worst.value[1:] / worst.value[:-1], (19 / 21) ** 2, rtol=1e-10)


def test_decay_shrinks_the_rate_step_by_step(x64):
    cfg = Config(decay=3, horizon=50)
    rule = rates.decaying(book("sgd"), cfg)
    path = descend(rule, rule.hyper._replace(lr=0.4), 20.0, jnp.asarray(START), 12)
    lr = 0.4 / (1 + np.arange(12) / 3)
    exact = np.cumprod(1 - lr[:, None] * curvatures(20.0), 0) * START
    np.testing.assert_allclose(path.place[1:], exact, rtol=1e-12)


def test_measured_factors_lie_on_the_exact_ones(ds):
    for tuning in ("sgd, best", "momentum, best"):
        exact = rates.exact_factor(tuning, ds.kappa.values, ds)
        measured = ds.factor_by_kappa.sel(tuning=tuning).transpose("seed", "kappa").values
        np.testing.assert_allclose(measured, np.broadcast_to(exact, measured.shape), rtol=1e-3)


def outcomes(found):
    return {verdict.claim: verdict.outcome for verdict in found}


def exchanged(ds, one, other):
    """The data with two rules exchanged."""
    names = [{one: other, other: one}.get(name, name) for name in ds.rule.values]
    what = ("steps_by_rate", "crossed_by_rate")
    return ds.assign({name: ds[name].sel(rule=names).drop_vars("rule") for name in what})


def test_the_answer_on_smaller_steps_follows_the_numbers(ds):
    flipped = ds.assign(steps_by_rate=1000 - ds.steps_by_rate)
    claim = "SGD with half the notes' step arrives in fewer steps than SGD at the notes' rate"
    assert outcomes(EXPERIMENT.judge(ds))[claim] == "does not hold"
    assert outcomes(EXPERIMENT.judge(flipped))[claim] == "holds"
    assert "needs more steps" in EXPERIMENT.answer(ds)[0].answer
    assert "needs fewer steps" in EXPERIMENT.answer(flipped)[0].answer


def test_the_answer_on_round_bowls_follows_the_numbers(ds):
    claim = "In a round bowl Momentum arrives in fewer steps than SGD, both at all of the notes' rate of Momentum"
    other = exchanged(ds, "sgd", "momentum")
    assert outcomes(EXPERIMENT.judge(ds))[claim] == "does not hold"
    assert outcomes(EXPERIMENT.judge(other))[claim] == "holds"
    passes = "In a round bowl Momentum never passes the minimum at the notes' rate"
    assert outcomes(EXPERIMENT.judge(ds))[passes] == "does not hold"
    assert outcomes(EXPERIMENT.judge(other))[passes] == "holds"
    assert "are more at lr 0.1" in EXPERIMENT.answer(ds)[1].answer
    assert "are fewer at lr 0.1" in EXPERIMENT.answer(other)[1].answer
    assert "it neither helps nor harms there" in EXPERIMENT.answer(ds)[1].answer


def test_one_start_that_swings_refutes_never(ds):
    crossed = ds.crossed_by_rate.copy()
    crossed.loc[{"rule": "momentum", "bowl": "round"}] = False
    claim = "In a round bowl Momentum never passes the minimum at the notes' rate"
    assert outcomes(EXPERIMENT.judge(ds.assign(crossed_by_rate=crossed)))[claim] == "holds"
    crossed.loc[{"rule": "momentum", "bowl": "round", "seed": 3}] = True
    assert outcomes(EXPERIMENT.judge(ds.assign(crossed_by_rate=crossed)))[claim] == "does not hold"


def test_figures_and_answers_come(ds):
    made = EXPERIMENT.draw(ds)
    assert {answer.figure for answer in EXPERIMENT.answer(ds)} <= set(made)
    for figure in made.values():
        figure.canvas.draw()


def test_a_diverged_descent_and_a_single_start_are_results(diverged):
    assert np.isnan(diverged.steps_by_rate).any()
    found = outcomes(EXPERIMENT.judge(diverged))
    assert found.pop("In a round bowl Momentum never passes the minimum at the notes' rate") == "does not hold"
    assert set(found.values()) <= {"undecided", "not measurable"}
    assert all("not clearly more or fewer" in answer.answer for answer in EXPERIMENT.answer(diverged))
    for figure in EXPERIMENT.draw(diverged).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"horizon": 19}, "--horizon is at least 20, not 19"),
        ({"rates": 1}, "--rates is at least 2, not 1"),
        ({"conditions": 0}, "--conditions is at least 2, not 0"),
        ({"decay": 0}, "--decay is at least 1, not 0"),
        ({"momentum": 0.0}, "--momentum is a learning rate above 0, not 0.0"),
        ({"goal": 1.0}, "--goal is a share between 0 and 1, not 1.0"),
    ],
)
def test_bad_options_get_one_sentence(options, said):
    with pytest.raises(InputError, match=said):
        Config(**options).check()
