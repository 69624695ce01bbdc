"""Matrix factorizations that may be vmapped in a program for several CPU devices.

jaxlib 0.10 divides a batch of matrices among the threads of a pool, and waits for them in a thread of that pool: when
two devices factorize at the same time on two cores, all threads wait, a deadlock. So on CPU a batch is factorized
matrix by matrix.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.custom_batching
import jax.numpy as jnp
from jaxtyping import Array, Float

Factors = TypeVar("Factors")


def _one_by_one(factorize: Callable[[Array], Factors]) -> Callable[[Array], Factors]:
    alone = jax.custom_batching.sequential_vmap(factorize)
    return functools.wraps(factorize)(lambda a: jax.lax.platform_dependent(a, cpu=alone, default=factorize))


@_one_by_one
def svd(
    a: Float[Array, "rows columns"],
) -> tuple[Float[Array, "rows least"], Float[Array, " least"], Float[Array, "least columns"]]:
    """U, the singular values s, largest first, and Vᵀ: A = U diag(s) Vᵀ."""
    u, s, vt = jnp.linalg.svd(a, full_matrices=False)
    return u, s, vt


@_one_by_one
def singular_values(a: Float[Array, "rows columns"]) -> Float[Array, " least"]:
    """The singular values, largest first."""
    return jnp.linalg.svd(a, compute_uv=False)


@_one_by_one
def qr(a: Float[Array, "rows columns"]) -> tuple[Float[Array, "rows least"], Float[Array, "least columns"]]:
    """Q with orthonormal columns and R, upper triangular: A = Q R."""
    q, r = jnp.linalg.qr(a)
    return q, r


@_one_by_one
def eigh(a: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """The eigenvalues of a symmetric matrix, smallest first, and its eigenvectors, as columns."""
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors
