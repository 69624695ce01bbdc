"""How fast do K networks train, compared with what a user would write otherwise?"""

import importlib.util
import itertools
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.benchmarks import _timing
from experiments.benchmarks._contenders import CONTENDERS, Work
from experiments.benchmarks._networks import NETWORKS, SIDE, TOKENS
from fnn import data, lab
from fnn.base import arithmetic, packages, provenance
from fnn.base.errors import require
from fnn.lab import plotting, process

TITLES = {
    "numpy": "NumPy, the notes' way",
    "torch": "PyTorch loop",
    "torch_compile": "PyTorch loop, torch.compile",
    "torch_vmap": "torch.func vmap",
    "flax": "flax + optax, jitted step",
    "flax_scan": "flax + optax, scan and vmap",
    "fnn": "fnn",
}
NAMES = {
    "dense": "notes' network",
    "cnn": "two convolutions and two dense layers",
    "transformer": "two-block transformer",
}
PACKAGES = {"torch": ("torch",), "flax": ("flax.nnx", "optax")}
"""The packages of contenders, by the first part of their names."""
AIMS = {"numpy": 10.0, "torch": 3.5, "flax_scan": 1.3}
"""The aims with the dense network: times as fast as these, where all rules run."""
FEW = 4
"""The least number of networks with an aim: as many as the dense network has rules."""
OTHERS = {"torch": 2.0, "flax_scan": 2.0}
"""The aims with the other networks: times as fast as these, from `FEW` of them on."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the benchmark."""

    seeds: _timing.Fixed = 1
    """Of all weights and minibatches."""
    network: Literal["dense", "cnn", "transformer"] = "dense"
    """The notes' network; two convolutions and two dense layers; or two blocks of attention over 64 characters."""
    contenders: tuple[str, ...] = ()
    """Contenders, or all: numpy (dense only), torch, torch_compile, torch_vmap, flax, flax_scan and fnn; by default
    numpy, torch and fnn with the dense network, else torch, flax, flax_scan and fnn."""
    networks: tuple[int, ...] | None = None
    """Numbers of networks K: 1, or multiples of 4; by default 1 and 64 of the dense network, else 1, 4, 16 and 64."""
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
        racers = self.racers()
        for name in racers:
            require(name in CONTENDERS, f"--contenders takes all, or some of {', '.join(CONTENDERS)}, not {name!r}.")
        twice = [name for name in CONTENDERS if racers.count(name) > 1]
        require(not twice, f"--contenders names {', '.join(twice)} more than once.")
        dense = self.network == "dense" or "numpy" not in racers
        require(dense, f"--contenders has numpy with the dense network only, not with --network {self.network}.")
        require("fnn" in racers, "--contenders needs fnn, which the others are compared with.")
        if self.networks is not None:
            self.check_distinct(networks="number of networks")
        for n in self.counts():
            fits = n == 1 or (n > 0 and n % FEW == 0)
            require(fits, f"--networks takes 1 and multiples of {FEW}, not {n}.")

    def racers(self) -> list[str]:
        """The contenders."""
        if self.contenders == ("all",):
            return [name for name in CONTENDERS if name != "numpy" or self.network == "dense"]
        by_default = ("numpy", "torch", "fnn") if self.network == "dense" else ("torch", "flax", "flax_scan", "fnn")
        return list(self.contenders or by_default)

    def counts(self) -> tuple[int, ...]:
        """The numbers of networks."""
        return self.networks if self.networks is not None else (1, 64) if self.network == "dense" else (1, 4, 16, 64)

    def examples(self) -> data.DataSet:
        """The data that the network learns. Raises `InputError` for those that do not fit."""
        if self.network == "transformer":
            name = "tiny_shakespeare" if self.dataset == "auto" else self.dataset
            text = data.load(name, self.data_dir)
            fits = text.x_train.ndim == 1 and len(text.classes) == TOKENS
            require(fits, f"--network transformer reads a text of {TOKENS} characters, and {text.name} is none.")
            print(f"{text.name}: {len(text.x_train):,} training tokens from {text.source}", flush=True)
            return text
        images = self.load()
        fits = images.x_train.size == len(images.x_train) * SIDE**2
        require(fits, f"--network {self.network} reads images of {SIDE}×{SIDE}, and {images.name} has others.")
        return images


