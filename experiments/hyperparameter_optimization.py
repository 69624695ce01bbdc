"""Which search finds a learning rate and a weight decay soonest? (notes §5.2, figure of the 20 best curves)

Draws 100 settings at random on log scales, lr = 10^U(−6, −2) and λ = 10^U(−8, −4), and trains them for 50 epochs on 400
images, all in one program, over many seeds: each with its own split, weights and settings. Prints the ranking and draws
the 20 best curves as the book does. The chosen setting of each seed then meets the test set, once.

The notes say more than they do, and each saying is put to the numbers:
- Narrowing the range again and again leads to a suitable one: automatic, to the range of each round's best 20 %.
- Training for fewer epochs is a good way to abandon hopeless trials early: replayed on the complete curves.
- Bayesian search is more efficient: Optuna's samplers (extra `search`).
Then searches of every kind (`--samplers`) at an equal budget of network-steps, over 20 repetitions: trial after trial
(grid, Sobol, Halton, narrowing, evolution, CMA-ES, TPE, GP; a search a repetition, all in lockstep, a round of trials
one call of one compiled program), and inside the program (successive halving, Hyperband, population-based training).
They train for fewer epochs, and all that begin at random begin with the same trials, which pairs them.

Takes about four minutes for 10 seeds on two cores.
"""

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments import _cli, _lab
from experiments.hyperparameters import _search, _search_figures
from fnn import search, store, tasks
from fnn.base.errors import require
from fnn.base.types import Keys
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide
from fnn.search import History, Sampler, study
from fnn.train import engine, halving

PANELS = 20
"""The book draws so many of the best."""
KEPT = 0.2
"""The share of trials that narrowing and early abandonment keep."""
TOP, DRAWN = 0.05, 60
"""The rule of thumb: so many random trials hit so small a best part of the space."""
ALL, BEST = "Spearman's ρ", f"Spearman's ρ, the final best {KEPT:.0%}"
"""Which trials a rank correlation is taken over."""
ALIKE = 0.9
"""A rank correlation above this counts as the same ranking; fixed before anything was measured."""
AXES = ("lr", "l2")
SYMBOLS = {"lr": "learning rate", "l2": "λ"}
NARROWING = {"narrowing": False, "margin": True}
"""The forms of narrowing, and whether they widen the range by a margin."""
PARENTS = 5
"""The best so far from which evolution draws."""
GENERATION = 6
"""Trials in a generation of CMA-ES."""
CROWD, ETA, POPULATION = 27, 3, 12
"""Networks that successive halving begins with, one of how many goes on there and in Hyperband; in a population."""
TITLES = {
    "random": "random search",
    "grid": "grid search",
    "sobol": "Sobol points",
    "halton": "Halton points",
    "narrowing": "narrowing",
    "margin": "narrowing with a margin",
    "evolution": "evolution",
    "cmaes": "CMA-ES",
    "tpe": "Bayesian search (TPE)",
    "gp": "Bayesian search (GP)",
    "halving": "successive halving",
    "hyperband": "Hyperband",
    "pbt": "population-based training",
}
SEARCHES = tuple(name for name in TITLES if name != "random")
"""Those that are compared with random search."""
PROGRAMS = ("halving", "hyperband", "pbt")
"""Those that search while they train, inside the compiled program."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the search; those of the random trials are the notes'."""

    trials: int = 100
    """Random settings a seed."""
    epochs: int = 50
    """Epochs that a random trial trains for."""
    repetitions: int = 20
    """How many times every search is done: as many seeds, the first of which are those of the random trials."""
    short: int = 10
    """Epochs that a trial of the searches that are compared trains for."""
    rounds: int = 3
    """Rounds of narrowing."""
    each: int = 10
    """Trials in a round of narrowing. Every search gets rounds × each trials, or as many network-steps."""
    samplers: Annotated[str, tyro.conf.arg(aliases=["--sampler"])] = "narrowing,margin,evolution,tpe,halving,pbt"
    """Searches that are compared with random search, with commas between, or all: grid, sobol, halton, narrowing,
    margin, evolution, cmaes, tpe, gp (needs torch and a second a trial), halving, hyperband, pbt; or "" for none."""
    startup: int = 8
    """Random trials that a Bayesian search begins with."""
    retest: bool = False
    """Evaluate the test set again, where it has been evaluated already for the settings chosen here."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=PANELS, epochs=5, rounds=1, each=10, repetitions=1)
        require(1 <= self.short <= self.epochs, f"--short is 1 to --epochs {self.epochs}, not {self.short}.")
        require(
            1 <= self.startup < self.budget,
            f"--startup is 1 to {self.budget - 1}, fewer than --rounds × --each, not {self.startup}.",
        )
        unknown = [name for name in self.names() if name not in SEARCHES]
        require(not unknown, f"--samplers takes all, or some of {', '.join(SEARCHES)}, not {', '.join(unknown)}.")
        most = self.budget * self.short
        for name in (name for name in self.names() if name in PROGRAMS):
            dearest = max(bout.epochs for bout in turns(self, name))
            told = f"{TITLES[name]} needs {dearest} epochs of networks, more than the {most} of the budget."
            require(dearest <= most, told)

    @property
    def budget(self) -> int:
        """Trials of every search that is compared."""
        return self.rounds * self.each

    def names(self) -> list[str]:
        """The searches asked for."""
        asked = dict.fromkeys(name.strip() for name in self.samplers.split(",") if name.strip())
        return list(SEARCHES if list(asked) == ["all"] else asked)


QUICK = Config(
    seeds=2,
    trials=20,
    epochs=10,
    repetitions=2,
    short=3,
    rounds=2,
    each=10,
    startup=5,
    samplers="margin",
    dataset="mnist_5k",
    quick=True,
)


def samplers(cfg: Config, names: Sequence[str]) -> dict[str, tuple[Sampler, int, int]]:
    """Of these searches those that go trial after trial: each with the random trials that it begins with, which are the
    same for all, and how many trials it asks for at a time."""
    fewer = next(n for n in range(math.isqrt(cfg.budget), 0, -1) if cfg.budget % n == 0)
    made: dict[str, Callable[[], tuple[Sampler, int, int]]] = {
        "grid": lambda: (search.lattice((cfg.budget // fewer, fewer)), 0, cfg.budget),
        "sobol": lambda: (search.quasi_random(2), 0, cfg.budget),
        "halton": lambda: (search.quasi_random(2, "halton"), 0, cfg.budget),
        "evolution": lambda: (search.evolution(2, PARENTS), PARENTS, PARENTS),
        "cmaes": lambda: (search.cmaes(2, GENERATION), 0, GENERATION),
    }
    for name, margin in NARROWING.items():
        made[name] = lambda margin=margin: (
            search.narrowing(2, cfg.each, keep=KEPT, margin=margin),
            cfg.each,
            cfg.each,
        )
    for name in search.BAYESIAN:
        made[name] = lambda name=name: (search.bayesian(2, name, cfg.startup), cfg.startup, 1)
    return {name: made[name]() for name in names if name in made}


class Bout(NamedTuple):
    """What a search inside the program does at a time: so many networks, given up by a plan, or a population of them.

    epochs: of one network, that it costs.
    """

    networks: int
    epochs: int
    plan: _search.Schedule | None = None

    def trainer(self, cfg: Config, images: DataSet) -> _search.Trainer:
        """What does it."""
        return _search.abandoning(images, self.plan) if self.plan else _search.populating(images, cfg.short)


def turns(cfg: Config, name: str) -> list[Bout]:
    """The bouts that such a search does in turns: all the same, or Hyperband's brackets."""
    if name == "pbt":
        return [Bout(POPULATION, POPULATION * cfg.short)]
    brackets = halving.hyperband(cfg.short, 1 / ETA)
    if name == "halving":
        brackets = [brackets[0]._replace(networks=CROWD)]
    return [
        Bout(networks, halving.updates(networks, rungs, 1 / ETA), _search.Schedule(rungs, 1 / ETA))
        for networks, rungs in brackets
    ]


