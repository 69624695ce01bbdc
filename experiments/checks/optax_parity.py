"""Is every hand-written rule its optax twin, and what does each cost?"""

import functools
import inspect
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from tqdm import tqdm

from experiments.benchmarks import _timing
from experiments.checks._dialects import WHY
from fnn import lab, models, optim, schedules, tasks, train
from fnn.base import provenance
from fnn.base.errors import require
from fnn.base.types import Hyper, Params
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.titles import title
from fnn.rule import Rule, apply_updates, gradient_streams, hyper, twins
from fnn.train import engine
from fnn.train.labels import first_not_finite

HIDDEN = (100,)
"""Hidden layers of the networks that both train: every further layer would cost half a minute of compiling."""
TOLERANCE = 1e-12
SHAPES = {"scalar": (), "layers": [{"w": (4, 3), "b": (4,)}]}
"""The arrays that the streams update: a nested tree with one of every rank."""
SIDES = ("ours", "twin")
EVERYONE = [spec for spec in optim.rules() if spec in twins.TWINS and spec not in gradient_streams.ON_FUNCTIONS]
"""The rules and dialects that have a twin along given gradients."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the comparison."""

    seeds: int = 10
    """Streams of gradients of each kind."""
    rules: tuple[str, ...] = ("all",)
    """Rules to compare, NAME or NAME:DIALECT, or all that have a twin."""
    steps: int = 100
    """Updates along every stream."""
    networks: int = 3
    """Networks that each rule and its twin train."""
    train_steps: int = 50
    """Updates per network."""
    batch: int = 128
    """Examples per update of a network, drawn with replacement."""
    parameters: tuple[int, ...] = (1_000_000,)
    """Sizes of the models whose updates are timed."""
    laps: int = 5
    """Timed laps of every update; the median counts."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_distinct(rules="rule", parameters="size")
        self.check_at_least(steps=1, networks=1, train_steps=1, batch=1, laps=1)
        for size in self.parameters:
            require(size >= MATRICES, f"--parameters takes sizes from {MATRICES} on, not {size}.")
        for spec in self.specs():
            twins.twin(spec, optim.rule(spec).hyper)

    def specs(self) -> list[str]:
        """The rules and dialects to compare."""
        return EVERYONE if self.rules == ("all",) else list(self.rules)

    def sizes(self) -> list[int]:
        """The numbers of parameters to time: the nearest to those named that square matrices can have."""
        return sorted({MATRICES * round(math.sqrt(size / MATRICES)) ** 2 for size in self.parameters})


MATRICES = 10
"""Square matrices of a model that is timed: the number of arrays of the notes' network."""
LAP = 5e-3
"""Seconds that a lap lasts at least, which is long enough for the clock."""


def run(cfg: Config) -> xr.Dataset:
    """The differences and times of all rules; after an interrupt, of those that are timed."""
    images = cfg.load(batch=cfg.batch)
    specs = cfg.specs()
    many = f"{2 * len(specs) * cfg.networks} networks ({len(specs)} rules and their twins × {cfg.networks} seeds)"
    device = provenance.describe_devices(jax.local_devices())
    print(f"{many}, {len(specs) * cfg.seeds * len(KINDS):,} streams of gradients on {device}", flush=True)
    losses, drawn = trainer(cfg, images), streams(cfg)
    pairs = {spec: (optim.rule(spec), twins.twin(spec, optim.rule(spec).hyper)) for spec in specs}
    found, complete = [], 1
    differ = lambda spec: [along_streams(cfg, drawn, *pairs[spec], spec), in_training(losses, *pairs[spec])]
    compared = on_all_cores(differ, {spec: spec for spec in pairs}, "differences")
    try:
        for spec, pair in tqdm(pairs.items(), "times", unit="rule", disable=None, leave=False):
            with _timing.uncached():
                found.append(xr.merge([*compared[spec], timed(cfg, *pair)]))
    except KeyboardInterrupt:
        complete = 0
        if not found:
            raise
    ds = xr.concat(found, xr.DataArray(specs[: len(found)], dims="rule", name="rule"))
    # With all rules also the forms that have no twin.
    forms = [spec for spec in (optim.rules() if cfg.rules == ("all",) else specs) if ":" in spec]
    if complete and forms:
        ds = ds.assign(namesake_gap=namesakes(cfg, drawn, forms))
    about = {"dataset": images.name, "checksum": images.checksum, "source": images.source}
    return ds.assign_attrs(about | {"batch": cfg.batch, "device": device, "complete": complete})


