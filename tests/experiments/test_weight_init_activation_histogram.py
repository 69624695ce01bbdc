"""Activations of deep layers at tiny size: theory to the last digits, verdicts that can go either way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpy.polynomial.hermite_e import hermegauss

from experiments.initial_weights import weight_init_activation_histogram as module
from experiments.initial_weights.weight_init_activation_histogram import EXPERIMENT, Config
from fnn import layers
from fnn.base.errors import InputError
from fnn.train import engine

TINY = Config(seeds=12, layers=4, width=60, examples=200)


@pytest.fixture(scope="module")
def ds():
    return EXPERIMENT.run(TINY)


def outcomes(ds):
    return {verdict.claim: verdict.outcome for verdict in EXPERIMENT.judge(ds)}


def outcome(ds, beginning):
    (found,) = [o for claim, o in outcomes(ds).items() if claim.startswith(beginning)]
    return found


def with_values(ds, name, setting, values):
    """A copy in which one quantity of one setting has other values."""
    changed = ds.copy(deep=True)
    changed[name].loc[{"setting": setting}] = values
    return changed


# -- theory --


@pytest.mark.parametrize("gain", [0.1, 1.0, 2**0.5, 10.0])
def test_relu_and_linear_layers_have_a_closed_form(gain):
    depth = np.arange(1, 6)
    relu = module.wide_limit(module.ACTIVATIONS["ReLU"].exact, gain, 5)
    np.testing.assert_allclose(relu, (gain**2 / 2) ** depth, rtol=1e-10)
    np.testing.assert_allclose(module.wide_limit(lambda x: x, gain, 5), gain ** (2 * depth), rtol=1e-10)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_the_quadrature_agrees_with_gauss_and_hermite_where_that_converges(activation):
    f = module.ACTIVATIONS[activation].exact
    z, weight = hermegauss(180)
    q, expected = 1.0, []
    for _ in range(4):
        q = weight @ f(0.5 * np.sqrt(q) * z) ** 2 / np.sqrt(2 * np.pi)
        expected.append(q)
    np.testing.assert_allclose(module.wide_limit(f, 0.5, 4), expected, rtol=1e-10)


def test_a_steep_sigmoid_is_nearly_a_step():
    """E[σ(s z)²] = 1/2 − E[σ(1 − σ)], which is 1 / (√(2π) s) for steep ones."""
    first, second = module.wide_limit(module.ACTIVATIONS["sigmoid"].exact, 1e3, 2)
    assert first == pytest.approx(0.5 - 1e-3 / np.sqrt(2 * np.pi), abs=1e-8)
    assert second == pytest.approx(0.5 - 1e-3 / np.sqrt(2 * np.pi * first), abs=1e-8)


@pytest.mark.parametrize(("activation", "gain"), [("sigmoid", 1.0), ("tanh", 1.0), ("ReLU", 0.2)])
def test_predicted_shares_have_the_predicted_mean_square(activation, gain):
    phi = module.ACTIVATIONS[activation]
    edges = np.linspace(phi.low, phi.high, 3001)
    share = module.shares_in_the_limit(phi, gain, 3, edges)
    np.testing.assert_allclose(share.sum(1), 1, atol=1e-6)
    middles = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(share @ middles**2, module.wide_limit(phi.exact, gain, 3), rtol=5e-3)


def test_the_closed_form_is_exact_in_expectation_at_any_width():
    """E[q] / q₀ = (gain²/2)^depth over networks of 8 units, where the wide limit is far away for a single one."""
    cfg, hp = Config(width=8, examples=2, layers=3), module.Hyper(jnp.float32(1.2))
    measure = module.deepening(cfg, layers.relu, module.sizes).measure
    record = jax.jit(jax.vmap(lambda key: measure(hp, key, ())))(engine.seeds(6000))
    ratio = np.asarray(record["mean_square"] / record["input_mean_square"][:, :1], np.float64)
    error = ratio.std(0) / np.sqrt(len(ratio))
    expected = (1.2**2 / 2) ** np.arange(1, 4)
    assert (error < 0.05 * expected).all()
    assert (abs(ratio.mean(0) - expected) < 4 * error).all()


# -- measuring --


def test_measured_agrees_with_predicted(ds):
    """Within the seeds' own spread and what 60 units are from infinitely many."""
    mean, error = ds.mean_square.mean("seed"), ds.mean_square.std("seed") / np.sqrt(TINY.seeds)
    assert (abs(mean - ds.predicted_mean_square) < 4 * error + 0.05 * ds.predicted_mean_square).all()
    shares = abs(ds.share.mean("seed") - ds.predicted_share).sum("bin") / 2
    assert float(shares.max()) < 0.1


