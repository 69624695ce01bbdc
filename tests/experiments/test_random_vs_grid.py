"""Random search against grids: exact probabilities, functional ANOVA, claims both ways, and the experiment whole."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.hyperparameters import random_vs_grid as experiment
from experiments.hyperparameters.random_vs_grid import EXPERIMENT
from fnn import data, tasks
from fnn.base.errors import InputError

LATTICE = (9, 3, 3)
U, V = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 5), indexing="ij")


@pytest.fixture(scope="module")
def measured():
    """The experiment, tiny: the coarsest lattice there is, and one epoch."""
    cfg = experiment.Config(seeds=2, lr_points=2, l2_points=2, mu_points=2, epochs=1, dataset="mnist_5k")
    cfg.check()
    return EXPERIMENT.run(cfg)


def made_up(surface, seeds=6):
    """Results as if accuracy, 0…1, were `surface(lr, l2, mu)` of the unit cube in every seed."""
    unit = experiment.points(*experiment.edge_to_edge(LATTICE))
    accuracy = np.stack([surface(*np.moveaxis(unit, -1, 0)) * (1 + 0.01 * seed) for seed in range(seeds)])
    lattice = experiment.setting(unit)
    dims = ("seed", "lr", "l2", "mu")
    ds = xr.Dataset(
        {"accuracy": (dims, accuracy), "diverged_at": (dims, np.full(accuracy.shape, -1))},
        {"seed": range(seeds), "lr": lattice.lr[:, 0, 0], "l2": lattice.l2[0, :, 0], "mu": lattice.mu[0, 0, :]},
        {"dataset": "made up", "epochs": 20},
    )
    return experiment.with_searches(ds)


def by_claim(ds):
    return {verdict.claim: verdict for verdict in EXPERIMENT.judge(ds)}


def test_the_experiment_whole(measured):
    assert measured.accuracy.dims == ("seed", "lr", "l2", "mu")
    assert measured.accuracy.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(measured.lr, [1e-6, 1e-2], rtol=1e-6)
    np.testing.assert_allclose(measured.mu, [0, 0.9], rtol=1e-6)
    for space in experiment.SPACES:
        assert measured[f"reach_{space}"].notnull().all()
    rows = experiment.tables(measured)["reach"]
    assert len(rows) == 4 * 3 * (4 + 4 + 3)
    assert {row["search"] for row in rows} == set(experiment.KINDS)
    assert "share of the variance" in experiment.summary(measured)


def test_a_seeds_images_are_its_own_and_do_not_overlap():
    y = tasks.splits(data.load("mnist_5k"))["train"].y
    numbered = {"train": tasks.Split(jnp.arange(len(y))[:, None], jnp.asarray(y))}
    one, other = (experiment.Own(1000)(jax.random.key(seed), numbered) for seed in (0, 1))
    assert {name: len(part.y) for name, part in one.items()} == {"train": 400, "held_out": 1000}
    drawn = np.concatenate([np.asarray(part.x).ravel() for part in one.values()])
    assert len(set(drawn.tolist())) == 1400
    assert set(np.asarray(one["train"].x).ravel()) != set(np.asarray(other["train"].x).ravel())
    np.testing.assert_array_equal(one["held_out"].y, y[np.asarray(one["held_out"].x).ravel()])


def test_where_one_hyperparameter_decides_a_grid_has_k_chances_and_random_search_k_squared():
    """A good strip a tenth of the space wide, inside it."""
    random, laid, centred, edges = experiment.reach(-abs(U - 0.5), np.array([-0.05]))[:, 0]
    k = np.array(experiment.LEVELS[2])
    np.testing.assert_allclose(random, 1 - 0.9**k**2, rtol=1e-12)
    np.testing.assert_allclose(laid, np.minimum(1, 0.1 * k), rtol=1e-12)
    # k = 3 and 5 have a level in the middle of the space either way.
    np.testing.assert_array_equal(centred, [1, 0, 1, 0])
    np.testing.assert_array_equal(edges, [1, 0, 1, 0])


def test_where_two_decide_equally_a_grid_is_at_least_as_good():
    """A good diamond smaller than any grid's cell: at most one trial can lie in it."""
    goal = np.array([-0.06])
    surface = -abs(U - 0.5) - abs(V - 0.5)
    p = (experiment.cells(surface) >= goal).mean()
    assert p == pytest.approx(2 * 0.06**2, rel=0.1)
    random, laid, _, _ = experiment.reach(surface, goal)[:, 0]
    k = np.array(experiment.LEVELS[2])
    np.testing.assert_allclose(laid, k**2 * p, rtol=1e-12)
    np.testing.assert_allclose(random, 1 - (1 - p) ** k**2, rtol=1e-12)


