"""What the experiments on overfitting share: few images and a deep network, its curves, its gap, claims about both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _cli, _lab
from fnn import train
from fnn.base.statistics import interval, side
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.rule import Rule
from fnn.tasks import Task
from fnn.train import Moment, Record, engine

HIDDEN = (100, 100, 100, 100, 100, 100)
LONGEST_CHUNK = 150
"""Steps between two signs of life of the progress bar, at most."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of an experiment on overfitting; the defaults are the notes'."""

    seeds: int = 30
    """How many networks a contender trains, each from its own weights and batches."""
    images: int = 300
    """Training images: the first ones of the data set."""
    batch: int = 100
    """Examples per update, drawn with replacement."""
    epochs: int = 201
    """Epochs of training, each of (images / batch) updates."""
    evaluate_every: int = 20
    """Epochs between two points of a curve over epochs: the whole test set is dear to evaluate."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(images=1, batch=1, epochs=1, evaluate_every=1)

    @property
    def steps_each(self) -> int:
        """Updates in an epoch."""
        return max(self.images // self.batch, 1)

    def few(self, seeds: int) -> int:
        """How many seeds a stage has that is content with fewer than --seeds: the first ones."""
        return min(seeds, self.seeds)

    def curve_epochs(self, milestones: Sequence[int]) -> list[int]:
        """Where a curve to the last of `milestones` has its points: every so many epochs, and all milestones."""
        return sorted({1, *range(self.evaluate_every, milestones[-1], self.evaluate_every), *milestones})


class Contender(NamedTuple):
    """Networks that differ in the value of one traced number: how they train and when they are looked at.

    values: one a network. hps: their hyperparameters, every leaf with a leading axis as long.
    evaluated: the epochs after which accuracies are taken. observed: those after which `observe` is.
    """

    task: Task
    rule: Rule
    values: Sequence[float]
    hps: train.Hyper
    evaluated: Sequence[int]
    observe: Callable[[Moment], Record] | None = None
    observed: Sequence[int] = ()


def repeated(hyper: Any, n: int) -> Any:
    """Hyperparameters with a leading axis of n equal entries."""
    return jax.tree.map(lambda leaf: jnp.full(n, leaf, jnp.float32), hyper)


def race(
    cfg: Config, images: DataSet, contenders: Mapping[str, Contender], axis: str, epochs: int, seeds: int
) -> dict[str, xr.Dataset]:
    """Train contenders for so many epochs: for each what was taken of it, dims `axis` (its values), seed, epoch."""
    steps = epochs * cfg.steps_each

    def updates(numbers):
        return tuple(number * cfg.steps_each for number in numbers)

    def run(c):
        looks = {"observe": c.observe, "observe_at": updates(c.observed)}
        return engine.over_hypers(train.training(c.task, c.rule, steps, evaluate_at=updates(c.evaluated), **looks))

    chunks = _lab.stream(
        cfg,
        {name: run(c) for name, c in contenders.items()},
        {name: c.hps for name, c in contenders.items()},
        engine.seeds(seeds),
        _lab.splits(images, cfg.images),
        steps,
        chunk=next(n for n in range(LONGEST_CHUNK, 0, -1) if steps % n == 0),
        part="-".join(contenders),
    )
    followed = _lab.follow(chunks, steps)

    def label(c, record):
        looks = sorted({*c.evaluated, *c.observed})
        reached = [epoch for epoch in looks if epoch * cfg.steps_each <= followed.done]
        taken = {
            name: (("seed", "epoch", axis), values[:, np.asarray(updates(reached), int) - 1])
            for name, values in record.items()
            if name != "loss"
        }
        coordinates = {axis: list(c.values), "seed": np.arange(seeds), "epoch": np.asarray(reached, int)}
        loss = xr.DataArray(record["loss"], dims=("seed", "step", axis))
        ds = xr.Dataset(taken, coordinates, followed.attrs)
        return ds.assign(diverged_at=_lab.first_not_finite(loss)).transpose(axis, "seed", "epoch")

    return {name: label(c, followed.record[name]) for name, c in contenders.items()}


def joined(watched: xr.Dataset, others: xr.Dataset, axis: str) -> xr.Dataset:
    """All values of a number in one data set; coordinates say which values and which epochs have no gaps.

    The `watched` values were evaluated at every epoch of the curves, the others only at a `milestone`: elsewhere NaN.
    """
    values, milestones = watched[axis].values, others.epoch.values
    ds = xr.concat([watched, others.reindex(epoch=watched.epoch)], axis).sortby(axis)
    return ds.assign_coords(
        watched=(axis, np.isin(ds[axis], values)), milestone=("epoch", np.isin(ds.epoch, milestones))
    )


def stages(first: Callable[[], xr.Dataset], *later: Callable[[], xr.Dataset]) -> xr.Dataset:
    """One part of an experiment after the other in one data set, until an interrupt, which keeps what is done."""
    ds = first()
    for stage in later:
        if not ds.attrs["complete"]:
            break
        try:
            more = stage()
        except KeyboardInterrupt:
            return ds.assign_attrs(complete=0)
        ds = ds.merge(more).assign_attrs(_lab.in_all(ds.attrs, more.attrs))
    return ds


def prefixed(ds: xr.Dataset, prefix: str) -> xr.Dataset:
    """A stage's data under names of their own, to lie beside those of another."""
    return ds.rename({name: f"{prefix}_{name}" for name in ds.variables})


