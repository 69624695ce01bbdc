"""Does a vanishing gradient stop learning? (notes §2.2.1–2.3)

Measures, layer by layer, how large the weights' gradient is, what the loss sends back to a unit and how widely the
activations spread: for sigmoid, tanh and ReLU, four initial scales of the weights and several depths before the first
update of many networks, and during training at one depth. Then it asks which of the networks learn.

The notes say: at std 1 the sigmoid saturates and the gradient gets smaller from layer to layer until it vanishes,
which should slow learning down or stop it (§2.2.1); at std 0.01 nothing saturates, so nothing vanishes (§2.2.2);
ReLU's gradient is tiny at std 0.01, vanishes with depth under Xavier's weights and is kept by He's (§2.3.1). But what
a saturated unit takes from the gradient large weights give back, and a sigmoid's slope is at most 1/4. The notes'
listing of Xavier's weights multiplies by √n where it must divide; here it divides.

Takes about a minute and a half on two cores.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _cli, _lab
from fnn import init, instruments, layers, losses, models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.types import Initializer, Params, Scalar
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide, decide_share
from fnn.nn.layers import Layer
from fnn.tasks import Task
from fnn.train import Record, engine

WIDTH = 100
ACTIVATIONS = {"sigmoid": layers.sigmoid, "tanh": layers.tanh, "ReLU": layers.relu}
TARGET = math.log(10) / 2
"""Half the loss of guessing among ten classes, in nats."""
WINDOW = 11
"""The loss is smoothed over so many minibatches before it is held against the target."""
KIND = ("activation", "init")
"""The two dimensions that tell kinds of network apart."""
VANISHED = 0.1
"""A gradient has vanished below this part of what it is compared with."""


class Scale(NamedTuple):
    """The standard deviation c / n_in^p of a weight: two numbers, so that initial scales are the axis of a sweep."""

    c: Scalar
    p: Scalar


INITS = {
    "std 1": Scale(1.0, 0.0),
    "std 0.01": Scale(0.01, 0.0),
    "Xavier": Scale(1.0, 0.5),
    "He": Scale(math.sqrt(2), 0.5),
}


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the measurement and of the training."""

    steps: int = 800
    """Updates per trained network."""
    batch: int = 128
    """Examples per update, drawn with replacement."""
    lr: float = 0.01
    """SGD's step size."""
    depths: str = "3,5,10"
    """Numbers of hidden layers to measure at initialisation, with commas between."""
    depth: int = 5
    """Hidden layers of the trained networks; one of --depths."""
    draws: int = 30
    """Networks of each kind that are measured at initialisation; --seeds of each kind are trained."""
    every: int = 20
    """Updates from one look at a network in training to the next."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, batch=1, draws=1, every=1)
        require(0 < self.lr < math.inf, f"--lr is a positive number, not {self.lr}.")
        depths = self.hidden()
        require(bool(depths), "--depths names no depth.")
        require(self.depth in depths, f"--depth is one of --depths, {self.depths}, not {self.depth}.")

    def hidden(self) -> list[int]:
        """The depths asked for, in order."""
        asked = [part.strip() for part in self.depths.split(",") if part.strip()]
        for part in asked:
            require(part.isdecimal() and int(part) >= 2, f"--depths takes whole numbers from 2 on, not {part!r}.")
        return sorted({int(part) for part in asked})

    def looks(self) -> tuple[int, ...]:
        """The numbers of updates done after which a network in training is looked at."""
        return tuple(range(1, self.steps + 1, self.every))


QUICK = Config(seeds=2, steps=100, draws=4, depths="2,3", depth=3, dataset="mnist_5k", quick=True)


def weights(scale: Scale) -> Initializer:
    """Gaussian weights of this scale."""

    def initialize(key, shape, dtype=jnp.float32):
        n_in, _ = init.fans(shape)
        return init.normal(scale.c / n_in**scale.p)(key, shape, dtype)

    return initialize


def problem(activation: str, depth: int, batch: int) -> tuple[Task, Callable[[Scale], Layer]]:
    """The task of a kind of network, whose numbers are its initial `Scale`, and the network."""

    def network(scale):
        return models.multilayer((WIDTH,) * depth, 10, activation=ACTIVATIONS[activation], weights=weights(scale))

    return tasks.classification(network, batch=batch), network


def look(network: Layer, params: Params, stats: Any, batch: Any) -> Record:
    """What flows forward and back through a network, layer by layer.

    gradient: ‖∂L/∂W‖ of every affine layer, the output layer's last.
    spread, mean_square: standard deviation and mean square of every hidden layer's outputs, over batch and units.
    received: root mean square of ∂(loss of one example)/∂(output of one unit), for every hidden layer.
    """
    x, y = batch
    outputs = instruments.activations(network, params, stats, x)

    def loss(params, nudges):
        """The loss with a nudge added to every layer's output: its gradient at 0 is what arrives there."""
        h = x
        for layer, p, s, nudge in zip(network.parts, params, stats, nudges, strict=True):
            h = layer.apply(p, s, h, None, True)[0] + nudge
        return losses.softmax_cross_entropy(h, y)

    grads, arrived = jax.grad(loss, (0, 1))(params, jax.tree.map(jnp.zeros_like, outputs))
    hidden = slice(1, None, 2)  # affine, activation, affine, activation, …, affine
    return {
        "gradient": jnp.stack(instruments.norms(losses.weights(grads))),
        "spread": jnp.stack([a.std() for a in outputs[hidden]]),
        "mean_square": jnp.stack([instruments.mean_square(a) for a in outputs[hidden]]),
        "received": jnp.stack([jnp.sqrt(instruments.mean_square(len(y) * g)) for g in arrived[hidden]]),
    }


