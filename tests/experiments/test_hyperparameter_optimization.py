"""The searches one by one, what is replayed on complete curves, and claims both ways."""

import importlib.util
import itertools
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.stats import kendalltau, spearmanr

from experiments.hyperparameters import _search, _searches
from experiments.hyperparameters import hyperparameter_optimization as experiment
from experiments.hyperparameters.hyperparameter_optimization import EXPERIMENT
from fnn import data, search
from fnn.base.errors import InputError
from fnn.search import study
from fnn.train import engine

SEARCHES = ("margin", "halving", "pbt")
TINY = experiment.Config(
    seeds=3,
    trials=20,
    epochs=5,
    short=3,
    rounds=2,
    each=10,
    startup=5,
    samplers=SEARCHES,
    dataset="mnist_5k",
)


@pytest.fixture(scope="module")
def measured():
    """All searches, tiny, on networks with two hidden layers of 20, which compile sooner than six of 100."""
    TINY.check()
    images = data.load("mnist_5k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search, "HIDDEN", (20, 20))
        _search._start_all.clear_cache()  # what was compiled for other networks
        ds = experiment.compare(TINY, images, experiment.tasks.splits(images), engine.seeds(TINY.seeds))
    _search._start_all.clear_cache()
    return ds.assign_attrs(short=TINY.short, budget=TINY.budget, each=TINY.each)


def curves(seeds=10, trials=20, epochs=10, *, fair=True, seed=0):
    """Random trials whose accuracies rise linearly; or, `unfair`, those with the highest ends start lowest."""
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
            "fresh_accuracy": (("seed", "trial"), accuracy[..., -1].copy()),
            "test_accuracy": ("seed", np.full(seeds, 0.5)),
            "diverged_at": (("seed", "trial"), np.full((seeds, trials), -1)),
        },
        {"seed": range(seeds), "trial": range(trials), "epoch": np.arange(1, epochs + 1)},
        {"dataset": "made up", "short": 4, "budget": 16, "each": 8},
    )


def with_searches(ds, better, fresh=None):
    """The same with searches of all kinds, better than random search's own trials in validation and on fresh images."""
    rng, budget, seeds = np.random.default_rng(1), ds.budget, ds.sizes["seed"]
    drawn = 0.1 + 0.5 * rng.uniform(size=(seeds, 3 * budget))
    dims = ("search", "seed", "proposed")
    fresh = better if fresh is None else fresh
    by_trials = lambda more: np.stack([drawn[:, :budget], *[drawn[:, :budget] + more] * 3])
    shrunk = np.broadcast_to(np.array(_search.EXPONENTS).T, (seeds, 3, 2, 2))
    return ds.assign(
        random_accuracy=(("seed", "drawn"), drawn),
        random_fresh=(("seed", "drawn"), drawn),
        search_accuracy=(dims, by_trials(better)),
        search_fresh=(dims, by_trials(fresh)),
        narrowing_range=(("seed", "round", "end", "axis"), shrunk),
        margin_range=(("seed", "round", "end", "axis"), shrunk),
        halving_accuracy=(("seed", "halving_bout"), drawn[:, :2] + better),
        halving_fresh=(("seed", "halving_bout"), drawn[:, :2] + fresh),
        halving_epochs=("halving_bout", [0.4 * budget * ds.short, 0.8 * budget * ds.short]),
    ).assign_coords(
        search=["random", "narrowing", "margin", "tpe"], axis=["lr", "l2"], end=["low", "high"], round=[1, 2, 3]
    )


def outcomes(ds):
    return {verdict.claim: verdict.outcome for verdict in EXPERIMENT.judge(ds)}


def test_every_search_starts_with_the_same_random_trials(measured):
    ds = measured
    assert list(ds.search.values) == ["random", *(name for name in SEARCHES if name not in _searches.PROGRAMS)]
    random = ds.search_accuracy.sel(search="random")
    np.testing.assert_array_equal(random, ds.random_accuracy[:, : ds.budget])
    for name, first in (("margin", 10),):
        one = ds.sel(search=name)
        np.testing.assert_array_equal(one.search_accuracy[:, :first], random[:, :first])
        np.testing.assert_array_equal(
            one.search_exponent[:, :first], ds.search_exponent.sel(search="random")[:, :first]
        )
        assert (one.search_exponent.sel(axis="lr") >= -6 - 1e-6).all()
        assert (one.search_exponent.sel(axis="l2") <= -4 + 1e-6).all()
    for form in ("margin",):
        np.testing.assert_allclose(
            ds[f"{form}_range"].isel(round=0), np.tile(_search.EXPONENTS, (3, 1, 1)).swapaxes(1, 2)
        )


