"""A noisy quadratic, of which everything is known in closed form.

    f(w) = ½ (w − w*)ᵀ H (w − w*),    the gradient of a step is ∇f(w) + H^½ z,    z ~ N(0, σ² I)

The noisy quadratic model of Zhang et al. 2019, arXiv:1907.04164, §3, with a covariance of the noise in proportion to H.
The eigenvalues of H are spread evenly over four decades on a log scale, from 1 down. Its eigenvectors are a random
rotation, so that rules that treat every coordinate alone gain nothing from the axes. Weights start at w* + N(0, I).

Under SGD every eigenvalue h has its own second moment of the distance to w*, and the expected loss is ½ Σ h e(t), with

    e(0) = 1,    e(t + 1) = (1 − η h)² e(t) + η² h σ².
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.tasks.contract import Label, Task
from fnn.tasks.workload import Size, Workload, sized

DECADES = 4
NOISE = 0.001
"""σ: small, so that curvature decides before noise does."""


class Quadratic(NamedTuple):
    """H and H^½ `[n, n]`, w* `[n]`."""

    hessian: np.ndarray | jax.Array
    root: np.ndarray | jax.Array
    optimum: np.ndarray | jax.Array


class Scale(NamedTuple):
    """The number of weights, and the horizon."""

    n: int
    steps: int


SIZES = {"tiny": Scale(10, 40), "small": Scale(100, 1000), "full": Scale(1000, 10_000)}


def workload(size: Size = "small") -> Workload:
    """The quadratic of this size, with 100 weights at small."""
    n, steps = sized(SIZES, size)
    known = (
        "The loss is 0 at the optimum, and SGD's expected loss has a closed form (Zhang et al. 2019, "
        "arXiv:1907.04164). The condition number is 10⁴; Newton's method is at the noise after one step."
    )
    return Workload(noisy(quadratic(n)), steps, "expected_loss", "distance", known)


def eigenvalues(n: int) -> np.ndarray:
    """`[n]`, from 1 down to 10^−`DECADES`."""
    return np.logspace(0, -DECADES, n)


def quadratic(n: int) -> Quadratic:
    """The quadratic of n weights; its rotation and its optimum are drawn with seed 0."""
    rng = np.random.default_rng(0)
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    q = q * np.sign(np.diag(r))  # uniform over rotations: Mezzadri 2007, arXiv:math-ph/0609050
    power = lambda p: ((q * eigenvalues(n) ** p) @ q.T).astype(np.float32)
    return Quadratic(power(1), power(0.5), rng.standard_normal(n).astype(np.float32))


def noisy(data: Quadratic, noise: float = NOISE) -> Task:
    """The task of minimizing a quadratic by gradients with noise of this σ.

    Its metrics are the loss without noise and the distance to the optimum.
    """

    def init(hp, key, data):
        return data.optimum + jax.random.normal(key, data.optimum.shape), ()

    def draw(key, data, i):
        return noise * jax.random.normal(jax.random.fold_in(key, i), (1, *data.optimum.shape))

    def batch(data, z):
        return jax.tree.map(lambda a: a[None], data), z @ data.root

    def mean_loss(hp, w, stats, batch, key, train):
        (hessian, _, optimum), slope = batch
        off = w - optimum
        return (jnp.einsum("bi,bij,bj->b", off, hessian, off) / 2 + (slope * off).sum(1)).mean(), stats

    def metrics(hp, w, stats, data):
        off = w - data.optimum
        return {"expected_loss": off @ data.hessian @ off / 2, "distance": jnp.linalg.norm(off)}

    labels = {
        "loss": Label("loss with the noise of the step", "1"),
        "expected_loss": Label("expected loss", "1"),
        "distance": Label("distance to the optimum", "1"),
    }
    return Task(init, draw, batch, mean_loss, metrics, data=data, labels=labels, about={"batch": 1})
