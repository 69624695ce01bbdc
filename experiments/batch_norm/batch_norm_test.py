"""Does batch normalization make learning fast and independent of the initial weights? (notes §3, figures 12 to 14)"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnn import init, lab, layers, models, sweep, tasks
from fnn.base.errors import require
from fnn.base.statistics import middle
from fnn.base.types import Initializer, Scalar
from fnn.data import DataSet
from fnn.lab import diagrams, figures, plotting
from fnn.nn.layers import Affine, Layer, Running
from fnn.tasks import Split

HIDDEN = (100, 100, 100, 100, 100)
SCALES = np.logspace(0, -4, 16)
RATES = np.geomspace(1, 1000, 10)
"""The learning rates to try, as multiples of --lr."""
VALIDATION = 2000
"""Validation images that choose a learning rate: training images after the first --images."""
LEARNED = 0.5
"""The training accuracy from which on a network counts as having learned; guessing has a tenth."""
FIT = 0.99
"""The training accuracy from which on a network counts as fitting its images: test accuracies then differ by
generalization."""
TITLES = {"bn": "Batch Normalization", "plain": "Normal (without BN)"}
LINES = {"bn": "-", "plain": "--"}


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the comparison; the defaults are the notes'."""

    seeds: int = 12
    """Networks of each contender, each with initial weights and minibatches of one seed."""
    images: int = 1000
    """Training images, the first of the data set."""
    batch: int = 100
    """Examples per update, drawn with replacement."""
    epochs: int = 20
    """Epochs of images / batch updates each."""
    lr: float = 0.01
    """Learning rate of SGD over the weight scales, and the smallest of the 10 that are tried."""
    placement: Literal["before", "after"] = "before"
    """Position of batch norm: before the activation or after it."""
    running_variance: float = 0.0
    """Initial running variance: 0 as in the book; 1, as in most libraries, is far too large where weights are small."""
    target: float = 0.9
    """A learning rate is usable if it leads to this training accuracy after the last epoch."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(images=1, epochs=1)
        require(1 <= self.batch <= self.images, f"--batch is 1 to the {self.images} --images, not {self.batch}.")
        require(0 < self.lr < math.inf, f"--lr is a number above 0, not {self.lr}.")
        require(self.placement in ("before", "after"), f"--placement is before or after, not {self.placement!r}.")
        sound = 0 <= self.running_variance < math.inf
        require(sound, f"--running-variance is a number from 0 on, not {self.running_variance}.")
        require(0 < self.target <= 1, f"--target is a share above 0 and up to 1, not {self.target}.")


class Hyper(NamedTuple):
    """The hyperparameter of the task: the standard deviation of the initial weights."""

    scale: Scalar = 0.01


def network(cfg: Config, normalize: Literal["before", "after"] | None, weights: Initializer) -> Layer:
    """The notes' network: the same initial weights from a key with batch norm and without it.

    Running variances start at `cfg.running_variance`.
    """
    plain = models.multilayer(HIDDEN, 10, weights=weights)
    built = models.multilayer(HIDDEN, 10, weights=weights, normalize=normalize)

    def init(key, x):
        params, stats = built.init(key, x)
        # Batch norm layers shift the keys of later layers, so the affine layers are taken from the plain network.
        affine = iter(p for p in plain.init(key, x)[0] if isinstance(p, Affine))
        first = lambda s: s._replace(var=jnp.full_like(s.var, cfg.running_variance)) if isinstance(s, Running) else s
        return tuple(next(affine) if isinstance(p, Affine) else p for p in params), tuple(map(first, stats))

    return built._replace(init=init)


def splits(cfg: Config, images: DataSet) -> dict[str, Split]:
    """The images trained on, those after them for validation, and the test set."""
    total, beyond = len(images.x_train), cfg.images + VALIDATION
    enough = cfg.images < total
    require(enough, f"--images is below the {total:,} training images of {images.name}, not {cfg.images:,}.")
    held = replace(
        images,
        x_train=images.x_train[cfg.images : beyond],
        y_train=images.y_train[cfg.images : beyond],
    )
    return {**tasks.splits(images, cfg.images), "validation": tasks.splits(held)["train"]}


def run(cfg: Config) -> xr.Dataset:
    """Accuracies from 16 weight scales, and from He's weights at 10 learning rates."""
    images = cfg.load()
    data, each = splits(cfg, images), cfg.images // cfg.batch

    def trained(part, weights, data, over, epochs):
        def task(normalize):
            built = lambda hp: network(cfg, normalize, weights(hp))
            return tasks.classification(built, data, cfg.batch, hyper=Hyper())

        kinds = {"bn": task(cfg.placement), "plain": task(None)}
        found = sweep(
            *(kinds, "sgd"),
            over=over,
            seeds=cfg.seeds,
            steps=cfg.epochs * each,
            evaluate=[epoch * each for epoch in epochs],
            keep=cfg.keep(part),
            progress=True,
        )
        return found.rename(task="kind").assign(diverged=found.diverged_at.rename(task="kind") >= 0)

    epochs = range(1, cfg.epochs + 1)
    scales = trained(
        *("scale", lambda hp: init.normal(hp.scale), {"train": data["train"]}),
        *({"lr": [cfg.lr], "scale": SCALES}, epochs),
    ).isel(lr=0, drop=True)
    rates = trained("lr", lambda hp: init.he(), data, {"lr": cfg.lr * RATES}, [cfg.epochs]).isel(update=0, drop=True)
    accuracy = scales.train_accuracy.rename(update="epoch").assign_coords(epoch=list(epochs))
    accuracies = {name: rates[name] for name in ("train_accuracy", "validation_accuracy", "test_accuracy")}
    ds = xr.Dataset({"accuracy": accuracy, "diverged": scales.diverged, **accuracies, "lr_diverged": rates.diverged})
    ds.scale.attrs.update(long_name="standard deviation of the initial weights")
    ds.lr.attrs.update(long_name="learning rate")
    own = {name: getattr(cfg, name) for name in ("images", "epochs", "target", "placement")}
    return ds.assign_attrs({**scales.attrs, **images.about, **own})


