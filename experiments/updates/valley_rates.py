"""How do the learning rate and the shape of a valley set how fast it is descended? (notes §1.1 and §1.2)"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.updates import _valley
from experiments.updates._valley import (
    LARGEST,
    Path,
    book,
    caption,
    curvatures,
    descend,
    factor_of_momentum,
    factor_of_sgd,
    in_words,
    random_start,
    tuned,
    valley,
)
from fnn import lab, schedules, sweep
from fnn.base.errors import require
from fnn.base.statistics import paired
from fnn.lab import figures, plotting
from fnn.lab.titles import title
from fnn.nn.instruments import hessian_vector
from fnn.rule import Rule
from fnn.tasks.contract import Label, Trial
from fnn.train import engine

DEEPEST = 250.0
"""√f is followed down to e^−250 of its start, well above the smallest float64."""
LABELS = {
    "steps": Label("steps until the goal", "steps"),
    "way": Label("path length until the goal", "1"),
    "factor": Label("factor of √f in the long run", "1 per step"),
    "crossed": Label("whether the minimum was passed along an axis"),
}


@dataclass(frozen=True)
class Config(_valley.Config):
    """Settings of the descents; the defaults are the notes'."""

    goal: float = 1e-3
    """A descent has arrived once f stays below this share of its start."""
    horizon: int = 2000
    """The most steps of a descent."""
    rates: int = 60
    """Learning rates of the log grid from 0.01 to 2.5."""
    conditions: int = 13
    """Condition numbers of the log grid from 1 to 1,000."""
    decay: int = 30
    """Under learning-rate decay step k has lr/(1 + k/decay)."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(horizon=20, rates=2, conditions=2, decay=1)
        require(0 < self.goal < 1, f"--goal is a share between 0 and 1, not {self.goal}.")


def rate_grid(cfg: Config) -> list[float]:
    """The log grid of learning rates, a fine one around the best constant step, and the rates of the notes."""
    notes = [cfg.sgd, cfg.sgd / 2, cfg.momentum, cfg.momentum / 10, float(best_sgd(cfg.condition))]
    around = np.linspace(0.85, 1.02, cfg.rates // 2) * 2 / LARGEST
    return np.unique(np.concatenate([np.geomspace(0.01, 2.5, cfg.rates), around, notes])).tolist()


def best_sgd(condition: Any) -> Any:
    """The best constant learning rate 2/(L + μ); its factor per step is (κ − 1)/(κ + 1). Polyak 1964."""
    return 2 / (LARGEST + LARGEST / condition)


def best_momentum(condition: Any) -> tuple[Any, Any]:
    """(lr, α) = (4/(√L + √μ)², ((√κ − 1)/(√κ + 1))²); the factor per step is √α. Polyak 1964."""
    root = np.sqrt(condition)
    return 4 / (np.sqrt(LARGEST) * (1 + 1 / root)) ** 2, ((root - 1) / (root + 1)) ** 2


def decaying(rule: Rule, cfg: Config) -> Rule:
    """The rule with learning rate lr/(1 + k/decay) at step k."""
    shape = lambda progress: 1 / (1 + progress.t / cfg.decay)
    return schedules.scheduled(rule, schedules.on("lr", shape), cfg.horizon)


class Searched(NamedTuple):
    """condition: that of the valley in which a line is searched."""

    condition: Any


def search(hp: Searched, g: Array, state: Any, w: Array, extra: Any = None) -> tuple[Array, Any]:
    """Steepest descent with the exact best step of a quadratic, t = g·g / g·Hg. Cauchy 1847; no learning rate."""
    bend = jnp.vdot(g, hessian_vector(lambda w: valley(w, hp.condition), w, g))
    return -jnp.where(bend > 0, jnp.vdot(g, g) / jnp.where(bend > 0, bend, 1), 0) * g, state


LINE_SEARCH = Rule(Searched(1.0), lambda hp, w: (), search)


class Arrival(NamedTuple):
    """What is measured of a descent.

    steps, way: steps and path length until it arrived; NaN where it did not.
    factor: what a step leaves of √f in the long run.
    crossed: whether it ever went past the minimum along x or y.
    """

    steps: Array
    way: Array
    factor: Array
    crossed: Array


def arrival(path: Path, goal: float) -> Arrival:
    """When f fell below `goal` · its start for good, how fast √f falls in the long run, and whether the path swings."""
    far = ~(path.value <= goal * path.value[0])
    steps = jnp.minimum(len(far) - jnp.argmax(far[::-1]), len(far) - 1)
    way = jnp.where(jnp.arange(len(path.move)) < steps, jnp.hypot(*path.move.T), 0).sum()
    there = lambda value: jnp.where(far[-1], jnp.nan, value)
    crossed = (path.place[1:] * path.place[:-1] < 0).any()
    return Arrival(there(steps), there(way), long_run_factor(path.value), crossed)


def long_run_factor(value: Float[Array, " n"]) -> Float[Array, ""]:
    """ρ of √f ~ kᵐ ρᵏ, by least squares on log √f = a + k log ρ + m log k from a tenth of the way on.

    The power of k is there for Momentum at its best parameters, whose matrix is defective: √f ~ k ρᵏ.
    0 where f is 0 from the first step on.
    """
    k = jnp.arange(len(value))
    depth = jnp.log(value / value[0]) / 2
    usable = jnp.abs(depth) < DEEPEST
    n = jnp.where(usable.all(), len(value), jnp.argmin(usable))
    seen = (k >= jnp.maximum(n // 10, 1)) & (k < n)
    basis = jnp.stack([jnp.ones_like(depth), k / len(value), jnp.log(jnp.maximum(k, 1))])
    products = basis[:, None] * basis  # the same for all descents, so that their normal equations are one product
    one, slope, power = products @ seen.astype(depth.dtype)
    given = basis @ jnp.where(seen, depth, 0)
    others = jnp.cross(power, one)  # Cramer's rule: a 3 × 3 solver takes longer to compile than all the rest
    return jnp.where(n < 8, 0, jnp.exp(given @ others / (slope @ others) / len(value)))


class Descent(NamedTuple):
    """A rule's hyperparameters, and the condition number of the valley."""

    rule: Any
    condition: Any = 1.0


