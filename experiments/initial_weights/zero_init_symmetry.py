"""Can a network learn from weights that all start equal? (notes §2.1)"""

import itertools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from fnn import init, instruments, lab, models, optim, sweep, tasks
from fnn.base.errors import require
from fnn.base.provenance import describe_devices
from fnn.base.statistics import side
from fnn.base.types import Initializer, Params, Scalar
from fnn.lab import figures, plotting
from fnn.lab.titles import title
from fnn.nn.layers import Affine, relu, sigmoid
from fnn.nn.losses import weights
from fnn.rule import Rule, apply_updates
from fnn.tasks import Label, Split, Task
from fnn.train import Observation, Record

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
"""An accuracy is "no better than guessing" where it is less than this many points above the most common class's."""
ROUNDING = 100
"""Units count as equal up to this many ulp: where the width does not fill a vector, sums may round unit by unit."""
EXACT = 1e-6
"""Bound on rounding in float64 between equal quantities: it starts at 1e-16, and training amplifies it."""
EXACT_STEPS = 100
"""Updates in float64."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
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
    constants: tuple[float, ...] = (0.0, 0.01, 0.1)
    """Equal weights: what all of a network's weights start at."""
    noises: tuple[float, ...] = (1e-6, 1e-4, 1e-2)
    """Standard deviations of the noise put on equal weights."""
    base: float = 0.01
    """The equal weights that noise and dropout disturb."""
    dropout: float = 0.2
    """The dropout ratio that disturbs them."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=3, batch=1)
        require(self.width >= 2, f"--width is at least 2 (a single unit cannot differ from another), not {self.width}.")
        require(0 < self.lr < math.inf, f"--lr is a number above 0, not {self.lr}.")
        require(math.isfinite(self.base), f"--base is a finite number, not {self.base}.")
        require(0 < self.dropout < 1, f"--dropout is between 0 and 1, not {self.dropout}.")
        self.check_distinct(constants="weight", noises="noise")
        wild = [constant for constant in self.constants if not math.isfinite(constant)]
        require(not wild, f"--constants are finite numbers, not {wild}.")
        wrong = [noise for noise in self.noises if not 0 < noise < math.inf]
        require(not wrong, f"--noises are numbers above 0, not {wrong}.")
        optim.rule(self.optimizer)


class Start(NamedTuple):
    """Initial weights as traced numbers: constant + (noise + random · gain / √n_in) · z, z ~ N(0, 1)."""

    constant: Scalar
    noise: Scalar = 0.0
    random: Scalar = 0.0


class Hyper(NamedTuple):
    """The hyperparameters of the task: the initial weights."""

    start: Start = Start(0.0)


def starts(cfg: Config) -> dict[str, dict[str, Start]]:
    """The contenders of each kind (random, equal, noise) by name."""
    return {
        "random": {"random": Start(0.0, random=1.0)},
        "equal": {f"all {c:g}": Start(c) for c in cfg.constants},
        "noise": {f"all {cfg.base:g}, noise {noise:g}": Start(cfg.base, noise) for noise in cfg.noises},
    }


def initial(start: Start, gain: float) -> Initializer:
    """The initializer of a start."""

    def initialize(key, shape, dtype=jnp.float32):
        n_in, _ = init.fans(shape)
        std = start.noise + start.random * gain * n_in**-0.5
        return jnp.asarray(start.constant, dtype) + init.normal(std)(key, shape, dtype)

    return initialize


def wide(cfg: Config, activation: str, data: Mapping[str, Split] | None, dropout: float | None = None) -> Task:
    """The task of the full network; its metrics are the test scores and the rank of every W."""
    f, gain = ACTIVATIONS[activation]

    def network(hp: Hyper):
        weights = initial(hp.start, gain)
        return models.multilayer((cfg.width,) * DEPTH, CLASSES, activation=f, weights=weights, dropout_ratio=dropout)

    task = tasks.classification(network, data, cfg.batch, hyper=Hyper())

    def metrics(hp, params, stats, data):
        ranks = {"rank": instruments.rank, "stable_rank": instruments.stable_rank}
        found = {name: jnp.stack([of(w) for w in weights(params)]) for name, of in ranks.items()}
        return {**task.metrics(hp, params, stats, {"test": data["test"]}), **found}

    names = {"rank": Label("rank", "1", ("matrix",)), "stable_rank": Label("stable rank", "1", ("matrix",))}
    matrices = {"matrix": [f"W{i}" for i in range(1, DEPTH + 2)]}
    return task._replace(metrics=metrics, labels={**task.labels, **names}, coords=matrices)


def narrow(cfg: Config, activation: str, data: Mapping[str, Split] | None) -> Task:
    """The task of the network of width 1 that equals one of equal weights."""
    f, _ = ACTIVATIONS[activation]
    task = tasks.classification(models.multilayer((1,) * DEPTH, CLASSES, activation=f), data, cfg.batch, hyper=Hyper())
    full = wide(cfg, activation, data)

    def start(hp, key, data):
        params, stats = full.init(hp, key, data)
        return collapse(params), stats

    def metrics(hp, params, stats, data):
        return task.metrics(hp, params, stats, {"test": data["test"]})

    return task._replace(init=start, metrics=metrics)


def copies(params: Params) -> tuple[Params, Params]:
    """(s, r): for every weight the number of copies of its input unit, and of its output unit.

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
    """The network of width 1 with the same outputs as a network of identical units.

    One unit replaces all of its layer, and a weight between units is the sum over the copies of its input.
    """
    s, r = copies(params)

    def one(w, s, r):
        w = w if r == 1 else w[:1]
        return s * (w if s == 1 else w[:, :1])

    return jax.tree.map(one, params, s, r)


