"""Can a network learn from weights that all start equal? (notes §2.1)

Trains 784-50-50-10 (two hidden layers) with sigmoid and with ReLU from weights that are all the same constant, from
random ones (Xavier's for sigmoid, He's for ReLU), and from equal ones that a little noise or dropout disturbs: by
Momentum, since plain SGD needs far longer with sigmoid. Watched are the largest difference between two units of a
hidden layer (in the weights that enter them, their biases, and the weights that leave them) and the rank of every W.

The notes say: units that start equal get equal updates, so the network loses what its many weights are for and cannot
learn properly; only random initial values break the symmetry.

What equal weights can learn has an exact answer, trained beside them: with units that are copies of each other, the
network *is* one of width 1, whose weights are the sums over the copies and whose update rule is rescaled (see
`of_width_one`). So it does learn, as much as one unit a layer can. All-zero weights are worse off with ReLU than with
sigmoid, which gives 1/2 at 0: where every unit gives 0 and has slope 0 there, only the last bias moves.

Takes about 45 seconds for 10 seeds of 1,000 updates on two cores.
"""

import itertools
import math
import operator
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from experiments import _cli, _lab
from fnn import init, instruments, models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.types import Initializer, Params, Scalar
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide, decide_share
from fnn.nn.layers import Affine, relu, sigmoid
from fnn.nn.losses import weights
from fnn.rule import Rule
from fnn.tasks import Task
from fnn.train import Moment, Record, engine

