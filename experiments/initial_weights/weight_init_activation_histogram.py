"""How do initial weights shape the activations of deep layers? (notes §2.2–2.3, figures 07, 08, 09 and 10)"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.figure import Figure
from scipy.special import expit, logit, ndtr

from fnn import init, instruments, lab, layers, sweep
from fnn.base.errors import require
from fnn.base.statistics import interval
from fnn.base.types import Scalar
from fnn.lab import figures, plotting
from fnn.tasks import Label, Trial

BINS = 30
FIFTH = BINS // 5
CUT = 0.07
"""Where the notes cut their ReLU histograms off: at 7,000 of 100,000 activations."""
KEPT = 10.0
"""The largest change that counts as none, in percent per layer."""
WITHIN = f"within {KEPT:.0f} % per layer"
GAINS2 = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""The n · Var[w] of the sweep that shows why 2."""


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

# A weight here is Gaussian with standard deviation gain / √n: this one number is what distinguishes initializers.
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
STD_1, STD_001, XAVIER, PRINTED = (f"sigmoid, {weights}" for weights in SETTINGS["sigmoid"])
TANH = "tanh, Xavier"
RELUS = tuple(f"ReLU, {weights}" for weights in SETTINGS["ReLU"])
SWEPT: dict[str, Callable[[Array], Array]] = {"linear": layers.identity, "ReLU": layers.relu}


@dataclass(frozen=True)
class Config(lab.Options):
    """Sizes of the experiment; the defaults are the notes', over many networks instead of one."""

    seeds: int = 50
    """Networks of each setting, each with weights and inputs of one seed."""
    layers: int = 5
    """Layers of a network, 2 to 10."""
    width: int = 100
    """Units of a layer, and inputs of an example."""
    examples: int = 1000
    """Gaussian examples that every network is applied to."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        require(2 <= self.layers <= 10, f"--layers is 2 to 10, not {self.layers}.")
        self.check_at_least(width=2, examples=2)


class Hyper(NamedTuple):
    """The hyperparameter that is varied: the gain of the weights."""

    gain: Scalar = 1.0


# -- measuring --

Measure = Callable[[Array, Array, Array], dict[str, Array]]
"""What is recorded of a layer, by its inputs, its sums x W and its activations."""


def one_layer(cfg: Config, f: Callable[[Array], Array], gain: Scalar, key: Array, x: Array) -> tuple[Array, Array]:
    """The sums x W and the activations f(x W) of a layer whose weights are drawn from this key."""
    layer = layers.serial(layers.affine(cfg.width, init.xavier(gain=gain)), layers.elementwise(f))
    params, stats = layer.init(key, x)
    sums, y = instruments.activations(layer, params, stats, x)
    return sums, y


def deepening(cfg: Config, f: Callable[[Array], Array], measure: Measure) -> Trial:
    """The trial that applies a network to the examples and measures every layer."""

    def through(hp, key, data):
        def step(x, i):
            sums, y = one_layer(cfg, f, hp.gain, jax.random.fold_in(key, i), x)
            return y, measure(x, sums, y)

        x = jax.random.normal(jax.random.fold_in(key, 0), (cfg.examples, cfg.width))
        return jax.lax.scan(step, x, 1 + jnp.arange(cfg.layers))[1]

    labels = {name: Label(text, "1", ("layer", *DIMS.get(name, ()))) for name, text in LONG_NAMES.items()}
    return Trial(through, hyper=Hyper(), labels=labels, coords={"layer": 1 + np.arange(cfg.layers)})


DIMS = {"share": ("bin",)}
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


def sizes(x: Array, sums: Array, y: Array) -> dict[str, Array]:
    """E[·²] of the inputs of a layer, of its sums and of its activations."""
    measured = {"input_mean_square": x, "sum_mean_square": sums, "mean_square": y}
    return {name: instruments.mean_square(values) for name, values in measured.items()}


def portrait(phi: Activation) -> Measure:
    """The measure that gives every quantity of a layer's activations."""

    def measure(x, sums, y):
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

    return measure


