"""Which initial weights learn MNIST fastest under SGD: std = 0.01, Xavier's or He's? (notes §2.3.1, figure 11)

Trains the notes' network, 784-100-100-100-100-10 with ReLU, by SGD from initial weights of different size, on the same
minibatches, over many seeds at once. For a seed the weights of all contenders are the same normal draw times their own
standard deviation, so they differ in nothing else. The loss recorded is that on the minibatch *after* the update.

The notes say: with std = 0.01 the activations and so the gradients are tiny and learning makes almost no progress; in
figure 11 He's weights learn fastest, Xavier's next.

Other sizes, Glorot's form of Xavier and orthogonal weights can be compared too: --inits 0.03,xavier,glorot,orthogonal.

Takes about three quarters of a minute for 10 seeds of 2,000 steps on two cores.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import _cli, _lab
from fnn import init, models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import paired
from fnn.base.types import Initializer, Scalar
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.train import Record, engine

HIDDEN = (100, 100, 100, 100)
CLASSES = 10
ROW_EVERY = 100
PROGRESS = 0.1
"""Learning "makes almost no progress" where it takes less than this share off the loss of guessing, ln 10."""
POINTS = 1.0
"""An accuracy is "no better than guessing" where it is within so many points of the most common class's share."""


class Scaled(NamedTuple):
    """Normal weights with standard deviation gain · (n_in + back · n_out)^−power: one program for all such."""

    gain: Scalar
    power: Scalar = 0.5
    back: Scalar = 0.0


INITS: dict[str, Scaled | Initializer] = {
    "xavier": Scaled(1.0),
    "he": Scaled(math.sqrt(2)),
    "glorot": Scaled(math.sqrt(2), back=1.0),
    "orthogonal": init.orthogonal(math.sqrt(2)),
}
"""What --inits can name beside a plain standard deviation; √2 is He's gain for ReLU."""

LOOKS = {"0.01": 0, "xavier": 2, "he": 3}
"""The notes' three keep their markers (circle, square, diamond), whoever is compared with them."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the comparison; the defaults are the notes'."""

    steps: int = 2000
    """Updates per network."""
    batch: int = 128
    """Examples per update, drawn with replacement."""
    lr: float = 0.01
    """SGD's step size."""
    inits: str = "0.01,xavier,he"
    """Contenders, with commas between: a standard deviation, xavier, he, glorot or orthogonal."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, batch=1)
        require(0 < self.lr < math.inf, f"--lr is a number above 0, not {self.lr}.")
        for name in self.names():
            known = name in INITS or _positive(name)
            require(known, f"--inits takes a standard deviation above 0, {', '.join(INITS)}; not {name!r}.")

    def names(self) -> list[str]:
        """The contenders as they were asked for."""
        return _lab.listed("--inits", self.inits, "initial weights")


QUICK = Config(seeds=2, steps=200, dataset="mnist_5k", quick=True)


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def title(name: str) -> str:
    """A contender's name as people write it."""
    return name.capitalize() if name in INITS else f"std = {name}"


def normal(hp: Scaled) -> Initializer:
    """The initializer of these numbers, which may be traced."""

    def initialize(key, shape, dtype=jnp.float32):
        n_in, n_out = init.fans(shape)
        return init.normal(hp.gain * (n_in + hp.back * n_out) ** -hp.power)(key, shape, dtype)

    return initialize


def contenders(cfg: Config) -> tuple[dict[str, Scaled], dict[str, Initializer]]:
    """Those that differ in numbers only, which are one run, and those that are a program of their own."""
    inits = {name: INITS[name] if name in INITS else Scaled(float(name), 0.0) for name in cfg.names()}
    scaled = {name: weights for name, weights in inits.items() if isinstance(weights, Scaled)}
    return scaled, {name: weights for name, weights in inits.items() if not isinstance(weights, Scaled)}


