"""Does the gradient point at the minimum of a long valley? (notes §1.1, figures 01 and 02)

Draws f(x, y) = x²/20 + y², a valley along x, and the negative gradients that SGD follows; the gradient comes from
`jax.grad`. Then it draws random points of the window and counts.

The notes say: in most places the slope along y is clearly steeper than the one along x, and in many places the
gradient does not point at the minimum (0, 0). Both shares of the window's area are also known exactly; they stand
beside the measured ones. "Clearly steeper" is read as at least twice, and "not at the minimum" as more than 10° off.

Takes about 8 seconds on two cores.
"""

import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import _cli, _lab
from fnn.base import provenance
from fnn.base.errors import require
from fnn.base.statistics import share
from fnn.base.types import Scalar
from fnn.lab import plotting
from fnn.lab.verdicts import Verdict, decide_share
from fnn.train import engine

CLEARLY = 2.0
"""What the notes' "clearly larger" is taken to mean: so many times."""
GRID = 161
"""Points along each side of the grid that the surface is drawn on."""
ARROW_EVERY = 8
"""Every so many points of the grid an arrow, 21 along the longer side of the window."""


@dataclass(frozen=True)
class Config(_cli.Options):
    """Settings of the picture; the defaults are the notes'."""

    seeds: int = 1000
    """Random points of the window, each drawn from a key of its own. No data set is used."""
    condition: float = 20.0
    """The valley is x²/condition + y²: how many times more sharply it bends along y than along x."""
    width: float = 10.0
    """The window goes from −width to width along x."""
    height: float = 5.0
    """The window goes from −height to height along y."""
    tolerance: float = 10.0
    """A gradient points at the minimum where it is off by at most so many degrees."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(condition=1)
        for name in ("width", "height"):
            value = getattr(self, name)
            require(0 < value < np.inf, f"--{name} is a length above 0, not {value}.")
        require(0 < self.tolerance < 90, f"--tolerance is an angle between 0 and 90 degrees, not {self.tolerance}.")


QUICK = Config(seeds=100, quick=True, dataset="mnist_5k")


def valley(w: Float[Array, "2"], condition: Scalar) -> Float[Array, ""]:
    """f(x, y) = x²/condition + y². Its curvatures are 2/condition along x and 2 along y: their ratio is `condition`."""
    return w[0] ** 2 / condition + w[1] ** 2


def run(cfg: Config) -> xr.Dataset:
    """The surface and its gradient on a grid, and the gradient at random points of the window."""
    print(
        f"{cfg.seeds:,} random points, no network and no data set, "
        f"on {provenance.describe_devices(jax.local_devices())}"
    )
    reach = max(cfg.width, cfg.height)
    line = np.linspace(-reach, reach, GRID)
    grid = jnp.stack(jnp.meshgrid(line, line), -1)
    half = jnp.array([cfg.width, cfg.height])
    points = jax.vmap(lambda key: half * jax.random.uniform(key, (2,), minval=-1, maxval=1))(engine.seeds(cfg.seeds))
    slope = jax.grad(valley)
    ds = xr.Dataset(
        {
            "f": (("grid_y", "grid_x"), jax.vmap(jax.vmap(valley, (0, None)), (0, None))(grid, cfg.condition)),
            "field": (
                ("grid_y", "grid_x", "axis"),
                jax.vmap(jax.vmap(slope, (0, None)), (0, None))(grid, cfg.condition),
                {"long_name": "gradient on the grid"},
            ),
            "point": (("seed", "axis"), points),
            "gradient": (("seed", "axis"), jax.vmap(slope, (0, None))(points, cfg.condition)),
        },
        {"grid_x": line, "grid_y": line, "axis": ["x", "y"], "seed": np.arange(cfg.seeds)},
        {
            "condition": cfg.condition,
            "width": cfg.width,
            "height": cfg.height,
            "tolerance": cfg.tolerance,
            "complete": 1,
        },
    )
    ds["angle"] = off_course(ds.point, ds.gradient)
    print(summary(ds))
    return ds


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
    """The exact share of the window where −gradient is more than so many degrees (0 < degrees < 90) off the minimum.

    With s = |y/x| the way to the minimum has slope s and the gradient condition · s, so the tangent of the angle is
    (κ − 1) s / (1 + κ s²), which exceeds T between the roots of κ T s² − (κ − 1) s + T.
    """
    kappa, bar = ds.condition, np.tan(np.radians(degrees))
    inside = (kappa - 1) ** 2 - 4 * kappa * bar**2
    root = np.sqrt(np.maximum(inside, 0))
    low, high = ((kappa - 1 + sign * root) / (2 * kappa * bar) for sign in (-1, 1))
    area = area_above(low, ds.width, ds.height) - area_above(high, ds.width, ds.height)
    return np.where(inside > 0, area, 0.0)


def steepness(ds: xr.Dataset) -> np.ndarray:
    """|∂f/∂y| / |∂f/∂x| at the random points; infinite where the valley is level along x."""
    slope = abs(ds.gradient)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (slope.sel(axis="y") / slope.sel(axis="x")).values


def name(ds: xr.Dataset) -> str:
    """The function as people write it."""
    return f"f(x, y) = x²/{ds.condition:g} + y²"


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Figures 01 and 02 as in the notes, the angle over the plane, and the measured shares beside the exact ones."""
    return {"01_surface": surface(ds), "02_gradient": arrows(ds), "angle": angles(ds), "shares": shares(ds)}


