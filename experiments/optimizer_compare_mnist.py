"""Which update rule learns MNIST fastest? (notes §1.5, figure 06 and its printed table)

Trains the notes' network, 784-100-100-100-100-10 with ReLU and He's initial weights, by several rules from the same
initial weights on the same minibatches, over many seeds at once. The loss recorded is that on the minibatch *after*
the update.

The notes say: Momentum, AdaGrad and Adam learn faster than SGD and about equally fast; AdaGrad slightly fastest.

With `--optimizers all` every rule there is races, at its default learning rate and at the one best on validation
images, as `optimizer_compare_tuned` has it.

Takes about a minute for 10 seeds of 2,000 steps on two cores.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import _cli, _lab
from experiments import optimizer_compare_tuned as tuned
from fnn import models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import paired
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.rule import Rule, twins
from fnn.train import Record, engine

HIDDEN = (100, 100, 100, 100)
ROW_EVERY = 100


@dataclass(frozen=True)
class Config(_lab.Contest):
    """Settings of the comparison; the defaults are the notes'."""

    steps: int = 2000
    """Updates per network."""
    twins: bool = False
    """Train each rule's optax twin beside it and report the largest difference."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1)
        require(not (self.twins and self.everyone), "--twins goes with rules by name, not with --optimizers all.")
        for spec in self.specs().values() if self.twins else ():
            twins.twin(spec, optim.rule(spec).hyper)


@dataclass(frozen=True)
class Everyone(tuned.Config):
    """Settings of a race of every rule: those of `optimizer_compare_tuned`, but its checkpoints are kept here."""


QUICK = Config(seeds=2, steps=200, dataset="mnist_5k", quick=True)


def contenders(cfg: Config) -> dict[str, Rule]:
    """The rules that race, by name; twins, where asked for, as "NAME = optax"."""
    rules = {name: optim.rule(spec) for name, spec in cfg.specs().items()}
    named = cfg.specs().items() if cfg.twins else ()
    return rules | {f"{name} = optax": twins.twin(spec, rules[name].hyper) for name, spec in named}


def run(cfg: Config) -> xr.Dataset:
    """Train all contenders over all seeds in one program; prints the notes' table as it goes."""
    if cfg.everyone:
        options = {f.name: getattr(cfg, f.name) for f in fields(_lab.Contest)}
        return tuned.run(Everyone(**options, steps=cfg.steps))
    images = _cli.load_data(cfg, fitting="batch")
    rules = contenders(cfg)
    task = tasks.classification(lambda hp: models.multilayer(HIDDEN, 10), batch=cfg.batch)
    chunks = _lab.stream(
        cfg,
        {n: train.training(task, r, cfg.steps, loss_after=True, evaluate_at=(cfg.steps,)) for n, r in rules.items()},
        {name: train.Hyper(rule.hyper) for name, rule in rules.items()},
        engine.seeds(cfg.seeds),
        _lab.splits(images),
        cfg.steps,
        chunk=min(ROW_EVERY, cfg.steps),
    )
    _cli.headline(cfg, images, f"{len(rules) * cfg.seeds} networks ({len(rules)} rules × {cfg.seeds} seeds)")
    print("iteration" + "".join(f"{_lab.title(name):>18}" for name in cfg.specs()))

    def row(chunk):
        losses = (chunk.record[name]["loss"][:, 0].mean() for name in cfg.specs())
        return f"{chunk.steps.start:9d}" + "".join(f"{loss:18.4f}" for loss in losses)

    followed = _lab.follow(chunks, cfg.steps, row)
    ds = label(cfg, images, followed.record).assign_attrs(followed.attrs)
    print(summary(ds))
    return ds


def label(cfg: Config, images: DataSet, record: Mapping[str, Record]) -> xr.Dataset:
    """The record of the race as one labelled data set: dims optimizer, seed, step (the notes' iteration, from 0)."""
    names = list(cfg.specs())

    def over_steps(quantity, suffix=""):
        """[optimizer, seed, step]"""
        return np.stack([record[name + suffix][quantity] for name in names])

    loss = over_steps("loss")
    seeds_and_steps = {"seed": np.arange(cfg.seeds), "step": np.arange(loss.shape[-1])}
    ds = xr.Dataset(
        {
            "loss": (
                ("optimizer", "seed", "step"),
                loss,
                {"long_name": "minibatch loss after the update", "units": "nats"},
            )
        },
        {"optimizer": names, **seeds_and_steps},
        {**_lab.origin(images), "batch": cfg.batch},
    )
    for split in ("train", "test"):
        for what, units in (("loss", "nats"), ("accuracy", "1")):
            ds[f"{split}_{what}"] = ("optimizer", "seed"), over_steps(f"{split}_{what}")[..., -1], {"units": units}
    ds["diverged_at"] = _lab.first_not_finite(ds.loss)
    if cfg.twins:
        ds["twin_loss"] = ("optimizer", "seed", "step"), over_steps("loss", " = optax"), ds.loss.attrs
    return ds


def look(ds: xr.Dataset, name: str) -> int:
    """A contender's number among the colours and markers: the notes' four keep theirs whoever races beside them."""
    return _lab.look(name, list(ds.optimizer.values))


