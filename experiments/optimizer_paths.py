"""Which way does each update rule take down a long valley? (notes §1.1–1.4, figures 03, 04 and 05)

Follows SGD, Momentum, AdaGrad, Adam, RMSProp and Nesterov for 30 steps down f(x, y) = x²/20 + y² from the notes' start
(−7, 2) and from random starts on the same level of f, in float64. Then it counts the steps to a goal against the
learning rate and against the condition number κ of x²/κ + y², beside the exact theory of quadratics: a direction of
curvature λ shrinks by |1 − ηλ| a step under SGD, and by the largest root of r² − (1 + α − ηλ) r + α under Momentum.

The notes say: SGD zigzags; Momentum damps y and speeds up x; AdaGrad shrinks the steps along y. They ask whether
smaller SGD steps would be better, whether αv is smaller than η∇L, and what happens on an isotropic bowl.
The notes leave Adam (§1.4) empty and only mention RMSProp: both are run here, and Nesterov with them. RMSProp's
learning rate makes its first step, lr/√(1 − ρ), as long as AdaGrad's; Nesterov has Momentum's.

Takes about 20 seconds on two cores.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _cli, _lab
from experiments.loss_surface import valley
from fnn import optim, plotting, results, schedules, sweep
from fnn.errors import require
from fnn.instruments import hessian_vector
from fnn.rule import Rule, apply_updates
from fnn.types import Hyper
from fnn.verdicts import Answer, Verdict, decide, decide_share, interval

SIX = ("sgd", "momentum", "adagrad", "adam", "rmsprop", "nesterov")
FIGURES = {"sgd": "03_sgd", "momentum": "04_momentum", "adagrad": "05_adagrad"}
LARGEST = 2.0
"""L, the curvature along y, the same in every valley x²/κ + y²; the curvature along x is L/κ."""
AT_ONCE = 8
"""Settings of a sweep that descend together: more would be faster and take more memory."""
DEEPEST = 250.0
"""√f is followed down to e^−250 of its start, well above the smallest float64."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the descents; the defaults are the notes'."""

    seeds: int = 100
    """Random starts on the level of the notes' start, each from a key of its own. No data set is used."""
    steps: int = 30
    """Updates of a path."""
    x: float = -7.0
    """Where the notes start along x."""
    y: float = 2.0
    """Where the notes start along y."""
    condition: float = 20.0
    """The valley is x²/condition + y²."""
    sgd: float = 0.95
    """Learning rate of SGD."""
    momentum: float = 0.1
    """Learning rate of Momentum."""
    adagrad: float = 1.5
    """Learning rate of AdaGrad."""
    adam: float = 0.3
    """Learning rate of Adam."""
    rmsprop: float = 0.15
    """Learning rate of RMSProp."""
    nesterov: float = 0.1
    """Learning rate of Nesterov."""
    alpha: float = 0.9
    """What Momentum and Nesterov keep of their velocity each step."""
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
        for name, least in (("steps", 2), ("horizon", 20), ("rates", 2), ("conditions", 2), ("decay", 1)):
            value = getattr(self, name)
            require(value >= least, f"--{name} is at least {least}, not {value}.")
        for name in SIX:
            value = getattr(self, name)
            require(0 < value < np.inf, f"--{name} is a learning rate above 0, not {value}.")
        require(1 <= self.condition < np.inf, f"--condition is at least 1, not {self.condition}.")
        require(0 <= self.alpha < 1, f"--alpha is at least 0 and below 1, not {self.alpha}.")
        require(0 < self.goal < 1, f"--goal is a share between 0 and 1, not {self.goal}.")
        start = np.array([self.x, self.y])
        require(bool(np.isfinite(start).all() and start.any()), "--x and --y name a place other than the minimum.")


QUICK = Config(seeds=20, horizon=500, rates=20, conditions=5, quick=True, dataset="mnist_5k")


class Family(NamedTuple):
    """A rule at many settings: hyperparameters and condition numbers of the valley, every leaf `[settings]`."""

    rule: Rule
    hyper: Hyper
    condition: np.ndarray


def book(name: str) -> Rule:
    """The rule as the notes write it."""
    return optim.rule(f"{name}:book")


def family(rule: Rule, lr: Any, alpha: Any, condition: Any) -> Family:
    """The rule at these learning rates, momenta (where it has any) and condition numbers, which go side by side."""
    lr, alpha, condition = np.broadcast_arrays(*map(np.float64, (lr, alpha, condition)))
    fixed = {name: np.full(lr.shape, value) for name, value in rule.hyper._asdict().items()}
    given = {"lr": lr, "mu": alpha}
    return Family(rule, type(rule.hyper)(**fixed | {k: v for k, v in given.items() if k in fixed}), condition)


