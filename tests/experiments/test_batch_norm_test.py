"""Batch norm at tiny size, and its claims on made-up accuracies, in both directions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.batch_norm import batch_norm_test as experiment
from experiments.batch_norm.batch_norm_test import EXPERIMENT, RATES, SCALES, TITLES
from fnn import data, init, layers
from fnn.base.errors import InputError

TINY = EXPERIMENT.options(quick=True, images=60, batch=20, epochs=2)
KEY = jax.random.key(3)
X = jax.ShapeDtypeStruct((20, 9), jnp.float32)


@pytest.fixture(scope="module")
def tiny():
    """A run with one hidden layer instead of five, which compiles faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "HIDDEN", (20,))
        return EXPERIMENT.run(TINY)


def test_accuracies_are_shares_of_the_images_they_are_named_after(tiny):
    assert dict(tiny.accuracy.sizes) == {"kind": 2, "scale": 16, "seed": 2, "epoch": 2}
    for values, n in ((tiny.accuracy, 60), (tiny.validation_accuracy, 2000), (tiny.test_accuracy, 1000)):
        np.testing.assert_allclose(n * values, np.round(n * values), atol=1e-2)
    np.testing.assert_allclose(tiny.lr[[0, -1]], [0.01, 10])
    assert not tiny.diverged.any()


def test_figure_14_has_the_notes_form(tiny):
    axes = EXPERIMENT.figures["14_accuracy"](tiny).axes
    assert [ax.get_title() for ax in axes] == [f"W:{scale:.3g}" for scale in SCALES]
    assert all(ax.get_ylim() == (0, 1) for ax in axes)
    assert [bool(ax.get_ylabel()) for ax in axes] == [i % 4 == 0 for i in range(16)]
    for ax, scale in zip(axes, SCALES, strict=True):
        for line, kind, dashes in zip(ax.lines, TITLES, ("-", "--"), strict=True):
            assert line.get_linestyle() == dashes
            np.testing.assert_array_equal(line.get_ydata(), tiny.accuracy.sel(kind=kind, scale=scale).isel(seed=0))


@pytest.mark.parametrize("placement", ["before", "after"])
def test_figure_12_shows_the_network_that_is_trained(tiny, placement):
    fig = EXPERIMENT.figures["12_network"](tiny.assign_attrs(placement=placement))
    names = [text.get_text() for text in fig.axes[0].texts if text.get_text() and not text.get_text().isdigit()]
    one = {"before": ["Affine", "Batch Norm", "ReLU"], "after": ["Affine", "ReLU", "Batch Norm"]}[placement]
    assert names == [*one * 5, "Affine", "Softmax"]


def test_networks_of_a_key_start_alike(monkeypatch):
    """With batch norm before, after, or without: the same initial weights, so that comparisons are paired."""
    monkeypatch.setattr(experiment, "HIDDEN", (5, 5, 5))

    @jax.jit
    def starts():
        return [experiment.network(TINY, where, init.he()).init(KEY, X)[0] for where in ("before", "after", None)]

    weights = [[p.w for p in params if isinstance(p, layers.Affine)] for params in starts()]
    assert [len(w) for w in weights] == [4, 4, 4]
    for others in weights[1:]:
        jax.tree.map(np.testing.assert_array_equal, weights[0], others)


@pytest.mark.parametrize("variance", [0.0, 1.0])
def test_running_variances_start_at_the_option(variance, monkeypatch):
    monkeypatch.setattr(experiment, "HIDDEN", (5,))
    cfg = replace(TINY, running_variance=variance)
    _, stats = jax.jit(lambda: experiment.network(cfg, "before", init.he()).init(KEY, X))()
    (running,) = [s for s in stats if isinstance(s, layers.Running)]
    np.testing.assert_array_equal(running.var, variance)
    np.testing.assert_array_equal(running.mean, 0)


def test_the_splits_do_not_overlap():
    images = data.load("mnist_5k")
    splits = experiment.splits(TINY, images)
    assert {name: len(split.y) for name, split in splits.items()} == {"train": 60, "test": 1000, "validation": 2000}
    np.testing.assert_array_equal(splits["train"].x, images.x_train[:60])
    np.testing.assert_array_equal(splits["validation"].x, images.x_train[60:2060])
    with pytest.raises(InputError, match="--images is below the 4,000 training images of mnist_5k, not 4,000"):
        experiment.splits(replace(TINY, images=4000), images)


BAD = {
    "images": (0, "--images is at least 1, not 0"),
    "batch": (61, "--batch is 1 to the 60 --images, not 61"),
    "epochs": (0, "--epochs is at least 1, not 0"),
    "lr": (-0.1, "--lr is a number above 0, not -0.1"),
    "running_variance": (-1.0, "--running-variance is a number from 0 on, not -1.0"),
    "target": (1.5, "--target is a share above 0 and up to 1, not 1.5"),
}


@pytest.mark.parametrize("option", BAD)
def test_bad_options_get_one_sentence(option):
    value, sentence = BAD[option]
    with pytest.raises(InputError, match=sentence):
        replace(TINY, **{option: value}).check()


# Claims on made-up accuracies -----------------------------------------------------------------------------------------


