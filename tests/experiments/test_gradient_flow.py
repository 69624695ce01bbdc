"""What flows through networks, against hand-made backpropagation and theory; verdicts on worlds made up both ways."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.initial_weights import gradient_flow
from experiments.initial_weights.gradient_flow import EXPERIMENT, INITS, WIDTH, Scale
from fnn import init, layers, losses
from fnn.base.errors import InputError

TINY = EXPERIMENT.options(quick=True, steps=30, batch=16, depths=(3, 2), depth=2, draws=3, every=10)


@pytest.fixture(scope="module")
def tiny():
    return EXPERIMENT.run(TINY)


def test_missing_layers_are_nan(tiny):
    assert dict(tiny.gradient.sizes) == {"init": 4, "draw": 3, "activation": 3, "depth": 2, "layer": 4}
    np.testing.assert_array_equal(tiny.depth, [2, 3])
    np.testing.assert_array_equal(tiny["update"], [0, 10, 20])
    # A network of 2 hidden layers has 3 of weights.
    assert tiny.gradient.sel(depth=2, layer=[1, 2, 3]).notnull().all()
    assert tiny.gradient.sel(depth=2, layer=4).isnull().all()
    assert tiny.spread.sel(depth=2, layer=[1, 2]).notnull().all()
    assert tiny.spread.sel(depth=2, layer=[3, 4]).isnull().all()
    assert tiny.gradient_in_training.sel(layer=[1, 2, 3]).notnull().all()
    assert tiny.gradient_in_training.sel(layer=4).isnull().all()


def test_the_scales_show_where_theory_is_simple(tiny):
    """A sigmoid's slope at 0 is 1/4 and tanh's 1: at std 0.01 a layer of 100 divides the gradient by 40 and 10."""
    back = tiny.received.sel(init="std 0.01", depth=3).mean("draw")
    step = back.sel(layer=2) / back.sel(layer=3)
    np.testing.assert_allclose(step.sel(activation="sigmoid"), np.sqrt(WIDTH) * 0.01 / 4, rtol=0.1)
    np.testing.assert_allclose(step.sel(activation="tanh"), np.sqrt(WIDTH) * 0.01, rtol=0.1)


def test_sizes_of_layers_agree_with_backpropagation_by_hand(x64):
    net = gradient_flow.network("ReLU", 2, Scale(jnp.float64(1.0), jnp.float64(0.5)))
    params, stats = net.init(jax.random.key(1), jax.ShapeDtypeStruct((5, 7), jnp.float64))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    x, y = jax.random.normal(jax.random.key(2), (5, 7), jnp.float64), jnp.array([0, 3, 9, 3, 1])
    seen = jax.jit(partial(gradient_flow.flow, net))(params, stats, (x, y))

    w1, w2, w3 = losses.weights(params)
    h1 = np.maximum(x @ w1.T, 0)
    h2 = np.maximum(h1 @ w2.T, 0)
    error = jax.nn.softmax(h2 @ w3.T) - jax.nn.one_hot(y, 10)
    to_h2 = error @ w3
    to_h1 = (to_h2 * (h2 > 0)) @ w2
    gradients = [(to_h1 * (h1 > 0)).T @ x / 5, (to_h2 * (h2 > 0)).T @ h1 / 5, error.T @ h2 / 5]
    np.testing.assert_allclose(seen["gradient"], [np.linalg.norm(g) for g in gradients], rtol=1e-12)
    np.testing.assert_allclose(seen["received"][:2], [np.sqrt((g**2).mean()) for g in (to_h1, to_h2)], rtol=1e-12)
    np.testing.assert_allclose(seen["spread"][:2], [h1.std(), h2.std()], rtol=1e-12)
    np.testing.assert_allclose(seen["mean_square"][:2], [(h1**2).mean(), (h2**2).mean()], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "same"), [("Xavier", init.xavier()), ("He", init.he()), ("std 0.01", init.normal(0.01))]
)
def test_a_scale_is_the_initializer_of_its_name(name, same):
    key, shape = jax.random.key(0), (784, 100)
    np.testing.assert_allclose(INITS[name](key, shape), same(key, shape), rtol=1e-6)


def test_new_scales_do_not_recompile():
    traces = []

    @jax.jit
    def draw(scale):
        traces.append(scale)
        return scale(jax.random.key(0), (9, 4))

    stds = [float(jnp.std(draw(jax.tree.map(jnp.float32, scale)))) for scale in INITS.values()]
    assert len(traces) == 1
    assert len(set(stds)) == len(INITS)


def test_the_gradient_that_relu_passes_back():
    assert gradient_flow.relu_factor(INITS["He"]) == pytest.approx(1)
    assert gradient_flow.relu_factor(INITS["Xavier"]) == pytest.approx(1 / 2)
    assert gradient_flow.relu_factor(INITS["std 1"]) == pytest.approx(50)
    layer = layers.serial(layers.affine(WIDTH, INITS["Xavier"]), layers.elementwise(layers.relu))

    def growth(key):
        """‖gradient before the layer‖² / ‖gradient behind it‖², for a gradient that does not depend on the weights."""
        k_w, k_x, k_g = jax.random.split(key, 3)
        x, g = jax.random.normal(k_x, (1, WIDTH)), jax.random.normal(k_g, (1, WIDTH))
        params, stats = layer.init(k_w, x)
        _, back = jax.vjp(lambda x: layer.apply(params, stats, x, None, True)[0], x)
        return jnp.square(back(g)[0]).sum() / jnp.square(g).sum()

    measured = jax.vmap(growth)(jax.random.split(jax.random.key(0), 500)).mean()
    np.testing.assert_allclose(measured, gradient_flow.relu_factor(INITS["Xavier"]), rtol=0.03)


def world(claims_hold: bool, seeds: int = 12) -> xr.Dataset:
    """Networks of which every claim is true, or none."""
    activations, inits = list(gradient_flow.ACTIVATIONS), list(INITS)
    rng = np.random.default_rng(0)
    dims, shape = ("activation", "depth", "init", "draw", "layer"), (3, 2, 4, seeds, 4)
    ds = xr.Dataset(
        {"gradient": (dims, 10 ** (0.01 * rng.standard_normal(shape)))},
        {"activation": activations, "depth": [2, 3], "init": inits, "draw": range(seeds), "layer": [1, 2, 3, 4]},
        {"depth_trained": 3, "lr": 0.01, "batch": 8, "every": 10, "dataset": "made up"},
    )
    ds["received"], ds["spread"] = ds.gradient.copy(), ds.gradient.copy()
    towards_the_first = 10.0 ** (2 * (ds.layer - 3))  # a hundred times less a layer
    shrinks = {"activation": "sigmoid", "init": "std 1" if claims_hold else "std 0.01"}
    ds.gradient.loc[shrinks] = ds.gradient.loc[shrinks] * towards_the_first
    if not claims_hold:
        ds.gradient.loc[{"activation": "sigmoid", "init": "std 1"}] /= towards_the_first
        ds.received.loc[{"activation": "ReLU", "init": "He"}] *= towards_the_first
    ds.gradient.loc[{"activation": "ReLU", "init": "std 0.01"}] *= 1e-4 if claims_hold else 1
    ds.gradient.loc[{"activation": "ReLU", "init": "Xavier", "depth": 3}] *= 0.1 if claims_hold else 10

    # The four initial scales have gradients of 1, 10⁻¹·⁵, 10⁻³ and 10⁻⁴·⁵ times ReLU's with He's weights.
    first = 10.0 ** (-1.5 * ((np.arange(4) + 1) % 4))
    at = {"activation": activations, "init": inits, "seed": range(seeds), "layer": ds.layer.values}
    seen = np.broadcast_to(first[None, :, None, None, None], (3, 4, seeds, 2, 4))
    ds["gradient_in_training"] = ("activation", "init", "seed", "update", "layer"), seen.copy()
    ds["spread_in_training"] = ds.gradient_in_training.copy()
    ds = ds.assign_coords(at).assign_coords(update=[0, 10], step=range(60))
    learn = 10 * np.arange(1, 5)[np.argsort(np.argsort(-first if claims_hold else first))]
    learn = np.where(first < 0.1, 1000, learn) if claims_hold else learn
    loss = np.where(np.arange(60) < learn[:, None], 2.3, 0.1)
    ds["loss"] = ("activation", "init", "seed", "step"), np.broadcast_to(loss[None, :, None], (3, 4, seeds, 60)).copy()
    ds["diverged_at"] = ("activation", "init", "seed"), np.full((3, 4, seeds), -1)
    return ds


@pytest.mark.parametrize(("truth", "outcome"), [(True, "holds"), (False, "does not hold")])
def test_verdicts_follow_the_numbers(truth, outcome):
    found = EXPERIMENT.judge(world(truth))
    assert [v.outcome for v in found] == [outcome] * 9, [(v.claim, v.outcome) for v in found]


def test_answers_follow_the_numbers():
    (stops,) = EXPERIMENT.answer(world(True))
    assert stops.answer.startswith("It stops learning for the length of these runs: in 60 updates")
    assert "0 of 108 networks" in stops.answer
    assert "36 of the 36 others" in stops.answer
    (not_so,) = EXPERIMENT.answer(world(False))
    assert not_so.answer.startswith("It does not keep networks from learning")
    some = world(True)
    some.loss[0, 0, 0] = 0.0
    (slower,) = EXPERIMENT.answer(some)
    assert slower.answer.startswith("It makes learning slower")
    none = world(True)
    none["gradient_in_training"] = none.gradient_in_training * 0 + 1
    (silent,) = EXPERIMENT.answer(none)
    assert "do not answer" in silent.answer
    assert len(EXPERIMENT.judge(none)) == 8


def test_steps_to_target_are_those_of_the_smoothed_loss():
    ds = world(True, seeds=1)
    loss = np.full(60, 2.3)
    loss[20] = 0.0  # one lucky minibatch is not enough
    loss[40:] = 0.5
    ds.loss[0, 0, 0] = loss
    ds.loss[0, 1, 0] = np.where(np.arange(60) < 30, 2.3, np.nan)
    steps = gradient_flow.steps_to_target(ds).sel(activation="sigmoid", seed=0)
    assert 38 <= float(steps[0]) <= 42
    assert np.isnan(steps[1])


def test_one_pair_in_reverse_order_refutes_that_a_smaller_gradient_always_learns_later():
    ds = world(True)
    ds.loss.loc[{"activation": "tanh", "init": "Xavier", "seed": 3}] = 0.1
    assert gradient_flow.reversals(ds).values.tolist() == [0, 0, 0, 9, *[0] * 8]
    (found,) = [v for v in EXPERIMENT.judge(ds) if v.claim.startswith("The smaller")]
    assert found.outcome == "does not hold"
    assert "1 of 12 are exceptions" in found.sentence


def test_the_correlation_describes_the_kinds_and_is_no_number_where_all_fail():
    np.testing.assert_allclose(gradient_flow.rank_correlation(world(False)), 1)
    (found,) = [v for v in EXPERIMENT.judge(world(False)) if v.claim.startswith("The smaller")]
    assert "Spearman's correlation over the kinds is +1.00; it describes them" in found.sentence
    ds = world(True)
    ds["loss"] = ds.loss * 0 + 2.3
    assert np.isnan(gradient_flow.rank_correlation(ds)).all()
    assert not [v for v in EXPERIMENT.judge(ds) if v.claim.startswith("The smaller")]


def test_a_network_that_learns_with_a_vanished_gradient_refutes_that_none_does():
    ds = world(True)
    ds.loss.loc[{"activation": "tanh", "init": "std 0.01", "seed": 3}] = 0.1
    (found,) = [v for v in EXPERIMENT.judge(ds) if v.claim.startswith("Networks whose")]
    assert (found.outcome, found.seeds) == ("does not hold", 12)


def test_gradients_of_0_and_infinity_are_drawn_and_judged():
    ds = world(True, seeds=2)
    ds.loss[2, 0, 0, 2:] = np.nan
    ds.diverged_at[2, 0, 0] = 2
    ds.gradient_in_training[2, 0, 0] = np.inf
    ds.gradient[2] = 0
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()
    of_gradients = [v for v in EXPERIMENT.judge(ds) if v.source == "claim 5" and "first layer's gradient" in v.claim]
    assert len(of_gradients) == 2
    assert {v.outcome for v in of_gradients} <= {"undecided", "not measurable"}
    assert "1 of 2" in EXPERIMENT.summary(ds)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"draws": -1}, "--draws is at least 1, not -1"),
        ({"every": 0}, "--every is at least 1, not 0"),
        ({"lr": 0.0}, "--lr is a positive number, not 0"),
        ({"lr": float("nan")}, "--lr is a positive number, not nan"),
        ({"depths": ()}, "--depths names no depth"),
        ({"depths": (1, 3)}, r"--depths takes whole numbers from 2 on, not \[1\]"),
        ({"depths": (3, 5, 3)}, "--depths names 3 more than once"),
        ({"depth": 4}, r"--depth is one of --depths, \(3, 5, 10\), not 4"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        EXPERIMENT.options(**options).check()
