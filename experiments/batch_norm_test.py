"""Does batch normalization make learning fast and indifferent to the initial weights? (notes §3, figures 12, 13 and 14)

Trains the notes' network, 784-100-100-100-100-100-10 with ReLU, on the first 1,000 training images by SGD, with and
without batch norm, from weights N(0, W²) at the notes' 16 scales W. Beside it the same pair of networks starts from
He's weights and trains at 10 learning rates; there the test set is looked at, once, at the end. All networks of a seed
start from the same draws and see the same minibatches.

The notes say: batch norm lets learning go fast (at larger learning rates), depends less on the initial weights, and
suppresses overfitting.

The accuracy is that at inference after each epoch: batch norm then uses its running averages (momentum 0.9), which
start at 0 as in the book's listing. (The book takes its first accuracy after the first update of the first epoch.) A
diverged network counts with the accuracy it has: it calls every image a 0. The notes' ε, "10e-7", is 1e-6.

Takes about two minutes for 12 seeds on two cores.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _cli, _diagrams, _lab
from fnn import init, layers, models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import middle, paired
from fnn.base.types import Initializer, Scalar
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide, decide_every
from fnn.nn.layers import Affine, Layer, Running
from fnn.tasks import Split
from fnn.train import Record, Run, engine

HIDDEN = (100, 100, 100, 100, 100)
SCALES = np.logspace(0, -4, 16)
RATES = np.geomspace(1, 1000, 10)
"""The learning rates to try, as multiples of --lr."""
VALIDATION = 2000
"""So many training images after the first --images choose a learning rate."""
LEARNT = 0.5
"""A network that knows half of its training images has learnt something; guessing knows a tenth."""
FIT = 0.99
"""From this training accuracy on a network fits its images, and the rest of it is generalization."""
TITLES = {"bn": "Batch Normalization", "plain": "Normal (without BN)"}
LINES = {"bn": "-", "plain": "--"}


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the comparison; the defaults are the notes'."""

    seeds: int = 12
    """How many networks a contender trains, each from its own weights and batches."""
    images: int = 1000
    """Training images, the first of the data set."""
    batch: int = 100
    """Examples per update, drawn with replacement."""
    epochs: int = 20
    """Epochs of images / batch updates each."""
    lr: float = 0.01
    """Learning rate of SGD over the weight scales, and the smallest of the 10 that are tried."""
    placement: Literal["before", "after"] = "before"
    """Where batch norm stands: before the activation or after it."""
    running_variance: float = 0.0
    """Where the running variance starts: 0 as in the book, 1 as in most libraries, which misleads small weights."""
    target: float = 0.9
    """A learning rate is usable if the network knows this share of its training images after the last epoch."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(images=1, epochs=1)
        require(1 <= self.batch <= self.images, f"--batch is 1 to the {self.images} --images, not {self.batch}.")
        require(0 < self.lr < math.inf, f"--lr is a number above 0, not {self.lr}.")
        require(self.placement in ("before", "after"), f"--placement is before or after, not {self.placement!r}.")
        require(
            0 <= self.running_variance < math.inf,
            f"--running-variance is a number from 0 on, not {self.running_variance}.",
        )
        require(0 < self.target <= 1, f"--target is a share above 0 and up to 1, not {self.target}.")

    def epoch_ends(self) -> tuple[int, ...]:
        """The numbers of updates after which an epoch ends."""
        return _lab.epochs(self.epochs, self.images // self.batch)


QUICK = Config(seeds=2, epochs=3, dataset="mnist_5k", quick=True)


def network(cfg: Config, normalize: Literal["before", "after"] | None, weights: Initializer) -> Layer:
    """The notes' network: the same initial weights from a key with batch norm and without it.

    Running variances start where `cfg` says.
    """
    plain = models.multilayer(HIDDEN, 10, weights=weights)
    built = models.multilayer(HIDDEN, 10, weights=weights, normalize=normalize)

    def begin(key, x):
        params, stats = built.init(key, x)
        # Layers in between shift the keys of those behind them: the affine layers are taken from the plain network.
        affine = iter(p for p in plain.init(key, x)[0] if isinstance(p, Affine))
        first = lambda s: s._replace(var=jnp.full_like(s.var, cfg.running_variance)) if isinstance(s, Running) else s
        return tuple(next(affine) if isinstance(p, Affine) else p for p in params), tuple(map(first, stats))

    return built._replace(init=begin)


def contender(
    cfg: Config,
    normalize: Literal["before", "after"] | None,
    weights: Callable[[Scalar], Initializer],
    looked_at: Sequence[str],
    evaluate_at: Sequence[int],
) -> Run:
    """Networks whose initial `weights` take one number, and learning rates, all at once; scored on some splits only."""
    task = tasks.classification(lambda number: network(cfg, normalize, weights(number)), batch=cfg.batch)

    def metrics(number, params, stats, data):
        return task.metrics(number, params, stats, {name: data[name] for name in looked_at})

    steps = cfg.epoch_ends()[-1]
    return engine.over_hypers(
        train.training(task._replace(metrics=metrics), optim.rule("sgd"), steps, evaluate_at=tuple(evaluate_at))
    )


def run(cfg: Config) -> xr.Dataset:
    """Train all networks in one program; prints the mean accuracy over the weight scales as it goes."""
    images = _cli.load_data(cfg)
    there = len(images.x_train)
    require(
        cfg.images < there, f"--images is below the {there:,} training images of {images.name}, not {cfg.images:,}."
    )
    ends, sgd = cfg.epoch_ends(), optim.rule("sgd").hyper
    runs = {}
    for name, normalize in {"bn": cfg.placement, "plain": None}.items():
        runs[f"{name} scale"] = contender(cfg, normalize, init.normal, ("train",), ends)
        he = lambda gain: init.he(gain=gain)
        runs[f"{name} lr"] = contender(cfg, normalize, he, ("train", "validation", "test"), ends[-1:])
    hps = {
        "scale": train.Hyper(engine.grid(sgd, lr=[cfg.lr] * len(SCALES)), jnp.asarray(SCALES)),
        "lr": train.Hyper(engine.grid(sgd, lr=[*cfg.lr * RATES]), jnp.ones(len(RATES))),
    }
    chunks = _lab.stream(
        cfg,
        runs,
        {name: hps[name.split()[-1]] for name in runs},
        engine.seeds(cfg.seeds),
        data(cfg, images),
        ends[-1],
        chunk=ends[0],
    )
    each = len(SCALES) + len(RATES)
    _cli.headline(cfg, images, f"{2 * each * cfg.seeds:,} networks (2 kinds × {each} settings × {cfg.seeds} seeds)")
    print("epoch" + "".join(f"{title:>24}" for title in TITLES.values()))

    def row(chunk):
        means = (chunk.record[f"{name} scale"]["train_accuracy"][:, -1].mean() for name in TITLES)
        return f"{chunk.steps.stop // ends[0]:5d}" + "".join(f"{mean:24.2%}" for mean in means)

    followed = _lab.follow(chunks, ends[-1], row)
    ds = label(cfg, images, followed.record).assign_attrs(followed.attrs)
    print(summary(ds))
    return ds


def data(cfg: Config, images: DataSet) -> dict[str, Split]:
    """The images trained on, those after them for validation, and the test set."""
    splits = _lab.splits(images, cfg.images + VALIDATION)
    both = splits["train"]
    return splits | {
        "train": Split(both.x[: cfg.images], both.y[: cfg.images]),
        "validation": Split(both.x[cfg.images :], both.y[cfg.images :]),
    }


def label(cfg: Config, images: DataSet, record: Mapping[str, Record]) -> xr.Dataset:
    """The records as one labelled data set: dims kind, seed, and scale (with epoch) or lr."""

    def both(axis, quantity):
        return np.stack([record[f"{name} {axis}"][quantity] for name in TITLES])

    accuracy = _lab.at(both("scale", "train_accuracy"), cfg.epoch_ends(), axis=2)
    ds = xr.Dataset(
        {
            "accuracy": (
                ("kind", "seed", "epoch", "scale"),
                accuracy,
                {"long_name": "accuracy on the training images", "units": "1"},
            ),
            "diverged": (("kind", "seed", "scale"), _diverged(both("scale", "loss"))),
            "lr_diverged": (("kind", "seed", "lr"), _diverged(both("lr", "loss"))),
        },
        {
            "kind": list(TITLES),
            "seed": np.arange(cfg.seeds),
            "epoch": 1 + np.arange(accuracy.shape[2]),
            "scale": ("scale", SCALES, {"long_name": "standard deviation of the initial weights", "units": "1"}),
            "lr": ("lr", cfg.lr * RATES, {"long_name": "learning rate", "units": "1"}),
        },
        {
            **_lab.origin(images),
            "images": cfg.images,
            "batch": cfg.batch,
            "epochs": cfg.epochs,
            "target": cfg.target,
            "placement": cfg.placement,
        },
    )
    for split in ("train", "validation", "test"):
        told = {"long_name": f"{split} accuracy after the last epoch", "units": "1"}
        ds[f"{split}_accuracy"] = ("kind", "seed", "lr"), both("lr", f"{split}_accuracy")[:, :, -1], told
    return ds


def _diverged(loss: np.ndarray):
    """Which networks of `[kind, seed, step, …]` ever had a loss that is not a number."""
    return (~np.isfinite(loss)).any(2).astype(np.int8)


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that the measured figures carry."""
    return _lab.about(ds, f"{ds.images:,} images", f"minibatch {ds.batch}", *details)


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Figures 12 and 13, read off the program, 14 in two forms, and what weight scale and learning rate do."""
    made = {
        "12_network": figure_12(ds),
        "13_graph": figure_13(ds),
        "14_accuracy": figure_14(ds),
        "14_accuracy_spread": figure_14_spread(ds),
        "weight_scale": over_scales(ds),
    }
    if finished(ds):
        made["learning_rate"] = over_rates(ds)
    return made


def finished(ds: xr.Dataset) -> bool:
    """Whether the last epoch was reached, after which alone the learning rates are compared."""
    return bool(np.isfinite(ds.test_accuracy).all())


def figure_12(ds: xr.Dataset) -> Figure:
    """The notes' figure: the layers of the network that is trained here, batch norm among them shaded."""
    n_in = 784
    built = models.multilayer(HIDDEN, 10, normalize=ds.placement)
    fig = _diagrams.network_diagram([*_diagrams.blocks(built, n_in), _diagrams.Block("Softmax", 10)], n_in)
    fig.suptitle("The network with batch norm (notes, figure 12)")
    plotting.caption(fig, "Read off the network that is built; a number is how many values an arrow carries")
    return fig


