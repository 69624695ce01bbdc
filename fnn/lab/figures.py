"""The recurring figures, as functions of a labeled data set: title, units, seeds and caption come from its labels.

    figures.curves("loss", hue="init", smooth=11)(dataset)      # a Matplotlib figure

Every shape is a frozen dataclass that is called with a data set. A drawing of another kind is a function
`dataset -> Figure` in plain Matplotlib.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnn.base.errors import InputError, require
from fnn.lab import plotting

WIDTH = 7.0
"""The width of every figure, in inches."""


@dataclass(frozen=True)
class Style:
    """The names, colors and markers of the coordinates of a dimension.

    names: `coordinate -> text` for people. numbers: the color and marker numbers of some coordinates; the others get
    the free numbers in order.
    """

    names: Callable[[Any], str] = str
    numbers: Mapping[Any, int] = field(default_factory=dict)

    def number(self, place: Any, places: Sequence[Any]) -> int:
        """The color and marker number of one of these coordinates."""
        if place in self.numbers:
            return self.numbers[place]
        free = (n for n in itertools.count() if n not in self.numbers.values())
        before = [other for other in places if other not in self.numbers].index(place)
        return next(itertools.islice(free, before, None))


PLAIN = Style()


@dataclass(frozen=True)
class curves:
    """Means over seeds with their 95 % intervals, along `x`; a curve for each `hue`, a panel for each `col`.

    smooth: the window of the notes' smoothing. markers: points between two markers; 0 for none. guide: a level, in the
    variable's unit, and its name. ylim: in the unit that is shown, percent for an accuracy. log: the axes that are
    logarithmic, "x", "y" or "xy". details: what the caption has beside data set and seeds. In these and in the title
    `{lr:g}` is replaced by that attribute of the data set.
    """

    variable: str
    hue: str
    title: str = ""
    x: str = "step"
    col: str = ""
    style: Style = PLAIN
    panels: Callable[[Any], str] = str
    smooth: int = 1
    markers: int = 0
    guide: tuple[float | int, str] | None = None
    log: str = ""
    ylim: tuple[float | int, float | int] | None = None
    columns: int = 4
    details: tuple[str, ...] = ()

    def __call__(self, ds: xr.Dataset) -> Figure:
        """The figure."""
        values = _read(ds, self.variable, {self.hue, self.x, "seed", *([self.col] if self.col else [])})
        hues, (factor, unit) = values[self.hue].values.tolist(), _shown(values)
        fig, panels = _panels(values, self.col, self.panels)
        for number, (ax, part) in enumerate(panels):
            for place in hues:
                one = factor * part.sel({self.hue: place}).transpose("seed", self.x)
                label = self.style.names(place) if number == 0 else ""
                smoothed = plotting.smooth(one.values, self.smooth) if self.smooth > 1 else one.values
                at, worst = self.style.number(place, hues), 0.0 if unit == "%" else math.inf
                plotting.curve(ax, one[self.x].values, smoothed, label, at, markers=self.markers, worst=worst)
            if self.guide:
                label = self.guide[1] if number == 0 else ""
                ax.axhline(factor * self.guide[0], color="black", linestyle=":", linewidth=1.3, zorder=3, label=label)
            _scales(ax, self.log, self.ylim)
            _limit(ax, values, self.x)
        title = _heading(ds, self.title, values)
        _name(fig, panels, title, _label(ds, self.x), _quantity(values))
        plotting.legend(fig, self.columns, title=title if self.col else None)
        window = f"smoothed over {self.smooth} {_plural(self.x)}" if self.smooth > 1 else ""
        plotting.caption(fig, caption(ds, *self.details, "mean with its 95 % interval", window))
        return fig


@dataclass(frozen=True)
class differences:
    """The difference of each coordinate of `dim` from the one before it, paired by seed, as verdicts test it.

    lower: whether lower is better.
    """

    variable: str
    dim: str
    title: str = ""
    x: str = "step"
    style: Style = PLAIN
    smooth: int = 31
    lower: bool = True
    details: tuple[str, ...] = ()

    def __call__(self, ds: xr.Dataset) -> Figure:
        """The figure. Raises `InputError` where `dim` has a single coordinate."""
        values = _read(ds, self.variable, {self.dim, self.x, "seed"})
        places = values[self.dim].values.tolist()
        require(len(places) > 1, f"Differences are between at least two coordinates of {self.dim}.")
        fig = plotting.figure(WIDTH, 1.4 + 1.7 * (len(places) - 1))
        axes = fig.subplots(len(places) - 1, 1, sharex=True, squeeze=False)[:, 0]
        what, (factor, unit) = _noun(values), _shown(values)
        for ax, before, after in zip(axes, places, places[1:], strict=False):
            first, second = (before, after) if self.lower else (after, before)
            gap = (values.sel({self.dim: first}) - values.sel({self.dim: second})).transpose("seed", self.x)
            smoothed = plotting.smooth(factor * gap.values, self.smooth)
            plotting.curve(ax, gap[self.x].values, smoothed, "", self.style.number(after, places))
            ax.axhline(0, color="0.35", linewidth=0.8)
            one, other = map(self.style.names, (first, second))
            ax.set_title(f"{what} of {one} minus {what} of {other}", fontsize="medium")
            plotting.dress(ax, ylabel="points" if unit == "%" else unit)
            _limit(ax, values, self.x)
        axes[-1].set_xlabel(_label(ds, self.x))
        if self.title:
            fig.suptitle(_heading(ds, self.title, values), fontsize="large")
        window = f"smoothed over {self.smooth} {_plural(self.x)}"
        mean = "mean difference with its 95 % interval"
        side = f"above 0 the {'second' if self.lower else 'first'} is ahead"
        plotting.caption(fig, caption(ds, *self.details, mean, window, side))
        return fig


@dataclass(frozen=True)
class dots:
    """One dot per seed for each coordinate of `by`, on the right their mean and the number that diverged.

    at: indices along other dimensions, `{"update": -1}` for the last. guide: an attribute or number, and its name.
    """

    variable: str
    by: str
    title: str = ""
    style: Style = PLAIN
    at: Mapping[str, int] = field(default_factory=lambda: {"update": -1})
    guide: tuple[str | float | int, str] | None = None
    xlim: tuple[float | int, float | int] | None = None
    details: tuple[str, ...] = ()

    def __call__(self, ds: xr.Dataset) -> Figure:
        """The figure."""
        values = _read(ds, self.variable, {self.by, "seed"}, free=self.at)
        values = values.isel({dim: i for dim, i in self.at.items() if dim in values.dims})
        factor, _ = _shown(values)
        places = values[self.by].values.tolist()
        fig = plotting.figure(WIDTH, 1.4 + 0.5 * len(places))
        ax = plotting.axes(fig, _heading(ds, self.title, values), _quantity(values), "")
        if self.guide:
            level = ds.attrs[self.guide[0]] if isinstance(self.guide[0], str) else self.guide[0]
            ax.axvline(factor * level, color="0.35", linestyle=":", linewidth=1, label=self.guide[1])
            plotting.legend(fig)
        for i, place in enumerate(places):
            one = factor * values.sel({self.by: place}).values
            color = plotting.color(self.style.number(place, places))
            ax.scatter(one, np.full(len(one), i), s=24, alpha=0.7, color=color, linewidths=0)
            ended = one[np.isfinite(one)]
            lost = f", {len(one) - len(ended)} diverged" if len(ended) < len(one) else ""
            mean = f"{ended.mean():.2f}{lost}" if len(ended) else "all diverged"
            beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
            ax.annotate(mean, (1, i), xytext=(6, 0), fontsize="small", color="0.25", **beside)
        ax.set_yticks(range(len(places)), [self.style.names(place) for place in places])
        ax.set_ylim(len(places) - 0.5, -0.5)
        if self.xlim:
            ax.set_xlim(*self.xlim)
        plotting.caption(fig, caption(ds, *self.details, "one dot per seed, on the right the mean of finite ones"))
        return fig


@dataclass(frozen=True)
class intervals:
    """The mean over seeds with its 95 % interval against `x`, a number; a line for each coordinate of `hue`.

    It is `curves` with a marker at every point, for few points.
    """

    variable: str
    x: str
    hue: str
    title: str = ""
    col: str = ""
    style: Style = PLAIN
    panels: Callable[[Any], str] = str
    log: str = ""
    guide: tuple[float | int, str] | None = None
    ylim: tuple[float | int, float | int] | None = None
    columns: int = 4
    details: tuple[str, ...] = ()

    def __call__(self, ds: xr.Dataset) -> Figure:
        """The figure."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return curves(**fields, markers=1)(ds)


