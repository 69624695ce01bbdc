"""The searches one by one, what is replayed on complete curves, verdicts both ways, and the experiment whole."""

import importlib.util
import itertools
import types
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.stats import kendalltau, spearmanr

from experiments import _search
from experiments import hyperparameter_optimization as experiment
from fnn import search
from fnn.errors import InputError

OPTUNA = importlib.util.find_spec("optuna") is not None
IMAGES: Any = types.SimpleNamespace(name="made up", checksum="none", source="nowhere")
TINY = experiment.Config(seeds=2, trials=20, epochs=5, short=2, rounds=2, each=10, startup=5, dataset="mnist_5k")


@pytest.fixture(scope="module")
def measured():
    """The experiment, tiny."""
    TINY.check()
    return experiment.run(TINY)


def curves(seeds=10, trials=20, epochs=10, *, fair=True, seed=0):
    """Random trials whose accuracies climb evenly to their ends; or, unfairly, those that end high begin low."""
    rng = np.random.default_rng(seed)
    unit = rng.uniform(size=(seeds, trials, 2))
    final = 0.1 + 0.8 * unit[..., :1] ** 2
    progress = np.linspace(0.1, 1, epochs)
    accuracy = final * progress if fair else np.where(progress < 0.8, 0.9 - final, final)
    settings = _search.setting(unit)
    return xr.Dataset(
        {
            "lr": (("seed", "trial"), settings.lr),
            "l2": (("seed", "trial"), settings.l2),
            "validation_accuracy": (("seed", "trial", "epoch"), accuracy),
            "diverged_at": (("seed", "trial"), np.full((seeds, trials), -1)),
        },
        {"seed": range(seeds), "trial": range(trials), "epoch": np.arange(1, epochs + 1)},
        {"dataset": "made up", "short": 4, "budget": 16, "startup": 5, "each": 8},
    )


def with_searches(ds, accuracy):
    """The same with narrowing and Bayesian searches that find `accuracy` `[S, asked]` above the random trials' own."""
    values = ds.validation_accuracy.sel(epoch=ds.short).values[:, : ds.budget] + accuracy
    ranges = np.broadcast_to(np.array(_search.EXPONENTS), (2, ds.sizes["seed"], 3, 2, 2))
    return ds.assign(
        search_accuracy=(("search", "seed", "asked"), np.stack([values] * 3)),
        range=(("form", "seed", "round", "axis", "end"), ranges),
    ).assign_coords(
        search=["narrowing", "margin", "tpe"], form=list(experiment.NARROWING), axis=["lr", "l2"], end=["low", "high"]
    )


def outcomes(ds):
    return {verdict.claim: verdict.outcome for verdict in experiment.verdicts(ds)}


def test_the_experiment_whole(measured):
    ds = measured
    assert dict(ds.validation_accuracy.sizes) == {"seed": 2, "trial": 20, "epoch": 5}
    assert ds.attrs["complete"] == 1
    assert (ds.diverged_at == -1).all()
    assert (ds.test_accuracy > 0).all()
    # The best is trained again from the same start: an image more or less is rounding.
    best = ds.validation_accuracy.isel(seed=0, epoch=-1).max()
    assert float(ds.panel_validation[0, -1]) == pytest.approx(float(best), abs=0.02)
    for figure in experiment.figures(ds).values():
        figure.canvas.draw()
    assert {"20_best_curves", "20_best_curves_all_seeds", "searches", "narrowing"} <= set(experiment.figures(ds))
    assert len(experiment.verdicts(ds)) == 7 + 2 * OPTUNA
    assert "random trials hit the best 5%" in experiment.summary(ds)


def test_every_search_begins_with_the_seeds_own_random_trials(measured):
    ds = measured
    assert list(ds.search.values) == ["narrowing", "margin", "evolution", *["tpe"] * OPTUNA]
    random = ds.validation_accuracy.sel(epoch=2).values
    for name, first in (("narrowing", 10), ("margin", 10), ("evolution", 5), *[("tpe", 5)] * OPTUNA):
        np.testing.assert_array_equal(ds.search_accuracy.sel(search=name)[:, :first], random[:, :first])
        exponents = ds.search_exponent.sel(search=name)
        np.testing.assert_allclose(10 ** exponents.sel(axis="lr")[:, :first], ds.lr[:, :first], rtol=1e-5)
        assert (exponents.sel(axis="lr") >= -6 - 1e-6).all()
        assert (exponents.sel(axis="l2") <= -4 + 1e-6).all()
    np.testing.assert_allclose(ds.range.isel(round=0), np.broadcast_to(_search.EXPONENTS, (2, 2, 2, 2)))