def figure_13(ds: xr.Dataset) -> Figure:
    """The notes' figure: the computational graph of batch norm's forward pass, of the function that is run here."""
    x, unit = jnp.zeros((ds.batch, HIDDEN[0])), jnp.zeros(HIDDEN[0])
    # The forward rule also gives what it keeps for the backward pass: x̂, r, γ and ε.
    forward = layers.normalize.fwd
    assert forward is not None
    graph = _diagrams.graph_of(forward, x, unit, unit, 1e-6, results=("y", "μ", "σ²", "x̂", "", "", ""))
    fig = _diagrams.draw(graph)
    fig.suptitle("The computational graph of batch norm (notes, figure 13)")
    plotting.caption(fig, f"Read off the program (its jaxpr) for a minibatch of {ds.batch} and {HIDDEN[0]} units")
    return fig


def panels(ds: xr.Dataset, curve: Callable[[Axes, xr.DataArray, str], None]) -> Figure:
    """The notes' 4 × 4 panels, one a weight scale; `curve(ax, accuracy, kind)` draws one curve into a panel."""
    fig = plotting.figure(9.0, 8.4)
    grid = fig.subplots(4, 4, sharex=True, sharey=True)
    for ax, scale in zip(grid.flat, ds.scale.values, strict=True):
        ax.set_title(f"W:{scale:.3g}", fontsize="medium")
        for name in TITLES:
            curve(ax, ds.accuracy.sel(kind=name, scale=scale), name)
        ax.set(ylim=(0, 1.0), xlim=(0, ds.epochs))
        ax.grid(alpha=0.25, linewidth=0.6)
    for ax in grid[:, 0]:
        ax.set_ylabel("accuracy")
    for ax in grid[-1]:
        ax.set_xlabel("epochs")
    grid[-1, -1].legend(loc="upper left", fontsize="x-small", frameon=False)
    return fig


