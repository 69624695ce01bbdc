"""The recurring figures: what is drawn agrees with labels and numbers, and bad input is one sentence."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from fnn.base.errors import InputError
from fnn.base.statistics import intervals
from fnn.lab import figures, plotting

SEEDS, STEPS = 6, 40


@pytest.fixture
def ds():
    """A labeled data set like a sweep's."""
    rng = np.random.default_rng(0)
    shape = {"rule": 3, "lr": 2, "seed": SEEDS, "step": STEPS}
    draw = lambda *dims: (dims, rng.uniform(0.1, 0.9, [{**shape, "update": 2, "bin": 5}[dim] for dim in dims]))
    found = xr.Dataset(
        {
            "loss": draw("rule", "seed", "step"),
            "grid": draw("rule", "lr", "seed", "step"),
            "test_accuracy": draw("rule", "seed", "update"),
            "by_lr": draw("rule", "seed", "lr"),
            "accuracy_map": draw("rule", "lr", "seed"),
            "counts": draw("rule", "lr", "seed", "bin"),
        },
        {
            "rule": ["sgd", "momentum", "adam"],
            "lr": ("lr", [0.1, 1.0], {"long_name": "learning rate"}),
            "seed": range(SEEDS),
            "step": range(STEPS),
            "update": [20, 40],
            "bin": np.linspace(-1, 1, 5),
        },
        {"dataset": "mnist_5k", "batch": 64, "lr_used": 0.1, "steps": STEPS},
    )
    for name in ("loss", "grid", "by_lr"):
        found[name].attrs = {"units": "nats", "long_name": "loss on the minibatch"}
    for name in ("test_accuracy", "accuracy_map"):
        found[name].attrs = {"units": "1", "long_name": "accuracy on the test images"}
    found.bin.attrs = {"long_name": "activation"}
    return found


