"""How do initial weights shape the activations of deep layers? (notes §2.2–2.3, figures 07, 08, 09 and 10)

Sends 1,000 Gaussian examples through 5 layers of 100 units, x ← φ(x W) without biases, and looks at the activations
of every layer: sigmoid with weights of std 1, of std 0.01 and Xavier's, tanh with Xavier's, ReLU with std 0.01,
Xavier's and He's. Nothing is learnt. Beside the measured stands what theory says of infinitely wide layers.

The notes say: std 1 pushes the sigmoid to 0 and 1, where gradients vanish; std 0.01 gathers all units at 0.5; Xavier's
weights keep breadth, a little slanted in late layers, and with tanh the distribution is a fine bell. With ReLU, std
0.01 leaves next to nothing, Xavier's weights drift with depth and He's hold. Why the factor 2 in He's? is left open.

A slip: the notes' listing of Xavier multiplies by √n where it must divide by it. Xavier here divides; the listing as
printed is measured beside it.

Uses no data set: --dataset and --data-dir change nothing.
Takes about 15 seconds for 50 networks a setting on two cores.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.figure import Figure
from scipy.special import expit, logit, ndtr

from experiments import _cli, _lab
from fnn import init, instruments, layers
from fnn.base import provenance
from fnn.base.errors import require
from fnn.base.statistics import interval
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide
from fnn.train import Record, Run, engine

BINS = 30
FIFTH = BINS // 5
CUT = 0.07
"""Where the notes cut their ReLU histograms off: at 7,000 of 100,000 activations."""
TOLERANCE = 0.10
"""What is kept from layer to layer changes by a factor within 1 ± this."""
WITHIN = f"within {100 * TOLERANCE:.0f} % a layer"
GAINS2 = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""The n · Var[w] of the sweep that asks why 2."""


class Activation(NamedTuple):
    """φ for the networks, φ and φ⁻¹ in float64 for the theory, and the range that its histogram covers."""

    f: Callable[[Array], Array]
    exact: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    low: float
    high: float
    bounded: bool = True


ACTIVATIONS = {
    "sigmoid": Activation(layers.sigmoid, expit, logit, 0.0, 1.0),
    "tanh": Activation(layers.tanh, np.tanh, lambda y: logit((y + 1) / 2) / 2, -1.0, 1.0),
    "ReLU": Activation(
        layers.relu, lambda x: np.maximum(x, 0), lambda y: np.where(y <= 0, -np.inf, y), 0.0, 1.0, bounded=False
    ),
}

# A weight here is Gaussian with standard deviation gain / √n: this one number is all that tells initializers apart.
GAIN: dict[str, Callable[[int], float]] = {
    "std 1": lambda n: n**0.5,
    "std 0.01": lambda n: 0.01 * n**0.5,
    "Xavier": lambda n: 1.0,
    "Xavier as printed": lambda n: float(n),
    "He": lambda n: 2**0.5,
}
SETTINGS = {
    "sigmoid": ("std 1", "std 0.01", "Xavier", "Xavier as printed"),
    "tanh": ("Xavier",),
    "ReLU": ("std 0.01", "Xavier", "He"),
}
SWEPT: dict[str, Callable[[Array], Array]] = {"linear": layers.identity, "ReLU": layers.relu}


