"""What does it cost to start: importing fnn, compiling an experiment, starting it a second time? (benchmark)

Every measurement is a process of its own. Imports: what the README's ten lines import, beside jax alone. Compiling: the
notes' four rules in one sweep beside Adam alone, on the notes' network, with an empty cache; and again in another
process, with what is in the cache then: JAX itself counts what it compiles. The contenders take turns, and every ratio
is of one turn.

Takes about a minute on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments import _cli
from fnn.base import provenance
from fnn.base.errors import InputError
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide, exact

IMPORTS = {
    "import jax": "import jax",
    "import fnn": "from fnn import data, models, optim, schedules, sweep, tasks, train",
}
"""Statements whose time is taken."""

RULES = {"one rule": ("adam",), "four rules": ("sgd", "momentum", "adagrad", "adam")}
"""Rules of the sweeps that are compiled, with nothing to be found in a cache …"""

AGAIN = "four rules, again"
"""… and the last of them again, in another process, with what the first has put there."""

AIM = 1.2
"""What importing and compiling are to cost at most, in the time of jax and of one rule."""

IMPORTING = """
import time
began = time.perf_counter()
{statement}
print({{"seconds": time.perf_counter() - began}})
"""

SWEEPING = """
import collections, json, time
import jax
jax.config.update("jax_num_cpu_devices", {cores})
from experiments import _cli, _contenders
from fnn import data
_cli.prepare()
counted = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **details: counted.update([event]))
began = time.perf_counter()
work = _contenders.Work(data.load("mnist_5k"), (784, 100, 100, 100, 100, 10), {rules}, 2, 128, 5)
lap = next(_contenders.fnn_laps(work))
print(json.dumps({{
    "seconds": time.perf_counter() - began,
    "compile_seconds": lap.compile_seconds,
    "compiled": counted["/jax/compilation_cache/cache_misses"],
    "found": counted["/jax/compilation_cache/cache_hits"],
}}))
"""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the benchmark. (--seeds and --dataset have no meaning here.)"""

    laps: int = 2
    """Turns; the median counts."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(laps=1)


QUICK = Config(laps=1, quick=True)


def run(cfg: Config) -> xr.Dataset:
    """Time every contender in turns."""
    contenders = [*IMPORTS, *RULES, AGAIN]
    device = provenance.describe_devices(jax.local_devices())
    print(f"{len(contenders)} ways to start, {cfg.laps} times each, on {device}", flush=True)
    turns = []
    for _ in tqdm(range(cfg.laps), unit="turn", disable=None, leave=False):
        turns.append({**imports(), **starts()})
    dims = ("contender", "lap")
    names = {"seconds": "s", "compile_seconds": "s", "compiled": "programs", "found": "programs"}
    return xr.Dataset(
        {
            name: (dims, [[turn[c].get(name, np.nan) for turn in turns] for c in contenders], {"units": unit})
            for name, unit in names.items()
        },
        {"contender": contenders, "lap": np.arange(cfg.laps)},
        {"device": device, "complete": 1},
    )


def imports() -> dict[str, Mapping[str, float]]:
    """Seconds for every import, each in a new process."""
    return {name: said(IMPORTING.format(statement=statement)) for name, statement in IMPORTS.items()}


def starts() -> dict[str, Mapping[str, float]]:
    """What every sweep costs to start with an empty cache, and the last of them again."""
    found = {}
    for name, rules in RULES.items():
        with tempfile.TemporaryDirectory() as cache:
            found[name] = swept(rules, cache)
            if name == "four rules":
                found[AGAIN] = swept(rules, cache)
    return found


def swept(rules: tuple[str, ...], cache: str) -> Mapping[str, float]:
    """A few steps of a sweep in a new process with this cache of compilations."""
    return said(SWEEPING.format(cores=_cli.cores(), rules=rules), JAX_COMPILATION_CACHE_DIR=cache)


def said(program: str, **environment: str) -> Mapping[str, float]:
    """The JSON object that is the last line a program prints."""
    command = [sys.executable, "-c", program]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"} | environment
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
    if done.returncode:
        raise InputError(f"A process of the benchmark failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1].replace("'", '"'))


def ratio(ds: xr.Dataset, what: str, ours: str, theirs: str) -> np.ndarray:
    """One contender's number over another's, turn by turn."""
    return ds[what].sel(contender=ours).values / ds[what].sel(contender=theirs).values


def rows(ds: xr.Dataset) -> list[dict]:
    """The measurements, a row a contender: medians over turns, NaN left out."""
    found = []
    for contender in ds.contender.values:
        one = {name: float(ds[name].sel(contender=contender).median()) for name in ds.data_vars}
        found.append({"contender": str(contender)} | {name: value for name, value in one.items() if value == value})
    return found


def tables(ds: xr.Dataset) -> dict[str, list[dict]]:
    """The rows, as the file `benchmark.json`."""
    return {"benchmark": rows(ds)}


def figures(ds: xr.Dataset) -> dict[str, Figure]:
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
        colours = [plotting.colour(number) for number in range(len(pair))]
        ax.bar(range(len(pair)), middle, yerr=reach, color=colours, capsize=3, width=0.6)
        ax.set_xticks(range(len(pair)), pair)
        plotting.dress(ax, ylabel="s")
        ax.set_title(title, fontsize="medium")
    plotting.caption(fig, f"{ds.device} · medians of {ds.sizes['lap']} turns, bars from least to most")
    return {"start": fig}


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Whether importing and compiling stay within their aims, and a second start compiles nothing."""
    aims = {
        f"Importing fnn takes at most {AIM:g} × the time of importing jax": ("seconds", *list(IMPORTS)[::-1]),
        f"Compiling four rules takes at most {AIM:g} × the time of one": ("compile_seconds", *list(RULES)[::-1]),
    }
    found = []
    for claim, (what, ours, theirs) in aims.items():
        times = ratio(ds, what, ours, theirs)
        told = f"It takes {np.median(times):.2f} ×; below the aim by {{effect}} {{unit}} [{{low}}, {{high}}], "
        found.append(decide(claim, AIM - times, "×", told + "{seeds} turns."))
    again = ds.sel(contender=AGAIN)
    told = f"It compiles {{worst}} and finds {float(again.found.min()):g} in the cache, {{seeds}} turns."
    nothing = exact("A second start compiles nothing", again.compiled.values, 0, told, unit="programs")
    return [*found, nothing]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
