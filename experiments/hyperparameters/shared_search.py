"""Which setting does a search end with, how sure is the choice, and what is it worth? (notes §5.2, beyond)"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.hyperparameters import _search
from fnn import lab, search, tasks
from fnn.base.errors import InputError, require
from fnn.base.statistics import interval
from fnn.base.types import Keys
from fnn.data import DataSet
from fnn.lab import command, plotting
from fnn.lab.figures import caption
from fnn.search import Sampler, storages, study
from fnn.search.study import Shared, Study
from fnn.train import engine
from fnn.train.progress import progress

SAMPLERS = ("random", "tpe", "gp", "cmaes")
AXES = _search.Setting._fields
SHOWN = 12
"""Number of best settings that are drawn."""
BY = {"mean": "mean", "low": "interval's lower end"}
"""The statistics by which settings are ranked."""
EVALUATED = {"fresh": f"{_search.FRESH:,} fresh images", "test": "the test set"}
"""Images on which no choice depends; the chosen setting is evaluated on them once."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the study; space and task are the notes', except that each seed draws its images."""

    seeds: int = 20
    """Networks of each setting, each with images, a split, initial weights and minibatches of one seed."""
    trials: int = 40
    """Settings to try, each on every seed; processes that share a study may finish a few more, each its last round."""
    epochs: int = 10
    """Epochs of a trial."""
    sampler: str = "auto"
    """random, tpe, gp, cmaes, or auto: tpe where Optuna is installed (extra `search`), else random."""
    startup: int = 10
    """Random trials before the sampler's model is used."""
    proposals: int = 5
    """Settings per round: proposed together and trained in one program."""
    by: Literal["mean", "low"] = "mean"
    """Ranking of settings: by their mean over seeds, or by the lower end of its 95 % interval."""
    storage: str = ""
    """A file, or the URL of a database, in which many processes share the study (Optuna's); "" for --out alone."""
    retest: bool = False
    """Evaluate the chosen setting on the test set once more, which is recorded."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=1, epochs=1, startup=1, proposals=1)
        require(self.sampler in ("auto", *SAMPLERS), f"--sampler is auto, {', '.join(SAMPLERS)}, not {self.sampler!r}.")
        require(self.by == "mean" or self.seeds > 1, "--by low takes at least 2 --seeds: one alone has no interval.")
        storing = _search.missing("tpe") if self.storage else []  # the storage is Optuna's, whichever sampler is used
        missing = list(dict.fromkeys([*_search.missing(self.searched_by()), *storing]))
        require(not missing, f"This search needs {' and '.join(missing)}: pip install {' '.join(missing)}.")

    def searched_by(self) -> str:
        """The name of the sampler, with auto resolved."""
        return self.sampler if self.sampler != "auto" else "random" if _search.missing("tpe") else "tpe"


def run(cfg: Config) -> xr.Dataset:
    """All trials of the study, done by this process or with others, and the chosen setting's accuracies."""
    images = _search.load(cfg)
    data, keys = tasks.splits(images), engine.seeds(cfg.seeds)
    train = _search.trainer(data, cfg.epochs)
    evaluate = _search.trainer(data, cfg.epochs, at_end=tuple(EVALUATED))

    def values(settings):
        return trained(train, settings, keys, cfg.proposals)["validation_accuracy"][..., 0]

    with opened(cfg, images) as (one, place):
        try:
            finish(one, cfg, values)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f"the same command goes on from the trials in {place}") from interrupt
        settings, accuracy = one.finished()
        best = int(study.ranking(accuracy, cfg.by)[0])

        def measure():
            found = trained(evaluate, {axis: settings[axis][[best]] for axis in AXES}, keys, 1)
            return [found[f"{name}_accuracy"][0] for name in EVALUATED]

        found = tested(one, best, measure, cfg.retest)
    accuracies = np.full((len(EVALUATED), cfg.seeds), np.nan) if found is None else np.array(found)
    variable = lambda dims, values, name: (dims, values, {"long_name": name, "units": "1"})
    return xr.Dataset(
        {
            "lr": variable("trial", settings["lr"], "learning rate"),
            "l2": variable("trial", settings["l2"], "weight decay λ"),
            "validation_accuracy": variable(("trial", "seed"), accuracy, "validation accuracy"),
            **{
                f"{name}_accuracy": variable("seed", values, f"accuracy of the chosen setting on {where}")
                for (name, where), values in zip(EVALUATED.items(), accuracies, strict=True)
            },
        },
        {"trial": np.arange(len(accuracy)), "seed": np.arange(cfg.seeds)},
        {**images.about, "sampler": cfg.searched_by(), "by": cfg.by, "epochs": cfg.epochs},
    )


