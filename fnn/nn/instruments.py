"""Instruments: pure functions that measure a network, its gradients and its steps, for any model and any rule.

They measure arrays and pytrees, so they serve flax or equinox models as well as ours, alone, under `vmap`, or inside
the training loop as the `observe` of `fnn.train.training`. All results are floating-point.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.base import linear_algebra
from fnn.base.checks import check_alike, check_key
from fnn.base.errors import real, require, whole
from fnn.base.trees import norm as norm
from fnn.base.types import Key, Params, Scalar
from fnn.nn.contract import Layer, through

Loss = Callable[[Params], Scalar]


def activations(
    network: Layer, params: Params, stats: Any, x: Array, key: Key | None = None, train: bool = False
) -> tuple[Array, ...]:
    """The output `[batch, features]` of every layer of a `serial` network, first to last."""
    require(isinstance(network, Layer), f"Activations are those of a Layer of several, not of {network!r}.")
    return through(network.parts, params, stats, x, key, train)[0]


def histogram(values: Array, edges: Float[Array, " n_edges"]) -> Float[Array, " n_bins"]:
    """The share of `values` in each bin [edge, next edge), the last bin closed; what lies outside is in none."""
    bins = getattr(edges, "ndim", 0) == 1 and len(edges) >= 2
    bins = bins and real(jnp.diff(edges).min(), 0)
    require(bins, f"A histogram has at least 2 rising edges in an array of one axis, not {edges!r}.")
    counts, _ = jnp.histogram(values, edges)
    return counts / values.size


def mean_square(values: Array) -> Float[Array, ""]:
    """E[x²], the size that an initializer means to keep from layer to layer."""
    return jnp.square(values).mean()


def saturated(values: Array, low: Scalar, high: Scalar, margin: Scalar = 0.05) -> Float[Array, ""]:
    """The share of activations within `margin` · (high − low) of either bound, where a sigmoid's slope is nearly 0."""
    bounds = real(low) and real(high) and real(high - low, 0)
    require(bounds, f"The bounds of an activation are two numbers that rise, not {low!r} and {high!r}.")
    reach = margin * (high - low)
    return ((values < low + reach) | (values > high - reach)).mean()


def dead(values: Float[Array, "batch features"]) -> Float[Array, ""]:
    """The share of units that give 0 for every example of the batch: no gradient reaches their weights."""
    return (values == 0).all(0).mean()


def norms(tree: Params) -> Params:
    """‖·‖₂ of every array of a tree: of weights, gradients, updates."""
    return jax.tree.map(jnp.linalg.norm, jax.tree.map(jnp.ravel, tree))


def distance(params: Params, start: Params) -> Params:
    """‖w − w₀‖₂ of every array: the distance of training from its start."""
    check_alike(params, start)
    return norms(jax.tree.map(jnp.subtract, params, start))


def update_ratio(updates: Params, params: Params) -> Params:
    """‖Δw‖ / ‖w‖ of every array; about 10⁻³ is healthy by a rule of thumb. Infinite or NaN where w = 0."""
    check_alike(updates, params)
    return jax.tree.map(jnp.divide, norms(updates), norms(params))


def rank(w: Float[Array, "rows columns"], tolerance: Scalar | None = None) -> Float[Array, ""]:
    """How many singular values exceed `tolerance` · the largest (by default max(shape) · ε, as NumPy has it)."""
    values = linear_algebra.singular_values(w)
    bar = max(w.shape) * float(jnp.finfo(w.dtype).eps) if tolerance is None else tolerance
    return (values > bar * values[0]).sum().astype(w.dtype)


def stable_rank(w: Float[Array, "rows columns"]) -> Float[Array, ""]:
    """‖W‖²_F / ‖W‖²₂, which small singular values hardly change. Rudelson & Vershynin 2007, arXiv:math/0503442, §1."""
    values = linear_algebra.singular_values(w)
    return jnp.square(values).sum() / jnp.square(values[0])


def hessian_vector(loss: Loss, params: Params, vector: Params) -> Params:
    """∇²L(params) · vector, by forward over reverse: Pearlmutter 1994, Neural Computation 6(1). No matrix is formed."""
    return jax.jvp(jax.grad(loss), (params,), (vector,))[1]


class Extremes(NamedTuple):
    """The largest and smallest eigenvalue found, and an error bound for each.

    Some eigenvalue lies within the bound of the value: |β_k s_k|, the residual of the Ritz pair (Parlett 1998, §13.2).
    """

    top: Array
    bottom: Array
    top_error: Array
    bottom_error: Array


def hessian_extremes(loss: Loss, params: Params, key: Key, iterations: int = 20) -> Extremes:
    """The extreme eigenvalues of the Hessian of `loss` at `params`, by Lanczos with full reorthogonalization.

    Golub & Van Loan 2013, Matrix Computations, Algorithm 10.1.1. Costs `iterations` Hessian-vector products and as many
    vectors of memory; exact once `iterations` reaches the number of parameters.
    """
    require(callable(loss), f"A loss is a function of the parameters, not {loss!r}.")
    require(whole(iterations, 1), f"Lanczos does at least 1 iteration, not {iterations!r}.")
    check_key(key)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    iterations = min(iterations, flat.size)
    product = lambda v: jax.flatten_util.ravel_pytree(hessian_vector(loss, params, unravel(v)))[0]

    def step(basis, i):
        v = basis[i]
        w = product(v)
        alpha, size = jnp.vdot(v, w), jnp.linalg.norm(w)
        for _ in range(2):  # once leaves rounding errors that grow; twice is enough (Parlett 1998, §6.9)
            w -= basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        # What is left of an exhausted Krylov space is rounding: the vectors after it are 0.
        alive = beta > 100 * jnp.finfo(beta.dtype).eps * size
        return basis.at[i + 1].set(jnp.where(alive, w / jnp.where(alive, beta, 1), 0)), (alpha, alive * beta)

    first = jax.random.normal(key, flat.shape, flat.dtype)
    basis = jnp.zeros((iterations + 1, flat.size), flat.dtype).at[0].set(first / jnp.linalg.norm(first))
    basis, (alphas, betas) = jax.lax.scan(step, basis, jnp.arange(iterations))
    # The quotient of a missing vector is replaced by one within the spectrum.
    alphas = jnp.where(basis[:-1].any(1), alphas, alphas[0])
    tridiagonal = jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
    values, vectors = linear_algebra.eigh(tridiagonal)
    errors = betas[-1] * jnp.abs(vectors[-1])
    return Extremes(values[-1], values[0], errors[-1], errors[0])
