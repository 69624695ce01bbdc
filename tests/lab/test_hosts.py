"""Processes of one run join each other, or fail with one sentence, within a bounded time."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fnn import lab
from fnn.base.errors import InputError
from fnn.lab import hosts

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Both(lab.HostOptions, lab.DataOptions):
    """Options of an experiment on a data set."""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": 0}, "--seeds is at least 1, not 0"),
        ({"memory": 0.0}, "--memory is more than 0 GiB, not 0"),
        ({"coordinator": "here:1"}, "--coordinator, --processes and --process are for --distributed"),
        ({"process": 0}, "are for --distributed"),
        ({"distributed": True, "process": 0}, "go together, or are left to the cluster"),
        (
            {"distributed": True, "coordinator": "here:1", "processes": 2, "process": 2},
            "--process is from 0 to 1, not 2",
        ),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Both(**options).check()


def test_memory_is_in_gibibytes():
    Both(memory=0.5).check()
    assert Both(memory=0.5).memory_bytes == 2**29
    assert Both().memory_bytes is None


def run(code, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "JAX_COORD"))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean | environment, capture_output=True, text=True, timeout=300
    )


def command(*options, wait=3):
    return run(
        "from fnn import lab\n"
        "from fnn.lab import hosts\n"
        f"hosts.JOIN = {wait}\n"
        "experiment = lab.Experiment(question='Do they meet?', run=lambda cfg: None, config=lab.HostOptions)\n"
        f"experiment.main({['--distributed', *options]!r})"
    )


def test_outside_a_cluster_the_processes_are_unknown(tmp_path):
    done = command("--out", str(tmp_path / "x"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert ": --distributed cannot join other processes; outside Slurm" in line


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_come_are_not_waited_for_without_end(tmp_path, process):
    """Process 0 waits for the others, and they for it: JAX would end the process by a signal, after minutes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{probe.getsockname()[1]}"
    began = time.monotonic()
    done = command("--coordinator", where, "--processes", "2", "--process", str(process), "--out", str(tmp_path / "x"))
    assert time.monotonic() - began < 120
    assert done.returncode == 2
    assert f"The processes have not met at {where} within 3 s" in done.stderr
    assert "Traceback" not in done.stderr


SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NODELIST": "127.0.0.1",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_NODES": "1",
}


def test_one_task_a_host_under_slurm_has_all_gpus():
    """JAX alone would make GPU 0 visible and no other."""
    code = (
        "import jax\nfrom fnn.lab import hosts\nhosts.join(None, None, None)\n"
        "print(jax.process_count(), jax.config.values['jax_cuda_visible_devices'])"
    )
    done = run(code, **SLURM)
    assert done.stdout.split() == ["1", "all"], done.stderr


@pytest.mark.parametrize(
    ("environment", "all_of_them"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4"}, True),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_NODES": "4"}, False),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_NODES": "4", "SLURM_GPUS_PER_TASK": "1"}, True),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_NODES": "4", "SLURM_TRES_PER_TASK": "cpu:4,gres/gpu:2"}, True),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_NODES": "4", "SLURM_TRES_PER_TASK": "cpu:4"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4", "JAX_LOCAL_DEVICE_IDS": "0,1"}, False),
    ],
)
def test_which_gpus_of_a_host_are_a_tasks(environment, all_of_them):
    assert hosts.owns_all_devices(environment) == all_of_them
