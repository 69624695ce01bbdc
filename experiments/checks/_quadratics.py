"""Quadratics: the factor by which a step shrinks a direction, and the learning rate beyond which it grows.

On f = ½ Σ λᵢ wᵢ² SGD, Momentum and Nesterov are linear, and directions are independent, each with z = lr λ:

    sgd         w⁺ = (1 − z) w
    momentum    w⁺ = (1 + β − z) w − β w⁻                   Polyak 1964, eq. 9
    nesterov    w⁺ = (1 + β) (1 − z) w − β (1 − z) w⁻       Nesterov 1983, at the extrapolated point

The factor per step, in the long run, is the spectral radius of the matrix that takes (w, w⁻) to (w⁺, w): |1 − z| for
SGD, √β for Momentum where its roots are complex. It passes through 1 where −1 is a root: at z = 2, 2 (1 + β) and
2 (1 + β)/(1 + 2 β).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.checks._oracles import ONCE, repeated, split, uniform
from experiments.updates._valley import tuned
from fnn import lab, optim
from fnn.base.types import Hyper, Keys
from fnn.lab import figures, plotting
from fnn.lab.titles import title
from fnn.rule import Rule, apply_updates

MOMENTA = (0.5, 0.9, 0.99)
RUNS = {"sgd": ("sgd", 0.0)} | {f"{rule}, β = {b:g}": (rule, b) for rule in ("momentum", "nesterov") for b in MOMENTA}
"""The runs: (rule, β) by name."""
LIMITS = {"sgd": "2/L", "momentum": "2 (1 + β)/L", "nesterov": "2 (1 + β)/((1 + 2 β) L)"}
DIRECTIONS = 5
FLATTEST = 1e-3
"""The curvatures λ of a quadratic are log-uniform from here to 1, and the first of them is L = 1."""
STEPS = 40
EDGE = 1e-7
"""Relative distance of the two rates, below and above the predicted limit, between which the factor passes through
1."""
CLOSE = 1e-6
"""Tolerance: near a double root the last bit of a matrix is the eighth digit of its roots."""


def companion(rule: str, beta: float, z: np.ndarray) -> np.ndarray:
    """The matrix that takes (w, w⁻) to (w⁺, w) along directions with lr λ = z, `[…, 2, 2]`."""
    now, before = {
        "sgd": (1 - z, 0),
        "momentum": (1 + beta - z, -beta),
        "nesterov": ((1 + beta) * (1 - z), -beta * (1 - z)),
    }[rule]
    entries = np.stack(np.broadcast_arrays(now, before, 1.0, 0.0), -1)
    return entries.reshape(*np.shape(z), 2, 2)


def spectral_radius(matrix: np.ndarray) -> np.ndarray:
    """The largest |eigenvalue| of every matrix, `[…]`."""
    return np.abs(np.linalg.eigvals(matrix)).max(-1)


def stability_limit(rule: str, beta: float) -> float:
    """The lr λ beyond which the rule diverges."""
    return {"sgd": 2.0, "momentum": 2 * (1 + beta), "nesterov": 2 * (1 + beta) / (1 + 2 * beta)}[rule]


@functools.partial(jax.jit, static_argnums=0, compiler_options=ONCE)
def descend(
    rule: Rule, hyper: Hyper, curvature: Float[Array, "seeds directions"], start: Float[Array, "seeds directions"]
) -> Float[Array, "settings seeds steps parts directions"]:
    """The states of descents of ½ Σ λᵢ wᵢ²: before every step w, and the state of the rule."""

    def one(hp, curvature, start):
        slope = jax.grad(lambda w: (curvature * w**2).sum() / 2)

        def step(carry, _):
            w, state = carry
            dw, after = rule.update(hp, slope(w), state, w)
            return (apply_updates(w, dw), after), jnp.stack([w, *jax.tree.leaves(state.own)])

        return jax.lax.scan(step, (start, rule.init(hp, start)), length=STEPS)[1]

    return jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))(hyper, curvature, start)


def contraction(states: np.ndarray) -> np.ndarray:
    """The factor per step in the long run, of states `[…, step, part, direction]`: `[…, direction]`.

    A step is linear, so m consecutive states of m parts determine its n-th power: S₀ Mⁿ = Sₙ with one state per row.
    The spectral radius of Mⁿ is ρⁿ for every n.
    """
    *_, steps, m, _ = states.shape
    rows = np.moveaxis(states, -1, -3)
    power = np.linalg.solve(rows[..., :m, :], rows[..., -m:, :])
    return spectral_radius(power) ** (1 / (steps - m))


def measure(keys: Keys, rates: int) -> xr.Dataset:
    """The factors of every run along every direction, at learning rates from below to above its limit."""
    k_curvature, k_start = split(keys, 2)
    curvature = FLATTEST ** np.asarray(uniform(k_curvature, DIRECTIONS))
    curvature[:, 0] = 1
    start = np.asarray(uniform(k_start, DIRECTIONS)) - 0.5
    limits = np.array([stability_limit(*run) for run in RUNS.values()])
    lr = limits[:, None] * np.geomspace(0.01, 1.1, rates)
    edge = limits[:, None] * (1 + EDGE * np.array([-1, 1]))
    found = []
    for (name, beta), each in zip(RUNS.values(), np.hstack([lr, edge]), strict=True):
        rule = optim.rule(name)
        hyper = repeated(tuned(rule, each, beta), len(each))
        found.append(contraction(np.asarray(descend(rule, hyper, curvature, start))))
    factor, at_edge = np.split(np.stack(found), [rates], axis=1)
    return xr.Dataset(
        {
            "factor": (("run", "rate", "seed", "direction"), factor, {"long_name": "factor", "units": "1 per step"}),
            "edge_factor": (
                ("run", "side", "seed"),
                at_edge[..., 0],
                {"long_name": "factor near the limit", "units": "1 per step"},
            ),
            "curvature": (("seed", "direction"), curvature, {"long_name": "curvature λ", "units": "1"}),
            "lr": (("run", "rate"), lr, {"long_name": "learning rate", "units": "1"}),
            "edge_lr": (("run", "side"), edge, {"long_name": "learning rate near the limit", "units": "1"}),
        },
        {"run": list(RUNS), "side": ["below", "above"]},
    )


def scaled_curvature(ds: xr.Dataset) -> xr.DataArray:
    """z = lr λ of every measured factor."""
    return (ds.lr * ds.curvature).transpose(*ds.factor.dims)


def predicted(ds: xr.Dataset) -> xr.DataArray:
    """The prediction of the companion matrices for every measured factor."""
    z = scaled_curvature(ds)
    return z.copy(data=[spectral_radius(companion(*RUNS[str(run)], z.sel(run=run).values)) for run in z.run.values])


def measured_limit(ds: xr.Dataset) -> xr.DataArray:
    """The lr L at which a factor is 1, by linear interpolation between the two rates near it: run, seed."""
    low, high = (ds.edge_lr.sel(side=side) for side in ds.side)
    below, above = (ds.edge_factor.sel(side=side) for side in ds.side)
    return low + (1 - below) * (high - low) / (above - below)


def figure(ds: xr.Dataset) -> Figure:
    """The factor per step against lr λ, one panel per rule: the theory's lines, and the measured marks."""
    fig = plotting.figure(11.0, 4.6)
    panels = dict(zip(LIMITS, fig.subplots(1, len(LIMITS), sharey=True), strict=True))
    fine = np.linspace(0, np.sqrt(4.5), 2000) ** 2
    for run, (rule, beta) in RUNS.items():
        ax, number = panels[rule], MOMENTA.index(beta) if beta else len(MOMENTA)
        style = {"color": plotting.color(number), "linewidth": 1.1}
        ax.plot(fine, spectral_radius(companion(rule, beta, fine)), **style)
        ax.axvline(stability_limit(rule, beta), linestyle="--", **style)
        z, factor = (values.sel(run=run).values.ravel() for values in (scaled_curvature(ds), ds.factor))
        order = np.argsort(z)
        some = order[np.unique(np.searchsorted(z[order], fine[::50]).clip(max=z.size - 1))]
        ax.plot(z[some], factor[some], plotting.MARKERS[number], fillstyle="none", markersize=4, **style)
        if rule != "nesterov":
            ax.plot([], [], plotting.MARKERS[number] + "-", fillstyle="none", label=_name(rule, beta), **style)
    for rule, ax in panels.items():
        ax.axhline(1, color="0.5", linewidth=0.8)
        plotting.dress(ax, xlabel="lr λ", title=title(rule), xlim=(0, fine[-1]), ylim=(0, 1.3))
        ax.set_xscale("function", functions=(np.sqrt, np.square))
        ticks = [0.01, 0.1, 0.5, 1, 2, 3, 4]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panels["sgd"].set_ylabel("factor per step")
    plotting.legend(fig)
    plotting.caption(
        fig,
        f"½ Σ λᵢ wᵢ² in {DIRECTIONS} dimensions · {figures.caption(ds, paired=False)}, each with its curvatures · "
        "marks: measured, some of all; lines: spectral radius of the companion matrix; dashed: limits of stability · "
        "lr λ on an axis of square roots",
    )
    return fig


