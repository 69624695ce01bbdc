"""Which update rule learns MNIST fastest when each has its own best learning rate? (notes §1.5, beyond figure 06)

As `optimizer_compare_mnist`, but every rule trains at every learning rate of a log grid around its default, from equal
initial weights on the same minibatches. The best rate of a rule is the one with the lowest mean loss over seeds on
validation images, which are set aside from the training images; the test set has no say in it. Where the best rate lies
on an end of its grid the grid is extended there, and where it still does, the run says so.

The notes say that results depend on the learning rate, but that in general the other three rules learn faster than SGD.

Ranks the rules by the steps they take to a training loss of --target, each at its default learning rate and at its
best. With `--optimizers all` every rule there is races, and the figures have a panel for each.

Takes about two minutes for 10 seeds of 500 steps on two cores. Every rule takes far longer, five minutes to compile
alone.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments import _cli, _lab
from fnn import models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import interval, middle, paired
from fnn.base.types import Key
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.rule import hyper
from fnn.tasks import Split
from fnn.train import Record, engine

HIDDEN = (100, 100, 100, 100)
VALIDATION = 1 / 6
"""The share of the training images that is set aside to choose learning rates by."""
SMOOTH = 31
HELD = 2**30
"""Bytes that the networks of one program hold at most, where they are those of several contenders; checkpoints and what
is computed between take a few times as much. The same everywhere, so that a run goes on on any machine."""
FEW = 8
"""So many contenders share one set of axes; more have a panel each."""


@dataclass(frozen=True)
class Config(_lab.Contest):
    """Settings of the comparison; the network and the minibatches are the notes'."""

    steps: int = 500
    """Updates per network."""
    rates: int = 7
    """Learning rates per rule, half a decade apart, from a tenth of the default upwards."""
    extensions: int = 2
    """How often a grid whose best rate lies on an end is extended there, by two rates each time."""
    target: float = 0.5
    """The training loss, in nats and smoothed, whose first crossing ranks the rules."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, rates=2, extensions=0)
        for name, spec in self.specs().items():
            has_rate = hyper.rate(optim.rule(spec).hyper) is not None
            require(has_rate, f"--optimizers takes rules with a learning rate, which {name} has not.")
        require(self.target > 0, f"--target is a loss of more than 0, not {self.target}.")


QUICK = Config(seeds=2, steps=60, rates=3, extensions=0, dataset="mnist_5k", quick=True)

Found = dict[str, dict[float, Record]]
"""For every contender and learning rate its record: `loss` `[S, steps]`, the others `[S]`."""


def first_grid(cfg: Config) -> dict[str, list[float]]:
    """For every contender the learning rates to begin with."""
    return {
        name: [_lab.default_rate(spec) * 10 ** (k / 2 - 1) for k in range(cfg.rates)]
        for name, spec in cfg.specs().items()
    }


def parts(images: DataSet) -> dict[str, Split]:
    """The data: training images, validation images set aside from their end, test images."""
    whole = _lab.splits(images)
    n = len(images.y_train) - int(VALIDATION * len(images.y_train))
    train_, rest = (Split(whole["train"].x[part], whole["train"].y[part]) for part in (slice(n), slice(n, None)))
    return {"train": train_, "validation": rest, "test": whole["test"]}


def run(cfg: Config) -> xr.Dataset:
    """Train every rule at every learning rate over all seeds; extend grids whose best rate lies on an end."""
    images = _cli.load_data(cfg)
    data = parts(images)
    n = len(data["train"].y)
    require(cfg.batch <= n, f"--batch is at most the {n:,} images of {images.name} to train on, not {cfg.batch:,}.")
    grid = first_grid(cfg)
    many = f"{len(grid)} rules × {cfg.rates} rates × {cfg.seeds} seeds"
    _cli.headline(cfg, images, f"{len(grid) * cfg.rates * cfg.seeds} networks ({many})")
    found: Found = {name: {} for name in grid}
    attrs = train_at(cfg, data, grid, found)
    for number in range(cfg.extensions):
        wider = beyond(found)
        if not wider or not attrs["complete"]:
            break
        print(
            "extended: " + ", ".join(f"{_lab.title(name)} to {rates[-1]:.3g}" for name, rates in wider.items()),
            flush=True,
        )
        attrs = _lab.in_all(attrs, train_at(cfg, data, wider, found, f"extension {number + 1}"))
    ds = label(cfg, images, {name: records for name, records in found.items() if records}).assign_attrs(attrs)
    print(summary(ds))
    return ds


def train_at(
    cfg: Config, data: Mapping[str, Split], rates: Mapping[str, Sequence[float]], found: Found, part: str = "grid"
) -> dict[str, Any]:
    """Train at these learning rates and put the records into `found`; what is cut off is left out, but for the first.

    As many contenders share a program as `HELD` has room for; all are paired, in one program or in several.
    part: tells the sweeps apart. Gives the attributes of the results, see `_lab.Followed`.
    """
    task = tasks.classification(lambda hp: models.multilayer(HIDDEN, 10), batch=cfg.batch)

    def metrics(hp, params, stats, data, of=task.metrics):
        return of(hp, params, stats, {name: data[name] for name in ("validation", "test")})

    task = task._replace(metrics=metrics)
    runs, hps, keys = {}, {}, engine.seeds(cfg.seeds)
    for name, tried in rates.items():
        rule = optim.rule(cfg.specs()[name])
        runs[name] = engine.over_hypers(
            train.training(task, rule, cfg.steps, loss_after=True, evaluate_at=(cfg.steps,))
        )
        hps[name] = train.Hyper(engine.grid(rule.hyper, **{hyper.rate(rule.hyper) or "lr": tried}))
    bytes_each = {name: cfg.seeds * held(runs[name], hps[name], keys[0], data) for name in runs}
    attrs: dict[str, Any] = {"complete": 1, "train_seconds": 0.0, "compile_seconds": 0.0}
    programs = groups(bytes_each)
    for number, names in enumerate(programs):
        if len(programs) > 1:
            told = ", ".join(_lab.title(name) for name in names)
            print(f"{part}, program {number + 1} of {len(programs)}: {told}", flush=True)
        mine = {name: runs[name] for name in names}
        where = f"{part} {number}"
        chunks = _lab.stream(cfg, mine, hps, keys, data, cfg.steps, chunk=min(50, cfg.steps), part=where)
        try:
            followed = _lab.follow(chunks, cfg.steps)
        except KeyboardInterrupt:
            if not any(found.values()):
                raise
            return attrs | {"complete": 0}
        attrs = _lab.in_all(attrs, followed.attrs)
        if attrs["complete"] or not any(found.values()):
            for name in names:
                found[name] |= {lr: of_rate(followed.record[name], i) for i, lr in enumerate(rates[name])}
        if not attrs["complete"]:
            break
    return attrs


def of_rate(record: Record, i: int) -> Record:
    """Of a contender's record what belongs to its i-th learning rate: the loss of every step, all else at the end."""
    one = {what: values[..., i] for what, values in record.items()}
    return {what: values if what == "loss" else values[:, -1] for what, values in one.items()}


