"""The experiment on dropout at tiny size, the notes' form against theory, its claims."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.regularization import _overfit
from experiments.regularization import overfit_dropout as experiment
from experiments.regularization.overfit_dropout import EXPERIMENT, Config
from fnn import layers, losses, models
from fnn.base.errors import InputError
from fnn.nn.layers import Affine
from fnn.tasks import Split
from fnn.train import Moment

pytestmark = pytest.mark.usefixtures("small")

TINY = Config(
    seeds=3,
    images=60,
    batch=30,
    epochs=4,
    evaluate_every=2,
    ratios=(0.5,),
    long_epochs=6,
    dataset="mnist_5k",
)


@pytest.fixture(scope="module")
def ds(small):
    return EXPERIMENT.run(TINY)


def test_the_run_is_labelled(ds):
    assert dict(ds.test_accuracy.sizes) == {"ratio": 3, "seed": 3, "epoch": 4}
    np.testing.assert_array_equal(ds.epoch, [1, 2, 4, 6])
    assert np.isfinite(ds.test_accuracy).all()
    assert ds.deletion_test_loss.dims == ("ratio", "seed")
    assert np.isfinite(ds.deletion_test_loss).all()
    assert dict(ds.inverted_test_accuracy.sizes) == {"inverted_ratio": 1, "inverted_seed": 3, "inverted_epoch": 1}
    assert dict(ds.notes_test_accuracy.sizes) == {"notes_ratio": 2, "notes_seed": 1, "notes_epoch": 2}
    assert dict(ds.kept.sizes) == {"hidden": 2, "unit": 20}


def test_ratio_0_is_no_dropout_to_the_last_bit():
    x = jax.random.normal(jax.random.key(1), (7, 784))
    network = experiment.network(0.0)
    params, stats = network.init(jax.random.key(0), x)
    training, _ = network.apply(params, stats, x, jax.random.key(2), True)
    inference, _ = network.apply(params, stats, x, None, False)
    plain, _ = models.multilayer(_overfit.HIDDEN, 10).apply(
        [p for i, p in enumerate(params) if i % 3 != 2], [()] * 5, x, None, False
    )
    np.testing.assert_array_equal(training, inference)
    np.testing.assert_array_equal(training, plain)


def test_the_keep_ratio_gives_the_mean_over_all_masks(x64):
    """Σ P(mask) W (mask · x) over all 2⁶ masks is W (1 − p) x, which no other factor gives."""
    p, x = 0.2, jax.random.normal(jax.random.key(0), (6,), jnp.float64)
    w = jax.random.normal(jax.random.key(1), (3, 6), jnp.float64)
    masks = np.array(list(itertools.product([0, 1], repeat=6)))
    chance = np.prod(np.where(masks, 1 - p, p), axis=1)
    mean = np.einsum("m,mi,i,oi->o", chance, masks, x, w)
    scaled, _ = layers.dropout(p).apply((), (), x[None], None, False)
    np.testing.assert_allclose((scaled @ w.T)[0], mean, rtol=1e-12)


def trained(drop, params, rates, p=0.3):
    """30 steps of gradient descent, a rate for every array, on a small network with this form of dropout."""
    net = models.multilayer((8, 8, 8), 3, dropout_ratio=p, drop=drop)
    x, y = jax.random.normal(jax.random.key(1), (20, 5), jnp.float64), jnp.arange(20) % 3

    def loss(params, key):
        return losses.softmax_cross_entropy(net.apply(params, ((),) * 10, x, key, True)[0], y)

    def step(params, key):
        return jax.tree.map(lambda w, g, rate: w - rate * g, params, jax.grad(loss)(params, key), rates), None

    params, _ = jax.lax.scan(step, params, jax.random.split(jax.random.key(2), 30))
    return net.apply(params, ((),) * 10, x, None, False)[0]


def test_the_notes_form_is_the_inverted_one_rescaled(x64):
    """Weights 1 − p and rates (1 − p)² times as large in all layers but the first: the same network, step by step."""
    p = 0.3
    net = models.multilayer((8, 8, 8), 3, dropout_ratio=p)
    params, _ = net.init(jax.random.key(0), jnp.zeros((1, 5), jnp.float64))
    rates = jax.tree.map(lambda w: 0.1, params)
    later = range(3, len(params), 3)
    scaled, slower = list(params), list(rates)
    for i in later:
        scaled[i] = Affine((1 - p) * params[i].w, params[i].b)
        slower[i] = Affine((1 - p) ** 2 * rates[i].w, rates[i].b)
    notes = trained(layers.dropout, params, rates)
    inverted = trained(layers.inverted_dropout, tuple(scaled), tuple(slower))
    np.testing.assert_allclose(notes, inverted, rtol=1e-11)
    assert abs(trained(layers.inverted_dropout, params, rates) - notes).max() > 0.01


def test_the_factors_scale_the_logits_of_a_network_without_biases():
    """Each of the hidden layers multiplies the logits by its factor; the largest logit stays the largest."""
    p, depth = 0.2, len(_overfit.HIDDEN)
    images = jax.random.randint(jax.random.key(3), (50, 28, 28), 0, 256).astype(jnp.uint8)
    split = Split(images, jnp.arange(50) % 10)
    network = experiment.network(p)
    params, stats = network.init(jax.random.key(0), jnp.zeros((1, 784)))
    logits, _ = network.apply(params, stats, images.reshape(50, -1) / jnp.float32(255), None, False)
    hp = experiment.Hyper(p)
    seen = jax.jit(experiment.observe)(
        Moment(hp, params, params, params, stats, None, None, None, {"test": split}, jax.random.key(1))
    )
    for name, factor in (("deletion", p), ("unscaled", 1.0)):
        expected = losses.softmax_cross_entropy(logits * (factor / (1 - p)) ** depth, split.y)
        np.testing.assert_allclose(seen[f"{name}_test_loss"], expected, rtol=1e-4)
        np.testing.assert_allclose(seen[f"{name}_test_accuracy"], losses.accuracy(logits, split.y), atol=1e-6)


def test_the_mask_drawn_is_the_networks_own():
    ratio, key = 0.4, jax.random.key(5)
    network = experiment.network(ratio)
    x = jax.random.normal(jax.random.key(1), (1, 784))
    params, stats = network.init(jax.random.key(0), x)
    outputs, _ = layers.through(network.parts, params, stats, x, key, True)
    mask = experiment.first_mask(ratio, key)
    for row, before, after in zip(mask, outputs[1::3], outputs[2::3], strict=True):
        np.testing.assert_array_equal(after[0], before[0] * row)
    assert 0 < mask.mean() < 1


def made_up(ds, plain, dropped, keep_loss=0.5, other_loss=2.0):
    """The same data set with other numbers: (training, test) accuracies without and with dropout, over 12 seeds."""
    ds = ds.isel(seed=np.arange(12) % 3, inverted_seed=np.arange(12) % 3)
    ds = ds.assign_coords(seed=np.arange(12), inverted_seed=np.arange(12))
    scatter = 0.001 * (1 + ds.ratio) * (ds.seed % 5)
    for split, without, with_it in zip(("train", "test"), plain, dropped, strict=True):
        name = f"{split}_accuracy"
        values = xr.where(ds.ratio > 0, with_it, without) + scatter
        ds[name] = values.broadcast_like(ds[name]).transpose(*ds[name].dims).copy()
    ds["train_loss"] = 1 / ds.epoch + 0 * ds.train_loss
    end = 0.001 * (ds.seed % 5)
    ds["test_loss"] = 0 * ds.test_loss + end + keep_loss
    ds["deletion_test_loss"] = ds["unscaled_test_loss"] = 0 * ds.deletion_test_loss + 2 * end + other_loss
    accuracy = ds.test_accuracy.sel(epoch=ds.epochs, drop=True) - (other_loss - keep_loss) / 10
    ds["deletion_test_accuracy"] = ds["unscaled_test_accuracy"] = accuracy
    return ds


def outcomes(ds, *words):
    found = [v.outcome for v in EXPERIMENT.judge(ds) if all(word in v.claim for word in words)]
    assert found
    return set(found)


CLAIMS = [["narrows"], ["raises"], ["equal", "after 6 epochs"], ["best ratio"], ["keep ratio", "loss"], ["accuracy"]]


@pytest.mark.parametrize("words", CLAIMS, ids=" ".join)
def test_claims_follow_the_numbers_in_both_directions(ds, words):
    kind = made_up(ds, (1.0, 0.6), (0.9, 0.8))
    cruel = made_up(ds, (0.7, 0.65), (0.9, 0.5), keep_loss=2.0, other_loss=0.5)
    assert outcomes(kind, *words) == {"holds"}
    assert outcomes(cruel, *words) == {"does not hold"}


def test_answers_follow_the_numbers(ds):
    kind = made_up(ds, (1.0, 0.6), (0.9, 0.8))
    cruel = made_up(ds, (0.7, 0.65), (0.9, 0.5), keep_loss=2.0, other_loss=0.5)
    assert "can raise" in EXPERIMENT.answer(kind)[0].answer
    assert "No ratio raises" in EXPERIMENT.answer(cruel)[0].answer
    assert "lowest at factor 1 − p" in EXPERIMENT.answer(kind)[1].answer
    assert "lowest at factor p" in EXPERIMENT.answer(cruel)[1].answer


def test_what_one_of_many_ratios_does_by_chance_is_no_rise(ds):
    """Each comparison at 95 % would find a rise in about one of eight of these data sets or more."""
    rng, raised = np.random.default_rng(0), 0
    base = made_up(ds, (1.0, 0.6), (1.0, 0.6))
    for _ in range(40):
        noise = xr.DataArray(rng.normal(0, 0.02, base.test_accuracy.shape), dims=base.test_accuracy.dims)
        raised += "can raise" in experiment.helps(base.assign(test_accuracy=0.6 + noise))
    assert raised <= 4


def test_the_faster_form_is_decided_by_the_numbers(ds):
    faster = made_up(ds, (1.0, 0.6), (0.5, 0.5))
    faster["inverted_train_accuracy"] = 0 * faster.inverted_train_accuracy + 0.9
    slower = faster.assign(inverted_train_accuracy=0 * faster.inverted_train_accuracy + 0.1)
    assert outcomes(faster, "inverted dropout learns faster") == {"holds"}
    assert outcomes(slower, "inverted dropout learns faster") == {"does not hold"}


def test_a_diverged_run_is_a_result(ds):
    ill = ds.copy(deep=True)
    for name in ("train_accuracy", "test_accuracy", "train_loss", "test_loss", "unscaled_test_loss"):
        ill[name].loc[{"ratio": 0.2, "seed": 1}] = np.nan
    ill["diverged_at"].loc[{"ratio": 0.2, "seed": 1}] = 3
    assert outcomes(ill, "narrows the gap after 4") == {"undecided"}
    assert EXPERIMENT.answer(ill)
    for figure in EXPERIMENT.draw(ill).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "--epochs is at least 1, not 0"),
        ({"batch": 0}, "--batch is at least 1, not 0"),
        ({"ratio": 0.0}, "--ratio is above 0 and below 1, not 0"),
        ({"ratio": 1.0}, "--ratio is above 0 and below 1, not 1"),
        ({"ratios": (0.1, 1.0)}, "--ratios are at least 0 and below 1, not 1"),
        ({"long_epochs": 300}, "--long-epochs is at least 301"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()
