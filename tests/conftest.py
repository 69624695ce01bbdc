"""Every annotation of fnn is checked while the tests run, in float64 where a test requests it, in bounded memory."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from pathlib import Path

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

# Before any test imports fnn: shapes and types of every call are checked from here on.
install_import_hook("fnn", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "allow")
jax.config.update("jax_default_matmul_precision", "float32")  # GPUs round the factors of products otherwise
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "float32"  # also in the processes that tests start

MEMORY = 1800
"""The most resident memory in MB that a process of tests may need: `pytest -n auto` starts one on every core."""


def pytest_configure(config):
    """Keep compiled programs in pytest's cache, for later runs, other workers and the processes that tests start.

    A program is found by its operations, the compiler's version and options, and the processor; `pytest --cache-clear`
    removes all.
    """
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and hasattr(config, "cache"):
        with contextlib.suppress(OSError):  # a checkout may be read-only
            folder = str(config.cache.mkdir("compiled"))
            jax.config.update("jax_compilation_cache_dir", folder)
            os.environ["JAX_COMPILATION_CACHE_DIR"] = folder


@pytest.fixture(autouse=True)
def interrupts():
    """Ctrl-C as Python has it: a command line that ends ignores further ones, a shell those of its background jobs."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


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


@pytest.fixture
def quickly_compiled():
    """Programs that are compiled in half of the time, and slow: for those that do little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Drop the compiled programs after the last test of a file, and earlier where they fill half of `MEMORY`;
    fail a test during which the process needed more."""
    try:
        result = yield
    finally:
        if nextitem is None or nextitem.path != item.path or resident("VmRSS") > MEMORY / 2:
            drop_programs()
    peak = resident("VmHWM")
    if peak > MEMORY and jax.default_backend() == "cpu":  # a GPU's driver needs as much again
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again, for the next test
        pytest.fail(f"This process of tests needed {peak} MB of memory, and may need {MEMORY} MB.")
    return result


def drop_programs() -> None:
    """Free every compiled program: JAX keeps them for as long as the process lives, and glibc the freed pages."""
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # there are other C libraries
            ctypes.CDLL(None).malloc_trim(0)


def resident(field: str) -> int:
    """The process's resident memory in MB now (`VmRSS`) or at its peak (`VmHWM`); 0 where that is unknown."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{field}:")), 0)
