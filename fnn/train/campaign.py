"""Campaigns: sweeps too large to lose, thousands of networks over devices and hosts, on disk as they go.

A *trial* is what becomes of one network, a pure function `(hp, key, data) -> {name: array}`. A campaign does it for
every setting and every seed. Trials that are stepped together are a *block*: some settings of one seed or a few, which
share whatever depends on the seed alone, its minibatches say. A device does a block at a time and keeps it in a
`fnn.store.Store`. Which trials make a block depends on nothing but their number, and all blocks are done by one and the
same program, so a campaign that was cut off, or is spread over other devices or hosts, gives the same numbers, bit for
bit.
"""

import contextlib
import hashlib
import math
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array

from fnn import store
from fnn.base.checks import check_hyper, check_keys, check_settings
from fnn.base.errors import listed, real, require, whole
from fnn.base.types import Hyper, Key, Keys
from fnn.lab import results
from fnn.store import Store
from fnn.tasks.classification import check_splits
from fnn.train.engine import sweep

Trial = Callable[[Hyper, Key, Any], Mapping[str, Array]]
"""`(hp, key, data) -> record`, a pure function: what there is to know of one network."""

SHARE_OF_MEMORY = 0.5
"""What a campaign takes of the memory that is free, unless told otherwise."""


class Block(NamedTuple):
    """How many settings and seeds are stepped together."""

    settings: int
    seeds: int

    def half(self) -> "Block":
        """One of about half as many trials."""
        return self._replace(seeds=-(-self.seeds // 2)) if self.seeds > 1 else Block(-(-self.settings // 2), 1)


ON_CPU = Block(16, 1)
"""Enough for large matrix products, few enough to stay in the caches."""
TRIALS_ELSEWHERE = 1024
"""Other devices have the arithmetic to fill."""


class Share(NamedTuple):
    """Which of so many processes this is, from 0 on: of n it does every n-th block."""

    process: int
    of: int


ALONE = Share(0, 1)


@dataclass(frozen=True)
class Plan:
    """How settings × seeds are cut into blocks, those of a seed one after the other."""

    settings: int
    seeds: int
    block: Block

    @property
    def trials(self) -> int:
        """How many there are in all."""
        return self.settings * self.seeds

    @property
    def blocks(self) -> int:
        """How many blocks they make."""
        return math.ceil(self.seeds / self.block.seeds) * self._in_a_row

    @property
    def _in_a_row(self) -> int:
        return math.ceil(self.settings / self.block.settings)

    def place(self, number: int) -> tuple[slice, slice]:
        """The settings and the seeds of a block; those at the ends have fewer."""
        row, place = divmod(number, self._in_a_row)
        (s, k), (first_s, first_k) = self.block, (place * self.block.settings, row * self.block.seeds)
        return slice(first_s, min(first_s + s, self.settings)), slice(first_k, min(first_k + k, self.seeds))


class Done(NamedTuple):
    """A block that is on disk.

    trials: how many it has.
    compile_seconds, seconds, writing_seconds: what it took to compile beforehand (a device's first only), to train, and
        to write.
    """

    trials: int
    compile_seconds: float
    seconds: float
    writing_seconds: float


class Campaign:
    """The trial at every setting `[G]` for every key `[S]`, in blocks that are kept in a folder.

    block: what is stepped together; by default what the folder has, or else what suits the devices and fits `memory`.
    memory: bytes that all local devices together may take; by default a share of what is free.
    devices: by default all local ones.

    Raises `InputError` where a setting is out of range, a single trial does not fit into the memory, or the folder
    cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        trial: Trial,
        hps: Hyper,
        keys: Keys,
        data: Any,
        *,
        block: Block | None = None,
        memory: float | None = None,
        devices: Sequence[Any] | None = None,
    ):
        check_hyper(hps)
        check_keys(keys)
        check_splits(data)
        settings = check_settings(hps)
        require(callable(trial), f"A trial is a function (hp, key, data) -> record, not {trial!r}.")
        fits = memory is None or (real(memory) and memory > 0) or memory == math.inf
        require(fits, f"The memory is a number of bytes above 0, not {memory!r}.")
        folder = store.as_folder(folder)
        sound = block is None or (isinstance(block, tuple) and len(block) == 2 and all(whole(n, 1) for n in block))
        require(sound, f"A block has at least 1 setting and 1 seed, Block(2, 8) say, not {block!r}.")
        given = devices is None or (listed(devices) and len(devices) > 0)
        require(given, f"A campaign runs on a list of devices, as jax.local_devices() gives it, not on {devices!r}.")
        self.keys, self.data = keys, data
        self.hps = jax.tree.map(np.asarray, hps)
        self.devices = jax.local_devices() if devices is None else list(devices)
        self.step_block = jax.jit(lambda hps, keys, data: sweep(trial, hps, keys, data))
        try:
            kept = store.manifest(folder).get("block")
        except store.Damaged:  # `Store.claim` writes it again
            kept = None
        if kept and block is None:
            block, memory = Block(*kept), math.inf
        elif memory is None:
            memory = _free(self.devices) * SHARE_OF_MEMORY
        self.plan, self.lowered, self.program = self._fit(settings, block or _suiting(self.devices, settings), memory)
        self.bytes_needed = _held(self.program, self.devices)
        self.store = Store(folder, self.manifest())

    @property
    def folder(self) -> Path:
        """Where the blocks are."""
        return self.store.folder

    def _fit(self, settings, block, memory):
        """The plan with the largest blocks that fit, and their program on the first device, lowered and compiled."""
        plan = Plan(settings, len(self.keys), Block(min(block.settings, settings), min(block.seeds, len(self.keys))))
        lowered = self._lower(plan, self.devices[0])
        program = lowered.compile()
        needed = _held(program, self.devices)
        if needed <= memory:
            return plan, lowered, program
        told = f"A trial on every device takes {needed / 1e6:,.0f} MB, and {memory / 1e6:,.0f} MB are all it may take."
        require(plan.block != Block(1, 1), told)
        return self._fit(settings, plan.block.half(), memory)

    def _lower(self, plan, device):
        return self.step_block.lower(*self._arguments(plan, 0, device), jax.device_put(self.data, device))

    def _arguments(self, plan, number, device):
        """The settings and keys of a block; where it has fewer than others its last ones are repeated."""
        places = zip(plan.place(number), plan.block, (plan.settings, plan.seeds), strict=True)
        settings, seeds = (np.minimum(np.arange(at.start, at.start + n), end - 1) for at, n, end in places)
        return jax.device_put((jax.tree.map(lambda leaf: leaf[settings], self.hps), self.keys[seeds]), device)

    def manifest(self) -> dict[str, Any]:
        """What must be the same for two runs to be parts of one: checksums of all that goes in."""
        return {
            "settings": store.checksum(self.hps),
            "seeds": store.checksum(self.keys),
            "data": store.checksum(self.data),
            "program": hashlib.sha256(self.lowered.as_text().encode()).hexdigest(),
            "device": self.devices[0].device_kind,
            "block": list(self.plan.block),
        }

    def missing(self) -> list[int]:
        """The numbers of the blocks that are not on disk."""
        return sorted({*range(self.plan.blocks)} - {*self.store.numbers()})

    def trials_in(self, number: int) -> int:
        """How many trials a block has."""
        return math.prod(at.stop - at.start for at in self.plan.place(number))

    def trials_done(self) -> int:
        """How many trials are on disk."""
        return self.plan.trials - sum(map(self.trials_in, self.missing()))

    def at_work(self) -> bool:
        """Whether any share of the missing blocks is being done, by this process or another."""
        return any(store.at_work(self.folder, path.name.removeprefix(".lock")) for path in self.folder.glob(".lock-*"))

    def run(self, share: Share = ALONE) -> Iterator[Done]:
        """Do this process's share of the missing blocks, each device taking the next when it is done with one.

        Blocks that are damaged are set aside, and computed again. Closed early, it waits for the blocks that are under
        way. Raises `InputError` where the folder holds another campaign, where another process is at the same share,
        and where the folder or the disk refuses.
        """
        with store.locked(self.folder, f"-{share.process}"):
            self.store.claim()
            for number in self.store.numbers():
                if number % share.of == share.process:
                    self.store.get(number)
            waiting, reports = queue.SimpleQueue(), queue.SimpleQueue()
            for number in self.missing():
                if number % share.of == share.process:
                    waiting.put(number)
            with ThreadPoolExecutor(len(self.devices)) as pool:
                workers = [pool.submit(self._work, device, waiting, reports) for device in self.devices]
                try:
                    yield from _until_all_end(workers, reports)
                finally:
                    while _next(waiting) is not None:  # so that workers end with the block they are at
                        pass

    def _work(self, device, waiting, reports):
        """Do blocks on a device until none is waiting."""
        began = time.perf_counter()
        first = device == self.devices[0]
        program = self.program if first else self._lower(self.plan, device).compile()
        data = jax.device_put(self.data, device)
        compile_seconds = time.perf_counter() - began
        while (number := _next(waiting)) is not None:
            began = time.perf_counter()
            record = jax.tree.map(np.asarray, program(*self._arguments(self.plan, number, device), data))
            trained = time.perf_counter()
            settings, seeds = (at.stop - at.start for at in self.plan.place(number))
            self.store.write(number, {name: values[:settings, :seeds] for name, values in record.items()})
            written = time.perf_counter()
            reports.put(Done(settings * seeds, compile_seconds, trained - began, written - trained))
            compile_seconds = 0.0

    def assemble(self, path: Path, dims: Mapping[str, Sequence[str]], beside: xr.Dataset) -> None:
        """Write the records of all blocks as one netCDF file, with one block in memory at a time.

        dims: the names of each array's own axes; before them come `setting` and `seed`. beside: coordinates, variables
        and attributes that stand in the file too. Raises `InputError` where a block is missing or damaged.
        """
        missing = self.missing()
        require(not missing, f"{self.folder} lacks {len(missing)} of {self.plan.blocks} blocks.")

        def fill(file):
            for number in range(self.plan.blocks):
                for name, values in self.store.read(number).arrays.items():
                    if number == 0:
                        _declare(file, name, self.plan, dims[name], values)
                    file.variables[name][self.plan.place(number)] = values

        with store.atomic(path) as temporary:
            results.write_netcdf(temporary, beside, fill)


def _suiting(devices, settings):
    """The block that suits these devices, with the settings cut evenly."""
    on_cpu = devices[0].platform == "cpu"
    most = ON_CPU if on_cpu else Block(TRIALS_ELSEWHERE, max(1, TRIALS_ELSEWHERE // settings))
    return most._replace(settings=math.ceil(settings / math.ceil(settings / most.settings)))


def _next(waiting):
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None


def _until_all_end(workers: Sequence[Future], reports) -> Iterator[Done]:
    """Reports as they come; an error of a worker is ours."""
    for worker in workers:
        worker.add_done_callback(lambda _: reports.put(None))  # or `get` would wait once more after the last report
    while not all(worker.done() for worker in workers) or not reports.empty():
        with contextlib.suppress(queue.Empty):
            if report := reports.get(timeout=0.1):
                yield report
        for worker in workers:
            if worker.done():
                worker.result()


def _declare(file, name, plan, own, values):
    shape = {"setting": plan.settings, "seed": plan.seeds, **dict(zip(own, values.shape[2:], strict=True))}
    for dim, size in shape.items():
        if dim not in file.dimensions:
            file.dimensions[dim] = size
    file.create_variable(name, tuple(shape), values.dtype)


def _held(program, devices):
    """Bytes that the devices hold while they run the program: all of them where they share a memory, else each."""
    memory = program.memory_analysis()
    each = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    return each * (len(devices) if devices[0].platform == "cpu" else 1)


def _free(devices):
    """Bytes that are free: of the machine on CPU, else of a device."""
    if devices[0].platform != "cpu":
        stats = devices[0].memory_stats() or {}
        return stats.get("bytes_limit", math.inf) - stats.get("bytes_in_use", 0)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf  # a machine that does not tell
