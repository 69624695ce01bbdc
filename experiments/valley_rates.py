"""How do the learning rate and the shape of a valley set how fast it is descended? (notes §1.1 and §1.2)

Counts the steps that SGD, SGD with a decaying learning rate, Momentum and an exact line search need to a goal in
f(x, y) = x²/κ + y², from random starts on one level of f, in float64: against the learning rate in the notes' valley
and in a round bowl, then against the condition number κ. Beside them stands the exact theory of quadratics: SGD's
steps from every start, its limit of stability and best rate, and the factor by which √f shrinks a step.

The notes ask whether smaller SGD steps would be better, and what happens on an isotropic bowl. The paths themselves
are those of `optimizer_paths`.

Takes about 12 seconds on two cores.
"""

import sys
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

from experiments import _cli, _lab, _valley
from experiments._valley import (
    LARGEST,
    Path,
    about,
    book,
    curvatures,
    descend,
    factor_of_momentum,
    factor_of_sgd,
    random_starts,
    told,
    tuned,
)
from experiments.loss_surface import valley
from fnn import schedules
from fnn.base.errors import require
from fnn.base.statistics import paired
from fnn.base.types import Hyper, Keys
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide, decide_share
from fnn.nn.instruments import hessian_vector
from fnn.rule import Rule
from fnn.train import engine

BOWLS = ("round", "valley")
AT_ONCE = 8
"""Settings of a sweep that descend together: more would be faster and take more memory."""
DEEPEST = 250.0
"""√f is followed down to e^−250 of its start, well above the smallest float64."""


@dataclass(frozen=True)
class Config(_valley.Config):
    """Settings of the descents; the defaults are the notes'."""

    goal: float = 1e-3
    """A descent has arrived once f stays below this share of its start."""
    horizon: int = 2000
    """Steps after which a descent that has not arrived is given up."""
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


QUICK = Config(seeds=20, horizon=500, rates=20, conditions=5, quick=True, dataset="mnist_5k")


class Family(NamedTuple):
    """A rule at many settings: hyperparameters and condition numbers of the valley, every leaf `[settings]`."""

    rule: Rule
    hyper: Hyper
    condition: np.ndarray


def family(rule: Rule, lr: Any, alpha: Any, condition: Any) -> Family:
    """The rule at these learning rates, momenta (where it has any) and condition numbers, which go side by side."""
    lr, alpha, condition = np.broadcast_arrays(*map(np.float64, (lr, alpha, condition)))
    hyper = jax.tree.map(lambda value: np.broadcast_to(np.float64(value), lr.shape), tuned(rule, lr, alpha))
    return Family(rule, hyper, condition)