CLASSES = 10
DEPTH = 2
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "sigmoid": (sigmoid, 1.0),
    "relu": (relu, math.sqrt(2)),
}
"""Each with the gain of its random weights, std = gain / √n_in: Xavier's and He's."""
TITLES = {"sigmoid": "sigmoid", "relu": "ReLU"}
ZEROS = "all 0"
POINTS = 1.0
"""An accuracy is "no better than guessing" where it is within so many points of the most common class's share."""
ROUNDING = 100
"""Units are equal that differ by no more ulp: sums over a width that fills no vector may be rounded unit by unit."""
AGREE = 0.01
"""Two losses agree where they differ by less nats than this at every step: float32 rounds, and training amplifies."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the comparison."""

    steps: int = 1000
    """Updates per network."""
    batch: int = 100
    """Examples per update, drawn with replacement."""
    width: int = 50
    """Units in each of the two hidden layers."""
    optimizer: str = "momentum"
    """Update rule: NAME or NAME:DIALECT."""
    lr: float = 0.1
    """The rule's step size."""
    constants: str = "0,0.01,0.1"
    """Equal weights: what all of a network's weights start at, with commas between."""
    noises: str = "1e-6,1e-4,1e-2"
    """Standard deviations of the noise put on equal weights, with commas between."""
    base: float = 0.01
    """The equal weights that noise and dropout disturb."""
    dropout: float = 0.2
    """The dropout ratio that disturbs them."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, batch=1)
        require(self.width >= 2, f"--width is at least 2 (one unit has no other to differ from), not {self.width}.")
        require(0 < self.lr < math.inf, f"--lr is a number above 0, not {self.lr}.")
        require(math.isfinite(self.base), f"--base is a finite number, not {self.base}.")
        require(0 < self.dropout < 1, f"--dropout is between 0 and 1, not {self.dropout}.")
        numbers("--constants", self.constants)
        small = [noise for noise in numbers("--noises", self.noises) if noise <= 0]
        require(not small, f"--noises are above 0, not {', '.join(f'{noise:g}' for noise in small)}.")
        optim.rule(self.optimizer)


QUICK = Config(seeds=2, steps=200, width=20, noises="1e-4,1e-2", dataset="mnist_5k", quick=True)


def numbers(option: str, text: str) -> list[float]:
    """The different finite numbers that an option lists with commas between."""
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = [math.nan]
    fine = bool(values) and all(map(math.isfinite, values)) and len(set(values)) == len(values)
    require(fine, f"{option} takes different numbers with commas between, not {text!r}.")
    return values


class Start(NamedTuple):
    """Where a network begins, in traced numbers: constant + std · n_in^−power · z, z ~ N(0, 1); and its dropout."""

    constant: Scalar
    std: Scalar = 0.0
    power: Scalar = 0.0
    dropout: Scalar = 0.0


def starts(cfg: Config, gain: float) -> dict[tuple[str, str], Start]:
    """The contenders by kind (equal, random, noise, dropout) and name; those of one kind differ in numbers only."""
    equal = {("equal", f"all {c:g}"): Start(c) for c in numbers("--constants", cfg.constants)}
    noisy = {
        ("noise", f"all {cfg.base:g}, noise {noise:g}"): Start(cfg.base, noise)
        for noise in numbers("--noises", cfg.noises)
    }
    return {
        ("random", "random"): Start(0.0, gain, 0.5),
        **equal,
        **noisy,
        ("dropout", f"all {cfg.base:g}, dropout"): Start(cfg.base, dropout=cfg.dropout),
    }


def initial(hp: Start) -> Initializer:
    """The initializer that a start describes."""

    def initialize(key, shape, dtype=jnp.float32):
        n_in, _ = init.fans(shape)
        return jnp.asarray(hp.constant, dtype) + init.normal(hp.std * n_in**-hp.power)(key, shape, dtype)

    return initialize


def wide(cfg: Config, activation: str, dropping: bool = False) -> Task:
    """The task of the full network; its metrics are the test scores and the rank of every W."""
    f, _ = ACTIVATIONS[activation]

    def network(hp: Start):
        ratio = hp.dropout if dropping else None
        return models.multilayer((cfg.width,) * DEPTH, CLASSES, activation=f, weights=initial(hp), dropout_ratio=ratio)

    task = tasks.classification(network, batch=cfg.batch)

    def metrics(hp, params, stats, data):
        rank, stable_rank = (
            jnp.stack([of(w) for w in weights(params)]) for of in (instruments.rank, instruments.stable_rank)
        )
        scores = task.metrics(hp, params, stats, {"test": data["test"]})
        return {**scores, "rank": rank, "stable_rank": stable_rank}

    return task._replace(metrics=metrics)


def narrow(cfg: Config, activation: str) -> Task:
    """The task of the network of width 1 that an all-equal one is."""
    f, _ = ACTIVATIONS[activation]
    task = tasks.classification(lambda hp: models.multilayer((1,) * DEPTH, CLASSES, activation=f), batch=cfg.batch)
    full = wide(cfg, activation)

    def start(hp, key, data):
        params, stats = full.init(hp, key, data)
        return collapse(params), stats

    def metrics(hp, params, stats, data):
        return task.metrics(hp, params, stats, {"test": data["test"]})

    return task._replace(init=start, metrics=metrics)


def copies(params: Params) -> tuple[Params, Params]:
    """(s, r): from how many copies every weight of a network has its input, and how many copies there are of its unit.

    The first layer's inputs are no copies, nor are the last layer's units; a bias has no input.
    """
    affine = [i for i, layer in enumerate(params) if isinstance(layer, Affine)]

    def inputs(i):
        return params[i]._replace(w=1.0 if i == affine[0] else params[i].w.shape[1], b=1.0)

    def units(i):
        n = 1.0 if i == affine[-1] else params[i].w.shape[0]
        return params[i]._replace(w=n, b=n)

    def over_layers(f):
        return tuple(f(i) if i in affine else () for i in range(len(params)))

    return over_layers(inputs), over_layers(units)


def collapse(params: Params) -> Params:
    """The network of width 1 that computes what a network of identical units does.

    One unit stands for all of its layer, and a weight between units for the sum over the copies that it comes from.
    """
    s, r = copies(params)

    def one(w, s, r):
        w = w if r == 1 else w[:1]
        return s * (w if s == 1 else w[:, :1])

    return jax.tree.map(one, params, s, r)


def of_width_one(rule: Rule, full: Params) -> Rule:
    """The rule that moves the collapsed network as `rule` moves the `full` one of identical units.

    A collapsed weight is w̃ = s w by the chain rule of the forward pass and its gradient g̃ = r g by that of the
    backward one (s, r: `copies`), so w̃ ← w̃ + s · rule(g̃ / r). Exact for every rule that acts on each weight alone.
    For SGD it means a learning rate of its own, lr · s / r, for every layer.
    """
    s, r = copies(full)

    def before(params):
        return jax.tree.map(operator.truediv, params, s)

    def start(hp, params):
        return rule.init(hp, before(params))

    def update(hp, grads, state, params, extra=None):
        updates, state = rule.update(hp, jax.tree.map(operator.truediv, grads, r), state, before(params))
        return jax.tree.map(operator.mul, updates, s), state

    return Rule(rule.hyper, start, update)


def between_units(moment: Moment) -> Record:
    """For each hidden layer, after the update: the largest difference between two of its units, and largest weight."""
    layers = [layer for layer in moment.after if isinstance(layer, Affine)]
    spread, size = [], []
    for enters, leaves in itertools.pairwise(layers):
        spread.append(jnp.stack([jnp.ptp(enters.w, 0).max(), jnp.ptp(enters.b), jnp.ptp(leaves.w, 1).max()]).max())
        size.append(jnp.maximum(jnp.abs(enters.w).max(), jnp.abs(leaves.w).max()))
    return {"spread": jnp.stack(spread), "size": jnp.stack(size)}


def moments(steps: int) -> tuple[int, ...]:
    """The numbers of updates after which units are compared: close together at first, then evenly."""
    early, evenly = (round(steps ** (i / 12)) for i in range(13)), (round(1 + i * (steps - 1) / 25) for i in range(26))
    return tuple(sorted({*early, *evenly}))


def scored(steps: int) -> tuple[int, ...]:
    """The numbers of updates after which networks are tested and ranks taken: 1, 10, 100, … and the last."""
    return tuple(sorted({*(10**i for i in range(len(str(steps)))), steps}))


def contenders(cfg: Config, data: Mapping[str, tasks.Split]) -> tuple[dict[str, train.Run], dict[str, train.Hyper]]:
    """For each activation the full networks, those with dropout, and those of width 1: what they do, and from where."""
    rule = optim.rule(cfg.optimizer)
    runs, hps = {}, {}

    def add(name, task, rule, beginnings, observe=between_units):
        runs[name] = engine.over_hypers(
            train.training(
                task, rule, cfg.steps, evaluate_at=scored(cfg.steps), observe=observe, observe_at=moments(cfg.steps)
            )
        )
        where = jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *beginnings)
        hps[name] = train.Hyper(engine.grid(rule.hyper, lr=[cfg.lr] * len(beginnings)), where)

    for activation, (_, gain) in ACTIVATIONS.items():
        begin = starts(cfg, gain)
        equal, dropping = ([start for (kind, _), start in begin.items() if kind == k] for k in ("equal", "dropout"))
        still = [start for (kind, _), start in begin.items() if kind != "dropout"]
        full = wide(cfg, activation)
        shapes, _ = jax.eval_shape(lambda key, task=full: task.init(Start(0.0), key, data), jax.random.key(0))
        add(f"{activation} wide", full, rule, still)
        add(f"{activation} dropout", wide(cfg, activation, dropping=True), rule, dropping)
        add(f"{activation} narrow", narrow(cfg, activation), of_width_one(rule, shapes), equal, None)
    return runs, hps


def run(cfg: Config) -> xr.Dataset:
    """Train from all starts, with both activations, over all seeds in one program."""
    images = _cli.load_data(cfg, fitting="batch")
    data = _lab.splits(images)
    runs, hps = contenders(cfg, data)
    settings = sum(len(hp.task.constant) for hp in hps.values())
    work = f"{settings * cfg.seeds} networks ({settings} starts, activations and widths × {cfg.seeds} seeds)"
    _cli.headline(cfg, images, work)
    chunks = _lab.stream(cfg, runs, hps, engine.seeds(cfg.seeds), data, cfg.steps, chunk=min(100, cfg.steps))
    # A core is a device here: singular values by all cores on every device would wait for each other.
    with threadpool_limits(1, "blas"):
        followed = _lab.follow(chunks, cfg.steps)
    ds = label(cfg, images, followed).assign_attrs(followed.attrs)
    print(summary(ds))
    return ds


def label(cfg: Config, images: DataSet, followed: _lab.Followed) -> xr.Dataset:
    """The records as one labelled data set: dims activation, start (equal: those with a twin of width 1), seed, time.

    Time is `step` (from 0) for the loss, `update` for the differences between units, `score` for ranks and tests.
    """
    kinds, names = zip(*starts(cfg, 1.0), strict=True)
    times = {"step": None, "update": moments(cfg.steps), "score": scored(cfg.steps)}

    def over(what, time, *, of=("wide", "dropout"), start="start", own=()):
        """`[activation, seed, time, start, …]`, at the times that were reached."""
        found = [np.concatenate([followed.record[f"{a} {part}"][what] for part in of], axis=2) for a in ACTIVATIONS]
        kept = found if times[time] is None else [_lab.at(record, times[time]) for record in found]
        return ("activation", "seed", time, start, *own), np.stack(kept)

    loss = {"long_name": "minibatch loss before the update", "units": "nats"}
    spread = {"long_name": "largest difference between two units of a hidden layer"}
    twin = {"of": ("narrow",), "start": "equal"}
    ds = xr.Dataset(
        {
            "loss": (*over("loss", "step"), loss),
            "spread": (*over("spread", "update", own=("layer",)), spread),
            "size": (*over("size", "update", own=("layer",)), {"long_name": "largest weight of the layer"}),
            "rank": over("rank", "score", own=("matrix",)),
            "stable_rank": over("stable_rank", "score", own=("matrix",)),
            "test_accuracy": (*over("test_accuracy", "score"), {"units": "1"}),
            "narrow_loss": (*over("loss", "step", **twin), loss),
            "narrow_test_accuracy": (*over("test_accuracy", "score", **twin), {"units": "1"}),
        },
        {
            "activation": list(ACTIVATIONS),
            "start": list(names),
            "kind": ("start", list(kinds)),
            "equal": [name for kind, name in zip(kinds, names, strict=True) if kind == "equal"],
            "seed": np.arange(cfg.seeds),
            "step": np.arange(followed.done),
            "update": [n for n in times["update"] if n <= followed.done],
            "score": [n for n in times["score"] if n <= followed.done],
            "layer": np.arange(1, DEPTH + 1),
            "matrix": [f"W{i}" for i in range(1, DEPTH + 2)],
        },
        {
            **_lab.origin(images),
            "network": f"{images.x_train[0].size}-" + f"{cfg.width}-" * DEPTH + str(CLASSES),
            "width": cfg.width,
            "rule": f"{_lab.title(cfg.optimizer)}, learning rate {cfg.lr:g}",
            "batch": cfg.batch,
            "guessing": float(np.bincount(images.y_test).max() / len(images.y_test)),
        },
    )
    ds["diverged_at"] = _lab.first_not_finite(ds.loss)
    return ds.transpose("activation", "start", "equal", "seed", ...)


def of_kind(ds: xr.Dataset, kind: str) -> list[str]:
    """The names of the starts of this kind."""
    return [str(name) for name in ds.start.values[ds.kind.values == kind]]


def look(ds: xr.Dataset, name: str) -> tuple[int, str]:
    """A start's colour number and dashes: a colour for each constant, and one for all noises, told apart by dashes."""
    kind = str(ds.kind.sel(start=name).item())
    nth = of_kind(ds, kind).index(name)
    return {
        "random": (0, "-"),
        "equal": ((1, 2, 3, 5)[nth % 4], "-"),
        "noise": (6, (":", "--", "-", "-.")[nth % 4]),
        "dropout": (4, "-"),
    }[kind]


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, ds.network, ds.rule, f"minibatch {ds.batch}", *details)


