"""Averages of networks: the exact results in float64, the experiment at tiny size, its claims both ways."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.regularization import ensemble
from experiments.regularization.ensemble import EXPERIMENT, Config
from fnn import layers
from fnn.base.errors import InputError


def log_softmax(z):
    return z - np.logaddexp.reduce(z, -1, keepdims=True)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_scaling_one_layer_is_the_geometric_mean_of_all_masks(ratio):
    rng = np.random.default_rng(1)
    w, b, x = rng.normal(size=(10, 6)), rng.normal(size=10), rng.normal(size=(7, 6))
    found = ensemble.one_layer(w, b, x, ratio)
    # By hand, mask by mask.
    product, total = np.ones((7, 10)), np.zeros((7, 10))
    for mask in itertools.product([0, 1], repeat=6):
        likely = np.prod([1 - ratio if kept else ratio for kept in mask])
        p = np.exp(log_softmax((x * mask) @ w.T + b))
        product, total = product * p**likely, total + likely * p
    np.testing.assert_allclose(found["geometric"], product / product.sum(-1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(found["arithmetic"], total, rtol=1e-12)
    np.testing.assert_allclose(found["scaled"], found["geometric"], rtol=1e-12)
    assert abs(found["scaled"] - found["arithmetic"]).max() > 1e-3


@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_dropping_inputs_of_a_regression_costs_what_ridge_regression_costs(ratio):
    rng = np.random.default_rng(2)
    x, y, w = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=4)
    expected = 0.0
    for mask in itertools.product([0, 1], repeat=x.size):
        kept = np.array(mask)
        likely = np.prod(np.where(kept, 1 - ratio, ratio))
        expected += likely * ((y - (x * kept.reshape(x.shape)) @ w) ** 2).sum()
    np.testing.assert_allclose(ensemble.ridge_loss(w, x, y, ratio), expected, rtol=1e-12)


def test_ridge_is_where_that_cost_is_least(x64):
    rng = np.random.default_rng(3)
    x, y = jnp.asarray(rng.normal(size=(20, 5))), jnp.asarray(rng.normal(size=20))
    w = ensemble.ridge(x, y, 0.3)
    np.testing.assert_allclose(jax.grad(ensemble.ridge_loss)(w, x, y, 0.3), 0, atol=1e-12)
    # Without dropout it is least squares.
    np.testing.assert_allclose(ensemble.ridge(x, y, 0.0), np.linalg.lstsq(x, y)[0], rtol=1e-12)


def test_averages_are_those_of_probabilities_and_of_logits(x64):
    log_p = log_softmax(np.random.default_rng(4).normal(size=(5, 3, 10)))
    arithmetic, geometric = np.asarray(ensemble.averages(jnp.asarray(log_p)))
    for n in range(1, 6):
        np.testing.assert_allclose(np.exp(arithmetic[n - 1]), np.exp(log_p[:n]).mean(0), rtol=1e-12)
        np.testing.assert_allclose(geometric[n - 1], log_softmax(log_p[:n].mean(0)), rtol=1e-12)


def test_averages_do_not_underflow():
    sure = jnp.asarray(log_softmax(np.array([[[0.0, 500.0]], [[0.0, 400.0]]], np.float32)))
    assert np.isfinite(ensemble.averages(sure)).all()


def test_brier_law_is_exact_for_the_mean_over_all_choices(x64):
    rng = np.random.default_rng(5)
    p = jnp.asarray(rng.dirichlet(np.ones(10), size=(4, 6)))
    y = jnp.asarray(rng.integers(0, 10, 6))

    def mean_over_choices(n):
        chosen = [p[np.array(c)].mean(0) for c in itertools.combinations(range(4), n)]
        return float(np.mean([ensemble.scores(jnp.log(q), y)["brier"] for q in chosen]))

    measured = [mean_over_choices(n) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(ensemble.brier_law(measured[0], measured[-1], np.arange(1, 5)), measured, rtol=1e-12)


def test_scores_by_hand():
    p = jnp.asarray([[0.7, 0.3] + [0.0] * 8, [0.2, 0.8] + [0.0] * 8])
    found = ensemble.scores(jnp.log(p), jnp.asarray([0, 0]))
    assert float(found["accuracy"]) == 0.5
    np.testing.assert_allclose(found["loss"], -np.log([0.7, 0.2]).mean(), rtol=1e-6)
    np.testing.assert_allclose(found["brier"], (0.3**2 + 0.3**2 + 0.8**2 + 0.8**2) / 2, rtol=1e-6)
    assert np.isnan(ensemble.scores(jnp.full((2, 10), jnp.nan), jnp.asarray([0, 0]))["accuracy"])


def test_distances_between_outputs():
    p, q = jnp.log(jnp.asarray([[0.5, 0.5]])), jnp.log(jnp.asarray([[0.25, 0.75]]))
    assert float(ensemble.variation(p, q)) == pytest.approx(0.25)
    assert float(ensemble.divergence(p, q)) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), rel=1e-5)
    assert float(ensemble.divergence(p, p)) == 0


def test_a_masked_network_misses_the_same_units_for_every_example():
    network = layers.serial(layers.elementwise(layers.identity), layers.dropout(0.5))
    state = ensemble.State(((), ()), ((), ()), ())
    outputs = ensemble.masked(network, state, jnp.ones((8, 40)), jax.random.key(0))
    kept = np.asarray(outputs[-1])
    assert (kept == kept[0]).all()
    assert 0 < kept.mean() < 1


def test_scaled_layers_take_the_place_of_dropout():
    x = jnp.ones((2, 9))
    net = ensemble.multilayer(0.3)
    params, stats = net.init(jax.random.key(0), x)
    same, _ = ensemble.multilayer(0.7, ensemble.scaled).apply(params, stats, x, None, False)
    np.testing.assert_allclose(same, net.apply(params, stats, x, None, False)[0], rtol=1e-6)


TINY = Config(
    seeds=2, members=3, steps=4, large_seeds=2, large_steps=3, batch=20, dropout_steps=4, masks=3, probe=50,
    factors=9, dataset="mnist_5k",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return EXPERIMENT.run(TINY)


def test_the_experiment_at_tiny_size(tiny):
    assert dict(tiny.accuracy.sizes) == {"seed": 2, "average": 2, "members": 3}
    assert dict(tiny.large_accuracy.sizes) == {"large_seed": 2, "average": 2, "members": 3}
    assert tiny.factor_error.dims == ("ratio", "seed", "factor", "layer")
    assert tiny.attrs["all_images"] == 4000
    # Averaging never costs loss: Jensen's inequality, for both means.
    for one in ensemble.committees(tiny).values():
        assert (one.loss[..., -1] <= one.single_loss + 1e-6).all()
    # Members differ, and so do the ensembles of different seeds.
    assert (np.ptp(tiny.brier.values, axis=-1) > 0).all()
    assert float(tiny.single_brier[0]) != float(tiny.single_brier[1])
    # Of one mask only there is but one mean.
    first = tiny.masked_variation.isel(masks=0)
    np.testing.assert_allclose(first.sel(average="arithmetic"), first.sel(average="geometric"), rtol=1e-4)
    # A factor of 0 leaves nothing of the inputs but biases, which are small yet.
    np.testing.assert_allclose(tiny.factor_error.sel(factor=0).isel(layer=0), 1, atol=1e-2)


def test_every_seed_draws_its_own_images(tiny):
    """The same weights and minibatches on the images of another seed: the trial is measured with both keys."""
    data = ensemble.tasks.splits(ensemble.lab.DataOptions(dataset="mnist_5k").load())
    drawn = [ensemble.Sample(20)(ensemble.keys(jax.random.key(seed))[0], data)["train"].y for seed in (0, 1)]
    assert (np.asarray(drawn[0]) != np.asarray(drawn[1])).any()
    assert (
        len({key.tobytes() for key in map(np.asarray, map(jax.random.key_data, ensemble.keys(jax.random.key(0))))}) == 4
    )


def test_one_kind_of_ensemble_is_enough(tiny):
    ds = tiny.drop_dims("large_seed")
    assert len(ensemble.committees(ds)) == 1
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()
    assert not [v for v in EXPERIMENT.judge(ds) if "4,000" in v.claim]
    assert EXPERIMENT.answer(ds)


def synthetic(tiny, accuracy_of_five, single, apart, best_factor):
    """Twelve seeds of numbers made up, with a little noise."""
    ds = tiny.isel(seed=np.arange(12) % 2, members=[0, 1, 2, 2, 2]).assign_coords(seed=range(12), members=range(1, 6))
    noise = 1e-3 * np.random.default_rng(0).normal(size=12)
    scatter = xr.DataArray(noise, dims="seed")
    filled = lambda name, value: (xr.zeros_like(ds[name]) + value).transpose(*ds[name].dims).copy()
    ds["accuracy"] = filled("accuracy", accuracy_of_five + scatter)
    ds["single_accuracy"][:] = single
    ds["scaled_accuracy"][:] = 0.7
    ds["masked_accuracy"] = filled("masked_accuracy", 0.7 + apart + scatter / 10)
    ds["dropout_accuracy"][:] = single
    ds["masked_variation"] = filled("masked_variation", xr.where(ds.average == "geometric", 0.05 + scatter, 0.1))
    distance = abs(ds.factor - best_factor)
    for name in ("factor_loss", "factor_variation"):
        ds[name] = filled(name, distance + scatter)
    return ds.assign_attrs(averaged=5, images=300)


def outcomes(ds):
    return {v.claim: v.outcome for v in EXPERIMENT.judge(ds)}


FEW = "(300 training images)"


@pytest.mark.parametrize(
    ("gain", "any_gain", "several"),
    [(0.04, "holds", "holds"), (0.01, "holds", "does not hold"), (-0.02, "does not hold", "does not hold")],
)
def test_claim_14_both_ways(tiny, gain, any_gain, several):
    found = outcomes(synthetic(tiny, 0.8 + gain, 0.8, 0.0, 0.8))
    assert found[f"An ensemble of 5 networks is more accurate than one network {FEW}"] == any_gain
    assert found[f"An ensemble of 5 networks gains several percent, at least 2 points {FEW}"] == several


@pytest.mark.parametrize(("apart", "outcome"), [(0.001, "holds"), (0.02, "does not hold"), (-0.02, "does not hold")])
def test_claim_15_both_ways(tiny, apart, outcome):
    found = outcomes(synthetic(tiny, 0.8, 0.8, apart, 0.8))
    claim = "Scaled inference is as accurate as the mean of masked networks, within 0.5 points (ratio 0.2)"
    assert found[claim] == outcome
    assert (
        found["Scaled inference is closer to the geometric than to the arithmetic mean of them (ratio 0.2)"] == "holds"
    )


@pytest.mark.parametrize(
    ("best", "outcome", "named"),
    [
        (0.8, "holds", "with the ratio kept."),
        (0.2, "does not hold", "with the ratio deleted."),
        (1.0, "holds", "with no scaling."),
    ],
)
def test_the_slip_and_its_question_both_ways(tiny, best, outcome, named):
    ds = synthetic(tiny, 0.8, 0.8, 0.0, best)
    assert outcomes(ds)["The factor at inference is the ratio kept (0.8), not the ratio deleted (0.2)"] == outcome
    said = EXPERIMENT.answer(ds)[0].answer
    assert f"the probabilities at the factor {best:.2f}" in said
    assert named in said


def test_a_diverged_network_is_a_result(tiny):
    ds = synthetic(tiny, 0.84, 0.8, 0.0, 0.8)
    for name in ("accuracy", "single_accuracy", "dropout_accuracy", "factor_loss", "factor_variation"):
        ds[name][{"seed": 3}] = np.nan
    (found,) = [v for v in EXPERIMENT.judge(ds) if v.claim.endswith(f"more accurate than one network {FEW}")]
    assert (found.outcome, found.diverged) == ("holds", 1), "one of many"
    assert "1 ensemble with a diverged network, the worst in medians and ranks" in ensemble.about(ds)
    assert "the probabilities at the factor 0.80" in EXPERIMENT.answer(ds)[0].answer
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()


BAD = {
    "members": (1, "--members is at least 2, not 1"),
    "steps": (0, "--steps is at least 1, not 0"),
    "large_seeds": (-1, "--large-seeds is at least 0, not -1"),
    "masks": (0, "--masks is at least 1, not 0"),
    "ratios": ((0.2, 1.0), "--ratios lie between 0 and 1, unlike 1.0"),
    "factors": (1, "--factors is at least 2, not 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_get_one_sentence(name):
    value, sentence = BAD[name]
    with pytest.raises(InputError, match=sentence):
        Config(**{name: value}).check()


@pytest.mark.parametrize(("name", "value"), [("images", 5000), ("probe", 1001)])
def test_more_images_than_there_are(name, value):
    with pytest.raises(InputError, match=f"--{name} is at most .* images of mnist_5k, not {value:,}"):
        EXPERIMENT.run(Config(dataset="mnist_5k", **{name: value}))