def held(run: train.Run, hp: train.Hyper, key: Key, data: Mapping[str, Split]) -> int:
    """Bytes that the networks of a run hold for one seed."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(run.start, hp, key, data)))


def groups(bytes_each: Mapping[str, int]) -> list[list[str]]:
    """The contenders in their order, as many together as `HELD` has room for, and at least one."""
    found, room = [], 0
    for name, size in bytes_each.items():
        if size > room:
            found.append([])
            room = HELD
        found[-1].append(name)
        room -= size
    return found


def beyond(found: Found) -> dict[str, list[float]]:
    """For every contender whose best rate is the first or the last of its grid, two rates on that side."""
    wider = {}
    for name, records in found.items():
        rates = sorted(records)
        scores = [np.nan_to_num(records[lr]["validation_loss"].mean(), nan=np.inf) for lr in rates]
        best = int(np.argmin(scores))
        if np.isfinite(scores[best]) and best in (0, len(rates) - 1):
            sign = -1 if best == 0 else 1
            wider[name] = [rates[best] * 10 ** (sign * k / 2) for k in (1, 2)]
    return wider


def label(cfg: Config, images: DataSet, found: Found) -> xr.Dataset:
    """Dims optimizer, rate (number of a learning rate in a contender's grid, from the smallest), seed, step."""
    names, most = list(found), max(map(len, found.values()))
    rates = {name: sorted(records) for name, records in found.items()}

    def stacked(what):
        rows = [np.stack([found[name][lr][what] for lr in rates[name]]) for name in names]
        return np.stack([np.concatenate([r, np.full((most - len(r), *r.shape[1:]), np.nan)]) for r in rows])

    lr = np.stack([np.pad(rates[name], (0, most - len(rates[name])), constant_values=np.nan) for name in names])
    ds = xr.Dataset(
        {
            "loss": (
                ("optimizer", "rate", "seed", "step"),
                stacked("loss").astype(np.float32),
                {"long_name": "minibatch loss after the update", "units": "nats"},
            )
        },
        {
            "optimizer": names,
            "lr": (("optimizer", "rate"), lr),
            "default_lr": ("optimizer", [_lab.default_rate(cfg.specs()[name]) for name in names]),
            "seed": np.arange(cfg.seeds),
        },
        {**_lab.origin(images), "batch": cfg.batch, "target": cfg.target},
    )
    for split in ("validation", "test"):
        for what, units in (("loss", "nats"), ("accuracy", "1")):
            name = f"{split}_{what}"
            ds[name] = ("optimizer", "rate", "seed"), stacked(name), {"units": units}
    return ds.assign_coords(step=np.arange(ds.sizes["step"]))


def chosen(ds: xr.Dataset, name: str) -> int:
    """The number of a contender's best learning rate: the lowest mean validation loss, with no diverged seed."""
    scores = ds.validation_loss.sel(optimizer=name).mean("seed", skipna=False)
    return int(scores.fillna(np.inf).argmin("rate"))


def on_edge(ds: xr.Dataset, name: str) -> bool:
    """Whether a contender's best learning rate is the first or the last that was tried."""
    tried = int(np.isfinite(ds.lr.sel(optimizer=name)).sum())
    return chosen(ds, name) in (0, tried - 1)


def at_best(ds: xr.Dataset, name: str) -> xr.Dataset:
    """A contender at its best learning rate."""
    return ds.sel(optimizer=name).isel(rate=chosen(ds, name))


def at_default(ds: xr.Dataset, name: str) -> xr.Dataset | None:
    """A contender at the learning rate it comes with; None where that was not tried."""
    one = ds.sel(optimizer=name)
    found = np.isclose(one.lr.values, float(one.default_lr), rtol=1e-6)
    return one.isel(rate=int(found.argmax())) if found.any() else None


def steps_to_target(ds: xr.Dataset, one: xr.Dataset) -> np.ndarray:
    """How many steps every seed took until its smoothed loss was at the target, `[S]`; infinite where it never was."""
    there = plotting.smooth(one.loss.values, SMOOTH) <= ds.target
    return np.where(there.any(-1), there.argmax(-1) + 1, np.inf)


def ranking(ds: xr.Dataset) -> list[dict]:
    """A row a contender, the quickest to the target at its best learning rate first; those that some seed kept from it
    come after, by the loss they end at on validation images."""

    def counted(one):
        if one is None:
            return {"reached": None, "steps": None, "low": None, "high": None}
        steps = steps_to_target(ds, one)
        reached = np.isfinite(steps)
        mean, low, high = interval(steps) if reached.all() else (np.nan,) * 3
        found = {"reached": int(reached.sum()), "steps": mean, "low": low, "high": high}
        return {what: value if np.isfinite(value) else None for what, value in found.items()}

    rows = []
    for name in ds.optimizer.values:
        best, default = at_best(ds, name), at_default(ds, name)
        diverged = ~np.isfinite(best.validation_loss.values)
        rows.append(
            {
                "optimizer": str(name),
                "best_lr": float(best.lr),
                "on_edge": on_edge(ds, name),
                "default_lr": float(best.default_lr),
                "seeds": ds.sizes["seed"],
                "target": float(ds.target),
                "validation_loss": None if diverged.any() else float(best.validation_loss.mean()),
                "best": counted(best),
                "default": counted(default),
            }
        )
    order = lambda row: (row["best"]["steps"] or np.inf, row["validation_loss"] or np.inf)
    return sorted(rows, key=order)


def tables(ds: xr.Dataset) -> dict[str, list[dict]]:
    """The ranking, as the file `ranking.json`."""
    return {"ranking": ranking(ds)}


def called(ds: xr.Dataset, name: str) -> str:
    """A contender with its best learning rate, as people write it."""
    return f"{_lab.title(name)}, lr {float(at_best(ds, name).lr):.3g}"


def about(ds: xr.Dataset) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"minibatch {ds.batch}")


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Loss curves at the best learning rates, how much each rule minds its learning rate, and the ranking."""
    many = ds.sizes["optimizer"] > FEW
    made = {"loss_at_best": losses_in_panels(ds) if many else losses(ds), "steps_to_target": ranks(ds)}
    if np.isfinite(ds.validation_loss).any():
        made["sensitivity"] = sensitivity_in_panels(ds) if many else sensitivity(ds)
    return made


def losses(ds: xr.Dataset) -> Figure:
    """Training losses, every contender at its best learning rate."""
    names = list(ds.optimizer.values)
    rates = xr.DataArray([chosen(ds, name) for name in names], {"optimizer": names}, "optimizer")
    best = ds.loss.sel(optimizer=rates.optimizer).isel(rate=rates)
    called_so = lambda name: called(ds, name)
    look = lambda name: _lab.look(name, names)
    title = "Training loss at each rule's best learning rate"
    return _lab.loss_figure(best, title, called_so, look, about(ds), window=SMOOTH, columns=2, yscale="log")


def sensitivity(ds: xr.Dataset) -> Figure:
    """Validation loss after training against the learning rate; rates at which a seed diverged are marked."""
    fig = plotting.figure()
    ax = plotting.axes(
        fig, f"Validation loss after {ds.sizes['step']:,} iterations", "learning rate", "validation loss (nats)"
    )
    for name in ds.optimizer.values:
        minded(ax, ds.sel(optimizer=name), _lab.title(name), _lab.look(name, list(ds.optimizer.values)))
    ax.set(xscale="log", yscale="log")
    plotting.legend(fig)
    plotting.caption(fig, f"{about(ds)}; mean with its 95 % interval; crosses at the top: some seed diverged there")
    return fig


def minded(ax: Axes, one: xr.Dataset, label: str, number: int) -> None:
    """One contender's validation loss against its learning rate."""
    tried = np.isfinite(one.lr.values)
    loss = one.validation_loss.values[tried]
    plotting.curve(ax, one.lr.values[tried], loss.T, label, number, markers=1)
    diverged = ~np.isfinite(loss).all(1)
    at = one.lr.values[tried][diverged]
    ax.plot(at, np.full(len(at), 0.985), "x", color=plotting.colour(number), transform=ax.get_xaxis_transform())


