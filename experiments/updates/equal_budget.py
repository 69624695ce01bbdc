"""Which update rule is best for k trials of tuning? (notes §1.5 and §5.2, beyond)"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.hyperparameters import _search
from fnn import lab, optim, sweep, tasks
from fnn.base.errors import require
from fnn.base.statistics import intervals
from fnn.lab import figures, plotting
from fnn.lab.titles import NOTES, STYLE, title
from fnn.rule import hyper
from fnn.search.expected import expected_best
from fnn.tasks import Split
from fnn.tasks.contract import Label, Trial

RANGES = {"same": "the same range for all rules", "own": "a decade and a half around each rule's default"}
SAME = (-6.0, 1.0)
"""Range of log₁₀ lr that is the same for every rule, as if nothing were known."""
AROUND = 1.5
"""Decades to either side of a rule's default."""
LITTLE = 4
"""Trials that count as little tuning."""
TESTED = 1000
"""Test images on which a chosen trial is evaluated: no choice depends on them."""
BUDGETS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the comparison; the task is that of the notes' search."""

    seeds: int = 20
    """Splits of images, initial weights and draws of learning rates."""
    optimizers: tuple[str, ...] = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
    """Rules, NAME or NAME:DIALECT."""
    trials: int = 64
    """Learning rates per rule, seed and range."""
    epochs: int = 6
    """Passes over the 400 training images."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=LITTLE, epochs=1)
        self.check_distinct(optimizers="rule")
        for spec in self.optimizers:
            has_rate = hyper.lr_path(optim.rule(spec).hyper) == "lr"
            require(has_rate, f"--optimizers takes rules with a learning rate `lr`, which {spec} does not have.")


DIMS = ("range", "trial")
LABELS = {
    "lr": Label("learning rate", "1", DIMS),
    "accuracy": Label("accuracy on validation images", "1", DIMS),
    "test_accuracy": Label("accuracy on test images", "1", DIMS),
    "diverged_at": Label("first step whose loss is not finite, −1 for none", "", DIMS),
}


def run(cfg: Config) -> xr.Dataset:
    """Accuracies of every rule at all of its learning rates: dimensions rule, seed, range, trial."""
    images = cfg.load()
    least = _search.IMAGES
    require(len(images.x_train) >= least, f"This takes {least} training images.")
    splits = tasks.splits(images)
    data = {**splits, "test": Split(splits["test"].x[:TESTED], splits["test"].y[:TESTED])}
    found = []
    for spec in cfg.optimizers:
        ds = sweep(trained(cfg, spec, data), seeds=cfg.seeds, keep=cfg.keep(spec.replace(":", "-")), progress=True)
        found.append(ds.expand_dims(rule=[spec]).assign_coords(default_lr=("rule", [optim.rule(spec).hyper.lr])))
    return xr.concat(found, "rule", combine_attrs="drop_conflicts").assign_attrs({**images.about, "epochs": cfg.epochs})


def trained(cfg: Config, spec: str, data: Mapping[str, Split]) -> Trial:
    """All learning rates of a seed under the rule.

    A seed draws its images, its split, its weights, its minibatches and its random numbers, for all rules the same: in
    the range "same" all rules have the same learning rates, in "own" the same multiples of their defaults.
    """
    rule = optim.rule(spec)
    default = np.log10(rule.hyper.lr)
    low, high = np.array([SAME, (default - AROUND, default + AROUND)]).T[..., None]
    one = _search.trial(cfg.epochs, at_end=("test",), rule=rule)

    def measure(hp, key, data):
        unit = jax.random.uniform(_search.sampler_keys(key[None])[0], (len(RANGES), cfg.trials))
        lr = 10 ** (low + (high - low) * unit)
        settings = _search.Setting(lr.ravel(), jnp.zeros(lr.size))
        record = _search.measured(one, settings, key, data, rule)
        found = {
            "lr": lr,
            "accuracy": record["validation_accuracy"][:, -1],
            "test_accuracy": record["test_accuracy"],
            "diverged_at": record["diverged_at"],
        }
        return {name: values.reshape(lr.shape) for name, values in found.items()}

    coords = {"range": list(RANGES), "trial": np.arange(cfg.trials)}
    return Trial(measure, data, labels=LABELS, coords=coords)


def expected(ds: xr.Dataset, spec: str, where: str) -> xr.DataArray:
    """The test accuracy, in percent, that the best of k trials in validation is expected to have: seed, k."""
    one = ds.sel(rule=spec, range=where).transpose("seed", "trial")
    score = expected_best(one.accuracy.values, one.test_accuracy.values)
    return xr.DataArray(100 * score, {"k": np.arange(1, score.shape[1] + 1)}, ("seed", "k"))


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    n, validation = _search.IMAGES, _search.VALIDATION
    task = f"{{epochs}} epochs of {n - validation} images, {validation} others to choose with"
    return figures.caption(ds.drop_vars("diverged_at"), task, *details)


def budgets(ds: xr.Dataset) -> Figure:
    """Expected accuracy of the best against the number of trials, a panel for each range."""
    fig = plotting.figure(9.6, 4.6)
    panels, names = fig.subplots(1, 2, sharey=True), ds.rule.values.tolist()
    for ax, (where, heading) in zip(panels, RANGES.items(), strict=True):
        plotting.dress(ax, xlabel="trials of tuning, k", ylabel="expected accuracy of the best (%)" * (where == "same"))
        ax.set_title(heading, fontsize="medium")
        for name in names:
            curve = expected(ds, name, where)
            every, number = max(1, curve.sizes["k"] // 8), STYLE.number(name, names)
            plotting.curve(ax, curve.k.values, curve.values, title(name), number, markers=every)
        ax.set(xscale="log", ylim=(0, 100), xlim=(1, ds.sizes["trial"]))
        ticks = [k for k in BUDGETS if k <= ds.sizes["trial"]]
        ax.set_xticks(ticks, list(map(str, ticks)))
        ax.minorticks_off()
    plotting.legend(fig, 6, of=panels[0])
    trials = f"{ds.sizes['trial']} random learning rates per rule; accuracy on test images; mean with its 95 % interval"
    plotting.caption(fig, about(ds, trials))
    return fig


def sensitivity(ds: xr.Dataset) -> Figure:
    """Accuracy against the learning rate: a rule's trials of all seeds, and their mean in bins."""
    fig = plotting.figure(9.6, 4.2)
    ax = plotting.axes(fig, "What a learning rate gives", "learning rate", "validation accuracy (%)")
    names, edges = ds.rule.values.tolist(), np.linspace(*SAME, 22)
    for name in names:
        number, one = STYLE.number(name, names), ds.sel(rule=name, range="same")
        place = np.clip(np.digitize(np.log10(one.lr.values), edges) - 1, 0, len(edges) - 2)
        accuracy = 100 * np.nan_to_num(one.accuracy.values)
        bins = np.unique(place)
        means = [accuracy[place == b].mean() for b in bins]
        middles = 10 ** ((edges[bins] + edges[bins + 1]) / 2)
        color, mark = plotting.color(number), plotting.MARKERS[number % len(plotting.MARKERS)]
        ax.plot(middles, means, mark, linestyle="-", color=color, label=title(name), markersize=4, linewidth=1.2)
        ax.axvline(float(one.default_lr), color=color, linewidth=0.7, linestyle=":")
    ax.set(xscale="log", ylim=(0, 100))
    plotting.legend(fig, 6)
    plotting.caption(fig, about(ds, "means of a third of a decade over all seeds; dotted: the rules' defaults"))
    return fig


