"""Does giving up hopeless trials early cost the best one? (notes §5.2, beyond claim 17)

Trains random settings of the notes' search for 50 epochs, all of them whole, over many seeds. On these complete curves
it replays successive halving: after the first few epochs only the best 1/η go on, after η times as many epochs again
only the best 1/η of those, and so on; for many η and first looks. How much of the work is left, how often is the trial
that would have ended best given up, and how much accuracy is lost? Trials are compared by validation accuracy, as the
notes compare them, or by validation loss, which tells those apart that are equally inaccurate still.

Then it does one of these schedules for real, by loss, on the same settings, seeds and minibatches: a compiled program
in which the survivors are gathered into smaller arrays, so that what is given up costs nothing from then on.

The notes say that training for fewer epochs is a good way to abandon hopeless trials early.

Takes about three quarters of a minute for 10 seeds of 24 trials on two cores.
"""

import itertools
import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import _cli, _lab, _search
from experiments._search import Schedule, cost, schedule
from fnn import search
from fnn.base.errors import require
from fnn.base.statistics import interval
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.train import engine, halving

ETAS = (2, 3, 4)
"""The best 1/η go on."""
FIRST = (1, 2, 3, 5, 10)
"""Epochs before the first look."""
BY = {"accuracy": 1, "loss": -1}
"""What a trial is worth at a look, and whether more of it is better."""
QUARTER = 0.25
"""The share of the work that halving is meant to take at most …"""
POINT = 1.0
"""… while it loses less than so many points of accuracy; both fixed before anything was measured."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the trials; the space and the task are the notes'."""

    trials: int = 24
    """Random settings a seed."""
    epochs: int = 50
    """Epochs that a whole trial trains for."""
    first: int = 2
    """Epochs before the first look of the schedule that is done for real …"""
    eta: int = 3
    """… of which the best 1/η go on."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=2, epochs=2, first=1, eta=2)
        require(self.first < self.epochs, f"--first is less than --epochs {self.epochs}, not {self.first}.")


QUICK = Config(seeds=2, trials=12, epochs=9, first=1, dataset="mnist_5k", quick=True)


def run(cfg: Config) -> xr.Dataset:
    """Train everything whole, then by one schedule."""
    images = _search.load(cfg)
    keys, plan = engine.seeds(cfg.seeds), schedule(cfg.first, cfg.eta, cfg.epochs)
    _cli.headline(cfg, images, f"{cfg.trials * cfg.seeds} networks ({cfg.trials} trials × {cfg.seeds} seeds), twice")
    settings = _search.samples(keys, cfg.trials)
    whole = _search.trainer(images, cfg.epochs, evaluate_at=range(1, cfg.epochs + 1))
    record, done = _search.seed_by_seed(cfg, images, whole, settings, keys, "whole")
    trials = ("seed", "trial")
    ds = xr.Dataset(
        {
            "lr": (trials, np.asarray(settings.lr)[:done], {"long_name": "learning rate"}),
            "l2": (trials, np.asarray(settings.l2)[:done], {"long_name": "weight decay λ"}),
            "validation_accuracy": ((*trials, "epoch"), record["validation_accuracy"], {"units": "1"}),
            "validation_loss": ((*trials, "epoch"), record["validation_loss"], {"units": "nats"}),
            "diverged_at": (trials, record["diverged_at"]),
        },
        {
            "seed": np.arange(done),
            "trial": np.arange(cfg.trials),
            "epoch": np.arange(1, cfg.epochs + 1),
            "rung": [*plan.rungs],
        },
        {**_lab.origin(images), "keep": plan.keep, "complete": int(done == cfg.seeds)},
    )
    if ds.complete:
        try:
            abandoning = _search.abandoning(images, plan)
            halved, done = _search.seed_by_seed(cfg, images, abandoning, settings, keys, "halved")
            # An interrupt leaves some seeds: those not done have no looks.
            missing = np.full((cfg.seeds - done, *halved["values"].shape[1:]), np.nan)
            looks = np.concatenate([-halved["values"], missing])
            ds["halved_loss"] = (*trials, "rung"), looks, {"long_name": "validation loss at a look", "units": "nats"}
            ds = ds.assign_attrs(complete=int(done == cfg.seeds))
        except KeyboardInterrupt:
            ds = ds.assign_attrs(complete=0)
    print(summary(ds))
    return ds


class Replayed(NamedTuple):
    """What a schedule would have done to each seed's trials.

    reached: how many looks every trial took part in `[S, trials]`. lost: points of final accuracy by which the best
    survivor is below the best trial `[S]`; more than 0 where the best one, and all its equals, were given up.
    """

    reached: np.ndarray
    lost: np.ndarray


def replayed(ds: xr.Dataset, plan: Schedule, by: str) -> Replayed:
    """A schedule on complete curves, where trials are worth what `BY` says."""
    worth = BY[by] * ds[f"validation_{by}"].values
    reached = np.zeros(worth.shape[:2], int)
    for seed, curves in enumerate(worth):
        alive = np.arange(len(curves))
        for epoch in plan.rungs:
            reached[seed, alive] += 1
            alive = alive[search.ranked(curves[alive, epoch - 1])[: halving.kept(len(alive), plan.keep)]]
    return Replayed(reached, lost(ds, reached == len(plan.rungs)))


def lost(ds: xr.Dataset, survived: np.ndarray) -> np.ndarray:
    """Points of final accuracy `[S]` by which the best of the survivors `[S, trials]` is below the best trial."""
    final = 100 * np.nan_to_num(ds.validation_accuracy.values[..., -1])
    return final.max(1) - np.where(survived, final, -np.inf).max(1)


def schedules(ds: xr.Dataset) -> dict[tuple[int, int], Schedule]:
    """All that are replayed, by (epochs before the first look, η)."""
    epochs = ds.sizes["epoch"]
    return {(first, eta): schedule(first, eta, epochs) for eta in ETAS for first in FIRST if first < epochs}


def tables(ds: xr.Dataset) -> dict[str, list[dict]]:
    """Every schedule with its cost, what it loses and the share of seeds whose best is gone; `schedules.json`."""
    rows = []
    for ((first, eta), plan), by in itertools.product(schedules(ds).items(), BY):
        found = replayed(ds, plan, by).lost
        mean, low, high = interval(found)
        told = {"by": by, "first": first, "eta": eta, "rungs": list(plan.rungs)}
        told |= {"cost": cost(plan, ds.sizes["trial"]), "gone": float((found > 0).mean())}
        rows.append(told | {"lost": mean, "low": low, "high": high})
    return {"schedules": rows}


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """The price of every schedule, one seed's curves as they are given up, and the real program's best."""
    made = {"price": price(ds), "curves": curves(ds)}
    if done_for_real(ds).any():
        made["for_real"] = for_real(ds)
    return made


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"{ds.sizes['trial']} random trials of {ds.sizes['epoch']} epochs a seed", *details)


def price(ds: xr.Dataset) -> Figure:
    """Accuracy lost against the share of the work that is left, a panel for what trials are worth."""
    fig = plotting.figure(9.0, 4.6)
    rows, panels = tables(ds)["schedules"], fig.subplots(1, 2, sharex=True, sharey=True)
    for ax, by in zip(panels, BY, strict=True):
        for number, eta in enumerate(ETAS):
            mine = sorted((row for row in rows if (row["eta"], row["by"]) == (eta, by)), key=lambda row: row["cost"])
            at, mean = [100 * row["cost"] for row in mine], np.array([row["lost"] for row in mine])
            reach = np.abs([[row[end] for row in mine] for end in ("low", "high")] - mean)
            reach = np.where(np.isfinite(reach), reach, 0)  # one seed has no interval
            look = {"color": plotting.colour(number), "marker": plotting.MARKERS[number], "markersize": 5}
            ax.errorbar(at, mean, reach, capsize=2, label=f"the best 1/{eta} go on", **look)
            for x, y, row in zip(at, mean, mine, strict=True) if by == "accuracy" else ():  # both panels have the same
                ax.annotate(f" {row['first']}", (x, y), fontsize="x-small", color="0.35")
        ax.axhline(POINT, color="0.5", linewidth=0.8, linestyle=":")
        ax.axvline(100 * QUARTER, color="0.5", linewidth=0.8, linestyle=":")
        plotting.dress(
            ax, xlabel="share of all updates (%)", ylabel="accuracy lost (points)" if by == "accuracy" else ""
        )
        ax.set_title(f"compared by {by}", fontsize="medium")
    plotting.legend(fig, title="What giving up early costs, and what it saves", of=panels[0])
    detail = "a mark a schedule, replayed on complete curves; numbers: epochs before the first look"
    plotting.caption(fig, about(ds, detail, "mean with its 95 % interval; dotted: a point, a quarter of the updates"))
    return fig


def curves(ds: xr.Dataset) -> Figure:
    """The first seed's trials: whole in grey, in colour as far as the schedule follows them."""
    fig = plotting.figure()
    plan = shown(ds)
    ax = plotting.axes(fig, "Successive halving of one seed's trials", "epochs", "validation accuracy (%)")
    first = ds.isel(seed=slice(1))
    accuracy, epochs = 100 * first.validation_accuracy.values, ds.epoch.values
    reached = replayed(first, plan, "loss").reached[0].tolist()
    for trial, looks in zip(accuracy[0], reached, strict=True):
        last = plan.rungs[looks - 1]
        ax.plot(epochs, trial, color="0.85", linewidth=0.8, zorder=1)
        ax.plot(epochs[:last], trial[:last], color=plotting.colour(looks - 1), linewidth=1.2, zorder=1 + looks)
    for number, (rung, count) in enumerate(
        zip(plan.rungs, halving.counts(len(reached), plan.rungs, plan.keep), strict=True)
    ):
        ax.plot([], [], color=plotting.colour(number), label=f"{count} to epoch {rung}")
        ax.axvline(rung, color="0.5", linewidth=0.6, linestyle=":")
    ax.set(xlim=(1, epochs[-1]))
    plotting.legend(fig)
    share = cost(plan, len(reached))
    plotting.caption(fig, about(first, f"compared by loss; {share:.0%} of the updates; grey: what was given up"))
    return fig


