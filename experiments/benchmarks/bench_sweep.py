"""How fast do K networks train, compared with what a user would write otherwise?"""

import importlib.util
import itertools
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.benchmarks import _timing
from experiments.benchmarks._contenders import CONTENDERS, Work
from fnn import data, lab
from fnn.base import arithmetic, provenance
from fnn.base.errors import require
from fnn.lab import plotting, process

SIZES = (784, 100, 100, 100, 100, 10)
RULES = ("sgd", "momentum", "adagrad", "adam")
BATCH = 128
CHUNK = 100
TITLES = {
    "numpy": "NumPy, the notes' way",
    "torch": "PyTorch loop",
    "torch_compile": "PyTorch loop, torch.compile",
    "torch_vmap": "torch.func vmap",
    "flax": "flax + optax, jitted step",
    "flax_scan": "flax + optax, scan and vmap",
    "fnn": "fnn",
}
PACKAGES = {"torch": ("torch",), "flax": ("flax.nnx", "optax")}
"""The packages of contenders, by the first part of their names."""
AIMS = {"numpy": 10.0, "torch": 3.5, "flax_scan": 1.3}
"""The aims: times as fast as these, where all rules run."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the benchmark."""

    seeds: _timing.Fixed = 1
    """Of all weights and minibatches."""
    contenders: tuple[str, ...] = ("numpy", "torch", "fnn")
    """Contenders, or all: also torch_compile, torch_vmap, flax and flax_scan."""
    networks: tuple[int, ...] = (1, 64)
    """Numbers of networks K: 1, or multiples of 4."""
    laps: int = 3
    """Timed laps of each contender; the median counts."""
    lap: int = 400
    """Network-steps per lap, shared among the K networks."""
    measure_memory: bool = True
    """Measure memory too, at the largest number of networks, each in a separate process."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(laps=1, lap=1)
        self.check_distinct(contenders="contender", networks="number of networks")
        for name in self.racers():
            require(name in CONTENDERS, f"--contenders takes all, or some of {', '.join(CONTENDERS)}, not {name!r}.")
        require("fnn" in self.racers(), "--contenders needs fnn, which the others are compared with.")
        for n in self.networks:
            fits = n == 1 or (n > 0 and n % len(RULES) == 0)
            require(fits, f"--networks takes 1 and multiples of {len(RULES)}, not {n}.")

    def racers(self) -> list[str]:
        """The contenders."""
        return list(CONTENDERS if self.contenders == ("all",) else self.contenders)


def flop_per_step(batch: int = BATCH) -> int:
    """Multiplications and additions in the matrix products of one network-step.

    Forward twice (before and after the update) and two products per layer backward, except for the first, whose input
    needs no gradient.
    """
    layers = [2 * batch * n_in * n_out for n_in, n_out in itertools.pairwise(SIZES)]
    return 4 * sum(layers) - layers[0]


def work(images: data.DataSet, networks: int, lap: int) -> Work:
    """The work of K networks: all four rules on K/4 seeds, or Adam alone."""
    rules = ("adam",) if networks == 1 else RULES
    return Work(images, SIZES, rules, networks // len(rules), BATCH, max(1, lap // networks))


def at_home(contender: str, w: Work) -> Work:
    """The work in laps that suit the contender: compiled loops run in chunks of steps, Python loops do not."""
    if contender not in ("fnn", "flax_scan"):
        return w
    networks = w.seeds * len(w.rules)
    most = CHUNK * 256 // networks if jax.default_backend() == "cpu" else CHUNK  # a CPU takes minutes
    return w._replace(steps=max(w.steps, min(CHUNK, most)))


def peak_bytes(contender: str, w: Work) -> float:
    """Memory that a fresh process needs for one lap beyond its imports and images; NaN where it cannot be measured.

    Device memory, where the device has its own.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_report_memory, args=(queue, contender, w))
    child.start()
    child.join()
    return queue.get() if child.exitcode == 0 else float("nan")


def _report_memory(queue, contender, w):
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the parent's JAX has most of a GPU's memory
    process.prepare()
    for package in PACKAGES.get(contender.partition("_")[0], ()):
        importlib.import_module(package)
    before = _most_held(contender)
    next(CONTENDERS[contender](w))
    queue.put(_most_held(contender) - before)