def run(cfg: Config) -> xr.Dataset:
    """Measurements of the activations of all networks."""

    def measured(trial, gains, part):
        return sweep(trial, over={"gain": gains}, seeds=cfg.seeds, keep=cfg.keep(part), progress=True)

    parts = []
    for name, phi in ACTIVATIONS.items():
        gains = [GAIN[weights](cfg.width) for weights in SETTINGS[name]]
        found = measured(deepening(cfg, phi.f, portrait(phi)), gains, name).rename(gain="setting")
        parts.append(found.assign_coords(setting=[f"{name}, {weights}" for weights in SETTINGS[name]]))
    ds = xr.concat(parts, "setting", combine_attrs="override").assign(predicted(cfg))
    swept = [measured(deepening(cfg, f, sizes), np.sqrt(GAINS2), f"{name} swept") for name, f in SWEPT.items()]
    sizes_swept = xr.concat([one.mean_square for one in swept], "swept").rename(gain="gain2")
    gain2 = ("gain2", list(GAINS2), {"long_name": "gain² = n · Var[w]", "units": "1"})
    ds["swept_mean_square"] = sizes_swept.assign_coords(swept=list(SWEPT), gain2=gain2)
    return ds.assign_attrs(width=cfg.width, examples=cfg.examples)


# -- theory: in infinitely wide layers the sums are Gaussian, so one variance per layer determines everything --


def predicted(cfg: Config) -> dict[str, Any]:
    """The edges of all settings' bins, and shares and mean squares in infinitely wide layers."""
    settings = [(ACTIVATIONS[name], GAIN[w](cfg.width)) for name, some in SETTINGS.items() for w in some]
    edges = np.stack([np.linspace(phi.low, phi.high, BINS + 1) for phi, _ in settings])
    shares = [shares_in_the_limit(phi, gain, cfg.layers, e) for (phi, gain), e in zip(settings, edges, strict=True)]
    squares = [wide_limit(phi.exact, gain, cfg.layers) for phi, gain in settings]
    attrs = lambda text: {"long_name": f"{text} in infinitely wide layers", "units": "1"}
    return {
        "edges": (("setting", "edge"), edges, {"long_name": "edges of the bins", "units": "1"}),
        "edge": np.arange(BINS + 1),
        "predicted_share": (("setting", "layer", "bin"), np.stack(shares), attrs("share of activations in a bin")),
        "predicted_mean_square": (("setting", "layer"), np.stack(squares), attrs("E[x²]")),
    }


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


# -- effects, one number per seed --


def breadth(share: np.ndarray) -> np.ndarray:
    """The number of equally full bins that would be as broad: exp of the entropy of the shares `[…, bins]`."""
    logs = np.log(share, where=share > 0, out=np.zeros_like(share))
    return np.exp(-(share * logs).sum(-1))


def slant(share: np.ndarray) -> np.ndarray:
    """The share of activations that would have to move to make a histogram `[…, bins]` symmetric about its middle."""
    return abs(share - share[..., ::-1]).sum(-1) / 2


def hump(share: np.ndarray) -> np.ndarray:
    """The share in the middle fifth of a histogram `[…, bins]` less that in the fifths beside it: positive for a
    bell."""
    fifths = share.reshape(*share.shape[:-1], 5, FIFTH).sum(-1)
    return fifths[..., 2] - (fifths[..., 1] + fifths[..., 3]) / 2


def of(ds: xr.Dataset, setting: str, name: str) -> xr.DataArray:
    """One quantity of one setting, in float64."""
    return ds[name].sel(setting=setting, drop=True).astype(np.float64)


def shape(ds: xr.Dataset, setting: str, measure: Callable[[np.ndarray], np.ndarray]) -> xr.DataArray:
    """`measure` of one setting's histograms, by seed and layer."""
    return xr.apply_ufunc(measure, of(ds, setting, "share"), input_core_dims=[["bin"]])


def growth(values: xr.DataArray) -> xr.DataArray:
    """By how many percent per layer `values` grow from the first layer to the last."""
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = values.isel(layer=-1, drop=True) / values.isel(layer=0, drop=True)
        return 100 * (whole ** (1 / (values.sizes["layer"] - 1)) - 1)


def passed(ds: xr.Dataset) -> xr.DataArray:
    """The share of the sums' mean square that ReLU keeps, mean over the layers."""
    return (of(ds, "ReLU, He", "mean_square") / of(ds, "ReLU, He", "sum_mean_square")).mean("layer")