def run(cfg: Config) -> xr.Dataset:
    """All arrivals, in float64; `start` are the starting points of the descents in the valley.

    Dimensions rule, bowl (of κ = 1, and the valley), lr; tuning and kappa; seed.
    """
    bowls = {"*.condition": {"round": 1.0, "valley": cfg.condition}}
    rates, kappa = rate_grid(cfg), np.geomspace(1, 1000, cfg.conditions)
    sgd, momentum = book("sgd"), book("momentum")
    rules = {"sgd": sgd, "decay": decaying(sgd, cfg), "momentum": momentum}
    tunings = {
        "sgd, best": (sgd, {"lr": best_sgd(kappa)}),
        "momentum, best": (momentum, dict(zip(("lr", "mu"), best_momentum(kappa), strict=True))),
        "sgd, notes": (sgd, {"lr": cfg.momentum}),
        "momentum, notes": (momentum, {"lr": cfg.momentum}),
    }
    with jax.enable_x64(True):
        by_rate = {name: arrivals(cfg, rule, {**bowls, "lr": rates}, name) for name, rule in rules.items()}
        by_kappa = {name: at_each(cfg, rule, kappa, settings, name) for name, (rule, settings) in tunings.items()}
        searched = arrivals(cfg, LINE_SEARCH, bowls, "line search")
        starts = jax.vmap(lambda key: random_start(cfg, key, cfg.condition))(engine.seeds(cfg.seeds))
        starts = np.asarray(starts)
    found = {"by_rate": joined(by_rate, "rule"), "by_kappa": joined(by_kappa, "tuning"), "of_search": searched}
    parts = [ds.rename({name: f"{name}_{suffix}" for name in ds.data_vars}) for suffix, ds in found.items()]
    ds = xr.merge(parts, combine_attrs="drop_conflicts").rename(condition="bowl")
    start_attrs = {"long_name": "starting points of the descents in the valley", "units": "1"}
    ds = ds.assign_coords(axis=["x", "y"]).assign(start=(("seed", "axis"), starts, start_attrs))
    names = ("condition", "sgd", "momentum", "alpha", "goal", "horizon", "decay")
    return ds.assign_attrs({name: getattr(cfg, name) for name in names})


def arrivals(cfg: Config, rule: Rule, over: Mapping[Any, Any], part: str) -> xr.Dataset:
    """The arrivals of a rule from every start at these settings."""

    def measure(hp, key, data):
        start = random_start(cfg, key, hp.condition)
        return arrival(descend(rule, hp.rule, hp.condition, start, cfg.horizon), cfg.goal)._asdict()

    trial = Trial(measure, hyper=Descent(tuned(rule, cfg.momentum, cfg.alpha)), labels=LABELS)
    return sweep(trial, over=over, seeds=cfg.seeds, keep=cfg.keep(part), progress=True)