def kept(n: int) -> int:
    """How many of n trials are the best 20 %."""
    return max(2, round(KEPT * n))


def lockstep(
    sampler: Sampler, begin: Sequence[History], at_a_time: int, budget: int, short: _search.Trainer, keys: Keys
) -> list[History]:
    """A search of each seed, all side by side: every round is one call of one compiled program.

    begin: what each seed's search knows beforehand. Gives all trials, those included, `budget` a seed.
    """
    asking, known = _search.asking(keys), list(begin)
    with tqdm(total=budget, initial=len(known[0].values), unit="trial", disable=None, leave=False) as bar:
        while (left := budget - len(known[0].values)) > 0:
            asked = np.stack([sampler(k, h, min(at_a_time, left)) for k, h in zip(asking, known, strict=True)])
            values = short(_search.setting(asked), keys)["validation_accuracy"][..., -1]
            known = [search.append(h, *more) for h, *more in zip(known, asked, values, strict=True)]
            bar.update(asked.shape[1])
    return known


def run(cfg: Config) -> xr.Dataset:
    """Random search on every seed, the book's ranking, the chosen settings' test, and then the other searches."""
    images = _cli.load_data(cfg)
    keys = engine.seeds(cfg.seeds)
    _cli.headline(cfg, images, f"{cfg.trials * cfg.seeds} networks ({cfg.trials} trials × {cfg.seeds} seeds)")
    settings = _search.samples(keys, cfg.trials)
    epochs = range(1, cfg.epochs + 1)
    random = _search.trainer(images, cfg.epochs, evaluate_at=epochs)
    record, done = _search.seed_by_seed(cfg, images, random, settings, keys)
    ds = label(cfg, images, settings, record)
    print("\n".join(ranking(ds, PANELS)))
    complete = done == cfg.seeds
    if complete:
        try:
            ds = ds.merge(again(cfg, images, ds, keys))
            ds = ds.merge(compare(cfg, images))
        except KeyboardInterrupt:
            complete = False
    ds.attrs["complete"] = int(complete)
    print(summary(ds))
    return ds