@dataclass(frozen=True)
class Config(_cli.Options):
    """Sizes of the experiment; the defaults are the notes', over many networks instead of one."""

    seeds: int = 50
    """How many networks a setting gets, each with its own weights and inputs."""
    layers: int = 5
    """Layers of a network, 2 to 10."""
    width: int = 100
    """Units of a layer, and inputs of an example."""
    examples: int = 1000
    """Gaussian examples sent through every network."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        require(2 <= self.layers <= 10, f"--layers is 2 to 10, not {self.layers}.")
        self.check_at_least(width=2, examples=2)


QUICK = Config(seeds=10, dataset="mnist_5k", quick=True)


# -- measuring --


def deepening(f: Callable[[Array], Array], look: Callable[[Array, Array, Array], Record], cfg: Config) -> Run:
    """A batch on its way through a network, as a run: its state is the batch, and a step is one more layer.

    look: what to record of a layer, by its inputs, its sums x W and its activations.
    """

    def start(gain, key, data):
        return jax.random.normal(jax.random.fold_in(key, 0), (cfg.examples, cfg.width))

    def draw(key, data, i):
        return jax.random.fold_in(key, i + 1)

    def step(gain, data, x, key):
        layer = layers.serial(layers.affine(cfg.width, init.xavier(gain=gain)), layers.elementwise(f))
        params, stats = layer.init(key, x)
        sums, y = instruments.activations(layer, params, stats, x)
        return y, look(x, sums, y)

    return Run(start, step, draw)


def sizes(x: Array, sums: Array, y: Array) -> Record:
    """E[·²] of what goes into a layer, of its sums and of what comes out."""
    measured = {"input_mean_square": x, "sum_mean_square": sums, "mean_square": y}
    return {name: instruments.mean_square(values) for name, values in measured.items()}


def portrait(phi: Activation) -> Callable[[Array, Array, Array], Record]:
    """Everything that is measured of a layer's activations."""

    def look(x, sums, y):
        return {
            **sizes(x, sums, y),
            "share": instruments.histogram(y, jnp.linspace(phi.low, phi.high, BINS + 1)),
            "mean": y.mean(),
            "std": y.std(),
            "unit_std": jnp.sqrt(y.var(1).mean()),
            "example_std": jnp.sqrt(y.var(0).mean()),
            "saturated": instruments.saturated(y, phi.low, phi.high) if phi.bounded else jnp.full((), jnp.nan),
            "dead": instruments.dead(y),
        }

    return look


def run(cfg: Config) -> xr.Dataset:
    """Send the examples through all networks, a layer at a time."""
    runs = {name: deepening(phi.f, portrait(phi), cfg) for name, phi in ACTIVATIONS.items()}
    hps: dict[str, Any] = {
        name: jnp.asarray([GAIN[weights](cfg.width) for weights in SETTINGS[name]]) for name in ACTIVATIONS
    }
    for name, f in SWEPT.items():
        runs[f"{name} swept"] = deepening(f, sizes, cfg)
        hps[f"{name} swept"] = jnp.sqrt(jnp.asarray(GAINS2))
    chunks = _lab.stream(
        cfg,
        {name: engine.over_hypers(one) for name, one in runs.items()},
        hps,
        engine.seeds(cfg.seeds),
        (),
        cfg.layers,
        chunk=1,
    )
    networks = cfg.seeds * sum(map(len, hps.values()))
    print(
        f"{networks:,} networks of {cfg.layers} layers of {cfg.width} units, {cfg.examples:,} Gaussian examples each, "
        f"no data set, on {provenance.describe_devices(jax.local_devices())}",
        flush=True,
    )
    followed = _lab.follow(chunks, cfg.layers)
    ds = label(cfg, followed.record).assign_attrs(followed.attrs)
    print(summary(ds))
    return ds


LONG_NAMES = {
    "share": "share of activations in a bin",
    "mean": "mean activation",
    "std": "standard deviation of all activations",
    "unit_std": "standard deviation over units, root mean square over examples",
    "example_std": "standard deviation over examples, root mean square over units",
    "saturated": "share of activations within 5 % of a bound",
    "dead": "share of units that give 0 for every example",
    "mean_square": "E[x²] of activations",
    "sum_mean_square": "E[(xW)²] of the sums",
    "input_mean_square": "E[x²] of the inputs",
}


def label(cfg: Config, record: Mapping[str, Record]) -> xr.Dataset:
    """The record as one labelled data set: dims setting, seed, layer and bin; those of the sweep: swept, gain2."""
    pairs = [(activation, weights) for activation, some in SETTINGS.items() for weights in some]
    dims = {"share": ("setting", "seed", "layer", "bin")}
    over_settings = {
        name: np.concatenate([np.moveaxis(record[activation][name], 2, 0) for activation in SETTINGS])
        for name in record["sigmoid"]
    }
    swept = np.stack([record[f"{name} swept"]["mean_square"] for name in SWEPT])
    done = swept.shape[2]
    gains = [GAIN[weights](cfg.width) for _, weights in pairs]
    ds = xr.Dataset(
        {
            name: (dims.get(name, ("setting", "seed", "layer")), values, {"long_name": LONG_NAMES[name], "units": "1"})
            for name, values in over_settings.items()
        },
        {
            "setting": [f"{activation}, {weights}" for activation, weights in pairs],
            "seed": np.arange(cfg.seeds),
            "layer": np.arange(1, done + 1),
            "swept": list(SWEPT),
            "gain2": ("gain2", list(GAINS2), {"long_name": "gain² = n · Var[w]", "units": "1"}),
        },
        {"width": cfg.width, "examples": cfg.examples},
    )
    edges = [np.linspace(ACTIVATIONS[a].low, ACTIVATIONS[a].high, BINS + 1) for a, _ in pairs]
    ds["edges"] = ("setting", "edge"), np.stack(edges), {"units": "1"}
    ds["predicted_share"] = (
        ("setting", "layer", "bin"),
        [shares_in_the_limit(ACTIVATIONS[a], g, done, e) for (a, _), g, e in zip(pairs, gains, edges, strict=True)],
        {"long_name": "share of activations in a bin, in infinitely wide layers", "units": "1"},
    )
    ds["predicted_mean_square"] = (
        ("setting", "layer"),
        [wide_limit(ACTIVATIONS[a].exact, g, done) for (a, _), g in zip(pairs, gains, strict=True)],
        {"long_name": "E[x²] in infinitely wide layers", "units": "1"},
    )
    ds["swept_mean_square"] = ("swept", "seed", "layer", "gain2"), swept, ds.mean_square.attrs
    return ds