def summary(ds: xr.Dataset) -> str:
    """What the best of k trials is expected to reach."""
    ks = [k for k in BUDGETS if k <= ds.sizes["trial"]]
    lines = []
    for where, heading in RANGES.items():
        lines.append(f"{heading:>50}" + "".join(f"{f'k = {k}':>9}" for k in ks))
        for name in ds.rule.values:
            mean = expected(ds, name, where).mean("seed")
            lines.append(f"{title(name):>50}" + "".join(f"{float(mean.sel(k=k)):8.1f}%" for k in ks))
    return "\n".join(lines)


def tables(ds: xr.Dataset) -> dict[str, list[dict]]:
    """The expected accuracy of the best of every rule, range and k, mean over seeds, as `expected_best.json`."""
    rows = []
    for name in map(str, ds.rule.values):
        for where in RANGES:
            ends = intervals(expected(ds, name, where).values)
            for k, numbers in enumerate(np.stack(ends, 1).tolist(), 1):
                known = [x if np.isfinite(x) else None for x in numbers]
                found = dict(zip(("accuracy", "low", "high"), known, strict=True))
                rows.append({"rule": name, "range": where, "trials": k, **found})
    return {"expected_best": rows}


def ahead(other: str, where: str) -> lab.Claim:
    """Adam is ahead of another rule with little tuning."""

    def detail(ds):
        little, much = (
            [float(expected(ds, name, where).sel(k=k).mean()) for name in ("adam", other)]
            for k in (LITTLE, ds.sizes["trial"])
        )
        return (
            f"The best in validation is expected to have a test accuracy of {little[0]:.3g} %, the other's "
            f"{little[1]:.3g} %; with {ds.sizes['trial']} trials {much[0]:.3g} and {much[1]:.3g} %."
        )

    return lab.Claim(
        f"With {LITTLE} trials from {RANGES[where]}, Adam is ahead of {title(other)}",
        lambda ds: (expected(ds, "adam", where) - expected(ds, other, where)).sel(k=LITTLE, drop=True),
        lab.above(0.0),
        "points",
        "notes §1.5",
        "expected_best",
        detail=detail,
        where=lab.has("rule", "adam", other),
        secondary=where != "same",
    )


EXPERIMENT = lab.Experiment(
    question="Which update rule is best for k trials of tuning?",
    source="notes §1.5 and §5.2, beyond",
    says="Adam is the rule most used today; elsewhere it is said to need less tuning.",
    method="A rule that is best after much tuning need not be best after little. Every rule gets the same number of "
    "random learning rates, log-uniform, on the notes' search task, over many seeds; the rules of a seed share its "
    "images, split, weights and minibatches. From all trials of a seed follows, exactly, which accuracy on test "
    "images the best of k of them in validation is expected to have, for every k: a curve for each rule; the claims "
    "compare rules at 4 trials. Sivaprasad et al. 2020 (ICML, arXiv:1910.11758) compare rules in this way. The range "
    "matters as much as the rule, so two are shown: one that is the same for all rules, wide enough for each of them, "
    "as if nothing were known; and one around each rule's own default, a decade and a half to either side, as if the "
    "default were known to be about right.",
    takes="about four minutes for 20 seeds of twice 64 trials on two cores",
    config=Config,
    quick={"seeds": 2, "optimizers": ("sgd", "adam"), "trials": 8, "epochs": 3, "dataset": "mnist_5k"},
    run=run,
    claims=tuple(ahead(other, where) for other in NOTES if other != "adam" for where in RANGES),
    figures={"expected_best": budgets, "sensitivity": sensitivity},
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