def for_real(ds: xr.Dataset) -> Figure:
    """Each seed's best final accuracy: of all trials trained whole, and of those that the halving program kept."""
    fig = plotting.figure(5.4, 4.8)
    share = cost(shown(ds), ds.sizes["trial"])
    ax = plotting.axes(
        fig,
        "The best of all, and of what halving kept",
        "best of all trials (%)",
        "best of those kept (%)",
    )
    best, kept = bests(ds)
    low, high = min(best.min(), kept.min()) - 1, max(best.max(), kept.max()) + 1
    ax.plot(best, kept, plotting.MARKERS[0], color=plotting.colour(0), linestyle="none", alpha=0.6)
    ax.plot([low, high], [low, high], color="0.5", linewidth=1, linestyle="--")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    plotting.caption(fig, about(ds, f"kept for {share:.0%} of the updates", "a dot a seed; dashed: nothing lost"))
    return fig


def shown(ds: xr.Dataset) -> Schedule:
    """The schedule that was done for real, or was to be."""
    return Schedule(tuple(ds.rung.values.tolist()), float(ds.keep))


def done_for_real(ds: xr.Dataset) -> np.ndarray:
    """`[S]`: the seeds whose trials the halving program did."""
    if "halved_loss" not in ds:
        return np.zeros(ds.sizes["seed"], bool)
    return (~np.isnan(ds.halved_loss)).any(("trial", "rung")).values