@pytest.mark.parametrize("axes", [2, 3])
def test_the_exact_probabilities_are_those_of_simulated_searches(axes):
    rng = np.random.default_rng(1)
    surface = rng.normal(size=(4, 3, 2)[:axes])
    goals = surface.max() - np.array([0.3, 1.0])
    cells, m, repeats = experiment.cells(surface), experiment.MESH[axes], 4000
    exact = experiment.reach(surface, goals)
    for level, k in enumerate(experiment.LEVELS[axes][:2]):
        picked = rng.integers(m, size=(repeats, k**axes, axes))
        drawn = cells[tuple(np.moveaxis(picked, -1, 0))].max(-1)
        begun = rng.integers(m // k, size=(repeats, axes))
        corners = np.array(list(itertools.product(range(k), repeat=axes))) * (m // k)
        laid = cells[tuple(np.moveaxis(begun[:, None] + corners, -1, 0))].max(-1)
        for kind, found in enumerate((drawn, laid)):
            share = (found[:, None] >= goals).mean(0)
            error = np.sqrt(exact[kind, :, level] * (1 - exact[kind, :, level]) / repeats)
            assert (abs(share - exact[kind, :, level]) <= 4 * error + 1e-12).all()


def test_a_part_as_rare_is_as_large():
    goals = np.array([-0.02, -0.1, 1.0])
    strip, diamond = -abs(U - 0.5), -abs(U - 0.5) - abs(V - 0.5)
    rare = experiment.as_rare(diamond, strip, goals)
    shares = (experiment.cells(strip)[..., None] >= goals).mean((0, 1))
    np.testing.assert_allclose((experiment.cells(diamond)[..., None] >= rare).mean((0, 1)), shares, atol=3e-3)
    assert shares[2] == 0


def test_functional_anova_by_hand():
    x, y = np.meshgrid([0.0, 1.0], [0.0, 1.0, 2.0], indexing="ij")
    sums, product = 3 * x + y, (2 * x - 1) * (y - 1)
    # Var 3x = 9/4, Var y = 2/3 on this lattice; the product has no main effects.
    whole = 9 / 4 + 2 / 3
    shares = experiment.importance(np.stack([sums, product, np.zeros_like(x)]))
    np.testing.assert_allclose(shares[0], [9 / 4 / whole, 2 / 3 / whole, 0], atol=1e-12)
    np.testing.assert_allclose(shares[1], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(shares[2, :2], 0, atol=1e-12)
    three = experiment.importance(np.random.default_rng(0).normal(size=(4, 3, 5, 2)))
    np.testing.assert_allclose(three.sum(-1), 1, rtol=1e-12)
    assert (three >= 0).all()


def test_the_numbers_decide_for_random_search():
    """Only the learning rate matters, and its best lies inside, between the levels of every grid."""
    found = by_claim(made_up(lambda lr, l2, mu: 0.8 - 0.5 * abs(lr - 0.375)))
    assert found["Random search beats grid search"].outcome == "holds"
    assert found["The learning rate matters more than the weight decay"].outcome == "holds"
    because = "Random search beats grid search because hyperparameters differ in how much they matter"
    assert found[because].outcome == "holds"


def test_the_numbers_decide_for_the_grid():
    """λ matters alone and the best lies in a corner: a grid from edge to edge finds it, and the notes' reason fails."""
    ds = made_up(lambda lr, l2, mu: 0.5 + 0.2 * l2 + 1e-6 * lr)
    found = by_claim(ds)
    assert found["Random search beats a grid laid from edge to edge"].outcome == "does not hold"
    assert found["The learning rate matters more than the weight decay"].outcome == "does not hold"
    assert experiment.on_the_edge(ds) == 1
    both = by_claim(made_up(lambda lr, l2, mu: 0.8 - 0.5 * abs(lr - 0.5) - 0.5 * abs(l2 - 0.5)))
    assert both["Random search beats grid search"].outcome == "does not hold"


def test_a_network_that_diverged_is_counted_in_the_caption():
    ds = made_up(lambda lr, l2, mu: 0.5 + 0.3 * lr)
    ds["diverged_at"][0, -1, 0, 0] = 7
    assert "1 run diverged" in experiment.about(ds)


BAD: dict[str, dict[str, Any]] = {
    "--lr-points is at least 2, not 1": {"lr_points": 1},
    "--l2-points is at least 2, not 0": {"l2_points": 0},
    "--mu-points is at least 2, not 1": {"mu_points": 1},
    "--epochs is at least 1, not 0": {"epochs": 0},
    "--seeds is at least 1, not 0": {"seeds": 0},
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_options_get_one_sentence(sentence):
    with pytest.raises(InputError, match=sentence):
        experiment.Config(**BAD[sentence]).check()


def test_too_few_images_get_one_sentence(monkeypatch):
    monkeypatch.setattr(experiment, "HELD_OUT", 100_000)
    with pytest.raises(InputError, match="takes 100,400 training images, and mnist_5k has 4,000"):
        EXPERIMENT.run(experiment.Config(dataset="mnist_5k"))