def panels(ds: xr.Dataset, title: str, x: str, y: str, draw: Callable[[Axes, str], None], **axis) -> Figure:
    """A small panel a contender, in the order of the ranking, all on the same vertical axis."""
    names = [row["optimizer"] for row in ranking(ds)]
    columns = 6
    lines = -(-len(names) // columns)
    fig = plotting.figure(12.0, 1.4 + 1.5 * lines)
    grid = fig.subplots(lines, columns, sharey=True, squeeze=False)
    for ax, name in zip(grid.flat, names, strict=False):
        plotting.dress(ax)
        ax.set_title(_lab.title(name), fontsize="small")
        ax.tick_params(labelsize="x-small")
        draw(ax, name)
        ax.set(**axis)
        ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in grid.flat[len(names) :]:
        ax.set_axis_off()
    fig.supylabel(y, fontsize="medium")
    fig.suptitle(title)
    told = "mean with its 95 % interval · higher losses are cut off · the quickest to the target come first"
    plotting.caption(fig, f"{x} · {about(ds)} · {told}")
    return fig


def losses_in_panels(ds: xr.Dataset) -> Figure:
    """Training losses at the default and at the best learning rate, a panel a contender."""

    def draw(ax, name):
        for number, one in enumerate((at_best(ds, name), at_default(ds, name))):
            if one is not None:
                plotting.curve(ax, ds.step.values, plotting.smooth(one.loss.values, SMOOTH), "", number)
        ax.axhline(ds.target, color="0.4", linestyle=":", linewidth=1)

    x = "across: iterations · blue: best learning rate, orange: default · dotted: the target"
    title = "Training loss of every rule"
    top = 1.2 * float(ds.loss.isel(step=0).median())
    least = 0.7 * float(ds.loss.where(np.isfinite(ds.loss)).mean("seed").quantile(0.001))
    return panels(ds, title, x, "loss (nats)", draw, xlim=(0, ds.sizes["step"]), yscale="log", ylim=(least, top))


def sensitivity_in_panels(ds: xr.Dataset) -> Figure:
    """Validation loss against the learning rate, a panel a contender."""

    def draw(ax, name):
        one = ds.sel(optimizer=name)
        minded(ax, one, "", 0)
        ax.axvline(float(one.default_lr), color="0.4", linestyle=":", linewidth=1)
        ax.set_xscale("log")

    x = "across: learning rate, its default dotted · crosses: some seed diverged there"
    top = 2 * float(ds.loss.isel(step=0).median())
    title = f"Validation loss of every rule after {ds.sizes['step']:,} iterations"
    least = 0.8 * float(ds.validation_loss.where(np.isfinite(ds.validation_loss)).mean("seed").min())
    return panels(ds, title, x, "validation loss (nats)", draw, yscale="log", ylim=(least, top))


def ranks(ds: xr.Dataset) -> Figure:
    """Steps to the target, at the best and at the default learning rate, the quickest first."""
    rows = ranking(ds)
    fig = plotting.figure(7.0, 1.6 + 0.24 * len(rows))
    ax = plotting.axes(fig, f"Steps to a training loss of {ds.target:g} nats", "iterations", "")
    end = ds.sizes["step"]
    for number, (which, lift) in enumerate((("best", -0.22), ("default", 0.22))):
        style = {"color": plotting.colour(number), "marker": plotting.MARKERS[number], "markersize": 4}
        label = f"at the {which} learning rate"
        for rung, row in enumerate(rows):
            found = row[which]
            steps = found["steps"]
            if steps is None:
                note = f"{found['reached'] or 'none'} of {row['seeds']} seeds" if found["reached"] is not None else ""
                ax.annotate(note, (1.02 * end, rung + lift), va="center", fontsize=6, color=plotting.colour(number))
                continue
            reach = [[steps - (found["low"] or steps)], [(found["high"] or steps) - steps]]
            ax.errorbar(steps, rung + lift, xerr=reach, linestyle="none", linewidth=1, label=label, **style)
            label = None
    names = [_lab.title(row["optimizer"]) + (" *" if row["on_edge"] else "") for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize="small")
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.18 * end))
    if ax.get_legend_handles_labels()[0]:
        plotting.legend(fig, 2)
    plotting.caption(
        fig,
        f"{about(ds)}; mean with its 95 % interval; loss smoothed over {SMOOTH} iterations; on the right, how many "
        "seeds came there where not all did; *: best learning rate on an end of its grid",
    )
    return fig


