"""Which update rule is best for k trials of tuning? (notes §1.5 and §5.2, beyond)

A rule that wins when tuned at length may lose when it is hardly tuned. Every rule gets the same number of random
learning rates, log-uniform, on the notes' search task, over many seeds; a seed's rules share its split, weights and
minibatches. From all trials of a seed follows, exactly, the best validation accuracy that k of them are expected to
reach, for every k: a curve a rule. So do Sivaprasad et al. 2020 (ICML, arXiv:1910.11758) compare rules.

What is drawn from matters as much as the rule. Two ranges are shown: one that is the same for all rules, wide enough
for each of them, as if nothing were known; and one around each rule's own default, a decade and a half to either side,
as if the default were known to be about right.

The notes say that Adam is the rule that people now like to use; others say that it needs less tuning.

Takes about two minutes for 10 seeds of twice 64 trials on two cores.
"""

import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import _cli, _lab, _search
from fnn import optim
from fnn.base.types import Keys
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.train import engine

RANGES = {"same": "the same range for all rules", "own": "a decade and a half around each rule's default"}
SAME = (-6.0, 1.0)
"""Exponents of the learning rates that every rule draws from, as if nothing were known."""
AROUND = 1.5
"""Decades to either side of a rule's default."""
LITTLE = 4
"""Trials that count as little tuning."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the comparison; the task is that of the notes' search."""

    optimizers: str = "sgd,momentum,nesterov,adagrad,rmsprop,adam"
    """Rules, NAME or NAME:DIALECT with commas between."""
    trials: int = 64
    """Learning rates a rule, a seed and a range: as many again in the other range."""
    epochs: int = 6
    """Passes over the 400 training images."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=LITTLE, epochs=1)
        for spec in self.specs():
            optim.rule(spec)
            _lab.default_rate(spec)

    def specs(self) -> list[str]:
        """The rules asked for."""
        return _lab.listed("--optimizers", self.optimizers, "optimizer")


QUICK = Config(seeds=2, optimizers="sgd,adam", trials=8, epochs=3, dataset="mnist_5k", quick=True)


def rates(keys: Keys, spec: str, trials: int) -> dict[str, np.ndarray]:
    """Learning rates of every range `[S, trials]`. In "same" all rules get the same; in "own" the same multiples."""
    default = np.log10(_lab.default_rate(spec))
    ends = {"same": SAME, "own": (default - AROUND, default + AROUND)}
    unit = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (len(ends), trials)))(_search.asking(keys)), float)
    return {name: 10 ** (low + (high - low) * unit[:, i]) for i, (name, (low, high)) in enumerate(ends.items())}


def run(cfg: Config) -> xr.Dataset:
    """Train every rule at all of its learning rates, rule by rule."""
    images = _search.load(cfg)
    keys, specs = engine.seeds(cfg.seeds), cfg.specs()
    each = len(RANGES) * cfg.trials
    many = f"{len(specs)} rules × {each} learning rates × {cfg.seeds} seeds"
    _cli.headline(cfg, images, f"{len(specs) * each * cfg.seeds:,} networks ({many})")
    found, complete = {}, True
    for spec in specs:
        lr = np.concatenate(list(rates(keys, spec, cfg.trials).values()), axis=1)
        settings = _search.Setting(lr=jnp.asarray(lr, jnp.float32), l2=jnp.zeros(lr.shape, jnp.float32))
        trainer = _search.trainer(images, cfg.epochs, rule=optim.rule(spec))
        try:
            record, done = _search.seed_by_seed(cfg, images, trainer, settings, keys, spec.replace(":", "-"))
        except KeyboardInterrupt:
            record, done = {}, 0
        if done < cfg.seeds:
            complete = False
            break
        found[spec] = label(cfg, lr, record)
        print(f"{_lab.title(spec):>12}: best of a seed {best(found[spec]):.1%}", flush=True)
    if not found:
        raise KeyboardInterrupt
    ds = xr.concat(list(found.values()), xr.DataArray(list(found), dims="optimizer", name="optimizer"))
    ds = ds.assign_coords(default_lr=("optimizer", [_lab.default_rate(spec) for spec in found]))
    ds = ds.assign_attrs(**_lab.origin(images), epochs=cfg.epochs, complete=int(complete))
    print(summary(ds))
    return ds


def label(cfg: Config, lr: np.ndarray, record: dict[str, np.ndarray]) -> xr.Dataset:
    """One rule's trials: dims range, seed, trial."""
    dims = ("range", "seed", "trial")
    shaped = lambda values: np.moveaxis(values.reshape(cfg.seeds, len(RANGES), cfg.trials), 1, 0)
    return xr.Dataset(
        {
            "lr": (dims, shaped(lr), {"long_name": "learning rate"}),
            "accuracy": (dims, shaped(record["validation_accuracy"][..., -1]), {"units": "1"}),
            "diverged_at": (dims, shaped(record["diverged_at"])),
        },
        {"range": list(RANGES), "seed": np.arange(cfg.seeds), "trial": np.arange(cfg.trials)},
    )


def best(one: xr.Dataset) -> float:
    """A rule's mean over seeds of the best accuracy in either range."""
    return float(one.accuracy.max(("range", "trial")).mean())