def contenders(cfg: Config) -> dict[str, Family]:
    """Whose paths are followed: the six rules, and what Momentum is compared with (at the other's rate, in a bowl)."""
    settings = {name: (getattr(cfg, name), cfg.condition) for name in SIX} | {
        "sgd@momentum": (cfg.momentum, cfg.condition),
        "momentum@sgd": (cfg.sgd, cfg.condition),
        "sgd@bowl": (cfg.momentum, 1.0),
        "momentum@bowl": (cfg.momentum, 1.0),
    }
    return {
        name: family(book(name.partition("@")[0]), [lr], cfg.alpha, condition)
        for name, (lr, condition) in settings.items()
    }


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


def best_sgd(condition: Any) -> Any:
    """The best constant learning rate 2/(L + μ); its factor a step is (κ − 1)/(κ + 1). Polyak 1964."""
    return 2 / (LARGEST + LARGEST / condition)


def best_momentum(condition: Any) -> tuple[Any, Any]:
    """(lr, α) = (4/(√L + √μ)², ((√κ − 1)/(√κ + 1))²); the factor a step is √α. Polyak 1964."""
    root = np.sqrt(condition)
    return 4 / (np.sqrt(LARGEST) * (1 + 1 / root)) ** 2, ((root - 1) / (root + 1)) ** 2


def decaying(rule: Rule, cfg: Config) -> Rule:
    """The rule with learning rate lr/(1 + k/decay) at step k."""
    shape = lambda progress: 1 / (1 + progress * cfg.horizon / cfg.decay)
    return schedules.scheduled(rule, schedules.on("lr", shape), cfg.horizon)


class Searched(NamedTuple):
    """condition: that of the valley which a line search looks along."""

    condition: Any


def search(hp: Searched, g: Array, state: Any, w: Array) -> tuple[Array, Any]:
    """Steepest descent with the exact best step of a quadratic, t = g·g / g·Hg. Cauchy 1847; no learning rate."""
    bend = jnp.vdot(g, hessian_vector(lambda w: valley(w, hp.condition), w, g))
    return -jnp.where(bend > 0, jnp.vdot(g, g) / jnp.where(bend > 0, bend, 1), 0) * g, state


LINE_SEARCH = Rule(Searched(1.0), lambda hp, w: (), search)


class Path(NamedTuple):
    """A descent: places and values of f `[steps + 1, …]` from the start on, gradients and updates `[steps, …]`."""

    place: Array
    value: Array
    gradient: Array
    update: Array


def descend(rule: Rule, hp: Hyper, condition: Any, start: Float[Array, "2"], steps: int) -> Path:
    """Follow a rule down the valley."""
    loss = lambda w: valley(w, condition)

    def step(carry, _):
        w, state = carry
        value, g = jax.value_and_grad(loss)(w)
        dw, state = rule.update(hp, g, state, w)
        return (apply_updates(w, dw), state), Path(w, value, g, dw)

    (last, _), path = jax.lax.scan(step, (start, rule.init(hp, start)), length=steps)
    return path._replace(place=jnp.concatenate([path.place, last[None]]), value=jnp.append(path.value, loss(last)))


class Arrival(NamedTuple):
    """How a descent went: steps done and way walked until it arrived (NaN where it did not); its factor a step."""

    steps: Array
    way: Array
    factor: Array


def arrival(path: Path, goal: float) -> Arrival:
    """When f fell below `goal` · its start for good, and how fast √f falls in the long run."""
    far = ~(path.value <= goal * path.value[0])
    steps = jnp.minimum(len(far) - jnp.argmax(far[::-1]), len(far) - 1)
    way = jnp.where(jnp.arange(len(path.update)) < steps, jnp.hypot(*path.update.T), 0).sum()
    there = lambda value: jnp.where(far[-1], jnp.nan, value)
    return Arrival(there(steps), there(way), long_run_factor(path.value))


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


def on_level(angle: Any, level: Any, condition: Any) -> Float[Array, "2"]:
    """The place at this angle of the ellipse on which the valley's value is `level`."""
    return jnp.sqrt(level) * jnp.array([jnp.sqrt(condition) * jnp.cos(angle), jnp.sin(angle)])


