"""Where in the plane of learning rate and weight decay do networks learn, and what is luck? (notes §5.2, at scale)

The notes draw 100 settings at random, lr = 10^U(−6, −2) and λ = 10^U(−8, −4), train each once and read off the best.
Here every setting is trained from many seeds, each with a shuffle, a split, weights and minibatches of its own, so that
what belongs to the setting can be told from what belongs to the seed: which hyperparameter matters, whether the ranges
hold the best, and how much of the winner's validation accuracy was luck.

A campaign: it is cut into blocks that fit the memory, which are on disk when they are done, so that the same command
goes on after an interrupt or a kill; --distributed shares it among processes and hosts.

Takes about a minute on two cores; ten thousand networks (--settings 1000) take twenty minutes.
"""

import sys
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import _campaigns, _cli, _lab
from experiments.hyperparameters import _search
from fnn import search
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.train import engine

NAMES = {"lr": "learning rate", "l2": "weight decay λ"}
BINS = 12
"""Parts of equal width on a log scale that an axis is cut into."""
GOOD = 5.0
"""Points of accuracy below the best mean within which a setting counts as good."""


@dataclass(frozen=True)
class Config(_campaigns.Options):
    """Settings of the map."""

    settings: int = 32
    """Settings, drawn uniformly on log scales; every seed trains all of them."""
    epochs: int = 50
    """Passes over the 400 training images."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(seeds=2, settings=2, epochs=1)


QUICK = Config(seeds=3, settings=24, epochs=10, dataset="mnist_5k", quick=True)


def run(cfg: Config) -> xr.Dataset | None:
    """Train every setting for every seed; None where another process makes the results."""
    images = _search.load(cfg)
    keys = engine.seeds(cfg.seeds)
    drawn = jax.tree.map(lambda values: values[0], _search.samples(keys[:1], cfg.settings))  # the first seed's
    _cli.headline(cfg, images, f"{cfg.settings * cfg.seeds} networks ({cfg.settings} settings × {cfg.seeds} seeds)")
    follow = _search.trial(cfg.epochs)

    def trial(setting, key, pool):
        record = follow(setting, *_search.begin(key, pool))
        return {"accuracy": record["validation_accuracy"][0], "diverged_at": record["diverged_at"]}

    beside = xr.Dataset(
        {axis: ("setting", np.asarray(values), {"long_name": NAMES[axis]}) for axis, values in drawn._asdict().items()},
        {"setting": np.arange(cfg.settings), "seed": np.arange(cfg.seeds)},
        {**_lab.origin(images), "epochs": cfg.epochs, "complete": 1},
    )
    pool = _lab.splits(images, _search.IMAGES)["train"]
    return _campaigns.networks(cfg, trial, drawn, keys, pool, {"accuracy": (), "diverged_at": ()}, beside)


def points(ds: xr.Dataset) -> np.ndarray:
    """Validation accuracy in percent, `[seed, setting]`; a diverged network has what it ended with."""
    return 100 * np.nan_to_num(ds.accuracy.transpose("seed", "setting").values)


def bins(ds: xr.Dataset, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """The middles of those bins of an axis that have settings, and for every setting the number of its own."""
    low, high = getattr(_search.EXPONENTS, axis)
    number = ((np.log10(ds[axis].values) - low) / (high - low) * BINS).astype(int).clip(0, BINS - 1)
    there, number = np.unique(number, return_inverse=True)
    return 10 ** (low + (there + 0.5) * (high - low) / BINS), number


def binned(ds: xr.Dataset, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """The middles of an axis's bins, and the mean accuracy in each `[seed, bin]`."""
    middles, number = bins(ds, axis)
    return middles, np.stack([points(ds)[:, number == b].mean(1) for b in range(len(middles))], axis=1)


def explained(ds: xr.Dataset, axis: str) -> np.ndarray:
    """[S]: the share, in percent, of the settings' variance that one axis explains, one value a seed.

    Its bins' 1 − (variance left within bins) / (variance), both without bias: chance alone explains 0 on average.
    """
    middles, number = bins(ds, axis)
    values, means = points(ds), binned(ds, axis)[1]
    left = np.square(values - means[:, number]).sum(1) / max(values.shape[1] - len(middles), 1)
    return 100 * (1 - left / np.maximum(values.var(1, ddof=1), 1e-12))