def test_the_ranking_is_printed_as_in_the_book(measured):
    lines = experiment.ranking(measured, 3)
    assert len(lines) == 4
    assert lines[1].startswith("Best-1(val acc:0.")
    assert "| lr:" in lines[1]
    rows = experiment.tables(measured)["ranking"]
    assert [(row["seed"], row["place"]) for row in rows] == [(s, p) for s in range(2) for p in range(1, 21)]
    for first, second in itertools.pairwise(rows[:20]):
        assert first["validation_accuracy"] >= second["validation_accuracy"]


def test_one_seed_alone_decides_nothing(measured):
    one = measured.isel(seed=slice(1))
    assert set(outcomes(one).values()) == {"depends"}
    for figure in experiment.figures(one).values():
        figure.canvas.draw()


def test_an_interrupt_leaves_random_search_and_what_can_be_said_of_it(measured):
    cut = experiment.label(
        TINY,
        IMAGES,
        experiment.chosen(measured.isel(seed=slice(1)), 20),
        {
            "validation_accuracy": measured.validation_accuracy.values[:1],
            "diverged_at": measured.diverged_at.values[:1],
        },
    )
    assert len(experiment.verdicts(cut)) == 3
    assert set(experiment.figures(cut)) == {
        "trials",
        "best_so_far",
        "short_training",
        "sixty_trials",
        "20_best_curves_all_seeds",
    }
    assert "test accuracy" not in experiment.summary(cut)


def test_without_optuna_the_bayesian_part_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert experiment.available(["tpe", "gp"]) == []
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Bayesian (TPE) search is left out: it needs optuna (extra `search`).",
        "Bayesian (GP) search is left out: it needs optuna and torch (extra `search`).",
    ]


NOTHING = search.History(np.empty((0, 2)), np.empty(0))


def test_only_a_margin_keeps_what_is_best_at_the_end_of_the_range():
    """Of many narrowings to trials that are better the larger the learning rate, the mean upper end."""
    ends = {margin: [] for margin in (False, True)}
    for seed, (margin, found) in itertools.product(range(200), ends.items()):
        points = search.narrowing(2, 15, margin=margin)(jax.random.key(seed), NOTHING, 15)
        ranges = search.ranges(2, 15, search.History(points, points[:, 0]), keep=experiment.KEPT, margin=margin)
        found.append(experiment.exponents(ranges[-1].T)[1, 0])
    assert np.mean(ends[False]) == pytest.approx(-6 + 4 * 15 / 16, abs=0.05)  # the expected largest of 15
    assert (np.array(ends[True]) >= ends[False]).all()
    assert np.mean(ends[True]) > -2.15


def test_rank_correlations_are_scipys():
    accuracy = np.random.default_rng(0).integers(5, size=(2, 20, 3)) / 5
    ds = curves(2, epochs=3).assign(validation_accuracy=(("seed", "trial", "epoch"), accuracy))
    found = experiment.rank_correlations(ds)
    for seed in range(2):
        for epoch in range(3):
            now, end = accuracy[seed, :, epoch], accuracy[seed, :, -1]
            assert found["Spearman's ρ"][seed, epoch] == pytest.approx(spearmanr(now, end)[0], abs=1e-12)
            assert found["Kendall's τ"][seed, epoch] == pytest.approx(kendalltau(now, end)[0], abs=1e-12)
    flat = ds.assign(validation_accuracy=ds.validation_accuracy * 0)
    assert all((values == 0).all() for values in experiment.rank_correlations(flat).values())


def test_abandonment_by_hand():
    """10 trials, of which the best 2 go on: the first epoch keeps trials 0 and 1, the second 1 and 2, the best."""
    accuracy = np.zeros((1, 10, 4))
    accuracy[0, :3, 0] = 0.5, 0.4, 0.3
    accuracy[0, :3, 1] = 0.3, 0.4, 0.5
    accuracy[0, :3, 2:] = np.array([0.2, 0.6, 0.9])[:, None]
    ds = curves(1, 10, 4).assign(validation_accuracy=(("seed", "trial", "epoch"), accuracy))
    best_kept, lost = experiment.abandoned(ds)
    np.testing.assert_array_equal(best_kept, [[False, True, True, True]])
    np.testing.assert_allclose(lost, [[0.3, 0, 0, 0]], atol=1e-12)
    # After 1 of 4 epochs 8 of 10 trials stop: 10 · 1 + 2 · 3 of 40 epochs are trained.
    np.testing.assert_allclose(experiment.saved(ds), [1 - 16 / 40, 1 - 24 / 40, 1 - 32 / 40, 0])