def run(cfg: Config) -> xr.Dataset:
    """All paths and all arrivals, from one compiled program, in float64."""
    with jax.enable_x64(True):
        bowls = np.array([1.0, cfg.condition])
        sweeps = methods(cfg) | tunings(cfg) | {"line search": Family(LINE_SEARCH, Searched(bowls), bowls)}
        racers = contenders(cfg)
        settings = sum(len(one.condition) for one in (*racers.values(), *sweeps.values()))
        print(
            f"{settings:,} settings × {cfg.seeds:,} starts in 2 dimensions, no network and no data set, "
            f"on {results.describe_devices(jax.local_devices())}",
            flush=True,
        )
        paths, arrivals = jax.tree.map(np.asarray, measure(cfg, racers, sweeps))
    ds = label(cfg, paths, arrivals)
    print(summary(ds))
    return ds


def measure(
    cfg: Config, racers: Mapping[str, Family], sweeps: Mapping[str, Family]
) -> tuple[Mapping[str, Path], Mapping[str, Arrival]]:
    """Paths `[settings, 1 + starts, …]` (the notes' start first) of the racers, arrivals `[settings, starts]`."""
    notes = jnp.array([cfg.x, cfg.y])
    rules = {name: one.rule for some in (racers, sweeps) for name, one in some.items()}

    @jax.jit
    def program(racers, sweeps, keys):
        angles = jax.vmap(lambda key: jax.random.uniform(key, maxval=2 * jnp.pi))(keys)
        level = valley(notes, cfg.condition)

        def starts(condition):
            return jax.vmap(lambda angle: on_level(angle, level, condition))(angles)

        def follow(rule, setting):
            hyper, condition = setting
            every = jnp.concatenate([notes[None], starts(condition)])
            return jax.vmap(lambda start: descend(rule, hyper, condition, start, cfg.steps))(every)

        def arrive(rule, setting):
            hyper, condition = setting
            go = lambda start: arrival(descend(rule, hyper, condition, start, cfg.horizon), cfg.goal)
            return jax.vmap(go)(starts(condition))

        return each(follow, rules, racers), each(arrive, rules, sweeps)

    traced = ({name: (one.hyper, one.condition) for name, one in some.items()} for some in (racers, sweeps))
    return program(*traced, sweep.seeds(cfg.seeds))


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


def label(cfg: Config, paths: Mapping[str, Path], arrivals: Mapping[str, Arrival]) -> xr.Dataset:
    """Everything as one labelled data set; what begins with `notes_` starts where the notes start."""
    racers, rates = contenders(cfg), rate_grid(cfg)
    ds = xr.Dataset(
        coords={
            "contender": list(racers),
            "lr": ("contender", [float(one.hyper.lr[0]) for one in racers.values()]),
            "seed": np.arange(cfg.seeds),
            "step": np.arange(cfg.steps + 1),
            "updates": np.arange(cfg.steps),
            "axis": ["x", "y"],
            "rule": list(methods(cfg)),
            "bowl": ["round", "valley"],
            "rate": rates,
            "tuning": list(tunings(cfg)),
            "kappa": tunings(cfg)["sgd, best"].condition,
        },
        attrs={
            **{name: getattr(cfg, name) for name in ("condition", "alpha", "goal", "horizon", "decay")},
            "complete": 1,
        },
    )
    for what, dims in {
        "place": ("step", "axis"),
        "value": ("step",),
        "gradient": ("updates", "axis"),
        "update": ("updates", "axis"),
    }.items():
        every = np.stack([getattr(paths[name], what)[0] for name in racers])
        name = "move" if what == "update" else what
        ds[f"notes_{name}"] = ("contender", *dims), every[:, 0]
        ds[name] = ("contender", "seed", *dims), every[:, 1:]
    for what, units in (("steps", "steps"), ("way", ""), ("factor", "1 per step")):
        swept = np.stack([getattr(arrivals[name], what) for name in ds.rule.values])
        by_rate = swept.reshape(len(ds.rule), len(ds.bowl), len(rates), cfg.seeds)
        ds[f"{what}_by_rate"] = ("rule", "bowl", "rate", "seed"), by_rate, {"units": units}
        tuned = np.stack([getattr(arrivals[name], what) for name in ds.tuning.values])
        ds[f"{what}_by_kappa"] = ("tuning", "kappa", "seed"), tuned, {"units": units}
        ds[f"{what}_of_search"] = ("bowl", "seed"), getattr(arrivals["line search"], what), {"units": units}
    ds["diverged_at"] = _lab.first_not_finite(ds.value)
    return ds


def curvatures(condition: Any) -> np.ndarray:
    """The curvatures along x and along y, on a new first axis."""
    return np.stack(np.broadcast_arrays(LARGEST / np.asarray(condition), LARGEST))


