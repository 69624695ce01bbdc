"""Which search finds a learning rate and a weight decay soonest? (notes §5.2, figure of the 20 best curves)"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.hyperparameters import _search, _search_figures, _searches
from experiments.hyperparameters._searches import KEPT, NARROWING, PROGRAMS, SEARCHES, TITLES, Found, exponents
from fnn import lab, search, store, sweep, tasks
from fnn.base.errors import require
from fnn.base.types import Keys
from fnn.data import DataSet
from fnn.lab import command, plotting
from fnn.lab.figures import caption
from fnn.search import Sampler, study
from fnn.search.expected import expected_best, missed
from fnn.tasks import Label, Split, Trial
from fnn.train import checkpoints, engine

PANELS = 20
"""Number of best trials that the book draws."""
TOP, DRAWN = 0.05, 60
"""The rule of thumb: this many random trials hit a best part of this size."""
ALL, BEST = "Spearman's ρ", f"Spearman's ρ, the final best {KEPT:.0%}"
"""The trials over which a rank correlation is computed."""
ALIKE = 0.9
"""A rank correlation above this counts as the same ranking …"""
POINT = 1.0
"""… this many points of accuracy on fresh images count as a difference …"""
FEWER = 10.0
"""… and this many percent as fewer trials; all fixed before any measurement."""
AXES = _search.Setting._fields
SYMBOLS = {"lr": "learning rate", "l2": "λ"}
FRESH = f"on {_search.FRESH:,} fresh images"


@dataclass(frozen=True)
class Config(_searches.Options):
    """Settings of the random trials, the notes' except that each seed draws its images, and of the searches."""

    seeds: int = 20
    """Repetitions, each with images, settings, initial weights and minibatches of one seed."""
    trials: int = 100
    """Random settings per seed."""
    epochs: int = 50
    """Epochs of a random trial."""
    retest: bool = False
    """Evaluate the test set again where it has been evaluated for the chosen settings."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=PANELS, epochs=5)
        require(self.short <= self.epochs, f"--short is at most --epochs {self.epochs}, not {self.short}.")


def run(cfg: Config) -> xr.Dataset:
    """The trials of random search on every seed, the chosen settings' test accuracy, and the other searches."""
    images = _search.load(cfg)
    data, keys = tasks.splits(images), engine.seeds(cfg.seeds)
    about = {**images.about, "short": cfg.short, "budget": cfg.budget, "each": cfg.each}
    trials = _search.random_trials(cfg.trials, cfg.epochs, "fresh")._replace(data=data, about=about)
    ds = sweep(trials, seeds=cfg.seeds, keep=cfg.keep("trials"), progress=True)
    ds = ds.drop_vars(["validation_loss", "fresh_loss"])
    return (
        ds.merge(panels(cfg, data, ds))
        .assign(test_accuracy=tested(cfg, data, ds, keys))
        .merge(compare(cfg, images, data, keys))
    )


def variable(dims: str, values: Any, long_name: str, units: str = "1") -> xr.DataArray:
    """A labeled array; dims: their names, separated by spaces."""
    return xr.DataArray(values, dims=dims.split(), attrs={"long_name": long_name, "units": units})


def chosen(ds: xr.Dataset, n: int = 1) -> _search.Setting:
    """The n best settings of every seed by validation accuracy at the end, arrays `[S, n]`."""
    best = search.ranked(ds.validation_accuracy.values[..., -1])[:, :n]
    return _search.Setting(*(np.take_along_axis(ds[axis].values, best, 1) for axis in AXES))


def panels(cfg: Config, data: Mapping[str, Split], ds: xr.Dataset) -> xr.Dataset:
    """The first seed's 20 best, trained again from the same weights for their training accuracy, which is expensive."""
    one = _search.trial(cfg.epochs, evaluate_at=ds.epoch.values.tolist(), on=("validation", "train"))

    def measure(hp, key, data):
        record = one(hp, *_search.start_own(key, data))
        return {f"panel_{split}": record[f"{split}_accuracy"] for split in ("validation", "train")}

    labels = {
        "panel_validation": Label("validation accuracy of one of the best", "1", ("epoch",)),
        "panel_train": Label("training accuracy of one of the best", "1", ("epoch",)),
    }
    best = list(zip(*(values[0].tolist() for values in chosen(ds, PANELS)), strict=True))
    trial = Trial(measure, data, _search.Setting(0.0, 0.0), labels, {"epoch": ds.epoch.values})
    found = sweep(trial, over={AXES: best}, seeds=1, keep=cfg.keep("panels"), progress=True)
    found = found.isel(seed=0, drop=True).drop_vars(AXES).rename(setting="place")
    return found.assign_coords(place=np.arange(1, PANELS + 1)).drop_attrs(deep=False)


