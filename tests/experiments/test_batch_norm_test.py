"""Batch norm at tiny size, and its verdicts on made-up accuracies, in both directions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.stats import t

from experiments import _cli, batch_norm_test
from experiments.batch_norm_test import QUICK, RATES, SCALES, TITLES, Config
from fnn import init, layers
from fnn.base.errors import InputError
from fnn.lab.verdicts import decide_every

TINY = Config(seeds=2, images=60, batch=20, epochs=2, dataset="mnist_5k")
KEY = jax.random.key(3)
X = jax.ShapeDtypeStruct((20, 9), jnp.float32)


@pytest.fixture(scope="module")
def tiny():
    """A run with one hidden layer instead of five, which compiles faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_norm_test, "HIDDEN", (20,))
        return batch_norm_test.run(TINY)


def test_a_run_is_labelled(tiny):
    assert dict(tiny.accuracy.sizes) == {"kind": 2, "seed": 2, "epoch": 2, "scale": 16}
    for split in ("train", "validation", "test"):
        assert tiny[f"{split}_accuracy"].dims == ("kind", "seed", "lr")
        assert tiny[f"{split}_accuracy"].attrs["units"] == "1"
        assert ((tiny[f"{split}_accuracy"] >= 0) & (tiny[f"{split}_accuracy"] <= 1)).all()
    assert ((tiny.accuracy >= 0) & (tiny.accuracy <= 1)).all()
    # Shares of 60, 2,000 and 1,000 images.
    for values, n in ((tiny.accuracy, 60), (tiny.validation_accuracy, 2000), (tiny.test_accuracy, 1000)):
        np.testing.assert_allclose(n * values, np.round(n * values), atol=1e-2)
    np.testing.assert_allclose(tiny.scale, np.logspace(0, -4, 16))
    np.testing.assert_allclose(tiny.lr[[0, -1]], [0.01, 10])
    assert not tiny.diverged.any()
    assert tiny.attrs["complete"] == 1
    assert tiny.attrs["dataset"] == "mnist_5k"


def test_figures_are_drawn_from_a_run(tiny):
    made = batch_norm_test.figures(tiny)
    assert list(made) == [
        "12_network",
        "13_graph",
        "14_accuracy",
        "14_accuracy_spread",
        "weight_scale",
        "learning_rate",
    ]


def test_figure_14_has_the_notes_form(tiny):
    axes = batch_norm_test.figure_14(tiny).axes
    assert [ax.get_title() for ax in axes] == [f"W:{scale:.3g}" for scale in SCALES]
    assert all(ax.get_ylim() == (0, 1) for ax in axes)
    assert [bool(ax.get_ylabel()) for ax in axes] == [i % 4 == 0 for i in range(16)]
    assert [bool(ax.get_xlabel()) for ax in axes] == [i >= 12 for i in range(16)]
    assert [ax.get_legend() is not None for ax in axes] == [False] * 15 + [True]
    for ax, scale in zip(axes, SCALES, strict=True):
        for line, kind, dashes in zip(ax.lines, TITLES, ("-", "--"), strict=True):
            assert line.get_linestyle() == dashes
            np.testing.assert_array_equal(line.get_ydata(), tiny.accuracy.sel(kind=kind, scale=scale).isel(seed=0))


@pytest.mark.parametrize("placement", ["before", "after"])
def test_figure_12_shows_the_network_that_is_trained(tiny, placement):
    fig = batch_norm_test.figure_12(tiny.assign_attrs(placement=placement))
    names = [text.get_text() for text in fig.axes[0].texts if text.get_text() and not text.get_text().isdigit()]
    one = {"before": ["Affine", "Batch Norm", "ReLU"], "after": ["Affine", "ReLU", "Batch Norm"]}[placement]
    assert names == [*one * 5, "Affine", "Softmax"]