def _most_held(contender: str) -> float:
    if contender == "numpy" or jax.default_backend() == "cpu":
        return _most_resident()
    if contender.startswith("torch"):
        import torch  # pyright: ignore[reportMissingImports]

        return torch.cuda.max_memory_allocated()
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", float("nan"))


def _most_resident() -> float:
    # getrusage would count the parent too: on Linux a spawned child inherits its high-water mark.
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return float("nan")
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def run(cfg: Config) -> xr.Dataset:
    """Times of all contenders at every number of networks."""
    images = cfg.load()
    here = lambda package: package not in PACKAGES or importlib.util.find_spec(package)
    present = [c for c in cfg.racers() if here(c.partition("_")[0])]
    absent = [c for c in cfg.racers() if c not in present]
    counts, device = cfg.networks, provenance.describe_devices(jax.local_devices())
    print(f"{', '.join(present)} at {', '.join(map(str, counts))} networks on {device}", flush=True)
    if absent:
        print(f'Left out, not installed: {", ".join(absent)} (pip install "fnn[bench]").')
    seconds = np.full((len(present), len(counts), cfg.laps), np.nan)
    compile_seconds = np.full((len(present), len(counts)), np.nan)
    memory = np.full((len(present), len(counts)), np.nan)
    rates = []
    with tqdm(total=len(present) * len(counts) * (cfg.laps + 1), unit="lap", disable=None, leave=False) as bar:
        for k, networks in enumerate(counts):
            w = work(images, networks, cfg.lap)
            works = [at_home(c, w) for c in present]
            laps = [CONTENDERS[c](w) for c, w in zip(present, works, strict=True)]
            for c, contender in enumerate(laps):
                compile_seconds[c, k] = next(contender).compile_seconds
                bar.update()
            for lap in range(cfg.laps):
                rates += _timing.product_rates(with_torch="torch" in present)
                for c, contender in enumerate(laps):
                    seconds[c, k, lap] = next(contender).seconds / works[c].steps / networks
                    bar.update()
            for contender in laps:
                contender.close()  # pyright: ignore[reportAttributeAccessIssue]
            medians = 1e6 * np.median(seconds[:, k], axis=-1)
            times = [f"{TITLES[c]} {_short(median)}" for c, median in zip(present, medians, strict=True)]
            bar.write(f"{networks:5d} networks, µs per network-step: {', '.join(times)}")  # after minutes of work
            if networks == max(counts) and cfg.measure_memory:
                memory[:, k] = [peak_bytes(c, w) for c in present]
    dims = ("contender", "networks")
    return xr.Dataset(
        {
            "seconds": ((*dims, "lap"), seconds, {"long_name": "time per network-step", "units": "s"}),
            "compile_seconds": (dims, compile_seconds, {"long_name": "time to compile", "units": "s"}),
            "peak_bytes": (dims, memory, {"long_name": "memory, at the most networks only", "units": "B"}),
        },
        {"contender": present, "networks": list(counts), "lap": np.arange(cfg.laps)},
        {
            "dataset": images.name,
            "checksum": images.checksum,
            "peak_flop_per_second": max(rates),
            "flop_per_step": flop_per_step(),
            "device": device,
            "precision": arithmetic.matmul_precision(),
            "complete": 1,
        },
    )


def rows(ds: xr.Dataset) -> list[dict]:
    """The measurements, one row per contender and number of networks."""
    found = []
    for contender, networks in itertools.product(ds.contender.values, ds.networks.values):
        one = ds.sel(contender=contender, networks=networks)
        seconds = float(one.seconds.median())
        found.append(
            {
                "contender": str(contender),
                "networks": int(networks),
                "seconds": seconds,
                "fraction_of_peak": ds.flop_per_step / seconds / ds.peak_flop_per_second,
                "compile_seconds": float(one.compile_seconds),
                "peak_bytes": float(one.peak_bytes) if np.isfinite(one.peak_bytes) else None,
                "fnn_is_faster_by": seconds / float(ds.seconds.sel(contender="fnn", networks=networks).median()),
            }
        )
    return found