def keeping_gain2(ds: xr.Dataset, name: str) -> np.ndarray:
    """For each seed the gain² at which E[x²] neither grows nor shrinks, between those swept."""
    logs = np.log1p(growth(ds.swept_mean_square.sel(swept=name)).transpose("seed", "gain2").values / 100)
    return np.exp([np.interp(0, log, np.log(ds.gain2.values)) for log in logs])


# -- figures --

EXAMPLES = "{examples:,} Gaussian examples, layers of {width} units"
"""In place of a data set."""


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of many networks."""
    return figures.caption(ds, EXAMPLES, *details)


def activation(setting: str) -> Activation:
    """The activation of a setting."""
    return ACTIVATIONS[setting.split(", ")[0]]


def panels(ds: xr.Dataset, settings: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """One row of panels per setting, one panel per layer; the y axis, the same along a row, is labeled at the left
    alone."""
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
        for ax, share in zip(row, one.share.transpose("layer", "bin").values, strict=True):
            ax.stairs(values * share, one.edges.values, fill=True, color=plotting.color(0))
        row[0].set_ylabel("activations" if len(settings) == 1 else f"{setting.split(', ')[1]}\nactivations")
        if not activation(setting).bounded:
            row[0].set_ylim(0, CUT * values)
    cut = "" if activation(settings[0]).bounded else "cut off where the notes cut, as are the bins at 0"
    plotting.caption(fig, figures.caption(ds.isel(seed=[0]), EXAMPLES, "one network, as in the notes", cut))
    return fig


def spreads(ds: xr.Dataset, settings: Sequence[str], title: str) -> Figure:
    """Mean shares over the seeds, the range of single networks, and the wide limit."""
    fig, axs = panels(ds, settings)
    labels = "95 % of the networks", "mean over networks", "infinitely wide layers, predicted"
    for row, setting in zip(axs, settings, strict=True):
        one = ds.sel(setting=setting)
        edges, theory = one.edges.values, 100 * one.predicted_share.values
        shares = 100 * one.share.transpose("seed", "layer", "bin").values
        for i, ax in enumerate(row):
            band, mean, limit = labels if ax is axs[0, 0] else (None,) * 3
            low, high = np.quantile(shares[:, i], [0.025, 0.975], axis=0)
            ax.stairs(high, edges, baseline=low, fill=True, color=plotting.color(0), alpha=0.3, label=band)
            ax.stairs(shares[:, i].mean(0), edges, color=plotting.color(0), linewidth=1.2, label=mean)
            ax.plot((edges[1:] + edges[:-1]) / 2, theory[i], "k.", markersize=3, label=limit)
            if not activation(setting).bounded:
                ax.set_ylim(0, 100 * CUT)
                first = f"first bin: {shares[:, i, 0].mean():.0f} %\n(predicted {theory[i, 0]:.0f} %)"
                ax.text(0.97, 0.95, first, transform=ax.transAxes, ha="right", va="top", fontsize="small")
        row[0].set_ylim(bottom=0)
        row[0].set_ylabel(f"{setting}\nshare (%)", fontsize="small")
    plotting.legend(fig, title=title)
    plotting.caption(fig, about(ds, f"{BINS} bins"))
    return fig


def breadths(ds: xr.Dataset) -> Figure:
    """Four views of how broad the activations of the S-shaped functions are, layer by layer."""
    views = {
        ("within 5 % of a bound", "share (%)"): lambda name: 100 * of(ds, name, "saturated"),
        ("breadth of the histogram", f"equally full bins, of {BINS}"): lambda name: shape(ds, name, breadth),
        ("spread of all activations", "standard deviation"): lambda name: of(ds, name, "std"),
        ("spread of a unit over the examples", "standard deviation"): lambda name: of(ds, name, "example_std"),
    }
    fig = plotting.figure(8.6, 6.2)
    axs = fig.subplots(2, 2, sharex=True)
    for ax, ((title, unit), view) in zip(axs.flat, views.items(), strict=True):
        for number, setting in enumerate(name for name in ds.setting.values.tolist() if activation(name).bounded):
            values = view(setting).transpose("seed", "layer").values
            plotting.curve(ax, ds.layer.values, values, setting if ax is axs[0, 0] else "", number, markers=1)
        ax.set_title(title, fontsize="medium")
        plotting.dress(ax, ylabel=unit, yscale="log" if "deviation" in unit else "linear", xticks=ds.layer.values)
    for ax in axs[1]:
        ax.set_xlabel("layer")
    plotting.legend(fig, 3, "How broad are the activations?")
    plotting.caption(fig, about(ds, "mean with its 95 % interval", "spreads of 1e-7 and less are float32's rounding"))
    return fig


def mean_squares(ds: xr.Dataset) -> Figure:
    """E[x²] per layer, measured and predicted, a panel for each activation."""
    fig = plotting.figure(10.0, 4.4)
    axs = fig.subplots(1, len(SETTINGS))
    named = set()
    for ax, (name, some) in zip(axs, SETTINGS.items(), strict=True):
        for weights in some:
            one = ds.sel(setting=f"{name}, {weights}")
            number = list(GAIN).index(weights)
            color, marker = plotting.color(number), plotting.MARKERS[number]
            mean, low, high = plotting.band(one.mean_square.transpose("seed", "layer").values)
            ax.plot(ds.layer, one.predicted_mean_square, "--", color=color, linewidth=1)
            style = {"color": color, "marker": marker, "markersize": 5, "linestyle": "none", "capsize": 3}
            label = None if weights in named else weights
            ax.errorbar(ds.layer, mean, [mean - low, high - mean], label=label, **style)
            named.add(weights)
        plotting.dress(ax, xlabel="layer", xticks=ds.layer.values)
        ax.set_title(name, fontsize="medium")
        ax.set(yscale="log") if not ACTIVATIONS[name].bounded else ax.set_ylim(bottom=0)
    axs[0].set_ylabel("E[x²]")
    plotting.legend(fig, 5, "Size of the activations, measured (points) and predicted (dashed)")
    plotting.caption(fig, about(ds, "mean with its 95 % interval", "predicted: infinitely wide layers, nothing fitted"))
    return fig


def why_2(ds: xr.Dataset) -> Figure:
    """The factor by which E[x²] grows per layer against gain²: it is 1 at 1 for a linear layer and at 2 for ReLU."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "", "gain² = n · Var[w]", "factor of E[x²] per layer")
    ax.axhline(1, color="0.5", linewidth=0.8)
    for number, (name, share, law) in enumerate((("linear", 1, "gain²"), ("ReLU", 0.5, "gain²/2"))):
        factors = 1 + growth(ds.swept_mean_square.sel(swept=name)).transpose("seed", "gain2").values / 100
        low, middle, high = np.quantile(factors, [0.025, 0.5, 0.975], axis=0)
        color, marker = plotting.color(number), plotting.MARKERS[number]
        style = {"color": color, "marker": marker, "linestyle": "none", "capsize": 3}
        ax.errorbar(ds.gain2, middle, [middle - low, high - middle], label=f"{name}, measured", **style)
        ax.plot(ds.gain2, share * ds.gain2, "--", color=color, linewidth=1, label=f"{name}, predicted: {law}")
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()
    ax.set_xticks(ds.gain2.values, [f"{g:g}" for g in ds.gain2.values])
    ax.set_yticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    plotting.legend(fig, 2, "Which initial weights keep E[x²] from layer to layer?")
    span = f"layer 1 to {ds.layer.values[-1]}"
    plotting.caption(fig, about(ds, f"{span}: the median network and the range of 95 % of them"))
    return fig