def test_a_run_has_verdicts_on_all_four_claims(tiny):
    found = batch_norm_test.verdicts(tiny)
    assert [verdict.source for verdict in found] == ["claim 7"] * 3 + ["claim 8"] * 3 + ["claim 9"] + ["claim 10"] * 3
    assert all("nan" not in verdict.sentence for verdict in found)


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_decides_nothing_that_varies(tiny, seeds):
    found = batch_norm_test.verdicts(tiny.isel(seed=slice(seeds)))
    assert all((verdict.low, verdict.high) == (-np.inf, np.inf) for verdict in found) == (seeds == 1)
    assert seeds == 2 or {verdict.outcome for verdict in found} <= {"undecided", "not measurable"}


def test_figures_of_one_seed_have_no_band(tiny):
    one = tiny.isel(seed=[0])
    for panel in batch_norm_test.figure_14_spread(one).axes:
        for band, kind in zip(panel.collections, TITLES, strict=True):
            heights = np.asarray(band.get_paths()[0].vertices)[:, 1].tolist()
            assert set(heights) <= set(one.accuracy.sel(kind=kind).values.ravel())
    assert "1 seed" in batch_norm_test.over_rates(one).get_supxlabel()


def test_networks_of_a_key_start_alike(monkeypatch):
    """With batch norm before, after, or without: the same initial weights, so that comparisons are paired."""
    monkeypatch.setattr(batch_norm_test, "HIDDEN", (5, 5, 5))

    @jax.jit
    def starts():
        return [batch_norm_test.network(TINY, where, init.he()).init(KEY, X)[0] for where in ("before", "after", None)]

    weights = [[p.w for p in params if isinstance(p, layers.Affine)] for params in starts()]
    assert [len(w) for w in weights] == [4, 4, 4]
    for others in weights[1:]:
        jax.tree.map(np.testing.assert_array_equal, weights[0], others)


@pytest.mark.parametrize("variance", [0.0, 1.0])
def test_running_variances_start_where_they_are_told(variance, monkeypatch):
    monkeypatch.setattr(batch_norm_test, "HIDDEN", (5,))
    cfg = replace(TINY, running_variance=variance)
    _, stats = jax.jit(lambda: batch_norm_test.network(cfg, "before", init.he()).init(KEY, X))()
    running = [s for s in stats if isinstance(s, layers.Running)]
    assert len(running) == 1
    for s in running:
        np.testing.assert_array_equal(s.var, variance)
        np.testing.assert_array_equal(s.mean, 0)


def test_the_splits_do_not_overlap():
    images = _cli.load_data(TINY)
    splits = batch_norm_test.data(TINY, images)
    assert {name: len(split.y) for name, split in splits.items()} == {"train": 60, "validation": 2000, "test": 1000}
    np.testing.assert_array_equal(splits["train"].x, images.x_train[:60])
    np.testing.assert_array_equal(splits["validation"].x, images.x_train[60:2060])


BAD = {
    "images": (0, "--images is at least 1, not 0"),
    "batch": (61, "--batch is 1 to the 60 --images, not 61"),
    "epochs": (0, "--epochs is at least 1, not 0"),
    "lr": (-0.1, "--lr is a number above 0, not -0.1"),
    "placement": ("beside", "--placement is before or after, not 'beside'"),
    "running_variance": (-1.0, "--running-variance is a number from 0 on, not -1.0"),
    "target": (1.5, "--target is a share above 0 and up to 1, not 1.5"),
    "seeds": (0, "--seeds is at least 1, not 0"),
}


@pytest.mark.parametrize("option", BAD)
def test_bad_options_get_one_sentence(option):
    value, sentence = BAD[option]
    with pytest.raises(InputError, match=sentence):
        replace(TINY, **{option: value}).check()
    TINY.check()
    QUICK.check()


def test_validation_needs_images_beyond_those_trained_on():
    with pytest.raises(InputError, match="--images is below the 4,000 training images of mnist_5k, not 4,000"):
        batch_norm_test.run(replace(TINY, images=4000))


