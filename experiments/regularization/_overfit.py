"""What the experiments on overfitting share: few images and a deep network, its curves, its gap, claims about both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnn import data, lab, sweep, tasks
from fnn.base.statistics import interval, side
from fnn.lab import plotting
from fnn.lab.figures import caption
from fnn.rule import Rule
from fnn.tasks import Task

HIDDEN = (100, 100, 100, 100, 100, 100)
NOTES_EVERY = 10
"""Epochs between two markers of the notes' figures."""
LEAST = 1.0
"""Points of accuracy, 3 of the 300 training images, below which a gap is not called narrower."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of an experiment on overfitting; the defaults are the notes', except that each seed draws its images."""

    seeds: int = 20
    """Networks of each contender, each with training images, initial weights and minibatches of one seed."""
    images: int = 300
    """Training images of a seed, drawn from those of the data set; the notes' figures use the first ones."""
    batch: int = 100
    """Examples per update, drawn with replacement."""
    epochs: int = 201
    """Epochs of training, each of (images / batch) updates."""
    evaluate_every: int = 20
    """Epochs between two points of a curve; two more are early ones."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(images=1, batch=1, epochs=1, evaluate_every=1)

    @property
    def steps_each(self) -> int:
        """Updates in an epoch."""
        return max(self.images // self.batch, 1)

    def curve(self, *ends: int, every: int | None = None) -> list[int]:
        """The epochs at which a curve up to the last of `ends` is evaluated: every n, two early ones, and `ends`."""
        every = self.evaluate_every if every is None else every
        return sorted({1, min(max(1, every // 2), ends[-1]), *range(every, ends[-1], every), *ends})


def trained(
    cfg: Config,
    task: Callable[[Any, int | None], Task],
    images: data.DataSet,
    rules: str | Mapping[str, Rule],
    over: Mapping[Any, Any],
    epochs: Sequence[int],
    part: str,
    **observed: Any,
) -> xr.Dataset:
    """The metrics of a sweep of `task(data, sample)` at all of `epochs`; dims …, seed, epoch.

    part: the name of the sweep; "notes" is the one of the notes' figures: one network on the first images.
    """
    notes = part == "notes"
    updates = [epoch * cfg.steps_each for epoch in epochs]
    ds = sweep(
        *(task(tasks.splits(images, cfg.images), None) if notes else task(images, cfg.images), rules),
        over=over,
        seeds=1 if notes else cfg.seeds,
        steps=updates[-1],
        evaluate=updates,
        keep=cfg.keep(part),
        progress=True,
        **observed,
    )
    ds = ds.drop_dims("step").rename(update="epoch")
    return ds.assign_coords(epoch=("epoch", list(epochs), {"long_name": "epochs"}))


def together(ds: xr.Dataset, **more: xr.Dataset) -> xr.Dataset:
    """One data set of several sweeps, the variables of `more` with the sweep's name as prefix."""
    for prefix, other in more.items():
        ds = ds.merge(other.rename({name: f"{prefix}_{name}" for name in other.variables}))
    return ds


def part(ds: xr.Dataset, prefix: str) -> xr.Dataset:
    """The sweep that `together` put under this prefix."""
    names = {name: str(name).removeprefix(f"{prefix}_") for name in ds.variables if str(name).startswith(f"{prefix}_")}
    return ds[list(names)].rename(names)


def gap(ds: xr.Dataset) -> xr.DataArray:
    """Accuracy on the training images minus accuracy on the test set, in points."""
    return 100 * (ds.train_accuracy - ds.test_accuracy)


def gain(ds: xr.Dataset, axis: str, when: int) -> xr.DataArray:
    """The test accuracy after `when` epochs at each value less that at 0, in points, paired by seed."""
    accuracy = 100 * ds.test_accuracy.sel(epoch=when, drop=True)
    return accuracy - accuracy.sel({axis: 0.0}, drop=True)


# Claims: with a regularizer of strength `compared` beside none, both on the same images.


def beside(ds: xr.Dataset, axis: str) -> tuple[xr.Dataset, xr.Dataset]:
    """The networks without the regularizer, and those with its strength in the notes."""
    none, with_it = (ds.sel({axis: value}, drop=True) for value in (0.0, ds.compared))
    return none, with_it


