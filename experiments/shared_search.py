"""Which setting does a search end with, how sure is the choice, and what is it worth? (notes §5.2, beyond)

One search of the notes' space, done as for real: every setting is trained from several seeds, each with a split,
weights and minibatches of its own, and ranked by its mean validation accuracy, or by what is sure of it (`--by low`,
the lower end of its 95 % interval). The chosen setting meets the test set once; a second evaluation is refused unless
`--retest` asks for it, and is then on record.

The trials are a study: killed at any moment, the same command goes on with none lost or run twice, and with more
`--trials` it grows. With `--storage`, a journal file on a common disk or the URL of a database (`sqlite:///study.db`),
any number of processes, on one host or many, work on it together: start the same command as often as you like.

Takes a quarter of a minute for 40 trials of 10 seeds on two cores.
"""

import contextlib
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments import _cli, _lab
from experiments.hyperparameters import _search
from fnn import search, tasks
from fnn.base.errors import InputError, require
from fnn.base.statistics import interval
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide
from fnn.search import Sampler, storages, study
from fnn.search.study import Shared, Study
from fnn.train import engine

SAMPLERS = ("random", "tpe", "gp", "cmaes")
AXES = ("lr", "l2")
SHOWN = 12
"""The best settings that are drawn beside each other."""
BY = {"mean": "mean", "low": "interval's lower end"}
"""What settings are ranked by."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the study; the space and the task are the notes'."""

    trials: int = 40
    """Settings to try, each on every seed; processes that share them may do a few more, each having begun the last."""
    epochs: int = 10
    """Epochs that a trial trains for."""
    sampler: str = "auto"
    """random, tpe, gp, cmaes, or auto: tpe where Optuna is installed (extra `search`), else random."""
    startup: int = 10
    """Random trials that a model begins with."""
    at_once: int = 5
    """Settings that are asked for, and trained in one program, at a time."""
    by: Literal["mean", "low"] = "mean"
    """What settings are ranked by: their mean over seeds, or the lower end of its 95 % interval."""
    storage: str = ""
    """A file, or the URL of a database, in which many processes share the study (Optuna's); "" for --out alone."""
    retest: bool = False
    """Look at the test set once more, which is recorded."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=1, epochs=1, startup=1, at_once=1)
        require(self.sampler in ("auto", *SAMPLERS), f"--sampler is auto, {', '.join(SAMPLERS)}, not {self.sampler!r}.")
        require(self.by == "mean" or self.seeds > 1, "--by low takes at least 2 --seeds: one alone has no interval.")
        storing = _search.missing("tpe") if self.storage else []  # the storage is Optuna's, whatever searches
        missing = list(dict.fromkeys([*_search.missing(self.searched_by()), *storing]))
        require(not missing, f"This search needs {' and '.join(missing)}: pip install {' '.join(missing)}.")

    def searched_by(self) -> str:
        """The search that is meant."""
        return self.sampler if self.sampler != "auto" else "random" if _search.missing("tpe") else "tpe"


QUICK = Config(seeds=2, trials=10, epochs=3, startup=5, dataset="mnist_5k", quick=True)


def run(cfg: Config) -> xr.Dataset:
    """The study to its end, by this process or with others, and the test of what is chosen."""
    images = _search.load(cfg)
    many = f"{cfg.trials * cfg.seeds} networks ({cfg.trials} settings × {cfg.seeds} seeds), by {cfg.searched_by()},"
    _cli.headline(cfg, images, many)
    keys = engine.seeds(cfg.seeds)
    train = _search.trainer(images, cfg.epochs)
    test = _search.trainer(images, cfg.epochs, on=("test",), also={"test": tasks.splits(images)["test"]})
    with opened(cfg, images) as (one, place):
        try:
            finish(one, cfg, lambda settings: trained(train, settings, keys, cfg.at_once)["validation_accuracy"])
        except KeyboardInterrupt as interrupt:
            told = f"{len(one.finished()[1])} trials are in {place}, and the same command goes on"
            raise KeyboardInterrupt(told) from interrupt
        settings, values = one.finished()
        best = int(study.ranking(values, cfg.by)[0])
        chosen = {axis: settings[axis][[best]] for axis in AXES}
        found = tested(one, best, lambda: trained(test, chosen, keys, 1)["test_accuracy"][0], cfg.retest)
    ds = label(cfg, images, settings, values)
    ds["test_accuracy"] = "seed", np.broadcast_to(np.nan if found is None else found, cfg.seeds), {"units": "1"}
    print(summary(ds))
    return ds


@contextlib.contextmanager
def opened(cfg: Config, images: DataSet) -> Iterator[tuple[Study | Shared, str]]:
    """The study that these options mean, new or begun, and where it is.

    It is named after all that its values depend on, the program included, so that no two are mixed. Without
    checkpoints, for callers of `run`, it is gone at the end.
    """
    options = ("seeds", "epochs", "startup", "at_once")
    told = {name: getattr(cfg, name) for name in options} | {"sampler": cfg.searched_by(), "data": images.checksum}
    told["code"] = _cli.sources(_cli.whose(cfg))
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    if cfg.storage:
        where = cfg.storage if "://" in cfg.storage else Path(cfg.storage)
        with Shared(where, f"shared_search {digest}", _search.SPACE, optunas(cfg)) as shared:
            yield shared, f"the storage {storages.shown(where)}"
        return
    with contextlib.ExitStack() as stack:
        if cfg.checkpoint is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = cfg.out / _cli.whose(cfg) / f"study-{digest}"
        key = _search.asking(engine.seeds(1))[0]
        yield stack.enter_context(study.opened(folder, _search.SPACE, ours(cfg), key, told)), str(folder)


def ours(cfg: Config) -> Sampler:
    """The search as a function of what is known, for a study of one process."""
    name = cfg.searched_by()
    if name == "random":
        return search.uniform(len(AXES))
    return search.cmaes(len(AXES)) if name == "cmaes" else search.bayesian(len(AXES), name, cfg.startup)


def optunas(cfg: Config) -> Any:
    """The search as Optuna does it, for processes that do not wait for each other."""
    from optuna import samplers

    made = {
        "random": samplers.RandomSampler,
        "tpe": lambda: samplers.TPESampler(n_startup_trials=cfg.startup, constant_liar=True),
        "gp": lambda: samplers.GPSampler(n_startup_trials=cfg.startup),
        "cmaes": lambda: samplers.CmaEsSampler(n_startup_trials=cfg.startup),
    }
    return made[cfg.searched_by()]()


def finish(one: Study | Shared, cfg: Config, values: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> None:
    """Do all trials that are missing and that no other process is at; wait for these."""
    others = one.others if isinstance(one, Shared) else lambda: 0
    notice = storages.Notice()
    with tqdm(total=cfg.trials, unit="trial", disable=None, leave=False) as bar:
        while True:
            # In this order: who tells a trial in between is counted twice for a moment, which costs a wait at most.
            busy, left = others(), cfg.trials - len(one.finished()[1])
            bar.update(cfg.trials - left - bar.n)
            if left > busy:
                one.tell(values(one.ask(min(cfg.at_once, left - busy))))
            elif busy and isinstance(one, Shared):
                notice.pause(one.awaited)
            else:
                return


def trained(
    train: _search.Trainer, settings: Mapping[str, np.ndarray], keys: Any, at_once: int
) -> dict[str, np.ndarray]:
    """What training these settings `[n]` on every seed gives in the end, `[n, S]`; one program for every n."""
    n = len(settings[AXES[0]])
    everywhere = {axis: np.tile(np.resize(settings[axis], at_once), (len(keys), 1)) for axis in AXES}
    found = train(_search.Setting(**everywhere), keys)
    return {name: values[:, :n, -1].T for name, values in found.items() if values.ndim == 3}


def tested(one: Study | Shared, trial: int, measure: Callable[[], Any], again: bool) -> Any:
    """The chosen trial's accuracies on the test set, evaluated once or as they were then; None where refused."""
    if (found := one.tested(trial)) and not again:
        print(f"The test set was evaluated on {found['time']}; what it gave stands (--retest evaluates it again).")
        return found["value"]
    try:
        return one.test(trial, measure, again)
    except InputError as error:
        if found := one.tested(trial):  # another process has just evaluated it
            return found["value"]
        print(f"No test accuracy: {error} --retest evaluates it all the same.")
        return None