def stage(ds: xr.Dataset, prefix: str) -> xr.Dataset | None:
    """The data that `prefixed` put aside, under their first names; None where no epoch of that stage was reached."""
    names = {name: str(name).removeprefix(f"{prefix}_") for name in ds.variables if str(name).startswith(f"{prefix}_")}
    found = ds[list(names)].rename(names)
    return found if found.sizes.get("epoch") else None


def milestones(ds: xr.Dataset) -> list[int]:
    """The epochs reached at which every value was evaluated; none where an interrupt came before the first."""
    return [int(epoch) for epoch in ds.epoch[ds.milestone.values]]


def gap(ds: xr.Dataset) -> xr.DataArray:
    """Accuracy on the training images less accuracy on the test set, in points."""
    return 100 * (ds.train_accuracy - ds.test_accuracy)


def about(ds: xr.Dataset) -> str:
    """The caption that every figure carries."""
    return _lab.about(ds, f"first {ds.images} training images", f"minibatch {ds.batch}")


def panels(figure: Figure, *labels: tuple[str, str, str], rows: int = 1) -> list[Axes]:
    """Axes in rows, each with its title and the labels of x and y."""
    drawn = list(np.ravel(figure.subplots(rows, len(labels) // rows)))
    for ax, (title, x, y) in zip(drawn, labels, strict=True):
        plotting.dress(ax, title=title, xlabel=x, ylabel=y)
    return drawn


def notes_figure(ds: xr.Dataset, axis: str, titles: Mapping[float, str]) -> Figure:
    """The notes' figures 15, 16 and 18: one network each, the legend at the lower right.

    A marker every 10 epochs, as there, or at every point where these are further apart.
    """
    fig = plotting.figure(0.6 + 5.2 * len(titles), 4.4)
    drawn = panels(fig, *((title, "epochs", "accuracy") for title in titles.values()))
    for ax, value in zip(drawn, titles, strict=True):
        for split, number in (("train", 0), ("test", 2)):  # circles and squares, as in the notes
            accuracy = ds[f"{split}_accuracy"].sel({axis: value}).isel(seed=[0]).values
            plotting.curve(ax, ds.epoch.values, accuracy, split, number, markers=max(1, 10 // ds.evaluate_every))
            ax.lines[-1].set_clip_on(False)
        ax.set(ylim=(0, 1.0))
        ax.legend(loc="lower right")
    plotting.caption(fig, f"{about(ds)}; the first seed's network, as the notes show one")
    return fig


def spread(ds: xr.Dataset, axis: str, names: Mapping[float, str]) -> Figure:
    """The watched networks' accuracies and gaps over the epochs, means of all seeds with their bands."""
    fig = plotting.figure(10.0, 4.6)
    left, right = panels(
        fig,
        ("Accuracy: training images (solid), test set (dashed)", "epochs", "accuracy"),
        ("Gap: training less test", "epochs", "gap (points)"),
    )
    for number, (value, name) in enumerate(names.items()):
        one = ds.sel({axis: value})
        plotting.curve(left, ds.epoch.values, one.train_accuracy.values, name, number)
        plotting.curve(left, ds.epoch.values, one.test_accuracy.values, "", number)
        left.lines[-1].set_linestyle("--")
        plotting.curve(right, ds.epoch.values, gap(one).values, "", number)
    left.set(ylim=(0, 1.02))
    right.axhline(0, color="0.5", linewidth=0.8)
    plotting.legend(fig)
    plotting.caption(fig, f"{about(ds)}; mean with its 95 % interval")
    return fig


def intervals(ax: Axes, x: np.ndarray, values: np.ndarray, label: str, number: int) -> None:
    """Means over seeds of `values` `[n, S]` with their 95 % intervals as bars, joined by a thin line."""
    mean, low, high = plotting.band(values.T)
    ax.errorbar(
        x,
        mean,
        (mean - low, high - mean),
        color=plotting.colour(number),
        marker=plotting.MARKERS[number],
        label=label,
        linewidth=1.0,
        markersize=5,
        capsize=3,
    )


def gain(ds: xr.Dataset, axis: str, when: int) -> xr.DataArray:
    """What each value changes in the test accuracy that 0 has after `when` epochs, in points, paired by seed."""
    accuracy = 100 * ds.test_accuracy.sel(epoch=when)
    return accuracy - accuracy.sel({axis: 0.0})


def against(ds: xr.Dataset, axis: str, symbol: str, when: int) -> tuple[Figure, list[Axes]]:
    """Accuracy, gap and the change of test accuracy after `when` epochs, against the number that differs."""
    fig = plotting.figure(12.0, 4.6)
    left, middle, right = panels(
        fig,
        (f"Accuracy after {when} epochs", symbol, "accuracy"),
        ("Gap: training less test", symbol, "gap (points)"),
        ("Change of test accuracy", symbol, f"points from {symbol} = 0"),
    )
    x, one = ds[axis].values, ds.sel(epoch=when)
    intervals(left, x, one.train_accuracy.values, "training images", 0)
    intervals(left, x, one.test_accuracy.values, "test set", 2)
    intervals(middle, x, gap(one).values, "", 1)
    intervals(right, x, gain(ds, axis, when).values, "", 3)
    left.set(ylim=(0, 1.02))
    # Linear within a point, so that small gains and large losses both show.
    right.set_yscale("symlog", linthresh=1)
    right.yaxis.set_major_formatter("{x:g}")
    for ax in (middle, right):
        ax.axhline(0, color="0.5", linewidth=0.8)
    plotting.legend(fig)
    plotting.caption(fig, f"{about(ds)}; mean with its 95 % interval, changes paired by seed")
    return fig, [left, middle, right]


def narrows(ds: xr.Dataset, axis: str, value: float, what: str, when: int, source: str) -> list[Verdict]:
    """Does `what`, at this value beside 0, narrow the gap after `when` epochs, and does it raise the test accuracy?"""
    end = ds.sel(epoch=when)
    narrower = gap(end.sel({axis: 0.0})) - gap(end.sel({axis: value}))
    test = gain(ds, axis, when).sel({axis: value})
    train, rise = float((test - narrower).mean()), float(test.mean())
    return [
        decide(
            f"{what} narrows the gap between training and test accuracy",
            narrower.values,
            "points",
            f"After {when} epochs it is narrower by {{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} paired seeds: "
            f"training accuracy changes by {train:+.1f} and test accuracy by {rise:+.1f}.",
            source,
        ),
        decide(
            f"{what} raises the test accuracy",
            test.values,
            "points",
            f"After {when} epochs it changes by {{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} paired seeds.",
            source,
        ),
    ]


def some_value_raises(ds: xr.Dataset, axis: str, what: str, symbol: str, when: int, source: str) -> list[Verdict]:
    """Does any value above 0 raise the test accuracy? Chosen on one half of the seeds, judged on the other."""
    if ds.sizes["seed"] < 2:
        return []
    change = gain(ds, axis, when).where(ds[axis] > 0, drop=True)
    best = float(change[:, ::2].mean("seed", skipna=False).fillna(-np.inf).idxmax())
    return [
        decide(
            f"At the best {symbol} of those tried, {what} raises the test accuracy",
            change.sel({axis: best})[1::2].values,
            "points",
            f"After {when} epochs {symbol} = {best:g}, best on every other seed, changes test accuracy by {{effect}} "
            "{unit} [{low}, {high}] on the remaining {seeds} seeds, paired.",
            source,
        )
    ]


def moved(what: str, change: np.ndarray) -> str:
    """In words: whether it rises or falls, by how many points, and how sure that is."""
    mean, low, high = interval(change)
    verb = {1: "rises", -1: "falls"}.get(side(change), "does not measurably change")
    return f"{what} {verb} ({mean:+.1f} points [{low:+.1f}, {high:+.1f}])"
