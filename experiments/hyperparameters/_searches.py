"""Searches of every kind at equal budget, one per seed: by trials in lockstep, and inside the program."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.hyperparameters import _search
from fnn import lab, search
from fnn.base.errors import require
from fnn.base.types import Keys
from fnn.search import History, Sampler
from fnn.tasks import Split
from fnn.train import halving
from fnn.train.progress import progress

KEPT = 0.2
"""The share of trials that narrowing and early abandonment keep."""
NARROWING = {"narrowing": False, "margin": True}
"""The forms of narrowing, and whether they widen the range by a margin."""
PARENTS = 5
"""Number of best trials so far from which evolution draws."""
GENERATION = 6
"""Trials in a generation of CMA-ES."""
CROWD, ETA, POPULATION = 27, 3, 12
"""Networks at the start of successive halving; 1/η continues there and in Hyperband; networks in a population."""
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
"""Searches during training, inside the compiled program."""


@dataclass(frozen=True)
class Options(lab.DataOptions):
    """Options of the searches."""

    short: int = 10
    """Epochs of a trial in the searches that are compared."""
    rounds: int = 3
    """Rounds of narrowing."""
    each: int = 10
    """Trials in a round of narrowing. Every search has rounds × each trials, or the same number of network-steps."""
    samplers: tuple[str, ...] = ("narrowing", "margin", "evolution", "tpe", "halving", "pbt")
    """Searches that are compared with random search, or all: grid, sobol, halton, narrowing, margin, evolution, cmaes,
    tpe, gp (needs torch and a second per trial), halving, hyperband, pbt; or none."""
    startup: int = 8
    """Random trials at the start of a Bayesian search."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(rounds=1, each=10, short=1, startup=1)
        require(
            self.startup < self.budget,
            f"--startup is 1 to {self.budget - 1}, fewer than --rounds × --each, not {self.startup}.",
        )
        unknown = [name for name in self.names() if name not in SEARCHES]
        require(not unknown, f"--samplers takes all, or some of {', '.join(SEARCHES)}, not {', '.join(unknown)}.")
        most = self.budget * self.short
        for name in (name for name in self.names() if name in PROGRAMS):
            dearest = max(bout.epochs for bout in turns(self, name))
            sentence = f"{TITLES[name]} needs {dearest} epochs of networks, more than the {most} of the budget."
            require(dearest <= most, sentence)

    @property
    def budget(self) -> int:
        """Trials of every search that is compared."""
        return self.rounds * self.each

    def names(self) -> list[str]:
        """The searches that are compared with random search."""
        return list(SEARCHES if self.samplers == ("all",) else dict.fromkeys(self.samplers))


class Found(NamedTuple):
    """The trials of a search so far, with seeds as the first axis.

    points: of the unit square `[S, n, 2]`. values: validation accuracies `[S, n]`, which the search optimizes. fresh:
    accuracies on fresh images `[S, n]`, which it does not use.
    """

    points: np.ndarray
    values: np.ndarray
    fresh: np.ndarray

    def first(self, n: int) -> "Found":
        """The first n trials."""
        return Found(*(array[:, :n] for array in self))

    def histories(self) -> list[History]:
        """The histories for samplers, one per seed."""
        return [History(*known) for known in zip(self.points, self.values, strict=True)]


def samplers(cfg: Options, names: Sequence[str]) -> dict[str, tuple[Sampler, int, int]]:
    """(sampler, initial random trials, trials per proposal) of those searches that go by trials; the initial trials are
    the same for all."""
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


Rounds = Callable[[int, Callable[[int], Mapping[str, np.ndarray]]], Iterable[Mapping[str, np.ndarray]]]
"""`(n, make) -> (make(0), …, make(n − 1))`; rounds that an interrupted run has finished are read, not made again."""