def label(cfg: Config, images: DataSet, settings: Mapping[str, np.ndarray], values: np.ndarray) -> xr.Dataset:
    """All trials: dims trial, seed."""
    return xr.Dataset(
        {
            "lr": ("trial", settings["lr"], {"long_name": "learning rate", "units": "1"}),
            "l2": ("trial", settings["l2"], {"long_name": "weight decay λ", "units": "1"}),
            "validation_accuracy": (("trial", "seed"), values, {"units": "1"}),
        },
        {"trial": np.arange(len(values)), "seed": np.arange(cfg.seeds)},
        {**images.about, "sampler": cfg.searched_by(), "by": cfg.by, "epochs": cfg.epochs, "complete": 1},
    )


def ranked(ds: xr.Dataset) -> np.ndarray:
    """The trials from best to worst."""
    return study.ranking(ds.validation_accuracy.values, ds.by)


def rows(ds: xr.Dataset, most: int | None = None) -> list[dict[str, Any]]:
    """The trials, best first, `most` of them; with those told apart that are worse than the first, paired by seed."""
    order, values, found = ranked(ds), ds.validation_accuracy.values, []
    for place, trial in enumerate(order[:most], 1):
        mean, low, high = interval(values[trial])
        behind = interval(np.nan_to_num(values[order[0]]) - np.nan_to_num(values[trial]))
        told = {"place": place, "trial": int(trial), **{axis: float(ds[axis][trial]) for axis in AXES}}
        found.append(told | {"accuracy": mean, "low": low, "high": high, "told_apart": behind[1] > 0})
    return found