@contextlib.contextmanager
def opened(cfg: Config, images: DataSet) -> Iterator[tuple[Study | Shared, str]]:
    """(study, place): the study of these options, new or resumed, and a phrase for where it is kept.

    Its name is a digest of everything that its values depend on, source code included. Outside of the command line it
    is deleted at the end.
    """
    options = ("seeds", "epochs", "startup", "proposals")
    work = {name: getattr(cfg, name) for name in options} | {"sampler": cfg.searched_by(), "data": images.checksum}
    work["code"] = command.sources_of(Path(__file__))
    digest = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:12]
    if cfg.storage:
        where = cfg.storage if "://" in cfg.storage else Path(cfg.storage)
        with Shared(where, f"shared_search {digest}", _search.SPACE, optunas(cfg)) as shared:
            yield shared, f"the storage {storages.shown(where)}"
        return
    with contextlib.ExitStack() as stack:
        if cfg.work is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = cfg.work.parent / f"study-{digest}"  # next to unfinished work, which a run clears at its end
        key = _search.sampler_keys(engine.seeds(1))[0]
        yield stack.enter_context(study.opened(folder, _search.SPACE, ours(cfg), key, work)), str(folder)


def ours(cfg: Config) -> Sampler:
    """The sampler, a function of the finished trials, for a study of one process."""
    name = cfg.searched_by()
    if name == "random":
        return search.uniform(len(AXES))
    return search.cmaes(len(AXES)) if name == "cmaes" else search.bayesian(len(AXES), name, cfg.startup)


def optunas(cfg: Config) -> Any:
    """Optuna's sampler, for processes that do not wait for each other."""
    from optuna import samplers

    made = {
        "random": samplers.RandomSampler,
        "tpe": lambda: samplers.TPESampler(n_startup_trials=cfg.startup, constant_liar=True),
        "gp": lambda: samplers.GPSampler(n_startup_trials=cfg.startup),
        "cmaes": lambda: samplers.CmaEsSampler(n_startup_trials=cfg.startup),
    }
    return made[cfg.searched_by()]()