def figures(ds: xr.Dataset) -> Mapping[str, Figure]:
    """The differences between units, the losses beside those of width 1, the ranks, and the test accuracies."""
    return {
        "spread": spreads(ds),
        "loss": losses(ds),
        "rank": ranks(ds, "rank", "rank"),
        "stable_rank": ranks(ds, "stable_rank", "stable rank"),
        "accuracy": accuracies(ds),
    }


def panels(ds: xr.Dataset, height: float, columns: int = 1):
    """A figure with a column of panels, or a row of them, for each activation: `[activation, columns]` axes."""
    n = ds.sizes["activation"]
    fig = plotting.figure(9.0, height)
    axes = fig.subplots(n, columns, squeeze=False) if columns > 1 else fig.subplots(1, n, squeeze=False).T
    for ax in axes.flat:
        plotting.dress(ax)
    return fig, axes


def one_legend(fig: Figure, axes, columns: int = 4) -> None:
    """One legend for panels that all have the same curves, above them."""
    lines = {line.get_label(): line for ax in axes.flat for line in ax.get_lines()}
    shown = {name: line for name, line in lines.items() if not str(name).startswith("_")}
    fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=columns, frameon=False)


def spreads(ds: xr.Dataset) -> Figure:
    """The largest difference between two units of a layer against updates, on a log axis."""
    fig, axes = panels(ds, 4.8)
    for ax, activation in zip(axes.flat, ds.activation.values, strict=True):
        spread = ds.spread.sel(activation=activation).max("layer")
        together = []
        for name in ds.start.values:
            values = spread.sel(start=name).values
            if not (values > 0).any():
                together.append(name)
                continue
            number, dashes = look(ds, name)
            with np.errstate(divide="ignore"):
                mean, low, high = (10**x for x in plotting.band(np.log10(values)))
            ax.plot(ds["update"], mean, dashes, color=plotting.colour(number), label=name, linewidth=1.3)
            ax.fill_between(ds["update"], low, high, color=plotting.colour(number), alpha=0.2, linewidth=0)
        ax.set(title=TITLES[activation], xlabel="updates", yscale="log", xlim=(0, int(ds["update"][-1])))
        if together:
            note = "exactly 0 at every update: " + ", ".join(together)
            ax.text(0.98, 0.03, note, transform=ax.transAxes, ha="right", fontsize="small", color="0.25")
    low, high = min(ax.get_ylim()[0] for ax in axes.flat), max(ax.get_ylim()[1] for ax in axes.flat)
    for ax in axes.flat:
        ax.set_ylim(low / 10, high)
    axes[0, 0].set_ylabel("largest difference between two units of a layer")
    one_legend(fig, axes, 3)
    plotting.caption(fig, f"{about(ds)}; geometric mean over seeds with its 95 % interval")
    return fig