def alike(ds: xr.Dataset) -> np.ndarray:
    """`[trial]`: which settings these seeds cannot tell from the chosen one, by the interval of their difference."""
    told_apart = {row["trial"]: row["told_apart"] for row in rows(ds)}
    return np.array([not told_apart[trial] for trial in range(len(told_apart))])


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """All trials, best first, as the file `ranking.json`."""
    return {"ranking": rows(ds)}


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """The search as it went, and the best settings beside each other."""
    return {"history": history(ds), "choice": choice(ds)}


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"{ds.sizes['trial']} settings by {ds.sampler}, {ds.epochs} epochs each", *details)


def history(ds: xr.Dataset) -> Figure:
    """Every trial's mean, and the setting that would have been chosen after it."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "A search as it goes", "settings tried", "validation accuracy (%)")
    values = 100 * np.nan_to_num(ds.validation_accuracy.values)
    so_far = [study.ranking(values[:n], ds.by)[0] for n in range(1, len(values) + 1)]
    tried = np.arange(1, len(values) + 1)
    ax.plot(tried, values.mean(1), plotting.MARKERS[0], color="0.6", markersize=4, linestyle="none", label="a setting")
    plotting.curve(ax, tried, values[so_far].T, "the one chosen so far", 0)
    ax.set(xlim=(0.5, len(values) + 0.5))
    plotting.legend(fig)
    plotting.caption(fig, about(ds, "means over seeds; the choice's with its 95 % interval"))
    return fig


def choice(ds: xr.Dataset) -> Figure:
    """The best settings by their place: accuracy with its interval, and the chosen one's on the test set."""
    fig = plotting.figure(7.4, 4.8)
    ax = plotting.axes(fig, "How sure is the choice?", "learning rate, weight decay λ", "validation accuracy (%)")
    best, values = rows(ds, SHOWN), ds.validation_accuracy.values
    for told_apart, colour, name in ((False, 0, "not told from the first"), (True, 1, "worse than the first")):
        mine = [row for row in best if row["told_apart"] is told_apart]
        at, means = [row["place"] for row in mine], np.array([100 * row["accuracy"] for row in mine])
        reach = np.abs([[100 * row[end] for row in mine] for end in ("low", "high")] - means)
        reach = np.where(np.isfinite(reach), reach, 0)  # one seed has no interval
        look = {"color": plotting.colour(colour), "marker": plotting.MARKERS[colour], "markersize": 5, "capsize": 2}
        if mine:
            ax.errorbar(at, means, reach, linestyle="none", label=name, **look)
    for row in best:
        single = 100 * values[row["trial"]]
        ax.plot(np.full(len(single), row["place"]), single, ".", color="0.7", markersize=3, zorder=1)
    test = 100 * ds.test_accuracy.values
    if np.isfinite(test).all():
        ax.axhline(test.mean(), color="black", linewidth=1, linestyle="--", label="the first on the test set")
    ax.set_xticks([row["place"] for row in best])
    labels = [f"{row['lr']:.2g}\n{row['l2']:.0e}".replace("e-0", "e-") for row in best]
    ax.set_xticklabels(labels, fontsize="x-small")
    plotting.legend(fig, 3)
    plotting.caption(
        fig, about(ds, f"the best {len(best)} by their {BY[ds.by]}; mean with its 95 % interval; dots: seeds")
    )
    return fig


