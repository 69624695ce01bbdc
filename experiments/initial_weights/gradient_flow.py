"""Does a vanishing gradient stop learning? (notes §2.2.1–2.3)"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnn import init, instruments, lab, layers, losses, models, sweep, tasks
from fnn.base.errors import require
from fnn.base.types import Params, Scalar
from fnn.lab import figures, plotting
from fnn.nn.layers import Layer
from fnn.tasks import Label, Split, Task
from fnn.train import Observation, Record

WIDTH = 100
ACTIVATIONS = {"sigmoid": layers.sigmoid, "tanh": layers.tanh, "ReLU": layers.relu}
TARGET = math.log(10) / 2
"""Half the loss of guessing among ten classes, in nats."""
WINDOW = 11
"""The loss is smoothed over this many minibatches before it is compared with the target."""
KIND = ("activation", "init")
"""The two dimensions that distinguish kinds of network."""
VANISHED = 1.0
"""A gradient has vanished where it is this many decades below its reference."""
FACTOR = math.log10(2)
"""The largest change over all layers, in decades, that counts as none: a factor of 2."""


class Scale(NamedTuple):
    """Normal weights of standard deviation c / n_in^p: two traced numbers, so that initial scales are an axis."""

    c: Scalar
    p: Scalar

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        """The weights of a layer."""
        n_in, _ = init.fans(shape)
        return init.normal(self.c / n_in**self.p)(key, shape, dtype)


INITS = {
    "std 1": Scale(1.0, 0.0),
    "std 0.01": Scale(0.01, 0.0),
    "Xavier": Scale(1.0, 0.5),
    "He": Scale(math.sqrt(2), 0.5),
}


class Hyper(NamedTuple):
    """The hyperparameters of the task: the initial weights."""

    init: Scale = INITS["He"]


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the measurement and of the training."""

    steps: int = 800
    """Updates per trained network."""
    batch: int = 128
    """Examples per update, drawn with replacement."""
    lr: float = 0.01
    """SGD's step size."""
    depths: tuple[int, ...] = (3, 5, 10)
    """Numbers of hidden layers to measure at initialization."""
    depth: int = 5
    """Hidden layers of the trained networks; one of --depths."""
    draws: int = 30
    """Networks of each kind that are measured at initialization; --seeds of each kind are trained."""
    every: int = 20
    """Updates between two observations of a network in training."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, batch=1, draws=1, every=1)
        require(0 < self.lr < math.inf, f"--lr is a positive number, not {self.lr}.")
        self.check_distinct(depths="depth")
        wrong = [depth for depth in self.depths if depth < 2]
        require(not wrong, f"--depths takes whole numbers from 2 on, not {wrong}.")
        require(self.depth in self.depths, f"--depth is one of --depths, {self.depths}, not {self.depth}.")


# -- measuring --


def network(activation: str, depth: int, scale: Scale) -> Layer:
    """The network of an activation, a depth and an initial scale."""
    return models.multilayer((WIDTH,) * depth, 10, activation=ACTIVATIONS[activation], weights=scale)


def learning(activation: str, depth: int, data: dict[str, Split], batch: int) -> Task:
    """The classification task of an activation; the initial scale is its hyperparameter."""
    return tasks.classification(lambda hp: network(activation, depth, hp.init), data, batch, hyper=Hyper())


LABELS = {
    "gradient": Label("norm of the weights' gradient", "1", ("layer",)),
    "spread": Label("standard deviation of the activations", "1", ("layer",)),
    "mean_square": Label("mean square of the activations", "1", ("layer",)),
    "received": Label("root mean square gradient of one example's loss by a unit's output", "1", ("layer",)),
}


def flow(network: Layer, params: Params, stats: Any, batch: Any) -> Record:
    """Sizes of activations and gradients in a network, layer by layer, the output layer last.

    gradient: ‖∂L/∂W‖ of every affine layer.
    spread, mean_square: standard deviation and mean square of every hidden layer's outputs, over batch and units.
    received: root mean square of ∂(loss of one example)/∂(output of one unit), for every hidden layer.
    For the output layer only `gradient` is defined.
    """
    x, y = batch
    outputs = instruments.activations(network, params, stats, x)

    def loss(params, offsets):
        """The loss with a perturbation added to every layer's output: its gradient at 0 is that by the output."""
        h = x
        for layer, p, s, nudge in zip(network.parts, params, stats, offsets, strict=True):
            h = layer.apply(p, s, h, None, True)[0] + nudge
        return losses.softmax_cross_entropy(h, y)

    grads, arrived = jax.grad(loss, (0, 1))(params, jax.tree.map(jnp.zeros_like, outputs))
    hidden = slice(1, None, 2)  # affine, activation, affine, activation, …, affine

    def by_layer(measured):
        return jnp.stack([*measured, jnp.full_like(measured[0], jnp.nan)])

    return {
        "gradient": jnp.stack(instruments.norms(losses.weights(grads))),
        "spread": by_layer([a.std() for a in outputs[hidden]]),
        "mean_square": by_layer([instruments.mean_square(a) for a in outputs[hidden]]),
        "received": by_layer([jnp.sqrt(instruments.mean_square(len(y) * g)) for g in arrived[hidden]]),
    }