def factor_of_sgd(lr: Any, condition: Any) -> np.ndarray:
    """What a step of SGD leaves of the distance along the slower direction: the larger |1 − ηλ|."""
    lr, condition = np.broadcast_arrays(lr, condition)
    return abs(1 - lr * curvatures(condition)).max(0)


def factor_of_momentum(lr: Any, alpha: Any, condition: Any) -> np.ndarray:
    """The same of Momentum in the long run: along a direction, the larger root of r² − (1 + α − ηλ) r + α."""
    lr, condition = np.broadcast_arrays(lr, condition)
    half = (1 + alpha - lr * curvatures(condition)) / 2
    root = np.sqrt(half**2 - alpha + 0j)
    return np.maximum(abs(half + root), abs(half - root)).max(0)


def exact_factor(tuning: str, condition: np.ndarray, ds: xr.Dataset) -> np.ndarray:
    """What theory says of √f's factor a step at these condition numbers."""
    lr = float(ds.lr.sel(contender="momentum"))
    return {
        "sgd, best": lambda: (condition - 1) / (condition + 1),
        "momentum, best": lambda: (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1),
        "sgd, notes": lambda: factor_of_sgd(lr, condition),
        "momentum, notes": lambda: factor_of_momentum(lr, ds.alpha, condition),
    }[tuning]()


def steps_at(factor: np.ndarray, goal: float) -> np.ndarray:
    """ln ε / 2 ln ρ, the steps in which ρ²ᵏ falls to ε; at least 1, and infinite where ρ ≥ 1."""
    with np.errstate(divide="ignore"):
        steps = np.log(goal) / (2 * np.log(factor))
    return np.where(factor < 1, np.maximum(steps, 1), np.inf)


def exact_momentum(lr: float, alpha: float, curvature: float, steps: int) -> np.ndarray:
    """Momentum's (place, velocity) along one direction `[steps + 1, 2]`, from place 1 at rest: powers of its matrix."""
    matrix = np.array([[1 - lr * curvature, alpha], [-lr * curvature, alpha]])
    return np.stack([np.linalg.matrix_power(matrix, k)[:, 0] for k in range(steps + 1)])


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


def settings(ds: xr.Dataset) -> str:
    """The function as people write it, and where the starts are."""
    return f"f = x²/{ds.condition:g} + y²; every seed a random start on the level of the notes' start"


def called(ds: xr.Dataset, name: str) -> str:
    """A contender as people write it."""
    return f"{_lab.title(name.partition('@')[0])}, lr {float(ds.lr.sel(contender=name)):g}"


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Figures 03–05 as in the notes and the same for the other rules, their spread, and a figure a question."""
    made = {FIGURES.get(name, name): path_figure(ds, name) for name in SIX}
    return made | {
        "overview": overview(ds),
        "starts": starts_figure(ds),
        "loss": loss_figure(ds),
        "damping": damping(ds),
        "adagrad_steps": adagrad_steps(ds),
        "momentum_terms": momentum_figure(ds),
        "steps_against_lr": rate_figure(ds),
        "round_bowl": bowl_figure(ds),
        "condition_number": condition_figure(ds),
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
    plotting.caption(fig, f"{_lab.about(ds, settings(ds))}; dots: the first {shown} of them")
    return fig


def log_curve(ax: Axes, x: np.ndarray, values: np.ndarray, label: str, number: int, style: str = "-") -> None:
    """The geometric mean over seeds of `values` `[S, n]` with its 95 % band; zeros, without a logarithm, left out."""
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
    plotting.caption(fig, f"{_lab.about(ds, settings(ds))}; geometric mean with its 95 % interval")
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
        f"{_lab.about(ds, settings(ds))}; geometric mean with its 95 % interval; "
        "the dips of Momentum are where it swings through 0",
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
    plotting.caption(
        fig, f"{called(ds, 'adagrad')} · {_lab.about(ds, settings(ds))}; geometric mean with its 95 % interval"
    )
    return fig


def effective_rate(ds: xr.Dataset, name: str, axis: str) -> np.ndarray:
    """−Δw / gradient, `[seed, updates]`: the learning rate that plain SGD would need for the same step."""
    one = ds.sel(contender=name, axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (-one.move / one.gradient).values


class Terms(NamedTuple):
    """The two parts of Momentum's step along one axis from its second update on: αv and −η∇L, `[seed, updates]`."""

    momentum: np.ndarray
    gradient: np.ndarray


def terms(ds: xr.Dataset, axis: str, name: str = "momentum") -> Terms:
    """What Momentum's steps are made of; the velocity is the step before."""
    one = ds.sel(contender=name, axis=axis)
    return Terms(ds.alpha * one.move.values[:, :-1], -float(one.lr) * one.gradient.values[:, 1:])