def rate_grid(cfg: Config) -> np.ndarray:
    """The log grid of learning rates, a fine one around the best constant step, and the rates asked about."""
    asked = [cfg.sgd, cfg.sgd / 2, cfg.momentum, cfg.momentum / 10, float(best_sgd(cfg.condition))]
    around = np.linspace(0.85, 1.02, cfg.rates // 2) * 2 / LARGEST
    return np.unique(np.concatenate([np.geomspace(0.01, 2.5, cfg.rates), around, asked]))


def methods(cfg: Config) -> dict[str, Family]:
    """What runs at every learning rate of the grid, in a round bowl (κ = 1) and in the valley."""
    lr = np.tile(rate_grid(cfg), 2)
    condition = np.repeat([1.0, cfg.condition], len(lr) // 2)
    rules = {"sgd": book("sgd"), "decay": decaying(book("sgd"), cfg), "momentum": book("momentum")}
    return {name: family(rule, lr, cfg.alpha, condition) for name, rule in rules.items()}


def tunings(cfg: Config) -> dict[str, Family]:
    """What runs at every condition number: SGD and Momentum, at their best and at the notes' settings."""
    condition = np.geomspace(1, 1000, cfg.conditions)
    sgd, momentum = book("sgd"), book("momentum")
    return {
        "sgd, best": family(sgd, best_sgd(condition), 0, condition),
        "momentum, best": family(momentum, *best_momentum(condition), condition),
        "sgd, notes": family(sgd, cfg.momentum, 0, condition),
        "momentum, notes": family(momentum, cfg.momentum, cfg.alpha, condition),
    }


def line_searches(cfg: Config) -> Family:
    """What needs no learning rate, in both bowls."""
    bowls = np.array([1.0, cfg.condition])
    return Family(LINE_SEARCH, Searched(bowls), bowls)


def best_sgd(condition: Any) -> Any:
    """The best constant learning rate 2/(L + μ); its factor a step is (κ − 1)/(κ + 1). Polyak 1964."""
    return 2 / (LARGEST + LARGEST / condition)


def best_momentum(condition: Any) -> tuple[Any, Any]:
    """(lr, α) = (4/(√L + √μ)², ((√κ − 1)/(√κ + 1))²); the factor a step is √α. Polyak 1964."""
    root = np.sqrt(condition)
    return 4 / (np.sqrt(LARGEST) * (1 + 1 / root)) ** 2, ((root - 1) / (root + 1)) ** 2


def decaying(rule: Rule, cfg: Config) -> Rule:
    """The rule with learning rate lr/(1 + k/decay) at step k."""
    shape = lambda progress: 1 / (1 + progress.t / cfg.decay)
    return schedules.scheduled(rule, schedules.on("lr", shape), cfg.horizon)


class Searched(NamedTuple):
    """condition: that of the valley which a line search looks along."""

    condition: Any


def search(hp: Searched, g: Array, state: Any, w: Array, extra: Any = None) -> tuple[Array, Any]:
    """Steepest descent with the exact best step of a quadratic, t = g·g / g·Hg. Cauchy 1847; no learning rate."""
    bend = jnp.vdot(g, hessian_vector(lambda w: valley(w, hp.condition), w, g))
    return -jnp.where(bend > 0, jnp.vdot(g, g) / jnp.where(bend > 0, bend, 1), 0) * g, state


LINE_SEARCH = Rule(Searched(1.0), lambda hp, w: (), search)


class Arrival(NamedTuple):
    """How a descent went.

    steps, way: steps done and way walked until it arrived; NaN where it did not.
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
    way = jnp.where(jnp.arange(len(path.update)) < steps, jnp.hypot(*path.update.T), 0).sum()
    there = lambda value: jnp.where(far[-1], jnp.nan, value)
    crossed = (path.place[1:] * path.place[:-1] < 0).any()
    return Arrival(there(steps), there(way), long_run_factor(path.value), crossed)


def long_run_factor(value: Float[Array, " n"]) -> Float[Array, ""]:
    """ρ of √f ~ kᵐ ρᵏ, by least squares on log √f = a + k log ρ + m log k from a tenth of the way on.

    The power of k is there for Momentum at its best parameters, whose matrix is defective: √f ~ k ρᵏ.
    0 where f is at 0 at once.
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


def run(cfg: Config) -> xr.Dataset:
    """All arrivals, from one compiled program, in float64."""
    with jax.enable_x64(True):
        families = methods(cfg) | tunings(cfg) | {"line search": line_searches(cfg)}
        _valley.headline(cfg, sum(len(one.condition) for one in families.values()))
        keys = engine.seeds(cfg.seeds)
        starts = np.asarray(random_starts(cfg, keys, cfg.condition))
        return label(cfg, starts, jax.tree.map(np.asarray, measure(cfg, families, keys)))


def measure(cfg: Config, families: Mapping[str, Family], keys: Keys) -> Mapping[str, Arrival]:
    """How every setting arrives from every start, `[settings, starts]`."""
    rules = {name: one.rule for name, one in families.items()}

    @jax.jit
    def program(settings, keys):
        def arrive(rule, setting):
            hyper, condition = setting
            go = lambda start: arrival(descend(rule, hyper, condition, start, cfg.horizon), cfg.goal)
            return jax.vmap(go)(random_starts(cfg, keys, condition))

        return each(arrive, rules, settings)

    return program({name: (one.hyper, one.condition) for name, one in families.items()}, keys)


def each(f: Callable[[Rule, Any], Any], rules: Mapping[str, Rule], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`f(rule, setting)` over all settings of every name, those of one rule together: it is compiled once a rule."""
    found = {}
    for rule in dict.fromkeys(rules[name] for name in settings):
        mine = {name: setting for name, setting in settings.items() if rules[name] == rule}
        joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *mine.values())
        # Some once more, to whole batches: what is left over would be compiled on its own.
        n = sum(len(condition) for _, condition in mine.values())
        joined = jax.tree.map(lambda a, n=n: a[np.arange(-(-n // AT_ONCE) * AT_ONCE) % n], joined)
        done = jax.lax.map(lambda setting, rule=rule: f(rule, setting), joined, batch_size=AT_ONCE)
        first = 0
        for name, (_, condition) in mine.items():
            here = slice(first, first := first + len(condition))
            found[name] = jax.tree.map(lambda a, here=here: a[here], done)
    return found


def label(cfg: Config, starts: np.ndarray, arrivals: Mapping[str, Arrival]) -> xr.Dataset:
    """Everything as one labelled data set; `start` is where the descents of the valley begin."""
    rates, tuned_to = rate_grid(cfg), tunings(cfg)
    ds = xr.Dataset(
        {"start": (("seed", "axis"), starts)},
        {
            "seed": np.arange(cfg.seeds),
            "axis": ["x", "y"],
            "rule": list(methods(cfg)),
            "bowl": list(BOWLS),
            "rate": rates,
            "tuning": list(tuned_to),
            "kappa": tuned_to["sgd, best"].condition,
        },
        {
            **{
                name: getattr(cfg, name)
                for name in ("condition", "sgd", "momentum", "alpha", "goal", "horizon", "decay")
            },
            "complete": 1,
        },
    )
    for what, units in {"steps": "steps", "way": "", "factor": "1 per step", "crossed": ""}.items():
        of = lambda names, what=what: np.stack([getattr(arrivals[name], what) for name in names])
        by_rate = of(methods(cfg)).reshape(-1, len(BOWLS), len(rates), cfg.seeds)
        ds[f"{what}_by_rate"] = ("rule", "bowl", "rate", "seed"), by_rate, {"units": units}
        ds[f"{what}_by_kappa"] = ("tuning", "kappa", "seed"), of(tuned_to), {"units": units}
        ds[f"{what}_of_search"] = ("bowl", "seed"), getattr(arrivals["line search"], what), {"units": units}
    return ds


def exact_factor(tuning: str, condition: np.ndarray, ds: xr.Dataset) -> np.ndarray:
    """What theory says of √f's factor a step at these condition numbers."""
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
    """The steps that SGD takes from each start `[…, 2]` until f ≤ `goal` · its start; NaN where that is never.

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


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """A figure a question, and one that explains the round bowl."""
    return {
        "steps_against_lr": rate_figure(ds),
        "round_bowl": bowl_figure(ds),
        "condition_number": condition_figure(ds),
    }


NAMES = {"sgd": "SGD, constant", "decay": "SGD, decaying", "momentum": "Momentum"}


def arrived(values: xr.DataArray) -> xr.DataArray:
    """`values` `[seed, …]` where every start arrived: a mean over the quick ones alone would flatter."""
    return values.where(values.notnull().all("seed")).transpose("seed", ...)


def until(ds: xr.Dataset, what: str) -> str:
    """Such an amount, until the goal."""
    return f"{what} until f ≤ {ds.goal:g} · its start"


def rate_figure(ds: xr.Dataset) -> Figure:
    """Steps to the goal against the learning rate, wide and near the best constant step; and the way walked."""
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
    plotting.dress(way, **logarithmic, ylabel=until(ds, "way walked"), title="the way", ylim=(5, 500))
    plotting.legend(fig, of=wide)
    plotting.caption(
        fig,
        f"{about(ds)}; mean with its 95 % interval, where all starts arrive within "
        f"{ds.horizon:,} steps; Momentum with α {ds.alpha:g}; decay: lr/(1 + k/{ds.decay})",
    )
    return fig


def rate_panel(ax: Axes, ds: xr.Dataset, what: str) -> None:
    """Steps or way of every rule against the learning rate, with the exact theory of SGD."""
    rate = ds.rate.values
    for number, rule in enumerate(ds.rule.values):
        plotting.curve(ax, rate, arrived(ds[f"{what}_by_rate"].sel(rule=rule)).values, NAMES[rule], number)
    searched = ds[f"{what}_of_search"].expand_dims(rate=rate).transpose("seed", "rate")
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
    look = {"fmt": plotting.MARKERS[number], "color": plotting.colour(number), "markersize": 4}
    ax.errorbar(x, mean, (mean - low, high - mean), label=label, **look)


def bowl_figure(ds: xr.Dataset) -> Figure:
    """What a step leaves of the distance to the minimum of a round bowl, against the learning rate."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "A step in a round bowl, κ = 1", "ηλ, learning rate · curvature", "factor of √f a step")
    size = LARGEST * ds.rate.values
    fine = np.geomspace(size[0], size[-1], 800)
    exact = {
        "sgd": factor_of_sgd(fine / LARGEST, 1.0),
        "momentum": factor_of_momentum(fine / LARGEST, ds.alpha, 1.0),
    }
    for number, name in enumerate(exact):
        measured = ds.factor_by_rate.sel(rule=name, bowl="round").transpose("seed", "rate")
        marks(ax, size, measured.values, f"{_lab.title(name)}, measured", number)
        ax.plot(fine, exact[name], color=plotting.colour(number), linewidth=1.1, label=f"{_lab.title(name)}, exact")
    for bound in (1 - np.sqrt(ds.alpha), 1 + np.sqrt(ds.alpha)):
        ax.axvline(bound, color="0.5", linewidth=0.9, linestyle="--")
    ax.axvline(LARGEST * ds.momentum, color="black", linewidth=0.9, linestyle=":")
    ax.set(xscale="log", ylim=(0, 1.4))
    plotting.legend(fig, 2)
    plotting.caption(
        fig,
        f"{_lab.about(ds, f'Momentum with α {ds.alpha:g}', 'every seed a random start')}; with 95 % intervals; "
        "dashed: ηλ = 1 ∓ √α, between which Momentum is slower than SGD; dotted: the notes' Momentum",
    )
    return fig


def condition_figure(ds: xr.Dataset) -> Figure:
    """The long-run factor and the steps to the goal against the condition number."""
    fig = plotting.figure(9.6, 4.8)
    left, right = fig.subplots(1, 2)
    kappa, fine = ds.kappa.values, np.geomspace(ds.kappa.values[0], ds.kappa.values[-1], 300)
    notes = f"lr {ds.momentum:g}"
    names = ("SGD, best lr", "Momentum, best lr and α", f"SGD, {notes}", f"Momentum, {notes}, α {ds.alpha:g}")
    for number, (tuning, name) in enumerate(zip(ds.tuning.values, names, strict=True)):
        exact, line = exact_factor(tuning, fine, ds), {"color": plotting.colour(number), "linewidth": 1}
        one = ds.sel(tuning=tuning).transpose("seed", "kappa", ...)
        marks(left, kappa, 1 - one.factor_by_kappa.values, name, number)
        marks(right, kappa, arrived(one.steps_by_kappa).values, name, number)
        left.plot(fine, 1 - exact, **line)
        right.plot(fine, steps_at(exact, ds.goal), **line)
    logarithmic = {"xscale": "log", "yscale": "log", "xlabel": "condition number κ"}
    plotting.dress(left, **logarithmic, ylabel="1 − factor of √f a step")
    plotting.dress(right, **logarithmic, ylabel=until(ds, "steps"))
    right.set_ylim(0.8, 1.2 * ds.horizon)
    plotting.legend(fig, of=left)
    plotting.caption(
        fig,
        f"{_lab.about(ds, 'f = x²/κ + y²', 'every seed a random start on one level of f')}; marks: measured, with 95 % "
        "intervals; lines: the exact factor ρ, and the steps ln ε / 2 ln ρ of f ~ ρ²ᵏ (at its best parameters Momentum "
        "has √f ~ k ρᵏ instead and takes longer)",
    )
    return fig


def needed(ds: xr.Dataset, rule: str, lr: float, bowl: str = "valley", what: str = "steps") -> np.ndarray:
    """Steps to the goal, or another field of `Arrival`, at the grid's learning rate nearest to `lr`, `[seed]`."""
    return ds[f"{what}_by_rate"].sel(rule=rule, bowl=bowl).sel(rate=lr, method="nearest").values


def best_rate(ds: xr.Dataset, rule: str, below: float = np.inf) -> float:
    """The learning rate of the grid, smaller than `below`, that needs the fewest steps in the mean; NaN for none."""
    steps = arrived(ds.steps_by_rate.sel(rule=rule, bowl="valley")).mean("seed")
    steps = steps.where(steps.rate < below)
    return float(steps.idxmin())


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """What the notes' two questions come down to."""
    return [*smaller_steps(ds), *round_bowls(ds)]


def smaller_steps(ds: xr.Dataset) -> list[Verdict]:
    """Question §1.1, what it comes down to."""
    lr, ends = ds.sgd, "[{low}, {high}], {seeds} paired starts"
    notes, way = needed(ds, "sgd", lr), needed(ds, "sgd", lr, what="way")
    return [
        decide(
            f"{claim} in fewer steps than SGD at lr {lr:g}",
            paired(-steps, -notes),
            "steps",
            f"It needs {steps.mean():.1f} steps, SGD at lr {lr:g} {notes.mean():.1f}, a gain of {{effect}} {ends}.",
            "question §1.1",
        )
        for claim, steps in rivals(ds)
    ] + [
        decide(
            f"SGD with half the notes' step, lr {lr / 2:g}, walks a shorter way than at lr {lr:g}",
            paired(-needed(ds, "sgd", lr / 2, what="way"), -way),
            "",
            f"The way at lr {lr:g} less that at half of it: {{effect}} {ends}.",
            "question §1.1",
        )
    ]


def rivals(ds: xr.Dataset) -> list[tuple[str, np.ndarray]]:
    """What might arrive sooner than SGD at the notes' rate, each with its steps; none that never arrives."""
    lr = ds.sgd
    found = [(f"SGD with half the notes' step, lr {lr / 2:g}, arrives", needed(ds, "sgd", lr / 2))]
    if np.isfinite(better := best_rate(ds, "sgd", lr)):
        found.append(
            (f"SGD with the best smaller step of the grid, lr {better:.3g}, arrives", needed(ds, "sgd", better))
        )
    found += [
        (f"SGD with learning-rate decay from the notes' {lr:g} on arrives", needed(ds, "decay", lr)),
        ("Steepest descent with an exact line search arrives", ds.steps_of_search.sel(bowl="valley").values),
    ]
    if np.isfinite(best := best_rate(ds, "momentum")):
        claim = f"Momentum with α {ds.alpha:g} at its best rate of the grid, {best:.3g}, arrives"
        found.append((claim, needed(ds, "momentum", best)))
    return found


def round_bowls(ds: xr.Dataset) -> list[Verdict]:
    """Question §1.2, the isotropic bowl: whether Momentum speeds up there, and whether it swings."""
    return [*(at_the_same_rate(ds, lr) for lr in (ds.momentum, ds.momentum / 10)), *at_their_best(ds), no_swing(ds)]


def at_the_same_rate(ds: xr.Dataset, lr: float) -> Verdict:
    """Momentum beside SGD in a round bowl."""
    sgd, momentum = (needed(ds, rule, lr, "round") for rule in ("sgd", "momentum"))
    return decide(
        f"In a round bowl Momentum with α {ds.alpha:g} arrives in fewer steps than SGD at the same lr {lr:g}",
        paired(-momentum, -sgd),
        "steps",
        f"It needs {momentum.mean():.0f} steps, SGD {sgd.mean():.0f}: a gain of {{effect}} [{{low}}, {{high}}] "
        f"from every start. By theory it gains where ηλ, here {LARGEST * lr:g}, is below 1 − √α = "
        f"{1 - np.sqrt(ds.alpha):.3f}.",
        "question §1.2",
    )


def at_their_best(ds: xr.Dataset) -> list[Verdict]:
    """Momentum beside SGD, each at its best parameters, in a round bowl and in the valley."""
    gain = ds.steps_by_kappa.sel(tuning="sgd, best") - ds.steps_by_kappa.sel(tuning="momentum, best")
    near = gain.sel(kappa=ds.condition, method="nearest")
    return [
        decide_share(
            "In a round bowl Momentum at its best parameters arrives in fewer steps than SGD at its best rate",
            gain.sel(kappa=1, method="nearest").values > 0,
            0.5,
            "It does from {effect} % [{low}, {high}] of {seeds} starts: by theory the best α is 0 there.",
            "question §1.2",
        ),
        decide(
            f"At κ = {float(near.kappa):.3g} Momentum at its best arrives in fewer steps than SGD at its best",
            near.values,
            "steps",
            "The difference is {effect} {unit} [{low}, {high}], {seeds} paired starts.",
            "question §1.2",
        ),
    ]


def no_swing(ds: xr.Dataset) -> Verdict:
    """Whether Momentum goes straight to the minimum of a round bowl, as SGD does."""
    sgd, momentum = (~needed(ds, rule, ds.momentum, "round", "crossed") for rule in ("sgd", "momentum"))
    return decide_share(
        f"In a round bowl Momentum, lr {ds.momentum:g}, never swings past the minimum",
        momentum,
        0.5,
        "It does not from {effect} % [{low}, {high}] of {seeds} starts; SGD at the same rate does not from "
        f"{100 * sgd.mean():.0f} %.",
        "question §1.2",
    )


def answers(ds: xr.Dataset) -> list[Answer]:
    """The notes' two questions about how fast a valley is descended."""
    return [
        Answer(question, say(ds), figure, ds.sizes["seed"], source)
        for question, say, figure, source in (
            (
                "Would smaller SGD steps be more efficient in the valley?",
                on_smaller_steps,
                "steps_against_lr",
                "question §1.1",
            ),
            ("What if the bowl is isotropic?", on_round_bowls, "condition_number", "question §1.2"),
        )
    ]


def count(steps: np.ndarray) -> str:
    """The mean number of steps, where every start arrived."""
    return f"{steps.mean():.0f}" if np.isfinite(steps).all() else "more than are counted"


FEWER = ("fewer", "more", "not clearly more or fewer")


def on_smaller_steps(ds: xr.Dataset) -> str:
    """Question §1.1: steps and way against the learning rate."""
    lr = ds.sgd
    notes, half = needed(ds, "sgd", lr), needed(ds, "sgd", lr / 2)
    ways = (needed(ds, "sgd", rate, what="way").mean() for rate in (lr, lr / 2))
    best = {rule: best_rate(ds, rule) for rule in ("sgd", "momentum")}
    fewest = {
        rule: f"{count(needed(ds, rule, rate))}, at lr {rate:.3g}" if np.isfinite(rate) else "unknown (not all arrive)"
        for rule, rate in best.items()
    }
    return (
        f"Half the notes' step needs {told(paired(-half, -notes), FEWER)} steps, {count(half)} beside {count(notes)}; "
        "the way to the goal is {1:.1f} long with it and {0:.1f} at the notes' step. ".format(*ways)
        + f"The fewest steps on the grid are {fewest['sgd']}: theory puts the best rate for the slowest start at "
        f"2/(L + μ) = {best_sgd(ds.condition):.3g} and the end of stability at 2/L = {2 / LARGEST:g}. Decay from the "
        f"notes' rate on needs {count(needed(ds, 'decay', lr))}, Momentum with α {ds.alpha:g} at its best "
        f"{fewest['momentum']}, an exact line search {count(ds.steps_of_search.sel(bowl='valley').values)}."
    )


def on_round_bowls(ds: xr.Dataset) -> str:
    """Question §1.2: Momentum beside SGD from κ = 1 upwards."""
    lr = ds.momentum
    best = [ds.steps_by_kappa.sel(tuning=f"{name}, best") for name in ("sgd", "momentum")]
    first, last = ([one.isel(kappa=i).values for one in best] for i in (0, -1))
    helps = told(paired(-first[1], -first[0]), ("it helps", "it harms", "it neither helps nor harms"))
    swings = needed(ds, "momentum", lr, "round", "crossed")
    fixed = []
    for rate in (lr, lr / 10):
        sgd, momentum = (needed(ds, rule, rate, "round") for rule in ("sgd", "momentum"))
        fixed.append(f"{told(paired(-momentum, -sgd), FEWER)} at lr {rate:g} ({count(momentum)} beside {count(sgd)})")
    return (
        f"Momentum at its best parameters needs {count(first[1])} and SGD at its best rate {count(first[0])} steps at "
        f"κ = 1, so {helps} there; at κ = {float(ds.kappa[-1]):g} they need {count(last[1])} and {count(last[0])}. By "
        f"theory the factors a step are (√κ − 1)/(√κ + 1) and (κ − 1)/(κ + 1). With α {ds.alpha:g} in a round bowl "
        f"Momentum's steps, compared with SGD's at the same rate, are {fixed[0]} and {fixed[1]}; at lr {lr:g} it goes"
        f" past the minimum from {swings.mean():.0%} of the starts."
    )


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
