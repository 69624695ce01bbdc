"""What does one update of every hand-written rule cost, beside its optax twin and the machine's memory?"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.benchmarks import _timing
from fnn import lab, optim
from fnn.base import provenance
from fnn.base.errors import require
from fnn.base.statistics import by_ranks
from fnn.lab import plotting
from fnn.lab.titles import title
from fnn.rule import Rule, twins

CONTENDERS = {"fnn": optim.rule, "optax": lambda spec: twins.twin(spec, optim.rule(spec).hyper)}
CONTROL = "adam"
"""The rule whose twin is timed against itself, as a control."""
TREES = {"many small": 32, "few large": 4}
"""Numbers of square matrices in a model."""

AIM = 0.9
"""The aim: the largest median time of an update over its twin's."""
NEAR = 1.3
"""The aim: the largest time of an elementwise update over its bound."""
CHANCE = 0.025
"""The share of pairs of equal programs in which the first is slower with its whole 95 % interval."""


@dataclass(frozen=True)
class Config(lab.Options):
    """Settings of the benchmark."""

    seeds: _timing.Fixed = 1
    """Of weights and gradients."""
    rules: tuple[str, ...] = ("sgd", "momentum", "adam", "lion", "lamb")
    """Rules to time, NAME or NAME:DIALECT, or all that have a twin (in their own form)."""
    sizes: tuple[int, ...] = (10_000, 1_000_000, 10_000_000)
    """Numbers of parameters."""
    laps: int = 15
    """Timed laps of each contender; the median counts."""
    lap: float = 0.01
    """The least time of a lap, in seconds; it has as many updates as that takes."""
    patience: float = 0.4
    """Seconds after which a model has at most three laps, for slow rules."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(laps=1, lap=0, patience=0)
        self.check_distinct(rules="rule", sizes="number of parameters")
        least = max(TREES.values())
        for size in self.sizes:
            require(size >= least, f"--sizes takes numbers of parameters from {least} on, not {size}.")
        for spec in self.specs():
            twins.twin(spec, optim.rule(spec).hyper)

    def specs(self) -> list[str]:
        """The rules to time."""
        return [name for name in optim.names() if name in twins.TWINS] if self.rules == ("all",) else list(self.rules)


def run(cfg: Config) -> xr.Dataset:
    """Times of the rules; after an interrupt, of those that are done."""
    specs = cfg.specs()
    device = provenance.describe_devices(jax.local_devices())
    print(f"{len(specs)} rules and their twins at {', '.join(map('{:,}'.format, cfg.sizes))} parameters")
    print(f"in trees of {' and '.join(f'{n} ({tree})' for tree, n in TREES.items())} arrays on {device}", flush=True)
    with _timing.uncached():
        return measure(cfg, specs).assign_attrs(device=device)


def measure(cfg: Config, specs: Sequence[str]) -> xr.Dataset:
    """The times of all rules up to an interrupt, and the control's; `attrs["complete"]` is whether there was none."""
    control = ratios(timed(cfg, [twins.twin(CONTROL, optim.rule(CONTROL).hyper)] * len(CONTENDERS)))
    found, complete = [], 1
    bar = tqdm(specs, unit="rule", disable=None, leave=False)
    try:
        for number, spec in enumerate(bar):
            bar.set_description(spec)
            found.append(timed(cfg, [find(spec) for find in CONTENDERS.values()], number))
    except KeyboardInterrupt:
        complete = 0
        if not found:
            raise
    finally:
        bar.close()
    ds = xr.concat(found, xr.DataArray(specs[: len(found)], dims="rule", name="rule"))
    control.attrs = {"long_name": "time of a program over that of an equal one", "units": "1"}
    return ds.assign(control=control).assign_attrs(complete=complete)