def tested(cfg: Config, data: Mapping[str, Split], ds: xr.Dataset, keys: Keys) -> xr.DataArray:
    """Every seed's best setting on the test set, by one evaluation: a second run prints the first result.

    Outside of the command line there is no folder to record it in, so each run evaluates it.
    """
    best = chosen(ds)

    def measure():
        test = _search.trainer(data, cfg.epochs, at_end=("test",))
        return test(best, keys)["test_accuracy"][:, 0].tolist()

    values = measure() if cfg.work is None else recorded(cfg.work.parent, best, measure, cfg.retest)
    return variable("seed", values, "test accuracy of the chosen setting")


def recorded(folder: Path, best: _search.Setting, measure: Callable[[], list[float]], again: bool) -> list[float]:
    """The evaluation of these settings on the test set that the folder has on record, or a new one."""
    of = f"the settings {store.checksum(best)[:16]}"
    before = study.found(study.evaluations(folder), of)
    if before and not again:
        print(f"The test set was evaluated on {before['time']}; that result is kept (--retest evaluates it again).")
        return before["value"]
    return study.evaluate_once(folder, of, measure, again=True)


def rounds(cfg: Config, images: DataSet, name: str) -> _searches.Rounds:
    """The rounds of the search with this name."""
    folder = cfg.keep(name)
    if folder is None:
        return lambda n, make: map(make, range(n))
    code = command.sources_of(Path(__file__))
    manifest = {"options": command.measured_by(cfg), "code": code, "data": images.checksum}
    return lambda n, make: checkpoints.each(folder, manifest, range(n), make, every=0.0)


def compare(cfg: Config, images: DataSet, data: Mapping[str, Split], keys: Keys) -> xr.Dataset:
    """The trials of all searches at equal budget."""
    names = _searches.available(cfg.names())
    short = _search.trainer(data, cfg.short, at_end=("fresh",))

    def searched(name: str, sampler: Sampler, initial: Found, at_a_time: int, budget: int) -> Found:
        return _searches.lockstep(sampler, initial, at_a_time, budget, short, keys, rounds(cfg, images, name))

    nothing = Found(np.empty((cfg.seeds, 0, 2)), np.empty((cfg.seeds, 0)), np.empty((cfg.seeds, 0)))
    random = searched("random", search.uniform(2), nothing, 2 * cfg.budget, 2 * cfg.budget)
    found = {"random": random.first(cfg.budget)}
    for name, (sampler, first, at_a_time) in _searches.samplers(cfg, names).items():
        found[name] = searched(name, sampler, random.first(first), at_a_time, cfg.budget)
    stacked = Found(*(np.stack(arrays) for arrays in zip(*found.values(), strict=True)))
    dims = "search seed proposed"
    ds = xr.Dataset(
        {
            "random_accuracy": variable("seed drawn", random.values, "validation accuracy of random search"),
            "random_fresh": variable("seed drawn", random.fresh, "accuracy of random search on fresh images"),
            "search_accuracy": variable(dims, stacked.values, "validation accuracy of a search"),
            "search_fresh": variable(dims, stacked.fresh, "accuracy of a search on fresh images"),
            "search_exponent": variable(f"{dims} axis", exponents(stacked.points), "log₁₀ of the setting"),
        },
        {
            "search": list(found),
            "proposed": np.arange(1, cfg.budget + 1),
            "drawn": np.arange(1, 2 * cfg.budget + 1),
            "axis": list(AXES),
        },
    )
    for form in (form for form in NARROWING if form in found):
        each = [search.ranges(2, cfg.each, h, keep=KEPT, margin=NARROWING[form]) for h in found[form].histories()]
        shrunk = exponents(np.moveaxis(np.array(each), -1, -2))
        ds[f"{form}_range"] = variable("seed round end axis", shrunk, f"log₁₀ of the ranges of {TITLES[form]}")
        ds = ds.assign_coords(end=["low", "high"], round=np.arange(1, shrunk.shape[1] + 1))
    for name in (name for name in names if name in PROGRAMS):
        made, bout = _searches.bouts(cfg, data, name, keys, rounds(cfg, images, name)), f"{name}_bout"
        best = f"of the best of a bout of {TITLES[name]}"
        ds[f"{name}_accuracy"] = variable(f"seed {bout}", made["accuracy"], f"validation accuracy {best}")
        ds[f"{name}_fresh"] = variable(f"seed {bout}", made["fresh"], f"accuracy on fresh images {best}")
        ds[f"{name}_epochs"] = variable(bout, made["epochs"], "epochs of one network so far")
        ds = ds.assign_coords({bout: np.arange(1, len(made["epochs"]) + 1)})
    return ds


