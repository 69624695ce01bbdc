"""Differential equations in two dimensions, solved by a network: ill-conditioned, where second-order rules are best.

The loss is the mean square of an equation's residual at points of the domain, one in each cell of a grid, drawn anew at
every step. Derivatives are exact, forward through the network. The network's value is multiplied by a polynomial that
is 0 at the boundary, and the boundary's values are added, so that these hold whatever the weights are (Lagaris et al.
1998, arXiv:physics/9705023). Raissi, Perdikaris & Karniadakis 2019, Physics-informed neural networks,
https://doi.org/10.1016/j.jcp.2018.10.045.

    Poisson   u_xx + u_yy + f = 0 on the unit square, u = 0 at its boundary, where u = sin πx sin πy + ½ sin 2πx sin 2πy
    Burgers   u_t + u u_x = ν u_xx for t in 0…1 and x in −1…1, u(0, x) = −sin πx, u(t, ±1) = 0, ν = 0.01 / π
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fnn.nn.activations import tanh
from fnn.nn.init import glorot
from fnn.nn.models import multilayer
from fnn.tasks.contract import Label, Task
from fnn.tasks.workload import Size, Workload, sized

Function = Callable[[Array], Array]
"""From points `[n, 2]` to a number for each, `[n]`, by its own point alone."""

VISCOSITY = 0.01 / np.pi
GRID = 33
"""Points along either side of the grid on which the error is measured."""


class Equation(NamedTuple):
    """An equation on a rectangle whose solution is known.

    low, high: the corners of its domain.
    bound: `(points, v) -> u`, a function that is right at the boundary from any values v `[n]` of a network.
    residual: `(u, points) -> [n]`, 0 where the function u fulfills the equation.
    solution: `points -> [n]`, in NumPy.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    bound: Callable[[Array, Array], Array]
    residual: Callable[[Function, Array], Array]
    solution: Callable[[np.ndarray], np.ndarray]


class Scale(NamedTuple):
    """The equation, the widths of the hidden layers, the cells along either side and the horizon."""

    equation: Equation
    hidden: tuple[int, ...]
    cells: int
    steps: int


def derivative(u: Function, axis: int) -> Function:
    """∂u / ∂x of this axis."""

    def slope(points):
        along = jnp.zeros_like(points).at[:, axis].set(1)
        return jax.jvp(u, (points,), (along,))[1]

    return slope


MODES = ((1.0, 1, 1), (0.5, 2, 2))
"""Poisson's solution: amplitude, half waves along x, half waves along y."""


def _waves(points, xp, weight=lambda k, l: 1.0) -> Any:
    """The sum of the modes, each times its weight, in the arrays of `xp`: NumPy or jax.numpy."""
    x, y = np.pi * points[:, 0], np.pi * points[:, 1]
    return sum(a * weight(k, l) * xp.sin(k * x) * xp.sin(l * y) for a, k, l in MODES)


def _poisson(u, points):
    second = lambda axis: derivative(derivative(u, axis), axis)(points)
    return second(0) + second(1) + _waves(points, jnp, lambda k, l: np.pi**2 * (k**2 + l**2))


def _burgers(u, points):
    u_x = derivative(u, 1)
    return derivative(u, 0)(points) + u(points) * u_x(points) - VISCOSITY * derivative(u_x, 1)(points)


def cole_hopf(points: Float[np.ndarray, "n 2"], nodes: int = 200) -> Float[np.ndarray, " n"]:
    """The solution of Burgers' equation at (t, x), by Gauss-Hermite quadrature of Cole and Hopf's integrals.

    u = −∫ sin π(x − η) F dη / ∫ F dη with F = exp(−cos π(x − η) / 2πν − η² / 4νt). Basdevant et al. 1986, Spectral and
    finite difference solutions of the Burgers equation, https://doi.org/10.1016/0045-7930(86)90036-8.
    """
    z, weight = np.polynomial.hermite.hermgauss(nodes)
    t, x = (points[:, i : i + 1].astype(np.float64) for i in range(2))
    y = np.pi * (x - np.sqrt(4 * VISCOSITY * t) * z)
    f = weight * np.exp((-np.cos(y) - 1) / (2 * np.pi * VISCOSITY))  # −1: the largest exponent is 0
    return -(np.sin(y) * f).sum(1) / f.sum(1)


POISSON = Equation(
    (0.0, 0.0),
    (1.0, 1.0),
    lambda p, v: v * (p * (1 - p)).prod(1),
    _poisson,
    lambda p: _waves(p, np),
)
BURGERS = Equation(
    (0.0, -1.0),
    (1.0, 1.0),
    lambda p, v: p[:, 0] * (1 - p[:, 1] ** 2) * v - jnp.sin(np.pi * p[:, 1]),
    _burgers,
    cole_hopf,
)

SIZES = {
    "tiny": Scale(POISSON, (8,), 6, 30),
    "small": Scale(POISSON, (32, 32), 12, 1000),
    "full": Scale(BURGERS, (20,) * 8, 100, 20_000),
}


def workload(size: Size = "small") -> Workload:
    """Poisson's equation at small; Burgers' at full size, with the layers and the number of points of Raissi et al."""
    equation, hidden, cells, steps = sized(SIZES, size)
    known = (
        "The loss is 0 at the solution, and ill-conditioned: L-BFGS, or Adam followed by it, solves such problems best "
        "(Rathore et al. 2024, arXiv:2402.01868). Raissi et al. 2019 have a relative error of 7e-4 for Burgers."
    )
    return Workload(solving(equation, hidden, cells), steps, "relative_error", "largest_error", known)


def solving(equation: Equation, hidden: tuple[int, ...], cells: int) -> Task:
    """The task of solving an equation by a network of tanh units, from Glorot's weights.

    cells: along either side of the grid that the points of a step are drawn from.
    Its metrics are the errors on another grid: the L2 norm over that of the solution, and the largest one.
    """
    network = multilayer(hidden, 1, activation=tanh, weights=glorot())
    low, high = (np.asarray(corner, np.float32) for corner in (equation.low, equation.high))
    corners, side = lattice(np.arange(cells)), np.linspace(0, 1, GRID, dtype=np.float32)
    points = low + (high - low) * lattice(side)

    def solved(params, stats) -> Function:
        return lambda p: equation.bound(p, network.apply(params, stats, p, None, False)[0][:, 0])

    def draw(key, data, i):
        return (corners + jax.random.uniform(jax.random.fold_in(key, i), corners.shape)) / cells

    def mean_loss(hp, params, stats, batch, key, train):
        return jnp.square(equation.residual(solved(params, stats), batch)).mean(), stats

    def metrics(hp, params, stats, data):
        off = solved(params, stats)(data["points"]) - data["solution"]
        norm = jnp.linalg.norm
        return {"relative_error": norm(off) / norm(data["solution"]), "largest_error": jnp.abs(off).max()}

    labels = {
        "loss": Label("mean square of the residual", "1"),
        "relative_error": Label("relative L2 error", "1"),
        "largest_error": Label("largest error", "1"),
    }
    return Task(
        lambda hp, key, data: network.init(key, data["points"][:1]),
        *(draw, lambda data, p: low + (high - low) * p, mean_loss, metrics),
        data={"points": points, "solution": equation.solution(points).astype(np.float32)},
        labels=labels,
        about={"batch": len(corners)},
    )


def lattice(side: np.ndarray) -> np.ndarray:
    """The points `[n², 2]` of the square lattice with these n coordinates along either side."""
    return np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