def run(cfg: Config) -> xr.Dataset:
    """Train from all initial weights over all seeds in one program; prints the losses as it goes."""
    images = _cli.load_data(cfg, fitting="batch")
    sgd, names = optim.rule("sgd"), cfg.names()
    scaled, others = contenders(cfg)

    def training(weights):
        task = tasks.classification(lambda hp: models.multilayer(HIDDEN, CLASSES, weights=weights(hp)), batch=cfg.batch)
        return train.training(task, sgd, cfg.steps, loss_after=True, evaluate_at=(cfg.steps,))

    runs = {name: training(lambda hp, weights=weights: weights) for name, weights in others.items()}
    hps = {name: train.Hyper(sgd.hyper._replace(lr=cfg.lr)) for name in others}
    if scaled:
        runs["scaled"] = engine.over_hypers(training(normal))
        sizes = jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *scaled.values())
        hps["scaled"] = train.Hyper(engine.grid(sgd.hyper, lr=[cfg.lr] * len(scaled)), sizes)

    def by_name(record, what):
        """[init, seed, step]"""
        found = {name: record["scaled"][what][..., i] for i, name in enumerate(scaled)}
        return np.stack([found[name] if name in found else record[name][what] for name in names])

    _cli.headline(cfg, images, f"{len(names) * cfg.seeds} networks ({len(names)} initial weights × {cfg.seeds} seeds)")
    print("iteration" + "".join(f"{title(name):>18}" for name in names))

    def row(chunk):
        losses = by_name(chunk.record, "loss")[..., 0].mean(1)
        return f"{chunk.steps.start:9d}" + "".join(f"{loss:18.4f}" for loss in losses)

    chunks = _lab.stream(
        cfg, runs, hps, engine.seeds(cfg.seeds), _lab.splits(images), cfg.steps, chunk=min(ROW_EVERY, cfg.steps)
    )
    followed = _lab.follow(chunks, cfg.steps, row)
    whats = ("loss", *(f"{split}_{what}" for split in ("train", "test") for what in ("loss", "accuracy")))
    measured = {what: by_name(followed.record, what) for what in whats}
    ds = label(cfg, images, measured).assign_attrs(followed.attrs)
    print(summary(ds))
    return ds


def label(cfg: Config, images: DataSet, measured: Record) -> xr.Dataset:
    """What was measured, arrays `[init, seed, step]`, as one labelled data set (step: the notes' iteration, from 0)."""
    loss = measured["loss"]
    about_loss = {"long_name": "minibatch loss after the update", "units": "nats"}
    ds = xr.Dataset(
        {"loss": (("init", "seed", "step"), loss, about_loss)},
        {"init": cfg.names(), "seed": np.arange(cfg.seeds), "step": np.arange(loss.shape[-1])},
        {**_lab.origin(images), "batch": cfg.batch, "lr": cfg.lr, "guessing": guessing(images)},
    )
    for what in measured.keys() - {"loss"}:
        units = "1" if what.endswith("accuracy") else "nats"
        ds[what] = ("init", "seed"), measured[what][..., -1], {"units": units}
    ds["diverged_at"] = _lab.first_not_finite(ds.loss)
    return ds


def guessing(images: DataSet) -> float:
    """The best accuracy on the test set without looking at the images: its most common class's share."""
    return float(np.bincount(images.y_test).max() / len(images.y_test))


def look(ds: xr.Dataset, name: str) -> int:
    """A contender's number among the colours and markers."""
    free = [n for n in range(len(plotting.COLOURS)) if n not in LOOKS.values()]
    rest = [str(other) for other in ds.init.values if other not in LOOKS]
    return LOOKS[name] if name in LOOKS else free[rest.index(name) % len(free)]


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"minibatch {ds.batch}", f"SGD, learning rate {ds.lr:g}", *details)


def figures(ds: xr.Dataset) -> Mapping[str, Figure]:
    """Figure 11 as in the notes, on a log axis, the paired differences, and the accuracies at the end."""
    made = {"11_loss": figure_11(ds), "11_loss_log": log_losses(ds)}
    if ds.sizes["init"] > 1:
        made["11_differences"] = differences(ds)
    if np.isfinite(ds.test_accuracy).any():
        made["accuracy"] = accuracies(ds)
    return made


def figure_11(ds: xr.Dataset) -> Figure:
    """The notes' figure: smoothed loss, linear from 0 to 2.5, a marker every 100 iterations."""
    heading = "Training loss from each initial weights (notes, figure 11)"
    return losses(ds, heading, markers=100, ylim=(0, 2.5))


def log_losses(ds: xr.Dataset) -> Figure:
    """The same losses on a log axis, smoothed more, beside the loss of guessing."""
    guide = math.log(CLASSES), "guessing, ln 10"
    fig = losses(ds, "Training loss from each initial weights, log scale", window=31, guide=guide, yscale="log")
    fig.axes[0].yaxis.set_major_formatter("{x:g}")
    fig.axes[0].yaxis.set_minor_formatter("{x:g}")
    return fig


def losses(ds: xr.Dataset, heading: str, **style: Any) -> Figure:
    """The training losses from all initial weights."""
    return _lab.loss_figure(ds.loss, heading, title, lambda name: look(ds, name), about(ds), **style)