def losses(ds: xr.Dataset) -> Figure:
    """Smoothed training losses, with that of the network of width 1 dotted over each that starts equal."""
    fig, axes = panels(ds, 4.4)
    window = 21
    for ax, activation in zip(axes.flat, ds.activation.values, strict=True):
        one = ds.sel(activation=activation)
        for name in [*of_kind(ds, "random"), *ds.equal.values]:
            plotting.curve(
                ax, ds.step.values, plotting.smooth(one.loss.sel(start=name).values, window), name, look(ds, name)[0]
            )
        for name in ds.equal.values:
            mean, _, _ = plotting.band(plotting.smooth(one.narrow_loss.sel(equal=name).values, window))
            ax.plot(ds.step, mean, color="black", linestyle=(0, (1, 3)), linewidth=1.6, label="its twin of width 1")
        ax.axhline(math.log(CLASSES), color="0.35", linestyle="--", linewidth=0.8, label="guessing, ln 10")
        ax.set(title=TITLES[activation], xlabel="updates", ylim=(0, 3), xlim=(0, ds.sizes["step"]))
    axes[0, 0].set_ylabel("training loss (nats)")
    one_legend(fig, axes, 3)
    plotting.caption(fig, f"{about(ds)}; mean with its 95 % interval, smoothed over {window} updates")
    return fig


