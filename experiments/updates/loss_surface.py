"""Does the gradient point at the minimum of a long valley? (notes §1.1, figures 01 and 02)"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.updates._valley import valley
from fnn import lab, sweep
from fnn.base.errors import require
from fnn.base.statistics import share
from fnn.lab import figures, plotting
from fnn.tasks.contract import Label, Trial

CLEARLY = 2.0
"""What the notes' "clearly larger" is taken to mean: this many times."""
GRID = 161
"""Points along each side of the grid that the surface is drawn on."""
ARROW_EVERY = 8
"""Points of the grid from one arrow to the next: 21 arrows along the longer side of the window."""


@dataclass(frozen=True)
class Config(lab.Options):
    """Settings of the picture; the defaults are the notes'."""

    seeds: int = 1000
    """Random points of the window, each drawn by its own key."""
    condition: float = 20.0
    """The valley is x²/condition + y²: how many times more sharply it bends along y than along x."""
    width: float = 10.0
    """The window goes from −width to width along x."""
    height: float = 5.0
    """The window goes from −height to height along y."""
    tolerance: float = 10.0
    """A gradient points at the minimum where it is off by at most this many degrees."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(condition=1)
        for name in ("width", "height"):
            value = getattr(self, name)
            require(0 < value < np.inf, f"--{name} is a length above 0, not {value}.")
        require(0 < self.tolerance < 90, f"--tolerance is an angle between 0 and 90 degrees, not {self.tolerance}.")


def run(cfg: Config) -> xr.Dataset:
    """The gradient at random points of the window, and the surface and its gradient on a grid."""
    half, slope = (cfg.width, cfg.height), jax.grad(valley)

    def measure(hp, key, data):
        point = jnp.array(half) * jax.random.uniform(key, (2,), minval=-1, maxval=1)
        return {"point": point, "gradient": slope(point, cfg.condition)}

    labels = {"point": Label("random point", "1", ("axis",)), "gradient": Label("gradient at it", "1", ("axis",))}
    trial = Trial(measure, labels=labels, coords={"axis": ["x", "y"]})
    ds = sweep(trial, seeds=cfg.seeds, keep=cfg.keep(), progress=True)
    line = np.linspace(-max(half), max(half), GRID)
    grid = jnp.stack(jnp.meshgrid(line, line), -1)
    everywhere = lambda f: jax.vmap(jax.vmap(lambda w: f(w, cfg.condition)))(grid)
    ds = ds.assign_coords(grid_x=line, grid_y=line).assign(
        f=(("grid_y", "grid_x"), everywhere(valley), {"long_name": "f on the grid", "units": "1"}),
        field=(("grid_y", "grid_x", "axis"), everywhere(slope), {"long_name": "gradient on the grid", "units": "1"}),
        angle=off_course(ds.point, ds.gradient),
    )
    names = ("condition", "width", "height", "tolerance")
    return ds.assign_attrs({name: getattr(cfg, name) for name in names})


def off_course(point: xr.DataArray, gradient: xr.DataArray) -> xr.DataArray:
    """The angle between −gradient and the way from `point` to the minimum, in degrees; 0 at the minimum itself."""
    x, y = (point.sel(axis=axis, drop=True) for axis in "xy")
    gx, gy = (gradient.sel(axis=axis, drop=True) for axis in "xy")
    across, along = x * gy - y * gx, x * gx + y * gy
    angle = xr.apply_ufunc(lambda a, b: np.degrees(np.abs(np.arctan2(a, b))), across, along)
    return angle.assign_attrs(long_name="angle off the minimum", units="degrees")


def area_above(slope: float | np.ndarray, width: float, height: float) -> np.ndarray:
    """The exact share of the window |x| ≤ width, |y| ≤ height where |y| > slope · |x|."""
    rise = np.asarray(slope, float) * width
    with np.errstate(divide="ignore"):  # where a slope of 0 makes the branch that is not taken infinite
        return np.where(rise <= height, 1 - rise / (2 * height), height / (2 * rise))


def steeper_share(times: float | np.ndarray, ds: xr.Dataset) -> np.ndarray:
    """The exact share of the window where |∂f/∂y| > times · |∂f/∂x|, that is |y| > times · |x| / condition."""
    return area_above(np.asarray(times) / ds.condition, ds.width, ds.height)


def astray_share(degrees: float | np.ndarray, ds: xr.Dataset) -> np.ndarray:
    """The exact share of the window where −gradient is more than this many degrees (0 < degrees < 90) off the minimum.

    With s = |y/x| the way to the minimum has slope s and the gradient condition · s, so the tangent of the angle is
    (κ − 1) s / (1 + κ s²), which exceeds T between the roots of κ T s² − (κ − 1) s + T.
    """
    kappa, bar = ds.condition, np.tan(np.radians(degrees))
    inside = (kappa - 1) ** 2 - 4 * kappa * bar**2
    root = np.sqrt(np.maximum(inside, 0))
    low, high = ((kappa - 1 + sign * root) / (2 * kappa * bar) for sign in (-1, 1))
    area = area_above(low, ds.width, ds.height) - area_above(high, ds.width, ds.height)
    return np.where(inside > 0, area, 0.0)


def steepness(ds: xr.Dataset) -> xr.DataArray:
    """|∂f/∂y| / |∂f/∂x| at the random points; infinite where the valley is level along x."""
    slope = abs(ds.gradient)
    with np.errstate(divide="ignore", invalid="ignore"):
        return slope.sel(axis="y", drop=True) / slope.sel(axis="x", drop=True)


def name(ds: xr.Dataset) -> str:
    """The formula of f."""
    return f"f(x, y) = x²/{ds.condition:g} + y²"


def surface(ds: xr.Dataset) -> Figure:
    """The notes' figure 01: the surface and its contours."""
    fig = plotting.figure(9.6, 4.4)
    x, y = np.meshgrid(ds.grid_x, ds.grid_y)
    solid = fig.add_subplot(1, 2, 1, projection="3d")
    solid.plot_surface(x, y, ds.f.values, rcount=40, ccount=40, cmap="cividis", edgecolor="0.2", linewidth=0.15)
    solid.set(xlabel="x", ylabel="y", title="Surface")
    solid.set_zlabel("f(x, y)")
    solid.set_box_aspect((4, 4, 3))
    flat = fig.add_subplot(1, 2, 2)
    top = float(ds.f.max())
    _, *levels = MaxNLocator(11).tick_values(0, top)
    levels = [levels[0] / 10, levels[0] / 2, *(level for level in levels if level < 0.95 * top)]
    # The brightest colors are hard to see on white paper.
    lines = flat.contour(x, y, ds.f.values, levels=levels, cmap="cividis", vmax=1.25 * top, linewidths=1.1)
    flat.clabel(lines, fontsize="x-small", fmt="%g")
    flat.set(xlabel="x", ylabel="y", title="Contours", aspect="equal")
    fig.suptitle(f"{name(ds)} (notes, figure 01)")
    plotting.caption(fig, f"on {GRID} × {GRID} points of the window; contours at the levels written on them")
    return fig