def of_width_one(rule: Rule, full: Params) -> Rule:
    """The rule whose updates of the collapsed network equal those of `rule` on the `full` one of identical units.

    A collapsed weight is w̃ = s w by the chain rule of the forward pass and its gradient g̃ = r g by that of the
    backward one (s, r: `copies`), so w̃ ← w̃ + s · rule(g̃ / r). Exact for every elementwise rule.
    For SGD it means a separate learning rate, lr · s / r, for every layer.
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


def apart(params: Params) -> Record:
    """For each hidden layer the largest difference between two of its units, and its largest weight."""
    affine = [layer for layer in params if isinstance(layer, Affine)]
    spread, size = [], []
    for enters, leaves in itertools.pairwise(affine):
        spread.append(jnp.stack([jnp.ptp(enters.w, 0).max(), jnp.ptp(enters.b), jnp.ptp(leaves.w, 1).max()]).max())
        size.append(jnp.maximum(jnp.abs(enters.w).max(), jnp.abs(leaves.w).max()))
    return {"spread": jnp.stack(spread), "size": jnp.stack(size)}


BETWEEN_UNITS = Observation(
    lambda moment: apart(moment.after),
    {
        "spread": Label("largest difference between two units of a hidden layer", "1", ("layer",)),
        "size": Label("largest weight of the layer", "1", ("layer",)),
    },
    {"layer": np.arange(1, DEPTH + 1)},
)


def moments(steps: int) -> tuple[int, ...]:
    """The numbers of updates after which units are compared: close together at first, then evenly."""
    early, evenly = (round(steps ** (i / 12)) for i in range(13)), (round(1 + i * (steps - 1) / 25) for i in range(26))
    return tuple(sorted({*early, *evenly}))


def scored(steps: int) -> tuple[int, ...]:
    """The numbers of updates after which networks are tested and ranks taken: 1, 10, 100, … and the last."""
    return tuple(sorted({*(10**i for i in range(len(str(steps)))), steps}))


def run(cfg: Config) -> xr.Dataset:
    """Measurements from all starts, with both activations, over all seeds; and from equal weights in float64."""
    images = cfg.load(batch=cfg.batch)
    data, rule, kinds = tasks.splits(images), optim.rule(cfg.optimizer), starts(cfg)

    def trained(part, task, rule, start, observe=None):
        found = sweep(
            *({activation: task(cfg, activation, data) for activation in ACTIVATIONS}, rule),
            over={"lr": [cfg.lr], "start": start},
            seeds=cfg.seeds,
            steps=cfg.steps,
            evaluate=scored(cfg.steps),
            observe=observe,
            observe_at=moments(cfg.steps) if observe else None,
            keep=cfg.keep(part),
            progress=True,
        )
        names = {"task": "activation", "update": "score", **({"observed": "update"} if observe else {})}
        return found.isel(lr=0, drop=True).rename(names)

    still = {name: start for some in kinds.values() for name, start in some.items()}
    dropping = {f"all {cfg.base:g}, dropout": Start(cfg.base)}
    shapes = jax.eval_shape(lambda key: wide(cfg, "relu", data).init(Hyper(), key, data)[0], jax.random.key(0))
    # A core is a device here: singular values by all cores on every device would wait for each other.
    with threadpool_limits(1, "blas"):
        full = trained("wide", wide, rule, still, BETWEEN_UNITS)
        dropped = trained("dropout", partial(wide, dropout=cfg.dropout), rule, dropping, BETWEEN_UNITS)
    twins = trained("narrow", narrow, of_width_one(rule, shapes), kinds["equal"]).rename(start="equal")
    ds = xr.concat([full, dropped], "start", combine_attrs="override")
    kind = [kind for kind, some in kinds.items() for _ in some] + ["dropout"]
    ds = ds.assign_coords(kind=("start", kind)).merge(in_float64(cfg, data, kinds["equal"]))
    ds = ds.assign(narrow_loss=twins.loss, narrow_test_accuracy=twins.test_accuracy)
    return ds.assign_attrs(
        images.about,
        network=f"{images.x_train[0].size}-" + f"{cfg.width}-" * DEPTH + str(CLASSES),
        width=cfg.width,
        rule=f"{title(cfg.optimizer)}, learning rate {cfg.lr:g}",
        guessing=float(np.bincount(images.y_test).max() / len(images.y_test)),
        device=describe_devices(jax.local_devices()),
    )


def in_float64(cfg: Config, data: Mapping[str, Split], equal: Mapping[str, Start]) -> xr.Dataset:
    """The largest difference of equal units in float64, and of the loss from that of the network of width 1.

    exact_spread: the largest difference between two units over the run, relative to the largest weight of their layer.
    exact_gap: the largest difference of the losses, in nats. Both networks train on the same minibatches.
    """
    steps, rule = min(cfg.steps, EXACT_STEPS), optim.rule(cfg.optimizer)
    rule_hp = rule.hyper._replace(lr=cfg.lr)
    double = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)

    def measure(hp, key, data):
        found = [compared(activation, hp, key, data) for activation in ACTIVATIONS]
        return jax.tree.map(lambda *both: jnp.stack(both), *found)

    def compared(activation, hp, key, data):
        task, twin = wide(cfg, activation, data), narrow(cfg, activation, data)
        params, stats = task.init(hp, key, data)
        params = double(params)
        learners = ((task, rule, params), (twin, of_width_one(rule, params), collapse(params)))

        def step(states, i):
            x, y = task.batch(data, task.draw(key, data, i))
            after, losses = [], []
            for (one, its_rule, _), (params, state) in zip(learners, states, strict=True):
                loss = lambda params, one=one: one.loss(hp, params, stats, (double(x), y), None, True)[0]
                value, grads = jax.value_and_grad(loss)(params)
                updates, state = its_rule.update(rule_hp, grads, state, params)
                after.append((apply_updates(params, updates), state))
                losses.append(value)
            units = apart(after[0][0])
            size = jnp.where(units["size"] == 0, 1, units["size"])
            return tuple(after), {
                "exact_spread": (units["spread"] / size).max(),
                "exact_gap": abs(losses[0] - losses[1]),
            }

        carry = tuple((params, its_rule.init(rule_hp, params)) for _, its_rule, params in learners)
        return jax.tree.map(lambda a: a.max(), jax.lax.scan(step, carry, jnp.arange(steps))[1])

    labels = {
        "exact_spread": Label("largest relative difference of two units in float64", "1", ("activation",)),
        "exact_gap": Label(
            "largest difference to the loss of the network of width 1 in float64", "nats", ("activation",)
        ),
    }
    trial = tasks.Trial(measure, data, Hyper(), labels=labels, coords={"activation": list(ACTIVATIONS)})
    with jax.enable_x64(True):
        return sweep(trial, over={"start": dict(equal)}, seeds=cfg.seeds).rename(start="equal")


# -- figures --


def of_kind(ds: xr.Dataset, kind: str) -> list[str]:
    """The names of the starts of this kind."""
    return [str(name) for name in ds.start.values[ds.kind.values == kind]]


def line_style(ds: xr.Dataset, name: str) -> tuple[int, str]:
    """A start's color number and dashes: a color for each constant, and one for all noises, distinguished by dashes."""
    kind = str(ds.kind.sel(start=name).item())
    nth = of_kind(ds, kind).index(name)
    return {
        "random": (0, "-"),
        "equal": ((1, 2, 3, 5)[nth % 4], "-"),
        "noise": (6, (":", "--", "-", "-.")[nth % 4]),
        "dropout": (4, "-"),
    }[kind]


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure."""
    return figures.caption(ds, "{network}", "{rule}", *details)


def panels(ds: xr.Dataset, height: float, columns: int = 1):
    """A figure with a column of panels, or a row of them, for each activation: `[activation, columns]` axes."""
    n = ds.sizes["activation"]
    fig = plotting.figure(9.0, height)
    axes = fig.subplots(n, columns, squeeze=False) if columns > 1 else fig.subplots(1, n, squeeze=False).T
    for ax in axes.flat:
        plotting.dress(ax)
    return fig, axes


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
            number, dashes = line_style(ds, name)
            with np.errstate(divide="ignore"):
                mean, low, high = (10**x for x in plotting.band(np.log10(values)))
            ax.plot(ds["update"], mean, dashes, color=plotting.color(number), label=name, linewidth=1.3)
            ax.fill_between(ds["update"], low, high, color=plotting.color(number), alpha=0.2, linewidth=0)
        ax.set(title=TITLES[activation], xlabel="updates", yscale="log", xlim=(0, int(ds["update"][-1])))
        if together:
            note = "exactly 0 at every update: " + ", ".join(together)
            ax.text(0.98, 0.03, note, transform=ax.transAxes, ha="right", fontsize="small", color="0.25")
    low, high = min(ax.get_ylim()[0] for ax in axes.flat), max(ax.get_ylim()[1] for ax in axes.flat)
    for ax in axes.flat:
        ax.set_ylim(low / 10, high)
    axes[0, 0].set_ylabel("largest difference between two units of a layer")
    plotting.legend(fig, 3, of=axes.flat[0])
    plotting.caption(fig, about(ds, "geometric mean with its 95 % interval"))
    return fig


def losses(ds: xr.Dataset) -> Figure:
    """Smoothed training losses, with that of the network of width 1 dotted over each that starts equal."""
    fig, axes = panels(ds, 4.4)
    window = 21
    for ax, activation in zip(axes.flat, ds.activation.values, strict=True):
        one = ds.sel(activation=activation)
        for name in [*of_kind(ds, "random"), *ds.equal.values]:
            plotting.curve(
                ax,
                ds.step.values,
                plotting.smooth(one.loss.sel(start=name).values, window),
                name,
                line_style(ds, name)[0],
            )
        for name in ds.equal.values:
            mean, _, _ = plotting.band(plotting.smooth(one.narrow_loss.sel(equal=name).values, window))
            label = "its twin of width 1" if name == ds.equal.values[-1] else None  # once for all of them
            ax.plot(ds.step, mean, color="black", linestyle=(0, (1, 3)), linewidth=1.6, label=label)
        ax.axhline(math.log(CLASSES), color="0.35", linestyle="--", linewidth=0.8, label="guessing, ln 10")
        ax.set(title=TITLES[activation], xlabel="updates", ylim=(0, 3), xlim=(0, ds.sizes["step"]))
    axes[0, 0].set_ylabel("training loss (nats)")
    plotting.legend(fig, 3, of=axes.flat[0])
    plotting.caption(fig, about(ds, "mean with its 95 % interval", f"smoothed over {window} updates"))
    return fig


def ranks(ds: xr.Dataset, what: str, y: str) -> Figure:
    """Rank, or stable rank ‖W‖²_F / ‖W‖²₂, of every weight matrix after 1, 10, 100, … updates."""
    fig, axes = panels(ds, 5.6, ds.sizes["matrix"])
    for row, activation in zip(axes, ds.activation.values, strict=True):
        for ax, matrix in zip(row, ds.matrix.values, strict=True):
            for i, name in enumerate(ds.start.values):
                values = ds[what].sel(activation=activation, matrix=matrix, start=name).values
                number, dashes = line_style(ds, name)
                mean, low, high = plotting.band(values)
                # Many curves lie on each other, so those drawn first are broad.
                breadth = max(4.5 - 1.5 * list(ds.equal.values).index(name), 1) if name in ds.equal else 1.3 if i else 4
                ax.plot(ds.score, mean, dashes, color=plotting.color(number), marker=".", label=name, linewidth=breadth)
                ax.fill_between(ds.score, low, high, color=plotting.color(number), alpha=0.2, linewidth=0)
            ax.set_title(f"{matrix}, {TITLES[activation]}", fontsize="medium")
            ax.set_xscale("log")
            ax.set_yscale("symlog", linthresh=1)
            ax.set_yticks([0, 1, 10, ds.width], ["0", "1", "10", str(ds.width)])
            ax.set_ylim(-0.15, 1.5 * ds.width)
        row[0].set_ylabel(y)
    for ax in axes[-1]:
        ax.set_xlabel("updates")
    plotting.legend(fig, of=axes.flat[0])
    plotting.caption(fig, about(ds, "mean with its 95 % interval", "a matrix of zeros has rank 0 and no stable rank"))
    return fig


def accuracies(ds: xr.Dataset) -> Figure:
    """Test accuracy at the end, a dot for each seed, with the twins of width 1 as open diamonds."""
    fig, axes = panels(ds, 4.0)
    names = list(ds.start.values)
    for ax, activation in zip(axes.flat, ds.activation.values, strict=True):
        one = 100 * ds.sel(activation=activation).isel(score=-1)[["test_accuracy", "narrow_test_accuracy"]]
        for i, name in enumerate(names):
            values = one.test_accuracy.sel(start=name).values
            ax.scatter(
                values, np.full(len(values), i), s=22, alpha=0.7, color=plotting.color(line_style(ds, name)[0]), lw=0
            )
        for name in ds.equal.values:
            values = one.narrow_test_accuracy.sel(equal=name).values
            at = np.full(len(values), names.index(name) + 0.3)
            ax.scatter(values, at, s=18, marker="D", facecolors="none", edgecolors="black", linewidths=0.7)
        ax.axvline(100 * ds.guessing, color="0.35", linestyle="--", linewidth=0.8)
        ax.set(title=TITLES[activation], xlabel="test accuracy (%)", xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
        ax.set_yticks(range(len(names)), names if ax is axes[0, 0] else [""] * len(names))
    details = (
        f"after {int(ds.score[-1]):,} updates, a dot for each seed",
        "open diamonds: the twin of width 1",
        "dashed: guessing the most common class",
    )
    plotting.caption(fig, about(ds, *details))
    return fig


# -- effects --


def at_the_end(ds: xr.Dataset, activation: str, *names: str) -> xr.DataArray:
    """The test accuracy after the last update from these starts, in percent."""
    return 100 * ds.test_accuracy.sel(activation=activation, start=list(names), drop=True).isel(score=-1, drop=True)


def of_random(ds: xr.Dataset, activation: str) -> xr.DataArray:
    """The test accuracy after the last update from random weights, in percent."""
    return at_the_end(ds, activation, *of_kind(ds, "random")).isel(start=0, drop=True)


def apart_in_ulp(ds: xr.Dataset, names: list[str]) -> xr.DataArray:
    """For each seed and activation the largest difference between two units of a layer over the run, from these starts.

    In units of the last place of the layer's largest weight at the time; a diverged network counts until it diverges.
    """
    some = ds.sel(start=names)
    ulp = xr.apply_ufunc(np.spacing, some["size"].astype(np.float32))
    return (some.spread / ulp).fillna(0).max(("start", "update", "layer"))


def _ulp(kind):
    def detail(ds):
        most = float(apart_in_ulp(ds, of_kind(ds, kind)).max())
        return f"On {ds.device}, in float32: the largest difference is {most:.3g} ulp; equal is up to {ROUNDING}."

    return detail


def noise_growth(ds: xr.Dataset, activation: str) -> xr.DataArray:
    """Growth in decades of the difference of units that start almost equal, from the first update to the last."""
    spread = ds.spread.sel(activation=activation, start=of_kind(ds, "noise")[0], drop=True).max("layer")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(spread.isel(update=-1, drop=True) / spread.isel(update=0, drop=True))


EXACTLY = (
    lab.Claim(
        "Units that start equal stay equal, in float64",
        lambda ds: ds.exact_spread.max("equal"),
        *(lab.exactly(EXACT), "(relative)", "claim 3", "spread"),
        each="activation",
        detail=f"It is relative to the layer's largest weight, over {EXACT_STEPS} updates or all; rounding leaves "
        f"less than {EXACT:g}.",
    ),
    lab.Claim(
        "A network of equal weights is one of width 1, rescaled, in float64",
        lambda ds: ds.exact_gap.max("equal"),
        *(lab.exactly(EXACT), "nats", "claim 3", "loss"),
        each="activation",
        detail=f"It is of the losses, over {EXACT_STEPS} updates or all; rounding leaves less than {EXACT:g}.",
    ),
    lab.Claim(
        "Units that start equal stay equal to the last places of float32, on this device",
        lambda ds: apart_in_ulp(ds, of_kind(ds, "equal")) <= ROUNDING,
        *(lab.always(), "", "claim 3", "spread"),
        each="activation",
        detail=_ulp("equal"),
        secondary=True,
    ),
    lab.Claim(
        "Nothing but random initial weights breaks the symmetry: under dropout equal units stay equal",
        lambda ds: apart_in_ulp(ds, of_kind(ds, "dropout")) <= ROUNDING,
        *(lab.always(), "", "claim 3", "spread"),
        each="activation",
        detail=_ulp("dropout"),
    ),
)


def of_learning(activation: str) -> tuple[lab.Claim, ...]:
    """Claims on how well networks of equal weights learn, with an activation."""
    name = TITLES[activation]
    equal = lambda ds: at_the_end(ds, activation, *of_kind(ds, "equal"))
    guessing = "The effect is the test accuracy minus that of guessing the most common class."
    return (
        lab.Claim(
            f"Equal weights of every size learn worse than random ones ({name})",
            lambda ds: of_random(ds, activation) - equal(ds),
            *(lab.above(0.0), "points", "claim 3", "accuracy"),
            each="start",
            detail="The effect is how far the test accuracy is below.",
        ),
        lab.Claim(
            f"Equal weights of no size learn: they end no better than guessing ({name})",
            lambda ds: equal(ds) - 100 * ds.guessing,
            *(lab.below(POINTS), "points", "claim 3", "accuracy"),
            each="start",
            detail=guessing,
            secondary=True,
        ),
        lab.Claim(
            f"All-zero weights cannot learn: they end no better than guessing ({name})",
            lambda ds: at_the_end(ds, activation, ZEROS).isel(start=0, drop=True) - 100 * ds.guessing,
            *(lab.below(POINTS), "points", "claim 3", "accuracy"),
            detail=guessing,
            where=lab.has("equal", ZEROS),
            secondary=True,
        ),
        lab.Claim(
            f"Units that start almost equal move apart ({name})",
            lambda ds: noise_growth(ds, activation),
            *(lab.above(0.0), "decades", "claim 3", "spread"),
            detail=lambda ds: (
                f"It is of {of_kind(ds, 'noise')[0]}: their largest difference after the last update by "
                "that after the first."
            ),
            secondary=True,
        ),
    )


def tables(ds: xr.Dataset) -> Mapping[str, list[dict[str, Any]]]:
    """For every activation and start: final loss and accuracy, the difference of its units, the rank of its
    matrices."""
    last = ds.isel(score=-1, update=-1)
    rows = []
    for activation, start in itertools.product(ds.activation.values.tolist(), ds.start.values.tolist()):
        one = last.sel(activation=activation, start=start)
        rows.append(
            {
                "activation": activation,
                "start": start,
                "loss, last 50": float(one.loss.isel(step=slice(-50, None)).mean()),
                "test accuracy": float(one.test_accuracy.mean()),
                "spread": float(one.spread.max()),
                "rank": [float(one["rank"].sel(matrix=m).mean()) for m in ds.matrix.values],
                "diverged": int((one.diverged_at >= 0).sum()),
            }
        )
    return {"ends": rows}


def summary(ds: xr.Dataset) -> str:
    """Final loss and accuracy of each start, one line per start."""
    ends = tables(ds)["ends"]
    lines = [f"{'':>9} {'':<24}{'loss, last 50':>14}{'test accuracy':>15}{'units differ by':>17}   ranks of W"]
    lines += [
        f"{TITLES[row['activation']]:>9} {row['start']:<24}{row['loss, last 50']:14.4f}{row['test accuracy']:15.2%}"
        f"{row['spread']:17.2g}   {', '.join(f'{rank:.3g}' for rank in row['rank'])}"
        for row in ends
    ]
    return "\n".join(lines)


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The question that is §2.1's title."""
    if ZEROS not in ds.equal:
        return []
    sentences = []
    for activation in ds.activation.values.tolist():
        zeros = at_the_end(ds, activation, ZEROS).isel(start=0).values
        above = side(zeros, 100 * ds.guessing + POINTS)
        learned = {-1: "no more than guessing", 1: "more than guessing"}.get(above, "perhaps more than guessing")
        sentences.append(
            f"With {TITLES[activation]} they learn {learned}: {zeros.mean():.1f} % of the test set, where random ones "
            f"reach {float(of_random(ds, activation).mean()):.1f} %."
        )
    most = float(apart_in_ulp(ds, of_kind(ds, "equal")).max())
    sentences.append(
        f"The units of a hidden layer stay copies of each other, to {most:.3g} ulp on this device ({ds.device})."
        if most <= ROUNDING
        else f"On this device ({ds.device}) units that start equal differ by rounding alone, up to {most:.3g} ulp; in "
        f"float64 they differ by {float(ds.exact_spread.max()):.1g} of their size."
    )
    question = "May all weights start at 0?"
    return [lab.Answer(question, " ".join(sentences), "accuracy", ds.sizes["seed"], "question §2.1")]