def run(cfg: Config) -> xr.Dataset:
    """Measurements of all networks at initialization, and of the trained ones during training."""
    images = cfg.load()
    data = {"train": tasks.splits(images)["train"]}
    before, trained = at_initialization(cfg, data), in_training(cfg, data)
    ds = xr.merge([before, trained], join="outer", combine_attrs="drop_conflicts")
    return ds.assign_attrs(
        {**trained.attrs, **images.about, "lr": cfg.lr, "depth_trained": cfg.depth, "every": cfg.every}
    )


def at_initialization(cfg: Config, data: dict[str, Split]) -> xr.Dataset:
    """Measurements of every kind of network before its first update, on one minibatch: over activation, depth, init,
    draw, layer."""
    depths = sorted(cfg.depths)

    def measure(hp, key, data):
        k_init, k_batch = jax.random.split(key)

        def one(activation, depth):
            task = learning(activation, depth, data, cfg.batch)
            state = task.init(hp, k_init, data)
            found = flow(network(activation, depth, hp.init), *state, task.batch(data, task.draw(k_batch, data, 0)))
            missing = (0, depths[-1] - depth)
            return {name: jnp.pad(values, missing, constant_values=jnp.nan) for name, values in found.items()}

        found = [[one(activation, depth) for depth in depths] for activation in ACTIVATIONS]
        stack = lambda parts: jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
        return stack([stack(parts) for parts in found])

    labels = {name: label._replace(dims=("activation", "depth", "layer")) for name, label in LABELS.items()}
    coords = {"activation": list(ACTIVATIONS), "depth": depths, "layer": 1 + np.arange(depths[-1] + 1)}
    trial = tasks.Trial(measure, data, Hyper(), labels=labels, coords=coords)
    return sweep(trial, over={"init": INITS}, seeds=cfg.draws).rename(seed="draw")


def in_training(cfg: Config, data: dict[str, Split]) -> xr.Dataset:
    """The loss over the steps, and the layers' sizes before the updates 0, `every`, 2 `every`, …"""
    coords = {"layer": 1 + np.arange(cfg.depth + 1)}
    found = []
    for activation in ACTIVATIONS:

        def record(moment, activation=activation):
            built = network(activation, cfg.depth, moment.hp.init)
            # Before the update, so that the first observation is of the network's initial gradient.
            return flow(built, moment.before, moment.stats, moment.batch)

        ds = sweep(
            *(learning(activation, cfg.depth, data, cfg.batch), "sgd"),
            over={"lr": [cfg.lr], "init": INITS},
            seeds=cfg.seeds,
            steps=cfg.steps,
            evaluate=[],
            observe=Observation(record, LABELS, coords),
            observe_at=range(1, cfg.steps + 1, cfg.every),
            keep=cfg.keep(activation),
            progress=True,
        )
        found.append(ds.isel(lr=0, drop=True))
    names = {name: f"{name}_in_training" for name in LABELS}
    ds = xr.concat(found, "activation", combine_attrs="override").assign_coords(activation=list(ACTIVATIONS))
    ds = ds.rename({**names, "observed": "update"})
    return ds.assign_coords(update=ds["update"] - 1)


# -- effects --


def decades(values: xr.DataArray) -> xr.DataArray:
    """log₁₀; of a gradient of 0 it is −∞, the lowest in ranks."""
    with np.errstate(divide="ignore"):
        return xr.apply_ufunc(np.log10, values)


