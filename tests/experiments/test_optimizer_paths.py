"""Paths, arrivals and rates against the exact theory of quadratics, in float64; verdicts in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import optimizer_paths as paths
from experiments.optimizer_paths import Config, book, descend
from fnn.errors import InputError

START = np.array([-7.0, 2.0])


@pytest.fixture(scope="module")
def ds():
    return paths.run(Config(seeds=12, horizon=400, rates=8, conditions=4))


@pytest.fixture(scope="module")
def diverged():
    """One start, an SGD that leaves float64, and a horizon that most descents do not reach the goal in."""
    return paths.run(Config(seeds=1, sgd=1e12, horizon=20, rates=2, conditions=2))


def follow(name, condition, steps, **hyper):
    rule = book(name)
    hp = rule.hyper._replace(**hyper)
    go = jax.jit(lambda hp, condition, start: descend(rule, hp, condition, start, steps))
    return go(hp, condition, jnp.asarray(START))


@pytest.mark.parametrize("lr", [0.01, 0.475, 0.95, 1.0, 1.1])
def test_sgd_goes_by_powers(x64, lr):
    path = follow("sgd", 20.0, 30, lr=lr)
    exact = (1 - lr * paths.curvatures(20.0)) ** np.arange(31)[:, None] * START
    np.testing.assert_allclose(path.place, exact, rtol=1e-12)
    np.testing.assert_allclose(path.value, exact[:, 0] ** 2 / 20 + exact[:, 1] ** 2, rtol=1e-12)


@pytest.mark.parametrize(("lr", "alpha"), [(0.1, 0.9), (0.95, 0.9), (0.3, 0.0), (1.2, 0.5)])
def test_momentum_goes_by_powers_of_its_matrix(x64, lr, alpha):
    path = follow("momentum", 20.0, 60, lr=lr, mu=alpha)
    for axis, curvature in enumerate(paths.curvatures(20.0)):
        exact = paths.exact_momentum(lr, alpha, curvature, 60) * START[axis]
        scale = abs(exact).max()
        np.testing.assert_allclose(path.place[:, axis], exact[:, 0], rtol=1e-12, atol=1e-12 * scale)
        np.testing.assert_allclose(path.update[:, axis], exact[1:, 1], rtol=1e-12, atol=1e-12 * scale)


def test_stability_ends_where_theory_says(x64):
    """At 2/L for SGD and 2 (1 + α)/L for Momentum."""
    for name, hyper, limit in (("sgd", {}, 1.0), ("momentum", {"mu": 0.9}, 1.9)):
        below, above = (follow(name, 20.0, 4000, lr=limit * side, **hyper) for side in (0.999, 1.001))
        assert paths.long_run_factor(below.value) < 1 < paths.long_run_factor(above.value)
        assert below.value[-1] < 1e-3 * below.value[0] < 1e3 * above.value[0] < above.value[-1]
        assert np.isfinite(paths.arrival(below, 1e-3).steps)
        assert np.isnan(paths.arrival(above, 1e-3).steps)


@pytest.mark.parametrize("condition", [2.0, 20.0, 300.0])
def test_the_best_rates_are_the_theorys(x64, condition):
    root = np.sqrt(condition)
    lr, alpha = paths.best_momentum(condition)
    for name, hyper, exact in (
        ("sgd", {"lr": paths.best_sgd(condition)}, (condition - 1) / (condition + 1)),
        ("momentum", {"lr": lr, "mu": alpha}, (root - 1) / (root + 1)),
    ):
        measured = float(paths.long_run_factor(follow(name, condition, 2000, **hyper).value))
        np.testing.assert_allclose(measured, exact, rtol=1e-3)
        np.testing.assert_allclose(1 - measured, 1 - exact, rtol=2e-3)
        # No other rate is better: the factor grows on both sides.
        factor = paths.factor_of_sgd if name == "sgd" else lambda lr, kappa: paths.factor_of_momentum(lr, alpha, kappa)
        here, *beside = (float(factor(hyper["lr"] * side, condition)) for side in (1, 0.98, 1.02))
        np.testing.assert_allclose(here, exact, rtol=1e-6)
        assert min(beside) > here


def test_the_factor_of_momentum_is_its_matrix_spectral_radius():
    for lr, alpha, condition in [(0.1, 0.9, 20.0), (0.1, 0.9, 500.0), (1.95, 0.9, 20.0), (0.5, 0.0, 3.0)]:
        radii = [
            max(abs(np.linalg.eigvals([[1 - lr * c, alpha], [-lr * c, alpha]]))) for c in paths.curvatures(condition)
        ]
        np.testing.assert_allclose(paths.factor_of_momentum(lr, alpha, condition), max(radii), rtol=1e-7)


def test_sgd_arrives_exactly_when_the_closed_form_says(ds):
    start = ds.place.sel(contender="sgd", step=0).values
    measured = ds.steps_by_rate.sel(rule="sgd", bowl="valley").transpose("rate", "seed").values
    exact = [paths.exact_steps(start, lr, ds.condition, ds.goal, ds.horizon) for lr in ds.rate.values]
    np.testing.assert_array_equal(measured, exact)
    assert 0 < np.isnan(measured).sum() < measured.size, "some arrive and some do not"


def test_arrival_is_for_good():
    """A value that falls below the goal and rises again has not arrived; the way ends with the steps."""
    value = jnp.array([4.0, 0.001, 2.0, 0.003, 0.002])
    path = paths.Path(jnp.zeros((5, 2)), value, jnp.zeros((4, 2)), jnp.array([[3.0, 4.0]] * 4))
    arrival = jax.jit(paths.arrival)
    found = arrival(path, 1e-3)
    assert (float(found.steps), float(found.way)) == (3, 15)
    assert np.isnan(arrival(path._replace(value=value.at[-1].set(1.0)), 1e-3).steps)
    assert np.isnan(arrival(path._replace(value=value.at[-1].set(jnp.nan)), 1e-3).way)


def test_the_line_search_is_exact(x64):
    """One step in a round bowl; from (κ, 1), its worst start, f shrinks by ((κ − 1)/(κ + 1))² every step."""
    rule = paths.LINE_SEARCH
    one = descend(rule, paths.Searched(1.0), 1.0, jnp.asarray(START), 2)
    assert one.value[1] < 1e-30
    assert np.isfinite(one.place).all(), "at the minimum it stays"
    worst = descend(rule, paths.Searched(20.0), 20.0, jnp.array([20.0, 1.0]), 10)
    np.testing.assert_allclose(worst.value[1:] / worst.value[:-1], (19 / 21) ** 2, rtol=1e-10)


def test_decay_shrinks_the_rate_step_by_step(x64):
    cfg = Config(decay=3, horizon=50)
    rule = paths.decaying(book("sgd"), cfg)
    path = descend(rule, rule.hyper._replace(lr=0.4), 20.0, jnp.asarray(START), 12)
    rates = 0.4 / (1 + np.arange(12) / 3)
    exact = np.cumprod(1 - rates[:, None] * paths.curvatures(20.0), 0) * START
    np.testing.assert_allclose(path.place[1:], exact, rtol=1e-12)


def test_the_notes_paths(ds):
    """SGD's first places by hand; the first step of AdaGrad and RMSProp is 1.5 along both axes, Adam's 0.3."""
    notes = ds.notes_place
    np.testing.assert_allclose(notes.sel(contender="sgd")[:3], [[-7, 2], [-6.335, -1.8], [-5.733175, 1.62]])
    for name, length in (("adagrad", 1.5), ("rmsprop", 1.5), ("adam", 0.3)):
        np.testing.assert_allclose(ds.notes_move.sel(contender=name)[0], [length, -length], rtol=1e-4)
    assert dict(ds.lr.to_series()) == {
        "sgd": 0.95, "momentum": 0.1, "adagrad": 1.5, "adam": 0.3, "rmsprop": 0.15, "nesterov": 0.1,
        "sgd@momentum": 0.1, "momentum@sgd": 0.95, "sgd@bowl": 0.1, "momentum@bowl": 0.1,
    }  # fmt: skip


def test_all_starts_are_on_the_notes_level_and_shared(ds):
    np.testing.assert_allclose(ds.value.sel(step=0), 6.45, rtol=1e-12)
    starts = ds.place.sel(step=0)
    assert len(np.unique(starts.sel(contender="sgd"), axis=0)) == ds.sizes["seed"]
    np.testing.assert_array_equal(starts.sel(contender="sgd"), starts.sel(contender="adam"))


def test_the_two_terms_of_momentum_make_its_step(ds):
    for axis in "xy":
        momentum, gradient = paths.terms(ds, axis)
        np.testing.assert_allclose(momentum + gradient, paths.along(ds, "momentum", axis)[:, 1:], atol=1e-14)


def test_measured_factors_lie_on_the_exact_ones(ds):
    for tuning in ("sgd, best", "momentum, best"):
        exact = paths.exact_factor(tuning, ds.kappa.values, ds)
        measured = ds.factor_by_kappa.sel(tuning=tuning).transpose("seed", "kappa").values
        np.testing.assert_allclose(measured, np.broadcast_to(exact, measured.shape), rtol=1e-3)


def outcomes(found):
    return {verdict.claim: verdict.outcome for verdict in found}


def swapped(ds, what, dim, one, other):
    """The data with two names exchanged."""
    names = [{one: other, other: one}.get(name, name) for name in ds[dim].values]
    return ds.assign({name: ds[name].sel({dim: names}).assign_coords({dim: ds[dim].values}) for name in what})


def test_claim_1_is_decided_by_the_paths(ds):
    claim = "SGD zigzags: its steps along y turn round more often than Momentum's"
    other = swapped(ds, ["place", "move"], "contender", "sgd", "momentum")
    assert outcomes(paths.verdicts(ds))[claim] == "holds"
    assert outcomes(paths.verdicts(other))[claim] == "does not hold"
    for found, same in ((paths.verdicts(ds), False), (paths.verdicts(other), True)):
        way = next(
            v
            for v in found
            if "it walks a shorter way along y than SGD (Momentum, lr 0.1, beside SGD, lr 0.95" in v.claim
        )
        assert way.outcome == ("does not hold" if same else "holds")


def test_the_claims_about_adagrad_are_decided_by_the_paths(ds):
    claim = "AdaGrad's effective learning rate is smaller along y than along x"
    turned = ds.assign(move=ds.move.isel(axis=[1, 0]).assign_coords(axis=["x", "y"]))
    turned["gradient"] = ds.gradient.isel(axis=[1, 0]).assign_coords(axis=["x", "y"])
    assert outcomes(paths.verdicts(ds))[claim] == "holds"
    assert outcomes(paths.verdicts(turned))[claim] == "does not hold"


def test_the_answer_on_smaller_steps_follows_the_numbers(ds):
    flipped = ds.assign(steps_by_rate=1000 - ds.steps_by_rate)
    claim = "SGD with half the notes' step, lr 0.475, arrives in fewer steps than SGD at lr 0.95"
    assert outcomes(paths.verdicts(ds))[claim] == "does not hold"
    assert outcomes(paths.verdicts(flipped))[claim] == "holds"
    assert "needs more steps" in paths.answers(ds)[0].answer
    assert "needs fewer steps" in paths.answers(flipped)[0].answer


def test_the_answer_on_momentums_terms_follows_the_numbers(ds):
    claim = "Along x, |αv| is smaller than |η∇L| at most steps"
    small = ds.assign(move=ds.move / 1e6)
    assert outcomes(paths.verdicts(ds))[claim] == "does not hold"
    assert outcomes(paths.verdicts(small))[claim] == "holds"
    assert "at fewer than half of the steps along x" in paths.answers(ds)[1].answer
    assert "exceeds the gradient step along y and x" in paths.answers(ds)[1].answer
    assert "at most steps along x" in paths.answers(small)[1].answer
    assert "exceeds the gradient step along neither axis" in paths.answers(small)[1].answer


def test_the_answer_on_round_bowls_follows_the_numbers(ds):
    claim = "In a round bowl Momentum with α 0.9 arrives in fewer steps than SGD at the same lr 0.1"
    other = swapped(ds, ["steps_by_rate"], "rule", "sgd", "momentum")
    assert outcomes(paths.verdicts(ds))[claim] == "does not hold"
    assert outcomes(paths.verdicts(other))[claim] == "holds"
    assert "are more at lr 0.1" in paths.answers(ds)[2].answer
    assert "are fewer at lr 0.1" in paths.answers(other)[2].answer
    assert "it neither helps nor harms there" in paths.answers(ds)[2].answer


def test_every_figure_of_the_notes_is_drawn(ds):
    made = paths.figures(ds)
    assert {"03_sgd", "04_momentum", "05_adagrad", "adam", "rmsprop", "nesterov", "overview"} <= set(made)
    assert {answer.figure for answer in paths.answers(ds)} <= set(made)
    for figure in made.values():
        figure.canvas.draw()
    line, cross = made["03_sgd"].axes[0].lines[::-1]
    places = np.stack(line.get_data(), -1)
    assert places.shape == (30, 2)
    np.testing.assert_allclose(places[0], [-7, 2])
    assert cross.get_marker() == "+"


def test_a_diverged_path_and_a_single_start_are_results(diverged):
    assert (diverged.diverged_at.sel(contender="sgd") > 0).all()
    assert (diverged.diverged_at.sel(contender="adam") == -1).all()
    assert np.isnan(diverged.steps_by_rate).any()
    assert {verdict.outcome for verdict in paths.verdicts(diverged)} <= {"depends"}
    assert all("not clearly more or fewer" in paths.answers(diverged)[i].answer for i in (0, 2))
    assert "1e+12" in paths.summary(diverged)
    for figure in paths.figures(diverged).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 0}, "--seeds is at least 1, not 0"),
        ({"steps": 1}, "--steps is at least 2, not 1"),
        ({"horizon": 19}, "--horizon is at least 20, not 19"),
        ({"rates": 1}, "--rates is at least 2, not 1"),
        ({"conditions": 0}, "--conditions is at least 2, not 0"),
        ({"decay": 0}, "--decay is at least 1, not 0"),
        ({"adam": -0.3}, "--adam is a learning rate above 0, not -0.3"),
        ({"sgd": float("nan")}, "--sgd is a learning rate above 0, not nan"),
        ({"alpha": 1.0}, "--alpha is at least 0 and below 1, not 1.0"),
        ({"condition": 0.9}, "--condition is at least 1, not 0.9"),
        ({"goal": 1.0}, "--goal is a share between 0 and 1, not 1.0"),
        ({"x": 0.0, "y": 0.0}, "--x and --y name a place other than the minimum"),
    ],
)
def test_bad_options_get_one_sentence(options, said):
    with pytest.raises(InputError, match=said):
        Config(**options).check()