def timed(cfg: Config, rules: Sequence[Rule], number: int = 0) -> xr.Dataset:
    """Times of a rule and its twin, at every size and in both trees. The order of building alternates with model and
    `number`."""
    sizes = sorted(cfg.sizes)
    shape = len(CONTENDERS), len(sizes), len(TREES)
    seconds, triad = np.empty((*shape, cfg.laps)), np.empty((*shape[1:], cfg.laps))
    compiling, peak, moved = np.empty(shape), np.empty(shape, np.int64), np.empty(shape, np.int64)
    elementwise = False
    for s, (t, leaves) in itertools.product(range(len(sizes)), enumerate(TREES.values())):
        model = _timing.squares(leaves, sizes[s])
        # Code built first is placed better in memory, and later code compiles faster from caches.
        turn = (-1) ** (number + s + t)
        programs = [_timing.update(rule, *model) for rule in rules[::turn]][::turn]
        times = _timing.in_turns([*programs, _timing.triad(sizes[s])], cfg.laps, cfg.lap, cfg.patience)
        seconds[:, s, t], triad[s, t] = times[:-1], times[-1]
        compiling[:, s, t] = [program.compile_seconds for program in programs]
        peak[:, s, t] = [program.peak_bytes() for program in programs]
        moved[:, s, t] = [program.moved_bytes() for program in programs]
        elementwise = programs[0].elementwise()
    dims = ("contender", "parameters", "tree")
    return xr.Dataset(
        {
            "seconds": ((*dims, "lap"), seconds, {"long_name": "time per update", "units": "s"}),
            "triad": ((*dims[1:], "lap"), triad, {"long_name": "time per a ← a + s · b", "units": "s"}),
            "compile_seconds": (dims, compiling, {"long_name": "time to compile", "units": "s"}),
            "peak_bytes": (dims, peak, {"long_name": "memory held at most", "units": "B"}),
            "moved_bytes": (dims, moved, {"long_name": "memory read and written at least", "units": "B"}),
            "elementwise": ((), elementwise, {"long_name": "whether every number is updated by itself"}),
        },
        {"contender": list(CONTENDERS), "parameters": sizes, "tree": list(TREES), "lap": np.arange(cfg.laps)},
    )


def bandwidth(ds: xr.Dataset) -> xr.DataArray:
    """Bytes per second of a ← a + s · b, by the number of parameters: the median of all its laps."""
    number = 3 * np.dtype(np.float32).itemsize * ds.parameters
    return number / ds.triad.median(("rule", "tree", "lap"))


def ratios(ds: xr.Dataset) -> xr.DataArray:
    """Our time over the twin's, lap by lap: rule, parameters, tree, lap."""
    return ds.seconds.sel(contender="fnn", drop=True) / ds.seconds.sel(contender="optax", drop=True)


def bounds(ds: xr.Dataset) -> xr.DataArray:
    """The time of an update over its memory bound, lap by lap."""
    return ds.seconds / (ds.moved_bytes / bandwidth(ds))


def compile_ratios(ds: xr.Dataset) -> xr.DataArray:
    """Our time to compile over the twin's, of all models of a rule together."""
    total = ds.compile_seconds.sum(("parameters", "tree"))
    return total.sel(contender="fnn", drop=True) / total.sel(contender="optax", drop=True)


def median_interval(laps: np.ndarray) -> tuple[float, float, float]:
    """(median, low, high) of the laps that were taken, with the 95 % interval of ranks (the sign test's).

    Fewer than six laps have no interval: it is from −∞ to ∞.
    """
    median, low, high = map(float, by_ranks(laps[~np.isnan(laps)]))
    return median, low, high


def rows(ds: xr.Dataset) -> list[dict]:
    """The measurements, one row per contender, rule, size and tree."""
    found = []
    ratio, bound = ratios(ds), bounds(ds).median("lap")
    for spec, size, tree in itertools.product(ds.rule.values, ds.parameters.values, ds.tree.values):
        at = {"rule": spec, "parameters": size, "tree": tree}
        median, *ends = median_interval(ratio.sel(at).values)
        low, high = (end if np.isfinite(end) else None for end in ends)
        for contender in ds.contender.values:
            one = ds.sel(at | {"contender": contender})
            found.append(
                {
                    "contender": str(contender),
                    "rule": str(spec),
                    "parameters": int(size),
                    "tree": str(tree),
                    "seconds": float(one.seconds.median()),
                    "fraction_of_peak": 1 / float(bound.sel(at | {"contender": contender})),
                    "compile_seconds": float(one.compile_seconds),
                    "peak_bytes": int(one.peak_bytes),
                    "moved_bytes": int(one.moved_bytes),
                    "elementwise": bool(one.elementwise),
                    "laps": int(one.seconds.notnull().sum()),
                    **({"of_twin": median, "low": low, "high": high} if contender == "fnn" else {}),
                }
            )
    return found


