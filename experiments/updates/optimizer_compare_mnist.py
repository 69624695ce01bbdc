"""Which update rule learns MNIST fastest? (notes §1.5, figure 06 and its printed table)"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.updates import optimizer_compare_tuned as tuned
from experiments.updates._contest import NETWORK, Contest, speed, steps_to
from fnn import lab, optim, sweep, tasks
from fnn.base.errors import require
from fnn.base.statistics import middle
from fnn.lab import figures, plotting
from fnn.lab.titles import STYLE, title
from fnn.rule import twins

LAST = 200
"""The final loss is the mean over this many last steps: one minibatch's loss is too noisy."""
ROW_EVERY = 100
"""Iterations between two rows of the printed table."""
TARGET = 0.2
"""The smoothed training loss, in nats, whose first crossing measures the speed of a rule."""
EQUAL = 1.5
"""Rules are about equally fast, and one is slightly faster, where their steps to `TARGET` differ by less than this
factor: SGD takes more than ten times as many."""
CLOSE = 0.05
"""Mean losses are about equal up to this difference, in nats: a twentieth of the height of figure 06."""


@dataclass(frozen=True)
class Config(Contest):
    """Settings of the comparison; the defaults are the notes'."""

    steps: int = 2000
    """Updates per network."""
    twins: bool = False
    """Train each rule's optax twin beside it and report the largest difference."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1)
        require(not (self.twins and self.all_rules), "--twins goes with rules by name, not with --optimizers all.")
        for spec in self.specs().values() if self.twins else ():
            twins.twin(spec, optim.rule(spec).hyper)


def run(cfg: Config) -> xr.Dataset:
    """Losses and accuracies of all rules over all seeds, trained in one program; with `all`, as
    `optimizer_compare_tuned`."""
    if cfg.all_rules:
        shared = {f.name: getattr(cfg, f.name) for f in fields(Contest)}
        return tuned.run(tuned.Config(**shared, steps=cfg.steps))
    rules = cfg.rules()
    pairs = {name: f"{name} = optax" for name in rules if cfg.twins}
    others = {pairs[name]: twins.twin(cfg.specs()[name], rules[name].hyper) for name in pairs}
    ds = sweep(
        tasks.classification(NETWORK, cfg.load(batch=cfg.batch), cfg.batch),
        {**rules, **others},
        seeds=cfg.seeds,
        steps=cfg.steps,
        loss_after=True,
        keep=cfg.keep(),
        progress=True,
    )
    race = ds.sel(rule=list(rules))
    if pairs:
        race["twin_loss"] = ds.loss.sel(rule=list(pairs.values())).assign_coords(rule=list(rules))
    return race


def alone(drawing: Callable[[xr.Dataset], Any]) -> Callable[[xr.Dataset], Any]:
    """The drawing where each rule has one learning rate; nothing where it has several."""
    return lambda ds: None if "setting" in ds.dims else drawing(ds)


def several(drawing: Callable[[xr.Dataset], Any]) -> Callable[[xr.Dataset], Any]:
    """The drawing where each rule has several learning rates; nothing where it has one."""
    return lambda ds: drawing(ds) if "setting" in ds.dims else None


def accuracies(ds: xr.Dataset) -> Figure:
    """Accuracy at the end on the training and the test set, one dot per seed."""
    names, parts, numbers = ds.rule.values.tolist(), [], {}
    for name in names:
        for split in ("training", "test"):
            place = f"{title(name)}, {split} set"
            end = ds["train_accuracy" if split == "training" else "test_accuracy"].sel(rule=name).isel(update=-1)
            parts.append(end.drop_vars(["rule", "update"]).expand_dims(place=[place]))
            numbers[place] = STYLE.number(name, names)
    both = xr.concat(parts, "place").assign_attrs(long_name="accuracy", units="1")
    heading = f"Accuracy after {ds.sizes['step']:,} iterations"
    return figures.dots("accuracy", "place", heading, style=figures.Style(str, numbers))(ds.assign(accuracy=both))


def twin_differences(ds: xr.Dataset) -> Figure | None:
    """The differences between our losses and those of the optax twins, in float32."""
    if "twin_loss" not in ds:
        return None
    fig = plotting.figure()
    ax = plotting.axes(fig, "Our rules beside their optax twins", "iterations", "largest |loss − twin's loss| (nats)")
    gap, names = abs(ds.loss - ds.twin_loss).max("seed"), ds.rule.values.tolist()
    for name in names:
        # Equal losses cannot be drawn on a log axis; they are drawn at its lower end.
        drawn = np.maximum(gap.sel(rule=name), 1e-9)
        ax.plot(ds.step, drawn, color=plotting.color(STYLE.number(name, names)), label=title(name), linewidth=0.9)
    ax.set(yscale="log", xlim=(0, ds.sizes["step"]))
    plotting.legend(fig)
    rounding = "float32, where rounding differs by a unit in the last place and training amplifies it"
    plotting.caption(fig, figures.caption(ds, rounding))
    return fig


def summary(ds: xr.Dataset) -> str:
    """The notes' table of losses, the final numbers of each rule, and the differences from the optax twins."""
    if "setting" in ds.dims:
        return tuned.summary(ds)
    names, last = ds.rule.values.tolist(), min(LAST, ds.sizes["step"])
    lines = ["iteration" + "".join(f"{title(name):>18}" for name in names)]
    for step in ds.step.values[::ROW_EVERY]:
        means = ds.loss.sel(step=step).mean("seed", skipna=False).values
        lines.append(f"{step:9d}" + "".join(f"{loss:18.4f}" for loss in means))
    lines += ["", f"{'':>12}{f'loss, last {last}':>18}{'train accuracy':>18}{'test accuracy':>18}{'diverged':>12}"]
    for name in names:
        one = ds.sel(rule=name)
        loss = middle(one.loss[:, -last:].mean("step", skipna=False).where(one.diverged_at < 0).values)
        lines.append(
            f"{title(name):>12}{loss:18.4f}{float(one.train_accuracy.mean()):18.2%}{float(one.test_accuracy.mean()):18.2%}"
            f"{int((one.diverged_at >= 0).sum()):>9} of {one.sizes['seed']}"
        )
    for name in names if "twin_loss" in ds else ():
        gap = abs(ds.loss - ds.twin_loss).sel(rule=name)
        first = gap.isel(step=slice(LAST))
        lines.append(
            f"{title(name)} and its optax twin differ by at most {float(gap.max()):.1e} nats at any step "
            f"({float(first.max()):.1e} in the first {first.sizes['step']})."
        )
    return "\n".join(lines)


