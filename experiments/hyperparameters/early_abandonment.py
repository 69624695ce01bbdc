"""Does abandoning bad trials early lose the best one? (notes §5.2, beyond claim 17)"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.hyperparameters import _search
from experiments.hyperparameters._search import Schedule, cost, schedule
from fnn import lab, search, sweep, tasks
from fnn.base.errors import require
from fnn.base.statistics import interval
from fnn.lab import plotting
from fnn.lab.figures import caption
from fnn.tasks import Label, Trial
from fnn.train import halving

ETAS = (2, 3, 4)
"""The best 1/η continue."""
FIRST = (1, 2, 3, 5, 10)
"""Epochs before the first comparison."""
BY = {"accuracy": 1, "loss": -1}
"""The criteria that compare trials, and whether higher is better."""
QUARTER = 0.25
"""The largest share of the updates that halving may use …"""
POINT = 1.0
"""… while it loses less than this many points of test accuracy; both fixed before any measurement."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the trials; space and task are the notes', except that each seed draws its images."""

    seeds: int = 20
    """Repetitions, each with images, settings, initial weights and minibatches of one seed."""
    trials: int = 24
    """Random settings per seed."""
    epochs: int = 50
    """Epochs of a whole trial."""
    first: int = 2
    """Epochs before the first comparison of the schedule that is run …"""
    eta: int = 3
    """… after which the best 1/η continue."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=2, epochs=2, first=1, eta=2)
        require(self.first < self.epochs, f"--first is less than --epochs {self.epochs}, not {self.first}.")


def halved(cfg: Config, plan: Schedule) -> Trial:
    """The trial of the same settings by successive halving, from the same weights on the same minibatches."""
    halve = _search.halved(plan)

    def measure(hp, key, data):
        k_run, parts, _ = _search.start_own(key, data)
        return {"halved_loss": -halve(_search.settings_of(key, cfg.trials), k_run, parts).values}

    return Trial(
        measure,
        labels={"halved_loss": Label("validation loss at a comparison", "nats", ("trial", "rung"))},
        coords={"trial": np.arange(cfg.trials), "rung": list(plan.rungs)},
    )


def run(cfg: Config) -> xr.Dataset:
    """Curves of all settings trained to the end, and their results by one schedule."""
    images = cfg.load()
    enough = len(images.x_train) >= _search.IMAGES
    require(enough, f"This takes {_search.IMAGES} training images, and {images.name} has {len(images.x_train)}.")
    plan = schedule(cfg.first, cfg.eta, cfg.epochs)
    about = {"dataset": images.name, "checksum": images.checksum, "source": images.source}
    trials = {"whole": _search.random_trials(cfg.trials, cfg.epochs, "test"), "halved": halved(cfg, plan)}
    whole, by_halving = (
        sweep(
            trial._replace(data=tasks.splits(images), about=about),
            seeds=cfg.seeds,
            keep=cfg.keep(name),
            progress=True,
        )
        for name, trial in trials.items()
    )
    ds = whole.merge(by_halving)
    return ds.assign_attrs(keep=plan.keep, share=cost(plan, cfg.trials))


class Replayed(NamedTuple):
    """The results of a schedule on each seed's complete curves.

    reached: number of comparisons of every trial `[S, trials]`. gone: whether the trial with the best final
    validation accuracy, and all equal to it, were abandoned `[S]`. lost: see `lost`.
    """

    reached: np.ndarray
    gone: np.ndarray
    lost: np.ndarray


def replayed(ds: xr.Dataset, plan: Schedule, by: str) -> Replayed:
    """The results of a schedule on complete curves, where trials are compared by one of `BY`."""
    scores = BY[by] * ds[f"validation_{by}"].values
    reached = np.zeros(scores.shape[:2], int)
    for seed, curves in enumerate(scores):
        alive = np.arange(len(curves))
        for epoch in plan.rungs:
            reached[seed, alive] += 1
            alive = alive[search.ranked(curves[alive, epoch - 1])[: halving.kept(len(alive), plan.keep)]]
    survived = reached == len(plan.rungs)
    final = np.nan_to_num(ds.validation_accuracy.values[..., -1])
    gone = np.where(survived, final, -np.inf).max(1) < final.max(1)
    return Replayed(reached, gone, lost(ds, survived))


def lost(ds: xr.Dataset, survived: np.ndarray) -> np.ndarray:
    """Points `[S]` by which the test accuracy is lower where the best is chosen among the survivors `[S, trials]` only.

    The best is chosen by final validation accuracy, uniformly among equals, and evaluated on the test set, on which no
    choice depends. Negative where a survivor with a lower validation accuracy has a higher test accuracy.
    """
    return chosen(ds, np.ones_like(survived)) - chosen(ds, survived)


def chosen(ds: xr.Dataset, among: np.ndarray) -> np.ndarray:
    """Test accuracy in percent `[S]` of the trial with the best final validation accuracy among these `[S, trials]`."""
    return 100 * _search.judged(ds.validation_accuracy.values[..., -1], ds.test_accuracy.values, among)


def schedules(ds: xr.Dataset) -> dict[tuple[int, int], Schedule]:
    """All schedules that are replayed, by (epochs before the first comparison, η)."""
    epochs = ds.sizes["epoch"]
    return {(first, eta): schedule(first, eta, epochs) for eta in ETAS for first in FIRST if first < epochs}


def tables(ds: xr.Dataset) -> dict[str, list[dict]]:
    """Every schedule with its cost, what it loses and the share of seeds whose best is abandoned; `schedules.json`."""
    rows = []
    for ((first, eta), plan), by in itertools.product(schedules(ds).items(), BY):
        found = replayed(ds, plan, by)
        mean, low, high = interval(found.lost)
        row = {"by": by, "first": first, "eta": eta, "rungs": list(plan.rungs)}
        row |= {"cost": cost(plan, ds.sizes["trial"]), "gone": float(found.gone.mean())}
        rows.append(row | {"lost": mean, "low": low, "high": high})
    return {"schedules": rows}


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of this experiment."""
    return caption(ds, f"{ds.sizes['trial']} random trials of {ds.sizes['epoch']} epochs per seed", *details)


