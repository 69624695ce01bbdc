"""Figure 11's experiment at tiny size: the sizes of the weights, pairing, findings in both directions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import _lab
from experiments import weight_init_compare as experiment
from experiments.weight_init_compare import INITS, Config, Scaled
from fnn import init
from fnn.base.errors import InputError

TINY = Config(seeds=2, steps=30, batch=32, inits="0.01,xavier,he,orthogonal", dataset="mnist_5k")


@pytest.fixture(scope="module")
def ds():
    return experiment.run(TINY)


def test_the_run_is_labelled(ds):
    assert dict(ds.loss.sizes) == {"init": 4, "seed": 2, "step": 30}
    assert list(ds.init.values) == ["0.01", "xavier", "he", "orthogonal"]
    assert np.isfinite(ds.loss).all()
    assert ds.test_accuracy.dims == ds.train_loss.dims == ("init", "seed")
    assert np.isfinite(ds.test_accuracy).all()
    assert ds.attrs["complete"] == 1
    np.testing.assert_allclose(ds.guessing, 0.1)  # mnist_5k is stratified
    # Tiny weights give logits near 0, and so the loss of guessing.
    np.testing.assert_allclose(ds.loss.sel(init="0.01")[:, 0], math.log(10), atol=2e-3)
    assert (abs(ds.loss.sel(init="he")[:, 0] - math.log(10)) > 2e-3).all()


def test_figures_and_findings_come_from_the_data(ds):
    made = experiment.figures(ds)
    assert set(made) == {"11_loss", "11_loss_log", "11_differences", "accuracy"}
    for figure in made.values():
        figure.canvas.draw()
    ax = made["11_loss"].axes[0]
    assert ax.get_ylim() == (0, 2.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("iterations", "loss (nats)")
    assert [line.get_marker() for line in ax.get_lines()[:3]] == ["o", "s", "D"]
    assert [line.get_markevery() for line in ax.get_lines()] == [100] * 4
    assert len(experiment.verdicts(ds)) == 6
    assert experiment.summary(ds).count("\n") == 4


def test_numbers_and_programs_of_their_own_are_told_apart():
    scaled, others = experiment.contenders(Config(inits="orthogonal, 0.5,glorot"))
    assert list(scaled) == ["0.5", "glorot"]
    assert list(others) == ["orthogonal"]


@pytest.mark.parametrize(
    ("weights", "same"),
    [
        (Scaled(0.01, 0.0), init.normal(0.01)),
        (INITS["xavier"], init.xavier()),
        (INITS["he"], init.he()),
        (INITS["glorot"], init.glorot()),
    ],
)
def test_the_family_holds_the_known_initializers(weights, same, x64):
    """gain · (n_in + back · n_out)^−power, with traced numbers, is each of them exactly."""
    key, shape = jax.random.key(0), (30, 20)
    drawn = jax.jit(lambda hp: experiment.normal(hp)(key, shape, jnp.float64))(Scaled(*map(jnp.float64, weights)))
    np.testing.assert_allclose(drawn, same(key, shape, jnp.float64), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps is at least 1, not 0"),
        ({"batch": 0}, "--batch is at least 1, not 0"),
        ({"seeds": 0}, "--seeds is at least 1, not 0"),
        ({"lr": 0.0}, "--lr is a number above 0, not 0.0"),
        ({"lr": math.nan}, "--lr is a number above 0, not nan"),
        ({"inits": " ,"}, "--inits names no initial weights"),
        ({"inits": "he,xavier,he"}, "--inits names he more than once"),
        ({"inits": "he,kaiming"}, "glorot, orthogonal; not 'kaiming'"),
        ({"inits": "-0.1"}, "a standard deviation above 0, .* not '-0.1'"),
    ],
)
def test_bad_options_get_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        Config(**options).check()


def test_a_minibatch_is_no_larger_than_the_data():
    with pytest.raises(InputError, match="at most the 4,000 training images of mnist_5k, not 4,001"):
        experiment.run(Config(batch=4001, dataset="mnist_5k"))


def synthetic(curves: dict[str, float], accuracies: dict[str, float], seeds: int = 12) -> xr.Dataset:
    """Losses that go from ln 10 to the given end in a straight line, a little different for every seed."""
    noise = 0.001 * np.random.default_rng(0).normal(size=(seeds, 1))
    loss = [np.linspace(math.log(10), end, 400) + noise * (i + 1) for i, end in enumerate(curves.values())]
    ds = xr.Dataset(
        {
            "loss": (("init", "seed", "step"), np.stack(loss)),
            "test_accuracy": (("init", "seed"), np.stack([a + noise[:, 0] for a in accuracies.values()])),
        },
        {"init": list(curves), "seed": range(seeds), "step": range(400)},
        {"dataset": "mnist", "batch": 128, "lr": 0.01, "guessing": 0.1135, "complete": 1},
    )
    ds["train_accuracy"] = ds.test_accuracy
    return ds


def outcomes(ds):
    return [v.outcome for v in experiment.verdicts(ds)]


def test_the_numbers_decide():
    as_told = synthetic(
        {"0.01": 2.3, "xavier": 0.3, "he": 0.2}, accuracies={"0.01": 0.1135, "xavier": 0.91, "he": 0.93}
    )
    assert outcomes(as_told) == ["holds"] * 6
    reverse = synthetic({"0.01": 0.2, "xavier": 0.3, "he": 0.4}, accuracies={"0.01": 0.93, "xavier": 0.92, "he": 0.9})
    assert outcomes(reverse) == ["does not hold"] * 6
    assert {v.source for v in experiment.verdicts(as_told)} == {"claim 6"}


def test_what_was_not_trained_is_not_judged(ds):
    assert len(experiment.verdicts(ds.sel(init=["xavier", "he"]))) == 2
    assert len(experiment.verdicts(ds.sel(init=["0.01", "he"]))) == 2
    assert experiment.verdicts(ds.sel(init=["orthogonal"])) == []
    assert "11_differences" not in experiment.figures(ds.sel(init=["he"]))


def test_an_interrupted_run_is_judged_by_its_losses(ds):
    part = ds.isel(step=slice(10)).copy(deep=True)
    part["test_accuracy"] = part.test_accuracy * np.nan
    assert len(experiment.verdicts(part)) == 3
    made = experiment.figures(part)
    assert "accuracy" not in made
    for figure in made.values():
        figure.canvas.draw()


def test_one_seed_gives_no_certainty(ds):
    one = ds.isel(seed=[0])
    assert set(outcomes(one)) == {"undecided"}
    for figure in experiment.figures(one).values():
        figure.canvas.draw()


def test_a_diverged_run_is_a_result(ds):
    """It is marked, counted in its curve, and the worst for the claims about it."""
    wild = ds.copy(deep=True)
    wild.loss.loc[{"init": "he", "seed": 1, "step": slice(5, None)}] = np.nan
    wild["diverged_at"] = _lab.first_not_finite(wild.loss)
    assert "1 of 2" in experiment.summary(wild)
    assert "1 run diverged, the worst in medians and ranks" in experiment.about(wild)
    by_claim = {v.claim: v for v in experiment.verdicts(wild)}
    ranked = by_claim["He learns faster than Xavier"]
    assert (ranked.outcome, ranked.diverged, min(ranked.effects)) == ("undecided", 1, -np.inf)
    assert np.isfinite(by_claim["Xavier learns faster than std = 0.01"].effect)
    for figure in experiment.figures(wild).values():
        figure.canvas.draw()