def surface(ds: xr.Dataset) -> Figure:
    """The notes' figure 01: the surface, and beside it the contours."""
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
    # The brightest colours would be lost on white paper.
    lines = flat.contour(x, y, ds.f.values, levels=levels, cmap="cividis", vmax=1.25 * top, linewidths=1.1)
    flat.clabel(lines, fontsize="x-small", fmt="%g")
    flat.set(xlabel="x", ylabel="y", title="Contours", aspect="equal")
    fig.suptitle(f"{name(ds)} (notes, figure 01)")
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
    ax.plot(0, 0, "+", color=plotting.colour(1), markersize=12, markeredgewidth=2)
    window(ax, ds)
    plotting.caption(fig, "arrows: −∇f, their length in proportion; cross: the minimum")
    return fig


def angles(ds: xr.Dataset) -> Figure:
    """How far the negative gradient is off the minimum, over the window."""
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
    """The places of the grid, as (x, y)."""
    x, y = xr.broadcast(ds.grid_x, ds.grid_y)
    return xr.concat([x, y], "axis").assign_coords(axis=["x", "y"]).transpose("grid_y", "grid_x", "axis")


def shares(ds: xr.Dataset) -> Figure:
    """Both shares for every meaning of "clearly steeper" and of "off the minimum": measured beside exact."""
    fig = plotting.figure(9.0, 4.4)
    left, right = fig.subplots(1, 2, sharey=True)
    times = np.geomspace(0.1, 1000, 200)
    compare(left, times, steeper_share(times, ds), steepness(ds))
    left.set(xscale="log", xlabel="r", ylabel="share of the window (%)", title="|∂f/∂y| is more than r times |∂f/∂x|")
    degrees = np.linspace(0.5, 89.5, 179)
    compare(right, degrees, astray_share(degrees, ds), ds.angle.values)
    right.set(xlabel="θ (degrees)", title="−∇f is more than θ off the minimum", ylim=(0, 102))
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    plotting.caption(
        fig, _lab.about(ds, "every seed a random point of the window", paired=False) + "; bars: exact 95 % intervals"
    )
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
        color=plotting.colour(0),
        markersize=4,
        capsize=2,
        label="random points",
    )
    plotting.dress(ax)


def claims(ds: xr.Dataset) -> list[tuple[str, np.ndarray, float]]:
    """(claim, whether it is true at each random point, its exact share of the window)."""
    ratio, off = steepness(ds), ds.tolerance
    return [
        (
            "In most places the slope along y is steeper than the slope along x",
            ratio > 1,
            float(steeper_share(1.0, ds)),
        ),
        (
            f"In most places it is clearly steeper, more than {CLEARLY:g} times",
            ratio > CLEARLY,
            float(steeper_share(CLEARLY, ds)),
        ),
        (
            f"In most places the negative gradient is more than {off:g}° off the direction of the minimum",
            ds.angle.values > off,
            float(astray_share(off, ds)),
        ),
    ]


def summary(ds: xr.Dataset) -> str:
    """The shares, a line a claim."""
    lines = [f"{'measured':>9}{'exact':>9}"]
    lines += [f"{hits.mean():9.1%}{exact:9.1%}  {claim}" for claim, hits, exact in claims(ds)]
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """The notes' claims about figures 01 and 02: "most" is more than half of the window."""
    where = f"the window |x| ≤ {ds.width:g}, |y| ≤ {ds.height:g}"
    return [
        decide_share(
            claim,
            hits,
            0.5,
            f"So it is at {{effect}} % [{{low}}, {{high}}] of {{seeds}} random points of {where}, and on exactly "
            f"{100 * exact:.1f} % of its area.",
            "claim §1.1",
        )
        for claim, hits, exact in claims(ds)
    ]


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