def momentum_figure(ds: xr.Dataset) -> Figure:
    """|αv| beside |η∇L| at every step, along y and along x."""
    fig = plotting.figure(9.0, 4.4)
    axes = fig.subplots(1, 2)
    lr, updates = float(ds.lr.sel(contender="momentum")), ds.updates.values[1:] + 1
    for (axis, curvature), ax in zip({"y": LARGEST, "x": LARGEST / ds.condition}.items(), axes, strict=True):
        start = abs(ds.place.sel(contender="momentum", axis=axis, step=0)).values[:, None]
        exact = exact_momentum(lr, ds.alpha, curvature, ds.sizes["updates"])[1:-1]
        parts = zip(
            ("|αv|, what the momentum adds", "|η∇L|, what the gradient adds"),
            terms(ds, axis),
            (ds.alpha * exact[:, 1], lr * curvature * exact[:, 0]),
            strict=True,
        )
        for number, (name, measured, predicted) in enumerate(parts):
            log_curve(ax, updates, abs(measured) / start, name, number)
            marks = {"marker": plotting.MARKERS[number], "markersize": 4, "color": plotting.colour(number)}
            ax.plot(updates, abs(predicted), linestyle="none", fillstyle="none", label="the same, exact", **marks)
        plotting.dress(
            ax, yscale="log", xlabel="update", ylabel=f"part of the step / |{axis} of the start|", title=f"along {axis}"
        )
    plotting.legend(fig, of=axes[0])
    plotting.caption(
        fig,
        f"{called(ds, 'momentum')}, α {ds.alpha:g} · {_lab.about(ds, settings(ds))}; Momentum is linear here, so all "
        "starts give the same curve; exact: powers of Momentum's 2 × 2 matrix",
    )
    return fig


NAMES = {"sgd": "SGD, constant", "decay": "SGD, decaying", "momentum": "Momentum"}


def arrived(values: xr.DataArray) -> xr.DataArray:
    """`values` `[seed, …]` where every start arrived: a mean over the quick ones alone would flatter."""
    return values.where(values.notnull().all("seed")).transpose("seed", ...)


