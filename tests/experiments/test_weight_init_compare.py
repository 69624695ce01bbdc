"""Figure 11's experiment at tiny size: the sizes of the weights, several programs in one data set, claims both ways."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.initial_weights.weight_init_compare import EXPERIMENT, INITS, Config, Scaled
from fnn import init
from fnn.base.errors import InputError


@pytest.fixture(scope="module")
def ds():
    inits = ("0.01", "orthogonal", "he", "0.5")
    return EXPERIMENT.run(EXPERIMENT.options(quick=True, steps=20, batch=32, inits=inits))


def test_contenders_of_several_programs_are_in_the_order_of_the_option(ds):
    assert list(ds.init.values) == ["0.01", "orthogonal", "he", "0.5"]
    assert ds.loss.dims == ("init", "seed", "step")
    assert np.isfinite(ds.loss).all()
    np.testing.assert_allclose(ds.guessing, 0.1)  # mnist_5k is stratified
    # Tiny weights give logits near 0, and so the loss of guessing.
    np.testing.assert_allclose(ds.loss.sel(init="0.01")[:, 0], math.log(10), atol=2e-3)
    assert (abs(ds.loss.sel(init="he")[:, 0] - math.log(10)) > 2e-3).all()


@pytest.mark.parametrize(
    ("weights", "same"),
    [
        (Scaled(0.01, 0.0), init.normal(0.01)),
        (INITS["xavier"], init.xavier()),
        (INITS["he"], init.he()),
        (INITS["glorot"], init.glorot()),
    ],
)
def test_the_family_includes_the_known_initializers(weights, same, x64):
    """gain · (n_in + back · n_out)^−power, with traced numbers, is each of them exactly."""
    key, shape = jax.random.key(0), (30, 20)
    drawn = jax.jit(lambda hp: hp(key, shape, jnp.float64))(Scaled(*map(jnp.float64, weights)))
    np.testing.assert_allclose(drawn, same(key, shape, jnp.float64), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "--lr is a number above 0, not 0.0"),
        ({"lr": math.nan}, "--lr is a number above 0, not nan"),
        ({"inits": ()}, "--inits names no initial weights"),
        ({"inits": ("he", "xavier", "he")}, "--inits names he more than once"),
        ({"inits": ("he", "kaiming")}, "glorot, orthogonal; not 'kaiming'"),
        ({"inits": ("-0.1",)}, "a standard deviation above 0, .* not '-0.1'"),
    ],
)
def test_bad_options_get_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        Config(**options).check()


def made(ends: dict[str, float], accuracies: dict[str, float], seeds: int = 12) -> xr.Dataset:
    """Losses that go from ln 10 to the given end in a straight line, a little different for every seed."""
    noise = 0.001 * np.random.default_rng(0).normal(size=(seeds, 1))
    loss = [np.linspace(math.log(10), end, 400) + noise * (i + 1) for i, end in enumerate(ends.values())]
    accuracy = np.stack([a + noise for a in accuracies.values()])
    return xr.Dataset(
        {"loss": (("init", "seed", "step"), np.stack(loss)), "test_accuracy": (("init", "seed", "update"), accuracy)},
        {"init": list(ends), "seed": range(seeds), "step": range(400), "update": [400]},
        {"dataset": "mnist", "batch": 128, "lr": 0.01, "guessing": 0.1135, "steps": 400},
    )


AS_SAID = made({"0.01": 2.3, "xavier": 0.3, "he": 0.2}, {"0.01": 0.1135, "xavier": 0.91, "he": 0.93})
REVERSE = made({"0.01": 0.2, "xavier": 0.3, "he": 0.4}, {"0.01": 0.93, "xavier": 0.92, "he": 0.9})


@pytest.mark.parametrize(("ds", "outcome"), [(AS_SAID, "holds"), (REVERSE, "does not hold")])
def test_the_numbers_decide(ds, outcome):
    assert [verdict.outcome for verdict in EXPERIMENT.judge(ds)] == [outcome] * 6


def test_no_better_than_guessing_has_two_bounds():
    worse = AS_SAID.copy(deep=True)
    worse.test_accuracy.loc[{"init": "0.01"}] -= 0.03
    by_claim = {verdict.claim: verdict.outcome for verdict in EXPERIMENT.judge(worse)}
    assert by_claim["With std = 0.01 the network ends no better than guessing (within 1 point)"] == "does not hold"


def test_what_was_not_trained_is_neither_judged_nor_compared():
    assert len(EXPERIMENT.judge(AS_SAID.sel(init=["xavier", "he"]))) == 2
    assert len(EXPERIMENT.judge(AS_SAID.sel(init=["0.01", "he"]))) == 2
    one = AS_SAID.sel(init=["he"])
    assert EXPERIMENT.judge(one) == []
    assert "11_differences" not in EXPERIMENT.draw(one)


def test_a_diverged_run_is_the_worst_of_its_claims():
    wild = AS_SAID.copy(deep=True)
    wild.loss.loc[{"init": "he", "seed": 1, "step": slice(5, None)}] = np.nan
    ranked = {verdict.claim: verdict for verdict in EXPERIMENT.judge(wild)}["He learns faster than Xavier"]
    assert (ranked.diverged, min(ranked.effects)) == (1, -np.inf)
