"""Which way does each update rule take down a long valley? (notes §1.1–1.4, figures 03, 04 and 05)"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.updates import _valley
from experiments.updates._valley import (
    LARGEST,
    book,
    caption,
    descend,
    factor_of_momentum,
    factor_of_sgd,
    in_words,
    random_start,
    tuned,
)
from fnn import lab, sweep
from fnn.base.statistics import paired
from fnn.lab import plotting
from fnn.lab.titles import title
from fnn.tasks.contract import Label, Trial
from fnn.train.labels import first_not_finite

SIX = ("sgd", "momentum", "adagrad", "adam", "rmsprop", "nesterov")
FIGURES = {"sgd": "03_sgd", "momentum": "04_momentum", "adagrad": "05_adagrad"}
LABELS = {
    "place": Label("place", "1", ("step", "axis")),
    "value": Label("f", "1", ("step",)),
    "gradient": Label("gradient", "1", ("updates", "axis")),
    "move": Label("update", "1", ("updates", "axis")),
}


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


def contenders(cfg: Config) -> dict[str, float]:
    """Learning rates by contender: the six rules, and SGD and Momentum at the other's rate."""
    return {name: getattr(cfg, name) for name in SIX} | {"sgd@momentum": cfg.momentum, "momentum@sgd": cfg.sgd}


def run(cfg: Config) -> xr.Dataset:
    """All paths, in float64; variables named `notes_…` are of the notes' start."""
    with jax.enable_x64(True):
        found = [paths(cfg, name, lr) for name, lr in contenders(cfg).items()]
    ds = xr.concat(found, "contender", combine_attrs="drop_conflicts")
    ds["diverged_at"] = first_not_finite(ds.value)
    return ds.assign_attrs(condition=cfg.condition, alpha=cfg.alpha)


def paths(cfg: Config, name: str, lr: float) -> xr.Dataset:
    """A contender's paths from random starts, and from the notes' start."""
    rule = book(name.partition("@")[0])
    coords = {"step": np.arange(cfg.steps + 1), "updates": np.arange(cfg.steps), "axis": ["x", "y"]}

    def follow(hp, start):
        return descend(rule, hp, cfg.condition, start, cfg.steps)._asdict()

    def measure(hp, key, data):
        return follow(hp, random_start(cfg, key, cfg.condition))

    hp = tuned(rule, lr, cfg.alpha)
    trial = Trial(measure, hyper=hp, labels=LABELS, coords=coords)
    ds = sweep(trial, seeds=cfg.seeds, keep=cfg.keep(name), progress=True)
    notes = jax.jit(follow)(hp, jnp.array([cfg.x, cfg.y]))
    for what, values in notes.items():
        attrs = {"long_name": f"{LABELS[what].long_name} from the notes' start", "units": LABELS[what].units}
        ds[f"notes_{what}"] = LABELS[what].dims, np.asarray(values), attrs
    return ds.expand_dims(contender=[name]).assign_coords(lr=("contender", [lr]))


def exact_momentum(lr: float, alpha: float, curvature: float, steps: int) -> np.ndarray:
    """Momentum's (position, velocity) along one direction `[steps + 1, 2]`, from position 1 at rest: powers of its
    matrix."""
    matrix = np.array([[1 - lr * curvature, alpha], [-lr * curvature, alpha]])
    return np.stack([np.linalg.matrix_power(matrix, k)[:, 0] for k in range(steps + 1)])


def called(ds: xr.Dataset, name: str) -> str:
    """A contender's name in figures and sentences."""
    return f"{title(name.partition('@')[0])}, lr {float(ds.lr.sel(contender=name)):g}"


def along(ds: xr.Dataset, name: str, axis: str, what: str = "move") -> np.ndarray:
    """A contender's updates (or points, gradients) along one axis, `[seed, …]`."""
    return ds[what].sel(contender=name, axis=axis).transpose("seed", ...).values