def ranks(ds: xr.Dataset, what: str, y: str) -> Figure:
    """Rank, or stable rank ‖W‖²_F / ‖W‖²₂, of every weight matrix after 1, 10, 100, … updates."""
    fig, axes = panels(ds, 5.6, ds.sizes["matrix"])
    for row, activation in zip(axes, ds.activation.values, strict=True):
        for ax, matrix in zip(row, ds.matrix.values, strict=True):
            for i, name in enumerate(ds.start.values):
                values = ds[what].sel(activation=activation, matrix=matrix, start=name).values
                number, dashes = look(ds, name)
                mean, low, high = plotting.band(values)
                # Many curves lie on each other, so those drawn first are broad.
                breadth = max(4.5 - 1.5 * list(ds.equal.values).index(name), 1) if name in ds.equal else 1.3 if i else 4
                ax.plot(
                    ds.score, mean, dashes, color=plotting.colour(number), marker=".", label=name, linewidth=breadth
                )
                ax.fill_between(ds.score, low, high, color=plotting.colour(number), alpha=0.2, linewidth=0)
            ax.set_title(f"{matrix}, {TITLES[activation]}", fontsize="medium")
            ax.set_xscale("log")
            ax.set_yscale("symlog", linthresh=1)
            ax.set_yticks([0, 1, 10, ds.width], ["0", "1", "10", str(ds.width)])
            ax.set_ylim(-0.15, 1.5 * ds.width)
        row[0].set_ylabel(y)
    for ax in axes[-1]:
        ax.set_xlabel("updates")
    one_legend(fig, axes)
    plotting.caption(fig, f"{about(ds)}; mean with its 95 % interval; a matrix of zeros has rank 0 and no stable rank")
    return fig