# -- theory: in infinitely wide layers the sums are Gaussian, so one variance a layer says everything --


def wide_limit(f: Callable[[np.ndarray], np.ndarray], gain: float, depth: int) -> np.ndarray:
    """E[x²] after each of `depth` infinitely wide layers: q ← E[φ(gain √q z)²] with z ~ N(0, 1), from q = 1.

    Poole et al. 2016, arXiv:1606.05340, §2. With ReLU q ← q gain²/2, which gain² = 2 keeps (He et al. 2015,
    arXiv:1502.01852, eq. 10): in expectation over the weights at any width, as it takes no more than their symmetry.
    """
    # Not Gauss–Hermite: its nodes are too far apart for a sigmoid as steep as std 1 makes it. On smooth functions that
    # vanish at both ends the plain trapezoid converges geometrically (Trefethen & Weideman 2014, SIAM Review 56).
    z, spacing = np.linspace(-12, 12, 24_001, retstep=True)
    weight = spacing * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    q, found = 1.0, []
    for _ in range(depth):
        q = float(weight @ f(gain * np.sqrt(q) * z) ** 2)
        found.append(q)
    return np.asarray(found)


def shares_in_the_limit(phi: Activation, gain: float, depth: int, edges: np.ndarray) -> np.ndarray:
    """The shares `[depth, bins]` in infinitely wide layers; below an edge lies Φ(φ⁻¹(edge) / std of the sums)."""
    before = np.concatenate([[1.0], wide_limit(phi.exact, gain, depth)[:-1]])
    return np.diff(ndtr(phi.inverse(edges) / (gain * np.sqrt(before[:, None]))))


# -- what is read off the measurements, one number a seed --


def breadth(share: np.ndarray) -> np.ndarray:
    """How many equally full bins would be as broad: exp of the entropy of the shares `[…, bins]`."""
    logs = np.log(share, where=share > 0, out=np.zeros_like(share))
    return np.exp(-(share * logs).sum(-1))


def slant(share: np.ndarray) -> np.ndarray:
    """The share of activations that would have to move to make a histogram `[…, bins]` its own mirror image."""
    return abs(share - share[..., ::-1]).sum(-1) / 2


def hump(share: np.ndarray) -> np.ndarray:
    """By how much the middle fifth of a histogram `[…, bins]` holds more than the fifths beside it: a bell's is > 0."""
    fifths = share.reshape(*share.shape[:-1], 5, FIFTH).sum(-1)
    return fifths[..., 2] - (fifths[..., 1] + fifths[..., 3]) / 2