def by_cost(ds: xr.Dataset) -> list[str]:
    """The rules, the one that costs most beside its twin first."""
    cost = xr.apply_ufunc(np.log, ratios(ds).median("lap")).mean(("parameters", "tree"))
    return [str(spec) for spec in ds.rule.values[np.argsort(-cost.values)]]


def table(ds: xr.Dataset) -> str:
    """Our time over the twin's at every size and in every tree, one line per rule, the worst first."""
    ratio, compiling, bound = ratios(ds).median("lap"), compile_ratios(ds), bounds(ds).median("lap")
    cells = list(itertools.product(ds.parameters.values, ds.tree.values))
    found = zip(ds.parameters.values, bandwidth(ds).values, strict=True)
    rates = ", ".join(f"{rate / 1e9:.1f} at {size:,}" for size, rate in found)
    lines = [
        f"a ← a + s · b moves GB/s: {rates} numbers.",
        f"{'':28}" + "".join(f"{size:>14,}" for size, _ in cells),
        f"{'ours / twin':28}" + "".join(f"{tree:>14}" for _, tree in cells) + f"{'compile':>10}{'× bound':>10}",
    ]
    for spec in by_cost(ds):
        numbers = "".join(f"{float(ratio.sel(rule=spec, parameters=n, tree=tree)):14.2f}" for n, tree in cells)
        last = ds.sel(rule=spec)
        worst = float(bound.sel(rule=spec, contender="fnn", parameters=ds.parameters.max()).max())
        at_bound = f"{worst:10.2f}" if last.elementwise else f"{'–':>10}"
        lines.append(f"{title(spec):28}{numbers}{float(compiling.sel(rule=spec)):10.2f}{at_bound}")
    equal = ds.control.median("lap")
    numbers = "".join(f"{float(equal.sel(parameters=n, tree=tree)):14.2f}" for n, tree in cells)
    return "\n".join([*lines, f"{'equal programs':28}{numbers}"])