def test_searches_inside_the_program_keep_to_the_budget_and_find_whole_trainings(measured):
    """Halving starts with the trials of random search, so its survivor is one of those that were trained to the end."""
    ds, budget = measured, TINY.budget * TINY.short
    for name in ("halving", "pbt"):
        epochs = ds[f"{name}_epochs"].values
        assert (np.diff(epochs, prepend=0) > 0).all()
        assert budget / 2 < epochs[-1] <= budget
        assert np.isfinite(ds[f"{name}_accuracy"]).all()
    for repetition in range(3):
        # 27 networks; the first 2 · budget settings are those of random search
        assert ds.halving_accuracy[repetition, 0] <= ds.random_accuracy[repetition, :27].max() + 0.011
        assert np.abs(ds.random_accuracy[repetition, :27] - ds.halving_accuracy[repetition, 0]).min() <= 0.011


def test_fresh_images_are_no_image_that_a_search_chooses_by(measured):
    """They differ, and are no help: no accuracy on 1,000 images is one on 100 images for all."""
    assert (measured.search_fresh != measured.search_accuracy).any()
    np.testing.assert_allclose(measured.search_fresh * 1000, (measured.search_fresh * 1000).round(), atol=1e-3)
    np.testing.assert_allclose(measured.search_accuracy * 100, (measured.search_accuracy * 100).round(), atol=1e-3)


def test_the_test_set_is_evaluated_once_for_the_same_choice(tmp_path, capsys):
    one, other = (_search.Setting(lr=np.full((2, 1), lr), l2=np.ones((2, 1))) for lr in (0.1, 0.2))
    assert experiment.recorded(tmp_path, one, lambda: [0.5, 0.25], again=False) == [0.5, 0.25]
    assert experiment.recorded(tmp_path, one, lambda: pytest.fail("it was evaluated"), again=False) == [0.5, 0.25]
    assert "that result is kept (--retest evaluates it again)" in capsys.readouterr().out
    assert experiment.recorded(tmp_path, other, lambda: [0.75, 0.75], again=False) == [0.75, 0.75]
    assert experiment.recorded(tmp_path, one, lambda: [0.5, 0.5], again=True) == [0.5, 0.5]
    assert [found["value"] for found in study.evaluations(tmp_path)] == [[0.5, 0.25], [0.75, 0.75], [0.5, 0.5]]


def test_an_interrupted_search_resumes_to_the_same_trials(tmp_path):
    """Of what was done, no round is trained again; with other options the folder is refused."""
    images, keys, trained = data.load("mnist_5k"), engine.seeds(2), []
    nothing = _searches.Found(np.empty((2, 0, 2)), np.empty((2, 0)), np.empty((2, 0)))

    def short(settings, keys):
        trained.append(settings.lr.shape)
        if len(trained) == stop:
            raise KeyboardInterrupt
        return {"validation_accuracy": settings.lr[..., None], "fresh_accuracy": settings.l2}

    def searched(folder, startup=5):
        cfg = experiment.Config(work=folder, startup=startup)
        kept = experiment.rounds(cfg, images, "evolution")
        return _searches.lockstep(search.evolution(2, 5), nothing, 5, 20, short, keys, kept)

    stop = 0
    whole = searched(None)
    trained, stop = [], 3
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path)
    again = searched(tmp_path)
    assert len(trained) == 3 + 2
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="options"):
        searched(tmp_path, startup=6)


def test_the_ranking_is_printed_as_in_the_book():
    lines = experiment.ranking(curves(2), 3)
    assert len(lines) == 4
    assert lines[1].startswith("Best-1(val acc:0.")
    assert "| lr:" in lines[1]
    rows = experiment.tables(curves(2))["ranking"]
    assert [(row["seed"], row["place"]) for row in rows] == [(s, p) for s in range(2) for p in range(1, 21)]
    for first, second in itertools.pairwise(rows[:20]):
        assert first["validation_accuracy"] >= second["validation_accuracy"]


def test_without_its_packages_a_search_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _searches.available(["tpe", "margin", "gp"]) == ["margin"]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Bayesian search (TPE) is left out: it needs optuna (pip install optuna).",
        "Bayesian search (GP) is left out: it needs optuna and torch (pip install optuna torch).",
    ]


NOTHING = search.History(np.empty((0, 2)), np.empty(0))


def test_only_a_margin_keeps_what_is_best_at_the_end_of_the_range():
    """Of many narrowings to trials that are better the larger the learning rate, the mean upper end."""
    ends = {margin: [] for margin in (False, True)}
    for seed, (margin, found) in itertools.product(range(200), ends.items()):
        points = search.narrowing(2, 15, margin=margin)(jax.random.key(seed), NOTHING, 15)
        ranges = search.ranges(2, 15, search.History(points, points[:, 0]), keep=_searches.KEPT, margin=margin)
        found.append(_searches.exponents(ranges[-1].T)[1, 0])
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
    fresh = np.array([[0.3, 0.5, 0.7, *[0.0] * 7]])
    ds = curves(1, 10, 4).assign(
        validation_accuracy=(("seed", "trial", "epoch"), accuracy), fresh_accuracy=(("seed", "trial"), fresh)
    )
    best_kept, lost = experiment.abandoned(ds)
    np.testing.assert_array_equal(best_kept, [[False, True, True, True]])
    np.testing.assert_allclose(lost, [[0.2, 0, 0, 0]], atol=1e-12)
    # After 1 of 4 epochs 8 of 10 trials stop: 10 · 1 + 2 · 3 of 40 epochs are trained.
    np.testing.assert_allclose(experiment.saved(ds), [1 - 16 / 40, 1 - 24 / 40, 1 - 32 / 40, 0])