def accuracies(ds: xr.Dataset) -> Figure:
    """Test accuracy at the end, a dot a seed, with the twins of width 1 as open diamonds."""
    fig, axes = panels(ds, 4.0)
    names = list(ds.start.values)
    for ax, activation in zip(axes.flat, ds.activation.values, strict=True):
        one = 100 * ds.sel(activation=activation).isel(score=-1)[["test_accuracy", "narrow_test_accuracy"]]
        for i, name in enumerate(names):
            values = one.test_accuracy.sel(start=name).values
            ax.scatter(values, np.full(len(values), i), s=22, alpha=0.7, color=plotting.colour(look(ds, name)[0]), lw=0)
        for name in ds.equal.values:
            values = one.narrow_test_accuracy.sel(equal=name).values
            at = np.full(len(values), names.index(name) + 0.3)
            ax.scatter(values, at, s=18, marker="D", facecolors="none", edgecolors="black", linewidths=0.7)
        ax.axvline(100 * ds.guessing, color="0.35", linestyle="--", linewidth=0.8)
        ax.set(title=TITLES[activation], xlabel="test accuracy (%)", xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
        ax.set_yticks(range(len(names)), names if ax is axes[0, 0] else [""] * len(names))
    plotting.caption(
        fig,
        f"{about(ds)}; after {int(ds.score[-1]):,} updates, a dot a seed; open diamonds: the twin of width 1; "
        "dashed: guessing the most common class",
    )
    return fig


def best_equal(ds: xr.Dataset, activation: str) -> xr.DataArray:
    """For each seed the test accuracy at the end (%) of whichever equal weights came furthest."""
    accuracy = ds.test_accuracy.sel(activation=activation, start=list(ds.equal.values)).isel(score=-1)
    return 100 * accuracy.max("start")


def apart_in_ulp(ds: xr.Dataset, activation: str, names: list[str]) -> xr.DataArray:
    """For each seed the largest difference there ever was between two units of a layer, whichever of these starts.

    In units of the last place of the layer's largest weight then; a diverged network counts until it diverges.
    """
    one = ds.sel(activation=activation, start=names)
    ulp = xr.apply_ufunc(np.spacing, one["size"].astype(np.float32))
    return (one.spread / ulp).fillna(0).max(("start", "update", "layer"))


def tables(ds: xr.Dataset) -> Mapping[str, list[dict[str, Any]]]:
    """For every activation and start: how it ends, how alike its units are, and the rank of its matrices."""
    last = ds.isel(score=-1, update=-1)
    rows = []
    for activation in ds.activation.values:
        for name in ds.start.values:
            one = last.sel(activation=activation, start=name)
            rows.append(
                {
                    "activation": activation,
                    "start": name,
                    "loss, last 50": float(one.loss[:, -50:].mean()),
                    "test accuracy": float(one.test_accuracy.mean()),
                    "spread": float(one.spread.max()),
                    "rank": [float(one["rank"].sel(matrix=m).mean()) for m in ds.matrix.values],
                    "diverged": int((one.diverged_at >= 0).sum()),
                }
            )
    return {"ends": rows}


def summary(ds: xr.Dataset) -> str:
    """How each start ends, a line each."""
    ends = tables(ds)["ends"]
    lines = [f"{'':>9} {'':<24}{'loss, last 50':>14}{'test accuracy':>15}{'units differ by':>17}   ranks of W"]
    lines += [
        f"{TITLES[row['activation']]:>9} {row['start']:<24}{row['loss, last 50']:14.4f}{row['test accuracy']:15.2%}"
        f"{row['spread']:17.2g}   {', '.join(f'{rank:.3g}' for rank in row['rank'])}"
        for row in ends
    ]
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about equal weights, for each activation, and what equal weights learn instead."""
    judges = [stay_equal, are_of_width_one, end_below_random, equal_learn_nothing]
    judges += [zeros_learn_nothing] if ZEROS in ds.equal else []
    judges += [only_random, noise_grows]
    return [judge(ds, str(activation)) for judge in judges for activation in ds.activation.values]


def stay_equal(ds: xr.Dataset, activation: str) -> Verdict:
    """Do identical units stay identical, but for rounding?"""
    apart = apart_in_ulp(ds, activation, of_kind(ds, "equal"))
    return decide_share(
        f"Units that start equal stay equal ({TITLES[activation]})",
        apart.values <= ROUNDING,
        0.5,
        f"Whatever the constant and the minibatches, they never differ by more than {ROUNDING} ulp in {{effect}} "
        f"{{unit}} of {{seeds}} seeds [{{low}}, {{high}}]; the largest difference is {float(apart.max()):.3g} ulp.",
        "claim 3",
    )


def are_of_width_one(ds: xr.Dataset, activation: str) -> Verdict:
    """Is the network of equal weights one of width 1 under the rescaled rule?"""
    one = ds.sel(activation=activation)
    full, twin = one.loss.sel(start=list(ds.equal.values)).values, one.narrow_loss.values
    both_diverged = ~np.isfinite(full) & ~np.isfinite(twin)
    with np.errstate(invalid="ignore"):
        gap = np.nan_to_num(np.where(both_diverged, 0, abs(full - twin)), nan=np.inf)
    worst = gap.max((0, 2))
    return decide_share(
        f"A network of equal weights is one of width 1, rescaled ({TITLES[activation]})",
        worst < AGREE,
        0.5,
        f"Their losses agree within {AGREE:g} nats at every update in {{effect}} {{unit}} of {{seeds}} seeds "
        f"[{{low}}, {{high}}]; the largest difference is {worst.max():.1e} nats (float32).",
        "claim 3",
    )


def end_below_random(ds: xr.Dataset, activation: str) -> Verdict:
    """Do equal weights end with a lower test accuracy than random ones?"""
    (random,) = of_kind(ds, "random")
    accuracy = 100 * ds.test_accuracy.sel(activation=activation, start=random).isel(score=-1)
    best = best_equal(ds, activation)
    return decide(
        f"Equal weights learn worse than random ones ({TITLES[activation]})",
        (accuracy - best).values,
        "points",
        f"After {int(ds.score[-1]):,} updates the best of them has a test accuracy of {float(best.mean()):.1f} %, "
        f"random ones {float(accuracy.mean()):.1f} %: {{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} paired seeds.",
        "claim 3",
    )


def no_better_than_guessing(ds: xr.Dataset, claim: str, who: str, accuracy: np.ndarray) -> Verdict:
    """Is a test accuracy (%) within `POINTS` of that of guessing?"""
    bar = 100 * ds.guessing + POINTS
    return decide(
        claim,
        bar - accuracy,
        "points",
        f"After {int(ds.score[-1]):,} updates {who} a test accuracy of {accuracy.mean():.1f} %, guessing the most "
        f"common class {100 * ds.guessing:.2f} %; below a bar of {bar:.2f} % it lies by {{effect}} {{unit}} "
        "[{low}, {high}], {seeds} seeds.",
        "claim 3",
    )


def equal_learn_nothing(ds: xr.Dataset, activation: str) -> Verdict:
    """Do equal weights end no better than guessing?"""
    return no_better_than_guessing(
        ds,
        f"Equal weights cannot learn: they end no better than guessing ({TITLES[activation]})",
        "the best of them has",
        best_equal(ds, activation).values,
    )


def zeros_learn_nothing(ds: xr.Dataset, activation: str) -> Verdict:
    """Do all-zero weights end no better than guessing?"""
    return no_better_than_guessing(
        ds,
        f"All-zero weights cannot learn: they end no better than guessing ({TITLES[activation]})",
        "they have",
        100 * ds.test_accuracy.sel(activation=activation, start=ZEROS).isel(score=-1).values,
    )


def only_random(ds: xr.Dataset, activation: str) -> Verdict:
    """Do equal weights stay equal under dropout too?"""
    dropout = of_kind(ds, "dropout")
    apart = apart_in_ulp(ds, activation, dropout)
    last = float(ds.spread.sel(activation=activation, start=dropout).isel(update=-1).max("layer").mean())
    return decide_share(
        f"Nothing but random initial weights breaks the symmetry ({TITLES[activation]})",
        apart.values <= ROUNDING,
        0.5,
        f"With dropout, units that start equal still are after {int(ds['update'][-1]):,} updates in {{effect}} "
        f"{{unit}} of {{seeds}} seeds [{{low}}, {{high}}]; by then they differ by up to {last:.2g} (mean over seeds).",
        "claim 3",
    )


def noise_grows(ds: xr.Dataset, activation: str) -> Verdict:
    """Do units that start almost equal move apart?"""
    name = of_kind(ds, "noise")[0]
    spread = ds.spread.sel(activation=activation, start=name).max("layer")
    first, last = spread.isel(update=0), spread.isel(update=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = np.log10(last.values / first.values)
    return decide(
        f"Units that start almost equal ({name}) move apart ({TITLES[activation]})",
        grown,
        "decades",
        f"Their largest difference goes from {float(first.mean()):.1e} to {float(last.mean()):.1e} (means) between "
        f"the first and the last of {int(ds['update'][-1]):,} updates: {{effect}} {{unit}} [{{low}}, {{high}}], "
        "{seeds} seeds.",
        "claim 3",
    )


def answers(ds: xr.Dataset) -> list[Answer]:
    """The question that is §2.1's title."""
    if ZEROS not in ds.equal:
        return []
    (random,) = of_kind(ds, "random")
    sentences = []
    for activation in ds.activation.values:
        one = 100 * ds.test_accuracy.sel(activation=activation).isel(score=-1)
        zeros, others = one.sel(start=ZEROS).values, float(one.sel(start=random).mean())
        learns = zeros_learn_nothing(ds, str(activation)).outcome
        words = {"holds": "no more than guessing", "does not hold": "more than guessing"}
        learnt = words.get(str(learns), "perhaps a little")
        sentences.append(
            f"With {TITLES[activation]} they learn {learnt}: {zeros.mean():.1f} % of the test set, where random ones "
            f"reach {others:.1f} %."
        )
    equal = of_kind(ds, "equal")
    apart = max(float(apart_in_ulp(ds, str(activation), equal).max()) for activation in ds.activation.values)
    sentences.append(
        f"The units of a hidden layer stay copies of each other, to {apart:.3g} ulp."
        if apart <= ROUNDING
        else f"On this device rounding alone parts units that start equal, by up to {apart:.3g} ulp."
    )
    return [Answer("May all weights start at 0?", " ".join(sentences), "accuracy", ds.sizes["seed"], "question §2.1")]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
