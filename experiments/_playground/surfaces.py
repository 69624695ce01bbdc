"""The surfaces of the report's interactive figure: f(x, y) ≥ 0 with its minima at 0, a window and a start."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from contourpy import contour_generator
from jaxtyping import Array, Float

from experiments.updates._valley import valley
from fnn.base.types import Scalar

CONDITIONS = (1, 2, 5, 10, 20, 50, 100)
"""The valley's condition numbers κ."""


@dataclass(frozen=True)
class Surface:
    """A function of `w = (x, y)`, with its formula, window, start and minima.

    window: (x low, x high, y low, y high).
    minima: where f is 0.
    """

    name: str
    formula: str
    value: Callable[[Float[Array, "2"]], Scalar]
    window: tuple[float, float, float, float]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]


def rosenbrock(w: Float[Array, "2"]) -> Scalar:
    """(1 − x)² + 100 (y − x²)², a bent valley. Rosenbrock 1960, Comput. J. 3."""
    x, y = w
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(w: Float[Array, "2"]) -> Scalar:
    """(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)², flat with steep walls. Beale 1958."""
    x, y = w
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def saddle(w: Float[Array, "2"]) -> Scalar:
    """x²/2 + (y² − 2)²/8: a saddle at (0, 0), where f = 1/2, between two minima at y = ±√2."""
    x, y = w
    return x**2 / 2 + (y**2 - 2) ** 2 / 8


def all_surfaces() -> tuple[Surface, ...]:
    """The valley at every condition number, then the other surfaces."""
    valleys = tuple(
        Surface(f"valley, κ = {k}", f"x²/{k} + y²", lambda w, k=k: valley(w, k), (-10, 10, -5, 5), (-7, 2), ((0, 0),))
        for k in CONDITIONS
    )
    return (
        *valleys,
        Surface("Rosenbrock", "(1 − x)² + 100 (y − x²)²", rosenbrock, (-2, 2, -1, 3), (-1.5, 2), ((1, 1),)),
        Surface(
            "Beale",
            "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
            beale,
            (-4.5, 4.5, -2, 2),
            (1, 1.5),
            ((3, 0.5),),
        ),
        Surface(
            "saddle",
            "x²/2 + (y² − 2)²/8",
            saddle,
            (-3, 3, -2.5, 2.5),
            (-2, 0.01),
            ((0, 2**0.5), (0, -(2**0.5))),
        ),
    )


def any_value(surfaces: tuple[Surface, ...], number: Scalar, w: Float[Array, "2"]) -> Scalar:
    """f of the surface with this number, which may be traced: so that one compiled program covers all of them."""
    return jax.lax.switch(number, [surface.value for surface in surfaces], w)


def contours(surface: Surface, levels: int = 11, points: int = 121) -> list[tuple[float, list[np.ndarray]]]:
    """(level, lines `[n, 2]`), levels a constant factor apart in the window's middle 96 % of values of f."""
    left, right, low, high = surface.window
    x, y = np.linspace(left, right, points), np.linspace(low, high, points)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    values = np.asarray(jax.vmap(surface.value)(jnp.asarray(grid))).reshape(points, points)
    lowest, highest = np.quantile(values, (0.01, 0.97))
    drawer = contour_generator(x, y, values)
    return [
        (float(at), [np.asarray(line) for line in drawer.lines(at)]) for at in np.geomspace(lowest, highest, levels)
    ]