# -- claims and answers --


def saturated(ds: xr.Dataset, setting: str) -> xr.DataArray:
    """The activations within 5 % of a bound, in percent, mean over the layers."""
    return 100 * of(ds, setting, "saturated").mean("layer")


def away(ds: xr.Dataset) -> xr.DataArray:
    """The root mean square distance from 0.5 of the sigmoid's activations with std 0.01, layer by layer."""
    return (of(ds, STD_001, "std") ** 2 + (of(ds, STD_001, "mean") - 0.5) ** 2) ** 0.5


def at_the_end(ds: xr.Dataset, setting: str, name: str) -> xr.DataArray:
    """A quantity of the last layer."""
    return of(ds, setting, name).isel(layer=-1, drop=True)


def broader(ds: xr.Dataset) -> xr.DataArray:
    """Breadth of Xavier's histogram less that of the broader of the other two, in bins, layer by layer."""
    xavier, one, other = (shape(ds, setting, breadth) for setting in (XAVIER, STD_1, STD_001))
    return xavier - one.where(one > other, other)


def slanted(ds: xr.Dataset, setting: str) -> xr.DataArray:
    """The percentage that would have to move to make the last layer's histogram symmetric."""
    return 100 * shape(ds, setting, slant).isel(layer=-1, drop=True)


