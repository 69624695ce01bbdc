"""The searches one by one, what is replayed on complete curves, verdicts both ways, and the experiment whole."""

import dataclasses
import importlib.util
import itertools
import types
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.stats import kendalltau, spearmanr

from experiments import hyperparameter_optimization as experiment
from experiments.hyperparameters import _search
from fnn import search
from fnn.base.errors import InputError
from fnn.search import study

OPTUNA = importlib.util.find_spec("optuna") is not None
IMAGES: Any = types.SimpleNamespace(name="made up", checksum="none", source="nowhere")
SEARCHES = ("grid", "sobol", "narrowing", "margin", "evolution", *["cmaes", "tpe"] * OPTUNA, *experiment.PROGRAMS)
TINY = experiment.Config(
    seeds=2,
    trials=20,
    epochs=5,
    repetitions=3,
    short=3,
    rounds=2,
    each=10,
    startup=5,
    samplers=",".join(SEARCHES),
    dataset="mnist_5k",
)


@pytest.fixture(scope="module")
def measured():
    """The experiment, tiny, on networks with two hidden layers of 20, which compile sooner than six of 100."""
    TINY.check()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search, "HIDDEN", (20, 20))
        _search._begin_all.clear_cache()  # what was compiled for other networks
        ds = experiment.run(TINY)
    _search._begin_all.clear_cache()
    return ds


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


def with_searches(ds, accuracy, repetitions=10):
    """The same with searches of all kinds, which find `accuracy` above random search's own trials."""
    rng, budget = np.random.default_rng(1), ds.budget
    drawn = 0.1 + 0.5 * rng.uniform(size=(repetitions, 3 * budget))
    trials = np.stack([drawn[:, :budget], *[drawn[:, :budget] + accuracy] * 3])
    shrunk = np.broadcast_to(np.array(_search.EXPONENTS).T, (repetitions, 3, 2, 2))
    dims = ("repetition", "round", "end", "axis")
    return ds.assign(
        random_accuracy=(("repetition", "drawn"), drawn),
        search_accuracy=(("search", "repetition", "asked"), trials),
        narrowing_range=(dims, shrunk),
        margin_range=(dims, shrunk),
        halving_accuracy=(("repetition", "halving_bout"), drawn[:, :2] + accuracy),
        halving_epochs=("halving_bout", [0.4 * budget * ds.short, 0.8 * budget * ds.short]),
    ).assign_coords(search=["random", "narrowing", "margin", "tpe"], axis=["lr", "l2"], end=["low", "high"])


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
    drawn = {"20_best_curves", "20_best_curves_all_seeds", "searches", "searches_by_updates", "narrowing"}
    assert drawn | {"parallel", "slices", "surface", *["importance"] * OPTUNA} <= set(experiment.figures(ds))
    by_trials = ("evolution", *["cmaes", "tpe"] * OPTUNA)
    assert len(experiment.verdicts(ds)) == 3 + len(SEARCHES) + len(by_trials)
    assert "random trials hit the best 5%" in experiment.summary(ds)


def test_every_search_begins_with_the_same_random_trials(measured):
    ds = measured
    assert list(ds.search.values) == ["random", *(name for name in SEARCHES if name not in experiment.PROGRAMS)]
    random = ds.search_accuracy.sel(search="random")
    np.testing.assert_array_equal(random, ds.random_accuracy[:, : ds.budget])
    for name, first in (("narrowing", 10), ("margin", 10), ("evolution", 5), *[("tpe", 5)] * OPTUNA):
        one = ds.sel(search=name)
        np.testing.assert_array_equal(one.search_accuracy[:, :first], random[:, :first])
        np.testing.assert_array_equal(
            one.search_exponent[:, :first], ds.search_exponent.sel(search="random")[:, :first]
        )
        assert (one.search_exponent.sel(axis="lr") >= -6 - 1e-6).all()
        assert (one.search_exponent.sel(axis="l2") <= -4 + 1e-6).all()
    for form in experiment.NARROWING:
        np.testing.assert_allclose(
            ds[f"{form}_range"].isel(round=0), np.tile(_search.EXPONENTS, (3, 1, 1)).swapaxes(1, 2)
        )


def test_searches_inside_the_program_keep_to_the_budget_and_find_whole_trainings(measured):
    """Halving begins with the trials of random search, so what survives is one of those that were trained whole."""
    ds, budget = measured, TINY.budget * TINY.short
    for name in experiment.PROGRAMS:
        epochs = ds[f"{name}_epochs"].values
        assert (np.diff(epochs, prepend=0) > 0).all()
        assert budget / 2 < epochs[-1] <= budget
        assert np.isfinite(ds[f"{name}_accuracy"]).all()
    for repetition in range(3):
        # 27 networks; the first 2 · budget settings are those of random search
        assert ds.halving_accuracy[repetition, 0] <= ds.random_accuracy[repetition, :27].max() + 0.011
        assert np.abs(ds.random_accuracy[repetition, :27] - ds.halving_accuracy[repetition, 0]).min() <= 0.011