# Verdicts on made-up accuracies -------------------------------------------------------------------------------------


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
            "diverged": (("kind", "seed", "scale"), np.zeros((2, seeds, 16), np.int8)),
            "lr_diverged": (axes, np.zeros((2, seeds, 10), np.int8)),
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


def outcomes(ds):
    return [verdict.outcome for verdict in batch_norm_test.verdicts(ds)]


HOLDS, FAILS = "holds", "does not hold"


def test_where_batch_norm_is_better_everywhere_every_claim_holds():
    falling = np.linspace(0.9, 0.2, 16)
    found = outcomes(made(bn=0.95, plain=falling))
    # At learning rate 0.01 both know all training images: there, too, the gap is narrower.
    assert found == [HOLDS] * 10


def test_where_batch_norm_is_worse_everywhere_no_claim_holds():
    falling = np.linspace(0.9, 0.2, 16)
    found = outcomes(made(bn=falling, plain=0.95, bn_top=3, plain_top=6, bn_test=0.7, plain_test=0.8))
    assert found == [FAILS] * 10


def test_the_worst_scale_decides_for_every_one():
    one_bad = np.where(np.arange(16) == 2, 0.95, 0.1)
    mean, every, best = batch_norm_test.faster(made(bn=0.8, plain=one_bad))
    assert (mean.outcome, every.outcome, best.outcome) == (HOLDS, FAILS, FAILS)
    assert "W = 0.293" in every.sentence
    np.testing.assert_allclose(every.effect, -15, atol=0.5)


def test_every_scale_learns_only_if_the_worst_does():
    one_bad = np.where(np.arange(16) == 15, 0.3, 0.9)
    spread, more, every = batch_norm_test.robust(made(bn=one_bad, plain=0.2))
    assert (more.outcome, every.outcome) == (HOLDS, FAILS)
    assert more.effect == 15
    assert "W = 0.0001" in every.sentence
    # A network that learns from no scale depends on none: the count beside it says what that is worth.
    assert spread.outcome == FAILS


def test_larger_learning_rates_are_counted_in_decades():
    (found,) = batch_norm_test.larger_rates(made(bn_top=9, plain_top=6))
    assert (found.outcome, found.low, found.high) == (HOLDS, found.effect, found.effect)
    np.testing.assert_allclose(found.effect, 1, atol=1e-9)  # three steps of a third of a decade
    assert "4.6 against 0.46" in found.sentence


def test_where_no_learning_rate_works_nothing_is_said():
    ds = made(plain_top=0)
    (rates,) = batch_norm_test.larger_rates(ds)
    same, fit, best = batch_norm_test.overfitting(ds)
    assert (rates.outcome, rates.effect, fit.outcome) == (HOLDS, np.inf, "not measurable")
    (neither,) = batch_norm_test.larger_rates(made(bn_top=0, plain_top=0))
    assert neither.outcome == "not measurable"
    assert "cannot tell" in neither.sentence
    assert "cannot tell" in fit.sentence
    assert (same.outcome, best.outcome) == (FAILS, HOLDS)


def test_equal_accuracy_is_looked_for_among_the_learning_rates():
    ds = made(bn_top=9, plain_top=2, bn_test=0.8, plain_test=0.86)
    _, fit, _ = batch_norm_test.overfitting(ds)
    assert fit.outcome == FAILS
    assert "at lr 0.01, 0.022;" in fit.sentence
    np.testing.assert_allclose(fit.effect, -6, atol=0.5)


def test_the_validation_images_choose_the_learning_rate_and_the_test_images_judge_it():
    ds = made(bn_top=10, plain_top=10, bn_test=0.8, plain_test=0.8)
    ds.validation_accuracy[:, :, 4] = 0.99
    ds.test_accuracy.loc[{"kind": "bn"}] = np.where(np.arange(10) == 4, 0.85, 0.99)
    ds.test_accuracy.loc[{"kind": "plain"}] = np.where(np.arange(10) == 4, 0.80, 0.1)
    *_, best = batch_norm_test.overfitting(ds)
    np.testing.assert_allclose(best.effect, 5)
    assert "median 0.22 against 0.22" in best.sentence