@dataclass(frozen=True)
class heat:
    """The mean over seeds as color in the plane of `x` and `y`; a panel for each coordinate of `col`.

    limits: the values of the first and last color; None for the extremes of the data.
    """

    variable: str
    x: str
    y: str
    title: str = ""
    col: str = ""
    panels: Callable[[Any], str] = str
    log: str = ""
    limits: tuple[float | int, float | int] | None = None
    details: tuple[str, ...] = ()

    def __call__(self, ds: xr.Dataset) -> Figure:
        """The figure."""
        values = _read(ds, self.variable, {self.x, self.y, *([self.col] if self.col else [])}, free={"seed"})
        values = values.mean("seed") if "seed" in values.dims else values
        factor, _ = _shown(values)
        fig, panels = _panels(values, self.col, self.panels)
        low, high = self.limits or (float(factor * values.min()), float(factor * values.max()))
        drawn = None
        for ax, part in panels:
            flat = factor * part.transpose(self.y, self.x)
            drawn = ax.pcolormesh(flat[self.x].values, flat[self.y].values, flat.values, vmin=low, vmax=high)
            _scales(ax, self.log, None)
        title = _heading(ds, self.title, values)
        _name(fig, panels, title, _label(ds, self.x), _label(ds, self.y))
        if self.col:
            fig.suptitle(title, fontsize="large")
        if drawn is not None:
            fig.colorbar(drawn, ax=[ax for ax, _ in panels], label=_quantity(values))
        plotting.caption(fig, caption(ds, *self.details, "mean over seeds"))
        return fig