# Statistics.


def kept(n: int) -> int:
    """The number of trials among n that are the best 20 %."""
    return max(2, round(KEPT * n))


def best_part(n: int) -> int:
    """The number of trials among n that are the best 5 %."""
    return max(1, round(TOP * n))


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """All trials of all seeds, best first, and the chosen one of each."""
    rows = []
    for seed in range(ds.sizes["seed"]):
        accuracy = ds.validation_accuracy[seed, :, -1].values
        for place, trial in enumerate(search.ranked(accuracy), 1):
            numbers = {axis: float(ds[axis][seed, trial]) for axis in AXES}
            row = {"seed": seed, "place": place, "trial": int(trial), **numbers}
            rows.append(row | {"validation_accuracy": float(accuracy[trial])})
    return {"ranking": rows}


def rank_correlations(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """[S, epochs] each: rank correlation of a seed's accuracies after each number of epochs with those at the end.

    0 where all trials are equal.
    """
    from scipy.stats import kendalltau

    accuracy = ds.validation_accuracy.values
    places = search.ranked(accuracy[..., -1])[:, : kept(ds.sizes["trial"]), None]
    tau = [[kendalltau(now, curves[:, -1])[0] for now in curves.T] for curves in accuracy]
    return {
        ALL: spearman(accuracy),
        "Kendall's τ": np.nan_to_num(np.array(tau)),
        BEST: spearman(np.take_along_axis(accuracy, places, 1)),
    }


def spearman(curves: np.ndarray) -> np.ndarray:
    """The rank correlation of every epoch of curves `[S, trials, epochs]` with the last, `[S, epochs]`."""
    from scipy.stats import rankdata

    ranks = rankdata(curves, axis=1)
    centered = ranks - ranks.mean(1, keepdims=True)
    size = np.sqrt((centered**2).sum(1))
    return np.einsum("ste,st->se", centered, centered[..., -1]) / np.maximum(size * size[:, -1:], 1e-12)


def abandoned(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(whether the final best is kept, what is lost), `[S, epochs]`, if only the best 20 % continued after each epoch.

    The loss is in accuracy on fresh images: that of the trial with the best final validation accuracy, less that of
    the best among those kept. Negative where a trial of lower validation accuracy is better on fresh images.
    """
    accuracy, fresh = ds.validation_accuracy.values, ds.fresh_accuracy.values
    final = accuracy[..., -1]
    places = search.ranked(np.moveaxis(accuracy, -1, 0))[..., : kept(ds.sizes["trial"])]
    among = np.zeros((ds.sizes["epoch"], *final.shape), bool)
    np.put_along_axis(among, places, True, -1)
    best_kept = (places == search.ranked(final)[:, :1]).any(-1)
    lost = _search.judged(final, fresh, np.ones_like(among)) - _search.judged(final, fresh, among)
    return best_kept.T, lost.T


def saved(ds: xr.Dataset) -> np.ndarray:
    """[epochs]: the share of all updates that is saved by abandoning 80 % of the trials after each number of epochs."""
    return (1 - kept(ds.sizes["trial"]) / ds.sizes["trial"]) * (1 - ds.epoch.values / ds.sizes["epoch"])


def best_so_far(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """For each search by trials the accuracy on fresh images of the trial that validation chooses among the first k,
    `[S, budget]`; for random search the expectation over all orders of twice as many trials."""
    found = {"random": expected_best(ds.random_accuracy.values, ds.random_fresh.values)[:, : ds.budget]}
    for name in map(str, ds.search.values):
        if name != "random":
            one = ds.sel(search=name)
            found[name] = _search.chosen_so_far(one.search_accuracy.values, one.search_fresh.values)
    return found


def best_by_epochs(ds: xr.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For every search `(epochs of one network spent [n], accuracy on fresh images of what it has chosen [S, n])`.

    Searches by trials come first, in the order of `best_so_far`, so that colors agree in all figures.
    """
    trials = ds.short * np.arange(1, ds.budget + 1)
    found = {name: (trials, best) for name, best in best_so_far(ds).items()}
    for name in (name for name in PROGRAMS if f"{name}_accuracy" in ds):
        best = _search.chosen_so_far(ds[f"{name}_accuracy"].values, ds[f"{name}_fresh"].values)
        found[name] = ds[f"{name}_epochs"].values, best
    return found


def trials_needed(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Trials until a seed's target is reached on fresh images, `[S]`; not within the budget counts as budget + 1.

    No search uses the fresh images. The target is the median accuracy on them of the best of random search's trials
    within the budget. For random search the number is the exact expectation over all orders of its trials.
    """
    values, budget = ds.random_fresh.values, ds.budget
    gone = missed(values.shape[-1])
    target = np.sort(values, -1)[:, ::-1][:, np.argmax(gone[budget] <= 0.5) - 1]
    needed = {"random": gone[: budget + 1, (values >= target[:, None]).sum(-1)].sum(0)}
    for name in map(str, ds.search.values):
        if name != "random":
            reached = ds.search_fresh.sel(search=name).values >= target[:, None]
            needed[name] = np.where(reached.any(-1), reached.argmax(-1) + 1, budget + 1)
    return needed


def hits(ds: xr.Dataset, repeats: int = 10_000) -> np.ndarray:
    """[S, trials]: how often the best of k trials, drawn with replacement from a seed's, is at least as good as its
    best 5 %.

    Accuracies are multiples of 1 / images, and a tie with the best 5 % counts as one of them.
    """
    final = ds.validation_accuracy.values[..., -1]
    n = final.shape[-1]
    threshold = np.sort(final, -1)[:, ::-1][:, best_part(n) - 1]
    draws = np.random.default_rng(0).integers(n, size=(repeats, n))
    good = final >= threshold[:, None]
    return np.stack([np.logical_or.accumulate(hit[draws], axis=-1).mean(0) for hit in good])


def early(ds: xr.Dataset) -> tuple[int, int]:
    """A tenth and a fifth of the training, in epochs."""
    return max(1, ds.sizes["epoch"] // 10), max(1, ds.sizes["epoch"] // 5)


# Figures.


def about(ds: xr.Dataset, *details: str, paired: bool = False) -> str:
    """The caption of a figure of this experiment."""
    return caption(ds, f"{_search.IMAGES - _search.VALIDATION} training images", *details, paired=paired)


def panel(ds: xr.Dataset) -> _search_figures.Trials:
    """The random trials for `_search_figures`: all seeds, the accuracy after the last epoch in percent."""
    settings = {SYMBOLS[axis]: ds[axis].values for axis in AXES}
    return _search_figures.Trials(settings, 100 * ds.validation_accuracy.values[..., -1], "validation accuracy (%)")


def usual(draw: Callable[..., Figure | None]) -> Callable[[xr.Dataset], Figure | None]:
    """The figure that `draw` makes of the random trials."""
    return lambda ds: draw(panel(ds), about(ds))


def best_curves(ds: xr.Dataset) -> Figure:
    """The book's figure: the first seed's 20 best, validation solid and training dashed."""
    fig, first = plotting.figure(9.0, 6.6), ds.isel(seed=slice(1))
    settings = chosen(first, PANELS)
    for place, ax in enumerate(_panels(fig)):
        lr, l2 = settings.lr[0, place], settings.l2[0, place]
        ax.set_title(f"Best-{place + 1} (lr:{lr:.2g}, λ:{l2:.1g})", fontsize="x-small")
        ax.plot(ds.epoch, ds.panel_validation[place], color=plotting.color(0), label="" if place else "validation")
        ax.plot(ds.epoch, ds.panel_train[place], "--", color=plotting.color(1), label="" if place else "training")
    plotting.legend(fig)
    detail = f"the {PANELS} best of {ds.sizes['trial']} random trials"
    plotting.caption(fig, about(first, detail, f"over {ds.sizes['epoch']} epochs"))
    return fig


def best_curves_of_all(ds: xr.Dataset) -> Figure:
    """The same panels over all seeds: the curve of each seed's best, second best, …"""
    fig = plotting.figure(9.0, 6.6)
    best = search.ranked(ds.validation_accuracy.values[..., -1])[:, :PANELS, None]
    curves = np.take_along_axis(ds.validation_accuracy.values, best, 1)
    rates = chosen(ds, PANELS).lr
    for place, ax in enumerate(_panels(fig)):
        low, high = rates[:, place].min(), rates[:, place].max()
        ax.set_title(f"Best-{place + 1} (lr:{low:.1g} to {high:.1g})", fontsize="x-small")
        plotting.curve(ax, ds.epoch.values, curves[:, place], "", 0)
    detail = f"each seed's {PANELS} best of {ds.sizes['trial']} random trials over {ds.sizes['epoch']} epochs"
    plotting.caption(fig, about(ds, detail, "validation accuracy, mean with its 95 % interval"))
    return fig


def _panels(fig: Figure) -> list[Axes]:
    """The book's 4 × 5 panels: accuracy from 0 to 1, no ticks along the epochs."""
    panels = list(fig.subplots(4, 5, sharey=True).flat)
    for place, ax in enumerate(panels):
        ax.set(ylim=(0, 1), xticks=[])
        ax.tick_params(left=place % 5 == 0)
    fig.supylabel("accuracy", fontsize="medium")
    return panels


def scatter(ds: xr.Dataset) -> Figure:
    """Every random trial of every seed as a point of the space, its accuracy as its color."""
    fig = plotting.figure(7.0, 4.8)
    ax = plotting.axes(fig, "Validation accuracy of the random trials", "learning rate", "weight decay λ")
    accuracy = 100 * ds.validation_accuracy[..., -1].values
    dots = ax.scatter(ds.lr, ds.l2, c=accuracy, s=12, cmap="viridis", linewidths=0)
    x, y = 10 ** np.array(_search.EXPONENTS)
    ax.set(xscale="log", yscale="log", xlim=x, ylim=y)
    fig.colorbar(dots, ax=ax, label="validation accuracy (%)")
    plotting.caption(fig, about(ds, f"after {ds.sizes['epoch']} epochs; one dot for each trial"))
    return fig


def best_of_random(ds: xr.Dataset) -> Figure:
    """Random search: the best accuracy against the number of trials, with the long and the short training."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "Random search: best so far", "trials", "best validation accuracy (%)")
    trials = np.arange(1, ds.sizes["trial"] + 1)
    for number, epoch in enumerate(dict.fromkeys((ds.sizes["epoch"], int(ds.short)))):
        values = 100 * expected_best(ds.validation_accuracy.sel(epoch=epoch).values)
        plotting.curve(ax, trials, values, f"{epoch} epochs per trial", number)
    ax.set(xlim=(1, len(trials)))
    plotting.legend(fig)
    detail = "expected over all orders of a seed's trials; mean with its 95 % interval"
    plotting.caption(fig, about(ds, detail, paired=True))
    return fig


def short_training(ds: xr.Dataset) -> Figure:
    """The agreement of short with long training: ranking, final best kept, accuracy lost and updates saved."""
    fig = plotting.figure(7.0, 7.6)
    upper, middle, lower = fig.subplots(3, 1, sharex=True)
    for number, (name, values) in enumerate(rank_correlations(ds).items()):
        plotting.curve(upper, ds.epoch.values, values, name, number)
    upper.axhline(ALIKE, color="0.5", linewidth=0.8, linestyle=":")
    plotting.dress(upper, title="What a ranking after fewer epochs is worth")
    upper.set_ylabel("rank correlation\nwith the final ranking")
    upper.legend(loc="lower right", frameon=False)
    best_kept, lost = abandoned(ds)
    plotting.curve(middle, ds.epoch.values, 100 * lost, "", 2)
    middle.axhline(POINT, color="0.5", linewidth=0.8, linestyle=":")
    plotting.dress(middle, ylabel="accuracy on fresh images\nlost by keeping the\nbest 20 % (points)")
    lower.plot(ds.epoch, 100 * best_kept.mean(0), color=plotting.color(3), label="seeds whose final best is kept")
    lower.plot(ds.epoch, 100 * saved(ds), "--", color=plotting.color(6), label="updates saved")
    plotting.dress(lower, ylabel="share (%)", xlabel="epochs before the ranking")
    lower.set(xlim=(1, ds.sizes["epoch"]), ylim=(0, 102))
    lower.legend(loc="center right", frameon=False)
    detail = f"{ds.sizes['trial']} random trials per seed; mean with its 95 % interval; dotted: the claims' bars"
    plotting.caption(fig, about(ds, detail))
    return fig


def sixty_trials(ds: xr.Dataset) -> Figure:
    """The probability that k random trials hit the best 5 %: two exact formulas and a count."""
    fig = plotting.figure()
    title = f"Probability that random search hits the best {TOP:.0%}"
    ax = plotting.axes(fig, title, "trials", "probability (%)")
    n = ds.sizes["trial"]
    k = np.arange(1, n + 1)
    ax.plot(k, 100 * (1 - (1 - TOP) ** k), color="black", label=f"1 − {1 - TOP:.2f}ᵏ")
    without = 1 - missed(n)[1:, best_part(n)]
    ax.plot(k, 100 * without, "--", color=plotting.color(4), label=f"of {n}, none drawn twice")
    plotting.curve(ax, k, 100 * hits(ds), "counted, ties included", 0)
    ax.set(xlim=(1, n), ylim=(0, 102))
    plotting.legend(fig, 3)
    detail = "10,000 searches per seed drawn from its trials with replacement; mean with its 95 % interval"
    plotting.caption(fig, about(ds, detail))
    return fig


CHOSEN = f"accuracy of the chosen setting\n{FRESH} (%)"


def compared(ds: xr.Dataset) -> Figure:
    """The searches by trials: accuracy of the chosen setting, trained short, against the number of trials."""
    fig = plotting.figure()
    title = f"What each search has chosen so far, {ds.short} epochs per trial"
    ax = plotting.axes(fig, title, "trials", CHOSEN)
    for number, (name, best) in enumerate(best_so_far(ds).items()):
        plotting.curve(ax, np.arange(1, ds.budget + 1), 100 * best, TITLES[name], number)
    ax.set(xlim=(1, ds.budget))
    plotting.legend(fig, 3)
    plotting.caption(fig, _about_searches(ds))
    return fig


def by_updates(ds: xr.Dataset) -> Figure:
    """All searches: accuracy of the chosen setting against the network-steps."""
    fig = plotting.figure()
    title = f"What each search has chosen so far, for what it costs ({ds.short} epochs)"
    ax = plotting.axes(fig, title, "updates of one network", CHOSEN)
    for number, (name, (epochs, best)) in enumerate(best_by_epochs(ds).items()):
        updates, markers = epochs * _search.STEPS_EACH, int(name in PROGRAMS)
        plotting.curve(ax, updates, 100 * best, TITLES[name], number, markers=markers)
    ax.set(xlim=(0, ds.budget * ds.short * _search.STEPS_EACH))
    plotting.legend(fig, 3)
    plotting.caption(fig, f"{_about_searches(ds)}; markers: a bout of many networks, whose best counts when it ends")
    return fig


def _about_searches(ds: xr.Dataset) -> str:
    how = "chosen in validation; random search is expected over all orders of its trials; mean with its 95 % interval"
    return about(ds.drop_vars("diverged_at"), how, paired=True)


def ranges(ds: xr.Dataset) -> Figure | None:
    """The shrinking ranges of narrowing, one bar per seed."""
    forms = [form for form in NARROWING if f"{form}_range" in ds]
    if not forms:
        return None
    fig = plotting.figure(7.6, 0.6 + 3.0 * len(forms))
    seeds, last = ds.sizes["seed"], ds.sizes["round"]
    for row, form in zip(fig.subplots(len(forms), 2, sharex=True, sharey="col", squeeze=False), forms, strict=True):
        for ax, axis in zip(row, AXES, strict=True):
            plotting.dress(ax, title=TITLES[form], ylabel=f"range of {SYMBOLS[axis]}")
            for number in range(seeds):
                at = ds["round"].values + 0.7 * ((number + 0.5) / seeds - 0.5)
                low, high = 10 ** ds[f"{form}_range"].sel(axis=axis)[number].values.T
                ax.vlines(at, low, high, color=plotting.color(0), linewidth=1.6, alpha=0.8)
            ax.set(yscale="log", xticks=range(1, last + 1))
            ax.set_xticklabels([*(f"round {i}" for i in range(1, last)), "result"])
    detail = f"one bar per seed; each round's range is that of the best {KEPT:.0%} of the {ds.each} trials before"
    plotting.caption(fig, about(ds.drop_vars("diverged_at"), detail))
    return fig


# Tables and claims.


def ranking(ds: xr.Dataset, n: int) -> list[str]:
    """The n best trials of the first seed, in the book's format."""
    return [
        _search.HEADING,
        *(
            f"Best-{row['place']}(val acc:{row['validation_accuracy']:.2f}) | lr:{row['lr']:.3g}, "
            f"weight decay:{row['l2']:.3g}"
            for row in tables(ds.isel(seed=slice(1)))["ranking"][:n]
        ),
    ]


def summary(ds: xr.Dataset) -> str:
    """The book's ranking, the chosen settings' accuracies, the rule of thumb, the effects of narrowing and of short
    training."""
    n = ds.sizes["trial"]
    best, drawn = ds.validation_accuracy[..., -1].max("trial"), min(DRAWN, n)
    best_kept, lost = abandoned(ds)
    lines = [
        *ranking(ds, PANELS),
        f"best validation accuracy of {n} random trials: {float(best.mean()):.2%}, mean of {len(best)} seeds",
        f"test accuracy of the chosen setting, evaluated once: {float(ds.test_accuracy.mean()):.2%}",
        f"{drawn} random trials hit the best {TOP:.0%}: {1 - (1 - TOP) ** drawn:.1%} predicted in an endless space, "
        f"{1 - missed(n)[drawn, best_part(n)]:.1%} among {n} trials without replacement, "
        f"{hits(ds)[:, drawn - 1].mean():.1%} counted with replacement and with ties",
    ]
    for name, values in rank_correlations(ds).items():
        after = ", ".join(f"{values[:, e - 1].mean():.3f} after {e} epochs" for e in early(ds))
        lines.append(f"{name} with the ranking after {ds.sizes['epoch']} epochs: {after}")
    for e in early(ds):
        lines.append(
            f"keeping the best {KEPT:.0%} after {e} epochs saves {saved(ds)[e - 1]:.0%} of the updates, keeps the "
            f"final best in {best_kept[:, e - 1].mean():.0%} of the seeds and loses {lost[:, e - 1].mean():.2%}"
        )
    for form in (form for form in NARROWING if f"{form}_range" in ds):
        shrunk = ds[f"{form}_range"]
        width = (shrunk.sel(end="high") - shrunk.sel(end="low")).mean("seed")
        for axis in AXES:
            widths = " → ".join(f"{w:.2f}" for w in width.sel(axis=axis).values)
            lines.append(f"{TITLES[form]}: range of {SYMBOLS[axis]} {widths} decades")
    for name, needed in trials_needed(ds).items():
        lines.append(f"{TITLES[name]}: {needed.mean():.1f} trials to random search's median best of {ds.budget}")
    for name, (epochs, reached) in best_by_epochs(ds).items():
        spent = epochs[-1] * _search.STEPS_EACH
        lines.append(f"{TITLES[name]}: its choice has {reached[:, -1].mean():.2%} {FRESH}, for {spent:,} updates")
    return "\n".join(lines)


def per_seed(values: np.ndarray) -> xr.DataArray:
    """The effect of `values`, one per seed."""
    return xr.DataArray(values, dims="seed")


def correlation(which: str) -> Callable[[xr.Dataset], xr.DataArray]:
    """The effect "rank correlation of the ranking after a fifth of the training with the final one"."""
    return lambda ds: per_seed(rank_correlations(ds)[which][:, early(ds)[1] - 1])


def cost_of_abandoning(ds: xr.Dataset) -> xr.DataArray:
    """Points of accuracy on fresh images that are lost by keeping the best 20 % after a fifth of the training."""
    return per_seed(100 * abandoned(ds)[1][:, early(ds)[1] - 1])


def abandoning(ds: xr.Dataset) -> str:
    """The sentence on when trials are abandoned, and on the updates saved."""
    e = early(ds)[1]
    return (
        f"They are abandoned after {e} of {ds.sizes['epoch']} epochs, and the trial that validation then chooses is "
        f"evaluated {FRESH}. It keeps the final best in {abandoned(ds)[0][:, e - 1].mean():.0%} of the seeds and saves "
        f"{saved(ds)[e - 1]:.0%} of the updates."
    )


def called(name: str) -> str:
    """The name of a search, capitalized."""
    return TITLES[name][0].upper() + TITLES[name][1:]


def source(name: str) -> str:
    """The source of a claim on a search."""
    return "claim 18" if name in search.BAYESIAN else "notes §5.2" if name in NARROWING else ""


def compares(name: str) -> Callable[[xr.Dataset], bool]:
    """Whether a data set compares this search."""
    return lambda ds: f"{name}_accuracy" in ds or name in ds.search.values.tolist()


def better(name: str) -> lab.Claim:
    """The claim that a search chooses a better setting than random search at equal cost."""
    return lab.Claim(
        f"{called(name)} finds a better setting than random search for as many updates",
        lambda ds: per_seed(100 * (best_by_epochs(ds)[name][1][:, -1] - best_so_far(ds)["random"][:, -1])),
        *(lab.above(POINT), "points", source(name), "searches_by_updates"),
        detail=lambda ds: (
            f"It is the accuracy {FRESH} of what validation chooses, for at most the updates of {ds.budget} trials of "
            f"{ds.short} epochs."
        ),
        where=compares(name),
        secondary=name in search.BAYESIAN,
    )


def sooner(name: str) -> lab.Claim:
    """The claim that a search takes fewer trials than random search."""

    def effect(ds):
        needed = trials_needed(ds)
        return per_seed(100 * (1 - needed[name] / needed["random"]))

    def detail(ds):
        needed = trials_needed(ds)
        return (
            f"To a setting that is as good {FRESH} as random search's median best of {ds.budget} it takes "
            f"{needed[name].mean():.3g} trials of {ds.short} epochs, random search {needed['random'].mean():.3g}."
        )

    text = f"{called(name)} needs fewer trials than random search"
    test = (lab.above(FEWER), "% fewer", source(name), "searches")
    return lab.Claim(text, effect, *test, detail=detail, where=compares(name))


RANKS = f"as long training does: Spearman's ρ is above {ALIKE}"
CLAIMS = (
    lab.Claim(
        f"Abandoning the worst {1 - KEPT:.0%} of the trials after a fifth of the epochs costs less than a point",
        cost_of_abandoning,
        *(lab.below(POINT), "points", "claim 17", "short_training"),
        detail=abandoning,
    ),
    lab.Claim(
        f"Short training ranks trials {RANKS}",
        correlation(ALL),
        *(lab.above(ALIKE), "", "claim 17", "short_training"),
        secondary=True,
    ),
    lab.Claim(
        f"Short training ranks the final best {KEPT:.0%} of the trials {RANKS}",
        correlation(BEST),
        *(lab.above(ALIKE), "", "claim 17", "short_training"),
        secondary=True,
    ),
    *map(better, SEARCHES),
    *map(sooner, ("evolution", "cmaes", *search.BAYESIAN)),
)

EXPERIMENT = lab.Experiment(
    question="Which search finds a learning rate and a weight decay soonest?",
    source="notes §5.2, figure of the 20 best curves",
    says="Repeated narrowing of the range leads to a suitable one. Training for fewer epochs is a good way to "
    "abandon bad trials early. Bayesian search is more efficient.",
    method="Draws 100 settings at random on log scales, lr = 10^U(−6, −2) and λ = 10^U(−8, −4), and trains them for 50 "
    "epochs on 400 images, over many seeds: each with its images, split, weights and settings. It prints the "
    "ranking and draws the 20 best curves as in the book. The chosen setting of each seed is then evaluated on the "
    "test set, once. Abandoning trials after fewer epochs is replayed on the complete curves.\n\n"
    "Then searches of every kind (--samplers) are compared at an equal budget of network-steps: by trials (grid, "
    "Sobol, Halton, narrowing to the range of each round's best 20 %, evolution, CMA-ES, Optuna's TPE and GP; one "
    "search per seed, a round of trials of all seeds one call of one compiled program), and inside the program "
    "(successive halving, Hyperband, population-based training). They train for fewer epochs; all searches with "
    "random initial trials have the same ones, which pairs them. The setting that a search chooses in validation is "
    "evaluated on 1,000 further training images of the seed, on which no choice depends.",
    takes="about seven minutes for 20 seeds on two cores",
    config=Config,
    quick={
        "seeds": 2,
        "trials": 20,
        "epochs": 10,
        "short": 3,
        "rounds": 2,
        "startup": 5,
        "samplers": ("margin",),
        "dataset": "mnist_5k",
    },
    run=run,
    claims=CLAIMS,
    figures={
        "20_best_curves": best_curves,
        "20_best_curves_all_seeds": best_curves_of_all,
        "trials": scatter,
        "best_so_far": best_of_random,
        "short_training": short_training,
        "sixty_trials": sixty_trials,
        "parallel": usual(_search_figures.parallel),
        "slices": usual(_search_figures.slices),
        "surface": usual(_search_figures.surface),
        "importance": usual(_search_figures.importance),
        "searches": compared,
        "searches_by_updates": by_updates,
        "narrowing": ranges,
    },
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
