"""Everything but arguments that changes the numbers of a run: JAX's version and settings, XLA's flags, the device."""

import os
import shlex
from typing import Any

import jax

HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump", "--xla_hlo_profile")
"""XLA's flags that change no number: the number of devices, and what is dumped."""


SETTINGS = {
    "x64": "jax_enable_x64",
    "prng": "jax_default_prng_impl",
    "prng_partitionable": "jax_threefry_partitionable",
    "prng_offset": "jax_random_seed_offset",
    "gumbel": "jax_high_dynamic_range_gumbel",
    "dtype_promotion": "jax_numpy_dtype_promotion",
    "float16_reductions": "jax_allow_f16_reductions",
    "softmax_custom_jvp": "jax_softmax_custom_jvp",
    "disable_jit": "jax_disable_jit",
    "debug_nans": "jax_debug_nans",
    "debug_infs": "jax_debug_infs",
    "optimization_level": "jax_optimization_level",
    "optimization_effort": "jax_exec_time_optimization_effort",
    "few_optimizations": "jax_disable_most_optimizations",
}
"""Settings of JAX that change numbers, or end a run that diverges."""

VARIABLES = ("NVIDIA_TF32_OVERRIDE", "LIBTPU_INIT_ARGS", "TF_CUDNN_DETERMINISTIC")
"""Environment variables that change numbers and are not settings of JAX."""


def arithmetic() -> dict[str, Any]:
    """JAX's version, the device and the settings of `chosen`, as JSON: where equal, runs are equal bit for bit."""
    return {"jax": jax.__version__, "device": jax.local_devices()[0].device_kind, **chosen()}


def chosen() -> dict[str, Any]:
    """The settings that a user makes, as JSON values. All parts of a shared study have the same ones."""
    flags = shlex.split(os.environ.get("XLA_FLAGS", ""))
    return {
        **{name: _plain(jax.config.values.get(setting)) for name, setting in SETTINGS.items()},
        "matmul_precision": matmul_precision(),
        "xla_flags": sorted(flag for flag in flags if not flag.startswith(HARMLESS)),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else getattr(value, "value", str(value))


def matmul_precision() -> str:
    """JAX's setting of the precision of matrix products; "default" is less than float32's on some devices."""
    return jax.config.jax_default_matmul_precision or "default"  # pyright: ignore[reportAttributeAccessIssue]
