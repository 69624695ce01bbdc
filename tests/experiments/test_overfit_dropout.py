"""The experiment on dropout at tiny size, the notes' form against theory, its findings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _overfit
from experiments import overfit_dropout as experiment
from experiments.overfit_dropout import Config
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
    long_epochs=4,
    long_seeds=2,
    inverted_seeds=9,
    dataset="mnist_5k",
)


@pytest.fixture(scope="module")
def ds(small):
    return experiment.run(TINY)


def test_the_run_is_labelled(ds):
    assert dict(ds.test_accuracy.sizes) == {"ratio": 3, "seed": 3, "epoch": 3}
    np.testing.assert_array_equal(ds.epoch, [1, 2, 4])
    np.testing.assert_array_equal(ds.milestone, [False, False, True])
    assert np.isfinite(ds.test_accuracy.isel(ratio=ds.watched)).all()
    assert np.isnan(ds.test_accuracy.sel(ratio=0.5)[:, :2]).all()
    assert np.isfinite(ds.deletion_test_loss.sel(epoch=4)).all()
    assert ds.sizes["long_seed"] == 2
    assert ds.sizes["inverted_seed"] == 3  # no more than there are of the notes' form to compare with
    assert dict(ds.kept.sizes) == {"hidden": 2, "unit": 20}


def test_longer_training_goes_the_same_way(ds):
    """Its networks are those of the first stage: here, where it is no longer, they end alike."""
    np.testing.assert_allclose(
        ds.test_loss.sel(epoch=4, ratio=[0.0, 0.2], seed=[0, 1]), ds.long_test_loss.sel(long_epoch=4), rtol=1e-5
    )


def test_everything_is_drawn_and_told(ds):
    figures = experiment.figures(ds)
    assert set(figures) == {
        "17_schematic", "18_dropout", "18_spread", "against_ratio", "length", "factor", "inverted"
    }  # fmt: skip
    for figure in figures.values():
        figure.canvas.draw()
    assert {v.source for v in experiment.verdicts(ds)} == {"claim 13", "slip §4.3", "question §4.3"}
    told = experiment.answers(ds)
    assert {answer.source for answer in told} == {"claim 13", "question §4.3"}
    for answer in told:
        assert answer.figure in figures
        assert "nan" not in answer.answer


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
    hp = experiment.Numbers(p)
    seen = jax.jit(experiment.look)(
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


def pretended(ds, plain, dropped, keep_loss=0.5, other_loss=2.0):
    """The same data set with other numbers: (training, test) accuracies without and with dropout, over 12 seeds."""
    ds = ds.isel(seed=np.arange(12) % 3, long_seed=np.arange(12) % 2, inverted_seed=np.arange(12) % 2)
    ds = ds.assign_coords({name: np.arange(12) for name in ("seed", "long_seed", "inverted_seed")})
    for prefix in ("", "long_"):
        ratio = ds[f"{prefix}ratio"]
        scatter = 0.001 * (1 + ratio) * ds[f"{prefix}seed"]
        for split, without, with_it in zip(("train", "test"), plain, dropped, strict=True):
            name = f"{prefix}{split}_accuracy"
            values = (ratio == 0) * without + (ratio > 0) * with_it + scatter
            ds[name] = (0 * ds[name].fillna(0) + values).transpose(*ds[name].dims)
    end = 0 * ds.test_loss + 0.001 * ds.seed
    ds["test_loss"] = end + keep_loss
    ds["deletion_test_loss"] = ds["unscaled_test_loss"] = end + other_loss + 0.001 * ds.seed
    ds["deletion_test_accuracy"] = ds["unscaled_test_accuracy"] = ds.test_accuracy - (other_loss - keep_loss) / 10
    return ds


def outcomes(ds, *words):
    found = [v.outcome for v in experiment.verdicts(ds) if all(word in v.claim for word in words)]
    assert found
    return set(found)


def test_verdicts_follow_the_numbers_in_both_directions(ds):
    kind = pretended(ds, (1.0, 0.6), (0.9, 0.8))
    cruel = pretended(ds, (0.7, 0.65), (0.9, 0.5), keep_loss=2.0, other_loss=0.5)
    for words in (
        ["narrows"],
        ["raises"],
        ["Trained for 4 epochs"],
        ["best ratio"],
        ["keep ratio", "loss"],
        ["keep ratio", "accuracy"],
    ):
        assert outcomes(kind, *words) == {"holds"}, words
        assert outcomes(cruel, *words) == {"does not hold"}, words
    assert "can raise" in experiment.answers(kind)[0].answer
    assert "No ratio raises" in experiment.answers(cruel)[0].answer
    assert "lowest at factor 1 − p" in experiment.answers(kind)[1].answer
    assert "lowest at factor p" in experiment.answers(cruel)[1].answer


def test_the_faster_form_is_told_by_the_numbers(ds):
    faster = pretended(ds, (1.0, 0.6), (0.5, 0.5))
    faster["inverted_train_accuracy"] = 0 * faster.inverted_train_accuracy + 0.9
    slower = faster.assign(inverted_train_accuracy=0 * faster.inverted_train_accuracy + 0.1)
    assert outcomes(faster, "inverted dropout learns faster") == {"holds"}
    assert outcomes(slower, "inverted dropout learns faster") == {"does not hold"}


def test_a_single_seed_decides_nothing_that_varies(ds):
    one = ds.isel(seed=[0], long_seed=[0], inverted_seed=[0])
    assert outcomes(one, "narrows") == {"undecided"}
    assert experiment.answers(one)


def test_a_diverged_run_is_a_result(ds):
    ill = ds.copy(deep=True)
    for name in ("train_accuracy", "test_accuracy", "test_loss", "unscaled_test_loss"):
        ill[name].loc[{"ratio": 0.2, "seed": 1}] = np.nan
    ill["diverged_at"].loc[{"ratio": 0.2, "seed": 1}] = 3
    assert outcomes(ill, "Dropout of ratio 0.2 narrows") == {"undecided"}
    assert experiment.answers(ill)
    for figure in experiment.figures(ill).values():
        figure.canvas.draw()


def test_an_interrupt_keeps_what_is_done(monkeypatch):
    """In the second stage, before it has anything to keep."""
    stream, begun = _overfit._lab.stream, []

    def interrupted(*arguments, **options):
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        yield from stream(*arguments, **options)

    monkeypatch.setattr(_overfit._lab, "stream", interrupted)
    ds = experiment.run(TINY)
    assert ds.complete == 0
    assert "long_ratio" not in ds
    assert "factor" in experiment.figures(ds)
    assert experiment.verdicts(ds)
    for answer in experiment.answers(ds):
        assert "nan" not in answer.answer


def test_the_part_before_every_ratio_was_evaluated_is_drawn(ds):
    later = [name for name in ds.variables if str(name).startswith(("long_", "inverted_"))]
    part = ds.drop_vars(later).isel(epoch=[0, 1])
    assert experiment.verdicts(part) == experiment.answers(part) == []
    figures = experiment.figures(part)
    assert set(figures) == {"17_schematic", "18_dropout", "18_spread"}
    for figure in figures.values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "--epochs is at least 1, not 0"),
        ({"batch": 0}, "--batch is at least 1, not 0"),
        ({"ratio": 0.0}, "--ratio is above 0 and below 1, not 0"),
        ({"ratio": 1.0}, "--ratio is above 0 and below 1, not 1"),
        ({"ratios": (0.1, 1.0)}, "--ratios are at least 0 and below 1, not 1"),
        ({"ratios": (0.2,)}, "--ratios names no ratio besides"),
        ({"long_ratios": (-0.1,)}, "--long-ratios are at least 0 and below 1, not -0.1"),
        ({"long_epochs": 0}, "--long-epochs is at least 1"),
        ({"inverted_seeds": 0}, "--inverted-seeds is at least 1"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()
