"""What changes the numbers of a run is known, recorded, and compared wherever work goes on or is shared."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

from fnn import search
from fnn.base import provenance
from fnn.base.arithmetic import SETTINGS, arithmetic, chosen
from fnn.base.errors import InputError
from fnn.search.study import Shared
from fnn.store import Store
from fnn.train import engine

CHANGES = {
    "JAX_ENABLE_X64": ("1", "x64"),
    "JAX_DEFAULT_PRNG_IMPL": ("rbg", "prng"),
    "JAX_THREEFRY_PARTITIONABLE": ("0", "prng_partitionable"),
    "JAX_RANDOM_SEED_OFFSET": ("7", "prng_offset"),
    "JAX_NUMPY_DTYPE_PROMOTION": ("strict", "dtype_promotion"),
    "JAX_DEFAULT_MATMUL_PRECISION": ("bfloat16", "matmul_precision"),
    "JAX_DEBUG_NANS": ("1", "debug_nans"),
    "JAX_DISABLE_JIT": ("1", "disable_jit"),
    "JAX_SOFTMAX_CUSTOM_JVP": ("1", "softmax_custom_jvp"),
    "NVIDIA_TF32_OVERRIDE": ("1", "environment"),
    "XLA_FLAGS": ("--xla_cpu_enable_fast_math=true", "xla_flags"),
}


@pytest.fixture(scope="module")
def elsewhere():
    """What processes with each of these variables set record, and one with none."""
    code = (
        "import json, os, sys\n"
        "changes = json.loads(sys.argv[1])\n"
        "for name, value in [(None, None), *changes]:\n"
        "    if os.fork() == 0:\n"
        "        if name:\n"
        "            os.environ[name] = value\n"
        "        from fnn.base.arithmetic import chosen\n"
        "        print(json.dumps([name, chosen()]), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    clean = {name: value for name, value in os.environ.items() if name not in CHANGES}
    changes = json.dumps([(name, value) for name, (value, _) in CHANGES.items()])
    done = subprocess.run(
        [sys.executable, "-c", code, changes],
        cwd=Path(__file__).parents[2],
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("variable", CHANGES)
def test_every_change_is_recorded(elsewhere, variable):
    before, after = elsewhere["null"] if "null" in elsewhere else elsewhere[None], elsewhere[variable]
    assert [name for name in before if before[name] != after[name]] == [CHANGES[variable][1]]


def test_the_number_of_devices_changes_no_result(monkeypatch):
    before = chosen()
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8")
    assert chosen() == before


def test_every_setting_exists_and_is_plain():
    assert set(SETTINGS.values()) <= set(jax.config.values)
    assert json.loads(json.dumps(arithmetic())) == arithmetic()


def test_provenance_records_it():
    @dataclass(frozen=True)
    class Config:
        lr: float = 0.1

    assert provenance.provenance(Config())["arithmetic"] == arithmetic()


@pytest.fixture
def other_numbers():
    """In a later process JAX draws its random numbers in another way."""
    change = lambda: jax.config.update("jax_default_prng_impl", "rbg")
    yield change
    jax.config.update("jax_default_prng_impl", "threefry2x32")


def test_work_is_not_continued_with_other_numbers(tmp_path, other_numbers):
    Store(tmp_path, {"what": "this"}).claim()
    Store(tmp_path, {"what": "this"}).claim()
    other_numbers()
    with pytest.raises(InputError, match="prng"):
        Store(tmp_path, {"what": "this"}).claim()


def test_one_study_has_one_way_to_compute(tmp_path, other_numbers):
    pytest.importorskip("optuna")
    space = {"lr": search.Log(1e-3, 1.0)}
    with Shared(tmp_path / "study.log", "study", space) as study:
        study.ask(1)
        study.tell(np.zeros(1))
    other_numbers()
    with pytest.raises(InputError, match="The study study is computed with other settings of prng"):
        Shared(tmp_path / "study.log", "study", space)
    assert engine.seeds(1).dtype != jax.random.key(0, impl="threefry2x32").dtype