def figure_14(ds: xr.Dataset) -> Figure:
    """The notes' figure: accuracy of single networks over the epochs, solid with batch norm, dashed without."""

    def curve(ax, accuracy, name):
        number = list(TITLES).index(name)
        values = accuracy.isel(seed=0)
        ax.plot(ds.epoch, values, LINES[name], color=plotting.colour(number), label=TITLES[name], linewidth=1.3)

    fig = panels(ds, curve)
    fig.suptitle("Training accuracy from 16 weight scales W (notes, figure 14)")
    first = ds.isel(seed=[0])
    plotting.caption(fig, about(first, "the first network of each kind", diverged(first.diverged)))
    return fig


def figure_14_spread(ds: xr.Dataset) -> Figure:
    """The same over all seeds."""

    def curve(ax, accuracy, name):
        colour = plotting.colour(list(TITLES).index(name))
        mean, low, high = plotting.band(accuracy.transpose("seed", "epoch").values)
        ax.plot(ds.epoch, mean, LINES[name], color=colour, label=TITLES[name], linewidth=1.3)
        ax.fill_between(ds.epoch, low, high, color=colour, alpha=0.25, linewidth=0)

    fig = panels(ds, curve)
    fig.suptitle("Training accuracy from 16 weight scales W, all seeds")
    plotting.caption(fig, about(ds, "mean with its 95 % interval", diverged(ds.diverged)))
    return fig