def price(ds: xr.Dataset) -> Figure:
    """Accuracy lost against the share of the updates that are done, one panel for each criterion."""
    fig = plotting.figure(9.0, 4.6)
    rows, panels = tables(ds)["schedules"], fig.subplots(1, 2, sharex=True, sharey=True)
    for ax, by in zip(panels, BY, strict=True):
        for number, eta in enumerate(ETAS):
            drawn = sorted((row for row in rows if (row["eta"], row["by"]) == (eta, by)), key=lambda row: row["cost"])
            at, mean = [100 * row["cost"] for row in drawn], np.array([row["lost"] for row in drawn])
            reach = np.abs([[row[end] for row in drawn] for end in ("low", "high")] - mean)
            reach = np.where(np.isfinite(reach), reach, 0)  # one seed has no interval
            style = {"color": plotting.color(number), "marker": plotting.MARKERS[number], "markersize": 5}
            ax.errorbar(at, mean, reach, capsize=2, label=f"the best 1/{eta} continue", **style)
            for x, y, row in zip(at, mean, drawn, strict=True) if by == "accuracy" else ():  # both panels have the same
                ax.annotate(f" {row['first']}", (x, y), fontsize="x-small", color="0.35")
        ax.axhline(POINT, color="0.5", linewidth=0.8, linestyle=":")
        ax.axvline(100 * QUARTER, color="0.5", linewidth=0.8, linestyle=":")
        plotting.dress(
            ax, xlabel="share of all updates (%)", ylabel="test accuracy lost (points)" if by == "accuracy" else ""
        )
        ax.set_title(f"compared by {by}", fontsize="medium")
    plotting.legend(fig, title="What giving up early costs, and what it saves", of=panels[0])
    detail = "one mark for each schedule, replayed on complete curves; numbers: epochs before the first comparison"
    plotting.caption(fig, about(ds, detail, "mean with its 95 % interval; dotted: a point, a quarter of the updates"))
    return fig


def curves(ds: xr.Dataset) -> Figure:
    """The first seed's trials: complete curves in gray, in color the part that the schedule trains."""
    fig = plotting.figure()
    plan = shown(ds)
    ax = plotting.axes(fig, "Successive halving of one seed's trials", "epochs", "validation accuracy (%)")
    first = ds.isel(seed=slice(1))
    accuracy, epochs = 100 * first.validation_accuracy.values, ds.epoch.values
    reached = replayed(first, plan, "loss").reached[0].tolist()
    for trial, n in zip(accuracy[0], reached, strict=True):
        last = plan.rungs[n - 1]
        ax.plot(epochs, trial, color="0.85", linewidth=0.8, zorder=1)
        ax.plot(epochs[:last], trial[:last], color=plotting.color(n - 1), linewidth=1.2, zorder=1 + n)
    for number, (rung, count) in enumerate(
        zip(plan.rungs, halving.counts(len(reached), plan.rungs, plan.keep), strict=True)
    ):
        ax.plot([], [], color=plotting.color(number), label=f"{count} to epoch {rung}")
        ax.axvline(rung, color="0.5", linewidth=0.6, linestyle=":")
    ax.set(xlim=(1, epochs[-1]))
    plotting.legend(fig)
    share = cost(plan, len(reached))
    plotting.caption(fig, about(first, f"compared by loss; {share:.0%} of the updates; gray: abandoned"))
    return fig