def expected(ds: xr.Dataset, spec: str, where: str) -> np.ndarray:
    """The best validation accuracy (percent) that k = 1 … n trials of a rule are expected to reach, `[S, n]`."""
    return 100 * _search.expected_best(ds.accuracy.sel(optimizer=spec, range=where).values)


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """The curves against the budget, and what a learning rate gives."""
    return {"expected_best": budgets(ds), "sensitivity": sensitivity(ds)}


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    task = (
        f"{ds.epochs} epochs of {_search.IMAGES - _search.VALIDATION} images, accuracy on {_search.VALIDATION} others"
    )
    return _lab.about(ds.drop_vars("diverged_at"), task, *details)


def budgets(ds: xr.Dataset) -> Figure:
    """Expected best accuracy against the number of trials, a panel a range."""
    fig = plotting.figure(9.6, 4.6)
    panels, names = fig.subplots(1, 2, sharey=True), [str(name) for name in ds.optimizer.values]
    for ax, (where, title) in zip(panels, RANGES.items(), strict=True):
        plotting.dress(ax, xlabel="trials of tuning, k", ylabel="expected best accuracy (%)" if where == "same" else "")
        ax.set_title(title, fontsize="medium")
        for name in names:
            curve = expected(ds, name, where)
            number = _lab.look(name, names)
            k = np.arange(1, curve.shape[1] + 1)
            plotting.curve(ax, k, curve, _lab.title(name), number, markers=max(1, len(k) // 8))
        ax.set(xscale="log", ylim=(0, 100), xlim=(1, ds.sizes["trial"]))
        ticks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= ds.sizes["trial"]]
        ax.set_xticks(ticks, list(map(str, ticks)))
        ax.minorticks_off()
    plotting.legend(fig, 6, of=panels[0])
    plotting.caption(fig, about(ds, f"{ds.sizes['trial']} random learning rates a rule; mean with its 95 % interval"))
    return fig


def sensitivity(ds: xr.Dataset) -> Figure:
    """Accuracy against the learning rate: a rule's trials of all seeds, and their mean in bins."""
    fig = plotting.figure(9.6, 4.2)
    ax = plotting.axes(fig, "What a learning rate gives", "learning rate", "validation accuracy (%)")
    names = [str(name) for name in ds.optimizer.values]
    edges = np.linspace(*SAME, 22)
    for name in names:
        number, one = _lab.look(name, names), ds.sel(optimizer=name, range="same")
        place = np.clip(np.digitize(np.log10(one.lr.values), edges) - 1, 0, len(edges) - 2)
        accuracy = 100 * np.nan_to_num(one.accuracy.values)
        there = np.unique(place)
        means = [accuracy[place == b].mean() for b in there]
        middles = 10 ** ((edges[there] + edges[there + 1]) / 2)
        colour, mark = plotting.colour(number), plotting.MARKERS[number % len(plotting.MARKERS)]
        ax.plot(middles, means, mark, linestyle="-", color=colour, label=_lab.title(name), markersize=4, linewidth=1.2)
        ax.axvline(float(one.default_lr), color=colour, linewidth=0.7, linestyle=":")
    ax.set(xscale="log", ylim=(0, 100))
    plotting.legend(fig, 6)
    plotting.caption(fig, about(ds, "means of a third of a decade over all seeds; dotted: the rules' defaults"))
    return fig


def summary(ds: xr.Dataset) -> str:
    """What k trials are expected to reach."""
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= ds.sizes["trial"]]
    lines = []
    for where, title in RANGES.items():
        lines.append(f"{title:>50}" + "".join(f"{f'k = {k}':>9}" for k in ks))
        for name in ds.optimizer.values:
            mean = expected(ds, str(name), where).mean(0)
            lines.append(f"{_lab.title(str(name)):>50}" + "".join(f"{mean[k - 1]:8.1f}%" for k in ks))
    return "\n".join(lines)


def tables(ds: xr.Dataset) -> dict[str, list[dict]]:
    """The expected best of every rule, range and k, mean over seeds, as the file `expected_best.json`."""
    rows = []
    for name in map(str, ds.optimizer.values):
        for where in RANGES:
            mean, low, high = plotting.band(expected(ds, name, where))
            for k in range(ds.sizes["trial"]):
                told = {"optimizer": name, "range": where, "trials": k + 1}
                rows.append(told | {"accuracy": mean[k], "low": low[k], "high": high[k]})
    return {"expected_best": rows}


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Whether Adam is ahead with little tuning, and whether it has less to gain from more, against each other rule."""
    names = [str(name) for name in ds.optimizer.values]
    adam = next((name for name in names if name.partition(":")[0] == "adam"), None)
    if adam is None:
        return []
    found = []
    for other in (name for name in names if name != adam):
        for where, title in RANGES.items():
            ours, theirs = expected(ds, adam, where), expected(ds, other, where)
            n = ours.shape[1]
            found.append(
                decide(
                    f"With {LITTLE} trials from {title}, {_lab.title(adam)} is ahead of {_lab.title(other)}",
                    (ours - theirs)[:, LITTLE - 1],
                    "points",
                    f"It is expected to reach {ours[:, LITTLE - 1].mean():.3g} %, the other "
                    f"{theirs[:, LITTLE - 1].mean():.3g} %: {{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} paired "
                    f"seeds; with {n} trials {ours[:, -1].mean():.3g} and {theirs[:, -1].mean():.3g} %.",
                    "notes §1.5",
                )
            )
    return found


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
