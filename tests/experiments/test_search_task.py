"""The notes' search task: its space, its exact combinatorics, and trials × seeds against runs trained alone."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.hyperparameters import _search
from fnn import data, models, optim, tasks, train
from fnn.optim.sgd import Hyper as Sgd
from fnn.optim.sgd import sgd
from fnn.train import engine


class WithMomentum(NamedTuple):
    lr: Any
    l2: Any
    mu: Any


@pytest.fixture(scope="module")
def images():
    return data.load("mnist_5k")


def test_the_unit_square_lies_over_the_notes_ranges():
    corners = _search.setting(np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]]))
    np.testing.assert_allclose(corners.lr, [1e-6, 1e-2, 1e-4], rtol=1e-12)
    np.testing.assert_allclose(corners.l2, [1e-8, 1e-4, 1e-7], rtol=1e-12)


def test_samples_are_uniform_in_the_exponent_and_each_seeds_own():
    many = _search.samples(engine.seeds(3), 2000)
    for values, (low, high) in zip(many, _search.EXPONENTS, strict=True):
        unit = (np.log10(values) - low) / (high - low)
        assert unit.min() >= -1e-6
        assert unit.max() <= 1 + 1e-6
        np.testing.assert_allclose(np.quantile(unit, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    assert (many.lr[0] != many.lr[1]).all()
    np.testing.assert_array_equal(_search.samples(engine.seeds(1), 2000).lr[0], many.lr[0])


def test_a_split_deals_every_image_once(images):
    pool = tasks.splits(images, _search.IMAGES)["train"]
    parts = _search.split(jax.random.key(3), pool)
    assert {name: len(part.y) for name, part in parts.items()} == {"validation": 100, "train": 400}
    dealt = np.concatenate([part.x.reshape(-1, 784) for part in parts.values()])
    np.testing.assert_array_equal(np.unique(dealt, axis=0), np.unique(pool.x.reshape(-1, 784), axis=0))
    assert (np.asarray(parts["train"].y) != np.asarray(_search.split(jax.random.key(4), pool)["train"].y)).any()


@pytest.fixture(scope="module")
def trained(images):
    """2 seeds × 3 trials of 2 epochs, the last of which diverges: keys, settings, record."""
    keys = engine.seeds(2)
    settings = _search.Setting(np.array([[1e-2, 2e-2, 0.1], [5e-2, 1e-2, 3e38]]), np.array([[0.0, 0.1, 1.0]] * 2))
    return (
        keys,
        settings,
        _search.trainer(tasks.splits(images), 2, evaluate_at=(1, 2), on=("validation", "train"))(settings, keys),
    )


def test_trials_and_seeds_side_by_side_are_runs_trained_alone(images, trained):
    """The whole program against one `train.train` a network."""
    keys, settings, record = trained
    assert record["validation_accuracy"].shape == record["train_loss"].shape == (2, 3, 2)
    task = tasks.classification(lambda s: models.multilayer(_search.HIDDEN, 10), batch=100, weight_decay=lambda s: s.l2)
    run = train.training(task, sgd, 8, evaluate_at=(4, 8))
    alone = jax.jit(lambda hp, key, parts: train.train(run, 8, hp, key, parts)[1])
    for seed, trial in itertools.product(range(2), range(3)):
        s = _search.Setting(*(jnp.float32(a[seed, trial]) for a in settings))
        k_split, k_run, *_ = _search._keys(keys[seed])
        parts = _search.split(k_split, _search.own(keys[seed], tasks.splits(images)["train"]))
        expected = alone(train.Hyper(Sgd(s.lr), s), k_run, parts)
        for what in ("validation_loss", "train_loss"):
            np.testing.assert_allclose(record[what][seed, trial], expected[what][jnp.array([3, 7])], rtol=1e-4)
    np.testing.assert_array_equal(record["diverged_at"][:, :2], -1)
    assert 0 <= record["diverged_at"][1, 2] < 8


def test_short_training_is_the_beginning_of_long_training_and_takes_other_rules(images, trained):
    keys, settings, long = trained
    splits = {**tasks.splits(images), "first": tasks.splits(images, 50)["train"]}
    short = _search.trainer(splits, 1, at_end=("first",), rule=optim.rule("momentum:book"))
    point = WithMomentum(settings.lr[:, [1, 1]], settings.l2[:, [1, 1]], np.array([[0.0, 0.9]] * 2))
    record = short(point, keys)
    np.testing.assert_allclose(record["validation_loss"][:, 0, 0], long["validation_loss"][:, 1, 0], rtol=1e-5)
    assert (record["validation_loss"][:, 1, 0] < record["validation_loss"][:, 0, 0]).all()
    assert record["first_accuracy"].shape == (2, 2)


def test_what_is_judged_is_what_was_chosen_and_equals_are_averaged():
    by, fresh = np.array([[0.2, 0.5, 0.5, np.nan]]), np.array([[0.9, 0.4, 0.6, 1.0]])
    everything = np.ones((1, 4), bool)
    np.testing.assert_allclose(_search.judged(by, fresh, everything), [0.5])
    np.testing.assert_allclose(_search.judged(by, fresh, np.array([[[True, False, False, True]]])), [[0.9]])
    np.testing.assert_allclose(_search.chosen_so_far(by, fresh), [[0.9, 0.4, 0.4, 0.4]])
    np.testing.assert_allclose(_search.chosen_so_far(by[:, ::-1], fresh[:, ::-1]), [[1.0, 0.6, 0.6, 0.6]])


def test_fresh_images_are_none_of_a_seeds_own(images):
    pool = tasks.splits(images)["train"]
    numbered = pool._replace(y=np.arange(len(pool.y)))
    key = jax.random.key(2)
    own, fresh = (set(np.asarray(f(key, numbered).y).tolist()) for f in (_search.own, _search.fresh))
    assert (len(own), len(fresh)) == (_search.IMAGES, _search.FRESH)
    assert not own & fresh