SHAPES = {
    "curves": figures.curves("loss", "rule"),
    "panels": figures.curves("grid", "rule", "Every rate, {steps} steps", col="lr", panels=lambda lr: f"rate {lr:g}"),
    "differences": figures.differences("loss", "rule", smooth=3),
    "dots": figures.dots("test_accuracy", "rule"),
    "intervals": figures.intervals("by_lr", "lr", "rule", log="xy"),
    "heat": figures.heat("by_lr", "lr", "rule"),
    "heats": figures.heat("counts", "lr", "bin", "How often", col="rule"),
    "histograms": figures.histograms("counts", "bin", "rule", "lr"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_drawn_with_title_caption_and_words(ds, name):
    figure = SHAPES[name](_numbered(ds, name))
    figure.canvas.draw()
    said = figures.words(figure, ["Adam is ahead: holds"])
    assert all(said.values())
    assert said["caption"].startswith("mnist_5k · minibatch 64 · 6 seeds")
    assert said["title"] in said["alt"]
    assert said["alt"].endswith("Adam is ahead: holds.")
    assert "{" not in "".join(said.values())


def _numbered(ds, name):
    """Heat maps have numbers along both axes."""
    return ds.assign_coords(rule=[0.0, 1.0, 2.0]) if name == "heat" else ds


def lines(ax):
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 2]


def test_curves_are_the_means_and_bands_their_intervals(ds):
    [ax] = figures.curves("loss", "rule", "Loss")(ds).axes
    assert len(lines(ax)) == 3
    for rule, line, band in zip(ds.rule.values, lines(ax), ax.collections, strict=True):
        mean, low, high = intervals(ds.loss.sel(rule=rule).values)
        np.testing.assert_allclose(line.get_ydata(), mean)
        np.testing.assert_array_equal(line.get_xdata(), ds.step)
        ends = band.get_paths()[0].vertices
        for end in (low, high):
            assert np.isin(np.round(end, 9), np.round(ends[:, 1], 9)).all()
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("iterations", "loss (nats)", "Loss")
    assert ax.get_xlim() == (0, STEPS)
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["sgd", "momentum", "adam"]


def test_smoothed_curves_are_labeled(ds):
    figure = figures.curves("loss", "rule", smooth=5, markers=10, details=("rate {lr_used:g}",))(ds)
    smoothed = plotting.smooth(ds.loss.sel(rule="adam").values, 5).mean(0)
    np.testing.assert_allclose(lines(figure.axes[0])[2].get_ydata(), smoothed)
    expected = "mnist_5k · minibatch 64 · rate 0.1 · 6 seeds, paired · mean with its 95 % interval · smoothed over 5"
    assert figures.words(figure)["caption"] == f"{expected} iterations"
    assert [line.get_markevery() for line in lines(figure.axes[0])] == [10] * 3


def test_panels_are_the_places_of_their_dimension(ds):
    figure = SHAPES["panels"](ds)
    assert [ax.get_title() for ax in figure.axes] == ["rate 0.1", "rate 1"]
    for lr, ax in zip(ds.lr.values, figure.axes, strict=True):
        for rule, line in zip(ds.rule.values, lines(ax), strict=True):
            np.testing.assert_allclose(line.get_ydata(), ds.grid.sel(lr=lr, rule=rule).mean("seed"))
    said = figures.words(figure)
    assert said["title"] == "Every rate, 40 steps"
    assert "Panels: rate 0.1; rate 1." in said["alt"]
    assert "Drawn: sgd, momentum, adam." in said["alt"]
    assert "Axes: iterations, loss (nats)." in said["alt"]


def test_accuracies_are_in_percent(ds):
    [ax] = figures.intervals("test_accuracy", "update", "rule", guide=(0.1, "guessing"), ylim=(0, 100))(ds).axes
    assert ax.get_ylabel() == "accuracy on the test images (%)"
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), 100 * ds.test_accuracy.sel(rule="sgd").mean("seed"))
    assert ax.get_lines()[-1].get_ydata()[0] == 10
    [ax] = figures.dots("test_accuracy", "rule", guide=("chance", "guessing"))(ds.assign_attrs(chance=0.1)).axes
    assert ax.get_xlabel() == "accuracy on the test images (%)"
    for dots, rule in zip(ax.collections, ds.rule.values, strict=True):
        shown = 100 * ds.test_accuracy.sel(rule=rule).isel(update=-1)
        np.testing.assert_allclose(dots.get_offsets()[:, 0], shown)
        assert f"{float(shown.mean()):.2f}" in [text.get_text() for text in ax.texts]
    assert ax.get_lines()[0].get_xdata()[0] == 10
    flat = figures.heat("accuracy_map", "lr", "rule")(ds.assign_coords(rule=[0.0, 1.0, 2.0]))
    np.testing.assert_allclose(
        flat.axes[0].collections[0].get_array(), 100 * ds.accuracy_map.mean("seed").transpose("rule", "lr")
    )
    assert "Colors: accuracy on the test images (%)." in figures.words(flat)["alt"]


@pytest.mark.parametrize(("lower", "sign", "side"), [(True, 1, "second"), (False, -1, "first")])
def test_differences_are_paired_and_above_0_where_the_named_one_is_ahead(ds, lower, sign, side):
    figure = figures.differences("loss", "rule", smooth=1, lower=lower)(ds)
    first, second = figure.axes
    gap = ds.loss.sel(rule="sgd") - ds.loss.sel(rule="momentum")
    mean, _, _ = intervals(sign * gap.values)
    np.testing.assert_allclose(lines(first)[0].get_ydata(), mean, atol=1e-12)
    names = ("sgd", "momentum") if lower else ("momentum", "sgd")
    assert first.get_title() == "loss of {} minus loss of {}".format(*names)
    assert second.get_xlabel() == "iterations"
    assert f"above 0 the {side} is ahead" in figures.words(figure)["caption"]


def test_histograms_add_the_counts_of_all_seeds(ds):
    figure = SHAPES["histograms"](ds)
    assert len(figure.axes) == 6
    heights = [bar.get_height() for bar in figure.axes[3].patches]
    np.testing.assert_allclose(heights, ds.counts.sel(rule="momentum", lr=1.0).sum("seed"))
    assert figure.axes[-1].get_xlabel() == "activation"