def test_a_layer_is_the_notes_layer(x64):
    """x ← φ(x W) with weights of std gain/√n, by hand."""
    x = jax.random.normal(jax.random.key(2), (80, 50), jnp.float64)
    sums, y = module.one_layer(Config(width=50), layers.tanh, jnp.float64(0.7), jax.random.key(3), x)
    w = np.linalg.lstsq(x, sums, rcond=None)[0]
    assert sums.dtype == np.float64
    np.testing.assert_allclose(y, np.tanh(sums), rtol=1e-14)
    np.testing.assert_allclose(x @ w, sums, rtol=1e-9)
    assert module.GAIN["std 0.01"](100) == pytest.approx(0.1)
    gains = {name: gain(64) / 8 for name, gain in module.GAIN.items()}
    assert gains == pytest.approx(
        {"std 1": 1, "std 0.01": 0.01, "Xavier": 1 / 8, "Xavier as printed": 8, "He": (2 / 64) ** 0.5}
    )


def test_weights_have_the_std_of_their_gain():
    sums, _ = module.one_layer(Config(width=200), layers.identity, 1.7, jax.random.key(0), jnp.eye(200))
    assert float(jnp.square(sums).mean()) == pytest.approx(1.7**2 / 200, rel=0.05)


def test_every_layer_has_weights_and_inputs_of_its_own(ds):
    """Linear layers of equal gain would otherwise grow by the same factor each."""
    linear = ds.swept_mean_square.sel(swept="linear", gain2=1.0)
    factors = linear.isel(layer=slice(1, None)).values / linear.isel(layer=slice(-1)).values
    assert (np.ptp(factors, axis=linear.get_axis_num("layer")) > 0.01).all()
    assert (np.ptp(factors, axis=linear.get_axis_num("seed")) > 0.01).all()


def test_settings_of_a_seed_are_paired(ds):
    """The same weights but for their scale, so that ReLU layers differ by exact powers of it."""
    he, xavier, small = (ds.mean_square.sel(setting=f"ReLU, {w}") for w in ("He", "Xavier", "std 0.01"))
    np.testing.assert_allclose(he / xavier, np.broadcast_to(2.0**ds.layer, he.shape), rtol=1e-4)
    np.testing.assert_allclose(small / xavier, np.broadcast_to((1e-4 * 60.0) ** ds.layer, he.shape), rtol=1e-4)
    relu_swept = ds.swept_mean_square.sel(swept="ReLU")
    np.testing.assert_allclose(relu_swept.sel(gain2=2.0), he, rtol=1e-4)


def test_what_is_recorded_fits_together(ds):
    assert dict(ds.share.sizes) == {"setting": 8, "seed": 12, "layer": 4, "bin": 30}
    assert ds.setting.values[[0, 4, 7]].tolist() == ["sigmoid, std 1", "tanh, Xavier", "ReLU, He"]
    np.testing.assert_allclose(ds["std"] ** 2 + ds["mean"] ** 2, ds.mean_square, rtol=1e-3, atol=1e-12)
    bounded = ds.sel(setting=[s for s in ds.setting.values if not s.startswith("ReLU")])
    np.testing.assert_allclose(bounded.share.sum("bin"), 1, atol=1e-5)
    assert np.isfinite(bounded.saturated).all()
    assert np.isnan(ds.saturated.sel(setting="ReLU, He")).all()
    later, before = ds.input_mean_square.isel(layer=slice(1, None)), ds.mean_square.isel(layer=slice(-1))
    np.testing.assert_array_equal(later.values, before.values)


# -- what is measured of them --


def test_shapes_of_histograms():
    flat, bell = np.full(30, 1 / 30), np.exp(-(np.linspace(-2, 2, 30) ** 2))
    one_bin = np.eye(30)[4]
    assert module.breadth(flat) == pytest.approx(30)
    assert module.breadth(one_bin) == pytest.approx(1)
    np.testing.assert_allclose(module.slant(np.stack([flat, bell])), 0, atol=1e-12)
    assert module.slant(one_bin) == 1
    assert module.hump(bell) > 0 > module.hump(1 - bell)
    assert module.hump(flat) == pytest.approx(0)


def test_growth_a_layer():
    values = xr.DataArray([[1.0, 7.0, 0.25], [1.0, 0.0, 1.1**2]], dims=("seed", "layer"))
    np.testing.assert_allclose(module.growth(values), [-50, 10])
    assert np.isnan(module.growth(values * 0)).all()


def test_the_gain_that_keeps_is_found(ds):
    he = 1 + module.growth(ds.mean_square.sel(setting="ReLU, He")) / 100
    np.testing.assert_allclose(module.keeping_gain2(ds, "ReLU"), 2 / he, rtol=1e-3)


# -- findings --


