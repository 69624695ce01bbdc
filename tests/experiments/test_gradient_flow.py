"""What flows through networks, against hand-made backpropagation and theory; verdicts on worlds made up both ways."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import gradient_flow
from experiments.gradient_flow import INITS, QUICK, WIDTH, Config, Scale
from fnn import init, layers, losses
from fnn.base.errors import InputError

TINY = Config(seeds=2, steps=30, batch=16, depths="2,3", depth=2, draws=3, every=10, dataset="mnist_5k")


@pytest.fixture(scope="module")
def tiny():
    return gradient_flow.run(TINY)


def test_a_run_is_labelled(tiny):
    assert dict(tiny.gradient.sizes) == {"activation": 3, "depth": 2, "init": 4, "draw": 3, "layer": 4}
    assert tiny.loss.dims == ("activation", "init", "seed", "step")
    assert tiny.sizes["step"] == 30
    np.testing.assert_array_equal(tiny["update"], [0, 10, 20])
    assert tiny.attrs["complete"] == 1
    assert tiny.attrs["dataset"] == "mnist_5k"
    # A network of 2 hidden layers has 3 of weights; where there is no layer there is no number.
    assert tiny.gradient.sel(depth=2, layer=[1, 2, 3]).notnull().all()
    assert tiny.gradient.sel(depth=2, layer=4).isnull().all()
    assert tiny.spread.sel(depth=2, layer=[1, 2]).notnull().all()
    assert tiny.spread.sel(depth=2, layer=[3, 4]).isnull().all()
    assert tiny.gradient_in_training.sel(layer=4).isnull().all()


def test_the_scales_show_where_theory_is_simple(tiny):
    """A sigmoid's slope at 0 is 1/4 and tanh's 1: at std 0.01 the way back takes 40 and 10 times a layer of 100."""
    back = tiny.received.sel(init="std 0.01", depth=3).mean("draw")
    step = back.sel(layer=2) / back.sel(layer=3)
    np.testing.assert_allclose(step.sel(activation="sigmoid"), np.sqrt(WIDTH) * 0.01 / 4, rtol=0.1)
    np.testing.assert_allclose(step.sel(activation="tanh"), np.sqrt(WIDTH) * 0.01, rtol=0.1)


def test_figures_verdicts_and_answers_come_from_a_run(tiny):
    for figure in gradient_flow.figures(tiny).values():
        figure.canvas.draw()
    found = gradient_flow.verdicts(tiny)
    assert len(found) == 9
    assert {v.seeds for v in found} == {2, 3}
    (answer,) = gradient_flow.answers(tiny)
    assert answer.figure in gradient_flow.figures(tiny)
    assert "ReLU, He" in gradient_flow.summary(tiny)


def test_look_agrees_with_backpropagation_by_hand(x64):
    _, network = gradient_flow.problem("ReLU", 2, 5)
    scale = Scale(jnp.float64(1.0), jnp.float64(0.5))
    net = network(scale)
    params, stats = net.init(jax.random.key(1), jax.ShapeDtypeStruct((5, 7), jnp.float64))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    x, y = jax.random.normal(jax.random.key(2), (5, 7), jnp.float64), jnp.array([0, 3, 9, 3, 1])
    seen = jax.jit(partial(gradient_flow.look, net))(params, stats, (x, y))

    w1, w2, w3 = losses.weights(params)
    h1 = np.maximum(x @ w1.T, 0)
    h2 = np.maximum(h1 @ w2.T, 0)
    error = jax.nn.softmax(h2 @ w3.T) - jax.nn.one_hot(y, 10)
    to_h2 = error @ w3
    to_h1 = (to_h2 * (h2 > 0)) @ w2
    gradients = [(to_h1 * (h1 > 0)).T @ x / 5, (to_h2 * (h2 > 0)).T @ h1 / 5, error.T @ h2 / 5]
    np.testing.assert_allclose(seen["gradient"], [np.linalg.norm(g) for g in gradients], rtol=1e-12)
    np.testing.assert_allclose(seen["received"], [np.sqrt((g**2).mean()) for g in (to_h1, to_h2)], rtol=1e-12)
    np.testing.assert_allclose(seen["spread"], [h1.std(), h2.std()], rtol=1e-12)
    np.testing.assert_allclose(seen["mean_square"], [(h1**2).mean(), (h2**2).mean()], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "same"), [("Xavier", init.xavier()), ("He", init.he()), ("std 0.01", init.normal(0.01))]
)
def test_a_scale_is_the_initializer_of_its_name(name, same):
    key, shape = jax.random.key(0), (784, 100)
    np.testing.assert_allclose(gradient_flow.weights(INITS[name])(key, shape), same(key, shape), rtol=1e-6)


def test_new_scales_do_not_recompile():
    traces = []

    @jax.jit
    def draw(scale):
        traces.append(scale)
        return gradient_flow.weights(scale)(jax.random.key(0), (9, 4))

    stds = [float(jnp.std(draw(jax.tree.map(jnp.float32, scale)))) for scale in INITS.values()]
    assert len(traces) == 1
    assert len(set(stds)) == len(INITS)


def test_what_relu_hands_back():
    assert gradient_flow.relu_factor(INITS["He"]) == pytest.approx(1)
    assert gradient_flow.relu_factor(INITS["Xavier"]) == pytest.approx(1 / 2)
    assert gradient_flow.relu_factor(INITS["std 1"]) == pytest.approx(50)
    layer = layers.serial(layers.affine(WIDTH, gradient_flow.weights(INITS["Xavier"])), layers.elementwise(layers.relu))

    def growth(key):
        """‖gradient before the layer‖² / ‖gradient behind it‖², for a gradient that knows nothing of the weights."""
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
    found = gradient_flow.verdicts(world(truth))
    assert [v.outcome for v in found] == [outcome] * 9, [(v.claim, v.outcome) for v in found]


def test_answers_follow_the_numbers():
    (stops,) = gradient_flow.answers(world(True))
    assert stops.answer.startswith("It stops learning for as long as these runs last: in 60 updates")
    assert "0 of 108 networks" in stops.answer
    assert "36 of the 36 others" in stops.answer
    (not_so,) = gradient_flow.answers(world(False))
    assert not_so.answer.startswith("It does not keep networks from learning")
    some = world(True)
    some.loss[0, 0, 0] = 0.0
    (slower,) = gradient_flow.answers(some)
    assert slower.answer.startswith("It makes learning slower")
    none = world(True)
    none["gradient_in_training"] = none.gradient_in_training * 0 + 1
    (silent,) = gradient_flow.answers(none)
    assert "cannot tell" in silent.answer
    assert len(gradient_flow.verdicts(none)) == 8


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


def test_a_rank_correlation_of_networks_that_all_fail_is_no_number():
    ds = world(True)
    np.testing.assert_allclose(gradient_flow.rank_correlation(world(False)), 1)
    ds["loss"] = ds.loss * 0 + 2.3
    assert np.isnan(gradient_flow.rank_correlation(ds)).all()
    assert "not measurable" in {v.outcome for v in gradient_flow.verdicts(ds)}


def test_one_diverged_and_interrupted_seed_still_makes_everything():
    ds = world(True, seeds=1).isel(step=slice(5), update=slice(1))
    ds.loss[2, 0, 0, 2:] = np.nan
    ds.diverged_at[2, 0, 0] = 2
    ds.gradient_in_training[2, 0, 0] = np.inf
    ds.gradient[2] = 0
    assert len(gradient_flow.figures(ds)) == 7
    assert {v.outcome for v in gradient_flow.verdicts(ds)} <= {"undecided", "not measurable"}
    assert len(gradient_flow.answers(ds)) == 1
    assert "1 of 1" in gradient_flow.summary(ds)


def test_an_interrupted_training_keeps_the_looks_it_had():
    record = {
        activation: {
            "loss": np.ones((2, 12, 4)),
            **{what: np.ones((2, 12, 4, 3 - (what != "gradient"))) for what in gradient_flow.LONG_NAMES},
        }
        for activation in gradient_flow.ACTIVATIONS
    }
    ds = gradient_flow.in_training(TINY, record)
    np.testing.assert_array_equal(ds["update"], [0, 10])
    assert ds.sizes["step"] == 12
    assert (ds.diverged_at == -1).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "--steps is at least 1, not 0"),
        ({"draws": -1}, "--draws is at least 1, not -1"),
        ({"every": 0}, "--every is at least 1, not 0"),
        ({"lr": 0.0}, "--lr is a positive number, not 0"),
        ({"lr": float("nan")}, "--lr is a positive number, not nan"),
        ({"depths": ","}, "--depths names no depth"),
        ({"depths": "1,3"}, "--depths takes whole numbers from 2 on, not '1'"),
        ({"depths": "three"}, "--depths takes whole numbers from 2 on, not 'three'"),
        ({"depth": 4}, "--depth is one of --depths, 3,5,10, not 4"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()


def test_the_defaults_are_good():
    Config().check()
    QUICK.check()
