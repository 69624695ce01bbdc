"""Every annotation of fnn is checked while the tests run, in float64 where a test asks for it."""

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

# Before any test imports fnn: shapes and types of every call are checked from here on.
install_import_hook("fnn", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "allow")
jax.config.update("jax_default_matmul_precision", "float32")  # GPUs round the factors of products otherwise


@pytest.fixture
def x64():
    """float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked():
    """fnn as its users have it, whose annotations are not checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