def rate_figure(ds: xr.Dataset) -> Figure:
    """Steps to the goal against the learning rate, wide and near the best constant step; and the way walked."""
    fig = plotting.figure(11.0, 4.8)
    wide, near, way = fig.subplots(1, 3)
    for ax, what in ((wide, "steps"), (near, "steps"), (way, "way")):
        rate_panel(ax, ds.sel(bowl="valley"), what)
    limit, fewest = 2 / LARGEST, float(steps_at(factor_of_sgd(best_sgd(ds.condition), ds.condition), ds.goal))
    goal = f"f ≤ {ds.goal:g} · its start"
    logarithmic = {"xscale": "log", "yscale": "log", "xlabel": "learning rate"}
    plotting.dress(wide, **logarithmic, ylabel=f"steps until {goal}", title="all rates", ylim=(5, None))
    plotting.dress(near, xlabel="learning rate", ylabel=f"steps until {goal}", title="near the best rate")
    near.set(xlim=(0.85 * limit, 1.02 * limit), ylim=(0, 2.5 * fewest))
    near.locator_params(axis="x", nbins=5)
    plotting.dress(way, **logarithmic, ylabel=f"way walked until {goal}", title="the way", ylim=(5, 500))
    plotting.legend(fig, of=wide)
    plotting.caption(
        fig,
        f"{_lab.about(ds, settings(ds))}; mean with its 95 % interval, where all starts arrive within "
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
        start = ds.place.sel(contender="sgd", step=0).values
        exact = [exact_steps(start, lr, ds.condition, ds.goal, ds.horizon).mean() for lr in rate]
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
    ax.axvline(LARGEST * float(ds.lr.sel(contender="momentum")), color="black", linewidth=0.9, linestyle=":")
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
    lr = float(ds.lr.sel(contender="momentum"))
    names = ("SGD, best lr", "Momentum, best lr and α", f"SGD, lr {lr:g}", f"Momentum, lr {lr:g}, α {ds.alpha:g}")
    for number, (tuning, name) in enumerate(zip(ds.tuning.values, names, strict=True)):
        exact, line = exact_factor(tuning, fine, ds), {"color": plotting.colour(number), "linewidth": 1}
        one = ds.sel(tuning=tuning).transpose("seed", "kappa", ...)
        marks(left, kappa, 1 - one.factor_by_kappa.values, name, number)
        marks(right, kappa, arrived(one.steps_by_kappa).values, name, number)
        left.plot(fine, 1 - exact, **line)
        right.plot(fine, steps_at(exact, ds.goal), **line)
    plotting.dress(left, xscale="log", yscale="log", xlabel="condition number κ", ylabel="1 − factor of √f a step")
    plotting.dress(
        right,
        xscale="log",
        yscale="log",
        xlabel="condition number κ",
        ylabel=f"steps until f ≤ {ds.goal:g} · its start",
    )
    right.set_ylim(0.8, 1.2 * ds.horizon)
    plotting.legend(fig, of=left)
    plotting.caption(
        fig,
        f"{_lab.about(ds, 'f = x²/κ + y²', 'every seed a random start on one level of f')}; marks: measured, with 95 % "
        "intervals; lines: the exact factor ρ, and the steps ln ε / 2 ln ρ of f ~ ρ²ᵏ (at its best parameters Momentum "
        "has √f ~ k ρᵏ instead and takes longer)",
    )
    return fig


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


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about figures 03 to 05, and what their questions come down to."""
    return [
        *sgd_zigzags(ds),
        *momentum_damps_and_speeds(ds),
        *adagrad_shrinks(ds),
        *smaller_steps(ds),
        *terms_of_momentum(ds),
        *round_bowls(ds),
    ]


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
        # Every valley is as steep along y as the round bowl.
        lr = [float(ds.lr.sel(contender=one)) for one in (name, rival)]
        left = float(factor_of_momentum(lr[0], ds.alpha, 1.0)), float(factor_of_sgd(lr[1], 1.0))
        theory = f"; by theory a step of Momentum leaves {left[0]:.3f} of it in the long run, of SGD {left[1]:.3f}"
        for claim, what, measure, axis, more in (
            ("Momentum damps y: it walks a shorter way along y than SGD", "Way along y", walked, "y", ""),
            (
                "Momentum damps y: its swing dies out sooner than SGD's",
                "Largest |y| of the last third",
                swing,
                "y",
                theory,
            ),
            ("Momentum speeds up x: it is nearer to x = 0 than SGD", "Mean |x|", away, "x", ""),
        ):
            effect = measure(ds, rival, axis) - measure(ds, name, axis)
            numbers = "{effect} [{low}, {high}], {seeds} paired starts"
            found.append(
                decide(f"{claim} ({who})", effect, "", f"{what}, SGD's less Momentum's: {numbers}{more}.", SAID)
            )
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
            walked(ds, "sgd", "y") - walked(ds, "adagrad", "y"),
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


def needed(ds: xr.Dataset, rule: str, lr: float, bowl: str = "valley", what: str = "steps") -> np.ndarray:
    """Steps to the goal (or the way walked until then) at the grid's learning rate nearest to `lr`, `[seed]`."""
    return ds[f"{what}_by_rate"].sel(rule=rule, bowl=bowl).sel(rate=lr, method="nearest").values


def best_rate(ds: xr.Dataset, rule: str, below: float = np.inf) -> float:
    """The learning rate of the grid, smaller than `below`, that needs the fewest steps in the mean; NaN for none."""
    steps = arrived(ds.steps_by_rate.sel(rule=rule, bowl="valley")).mean("seed")
    steps = steps.where(steps.rate < below)
    return float(steps.idxmin())


def smaller_steps(ds: xr.Dataset) -> list[Verdict]:
    """Question §1.1, what it comes down to."""
    lr = float(ds.lr.sel(contender="sgd"))
    notes, way = needed(ds, "sgd", lr), needed(ds, "sgd", lr, what="way")
    better, momentum = best_rate(ds, "sgd", lr), best_rate(ds, "momentum")
    paired = "[{low}, {high}], {seeds} paired starts"
    rivals = [
        (f"SGD with half the notes' step, lr {lr / 2:g}, arrives", needed(ds, "sgd", lr / 2)),
        (f"SGD with learning-rate decay from the notes' {lr:g} on arrives", needed(ds, "decay", lr)),
        ("Steepest descent with an exact line search arrives", ds.steps_of_search.sel(bowl="valley").values),
    ]
    if np.isfinite(better):
        rivals.insert(
            1, (f"SGD with the best smaller step of the grid, lr {better:.3g}, arrives", needed(ds, "sgd", better))
        )
    if np.isfinite(momentum):
        rivals.append(
            (
                f"Momentum with α {ds.alpha:g} at its best rate of the grid, {momentum:.3g}, arrives",
                needed(ds, "momentum", momentum),
            )
        )
    return [
        decide(
            f"{claim} in fewer steps than SGD at lr {lr:g}",
            notes - steps,
            "steps",
            f"It needs {steps.mean():.1f} steps, SGD at lr {lr:g} {notes.mean():.1f}, a gain of {{effect}} {paired}.",
            "question §1.1",
        )
        for claim, steps in rivals
    ] + [
        decide(
            f"SGD with half the notes' step, lr {lr / 2:g}, walks a shorter way than at lr {lr:g}",
            way - needed(ds, "sgd", lr / 2, what="way"),
            "",
            f"The way at lr {lr:g} less that at half of it: {{effect}} {paired}.",
            "question §1.1",
        )
    ]


def smaller_share(ds: xr.Dataset, axis: str) -> np.ndarray:
    """The share of steps at which |αv| < |η∇L|, `[seed]`."""
    momentum, gradient = terms(ds, axis)
    smaller = (abs(momentum) < abs(gradient)).mean(1)
    return np.where(np.isfinite(momentum + gradient).all(1), smaller, np.nan)


def opposed_share(ds: xr.Dataset, axis: str) -> np.ndarray:
    """The share of steps at which αv and −η∇L point against each other, `[seed]`."""
    momentum, gradient = terms(ds, axis)
    return np.where(np.isfinite(momentum + gradient).all(1), (momentum * gradient < 0).mean(1), np.nan)


def terms_of_momentum(ds: xr.Dataset) -> list[Verdict]:
    """Question §1.2: the size and the direction of αv beside −η∇L."""
    found = []
    for axis in "yx":
        smaller, opposed = 100 * smaller_share(ds, axis), 100 * opposed_share(ds, axis)
        sense = 1 if axis == "y" else -1
        direction = "against" if axis == "y" else "the same way as"
        against = "{{effect}} {{unit}} {} one half [{{low}}, {{high}}], {{seeds}} starts"
        found += [
            decide(
                f"Along {axis}, |αv| is smaller than |η∇L| at most steps",
                smaller - 50,
                "points",
                f"It is at {smaller.mean():.0f} % of the steps of {called(ds, 'momentum')}: {against.format('from')}.",
                "question §1.2",
            ),
            decide(
                f"Along {axis}, αv points {direction} the gradient step at most steps",
                sense * (opposed - 50),
                "points",
                f"They oppose each other at {opposed.mean():.0f} % of the steps of {called(ds, 'momentum')}: "
                f"{against.format('from')}.",
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


def round_bowls(ds: xr.Dataset) -> list[Verdict]:
    """Question §1.2, the isotropic bowl: whether Momentum speeds up there, and whether it swings."""
    lr = float(ds.lr.sel(contender="momentum"))
    found = []
    for rate in (lr, lr / 10):
        sgd, momentum = (needed(ds, rule, rate, "round") for rule in ("sgd", "momentum"))
        found.append(
            decide(
                f"In a round bowl Momentum with α {ds.alpha:g} arrives in fewer steps than SGD at the same lr {rate:g}",
                sgd - momentum,
                "steps",
                f"It needs {momentum.mean():.0f} steps, SGD {sgd.mean():.0f}: a gain of {{effect}} [{{low}}, {{high}}] "
                f"from every start. By theory it gains where ηλ, here {LARGEST * rate:g}, is below 1 − √α = "
                f"{1 - np.sqrt(ds.alpha):.3f}.",
                "question §1.2",
            )
        )
    best = ds.steps_by_kappa.sel(tuning="sgd, best") - ds.steps_by_kappa.sel(tuning="momentum, best")
    found.append(
        decide_share(
            "In a round bowl Momentum at its best parameters arrives in fewer steps than SGD at its best rate",
            best.sel(kappa=1, method="nearest").values > 0,
            0.5,
            "It does from {effect} % [{low}, {high}] of {seeds} starts: by theory the best α is 0 there.",
            "question §1.2",
        )
    )
    near = best.sel(kappa=ds.condition, method="nearest")
    found.append(
        decide(
            f"At κ = {float(near.kappa):.3g} Momentum at its best arrives in fewer steps than SGD at its best",
            near.values,
            "steps",
            "The difference is {effect} {unit} [{low}, {high}], {seeds} paired starts.",
            "question §1.2",
        )
    )
    past = {name: crossed(ds, f"{name}@bowl") for name in ("sgd", "momentum")}
    found.append(
        decide_share(
            f"In a round bowl {called(ds, 'momentum')}, never swings past the minimum",
            ~past["momentum"],
            0.5,
            "It does not from {effect} % [{low}, {high}] of {seeds} starts; SGD at the same rate does not from "
            f"{100 * (~past['sgd']).mean():.0f} %.",
            "question §1.2",
        )
    )
    return found


def crossed(ds: xr.Dataset, name: str) -> np.ndarray:
    """Whether a path goes past the minimum along either axis, `[seed]`."""
    place = ds.place.sel(contender=name).values
    return (place[:, 1:] * place[:, :-1] < 0).any((1, 2))


def answers(ds: xr.Dataset) -> list[Answer]:
    """The notes' three questions about SGD and Momentum in the valley."""
    n = ds.sizes["seed"]
    return [
        Answer(
            "Would smaller SGD steps be more efficient in the valley?",
            on_smaller_steps(ds),
            "steps_against_lr",
            n,
            "question §1.1",
        ),
        Answer(
            "Is |αv| smaller than |η∇L|, and can the momentum exceed the gradient step?",
            on_terms(ds),
            "momentum_terms",
            n,
            "question §1.2 TODO",
        ),
        Answer("What if the bowl is isotropic?", on_round_bowls(ds), "condition_number", n, "question §1.2"),
    ]


def told(gain: np.ndarray, words: tuple[str, str, str]) -> str:
    """The first word where the interval of a gain is above 0, the second where it is below, else the third."""
    _, low, high = interval(gain)
    return words[0] if low > 0 else words[1] if high < 0 else words[2]


def count(steps: np.ndarray) -> str:
    """The mean number of steps, where every start arrived."""
    return f"{steps.mean():.0f}" if np.isfinite(steps).all() else "more than are counted"


FEWER = ("fewer", "more", "not clearly more or fewer")


def on_smaller_steps(ds: xr.Dataset) -> str:
    """Question §1.1: steps and way against the learning rate."""
    lr = float(ds.lr.sel(contender="sgd"))
    notes, half = needed(ds, "sgd", lr), needed(ds, "sgd", lr / 2)
    ways = (needed(ds, "sgd", rate, what="way").mean() for rate in (lr, lr / 2))
    best = {rule: best_rate(ds, rule) for rule in ("sgd", "momentum")}
    fewest = {
        rule: f"{count(needed(ds, rule, rate))}, at lr {rate:.3g}" if np.isfinite(rate) else "unknown (not all arrive)"
        for rule, rate in best.items()
    }
    return (
        f"Half the notes' step needs {told(notes - half, FEWER)} steps, {count(half)} beside {count(notes)}; the way "
        "to the goal is {1:.1f} long with it and {0:.1f} at the notes' step. ".format(*ways)
        + f"The fewest steps on the grid are {fewest['sgd']}: theory puts the best rate for the slowest start at "
        f"2/(L + μ) = {best_sgd(ds.condition):.3g} and the end of stability at 2/L = {2 / LARGEST:g}. Decay from the "
        f"notes' rate on needs {count(needed(ds, 'decay', lr))}, Momentum with α {ds.alpha:g} at its best "
        f"{fewest['momentum']}, an exact line search {count(ds.steps_of_search.sel(bowl='valley').values)}."
    )


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


def on_round_bowls(ds: xr.Dataset) -> str:
    """Question §1.2: Momentum beside SGD from κ = 1 upwards."""
    lr = float(ds.lr.sel(contender="momentum"))
    best = [ds.steps_by_kappa.sel(tuning=f"{name}, best") for name in ("sgd", "momentum")]
    first, last = ([one.isel(kappa=i).values for one in best] for i in (0, -1))
    helps = told(first[0] - first[1], ("it helps", "it harms", "it neither helps nor harms"))
    fixed = []
    for rate in (lr, lr / 10):
        sgd, momentum = (needed(ds, rule, rate, "round") for rule in ("sgd", "momentum"))
        fixed.append(f"{told(sgd - momentum, FEWER)} at lr {rate:g} ({count(momentum)} beside {count(sgd)})")
    return (
        f"Momentum at its best parameters needs {count(first[1])} and SGD at its best rate {count(first[0])} steps at "
        f"κ = 1, so {helps} there; at κ = {float(ds.kappa[-1]):g} they need {count(last[1])} and {count(last[0])}. By "
        f"theory the factors a step are (√κ − 1)/(√κ + 1) and (κ − 1)/(κ + 1). With α {ds.alpha:g} in a round bowl "
        f"Momentum's steps, compared with SGD's at the same rate, are {fixed[0]} and {fixed[1]}; at lr {lr:g} it goes"
        f" past the minimum from {crossed(ds, 'momentum@bowl').mean():.0%} of the starts."
    )


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