def summary(ds: xr.Dataset) -> str:
    """The best learning rates and what they reach, a line a contender; which of them lie on the edge of their grid."""
    lines = [f"{'':>20}{'best lr':>10}{'mean loss':>12}{'validation loss':>18}{'test accuracy':>16}"]
    for name in ds.optimizer.values:
        one = at_best(ds, name)
        lines.append(
            f"{_lab.title(name):>20}{float(one.lr):10.3g}{middle(one.loss.mean('step', skipna=False).values):12.4g}"
            f"{middle(one.validation_loss.values):18.4g}{float(one.test_accuracy.mean()):16.2%}"
        )
        if on_edge(ds, name):
            lines.append(f"{'':20}(on the edge of its grid: a better rate may lie beyond)")
    lines += ["", f"steps to a training loss of {ds.target:g}, the quickest first:"]
    for row in ranking(ds):
        told = [f"{told_steps(row[which], row['seeds']):>32}" for which in ("best", "default")]
        lines.append(f"{_lab.title(row['optimizer']):>20}{told[0]} at its best rate{told[1]} at its default")
    return "\n".join(lines)


def told_steps(found: dict, seeds: int) -> str:
    """Steps with their interval, or how many seeds came there."""
    if found["steps"] is None:
        return f"{found['reached'] or 0} of {seeds} seeds"
    if found["low"] is None:
        return f"{found['steps']:.0f}"
    return f"{found['steps']:.0f} [{found['low']:.0f}, {found['high']:.0f}]"


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about figure 06, each rule at its own best learning rate."""
    present = list(ds.optimizer.values)
    pairs = [(name, "sgd") for name in ("momentum", "adagrad", "adam")] + [("adagrad", n) for n in ("momentum", "adam")]
    found = []
    for better, worse in pairs:
        if {better, worse} <= set(present):
            found += ahead(ds, better, worse)
    return found


def ahead(ds: xr.Dataset, better: str, worse: str) -> list[Verdict]:
    """Does one rule learn faster than another and end with a higher test accuracy, each at its best rate?"""
    a, b = at_best(ds, better), at_best(ds, worse)
    edge = [_lab.title(name) for name in (better, worse) if on_edge(ds, name)]
    warning = f" ({' and '.join(edge)} on the edge of the grid)" if edge else ""
    names = f"{called(ds, better)}; {called(ds, worse)}{warning}"
    found = [
        decide(
            f"At its own best learning rate {_lab.title(better)} learns faster than {_lab.title(worse)} at its own",
            paired(*(-one.loss.mean("step", skipna=False).values for one in (a, b))),
            "nats",
            f"{names}: its mean loss over the run is {{effect}} {{unit}} better [{{low}}, {{high}}], {{seeds}} seeds.",
            "claim 2",
        )
    ]
    accuracy = 100 * (a.test_accuracy - b.test_accuracy).values
    if np.isfinite(accuracy).any():
        found.append(
            decide(
                f"At its own best learning rate {_lab.title(better)} ends with a higher test accuracy than "
                f"{_lab.title(worse)} at its own",
                accuracy,
                "points",
                f"{names}: the difference is {{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} paired seeds.",
                "claim 2",
            )
        )
    return found


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
