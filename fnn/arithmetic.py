"""What changes the numbers of a run without being an argument: JAX's version and settings, XLA's flags, the device."""

import os
import shlex
from typing import Any

import jax

HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump", "--xla_hlo_profile")
"""XLA's flags that change no number: how many devices there are, and what is written down."""


def arithmetic() -> dict[str, Any]:
    """All of it, as JSON can hold it: two runs are comparable bit for bit only where these are equal."""
    flags = shlex.split(os.environ.get("XLA_FLAGS", ""))
    return {
        "jax": jax.__version__,
        "device": jax.local_devices()[0].device_kind,
        "x64": jax.config.jax_enable_x64,
        "prng": jax.config.jax_default_prng_impl,
        "prng_partitionable": jax.config.jax_threefry_partitionable,
        "matmul_precision": matmul_precision(),
        "xla_flags": sorted(flag for flag in flags if not flag.startswith(HARMLESS)),
    }


def matmul_precision() -> str:
    """The precision of matrix products that JAX is set to: "default" is less than float32's own on some devices."""
    return jax.config.jax_default_matmul_precision or "default"