# -- figures --


def network_figure(ds: xr.Dataset) -> Figure:
    """The notes' figure 12: the layers of the network that is trained here, batch norm among them shaded."""
    n_in = 784
    built = models.multilayer(HIDDEN, 10, normalize=ds.placement)
    fig = diagrams.network_diagram([*diagrams.blocks(built, n_in), diagrams.Block("Softmax", 10)], n_in)
    fig.suptitle("The network with batch norm (notes, figure 12)")
    plotting.caption(fig, "Drawn from the network that is built; a number is how many values an arrow carries")
    return fig


def graph_figure(ds: xr.Dataset) -> Figure:
    """The notes' figure 13: the computational graph of batch norm's forward pass, drawn from its program."""
    x, unit = jnp.zeros((ds.batch, HIDDEN[0])), jnp.zeros(HIDDEN[0])
    # The forward rule also returns the residuals of the backward pass: x̂, r, γ and ε.
    forward = layers.normalize.fwd
    assert forward is not None
    fig = diagrams.draw(diagrams.graph_of(forward, x, unit, unit, 1e-6, results=("y", "μ", "σ²", "x̂", "", "", "")))
    fig.suptitle("The computational graph of batch norm (notes, figure 13)")
    plotting.caption(fig, f"Drawn from the program (its jaxpr) for a minibatch of {ds.batch} and {HIDDEN[0]} units")
    return fig


def about(ds: xr.Dataset, *details: str, which: str = "diverged") -> str:
    """The caption of a measured figure, with the number of networks of each kind that diverged."""
    bn, plain = (int(ds[which].sel(kind=kind).sum()) for kind in TITLES)
    n = ds[which].size // len(TITLES)
    diverged = f"of {n} networks each {bn} with and {plain} without batch norm diverged and classify every image as 0"
    return figures.caption(ds, "{images:,} images", *details, diverged)


def panels(ds: xr.Dataset, title: str, curve: Callable[[Axes, xr.DataArray, str], None]) -> Figure:
    """The notes' 4 × 4 panels, one per weight scale; `curve(ax, accuracy, kind)` draws one curve into a panel."""
    fig = plotting.figure(9.0, 8.4)
    grid = fig.subplots(4, 4, sharex=True, sharey=True)
    for ax, scale in zip(grid.flat, ds.scale.values, strict=True):
        ax.set_title(f"W:{scale:.3g}", fontsize="medium")
        for kind in TITLES:
            curve(ax, ds.accuracy.sel(kind=kind, scale=scale), kind)
        ax.set(ylim=(0, 1.0), xlim=(0, ds.epochs))
        ax.grid(alpha=0.25, linewidth=0.6)
    for ax in grid[:, 0]:
        ax.set_ylabel("accuracy")
    for ax in grid[-1]:
        ax.set_xlabel("epochs")
    grid[-1, -1].legend(loc="upper left", fontsize="x-small", frameon=False)
    fig.suptitle(title)
    return fig