LONG_NAMES = {
    "gradient": "norm of the weights' gradient",
    "spread": "standard deviation of the activations",
    "mean_square": "mean square of the activations",
    "received": "root mean square of what a unit receives from the loss of one example",
}


def run(cfg: Config) -> xr.Dataset:
    """Measure all networks at initialisation, then train some of them."""
    images = _cli.load_data(cfg)
    many = len(ACTIVATIONS) * len(INITS)
    measured, trained = many * len(cfg.hidden()) * cfg.draws, many * cfg.seeds
    _cli.headline(cfg, images, f"{measured:,} networks to measure and {trained} networks to train")
    data = {"train": _lab.splits(images)["train"]}
    before = at_initialisation(cfg, data)
    chunks = _lab.stream(cfg, *trainings(cfg), engine.seeds(cfg.seeds), data, cfg.steps, chunk=min(100, cfg.steps))
    followed = _lab.follow(chunks, cfg.steps)
    ds = xr.merge([before, in_training(cfg, followed.record)]).assign_attrs(
        **_lab.origin(images),
        batch=cfg.batch,
        lr=cfg.lr,
        depth_trained=cfg.depth,
        every=cfg.every,
        **followed.attrs,
    )
    print(summary(ds))
    return ds


def scales() -> Scale:
    """The initial scales as one `Scale`, each of its numbers `[init]`."""
    return jax.tree.map(lambda *numbers: jnp.asarray(numbers), *INITS.values())


def at_initialisation(cfg: Config, data: Any) -> xr.Dataset:
    """Every kind of network before its first update, on one minibatch: dims activation, depth, init, draw, layer."""
    built = [(activation, depth) for activation in ACTIVATIONS for depth in cfg.hidden()]

    def measure(scale, key, data):
        k_init, k_batch = jax.random.split(key)

        def one(activation, depth):
            task, network = problem(activation, depth, cfg.batch)
            return look(network(scale), *task.init(scale, k_init, data), task.batch(data, task.draw(k_batch, data)))

        return {kind: one(*kind) for kind in built}

    found = jax.jit(partial(engine.sweep, measure))(scales(), engine.seeds(cfg.draws), data)
    dims = ("activation", "depth", "init", "draw", "layer")
    coordinates = {"depth": cfg.hidden(), "draw": np.arange(cfg.draws)}
    return labelled(
        cfg, dims, coordinates, lambda what: [[found[a, d][what] for d in cfg.hidden()] for a in ACTIVATIONS]
    )