def finish(one: Study | Shared, cfg: Config, values: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> None:
    """Run all missing trials that no other process is running; wait for those."""
    others = one.others if isinstance(one, Shared) else lambda: 0
    notice, done = storages.Notice(), 0
    with progress(cfg.trials, "trial", True) as bar:
        while True:
            # In this order: a trial finished in between is counted twice, which costs a wait; in the other order, not
            # at all.
            busy, finished = others(), len(one.finished()[1])
            bar.update(finished - done)
            done, left = finished, cfg.trials - finished
            if left > busy:
                one.tell(values(one.ask(min(cfg.proposals, left - busy))))
            elif busy and isinstance(one, Shared):
                notice.pause(one.awaited)
            else:
                return


def trained(
    train: _search.Trainer, settings: Mapping[str, np.ndarray], keys: Keys, proposals: int
) -> dict[str, np.ndarray]:
    """The record of training these settings `[n]` on every seed, arrays `[n, S, …]`; one program for every n."""
    n = len(settings[AXES[0]])
    everywhere = {axis: np.tile(np.resize(settings[axis], proposals), (len(keys), 1)) for axis in AXES}
    return {name: values.swapaxes(0, 1)[:n] for name, values in train(_search.Setting(**everywhere), keys).items()}


def tested(one: Study | Shared, trial: int, measure: Callable[[], Any], again: bool) -> Any:
    """The chosen trial's accuracies by `measure`, evaluated now or recorded earlier; None where refused."""
    if (found := one.tested(trial)) and not again:
        print(f"The test set was evaluated on {found['time']}; that result is kept (--retest evaluates it again).")
        return found["value"]
    try:
        return one.test(trial, measure, again)
    except InputError as error:
        if found := one.tested(trial):  # another process has just evaluated it
            return found["value"]
        print(f"No test accuracy: {error} --retest evaluates it all the same.")
        return None


def ranked(ds: xr.Dataset) -> np.ndarray:
    """The indices of the trials from best to worst."""
    return study.ranking(ds.validation_accuracy.values, ds.by)


def rows(ds: xr.Dataset, most: int | None = None) -> list[dict[str, Any]]:
    """The trials, best first, `most` of them, and whether they are clearly worse than the first, paired by seed."""
    order, values, found = ranked(ds), ds.validation_accuracy.values, []
    for place, trial in enumerate(order[:most], 1):
        mean, low, high = interval(values[trial])
        behind = interval(np.nan_to_num(values[order[0]]) - np.nan_to_num(values[trial]))
        row = {"place": place, "trial": int(trial), **{axis: float(ds[axis][trial]) for axis in AXES}}
        found.append(row | {"accuracy": mean, "low": low, "high": high, "worse": behind[1] > 0})
    return found


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


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of this experiment."""
    return caption(ds, f"{ds.sizes['trial']} settings by {ds.sampler}, {ds.epochs} epochs each", *details)


def choice(ds: xr.Dataset) -> Figure:
    """The best settings by rank: accuracy with its interval, and the chosen one's on images on which no choice
    depends."""
    fig = plotting.figure(7.4, 4.8)
    ax = plotting.axes(fig, "How sure is the choice?", "learning rate, weight decay λ", "validation accuracy (%)")
    best, values = rows(ds, SHOWN), ds.validation_accuracy.values
    for worse, name in enumerate(("not distinguishable from the first", "worse than the first")):
        group = [row for row in best if row["worse"] == bool(worse)]
        at, means = [row["place"] for row in group], np.array([100 * row["accuracy"] for row in group])
        reach = np.abs([[100 * row[end] for row in group] for end in ("low", "high")] - means)
        reach = np.where(np.isfinite(reach), reach, 0)  # one seed has no interval
        style = {"color": plotting.color(worse), "marker": plotting.MARKERS[worse], "markersize": 5, "capsize": 2}
        if group:
            ax.errorbar(at, means, reach, linestyle="none", label=name, **style)
    for row in best:
        single = 100 * values[row["trial"]]
        ax.plot(np.full(len(single), row["place"]), single, ".", color="0.7", markersize=3, zorder=1)
    for (name, where), line in zip(EVALUATED.items(), (":", "--"), strict=True):
        found = 100 * ds[f"{name}_accuracy"].values
        if np.isfinite(found).all():
            ax.axhline(found.mean(), color="black", linewidth=1, linestyle=line, label=f"the first on {where}")
    ax.set_xticks([row["place"] for row in best])
    labels = [f"{row['lr']:.2g}\n{row['l2']:.0e}".replace("e-0", "e-") for row in best]
    ax.set_xticklabels(labels, fontsize="x-small")
    plotting.legend(fig, 2)
    detail = f"the best {len(best)} by their {BY[ds.by]}; mean with its 95 % interval; dots: seeds"
    plotting.caption(fig, about(ds, detail))
    return fig


def summary(ds: xr.Dataset) -> str:
    """The best settings in the book's format, and the chosen one's test accuracy."""
    lines = [_search.HEADING]
    for row in rows(ds, 10):
        sure = f" [{row['low']:.3f}, {row['high']:.3f}]" if np.isfinite(row["low"]) else ""
        accuracy = f"Best-{row['place']}(val acc:{row['accuracy']:.3f}{sure})"
        lines.append(f"{accuracy} | lr:{row['lr']:.3g}, weight decay:{row['l2']:.3g}")
    for name, where in EVALUATED.items():
        found = ds[f"{name}_accuracy"].values
        if np.isfinite(found).all():
            mean = f"{found.mean():.2%}, mean of {len(found)} seeds"
            lines.append(f"accuracy of the chosen setting on {where}, evaluated once: {mean}")
    return "\n".join(lines)


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The answer to how sure the choice is."""
    n, seeds = ds.validation_accuracy.shape
    if seeds == 1:
        return []
    same = [row for row in rows(ds) if not row["worse"]]
    ends = {axis: (min(row[axis] for row in same), max(row[axis] for row in same)) for axis in AXES}
    answer = (
        f"Of {n} settings {len(same)} cannot be distinguished from the chosen one by {seeds} seeds, paired. Their "
        f"learning rates lie between {ends['lr'][0]:.2g} and {ends['lr'][1]:.2g}, their λ between {ends['l2'][0]:.1g} "
        f"and {ends['l2'][1]:.1g}."
    )
    return [lab.Answer("How sure is a search's choice?", answer, "choice", seeds, "notes §5.2")]


def optimism(ds: xr.Dataset) -> xr.DataArray:
    """Points by which the chosen setting is more accurate in validation than on fresh images of the same origin."""
    best = ds.validation_accuracy.isel(trial=int(ranked(ds)[0]), drop=True)
    return 100 * (best - ds.fresh_accuracy)


def both(ds: xr.Dataset) -> str:
    """The sentence on both accuracies."""
    validation = 100 * float(ds.validation_accuracy[int(ranked(ds)[0])].mean())
    fresh = 100 * float(ds.fresh_accuracy.mean())
    return (
        f"It has {validation:.3g} % in validation and {fresh:.3g} % on {EVALUATED['fresh']}, evaluated once; it was "
        f"chosen among {ds.sizes['trial']} settings."
    )


EXPERIMENT = lab.Experiment(
    question="Which setting does a search end with, how sure is the choice, and what is it worth?",
    source="notes §5.2, beyond",
    method="One search of the notes' space, as in practice: every setting is trained from several seeds, each with its "
    "images, split, weights and minibatches, and ranked by its mean validation accuracy or by the lower end of its "
    "95 % interval (--by low). The chosen setting is evaluated once on images on which no choice depends: 1,000 "
    "further training images of each seed, and the test set, which other people wrote. The claim compares validation "
    "with the former. A second evaluation is refused without --retest, which is recorded.\n\n"
    "The trials are a study: killed at any moment, the same command continues with no trial lost or run twice, and a "
    "larger --trials extends it. With --storage, a journal file on a common disk or the URL of a database "
    "(sqlite:///study.db), any number of processes, on one host or many, work on it together: start the same command "
    "in each of them.",
    takes="half a minute for 40 trials of 20 seeds on two cores",
    config=Config,
    quick={"seeds": 2, "trials": 10, "epochs": 3, "startup": 5, "dataset": "mnist_5k"},
    run=run,
    claims=(
        lab.Claim(
            "The setting that validation chose is less accurate on fresh images than in validation, by half a point",
            optimism,
            *(lab.above(0.5), "points", "notes §5.1", "choice"),
            detail=both,
            where=lambda ds: bool(np.isfinite(ds.fresh_accuracy).all()),
        ),
    ),
    figures={"history": history, "choice": choice},
    answers=answers,
    summary=summary,
    tables=lambda ds: {"ranking": rows(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
