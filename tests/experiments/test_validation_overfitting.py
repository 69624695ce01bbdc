"""The best of K trials: exact expectations, theory by simulation, the experiment at tiny size, claims both ways."""

import itertools
from math import comb, pi, sqrt

import jax
import numpy as np
import pytest

from experiments.hyperparameters import validation_overfitting as experiment
from experiments.hyperparameters.validation_overfitting import BLOCK, EXPERIMENT, Config, Pool
from fnn import data, tasks
from fnn.base.errors import InputError


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_chances_count_the_choices(k):
    counted = np.bincount([max(c) for c in itertools.combinations(range(8), k)], minlength=8) / comb(8, k)
    np.testing.assert_allclose(experiment.chances(8, k), counted, rtol=1e-12, atol=1e-15)


def test_chances_of_many_trials_do_not_overflow():
    np.testing.assert_allclose([experiment.chances(2000, k).sum() for k in (1, 900, 2000)], 1, rtol=1e-9)


def test_the_best_of_k_is_the_mean_over_all_choices_with_ties_drawn_by_lot():
    rng = np.random.default_rng(0)
    validation, test = rng.integers(0, 3, 7) / 10, rng.random(7)
    ks = np.array([1, 3, 4, 7])

    def by_hand(k):
        best = []
        for chosen in map(list, itertools.combinations(range(7), k)):
            top = validation[chosen].max()
            best.append((top, test[chosen][validation[chosen] == top].mean()))
        return np.mean(best, 0)

    np.testing.assert_allclose(np.transpose(experiment.selected(validation, test, ks)), [by_hand(k) for k in ks])


def test_largest_of_k_normals():
    expected = [0, 1 / sqrt(pi), 3 / (2 * sqrt(pi)), 6 / sqrt(pi) * np.arctan(sqrt(2)) / pi]
    np.testing.assert_allclose(experiment.largest_of(np.arange(1, 5)), expected, rtol=1e-9, atol=1e-12)
    # Blom's approximation is good to half a percent here: Blom 1958, α = 0.375.
    from scipy.special import ndtri

    assert experiment.largest_of(np.array([1000]))[0] == pytest.approx(ndtri((1000 - 0.375) / 1000.25), rel=5e-3)