def bell(ds: xr.Dataset) -> xr.DataArray:
    """By how many points tanh's middle fifth holds more than the fifths beside it, layer by layer."""
    return 100 * shape(ds, TANH, hump)


def lost(ds: xr.Dataset) -> xr.DataArray:
    """By how many decades ReLU's E[x²] falls from the first layer to the last with std 0.01."""
    size = of(ds, "ReLU, std 0.01", "mean_square")
    with np.errstate(divide="ignore"):
        return xr.apply_ufunc(np.log10, size.isel(layer=0, drop=True) / size.isel(layer=-1, drop=True))


def course(setting: str, name: str, what: str) -> Callable[[xr.Dataset], str]:
    """The sentence of a verdict on a quantity of the first and of the last layer."""

    def sentence(ds):
        values = of(ds, setting, name).mean("seed").values
        return f"{what} goes from {values[0]:.2g} in layer 1 to {values[-1]:.2g} in layer {ds.sizes['layer']}."

    return sentence


def means(what: str, **measures: Callable[[xr.Dataset], xr.DataArray]) -> Callable[[xr.Dataset], str]:
    """The sentence of a verdict: `what`, formatted with the means of these measures."""
    return lambda ds: what.format(**{name: float(f(ds).mean()) for name, f in measures.items()})


def kept(text: str, setting: str, name: str, what: str, source: str, *, secondary: bool = False) -> lab.Claim:
    """A quantity keeps its size from layer to layer."""
    effect = lambda ds: growth(of(ds, setting, name))
    shown = lab.within(-KEPT, KEPT), "% per layer", source, "breadth" if source == "claim 4" else "mean_square"
    return lab.Claim(f"{text}, {WITHIN}", effect, *shown, detail=course(setting, name, what), secondary=secondary)