def table(ds: xr.Dataset) -> str:
    """The rows as a table of text."""
    lines = [
        f"Best float32 matrix product: {ds.peak_flop_per_second / 1e9:.0f} GFLOP/s (precision: {ds.precision})",
        f"{'':28}{'networks':>9}{'µs/network-step':>17}{'of peak':>9}{'fnn faster by':>15}{'compile s':>11}{'MB':>7}",
    ]
    for row in rows(ds):
        lines.append(
            f"{TITLES[row['contender']]:28}{row['networks']:9d}{_short(1e6 * row['seconds']):>17}"
            f"{row['fraction_of_peak']:9.0%}{row['fnn_is_faster_by']:14.2f}×{row['compile_seconds']:11.1f}"
            + (f"{row['peak_bytes'] / 1e6:7.0f}" if row["peak_bytes"] else "")
        )
    return "\n".join(lines)


def _short(microseconds: float) -> str:
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


def cost_per_network(ds: xr.Dataset) -> Figure:
    """Cost per network-step against the number of networks."""
    fig = plotting.figure()
    ax = plotting.axes(
        fig, "Cost of training one network of many", "networks trained at once, K", "µs per network-step"
    )
    for i, contender in enumerate(ds.contender.values):
        at = 1e6 * ds.seconds.sel(contender=contender)
        middle = at.median("lap")
        reach = np.abs(at.quantile([0, 1], "lap") - middle)
        mark = {"color": plotting.color(i), "marker": plotting.MARKERS[i], "capsize": 2, "markersize": 5}
        ax.errorbar(ds.networks, middle, reach, label=TITLES[str(contender)], **mark)
    limit = 1e6 * ds.flop_per_step / ds.peak_flop_per_second
    ax.axhline(limit, color="0.4", linestyle="--", linewidth=1, label="matrix products at this machine's best rate")
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(ds.networks.values, [str(k) for k in ds.networks.values])
    ax.minorticks_off()
    low, high = ax.get_ylim()
    ticks = [t * 10.0**e for e in range(-2, 5) for t in (1, 2, 5) if low <= t * 10.0**e <= high]
    ax.set_yticks(ticks, [f"{t:,g}" for t in ticks])
    plotting.legend(fig, 2)
    plotting.caption(
        fig,
        f"{ds.device}, notes' network, minibatch {BATCH}; median of {ds.sizes['lap']} laps, bars from least to most",
    )
    return fig


def faster(contender: str, aim: float) -> lab.Claim:
    """The claim that fnn reaches its aim beside a contender, where all four rules run."""

    def effect(ds):
        many = ds.seconds.where(ds.networks >= len(RULES), drop=True)
        ratio = many.sel(contender=contender, drop=True) / many.sel(contender="fnn", drop=True)
        return ratio.median("networks")

    return lab.Claim(
        f"fnn is at least {aim:g} × faster than {TITLES[contender]}",
        effect,
        lab.above(aim),
        "× as fast",
        figure="cost_per_network",
        where=lambda ds: contender in ds.contender and bool((ds.networks >= len(RULES)).any()),
        repeats="lap",
    )


EXPERIMENT = lab.Experiment(
    question="How fast do K networks train, compared with what a user would write otherwise?",
    source="benchmark",
    method="""The work is that of `optimizer_compare_mnist`: the notes' network, minibatches of 128, SGD, Momentum,
AdaGrad and Adam on K/4 seeds each (K = 1: Adam alone), gathering, forward, backward and update, and the loss recorded
after the update. The contenders alternate; every time is a median of laps, and is compared with the best float32
matrix product that any of them reaches on this machine in the same run. Contenders whose package is not installed are
left out, and printed.""",
    takes="about a minute on two cores; the README's table takes twenty "
    "(--contenders all --networks 1 4 16 64 256 1024 --laps 5)",
    alone=True,
    config=Config,
    quick={"contenders": ("numpy", "fnn"), "networks": (4,), "laps": 1, "lap": 40, "measure_memory": False},
    run=run,
    claims=tuple(faster(contender, aim) for contender, aim in AIMS.items()),
    figures={"cost_per_network": cost_per_network},
    summary=table,
    tables=lambda ds: {"benchmark": rows(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