def made_up(seeds, trials, true, noise, images, rng, blocks=4):
    """Trials whose true accuracies and noise are normal, and whose images are easier or harder for all alike."""
    accuracy = 0.7 + sqrt(true) * rng.normal(size=(seeds, trials, 1))

    def measured(parts, each):
        own = sqrt(noise / each) * rng.normal(size=(seeds, trials, parts))
        return accuracy + own + 0.05 * rng.normal(size=(seeds, 1, parts))

    return Pool(measured(blocks, BLOCK), measured(2, images // 2))


def test_the_variances_are_found_again():
    pool = made_up(200, 50, 4e-4, 0.1, 1000, np.random.default_rng(1))
    noise, true = experiment.spreads(pool.test, 500)
    assert noise == pytest.approx(0.1, rel=0.05)
    assert true == pytest.approx(4e-4, rel=0.05)


def test_theory_agrees_with_simulation():
    pool = made_up(3000, 20, 4e-4, 0.1, 100_000, np.random.default_rng(2))
    found = experiment.best(pool, 100)
    expected = 100 * experiment.optimism_of_equals(found.ks, 100, 0.1, 4e-4)
    # What is easy for all alike moves single seeds, by 5 points / √2 here, and not the mean.
    np.testing.assert_allclose(found.optimism.mean(0), expected, atol=4 * 100 * 0.06 / sqrt(3000))
    assert (np.diff(found.optimism.mean(0)) > 0).all()


def test_a_larger_set_is_a_mean_over_disjoint_ones():
    pool = made_up(1, 5, 1e-3, 0.2, 100, np.random.default_rng(3))
    halves = pool.validation.reshape(1, 5, 2, 2).mean(-1)
    by_hand = [100 * halves[0, :, i].max() for i in (0, 1)]
    assert experiment.best(pool, 2 * BLOCK).validation[0, -1] == pytest.approx(np.mean(by_hand))
    assert experiment.best(pool, 4 * BLOCK).validation[0, -1] == pytest.approx(100 * pool.validation.mean(-1).max())


def test_a_seeds_images_are_its_own_and_do_not_overlap():
    everything = experiment.pooled(data.load("mnist_5k"))
    assert len(everything.y) == 5000
    numbered = everything._replace(y=np.arange(5000))
    one, other = (experiment.draw(jax.random.key(seed), numbered, 100, 50) for seed in (0, 1))
    picked = np.concatenate([np.asarray(part.y) for part in one.values()])
    assert {name: len(part.y) for name, part in one.items()} == {"train": 400, "validation": 100, "test": 50}
    assert len(set(picked.tolist())) == len(picked) == 550
    np.testing.assert_array_equal(one["test"].x, np.asarray(everything.x)[one["test"].y])
    assert set(np.asarray(one["train"].y).tolist()) != set(np.asarray(other["train"].y).tolist())


TINY = Config(seeds=2, trials=4, equals=3, epochs=1, sizes=(50, 100), test=40, dataset="mnist_5k")


@pytest.fixture(scope="module")
def tiny():
    return EXPERIMENT.run(TINY)


def test_the_experiment_at_tiny_size(tiny):
    assert dict(tiny.validation.sizes) == {"seed": 2, "trial": 4, "block": 2}
    assert dict(tiny.equal_test.sizes) == {"seed": 2, "equal": 3, "half": 2}
    assert (tiny.diverged == 0).all()
    # Every random trial has a different setting, and equal trials differ too.
    assert len(np.unique(tiny.lr)) == 8
    assert ((tiny.lr >= 1e-6) & (tiny.lr <= 1e-2)).all()
    assert (np.ptp(np.concatenate([tiny.equal_validation, tiny.equal_test], -1), axis=1) > 0).any(-1).all()
    for name in ("validation", "test", "equal_validation", "equal_test"):
        assert ((tiny[name] >= 0) & (tiny[name] <= 1)).all()


def synthetic(tiny, luck, quality):
    """Forty seeds: validation is the test accuracy plus luck on `luck`-sized noise, quality spread on test."""
    rng = np.random.default_rng(4)
    ds = tiny.isel(seed=np.arange(40) % 2, trial=np.arange(20) % 4, equal=np.arange(20) % 3)
    ds = ds.assign_coords(seed=range(40), trial=range(20), equal=range(20))
    for prefix, spread in (("", quality), ("equal_", 0.0)):
        true = 0.6 + spread * rng.normal(size=(40, 20, 1))
        values = {"test": true + 1e-4 * rng.normal(size=(40, 20, 2))}
        values["validation"] = true + luck * rng.normal(size=(40, 20, 2)) + (0.0 if luck else -0.02)
        ds = ds.assign({f"{prefix}{name}": (ds[f"{prefix}{name}"].dims, one) for name, one in values.items()})
    return ds


def test_verdicts_both_ways(tiny):
    lucky = EXPERIMENT.judge(synthetic(tiny, 0.05, 0.02))
    assert [v.outcome for v in lucky] == ["holds"] * 5
    answer = EXPERIMENT.answer(synthetic(tiny, 0.05, 0.02))[0].answer
    assert answer.startswith("Yes")
    assert "luck" in answer
    assert "the search helps" in answer
    # Validation that errs on the low side by the same for all: no optimism, nothing that grows or shrinks.
    exact = EXPERIMENT.judge(synthetic(tiny, 0.0, 0.02))
    assert exact[0].outcome == exact[2].outcome == "does not hold"
    assert exact[1].outcome != "holds"
    assert exact[4].outcome != "holds"
    answer = EXPERIMENT.answer(synthetic(tiny, 0.0, 0.02))[0].answer
    assert answer.startswith("Not here")
    assert "luck" not in answer
    assert "the search helps" not in answer


def test_diverged_trials_are_counted(tiny):
    ds = tiny.copy(deep=True)
    ds["diverged"][0, 2] = 1
    assert "1 diverged trial," in experiment.about(ds)


BAD = {
    "trials": (1, "--trials is at least 2, not 1"),
    "equals": (1, "--equals is at least 2, not 1"),
    "epochs": (0, "--epochs is at least 1, not 0"),
    "test": (51, "--test is an even number, not 51"),
    "sizes": ((50, 75), "--sizes are multiples of 50, not 75"),
    "optimizer": ("adma", "There is no optimizer 'adma'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_get_one_sentence(name):
    value, sentence = BAD[name]
    with pytest.raises(InputError, match=sentence):
        Config(**{name: value}).check()


def test_more_images_than_there_are():
    with pytest.raises(InputError, match="--sizes and --test need 5,400 images per seed, and mnist_5k has 5,000"):
        EXPERIMENT.run(Config(dataset="mnist_5k", sizes=(50, 4000)))


def test_the_population_is_both_parts_of_the_data_set():
    images = data.load("mnist_5k")
    parts = tasks.splits(images)
    everything = experiment.pooled(images)
    np.testing.assert_array_equal(everything.y[:4000], parts["train"].y)
    np.testing.assert_array_equal(everything.x[4000:], parts["test"].x)