def test_the_test_set_is_looked_at_once_for_the_same_choice(tmp_path, capsys):
    cfg = dataclasses.replace(TINY, out=tmp_path, checkpoint=20.0)
    one, other = (_search.Setting(lr=np.full((2, 1), lr), l2=np.ones((2, 1))) for lr in (0.1, 0.2))
    assert experiment.tested(cfg, one, lambda: [0.5, 0.25]) == [0.5, 0.25]
    assert experiment.tested(cfg, one, lambda: pytest.fail("it was evaluated")) == [0.5, 0.25]
    assert "what it gave stands (--retest evaluates it again)" in capsys.readouterr().out
    assert experiment.tested(cfg, other, lambda: [0.75, 0.75]) == [0.75, 0.75]
    assert experiment.tested(dataclasses.replace(cfg, retest=True), one, lambda: [0.5, 0.5]) == [0.5, 0.5]
    told = study.evaluations(tmp_path / "hyperparameter_optimization")
    assert [look["value"] for look in told] == [[0.5, 0.25], [0.75, 0.75], [0.5, 0.5]]
    assert experiment.tested(dataclasses.replace(cfg, checkpoint=None), one, lambda: [1.0, 1.0]) == [1.0, 1.0]


def test_searches_that_are_done_are_not_done_again(tmp_path, monkeypatch):
    cfg = dataclasses.replace(TINY, repetitions=2, samplers="grid,pbt", out=tmp_path, checkpoint=20.0)
    rng, begun = np.random.default_rng(0), []

    def lockstep(sampler, begin, at_a_time, budget, short, keys):
        begun.append(budget)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return [search.History(rng.uniform(size=(budget, 2)), rng.uniform(size=budget)) for _ in keys]

    def bouts(cfg, images, name, keys):
        begun.append(name)
        return {"epochs": np.arange(1, 4), "best": rng.uniform(size=(len(keys), 3))}

    monkeypatch.setattr(experiment, "lockstep", lockstep)
    monkeypatch.setattr(experiment, "bouts", bouts)
    monkeypatch.setattr(_search, "trainer", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        experiment.compare(cfg, IMAGES)
    done = experiment.compare(cfg, IMAGES)
    assert begun == [2 * cfg.budget, cfg.budget, cfg.budget, "pbt"]
    xr.testing.assert_identical(experiment.compare(cfg, IMAGES), done)
    assert len(begun) == 4
    with pytest.raises(InputError, match="options"):
        experiment.compare(dataclasses.replace(cfg, startup=6), IMAGES)


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
    one = measured.isel(seed=slice(1), repetition=slice(1))
    assert set(outcomes(one).values()) == {"undecided"}
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
        "parallel",
        "slices",
        "surface",
        *["importance"] * OPTUNA,
    }
    assert "test accuracy" not in experiment.summary(cut)


def test_without_its_packages_a_search_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert experiment.available(["tpe", "margin", "gp"]) == ["margin"]
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
    ds = with_searches(curves(3), 0.0, repetitions=3)
    needed = experiment.trials_needed(ds)["random"]
    values, rng = ds.random_accuracy.values, np.random.default_rng(0)
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
    costs = "Abandoning the worst 80% of the trials after 2 of 10 epochs costs less than a point"
    assert [outcomes(curves())[claim] for claim in (ranks, best, costs)] == ["holds"] * 3
    assert [outcomes(curves(fair=False))[claim] for claim in (ranks, best, costs)] == ["does not hold"] * 3


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


def test_the_best_counts_from_when_its_bout_has_ended():
    ds = with_searches(curves(), 0.0)
    epochs, best = experiment.best_by_epochs(ds)["halving"]
    np.testing.assert_allclose(epochs, [0.4 * 16 * 4, 0.8 * 16 * 4])
    np.testing.assert_array_equal(best, np.maximum.accumulate(ds.halving_accuracy.values, 1))
    epochs, _ = experiment.best_by_epochs(ds)["tpe"]
    np.testing.assert_array_equal(epochs, 4 * np.arange(1, 17))


def test_a_trial_without_a_number_is_the_last():
    ds = curves(2)
    ds.validation_accuracy[0, 3] = np.nan
    ds["diverged_at"][0, 3] = 5
    assert experiment.tables(ds)["ranking"][19]["trial"] == 3
    for figure in experiment.figures(ds).values():
        figure.canvas.draw()
    assert "1 run diverged" in experiment.about(ds)


BAD: dict[str, dict[str, Any]] = {
    "--trials is at least 20, not 19": {"trials": 19},
    "--epochs is at least 5, not 4": {"epochs": 4},
    "--short is 1 to --epochs 50, not 51": {"short": 51},
    "--rounds is at least 1, not 0": {"rounds": 0},
    "--each is at least 10, not 9": {"each": 9},
    "--startup is 1 to 29, fewer than --rounds × --each, not 30": {"startup": 30},
    "--repetitions is at least 1, not 0": {"repetitions": 0},
    "--samplers takes all, or some of grid, sobol, .* pbt, not cma, nsga": {"samplers": "cma,tpe,nsga"},
    "successive halving needs 54 epochs of networks, more than the 40": {
        "short": 4,
        "rounds": 1,
        "samplers": "halving",
    },
    "--seeds is at least 1, not 0": {"seeds": 0},
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_options_get_one_sentence(sentence):
    with pytest.raises(InputError, match=sentence):
        experiment.Config(**BAD[sentence]).check()


def test_no_sampler_is_a_choice_too():
    assert experiment.Config(samplers="").names() == []
    assert experiment.Config(samplers="gp, tpe,gp").names() == ["gp", "tpe"]
    assert experiment.Config(samplers="all").names() == [name for name in experiment.TITLES if name != "random"]