def diverged(which: xr.DataArray) -> str:
    """How many networks of each kind diverged, for captions."""
    bn, plain = (int(which.sel(kind=name).sum()) for name in TITLES)
    n = which.size // len(TITLES)
    return f"of {n} networks each {bn} with and {plain} without batch norm diverged and call every image a 0"


def over_scales(ds: xr.Dataset) -> Figure:
    """How fast and how far each kind learns, against the weight scale."""
    fig = plotting.figure(9.0, 4.4)
    left, right = fig.subplots(1, 2, sharey=True)
    last = int(ds.epoch[-1])
    for ax, accuracy, title in (
        (left, ds.accuracy.mean("epoch"), f"mean over {last} epochs"),
        (right, ds.accuracy.isel(epoch=-1), f"after epoch {last}"),
    ):
        _against(ax, ds.scale, accuracy, title, listed=ax is left)
        ax.axvline(math.sqrt(2 / HIDDEN[0]), color="0.5", linestyle=":", linewidth=1)
        ax.set_ylim(0, 104)
    left.set_ylabel("training accuracy (%)")
    right.annotate("He", (math.sqrt(2 / HIDDEN[0]), 2), (4, 0), textcoords="offset points", color="0.35")
    plotting.legend(fig)
    plotting.caption(fig, about(ds, "mean with its 95 % interval", diverged(ds.diverged)))
    return fig


def over_rates(ds: xr.Dataset) -> Figure:
    """Accuracies after the last epoch against the learning rate: in training, on the test set, and their gap."""
    learnt = ds[["train_accuracy", "test_accuracy"]].where(ds.train_accuracy >= LEARNT)
    fig = plotting.figure(11.0, 4.2)
    left, middle, right = fig.subplots(1, 3)
    _against(left, ds.lr, ds.train_accuracy, "training accuracy (%)", listed=True)
    _against(middle, ds.lr, learnt.test_accuracy, "test accuracy (%)", listed=False)
    gap = learnt.train_accuracy - learnt.test_accuracy
    _against(right, ds.lr, gap, "training − test accuracy (points)", listed=False)
    left.axhline(100 * ds.target, color="0.5", linestyle=":", linewidth=1)
    left.set_ylim(0, 104)
    for ax in (middle, right):
        ax.set_xlim(left.get_xlim())
    plotting.legend(fig)
    told = (
        f"He's initial weights, after epoch {ds.epochs}",
        "mean with its 95 % interval",
        "dotted: the target",
        f"test accuracy and gap where training reached {LEARNT:.0%}",
        diverged(ds.lr_diverged),
    )
    plotting.caption(fig, about(ds, *told))
    return fig