def accuracy(ds: xr.Dataset) -> xr.DataArray:
    """The test accuracy at the end, in percent."""
    return 100 * ds.test_accuracy.isel(update=-1, drop=True)


def doublings(ds: xr.Dataset) -> xr.DataArray:
    """The binary logarithm of the steps to `TARGET`: the difference of two is that of their ratio."""
    steps = steps_to(ds.loss, TARGET)
    return steps.copy(data=np.log2(steps.values))


def steps_in_words(*names: str) -> Callable[[xr.Dataset], str]:
    """The median steps to the target."""

    def sentence(ds):
        steps = steps_to(ds.loss, TARGET).median("seed")
        each = (f"{title(name)} {float(steps.sel(rule=name)):.0f}" for name in names)
        return f"Steps to {TARGET:g} nats, medians: {', '.join(each)}."

    return sentence


def racing(*names: str) -> Callable[[xr.Dataset], bool]:
    """Whether these rules are compared, at one learning rate each."""
    compared = lab.has("rule", *names)
    return lambda ds: "setting" not in ds.dims and compared(ds)


def than_sgd(name: str) -> tuple[lab.Claim, lab.Claim]:
    """A rule learns faster than SGD and ends with a higher test accuracy."""
    about = {"source": "claim 2", "where": racing(name, "sgd")}
    return (
        lab.Claim(
            f"{title(name)} learns faster than SGD",
            lab.ahead(speed, "rule", name, "sgd", lower=True),
            lab.above(0.0),
            "nats",
            figure="06_loss",
            detail="The effect is the difference of the mean losses over the run.",
            **about,
        ),
        lab.Claim(
            f"{title(name)} ends with a higher test accuracy than SGD",
            lab.ahead(accuracy, "rule", name, "sgd"),
            lab.above(0.0),
            "points",
            figure="accuracy",
            secondary=True,
            **about,
        ),
    )