def test_the_interval_of_the_worst_is_right_although_it_is_chosen():
    """All 16 effects are equal, the worst case for choosing: at most 5 % of intervals miss."""
    rng = np.random.default_rng(1)
    repeats, n = 400, 10
    missed = plain_missed = 0
    for _ in range(repeats):
        effect = rng.standard_normal((n, 16))
        found = decide_every("c", effect, SCALES, "", "{worst:.3g}", "")
        missed += not found.low <= 0 <= found.high
        worst = effect[:, effect.mean(0).argmin()]
        plain_missed += worst.mean() + t.ppf(0.975, n - 1) * worst.std(ddof=1) / np.sqrt(n) < 0
        assert found.sentence == f"{SCALES[effect.mean(0).argmin()]:.3g}"
    assert missed <= 0.05 * repeats
    assert plain_missed > 0.2 * repeats


def test_decide_every_in_one_point_is_students_interval():
    effect = np.array([[1.0], [2.0], [4.0]])
    found = decide_every("c", effect, np.ones(1), "", "{effect} {low} {high}", "")
    reach = t.ppf(0.975, 2) * np.std([1, 2, 4], ddof=1) / np.sqrt(3)
    np.testing.assert_allclose([found.low, found.effect, found.high], [7 / 3 - reach, 7 / 3, 7 / 3 + reach])
    assert found.outcome == "undecided"


# Interrupted and diverged runs --------------------------------------------------------------------------------------


def record(steps, seeds=2):
    """What `sweep.stream` gives after some of the 6 steps of `TINY`: accuracies at the ends of epochs of 3."""
    ends = np.isin(1 + np.arange(steps), TINY.epoch_ends())[None, :, None]
    made = {}
    for kind, level in zip(TITLES, (0.8, 0.4), strict=True):
        level = level + 0.01 * np.arange(seeds)[:, None, None]
        loss = np.ones((seeds, steps, 16))
        if kind == "plain":
            loss[0, 1:, 0] = np.nan
        at_end = np.where(1 + np.arange(steps) == TINY.epoch_ends()[-1], 0.5, np.nan)[None, :, None]
        made[f"{kind} scale"] = {"loss": loss, "train_accuracy": np.where(ends, level, np.nan) + np.zeros(16)}
        splits = {f"{s}_accuracy": at_end + np.zeros((seeds, 1, 10)) for s in ("train", "validation", "test")}
        made[f"{kind} lr"] = {"loss": np.ones((seeds, steps, 10)), **splits}
    return made


def test_an_interrupted_run_keeps_the_epochs_done():
    ds = batch_norm_test.label(TINY, _cli.load_data(TINY), record(steps=5))
    assert ds.epoch.values.tolist() == [1]
    assert [verdict.source for verdict in batch_norm_test.verdicts(ds)] == ["claim 7"] * 3 + ["claim 8"] * 3
    assert "learning_rate" not in batch_norm_test.figures(ds)
    assert "after epoch 1" in batch_norm_test.summary(ds)
    whole = batch_norm_test.label(TINY, _cli.load_data(TINY), record(steps=6))
    assert whole.epoch.values.tolist() == [1, 2]
    assert len(batch_norm_test.verdicts(whole)) == 10


def test_diverged_networks_count_and_are_marked():
    ds = batch_norm_test.label(TINY, _cli.load_data(TINY), record(steps=6))
    assert int(ds.diverged.sum()) == 1
    assert ds.diverged.sel(kind="plain", seed=0, scale=1) == 1
    caption = batch_norm_test.over_scales(ds).get_supxlabel().replace("\n", " ")
    assert "of 32 networks each 0 with and 1 without batch norm diverged" in caption