def on_all_cores(find: Callable[[Any], Any], items: Mapping[str, Any], what: str) -> dict[str, Any]:
    """`find` of every item, by name, on one thread per core: most of the time is compilation."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        under_way = pool.map(find, items.values())
        try:
            bar = tqdm(under_way, what, len(items), unit="rule", disable=None, leave=False)
            return dict(zip(items, bar, strict=True))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _normal(key, shape):
    return jax.random.normal(key, shape, jnp.float64)


def _all_scales(key, shape):
    k_size, k_scale = jax.random.split(key)
    return _normal(k_size, shape) * 10 ** jax.random.uniform(k_scale, shape, jnp.float64, -8, 8)


def _sign_flips(key, shape):
    signs = (-1.0) ** jnp.arange(shape[0])
    return jnp.tensordot(signs, _normal(key, shape[1:]), 0)


def _sparse(key, shape):
    k_size, k_there = jax.random.split(key)
    return _normal(k_size, shape) * jax.random.bernoulli(k_there, 0.1, shape)


KINDS: dict[str, Callable[..., jax.Array]] = {
    "normal": _normal,
    "tiny": lambda key, shape: 1e-8 * _normal(key, shape),
    "huge": lambda key, shape: 1e8 * _normal(key, shape),
    "all scales": _all_scales,
    "sign flips": _sign_flips,
    "sparse": _sparse,
    "late": lambda key, shape: _normal(key, shape).at[: shape[0] // 2].set(0),
}
"""Streams of gradients that reveal mistakes, `(key, (steps, …)) -> array`; late ones are 0 for half of the time."""


def streams(cfg: Config) -> tuple[Params, Params]:
    """Weights and gradients, kinds × seeds of them as one axis: each leaf `[streams, …]` and `[steps, streams, …]`."""
    shapes, tree = jax.tree.flatten(SHAPES, is_leaf=lambda s: isinstance(s, tuple))

    def of_a_kind(draw, number):
        def one(key):
            keys = jax.random.split(jax.random.fold_in(key, number), (2, len(shapes)))
            w = [_normal(k, shape) for k, shape in zip(keys[0], shapes, strict=True)]
            g = [draw(k, (cfg.steps, *shape)) for k, shape in zip(keys[1], shapes, strict=True)]
            return tree.unflatten(w), tree.unflatten(g)

        return jax.vmap(one, out_axes=(0, 1))(engine.seeds(cfg.seeds))

    def drawn():
        w, g = zip(*(of_a_kind(draw, number) for number, draw in enumerate(KINDS.values())), strict=True)
        together = lambda axis, trees: jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis), *trees)
        return together(0, w), together(1, g)

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(drawn)())


def traced(hyper: Hyper, dtype: Any) -> Hyper:
    """The hyperparameters as arrays, so that both sides compute with the same numbers and XLA folds none of them."""
    return jax.tree.map(lambda h: jnp.asarray(h, dtype), hyper)


def updates(rule: Rule, drawn: tuple[Params, Params]) -> np.ndarray:
    """All updates of a rule along all streams, `[steps, streams, coordinates]`, every operation rounded once."""
    flat = jax.vmap(lambda tree: jax.flatten_util.ravel_pytree(tree)[0])

    def start(hp, weights):
        return jax.vmap(rule.init, (None, 0))(hp, weights), weights

    def step(hp, carry, now):
        (state, w), (g, key) = carry, now
        k_value, k_rule = jax.random.split(key)
        value = jax.random.uniform(k_value, dtype=np.float64)

        def one(g, state, w):
            return rule.update(hp, g, state, w, gradient_streams.extra(g, w, value, k_rule))

        change, state = jax.vmap(one)(g, state, w)
        return (state, apply_updates(w, change)), flat(change)

    @functools.partial(jax.jit, compiler_options=gradient_streams.EXACT)
    def along(hp, w, gs, keys):
        return jax.lax.scan(functools.partial(step, hp), start(hp, w), (gs, keys))[1]

    with jax.enable_x64(True):
        hp = traced(rule.hyper, np.float64)
        weights, gradients = jax.tree.map(jnp.asarray, drawn)
        keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(gradients)[0]))
        return np.asarray(along(hp, weights, gradients, keys))


def differences(a: np.ndarray, b: np.ndarray, least: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(relative, in units in the last place), each relative to the larger of a and b, or to `least` where that is
    larger.

    A value that is finite on one side only counts as 2.
    """
    size = np.maximum(np.maximum(np.abs(a), np.abs(b)), least)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(same, 0, np.abs(a - b) / size)
        ulp = np.where(same, 0, np.abs(a - b) / np.spacing(size))
    far = 2 / np.finfo(a.dtype).eps
    return np.nan_to_num(relative, nan=2, posinf=2), np.nan_to_num(ulp, nan=far, posinf=far)