def turns(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The share of steps along an axis that go against the step before, in percent, `[seed]`."""
    move = along(ds, name, axis)
    back = np.sign(move[:, 1:]) * np.sign(move[:, :-1]) < 0
    return np.where(np.isfinite(move).all(1), 100 * back.mean(1), np.nan)


def path_length(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The path length along an axis, Σ |Δ|, `[seed]`."""
    return abs(along(ds, name, axis)).sum(1)


def away(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The mean distance from the minimum along an axis over the path, `[seed]`."""
    return abs(along(ds, name, axis, "place")).mean(1)


def swing(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """The largest distance from the minimum along an axis in the last third of the path, `[seed]`."""
    return abs(along(ds, name, axis, "place"))[:, -(ds.sizes["updates"] // 3 + 1) :].max(1)


def slant(ds: xr.Dataset, name: str) -> np.ndarray:
    """log₁₀ of the path length along y over that along x, `[seed]`, rounded: SGD's and Momentum's are the same from
    every start."""
    return np.round(np.log10(path_length(ds, name, "y") / path_length(ds, name, "x")), 9)


def shrinking(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """Decades per step by which the steps along an axis shrink, from the first to the last, `[seed]`."""
    first, *_, last = np.log10(np.maximum(abs(along(ds, name, axis)), np.finfo(float).tiny)).T
    return (first - last) / (ds.sizes["updates"] - 1)


def effective_rate(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """−Δw / gradient, `[seed, updates]`: the learning rate that plain SGD would need for the same step."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -along(ds, name, axis) / along(ds, name, axis, "gradient")


def rate_decades(ds: xr.Dataset, axis: str) -> np.ndarray:
    """AdaGrad's effective learning rate along an axis, in decades, `[seed, updates]`."""
    return np.log10(effective_rate(ds, "adagrad", axis))


def rate_fall(ds: xr.Dataset, axis: str) -> np.ndarray:
    """By how many decades AdaGrad's effective rate along an axis falls from the first step to the last, `[seed]`."""
    rate = rate_decades(ds, axis)
    return rate[:, 0] - rate[:, -1]


class Terms(NamedTuple):
    """The two parts of Momentum's step along one axis from its second update on: αv and −η∇L, `[seed, updates]`."""

    momentum: np.ndarray
    gradient: np.ndarray


def terms(ds: xr.Dataset, axis: str) -> Terms:
    """The two terms of Momentum's steps; the velocity is the step before."""
    lr = float(ds.lr.sel(contender="momentum"))
    move, gradient = along(ds, "momentum", axis), along(ds, "momentum", axis, "gradient")
    return Terms(ds.alpha * move[:, :-1], -lr * gradient[:, 1:])


def smaller_share(ds: xr.Dataset, axis: str) -> np.ndarray:
    """The share of steps at which |αv| < |η∇L|, in percent, `[seed]`."""
    momentum, gradient = terms(ds, axis)
    smaller = (abs(momentum) < abs(gradient)).mean(1)
    return np.where(np.isfinite(momentum + gradient).all(1), 100 * smaller, np.nan)


def opposed_share(ds: xr.Dataset, axis: str) -> np.ndarray:
    """The share of steps at which αv and −η∇L point against each other, in percent, `[seed]`."""
    momentum, gradient = terms(ds, axis)
    return np.where(np.isfinite(momentum + gradient).all(1), 100 * (momentum * gradient < 0).mean(1), np.nan)


def contours(ax: Axes, ds: xr.Dataset) -> None:
    """The background of the notes' figures: contours of f up to 7 for |y| ≤ 5, a cross at the minimum."""
    x, y = np.meshgrid(np.linspace(-13, 13, 261), np.linspace(-5, 5, 201))
    ax.contour(x, y, x**2 / ds.condition + y**2, levels=range(1, 8), cmap="viridis", linewidths=1)
    ax.plot(0, 0, "+", color="black", markersize=8, zorder=4)
    ax.set(xlim=(-10, 10), ylim=(-10, 10))


def notes_path(ax: Axes, ds: xr.Dataset, name: str, size: float) -> None:
    """The path from the notes' start. Their loop records the point *before* each update, so the last one is not
    drawn."""
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
    plotting.caption(fig, f"f = x²/{ds.condition:g} + y²; {places} points from the notes' start on, as in the notes")
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
    plotting.caption(fig, f"f = x²/{ds.condition:g} + y²; {ds.sizes['step'] - 1} points from the notes' start on")
    return fig


def starts_figure(ds: xr.Dataset) -> Figure:
    """The same from some of the random starts, which shows how much of a path is due to its start."""
    fig = plotting.figure(9.6, 6.0)
    shown = min(12, ds.sizes["seed"])
    for name, ax in panels(fig):
        contours(ax, ds)
        for seed in range(shown):
            x, y = ds.place.sel(contender=name).isel(seed=seed).values.T
            ax.plot(x, y, "-", color=plotting.color(seed % 6), linewidth=0.8, alpha=0.8)
            ax.plot(x[0], y[0], "o", color=plotting.color(seed % 6), markersize=3.5)
        ax.set(title=called(ds, name), xlim=(-13, 13), ylim=(-4, 4))
    plotting.caption(fig, caption(ds, f"dots: the first {shown} of them"))
    return fig


def log_curve(ax: Axes, x: np.ndarray, values: np.ndarray, label: str, number: int, style: str = "-") -> None:
    """The geometric mean over seeds of `values` `[S, n]` with its 95 % band; the median where some are 0."""
    with np.errstate(divide="ignore"):
        mean, low, high = map(np.exp, plotting.band(np.log(values)))
    ax.plot(x, mean, style, color=plotting.color(number), label=label, linewidth=1.3)
    ax.fill_between(x, low, high, color=plotting.color(number), alpha=0.2, linewidth=0)


def loss_figure(ds: xr.Dataset) -> Figure:
    """f along the six paths."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "How fast each rule descends", "updates", "f(x, y)")
    for number, name in enumerate(SIX):
        log_curve(ax, ds.step.values, ds.value.sel(contender=name).values, called(ds, name), number)
    ax.set(yscale="log", xlim=(0, ds.sizes["step"] - 1), ylim=(1e-6, None))
    plotting.legend(fig, 3)
    plotting.caption(fig, caption(ds, "geometric mean with its 95 % interval"))
    return fig


COMPARED = ("sgd", "sgd@momentum", "momentum", "momentum@sgd")


def damping(ds: xr.Dataset) -> Figure:
    """|x| and |y| of SGD and Momentum over the path, each at its own and at the other's learning rate."""
    fig = plotting.figure(9.0, 4.4)
    axes = fig.subplots(1, 2)
    for axis, ax in zip("yx", axes, strict=True):
        for number, name in enumerate(COMPARED):
            away = abs(ds.place.sel(contender=name, axis=axis)).values
            log_curve(ax, ds.step.values, away, called(ds, name), number // 2, "-" if "@" not in name else "--")
        plotting.dress(ax, yscale="log", xlabel="updates", ylabel=f"|{axis}|", title=f"along {axis}")
    plotting.legend(fig, of=axes[0])
    dips = "the dips of Momentum are where it swings through 0"
    plotting.caption(fig, caption(ds, "geometric mean with its 95 % interval", dips))
    return fig


def adagrad_steps(ds: xr.Dataset) -> Figure:
    """The length of AdaGrad's steps along x and y, and its effective learning rate along each."""
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
    mean = "geometric mean with its 95 % interval"
    plotting.caption(fig, f"{called(ds, 'adagrad')} · {caption(ds, mean)}")
    return fig


def momentum_figure(ds: xr.Dataset) -> Figure:
    """|αv| beside |η∇L| at every step, along y and along x."""
    fig = plotting.figure(9.0, 4.4)
    axes = fig.subplots(1, 2)
    for axis, curvature, ax in zip("yx", (LARGEST, LARGEST / ds.condition), axes, strict=True):
        terms_panel(ax, ds, axis, curvature)
    plotting.legend(fig, of=axes[0])
    linear = "Momentum is linear here, so all starts give the same curve", "exact: powers of Momentum's 2 × 2 matrix"
    plotting.caption(fig, f"{called(ds, 'momentum')}, α {ds.alpha:g} · {caption(ds, *linear)}")
    return fig


def terms_panel(ax: Axes, ds: xr.Dataset, axis: str, curvature: float) -> None:
    """The two parts of Momentum's steps along an axis, over the start's distance from the minimum, and theory."""
    lr, updates = float(ds.lr.sel(contender="momentum")), ds.updates.values[1:] + 1
    start = abs(along(ds, "momentum", axis, "place"))[:, :1]
    exact = exact_momentum(lr, ds.alpha, curvature, ds.sizes["updates"])[1:-1]
    names = ("|αv|, what the momentum adds", "|η∇L|, what the gradient adds")
    predictions = (ds.alpha * exact[:, 1], lr * curvature * exact[:, 0])
    for number, (name, measured, predicted) in enumerate(zip(names, terms(ds, axis), predictions, strict=True)):
        log_curve(ax, updates, abs(measured) / start, name, number)
        marks = {"marker": plotting.MARKERS[number], "markersize": 4, "color": plotting.color(number)}
        ax.plot(updates, abs(predicted), linestyle="none", fillstyle="none", label="the same, exact", **marks)
    part = f"part of the step / |{axis} of the start|"
    plotting.dress(ax, yscale="log", xlabel="update", ylabel=part, title=f"along {axis}")


def summary(ds: xr.Dataset) -> str:
    """f after the last update of each rule, and the turns and path lengths on the way."""
    turned, ways = "steps turned along y", ("path along y", "path along x")
    lines = [f"{'':>20}{'f at the end':>14}{turned:>24}{ways[0]:>14}{ways[1]:>14}"]
    for name in SIX:
        end = np.median(ds.value.sel(contender=name).values[:, -1])
        y, x = (path_length(ds, name, axis).mean() for axis in "yx")
        lines.append(f"{called(ds, name):>20}{end:14.2e}{turns(ds, name, 'y').mean():23.1f}%{y:14.2f}{x:14.2f}")
    return "\n".join(lines)


def claim(
    text: str,
    effect: Callable[[xr.Dataset], np.ndarray],
    unit: str,
    detail: str | Callable[[xr.Dataset], str],
    figure: str,
    *,
    source: str = "claim 1",
    test: Any = None,
    secondary: bool = True,
) -> lab.Claim:
    """A claim about paths; effect: `dataset -> values [seed]`, above 0 where no other test is given."""
    values = lambda ds: xr.DataArray(effect(ds), dims="seed")
    return lab.Claim(text, values, test or lab.above(0.0), unit, source, figure, detail=detail, secondary=secondary)


def sgd_zigzags() -> list[lab.Claim]:
    """Claim 1, SGD."""

    def turned(*names):
        return lambda ds: "; ".join(f"{called(ds, n)} turns at {turns(ds, n, 'y').mean():.0f} %" for n in names) + "."

    return [
        claim(
            "SGD zigzags: its steps along y turn round more often than Momentum's",
            lambda ds: turns(ds, "sgd", "y") - turns(ds, "momentum", "y"),
            "points",
            turned("sgd", "momentum"),
            "overview",
            secondary=False,
        ),
        claim(
            "SGD zigzags at Momentum's learning rate too, at more than half of its steps",
            lambda ds: turns(ds, "sgd@momentum", "y") - 50,
            "points from one half",
            lambda ds: (
                f"{turned('sgd@momentum')(ds)} By theory a step crosses the valley only where lr > 1/L = "
                f"{1 / LARGEST:g}."
            ),
            "damping",
        ),
        claim(
            "SGD's path is longer along y, for the same length along x, than Momentum's",
            lambda ds: slant(ds, "sgd") - slant(ds, "momentum"),
            "decades",
            "The effect is of the ratio of the two lengths; both rules are linear here, so all starts give the same.",
            "overview",
        ),
    ]


def less(measure: Callable[..., np.ndarray], name: str, rival: str, axis: str) -> Callable[[xr.Dataset], np.ndarray]:
    """The effect "by how much a measure of one contender is below another's", paired by start."""
    return lambda ds: paired(-measure(ds, name, axis), -measure(ds, rival, axis))


def beside(name: str, rival: str) -> Callable[[xr.Dataset], str]:
    """Which contenders are compared."""
    return lambda ds: f"{called(ds, name)}, beside {called(ds, rival)}."


def long_run(name: str, rival: str) -> Callable[[xr.Dataset], str]:
    """The same, with the theoretical factors of the long run; every valley is as steep along y as the round bowl."""

    def sentence(ds):
        lr = [float(ds.lr.sel(contender=one)) for one in (name, rival)]
        left = float(factor_of_momentum(lr[0], ds.alpha, 1.0)), float(factor_of_sgd(lr[1], 1.0))
        return f"{beside(name, rival)(ds)} By theory a step of Momentum leaves {left[0]:.3f}, of SGD {left[1]:.3f}."

    return sentence


def momentum_damps_and_speeds() -> list[lab.Claim]:
    """Claim 1, Momentum: against SGD at the notes' rates (the primary claims), and at the rate of either."""
    pairs = (
        ("momentum", "sgd", "at the notes' learning rates"),
        ("momentum", "sgd@momentum", "at Momentum's learning rate"),
        ("momentum@sgd", "sgd", "at SGD's learning rate"),
    )
    measures = (
        ("damps y: its path along y is shorter than SGD's", path_length, "y", beside),
        ("damps y: its largest |y| in the last third is smaller than SGD's", swing, "y", long_run),
        ("speeds up x: its mean |x| is smaller than SGD's", away, "x", beside),
    )
    return [
        claim(
            f"Momentum {statement}, {rates}",
            less(measure, name, rival, axis),
            "",
            detail(name, rival),
            "damping",
            secondary=(name, rival) != ("momentum", "sgd") or measure is swing,
        )
        for name, rival, rates in pairs
        for statement, measure, axis, detail in measures
    ]


def adagrad_shrinks() -> list[lab.Claim]:
    """Claim 1, AdaGrad."""

    def each_step(name, axis, who):
        return lambda ds: (
            f"AdaGrad's steps along y shrink by {shrinking(ds, 'adagrad', 'y').mean():.2f} decades per step, {who} by "
            f"{shrinking(ds, name, axis).mean():.2f}."
        )

    return [
        claim(
            "AdaGrad shrinks its steps along y faster than SGD does",
            lambda ds: shrinking(ds, "adagrad", "y") - shrinking(ds, "sgd", "y"),
            "decades per step",
            each_step("sgd", "y", "SGD's"),
            "adagrad_steps",
            secondary=False,
        ),
        claim(
            "AdaGrad shrinks its steps along y faster than its steps along x",
            lambda ds: shrinking(ds, "adagrad", "y") - shrinking(ds, "adagrad", "x"),
            "decades per step",
            each_step("adagrad", "x", "those along x"),
            "adagrad_steps",
        ),
        claim(
            "AdaGrad's path along y is shorter than SGD's",
            less(path_length, "adagrad", "sgd", "y"),
            "",
            beside("adagrad", "sgd"),
            "overview",
        ),
        claim(
            "AdaGrad's effective learning rate is smaller along y than along x",
            lambda ds: (rate_decades(ds, "x") - rate_decades(ds, "y")).mean(1),
            "decades",
            "The effect is the mean over the path.",
            "adagrad_steps",
        ),
        claim(
            "AdaGrad's effective learning rate falls faster along y, where the gradient is large, than along x",
            lambda ds: rate_fall(ds, "y") - rate_fall(ds, "x"),
            "decades",
            lambda ds: (
                f"From the first step to the last it falls by {rate_fall(ds, 'y').mean():.2f} decades along y "
                f"and by {rate_fall(ds, 'x').mean():.2f} along x."
            ),
            "adagrad_steps",
        ),
    ]


def terms_of_momentum(axis: str, sense: int, direction: str) -> list[lab.Claim]:
    """Question §1.2: the size and the direction of αv beside −η∇L along an axis."""
    question = {"figure": "momentum_terms", "source": "question §1.2", "secondary": False}
    of = lambda share, what: lambda ds: f"It {what} at {share(ds, axis).mean():.0f} % of the steps."
    return [
        claim(
            f"Along {axis}, |αv| is smaller than |η∇L| at most steps",
            lambda ds: smaller_share(ds, axis) - 50,
            "points from one half",
            of(smaller_share, "is smaller"),
            **question,
        ),
        claim(
            f"Along {axis}, αv points {direction} the gradient step at most steps",
            lambda ds: sense * (opposed_share(ds, axis) - 50),
            "points from one half",
            of(opposed_share, "points against it"),
            "momentum_terms",
        ),
        claim(
            f"Along {axis}, the momentum exceeds the gradient step at some step, from every start",
            lambda ds: smaller_share(ds, axis) < 100,
            "",
            "",
            test=lab.always(),
            **question,
        ),
    ]


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The notes' question about Momentum's two terms: |αv| beside |η∇L|."""
    words = ("at most steps", "at fewer than half of the steps", "at about half of the steps")
    share = {axis: smaller_share(ds, axis) for axis in "yx"}
    mostly = {axis: f"{in_words(share[axis] - 50, words)} along {axis} ({share[axis].mean():.0f} %)" for axis in "yx"}
    exceeds = [axis for axis in "yx" if (share[axis] < 100).any()]
    times = {}
    for axis in "yx":
        momentum, gradient = (abs(part).mean() for part in terms(ds, axis))
        times[axis] = momentum / gradient
    answer = (
        f"|αv| is smaller than |η∇L| {mostly['y']} and {mostly['x']}. The momentum exceeds the gradient step along "
        f"{' and '.join(exceeds) or 'neither axis'}: in the mean over the path it is {times['y']:.1f} times as large "
        f"along y and {times['x']:.1f} times along x. Under a constant gradient v would grow to 1/(1 − α) = "
        f"{1 / (1 - ds.alpha):.3g} gradient steps."
    )
    question = "Is |αv| smaller than |η∇L|, and can the momentum exceed the gradient step?"
    return [lab.Answer(question, answer, "momentum_terms", ds.sizes["seed"], "question §1.2")]


EXPERIMENT = lab.Experiment(
    question="Which way does each update rule take down a long valley?",
    source="notes §1.1–1.4, figures 03, 04 and 05",
    says="SGD zigzags; Momentum damps y and speeds up x; AdaGrad shrinks the steps along y. The notes ask whether αv "
    "is smaller than η∇L; they leave Adam (§1.4) empty and only mention RMSProp.",
    method="Runs SGD, Momentum, AdaGrad, Adam, RMSProp and Nesterov for 30 steps on f(x, y) = x²/20 + y² from the "
    "notes' start (−7, 2) and from random starts on the same level of f, in float64. Path lengths, turns and steps "
    "along each axis are compared, paired by start, and the two terms of a step of Momentum. Convergence at other "
    "learning rates and in other valleys is the subject of valley_rates. RMSProp's learning rate makes its first "
    "step, lr/√(1 − ρ), as long as AdaGrad's; Nesterov has Momentum's.",
    takes="about 12 seconds on two cores",
    config=Config,
    quick={"seeds": 20},
    run=run,
    claims=(
        *sgd_zigzags(),
        *momentum_damps_and_speeds(),
        *adagrad_shrinks(),
        *terms_of_momentum("y", 1, "against"),
        *terms_of_momentum("x", -1, "the same way as"),
    ),
    figures={
        **{FIGURES.get(name, name): (lambda ds, name=name: path_figure(ds, name)) for name in SIX},
        "overview": overview,
        "starts": starts_figure,
        "loss": loss_figure,
        "damping": damping,
        "adagrad_steps": adagrad_steps,
        "momentum_terms": momentum_figure,
    },
    answers=answers,
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
