"""The usual figures of a search: parallel coordinates, slices, a fitted surface, and importance."""

from typing import NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from fnn.base import packages
from fnn.lab import plotting

BINS = 8
"""Parts of an axis over which a slice takes its means."""
GRID = 60
"""Points along an axis at which a fitted surface is evaluated."""
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
"""The background of numbers among lines."""


class Trials(NamedTuple):
    """Trials of a search, by seeds.

    settings: for every axis, all on log scales, its values `[S, n]`. values: the scores `[S, n]`, the higher the
    better; NaN where a network diverged. called: the name of the score.
    """

    settings: dict[str, np.ndarray]
    values: np.ndarray
    called: str


def parallel(trials: Trials, caption: str) -> Figure:
    """Parallel coordinates: one line for each trial, from axis to axis to its score; the best are drawn last."""
    fig = plotting.figure(8.0, 4.6)
    ax = plotting.axes(fig, f"Every trial from its setting to its {trials.called}", "", "")
    logs = {name: np.log10(numbers).ravel() for name, numbers in trials.settings.items()}
    columns = {**logs, trials.called: trials.values.ravel()}
    ends = {name: (np.nanmin(column), np.nanmax(column)) for name, column in columns.items()}
    at = np.stack([(c - ends[name][0]) / max(np.ptp(ends[name]), 1e-12) for name, c in columns.items()], axis=1)
    order = np.argsort(np.nan_to_num(columns[trials.called], nan=-np.inf))
    lines = np.stack([np.broadcast_to(np.arange(len(columns)), at.shape), at], axis=-1)[order]
    drawn = LineCollection(list(lines), array=columns[trials.called][order], cmap="viridis", linewidths=0.6, alpha=0.6)
    ax.add_collection(drawn)
    ax.set(xlim=(-0.2, len(columns) - 0.8), ylim=(-0.02, 1.02), yticks=[], xticks=range(len(columns)))
    ax.set_xticklabels(list(columns))
    ax.grid(visible=False)
    for x, name in enumerate(columns):
        ax.axvline(x, color="0.3", linewidth=0.8)
        for y, end in enumerate(ends[name]):
            text = f"{10**end:.1g}" if name in logs else f"{end:.3g}"
            ax.annotate(
                text, (x, y), (-4, 0), textcoords="offset points", ha="right", va="center", fontsize="x-small", bbox=BOX
            )
    fig.colorbar(drawn, ax=ax, label=trials.called)
    plotting.caption(fig, f"{caption}; one line for each trial")
    return fig


def slices(trials: Trials, caption: str) -> Figure:
    """The scores against each axis alone, over all values of the others; the line is the mean over seeds of bins."""
    fig = plotting.figure(9.0, 4.2)
    fig.suptitle(f"{trials.called[0].upper()}{trials.called[1:]} along each axis alone", fontsize="large")
    panels = fig.subplots(1, len(trials.settings), sharey=True)
    for number, (ax, (name, numbers)) in enumerate(zip(panels, trials.settings.items(), strict=True)):
        plotting.dress(ax, xlabel=name, ylabel="" if number else trials.called)
        ax.scatter(numbers, trials.values, s=4, color=plotting.color(number), alpha=0.25, linewidths=0)
        logs = np.log10(numbers)
        edges = np.linspace(logs.min(), logs.max(), BINS + 1)
        where = np.clip(np.digitize(logs, edges) - 1, 0, BINS - 1)
        means = np.array([_binned(w, v) for w, v in zip(where, trials.values, strict=True)])
        plotting.curve(ax, 10 ** ((edges[:-1] + edges[1:]) / 2), means, "", number)
        ax.set(xscale="log")
    plotting.caption(fig, f"{caption}; dots: trials, line: means of {BINS} bins, with the 95 % interval over seeds")
    return fig


def _binned(where: np.ndarray, values: np.ndarray) -> list[float]:
    """The mean of the values in each bin; NaN for an empty one."""
    bins = [values[(where == b) & np.isfinite(values)] for b in range(BINS)]
    return [float(values.mean()) if len(values) else np.nan for values in bins]


def surface(trials: Trials, caption: str) -> Figure:
    """The trials of all seeds in the plane, over a surface fitted to them: SciPy's thin-plate spline."""
    from scipy.interpolate import RBFInterpolator

    fig = plotting.figure(7.0, 4.8)
    (x_name, x), (y_name, y) = trials.settings.items()
    ax = plotting.axes(
        fig, f"{trials.called[0].upper()}{trials.called[1:]}, and a surface fitted to it", x_name, y_name
    )
    good = np.isfinite(trials.values)
    points = np.log10(np.stack([x[good], y[good]], axis=1))
    values = trials.values[good]
    fitted = RBFInterpolator(points, values, smoothing=len(values) / 10, kernel="thin_plate_spline")
    axes = [np.linspace(*ends, GRID) for ends in zip(points.min(0), points.max(0), strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    heights = fitted(grid.reshape(-1, 2)).reshape(GRID, GRID)
    scale = {"vmin": values.min(), "vmax": values.max(), "cmap": "viridis"}
    plane = ax.contourf(*(10**axis for axis in axes), np.clip(heights, values.min(), values.max()), 12, **scale)
    ax.scatter(10 ** points[:, 0], 10 ** points[:, 1], c=values, s=9, edgecolors="white", linewidths=0.3, **scale)
    ax.set(xscale="log", yscale="log")
    ax.grid(visible=False)
    fig.colorbar(plane, ax=ax, label=trials.called)
    plotting.caption(fig, f"{caption}; one dot for each trial, the surface a smoothed thin-plate spline through all")
    return fig


def importance(trials: Trials, caption: str) -> Figure | None:
    """The share of the variance that each axis explains: functional ANOVA on a random forest, one dot per seed.

    Optuna computes it: None where that is not installed.
    """
    if packages.missing("optuna"):
        return None
    fig = plotting.figure(6.4, 3.6)
    ax = plotting.axes(fig, "What the outcome depends on (functional ANOVA)", "share of the variance explained", "")
    found = np.array([_anova(trials, seed) for seed in range(len(trials.values))])
    names = list(trials.settings)
    mean, low, high = plotting.band(found)
    rungs = list(range(len(names)))
    ax.barh(rungs, mean, xerr=(mean - low, high - mean), color=[plotting.color(r) for r in rungs], alpha=0.6, capsize=3)
    for seed in found:
        ax.plot(seed, rungs, ".", color="0.2", markersize=3)
    ax.set(yticks=rungs, yticklabels=names, xlim=(0, 1))
    ax.invert_yaxis()
    plotting.caption(fig, f"{caption}; bar: mean over seeds with its 95 % interval, dots: seeds")
    return fig


def _anova(trials: Trials, seed: int) -> list[float]:
    """Hutter et al. 2014, ICML 32(1), 754–762: the shares of a seed's trials; Optuna makes them sum to 1."""
    import optuna
    from optuna.distributions import FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ends = {name: FloatDistribution(float(v.min()), float(v.max()), log=True) for name, v in trials.settings.items()}
    search, good = optuna.create_study(direction="maximize"), np.flatnonzero(np.isfinite(trials.values[seed]))
    if len(np.unique(trials.values[seed, good])) < 2:
        return [0.0] * len(ends)  # nothing differs, so nothing is explained
    for n in good:
        params = {name: float(numbers[seed, n]) for name, numbers in trials.settings.items()}
        value = float(trials.values[seed, n])
        search.add_trial(optuna.trial.create_trial(params=params, distributions=dict(ends), value=value))
    found = optuna.importance.get_param_importances(
        search, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed)
    )
    return [found[name] for name in trials.settings]