def differences(ds: xr.Dataset) -> Figure:
    """How far each contender is ahead of the one before it, seed by seed: what the verdicts are made of."""
    names, window = list(ds.init.values), 31
    fig = plotting.figure(7.0, 1.4 + 1.7 * (len(names) - 1))
    axes = fig.subplots(len(names) - 1, 1, sharex=True, squeeze=False)[:, 0]
    for ax, before, after in zip(axes, names, names[1:], strict=False):
        ahead = ds.loss.sel(init=before) - ds.loss.sel(init=after)
        plotting.curve(ax, ds.step.values, plotting.smooth(ahead.values, window), "", look(ds, after))
        ax.axhline(0, color="0.35", linewidth=0.8)
        ax.set_title(f"loss of {title(before)} minus loss of {title(after)}", fontsize="medium")
        plotting.dress(ax, ylabel="nats", xlim=(0, ds.sizes["step"]))
    axes[-1].set_xlabel("iterations")
    plotting.caption(
        fig,
        f"{about(ds)}; mean difference with its 95 % interval, smoothed over {window} iterations; "
        "above 0 the second is ahead",
    )
    return fig


def accuracies(ds: xr.Dataset) -> Figure:
    """Test accuracy at the end, every seed a dot, beside that of guessing."""
    fig = plotting.figure(7.0, 1.4 + 0.5 * ds.sizes["init"])
    ax = plotting.axes(fig, f"Test accuracy after {ds.sizes['step']:,} iterations", "accuracy (%)", "")
    ax.axvline(100 * ds.guessing, color="0.35", linestyle=":", linewidth=1, label="guessing the most common class")
    for i, name in enumerate(ds.init.values):
        values = 100 * ds.test_accuracy.sel(init=name).values
        ax.scatter(
            values, np.full(len(values), i), s=24, alpha=0.7, color=plotting.colour(look(ds, name)), linewidths=0
        )
        ax.annotate(
            f"{np.nanmean(values):.2f}",
            (1, i),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color="0.25",
        )
    ax.set_yticks(range(ds.sizes["init"]), [title(name) for name in ds.init.values])
    ax.set(ylim=(ds.sizes["init"] - 0.5, -0.5), xlim=(0, 100))
    plotting.legend(fig)
    plotting.caption(fig, f"{about(ds)}; a dot a seed, on the right their mean")
    return fig


def summary(ds: xr.Dataset) -> str:
    """The final numbers, a line a contender."""
    return "\n".join(_lab.final_numbers(ds, "init", title))


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about figure 11, at the notes' settings."""
    present = set(ds.init.values)
    found = []
    for better, worse in (("xavier", "0.01"), ("he", "xavier")):
        if {better, worse} <= present:
            found += ahead(ds, better, worse)
    if "0.01" in present:
        found += standstill(ds, "0.01")
    return found


def ahead(ds: xr.Dataset, better: str, worse: str) -> list[Verdict]:
    """Does `better` learn faster than `worse`, and end with a higher test accuracy?"""
    # With skipna a diverged run would be judged by its steps before that.
    loss = ds.loss.mean("step", skipna=False)
    found = [
        decide(
            f"{title(better)} learns faster than {title(worse)}",
            paired(-loss.sel(init=better).values, -loss.sel(init=worse).values),
            "nats",
            f"Its mean loss over the {ds.sizes['step']:,} iterations is {{effect}} {{unit}} better "
            "[{low}, {high}], {seeds} paired seeds.",
            "claim 6",
        )
    ]
    accuracy = 100 * (ds.test_accuracy.sel(init=better) - ds.test_accuracy.sel(init=worse)).values
    if np.isfinite(accuracy).all():
        found.append(
            decide(
                f"{title(better)} ends with a higher test accuracy than {title(worse)}",
                accuracy,
                "points",
                "The difference is {effect} {unit} [{low}, {high}], {seeds} paired seeds.",
                "claim 6",
            )
        )
    return found


def standstill(ds: xr.Dataset, name: str) -> list[Verdict]:
    """Does `name` make almost no progress, in the loss and in the test accuracy?"""
    last, start = min(_lab.LAST, ds.sizes["step"]), math.log(CLASSES)
    final = ds.loss.sel(init=name)[:, -last:].mean("step", skipna=False).fillna(np.inf).values
    found = [
        decide(
            f"With {title(name)} learning makes almost no progress (takes less than {PROGRESS:.0%} off ln 10)",
            final - (1 - PROGRESS) * start,
            "nats",
            f"After {ds.sizes['step']:,} iterations the loss is {final.mean():.3f} nats, of ln 10 = {start:.3f} at the "
            "start: {effect} {unit} [{low}, {high}] above the bar, {seeds} seeds.",
            "claim 6",
        )
    ]
    accuracy = 100 * ds.test_accuracy.sel(init=name).values
    if np.isfinite(accuracy).all():
        bar = 100 * ds.guessing + POINTS
        found.append(
            decide(
                f"With {title(name)} the network ends no better than guessing (within {POINTS:g} point)",
                bar - accuracy,
                "points",
                f"Its test accuracy is {accuracy.mean():.2f} %, that of guessing the most common class "
                f"{100 * ds.guessing:.2f} %: {{effect}} {{unit}} [{{low}}, {{high}}] below the bar, {{seeds}} seeds.",
                "claim 6",
            )
        )
    return found


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