def trainings(cfg: Config) -> tuple[dict[str, train.Run], dict[str, train.Hyper]]:
    """For each activation one run of all initial scales, and its numbers."""

    def training(activation):
        task, network = problem(activation, cfg.depth, cfg.batch)
        # Before the update, so that the first look is at the network's initial gradient.
        observe = lambda moment: look(network(moment.hp), moment.before, moment.stats, moment.batch)
        run = train.training(task, optim.rule("sgd"), cfg.steps, observe=observe, observe_at=cfg.looks())
        return engine.over_hypers(run)

    hp = train.Hyper(optim.rule("sgd").hyper._replace(lr=jnp.full(len(INITS), cfg.lr)), scales())
    return {name: training(name) for name in ACTIVATIONS}, dict.fromkeys(ACTIVATIONS, hp)


def in_training(cfg: Config, record: Mapping[str, Record]) -> xr.Dataset:
    """The record of the trainings: `loss` over steps, and what `look` saw, over the updates done before each look."""
    loss = np.stack([record[activation]["loss"] for activation in ACTIVATIONS])
    done = loss.shape[2]
    updates = [number - 1 for number in cfg.looks() if number <= done]
    dims = ("activation", "seed", "update", "init", "layer")
    coordinates = {"update": updates, "seed": np.arange(cfg.seeds)}
    seen = labelled(cfg, dims, coordinates, lambda what: [_lab.at(record[a][what], cfg.looks()) for a in ACTIVATIONS])
    ds = seen.rename({what: f"{what}_in_training" for what in seen})
    ds["loss"] = ("activation", "seed", "step", "init"), loss, {"long_name": "minibatch loss", "units": "nats"}
    ds = ds.assign_coords(step=np.arange(done)).transpose("activation", "init", "seed", "update", "step", "layer")
    ds["diverged_at"] = _lab.first_not_finite(ds.loss)
    return ds


def labelled(cfg: Config, dims: tuple[str, ...], coordinates: Mapping, of: Callable[[str], Any]) -> xr.Dataset:
    """What `look` saw, `of(name)` a nested list of arrays with the layers last, under labels; NaN where no layer is."""
    n = max(cfg.hidden()) + 1

    def deepened(nested):
        if isinstance(nested, list):
            return np.stack([deepened(one) for one in nested])
        return np.pad(nested, [(0, 0)] * (nested.ndim - 1) + [(0, n - nested.shape[-1])], constant_values=np.nan)

    return xr.Dataset(
        {what: (dims, deepened(of(what)), {"long_name": text, "units": "1"}) for what, text in LONG_NAMES.items()},
        {"activation": list(ACTIVATIONS), "init": list(INITS), "layer": np.arange(1, n + 1), **coordinates},
    )


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
    return ds.gradient_in_training.isel(update=0, layer=0)


def steps_to_target(ds: xr.Dataset) -> xr.DataArray:
    """Updates until the smoothed loss is down at the target: activation, init, seed. NaN where it never is."""
    reached = smoothed(ds) <= TARGET
    return reached.argmax("step").where(reached.any("step"))


def vanished(ds: xr.Dataset) -> xr.DataArray:
    """Which of the trained networks' first gradients have vanished beside ReLU's with He's weights, seed by seed."""
    gradient = initial_gradient(ds)
    return gradient < VANISHED * gradient.sel(activation="ReLU", init="He")


def rank_correlation(ds: xr.Dataset) -> np.ndarray:
    """Spearman's, of the initial gradient and the steps to the target over the kinds of network: one a seed.

    Networks that never reach the target share the last rank. NaN where all do.
    """
    from scipy.stats import rankdata

    gradient = initial_gradient(ds).stack(kind=KIND).transpose("seed", "kind").values
    steps = steps_to_target(ds).fillna(np.inf).stack(kind=KIND).transpose("seed", "kind").values
    with np.errstate(invalid="ignore"):
        pairs = zip(rankdata(gradient, axis=1), rankdata(steps, axis=1), strict=True)
        return np.array([np.corrcoef(g, s)[0, 1] if np.ptp(s) else np.nan for g, s in pairs])


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of the trained networks."""
    return _lab.about(
        ds, f"SGD, lr {ds.lr:g}", f"minibatch {ds.batch}", f"{ds.depth_trained} hidden layers of {WIDTH}", *details
    )


def about_initial(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of the networks at initialisation."""
    parts = [
        ds.attrs["dataset"],
        f"minibatch {ds.batch}",
        f"hidden layers of {WIDTH}",
        f"{ds.sizes['draw']} of each kind",
    ]
    return " · ".join([*parts, *details])


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """What flows through the networks at initialisation and in training, and which of them learn."""
    return {
        "gradient_initial": by_depth(ds),
        "spread_initial": by_scale(ds, "spread", "Spread of the activations", "standard deviation"),
        "received": by_scale(ds, "received", "What comes back from the loss L of one example", "rms of ∂L/∂(output)"),
        "loss": loss_curves(ds),
        "steps_to_target": target_figure(ds),
        "gradient_in_training": by_layer(ds, "gradient", "Weights' gradient in training", "‖∂L/∂W‖"),
        "spread_in_training": by_layer(ds, "spread", "Spread of the activations in training", "standard deviation"),
    }