def label(cfg: Config, images: DataSet, settings: _search.Setting, record: Mapping[str, np.ndarray]) -> xr.Dataset:
    """The random trials of the seeds that are done: dims seed, trial, epoch."""
    accuracy = record["validation_accuracy"]
    done = len(accuracy)
    trials = ("seed", "trial")
    return xr.Dataset(
        {
            "lr": (trials, np.asarray(settings.lr)[:done], {"long_name": "learning rate", "units": "1"}),
            "l2": (trials, np.asarray(settings.l2)[:done], {"long_name": "weight decay λ", "units": "1"}),
            "validation_accuracy": ((*trials, "epoch"), accuracy, {"units": "1"}),
            "diverged_at": (trials, record["diverged_at"], {"long_name": "first update with a loss not finite"}),
        },
        {"seed": np.arange(done), "trial": np.arange(cfg.trials), "epoch": np.arange(1, cfg.epochs + 1)},
        {**images.about, "short": cfg.short, "budget": cfg.budget, "startup": cfg.startup, "each": cfg.each},
    )


def chosen(ds: xr.Dataset, n: int = 1) -> _search.Setting:
    """The n best settings of every seed by validation accuracy at the end, arrays `[S, n]`."""
    best = search.ranked(ds.validation_accuracy.values[..., -1])[:, :n]
    return _search.Setting(*(np.take_along_axis(ds[axis].values, best, 1) for axis in AXES))


def again(cfg: Config, images: DataSet, ds: xr.Dataset, keys: Keys) -> xr.Dataset:
    """Settings that are chosen, trained again from the same start for what was not asked of all trials.

    The first seed's 20 best for their training accuracy, which is dear; every seed's best for its test accuracy.
    """
    curves = _search.trainer(images, cfg.epochs, evaluate_at=ds.epoch.values.tolist(), on=("validation", "train"))
    panels = curves(chosen(ds.isel(seed=slice(1)), PANELS), keys[:1])
    best = chosen(ds)
    test = _search.trainer(images, cfg.epochs, on=("test",), also={"test": tasks.splits(images)["test"]})
    return xr.Dataset(
        {
            "panel_validation": (("place", "epoch"), panels["validation_accuracy"][0], {"units": "1"}),
            "panel_train": (("place", "epoch"), panels["train_accuracy"][0], {"units": "1"}),
            "test_accuracy": (
                "seed",
                tested(cfg, best, lambda: test(best, keys)["test_accuracy"][:, 0, 0].tolist()),
                {"units": "1"},
            ),
        }
    )


def tested(cfg: Config, of: _search.Setting, measure: Callable[[], list[float]]) -> list[float]:
    """What is found on the test set for these settings, by one evaluation: who runs this again is told what that gave.

    Without checkpoints there is no folder to remember it in: `run` from Python looks each time.
    """
    if cfg.checkpoint is None:
        return measure()
    told, folder = f"the settings {store.checksum(of)[:16]}", cfg.out / _cli.whose(cfg)
    found = study.found(study.evaluations(folder), told)
    if found and not cfg.retest:
        print(f"The test set was evaluated on {found['time']}; what it gave stands (--retest evaluates it again).")
        return found["value"]
    return study.evaluate_once(folder, told, measure, again=True)