def test_verdicts_and_answers_come(ds):
    found = outcomes(ds)
    assert len(found) == 15
    assert found["Weights of std 1 saturate the sigmoid"] == "holds"
    assert found["With Xavier's weights tanh is bell-shaped in every layer"] == "does not hold"
    assert found["With Xavier's weights tanh is bell-shaped from the second layer on"] == "holds"
    assert outcome(ds, "As printed") == "holds"
    assert outcome(ds, "ReLU with Xavier's") == "holds"
    (answer,) = EXPERIMENT.answer(ds)
    assert answer.source == "question §2.3"
    assert "So the 2 compensates" in answer.answer
    assert {v.source for v in EXPERIMENT.judge(ds)} == {"claim 4", "claim 5", "slip §2.2.3", "question §2.3"}


FALSE = {
    "Weights of std 1 saturate": ("saturated", "sigmoid, std 1", 0.0),
    "Weights of std 0.01 collapse": ("std", "sigmoid, std 0.01", 0.2),
    "With std 0.01 the units": ("unit_std", "sigmoid, std 0.01", 0.4),
    "Xavier's weights give the sigmoid": ("share", "sigmoid, std 1", 1 / 30),
    "As printed": ("saturated", "sigmoid, Xavier as printed", 0.1),
    "With Xavier's weights tanh is less slanted": ("share", "tanh, Xavier", np.eye(30)[3]),
    "With Xavier's weights tanh is bell-shaped from": ("share", "tanh, Xavier", np.eye(30)[0] + np.eye(30)[8]),
    "ReLU with std 0.01 dies": ("mean_square", "ReLU, std 0.01", 10.0 ** np.arange(4)),
    "What dies with std 0.01": ("dead", "ReLU, std 0.01", 0.5),
    "ReLU with Xavier's weights drifts": ("mean_square", "ReLU, Xavier", 1.0),
    "ReLU with He's weights holds": ("mean_square", "ReLU, He", 0.5 ** np.arange(4)),
    "ReLU keeps half": ("sum_mean_square", "ReLU, He", 10.0),
}


@pytest.mark.parametrize("claim", FALSE)
def test_a_claim_that_the_numbers_refute_does_not_hold(ds, claim):
    name, setting, values = FALSE[claim]
    if name == "share" and np.ndim(values):
        values = np.asarray(values) / np.sum(values)
    assert outcome(with_values(ds, name, setting, values), claim) == "does not hold"


TRUE = {
    "With Xavier's weights the sigmoid's activations keep": ("std", "sigmoid, Xavier", 0.2),
    "With Xavier's weights the sigmoid's units keep": ("example_std", "sigmoid, Xavier", 0.2),
    "With Xavier's weights tanh is bell-shaped in every": ("share", "tanh, Xavier", np.eye(30)[14:16].sum(0) / 2),
    "ReLU with He's weights holds": ("mean_square", "ReLU, He", 1.0),
}


@pytest.mark.parametrize("claim", TRUE)
def test_a_claim_that_the_numbers_bear_out_holds(ds, claim):
    assert outcome(with_values(ds, *TRUE[claim]), claim) == "holds"


def test_the_answer_follows_the_numbers(ds):
    changed = ds.copy(deep=True)
    changed.swept_mean_square.loc[{"swept": "ReLU"}] = ds.swept_mean_square.sel(swept="linear").values
    assert "not explained" in EXPERIMENT.answer(changed)[0].answer


def test_predictions_are_tabulated_with_measurements(ds):
    rows = EXPERIMENT.tables(ds)["mean_square"]
    assert len(rows) == 8 * 4
    last = rows[-1]
    assert (last["setting"], last["layer"]) == ("ReLU, He", 4)
    assert last["low"] < last["mean"] < last["high"]
    assert last["predicted"] == pytest.approx(1)


def test_the_notes_figures_have_their_panels(ds):
    figures = EXPERIMENT.draw(ds)
    for name, rows in (("07_std_1", 1), ("10_relu", 3)):
        axs = figures[name].axes
        assert len(axs) == 4 * rows
        assert [ax.get_title() for ax in axs[:4]] == ["1-layer", "2-layer", "3-layer", "4-layer"]
        assert all(ax.get_xlim() == (0, 1) for ax in axs)
    values = TINY.examples * TINY.width
    assert figures["10_relu"].axes[0].get_ylim() == pytest.approx((0, 0.07 * values))
    assert figures["tanh_xavier"].axes[0].get_xlim() == (-1, 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": 1}, "--layers is 2 to 10, not 1"),
        ({"layers": 11}, "--layers is 2 to 10, not 11"),
        ({"width": 1}, "--width is at least 2, not 1"),
        ({"examples": 1}, "--examples is at least 2, not 1"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()