def ladder(names: list[str], trees: list[str], label: str) -> tuple[Figure, list]:
    """One panel per tree, with one rung per rule and the first of them on top."""
    fig = plotting.figure(9.0, 2.0 + 0.24 * len(names))
    panels = fig.subplots(1, len(trees), sharey=True, squeeze=False)[0]
    for ax, tree in zip(panels, trees, strict=True):
        plotting.dress(ax, xlabel=label)
        ax.set_title(f"{TREES[tree]} arrays ({tree})", fontsize="medium")
    panels[0].set_yticks(range(len(names)), [title(name) for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return fig, list(panels)


def beside_twin(ds: xr.Dataset) -> Figure:
    """Our time over the twin's, at every size."""
    names, trees = by_cost(ds), [str(tree) for tree in ds.tree.values]
    fig, panels = ladder(names, trees, "time of an update, ours / twin's")
    ratio, n = ratios(ds), ds.sizes["parameters"]
    for ax, tree in zip(panels, trees, strict=True):
        for number, size in enumerate(ds.parameters.values):
            found = np.array([median_interval(ratio.sel(rule=r, parameters=size, tree=tree).values) for r in names])
            rung = np.arange(len(names)) + 0.5 * (number / max(n - 1, 1) - 0.5)
            reach = np.abs(found[:, 1:] - found[:, :1]).T
            reach = np.where(np.isfinite(reach), reach, 0)  # few laps have no interval
            style = {"color": plotting.color(number), "marker": plotting.MARKERS[number], "markersize": 3}
            ax.errorbar(found[:, 0], rung, xerr=reach, linestyle="none", linewidth=1, label=f"{size:,}", **style)
        ax.axvline(1, color="0.4", linestyle="--", linewidth=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        # Ticks are at powers of 2: with one on either side of 1 the scale can be read.
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, 0.48), max(high, 2.1))
    plotting.legend(fig, n, "What a hand-written update costs beside optax's, by the number of parameters", panels[0])
    plotting.caption(
        fig,
        f"{ds.device} · float32, state and parameters overwritten · medians of {ds.sizes['lap']} laps in turns with "
        "their 95 % intervals",
    )
    return fig


def of_bound(ds: xr.Dataset) -> Figure | None:
    """The share of the memory's rate that the elementwise rules reach at the largest size; None without such rules."""
    if not ds.elementwise.any():
        return None
    size = int(ds.parameters.max())
    some = ds.sel(rule=ds.rule[ds.elementwise])
    share = (1 / bounds(some).median("lap")).sel(parameters=size)
    share = share.sortby(share.sel(contender="fnn").mean("tree"))
    trees = [str(tree) for tree in ds.tree.values]
    fig, panels = ladder([str(name) for name in share.rule.values], trees, "share of the memory's rate")
    for ax, tree in zip(panels, trees, strict=True):
        for number, contender in enumerate(ds.contender.values):
            at = share.sel(contender=contender, tree=tree)
            filled = {"markerfacecolor": "none"} if number else {}
            style = {"color": plotting.color(number), "marker": plotting.MARKERS[0], "markersize": 5}
            ax.plot(at, np.arange(at.size), linestyle="none", label=str(contender), **style, **filled)
        ax.axvline(1, color="0.4", linewidth=1, label="a ← a + s · b")
        ax.axvline(1 / NEAR, color="0.4", linestyle="--", linewidth=1, label=f"{NEAR:g} × its time per byte")
        ax.set_xlim(0, None)
    plotting.legend(fig, 4, f"How near elementwise updates of {size:,} parameters come to the memory's rate", panels[0])
    rate = float(bandwidth(ds).sel(parameters=size)) / 1e9
    plotting.caption(
        fig,
        f"{ds.device} · a ← a + s · b on {size:,} numbers moved {rate:.1f} GB/s · bytes an update must read and write, "
        f"over its time · medians of {ds.sizes['lap']} laps",
    )
    return fig


def medians(ds: xr.Dataset) -> xr.DataArray:
    """The median ratio over rules, sizes and trees, lap by lap."""
    ratio = ratios(ds)
    whole = ratio.fillna(ratio.median("lap"))  # a slow rule's laps that were left out
    return whole.median(("rule", "parameters", "tree"))


def judged(ds: xr.Dataset) -> tuple[xr.DataArray, np.ndarray]:
    """The ratios `[update, lap]` of all updates whose laps give an interval, and `median_interval` of each."""
    ratio = ratios(ds).stack(update=("rule", "parameters", "tree")).transpose("update", "lap")
    found = np.array([median_interval(laps) for laps in ratio.values])
    known = np.isfinite(found).all(1)
    return ratio[known], found[known]


def not_slower(ds: xr.Dataset) -> xr.DataArray:
    """Whether the interval of each update includes the twin's time or less."""
    _, found = judged(ds)
    return xr.DataArray(found[:, 1] <= 1, dims="update")


def slowest(ds: xr.Dataset) -> str:
    """The sentence on the update with the highest interval."""
    ratio, found = judged(ds)
    if not len(found):
        return ""
    worst = int(np.lexsort((found[:, 0], found[:, 1]))[-1])
    rule, size, tree = ratio.update[worst].item()
    middle, low, high = found[worst]
    return (
        f"Of {len(found)} updates {int((found[:, 1] > 1).sum())} are slower with their whole 95 % interval, where "
        f"equal ones would be in {CHANCE:.1%}. Slowest beside its twin is {title(rule)} at {size:,} parameters in "
        f"{tree} arrays: {middle:.2f} of its time [{low:.2f}, {high:.2f}], the highest of all intervals."
    )


def of_elementwise(ds: xr.Dataset) -> xr.DataArray:
    """The time of elementwise updates over their bound at the largest size, in the laps that all of them have."""
    size = int(ds.parameters.max())
    some = bounds(ds).sel(rule=ds.rule[ds.elementwise], contender="fnn", parameters=size, drop=True)
    times = some.stack(update=("rule", "tree")).transpose("lap", "update").dropna("lap")
    names = [f"{title(rule)} in {tree} arrays" for rule, tree in times.update.values]
    return times.drop_vars(("update", "rule", "tree")).assign_coords(update=names)


def within_aim(ds: xr.Dataset) -> str:
    """The sentence on how many elementwise updates are near the bound."""
    medians = of_elementwise(ds).median("lap")
    return (
        f"At {int(ds.parameters.max()):,} parameters the medians of {int((medians <= NEAR).sum())} of {medians.size} "
        f"are within the aim, and the median of all is {float(medians.median()):.2f}."
    )


def dearest_to_compile(ds: xr.Dataset) -> str:
    """The sentence on the rule with the longest compilation relative to its twin's."""
    ratio = compile_ratios(ds)
    worst = ratio.isel(rule=int(ratio.argmax("rule")))
    models = ds.sizes["parameters"] * ds.sizes["tree"]
    return (
        f"The mean of rules, each compiled for {models} models; {title(str(worst.rule.item()))} takes most beside its "
        f"twin, {float(worst):.2f} of its time."
    )


EXPERIMENT = lab.Experiment(
    question="What does one update of every hand-written rule cost, beside its optax twin and the machine's memory?",
    source="benchmark",
    method="""Updates are timed as a training loop does them: `update` and `apply_updates` in one compiled program with
traced hyperparameters, which overwrites state and parameters. Models are trees of many small and of few
large square float32 matrices. Ours, the twin and, for the memory's rate, a ← a + s · b on arrays of as many numbers as
there are parameters alternate; every time is a median of laps, every ratio a median of the laps' ratios. As a control,
one program is built twice and timed against itself, which shows the difference of equal programs.

The bound is the time to read (gradients, parameters, state) and to write (parameters, state) once each at the memory's
rate. It applies to elementwise rules at sizes above any cache; others must read everything twice or do more than move
it.

What some rules need of the loss beside its gradient is computed from a quadratic that costs little, the same for both
sides. Work done on few updates only (GaLore's singular vectors, Sophia's curvature) is in few laps and hardly changes
a median.

Of many updates some are slower than their twins' by chance: equal programs are with their whole 95 % interval in 2.5 %
of cases. So the updates that are slower are counted, and their share is compared with that; an update of fewer than
six laps has no interval and is not counted.""",
    takes="about a minute on two cores; all rules (--rules all) take six",
    alone=True,
    config=Config,
    quick={"rules": ("sgd", "adam", "lamb"), "sizes": (10_000, 100_000), "laps": 6},
    run=run,
    claims=(
        lab.Claim(
            f"The median update takes at most {AIM:g} of its optax twin's time",
            medians,
            lab.below(AIM),
            "of the twin's time",
            figure="beside_twin",
            repeats="lap",
        ),
        lab.Claim(
            "Fewer updates are slower than their optax twins' than equal programs are by chance",
            not_slower,
            lab.share(1 - CHANCE),
            figure="beside_twin",
            detail=slowest,
            repeats="update",
        ),
        lab.Claim(
            f"Elementwise updates of the most parameters take at most {NEAR:g} × the memory's time",
            of_elementwise,
            lab.below(NEAR),
            "× the bound",
            figure="of_bound",
            each="update",
            detail=within_aim,
            where=lambda ds: bool(ds.elementwise.any()),
            repeats="lap",
        ),
        lab.Claim(
            "Compiling an update takes on average at most its optax twin's time",
            compile_ratios,
            lab.below(1),
            "of the twin's time",
            figure="beside_twin",
            detail=dearest_to_compile,
            repeats="rule",
        ),
    ),
    figures={"beside_twin": beside_twin, "of_bound": of_bound},
    summary=table,
    tables=lambda ds: {"benchmark": rows(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
