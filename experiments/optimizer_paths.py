"""Which way does each update rule take down a long valley? (notes §1.1–1.4, figures 03, 04 and 05)

Follows SGD, Momentum, AdaGrad, Adam, RMSProp and Nesterov for 30 steps down f(x, y) = x²/20 + y² from the notes' start
(−7, 2) and from random starts on the same level of f, in float64. Then it looks at what a step of Momentum is made of.

The notes say: SGD zigzags; Momentum damps y and speeds up x; AdaGrad shrinks the steps along y. They ask whether αv is
smaller than η∇L. How fast SGD and Momentum arrive at other learning rates and in other valleys is `valley_rates`.
The notes leave Adam (§1.4) empty and only mention RMSProp: both are run here, and Nesterov with them. RMSProp's
learning rate makes its first step, lr/√(1 − ρ), as long as AdaGrad's; Nesterov has Momentum's.

Takes about 12 seconds on two cores.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _cli, _lab, _valley
from experiments._valley import (
    LARGEST,
    Path,
    about,
    book,
    descend,
    factor_of_momentum,
    factor_of_sgd,
    random_starts,
    told,
    tuned,
)
from fnn.base.statistics import paired
from fnn.base.types import Hyper
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide, decide_share
from fnn.rule import Rule
from fnn.train import engine

SIX = ("sgd", "momentum", "adagrad", "adam", "rmsprop", "nesterov")
FIGURES = {"sgd": "03_sgd", "momentum": "04_momentum", "adagrad": "05_adagrad"}


@dataclass(frozen=True)
class Config(_valley.Config):
    """Settings of the paths; the defaults are the notes'."""

    steps: int = 30
    """Updates of a path."""
    adagrad: float = 1.5
    """Learning rate of AdaGrad."""
    adam: float = 0.3
    """Learning rate of Adam."""
    rmsprop: float = 0.15
    """Learning rate of RMSProp."""
    nesterov: float = 0.1
    """Learning rate of Nesterov."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=2)
        self.check_learning_rates(*SIX)


QUICK = Config(seeds=20, quick=True, dataset="mnist_5k")


def contenders(cfg: Config) -> dict[str, float]:
    """Whose paths are followed, with which learning rates: the six rules', and SGD and Momentum with the other's."""
    return {name: getattr(cfg, name) for name in SIX} | {"sgd@momentum": cfg.momentum, "momentum@sgd": cfg.sgd}


def run(cfg: Config) -> xr.Dataset:
    """All paths, in float64."""
    _valley.headline(cfg, len(contenders(cfg)))
    with jax.enable_x64(True):
        paths = jax.tree.map(np.asarray, measure(cfg))
    ds = label(cfg, paths)
    print(summary(ds))
    return ds


def measure(cfg: Config) -> dict[str, Path]:
    """Every contender's paths `[1 + starts, …]`, the one from the notes' start first."""
    chance = random_starts(cfg, engine.seeds(cfg.seeds), cfg.condition)
    starts = jnp.concatenate([jnp.array([[cfg.x, cfg.y]]), chance])
    rules = {name: book(name.partition("@")[0]) for name in contenders(cfg)}
    return {
        name: follow(rules[name], tuned(rules[name], lr, cfg.alpha), cfg.condition, starts, cfg.steps)
        for name, lr in contenders(cfg).items()
    }


@partial(jax.jit, static_argnames=("rule", "steps"))
def follow(rule: Rule, hp: Hyper, condition: Any, starts: Float[Array, "n 2"], steps: int) -> Path:
    """Follow a rule from every start; compiled once a rule."""
    return jax.vmap(lambda start: descend(rule, hp, condition, start, steps))(starts)


def label(cfg: Config, paths: Mapping[str, Path]) -> xr.Dataset:
    """The paths as one labelled data set; what begins with `notes_` starts where the notes start."""
    rates = contenders(cfg)
    ds = xr.Dataset(
        coords={
            "contender": list(rates),
            "lr": ("contender", list(rates.values())),
            "seed": np.arange(cfg.seeds),
            "step": np.arange(cfg.steps + 1),
            "updates": np.arange(cfg.steps),
            "axis": ["x", "y"],
        },
        attrs={"condition": cfg.condition, "alpha": cfg.alpha, "complete": 1},
    )
    for what, field, dims in (
        ("place", "place", ("step", "axis")),
        ("value", "value", ("step",)),
        ("gradient", "gradient", ("updates", "axis")),
        ("move", "update", ("updates", "axis")),
    ):
        every = np.stack([getattr(paths[name], field) for name in rates])
        ds[f"notes_{what}"] = ("contender", *dims), every[:, 0]
        ds[what] = ("contender", "seed", *dims), every[:, 1:]
    ds["diverged_at"] = _lab.first_not_finite(ds.value)
    return ds


def exact_momentum(lr: float, alpha: float, curvature: float, steps: int) -> np.ndarray:
    """Momentum's (place, velocity) along one direction `[steps + 1, 2]`, from place 1 at rest: powers of its matrix."""
    matrix = np.array([[1 - lr * curvature, alpha], [-lr * curvature, alpha]])
    return np.stack([np.linalg.matrix_power(matrix, k)[:, 0] for k in range(steps + 1)])