def compare(cfg: Config, images: DataSet) -> xr.Dataset:
    """Searches at equal budget, many times: trial after trial, and inside the program."""
    keys, names = engine.seeds(cfg.repetitions), available(cfg.names())
    short = _search.trainer(images, cfg.short)

    def searched(name: str, sampler: Sampler, begin: list[History], at_a_time: int, budget: int) -> list[History]:
        run = lambda: together(lockstep(sampler, begin, at_a_time, budget, short, keys))
        arrays = _search.remembered(cfg, images, name, run)
        return [History(*history) for history in zip(arrays["points"], arrays["values"], strict=True)]

    nothing = [History(np.empty((0, 2)), np.empty(0))] * cfg.repetitions
    random = searched("random", search.uniform(2), nothing, 2 * cfg.budget, 2 * cfg.budget)
    found = {"random": [History(h.points[: cfg.budget], h.values[: cfg.budget]) for h in random]}
    for name, (sampler, first, at_a_time) in samplers(cfg, names).items():
        begin = [History(h.points[:first], h.values[:first]) for h in random]
        found[name] = searched(name, sampler, begin, at_a_time, cfg.budget)
    trials = [together(histories) for histories in found.values()]
    tried, reached = (np.stack([of[what] for of in trials]) for what in History._fields)
    dims = ("search", "repetition", "asked")
    ds = xr.Dataset(
        {
            "random_accuracy": (("repetition", "drawn"), together(random)["values"], {"units": "1"}),
            "search_accuracy": (dims, reached, {"units": "1"}),
            "search_exponent": ((*dims, "axis"), exponents(tried)),
        },
        {"search": list(found), "asked": np.arange(1, cfg.budget + 1), "axis": list(AXES)},
    )
    for form in (form for form in NARROWING if form in found):
        rounds = [search.ranges(2, cfg.each, history, keep=KEPT, margin=NARROWING[form]) for history in found[form]]
        shrunk = exponents(np.moveaxis(np.array(rounds), -1, -2))
        ds[f"{form}_range"] = ("repetition", "round", "end", "axis"), shrunk
        ds = ds.assign_coords(end=["low", "high"])
    for name in (name for name in names if name in PROGRAMS):
        made = _search.remembered(cfg, images, name, lambda name=name: bouts(cfg, images, name, keys))
        bout = f"{name}_bout"
        ds[f"{name}_accuracy"] = ("repetition", bout), made["best"], {"units": "1"}
        ds[f"{name}_epochs"] = bout, made["epochs"], {"long_name": "epochs of one network so far", "units": "1"}
    return ds


def together(histories: Sequence[History]) -> dict[str, np.ndarray]:
    """The histories of all repetitions as arrays with an axis R in front."""
    return {what: np.stack([getattr(history, what) for history in histories]) for what in History._fields}


def bouts(cfg: Config, images: DataSet, name: str, keys: Keys) -> dict[str, np.ndarray]:
    """A search's bouts while the budget lasts: the best of each `[R, bouts]`, epochs of one network so far `[bouts]`.

    Their settings are those that random search draws, in the same order.
    """
    kinds, asking = [(bout, bout.trainer(cfg, images)) for bout in turns(cfg, name)], _search.asking(keys)
    draw, drawn, spent, best = search.uniform(2), 0, [0], []
    for bout, train in itertools.cycle(kinds):
        if spent[-1] + bout.epochs > cfg.budget * cfg.short:
            break
        known = History(np.empty((drawn, 2)), np.empty(drawn))
        points = np.stack([draw(key, known, bout.networks) for key in asking])
        best.append(train(_search.setting(points), keys)["final"].max(1))
        spent.append(spent[-1] + bout.epochs)
        drawn += bout.networks
    return {"epochs": np.array(spent[1:]), "best": np.stack(best, axis=1)}


def exponents(unit: np.ndarray) -> np.ndarray:
    """Points of the unit square `[…, 2]` as exponents, log₁₀ lr and log₁₀ λ."""
    low, high = np.array(_search.EXPONENTS).T
    return low + unit * (high - low)


def available(names: Sequence[str]) -> list[str]:
    """Those searches whose packages are there; says so of the others."""
    there = []
    for name in names:
        if missing := _search.missing(name):
            packages = f"{' and '.join(missing)} (pip install {' '.join(missing)})"
            print(f"{TITLES[name]} is left out: it needs {packages}.")
        else:
            there.append(name)
    return there


def ranking(ds: xr.Dataset, n: int) -> list[str]:
    """The n best trials of the first seed, as the book prints them."""
    accuracy = ds.validation_accuracy.isel(seed=0, epoch=-1).values
    lines = [_search.HEADING]
    for place, trial in enumerate(search.ranked(accuracy)[:n], 1):
        lr, l2 = (float(ds[axis][0, trial]) for axis in AXES)
        lines.append(f"Best-{place}(val acc:{accuracy[trial]:.2f}) | lr:{lr:.3g}, weight decay:{l2:.3g}")
    return lines


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """All trials of all seeds, best first, and the chosen one of each."""
    rows = []
    for seed in range(ds.sizes["seed"]):
        accuracy = ds.validation_accuracy[seed, :, -1].values
        for place, trial in enumerate(search.ranked(accuracy), 1):
            numbers = {axis: float(ds[axis][seed, trial]) for axis in AXES}
            rows.append(
                {
                    "seed": seed,
                    "place": place,
                    "trial": int(trial),
                    **numbers,
                    "validation_accuracy": float(accuracy[trial]),
                }
            )
    return {"ranking": rows}


