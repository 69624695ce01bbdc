"""The work of a sweep, cut into blocks that fit the memory, done here, by an executor's workers, or by several hosts.

A block is some of the settings at some of the seeds. All blocks have one size, and their last settings and seeds are
repeated where they have fewer, so all are done by the same program, and a network's numbers do not depend on where or
when its block is done.
"""

import functools
import hashlib
import math
import os
import pickle
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import store
from fnn.base.errors import InputError, require
from fnn.store import Store
from fnn.train import checkpoints, engine
from fnn.train.engine import Chunk
from fnn.train.labels import Labels
from fnn.train.progress import Bar, Silent
from fnn.train.run import Run, advance, draw

SETTINGS_ON_CPU = 16
"""Settings of a block on CPU: enough for large matrix products, few enough to stay in the caches."""

SHARE_OF_MEMORY = 0.5
"""What a sweep takes of the memory that is free, where no other amount is given."""

COPIES = 3
"""How often the networks are held: before and after a step, and what is computed in between."""

NETWORKS = "networks-"
"""The kind of block that holds trained networks."""

PARTS = "part-"
"""The folders that hold the checkpoints of blocks that are being done."""

PATIENCE = 1.0
"""Seconds between two inspections of a folder that other hosts write to."""


class Size(NamedTuple):
    """How many settings and seeds a block has."""

    settings: int
    seeds: int

    def smaller(self) -> "Size":
        """One of about half as many networks."""
        return self._replace(seeds=-(-self.seeds // 2)) if self.seeds > 1 else Size(-(-self.settings // 2), 1)


ALONE = Size(1, 1)


class Place(NamedTuple):
    """The settings and seeds of one block."""

    settings: range
    seeds: range


@dataclass(frozen=True)
class Work:
    """What a sweep computes.

    runs: the programs by name, each of one setting. hps: their hyperparameters, leaves `[G]`; without G where
    `settings` is 0. keys: of the seeds, `[S]`. chunk: steps between two parts. labels: what is recorded.
    """

    runs: Mapping[str, Run]
    hps: Mapping[str, Any]
    settings: int
    keys: Any
    data: Any
    steps: int
    chunk: int
    labels: Labels
    networks: bool
    size: Size = ALONE
    compiled: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len(self.keys)

    def places(self) -> list[Place]:
        """Of every block its settings and seeds, those of the same seeds one after the other."""
        cut = lambda n, size: [range(first, min(first + size, n)) for first in range(0, n, size)]
        settings = cut(max(1, self.settings), self.size.settings)
        return [Place(these, seeds) for seeds in cut(self.seeds, self.size.seeds) for these in settings]

    def chunks(self, place: Place, folder: Path | None = None, every: float = checkpoints.EVERY) -> Iterator[Chunk]:
        """Train the networks of a block, chunk by chunk, with checkpoints where there is a folder for them."""
        fill = lambda part, size: np.minimum(np.arange(part.start, part.start + size), part.stop - 1)
        seeds = fill(place.seeds, self.size.seeds)
        runs, hps = self.runs, self.hps
        if self.settings:
            settings = fill(place.settings, self.size.settings)
            runs = {name: engine.over_hypers(run) for name, run in runs.items()}
            hps = jax.tree.map(lambda leaf: np.asarray(leaf)[settings], hps)
        arguments = (runs, hps, self.keys[seeds], self.data, self.steps)
        if folder is None:
            return engine.stream(*arguments, chunk=self.chunk, compiled=self.compiled)
        manifest = {"program": self.program()}
        return checkpoints.stream(folder, manifest, *arguments, chunk=self.chunk, every=every, compiled=self.compiled)

    def block(self, place: Place, bar: Bar, folder: Path | None = None) -> tuple[dict[str, np.ndarray], list[Any]]:
        """What the networks of a block record, arrays named `PROGRAM/NAME`; and their own leaves, if they are kept."""
        records, seconds, state = [], np.zeros(2), None
        for chunk in self.chunks(place, folder):
            records.append(self.labels.select(chunk.record, chunk.steps))
            seconds += chunk.seconds, chunk.compile_seconds
            state = chunk.state
            bar.update(len(chunk.steps))
        arrays = {}
        for program, record in records[0].items():
            for name in record:
                whole = np.concatenate([one[program][name] for one in records], axis=1)
                arrays[f"{program}/{name}"] = self._own(whole, place, axis=2)
        arrays["seconds"] = seconds
        leaves = []
        if self.networks:
            require(bool(state), "The networks at the end of this block are lost: clear its folder.")
            params = {name: one.params for name, one in state.items()}  # pyright: ignore[reportOptionalMemberAccess]
            leaves = [self._own(np.asarray(leaf), place, axis=1) for leaf in jax.tree.leaves(params)]
        return arrays, leaves

    def _own(self, array, place, axis):
        """The array without what fills a block up."""
        array = array[: len(place.seeds)]
        return array[(slice(None),) * axis + (slice(len(place.settings)),)] if self.settings else array

    def program(self) -> str:
        """The SHA-256 of all programs as JAX lowers them: of what is computed, whatever its source is."""
        if "program" not in self.compiled:
            found = hashlib.sha256()
            for name, run in self.runs.items():
                hp = jax.tree.map(
                    lambda leaf: jnp.asarray(leaf)[0] if self.settings else jnp.asarray(leaf), self.hps[name]
                )
                text = jax.jit(lambda hp, key, data, run=run: _two_steps(run, hp, key, data)).lower(
                    hp, self.keys[0], self.data
                )
                found.update(f"{name}\n{text.as_text()}\n".encode())
            self.compiled["program"] = found.hexdigest()
        return self.compiled["program"]

    def manifest(self) -> dict[str, Any]:
        """What two sweeps have in common whose blocks are parts of one."""
        return {
            "program": self.program(),
            "settings": store.checksum(self.hps),
            "seeds": store.checksum(self.keys),
            "data": store.checksum(self.data),
            "steps": [self.steps, self.chunk],
            "block": list(self.size),
        }

    def bytes_needed(self, size: Size) -> float:
        """Bytes that a block of this size takes, with the data: an estimate, without what a single step takes."""

        def start(hps, key, data):
            return {name: run.start(hps[name], key, run.own(key, data)) for name, run in self.runs.items()}

        one = lambda leaf: np.asarray(leaf)[0] if self.settings else leaf
        states = jax.eval_shape(start, jax.tree.map(one, self.hps), self.keys[0], self.data)
        each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(states))
        shared = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self.data) if hasattr(leaf, "nbytes"))
        return float(COPIES * each * size.settings * size.seeds + shared * len(jax.local_devices()))