def test_trials_needed_agree_with_random_orders():
    ds = curves(3)
    needed = experiment.trials_needed(ds)["random"]
    values, rng = experiment.random_values(ds), np.random.default_rng(0)
    target = [np.median([rng.permutation(mine)[: ds.budget].max() for _ in range(4001)]) for mine in values]
    for seed in range(3):
        orders = np.stack([rng.permutation(values[seed]) for _ in range(4000)])[:, : ds.budget]
        reached = orders >= target[seed]
        first = np.where(reached.any(1), reached.argmax(1) + 1, ds.budget + 1)
        assert needed[seed] == pytest.approx(first.mean(), abs=0.4)


def test_hits_are_the_rule_of_thumbs_and_ties_help():
    ds = curves(2, 100, 5)
    k = np.arange(1, 101)
    np.testing.assert_allclose(experiment.hits(ds), np.tile(1 - 0.95**k, (2, 1)), atol=0.02)
    np.testing.assert_allclose(1 - (1 - experiment.TOP) ** experiment.DRAWN, 0.9539, atol=1e-4)
    coarse = ds.assign(validation_accuracy=ds.validation_accuracy.round(1))
    assert (experiment.hits(coarse)[:, 20] > experiment.hits(ds)[:, 20]).all()


def test_short_training_that_ranks_alike_and_that_does_not():
    ranks = "Short training ranks trials as long training does: Spearman's ρ is above 0.9"
    best = "Short training ranks the final best 20% of the trials as long training does: Spearman's ρ is above 0.9"
    costs = "Abandoning the worst 80% of the trials after 2 of 10 epochs costs less than a point"
    assert [outcomes(curves())[claim] for claim in (ranks, best, costs)] == ["holds"] * 3
    assert [outcomes(curves(fair=False))[claim] for claim in (ranks, best, costs)] == ["does not hold"] * 3


def test_searches_that_are_better_than_random_and_that_are_not():
    claims = (
        "Repeated narrowing finds a better setting than random search in as many trials",
        "Repeated narrowing with a margin finds a better setting than random search in as many trials",
        "Bayesian (TPE) search needs fewer trials than random search",
        "Bayesian (TPE) search is ahead of random search at equal numbers of trials",
    )
    ds = curves()
    better, worse = outcomes(with_searches(ds, 0.5)), outcomes(with_searches(ds, -0.3))
    assert [better[claim] for claim in claims] == ["holds"] * 4
    assert [worse[claim] for claim in claims] == ["does not hold"] * 4


def test_a_trial_without_a_number_is_the_last():
    ds = curves(2)
    ds.validation_accuracy[0, 3] = np.nan
    ds["diverged_at"][0, 3] = 5
    assert experiment.tables(ds)["ranking"][19]["trial"] == 3
    for figure in experiment.figures(ds).values():
        figure.canvas.draw()
    assert "1 diverged run" in experiment.about(ds)


BAD: dict[str, dict[str, Any]] = {
    "--trials is at least 20, not 19": {"trials": 19},
    "--epochs is at least 5, not 4": {"epochs": 4},
    "--short is 1 to --epochs 50, not 51": {"short": 51},
    "--rounds is at least 1, not 0": {"rounds": 0},
    "--each is at least 10, not 9": {"each": 9},
    "--rounds × --each is at most --trials 100, not 105": {"rounds": 7},
    "--startup is 1 to 44, fewer than --rounds × --each, not 45": {"startup": 45},
    "--samplers names tpe and gp, not cma, nsga": {"samplers": "cma,tpe,nsga"},
    "--seeds is at least 1, not 0": {"seeds": 0},
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_options_get_one_sentence(sentence):
    with pytest.raises(InputError, match=sentence):
        experiment.Config(**BAD[sentence]).check()


def test_no_sampler_is_a_choice_too():
    assert experiment.Config(samplers="").names() == []
    assert experiment.Config(samplers="gp, tpe,gp").names() == ["gp", "tpe"]