def about_as_fast(one: str, other: str, statement: str, least: float) -> tuple[lab.Claim, lab.Claim]:
    """One rule takes about as many steps as another, and has about its mean loss: ahead by at least `least`, in
    units of what counts as equal: −1 for equally fast and 0 for slightly faster."""
    about = {"source": "claim 2", "where": racing(one, other)}
    return (
        lab.Claim(
            f"{statement}: their steps to {TARGET:g} nats differ by a factor below {EQUAL:g}",
            lab.ahead(doublings, "rule", one, other, lower=True),
            lab.within(least * math.log2(EQUAL), math.log2(EQUAL)),
            "doublings of the steps",
            figure="06_loss_log",
            detail=steps_in_words(one, other),
            **about,
        ),
        lab.Claim(
            f"{statement}: their mean losses over the run differ by less than {CLOSE:g} nats",
            lab.ahead(speed, "rule", one, other, lower=True),
            lab.within(least * CLOSE, CLOSE),
            "nats",
            figure="06_loss",
            secondary=True,
            **about,
        ),
    )


EXPERIMENT = lab.Experiment(
    question="Which update rule learns MNIST fastest?",
    source="notes §1.5, figure 06 and its printed table",
    says="Momentum, AdaGrad and Adam learn faster than SGD and about equally fast; AdaGrad slightly fastest.",
    method="Trains the notes' network, 784-100-100-100-100-10 with ReLU and He's initial weights, by several rules "
    "from the same initial weights on the same minibatches, over many seeds. The loss recorded is that on the "
    "minibatch after the update; the faster of two rules is the one with the lower mean loss over the run. With "
    "--optimizers all every rule is compared, at its default and at its best learning rate, as in "
    "optimizer_compare_tuned.",
    takes="about a minute for 10 seeds of 2,000 steps on two cores",
    config=Config,
    quick={"seeds": 2, "steps": 200, "dataset": "mnist_5k"},
    run=run,
    claims=(
        *(claim for name in ("momentum", "adagrad", "adam") for claim in than_sgd(name)),
        *about_as_fast("momentum", "adam", "Momentum and Adam learn about equally fast", -1),
        *about_as_fast("adagrad", "momentum", "AdaGrad learns slightly faster than Momentum", 0),
        *about_as_fast("adagrad", "adam", "AdaGrad learns slightly faster than Adam", 0),
        *tuned.EXPERIMENT.claims,
    ),
    figures={
        "06_loss": alone(
            figures.curves(
                *("loss", "rule", "Training loss of each update rule (notes, figure 06)"),
                style=STYLE,
                smooth=11,
                markers=100,
                ylim=(0.0, 1.0),
            )
        ),
        "06_loss_log": alone(
            figures.curves(
                *("loss", "rule", "Training loss of each update rule, log scale"), style=STYLE, smooth=31, log="y"
            )
        ),
        "accuracy": alone(accuracies),
        "twins": alone(twin_differences),
        **{name: several(drawing) for name, drawing in tuned.EXPERIMENT.figures.items()},
    },
    summary=summary,
    tables=lambda ds: {"ranking": tuned.ranking(ds)} if "setting" in ds.dims else {},
)

if __name__ == "__main__":
    EXPERIMENT.main()