def first_networks(ds: xr.Dataset) -> Figure:
    """The notes' figure 14: accuracy of single networks over the epochs, solid with batch norm, dashed without."""

    def curve(ax, accuracy, kind):
        color = plotting.color(list(TITLES).index(kind))
        ax.plot(ds.epoch, accuracy.isel(seed=0), LINES[kind], color=color, label=TITLES[kind], linewidth=1.3)

    fig = panels(ds, "Training accuracy from 16 weight scales W (notes, figure 14)", curve)
    plotting.caption(fig, about(ds.isel(seed=[0]), "the first network of each kind"))
    return fig


def all_networks(ds: xr.Dataset) -> Figure:
    """The same over all seeds."""

    def curve(ax, accuracy, kind):
        color = plotting.color(list(TITLES).index(kind))
        mean, low, high = plotting.band(accuracy.transpose("seed", "epoch").values)
        ax.plot(ds.epoch, mean, LINES[kind], color=color, label=TITLES[kind], linewidth=1.3)
        ax.fill_between(ds.epoch, low, high, color=color, alpha=0.25, linewidth=0)

    fig = panels(ds, "Training accuracy from 16 weight scales W, all seeds", curve)
    plotting.caption(fig, about(ds, "mean with its 95 % interval"))
    return fig


def over_scales(ds: xr.Dataset) -> Figure:
    """Mean and final training accuracy of each kind against the weight scale."""
    fig = plotting.figure(9.0, 4.4)
    left, right = fig.subplots(1, 2, sharey=True)
    _against(left, ds.scale, speed(ds), f"mean over {ds.epochs} epochs", named=True)
    _against(right, ds.scale, last(ds), f"after epoch {ds.epochs}")
    he = math.sqrt(2 / HIDDEN[0])
    for ax in (left, right):
        ax.axvline(he, color="0.5", linestyle=":", linewidth=1)
        ax.set_ylim(0, 104)
    left.set_ylabel("training accuracy (%)")
    right.annotate("He", (he, 2), (4, 0), textcoords="offset points", color="0.35")
    plotting.legend(fig)
    plotting.caption(fig, about(ds, "mean with its 95 % interval"))
    return fig


def over_rates(ds: xr.Dataset) -> Figure:
    """Accuracies after the last epoch against the learning rate: in training, on the test set, and their gap."""
    learned = ds.train_accuracy >= LEARNED
    fig = plotting.figure(11.0, 4.2)
    left, center, right = fig.subplots(1, 3)
    _against(left, ds.lr, 100 * ds.train_accuracy, "training accuracy (%)", named=True)
    _against(center, ds.lr, 100 * ds.test_accuracy.where(learned), "test accuracy (%)")
    _against(right, ds.lr, gap(ds).where(learned), "training − test accuracy (points)")
    left.axhline(100 * ds.target, color="0.5", linestyle=":", linewidth=1)
    left.set_ylim(0, 104)
    for ax in (center, right):
        ax.set_xlim(left.get_xlim())
    plotting.legend(fig)
    details = (
        "He's initial weights, after epoch {epochs}",
        "mean with its 95 % interval",
        "dotted: the target",
        f"test accuracy and gap where training reached {LEARNED:.0%}",
    )
    plotting.caption(fig, about(ds, *details, which="lr_diverged"))
    return fig


def _against(ax: Axes, x: xr.DataArray, percent: xr.DataArray, title: str, named: bool = False) -> None:
    """Both kinds' accuracy against a log axis; `named` in the figure's legend or not."""
    plotting.dress(ax, title=title, xscale="log", xlabel=x.long_name)
    for number, (kind, label) in enumerate(TITLES.items()):
        values = percent.sel(kind=kind).transpose("seed", x.name).values
        plotting.curve(ax, x.values, values, label if named else "", number, markers=1)


# -- effects, in percent and points --


def speed(ds: xr.Dataset) -> xr.DataArray:
    """The training accuracy, mean over the epochs."""
    return 100 * ds.accuracy.mean("epoch")