def _name(rule: str, beta: float) -> str:
    return f"β = {beta:g}" if beta else title(rule)


def worst(gap: xr.DataArray) -> xr.DataArray:
    """The largest gap of every seed that has one."""
    return gap.max([dim for dim in gap.dims if dim != "seed"]).dropna("seed")


def runs(rule: str) -> list[str]:
    """The names of a rule's runs."""
    return [run for run, (name, _) in RUNS.items() if name == rule]


def off_root(ds: xr.Dataset) -> xr.DataArray:
    """|factor − √β| of Momentum where its roots are complex, NaN elsewhere."""
    root = np.sqrt(xr.DataArray([beta for _, beta in RUNS.values()], {"run": list(RUNS)}))
    z = scaled_curvature(ds)
    complex_roots = (z > (1 - root) ** 2) & (z < (1 + root) ** 2)
    return abs(ds.factor - root).where(complex_roots).sel(run=runs("momentum"))


def off_limit(ds: xr.Dataset, rule: str) -> xr.DataArray:
    """Relative difference of the measured limits of stability from theory's."""
    limits = xr.DataArray([stability_limit(*RUNS[run]) for run in runs(rule)], {"run": runs(rule)})
    return abs(measured_limit(ds).sel(run=runs(rule)) / limits - 1)


