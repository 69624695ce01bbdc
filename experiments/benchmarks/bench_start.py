"""What does it cost to start: importing fnn, compiling an experiment, starting it a second time?"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.benchmarks._timing import Fixed
from fnn import lab
from fnn.base import provenance
from fnn.base.errors import InputError
from fnn.lab import plotting, process

IMPORTS = {
    "import jax": "import jax",
    "import fnn": "from fnn import data, models, optim, schedules, sweep, tasks, train",
}
"""The statements that are timed."""

RULES = {"one rule": ("adam",), "four rules": ("sgd", "momentum", "adagrad", "adam")}
"""Rules of the sweeps that are compiled, with an empty cache …"""

AGAIN = "four rules, again"
"""… and the last of them again, in another process, with the cache that the first has filled."""

AIM = 1.2
"""The aim: the largest time of importing and of compiling, relative to jax and to one rule."""

IMPORTING = """
import time
start = time.perf_counter()
{statement}
print({{"seconds": time.perf_counter() - start}})
"""

SWEEPING = """
import collections, json, time
import jax
jax.config.update("jax_num_cpu_devices", {cores})
from experiments.benchmarks import _contenders
from fnn import data
from fnn.lab import process
process.prepare()
counted = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **details: counted.update([event]))
start = time.perf_counter()
work = _contenders.Work(data.load("mnist_5k"), "dense", {rules}, 2, 5)
lap = next(_contenders.fnn_laps(work))
print(json.dumps({{
    "seconds": time.perf_counter() - start,
    "compile_seconds": lap.compile_seconds,
    "compiled": counted["/jax/compilation_cache/cache_misses"],
    "found": counted["/jax/compilation_cache/cache_hits"],
}}))
"""


@dataclass(frozen=True)
class Config(lab.Options):
    """Settings of the benchmark."""

    seeds: Fixed = 1
    """Of everything that is compiled."""
    laps: int = 2
    """Repetitions; the median counts."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(laps=1)


def run(cfg: Config) -> xr.Dataset:
    """Times of all contenders, alternating."""
    contenders = [*IMPORTS, *RULES, AGAIN]
    device = provenance.describe_devices(jax.local_devices())
    print(f"{len(contenders)} ways to start, {cfg.laps} times each, on {device}", flush=True)
    turns = []
    for _ in tqdm(range(cfg.laps), unit="turn", disable=None, leave=False):
        turns.append({**imports(), **starts()})
    dims = ("contender", "lap")
    names = {
        "seconds": ("time in all", "s"),
        "compile_seconds": ("time to compile", "s"),
        "compiled": ("compiled", "programs"),
        "found": ("found in the cache", "programs"),
    }
    return xr.Dataset(
        {
            name: (
                dims,
                [[turn[c].get(name, np.nan) for turn in turns] for c in contenders],
                {"long_name": what, "units": unit},
            )
            for name, (what, unit) in names.items()
        },
        {"contender": contenders, "lap": np.arange(cfg.laps)},
        {"device": device, "complete": 1},
    )


def imports() -> dict[str, Mapping[str, float]]:
    """Seconds for every import, each in a new process."""
    return {name: last_json(IMPORTING.format(statement=statement)) for name, statement in IMPORTS.items()}


def starts() -> dict[str, Mapping[str, float]]:
    """Times to start every sweep with an empty cache, and the last of them again."""
    found = {}
    for name, rules in RULES.items():
        with tempfile.TemporaryDirectory() as cache:
            found[name] = swept(rules, cache)
            if name == "four rules":
                found[AGAIN] = swept(rules, cache)
    return found


def swept(rules: tuple[str, ...], cache: str) -> Mapping[str, float]:
    """A few steps of a sweep in a new process with this cache of compilations."""
    return last_json(SWEEPING.format(cores=process.cores(), rules=rules), JAX_COMPILATION_CACHE_DIR=cache)


def last_json(program: str, **environment: str) -> Mapping[str, float]:
    """The JSON object in the last line that a program prints."""
    command = [sys.executable, "-c", program]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"} | environment
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
    if done.returncode:
        raise InputError(f"A process of the benchmark failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1].replace("'", '"'))


def times(what: str, ours: str, theirs: str) -> Callable[[xr.Dataset], xr.DataArray]:
    """The effect "one contender's number over another's", turn by turn."""
    return lambda ds: ds[what].sel(contender=ours, drop=True) / ds[what].sel(contender=theirs, drop=True)


def rows(ds: xr.Dataset) -> list[dict]:
    """The measurements, one row per contender: medians over turns, NaN left out."""
    found = []
    for contender in ds.contender.values:
        one = {name: float(ds[name].sel(contender=contender).median()) for name in ds.data_vars}
        found.append({"contender": str(contender)} | {name: value for name, value in one.items() if value == value})
    return found


def start(ds: xr.Dataset) -> Figure:
    """Seconds for each, as bars in pairs."""
    fig = plotting.figure(9.0, 3.6)
    panels = {
        "seconds to import": ("seconds", list(IMPORTS)),
        "seconds to compile": ("compile_seconds", [*RULES, AGAIN]),
    }
    for ax, (title, (what, pair)) in zip(fig.subplots(1, 2), panels.items(), strict=True):
        values = ds[what].sel(contender=pair)
        middle = values.median("lap")
        reach = np.abs(values.quantile([0, 1], "lap") - middle)
        colors = [plotting.color(number) for number in range(len(pair))]
        ax.bar(range(len(pair)), middle, yerr=reach, color=colors, capsize=3, width=0.6)
        ax.set_xticks(range(len(pair)), pair)
        plotting.dress(ax, ylabel="s")
        ax.set_title(title, fontsize="medium")
    plotting.caption(fig, f"{ds.device} · medians of {ds.sizes['lap']} turns, bars from least to most")
    return fig


EXPERIMENT = lab.Experiment(
    question="What does it cost to start: importing fnn, compiling an experiment, starting it a second time?",
    source="benchmark",
    method="""Every measurement is a separate process. Imports: what the README's ten lines import, beside jax alone.
Compiling: the notes' four rules in one sweep beside Adam alone, on the notes' network, with an empty cache; and again
in another process, with the cache that is then filled; JAX counts what it compiles. The contenders alternate, and
every ratio is of one repetition.""",
    takes="about a minute on two cores",
    alone=True,
    config=Config,
    quick={"laps": 1},
    run=run,
    claims=(
        lab.Claim(
            f"Importing fnn takes at most {AIM:g} × the time of importing jax",
            times("seconds", *reversed(IMPORTS)),
            lab.below(AIM),
            "×",
            figure="start",
            repeats="lap",
        ),
        lab.Claim(
            f"Compiling four rules takes at most {AIM:g} × the time of one",
            times("compile_seconds", *reversed(RULES)),
            lab.below(AIM),
            "×",
            figure="start",
            repeats="lap",
        ),
        lab.Claim(
            "A second start compiles nothing",
            lambda ds: ds.compiled.sel(contender=AGAIN, drop=True),
            lab.exactly(0),
            "programs",
            figure="start",
            detail=lambda ds: (
                f"It reads at least {float(ds.found.sel(contender=AGAIN).min()):g} programs from the cache."
            ),
            repeats="lap",
        ),
    ),
    figures={"start": start},
    tables=lambda ds: {"benchmark": rows(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