def window(ax: Axes, ds: xr.Dataset) -> None:
    """Limits and labels of the window."""
    ax.set(xlim=(-ds.width, ds.width), ylim=(-ds.height, ds.height), xlabel="x", ylabel="y")


def in_window(ds: xr.Dataset) -> xr.Dataset:
    """The part of the grid that lies in the window."""
    return ds.sel(grid_x=slice(-ds.width, ds.width), grid_y=slice(-ds.height, ds.height))


def arrows(ds: xr.Dataset) -> Figure:
    """The notes' figure 02: the field of negative gradients."""
    fig = plotting.figure()
    ax = plotting.axes(fig, f"Negative gradient of {name(ds)} (notes, figure 02)", "x", "y")
    every = slice(None, None, ARROW_EVERY)
    downhill = -in_window(ds).field.isel(grid_x=every, grid_y=every)
    x, y = downhill.sel(axis="x"), downhill.sel(axis="y")
    ax.quiver(downhill.grid_x, downhill.grid_y, x, y, angles="xy", color="0.4", width=0.0025)
    ax.plot(0, 0, "+", color=plotting.color(1), markersize=12, markeredgewidth=2)
    window(ax, ds)
    plotting.caption(fig, "arrows: −∇f, their length in proportion; cross: the minimum")
    return fig


def angles(ds: xr.Dataset) -> Figure:
    """The angle between the negative gradient and the way to the minimum, over the window."""
    fig = plotting.figure()
    ax = plotting.axes(fig, f"How far off the minimum the gradient of {name(ds)} points", "x", "y")
    ax.grid(False)
    seen = in_window(ds)
    off = off_course(grid_points(seen), seen.field)
    image = ax.pcolormesh(seen.grid_x, seen.grid_y, off, cmap="cividis", shading="gouraud", rasterized=True)
    fig.colorbar(image, ax=ax, label="angle between −∇f and the way to (0, 0) (degrees)")
    ax.contour(seen.grid_x, seen.grid_y, off, levels=[ds.tolerance], colors="white", linewidths=1.2)
    x = np.array([-ds.width, 0, ds.width])
    for side in (1, -1):
        ax.plot(x, side * x / np.sqrt(ds.condition), color="black", linestyle="--", linewidth=1)
    window(ax, ds)
    worst = np.degrees(np.arctan((ds.condition - 1) / (2 * np.sqrt(ds.condition))))
    plotting.caption(
        fig,
        f"white: {ds.tolerance:g}° off; dashed: |y| = |x|/√{ds.condition:g}, where it is off most, by exactly "
        f"{worst:.1f}°",
    )
    return fig