def summary(ds: xr.Dataset) -> str:
    """The best settings, as the book prints them, and the chosen one's test."""
    lines = [_search.HEADING]
    for row in rows(ds, 10):
        sure = f" [{row['low']:.3f}, {row['high']:.3f}]" if np.isfinite(row["low"]) else ""
        told = f"Best-{row['place']}(val acc:{row['accuracy']:.3f}{sure}) | lr:{row['lr']:.3g}"
        lines.append(f"{told}, weight decay:{row['l2']:.3g}")
    test = ds.test_accuracy.values
    if np.isfinite(test).all():
        lines.append(
            f"test accuracy of the chosen setting, evaluated once: {test.mean():.2%}, mean of {len(test)} seeds"
        )
    return "\n".join(lines)


def answers(ds: xr.Dataset) -> list[Answer]:
    """How sure the choice is."""
    same, n, seeds = alike(ds), *ds.validation_accuracy.shape
    if seeds == 1:
        return []
    ends = [(float(ds[axis][same].min()), float(ds[axis][same].max())) for axis in AXES]
    (lr_low, lr_high), (l2_low, l2_high) = ends
    told = f"Of {n} settings {int(same.sum())} cannot be told from the chosen one by {seeds} seeds, paired. "
    told += f"Their learning rates lie between {lr_low:.2g} and {lr_high:.2g}, their λ between {l2_low:.1g} and "
    return [Answer("How sure is a search's choice?", f"{told}{l2_high:.1g}.", "choice", seeds, "notes §5.2")]


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Whether validation flatters what was chosen by it."""
    test = ds.test_accuracy.values
    if np.isnan(test).any():
        return []
    best = ds.validation_accuracy.values[ranked(ds)[0]]
    return [
        decide(
            "The setting that validation chose is less accurate on the test set than in validation",
            100 * (best - test),
            "points",
            f"{100 * best.mean():.3g} % in validation and {100 * test.mean():.3g} % on the test set, evaluated once: "
            f"{{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} seeds, chosen among {ds.sizes['trial']} settings.",
            "notes §5.1",
        )
    ]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
