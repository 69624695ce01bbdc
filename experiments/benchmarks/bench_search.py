"""How long does the notes' search take: as in the notes, in one compiled program, and with early abandonment?"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.benchmarks import _timing
from experiments.benchmarks._contenders import Rows, numpy_trial
from experiments.hyperparameters import _search
from fnn import lab, tasks
from fnn.base import provenance
from fnn.base.errors import require
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.train import engine

SIZES = (784, *_search.HIDDEN, 10)
TITLES = {"numpy": "NumPy, the notes' way", "fnn": "fnn", "fnn_halving": "fnn, successive halving"}
AIM = 20.0
"""The aim: times as fast as the notes' code."""
ETA, FIRST = 3, 2
"""Halving: the best third continues, for the first time after two epochs."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the benchmark."""

    seeds: _timing.Fixed = 1
    """Of every core."""
    trials: int = 20
    """Settings a seed."""
    epochs: int = 50
    """Epochs of a whole trial."""
    few: int = 3
    """Trials of NumPy per lap."""
    laps: int = 2
    """Timed laps of each contender; the median counts."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=2, epochs=3, few=1, laps=1)


def flop_per_trial(epochs: int) -> float:
    """Multiplications and additions in the matrix products of a whole trial: training, and validating every epoch."""
    products = [2 * n_in * n_out for n_in, n_out in itertools.pairwise(SIZES)]
    update = _search.BATCH * (3 * sum(products) - products[0])  # the first layer's input needs no gradient
    return epochs * (_search.STEPS_EACH * update + _search.VALIDATION * sum(products))


def notes_way(cfg: Config, images: DataSet) -> Callable[[], int]:
    """A function that runs some trials as in the notes and returns their number."""
    x = images.x_train[: _search.IMAGES].reshape(_search.IMAGES, -1).astype(np.float32) / 255
    y, n = images.y_train[: _search.IMAGES], _search.VALIDATION
    rng = np.random.default_rng(0)

    def lap():
        for _ in range(cfg.few):
            order = rng.permutation(_search.IMAGES)
            held_out, others = (Rows(x[part], y[part]) for part in (order[:n], order[n:]))
            lr, weight_decay = 10 ** rng.uniform(*np.array(_search.EXPONENTS).T)
            numpy_trial(SIZES, others, held_out, lr, weight_decay, cfg.epochs, _search.BATCH, rng)
        return cfg.few

    return lap


def ours(cfg: Config, train_settings: _search.Trainer) -> Callable[[], int]:
    """A function that runs all trials of one seed per core and returns their number."""
    keys = engine.seeds(len(jax.local_devices()))
    settings = _search.samples(keys, cfg.trials)

    def lap():
        train_settings(settings, keys)
        return cfg.trials * len(keys)

    return lap


def run(cfg: Config) -> xr.Dataset:
    """Times of all contenders, in alternating laps."""
    images = cfg.load()
    require(len(images.x_train) >= _search.IMAGES, f"This takes {_search.IMAGES} training images.")
    data, plan = tasks.splits(images), _search.schedule(FIRST, ETA, cfg.epochs)
    device = provenance.describe_devices(jax.local_devices())
    print(f"{', '.join(TITLES.values())}: {cfg.trials} trials of {cfg.epochs} epochs on {device}", flush=True)
    laps = {
        "numpy": notes_way(cfg, images),
        "fnn": ours(cfg, _search.trainer(data, cfg.epochs, evaluate_at=range(1, cfg.epochs + 1))),
        "fnn_halving": ours(cfg, _search.abandoning(data, plan)),
    }
    first, seconds, rates = {}, {name: [] for name in laps}, []
    with tqdm(total=len(laps) * (cfg.laps + 1), unit="lap", disable=None, leave=False) as bar:
        for number, (name, lap) in itertools.product(range(cfg.laps + 1), laps.items()):
            start = time.perf_counter()
            trials = lap()
            took = time.perf_counter() - start
            if number == 0:
                first[name] = (took, trials)  # with its compilation
                rates += _timing.product_rates()
            else:
                seconds[name].append(took / trials)
            bar.update()
    compile_seconds = [max(0.0, took - trials * np.median(seconds[name])) for name, (took, trials) in first.items()]
    return xr.Dataset(
        {
            "seconds": (
                ("contender", "lap"),
                np.array(list(seconds.values())),
                {"long_name": "time per trial", "units": "s"},
            ),
            "compile_seconds": (
                "contender",
                compile_seconds,
                {"long_name": "extra time of the first lap", "units": "s"},
            ),
        },
        {"contender": list(laps), "lap": np.arange(cfg.laps)},
        {
            "dataset": images.name,
            "checksum": images.checksum,
            "source": images.source,
            "trials": cfg.trials,
            "epochs": cfg.epochs,
            "updates": _search.cost(plan, cfg.trials),
            "peak_flop_per_second": max(rates),
            "flop_per_trial": flop_per_trial(cfg.epochs),
            "device": device,
            "complete": 1,
        },
    )


def rows(ds: xr.Dataset) -> list[dict]:
    """The measurements, one row per contender. Abandoned updates are not counted as work."""
    found = []
    for name in ds.contender.values:
        seconds = float(ds.seconds.sel(contender=name).median())
        work = ds.flop_per_trial * (ds.updates if name == "fnn_halving" else 1.0)
        found.append(
            {
                "contender": str(name),
                "networks": int(ds.trials),
                "seconds": seconds,
                "fraction_of_peak": float(work / seconds / ds.peak_flop_per_second),
                "compile_seconds": float(ds.compile_seconds.sel(contender=name)),
                "peak_bytes": None,
                "faster_than_the_notes_by": float(ds.seconds.sel(contender="numpy").median()) / seconds,
            }
        )
    return found


def table(ds: xr.Dataset) -> str:
    """The rows as a table of text."""
    lines = [f"{'':26}{'s per trial':>11}{f's for {ds.trials}':>12}{'of peak':>9}{'faster':>9}{'compile s':>11}"]
    for row in rows(ds):
        lines.append(
            f"{TITLES[row['contender']]:26}{row['seconds']:11.4f}{ds.trials * row['seconds']:12.1f}"
            f"{row['fraction_of_peak']:9.0%}{row['faster_than_the_notes_by']:8.1f}×{row['compile_seconds']:11.1f}"
        )
    return "\n".join(lines)


def whole_search(ds: xr.Dataset) -> Figure:
    """Seconds for the whole search, one bar per contender."""
    fig = plotting.figure(7.0, 2.6)
    ax = plotting.axes(fig, f"{ds.trials} trials of {ds.epochs} epochs", "seconds", "")
    for number, row in enumerate(rows(ds)):
        whole = ds.trials * row["seconds"]
        ax.barh(TITLES[row["contender"]], whole, color=plotting.color(number))
        ax.annotate(f" {whole:.1f} s", (whole, number), va="center", fontsize="small")
    ax.invert_yaxis()
    ax.margins(x=0.12)
    plotting.caption(fig, f"{ds.device}, one core per seed; median of {ds.sizes['lap']} laps")
    return fig


def faster(name: str) -> lab.Claim:
    """The claim that a contender reaches the aim."""
    return lab.Claim(
        f"{TITLES[name]}: the search is at least {AIM:g} × faster than the notes' way",
        lambda ds: ds.seconds.sel(contender="numpy", drop=True) / ds.seconds.sel(contender=name, drop=True),
        lab.above(AIM),
        "× as fast",
        figure="seconds",
        repeats="lap",
    )


EXPERIMENT = lab.Experiment(
    question="How long does the notes' search take: as in the notes, in one compiled program, and with early "
    "abandonment?",
    source="benchmark",
    method="""The work is that of the notes' §5.2: random settings of learning rate and weight decay, each trained for
50 epochs on 400 images and validated on 100 others after every epoch. The notes train one network after another with
layer objects in NumPy; here all settings of a seed are one program, with one seed per core. With successive halving
the program compares the trials after 2, 6 and 18 epochs, and each time the best third continues.

The contenders alternate; every time is a median of laps, in seconds per trial. NumPy's trials all take the same time,
so a few of them are measured.""",
    takes="about three quarters of a minute on two cores; the README's numbers (--trials 100 --laps 3) take four",
    alone=True,
    config=Config,
    quick={"trials": 6, "epochs": 4, "few": 1, "laps": 1},
    run=run,
    claims=(faster("fnn"), faster("fnn_halving")),
    figures={"seconds": whole_search},
    summary=table,
    tables=lambda ds: {"benchmark": rows(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