def rank_correlations(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """[S, epochs] each: how accuracy after so many epochs ranks a seed's trials, against that at the end.

    Where all trials are equal there is no ranking, and its correlation is 0.
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
    """Of curves `[S, trials, epochs]` the rank correlation of every epoch with the last, `[S, epochs]`."""
    from scipy.stats import rankdata

    ranks = rankdata(curves, axis=1)
    centred = ranks - ranks.mean(1, keepdims=True)
    size = np.sqrt((centred**2).sum(1))
    return np.einsum("ste,st->se", centred, centred[..., -1]) / np.maximum(size * size[:, -1:], 1e-12)


def abandoned(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """If after each epoch only the best 20 % went on, `[S, epochs]`: was the final best kept, and what was lost.

    The loss is in validation accuracy at the end: that of the best trial less that of the best one kept.
    """
    accuracy = ds.validation_accuracy.values
    final = accuracy[..., -1]
    places = search.ranked(np.moveaxis(accuracy, -1, 1))[..., : kept(ds.sizes["trial"])]
    best_kept = np.take_along_axis(final[:, None], places, -1).max(-1)
    return (places == search.ranked(final)[:, None, :1]).any(-1), final.max(-1)[:, None] - best_kept


def saved(ds: xr.Dataset) -> np.ndarray:
    """[epochs]: the share of all updates that abandoning 80 % of the trials after so many epochs saves."""
    return (1 - kept(ds.sizes["trial"]) / ds.sizes["trial"]) * (1 - ds.epoch.values / ds.sizes["epoch"])


def best_so_far(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """The best accuracy after each trial of the searches that go by trials, `[R, budget]`; random search's is expected
    over all orders of twice as many trials."""
    found = {"random": _search.expected_best(ds.random_accuracy.values)[:, : ds.budget]}
    for name in map(str, ds.search.values):
        if name != "random":
            found[name] = np.fmax.accumulate(ds.search_accuracy.sel(search=name).values, -1)
    return found


def best_by_epochs(ds: xr.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For every search `(epochs of one network spent [n], best accuracy of a whole training so far [R, n])`.

    Those that go by trials come first, in the order of `best_so_far`: a search looks the same in all figures.
    """
    trials = ds.short * np.arange(1, ds.budget + 1)
    found = {name: (trials, best) for name, best in best_so_far(ds).items()}
    for name in (name for name in PROGRAMS if f"{name}_accuracy" in ds):
        found[name] = ds[f"{name}_epochs"].values, np.fmax.accumulate(ds[f"{name}_accuracy"].values, -1)
    return found


def trials_needed(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Trials until a repetition's target is reached, `[R]`; not reached within the budget counts as budget + 1.

    The target is what random search reaches within the budget with a probability of one half. Its own number is the
    exact expectation over all orders of the repetition's random trials.
    """
    values, budget = ds.random_accuracy.values, ds.budget
    gone = _search.missed(values.shape[-1])
    target = np.sort(values, -1)[:, ::-1][:, np.argmax(gone[budget] <= 0.5) - 1]
    good = (values >= target[:, None]).sum(-1)
    needed = {"random": gone[: budget + 1, good].sum(0)}
    for name, best in best_so_far(ds).items():
        if name != "random":
            reached = best >= target[:, None]
            needed[name] = np.where(reached.any(-1), reached.argmax(-1) + 1, budget + 1)
    return needed


def hits(ds: xr.Dataset, repeats: int = 10_000) -> np.ndarray:
    """[S, trials]: how often k trials, drawn anew with replacement from a seed's, are at least as good as its best 5 %.

    Accuracies come in steps of an image, and a tie with the best 5 % is as good as one of them.
    """
    final = ds.validation_accuracy.values[..., -1]
    n = final.shape[-1]
    threshold = np.sort(final, -1)[:, ::-1][:, best_part(n) - 1]
    draws = np.random.default_rng(0).integers(n, size=(repeats, n))
    good = final >= threshold[:, None]
    return np.stack([np.logical_or.accumulate(mine[draws], axis=-1).mean(0) for mine in good])


def best_part(n: int) -> int:
    """How many of n trials are the best 5 %."""
    return max(1, round(TOP * n))


def about(ds: xr.Dataset, *details: str, paired: bool = True) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"{_search.IMAGES - _search.VALIDATION} training images", *details, paired=paired)


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """The book's figure, what the random trials say over all seeds, and how the other searches fare."""
    made = {"trials": scatter(ds), "best_so_far": best_of_random(ds), "short_training": short_training(ds)}
    made |= {"sixty_trials": sixty_trials(ds), "20_best_curves_all_seeds": best_curves_of_all(ds)}
    if "panel_train" in ds:
        made["20_best_curves"] = best_curves(ds)
    made |= _search_figures.figures(panel(ds), about(ds, paired=False))
    if "random_accuracy" in ds:
        made |= {"searches": compared(ds), "searches_by_updates": by_updates(ds)}
        if any(f"{form}_range" in ds for form in NARROWING):
            made["narrowing"] = ranges(ds)
    return made


def panel(ds: xr.Dataset) -> _search_figures.Trials:
    """The random trials as `_search_figures` draws them: all seeds, the accuracy after the last epoch in percent."""
    settings = {SYMBOLS[axis]: ds[axis].values for axis in AXES}
    return _search_figures.Trials(settings, 100 * ds.validation_accuracy.values[..., -1], "validation accuracy (%)")


def best_curves(ds: xr.Dataset) -> Figure:
    """The book's figure: the first seed's 20 best, validation solid and training dashed."""
    fig = plotting.figure(9.0, 6.6)
    settings = chosen(ds.isel(seed=slice(1)), PANELS)
    for place, ax in enumerate(_panels(fig)):
        lr, l2 = settings.lr[0, place], settings.l2[0, place]
        ax.set_title(f"Best-{place + 1} (lr:{lr:.2g}, λ:{l2:.1g})", fontsize="x-small")
        ax.plot(ds.epoch, ds.panel_validation[place], color=plotting.colour(0), label="" if place else "validation")
        ax.plot(ds.epoch, ds.panel_train[place], "--", color=plotting.colour(1), label="" if place else "training")
    plotting.legend(fig)
    detail = f"the {PANELS} best of {ds.sizes['trial']} random trials"
    plotting.caption(fig, about(ds.isel(seed=slice(1)), detail, f"over {ds.sizes['epoch']} epochs"))
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
    plotting.caption(fig, about(ds, detail, "validation accuracy, mean with its 95 % interval", paired=False))
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
    """Every random trial of every seed where it lies in the space, its accuracy as its colour."""
    fig = plotting.figure(7.0, 4.8)
    ax = plotting.axes(fig, "Validation accuracy of the random trials", "learning rate", "weight decay λ")
    accuracy = 100 * ds.validation_accuracy[..., -1].values
    dots = ax.scatter(ds.lr, ds.l2, c=accuracy, s=12, cmap="viridis", linewidths=0)
    ax.set(
        xscale="log", yscale="log", xlim=10 ** np.array(_search.EXPONENTS.lr), ylim=10 ** np.array(_search.EXPONENTS.l2)
    )
    fig.colorbar(dots, ax=ax, label="validation accuracy (%)")
    plotting.caption(fig, about(ds, f"after {ds.sizes['epoch']} epochs; a dot a trial", paired=False))
    return fig


def best_of_random(ds: xr.Dataset) -> Figure:
    """Random search: the best accuracy against the number of trials, with the long and the short training."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "Random search: best so far", "trials", "best validation accuracy (%)")
    trials = np.arange(1, ds.sizes["trial"] + 1)
    for number, epoch in enumerate(dict.fromkeys((ds.sizes["epoch"], int(ds.short)))):
        values = 100 * _search.expected_best(ds.validation_accuracy.sel(epoch=epoch).values)
        plotting.curve(ax, trials, values, f"{epoch} epochs a trial", number)
    ax.set(xlim=(1, len(trials)))
    plotting.legend(fig)
    plotting.caption(fig, about(ds, "expected over all orders of a seed's trials; mean with its 95 % interval"))
    return fig


def short_training(ds: xr.Dataset) -> Figure:
    """What short training says of long training: the ranking, the final best kept, what is lost and what is saved."""
    fig = plotting.figure(7.0, 7.6)
    upper, middle, lower = fig.subplots(3, 1, sharex=True)
    for number, (name, values) in enumerate(rank_correlations(ds).items()):
        plotting.curve(upper, ds.epoch.values, values, name, number)
    upper.axhline(ALIKE, color="0.5", linewidth=0.8, linestyle=":")
    _dress(upper, "What a ranking after fewer epochs is worth", "rank correlation\nwith the final ranking")
    upper.legend(loc="lower right", frameon=False)
    best_kept, lost = abandoned(ds)
    plotting.curve(middle, ds.epoch.values, 100 * lost, "", 2)
    middle.axhline(1, color="0.5", linewidth=0.8, linestyle=":")
    middle.set_ylim(-1, None)
    _dress(middle, "", "accuracy lost by keeping\nthe best 20 % (points)")
    lower.plot(ds.epoch, 100 * best_kept.mean(0), color=plotting.colour(3), label="seeds whose final best is kept")
    lower.plot(ds.epoch, 100 * saved(ds), "--", color=plotting.colour(6), label="updates saved")
    _dress(lower, "", "share (%)")
    lower.set(xlabel="epochs before the ranking", xlim=(1, ds.sizes["epoch"]), ylim=(0, 102))
    lower.legend(loc="center right", frameon=False)
    detail = f"{ds.sizes['trial']} random trials a seed; mean with its 95 % interval; dotted: the verdicts' bars"
    plotting.caption(fig, about(ds, detail, paired=False))
    return fig


def _dress(ax: Axes, title: str, y: str) -> None:
    plotting.dress(ax, title=title, ylabel=y)


def sixty_trials(ds: xr.Dataset) -> Figure:
    """How likely k random trials hit the best 5 %: two exact formulas and a count."""
    fig = plotting.figure()
    title = f"Probability that random search hits the best {TOP:.0%}"
    ax = plotting.axes(fig, title, "trials", "probability (%)")
    n = ds.sizes["trial"]
    k = np.arange(1, n + 1)
    ax.plot(k, 100 * (1 - (1 - TOP) ** k), color="black", label=f"1 − {1 - TOP:.2f}ᵏ")
    without = 1 - _search.missed(n)[1:, best_part(n)]
    ax.plot(k, 100 * without, "--", color=plotting.colour(4), label=f"of {n}, none drawn twice")
    plotting.curve(ax, k, 100 * hits(ds), "counted, ties included", 0)
    ax.set(xlim=(1, n), ylim=(0, 102))
    plotting.legend(fig, 3)
    detail = "10,000 searches a seed drawn from its trials with replacement; mean with its 95 % interval"
    plotting.caption(fig, about(ds, detail, paired=False))
    return fig


def compared(ds: xr.Dataset) -> Figure:
    """The searches that go by trials: the best accuracy with the short training, against the number of trials."""
    fig = plotting.figure()
    title = f"Best so far of each search, {ds.short} epochs a trial"
    ax = plotting.axes(fig, title, "trials", "best validation accuracy (%)")
    for number, (name, best) in enumerate(best_so_far(ds).items()):
        plotting.curve(ax, np.arange(1, ds.budget + 1), 100 * best, TITLES[name], number)
    ax.set(xlim=(1, ds.budget))
    plotting.legend(fig, 3)
    plotting.caption(fig, _about_searches(ds))
    return fig


def by_updates(ds: xr.Dataset) -> Figure:
    """All searches: the best accuracy of a whole training so far, against the network-steps spent."""
    fig = plotting.figure()
    ax = plotting.axes(
        fig,
        f"Best of {ds.short} epochs so far, for what it costs",
        "updates of one network",
        "best validation accuracy (%)",
    )
    for number, (name, (epochs, best)) in enumerate(best_by_epochs(ds).items()):
        updates, markers = epochs * _search.STEPS_EACH, int(name in PROGRAMS)
        plotting.curve(ax, updates, 100 * best, TITLES[name], number, markers=markers)
    ax.set(xlim=(0, ds.budget * ds.short * _search.STEPS_EACH))
    plotting.legend(fig, 3)
    plotting.caption(fig, f"{_about_searches(ds)}; markers: a bout of many networks, whose best counts when it ends")
    return fig


def _about_searches(ds: xr.Dataset) -> str:
    details = (
        f"{ds.attrs['dataset']} · {_search.IMAGES - _search.VALIDATION} training images",
        f"{ds.sizes['repetition']} repetitions, paired",
        "random search is expected over all orders of its trials; mean with its 95 % interval",
    )
    return " · ".join(details)


def ranges(ds: xr.Dataset) -> Figure:
    """The shrinking ranges of narrowing, a bar a repetition."""
    forms = [form for form in NARROWING if f"{form}_range" in ds]
    fig = plotting.figure(7.6, 0.6 + 3.0 * len(forms))
    repetitions, rounds = ds.sizes["repetition"], ds.sizes["round"]
    for row, form in zip(fig.subplots(len(forms), 2, sharex=True, sharey="col", squeeze=False), forms, strict=True):
        for ax, axis in zip(row, AXES, strict=True):
            _dress(ax, TITLES[form], f"range of {SYMBOLS[axis]}")
            for number in range(repetitions):
                at = np.arange(1, rounds + 1) + 0.7 * ((number + 0.5) / repetitions - 0.5)
                low, high = 10 ** ds[f"{form}_range"].sel(axis=axis)[number].values.T
                ax.vlines(at, low, high, color=plotting.colour(0), linewidth=1.6, alpha=0.8)
            ax.set(yscale="log", xticks=range(1, rounds + 1))
            ax.set_xticklabels([*(f"round {i}" for i in range(1, rounds)), "result"])
    detail = f"a bar a repetition; each round's range is that of the best {KEPT:.0%} of the {ds.each} trials before"
    plotting.caption(fig, f"{ds.attrs['dataset']} · {detail}")
    return fig


def summary(ds: xr.Dataset) -> str:
    """The chosen settings' accuracies, the rule of thumb, what narrowing and short training do."""
    n = ds.sizes["trial"]
    best = ds.validation_accuracy[..., -1].max("trial")
    lines = [f"best validation accuracy of {n} random trials: {float(best.mean()):.2%}, mean of {len(best)} seeds"]
    if "test_accuracy" in ds:
        lines.append(f"test accuracy of the chosen setting, evaluated once: {float(ds.test_accuracy.mean()):.2%}")
    drawn = min(DRAWN, n)
    lines.append(
        f"{drawn} random trials hit the best {TOP:.0%}: {1 - (1 - TOP) ** drawn:.1%} predicted in an endless space, "
        f"{1 - _search.missed(n)[drawn, best_part(n)]:.1%} among {n} trials without replacement, "
        f"{hits(ds)[:, drawn - 1].mean():.1%} counted with replacement and with ties"
    )
    best_kept, lost = abandoned(ds)
    for name, values in rank_correlations(ds).items():
        told = ", ".join(f"{values[:, e - 1].mean():.3f} after {e} epochs" for e in early(ds))
        lines.append(f"{name} with the ranking after {ds.sizes['epoch']} epochs: {told}")
    for e in early(ds):
        lines.append(
            f"keeping the best {KEPT:.0%} after {e} epochs saves {saved(ds)[e - 1]:.0%} of the updates, keeps the "
            f"final best in {best_kept[:, e - 1].mean():.0%} of the seeds and loses {lost[:, e - 1].mean():.2%}"
        )
    if "random_accuracy" in ds:
        for form in (form for form in NARROWING if f"{form}_range" in ds):
            shrunk = ds[f"{form}_range"]
            width = (shrunk.sel(end="high") - shrunk.sel(end="low")).mean("repetition")
            for axis in AXES:
                told = " → ".join(f"{w:.2f}" for w in width.sel(axis=axis).values)
                lines.append(f"{TITLES[form]}: range of {SYMBOLS[axis]} {told} decades")
        for name, needed in trials_needed(ds).items():
            lines.append(f"{TITLES[name]}: {needed.mean():.1f} trials to random search's median best of {ds.budget}")
        for name, (epochs, best) in best_by_epochs(ds).items():
            spent = epochs[-1] * _search.STEPS_EACH
            lines.append(f"{TITLES[name]}: best {best[:, -1].mean():.2%} for {spent:,} updates")
    return "\n".join(lines)


def early(ds: xr.Dataset) -> tuple[int, int]:
    """A tenth and a fifth of the training, in epochs."""
    return max(1, ds.sizes["epoch"] // 10), max(1, ds.sizes["epoch"] // 5)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """What the notes say of short training, of narrowing and of Bayesian search."""
    found = short_training_verdicts(ds)
    return found + search_verdicts(ds) if "random_accuracy" in ds else found


def search_verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Every search beside random search: its best at equal cost, and by trials how many it needs."""
    best, needed, found = best_so_far(ds), trials_needed(ds), []
    cost = f"{ds.budget} trials of {ds.short} epochs"
    for name, (_, reached) in best_by_epochs(ds).items():
        if name == "random":
            continue
        called = TITLES[name][0].upper() + TITLES[name][1:]
        source = "claim 18" if name in search.BAYESIAN else "notes §5.2" if name in NARROWING else ""
        found.append(
            decide(
                f"{called} finds a better setting than random search for as many updates",
                100 * (reached[:, -1] - best["random"][:, -1]),
                "points",
                f"Its best validation accuracy, for at most the updates of {cost}, differs from random search's by "
                "{effect} {unit} [{low}, {high}], {seeds} paired repetitions.",
                source,
            )
        )
        if name in search.BAYESIAN or name in ("evolution", "cmaes"):
            found.append(
                decide(
                    f"{called} needs fewer trials than random search",
                    needed["random"] - needed[name],
                    "trials",
                    f"To random search's median best of {ds.budget} trials it saves {{effect}} {{unit}} [{{low}}, "
                    f"{{high}}] of {needed['random'].mean():.3g} of {ds.short} epochs, {{seeds}} paired repetitions.",
                    source,
                )
            )
    return found


def short_training_verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Claim 17, as a ranking of all trials, as one of those that matter, and as what abandoning the worst costs."""
    epochs, (_, e) = ds.sizes["epoch"], early(ds)
    best_kept, lost = abandoned(ds)
    rho = {
        "trials": rank_correlations(ds)[ALL][:, e - 1],
        f"the final best {KEPT:.0%} of the trials": rank_correlations(ds)[BEST][:, e - 1],
    }
    ranks = [
        decide(
            f"Short training ranks {which} as long training does: Spearman's ρ is above {ALIKE}",
            values - ALIKE,
            "from the bar",
            f"ρ between the rankings after {e} and {epochs} epochs is {values.mean():.3f}, {{effect}} {{unit}} "
            "[{low}, {high}], {seeds} seeds.",
            "claim 17",
        )
        for which, values in rho.items()
    ]
    costs = decide(
        f"Abandoning the worst {1 - KEPT:.0%} of the trials after {e} of {epochs} epochs costs less than a point",
        1 - 100 * lost[:, e - 1],
        "points",
        f"It costs {100 * lost[:, e - 1].mean():.2f} points of validation accuracy, {{effect}} {{unit}} from the bar "
        f"[{{low}}, {{high}}]; it keeps the final best in {best_kept[:, e - 1].mean():.0%} of the {{seeds}} seeds and "
        f"saves {saved(ds)[e - 1]:.0%} of the updates.",
        "claim 17",
    )
    return [*ranks, costs]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