def along_streams(cfg: Config, drawn: tuple[Params, Params], ours: Rule, twin: Rule, spec: str = "") -> xr.Dataset:
    """The largest difference of an update from its twin's, over every stream and over all streams at every step.

    For rules in `gradient_streams.BY_PLACES` relative to the largest value of the parameter.
    """
    sides = [updates(rule, drawn) for rule in (ours, twin)]
    least = 0.0
    if spec in gradient_streams.BY_PLACES:
        start = np.asarray(jax.vmap(lambda tree: jax.flatten_util.ravel_pytree(tree)[0])(drawn[0]))
        least = np.abs(start + np.cumsum(sides[1], 0)).max(0)
    relative, ulp = (
        each.max(-1).reshape(cfg.steps, len(KINDS), cfg.seeds) for each in differences(sides[0], sides[1], least)
    )
    return xr.Dataset(
        {
            "relative": (("kind", "seed"), relative.max(0), {"long_name": "largest relative difference", "units": "1"}),
            "ulp": (("kind", "seed"), ulp.max(0), {"long_name": "largest difference", "units": "ulp"}),
            "ulp_at_step": (
                "step",
                ulp.max((1, 2)),
                {"long_name": "largest difference over all streams", "units": "ulp"},
            ),
            "lost": ("side", [bool(np.isnan(side).any()) for side in sides], {"long_name": "an update was no number"}),
        },
        {
            "kind": list(KINDS),
            "seed": np.arange(cfg.seeds),
            "step": np.arange(1, cfg.steps + 1),
            "side": list(SIDES),
        },
    )


def namesakes(cfg: Config, drawn: tuple[Params, Params], forms: Sequence[str]) -> xr.DataArray:
    """The differences of other forms of a rule from optax's at the same hyperparameters, with a constant lr and with
    one that falls along a cosine."""

    def falling(rule):
        return schedules.scheduled(rule, schedules.on(hyper.lr_path(rule.hyper) or "lr", schedules.cosine()), cfg.steps)

    def apart(spec):
        form, own = optim.rule(spec), optim.rule(spec.partition(":")[0])
        shared = {name: value for name, value in form.hyper._asdict().items() if name in own.hyper._fields}
        if hasattr(form.hyper, "weight_decay") and not hasattr(own.hyper, "weight_decay"):
            form = form._replace(hyper=form.hyper._replace(weight_decay=0.0))
        own = own._replace(hyper=own.hyper._replace(**shared))
        gaps = []
        for change in (lambda rule: rule, falling):
            relative, _ = differences(*(updates(change(rule), drawn) for rule in (form, own)))
            gaps.append(np.median(relative.reshape(cfg.steps, len(KINDS), -1), -1))
        return gaps

    compared = on_all_cores(apart, {spec: spec for spec in forms}, "forms")
    return xr.DataArray(
        np.stack(list(compared.values()), axis=1),
        {"lr": ["constant", "cosine"], "form": list(forms), "step": np.arange(1, cfg.steps + 1), "kind": list(KINDS)},
        ("lr", "form", "step", "kind"),
        attrs={"long_name": "median relative difference of an update", "units": "1"},
    )