def narrower_at_equal_loss(ds: xr.Dataset, axis: str, when: int) -> xr.DataArray:
    """By how many points the gap after `when` epochs is narrower than without, at the same loss on the training images.

    A network that learns less has a narrow gap in any case. So it is compared with the network without regularizer
    at the epoch of equal training loss, by linear interpolation in log loss between the evaluations; NaN
    where there is none.
    """
    none, end = beside(ds, axis)
    end = end.sel(epoch=when, drop=True)

    def at(losses, gaps, loss):
        falling = np.fmin.accumulate(losses)
        return np.interp(-np.log(loss), -np.log(falling), gaps, left=np.nan, right=np.nan)

    without = xr.apply_ufunc(
        *(at, none.train_loss, gap(none), end.train_loss),
        input_core_dims=[["epoch"], ["epoch"], []],
        vectorize=True,
    )
    return without - gap(end)


def narrows(axis: str, what: str, figure: str, source: str, length: str = "epochs", primary: bool = True):
    """The claims that `what` narrows the gap and raises the test accuracy, after the number of epochs in `length`.

    The first is the primary claim: the gap at equal training loss.
    """
    after = f"after {{{length}}} epochs"

    def narrower(ds):
        none, with_it = (one.sel(epoch=ds.attrs[length], drop=True) for one in beside(ds, axis))
        return gap(none) - gap(with_it)

    def changes(ds):
        none, with_it = (one.sel(epoch=ds.attrs[length]) for one in beside(ds, axis))
        train, test = (float(100 * (with_it[name] - none[name]).mean()) for name in ("train_accuracy", "test_accuracy"))
        return f"Training accuracy changes by {train:+.1f} and test accuracy by {test:+.1f}."

    return (
        lab.Claim(
            f"{what} narrows the gap between training and test accuracy at equal training loss, {after}",
            lambda ds: narrower_at_equal_loss(ds, axis, ds.attrs[length]),
            *(lab.above(LEAST), "points", source, figure),
            detail="The network without it is measured at the epoch of equal loss on its training images.",
            secondary=not primary,
        ),
        lab.Claim(
            f"{what} narrows the gap {after}",
            narrower,
            *(lab.above(LEAST), "points", source, figure),
            detail=changes,
            secondary=True,
        ),
        lab.Claim(
            f"{what} raises the test accuracy {after}",
            lambda ds: gain(ds, axis, ds.attrs[length]).sel({axis: ds.compared}, drop=True),
            *(lab.above(0.0), "points", source, figure),
            secondary=True,
        ),
    )


def stopped_early(axis: str, what: str, figure: str, source: str) -> lab.Claim:
    """The claim that `what` raises the test accuracy where networks with and without stop at their best epoch."""

    def effect(ds):
        none, with_it = (
            lab.at_best(100 * one.test_accuracy, one.test_accuracy, "epoch").drop_vars("epoch")
            for one in beside(ds, axis)
        )
        return with_it - none

    return lab.Claim(
        f"{what} raises the test accuracy where both stop at their best epoch",
        effect,
        *(lab.above(0.0), "points", source, figure),
        detail="The best epoch is chosen on the other half of the seeds.",
        secondary=True,
    )


def best_raises(axis: str, what: str, symbol: str, figure: str, source: str, length: str = "epochs") -> lab.Claim:
    """The claim that some value raises the test accuracy: chosen on one half of the seeds, measured on the other."""

    def best(ds):
        change = gain(ds, axis, ds.attrs[length])
        change = change.sel({axis: change[axis] > 0})
        return lab.at_best(change, change, axis)

    def values(ds):
        chosen = sorted({*best(ds)[axis].values.ravel().tolist()})
        return f"The best {symbol}, chosen on the other half of the seeds: {' and '.join(f'{v:g}' for v in chosen)}."

    return lab.Claim(
        f"At the best {symbol} of those tried, {what} raises the test accuracy after {{{length}}} epochs",
        lambda ds: best(ds).drop_vars(axis),
        *(lab.above(0.0), "points", source, figure),
        detail=values,
        secondary=True,
    )


def moved(what: str, change: np.ndarray) -> str:
    """The sentence on whether `what` rises or falls, by how many points, with the interval."""
    mean, low, high = interval(change)
    verb = {1: "rises", -1: "falls"}.get(side(change), "does not measurably change")
    return f"{what} {verb} ({mean:+.1f} points [{low:+.1f}, {high:+.1f}])"


# Figures.

INTERVAL = "mean with its 95 % interval"


HEADINGS = f"{'train accuracy':>18}{'test accuracy':>18}{'test loss':>12}"
"""The headings of the columns of `scores`."""