def _against(ax: Axes, x: xr.DataArray, accuracy: xr.DataArray, title: str, listed: bool) -> None:
    """Both kinds' accuracy in percent against a log axis; `listed` in the figure's legend or not."""
    plotting.dress(ax, title=title, xscale="log", xlabel=x.long_name)
    for number, (name, label) in enumerate(TITLES.items()):
        values = 100 * accuracy.sel(kind=name).transpose("seed", x.name).values
        plotting.curve(ax, x.values, values, label if listed else "", number, markers=1)


def summary(ds: xr.Dataset) -> str:
    """The final accuracies, a line a weight scale and a line a learning rate."""
    percent = 100 * ds.mean("seed")
    last = percent.accuracy.isel(epoch=-1).transpose("scale", "kind").values
    lines = [f"{'W':>9}{'with BN':>14}{'without':>14}   training accuracy (%) after epoch {int(ds.epoch[-1])}"]
    lines += [f"{scale:9.3g}{bn:14.1f}{plain:14.1f}" for scale, (bn, plain) in zip(ds.scale.values, last, strict=True)]
    if finished(ds):
        lines.append(f"{'lr':>9}{'with BN':>14}{'without':>14}   training / test accuracy (%) from He's weights")
        for rate in ds.lr.values:
            one = percent.sel(lr=rate)
            pairs = zip(one.train_accuracy.values, one.test_accuracy.values, strict=True)
            lines.append(f"{rate:9.3g}" + "".join(f"{f'{train:.1f} / {test:.1f}':>14}" for train, test in pairs))
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims 7 to 10; the last two need the last epoch."""
    found = [*faster(ds), *robust(ds)]
    return [*found, *larger_rates(ds), *overfitting(ds)] if finished(ds) else found


def difference(values: xr.DataArray) -> np.ndarray:
    """With batch norm minus without it, seed first: `[seed, …]`."""
    return (values.sel(kind="bn") - values.sel(kind="plain")).transpose("seed", ...).values


def faster(ds: xr.Dataset) -> list[Verdict]:
    """Claim 7, by the mean accuracy over the epochs."""
    speed = 100 * ds.accuracy.mean("epoch")
    told = "It changes the training accuracy, mean over the epochs, by {effect} {unit} [{low}, {high}]"
    return [
        decide(
            "Batch norm learns faster, averaged over the 16 weight scales",
            difference(speed).mean(1),
            "points",
            f"{told}, {{seeds}} paired seeds.",
            "claim 7",
        ),
        decide_every(
            "Batch norm learns faster at every one of the 16 weight scales",
            difference(speed),
            ds.scale.values,
            "points",
            f"{told} at the worst scale, W = {{worst:.3g}}, {{seeds}} paired seeds.",
            "claim 7",
        ),
        decide(
            "Batch norm learns faster, each kind of network at its own best weight scale",
            difference(speed.max("scale")),
            "points",
            f"{told}, each seed's best scale for each kind, {{seeds}} paired seeds.",
            "claim 7",
        ),
    ]


def robust(ds: xr.Dataset) -> list[Verdict]:
    """Claim 8, by the training accuracy at the end."""
    last, n = 100 * ds.accuracy.isel(epoch=-1), int(ds.epoch[-1])
    return [
        decide(
            "With batch norm the accuracy depends less on the weight scale",
            -difference(last.max("scale") - last.mean("scale")),
            "points",
            f"Over the 16 scales, the mean training accuracy after epoch {n} falls short of the best scale's by "
            "{effect} {unit} less [{low}, {high}], {seeds} paired seeds.",
            "claim 8",
        ),
        decide(
            "With batch norm a network learns from more of the 16 weight scales",
            difference((last >= 100 * LEARNT).sum("scale").astype(float)),
            "scales",
            f"The number of scales that lead to a training accuracy of {LEARNT:.0%} after epoch {n} changes by "
            "{effect} [{low}, {high}], {seeds} paired seeds.",
            "claim 8",
        ),
        decide_every(
            "With batch norm a network learns from every one of the 16 weight scales",
            (last.sel(kind="bn") - 100 * LEARNT).transpose("seed", "scale").values,
            ds.scale.values,
            "points",
            f"At the worst, W = {{worst:.3g}}, its training accuracy after epoch {n} less {LEARNT:.0%} is {{effect}} "
            "{unit} [{low}, {high}], {seeds} seeds.",
            "claim 8",
        ),
    ]


def larger_rates(ds: xr.Dataset) -> list[Verdict]:
    """Claim 9, by the largest learning rate of the grid that reaches the target; NaN where none does."""
    largest = ds.lr.where(ds.train_accuracy >= ds.target).max("lr")
    decades = np.log10(largest)
    bn, plain = (decades.sel(kind=name).values for name in TITLES)
    told = (
        f"The largest with which He's weights reach a training accuracy of {ds.target:.0%} after epoch {ds.epochs} is "
        f"{{effect}} {{unit}} larger [{{low}}, {{high}}], {10 ** middle(bn, -math.inf):.2g} against "
        f"{10 ** middle(plain, -math.inf):.2g}, {{seeds}} paired seeds on a grid of {math.log10(RATES[1]):.2g} decades."
        if np.isfinite(decades).any()
        else f"No network reached a training accuracy of {ds.target:.0%} at any rate, so this run cannot tell."
    )
    # Networks that reach the target at no rate are the worst.
    return [decide("Batch norm allows larger learning rates", paired(bn, plain), "decades", told, "claim 9")]


def overfitting(ds: xr.Dataset) -> list[Verdict]:
    """Claim 10, three ways, since networks that learn at different speeds overfit at different times."""
    gap = 100 * (ds.train_accuracy - ds.test_accuracy)
    both_fit = (ds.train_accuracy.mean("seed") >= FIT).all("kind")
    fitting = ", ".join(f"{rate:.2g}" for rate in ds.lr.values[both_fit.values])
    at_equal = (
        f"Both know {FIT:.0%} of them at lr {fitting}; there the gap between training and test accuracy is {{effect}} "
        "{unit} narrower [{low}, {high}], {seeds} paired seeds."
        if fitting
        else f"At no learning rate did both come to know {FIT:.0%} of them, so this run cannot tell."
    )
    chosen = ds.validation_accuracy.argmax("lr")
    rates = {name: float(ds.lr[chosen.sel(kind=name)].median()) for name in TITLES}
    known = {name: float(ds.train_accuracy.isel(lr=0).sel(kind=name).mean()) for name in TITLES}
    return [
        decide(
            "Batch norm narrows the gap between training and test accuracy, at the same learning rate and length",
            -difference(gap.isel(lr=0)),
            "points",
            f"With lr {float(ds.lr[0]):g} from He's weights the gap after epoch {ds.epochs} is {{effect}} {{unit}} "
            f"narrower [{{low}}, {{high}}], {{seeds}} paired seeds; the training accuracy is then {known['bn']:.0%} "
            f"against {known['plain']:.0%}.",
            "claim 10",
        ),
        decide(
            "Batch norm overfits less at the same learning rate, where both kinds of network fit the training images",
            -difference(gap.where(both_fit).mean("lr")),
            "points",
            at_equal,
            "claim 10",
        ),
        decide(
            "Batch norm generalizes better, each kind of network at its own best learning rate",
            difference(100 * ds.test_accuracy.isel(lr=chosen)),
            "points",
            "Its test accuracy is {effect} {unit} higher [{low}, {high}] at the rates that validation images choose "
            f"for each seed (median {rates['bn']:.2g} against {rates['plain']:.2g}), {{seeds}} paired seeds.",
            "claim 10",
        ),
    ]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