def at_each(cfg: Config, rule: Rule, kappa: np.ndarray, settings: Mapping[str, Any], part: str) -> xr.Dataset:
    """The same at every condition number, with settings that may depend on it."""
    rows = np.broadcast_arrays(kappa, *settings.values())
    ds = arrivals(cfg, rule, {("condition", *settings): np.stack(rows, 1).tolist()}, part)
    return ds.rename(condition="kappa").swap_dims(setting="kappa").drop_vars(settings)


def joined(found: Mapping[str, xr.Dataset], dim: str) -> xr.Dataset:
    """The data sets along a new dimension."""
    names = xr.DataArray(list(found), dims=dim, name=dim)
    return xr.concat(list(found.values()), names, combine_attrs="drop_conflicts")


def exact_factor(tuning: str, condition: np.ndarray, ds: xr.Dataset) -> np.ndarray:
    """The theoretical factor of √f per step at these condition numbers."""
    return {
        "sgd, best": lambda: (condition - 1) / (condition + 1),
        "momentum, best": lambda: (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1),
        "sgd, notes": lambda: factor_of_sgd(ds.momentum, condition),
        "momentum, notes": lambda: factor_of_momentum(ds.momentum, ds.alpha, condition),
    }[tuning]()


def steps_at(factor: np.ndarray, goal: float) -> np.ndarray:
    """ln ε / 2 ln ρ, the steps in which ρ²ᵏ falls to ε; at least 1, and infinite where ρ ≥ 1."""
    with np.errstate(divide="ignore"):
        steps = np.log(goal) / (2 * np.log(factor))
    return np.where(factor < 1, np.maximum(steps, 1), np.inf)


def exact_steps(start: np.ndarray, lr: float, condition: float, goal: float, horizon: int) -> np.ndarray:
    """The steps that SGD takes from each start `[…, 2]` until f ≤ `goal` · its start; NaN where it never is.

    f after k steps is Σ fᵢ (1 − ηλᵢ)²ᵏ, convex in k: where it is below the goal at the horizon, it crosses it once.
    """
    curvature = curvatures(condition)
    shares = curvature * start**2
    shares /= shares.sum(-1, keepdims=True)
    factors = (1 - lr * curvature) ** 2

    def left(k):
        with np.errstate(over="ignore"):
            return (shares * factors ** k[..., None]).sum(-1)

    before, after = np.zeros(start.shape[:-1], int), np.full(start.shape[:-1], horizon)
    while (after - before > 1).any():
        middle = (before + after) // 2
        there = left(middle) <= goal
        before, after = np.where(there, before, middle), np.where(there, middle, after)
    return np.where(left(np.full_like(after, horizon)) <= goal, after, np.nan)


NAMES = {"sgd": "SGD, constant", "decay": "SGD, decaying", "momentum": "Momentum"}


def arrived(values: xr.DataArray) -> xr.DataArray:
    """`values` `[seed, …]` where every start arrived: a mean over those that arrive alone would be too low."""
    return values.where(values.notnull().all("seed")).transpose("seed", ...)


def until(ds: xr.Dataset, what: str) -> str:
    """The axis label of an amount until the goal."""
    return f"{what} until f ≤ {ds.goal:g} · its start"


def rate_figure(ds: xr.Dataset) -> Figure:
    """Steps to the goal against the learning rate, wide and near the best constant step; and the path length."""
    fig = plotting.figure(11.0, 4.8)
    wide, near, way = fig.subplots(1, 3)
    for ax, what in ((wide, "steps"), (near, "steps"), (way, "way")):
        rate_panel(ax, ds.sel(bowl="valley"), what)
    limit, fewest = 2 / LARGEST, float(steps_at(factor_of_sgd(best_sgd(ds.condition), ds.condition), ds.goal))
    logarithmic = {"xscale": "log", "yscale": "log", "xlabel": "learning rate"}
    plotting.dress(wide, **logarithmic, ylabel=until(ds, "steps"), title="all rates", ylim=(5, None))
    plotting.dress(near, xlabel="learning rate", ylabel=until(ds, "steps"), title="near the best rate")
    near.set(xlim=(0.85 * limit, 1.02 * limit), ylim=(0, 2.5 * fewest))
    near.locator_params(axis="x", nbins=5)
    plotting.dress(way, **logarithmic, ylabel=until(ds, "path length"), title="path length", ylim=(5, 500))
    plotting.legend(fig, of=wide)
    mean = f"mean with its 95 % interval, where all starts arrive within {ds.horizon:,} steps"
    plotting.caption(fig, caption(ds, mean, "Momentum with α {alpha:g}; decay: lr/(1 + k/{decay})"))
    return fig