def panels(titles: Sequence[str], columns: int, height: float, x: str, y: str) -> tuple[Figure, list[Axes]]:
    """A figure of panels on the same axes, a title each, row by row."""
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


def ordered_colours(n: int) -> np.ndarray:
    """n colours from dark to light, for what has an order: depths, layers."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, n))


def geometric(ax: Axes, values: xr.DataArray, over: str, across: str, **style: Any) -> None:
    """The geometric mean of `values` across seeds, over a coordinate, with its 95 % band."""
    mean, low, high = (10**v for v in plotting.band(decades(values).transpose(across, over).values))
    (line,) = ax.plot(values[over], mean, **{"linewidth": 1.3, "markersize": 4} | style)
    ax.fill_between(values[over], low, high, color=line.get_color(), alpha=0.25, linewidth=0)


def by_depth(ds: xr.Dataset) -> Figure:
    """The weights' gradient at initialisation over the layers, a curve a depth."""
    fig, grid = panels([", ".join(kind) for kind in kinds(ds)], ds.sizes["init"], 7.0, "layer", "‖∂L/∂W‖")
    for ax, (activation, scale) in zip(grid, kinds(ds), strict=True):
        for depth, colour in zip(ds.depth.values, ordered_colours(ds.sizes["depth"]), strict=True):
            values = ds.gradient.sel(activation=activation, init=scale, depth=depth)
            label = f"{depth} hidden layers" if ax is grid[0] else None
            geometric(ax, values, "layer", "draw", color=colour, marker="o", label=label)
        ax.set_yscale("log")
        ax.minorticks_off()
        ax.set_xticks(range(1, ds.sizes["layer"] + 1, 2))
    plotting.legend(fig, ds.sizes["depth"], "Weights' gradient before the first update")
    plotting.caption(fig, about_initial(ds, "geometric mean with its 95 % interval; gradients of exactly 0 left out"))
    return fig


def relu_factor(scale: Scale) -> float:
    """By how much E[g²] grows from a hidden ReLU layer's outputs to those before it: n σ² / 2.

    Exact over Gaussian weights if the gradient at the end does not depend on them: half of the units pass it on,
    each by n weights of variance σ². He et al. 2015, arXiv:1502.01852, eq. 14; 1 with He's weights.
    """
    return WIDTH * float(scale.c / WIDTH**scale.p) ** 2 / 2


def by_scale(ds: xr.Dataset, what: str, title: str, y: str) -> Figure:
    """A quantity of the deepest networks at initialisation over the hidden layers, and theory where there is one."""
    depth = int(ds.depth.max())
    fig, grid = panels(ds.activation.values, ds.sizes["activation"], 4.6, "hidden layer", y)
    for ax, activation in zip(grid, ds.activation.values, strict=True):
        for number, scale in enumerate(ds.init.values):
            values = ds[what].sel(activation=activation, init=scale, depth=depth).isel(layer=slice(depth))
            look = {"color": plotting.colour(number), "marker": plotting.MARKERS[number]}
            geometric(ax, values, "layer", "draw", label=scale if ax is grid[0] else None, **look)
            if (what, activation) == ("received", "ReLU"):
                at_the_end = float(10 ** decades(values.sel(layer=depth)).mean())
                predicted = at_the_end * relu_factor(INITS[str(scale)]) ** ((depth - values.layer) / 2)
                label = "theory for ReLU, √(nσ²/2) a layer" if number == 0 else None
                ax.plot(values.layer, predicted, color="black", linestyle=":", linewidth=1.2, label=label, zorder=3)
        ax.set_yscale("log")
        ax.minorticks_off()
        ax.set_xticks(range(1, depth + 1))
    plotting.legend(fig, 5, f"{title}, {depth} hidden layers")
    plotting.caption(fig, about_initial(ds, "geometric mean with its 95 % interval"))
    return fig