def trainer(cfg: Config, images: DataSet) -> Callable[[Rule], np.ndarray]:
    """`losses(rule)`: the minibatch losses `[network, step]` of the notes' networks that the rule trains, in float32.

    One compiled gradient serves all rules and their twins, so they differ in nothing but the update; compiling every
    whole training would take longer than running all of them.
    """
    task = tasks.classification(lambda hp: models.multilayer(HIDDEN, 10), batch=cfg.batch)
    data = jax.tree.map(jnp.asarray, {"train": tasks.splits(images)["train"]})
    k_init, k_batch, k_rule = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(engine.seeds(cfg.networks))
    weights, stats = jax.jit(jax.vmap(task.init, (None, 0, None)))((), k_init, data)

    def loss_on(stats):
        return lambda w, batch: task.loss((), w, stats, batch, None, True)[0]

    def batch_of(key, data, i):
        return task.batch(data, task.draw(key, data, i))

    @jax.jit
    def gradient(weights, stats, k_batch, data, i):
        def one(w, stats, key):
            return jax.value_and_grad(loss_on(stats))(w, batch_of(key, data, i))

        return jax.vmap(one)(weights, stats, k_batch)

    def losses(rule):
        @jax.jit
        def update(hp, data, i, value, g, state, w):
            def one(stats, k_batch, k_rule, value, g, state, w):
                batch, k_rule = batch_of(k_batch, data, i), jax.random.fold_in(k_rule, i)
                extra = train.extra(loss_on(stats), w, batch, value, k_rule)
                change, state = rule.update(hp, g, state, w, extra)
                return state, apply_updates(w, change)

            return jax.vmap(one)(stats, k_batch, k_rule, value, g, state, w)

        hp = traced(rule.hyper, np.float32)
        state, w, found = jax.vmap(rule.init, (None, 0))(hp, weights), weights, []
        for i in range(cfg.train_steps):
            loss, g = gradient(w, stats, k_batch, data, i)
            state, w = update(hp, data, i, loss, g, state, w)
            found.append(loss)
        return np.stack(found, 1)

    return losses


def in_training(losses: Callable[[Rule], np.ndarray], ours: Rule, twin: Rule) -> xr.Dataset:
    """The differences of the losses of our networks and of the twin's, step by step."""
    a, b = losses(ours), losses(twin)
    dims = ("network", "iteration")
    ds = xr.Dataset(
        {"loss_gap": (dims, np.abs(a - b), {"long_name": "|loss − twin's loss|", "units": "nats"})},
        {"network": np.arange(a.shape[0]), "iteration": np.arange(a.shape[1])},
    )
    ds["diverged_at"] = first_not_finite(xr.DataArray(a + b, dims=("network", "step")))
    return ds


def timed(cfg: Config, ours: Rule, twin: Rule) -> xr.Dataset:
    """Seconds to compile an update and to do one, ours and the twin's in turns, at every size."""
    sizes = cfg.sizes()
    seconds = np.empty((len(SIDES), len(sizes), cfg.laps))
    compiling = np.empty((len(SIDES), len(sizes)))
    for s, size in enumerate(sizes):
        model = _timing.squares(MATRICES, size)
        turn = (-1) ** s  # the side that compiles first may find less in the caches
        contenders = [_timing.update(rule, *model) for rule in (ours, twin)[::turn]][::turn]
        compiling[:, s] = [contender.compile_seconds for contender in contenders]
        seconds[:, s] = _timing.in_turns(contenders, cfg.laps, LAP)
    return xr.Dataset(
        {
            "seconds": (("side", "parameters", "lap"), seconds, {"long_name": "time per update", "units": "s"}),
            "compile_seconds": (("side", "parameters"), compiling, {"long_name": "time to compile", "units": "s"}),
        },
        {"side": list(SIDES), "parameters": sizes, "lap": np.arange(cfg.laps)},
    )


