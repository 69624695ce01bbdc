"""Which update rule learns MNIST fastest when each has its own best learning rate? (notes §1.5, beyond figure 06)"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.updates._contest import NETWORK, SMOOTH, Contest, speed, steps_to
from fnn import lab, sweep, tasks
from fnn.base.errors import require
from fnn.base.statistics import interval, middle
from fnn.data import DataSet
from fnn.lab import figures, plotting
from fnn.lab.titles import STYLE, title
from fnn.rule import hyper
from fnn.tasks import Split, Task

VALIDATION = 1 / 6
"""The share of the training images that is set aside to choose learning rates."""
FEW = 8
"""Rules that share a program and a set of axes; more are trained in several programs and have a panel each."""


@dataclass(frozen=True)
class Config(Contest):
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
        for name, rule in self.rules().items():
            has_rate = hyper.lr_path(rule.hyper) is not None
            require(has_rate, f"--optimizers takes rules with a learning rate, which {name} does not have.")
        require(self.target > 0, f"--target is a loss of more than 0, not {self.target}.")


def default_rates(cfg: Config) -> dict[str, float]:
    """The default learning rate of each rule."""
    return {name: hyper.get(rule.hyper, hyper.lr_path(rule.hyper) or "lr") for name, rule in cfg.rules().items()}


def learning(images: DataSet, batch: int) -> Task:
    """The task, with validation images set aside from the end of the training images; metrics of these and the test
    images."""
    n = len(images.y_train) - int(VALIDATION * len(images.y_train))
    require(batch <= n, f"--batch is at most the {n:,} images of {images.name} to train on, not {batch:,}.")
    whole = tasks.splits(images)
    first, rest = (Split(whole["train"].x[part], whole["train"].y[part]) for part in (slice(n), slice(n, None)))
    scored = {"validation": rest, "test": whole["test"]}
    task = tasks.classification(NETWORK, {"train": first, **scored}, batch)

    def metrics(hp, params, stats, data):
        return task.metrics(hp, params, stats, {name: data[name] for name in scored})

    return task._replace(metrics=metrics, about={**task.about, **images.about})


def run(cfg: Config) -> xr.Dataset:
    """Losses and accuracies of every rule at every learning rate; grids whose best rate lies on an end are extended.

    Dimensions rule, setting (the number of a learning rate in a rule's grid, from the smallest), seed, step.
    """
    task, default = learning(cfg.load(), cfg.batch), default_rates(cfg)
    grid = {name: [lr * 10 ** (k / 2 - 1) for k in range(cfg.rates)] for name, lr in default.items()}
    ds = trained(cfg, task, grid, "grid")
    for number in range(cfg.extensions):
        wider = beyond(ds)
        if not wider:
            break
        print("extended:", ", ".join(f"{title(name)} to {rates[-1]:.3g}" for name, rates in wider.items()), flush=True)
        ds = joined(ds, trained(cfg, task, wider, f"extension {number + 1}"))
    return ds.assign_coords(default_lr=("rule", list(default.values()))).assign_attrs(target=cfg.target)


def trained(cfg: Config, task: Task, rates: Mapping[str, Sequence[float]], part: str) -> xr.Dataset:
    """Each rule at its learning rates, the same number for all, `FEW` rules in a program."""
    rules, names = cfg.rules(), list(rates)
    found: list[xr.Dataset] = []
    for first in range(0, len(names), FEW):
        some = names[first : first + FEW]
        ds = sweep(
            *(task, {name: rules[name] for name in some}),
            over={"lr": {name: rates[name] for name in some}},
            seeds=cfg.seeds,
            steps=cfg.steps,
            loss_after=True,
            keep=cfg.keep(f"{part} {first // FEW}"),
            progress=True,
        )
        found.append(ds.drop_vars("diverged_at").isel(update=-1, drop=True))
    return xr.concat(found, "rule", combine_attrs="drop_conflicts")


def joined(ds: xr.Dataset, wider: xr.Dataset) -> xr.Dataset:
    """Both with the learning rates of each rule in ascending order; a rule with fewer than others has NaN last."""
    each = []
    for name in ds.rule.values:
        parts = [part.sel(rule=[name]) for part in (ds, wider) if name in part.rule]
        one = xr.concat(parts, "setting", combine_attrs="drop_conflicts")
        lr = one.lr.values[0]
        order = np.argsort(lr)[: np.isfinite(lr).sum()]
        each.append(one.isel(setting=order).assign_coords(setting=np.arange(len(order))))
    return xr.concat(each, "rule", join="outer", combine_attrs="drop_conflicts").drop_vars("setting")


def best(ds: xr.Dataset) -> xr.DataArray:
    """The number of each rule's best learning rate over all seeds: the lowest mean loss, with no diverged seed."""
    return speed(ds).where(np.isfinite(speed(ds)), np.inf).mean("seed").argmin("setting")


def on_edge(ds: xr.Dataset) -> xr.DataArray:
    """Whether each rule's best learning rate is the first or the last of its grid."""
    return (best(ds) == 0) | (best(ds) == ds.lr.notnull().sum("setting") - 1)


def beyond(ds: xr.Dataset) -> dict[str, list[float]]:
    """For each rule whose best learning rate is the first or the last of its grid, two rates on that side."""
    wider = {}
    for name in ds.rule.values[on_edge(ds).values]:
        one = ds.sel(rule=name)
        place = int(best(ds).sel(rule=name))
        if np.isfinite(speed(one).isel(setting=place)).all():
            sign = -1 if place == 0 else 1
            wider[str(name)] = [float(one.lr[place]) * 10 ** (sign * k / 2) for k in (1, 2)]
    return wider


def at_best(ds: xr.Dataset, name: str) -> xr.Dataset:
    """A rule at the learning rate that is best over all seeds."""
    return ds.sel(rule=name).isel(setting=int(best(ds).sel(rule=name)))


def at_default(ds: xr.Dataset, name: str) -> xr.Dataset | None:
    """A rule at its default learning rate; None where that was not tried."""
    one = ds.sel(rule=name)
    found = np.isclose(one.lr.values, float(one.default_lr), rtol=1e-6)
    return one.isel(setting=int(found.argmax())) if found.any() else None


def judged_speed(ds: xr.Dataset) -> xr.DataArray:
    """Each seed's mean loss at the learning rate where that is lowest in the mean over the other half of the seeds."""
    return lab.at_best(speed(ds), speed(ds), "setting", lower=True)


def judged_accuracy(ds: xr.Dataset) -> xr.DataArray:
    """Each seed's test accuracy, in percent, at the learning rate whose accuracy on validation images is highest in
    the mean over the other half of the seeds."""
    return 100 * lab.at_best(ds.test_accuracy, ds.validation_accuracy.where(np.isfinite(speed(ds))), "setting")


def chosen(judged: Callable[[xr.Dataset], xr.DataArray], *names: str) -> Callable[[xr.Dataset], str]:
    """The sentence of a verdict on the learning rates that were chosen."""

    def sentence(ds):
        rates = judged(ds).lr
        parts = []
        for name in names:
            lr, tried = rates.sel(rule=name).values, ds.lr.sel(rule=name).values
            ends = np.isin(lr, [np.nanmin(tried), np.nanmax(tried)]).any()
            each = " or ".join(f"{one:.3g}" for one in np.unique(lr))
            parts.append(f"{title(name)}, lr {each}{' (on the edge of its grid)' if ends else ''}")
        return f"Chosen on the other half of the seeds: {'; '.join(parts)}."

    return sentence


def ahead(better: str, worse: str) -> tuple[lab.Claim, lab.Claim]:
    """One rule learns faster than another and ends with a higher test accuracy, each at its own best rate."""
    one, other = title(better), title(worse)
    present = lab.has("rule", better, worse)
    where = lambda ds: "setting" in ds.dims and present(ds)
    return (
        lab.Claim(
            f"At its own best learning rate {one} learns faster than {other} at its own",
            lab.ahead(judged_speed, "rule", better, worse, lower=True),
            lab.above(0.0),
            "nats",
            source="claim 2",
            figure="loss_at_best",
            detail=chosen(judged_speed, better, worse),
            where=where,
        ),
        lab.Claim(
            f"At its own best learning rate {one} ends with a higher test accuracy than {other} at its own",
            lab.ahead(judged_accuracy, "rule", better, worse),
            lab.above(0.0),
            "points",
            source="claim 2",
            figure="sensitivity",
            detail=chosen(judged_accuracy, better, worse),
            where=where,
            secondary=True,
        ),
    )


def ranking(ds: xr.Dataset) -> list[dict]:
    """A row for each rule, that with the fewest steps to the target at its best learning rate first; those that do not
    reach it with every seed come after, by their final loss on validation images."""

    def counted(one):
        if one is None:
            return {"reached": None, "steps": None, "low": None, "high": None}
        steps = steps_to(one.loss, ds.target).values
        reached = np.isfinite(steps)
        mean, low, high = interval(steps) if reached.all() else (np.nan,) * 3
        found = {"reached": int(reached.sum()), "steps": mean, "low": low, "high": high}
        return {what: value if np.isfinite(value) else None for what, value in found.items()}

    rows = []
    for name in map(str, ds.rule.values):
        one = at_best(ds, name)
        loss = float(one.validation_loss.mean(skipna=False))
        rows.append(
            {
                "rule": name,
                "best_lr": float(one.lr),
                "on_edge": bool(on_edge(ds).sel(rule=name)),
                "default_lr": float(one.default_lr),
                "seeds": ds.sizes["seed"],
                "target": float(ds.target),
                "validation_loss": loss if np.isfinite(loss) else None,
                "best": counted(one),
                "default": counted(at_default(ds, name)),
            }
        )
    return sorted(rows, key=lambda row: (row["best"]["steps"] or np.inf, row["validation_loss"] or np.inf))


def losses(ds: xr.Dataset) -> Figure:
    """Training losses, each rule at its best learning rate."""
    if ds.sizes["rule"] > FEW:
        return losses_in_panels(ds)
    called = lambda name: f"{title(name)}, lr {float(at_best(ds, name).lr):.3g}"
    heading = "Training loss at each rule's best learning rate"
    style = figures.Style(called, STYLE.numbers)
    shape = figures.curves("best_loss", "rule", heading, style=style, smooth=SMOOTH, log="y", columns=2)
    return shape(ds.assign(best_loss=ds.loss.isel(setting=best(ds)).assign_attrs(ds.loss.attrs)))


def sensitivity(ds: xr.Dataset) -> Figure | None:
    """Validation loss after training against the learning rate; rates at which a seed diverged are marked."""
    if not np.isfinite(ds.validation_loss).any():
        return None
    if ds.sizes["rule"] > FEW:
        return sensitivity_in_panels(ds)
    fig = plotting.figure()
    heading = f"Validation loss after {ds.sizes['step']:,} iterations"
    ax = plotting.axes(fig, heading, "learning rate", "validation loss (nats)")
    names = ds.rule.values.tolist()
    for name in names:
        against_rate(ax, ds.sel(rule=name), title(name), STYLE.number(name, names))
    ax.set(xscale="log", yscale="log")
    plotting.legend(fig)
    crosses = "crosses at the top: some seed diverged there"
    plotting.caption(fig, figures.caption(ds, "mean with its 95 % interval", crosses))
    return fig


def against_rate(ax: Axes, one: xr.Dataset, label: str, number: int) -> None:
    """One rule's validation loss against its learning rate."""
    one = one.isel(setting=np.isfinite(one.lr.values))
    loss = one.validation_loss.transpose("seed", "setting").values
    plotting.curve(ax, one.lr.values, loss, label, number, markers=1)
    at = one.lr.values[~np.isfinite(loss).all(0)]
    ax.plot(at, np.full(len(at), 0.985), "x", color=plotting.color(number), transform=ax.get_xaxis_transform())


def panels(ds: xr.Dataset, heading: str, x: str, y: str, draw: Callable[[Axes, str], None], **axis) -> Figure:
    """A small panel for each rule, in the order of the ranking, all on the same vertical axis."""
    names = [row["rule"] for row in ranking(ds)]
    columns = 6
    lines = -(-len(names) // columns)
    fig = plotting.figure(12.0, 1.4 + 1.5 * lines)
    grid = fig.subplots(lines, columns, sharey=True, squeeze=False)
    for ax, name in zip(grid.flat, names, strict=False):
        plotting.dress(ax)
        ax.set_title(title(name), fontsize="small")
        ax.tick_params(labelsize="x-small")
        draw(ax, name)
        ax.set(**axis)
        ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in grid.flat[len(names) :]:
        ax.set_axis_off()
    fig.supylabel(y, fontsize="medium")
    fig.suptitle(heading)
    order = "mean with its 95 % interval · higher losses are cut off · the fewest steps to the target first"
    plotting.caption(fig, f"{x} · {figures.caption(ds)} · {order}")
    return fig


def losses_in_panels(ds: xr.Dataset) -> Figure:
    """Training losses at the default and at the best learning rate, a panel for each rule."""

    def draw(ax, name):
        for number, one in enumerate((at_best(ds, name), at_default(ds, name))):
            if one is not None:
                plotting.curve(ax, ds.step.values, plotting.smooth(one.loss.values, SMOOTH), "", number)
        ax.axhline(ds.target, color="0.4", linestyle=":", linewidth=1)

    x = "across: iterations · blue: best learning rate, orange: default · dotted: the target"
    top = 1.2 * float(ds.loss.isel(step=0).median())
    least = 0.7 * float(ds.loss.where(np.isfinite(ds.loss)).mean("seed").quantile(0.001))
    axis = {"xlim": (0, ds.sizes["step"]), "yscale": "log", "ylim": (least, top)}
    return panels(ds, "Training loss of every rule", x, "loss (nats)", draw, **axis)


def sensitivity_in_panels(ds: xr.Dataset) -> Figure:
    """Validation loss against the learning rate, a panel for each rule."""

    def draw(ax, name):
        one = ds.sel(rule=name)
        against_rate(ax, one, "", 0)
        ax.axvline(float(one.default_lr), color="0.4", linestyle=":", linewidth=1)
        ax.set_xscale("log")

    x = "across: learning rate, its default dotted · crosses: some seed diverged there"
    top = 2 * float(ds.loss.isel(step=0).median())
    heading = f"Validation loss of every rule after {ds.sizes['step']:,} iterations"
    least = 0.8 * float(ds.validation_loss.where(np.isfinite(ds.validation_loss)).mean("seed").min())
    return panels(ds, heading, x, "validation loss (nats)", draw, yscale="log", ylim=(least, top))


def ranks(ds: xr.Dataset) -> Figure:
    """Steps to the target, at the best and at the default learning rate, the fewest first."""
    rows = ranking(ds)
    fig = plotting.figure(7.0, 1.6 + 0.24 * len(rows))
    ax = plotting.axes(fig, f"Steps to a training loss of {ds.target:g} nats", "iterations", "")
    end = ds.sizes["step"]
    for number, (which, lift) in enumerate((("best", -0.22), ("default", 0.22))):
        style = {"color": plotting.color(number), "marker": plotting.MARKERS[number], "markersize": 4}
        label = f"at the {which} learning rate"
        for place, row in enumerate(rows):
            found = row[which]
            steps = found["steps"]
            if steps is None:
                note = f"{found['reached'] or 'none'} of {row['seeds']} seeds" if found["reached"] is not None else ""
                ax.annotate(note, (1.02 * end, place + lift), va="center", fontsize=6, color=plotting.color(number))
                continue
            reach = [[steps - (found["low"] or steps)], [(found["high"] or steps) - steps]]
            ax.errorbar(steps, place + lift, xerr=reach, linestyle="none", linewidth=1, label=label, **style)
            label = None
    names = [title(row["rule"]) + (" *" if row["on_edge"] else "") for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize="small")
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.18 * end))
    if ax.get_legend_handles_labels()[0]:
        plotting.legend(fig, 2)
    how = f"mean with its 95 % interval; loss smoothed over {SMOOTH} iterations"
    beside = "on the right, the number of seeds that reach it where not all do"
    plotting.caption(fig, figures.caption(ds, how, beside, "*: best learning rate on an end of its grid"))
    return fig