@dataclass(frozen=True)
class histograms:
    """Counts by bins: `variable` with the dimension `bins`: rows of panels by `row`, columns by `col`.

    The bins' coordinate is their centers; counts of all seeds are added.
    """

    variable: str
    bins: str
    row: str
    col: str
    title: str = ""
    rows: Callable[[Any], str] = str
    cols: Callable[[Any], str] = str
    details: tuple[str, ...] = ()

    def __call__(self, ds: xr.Dataset) -> Figure:
        """The figure."""
        values = _read(ds, self.variable, {self.bins, self.row, self.col}, free={"seed"})
        values = values.sum("seed") if "seed" in values.dims else values
        rows, cols = values.sizes[self.row], values.sizes[self.col]
        fig = plotting.figure(min(11.0, 1.2 + 1.9 * cols), 0.9 + 1.4 * rows)
        axes = fig.subplots(rows, cols, sharex=True, squeeze=False)
        middles = values[self.bins].values
        for i, row in enumerate(values[self.row].values):
            for j, col in enumerate(values[self.col].values):
                ax = axes[i, j]
                counts = values.sel({self.row: row, self.col: col}).values
                ax.bar(middles, counts, width=np.diff(middles).mean(), color=plotting.color(0))
                plotting.dress(ax, title=self.cols(col) if i == 0 else "", ylabel=self.rows(row) if j == 0 else "")
                ax.set_yticks([])
        for ax in axes[-1]:
            ax.set_xlabel(_label(ds, self.bins))
        fig.suptitle(_heading(ds, self.title, values), fontsize="large")
        plotting.caption(fig, caption(ds, *self.details))
        return fig


def caption(ds: xr.Dataset, *details: str, paired: bool = True) -> str:
    """The caption of a figure: data set, details, number of seeds, and the number of runs that diverged.

    details: `{lr:g}` in them is replaced by that attribute of the data set; empty ones are left out. paired: whether
    the seeds are.
    """
    n = ds.sizes.get("seed", 0)
    parts = [str(ds.attrs["dataset"])] if "dataset" in ds.attrs else []
    parts += [f"minibatch {ds.attrs['batch']}"] if "batch" in ds.attrs else []
    parts += [_filled(one, ds) for one in details if "{" in one]
    parts += [f"{n} seed{'s' * (n > 1)}" + (", paired" if paired and n > 1 else "")] if n else []
    parts += [one for one in details if one and "{" not in one]
    diverged = int((ds.diverged_at >= 0).sum()) if "diverged_at" in ds else 0
    parts += [f"{diverged} run{'s' * (diverged > 1)} diverged, the worst in medians and ranks"] if diverged else []
    return " · ".join(parts)


def _filled(text, ds):
    """The text with the attributes of the data set that it names in braces."""
    try:
        return text.format(**ds.attrs)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(map(str, ds.attrs)) or "none"
        raise InputError(f"The text {text!r} names attributes of the data set, which has {known}: {error}.") from error


def _heading(ds, title, values) -> str:
    """The title, or one from the variable's long name."""
    long_name = str(values.attrs.get("long_name", values.name))
    return _filled(title, ds) if title else long_name[:1].upper() + long_name[1:]


