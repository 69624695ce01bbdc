"""Axes, legends, captions and curves in one style. Figures are built without pyplot: nothing global is read or set.

Colors are Okabe & Ito's, which are distinguishable with any color vision; markers and dashes distinguish curves in
black-and-white print too.
"""

import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnn.base import statistics
from fnn.base.errors import require, whole

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "x", "s", "D", "^", "v", "*", "P")


def figure(width: float | int = 7.0, height: float | int = 4.6) -> Figure:
    """An empty figure of this size in inches, laid out so that nothing is cut off."""
    return Figure((width, height), layout="constrained")


def axes(figure: Figure, title: str, x: str, y: str) -> Axes:
    """The axes of a figure with a single panel, with their labels."""
    return dress(figure.subplots(), title=title, xlabel=x, ylabel=y)


def dress(ax: Axes, **names: Any) -> Axes:
    """The axes with these labels, a light grid and no frame."""
    ax.set(**names)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend(figure: Figure, columns: int = 4, title: str | None = None, of: Axes | None = None) -> None:
    """Add one legend above all axes, where it covers no data, with the entries of all axes or `of` one.

    columns: at most; fewer where they would be wider than the figure.
    title: of a figure of panels; above the entries, since a `suptitle` would overlap them.
    """
    entries = of.get_legend_handles_labels() if of else ()
    options = {"frameon": False, "title": title, "title_fontsize": "large"}
    for n in range(columns, 0, -1):
        drawn = figure.legend(*entries, loc="outside upper center", ncols=n, **options)
        if n == 1 or drawn.get_window_extent().width <= figure.bbox.width:
            break
        drawn.remove()


def caption(figure: Figure, text: str) -> None:
    """Add a caption under the figure, broken into lines that fit its width."""
    letters = int(figure.get_figwidth() * 14)
    figure.supxlabel(textwrap.fill(text, letters), fontsize="small", color="0.35")


def color(number: int) -> str:
    """The color of this number, modulo the number of colors."""
    return COLORS[number % len(COLORS)]


def smooth(values: np.ndarray, window: int = 11, beta: float | int = 2.0) -> np.ndarray:
    """The values smoothed along the last axis by a Kaiser window, mirrored at both ends, as the notes do."""
    require(whole(window, 1), f"A window is of at least 1 value, not {window!r}.")
    if values.shape[-1] < window:
        return values
    half = window // 2
    weights = np.kaiser(window, beta)
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1) @ (weights / weights.sum())


def band(values: np.ndarray, worst: float | int = math.inf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) over axis 0, the seeds, of `values` `[S, …]`: `statistics.intervals` with finite ends.

    Where some seeds are NaN (runs that diverged) they count as `worst`, ∞ for what is to be small, and all three are
    by ranks, at every point: a curve is a mean everywhere or a median everywhere. Where no seed is finite all three
    are NaN. An interval from −∞ to ∞ is drawn without width, one infinite end at the extreme finite value.
    """
    numbers = getattr(values, "ndim", 0) >= 1 and len(values) > 0
    require(numbers, f"A band is of an array of numbers [seeds, …] with one seed at least, not of {values!r}.")
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    measured = finite.any(0)
    if diverged(values):
        mean, low, high = statistics.by_ranks(np.where(np.isnan(values), worst, values))
    else:
        mean, low, high = statistics.intervals(np.where(measured, values, 0.0))
    undetermined = np.isneginf(low) & np.isposinf(high)
    extremes = values[finite].min(initial=np.inf), values[finite].max(initial=-np.inf)
    ends = (np.where(np.isfinite(end), end, np.clip(end, *extremes)) for end in (low, high))
    low, high = (np.where(undetermined, mean, end) for end in ends)
    mean, low, high = (np.where(measured & np.isfinite(mean), one, np.nan) for one in (mean, low, high))
    return mean, low, high


def diverged(values: np.ndarray) -> int:
    """The number of seeds of `[S, …]` that are not finite at some point where others are; 0 where all are alike."""
    finite = np.isfinite(values)
    mixed = (~finite & finite.any(0)).any()
    return int((~finite).reshape(len(values), -1).any(1).sum()) if mixed else 0


def curve(
    ax: Axes,
    x: np.ndarray,
    values: np.ndarray,
    label: str,
    number: int,
    *,
    markers: int = 0,
    worst: float | int = math.inf,
) -> None:
    """Draw the mean over seeds of `values` `[S, n]` with its 95 % band, in the color and marker of this number.

    Where runs diverged it is the median of all runs, with the diverged ones as the worst (see `band`), and the label
    counts them.
    markers: points between two markers; 0 for none.
    """
    mean, low, high = band(values, worst)
    mark = {"marker": MARKERS[number % len(MARKERS)], "markevery": markers, "markersize": 5} if markers else {}
    if label and (bad := diverged(values)):
        label += f" (median; {bad} of {len(values)} diverged)"
    ax.plot(x, mean, color=color(number), label=label, linewidth=1.3, **mark)
    ax.fill_between(x, low, high, color=color(number), alpha=0.2, linewidth=0)