CLAIMS = (
    lab.Claim(
        "Weights of std 1 saturate the sigmoid",
        lambda ds: saturated(ds, STD_1) - saturated(ds, XAVIER),
        *(lab.above(0.0), "points", "claim 4", "07_std_1"),
        detail=means(
            "{one:.1f} % of the activations are within 5 % of a bound, with Xavier's weights {other:.1f} %.",
            one=lambda ds: saturated(ds, STD_1),
            other=lambda ds: saturated(ds, XAVIER),
        ),
    ),
    lab.Claim(
        "Weights of std 0.01 collapse the sigmoid's activations to 0.5, within 0.05 in every layer",
        away,
        *(lab.below(0.05), "", "claim 4", "08_std_0.01"),
        each="layer",
        detail="The effect is the root mean square distance from 0.5.",
    ),
    lab.Claim(
        "With std 0.01 the units of a layer are more alike than with Xavier's weights",
        lambda ds: at_the_end(ds, XAVIER, "unit_std") - at_the_end(ds, STD_001, "unit_std"),
        *(lab.above(0.0), "", "claim 4", "07_09_spread"),
        detail="The effect is of the standard deviation over the units of the last layer.",
        secondary=True,
    ),
    lab.Claim(
        "Xavier's weights give the sigmoid broader activations than std 1 and than std 0.01 in every layer",
        broader,
        *(lab.above(0.0), "bins", "claim 4", "breadth"),
        each="layer",
        detail=f"The effect is by how many of {BINS} equally full bins the histogram is broader than both.",
    ),
    kept(
        *("With Xavier's weights the sigmoid's activations keep their spread", XAVIER, "std"),
        *("Their standard deviation", "claim 4"),
        secondary=True,
    ),
    kept(
        *("With Xavier's weights the sigmoid's units keep distinguishing examples", XAVIER, "example_std"),
        *("A unit's standard deviation over the examples", "claim 4"),
        secondary=True,
    ),
    lab.Claim(
        "As printed, multiplying by √n, the Xavier listing saturates the sigmoid even more than std 1",
        lambda ds: saturated(ds, PRINTED) - saturated(ds, STD_1),
        *(lab.above(0.0), "points", "slip §2.2.3", "09_xavier_as_printed"),
        detail=means(
            "{one:.1f} % of the activations are within 5 % of a bound.", one=lambda ds: saturated(ds, PRINTED)
        ),
    ),
    lab.Claim(
        "With Xavier's weights tanh is less slanted than the sigmoid",
        lambda ds: slanted(ds, XAVIER) - slanted(ds, TANH),
        *(lab.above(0.0), "points", "claim 4", "07_09_spread"),
        detail=means(
            "To make the histogram of the last layer symmetric {one:.1f} % of the activations would have to move, with "
            "the sigmoid {other:.1f} %.",
            one=lambda ds: slanted(ds, TANH),
            other=lambda ds: slanted(ds, XAVIER),
        ),
        secondary=True,
    ),
    lab.Claim(
        "With Xavier's weights tanh is bell-shaped in every layer",
        bell,
        *(lab.above(0.0), "points", "claim 4", "tanh_xavier"),
        each="layer",
        detail="The effect is by how much the middle fifth of the range holds more than the fifths beside it.",
    ),
    lab.Claim(
        "With Xavier's weights tanh is bell-shaped from the second layer on",
        lambda ds: bell(ds).isel(layer=slice(1, None)),
        *(lab.above(0.0), "points", "claim 4", "tanh_xavier"),
        each="layer",
        secondary=True,
    ),
    lab.Claim(
        "ReLU with std 0.01 dies: its activations shrink towards 0 with depth",
        lost,
        *(lab.above(0.0), "decades", "claim 5", "10_relu"),
        detail=course("ReLU, std 0.01", "mean_square", "E[x²]"),
    ),
    lab.Claim(
        "What dies with std 0.01 is the size, not the units: as many are dead as with He's weights, ± 1 point",
        lambda ds: 100 * (at_the_end(ds, "ReLU, std 0.01", "dead") - at_the_end(ds, "ReLU, He", "dead")),
        *(lab.within(-1.0, 1.0), "points", "claim 5", "10_relu"),
        detail="The effect is of the units of the last layer that give 0 for every example.",
        secondary=True,
    ),
    lab.Claim(
        f"ReLU with Xavier's weights drifts with depth: E[x²] is not kept {WITHIN}",
        lambda ds: abs(growth(of(ds, "ReLU, Xavier", "mean_square"))),
        *(lab.above(KEPT), "% per layer", "claim 5", "mean_square"),
        detail=course("ReLU, Xavier", "mean_square", "E[x²]"),
    ),
    kept("ReLU with He's weights holds: E[x²] is kept", "ReLU, He", "mean_square", "E[x²]", "claim 5"),
    lab.Claim(
        "ReLU keeps half of the mean square, ± 5 points",
        lambda ds: 100 * passed(ds),
        *(lab.within(45.0, 55.0), "%", "question §2.3", "why_2"),
        detail="The effect is the share of E[(xW)²] that is left, mean over the layers with He's weights.",
    ),
)