def factor(values: np.ndarray) -> np.ndarray:
    """The factor a layer by which `values` `[seed, layer]` grow from the first layer to the last, for each seed."""
    steps = values.shape[1] - 1
    if not steps:
        return np.full(len(values), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (values[:, -1] / values[:, 0]) ** (1 / steps)


def room(values: np.ndarray) -> np.ndarray:
    """In points, how far the factor a layer of `values` `[seed, layer]` is inside 1 ± `TOLERANCE`: positive if kept."""
    return 100 * (TOLERANCE - abs(factor(values) - 1))


def keeping_gain2(ds: xr.Dataset, name: str) -> np.ndarray:
    """For each seed the gain² at which E[x²] neither grows nor shrinks, between those swept."""
    sizes = ds.swept_mean_square.sel(swept=name)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.stack([np.log(factor(sizes.sel(gain2=g).values)) for g in ds.gain2.values], 1)
    return np.exp([np.interp(0, log, np.log(ds.gain2.values)) for log in logs])


# -- figures --


def inputs(ds: xr.Dataset) -> str:
    """In place of a data set."""
    return f"{ds.examples:,} Gaussian examples, layers of {ds.width} units"


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of many networks carries."""
    return _lab.about(ds, inputs(ds), *details)


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """The notes' figures as they are, then with their spread and theory, then what explains them."""
    sigmoid, relu = ([f"{a}, {w}" for w in SETTINGS[a]] for a in ("sigmoid", "ReLU"))
    std_1, std_001, xavier, printed = sigmoid
    return {
        "07_std_1": histograms(ds, [std_1], "Sigmoid, weights of std 1 (notes, figure 07)"),
        "08_std_0.01": histograms(ds, [std_001], "Sigmoid, weights of std 0.01 (notes, figure 08)"),
        "09_xavier": histograms(ds, [xavier], "Sigmoid, Xavier's weights (notes, figure 09)"),
        "09_xavier_as_printed": histograms(ds, [printed], "Sigmoid, Xavier as the notes print it: std √n, not 1/√n"),
        "tanh_xavier": histograms(ds, ["tanh, Xavier"], "tanh, Xavier's weights (notes, §2.2.3)"),
        "10_relu": histograms(ds, relu, "ReLU, three initializers (notes, figure 10)"),
        "07_09_spread": spreads(ds, [std_1, std_001, xavier, "tanh, Xavier"], "Sigmoid and tanh in many networks"),
        "10_relu_spread": spreads(ds, relu, "ReLU in many networks"),
        "breadth": breadths(ds),
        "mean_square": mean_squares(ds),
        "why_2": why_2(ds),
    }


def panels(ds: xr.Dataset, settings: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """A row of panels a setting, a panel a layer; the y axis, the same along a row, is labelled at the left alone."""
    fig = plotting.figure(10.5, 1.1 + 1.6 * len(settings))
    axs = fig.subplots(len(settings), ds.sizes["layer"], sharey="row", squeeze=False)
    for row, setting in zip(axs, settings, strict=True):
        low, high = ds.edges.sel(setting=setting).values[[0, -1]]
        ticks = low, (low + high) / 2, high
        for ax in row:
            ax.set(xlim=(low, high), xticks=ticks, xticklabels=[f"{tick:g}".replace("-", "−") for tick in ticks])
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(left=ax is row[0], labelsize="small")
    for ax, layer in zip(axs[0], ds.layer.values, strict=True):
        ax.set_title(f"{layer}-layer", fontsize="medium")
    for ax in axs[-1]:
        ax.set_xlabel("activation", fontsize="small")
    return fig, axs


def histograms(ds: xr.Dataset, settings: Sequence[str], title: str) -> Figure:
    """The notes' figure: the activations of one network, counted in 30 bins."""
    fig, axs = panels(ds, settings)
    fig.suptitle(title, fontsize="large")
    values = ds.examples * ds.width
    for row, setting in zip(axs, settings, strict=True):
        one = ds.sel(setting=setting).isel(seed=0)
        for ax, share in zip(row, one.share.values, strict=True):
            ax.stairs(values * share, one.edges.values, fill=True, color=plotting.colour(0))
        activation, weights = setting.split(", ")
        row[0].set_ylabel("activations" if len(settings) == 1 else f"{weights}\nactivations")
        if not ACTIVATIONS[activation].bounded:
            row[0].set_ylim(0, CUT * values)
    cut = (
        ""
        if ACTIVATIONS[settings[0].split(", ")[0]].bounded
        else " · cut off where the notes cut, as are the bins at 0"
    )
    plotting.caption(fig, f"{inputs(ds)} · one network, as in the notes{cut}")
    return fig


def spreads(ds: xr.Dataset, settings: Sequence[str], title: str) -> Figure:
    """Mean shares over the seeds, the range of single networks, and the wide limit."""
    fig, axs = panels(ds, settings)
    labels = "95 % of the networks", "mean over networks", "infinitely wide layers, predicted"
    for row, setting in zip(axs, settings, strict=True):
        one = ds.sel(setting=setting)
        edges, shares, predicted = one.edges.values, 100 * one.share.values, 100 * one.predicted_share.values
        for i, ax in enumerate(row):
            band, mean, theory = labels if ax is axs[0, 0] else (None,) * 3
            low, high = np.quantile(shares[:, i], [0.025, 0.975], axis=0)
            ax.stairs(high, edges, baseline=low, fill=True, color=plotting.colour(0), alpha=0.3, label=band)
            ax.stairs(shares[:, i].mean(0), edges, color=plotting.colour(0), linewidth=1.2, label=mean)
            ax.plot((edges[1:] + edges[:-1]) / 2, predicted[i], "k.", markersize=3, label=theory)
            if not ACTIVATIONS[setting.split(", ")[0]].bounded:
                ax.set_ylim(0, 100 * CUT)
                first = f"first bin: {shares[:, i, 0].mean():.0f} %\n(predicted {predicted[i, 0]:.0f} %)"
                ax.text(0.97, 0.95, first, transform=ax.transAxes, ha="right", va="top", fontsize="small")
        row[0].set_ylim(bottom=0)
        row[0].set_ylabel(f"{setting}\nshare (%)", fontsize="small")
    plotting.legend(fig, title=title)
    plotting.caption(fig, about(ds, f"{BINS} bins"))
    return fig


def breadths(ds: xr.Dataset) -> Figure:
    """Four views of how broad the activations of the S-shaped functions are, layer by layer."""
    settings = [setting for setting in ds.setting.values if not setting.startswith("ReLU")]
    views = {
        "saturated": ("within 5 % of a bound", "share (%)"),
        "breadth": ("breadth of the histogram", f"equally full bins, of {BINS}"),
        "std": ("spread of all activations", "standard deviation"),
        "example_std": ("spread of a unit over the examples", "standard deviation"),
    }
    fig = plotting.figure(8.6, 6.2)
    axs = fig.subplots(2, 2, sharex=True)
    for ax, (view, (title, unit)) in zip(axs.flat, views.items(), strict=True):
        for number, setting in enumerate(settings):
            values = breadth(of(ds, setting, "share")) if view == "breadth" else of(ds, setting, view)
            shown = 100 * values if view == "saturated" else values
            plotting.curve(ax, ds.layer.values, shown, setting if ax is axs[0, 0] else "", number, markers=1)
        ax.set_title(title, fontsize="medium")
        plotting.dress(ax, ylabel=unit, yscale="log" if "std" in view else "linear", xticks=ds.layer.values)
    for ax in axs[1]:
        ax.set_xlabel("layer")
    plotting.legend(fig, 3, "How broad are the activations?")
    plotting.caption(fig, about(ds, "mean with its 95 % interval", "spreads of 1e-7 and less are float32's rounding"))
    return fig


def mean_squares(ds: xr.Dataset) -> Figure:
    """E[x²] per layer, measured and predicted, a panel an activation."""
    fig = plotting.figure(10.0, 4.4)
    axs = fig.subplots(1, len(SETTINGS))
    labelled = set()
    for ax, (activation, some) in zip(axs, SETTINGS.items(), strict=True):
        for weights in some:
            one = ds.sel(setting=f"{activation}, {weights}")
            number = list(GAIN).index(weights)
            colour, marker = plotting.colour(number), plotting.MARKERS[number]
            mean, low, high = plotting.band(one.mean_square.values)
            label = None if weights in labelled else weights
            labelled.add(weights)
            ax.plot(ds.layer, one.predicted_mean_square, "--", color=colour, linewidth=1)
            ax.errorbar(ds.layer, mean, [mean - low, high - mean], color=colour, marker=marker, markersize=5,
                        linestyle="none", capsize=3, label=label)  # fmt: skip
        ax.set_title(activation, fontsize="medium")
        ax.set(xlabel="layer", xticks=ds.layer.values)
        ax.set(yscale="log") if not ACTIVATIONS[activation].bounded else ax.set_ylim(bottom=0)
        plotting.dress(ax)
    axs[0].set_ylabel("E[x²]")
    plotting.legend(fig, 5, "Size of the activations, measured (points) and predicted (dashed)")
    plotting.caption(fig, about(ds, "mean with its 95 % interval", "predicted: infinitely wide layers, nothing fitted"))
    return fig


def why_2(ds: xr.Dataset) -> Figure:
    """The factor by which E[x²] grows a layer against gain²: it is 1 at 1 for a linear layer and at 2 for ReLU."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "", "gain² = n · Var[w]", "factor of E[x²] a layer")
    ax.axhline(1, color="0.5", linewidth=0.8)
    for number, (name, share, law) in enumerate((("linear", 1, "gain²"), ("ReLU", 0.5, "gain²/2"))):
        factors = np.stack([factor(ds.swept_mean_square.sel(swept=name, gain2=g).values) for g in ds.gain2.values], 1)
        middle = np.median(factors, 0)
        low, high = np.quantile(factors, [0.025, 0.975], axis=0)
        colour, marker = plotting.colour(number), plotting.MARKERS[number]
        ax.errorbar(ds.gain2, middle, [middle - low, high - middle], color=colour, marker=marker, linestyle="none",
                    capsize=3, label=f"{name}, measured")  # fmt: skip
        ax.plot(ds.gain2, share * ds.gain2, "--", color=colour, linewidth=1, label=f"{name}, predicted: {law}")
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()
    ax.set_xticks(ds.gain2.values, [f"{g:g}" for g in ds.gain2.values])
    ax.set_yticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    plotting.legend(fig, 2, "Which initial weights keep E[x²] from layer to layer?")
    span = f"layer 1 to {ds.layer.values[-1]}"
    plotting.caption(fig, about(ds, f"{span}: the median network and the range of 95 % of them"))
    return fig


# -- what the numbers say --


def summary(ds: xr.Dataset) -> str:
    """The last layer's numbers, a line a setting: means over the networks."""
    columns = {"mean": "mean", "std": "std", "saturated": "saturated", "dead": "dead units", "mean_square": "E[x²]"}
    last = ds.isel(layer=-1).mean("seed")
    lines = [
        f"{f'layer {ds.layer.values[-1]}':>27}" + "".join(f"{head:>12}" for head in (*columns.values(), "in theory"))
    ]
    for setting in ds.setting.values:
        one = last.sel(setting=setting)
        numbers = [float(one[name]) for name in (*columns, "predicted_mean_square")]
        lines.append(f"{setting:>27}" + "".join(f"{x:12.3g}" if np.isfinite(x) else f"{'–':>12}" for x in numbers))
    return "\n".join(lines)


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """E[x²] of every setting and layer, measured with its interval beside predicted."""
    rows = []
    for setting in ds.setting.values:
        one = ds.sel(setting=setting)
        for i, layer in enumerate(ds.layer.values):
            mean, low, high = interval(one.mean_square.values[:, i])
            predicted = float(one.predicted_mean_square[i])
            rows.append(
                {"setting": str(setting), "layer": int(layer), "mean": mean, "low": low, "high": high}
                | {"predicted": predicted}
            )
    return {"mean_square": rows}


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about the figures, the slip, and the reason they guess for He's factor 2."""
    return [*on_sigmoid(ds), *on_tanh(ds), *on_relu(ds), *on_the_factor_2(ds)]


def of(ds: xr.Dataset, setting: str, name: str) -> np.ndarray:
    """One quantity of one setting, `[seed, layer, …]`."""
    return ds[name].sel(setting=setting).values.astype(np.float64)


def on_sigmoid(ds: xr.Dataset) -> list[Verdict]:
    """Claim 4, figures 07 to 09, and the slip."""
    last = ds.layer.values[-1]
    std_1, std_001, xavier, printed = (f"sigmoid, {weights}" for weights in SETTINGS["sigmoid"])
    saturated = {s: 100 * of(ds, s, "saturated").mean(1) for s in (std_1, xavier, printed)}
    away = {s: np.hypot(of(ds, s, "std"), of(ds, s, "mean") - 0.5) for s in (std_001, xavier)}
    apart = {s: of(ds, s, "unit_std")[:, -1] for s in (std_001, xavier)}
    broad = {s: breadth(of(ds, s, "share")) for s in (std_1, std_001, xavier)}
    broad_last = {s: f"{values[:, -1].mean():.1f}" for s, values in broad.items()}
    std, example_std = of(ds, xavier, "std"), of(ds, xavier, "example_std")

    def course(values):
        ends = f"from {values[:, 0].mean():.2g} in layer 1 to {values[:, -1].mean():.2g} in layer {last}"
        return f"{ends}, by a factor of {factor(values).mean():.2f} a layer"

    return [
        decide(
            "Weights of std 1 saturate the sigmoid",
            saturated[std_1] - saturated[xavier],
            "points",
            f"{saturated[std_1].mean():.1f} % of the activations are within 5 % of a bound and with Xavier's weights "
            f"{saturated[xavier].mean():.1f} %: {{effect}} {{unit}} [{{low}}, {{high}}], mean over the layers, "
            "{seeds} paired seeds.",
            "claim 4",
        ),
        decide(
            "Weights of std 0.01 collapse the sigmoid's activations to 0.5, within 0.05 in every layer",
            0.05 - away[std_001].max(1),
            "",
            f"Their root mean square distance from 0.5 is at most {away[std_001].max(1).mean():.3f} in any layer; in "
            f"layer {last} {away[std_001][:, -1].mean():.3f}, with Xavier's weights {away[xavier][:, -1].mean():.3f}: "
            "{effect} within the limit [{low}, {high}], {seeds} seeds.",
            "claim 4",
        ),
        decide(
            "With std 0.01 the units of a layer are more alike than with Xavier's weights",
            apart[xavier] - apart[std_001],
            "",
            f"Over the units of layer {last} the standard deviation is {apart[std_001].mean():.3g}, with Xavier's "
            f"weights {apart[xavier].mean():.3g}: {{effect}} [{{low}}, {{high}}], {{seeds}} paired seeds.",
            "claim 4",
        ),
        decide(
            "Xavier's weights give the sigmoid broader activations than std 1 and than std 0.01 in every layer",
            (broad[xavier] - np.maximum(broad[std_1], broad[std_001])).min(1),
            "bins",
            f"The histogram of layer {last} is as broad as {broad_last[xavier]} equally full bins of {BINS}, that of "
            f"std 1 as {broad_last[std_1]} and that of std 0.01 as {broad_last[std_001]}; in the layer where it leads "
            "least, by {effect} {unit} [{low}, {high}], {seeds} paired seeds.",
            "claim 4",
        ),
        decide(
            f"With Xavier's weights the sigmoid's activations keep their spread, {WITHIN}",
            room(std),
            "points",
            f"Their standard deviation goes {course(std)}: {{effect}} {{unit}} within what counts as kept "
            "[{low}, {high}], {seeds} seeds.",
            "claim 4",
        ),
        decide(
            f"With Xavier's weights the sigmoid's units keep telling examples apart, {WITHIN}",
            room(example_std),
            "points",
            f"A unit's standard deviation over the examples goes {course(example_std)}, while an example's over the "
            f"units of layer {last} is {apart[xavier].mean():.2g}: {{effect}} {{unit}} within what counts as kept "
            "[{low}, {high}], {seeds} seeds.",
            "claim 4",
        ),
        decide(
            "As printed, multiplying by √n, the Xavier listing saturates the sigmoid even more than std 1",
            saturated[printed] - saturated[std_1],
            "points",
            f"{saturated[printed].mean():.1f} % of the activations are within 5 % of a bound: {{effect}} {{unit}} more "
            "[{low}, {high}], mean over the layers, {seeds} paired seeds.",
            "slip §2.2.3",
        ),
    ]


def on_tanh(ds: xr.Dataset) -> list[Verdict]:
    """Claim 4, the bell of §2.2.3: symmetric, and with a single heap in the middle."""
    last = ds.layer.values[-1]
    slants = {a: 100 * slant(of(ds, f"{a}, Xavier", "share"))[:, -1] for a in ("sigmoid", "tanh")}
    humps = 100 * hump(of(ds, "tanh, Xavier", "share"))
    found = [
        decide(
            "With Xavier's weights tanh is less slanted than the sigmoid",
            slants["sigmoid"] - slants["tanh"],
            "points",
            f"To mirror the histogram of layer {last} {slants['tanh'].mean():.1f} % of the activations would have to "
            f"move, with the sigmoid {slants['sigmoid'].mean():.1f} %: {{effect}} {{unit}} [{{low}}, {{high}}], "
            "{seeds} paired seeds.",
            "claim 4",
        )
    ]
    for claim, first in (("in every layer", 0), ("from the second layer on", 1)):
        if humps.shape[1] > first:
            least = first + int(humps[:, first:].mean(0).argmin())
            found.append(
                decide(
                    f"With Xavier's weights tanh is bell-shaped {claim}",
                    humps[:, least],
                    "points",
                    f"In layer {least + 1}, the least bell-shaped, the middle fifth of the range holds {{effect}} "
                    "{unit} more of the activations than the fifths beside it [{low}, {high}], {seeds} seeds.",
                    "claim 4",
                )
            )
    return found


def on_relu(ds: xr.Dataset) -> list[Verdict]:
    """Claim 5, figure 10."""
    last = ds.layer.values[-1]
    size = {weights: of(ds, f"ReLU, {weights}", "mean_square") for weights in SETTINGS["ReLU"]}
    dead = {weights: 100 * of(ds, f"ReLU, {weights}", "dead")[:, -1] for weights in SETTINGS["ReLU"]}
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = -np.log10(size["std 0.01"][:, -1] / size["std 0.01"][:, 0])

    def course(weights):
        return f"E[x²] changes by a factor of {factor(size[weights]).mean():.3f} a layer from layer 1 to {last}"

    return [
        decide(
            "ReLU with std 0.01 dies: its activations shrink towards 0 with depth",
            lost,
            "decades",
            f"{course('std 0.01')}: {{effect}} {{unit}} lost in all [{{low}}, {{high}}], {{seeds}} seeds.",
            "claim 5",
        ),
        decide(
            "What dies with std 0.01 is the size, not the units: as many are dead as with He's weights, ± 1 point",
            1 - abs(dead["std 0.01"] - dead["He"]),
            "points",
            f"In layer {last} {dead['std 0.01'].mean():.2g} % of the units give 0 for every example, with He's weights "
            f"{dead['He'].mean():.2g} %: {{effect}} {{unit}} within the tolerance [{{low}}, {{high}}], "
            "{seeds} paired seeds.",
            "claim 5",
        ),
        decide(
            f"ReLU with Xavier's weights drifts with depth: E[x²] is not kept {WITHIN}",
            -room(size["Xavier"]),
            "points",
            f"{course('Xavier')}: {{effect}} {{unit}} beyond what counts as kept [{{low}}, {{high}}], {{seeds}} seeds.",
            "claim 5",
        ),
        decide(
            f"ReLU with He's weights holds: E[x²] is kept {WITHIN}",
            room(size["He"]),
            "points",
            f"{course('He')}: a network is {{effect}} {{unit}} within what counts as kept [{{low}}, {{high}}], "
            "mean over {seeds} seeds.",
            "claim 5",
        ),
    ]


def passed(ds: xr.Dataset) -> np.ndarray:
    """The share of the sums' mean square that ReLU lets through, for each seed: its mean over the layers."""
    return (of(ds, "ReLU, He", "mean_square") / of(ds, "ReLU, He", "sum_mean_square")).mean(1)


def on_the_factor_2(ds: xr.Dataset) -> list[Verdict]:
    """The reason that the notes guess for He's factor 2."""
    share = 100 * passed(ds)
    return [
        decide(
            "ReLU lets half of the mean square through, ± 5 points",
            5 - abs(share - 50),
            "points",
            f"ReLU leaves {share.mean():.1f} % of E[(xW)²], mean over the layers with He's weights: a network is "
            "{effect} {unit} within the tolerance [{low}, {high}], mean over {seeds} seeds.",
            "question §2.3",
        )
    ]


def answers(ds: xr.Dataset) -> list[Answer]:
    """Why the factor 2 for ReLU?"""
    share, relu, linear = (interval(x) for x in (passed(ds), keeping_gain2(ds, "ReLU"), keeping_gain2(ds, "linear")))
    last = ds.layer.values[-1]
    before = of(ds, "ReLU, He", "input_mean_square")[:, 0]
    xavier, he = (interval(of(ds, f"ReLU, {w}", "mean_square")[:, -1] / before) for w in ("Xavier", "He"))
    told = (
        "A layer multiplies E[x²] by gain² = n · Var[w] and by the share its activation lets through: all in a linear "
        f"layer, {spelt(share)} in a ReLU layer (in expectation 1/2, as the sums are symmetric about 0). After layer "
        f"{last} gain² = 1 leaves {spelt(xavier)} of the inputs' E[x²] (in expectation {0.5**last:.3g}) and gain² = 2 "
        f"leaves {spelt(he)} (in expectation 1); what keeps it from layer to layer is gain² = {spelt(linear)} in "
        f"linear networks and {spelt(relu)} with ReLU. "
    )
    if not np.isfinite(relu[0]):
        told += "A single layer cannot say what is kept."
    elif abs(relu[0] / linear[0] - 2) < 2 * TOLERANCE and abs(share[0] - 0.5) < 0.05:
        told += "So the 2 makes up for the half that ReLU removes, as the notes guess."
    else:
        told += "So in these networks the 2 is not explained by a half that ReLU removes."
    return [
        Answer("Why the factor 2 in the initial weights for ReLU?", told, "why_2", ds.sizes["seed"], "question §2.3")
    ]


def spelt(found: tuple[float, float, float]) -> str:
    """A mean with its interval, for a sentence."""
    return "{:.3g} [{:.3g}, {:.3g}]".format(*found)


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
