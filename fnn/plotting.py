"""The project's few figure shapes. Figures are built without pyplot: nothing global is read or set.

Colours are Okabe & Ito's, which people with any colour vision can tell apart; markers and dashes tell them apart
again, in print.
"""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "x", "s", "D", "^", "v", "*", "P")


def figure(width: float | int = 7.0, height: float | int = 4.6) -> Figure:
    """An empty figure of this size in inches, laid out so that nothing is cut off."""
    return Figure((width, height), layout="constrained")


def axes(figure: Figure, title: str, x: str, y: str) -> Axes:
    """One set of axes with its labels."""
    return dress(figure.subplots(), title=title, xlabel=x, ylabel=y)


def dress(ax: Axes, **names: Any) -> Axes:
    """Labels, a light grid and no frame: how axes look here."""
    ax.set(**names)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend(figure: Figure, columns: int = 4, title: str | None = None, of: Axes | None = None) -> None:
    """One legend above all axes, where it covers no data, with the entries of all of them or of one.

    A title for a whole figure of panels stands here, above the entries: a `suptitle` would fall onto them.
    """
    entries = of.get_legend_handles_labels() if of else ()
    figure.legend(
        *entries, loc="outside upper center", ncols=columns, frameon=False, title=title, title_fontsize="large"
    )


def caption(figure: Figure, text: str) -> None:
    """Small print under the figure: data set, seeds, what the band is; broken into lines that fit its width."""
    letters = int(figure.get_figwidth() * 14)
    figure.supxlabel(textwrap.fill(text, letters), fontsize="small", color="0.35")


def colour(number: int) -> str:
    """The `number`-th colour; after the last they begin again."""
    return COLOURS[number % len(COLOURS)]


def smooth(values: np.ndarray, window: int = 11, beta: float = 2.0) -> np.ndarray:
    """The last axis under a Kaiser window, mirrored at both ends so that its length stays; the notes' smoothing."""
    if values.shape[-1] < window:
        return values
    half = window // 2
    weights = np.kaiser(window, beta)
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1) @ (weights / weights.sum())


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) over axis 0, the seeds: Student's 95 % interval of the mean; one seed has none.

    Seeds that are not finite at a point (diverged runs) are left out there; say so beside the figure.
    """
    from scipy.stats import t

    there = np.isfinite(values)
    n = np.maximum(there.sum(0), 1)
    mean = np.where(there.any(0), np.where(there, values, 0).sum(0) / n, np.nan)
    spread = np.sqrt(np.where(there, (values - mean) ** 2, 0).sum(0) / np.maximum(n - 1, 1))
    reach = np.where(n > 1, t.ppf(0.975, np.maximum(n - 1, 1)) * spread / np.sqrt(n), 0)
    return mean, mean - reach, mean + reach


def curve(ax: Axes, x: np.ndarray, values: np.ndarray, label: str, number: int, *, markers: int = 0) -> None:
    """The mean over seeds of `values` `[S, n]` with its 95 % band, as the `number`-th curve of a figure.

    markers: a marker every so many points; 0 for none.
    """
    mean, low, high = band(values)
    mark = {"marker": MARKERS[number % len(MARKERS)], "markevery": markers, "markersize": 5} if markers else {}
    ax.plot(x, mean, color=colour(number), label=label, linewidth=1.3, **mark)
    ax.fill_between(x, low, high, color=colour(number), alpha=0.2, linewidth=0)