def summary(ds: xr.Dataset) -> str:
    """The best learning rates, their losses and accuracies, and which of them lie on the edge of their grid."""
    lines = [f"{'':>20}{'best lr':>10}{'mean loss':>12}{'validation loss':>18}{'test accuracy':>16}"]
    for name in ds.rule.values:
        one = at_best(ds, name)
        lines.append(
            f"{title(name):>20}{float(one.lr):10.3g}{middle(speed(one).values):12.4g}"
            f"{middle(one.validation_loss.values):18.4g}{float(one.test_accuracy.mean()):16.2%}"
        )
        if on_edge(ds).sel(rule=name):
            lines.append(f"{'':20}(on the edge of its grid: a better rate may lie beyond)")
    lines += ["", f"steps to a training loss of {ds.target:g}, the fewest first:"]
    for row in ranking(ds):
        steps = [f"{steps_in_words(row[which], row['seeds']):>32}" for which in ("best", "default")]
        lines.append(f"{title(row['rule']):>20}{steps[0]} at its best rate{steps[1]} at its default")
    return "\n".join(lines)


def steps_in_words(found: dict, seeds: int) -> str:
    """Steps with their interval, or the number of seeds that reach the target."""
    if found["steps"] is None:
        return f"{found['reached'] or 0} of {seeds} seeds"
    if found["low"] is None:
        return f"{found['steps']:.0f}"
    return f"{found['steps']:.0f} [{found['low']:.0f}, {found['high']:.0f}]"