def luck(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """For every seed: its best setting's accuracy, and that setting's mean accuracy for the other seeds."""
    values = points(ds)
    best = search.ranked(values)[:, 0]
    mine = values[np.arange(len(values)), best]
    others = (values[:, best].sum(0) - mine) / (len(values) - 1)
    return mine, others


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """The plane, each axis alone, and luck."""
    return {"map": plane(ds), "axes": along_axes(ds), "luck": luck_of_seeds(ds)}


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    many = f"{ds.sizes['setting']:,} settings, {ds.sizes['setting'] * ds.sizes['seed']:,} networks"
    return _lab.about(ds, many, f"{ds.epochs} epochs of 400 images, accuracy on {_search.VALIDATION} others", *details)


def plane(ds: xr.Dataset) -> Figure:
    """Mean validation accuracy of every setting, as a point of the plane, and its standard deviation over seeds."""
    fig = plotting.figure(9.0, 4.4)
    values = points(ds)
    panels = {"mean over seeds (%)": values.mean(0), "spread over seeds (points)": values.std(0, ddof=1)}
    size = np.clip(4000 / ds.sizes["setting"], 5, 40)
    for ax, (what, colours) in zip(fig.subplots(1, 2), panels.items(), strict=True):
        dots = ax.scatter(ds.lr, ds.l2, size, colours, cmap="viridis", linewidths=0)
        ax.set(xscale="log", yscale="log", xlabel=NAMES["lr"], ylabel=NAMES["l2"])
        ax.set_title(f"Validation accuracy, {what}", fontsize="medium")
        fig.colorbar(dots, ax=ax)
    plotting.caption(fig, about(ds))
    return fig


def along_axes(ds: xr.Dataset) -> Figure:
    """Accuracy over each hyperparameter alone, whatever the other is."""
    fig = plotting.figure(9.0, 3.8)
    for number, (ax, axis) in enumerate(zip(fig.subplots(1, 2, sharey=True), NAMES, strict=True)):
        share = explained(ds, axis).mean()
        plotting.dress(ax, xlabel=NAMES[axis], ylabel="" if number else "validation accuracy (%)")
        ax.plot(ds[axis], points(ds).mean(0), ".", color="0.75", markersize=3, zorder=1)
        middles, means = binned(ds, axis)
        plotting.curve(ax, middles, means, "", number, markers=1)
        ax.set(xscale="log", ylim=(0, 100))
        ax.set_title(f"share of the variance, without bias: {share:.3g} %", fontsize="medium")
    plotting.caption(fig, about(ds, f"dots: settings; line: mean of {BINS} bins with its 95 % interval over seeds"))
    return fig


def luck_of_seeds(ds: xr.Dataset) -> Figure:
    """Every seed's best setting: what it promised, and what it gives the others."""
    fig = plotting.figure(6.0, 4.6)
    ax = plotting.axes(
        fig,
        "What the best of a search promises, and what it keeps",
        "accuracy that made it the best (%)",
        "its mean accuracy for the other seeds (%)",
    )
    mine, others = luck(ds)
    ax.plot(mine, others, plotting.MARKERS[0], color=plotting.colour(0), linestyle="none", alpha=0.5)
    low, high = min(mine.min(), others.min()) - 1, max(mine.max(), others.max()) + 1
    ax.plot([low, high], [low, high], color="0.5", linewidth=1, linestyle="--")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    plotting.caption(fig, about(ds, "a dot a seed; dashed: what is promised is kept"))
    return fig


def summary(ds: xr.Dataset) -> str:
    """The best settings by their mean over seeds."""
    values = points(ds)
    mean, spread = values.mean(0), values.std(0, ddof=1)
    lines = [f"{'lr':>10}{'λ':>10}{'accuracy':>12}{'over seeds':>12}"]
    for i in search.ranked(mean)[:5]:
        lines.append(f"{float(ds.lr[i]):10.2e}{float(ds.l2[i]):10.2e}{mean[i]:11.1f}%{spread[i]:11.1f}%")
    good = (mean >= mean.max() - GOOD).mean()
    lines.append(f"{good:.1%} of the settings are within {GOOD:g} points of the best.")
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Whether the learning rate matters more, the best lies inside the ranges, and a search's best is luck."""
    shares = {axis: explained(ds, axis) for axis in NAMES}
    middles, means = binned(ds, "lr")
    mine, others = luck(ds)
    return [
        decide(
            "The learning rate matters more than the weight decay",
            shares["lr"] - shares["l2"],
            "points",
            f"It explains {shares['lr'].mean():.3g} % of the variance of accuracy and λ {shares['l2'].mean():.2g} %, "
            f"{{effect}} {{unit}} more [{{low}}, {{high}}], {{seeds}} seeds × {ds.sizes['setting']:,} settings.",
            "notes §5.2",
        ),
        decide(
            "The notes' range of learning rates holds the best one",
            means[:, :-1].max(1) - means[:, -1],
            "points",
            f"The best part of the range below its end, around {middles[-1]:.2g}, is better than the end by {{effect}} "
            "{unit} of accuracy [{low}, {high}], {seeds} seeds.",
            "notes §5.2",
        ),
        decide(
            "The best validation accuracy of a search promises too much",
            mine - others,
            "points",
            f"The best of {ds.sizes['setting']:,} settings has {mine.mean():.4g} % for its own seed and "
            f"{others.mean():.4g} % for the others, {{effect}} {{unit}} less [{{low}}, {{high}}], {{seeds}} seeds.",
            "notes §5.1",
        ),
    ]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