def called(ds: xr.Dataset, name: str) -> str:
    """A contender as people write it."""
    return f"{_lab.title(name.partition('@')[0])}, lr {float(ds.lr.sel(contender=name)):g}"


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Figures 03–05 as in the notes and the same for the other rules, their spread, and what explains them."""
    made = {FIGURES.get(name, name): path_figure(ds, name) for name in SIX}
    return made | {
        "overview": overview(ds),
        "starts": starts_figure(ds),
        "loss": loss_figure(ds),
        "damping": damping(ds),
        "adagrad_steps": adagrad_steps(ds),
        "momentum_terms": momentum_figure(ds),
    }


def contours(ax: Axes, ds: xr.Dataset) -> None:
    """The ground of the notes' figures: contours of f up to 7 for |y| ≤ 5, a cross at the minimum."""
    x, y = np.meshgrid(np.linspace(-13, 13, 261), np.linspace(-5, 5, 201))
    ax.contour(x, y, x**2 / ds.condition + y**2, levels=range(1, 8), cmap="viridis", linewidths=1)
    ax.plot(0, 0, "+", color="black", markersize=8, zorder=4)
    ax.set(xlim=(-10, 10), ylim=(-10, 10))


def notes_path(ax: Axes, ds: xr.Dataset, name: str, size: float) -> None:
    """The path from the notes' start. Their loop notes the place *before* each update, so the last one is not drawn."""
    place = ds.notes_place.sel(contender=name)[:-1]
    ax.plot(place.sel(axis="x"), place.sel(axis="y"), "o-", color="red", markersize=size, linewidth=1.3)


def path_figure(ds: xr.Dataset, name: str) -> Figure:
    """A path as in the notes' figures 03 to 05."""
    fig = plotting.figure(6.4, 4.8)
    number = f" (notes, figure {FIGURES[name][:2]})" if name in FIGURES else ""
    ax = plotting.axes(fig, called(ds, name) + number, "x", "y")
    ax.grid(False)
    contours(ax, ds)
    notes_path(ax, ds, name, 6)
    places = ds.sizes["step"] - 1
    plotting.caption(fig, f"f = x²/{ds.condition:g} + y²; {places} places from the notes' start on, as in the notes")
    return fig


def panels(fig: Figure) -> Iterator[tuple[str, Axes]]:
    """A panel for each of the six rules, in two rows."""
    grid = fig.subplots(2, 3, sharex=True, sharey=True)
    for ax in grid[1]:
        ax.set_xlabel("x")
    for ax in grid[:, 0]:
        ax.set_ylabel("y")
    yield from zip(SIX, grid.flat, strict=True)


def overview(ds: xr.Dataset) -> Figure:
    """The six paths side by side."""
    fig = plotting.figure(9.6, 6.0)
    for name, ax in panels(fig):
        contours(ax, ds)
        notes_path(ax, ds, name, 3.5)
        ax.set_title(called(ds, name))
    plotting.caption(fig, f"f = x²/{ds.condition:g} + y²; {ds.sizes['step'] - 1} places from the notes' start on")
    return fig