PAIRS = (
    *((name, "sgd") for name in ("momentum", "adagrad", "adam")),
    *(("adagrad", name) for name in ("momentum", "adam")),
)

EXPERIMENT = lab.Experiment(
    question="Which update rule learns MNIST fastest when each has its own best learning rate?",
    source="notes §1.5, beyond figure 06",
    says="Results depend on the learning rate, but in general the other three rules learn faster than SGD.",
    method="As `optimizer_compare_mnist`, but every rule trains at every learning rate of a log grid around its "
    "default, from equal initial weights on the same minibatches. The best rate of a rule is the one with the "
    "lowest training loss in the mean over the run; where it lies on an end of its grid the grid is extended "
    "there, and where it still does, the table marks it. Claims evaluate each seed at the rate that is best for the "
    "other half of the seeds, by the same quantity: the mean loss; or accuracy, chosen on validation images, "
    "which are set aside from the training images, and measured on the test images. A ranking counts the steps to "
    "a training loss of --target, at each rule's default rate and at its best. With --optimizers all every rule "
    "is compared, and the figures have a panel for each.",
    takes="about two minutes for 10 seeds of 500 steps on two cores; every rule takes far longer, five minutes to "
    "compile alone",
    config=Config,
    quick={"seeds": 2, "steps": 60, "rates": 3, "extensions": 0, "dataset": "mnist_5k"},
    run=run,
    claims=tuple(claim for pair in PAIRS for claim in ahead(*pair)),
    figures={"loss_at_best": losses, "sensitivity": sensitivity, "steps_to_target": ranks},
    summary=summary,
    tables=lambda ds: {"ranking": ranking(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
