"""Factorizations are correct, alone and vmapped, and do not hang where several devices factorize together."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.base import linear_algebra

ROOT = Path(__file__).parents[2]


@pytest.fixture
def matrices():
    return jax.random.normal(jax.random.key(0), (2, 3, 5, 4))


def over_all(f):
    return jax.jit(jax.vmap(jax.vmap(f)))


@pytest.mark.parametrize("turned", [False, True])
def test_factors_multiply_to_the_matrix(matrices, turned):
    a = jnp.swapaxes(matrices, -1, -2) if turned else matrices
    u, s, vt = over_all(linear_algebra.svd)(a)
    np.testing.assert_allclose(u * s[..., None, :] @ vt, a, atol=1e-5)
    np.testing.assert_allclose(over_all(linear_algebra.singular_values)(a), s, atol=1e-5)
    q, r = over_all(linear_algebra.qr)(a)
    np.testing.assert_allclose(q @ r, a, atol=1e-5)
    np.testing.assert_allclose(np.tril(r, -1), 0, atol=1e-6)
    gram = a @ jnp.swapaxes(a, -1, -2)
    values, vectors = over_all(linear_algebra.eigh)(gram)
    np.testing.assert_allclose(vectors * values[..., None, :] @ jnp.swapaxes(vectors, -1, -2), gram, atol=1e-4)


def test_vmapped_they_are_those_of_each_alone(matrices):
    many = over_all(linear_algebra.svd)(matrices)
    for i, j in np.ndindex(2, 3):
        for batched, alone in zip(many, linear_algebra.svd(matrices[i, j]), strict=True):
            np.testing.assert_allclose(batched[i, j], alone, atol=1e-5)


PROGRAM = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
from fnn import data, models, sweep, tasks
task = tasks.classification(models.multilayer((100,) * 4, 10), data.load("mnist_5k"))
rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
ds = sweep(task, "galore", over={"lr": rates}, seeds=2, steps=10)
print(dict(ds.loss.sizes))
"""


def test_devices_that_factorize_together_do_not_wait_for_each_other():
    """GaLore's singular vectors, at many learning rates on two devices."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.stdout == "{'lr': 7, 'seed': 2, 'step': 10}\n", done.stderr
