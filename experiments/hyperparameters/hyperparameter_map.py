"""Where in the plane of learning rate and weight decay do networks learn, and how much of the best is luck? (notes
§5.2, at scale)"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.hyperparameters import _search
from fnn import lab, search, sweep, tasks
from fnn.base.errors import require
from fnn.lab import plotting
from fnn.lab.figures import caption
from fnn.tasks import Label, Trial
from fnn.train import engine

NAMES = {"lr": "learning rate", "l2": "weight decay λ"}
BINS = 12
"""Bins of an axis, of equal width on a log scale."""
GOOD = 5.0
"""Points of accuracy below the best mean within which a setting counts as good."""


@dataclass(frozen=True)
class Config(lab.HostOptions, lab.DataOptions):
    """Settings of the map."""

    settings: int = 32
    """Settings, drawn uniformly on log scales; every seed trains all of them."""
    epochs: int = 50
    """Passes over the 400 training images."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(seeds=2, settings=2, epochs=1)


def trained(epochs: int) -> Trial:
    """One network of the notes' search, trained, and its accuracy on the validation images."""
    follow = _search.trial(epochs)

    def measure(hp, key, data):
        record = follow(hp, *_search.start(key, data["train"]))
        return {"accuracy": record["validation_accuracy"][0], "diverged_at": record["diverged_at"]}

    labels = {
        "accuracy": Label("validation accuracy", "1"),
        "diverged_at": Label("first step whose loss is not finite, −1 for none"),
    }
    return Trial(measure, hyper=_search.Setting(lr=1e-2, l2=0.0), labels=labels)


def run(cfg: Config) -> xr.Dataset | None:
    """The accuracy of every setting and seed; None where another process makes the results."""
    images = cfg.load()
    enough = len(images.x_train) >= _search.IMAGES
    require(enough, f"This takes {_search.IMAGES} training images, and {images.name} has {len(images.x_train)}.")
    drawn = _search.settings_of(engine.seeds(1)[0], cfg.settings)
    x, y = tasks.splits(images)["train"]
    first = tasks.Split(x[: _search.IMAGES], y[: _search.IMAGES])
    about = {"dataset": images.name, "checksum": images.checksum, "source": images.source, "epochs": cfg.epochs}
    ds = sweep(
        trained(cfg.epochs)._replace(data={"train": first}, about=about),
        over={drawn._fields: list(zip(*(np.asarray(values).tolist() for values in drawn), strict=True))},
        seeds=cfg.seeds,
        keep=cfg.keep(),
        memory=cfg.memory_bytes,
        progress=True,
    )
    for axis, name in NAMES.items():
        ds[axis].attrs["long_name"] = name
    return cfg.gathered(ds.assign_coords(setting=np.arange(cfg.settings)))


def points(ds: xr.Dataset) -> np.ndarray:
    """Validation accuracy in percent, `[seed, setting]`; a diverged network counts with its final accuracy."""
    return 100 * np.nan_to_num(ds.accuracy.transpose("seed", "setting").values)


