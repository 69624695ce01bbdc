"""Options of experiments of thousands of networks, which several processes share, on one host or many."""

import contextlib
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import xarray as xr
from jax.experimental import multihost_utils

from fnn.base.errors import InputError, require
from fnn.lab.options import Options

JOIN = 120.0
"""The timeout, in seconds, of the processes of one run that wait for each other at the start."""


@dataclass(frozen=True)
class HostOptions(Options):
    """Options of memory and of hosts: `sweep(…, keep=cfg.keep(), memory=cfg.memory_bytes)`."""

    memory: float | None = None
    """GiB that the networks in training may take together (default: half of what is free on the device)."""
    distributed: bool = False
    """This is one of several processes, on one host or many, that share the work and --out; Slurm, Kubernetes and TPU
    pods number them, elsewhere the next three options do."""
    coordinator: str | None = None
    """HOST:PORT of process 0."""
    processes: int | None = None
    """The number of processes."""
    process: int | None = None
    """The number of this one, from 0 on; process 0 makes the figures."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        if self.memory is not None:
            require(self.memory > 0, f"--memory is more than 0 GiB, not {self.memory}.")
        named = [x is not None for x in (self.coordinator, self.processes, self.process)]
        require(self.distributed or not any(named), "--coordinator, --processes and --process are for --distributed.")
        together = "--coordinator, --processes and --process go together, or are left to the cluster."
        require(all(named) or not any(named), together)
        if self.processes is not None and self.process is not None:
            within = 0 <= self.process < self.processes
            require(within, f"--process is from 0 to {self.processes - 1}, not {self.process}.")

    @property
    def memory_bytes(self) -> float | None:
        """The memory in bytes, as `sweep` takes it; None for half of what is free."""
        return None if self.memory is None else self.memory * 2**30

    def start(self) -> None:
        """Configure JAX, and join the other processes."""
        super().start()
        if self.distributed:
            join(self.coordinator, self.processes, self.process)
            print(f"This is process {jax.process_index()} of {jax.process_count()}.", flush=True)

    def gathered(self, ds: xr.Dataset) -> xr.Dataset | None:
        """The data set in process 0, which saves it and makes the figures; None in the others.

        It is returned when all processes have it: process 0 then removes the work that they read it from.
        """
        if jax.process_count() > 1:
            with contextlib.suppress(RuntimeError):  # a process that is lost reads nothing more
                multihost_utils.sync_global_devices("gathered")
        return ds if jax.process_index() == 0 else None


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes. Raises `InputError` where neither options nor a cluster identify them.

    JAX ends the process by a signal where they do not connect, so it is ended here before that, with a message.
    """

    def end():
        where = coordinator or "the coordinator"
        missing = f"The processes have not met at {where} within {JOIN:g} s: start all of them, with the same options."
        os.write(2, f"{missing}\n".encode())
        os._exit(2)

    watch = threading.Timer(JOIN, end)
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=math.ceil(JOIN) + 60)
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(
            "--distributed cannot join other processes; outside Slurm, Kubernetes and TPU pods --coordinator, "
            f"--processes and --process name them ({str(error).splitlines()[0]})."
        ) from error
    finally:
        watch.cancel()
    if owns_all_devices(os.environ):
        jax.config.update("jax_cuda_visible_devices", "all")
        jax.config.update("jax_rocm_visible_devices", "all")


def owns_all_devices(environment: Mapping[str, str]) -> bool:
    """Whether Slurm assigned all visible GPUs to this process.

    JAX takes a task's number on its host as the number of its one GPU. That is right where the tasks of a host share
    its GPUs, and wrong where there is one task per host, or where only a task's own GPUs are visible to it.
    """
    tasks, nodes = environment.get("SLURM_NTASKS"), environment.get("SLURM_STEP_NUM_NODES")
    one_per_host = tasks is not None and tasks == nodes
    bound = "SLURM_GPUS_PER_TASK" in environment or "gpu" in environment.get("SLURM_TRES_PER_TASK", "")
    return (one_per_host or (tasks is not None and bound)) and "JAX_LOCAL_DEVICE_IDS" not in environment