EXPERIMENT = lab.Experiment(
    question="Can a network learn from weights that all start equal?",
    source="notes §2.1",
    says="Units that start equal get equal updates, so the network has no use of its many weights and cannot "
    "learn properly; only random initial values break the symmetry.",
    method="Trains 784-50-50-10 (two hidden layers) with sigmoid and with ReLU from weights that are all the same "
    "constant, from random ones (Xavier's for sigmoid, He's for ReLU), and from equal ones with a little noise "
    "or dropout: by Momentum, since plain SGD needs far longer with sigmoid. Measured are test accuracy, the largest "
    "difference between two units of a hidden layer (in the weights that enter them, their biases, and the "
    "weights that leave them) and the rank of every W.\n\nWhat equal weights can learn has an exact answer, "
    "which is trained too: with units that are copies of each other, the network is one of width 1, whose "
    "weights are the sums over the copies and whose update rule is rescaled. So it does learn, as much as one "
    "unit per layer can. This is exact but for rounding: where a processor rounds the sums of two units "
    "differently, training amplifies the difference in float32, so the theory is compared in float64. All-zero "
    "weights learn less with ReLU than with sigmoid, which gives 1/2 at 0: where every unit gives 0 and has "
    "slope 0 there, only the last bias moves.",
    takes="about 45 seconds for 10 seeds of 1,000 updates on two cores",
    config=Config,
    quick={"seeds": 2, "steps": 200, "width": 20, "noises": (1e-4, 1e-2), "dataset": "mnist_5k"},
    run=run,
    claims=(*EXACTLY, *of_learning("sigmoid"), *of_learning("relu")),
    figures={
        "spread": spreads,
        "loss": losses,
        "rank": partial(ranks, what="rank", y="rank"),
        "stable_rank": partial(ranks, what="stable_rank", y="stable rank"),
        "accuracy": accuracies,
    },
    answers=answers,
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