def _two_steps(run, hp, key, data):
    data = run.own(key, data)
    return advance(run, hp, data, run.start(hp, key, data), draw(run, key, data, jnp.arange(2)))


def cut(work: Work, size: Size, keep: Path | None) -> Work:
    """The same work in blocks of this size; where the folder has blocks of another size already, of that one."""
    if keep is not None:
        try:
            kept = store.manifest(keep).get("block")
        except store.Damaged:  # `Store.claim` writes it again
            kept = None
        if isinstance(kept, list) and len(kept) == 2:
            size = Size(*kept)
    return replace(work, size=size)


def size(work: Work, memory: float | None, spread: bool) -> Size:
    """The size of blocks that suits the devices and the memory.

    memory: bytes that all devices together may take; None for a share of what is free. spread: whether executors or
    hosts do the blocks, so that there should be many. Raises `InputError` where a single network does not fit.
    """
    on_cpu = jax.local_devices()[0].platform == "cpu"
    settings, seeds = max(1, work.settings), work.seeds
    if on_cpu or spread:
        settings = math.ceil(settings / math.ceil(settings / SETTINGS_ON_CPU))
    # A device does one seed at a time on CPU: a trial, which is one step, is kept and reported after each.
    each = len(jax.local_devices()) if on_cpu and not work.labels.stepped else seeds
    found = Size(settings, 1 if spread else min(seeds, each))
    allowed = _free() * SHARE_OF_MEMORY if memory is None else memory
    while (needed := work.bytes_needed(found)) > allowed:
        sentence = f"One network takes {needed / 1e6:,.0f} MB with its data, and {allowed / 1e6:,.0f} MB may be taken."
        require(found != Size(1, 1), sentence)
        found = found.smaller()
    return found


def _free():
    """Bytes that are free: of the machine on CPU, else of all local devices."""
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        stats = [device.memory_stats() or {} for device in devices]
        return sum(one.get("bytes_limit", math.inf) - one.get("bytes_in_use", 0) for one in stats)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


class Result(NamedTuple):
    """What all blocks recorded.

    record: for every program its arrays `[S, rows, G, own …]`. networks: for every program its parameters, leaves
    `[S, G, …]`, if they are kept. seconds, compile_seconds: of training and of compiling.
    """

    record: dict[str, dict[str, np.ndarray]]
    networks: dict[str, Any]
    seconds: float
    compile_seconds: float