def rate_panel(ax: Axes, ds: xr.Dataset, what: str) -> None:
    """Steps or path length of every rule against the learning rate, with the exact theory of SGD."""
    rate = ds.lr.values
    for number, rule in enumerate(ds.rule.values):
        plotting.curve(ax, rate, arrived(ds[f"{what}_by_rate"].sel(rule=rule)).values, NAMES[rule], number)
    searched = ds[f"{what}_of_search"].expand_dims(lr=rate).transpose("seed", "lr")
    plotting.curve(ax, rate, searched.values, "exact line search", 3)
    if what == "steps":
        exact = [exact_steps(ds.start.values, lr, ds.condition, ds.goal, ds.horizon).mean() for lr in rate]
        slowest = steps_at(factor_of_sgd(rate, ds.condition), ds.goal)
        ax.plot(rate, exact, "k:", linewidth=1.8, label="SGD, exact")
        ax.plot(rate, slowest, color="0.5", linewidth=1, label="SGD, exact, slowest start")
    ax.axvline(2 / LARGEST, color="black", linewidth=0.9, linestyle="--", label="stability limit 2/L")
    ax.axvline(best_sgd(ds.condition), color="black", linewidth=0.9, linestyle="-.", label="best step 2/(L + μ)")


def marks(ax: Axes, x: np.ndarray, values: np.ndarray, label: str, number: int) -> None:
    """The mean over seeds of `values` `[S, n]` as marks with 95 % intervals."""
    mean, low, high = plotting.band(values)
    style = {"fmt": plotting.MARKERS[number], "color": plotting.color(number), "markersize": 4}
    ax.errorbar(x, mean, (mean - low, high - mean), label=label, **style)


def bowl_figure(ds: xr.Dataset) -> Figure:
    """What a step leaves of the distance to the minimum of a round bowl, against the learning rate."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "A step in a round bowl, κ = 1", "ηλ, learning rate · curvature", "factor of √f per step")
    size = LARGEST * ds.lr.values
    fine = np.geomspace(size[0], size[-1], 800)
    exact = {
        "sgd": factor_of_sgd(fine / LARGEST, 1.0),
        "momentum": factor_of_momentum(fine / LARGEST, ds.alpha, 1.0),
    }
    for number, name in enumerate(exact):
        measured = ds.factor_by_rate.sel(rule=name, bowl="round").transpose("seed", "lr")
        marks(ax, size, measured.values, f"{title(name)}, measured", number)
        ax.plot(fine, exact[name], color=plotting.color(number), linewidth=1.1, label=f"{title(name)}, exact")
    for bound in (1 - np.sqrt(ds.alpha), 1 + np.sqrt(ds.alpha)):
        ax.axvline(bound, color="0.5", linewidth=0.9, linestyle="--")
    ax.axvline(LARGEST * ds.momentum, color="black", linewidth=0.9, linestyle=":")
    ax.set(xscale="log", ylim=(0, 1.4))
    plotting.legend(fig, 2)
    dashed = "dashed: ηλ = 1 ∓ √α, between which Momentum is slower than SGD", "dotted: the notes' Momentum"
    start = "every seed a random start"
    plotting.caption(fig, figures.caption(ds, "Momentum with α {alpha:g}", start, "with 95 % intervals", *dashed))
    return fig


def condition_figure(ds: xr.Dataset) -> Figure:
    """The long-run factor and the steps to the goal against the condition number."""
    fig = plotting.figure(9.6, 4.8)
    left, right = fig.subplots(1, 2)
    kappa, fine = ds.kappa.values, np.geomspace(ds.kappa.values[0], ds.kappa.values[-1], 300)
    notes = f"lr {ds.momentum:g}"
    names = ("SGD, best lr", "Momentum, best lr and α", f"SGD, {notes}", f"Momentum, {notes}, α {ds.alpha:g}")
    for number, (tuning, name) in enumerate(zip(ds.tuning.values, names, strict=True)):
        exact, line = exact_factor(tuning, fine, ds), {"color": plotting.color(number), "linewidth": 1}
        one = ds.sel(tuning=tuning).transpose("seed", "kappa", ...)
        marks(left, kappa, 1 - one.factor_by_kappa.values, name, number)
        marks(right, kappa, arrived(one.steps_by_kappa).values, name, number)
        left.plot(fine, 1 - exact, **line)
        right.plot(fine, steps_at(exact, ds.goal), **line)
    logarithmic = {"xscale": "log", "yscale": "log", "xlabel": "condition number κ"}
    plotting.dress(left, **logarithmic, ylabel="1 − factor of √f per step")
    plotting.dress(right, **logarithmic, ylabel=until(ds, "steps"))
    right.set_ylim(0.8, 1.2 * ds.horizon)
    plotting.legend(fig, of=left, title="Descent of a valley by its condition number")
    start, marked = "every seed a random start on one level of f", "marks: measured, with 95 % intervals"
    exact = (
        "lines: the exact factor ρ, and the steps ln ε / 2 ln ρ of f ~ ρ²ᵏ (at its best parameters Momentum has √f ~ k "
        "ρᵏ instead and takes longer)"
    )
    plotting.caption(fig, f"f = x²/κ + y² · {figures.caption(ds, start, marked, exact)}")
    return fig


def needed(ds: xr.Dataset, rule: str, lr: float, bowl: str = "valley", what: str = "steps") -> xr.DataArray:
    """Steps to the goal, or another field of `Arrival`, at the grid's learning rate nearest to `lr`, `[seed]`."""
    return ds[f"{what}_by_rate"].sel(rule=rule, bowl=bowl, drop=True).sel(lr=lr, method="nearest", drop=True)