def summary(ds: xr.Dataset) -> str:
    """The last layer's numbers, a line for each setting: means over the networks."""
    columns = {"mean": "mean", "std": "std", "saturated": "saturated", "dead": "dead units", "mean_square": "E[x²]"}
    last = ds.isel(layer=-1).mean("seed")
    heads = (*columns.values(), "in theory")
    lines = [f"{f'layer {ds.layer.values[-1]}':>27}" + "".join(f"{head:>12}" for head in heads)]
    for setting in ds.setting.values:
        one = last.sel(setting=setting)
        numbers = [float(one[name]) for name in (*columns, "predicted_mean_square")]
        lines.append(f"{setting:>27}" + "".join(f"{x:12.3g}" if np.isfinite(x) else f"{'–':>12}" for x in numbers))
    return "\n".join(lines)


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """E[x²] of every setting and layer, measured with its interval beside predicted."""
    rows = []
    for setting in ds.setting.values.tolist():
        for layer in ds.layer.values.tolist():
            one = ds.sel(setting=setting, layer=layer)
            mean, low, high = interval(one.mean_square.values)
            measured = {"mean": mean, "low": low, "high": high, "predicted": float(one.predicted_mean_square)}
            rows.append({"setting": setting, "layer": layer, **measured})
    return {"mean_square": rows}


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The answer to why ReLU needs the factor 2."""
    share, last = interval(passed(ds).values), int(ds.layer.values[-1])
    relu, linear = (interval(keeping_gain2(ds, name)) for name in ("ReLU", "linear"))
    before = of(ds, "ReLU, He", "input_mean_square").isel(layer=0)
    xavier, he = (interval((at_the_end(ds, f"ReLU, {w}", "mean_square") / before).values) for w in ("Xavier", "He"))
    explained = abs(relu[0] / linear[0] - 2) < 2 * KEPT / 100 and abs(share[0] - 0.5) < 0.05
    answer = (
        "A layer multiplies E[x²] by gain² = n · Var[w] and by the share its activation keeps: all in a linear "
        f"layer, {with_interval(share)} in a ReLU layer (in expectation 1/2, as the sums are symmetric about 0). After "
        f"layer {last} gain² = 1 leaves {with_interval(xavier)} of the inputs' E[x²] (in expectation {0.5**last:.3g}) "
        f"and gain² = 2 leaves {with_interval(he)} (in expectation 1); what keeps it from layer to layer is gain² = "
        f"{with_interval(linear)} in linear networks and {with_interval(relu)} with ReLU. "
    )
    answer += (
        "So the 2 compensates for the half that ReLU removes, as the notes guess."
        if explained
        else "So in these networks the 2 is not explained by a half that ReLU removes."
    )
    question = "Why the factor 2 in the initial weights for ReLU?"
    return [lab.Answer(question, answer, "why_2", ds.sizes["seed"], "question §2.3")]


def with_interval(found: tuple[float, float, float]) -> str:
    """A mean with its interval, for a sentence."""
    return "{:.3g} [{:.3g}, {:.3g}]".format(*found)


EXPERIMENT = lab.Experiment(
    question="How do initial weights shape the activations of deep layers?",
    source="notes §2.2–2.3, figures 07, 08, 09 and 10",
    says="Std 1 pushes the sigmoid to 0 and 1, where gradients vanish; std 0.01 puts all units near 0.5; Xavier's "
    "weights keep the breadth, slightly skewed in late layers, and with tanh the distribution is bell-shaped. With "
    "ReLU, activations vanish with std 0.01, drift with depth with Xavier's weights and keep their size with He's. "
    "The reason for the factor 2 in He's weights is left open.",
    method="Applies 5 layers of 100 units, x ← φ(x W) without biases, to 1,000 Gaussian examples, and measures the "
    "activations of every layer: sigmoid with weights of std 1, of std 0.01 and Xavier's, tanh with Xavier's, "
    "ReLU with std 0.01, Xavier's and He's. Nothing is trained. The measurements are compared with the theory of "
    "infinitely wide layers, over many networks.\n\nA slip: the notes' listing of Xavier multiplies by √n where it "
    "must divide by it. Xavier here divides; the listing as printed is measured too.",
    takes="about 15 seconds for 50 networks of each setting on two cores",
    config=Config,
    quick={"seeds": 10},
    run=run,
    claims=CLAIMS,
    figures={
        "07_std_1": partial(histograms, settings=[STD_1], title="Sigmoid, weights of std 1 (notes, figure 07)"),
        "08_std_0.01": partial(histograms, settings=[STD_001], title="Sigmoid, weights of std 0.01 (notes, figure 08)"),
        "09_xavier": partial(histograms, settings=[XAVIER], title="Sigmoid, Xavier's weights (notes, figure 09)"),
        "09_xavier_as_printed": partial(
            histograms, settings=[PRINTED], title="Sigmoid, Xavier as the notes print it: std √n, not 1/√n"
        ),
        "tanh_xavier": partial(histograms, settings=[TANH], title="tanh, Xavier's weights (notes, §2.2.3)"),
        "10_relu": partial(histograms, settings=RELUS, title="ReLU, three initializers (notes, figure 10)"),
        "07_09_spread": partial(
            spreads, settings=[STD_1, STD_001, XAVIER, TANH], title="Sigmoid and tanh in many networks"
        ),
        "10_relu_spread": partial(spreads, settings=RELUS, title="ReLU in many networks"),
        "breadth": breadths,
        "mean_square": mean_squares,
        "why_2": why_2,
    },
    answers=answers,
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