def loss_curves(ds: xr.Dataset) -> Figure:
    """The loss in training, a panel an activation."""
    fig, grid = panels(ds.activation.values, ds.sizes["activation"], 4.4, "updates", "loss (nats)")
    for ax, activation in zip(grid, ds.activation.values, strict=True):
        for number, scale in enumerate(ds.init.values):
            label = str(scale) if ax is grid[0] else "_"
            loss = smoothed(ds).sel(activation=activation, init=scale).values
            plotting.curve(ax, ds.step.values, loss, label, number, markers=max(1, ds.sizes["step"] // 10))
        ax.axhline(TARGET, color="0.4", linestyle="--", linewidth=1, label="target" if ax is grid[0] else None)
        ax.set(xlim=(0, ds.sizes["step"]), yscale="log", ylim=(0.2, 30))
        ax.set_yticks((0.2, 0.5, 1, 2, 5, 10, 20), ("0.2", "0.5", "1", "2", "5", "10", "20"))
        ax.minorticks_off()
    plotting.legend(fig, 5, "Training loss by activation and initial weights")
    plotting.caption(fig, about(ds, f"mean with its 95 % interval, smoothed over {WINDOW} minibatches"))
    return fig


def target_figure(ds: xr.Dataset) -> Figure:
    """Steps to the target against the first layer's initial gradient: a mark a network."""
    fig = plotting.figure(7.5, 5.0)
    ax = plotting.axes(fig, "Does a small first gradient delay learning?", "‖∂L/∂W‖ of the first layer", "updates")
    steps, n = steps_to_target(ds), ds.sizes["step"]
    never, diverged = 1.06 * n, 1.14 * n
    heights = steps.fillna(never).where(ds.diverged_at < 0, diverged)
    gradient = initial_gradient(ds)
    scales, markers = list(ds.init.values), dict(zip(ds.activation.values, ("o", "s", "^"), strict=True))
    for activation, scale in kinds(ds):
        one = {"activation": activation, "init": scale}
        look = {"marker": markers[activation], "color": plotting.colour(scales.index(scale)), "s": 26, "alpha": 0.8}
        ax.scatter(gradient.sel(one), heights.sel(one), label=f"{activation}, {scale}", **look)
    bar = VANISHED * float(10 ** decades(gradient.sel(activation="ReLU", init="He")).mean())
    ax.axvline(bar, color="0.4", linestyle="--", linewidth=1)
    ax.annotate("vanished ", (bar, 0), xytext=(0, 4), textcoords="offset points", ha="right", color="0.4")
    ax.axhline(n, color="0.4", linewidth=0.6)
    ax.set(xscale="log", ylim=(0, 1.19 * n), ylabel=f"updates until the loss is {TARGET:.2f} nats")
    ticks = [t for t in ax.get_yticks() if t < n]
    ax.set_yticks([*ticks, never, diverged], [*(f"{t:,.0f}" for t in ticks), "never", "diverged"])
    plotting.legend(fig, ds.sizes["activation"])
    caption = about(ds.drop_vars("diverged_at"), "a mark a network", f"never: not within the {n:,} updates")
    plotting.caption(fig, caption)
    return fig


def by_layer(ds: xr.Dataset, what: str, title: str, y: str) -> Figure:
    """A quantity in training over the updates, a curve a layer."""
    fig, grid = panels([", ".join(kind) for kind in kinds(ds)], ds.sizes["init"], 7.0, "updates", y)
    values = ds[f"{what}_in_training"].dropna("layer", how="all")
    for ax, (activation, scale) in zip(grid, kinds(ds), strict=True):
        for layer, colour in zip(values.layer.values, ordered_colours(values.sizes["layer"]), strict=True):
            one = values.sel(activation=activation, init=scale, layer=layer)
            geometric(ax, one, "update", "seed", color=colour, label=f"layer {layer}" if ax is grid[0] else None)
        ax.set_yscale("log")
        ax.minorticks_off()
        diverged = int((ds.diverged_at.sel(activation=activation, init=scale) >= 0).sum())
        if diverged:
            told = f"{diverged} of {ds.sizes['seed']} diverged"
            ax.annotate(told, (0.5, 0.5), xycoords="axes fraction", ha="center", color="0.4")
    plotting.legend(fig, values.sizes["layer"], title)
    plotting.caption(fig, about(ds, "geometric mean with its 95 % interval", f"a look every {ds.every} updates"))
    return fig


def summary(ds: xr.Dataset) -> str:
    """Initial gradient, loss at the end and steps to the target of the trained networks, a line a kind."""
    gradient, steps, dead = initial_gradient(ds), steps_to_target(ds), ds.diverged_at >= 0
    end = ds.loss[..., -WINDOW:].mean("step")
    lines = [f"{'':>18}{'first gradient':>16}{'last loss':>12}{'steps to target':>18}{'reached':>12}{'diverged':>12}"]
    for activation, scale in kinds(ds):
        one = {"activation": activation, "init": scale}
        reached = steps.sel(one).dropna("seed")
        middle = f"{float(reached.median()):.0f}" if reached.size else "never"
        lines.append(
            f"{activation + ', ' + scale:>18}{float(10 ** decades(gradient.sel(one)).mean()):16.2g}"
            f"{float(end.sel(one).mean()):12.3f}{middle:>18}"
            f"{reached.size:>6} of {ds.sizes['seed']:<2}{int(dead.sel(one).sum()):>6} of {ds.sizes['seed']:<2}"
        )
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """What the notes say of gradients at initialisation, at the depth trained, and of the learning that follows."""
    return [*sigmoid_verdicts(ds), *relu_verdicts(ds), *learning_verdicts(ds)]


def sigmoid_verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Where the sigmoid's gradient vanishes: at std 1, as the notes say, or at std 0.01."""
    log = decades(ds.gradient).sel(activation="sigmoid", depth=ds.depth_trained)
    first, last = log.sel(layer=1), log.sel(layer=ds.depth_trained)
    shrinks = last - first
    bar = -math.log10(VANISHED)
    told = (
        f"The first layer's gradient is {{effect}} {{unit}} [{{low}}, {{high}}] below that of hidden layer "
        f"{ds.depth_trained}, {{seeds}} networks."
    )

    def cleared(scale):
        share = float(10 ** -shrinks.sel(init=scale).mean())
        return (
            f"The first layer's gradient is {share:.1g} of hidden layer {ds.depth_trained}'s; the claim clears the bar "
            "of a tenth by {effect} {unit} [{low}, {high}], {seeds} networks."
        )

    return [
        decide(
            "Sigmoid, std 1: the weights' gradient gets smaller towards the first layer",
            shrinks.sel(init="std 1").values,
            "decades",
            told,
            "notes §2.2.1",
        ),
        decide(
            "Sigmoid, std 1: the gradient vanishes on its way to the first layer",
            (shrinks.sel(init="std 1") - bar).values,
            "decades",
            cleared("std 1"),
            "notes §2.2.1",
        ),
        decide(
            "Sigmoid, std 0.01: the gradient does not vanish",
            (bar - shrinks.sel(init="std 0.01")).values,
            "decades",
            cleared("std 0.01"),
            "notes §2.2.2",
        ),
        decide(
            "Sigmoid: the first layer's gradient is smaller at std 1 than at std 0.01",
            (first.sel(init="std 0.01") - first.sel(init="std 1")).values,
            "decades",
            "From std 0.01 to std 1 it falls by {effect} {unit} [{low}, {high}], {seeds} paired networks.",
            "notes §2.2.2",
        ),
    ]


def relu_verdicts(ds: xr.Dataset) -> list[Verdict]:
    """ReLU's gradients: tiny at std 0.01, smaller with depth under Xavier's weights, kept by He's."""
    relu = ds.sel(activation="ReLU")
    first = decades(relu.gradient.sel(layer=1))
    tiny = first.sel(depth=ds.depth_trained, init="He") - first.sel(depth=ds.depth_trained, init="std 0.01")
    shallow, deep = int(ds.depth.min()), int(ds.depth.max())
    drift = first.sel(init="Xavier", depth=shallow) - first.sel(init="Xavier", depth=deep)
    back = decades(relu.received.sel(init="He", depth=deep))
    change = abs(back.sel(layer=1) - back.sel(layer=deep))
    found = [
        decide(
            "ReLU, std 0.01: the first layer's gradient vanishes beside that with He's weights",
            (tiny + math.log10(VANISHED)).values,
            "decades",
            f"With {ds.depth_trained} hidden layers it is {float(10 ** -tiny.mean()):.1g} of it; the claim clears the "
            "bar of a tenth by {effect} {unit} [{low}, {high}], {seeds} paired networks.",
            "claim 5",
        ),
        decide(
            "ReLU, He: what comes back from the loss keeps its size to within a factor of 2 over all layers",
            (math.log10(2) - change).values,
            "decades",
            f"From hidden layer {deep} to the first it changes {float(10 ** change.mean()):.2f}-fold, up or down; to a "
            "factor of 2 that leaves {effect} {unit} [{low}, {high}], {seeds} networks.",
            "claim 5",
        ),
    ]
    if shallow < deep:
        found.append(
            decide(
                "ReLU, Xavier: the first layer's gradient gets smaller with depth",
                drift.values,
                "decades",
                f"From {shallow} to {deep} hidden layers it falls by {{effect}} {{unit}} [{{low}}, {{high}}], "
                "{seeds} paired seeds.",
                "claim 5",
            )
        )
    return found


def learning_verdicts(ds: xr.Dataset) -> list[Verdict]:
    """What a vanished gradient, and a small one in general, means for learning."""
    gone, reached = vanished(ds), steps_to_target(ds).notnull()
    found = [
        decide(
            "The smaller the first layer's initial gradient, the later the target loss",
            -rank_correlation(ds),
            "(minus Spearman's correlation)",
            "Over the kinds of network of a seed it is {effect} {unit} [{low}, {high}], {seeds} seeds.",
            "question §2.2.1",
        )
    ]
    asked = gone.any(KIND)
    if asked.any():
        found.append(
            decide_share(
                "Networks whose first layer's gradient has vanished do not get to half the loss of guessing",
                ~(gone & reached).any(KIND).values[asked.values],
                0.5,
                f"In {{effect}} {{unit}} [{{low}}, {{high}}] of {{seeds}} seeds none of them does in "
                f"{ds.sizes['step']:,} updates.",
                "question §2.2.1",
            )
        )
    return found


def answers(ds: xr.Dataset) -> list[Answer]:
    """Whether a vanishing gradient stops learning."""
    gone, reached = vanished(ds), steps_to_target(ds).notnull()
    small, others = reached.values[gone.values], reached.values[~gone.values]
    if not small.size:
        said = "No gradient vanished in these networks, so they cannot tell."
    else:
        share = small.mean(), others.mean() if others.size else math.nan
        outcome = (
            "It stops learning for as long as these runs last"
            if share[0] == 0
            else "It makes learning slower"
            if share[0] < share[1]
            else "It does not keep networks from learning"
        )
        said = (
            f"{outcome}: in {ds.sizes['step']:,} updates of SGD with lr {ds.lr:g}, {small.sum()} of {small.size} "
            f"networks whose first layer's gradient had vanished, and {others.sum()} of the {others.size} others, "
            f"got to {TARGET:.2f} nats. {what_became_of_them(ds, gone)} {what_else_fails(ds, gone, reached)}"
        )
    question = "Does a vanishing gradient slow learning down, or stop it?"
    return [Answer(question, said, "steps_to_target", ds.sizes["seed"], "question §2.2.1")]


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
        return "Every kind of network whose gradient had not vanished got there with some seed."
    return f"A gradient that has not vanished is not enough: {', '.join(names)} never got there either."


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