def bins(ds: xr.Dataset, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """The centers of the bins of an axis that have settings, and the bin number of every setting."""
    low, high = getattr(_search.EXPONENTS, axis)
    number = ((np.log10(ds[axis].values) - low) / (high - low) * BINS).astype(int).clip(0, BINS - 1)
    filled, number = np.unique(number, return_inverse=True)
    return 10 ** (low + (filled + 0.5) * (high - low) / BINS), number


def binned(ds: xr.Dataset, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """The centers of an axis's bins, and the mean accuracy in each `[seed, bin]`."""
    middles, number = bins(ds, axis)
    return middles, np.stack([points(ds)[:, number == b].mean(1) for b in range(len(middles))], axis=1)


def explained(ds: xr.Dataset, axis: str) -> np.ndarray:
    """[S]: the share, in percent, of the settings' variance that one axis explains, one value per seed.

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
    own = values[np.arange(len(values)), best]
    others = (values[:, best].sum(0) - own) / (len(values) - 1)
    return own, others


# -- figures --


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of this experiment."""
    size = f"{ds.sizes['setting']:,} settings, {ds.sizes['setting'] * ds.sizes['seed']:,} networks"
    return caption(ds, size, f"{ds.epochs} epochs of 400 images, accuracy on {_search.VALIDATION} others", *details)


def plane(ds: xr.Dataset) -> Figure:
    """Mean validation accuracy of every setting, as a point of the plane, and its standard deviation over seeds."""
    fig = plotting.figure(9.0, 4.4)
    values = points(ds)
    panels = {"mean over seeds (%)": values.mean(0), "spread over seeds (points)": values.std(0, ddof=1)}
    size = np.clip(4000 / ds.sizes["setting"], 5, 40)
    for ax, (what, colors) in zip(fig.subplots(1, 2), panels.items(), strict=True):
        dots = ax.scatter(ds.lr, ds.l2, size, colors, cmap="viridis", linewidths=0)
        ax.set(xscale="log", yscale="log", xlabel=NAMES["lr"], ylabel=NAMES["l2"])
        ax.set_title(f"Validation accuracy, {what}", fontsize="medium")
        fig.colorbar(dots, ax=ax)
    plotting.caption(fig, about(ds))
    return fig


def along_axes(ds: xr.Dataset) -> Figure:
    """Accuracy over each hyperparameter, for all values of the other."""
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
    """Every seed's best setting: its accuracy, and its mean accuracy for the other seeds."""
    fig = plotting.figure(6.0, 4.6)
    ax = plotting.axes(
        fig,
        "What the best of a search promises, and what it keeps",
        "accuracy for the seed that chose it (%)",
        "its mean accuracy for the other seeds (%)",
    )
    own, others = luck(ds)
    ax.plot(own, others, plotting.MARKERS[0], color=plotting.color(0), linestyle="none", alpha=0.5)
    low, high = min(own.min(), others.min()) - 1, max(own.max(), others.max()) + 1
    ax.plot([low, high], [low, high], color="0.5", linewidth=1, linestyle="--")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    plotting.caption(fig, about(ds, "one dot per seed; dashed: equal"))
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


# -- claims --


def per_seed(values: np.ndarray) -> xr.DataArray:
    """The effect of `values`, one per seed."""
    return xr.DataArray(values, dims="seed")


def inside(ds: xr.Dataset) -> xr.DataArray:
    """Accuracy of the best bin of learning rates below the last one, chosen on other seeds, minus that of the last
    one."""
    means = binned(ds, "lr")[1]
    ahead = xr.DataArray(means[:, :-1] - means[:, -1:], dims=("seed", "bin"))
    return lab.at_best(ahead, ahead, "bin")


def shares(ds: xr.Dataset) -> str:
    """The sentence on the share that each axis explains."""
    n = ds.sizes["setting"]
    lr, l2 = (explained(ds, axis).mean() for axis in NAMES)
    return f"It explains {lr:.3g} % of the variance of accuracy over {n:,} settings, and λ {l2:.2g} %."


def kept(ds: xr.Dataset) -> str:
    """The sentence on the best setting's accuracy for its seed and for the others."""
    own, others = luck(ds)
    n = ds.sizes["setting"]
    return (
        f"The best of {n:,} settings has {own.mean():.4g} % for its own seed and {others.mean():.4g} % for the others."
    )


CLAIMS = (
    lab.Claim(
        "The learning rate matters more than the weight decay",
        lambda ds: per_seed(explained(ds, "lr") - explained(ds, "l2")),
        *(lab.above(0.0), "points", "notes §5.2", "axes"),
        detail=shares,
    ),
    lab.Claim(
        "The notes' range of learning rates includes the best one",
        inside,
        *(lab.above(0.0), "points", "notes §5.2", "axes"),
        detail=lambda ds: (
            "It is by how much the best part of the range below its end, chosen on the other half of the seeds, is "
            f"more accurate than the end, around {bins(ds, 'lr')[0][-1]:.2g}."
        ),
        where=lambda ds: len(bins(ds, "lr")[0]) > 1,
    ),
    lab.Claim(
        "The best validation accuracy of a search is too optimistic",
        lambda ds: per_seed(np.subtract(*luck(ds))),
        *(lab.above(0.0), "points", "notes §5.1", "luck"),
        detail=kept,
    ),
)

EXPERIMENT = lab.Experiment(
    question="Where in the plane of learning rate and weight decay do networks learn, and how much of the best is "
    "luck?",
    source="notes §5.2, at scale",
    says="The notes draw 100 settings at random, lr = 10^U(−6, −2) and λ = 10^U(−8, −4), train each once and choose "
    "the best.",
    method="Every setting is trained from many seeds, each with its shuffle, split, weights and minibatches, "
    "which separates the variance of settings from that of seeds: which hyperparameter matters, "
    "whether the ranges include the best, and how much of the best validation accuracy is luck. The best setting of a "
    "seed is evaluated by its mean validation accuracy for the other seeds.\n\n"
    "The work is cut into blocks that fit the memory and are on disk when they are done, so that the same command "
    "resumes after an interrupt or a kill; --distributed shares it among processes and hosts.",
    takes="about a minute on two cores; ten thousand networks (--settings 1000) take twenty minutes",
    config=Config,
    quick={"seeds": 3, "settings": 24, "epochs": 10, "dataset": "mnist_5k"},
    run=run,
    claims=CLAIMS,
    figures={"map": plane, "axes": along_axes, "luck": luck_of_seeds},
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
