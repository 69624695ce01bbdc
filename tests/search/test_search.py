"""Searches: axes over the unit cube, samplers that are functions of what is known, and what each of them promises."""

import importlib.util

import jax
import numpy as np
import pytest

from fnn import search
from fnn.base.errors import InputError
from fnn.search import Choice, History, Linear, Log, Whole

SPACE = {"lr": Log(1e-6, 1e-2), "mu": Linear(0.5, 1.0), "units": Whole(1, 4), "rule": Choice(("sgd", "adam", "lion"))}
OPTUNA = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs optuna (extra `search`)")
KEY = jax.random.key(0)
NOTHING = History(np.empty((0, 2)), np.empty(0))


def hill(points):
    """A hill of height 0 at (0.3, 0.7)."""
    return -np.square(points - np.array([0.3, 0.7])).sum(-1)


def grown(sampler, n, at_once=1, key=KEY, value=hill, axes=2):
    """The history of n trials."""
    history = History(np.empty((0, axes)), np.empty(0))
    while len(history.values) < n:
        proposed = sampler(key, history, min(at_once, n - len(history.values)))
        if not len(proposed):
            break
        history = History(np.concatenate([history.points, proposed]), np.append(history.values, value(proposed)))
    return history


def test_axes_lie_over_the_unit_interval():
    unit = np.linspace(0, 1, 1001)[:, None].repeat(4, 1)
    found = search.settings(SPACE, unit)
    np.testing.assert_allclose(found["lr"][[0, 500, -1]], [1e-6, 1e-4, 1e-2], rtol=1e-12)
    np.testing.assert_allclose(found["mu"][[0, 500, -1]], [0.5, 0.75, 1.0])
    assert np.unique(found["units"], return_counts=True)[1].tolist() == [250, 250, 250, 251]
    assert sorted(set(found["rule"])) == [0, 1, 2]


def test_points_and_settings_are_each_others_inverse():
    unit = np.random.default_rng(0).uniform(size=(50, 4))
    there = search.settings(SPACE, unit)
    back = search.points(SPACE, there)
    np.testing.assert_allclose(back[:, :2], unit[:, :2], rtol=1e-9)
    for name, values in search.settings(SPACE, back).items():
        np.testing.assert_allclose(values, there[name], rtol=1e-9)


def test_settings_of_one_structure_are_one_group():
    found = search.settings(SPACE, np.random.default_rng(0).uniform(size=(40, 4)))
    groups = search.groups(SPACE, found)
    assert [group.chosen["rule"] for group in groups] == ["sgd", "adam", "lion"]
    assert sorted(np.concatenate([group.places for group in groups])) == list(range(40))
    for number, group in enumerate(groups):
        assert set(group.numbers) == {"lr", "mu", "units"}
        assert (found["rule"][group.places] == number).all()
        np.testing.assert_array_equal(group.numbers["lr"], found["lr"][group.places])
    (whole,) = search.groups({"lr": SPACE["lr"]}, {"lr": found["lr"]})
    assert whole.chosen == {}
    assert len(whole.places) == 40


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(1, 1), "from a lower to a higher"),
        (lambda: Linear(0, float("inf")), "finite ends"),
        (lambda: Log(0, 1), "begins above 0"),
        (lambda: Choice(("one",)), "at least 2 options"),
        (lambda: search.settings(SPACE, np.zeros((3, 2))), "4 axes need points of as many numbers"),
        (lambda: search.lattice((3, 0)), "at least one cell along each axis"),
        (lambda: search.quasi_random(2, "random"), "sobol or halton, not 'random'"),
        (lambda: search.narrowing(2, 1), "at least 2 trials"),
        (lambda: search.evolution(2, 0), "at least 1 parent"),
        (lambda: search.bayesian(2, "magic"), "tpe, gp, not 'magic'"),
    ],
)
def test_what_cannot_be_is_a_sentence(make, message):
    with pytest.raises(InputError, match=message):
        make()


SAMPLERS = {
    "uniform": lambda: search.uniform(2),
    "lattice": lambda: search.lattice((6, 10)),
    "sobol": lambda: search.quasi_random(2),
    "halton": lambda: search.quasi_random(2, "halton"),
    "narrowing": lambda: search.narrowing(2, 15),
    "evolution": lambda: search.evolution(2),
    "cmaes": lambda: search.cmaes(2, each=8),
    "tpe": lambda: search.bayesian(2, startup=8),
}


@pytest.fixture(params=[pytest.param(name, marks=OPTUNA) if name in ("tpe", "cmaes") else name for name in SAMPLERS])
def sampler(request):
    return SAMPLERS[request.param]()


def test_a_sampler_is_a_function_of_the_key_and_the_history(sampler):
    whole = grown(sampler, 40, at_once=8)
    again = grown(sampler, 40, at_once=8)
    np.testing.assert_array_equal(whole.points, again.points)
    resumed = sampler(KEY, History(whole.points[:32], whole.values[:32]), 8)
    np.testing.assert_array_equal(resumed, whole.points[32:])
    assert ((whole.points >= 0) & (whole.points <= 1)).all()
    assert len(np.unique(whole.points, axis=0)) == 40


