"""Which update rule learns MNIST fastest when each has its own best learning rate? (notes §1.5, beyond figure 06)

As `optimizer_compare_mnist`, but every rule trains at every learning rate of a log grid around its default, from equal
initial weights on the same minibatches. The best rate of a rule is the one with the lowest mean loss over seeds on
validation images, which are set aside from the training images; the test set has no say in it. Where the best rate lies
on an end of its grid the grid is extended there, and where it still does, the run says so.

The notes say that results depend on the learning rate, but that in general the other three rules learn faster than SGD.

Takes about two minutes for 10 seeds of 500 steps on two cores.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import _cli, _lab
from fnn import models, optim, plotting, sweep, tasks, train
from fnn.data import DataSet
from fnn.errors import require
from fnn.tasks import Split
from fnn.train import Record
from fnn.verdicts import Verdict, decide

HIDDEN = (100, 100, 100, 100)
VALIDATION = 1 / 6
"""The share of the training images that is set aside to choose learning rates by."""
SMOOTH = 31


@dataclass(frozen=True)
class Config(_lab.Contest):
    """Settings of the comparison; the network and the minibatches are the notes'."""

    steps: int = 500
    """Updates per network."""
    rates: int = 7
    """Learning rates per rule, half a decade apart, from a tenth of the default upwards."""
    extensions: int = 2
    """How often a grid whose best rate lies on an end is extended there, by two rates each time."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, rates=2, extensions=0)
        for name, spec in self.specs().items():
            has_rate = hasattr(optim.rule(spec).hyper, "lr")
            require(has_rate, f"--optimizers takes rules with a learning rate, which {name} has not.")


QUICK = Config(seeds=2, steps=60, rates=3, extensions=0, dataset="mnist_5k", quick=True)

Found = dict[str, dict[float, Record]]
"""For every contender and learning rate its record: `loss` `[S, steps]`, the others `[S]`."""


def first_grid(cfg: Config) -> dict[str, list[float]]:
    """For every contender the learning rates to begin with."""
    return {
        name: [optim.rule(spec).hyper.lr * 10 ** (k / 2 - 1) for k in range(cfg.rates)]
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
    followed = train_at(cfg, data, grid, found)
    for _ in range(cfg.extensions):
        wider = beyond(found)
        if not wider or not followed.attrs["complete"]:
            break
        print(
            "extended: " + ", ".join(f"{_lab.title(name)} to {rates[-1]:.3g}" for name, rates in wider.items()),
            flush=True,
        )
        followed = train_at(cfg, data, wider, found)
    ds = label(cfg, images, found).assign_attrs(followed.attrs)
    print(summary(ds))
    return ds


def train_at(
    cfg: Config, data: Mapping[str, Split], rates: Mapping[str, Sequence[float]], found: Found
) -> _lab.Followed:
    """Train at these learning rates and put the records into `found`; a part of an extension is left out."""
    task = tasks.classification(lambda hp: models.multilayer(HIDDEN, 10), cfg.batch)

    def metrics(hp, params, stats, data, of=task.metrics):
        return of(hp, params, stats, {name: data[name] for name in ("validation", "test")})

    task = task._replace(metrics=metrics)
    rules = {name: optim.rule(cfg.specs()[name]) for name in rates}
    runs = {
        name: sweep.over_hypers(train.training(task, rule, cfg.steps, loss_after=True, evaluate_at=(cfg.steps,)))
        for name, rule in rules.items()
    }
    hps = {name: train.Hyper(sweep.grid(rule.hyper, lr=rates[name])) for name, rule in rules.items()}
    followed = _lab.follow(
        sweep.stream(runs, hps, sweep.seeds(cfg.seeds), data, cfg.steps, chunk=min(50, cfg.steps)), cfg.steps
    )
    whole = followed.attrs["complete"] or not any(found.values())
    for name in rates if whole else ():
        for i, lr in enumerate(rates[name]):
            one = {what: values[..., i] for what, values in followed.record[name].items()}
            found[name][lr] = {what: v if what == "loss" else v[:, -1] for what, v in one.items()}
    return followed


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
        {"optimizer": names, "lr": (("optimizer", "rate"), lr), "seed": np.arange(cfg.seeds)},
        {**_lab.origin(images), "batch": cfg.batch},
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


def called(ds: xr.Dataset, name: str) -> str:
    """A contender with its best learning rate, as people write it."""
    return f"{_lab.title(name)}, lr {float(at_best(ds, name).lr):.3g}"


def about(ds: xr.Dataset) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"minibatch {ds.batch}")


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Loss curves at the best learning rates, and how much each rule minds its learning rate."""
    made = {"loss_at_best": losses(ds)}
    if np.isfinite(ds.validation_loss).any():
        made["sensitivity"] = sensitivity(ds)
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
        one, number = ds.sel(optimizer=name), _lab.look(name, list(ds.optimizer.values))
        tried = np.isfinite(one.lr.values)
        loss = one.validation_loss.values[tried]
        plotting.curve(ax, one.lr.values[tried], loss.T, _lab.title(name), number, markers=1)
        diverged = ~np.isfinite(loss).all(1)
        at = one.lr.values[tried][diverged]
        ax.plot(at, np.full(len(at), 0.985), "x", color=plotting.colour(number), transform=ax.get_xaxis_transform())
    ax.set(xscale="log", yscale="log")
    plotting.legend(fig)
    plotting.caption(fig, f"{about(ds)}; mean with its 95 % interval; crosses at the top: some seed diverged there")
    return fig


def summary(ds: xr.Dataset) -> str:
    """The best learning rates and what they reach, a line a contender; which of them lie on the edge of their grid."""
    lines = [f"{'':>12}{'best lr':>10}{'mean loss':>12}{'validation loss':>18}{'test accuracy':>16}"]
    for name in ds.optimizer.values:
        one = at_best(ds, name)
        lines.append(
            f"{_lab.title(name):>12}{float(one.lr):10.3g}{float(one.loss.mean()):12.4f}"
            f"{float(one.validation_loss.mean()):18.4f}{float(one.test_accuracy.mean()):16.2%}"
        )
        if on_edge(ds, name):
            lines.append(f"{'':12}(on the edge of its grid: a better rate may lie beyond)")
    return "\n".join(lines)


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
            (b.loss.mean("step", skipna=False) - a.loss.mean("step", skipna=False)).values,
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