def starts_figure(ds: xr.Dataset) -> Figure:
    """The same from some of the random starts: what of a path belongs to the rule, and what to its start."""
    fig = plotting.figure(9.6, 6.0)
    shown = min(12, ds.sizes["seed"])
    for name, ax in panels(fig):
        contours(ax, ds)
        for seed in range(shown):
            x, y = ds.place.sel(contender=name).isel(seed=seed).values.T
            ax.plot(x, y, "-", color=plotting.colour(seed % 6), linewidth=0.8, alpha=0.8)
            ax.plot(x[0], y[0], "o", color=plotting.colour(seed % 6), markersize=3.5)
        ax.set(title=called(ds, name), xlim=(-13, 13), ylim=(-4, 4))
    plotting.caption(fig, f"{about(ds)}; dots: the first {shown} of them")
    return fig


def log_curve(ax: Axes, x: np.ndarray, values: np.ndarray, label: str, number: int, style: str = "-") -> None:
    """The geometric mean over seeds of `values` `[S, n]` with its 95 % band; the median where some are 0."""
    with np.errstate(divide="ignore"):
        mean, low, high = map(np.exp, plotting.band(np.log(values)))
    ax.plot(x, mean, style, color=plotting.colour(number), label=label, linewidth=1.3)
    ax.fill_between(x, low, high, color=plotting.colour(number), alpha=0.2, linewidth=0)


