"""What experiments of thousands of networks share: memory and hosts as options, and a campaign under a progress bar."""

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import xarray as xr
from tqdm import tqdm

from experiments import _cli
from fnn.base.errors import InputError, require
from fnn.base.types import Hyper, Keys
from fnn.train.campaign import Campaign, Share, Trial

POLL = 0.5
"""Seconds between two checks of what other processes have done."""

JOIN = 120.0
"""The timeout, in seconds, of the processes of one run that wait for each other at the start."""

PATIENCE = 60.0
"""Seconds in which none of the others is at work after which they are given up: more than they take to start."""


@dataclass(frozen=True)
class Options(_cli.Options):
    """Options that mean the same in every experiment of thousands of networks."""

    memory: float | None = None
    """GiB that the networks in training may take together (default: half of what is free on the device)."""
    distributed: bool = False
    """This is one of several processes, on one host or many, that share the work and --out; Slurm, Kubernetes and TPU
    pods tell them apart, elsewhere the next three options do."""
    coordinator: str | None = None
    """HOST:PORT where process 0 is to be found."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """Which of them this is, from 0 on; process 0 makes the figures."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        if self.memory is not None:
            require(self.memory > 0, f"--memory is more than 0 GiB, not {self.memory}.")
        told = [self.coordinator, self.processes, self.process]
        require(all(x is None for x in told) or self.distributed, "--coordinator is for --distributed.")
        given = sum(x is not None for x in told)
        require(given in (0, 3), "--coordinator, --processes and --process go together, or are left to the cluster.")
        if self.processes is not None and self.process is not None:
            within = 0 <= self.process < self.processes
            require(within, f"--process is from 0 to {self.processes - 1}, not {self.process}.")

    def start(self) -> None:
        """Set JAX up, and join the other processes."""
        super().start()
        if self.distributed:
            _join(self.coordinator, self.processes, self.process)


def _join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes. Raises `InputError` where neither options nor a cluster identify them.

    JAX ends the process by a signal where they do not connect, so it is ended here before that, with a message.
    """

    def give_up():
        where = coordinator or "the coordinator"
        missing = f"The processes have not met at {where} within {JOIN:g} s: start all of them, with the same options."
        os.write(2, f"{missing}\n".encode())
        os._exit(2)

    watch = threading.Timer(JOIN, give_up)
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=math.ceil(JOIN) + 60)
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(
            "--distributed cannot join other processes; outside Slurm, Kubernetes and TPU pods --coordinator, "
            f"--processes and --process say who they are ({str(error).splitlines()[0]})."
        ) from error
    finally:
        watch.cancel()
    if _all_devices_are_ours(os.environ):
        jax.config.update("jax_cuda_visible_devices", "all")
        jax.config.update("jax_rocm_visible_devices", "all")


def _all_devices_are_ours(environment: Mapping[str, str]) -> bool:
    """Whether Slurm assigned all visible GPUs to this process.

    JAX takes a task's number on its host as the number of its one GPU. That is right where the tasks of a host share
    its GPUs, and wrong where there is one task per host, or where only a task's own GPUs are visible to it.
    """
    tasks, nodes = environment.get("SLURM_NTASKS"), environment.get("SLURM_STEP_NUM_NODES")
    one_per_host = tasks is not None and tasks == nodes
    bound = "SLURM_GPUS_PER_TASK" in environment or "gpu" in environment.get("SLURM_TRES_PER_TASK", "")
    return (one_per_host or (tasks is not None and bound)) and "JAX_LOCAL_DEVICE_IDS" not in environment


def networks(
    cfg: Options,
    trial: Trial,
    hps: Hyper,
    keys: Keys,
    data: Any,
    dims: Mapping[str, Sequence[str]],
    beside: xr.Dataset,
) -> xr.Dataset | None:
    """The trial at every setting for every key, labelled as by `Campaign.assemble`.

    Blocks are kept in the experiment's folder until all are there, so that the same command goes on where it was cut
    off, also by a kill. None in every process but the first, which waits for what the others do.
    """
    folder = _cli.under_way(cfg)
    memory = None if cfg.memory is None else cfg.memory * 2**30
    campaign = Campaign(folder, trial, hps, keys, data, memory=memory)
    share = Share(jax.process_index(), jax.process_count())
    done, all_there_are = campaign.trials_done(), campaign.plan.trials
    print(first_line(campaign, done, share), flush=True)
    with tqdm(total=all_there_are, initial=done, unit="network", disable=None, leave=False) as bar:
        try:
            for report in campaign.run(share):
                bar.update(report.trials)
            if share.process != 0:
                return None
            alone_since = time.monotonic()
            while (done := campaign.trials_done()) < all_there_are:
                bar.update(done - bar.n)
                if campaign.at_work():
                    alone_since = time.monotonic()
                alone = time.monotonic() - alone_since
                require(alone < PATIENCE, f"{kept(campaign)}, and no other process is at the rest: start all again.")
                time.sleep(POLL)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{kept(campaign)}, and the same command goes on from there") from None
    return labelled(campaign, dims, beside)


def kept(campaign: Campaign) -> str:
    """How much of a campaign is on disk, and where."""
    return f"{campaign.trials_done():,} of {campaign.plan.trials:,} networks are in {campaign.folder}"


def first_line(campaign: Campaign, done: int, share: Share) -> str:
    """How the work is cut up, and how many of its trials are there already."""
    plan = campaign.plan
    there = f", {done:,} of them done before" if done else ""
    mine = f"; this is process {share.process} of {share.of}" if share.of > 1 else ""
    return (
        f"{plan.trials:,} networks{there}: {plan.blocks:,} blocks of {plan.block.settings} settings × "
        f"{plan.block.seeds} seed{'s' * (plan.block.seeds > 1)}, a block a device, "
        f"{campaign.bytes_needed / 1e6:,.0f} MB at a time{mine}"
    )


def labelled(campaign: Campaign, dims: Mapping[str, Sequence[str]], beside: xr.Dataset) -> xr.Dataset:
    """The records of all blocks, read lazily: a variable comes into memory when it is used."""
    path = campaign.folder / "all.nc"
    campaign.assemble(path, dims, beside)
    return xr.open_dataset(path, engine="h5netcdf")