def smoothed(ds: xr.Dataset) -> xr.DataArray:
    """The minibatch loss under the notes' smoothing."""
    with np.errstate(invalid="ignore", over="ignore"):
        return ds.loss.copy(data=plotting.smooth(ds.loss.values, WINDOW))


def initial_gradient(ds: xr.Dataset) -> xr.DataArray:
    """The first layer's gradient of the trained networks before their first update: activation, init, seed."""
    return ds.gradient_in_training.isel(update=0, layer=0, drop=True)


def steps_to_target(ds: xr.Dataset) -> xr.DataArray:
    """Updates until the smoothed loss reaches the target: activation, init, seed. NaN where it never is."""
    reached = smoothed(ds) <= TARGET
    return reached.argmax("step").where(reached.any("step"))


def vanished(ds: xr.Dataset) -> xr.DataArray:
    """Which of the trained networks' first gradients have vanished beside ReLU's with He's weights, seed by seed."""
    gradient = initial_gradient(ds)
    return gradient < 10.0**-VANISHED * gradient.sel(activation="ReLU", init="He", drop=True)


def by_kind(values: xr.DataArray) -> np.ndarray:
    """`[seed, kind]`."""
    return values.stack(kind=KIND).transpose("seed", "kind").values


def reversals(ds: xr.Dataset) -> xr.DataArray:
    """For each seed the number of pairs of kinds of which that with the smaller gradient reaches the target earlier."""
    gradient, steps = by_kind(initial_gradient(ds)), by_kind(steps_to_target(ds).fillna(np.inf))
    smaller = gradient[:, :, None] < gradient[:, None]
    earlier = steps[:, :, None] < steps[:, None]
    return xr.DataArray((smaller & earlier).sum((1, 2)), {"seed": ds.seed.values}, ("seed",))


def rank_correlation(ds: xr.Dataset) -> np.ndarray:
    """Spearman's, of the initial gradient and the steps to the target over the kinds of network: one for each seed.

    Networks that never reach the target share the last rank. NaN where all ranks are equal.
    """
    from scipy.stats import rankdata

    gradient, steps = by_kind(initial_gradient(ds)), by_kind(steps_to_target(ds).fillna(np.inf))
    pairs = zip(rankdata(gradient, axis=1), rankdata(steps, axis=1), strict=True)
    return np.array([np.corrcoef(g, s)[0, 1] if np.ptp(s) and np.ptp(g) else np.nan for g, s in pairs])


# -- figures --


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of the trained networks."""
    return figures.caption(ds, "SGD, lr {lr:g}", f"{{depth_trained}} hidden layers of {WIDTH}", *details)


def about_initial(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of the networks at initialization."""
    initial = ds[["gradient"]].drop_vars("seed", errors="ignore")
    return figures.caption(initial, f"hidden layers of {WIDTH}", f"{ds.sizes['draw']} of each kind", *details)