def searched(ds: xr.Dataset) -> xr.DataArray:
    """Steps of the exact line search in the valley, `[seed]`."""
    return ds.steps_of_search.sel(bowl="valley", drop=True)


def at_best(ds: xr.Dataset, rule: str, below: float = np.inf) -> xr.DataArray:
    """Steps to the goal of each seed at the learning rate of the grid, smaller than `below`, that needs the fewest in
    the mean over the other half of the seeds, `[seed]`; its coordinate `lr` is that rate."""
    steps = ds.steps_by_rate.sel(rule=rule, bowl="valley", drop=True)
    return lab.at_best(steps.where(steps.lr < below), steps.where(steps.lr < below), "lr", lower=True)


def best_rate(ds: xr.Dataset, rule: str, below: float = np.inf) -> float:
    """The learning rate of the grid, smaller than `below`, that needs the fewest steps in the mean over all seeds; NaN
    for none."""
    steps = arrived(ds.steps_by_rate.sel(rule=rule, bowl="valley")).mean("seed")
    return float(steps.where(steps.lr < below).idxmin())


def gain(faster: xr.DataArray, slower: xr.DataArray) -> xr.DataArray:
    """By how many steps, or how much path length, one is ahead of the other, paired by seed; a descent that does not
    arrive is the worst."""
    return xr.DataArray(paired(-faster.values, -slower.values), dims="seed")


def count(steps: xr.DataArray) -> str:
    """The mean number of steps, where every start arrived."""
    return f"{float(steps.mean()):.1f}" if np.isfinite(steps).all() else "more than the limit"


def rates_in_words(steps: xr.DataArray) -> str:
    """The learning rates that were chosen."""
    return " or ".join(f"{lr:.3g}" for lr in np.unique(steps.lr))


def than_the_notes(text: str, steps: Callable[[xr.Dataset], xr.DataArray], chosen: bool = False) -> lab.Claim:
    """Question §1.1: a way to descend in fewer steps than SGD at the notes' rate.

    chosen: whether its learning rate is chosen on the other half of the seeds.
    """
    notes = lambda ds: needed(ds, "sgd", ds.sgd)

    def detail(ds):
        rates = f" with lr {rates_in_words(steps(ds))}, chosen on the other half of the seeds" if chosen else ""
        return f"It needs {count(steps(ds))} steps{rates}; SGD at lr {ds.sgd:g} {count(notes(ds))}."

    return lab.Claim(
        f"{text} arrives in fewer steps than SGD at the notes' rate",
        lambda ds: gain(steps(ds), notes(ds)),
        lab.above(0.0),
        "steps",
        "question §1.1",
        "steps_against_lr",
        detail=detail,
    )