@pytest.mark.parametrize(
    "name", ["uniform", "sobol", "halton", "lattice", "narrowing", pytest.param("cmaes", marks=OPTUNA)]
)
def test_points_do_not_depend_on_the_number_per_call(name):
    one, many = (grown(SAMPLERS[name](), 32, at_once=n).points for n in (1, 8))
    np.testing.assert_allclose(one, many, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["uniform", "sobol", "halton", "narrowing", "evolution", pytest.param("cmaes", marks=OPTUNA)]
)
def test_other_keys_other_trials(name):
    one, other = (grown(SAMPLERS[name](), 20, key=jax.random.key(seed)).points for seed in (0, 1))
    assert (np.abs(one - other).max(0) > 0.01).all()


def test_samplers_survive_networks_that_diverge(sampler):
    history = grown(sampler, 40, at_once=8, value=lambda p: np.where(p[:, 0] > 0.5, np.nan, hill(p)))
    assert len(history.values) == 40
    assert np.isfinite(history.points).all()


@pytest.mark.parametrize("make", [lambda: search.cmaes(2), lambda: search.bayesian(2)])
def test_a_missing_package_is_a_sentence(make, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"This search needs (cmaes|optuna): pip install"):
        make()


def test_a_grid_ends():
    history = grown(search.lattice((2, 3)), 100, at_once=4)
    np.testing.assert_allclose(history.points, [[x, y] for x in (0.25, 0.75) for y in (1 / 6, 0.5, 5 / 6)])


def test_quasi_random_points_fill_the_cube_more_evenly_than_chance():
    from scipy.stats import qmc

    random = qmc.discrepancy(grown(search.uniform(2), 64, 64).points)
    for kind in ("sobol", "halton"):
        assert qmc.discrepancy(grown(search.quasi_random(2, kind), 64, 64).points) < random / 5


@pytest.mark.parametrize("margin", [False, True])
def test_narrowing_closes_in_on_a_hill(margin):
    history = grown(search.narrowing(2, 20, margin=margin), 80, at_once=7)
    ranges = search.ranges(2, 20, history, margin=margin)
    assert len(ranges) == 5
    np.testing.assert_array_equal(ranges[0], [[0, 1], [0, 1]])
    widths = np.array([(r[:, 1] - r[:, 0]).max() for r in ranges])
    assert (widths[1:] < widths[:-1]).all()
    assert widths[-1] < 0.2
    for number in range(4):
        mine = history.points[20 * number : 20 * (number + 1)]
        assert (mine >= ranges[number][:, 0]).all()
        assert (mine <= ranges[number][:, 1]).all()


def test_a_range_is_that_of_the_best_and_its_mean_gap():
    points = np.array([[0.2, 0.1], [0.4, 0.5], [0.3, 0.9], [0.9, 0.9], [0.1, 0.1]])
    history = History(points, np.array([3.0, 2.0, 1.0, 0.0, np.nan]))
    (_, found) = search.ranges(2, 5, history, keep=0.6, margin=False)
    np.testing.assert_allclose(found, [[0.2, 0.4], [0.1, 0.9]])
    (_, wider) = search.ranges(2, 5, history, keep=0.6)
    np.testing.assert_allclose(wider, [[0.1, 0.5], [0.0, 1.0]])


def test_evolution_climbs_a_hill_from_the_best_so_far():
    history = grown(search.evolution(2, parents=4, step=0.05), 200, at_once=10)
    assert history.values.max() > -1e-3
    assert history.values[-50:].mean() > history.values[:50].mean() / 5
    rng = np.random.default_rng(0)
    known = History(rng.uniform(size=(30, 2)), rng.normal(size=30))
    children = search.evolution(2, parents=3, step=1e-9)(KEY, known, 100)
    best = known.points[np.argsort(-known.values)[:3]]
    assert np.abs(children[:, None] - best).max(-1).min(1).max() < 1e-6


def test_steps_beyond_an_end_come_back():
    known = History(np.array([[0.0, 1.0]]), np.zeros(1))
    children = search.evolution(2, parents=1, step=0.4)(KEY, known, 2000)
    assert ((children >= 0) & (children <= 1)).all()
    assert 0.2 < children[:, 0].mean() < 0.45
    assert 0.55 < children[:, 1].mean() < 0.8


@OPTUNA
def test_cmaes_closes_in_on_a_narrow_ridge():
    """Where only points along a diagonal are good, it learns the diagonal: better than evolution, which does not."""
    ridge = lambda p: -np.square(p[:, 0] - p[:, 1]) - 1e-2 * np.square(p.sum(1) - 1.6)
    best = {"cmaes": [], "evolution": []}
    for seed in range(10):
        for name in best:
            history = grown(SAMPLERS[name](), 120, at_once=8, key=jax.random.key(seed), value=ridge)
            best[name].append(history.values.max())
    assert np.median(best["cmaes"]) > -1e-5
    assert np.median(best["cmaes"]) > np.median(best["evolution"]) / 3


@OPTUNA
def test_tpe_beats_chance_on_a_hill():
    better = 0
    for seed in range(5):
        tpe, random = (grown(s, 50, 5, jax.random.key(seed)) for s in (search.bayesian(2), search.uniform(2)))
        np.testing.assert_array_equal(tpe.points[:10], random.points[:10])
        better += tpe.values.max() > random.values.max()
    assert better >= 4


def test_ranking_keeps_the_order_of_equals_and_puts_no_number_last():
    np.testing.assert_array_equal(search.ranked(np.array([0.5, np.nan, 0.7, 0.5, -np.inf])), [2, 0, 3, 1, 4])