def about(ds: xr.Dataset) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"minibatch {ds.batch}")


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Figure 06 as in the notes, the same losses on a log axis with their spread, and the accuracies at the end."""
    if "rate" in ds.dims:
        return tuned.figures(ds)
    made = {"06_loss": figure_06(ds), "06_loss_log": log_losses(ds)}
    if np.isfinite(ds.test_accuracy).all():
        made["accuracy"] = accuracies(ds)
    if "twin_loss" in ds:
        made["twins"] = twin_differences(ds)
    return made


def figure_06(ds: xr.Dataset) -> Figure:
    """The notes' figure: smoothed loss, linear from 0 to 1, a marker every 100 iterations."""
    title = "Training loss of each update rule (notes, figure 06)"
    return losses(ds, title, markers=100, ylim=(0, 1))


def log_losses(ds: xr.Dataset) -> Figure:
    """The same losses on a log axis, smoothed more, where the late differences show."""
    return losses(ds, "Training loss of each update rule, log scale", window=31, yscale="log")


def losses(ds: xr.Dataset, title: str, **style: Any) -> Figure:
    """The training losses of all rules."""
    return _lab.loss_figure(ds.loss, title, _lab.title, lambda name: look(ds, name), about(ds), **style)


def accuracies(ds: xr.Dataset) -> Figure:
    """Accuracy at the end on the training and the test set, every seed a dot."""
    fig = plotting.figure(7.0, 1.2 + 0.6 * ds.sizes["optimizer"])
    ax = plotting.axes(fig, f"Accuracy after {ds.sizes['step']:,} iterations", "accuracy (%)", "")
    for i, name in enumerate(ds.optimizer.values):
        for split, lift, marker in (("train", 0.15, "o"), ("test", -0.15, "D")):
            values = 100 * ds[f"{split}_accuracy"].sel(optimizer=name).values
            at = np.full(len(values), i + lift)
            colour = plotting.colour(look(ds, name))
            filled = colour if split == "test" else "none"
            ax.scatter(values, at, s=22, marker=marker, facecolors=filled, edgecolors=colour, linewidths=0.9)
            ax.annotate(
                f"{split} {values.mean():.2f}",
                (1, i + lift),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                color="0.25",
            )
    ax.set_yticks(range(ds.sizes["optimizer"]), [_lab.title(n) for n in ds.optimizer.values])
    ax.invert_yaxis()
    plotting.caption(
        fig, f"{about(ds)}; a dot a seed: open circles on the training set, filled diamonds on the test set"
    )
    return fig


def twin_differences(ds: xr.Dataset) -> Figure:
    """How far our losses and those of the optax twins drift apart, in float32."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "Our rules beside their optax twins", "iterations", "largest |loss − twin's loss| (nats)")
    gap = abs(ds.loss - ds.twin_loss).max("seed")
    for name in ds.optimizer.values:
        # Equal losses have no place on a log axis; they are drawn on its floor.
        ax.plot(
            ds.step,
            np.maximum(gap.sel(optimizer=name), 1e-9),
            color=plotting.colour(look(ds, name)),
            label=_lab.title(name),
            linewidth=0.9,
        )
    ax.set(yscale="log", xlim=(0, ds.sizes["step"]))
    plotting.legend(fig)
    plotting.caption(
        fig, f"{about(ds)}; float32, where rounding differs by a unit in the last place and training amplifies it"
    )
    return fig


def summary(ds: xr.Dataset) -> str:
    """The final numbers, a line a contender."""
    lines = _lab.final_numbers(ds, "optimizer", _lab.title)
    if "twin_loss" in ds:
        gap = abs(ds.loss - ds.twin_loss)
        for name in ds.optimizer.values:
            one = gap.sel(optimizer=name)
            lines.append(
                f"{_lab.title(name)} and its optax twin differ by at most {float(one.max()):.1e} nats at any step "
                f"({float(one[:, : _lab.LAST].max()):.1e} in the first {min(_lab.LAST, one.sizes['step'])})."
            )
    return "\n".join(lines)


def tables(ds: xr.Dataset) -> dict[str, list[dict]]:
    """The ranking of a race of all rules; nothing for a race of some."""
    return tuned.tables(ds) if "rate" in ds.dims else {}


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about figure 06, at the notes' settings."""
    if "rate" in ds.dims:
        return tuned.verdicts(ds)
    # A diverged run has no mean: it is not judged by the steps before it diverged.
    loss = ds.loss.mean("step", skipna=False)
    found = []

    def of(name):
        return loss.sel(optimizer=name).values

    present = [n for n in ("momentum", "adagrad", "adam") if n in ds.optimizer]
    if "sgd" in ds.optimizer:
        for name in present:
            found.append(
                decide(
                    f"{_lab.title(name)} learns faster than SGD",
                    paired(-of(name), -of("sgd")),
                    "nats",
                    "Its mean loss over the run is {effect} {unit} better [{low}, {high}], {seeds} paired seeds.",
                    "claim 2",
                )
            )
            accuracy = 100 * (ds.test_accuracy.sel(optimizer=name) - ds.test_accuracy.sel(optimizer="sgd")).values
            if np.isfinite(accuracy).all():
                found.append(
                    decide(
                        f"{_lab.title(name)} ends with a higher test accuracy than SGD",
                        accuracy,
                        "points",
                        "The difference is {effect} {unit} [{low}, {high}], {seeds} paired seeds.",
                        "claim 2",
                    )
                )
    for name in ("momentum", "adam"):
        if {name, "adagrad"} <= set(present):
            found.append(
                decide(
                    f"AdaGrad learns slightly faster than {_lab.title(name)}",
                    paired(-of("adagrad"), -of(name)),
                    "nats",
                    "Its mean loss over the run is {effect} {unit} better [{low}, {high}], {seeds} paired seeds.",
                    "claim 2",
                )
            )
    return found


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