def shorter_way() -> lab.Claim:
    """Question §1.1: the path length with half of the notes' step."""
    way = lambda ds, lr: needed(ds, "sgd", lr, what="way")
    return lab.Claim(
        "SGD's path is shorter with half the notes' step than with the whole of it",
        lambda ds: gain(way(ds, ds.sgd / 2), way(ds, ds.sgd)),
        lab.above(0.0),
        "",
        "question §1.1",
        "steps_against_lr",
        detail=lambda ds: f"The effect is the path length at lr {ds.sgd:g} minus that at half of it.",
    )


def at_the_same_rate(share: float, at: str) -> lab.Claim:
    """Question §1.2: Momentum beside SGD in a round bowl at this share of Momentum's rate in the notes."""
    steps = lambda ds, rule: needed(ds, rule, share * ds.momentum, "round")

    def detail(ds):
        return (
            f"At lr {share * ds.momentum:g} it needs {count(steps(ds, 'momentum'))} steps with α {ds.alpha:g}, SGD "
            f"{count(steps(ds, 'sgd'))}. By theory it gains where ηλ, here {LARGEST * share * ds.momentum:g}, is below "
            f"1 − √α = {1 - np.sqrt(ds.alpha):.3f}."
        )

    return lab.Claim(
        f"In a round bowl Momentum arrives in fewer steps than SGD, both at {at} the notes' rate of Momentum",
        lambda ds: gain(steps(ds, "momentum"), steps(ds, "sgd")),
        lab.above(0.0),
        "steps",
        "question §1.2",
        "round_bowl",
        detail=detail,
    )


def gain_at_best(ds: xr.Dataset, kappa: float) -> xr.DataArray:
    """By how many steps Momentum is ahead of SGD, each at its best parameters by theory, near a condition number."""
    steps = ds.steps_by_kappa.sel(kappa=kappa, method="nearest", drop=True)
    return steps.sel(tuning="sgd, best", drop=True) - steps.sel(tuning="momentum, best", drop=True)


def straight(ds: xr.Dataset, rule: str) -> xr.DataArray:
    """Whether a rule goes to the minimum of a round bowl without going past it, at the notes' rate of Momentum."""
    return ~needed(ds, rule, ds.momentum, "round", "crossed").astype(bool)


def smaller_steps(ds: xr.Dataset) -> str:
    """The answer to question §1.1: steps and path length against the learning rate."""
    lr = ds.sgd
    notes, half = needed(ds, "sgd", lr), needed(ds, "sgd", lr / 2)
    ways = (float(needed(ds, "sgd", rate, what="way").mean()) for rate in (lr, lr / 2))
    best = {rule: best_rate(ds, rule) for rule in ("sgd", "momentum")}
    fewest = {
        rule: f"{count(needed(ds, rule, rate))}, at lr {rate:.3g}" if np.isfinite(rate) else "unknown (not all arrive)"
        for rule, rate in best.items()
    }
    return (
        f"Half the notes' step needs {in_words(gain(half, notes), FEWER)} steps, {count(half)} beside {count(notes)}; "
        "the path to the goal is {1:.1f} long with it and {0:.1f} at the notes' step. ".format(*ways)
        + f"The fewest steps on the grid are {fewest['sgd']}: theory puts the best rate for the slowest start at "
        f"2/(L + μ) = {best_sgd(ds.condition):.3g} and the end of stability at 2/L = {2 / LARGEST:g}. Decay from the "
        f"notes' rate on needs {count(needed(ds, 'decay', lr))}, Momentum with α {ds.alpha:g} at its best "
        f"{fewest['momentum']}, an exact line search {count(searched(ds))}."
    )


FEWER = ("fewer", "more", "not clearly more or fewer")