def first_step(ds: xr.Dataset, spec: str) -> int | None:
    """The first update that differs from the twin's at all; None if none does."""
    differs = ds.ulp_at_step.sel(rule=spec) > 0
    return int(ds.step[int(differs.argmax("step"))]) if differs.any() else None


def ratio(ds: xr.Dataset, what: str) -> xr.DataArray:
    """Ours over the twin's."""
    return ds[what].sel(side="ours") / ds[what].sel(side="twin")


def rows(ds: xr.Dataset) -> list[dict]:
    """The measurements, one row per rule and size."""
    found = []
    for spec, size in itertools.product(ds.rule.values, ds.parameters.values):
        one = ds.sel(rule=spec, parameters=size)
        name, _, dialect = str(spec).partition(":")
        found.append(
            {
                "contender": "fnn",
                "rule": name,
                "dialect": dialect or "own",
                "twin": f"fnn.rule.twins.TWINS[{str(spec)!r}]",
                "max_relative_f64": float(one.relative.max()),
                "max_ulp_f64": float(one.ulp.max()),
                "first_step": first_step(ds, spec),
                "why": why(float(one.relative.max()), bool(one.lost.sel(side="twin") & ~one.lost.sel(side="ours"))),
                "max_loss_gap_f32": float(one.loss_gap.max()),
                "parameters": int(size),
                "seconds_ours": float(one.seconds.sel(side="ours").median()),
                "seconds_twin": float(one.seconds.sel(side="twin").median()),
                "compile_ours": float(one.compile_seconds.sel(side="ours")),
                "compile_twin": float(one.compile_seconds.sel(side="twin")),
            }
        )
    return found


VISIBLE = 1e-6
"""Relative difference from which on updates count as different numbers: the accuracy of float32."""


def pages(ds: xr.Dataset) -> dict[str, str]:
    """The table of all twins as `parity.md`; the reasons for differences under one name, as `same_name.md`."""
    return {"parity": parity(ds)} | ({"same_name": same_name(ds)} if "namesake_gap" in ds else {})


def parity(ds: xr.Dataset) -> str:
    """The rows as a table, those furthest from their twin first."""
    size = int(ds.parameters.max())
    lines = [
        "# Our rules beside their optax twins",
        "",
        f"The largest difference of any coordinate of any update along {about_streams(ds)}: in float64 with every "
        "operation rounded once, relative and in units in the last place (ulp), and the first update that differs at "
        f"all. Then the largest difference of a training loss on {ds.attrs['dataset']} after up to "
        f"{ds.sizes['iteration']} updates in float32, as XLA compiles it by default, and the time of an update "
        f"of {size:,} parameters and of its compilation, ours over the twin's, on {ds.device}.",
        "",
        "| rule | relative | ulp | first at | why | loss gap | time | compile |",
        "|---|---|---|---|---|---|---|---|",
    ]
    table = [row for row in rows(ds) if row["parameters"] == size]
    for row in sorted(table, key=lambda row: -row["max_relative_f64"]):
        spec = row["rule"] + ("" if row["dialect"] == "own" else f":{row['dialect']}")
        first = row["first_step"] or "–"
        lines.append(
            f"| `{spec}` | {row['max_relative_f64']:.1e} | {row['max_ulp_f64']:.3g} | {first} | {row['why']} | "
            f"{row['max_loss_gap_f32']:.1e} | "
            f"{row['seconds_ours'] / row['seconds_twin']:.2f} × | {row['compile_ours'] / row['compile_twin']:.2f} × |"
        )
    return "\n".join([*lines, ""])


def why(relative: float, lost: bool) -> str:
    """The reason for a difference; `lost`: only the twin's update is not finite."""
    if lost:
        return "optax divides 0 by 0 while all gradients are 0"
    if relative > TOLERANCE:
        return "other arithmetic"
    return "the same operations in another order" if relative > 0 else "equal"