def test_a_place_keeps_its_color_whatever_is_drawn_beside_it():
    style = figures.Style(str.upper, {"adam": 5, "sgd": 1})
    numbers = lambda places: [style.number(place, places) for place in places]
    assert numbers(["sgd", "adam"]) == [1, 5]
    assert numbers(["adam", "muon", "lion", "sgd", "new"]) == [5, 0, 2, 1, 3]
    assert len(set(numbers([*"abcdefghijkl", "sgd"]))) == 13
    assert figures.PLAIN.number("b", ["a", "b"]) == 1


def test_runs_that_diverged_are_counted_and_the_worst(ds):
    ds.loss[2, 0, 10:] = np.nan
    ds["diverged_at"] = ("rule", "seed"), np.full((3, SEEDS), -1)
    ds.diverged_at[2, 0] = 10
    ds.test_accuracy[2, 0] = np.nan
    ds.test_accuracy[1] = np.nan
    figure = figures.curves("loss", "rule")(ds)
    assert "adam (median; 1 of 6 diverged)" in figures.words(figure)["alt"]
    assert "1 run diverged, the worst in medians and ranks" in figures.words(figure)["caption"]
    median = np.median(np.where(np.isnan(ds.loss[2]), np.inf, ds.loss[2]), axis=0)
    np.testing.assert_allclose(lines(figure.axes[0])[2].get_ydata(), median)
    [ax] = figures.dots("test_accuracy", "rule")(ds).axes
    said = [text.get_text() for text in ax.texts]
    assert said[1] == "all diverged"
    assert said[2].endswith(", 1 diverged")
    [ax] = figures.intervals("test_accuracy", "update", "rule")(ds).axes
    shown = np.median(np.where(np.isnan(ds.test_accuracy[2]), 0, 100 * ds.test_accuracy[2]), axis=0)
    np.testing.assert_allclose(ax.get_lines()[2].get_ydata(), shown)


def test_one_seed_and_one_place_are_drawn(ds):
    one = ds.isel(seed=[0], rule=[0], lr=[0])
    for name in ("curves", "panels", "dots", "intervals", "heat", "histograms"):
        SHAPES[name](
            _numbered(one.isel(rule=[0]), "") if name != "heat" else one.assign_coords(rule=[0.0])
        ).canvas.draw()
    assert "1 seed ·" in figures.words(SHAPES["curves"](one))["caption"]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("change", ["missing", "more", "fewer"])
def test_what_a_shape_cannot_draw_is_one_sentence(ds, name, change):
    shape = SHAPES[name]
    variable = shape.variable
    if change == "missing":
        message, ds = f"The data set has no {variable}; it has", ds.drop_vars(variable)
    elif change == "more":
        message, ds = f"{variable} has the dimensions", ds.assign({variable: ds[variable].expand_dims(planet=2)})
    else:
        message, ds = f"{variable} has the dimensions", ds.assign({variable: ds[variable].isel(rule=0, drop=True)})
    with pytest.raises(InputError, match=message):
        shape(ds)


def test_a_single_place_has_no_differences(ds):
    with pytest.raises(InputError, match="between at least two coordinates of rule"):
        SHAPES["differences"](ds.isel(rule=[0]))


@pytest.mark.parametrize("field", ["title", "details"])
def test_a_text_that_names_a_lost_attribute_is_one_sentence(ds, field):
    shape = dataclasses.replace(SHAPES["curves"], **{field: "{planet:g}" if field == "title" else ("{planet:g}",)})
    with pytest.raises(InputError, match="names attributes of the data set, which has dataset, batch, lr_used, steps"):
        shape(ds)


def test_words_of_a_plain_drawing():
    figure = plotting.figure()
    ax = plotting.axes(figure, "A valley", "x (m)", "y (m)")
    ax.plot([0, 1], [0, 1], label="path")
    ax.legend()
    plotting.caption(figure, "10 seeds")
    expected = "A valley. Axes: x (m), y (m). Drawn: path."
    assert figures.words(figure) == {"title": "A valley", "caption": "10 seeds", "alt": expected}
    assert figures.words(plotting.figure()) == {"title": "", "caption": "", "alt": ""}