def loss_figure(ds: xr.Dataset) -> Figure:
    """f along the six paths."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "How fast each rule descends", "updates", "f(x, y)")
    for number, name in enumerate(SIX):
        log_curve(ax, ds.step.values, ds.value.sel(contender=name).values, called(ds, name), number)
    ax.set(yscale="log", xlim=(0, ds.sizes["step"] - 1), ylim=(1e-6, None))
    plotting.legend(fig, 3)
    plotting.caption(fig, f"{about(ds)}; geometric mean with its 95 % interval")
    return fig


COMPARED = ("sgd", "sgd@momentum", "momentum", "momentum@sgd")


def damping(ds: xr.Dataset) -> Figure:
    """How far off the minimum SGD and Momentum are along either axis, each at its own and at the other's rate."""
    fig = plotting.figure(9.0, 4.4)
    axes = fig.subplots(1, 2)
    for axis, ax in zip("yx", axes, strict=True):
        for number, name in enumerate(COMPARED):
            away = abs(ds.place.sel(contender=name, axis=axis)).values
            log_curve(ax, ds.step.values, away, called(ds, name), number // 2, "-" if "@" not in name else "--")
        plotting.dress(ax, yscale="log", xlabel="updates", ylabel=f"|{axis}|", title=f"along {axis}")
    plotting.legend(fig, of=axes[0])
    plotting.caption(
        fig,
        f"{about(ds)}; geometric mean with its 95 % interval; the dips of Momentum are where it swings through 0",
    )
    return fig


def adagrad_steps(ds: xr.Dataset) -> Figure:
    """The length of AdaGrad's steps along x and y, and its effective learning rate there."""
    fig = plotting.figure(9.0, 4.4)
    left, right = fig.subplots(1, 2)
    move = abs(ds.move.sel(contender="adagrad"))
    for number, axis in enumerate("yx"):
        log_curve(left, ds.updates.values + 1, move.sel(axis=axis).values, f"along {axis}", number)
        log_curve(right, ds.updates.values + 1, effective_rate(ds, "adagrad", axis), f"along {axis}", number)
    plotting.dress(left, yscale="log", xlabel="update", ylabel="|Δw|", title="Length of the step", ylim=(1e-12, None))
    plotting.dress(
        right, yscale="log", xlabel="update", ylabel="|Δw| / |gradient|", title="Effective learning rate, lr/√h"
    )
    plotting.legend(fig, of=left)
    plotting.caption(fig, f"{called(ds, 'adagrad')} · {about(ds)}; geometric mean with its 95 % interval")
    return fig


def momentum_figure(ds: xr.Dataset) -> Figure:
    """|αv| beside |η∇L| at every step, along y and along x."""
    fig = plotting.figure(9.0, 4.4)
    axes = fig.subplots(1, 2)
    for axis, curvature, ax in zip("yx", (LARGEST, LARGEST / ds.condition), axes, strict=True):
        terms_panel(ax, ds, axis, curvature)
    plotting.legend(fig, of=axes[0])
    plotting.caption(
        fig,
        f"{called(ds, 'momentum')}, α {ds.alpha:g} · {about(ds)}; Momentum is linear here, so all "
        "starts give the same curve; exact: powers of Momentum's 2 × 2 matrix",
    )
    return fig


def terms_panel(ax: Axes, ds: xr.Dataset, axis: str, curvature: float) -> None:
    """The two parts of Momentum's steps along an axis, as shares of the way there was to go, and their exact values."""
    lr, updates = float(ds.lr.sel(contender="momentum")), ds.updates.values[1:] + 1
    start = abs(along(ds, "momentum", axis, "place"))[:, :1]
    exact = exact_momentum(lr, ds.alpha, curvature, ds.sizes["updates"])[1:-1]
    names = ("|αv|, what the momentum adds", "|η∇L|, what the gradient adds")
    predictions = (ds.alpha * exact[:, 1], lr * curvature * exact[:, 0])
    for number, (name, measured, predicted) in enumerate(zip(names, terms(ds, axis), predictions, strict=True)):
        log_curve(ax, updates, abs(measured) / start, name, number)
        marks = {"marker": plotting.MARKERS[number], "markersize": 4, "color": plotting.colour(number)}
        ax.plot(updates, abs(predicted), linestyle="none", fillstyle="none", label="the same, exact", **marks)
    part = f"part of the step / |{axis} of the start|"
    plotting.dress(ax, yscale="log", xlabel="update", ylabel=part, title=f"along {axis}")


def summary(ds: xr.Dataset) -> str:
    """Where each of the six is after the last update, and how it got there."""
    turned, ways = "steps turned along y", ("way along y", "way along x")
    lines = [f"{'':>20}{'f at the end':>14}{turned:>24}{ways[0]:>14}{ways[1]:>14}"]
    for name in SIX:
        end = np.median(ds.value.sel(contender=name).values[:, -1])
        y, x = (walked(ds, name, axis).mean() for axis in "yx")
        lines.append(f"{called(ds, name):>20}{end:14.2e}{turns(ds, name, 'y').mean():24.1%}{y:14.2f}{x:14.2f}")
    return "\n".join(lines)


def along(ds: xr.Dataset, name: str, axis: str, what: str = "move") -> np.ndarray:
    """A contender's updates (or places, gradients) along one axis, `[seed, …]`."""
    return ds[what].sel(contender=name, axis=axis).values


def turns(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The share of steps along an axis that go against the step before, `[seed]`."""
    move = along(ds, name, axis)
    back = np.sign(move[:, 1:]) * np.sign(move[:, :-1]) < 0
    return np.where(np.isfinite(move).all(1), back.mean(1), np.nan)


def walked(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The way walked along an axis, there and back, `[seed]`."""
    return abs(along(ds, name, axis)).sum(1)


def away(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The mean distance from the minimum along an axis over the path, `[seed]`."""
    return abs(along(ds, name, axis, "place")).mean(1)


def swing(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The largest distance from the minimum along an axis in the last third of the path, `[seed]`."""
    return abs(along(ds, name, axis, "place"))[:, -(ds.sizes["updates"] // 3 + 1) :].max(1)


def shrinking(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """By how many decades a step the steps along an axis shrink, from the first to the last, `[seed]`."""
    first, *_, last = np.log10(np.maximum(abs(along(ds, name, axis)), np.finfo(float).tiny)).T
    return (first - last) / (ds.sizes["updates"] - 1)


def effective_rate(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """−Δw / gradient, `[seed, updates]`: the learning rate that plain SGD would need for the same step."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -along(ds, name, axis) / along(ds, name, axis, "gradient")


class Terms(NamedTuple):
    """The two parts of Momentum's step along one axis from its second update on: αv and −η∇L, `[seed, updates]`."""

    momentum: np.ndarray
    gradient: np.ndarray


def terms(ds: xr.Dataset, axis: str) -> Terms:
    """What Momentum's steps are made of; the velocity is the step before."""
    lr = float(ds.lr.sel(contender="momentum"))
    move, gradient = along(ds, "momentum", axis), along(ds, "momentum", axis, "gradient")
    return Terms(ds.alpha * move[:, :-1], -lr * gradient[:, 1:])


def smaller_share(ds: xr.Dataset, axis: str) -> np.ndarray:
    """The share of steps at which |αv| < |η∇L|, `[seed]`."""
    momentum, gradient = terms(ds, axis)
    smaller = (abs(momentum) < abs(gradient)).mean(1)
    return np.where(np.isfinite(momentum + gradient).all(1), smaller, np.nan)


def opposed_share(ds: xr.Dataset, axis: str) -> np.ndarray:
    """The share of steps at which αv and −η∇L point against each other, `[seed]`."""
    momentum, gradient = terms(ds, axis)
    return np.where(np.isfinite(momentum + gradient).all(1), (momentum * gradient < 0).mean(1), np.nan)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about figures 03 to 05, and what their question about Momentum comes down to."""
    return [*sgd_zigzags(ds), *momentum_damps_and_speeds(ds), *adagrad_shrinks(ds), *terms_of_momentum(ds)]


SAID = "claim 1"


def sgd_zigzags(ds: xr.Dataset) -> list[Verdict]:
    """Claim 1, SGD."""
    sgd, momentum, slow = (called(ds, name) for name in ("sgd", "momentum", "sgd@momentum"))
    share = {name: 100 * turns(ds, name, "y") for name in ("sgd", "momentum", "sgd@momentum")}
    slant = {name: np.log10(walked(ds, name, "y") / walked(ds, name, "x")) for name in ("sgd", "momentum")}
    steeper = np.round(slant["sgd"] - slant["momentum"], 9)  # the same from every start, but for the last digits
    return [
        decide(
            "SGD zigzags: its steps along y turn round more often than Momentum's",
            share["sgd"] - share["momentum"],
            "points",
            f"{sgd} turns round at {share['sgd'].mean():.0f} % of its steps, {momentum} at "
            f"{share['momentum'].mean():.0f} %: {{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} paired starts.",
            SAID,
        ),
        decide(
            "SGD zigzags at Momentum's learning rate too, at more than half of its steps",
            share["sgd@momentum"] - 50,
            "points",
            f"{slow} turns round at {share['sgd@momentum'].mean():.0f} % of its steps, {{effect}} {{unit}} from "
            f"one half [{{low}}, {{high}}]; by theory a step crosses the valley only where lr > 1/L = {1 / LARGEST:g}.",
            SAID,
        ),
        decide(
            "SGD walks further along y for the same way along x than Momentum",
            steeper,
            "decades",
            f"The ratio of the two ways is {{effect}} {{unit}} [{{low}}, {{high}}] larger for {sgd} than for "
            f"{momentum}, a factor of {10 ** steeper.mean():.1f}; both are linear here, so every start says the same.",
            SAID,
        ),
    ]


def momentum_damps_and_speeds(ds: xr.Dataset) -> list[Verdict]:
    """Claim 1, Momentum: against SGD at the notes' rates, and at either's."""
    found = []
    for name, rival in (("momentum", "sgd"), ("momentum", "sgd@momentum"), ("momentum@sgd", "sgd")):
        who = f"{called(ds, name)}, beside {called(ds, rival)}"
        lr = [float(ds.lr.sel(contender=one)) for one in (name, rival)]
        # Every valley is as steep along y as the round bowl.
        left = float(factor_of_momentum(lr[0], ds.alpha, 1.0)), float(factor_of_sgd(lr[1], 1.0))
        theory = f"; by theory a step of Momentum leaves {left[0]:.3f} of it in the long run, of SGD {left[1]:.3f}"
        for claim, what, measure, axis, more in (
            ("damps y: it walks a shorter way along y than SGD", "Way along y", walked, "y", ""),
            ("damps y: its swing dies out sooner than SGD's", "Largest |y| of the last third", swing, "y", theory),
            ("speeds up x: it is nearer to x = 0 than SGD", "Mean |x|", away, "x", ""),
        ):
            effect = paired(-measure(ds, name, axis), -measure(ds, rival, axis))
            sentence = f"{what}, SGD's less Momentum's: {{effect}} [{{low}}, {{high}}], {{seeds}} paired starts{more}."
            found.append(decide(f"Momentum {claim} ({who})", effect, "", sentence, SAID))
    return found


def adagrad_shrinks(ds: xr.Dataset) -> list[Verdict]:
    """Claim 1, AdaGrad."""
    y, x, sgd = (shrinking(ds, *of) for of in (("adagrad", "y"), ("adagrad", "x"), ("sgd", "y")))
    rate = {axis: np.log10(effective_rate(ds, "adagrad", axis)) for axis in "xy"}
    fall = {axis: rate[axis][:, 0] - rate[axis][:, -1] for axis in "xy"}
    each_step = f"AdaGrad's steps along y shrink by {y.mean():.2f} decades a step, "
    return [
        decide(
            "AdaGrad shrinks its steps along y faster than SGD does",
            y - sgd,
            "decades",
            f"{each_step}SGD's by {sgd.mean():.2f}: {{effect}} [{{low}}, {{high}}] more, {{seeds}} paired starts.",
            SAID,
        ),
        decide(
            "AdaGrad shrinks its steps along y faster than its steps along x",
            y - x,
            "decades",
            f"{each_step}those along x by {x.mean():.2f}: {{effect}} [{{low}}, {{high}}] more, {{seeds}} starts.",
            SAID,
        ),
        decide(
            "AdaGrad walks a shorter way along y than SGD",
            paired(-walked(ds, "adagrad", "y"), -walked(ds, "sgd", "y")),
            "",
            "SGD's way less AdaGrad's, at the notes' learning rates: {effect} [{low}, {high}], {seeds} paired starts.",
            SAID,
        ),
        decide(
            "AdaGrad's effective learning rate is smaller along y than along x",
            (rate["x"] - rate["y"]).mean(1),
            "decades",
            "In the mean over the path it is {effect} {unit} [{low}, {high}] smaller, {seeds} starts.",
            SAID,
        ),
        decide(
            "AdaGrad's effective learning rate falls faster along y, where the gradient is large, than along x",
            fall["y"] - fall["x"],
            "decades",
            f"From the first step to the last it falls by {fall['y'].mean():.2f} decades along y and by "
            f"{fall['x'].mean():.2f} along x; the difference is {{effect}} [{{low}}, {{high}}], {{seeds}} starts.",
            SAID,
        ),
    ]


def terms_of_momentum(ds: xr.Dataset) -> list[Verdict]:
    """Question §1.2: the size and the direction of αv beside −η∇L."""
    found = []
    steps = f"of the steps of {called(ds, 'momentum')}: {{effect}} {{unit}} from one half [{{low}}, {{high}}]"
    for axis, sense, direction in (("y", 1, "against"), ("x", -1, "the same way as")):
        smaller, opposed = 100 * smaller_share(ds, axis), 100 * opposed_share(ds, axis)
        found += [
            decide(
                f"Along {axis}, |αv| is smaller than |η∇L| at most steps",
                smaller - 50,
                "points",
                f"It is at {smaller.mean():.0f} % {steps}, {{seeds}} starts.",
                "question §1.2",
            ),
            decide(
                f"Along {axis}, αv points {direction} the gradient step at most steps",
                sense * (opposed - 50),
                "points",
                f"They oppose each other at {opposed.mean():.0f} % {steps}, {{seeds}} starts.",
                SAID,
            ),
            decide_share(
                f"Along {axis}, the momentum exceeds the gradient step at some step",
                smaller < 100,
                0.5,
                "It does from {effect} % [{low}, {high}] of {seeds} starts.",
                "question §1.2",
            ),
        ]
    return found


def answers(ds: xr.Dataset) -> list[Answer]:
    """The notes' question about Momentum's two terms."""
    question = "Is |αv| smaller than |η∇L|, and can the momentum exceed the gradient step?"
    return [Answer(question, on_terms(ds), "momentum_terms", ds.sizes["seed"], "question §1.2 TODO")]


def on_terms(ds: xr.Dataset) -> str:
    """Question §1.2: |αv| beside |η∇L|."""
    words = ("at most steps", "at fewer than half of the steps", "at about half of the steps")
    share = {axis: smaller_share(ds, axis) for axis in "yx"}
    mostly = {axis: f"{told(share[axis] - 0.5, words)} along {axis} ({share[axis].mean():.0%})" for axis in "yx"}
    exceeds = [axis for axis in "yx" if (share[axis] < 1).any()]
    times = {}
    for axis in "yx":
        momentum, gradient = (abs(part).mean() for part in terms(ds, axis))
        times[axis] = momentum / gradient
    return (
        f"|αv| is smaller than |η∇L| {mostly['y']} and {mostly['x']}. The momentum exceeds the gradient step along "
        f"{' and '.join(exceeds) or 'neither axis'}: in the mean over the path it is {times['y']:.1f} times as large "
        f"along y and {times['x']:.1f} times along x. Under a gradient that stood still v would grow to 1/(1 − α) = "
        f"{1 / (1 - ds.alpha):.3g} gradient steps."
    )


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