def grid_points(ds: xr.Dataset) -> xr.DataArray:
    """The points of the grid, as (x, y)."""
    x, y = xr.broadcast(ds.grid_x, ds.grid_y)
    return xr.concat([x, y], "axis").assign_coords(axis=["x", "y"]).transpose("grid_y", "grid_x", "axis")


def shares(ds: xr.Dataset) -> Figure:
    """Both shares for every meaning of "clearly steeper" and of "off the minimum": measured beside exact."""
    fig = plotting.figure(9.0, 4.4)
    left, right = fig.subplots(1, 2, sharey=True)
    times = np.geomspace(0.1, 1000, 200)
    compare(left, times, steeper_share(times, ds), steepness(ds).values)
    left.set(xscale="log", xlabel="r", ylabel="share of the window (%)", title="|∂f/∂y| is more than r times |∂f/∂x|")
    degrees = np.linspace(0.5, 89.5, 179)
    compare(right, degrees, astray_share(degrees, ds), ds.angle.values)
    right.set(xlabel="θ (degrees)", title="−∇f is more than θ off the minimum", ylim=(0, 102))
    plotting.legend(fig, 2, of=left)
    points = "every seed a random point of the window"
    plotting.caption(fig, figures.caption(ds, points, "bars: exact 95 % intervals", paired=False))
    return fig


def compare(ax: Axes, bars: np.ndarray, exact: np.ndarray, values: np.ndarray) -> None:
    """The exact share above each bar as a line, and on it the measured one with its interval."""
    some = bars[:: len(bars) // 12]
    measured = 100 * np.array([share(values > bar) for bar in some])
    ax.plot(bars, 100 * exact, color="black", linewidth=1.1, label="exact area")
    ax.errorbar(
        some,
        measured[:, 0],
        np.abs(measured[:, 1:] - measured[:, :1]).T,
        fmt="o",
        color=plotting.color(0),
        markersize=4,
        capsize=2,
        label="random points",
    )
    plotting.dress(ax)


def most(statement: str, holds, exact) -> lab.Claim:
    """The claim that something holds in most places, that is in more than half of the window.

    holds: `dataset -> truth of every random point`. exact: `dataset -> the exact share of the window`.
    """
    where = "The points are random in the window |x| ≤ {:g}, |y| ≤ {:g}; of its area it is exactly {:.1f} %."
    return lab.Claim(
        f"In most places {statement}",
        holds,
        lab.share(0.5),
        source="claim §1.1",
        figure="shares",
        detail=lambda ds: where.format(ds.width, ds.height, 100 * float(exact(ds))),
    )


def summary(ds: xr.Dataset) -> str:
    """The measured shares beside the exact ones."""
    rows = (
        ("the slope along y is steeper than along x", steepness(ds) > 1, steeper_share(1.0, ds)),
        (f"it is more than {CLEARLY:g} times as steep", steepness(ds) > CLEARLY, steeper_share(CLEARLY, ds)),
        (f"−∇f is more than {ds.tolerance:g}° off", ds.angle > ds.tolerance, astray_share(ds.tolerance, ds)),
    )
    lines = [f"{'measured':>9}{'exact':>9}"]
    return "\n".join(lines + [f"{float(hits.mean()):9.1%}{float(exact):9.1%}  {what}" for what, hits, exact in rows])


EXPERIMENT = lab.Experiment(
    question="Does the gradient point at the minimum of a long valley?",
    source="notes §1.1, figures 01 and 02",
    says="In most places the slope along y is clearly steeper than the one along x, and in many places the gradient "
    "does not point at the minimum (0, 0).",
    method="Draws f(x, y) = x²/20 + y², a valley along x, and the negative gradients that SGD follows; the gradient "
    "comes from jax.grad. The claims are decided by random points of the window: the share at which each statement is "
    'true; the exact shares of its area are shown too. "Clearly steeper" is read as at least twice, and "not '
    'at the minimum" as more than --tolerance degrees off it.',
    takes="about 8 seconds on two cores",
    config=Config,
    quick={"seeds": 100},
    run=run,
    claims=(
        most(
            "the slope along y is steeper than the slope along x",
            lambda ds: steepness(ds) > 1,
            lambda ds: steeper_share(1.0, ds),
        ),
        most(
            f"it is clearly steeper, more than {CLEARLY:g} times",
            lambda ds: steepness(ds) > CLEARLY,
            lambda ds: steeper_share(CLEARLY, ds),
        ),
        most(
            "the negative gradient is clearly off the direction of the minimum",
            lambda ds: ds.angle > ds.tolerance,
            lambda ds: astray_share(ds.tolerance, ds),
        ),
    ),
    figures={"01_surface": surface, "02_gradient": arrows, "angle": angles, "shares": shares},
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