def test_trials_needed_agree_with_random_orders():
    ds = with_searches(curves(3), 0.0)
    needed = experiment.trials_needed(ds)["random"]
    values, rng = ds.random_fresh.values, np.random.default_rng(0)
    target = [np.median([rng.permutation(mine)[: ds.budget].max() for _ in range(4001)]) for mine in values]
    for repetition in range(3):
        orders = np.stack([rng.permutation(values[repetition]) for _ in range(4000)])[:, : ds.budget]
        reached = orders >= target[repetition]
        first = np.where(reached.any(1), reached.argmax(1) + 1, ds.budget + 1)
        assert needed[repetition] == pytest.approx(first.mean(), abs=0.4)


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
    costs = "Abandoning the worst 80% of the trials after a fifth of the epochs costs less than a point"
    assert [outcomes(with_searches(curves(), 0.0))[claim] for claim in (ranks, best, costs)] == ["holds"] * 3
    assert [outcomes(with_searches(curves(fair=False), 0.0))[claim] for claim in (ranks, best, costs)] == [
        "does not hold"
    ] * 3


def test_searches_that_are_better_than_random_and_that_are_not():
    claims = (
        "Narrowing finds a better setting than random search for as many updates",
        "Narrowing with a margin finds a better setting than random search for as many updates",
        "Bayesian search (TPE) needs fewer trials than random search",
        "Bayesian search (TPE) finds a better setting than random search for as many updates",
        "Successive halving finds a better setting than random search for as many updates",
    )
    ds = curves()
    better, worse = outcomes(with_searches(ds, 0.5)), outcomes(with_searches(ds, -0.5))
    assert [better[claim] for claim in claims] == ["holds"] * 5
    assert [worse[claim] for claim in claims] == ["does not hold"] * 5


def test_a_search_that_fits_its_validation_images_only_is_no_better():
    found = outcomes(with_searches(curves(), 0.5, fresh=-0.1))
    claim = "finds a better setting than random search for as many updates"
    assert found[f"Narrowing {claim}"] == found[f"Successive halving {claim}"] == "does not hold"
    assert found["Bayesian search (TPE) needs fewer trials than random search"] == "does not hold"


def test_the_best_counts_from_when_its_bout_has_ended():
    ds = with_searches(curves(), 0.0)
    epochs, best = experiment.best_by_epochs(ds)["halving"]
    np.testing.assert_allclose(epochs, [0.4 * 16 * 4, 0.8 * 16 * 4])
    np.testing.assert_array_equal(best, np.maximum.accumulate(ds.halving_accuracy.values, 1))
    epochs, _ = experiment.best_by_epochs(ds)["tpe"]
    np.testing.assert_array_equal(epochs, 4 * np.arange(1, 17))


def test_a_trial_without_a_number_is_the_last_and_all_is_drawn():
    ds = with_searches(curves(2), 0.1)
    ds.validation_accuracy[0, 3] = np.nan
    ds["diverged_at"][0, 3] = 5
    panels = ds.validation_accuracy[1].rename(trial="place")
    ds = ds.assign(panel_validation=panels, panel_train=panels)
    assert experiment.tables(ds)["ranking"][19]["trial"] == 3
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()
    assert "1 run diverged" in experiment.about(ds)
    assert "random trials hit the best 5%" in experiment.summary(ds)


BAD: dict[str, dict[str, Any]] = {
    "--trials is at least 20, not 19": {"trials": 19},
    "--short is at most --epochs 50, not 51": {"short": 51},
    "--each is at least 10, not 9": {"each": 9},
    "--startup is 1 to 29, fewer than --rounds × --each, not 30": {"startup": 30},
    "--samplers takes all, or some of grid, sobol, .* pbt, not cma, nsga": {"samplers": ("cma", "tpe", "nsga")},
    "successive halving needs 54 epochs of networks, more than the 40": {
        "short": 4,
        "rounds": 1,
        "samplers": ("halving",),
    },
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_options_get_one_sentence(sentence):
    with pytest.raises(InputError, match=sentence):
        experiment.Config(**BAD[sentence]).check()


def test_no_sampler_is_a_choice_too():
    assert experiment.Config(samplers=()).names() == []
    assert experiment.Config(samplers=("gp", "tpe", "gp")).names() == ["gp", "tpe"]
    assert experiment.Config(samplers=("all",)).names() == list(_searches.SEARCHES)