def lockstep(
    sampler: Sampler, initial: Found, at_a_time: int, budget: int, short: _search.Trainer, keys: Keys, rounds: Rounds
) -> Found:
    """All `budget` trials of each seed's search, the initial ones included; every round is one call of one program.

    initial: the trials of each seed before the search.
    """
    k_search, found = _search.sampler_keys(keys), initial

    def proposed(_):
        n = min(at_a_time, budget - found.values.shape[1])
        points = np.stack([sampler(key, known, n) for key, known in zip(k_search, found.histories(), strict=True)])
        record = short(_search.setting(points), keys)
        return {"points": points, "values": record["validation_accuracy"][..., -1], "fresh": record["fresh_accuracy"]}

    left = budget - initial.values.shape[1]
    with progress(left, "trial", True) as bar:
        for made in rounds(math.ceil(left / at_a_time), proposed):
            more = Found(**made)
            found = Found(*(np.concatenate(pair, axis=1) for pair in zip(found, more, strict=True)))
            bar.update(more.values.shape[1])
    return found


class Bout(NamedTuple):
    """One run of a search inside the program: `networks` that a plan abandons, or a population of them.

    epochs: its cost, in epochs of one network.
    """

    networks: int
    epochs: int
    plan: _search.Schedule | None = None

    def trainer(self, cfg: Options, data: Mapping[str, Split]) -> _search.Trainer:
        """The trainer of the bout."""
        return _search.abandoning(data, self.plan) if self.plan else _search.populating(data, cfg.short)


def turns(cfg: Options, name: str) -> list[Bout]:
    """The bouts that a search repeats in this order: one, or Hyperband's brackets."""
    if name == "pbt":
        return [Bout(POPULATION, POPULATION * cfg.short)]
    brackets = halving.hyperband(cfg.short, 1 / ETA)
    if name == "halving":
        brackets = [brackets[0]._replace(networks=CROWD)]
    return [
        Bout(networks, halving.updates(networks, rungs, 1 / ETA), _search.Schedule(rungs, 1 / ETA))
        for networks, rungs in brackets
    ]


def bouts(cfg: Options, data: Mapping[str, Split], name: str, keys: Keys, rounds: Rounds) -> dict[str, np.ndarray]:
    """A search's bouts within the budget: accuracy in validation and on fresh images of the best network of each
    `[S, bouts]`, and the cumulative epochs of one network `[bouts]`.

    Their settings are those that random search draws, in the same order.
    """
    kinds = [(bout, bout.trainer(cfg, data)) for bout in turns(cfg, name)]
    spent = itertools.accumulate(bout.epochs for bout, _ in itertools.cycle(kinds))
    epochs = list(itertools.takewhile(lambda n: n <= cfg.budget * cfg.short, spent))
    done = list(itertools.islice(itertools.cycle(kinds), len(epochs)))
    draw, k_search = search.uniform(2), _search.sampler_keys(keys)

    def one(number):
        drawn = sum(bout.networks for bout, _ in done[:number])
        bout, train = done[number]
        known = History(np.empty((drawn, 2)), np.empty(drawn))
        points = np.stack([draw(key, known, bout.networks) for key in k_search])
        final = train(_search.setting(points), keys)["final"]
        best = np.nan_to_num(final["validation_accuracy"]).argmax(1)[:, None]
        pick = lambda what: np.take_along_axis(final[what], best, 1)[:, 0]
        return {"accuracy": pick("validation_accuracy"), "fresh": pick("fresh_accuracy")}

    made = list(rounds(len(done), one))
    return {"epochs": np.array(epochs), **{what: np.stack([m[what] for m in made], axis=1) for what in made[0]}}


def exponents(unit: np.ndarray) -> np.ndarray:
    """Points of the unit square `[…, 2]` as exponents, log₁₀ lr and log₁₀ λ."""
    low, high = np.array(_search.EXPONENTS).T
    return low + unit * (high - low)


def available(names: Sequence[str]) -> list[str]:
    """The searches whose packages are installed; the others are printed."""
    installed = []
    for name in names:
        if missing := _search.missing(name):
            packages = f"{' and '.join(missing)} (pip install {' '.join(missing)})"
            print(f"{TITLES[name]} is left out: it needs {packages}.")
        else:
            installed.append(name)
    return installed