def last(ds: xr.Dataset) -> xr.DataArray:
    """The training accuracy after the last epoch, over the weight scales."""
    return 100 * ds.accuracy.isel(epoch=-1, drop=True)


def gap(ds: xr.Dataset) -> xr.DataArray:
    """Training minus test accuracy after the last epoch, over the learning rates."""
    return 100 * (ds.train_accuracy - ds.test_accuracy)


def largest(ds: xr.Dataset) -> xr.DataArray:
    """log₁₀ of the largest learning rate that reaches the target; NaN, the worst, where none does."""
    return np.log10(ds.lr.where(ds.train_accuracy >= ds.target).max("lr"))


def both_fit(ds: xr.Dataset) -> xr.DataArray:
    """The learning rates at which both kinds fit the training images, in the mean over the seeds."""
    return (ds.train_accuracy.mean("seed") >= FIT).all("kind")


def chosen(ds: xr.Dataset) -> xr.DataArray:
    """For each kind and seed the index of the learning rate that is best on the validation images."""
    return ds.validation_accuracy.argmax("lr")


def of_bn(of: Callable[[xr.Dataset], xr.DataArray], *, lower: bool = False) -> lab.claims.Effect:
    """With batch norm against without it, paired by seed."""
    return lab.ahead(of, "kind", "bn", "plain", lower=lower)


def _usable(ds):
    bn, plain = (10 ** middle(largest(ds).sel(kind=kind).values, -math.inf) for kind in TITLES)
    if not np.isfinite(largest(ds)).any():
        return f"No network reached a training accuracy of {ds.target:.0%} at any rate."
    return (
        f"The largest rate at which He's weights reach a training accuracy of {ds.target:.0%} after epoch {ds.epochs} "
        f"is {bn:.2g} against {plain:.2g}, on a grid of {math.log10(RATES[1]):.2g} decades."
    )


def _equally_fit(ds):
    fitting = ", ".join(f"{rate:.2g}" for rate in ds.lr.values[both_fit(ds).values])
    if not fitting:
        return f"At no learning rate did both classify {FIT:.0%} of them."
    return f"Both classify {FIT:.0%} of them at learning rate {fitting}; the effect is how much narrower the gap is."


def _at_equal_rates(ds):
    known = ds.train_accuracy.isel(lr=0).mean("seed")
    return (
        f"The effect is how much narrower the gap is at learning rate {float(ds.lr[0]):g} after epoch "
        f"{ds.epochs}; the training accuracy is then {float(known.sel(kind='bn')):.0%} against "
        f"{float(known.sel(kind='plain')):.0%}."
    )


def _at_chosen_rates(ds):
    rates = ds.lr[chosen(ds)].median("seed")
    return (
        "The effect is of test accuracies, at the rates that are best on validation images for each seed (median "
        f"{float(rates.sel(kind='bn')):.2g} against {float(rates.sel(kind='plain')):.2g})."
    )


SPEED = "The effect is of the training accuracy, mean over the epochs."
LAST = "The effect is of the training accuracy after the last epoch"