def work(examples: data.DataSet, network: str, networks: int, lap: int) -> Work:
    """The work of K networks: all rules of the network on an equal share of K seeds, or Adam alone."""
    rules = ("adam",) if networks == 1 else NETWORKS[network].rules
    return Work(examples, network, rules, networks // len(rules), max(1, lap // networks))


def at_home(contender: str, w: Work) -> Work:
    """The work in laps that suit the contender: compiled loops run in chunks of steps, Python loops do not."""
    if contender not in ("fnn", "flax_scan"):
        return w
    networks, chunk = w.seeds * len(w.rules), w.of.chunk
    most = chunk * 256 // networks if jax.default_backend() == "cpu" else chunk  # a CPU takes minutes
    return w._replace(steps=max(w.steps, min(chunk, most)))


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
    examples, of = cfg.examples(), NETWORKS[cfg.network]
    here = lambda package: package not in PACKAGES or not packages.missing(package)
    present = [c for c in cfg.racers() if here(c.partition("_")[0])]
    absent = [c for c in cfg.racers() if c not in present]
    counts, device = cfg.counts(), provenance.describe_devices(jax.local_devices())
    print(f"{', '.join(present)} at {', '.join(map(str, counts))} networks on {device}", flush=True)
    if absent:
        print(f'Left out, not installed: {", ".join(absent)} (pip install "fnn[bench]").')
    seconds = np.full((len(present), len(counts), cfg.laps), np.nan)
    compile_seconds = np.full((len(present), len(counts)), np.nan)
    memory = np.full((len(present), len(counts)), np.nan)
    rates = []
    with tqdm(total=len(present) * len(counts) * (cfg.laps + 1), unit="lap", disable=None, leave=False) as bar:
        for k, networks in enumerate(counts):
            w = work(examples, cfg.network, networks, cfg.lap)
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
            "dataset": examples.name,
            "checksum": examples.checksum,
            "network": cfg.network,
            "peak_flop_per_second": max(rates),
            "flop_per_step": of.flop(of.batch),
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


def _network(ds: xr.Dataset) -> str:
    return ds.attrs.get("network", "dense")  # of earlier results, which were of no other


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
    name = _network(ds)
    plotting.caption(
        fig,
        f"{ds.device}, {NAMES[name]}, minibatch {NETWORKS[name].batch}; median of {ds.sizes['lap']} laps, bars from "
        "least to most",
    )
    return fig


def faster(contender: str, aim: float, dense: bool) -> lab.Claim:
    """The claim that fnn reaches its aim beside a contender, with the dense network or another, of `FEW` or more."""

    def effect(ds):
        many = ds.seconds.where(ds.networks >= FEW, drop=True)
        ratio = many.sel(contender=contender, drop=True) / many.sel(contender="fnn", drop=True)
        return ratio.median("networks")

    def where(ds):
        meant = (_network(ds) == "dense") == dense
        return meant and contender in ds.contender and bool((ds.networks >= FEW).any())

    others = "" if dense else ", with convolutions or attention"
    return lab.Claim(
        f"fnn is at least {aim:g} × faster than {TITLES[contender]}{others}",
        effect,
        lab.above(aim),
        "× as fast",
        figure="cost_per_network",
        where=where,
        repeats="lap",
    )


EXPERIMENT = lab.Experiment(
    question="How fast do K networks train, compared with what a user would write otherwise?",
    source="benchmark",
    method="""The work is that of `optimizer_compare_mnist`: the notes' network, minibatches of 128, SGD, Momentum,
AdaGrad and Adam on K/4 seeds each (K = 1: Adam alone), gathering, forward, backward and update, and the loss recorded
after the update. Two other networks can be taken instead, both trained by Adam on K seeds, with the loss before the
update: convolutions to 16 and 32 channels with maxima of 2 × 2 between them and a dense layer of 128, on minibatches of
64 images; and a transformer of two blocks of width 64, on 32 windows of 64 characters. The contenders alternate; every
time is a median of laps, and is compared with the best float32 matrix product that any of them reaches on this machine
in the same run. Contenders whose package is not installed are left out, and printed.""",
    takes="about a minute on two cores; the README's table takes twenty "
    "(--contenders all --networks 1 4 16 64 256 1024 --laps 5), and --network cnn or transformer five each",
    alone=True,
    config=Config,
    quick={"networks": (4,), "laps": 1, "lap": 40, "measure_memory": False},
    run=run,
    claims=tuple(faster(contender, aim, aims is AIMS) for aims in (AIMS, OTHERS) for contender, aim in aims.items()),
    figures={"cost_per_network": cost_per_network},
    summary=table,
    tables=lambda ds: {"benchmark": rows(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
