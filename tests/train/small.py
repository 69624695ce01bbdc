"""The small task and the sweep that the tests of sweeps share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from fnn import models, optim, sweep, tasks, train
from fnn.train import engine


class Weights(NamedTuple):
    """Initial weights, normal with this standard deviation and mean."""

    std: float = 1.0
    mean: float = 0.0

    def __call__(self, key, shape, dtype=jnp.float32):
        return self.std * jax.random.normal(key, shape, dtype) + self.mean


STEPS, SEEDS = 6, 2
RULES = {"adam": "adam", "sgd": optim.rule("sgd")}
LRS = (0.01, 0.3)
SCALES = {"small": Weights(0.1), "large": Weights(2.0, 0.1)}


ALL = {"over": {"lr": [0.01, 0.1, 0.3]}, "seeds": 3, "evaluate": (2, STEPS)}
"""Options of a sweep of several settings and seeds, which can be cut into blocks."""


class Hyper(NamedTuple):
    """What may be varied of the task."""

    weights: Weights = Weights()
    decay: float = 0.0


def split(n, seed):
    x = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    return tasks.Split(x, (x[:, 0] > x[:, 1]).astype(np.int32))


DATA = {"train": split(30, 0), "test": split(20, 1)}


def network(hp):
    return models.multilayer((4,), 2, weights=hp.weights)


def task(**options):
    options = {"batch": 4, "hyper": Hyper(), "weight_decay": lambda hp: hp.decay} | options
    return tasks.classification(options.pop("network", network), options.pop("data", DATA), **options)


def swept(*arguments, **options):
    """A sweep of the small task by both rules, at two learning rates and two scales of the weights."""
    given = {"over": {"lr": LRS, "weights": SCALES}, "seeds": SEEDS, "steps": STEPS} | options
    return sweep(*(arguments or (task(), RULES)), **given)


def alone(one, rule, seed, hyper=None, rule_hyper=None, steps=STEPS, **options):
    """The state and the record of one run, by `fnn.train.train`."""
    rule = optim.rule(rule) if isinstance(rule, str) else rule
    run = train.training(one, rule, steps, **options)
    hp = train.Hyper(rule.hyper if rule_hyper is None else rule_hyper, one.hyper if hyper is None else hyper)
    trained = jax.jit(lambda hp, key, data: train.train(run, steps, hp, key, data))
    return jax.tree.map(np.asarray, trained(hp, engine.seeds(1, seed)[0], one.data))


def identical(one, other):
    """Assert that two data sets are equal bit for bit, but for the seconds they took and the command that made them."""
    varying = ("train_seconds", "compile_seconds", "provenance")
    ours, theirs = (ds.assign_attrs(dict.fromkeys(varying)) for ds in (one, other))
    xr.testing.assert_identical(ours, theirs)


def alike(found, expected):
    """Assert that data sets and networks are equal bit for bit."""
    (ds, networks), (other_ds, other_networks) = found, expected
    identical(ds, other_ds)
    assert jax.tree.structure(networks) == jax.tree.structure(other_networks)
    jax.tree.map(np.testing.assert_array_equal, networks, other_networks)