def round_bowls(ds: xr.Dataset) -> str:
    """The answer to question §1.2: Momentum beside SGD from κ = 1 upwards."""
    lr = ds.momentum
    best = [ds.steps_by_kappa.sel(tuning=f"{name}, best") for name in ("sgd", "momentum")]
    first, last = ([one.isel(kappa=i) for one in best] for i in (0, -1))
    helps = in_words(gain(first[1], first[0]), ("it helps", "it harms", "it neither helps nor harms"))
    swings = 1 - float(straight(ds, "momentum").mean())
    fixed = []
    for rate in (lr, lr / 10):
        sgd, momentum = (needed(ds, rule, rate, "round") for rule in ("sgd", "momentum"))
        words = in_words(gain(momentum, sgd), FEWER)
        fixed.append(f"{words} at lr {rate:g} ({count(momentum)} beside {count(sgd)})")
    return (
        f"Momentum at its best parameters needs {count(first[1])} and SGD at its best rate {count(first[0])} steps at "
        f"κ = 1, so {helps} there; at κ = {float(ds.kappa[-1]):g} they need {count(last[1])} and {count(last[0])}. By "
        f"theory the factors per step are (√κ − 1)/(√κ + 1) and (κ − 1)/(κ + 1). With α {ds.alpha:g} in a round bowl "
        f"Momentum's steps, compared with SGD's at the same rate, are {fixed[0]} and {fixed[1]}; at lr {lr:g} it goes"
        f" past the minimum from {swings:.0%} of the starts."
    )


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The notes' two questions about how fast a valley is descended."""
    n = ds.sizes["seed"]
    smaller, isotropic = "Would smaller SGD steps be more efficient in the valley?", "What if the bowl is isotropic?"
    return [
        lab.Answer(smaller, smaller_steps(ds), "steps_against_lr", n, "question §1.1"),
        lab.Answer(isotropic, round_bowls(ds), "condition_number", n, "question §1.2"),
    ]


EXPERIMENT = lab.Experiment(
    question="How do the learning rate and the shape of a valley set how fast it is descended?",
    source="notes §1.1 and §1.2",
    says="The notes ask whether smaller SGD steps would be better, and what happens on an isotropic bowl.",
    method="Counts the steps that SGD, SGD with a decaying learning rate, Momentum and an exact line search need to a "
    "goal in f(x, y) = x²/κ + y², from random starts on one level of f, in float64: against the learning rate in the "
    "notes' valley and in a round bowl, then against the condition number κ. Claims compare the steps from the same "
    "starts. The measurements are compared with the exact theory of quadratics: SGD's steps from every start, its "
    "stability limit and best rate, and the factor by which √f shrinks per step. The paths themselves are drawn by "
    "optimizer_paths.",
    takes="about 20 seconds on two cores",
    config=Config,
    quick={"seeds": 20, "horizon": 500, "rates": 20, "conditions": 5},
    run=run,
    claims=(
        than_the_notes("SGD with half the notes' step", lambda ds: needed(ds, "sgd", ds.sgd / 2)),
        than_the_notes("SGD with the best smaller step of the grid", lambda ds: at_best(ds, "sgd", ds.sgd), True),
        than_the_notes("SGD with learning-rate decay from the notes' rate on", lambda ds: needed(ds, "decay", ds.sgd)),
        than_the_notes("Steepest descent with an exact line search", searched),
        than_the_notes("Momentum at its best rate of the grid", lambda ds: at_best(ds, "momentum"), True),
        shorter_way(),
        at_the_same_rate(1.0, "all of"),
        at_the_same_rate(0.1, "a tenth of"),
        lab.Claim(
            "In a round bowl Momentum at its best parameters arrives in fewer steps than SGD at its best rate, from "
            "most starts",
            lambda ds: gain_at_best(ds, 1.0) > 0,
            lab.share(0.5),
            source="question §1.2",
            figure="condition_number",
            detail="By theory the best α is 0 there.",
        ),
        lab.Claim(
            "In the valley Momentum at its best parameters arrives in fewer steps than SGD at its best rate",
            lambda ds: gain_at_best(ds, ds.condition),
            lab.above(0.0),
            "steps",
            "question §1.2",
            "condition_number",
            detail=lambda ds: f"κ = {float(ds.kappa.sel(kappa=ds.condition, method='nearest')):.3g}, of the log grid.",
        ),
        lab.Claim(
            "In a round bowl Momentum never passes the minimum at the notes' rate",
            lambda ds: straight(ds, "momentum"),
            lab.always(),
            source="question §1.2",
            figure="round_bowl",
            detail=lambda ds: f"SGD does not from {100 * float(straight(ds, 'sgd').mean()):.0f} %.",
        ),
    ),
    figures={"steps_against_lr": rate_figure, "round_bowl": bowl_figure, "condition_number": condition_figure},
    answers=answers,
)

if __name__ == "__main__":
    EXPERIMENT.main()