def claim(text: str, effect: Callable[[xr.Dataset], xr.DataArray], detail: Callable[[xr.Dataset], str]) -> lab.Claim:
    """A claim of the theory of quadratics; effect: gaps, of which the largest of each seed is tested."""
    values = lambda ds: worst(effect(ds))
    return lab.Claim(text, values, lab.exactly(CLOSE), source="theory of quadratics", figure="rates", detail=detail)


def factors(rule: str) -> lab.Claim:
    """The claim that the factors are those of theory."""
    factor = "exactly |1 − lr λ|" if rule == "sgd" else "exactly the spectral radius of its companion matrix"
    return claim(
        f"A step of {title(rule)} leaves {factor} of a direction of curvature λ",
        lambda ds: abs(ds.factor - predicted(ds)).sel(run=runs(rule)),
        lambda ds: f"Each has {ds.factor.sel(run=runs(rule)).isel(seed=0).size:,} factors.",
    )


def limit(rule: str) -> lab.Claim:
    """The claim that the rule is stable up to theory's limit."""

    def detail(ds):
        means = measured_limit(ds).sel(run=runs(rule)).mean("seed").values
        limits = (stability_limit(*RUNS[run]) for run in runs(rule))
        numbers = (f"{m:.6f} (predicted {e:.6f})" for m, e in zip(means, limits, strict=True))
        return f"Its factor passes through 1 at lr L = {', '.join(numbers)}."

    return claim(
        f"{title(rule)} converges below lr = {LIMITS[rule]} and diverges above", lambda ds: off_limit(ds, rule), detail
    )


CLAIMS = (
    *(factors(rule) for rule in LIMITS),
    claim(
        "A step of Momentum leaves exactly √β wherever (1 − √β)² < lr λ < (1 + √β)²",
        off_root,
        lambda ds: f"There are {int(off_root(ds).count()):,} such factors.",
    ),
    *(limit(rule) for rule in LIMITS),
)