def words(figure: Figure, findings: Sequence[str] = ()) -> dict[str, str]:
    """The title, caption and alternative text of a figure (`title`, `caption`, `alt`), from the text in it.

    findings: sentences about what it shows, for the alternative text.
    """
    axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    titles = [ax.get_title() for ax in axes if ax.get_title()]
    legends = [legend for legend in [*figure.legends, *(ax.get_legend() for ax in axes)] if legend is not None]
    heading = [figure.get_suptitle()]
    heading += [legend.get_title().get_text() for legend in legends]
    title = next((one for one in [*heading, *titles] if one), "")
    series = [text.get_text() for legend in legends for text in legend.get_texts()]
    labels = dict.fromkeys(one for ax in axes for one in (ax.get_xlabel(), ax.get_ylabel()) if one)
    parts = [title]
    parts += [f"Axes: {', '.join(labels)}"] if labels else []
    colors = dict.fromkeys(ax.get_ylabel() for ax in figure.axes if ax not in axes and ax.get_ylabel())
    parts += [f"Colors: {', '.join(colors)}"] if colors else []
    parts += [f"Panels: {'; '.join(one for one in titles if one != title)}"] if len(titles) > 1 else []
    parts += [f"Drawn: {', '.join(series)}"] if series else []
    text = " ".join(figure.get_supxlabel().split())
    alt = " ".join(f"{part.rstrip('.')}." for part in (*parts, *findings) if part)
    return {"title": title, "caption": text, "alt": alt}


def _read(ds, name, dims, free: Iterable[str] = ()):
    """A variable with these dimensions, and possibly `free` ones. Raises `InputError` where there is no such one."""
    if name not in ds:
        raise InputError(f"The data set has no {name}; it has {', '.join(map(str, ds.data_vars))}.")
    found = set(ds[name].dims)
    require(
        dims <= found <= dims | set(free),
        f"{name} has the dimensions {', '.join(map(str, ds[name].dims))}; the figure takes {', '.join(sorted(dims))}.",
    )
    return ds[name]


def _panels(values, col, called) -> tuple[Figure, list[tuple[Axes, xr.DataArray]]]:
    """A figure, and a pair of axes and values for each of its panels."""
    if not col:
        fig = plotting.figure(WIDTH, 4.6)
        return fig, [(plotting.dress(fig.subplots()), values)]
    places = values[col].values.tolist()
    across = min(len(places), 3)
    down = math.ceil(len(places) / across)
    fig = plotting.figure(min(11.0, 1.0 + 3.2 * across), 1.0 + 2.6 * down)
    axes = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[len(places) :]:
        ax.remove()
    shown = list(zip(axes, places, strict=False))
    return fig, [(plotting.dress(ax, title=called(place)), values.sel({col: place})) for ax, place in shown]


def _name(fig, panels, title, x, y):
    if len(panels) == 1 and not panels[0][0].get_title():
        panels[0][0].set(title=title, xlabel=x, ylabel=y)
        return
    for ax, _ in panels:
        spec = ax.get_subplotspec()
        ax.set(xlabel=x if spec.is_last_row() else "", ylabel=y if spec.is_first_col() else "")


def _scales(ax, log, ylim):
    for axis in log:
        ax.set(**{f"{axis}scale": "log"})
    if "y" in log:
        ax.yaxis.set_major_formatter("{x:g}")
    if ylim:
        ax.set_ylim(*ylim)


def _limit(ax, values, x):
    """Show iterations from 0 to the last."""
    if x == "step":
        ax.set_xlim(0, values.sizes["step"])


def _shown(values) -> tuple[float, str]:
    """The factor and unit in which a quantity is shown: shares in percent."""
    units = values.attrs.get("units", "")
    share = units == "1" and "accuracy" in str(values.name)
    return (100.0, "%") if share else (1.0, "" if units == "1" else units)


def _noun(values) -> str:
    return str(values.attrs.get("long_name", values.name)).split(" on the minibatch")[0]


def _quantity(values) -> str:
    _, unit = _shown(values)
    return f"{_noun(values)} ({unit})" if unit else _noun(values)


def _plural(x) -> str:
    return "iterations" if x == "step" else f"{x}s"


def _label(ds, x) -> str:
    if x == "step":
        return "iterations"
    name = str(ds[x].attrs.get("long_name", x)) if x in ds.coords else x
    units = ds[x].attrs.get("units", "") if x in ds.coords else ""
    return f"{name} ({units})" if units not in ("", "1") else name