def bests(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Percent, `[S]`: the best final accuracy of all trials, and of those that the program kept."""
    mine = ds.isel(seed=done_for_real(ds))
    best = 100 * np.nan_to_num(mine.validation_accuracy.values[..., -1]).max(1)
    return best, best - lost(mine, ~np.isnan(mine.halved_loss.values[..., -1]))


def summary(ds: xr.Dataset) -> str:
    """Every schedule's price."""
    lines = [
        f"{'compared by':>12}{'first look':>12}{'go on':>8}{'updates':>10}{'points lost':>14}{'lose their best':>18}"
    ]
    for row in sorted(tables(ds)["schedules"], key=lambda row: row["by"]):
        lines.append(
            f"{row['by']:>12}{row['first']:>5} epochs{'1/' + str(row['eta']):>8}{row['cost']:>10.0%}"
            f"{row['lost']:>14.2f}{row['gone']:>12.0%} of seeds"
        )
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Whether the schedule done for real reaches the best, and whether loss is the better judge of a young trial."""
    if not done_for_real(ds).any():
        return []
    plan, (best, kept) = shown(ds), bests(ds)
    share = cost(plan, ds.sizes["trial"])
    looks = ", ".join(map(str, plan.rungs[:-1]))
    by = {name: replayed(ds, plan, name).lost for name in BY}
    return [
        decide(
            f"Successive halving comes within {POINT:g} point of the best of all trials for {share:.0%} of the updates",
            POINT - (best - kept),
            "points",
            f"With looks after {looks} epochs, after each of which the best {plan.keep:.0%} go on, it loses "
            f"{(best - kept).mean():.2f} points, {{effect}} {{unit}} within the bar "
            "[{low}, {high}], {seeds} paired seeds.",
            "claim 17",
        ),
        decide(
            "Early on, validation loss tells better than validation accuracy which trials to give up",
            by["accuracy"] - by["loss"],
            "points",
            f"By the same schedule accuracy loses {by['accuracy'].mean():.2f} points and loss {by['loss'].mean():.2f}: "
            "{effect} {unit} [{low}, {high}], {seeds} paired seeds.",
            "claim 17",
        ),
    ]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