def for_real(ds: xr.Dataset) -> Figure:
    """Each seed's test accuracy of the best of all complete trials, and of the best of those that halving kept."""
    fig = plotting.figure(5.4, 4.8)
    share = cost(shown(ds), ds.sizes["trial"])
    ax = plotting.axes(
        fig,
        "The best of all, and of what halving kept",
        "test accuracy of the best of all trials (%)",
        "test accuracy of the best of those kept (%)",
    )
    best, kept = bests(ds)
    low, high = min(best.min(), kept.min()) - 1, max(best.max(), kept.max()) + 1
    ax.plot(best, kept, plotting.MARKERS[0], color=plotting.color(0), linestyle="none", alpha=0.6)
    ax.plot([low, high], [low, high], color="0.5", linewidth=1, linestyle="--")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    plotting.caption(fig, about(ds, f"kept for {share:.0%} of the updates", "one dot per seed; dashed: nothing lost"))
    return fig


def shown(ds: xr.Dataset) -> Schedule:
    """The schedule that was run."""
    return Schedule(tuple(ds.rung.values.tolist()), float(ds.keep))


def bests(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Percent, `[S]`: the test accuracy of the best of all trials, and of those that the program kept."""
    survived = ~np.isnan(ds.halved_loss.values[..., -1])
    return chosen(ds, np.ones_like(survived)), chosen(ds, survived)


def summary(ds: xr.Dataset) -> str:
    """A table of every schedule's cost and loss."""
    lines = [
        f"{'compared by':>12}{'first after':>12}{'keeps':>8}{'updates':>10}{'points lost':>14}{'lose their best':>18}"
    ]
    for row in sorted(tables(ds)["schedules"], key=lambda row: row["by"]):
        lines.append(
            f"{row['by']:>12}{row['first']:>5} epochs{'1/' + str(row['eta']):>8}{row['cost']:>10.0%}"
            f"{row['lost']:>14.2f}{row['gone']:>12.0%} of seeds"
        )
    return "\n".join(lines)


def lost_for_real(ds: xr.Dataset) -> xr.DataArray:
    """Points of test accuracy that the halving program loses, one value per seed."""
    best, kept = bests(ds)
    return xr.DataArray(best - kept, dims="seed")


def by_loss_ahead(ds: xr.Dataset) -> xr.DataArray:
    """Points lost where trials are compared by accuracy less those where they are compared by validation loss."""
    plan = shown(ds)
    return xr.DataArray(replayed(ds, plan, "accuracy").lost - replayed(ds, plan, "loss").lost, dims="seed")


def both_lost(ds: xr.Dataset) -> str:
    """The sentence on the points that each criterion loses."""
    by = {name: replayed(ds, shown(ds), name).lost.mean() for name in BY}
    return f"By the same schedule accuracy loses {by['accuracy']:.2f} points and loss {by['loss']:.2f}."


EXPERIMENT = lab.Experiment(
    question="Does abandoning bad trials early lose the best one?",
    source="notes §5.2, beyond claim 17",
    says="Training for fewer epochs is a good way to abandon bad trials early.",
    method="Trains random settings of the notes' search for 50 epochs, all of them to the end, over many seeds, each "
    "with 500 images. On these complete curves it replays successive halving: after the first few epochs only the best "
    "1/η continue, after η times as many epochs the best 1/η of those, and so on; for many η and first comparisons. "
    "Measured are the share of the updates, how often the finally best trial is abandoned, and the accuracy lost. "
    "Trials are compared by validation accuracy, as the notes compare them, or by validation loss, which differs also "
    "between trials of equal accuracy. The trial chosen in validation is evaluated on the test set.\n\n"
    "Then it runs one of these schedules, by loss, on the same settings, seeds and minibatches: a compiled "
    "program in which the survivors are gathered into smaller arrays, so that abandoned trials cost nothing from then "
    "on.",
    takes="about a minute and a half for 20 seeds of 24 trials on two cores",
    config=Config,
    quick={"seeds": 2, "trials": 12, "epochs": 9, "first": 1, "dataset": "mnist_5k"},
    run=run,
    claims=(
        lab.Claim(
            f"Successive halving loses less than {POINT:g} point of test accuracy for {{share:.0%}} of the updates",
            lost_for_real,
            *(lab.below(POINT), "points", "claim 17", "for_real"),
            detail=lambda ds: (
                f"Trials are compared after {', '.join(map(str, shown(ds).rungs[:-1]))} epochs, and the best "
                f"{shown(ds).keep:.0%} continue."
            ),
        ),
        lab.Claim(
            "Early on, validation loss is a better criterion than validation accuracy for which trials to abandon",
            by_loss_ahead,
            *(lab.above(0.0), "points", "claim 17", "price"),
            detail=both_lost,
            secondary=True,
        ),
    ),
    figures={"price": price, "curves": curves, "for_real": for_real},
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