def done(work: Work, keep: Path | None, executor: Executor | None, bar: Bar) -> Result:
    """Do all blocks, or read those that `keep` has, and put them together.

    Raises `InputError` where the folder holds other work or another process is at work in it, where the disk refuses,
    and where the executor loses its workers.
    """
    hosts, host = jax.process_count(), jax.process_index()
    require(hosts == 1 or keep is not None, "Several hosts share a sweep by a folder: give keep=FOLDER.")
    places, found = work.places(), {}
    if keep is None:
        for number, made in _made(work, dict(enumerate(places)), None, executor, bar):
            found[number] = made
        return _together(work, places, found)
    kept = Store(keep, work.manifest())
    with store.locked(keep, f"-{host}" if hosts > 1 else ""):
        kept.claim()
        for number in range(len(places)):
            if (block := _read(work, kept, number)) is not None:
                found[number] = block
                bar.update(work.steps)
        mine = {n: place for n, place in enumerate(places) if n not in found and n % hosts == host}
        for number, made in _made(work, mine, keep, executor, bar):
            _write(kept, number, made)
            store.clear(keep / f"{PARTS}{number:06d}")
            found[number] = made
    while len(found) < len(places):  # what other hosts do
        for number in range(len(places)):
            if number not in found and (block := _read(work, kept, number)) is not None:
                found[number] = block
                bar.update(work.steps)
        if len(found) < len(places):
            time.sleep(PATIENCE)
    return _together(work, places, found)


def _made(work, places, keep, executor, bar):
    """Blocks as they are done: (number, (arrays, leaves))."""
    if executor is None:
        for number, place in places.items():
            folder = None if keep is None else keep / f"{PARTS}{number:06d}"
            yield number, work.block(place, bar, folder)
        return
    import cloudpickle

    payload = cloudpickle.dumps(_portable(work))
    futures = {executor.submit(_elsewhere, payload, place): number for number, place in places.items()}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
            bar.update(work.steps)
    except BrokenExecutor as error:
        n = sum(future.done() and not future.cancelled() and future.exception() is None for future in futures)
        again = (
            f"{n} are kept in {keep}, and the same call goes on" if keep else "keep=FOLDER would have kept the others"
        )
        raise InputError(
            f"The executor lost its workers before {len(futures) - n} of {len(futures)} blocks: {again}."
        ) from error
    finally:
        for future in futures:
            future.cancel()


def _portable(work):
    """The arguments of the same work, for another process: keys and data as NumPy arrays."""
    data = jax.tree.map(np.asarray, work.data)
    keys = np.asarray(jax.random.key_data(work.keys)), str(jax.random.key_impl(work.keys))
    return (
        work.runs,
        work.hps,
        work.settings,
        keys,
        data,
        work.steps,
        work.chunk,
        work.labels,
        work.networks,
        work.size,
    )


@functools.lru_cache(maxsize=1)
def _loaded(payload):
    """The work of a payload, once for all its blocks that this process does, which share compiled programs."""
    runs, hps, settings, (numbers, kind), *rest = pickle.loads(payload)
    return Work(runs, hps, settings, jax.random.wrap_key_data(numbers, impl=kind), *rest)


def _elsewhere(payload, place):
    """Do a block in a process of an executor."""
    return _loaded(payload).block(place, Silent())


def _write(kept, number, made):
    arrays, leaves = made
    if leaves:
        kept.write(number, {str(i): leaf for i, leaf in enumerate(leaves)}, 0, NETWORKS)
    kept.write(number, arrays)


def _read(work, kept, number):
    """A block on disk; None where it, or its networks, are missing or damaged."""
    block = kept.get(number)
    if block is None or not work.networks:
        return None if block is None else (dict(block.arrays), [])
    networks = kept.get(number, NETWORKS)
    if networks is None:
        return None
    return dict(block.arrays), [networks.arrays[str(i)] for i in range(len(networks.arrays))]


def _together(work, places, found):
    rows = lambda values: [values[number] for number in range(len(places))]
    arrays, leaves = rows({n: a for n, (a, _) in found.items()}), rows({n: one for n, (_, one) in found.items()})
    seconds, compile_seconds = np.sum([one.pop("seconds") for one in arrays], axis=0)
    per_row = len({place.settings for place in places})

    def whole(parts, axis):
        """One array of the blocks' arrays `[S, …]`, with the settings at this axis."""
        by_seeds = [parts[i : i + per_row] for i in range(0, len(parts), per_row)]
        joined = [np.concatenate(row, axis) if work.settings else row[0] for row in by_seeds]
        return np.concatenate(joined)

    record: dict[str, dict[str, np.ndarray]] = {program: {} for program in work.runs}
    for full in arrays[0]:
        program, _, name = full.partition("/")
        record[program][name] = whole([one[full] for one in arrays], 2)
    networks = {}
    if work.networks:
        flat = [whole([one[i] for one in leaves], 1) for i in range(len(leaves[0]))]
        networks = jax.tree.unflatten(jax.tree.structure(_params(work)), flat)
    return Result(record, networks, float(seconds), float(compile_seconds))


def _params(work):
    """The parameters of all programs, shapes only."""
    one = lambda leaf: np.asarray(leaf)[0] if work.settings else leaf

    def start(hps, key, data):
        return {name: run.start(hps[name], key, run.own(key, data)).params for name, run in work.runs.items()}

    return jax.eval_shape(start, jax.tree.map(one, work.hps), work.keys[0], work.data)