def scores(mean: xr.Dataset) -> str:
    """The columns, means over seeds, of the table that every experiment of this chapter prints."""
    accuracies = f"{float(mean.train_accuracy):18.2%}{float(mean.test_accuracy):18.2%}"
    return f"{accuracies}{float(mean.test_loss):12.3f}"


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure."""
    return caption(ds, "{images} training images drawn by each seed", *details)


def panels(figure: Figure, *labels: tuple[str, str, str], rows: int = 1) -> list[Axes]:
    """Axes in rows, each with its title and the labels of x and y."""
    drawn = list(np.ravel(figure.subplots(rows, len(labels) // rows)))
    for ax, (title, x, y) in zip(drawn, labels, strict=True):
        plotting.dress(ax, title=title, xlabel=x, ylabel=y)
    return drawn


def notes_figure(ds: xr.Dataset, axis: str, titles: Mapping[float, str]) -> Figure:
    """The notes' figures 15, 16 and 18: one network each on the first images, the legend at the lower right."""
    notes = part(ds, "notes")
    fig = plotting.figure(0.6 + 5.2 * len(titles), 4.4)
    drawn = panels(fig, *((title, "epochs", "accuracy") for title in titles.values()))
    for ax, value in zip(drawn, titles, strict=True):
        for split, number in (("train", 0), ("test", 2)):  # circles and squares, as in the notes
            accuracy = notes[f"{split}_accuracy"].sel({axis: value}).transpose("seed", "epoch").values
            plotting.curve(ax, notes.epoch.values, accuracy, split, number, markers=1)
            ax.lines[-1].set_clip_on(False)
        ax.set(ylim=(0, 1.0))
        ax.legend(loc="lower right")
    plotting.caption(fig, caption(notes, "first {images} training images", "one network, as in the notes"))
    return fig


def spread(ds: xr.Dataset, axis: str, names: Mapping[float, str]) -> Figure:
    """Accuracies and gaps over the epochs at these values, means of all seeds with their bands."""
    fig = plotting.figure(10.0, 4.6)
    left, right = panels(
        fig,
        ("Accuracy: training images (solid), test set (dashed)", "epochs", "accuracy"),
        ("Gap: training minus test", "epochs", "gap (points)"),
    )
    for number, (value, name) in enumerate(names.items()):
        one = ds.sel({axis: value}).transpose("seed", "epoch", ...)
        plotting.curve(left, ds.epoch.values, one.train_accuracy.values, name, number)
        plotting.curve(left, ds.epoch.values, one.test_accuracy.values, "", number)
        left.lines[-1].set_linestyle("--")
        plotting.curve(right, ds.epoch.values, gap(one).values, "", number)
    left.set(ylim=(0, 1.02))
    right.axhline(0, color="0.5", linewidth=0.8)
    plotting.legend(fig)
    plotting.caption(fig, about(ds, INTERVAL))
    return fig


def bars(ax: Axes, values: xr.DataArray, label: str, number: int) -> None:
    """Means over seeds of `values` along its one other dimension, with 95 % intervals as bars, joined by a line."""
    (x,) = set(values.dims) - {"seed"}
    mean, low, high = plotting.band(values.transpose("seed", x).values)
    ax.errorbar(
        values[x].values,
        mean,
        (mean - low, high - mean),
        color=plotting.color(number),
        marker=plotting.MARKERS[number],
        label=label,
        linewidth=1.0,
        markersize=5,
        capsize=3,
    )


def against(ds: xr.Dataset, axis: str, symbol: str, when: int) -> Figure:
    """Accuracy, gap and the change of test accuracy after `when` epochs, against the number that differs."""
    fig = plotting.figure(12.0, 4.6)
    left, middle, right = panels(
        fig,
        (f"Accuracy after {when} epochs", symbol, "accuracy"),
        ("Gap: training minus test", symbol, "gap (points)"),
        ("Change of test accuracy", symbol, f"points from {symbol} = 0"),
    )
    one = ds.sel(epoch=when, drop=True)
    bars(left, one.train_accuracy, "training images", 0)
    bars(left, one.test_accuracy, "test set", 2)
    bars(middle, gap(one), "", 1)
    bars(right, gain(ds, axis, when), "", 3)
    left.set(ylim=(0, 1.02))
    # Linear within a point, so that small gains and large losses both show.
    right.set_yscale("symlog", linthresh=1)
    right.yaxis.set_major_formatter("{x:g}")
    for ax in (middle, right):
        ax.axhline(0, color="0.5", linewidth=0.8)
    plotting.legend(fig)
    plotting.caption(fig, about(ds, INTERVAL, "changes paired by seed"))
    return fig