def made(
    bn: float | np.ndarray = 0.9,
    plain: float | np.ndarray = 0.5,
    *,
    bn_top=10,
    plain_top=5,
    bn_test=0.85,
    plain_test=0.8,
    seeds=12,
):
    """Accuracies that do not depend on scale or epoch, unless an array says so; learning rates work up to the top."""
    rng = np.random.default_rng(0)
    noise = 0.004 * rng.standard_normal((2, seeds, 1, 16))
    accuracy = np.stack([np.broadcast_to(a, (seeds, 4, 16)) for a in (bn, plain)]) + noise
    works = np.stack([np.arange(10) < top for top in (bn_top, plain_top)])[:, None]
    train = np.where(works, 1.0, 0.1) + np.zeros((2, seeds, 1))
    test = np.where(works, np.reshape([bn_test, plain_test], (2, 1, 1)), 0.1) + noise[:, :, 0, :10]
    axes = "kind", "seed", "lr"
    return xr.Dataset(
        {
            "accuracy": (("kind", "seed", "epoch", "scale"), accuracy),
            "diverged": (("kind", "seed", "scale"), np.zeros((2, seeds, 16), bool)),
            "lr_diverged": (axes, np.zeros((2, seeds, 10), bool)),
            "train_accuracy": (axes, train),
            "validation_accuracy": (axes, test.copy()),
            "test_accuracy": (axes, test),
        },
        {
            "kind": list(TITLES),
            "seed": np.arange(seeds),
            "epoch": np.arange(1, 5),
            "scale": ("scale", SCALES, {"long_name": "standard deviation of the initial weights"}),
            "lr": ("lr", 0.01 * RATES, {"long_name": "learning rate"}),
        },
        {"images": 1000, "batch": 100, "epochs": 4, "target": 0.9, "placement": "before"},
    )


FASTER, EVERYWHERE, AT_BEST, LESS, MORE, ALL, RATES_LARGER, EQUALLY_FIT, SAME_RATE, GENERALIZES = range(10)


def judged(ds):
    found = EXPERIMENT.judge(ds)
    assert len(found) == 10
    return found


@pytest.mark.parametrize(
    ("better", "outcome"),
    [
        ({"bn": 0.95, "plain": np.linspace(0.9, 0.2, 16)}, "holds"),
        (
            {"bn": np.linspace(0.9, 0.2, 16), "plain": 0.95, "bn_top": 3, "plain_top": 6}
            | {"bn_test": 0.7, "plain_test": 0.8},
            "does not hold",
        ),
    ],
)
def test_the_numbers_decide(better, outcome):
    assert [verdict.outcome for verdict in judged(made(**better))] == [outcome] * 10


def test_the_worst_scale_decides_for_every_one():
    found = judged(made(bn=0.8, plain=np.where(np.arange(16) == 2, 0.95, 0.1)))
    assert [found[i].outcome for i in (FASTER, EVERYWHERE, AT_BEST)] == ["holds", "does not hold", "does not hold"]
    assert "scale 0.2929" in found[EVERYWHERE].sentence
    np.testing.assert_allclose(found[EVERYWHERE].effect, -15, atol=0.5)
    found = judged(made(bn=np.where(np.arange(16) == 15, 0.3, 0.9), plain=0.2))
    assert (found[MORE].outcome, found[ALL].outcome, found[MORE].effect) == ("holds", "does not hold", 15)
    # A network that learns from no scale depends on none: the count of scales shows that this is no merit.
    assert found[LESS].outcome == "does not hold"


def test_the_best_scale_is_chosen_on_other_seeds():
    """Where scales differ by noise alone, the best of each seed would be far ahead of what it is in the mean."""
    noisy = 0.5 + 0.1 * np.random.default_rng(1).standard_normal((40, 1, 16))
    found = judged(made(bn=np.broadcast_to(noisy, (40, 4, 16)), plain=0.5, seeds=40))[AT_BEST]
    assert found.outcome == "undecided"
    assert abs(found.effect) < 5 < 100 * (noisy.max(2).mean() - 0.5)


def test_larger_learning_rates_are_counted_in_decades():
    found = judged(made(bn_top=9, plain_top=6))[RATES_LARGER]
    np.testing.assert_allclose(found.effect, 1, atol=1e-9)  # three steps of a third of a decade
    assert "4.6 against 0.46" in found.sentence


def test_where_no_learning_rate_works_there_is_no_verdict():
    found = judged(made(plain_top=0))
    assert (found[RATES_LARGER].outcome, found[RATES_LARGER].effect) == ("holds", np.inf)
    assert (found[EQUALLY_FIT].outcome, found[SAME_RATE].outcome) == ("not measurable", "does not hold")
    assert "At no learning rate" in found[EQUALLY_FIT].sentence
    neither = judged(made(bn_top=0, plain_top=0))[RATES_LARGER]
    assert neither.outcome == "not measurable"
    assert "No network reached" in neither.sentence


def test_gaps_are_compared_where_both_fit():
    found = judged(made(bn_top=9, plain_top=2, bn_test=0.8, plain_test=0.86))[EQUALLY_FIT]
    assert found.outcome == "does not hold"
    assert "at learning rate 0.01, 0.022;" in found.sentence
    np.testing.assert_allclose(found.effect, -6, atol=0.5)


def test_the_validation_images_choose_the_learning_rate_and_the_test_images_judge_it():
    ds = made(bn_top=10, plain_top=10, bn_test=0.8, plain_test=0.8)
    ds.validation_accuracy[:, :, 4] = 0.99
    ds.test_accuracy.loc[{"kind": "bn"}] = np.where(np.arange(10) == 4, 0.85, 0.99)
    ds.test_accuracy.loc[{"kind": "plain"}] = np.where(np.arange(10) == 4, 0.80, 0.1)
    found = judged(ds)[GENERALIZES]
    np.testing.assert_allclose(found.effect, 5)
    assert "median 0.22 against 0.22" in found.sentence


def test_diverged_networks_are_counted_in_captions():
    ds = made()
    ds.diverged.loc[{"kind": "plain", "seed": 0, "scale": 1.0}] = True
    caption = EXPERIMENT.figures["weight_scale"](ds).get_supxlabel().replace("\n", " ")
    assert "of 192 networks each 0 with and 1 without batch norm diverged" in caption