def panels(titles: Sequence[str], columns: int, height: float, x: str, y: str) -> tuple[Figure, list[Axes]]:
    """A figure of panels on the same axes, each with its title, row by row."""
    fig = plotting.figure(10.0, height)
    grid = fig.subplots(len(titles) // columns, columns, sharex=True, sharey=True, squeeze=False)
    for ax, title in zip(grid.flat, titles, strict=True):
        ax.set_title(title, fontsize="medium")
        plotting.dress(ax)
    for ax in grid[-1]:
        ax.set_xlabel(x)
    for ax in grid[:, 0]:
        ax.set_ylabel(y)
    return fig, list(grid.flat)


def kinds(ds: xr.Dataset) -> list[tuple[str, str]]:
    """Every activation with every initial scale, as the panels show them."""
    return [(str(a), str(i)) for a in ds.activation.values for i in ds.init.values]


def ordered_colors(n: int) -> np.ndarray:
    """n colors from dark to light, for what has an order: depths, layers."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, n))


def geometric(ax: Axes, values: xr.DataArray, over: str, across: str, **style: Any) -> None:
    """The geometric mean of `values` across seeds, over a coordinate, with its 95 % band."""
    mean, low, high = (10**v for v in plotting.band(decades(values).transpose(across, over).values))
    (line,) = ax.plot(values[over], mean, **{"linewidth": 1.3, "markersize": 4} | style)
    ax.fill_between(values[over], low, high, color=line.get_color(), alpha=0.25, linewidth=0)


def by_depth(ds: xr.Dataset) -> Figure:
    """The weights' gradient at initialization over the layers, a curve for each depth."""
    fig, grid = panels([", ".join(kind) for kind in kinds(ds)], ds.sizes["init"], 7.0, "layer", "‖∂L/∂W‖")
    for ax, (activation, scale) in zip(grid, kinds(ds), strict=True):
        for depth, color in zip(ds.depth.values, ordered_colors(ds.sizes["depth"]), strict=True):
            values = ds.gradient.sel(activation=activation, init=scale, depth=depth)
            label = f"{depth} hidden layers" if ax is grid[0] else None
            geometric(ax, values, "layer", "draw", color=color, marker="o", label=label)
        ax.set_yscale("log")
        ax.minorticks_off()
        ax.set_xticks(range(1, ds.sizes["layer"] + 1, 2))
    plotting.legend(fig, ds.sizes["depth"], "Weights' gradient before the first update")
    plotting.caption(fig, about_initial(ds, "geometric mean with its 95 % interval; gradients of exactly 0 left out"))
    return fig


def relu_factor(scale: Scale) -> float:
    """By how much E[g²] grows from a hidden ReLU layer's outputs to those before it: n σ² / 2.

    Exact over Gaussian weights if the gradient at the end does not depend on them: half of the units transmit it,
    each by n weights of variance σ². He et al. 2015, arXiv:1502.01852, eq. 14; 1 with He's weights.
    """
    return WIDTH * float(scale.c / WIDTH**scale.p) ** 2 / 2


def by_scale(ds: xr.Dataset, what: str, title: str, y: str) -> Figure:
    """A quantity of the deepest networks at initialization over the hidden layers, and theory where there is one."""
    depth = int(ds.depth.max())
    fig, grid = panels(ds.activation.values, ds.sizes["activation"], 4.6, "hidden layer", y)
    for ax, activation in zip(grid, ds.activation.values, strict=True):
        for number, scale in enumerate(ds.init.values):
            values = ds[what].sel(activation=activation, init=scale, depth=depth).isel(layer=slice(depth))
            style = {"color": plotting.color(number), "marker": plotting.MARKERS[number]}
            geometric(ax, values, "layer", "draw", label=scale if ax is grid[0] else None, **style)
            if (what, activation) == ("received", "ReLU"):
                at_the_end = float(10 ** decades(values.sel(layer=depth)).mean())
                predicted = at_the_end * relu_factor(INITS[str(scale)]) ** ((depth - values.layer) / 2)
                label = "theory for ReLU, √(nσ²/2) per layer" if number == 0 else None
                ax.plot(values.layer, predicted, color="black", linestyle=":", linewidth=1.2, label=label, zorder=3)
        ax.set_yscale("log")
        ax.minorticks_off()
        ax.set_xticks(range(1, depth + 1))
    plotting.legend(fig, 5, f"{title}, {depth} hidden layers")
    plotting.caption(fig, about_initial(ds, "geometric mean with its 95 % interval"))
    return fig


def target_figure(ds: xr.Dataset) -> Figure:
    """Steps to the target against the first layer's initial gradient: a mark for each network."""
    fig = plotting.figure(7.5, 5.0)
    ax = plotting.axes(fig, "Does a small first gradient delay learning?", "‖∂L/∂W‖ of the first layer", "updates")
    steps, n = steps_to_target(ds), ds.sizes["step"]
    never, diverged = 1.06 * n, 1.14 * n
    heights = steps.fillna(never).where(ds.diverged_at < 0, diverged)
    gradient = initial_gradient(ds)
    scales, markers = list(ds.init.values), dict(zip(ds.activation.values, ("o", "s", "^"), strict=True))
    for activation, scale in kinds(ds):
        one = {"activation": activation, "init": scale}
        style = {"marker": markers[activation], "color": plotting.color(scales.index(scale)), "s": 26, "alpha": 0.8}
        ax.scatter(gradient.sel(one), heights.sel(one), label=f"{activation}, {scale}", **style)
    bar = 10.0**-VANISHED * float(10 ** decades(gradient.sel(activation="ReLU", init="He")).mean())
    ax.axvline(bar, color="0.4", linestyle="--", linewidth=1)
    ax.annotate("vanished ", (bar, 0), xytext=(0, 4), textcoords="offset points", ha="right", color="0.4")
    ax.axhline(n, color="0.4", linewidth=0.6)
    ax.set(xscale="log", ylim=(0, 1.19 * n), ylabel=f"updates until the loss is {TARGET:.2f} nats")
    ticks = [t for t in ax.get_yticks() if t < n]
    ax.set_yticks([*ticks, never, diverged], [*(f"{t:,.0f}" for t in ticks), "never", "diverged"])
    plotting.legend(fig, ds.sizes["activation"])
    caption = about(ds.drop_vars("diverged_at"), "a mark for each network", f"never: not within the {n:,} updates")
    plotting.caption(fig, caption)
    return fig


def by_layer(ds: xr.Dataset, what: str, title: str, y: str) -> Figure:
    """A quantity in training over the updates, a curve for each layer."""
    fig, grid = panels([", ".join(kind) for kind in kinds(ds)], ds.sizes["init"], 7.0, "updates", y)
    values = ds[f"{what}_in_training"].dropna("layer", how="all")
    for ax, (activation, scale) in zip(grid, kinds(ds), strict=True):
        for layer, color in zip(values.layer.values, ordered_colors(values.sizes["layer"]), strict=True):
            one = values.sel(activation=activation, init=scale, layer=layer)
            geometric(ax, one, "update", "seed", color=color, label=f"layer {layer}" if ax is grid[0] else None)
        ax.set_yscale("log")
        ax.minorticks_off()
        diverged = int((ds.diverged_at.sel(activation=activation, init=scale) >= 0).sum())
        if diverged:
            ax.annotate(
                f"{diverged} of {ds.sizes['seed']} diverged",
                (0.5, 0.5),
                xycoords="axes fraction",
                ha="center",
                color="0.4",
            )
    plotting.legend(fig, values.sizes["layer"], title)
    plotting.caption(fig, about(ds, "geometric mean with its 95 % interval", "observed every {every} updates"))
    return fig


# -- claims and answers --


def summary(ds: xr.Dataset) -> str:
    """Initial gradient, loss at the end and steps to the target of the trained networks, a line for each kind."""
    gradient, steps, diverged = initial_gradient(ds), steps_to_target(ds), ds.diverged_at >= 0
    end, n = ds.loss.isel(step=slice(-WINDOW, None)).mean("step"), ds.sizes["seed"]
    lines = [f"{'':>18}{'first gradient':>16}{'last loss':>12}{'steps to target':>18}{'reached':>12}{'diverged':>12}"]
    for activation, scale in kinds(ds):
        one = {"activation": activation, "init": scale}
        reached = steps.sel(one).dropna("seed")
        middle = f"{float(reached.median()):.0f}" if reached.size else "never"
        lines.append(
            f"{activation + ', ' + scale:>18}{float(10 ** decades(gradient.sel(one)).mean()):16.2g}"
            f"{float(end.sel(one).mean()):12.3f}{middle:>18}"
            f"{reached.size:>6} of {n:<2}{int(diverged.sel(one).sum()):>6} of {n:<2}"
        )
    return "\n".join(lines)


def initial(what: str = "gradient", **kind: Any) -> Callable[[xr.Dataset], xr.DataArray]:
    """log₁₀ of what was measured at initialization of a kind of network, one value for each draw."""

    def effect(ds):
        places = {"depth": ds.depth_trained, **kind}
        places = {dim: at(ds) if callable(at) else at for dim, at in places.items()}
        return decades(ds[what].sel(places, drop=True)).rename(draw="seed")

    return effect


def apart(one: Callable[[xr.Dataset], xr.DataArray], other: Callable[[xr.Dataset], xr.DataArray]) -> lab.claims.Effect:
    """By how many decades the first is above the second."""
    return lambda ds: one(ds) - other(ds)


def shrinkage(scale: str) -> lab.claims.Effect:
    """By how many decades the sigmoid's first gradient is below that of the last hidden layer."""
    of = {"activation": "sigmoid", "init": scale}
    return apart(initial(**of, layer=lambda ds: ds.depth_trained), initial(**of, layer=1))


shallow, deep = (lambda ds: int(ds.depth.min())), (lambda ds: int(ds.depth.max()))
RELU: dict[str, Any] = {"activation": "ReLU", "layer": 1}
SHRINKS = "The effect is how far the first layer's gradient is below that of the last hidden layer."


def _correlation(ds):
    found, kinds = rank_correlation(ds), len(ACTIVATIONS) * len(INITS)
    known = found[np.isfinite(found)]
    if not known.size:
        return "No network reached the target."
    pairs = float(reversals(ds).mean())
    return (
        f"Of the {kinds * (kinds - 1) // 2} pairs of the {kinds} kinds {pairs:.3g} are in the reverse order (mean over "
        f"seeds). Spearman's correlation over the kinds is {known.mean():+.2f}; it describes them, and has no "
        "interval, since the kinds are chosen and not drawn."
    )


def _vanished_seeds(ds):
    gone, reached = vanished(ds), steps_to_target(ds).notnull()
    return (~(gone & reached).any(KIND)).isel(seed=np.flatnonzero(gone.any(KIND)))


CLAIMS = (
    lab.Claim(
        "Sigmoid, std 1: the weights' gradient gets smaller towards the first layer",
        shrinkage("std 1"),
        *(lab.above(0.0), "decades", "notes §2.2.1", "gradient_initial"),
        detail=SHRINKS,
    ),
    lab.Claim(
        "Sigmoid, std 1: the gradient vanishes on its way to the first layer",
        shrinkage("std 1"),
        *(lab.above(VANISHED), "decades", "notes §2.2.1", "gradient_initial"),
        detail=SHRINKS,
    ),
    lab.Claim(
        "Sigmoid, std 0.01: the gradient does not vanish",
        shrinkage("std 0.01"),
        *(lab.below(VANISHED), "decades", "notes §2.2.2", "gradient_initial"),
        detail=SHRINKS,
    ),
    lab.Claim(
        "Sigmoid: the first layer's gradient is smaller at std 1 than at std 0.01",
        apart(
            initial(activation="sigmoid", init="std 0.01", layer=1),
            initial(activation="sigmoid", init="std 1", layer=1),
        ),
        *(lab.above(0.0), "decades", "notes §2.2.2", "gradient_initial"),
        secondary=True,
    ),
    lab.Claim(
        "ReLU, std 0.01: the first layer's gradient vanishes beside that with He's weights",
        apart(initial(**RELU, init="He"), initial(**RELU, init="std 0.01")),
        *(lab.above(VANISHED), "decades", "claim 5", "gradient_initial"),
        detail="The effect is how far it is below.",
    ),
    lab.Claim(
        "ReLU, He: the gradient by a unit's output keeps its size to within a factor of 2 over all layers",
        apart(
            initial("received", **RELU, init="He", depth=deep),
            initial("received", activation="ReLU", init="He", depth=deep, layer=deep),
        ),
        *(lab.within(-FACTOR, FACTOR), "decades", "claim 5", "received"),
        detail="The effect is the change from the last hidden layer to the first.",
    ),
    lab.Claim(
        "ReLU, Xavier: the first layer's gradient gets smaller with depth",
        apart(initial(**RELU, init="Xavier", depth=shallow), initial(**RELU, init="Xavier", depth=deep)),
        *(lab.above(0.0), "decades", "claim 5", "gradient_initial"),
        detail=lambda ds: f"The effect is the fall from {shallow(ds)} to {deep(ds)} hidden layers.",
        where=lambda ds: ds.sizes["depth"] > 1,
    ),
    lab.Claim(
        "The smaller the first layer's initial gradient, the later the target loss, for every pair of kinds of network",
        lambda ds: reversals(ds) == 0,
        *(lab.always(), "", "question §2.2.1", "steps_to_target"),
        detail=_correlation,
        where=lambda ds: bool(steps_to_target(ds).notnull().any()),
    ),
    lab.Claim(
        "Networks whose first layer's gradient has vanished do not reach half the loss of guessing",
        _vanished_seeds,
        *(lab.always(), "", "question §2.2.1", "steps_to_target"),
        detail=lambda ds: f"In such a seed none of them does in {ds.sizes['step']:,} updates.",
        where=lambda ds: bool(vanished(ds).any()),
    ),
)


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """Whether a vanishing gradient stops learning."""
    gone, reached = vanished(ds), steps_to_target(ds).notnull()
    gone = gone.transpose(*reached.dims)
    small, others = reached.values[gone.values], reached.values[~gone.values]
    if not small.size:
        answer = "No gradient vanished in these networks, so they do not answer the question."
    else:
        share = small.mean(), others.mean() if others.size else math.nan
        outcome = (
            "It stops learning for the length of these runs"
            if share[0] == 0
            else "It makes learning slower"
            if share[0] < share[1]
            else "It does not keep networks from learning"
        )
        answer = (
            f"{outcome}: in {ds.sizes['step']:,} updates of SGD with lr {ds.lr:g}, {small.sum()} of {small.size} "
            f"networks whose first layer's gradient had vanished, and {others.sum()} of the {others.size} others, "
            f"reached {TARGET:.2f} nats. {what_became_of_them(ds, gone)} {what_else_fails(ds, gone, reached)}"
        )
    question = "Does a vanishing gradient slow learning down, or stop it?"
    return [lab.Answer(question, answer, "steps_to_target", ds.sizes["seed"], "question §2.2.1")]


def what_became_of_them(ds: xr.Dataset, gone: xr.DataArray) -> str:
    """Of the networks whose gradient had vanished: how the first and the output layer's changed in training."""
    log = decades(ds.gradient_in_training).sel(layer=[1, ds.depth_trained + 1])
    growth = (log.isel(update=-1) - log.isel(update=0)).where(gone)
    (first, last), most = (10 ** found((*KIND, "seed")).values for found in (growth.median, growth.max))
    return (
        f"Meanwhile the vanished gradients changed {first:.3g}-fold (median; at most {most[0]:.3g}-fold), the output "
        f"layer's of the same networks {last:.3g}-fold (at most {most[1]:.3g}-fold)."
    )


def what_else_fails(ds: xr.Dataset, gone: xr.DataArray, reached: xr.DataArray) -> str:
    """The kinds of network that fail although their gradient has not vanished."""
    failing = (~gone).all("seed") & ~reached.any("seed")
    names = [f"{a} with {i}" for a, i in kinds(ds) if failing.sel(activation=a, init=i)]
    if not names:
        return "Every kind of network whose gradient had not vanished reached it with some seed."
    return f"A gradient that has not vanished is not enough: {', '.join(names)} never reached it either."


EXPERIMENT = lab.Experiment(
    question="Does a vanishing gradient stop learning?",
    source="notes §2.2.1–2.3",
    says="At std 1 the sigmoid saturates and the gradient gets smaller from layer to layer until it vanishes, which "
    "should slow learning down or stop it (§2.2.1); at std 0.01 nothing saturates, so nothing vanishes (§2.2.2); "
    "ReLU's gradient is tiny at std 0.01, vanishes with depth under Xavier's weights and is kept by He's "
    "(§2.3.1).",
    method="Measures, layer by layer, the norm of the weights' gradient, the gradient by a unit's output and the "
    "spread of the activations: for sigmoid, tanh and ReLU, four initial scales of the weights and several "
    "depths before the first update of many networks, and during training at one depth. A network has learned "
    "where its smoothed loss reaches half the loss of guessing. Large weights amplify the gradient that saturated "
    "units attenuate; a sigmoid's slope is at most 1/4. The notes' listing of Xavier's weights multiplies by √n where "
    "it must divide; here it divides. A gradient has vanished where it is a tenth or less of its reference.",
    takes="about a minute and a half on two cores",
    config=Config,
    quick={"seeds": 2, "steps": 100, "draws": 4, "depths": (2, 3), "depth": 3, "dataset": "mnist_5k"},
    run=run,
    claims=CLAIMS,
    figures={
        "gradient_initial": by_depth,
        "spread_initial": partial(by_scale, what="spread", title="Spread of the activations", y="standard deviation"),
        "received": partial(
            by_scale,
            what="received",
            title="What comes back from the loss L of one example",
            y="rms of ∂L/∂(output)",
        ),
        "loss": figures.curves(
            *("loss", "init", "Training loss by activation and initial weights"),
            col="activation",
            smooth=WINDOW,
            markers=80,
            guide=(TARGET, "target"),
            log="y",
            ylim=(0.2, 30.0),
            columns=5,
            details=("SGD, lr {lr:g}", f"{{depth_trained}} hidden layers of {WIDTH}"),
        ),
        "steps_to_target": target_figure,
        "gradient_in_training": partial(by_layer, what="gradient", title="Weights' gradient in training", y="‖∂L/∂W‖"),
        "spread_in_training": partial(
            by_layer, what="spread", title="Spread of the activations in training", y="standard deviation"
        ),
    },
    answers=answers,
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