def same_name(ds: xr.Dataset) -> str:
    """The page `same_name.md`: each form of a rule, and the difference of its updates from optax's."""
    lines = [
        "# Same name, different numbers",
        "",
        "Most rules are written in more than one way: in the paper, in this project's book (*book*), in optax (the "
        "form that has no suffix here) and in PyTorch (*torch*). Below, each other form beside optax's, both at the "
        f"form's own hyperparameters, along {about_streams(ds)}. The number is the median relative difference of an "
        f"update; in brackets the first update at which it is above {VISIBLE:g}.",
        "",
        "| form | normal gradients | tiny ones (1e-8) | 0 for half of the time | normal, lr falling | why |",
        "|---|---|---|---|---|---|",
    ]
    for form in ds.form.values:
        gap = ds.namesake_gap.sel(form=form)
        cells = [("constant", "normal"), ("constant", "tiny"), ("constant", "late"), ("cosine", "normal")]
        texts = [gap_in_words(gap.sel(lr=lr, kind=kind)) for lr, kind in cells]
        lines.append(f"| `{form}` | {' | '.join(texts)} | {WHY.get(str(form), '')} |")
    lines += ["", "The forms, in the words of each rule's file:", ""]
    for name in dict.fromkeys(str(form).partition(":")[0] for form in ds.form.values):
        text = inspect.getdoc(import_module(f"fnn.optim.{name}")) or ""
        lines += [f"## {title(name)}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def gap_in_words(gap: xr.DataArray) -> str:
    """The largest gap over the steps, and the first step at which it is visible."""
    shows = np.flatnonzero(gap.values > VISIBLE)
    largest = float(gap.max())
    return f"{largest:.1e} ({int(gap.step[shows[0]])})" if len(shows) else "equal" if largest == 0 else f"{largest:.0e}"


def summary(ds: xr.Dataset) -> str:
    """The largest differences and the time relative to the twin's, one line per rule."""
    size = int(ds.parameters.max())
    lines = [
        f"{'largest difference of an update:':>54}",
        f"{'':16}{'relative':>10}{'ulp':>9}{'from step':>11}{'loss gap':>10}{'time':>8}{'compile':>9}",
    ]
    for row in rows(ds):
        if row["parameters"] == size:
            spec = row["rule"] + ("" if row["dialect"] == "own" else f":{row['dialect']}")
            lines.append(
                f"{spec:16}{row['max_relative_f64']:10.1e}{row['max_ulp_f64']:9.3g}{row['first_step'] or '–':>11}"
                f"{row['max_loss_gap_f32']:10.1e}"
                f"{row['seconds_ours'] / row['seconds_twin']:7.2f}×{row['compile_ours'] / row['compile_twin']:8.2f}×"
            )
    lines.append(f"Times are ours over the twin's, of an update of {size:,} parameters.")
    return "\n".join(lines)


def about_streams(ds: xr.Dataset) -> str:
    """The caption of a figure of the streams."""
    streams = f"{ds.sizes['seed']} seeds × {ds.sizes['kind']} kinds of gradients"
    return f"{streams}, {ds.sizes['step']} updates of a nested tree in float64"


def ladder(ds: xr.Dataset, *labels: str) -> tuple[Figure, Sequence[Axes]]:
    """Two panels, on log axes of these labels, with one rung per rule."""
    n = ds.sizes["rule"]
    fig = plotting.figure(9.0, 2.0 + 0.3 * n)
    grid = fig.subplots(1, 2, sharey=True)
    for ax, label in zip(grid, labels, strict=True):
        plotting.dress(ax)
        ax.set(xlabel=label, xscale="log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    grid[0].set_yticks(range(n), [title(str(spec)) for spec in ds.rule.values])
    grid[0].set_ylim(n - 0.5, -0.5)
    return fig, grid


def rungs(
    ax: Axes, values: xr.DataArray, across: str, mark: Callable[[np.ndarray], float], number: int, of: int, **errorbar
):
    """Draw on every rung a mark and a bar from the least to the greatest of `values`; `of` such sets share a rung."""
    lift = 0.5 * (number / max(of - 1, 1) - 0.5)
    for rung, one in enumerate(values.transpose("rule", across).values):
        at = mark(one)
        reach = [[at - one.min()], [one.max() - at]]
        style = {"color": plotting.color(number), "marker": plotting.MARKERS[number], "markersize": 4, "linewidth": 1}
        ax.errorbar(at, rung + lift, xerr=reach, linestyle="none", **style, **(errorbar if rung == 0 else {}))


def largest_differences(ds: xr.Dataset) -> Figure:
    """The largest difference of an update from its twin's: in units in the last place, and relative."""
    fig, (left, right) = ladder(ds, "largest difference (ulp)", "largest relative difference")
    # Equal updates cannot be drawn on a log axis; they are drawn at its lower end.
    rungs(left, np.maximum(ds.ulp.max("kind"), 0.2), "seed", np.max, 0, 1)
    rungs(right, np.maximum(ds.relative.max("kind"), 1e-17), "seed", np.max, 0, 1)
    right.axvline(TOLERANCE, color="0.4", linestyle="--", linewidth=1, label=f"{TOLERANCE:g}, the tolerance")
    plotting.legend(fig, 2, "Updates of our rules beside their optax twins'")
    plotting.caption(
        fig,
        f"{about_streams(ds)} · mark: the largest of all, bar: down to the least seed's · equal updates are at the "
        "left end",
    )
    return fig


def by_rule(ds: xr.Dataset, x: str, y: str) -> tuple[Figure, dict[str, tuple[Axes, int, str]]]:
    """One panel per rule for all its dialects: for every spec its panel, its number among the dialects and their
    name."""
    split = {str(spec): (str(spec).partition(":")[0], str(spec).partition(":")[2] or "own") for spec in ds.rule.values}
    names, dialects = (list(dict.fromkeys(part)) for part in zip(*split.values(), strict=True))
    columns = min(3 if len(names) <= 12 else 6, len(names))
    lines = -(-len(names) // columns)
    fig = plotting.figure(3.0 * min(columns, 4), 1.6 + 2.2 * lines * 3 / max(columns, 3))
    grid = fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for ax in grid.flat[len(names) :]:
        ax.set_axis_off()
    panel = dict(zip(names, grid.flat, strict=False))
    for name, ax in panel.items():
        plotting.dress(ax)
        ax.set_title(title(name), fontsize="medium")
        ax.set(yscale="log")
    for ax in grid[-1]:
        ax.set_xlabel(x)
    for ax in grid[:, 0]:
        ax.set_ylabel(y)
    return fig, {spec: (panel[name], dialects.index(dialect), dialect) for spec, (name, dialect) in split.items()}


def drift_of_updates(ds: xr.Dataset) -> Figure:
    """The largest difference of an update along the streams."""
    fig, panels = by_rule(ds, "updates", "difference (ulp)")
    labeled = set()
    for spec, (ax, number, dialect) in panels.items():
        gap = np.maximum(ds.ulp_at_step.sel(rule=spec), 0.2)
        label = None if dialect in labeled else dialect
        ax.plot(ds.step, gap, label=label, color=plotting.color(number), linewidth=1.1)
        labeled.add(dialect)
    plotting.legend(fig, 3, "How far updates are from their optax twins'")
    plotting.caption(fig, f"{about_streams(ds)} · the largest of all streams · equal updates are at the lower end")
    return fig


def drift_of_losses(ds: xr.Dataset) -> Figure:
    """The differences of the losses in training, in float32."""
    fig, panels = by_rule(ds, "updates", "|loss − twin's| (nats)")
    labeled = set()
    for spec, (ax, number, dialect) in panels.items():
        gap = np.maximum(ds.loss_gap.sel(rule=spec), 1e-8)
        label = None if dialect in labeled else dialect
        ax.plot(ds.iteration, gap.max("network"), color=plotting.color(number), label=label, linewidth=1.1)
        ax.fill_between(
            ds.iteration, gap.min("network"), gap.max("network"), color=plotting.color(number), alpha=0.2, linewidth=0
        )
        labeled.add(dialect)
    plotting.legend(fig, 3, "How far training losses drift from the optax twins'")
    diverged = int((ds.diverged_at >= 0).sum())
    plotting.caption(
        fig,
        f"{ds.attrs['dataset']} · minibatch {ds.batch} · float32, where training amplifies the last bit · line: the "
        f"largest of {ds.sizes['network']} paired seeds, band: down to the least · equal losses are at the lower end"
        + (f" · {diverged} diverged runs, drawn up to there" if diverged else ""),
    )
    return fig


def times(ds: xr.Dataset) -> Figure:
    """Time of an update and of its compilation, ours over the twin's."""
    fig, (left, right) = ladder(ds, "time per update, ours / twin's", "time to compile, ours / twin's")
    n = ds.sizes["parameters"]
    quarters = ratio(ds, "seconds").quantile([0.25, 0.5, 0.75], "lap")
    for number, size in enumerate(ds.parameters.values):
        one = quarters.sel(parameters=size)
        rungs(left, one, "quantile", np.median, number, n, label=f"{size:,} parameters")
        compiling = ratio(ds, "compile_seconds").sel(parameters=size).expand_dims("once")
        rungs(right, compiling, "once", np.median, number, n)
    for ax in (left, right):
        ax.axvline(1, color="0.4", linestyle="--", linewidth=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        # Ticks are at powers of 2: with one on either side of 1 the scale can be read.
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, 0.48), max(high, 2.1))
    plotting.legend(fig, 4, "What a hand-written update costs beside optax's")
    plotting.caption(
        fig,
        f"{ds.device} · {ds.sizes['lap']} laps in turns, median and quartiles of the ratio; compiled once · {MATRICES} "
        "square float32 matrices · left of 1 ours is faster",
    )
    return fig


def equal(spec: str) -> lab.Claim:
    """The claim that a rule is its twin, to 1e-12 in float64, one operation at a time."""
    of = " of the parameters" if spec in gradient_streams.BY_PLACES else ""
    return lab.Claim(
        f"{title(spec)} equals its optax twin to {TOLERANCE:g}{of} in float64",
        lambda ds: ds.relative.sel(rule=spec, drop=True),
        lab.exactly(TOLERANCE),
        "of an update's size",
        figure="largest_difference",
        each="kind",
        detail=lambda ds: f"{ds.sizes['seed']} seeds × {ds.sizes['kind']} kinds of gradients.",
        where=lab.has("rule", spec),
    )


EXPERIMENT = lab.Experiment(
    question="Is every hand-written rule its optax twin, and what does each cost?",
    source="side by side, all of `fnn.rule.twins.TWINS`",
    method="""Compares every rule and dialect that has a twin with it: along streams of adversarial gradients, where the
update of every step is compared to the last bit; in the training of small networks on MNIST from the same weights on
the same minibatches; and in the time of compiling and of doing an update.

Equality is decided in float64, with every operation rounded once: to 1e-12 in every coordinate of every update. By
default XLA rounds a·b + c once or twice, and differently in two programs, which is visible where a moving average
passes through 0 (1e-11 and more). The losses in training show the size of such differences in float32 as users run it;
no claim depends on them.

The differences of the book's, the paper's and torch's form of a rule from optax's at the same hyperparameters are
measured too (`same_name.md`).""",
    takes="about three minutes on two cores, most of it compiling",
    alone=True,
    config=Config,
    quick={
        "seeds": 3,
        "rules": ("sgd", "adam:book"),
        "steps": 20,
        "networks": 2,
        "train_steps": 20,
        "parameters": (10_000,),
        "laps": 3,
        "dataset": "mnist_5k",
    },
    run=run,
    claims=tuple(equal(spec) for spec in EVERYONE),
    figures={
        "largest_difference": largest_differences,
        "drift_of_updates": drift_of_updates,
        "drift_of_losses": drift_of_losses,
        "time": times,
    },
    summary=summary,
    tables=lambda ds: {"parity": rows(ds)},
    pages=pages,
)

if __name__ == "__main__":
    EXPERIMENT.main()