CLAIMS = (
    lab.Claim(
        "Batch norm learns faster, averaged over the 16 weight scales",
        of_bn(lambda ds: speed(ds).mean("scale")),
        *(lab.above(0.0), "points", "claim 7", "weight_scale"),
        detail=SPEED,
    ),
    lab.Claim(
        "Batch norm learns faster at every one of the 16 weight scales",
        of_bn(speed),
        *(lab.above(0.0), "points", "claim 7", "weight_scale"),
        each="scale",
        detail=SPEED,
        secondary=True,
    ),
    lab.Claim(
        "Batch norm learns faster, each kind of network at its own best weight scale",
        of_bn(lambda ds: lab.at_best(speed(ds), speed(ds), "scale")),
        *(lab.above(0.0), "points", "claim 7", "weight_scale"),
        detail=f"{SPEED[:-1]}, at the scale that is best in the mean over the other half of the seeds.",
        secondary=True,
    ),
    lab.Claim(
        "With batch norm the accuracy depends less on the weight scale",
        of_bn(lambda ds: last(ds).max("scale") - last(ds).mean("scale"), lower=True),
        *(lab.above(0.0), "points", "claim 8", "weight_scale"),
        detail=f"{LAST}: its mean over the 16 scales is closer to that of the best scale.",
    ),
    lab.Claim(
        "With batch norm a network learns from more of the 16 weight scales",
        of_bn(lambda ds: (last(ds) >= 100 * LEARNED).sum("scale").astype(float)),
        *(lab.above(0.0), "scales", "claim 8", "weight_scale"),
        detail=f"It learns from a scale that leads to a training accuracy of {LEARNED:.0%} after the last epoch.",
        secondary=True,
    ),
    lab.Claim(
        "With batch norm a network learns from every one of the 16 weight scales",
        lambda ds: last(ds).sel(kind="bn", drop=True),
        *(lab.above(100 * LEARNED), "%", "claim 8", "weight_scale"),
        each="scale",
        detail=f"{LAST}.",
        secondary=True,
    ),
    lab.Claim(
        "Batch norm allows larger learning rates",
        of_bn(largest),
        *(lab.above(0.0), "decades", "claim 9", "learning_rate"),
        detail=_usable,
    ),
    lab.Claim(
        "Batch norm overfits less at the same learning rate, where both kinds of network fit the training images",
        of_bn(lambda ds: gap(ds).where(both_fit(ds)).mean("lr"), lower=True),
        *(lab.above(0.0), "points", "claim 10", "learning_rate"),
        detail=_equally_fit,
    ),
    lab.Claim(
        "Batch norm narrows the gap between training and test accuracy, at the same learning rate and length",
        of_bn(lambda ds: gap(ds).isel(lr=0, drop=True), lower=True),
        *(lab.above(0.0), "points", "claim 10", "learning_rate"),
        detail=_at_equal_rates,
        secondary=True,
    ),
    lab.Claim(
        "Batch norm generalizes better, each kind of network at its own best learning rate",
        of_bn(lambda ds: 100 * ds.test_accuracy.isel(lr=chosen(ds))),
        *(lab.above(0.0), "points", "claim 10", "learning_rate"),
        detail=_at_chosen_rates,
        secondary=True,
    ),
)


def summary(ds: xr.Dataset) -> str:
    """The final accuracies, one line per weight scale and one per learning rate."""
    means = last(ds).mean("seed").transpose("scale", "kind").values
    lines = [f"{'W':>9}{'with BN':>14}{'without':>14}   training accuracy (%) after epoch {ds.epochs}"]
    lines += [f"{scale:9.3g}{bn:14.1f}{plain:14.1f}" for scale, (bn, plain) in zip(ds.scale.values, means, strict=True)]
    lines.append(f"{'lr':>9}{'with BN':>14}{'without':>14}   training / test accuracy (%) from He's weights")
    for rate in ds.lr.values:
        one = 100 * ds[["train_accuracy", "test_accuracy"]].sel(lr=rate).mean("seed")
        pairs = zip(one.train_accuracy.values, one.test_accuracy.values, strict=True)
        lines.append(f"{rate:9.3g}" + "".join(f"{f'{train:.1f} / {test:.1f}':>14}" for train, test in pairs))
    return "\n".join(lines)


EXPERIMENT = lab.Experiment(
    question="Does batch normalization make learning fast and independent of the initial weights?",
    source="notes §3, figures 12, 13 and 14",
    says="Batch norm speeds up learning (at larger learning rates), makes it depend less on the initial weights, and "
    "suppresses overfitting.",
    method="Trains the notes' network, 784-100-100-100-100-100-10 with ReLU, on the first 1,000 training images by "
    "SGD, with and without batch norm, from weights N(0, W²) at the notes' 16 scales W. The same pair also "
    "trains from He's weights at 10 learning rates; for these the test set is evaluated once, at the end. All "
    "networks of a seed start from the same draws and train on the same minibatches. The accuracy is that at inference "
    "after each epoch: batch norm then uses its running averages (momentum 0.9), which start at 0 as in the book's "
    "listing. (The book records its first accuracy after the first update of the first epoch.) Speed is the "
    "mean training accuracy over the epochs; a learning rate is usable where the final one reaches --target. "
    'Diverged networks count with their accuracy: all images are classified as 0. The notes\' ε, "10e-7", is 1e-6.',
    takes="about two minutes for 12 seeds on two cores",
    config=Config,
    quick={"seeds": 2, "epochs": 3, "dataset": "mnist_5k"},
    run=run,
    claims=CLAIMS,
    figures={
        "12_network": network_figure,
        "13_graph": graph_figure,
        "14_accuracy": first_networks,
        "14_accuracy_spread": all_networks,
        "weight_scale": over_scales,
        "learning_rate": over_rates,
    },
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
