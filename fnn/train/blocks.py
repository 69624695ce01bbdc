"""The work of a sweep, divided into blocks that fit the memory, for one process, an executor or several hosts.

A block is some of the settings at some of the seeds. All blocks have the same size, to which smaller ones are padded by
repeating their last setting and seed, so one program computes them all, and a network's numbers do not depend on where
or when its block is computed.
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
import numpy as np

from fnn import store
from fnn.base.arithmetic import chosen
from fnn.base.errors import InputError, require, whole
from fnn.store import Store
from fnn.train import checkpoints, engine, footprint, logs
from fnn.train.engine import Chunk
from fnn.train.labels import Labels
from fnn.train.logs import Log
from fnn.train.progress import Bar, Silent
from fnn.train.run import Run, train
from fnn.train.settings import first

SETTINGS_ON_CPU = 16
"""Most settings of a block on CPU: enough for large matrix products, few enough to stay in the caches."""

CACHE = 2**22
"""Bytes that one product of all settings of a block may have on CPU: convolutions and attention with 16 settings at
once, which do not fit, take 1.8 and 1.5 times as long as with one."""

SHARE_OF_MEMORY = 0.5
"""The share of the free memory that a sweep uses by default."""

COPIES = 3
"""Copies of the networks in memory: before a step, after it, and the values in between."""

NETWORKS = "networks-"
"""The kind of block that holds trained networks."""

PARTS = "part-"
"""The prefix of the folders for checkpoints of unfinished blocks."""

POLL = 0.5
"""Seconds between two reads of a folder that other hosts write to."""

TIMEOUT = 60.0
"""The timeout in seconds for other hosts while none of them is at work: longer than they take to start."""


class Size(NamedTuple):
    """The numbers of settings and seeds of a block."""

    settings: int
    seeds: int

    def smaller(self) -> "Size":
        """A size of about half as many networks."""
        return self._replace(seeds=-(-self.seeds // 2)) if self.seeds > 1 else Size(-(-self.settings // 2), 1)


ALONE = Size(1, 1)


class Place(NamedTuple):
    """The settings and seeds of one block, as ranges of indices."""

    settings: range
    seeds: range


@dataclass(frozen=True)
class Work:
    """The computation of a sweep.

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

    def __getstate__(self) -> dict[str, Any]:
        """The picklable state: keys as numbers, and no compiled programs."""
        keys = np.asarray(jax.random.key_data(self.keys)), str(jax.random.key_impl(self.keys))
        return {**self.__dict__, "keys": keys, "compiled": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of `__getstate__`."""
        numbers, kind = state["keys"]
        self.__dict__.update(state, keys=jax.random.wrap_key_data(numbers, impl=kind))

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len(self.keys)

    def places(self) -> list[Place]:
        """The places of all blocks; those of the same seeds follow each other."""
        cut = lambda n, size: [range(begin, min(begin + size, n)) for begin in range(0, n, size)]
        settings = cut(max(1, self.settings), self.size.settings)
        return [Place(some, seeds) for seeds in cut(self.seeds, self.size.seeds) for some in settings]

    def chunks(self, place: Place, folder: Path | None = None, every: float = checkpoints.EVERY) -> Iterator[Chunk]:
        """The chunks of training a block's networks, with checkpoints in `folder` every `every` seconds, if given."""
        padded = lambda part, size: np.minimum(np.arange(part.start, part.start + size), part.stop - 1)
        seeds = padded(place.seeds, self.size.seeds)
        runs, hps = self.runs, self.hps
        if self.settings:
            settings = padded(place.settings, self.size.settings)
            runs = {name: engine.over_hypers(run) for name, run in runs.items()}
            hps = jax.tree.map(lambda leaf: np.asarray(leaf)[settings], hps)
        arguments = (runs, hps, self.keys[seeds], self.data, self.steps)
        if folder is None:
            return engine.stream(*arguments, chunk=self.chunk, compiled=self.compiled)
        manifest = {"program": self.program(), "data": self.data_checksum}
        return checkpoints.stream(folder, manifest, *arguments, chunk=self.chunk, every=every, compiled=self.compiled)

    def block(
        self, place: Place, bar: Bar, folder: Path | None = None, log: Log | None = None
    ) -> tuple[dict[str, np.ndarray], list[Any]]:
        """(the records of a block, arrays named `PROGRAM/NAME`; the leaves of its networks, if these are kept).

        log: gets a row for each evaluation of each network as the steps are done.
        """
        records, seconds, state = [], np.zeros(2), {}
        for chunk in self.chunks(place, folder):
            if not records:
                own = 3 if self.settings else 2
                self.labels.check({n: a.shape[own:] for n, a in one.items()} for one in chunk.record.values())
            records.append(self.labels.select(chunk.record, chunk.steps))
            seconds += chunk.seconds, chunk.compile_seconds
            state = chunk.state
            bar.update(len(chunk.steps))
            if log is not None:
                self.log(log, records[-1], place, chunk.steps)
        arrays = {}
        for program, record in records[0].items():
            for name in record:
                rows = np.concatenate([one[program][name] for one in records], axis=1)
                arrays[f"{program}/{name}"] = self._own(rows, place, axis=2)
        arrays["seconds"] = seconds
        leaves = []
        if self.networks:
            params = {name: one.params for name, one in state.items()}
            leaves = [self._own(np.asarray(leaf), place, axis=1) for leaf in jax.tree.leaves(params)]
        return arrays, leaves

    def log(self, log: Log, record: Mapping[str, Mapping[str, np.ndarray]], place: Place, steps: range) -> None:
        """Call `log` with a row for each evaluation of each network of a block, from arrays `[S, rows, G]`."""
        own = {p: {name: self._own(a, place, axis=2) for name, a in one.items()} for p, one in record.items()}
        for row in logs.rows(self.labels, own, place.settings, place.seeds, steps):
            log(row)

    def _own(self, array, place, axis):
        """The array without the padding of the block."""
        array = array[: len(place.seeds)]
        return array[(slice(None),) * axis + (slice(len(place.settings)),)] if self.settings else array

    @functools.cached_property
    def data_checksum(self) -> str:
        """The checksum of the data, computed once for all blocks."""
        return store.checksum(self.data)

    def program(self) -> str:
        """The SHA-256 of all programs as JAX lowers them, independent of the source text."""
        if "program" not in self.compiled:
            digest = hashlib.sha256()
            for name, run in self.runs.items():
                steps = jax.jit(lambda hp, key, data, run=run: train(run, 2, hp, key, data))
                text = steps.lower(first(self.hps[name], self.settings), self.keys[0], self.data).as_text()
                digest.update(f"{name}\n{text}\n".encode())
            self.compiled["program"] = digest.hexdigest()
        return self.compiled["program"]

    def manifest(self) -> dict[str, Any]:
        """What two sweeps must have in common for their blocks to be parts of one."""
        return {
            "program": self.program(),
            "settings": store.checksum(self.hps),
            "seeds": store.checksum(self.keys),
            "data": self.data_checksum,
            "steps": [self.steps, self.chunk],
            "block": list(self.size),
        }

    def states(self) -> dict[str, Any]:
        """The shapes of one network's initial state, by program."""

        def start(hps, key, data):
            return {name: run.start(hps[name], key, run.own(key, data)) for name, run in self.runs.items()}

        return jax.eval_shape(start, first(self.hps, self.settings), self.keys[0], self.data)


def cut(work: Work, size: Size, keep: Path | None) -> Work:
    """The work in blocks of this size, or of the size of the blocks that are already in the folder.

    Hosts may have unequal memory, so all but the first wait for the size that the first one writes to the folder.
    """
    if keep is None:
        return replace(work, size=size)
    start, kept = time.monotonic(), _kept_size(keep)
    while kept is None and jax.process_index() > 0 and time.monotonic() - start < TIMEOUT:
        time.sleep(POLL)
        kept = _kept_size(keep)
    return replace(work, size=kept or size)


def _kept_size(keep):
    """The size of the blocks in a folder; None where it has none."""
    try:
        kept = store.manifest(keep).get("block")
    except store.Damaged:  # `Store.claim` writes it again
        return None
    if isinstance(kept, list) and len(kept) == 2 and all(whole(n, 1) for n in kept):
        return Size(*kept)
    return None


def size(work: Work, memory: float | int | None, spread: bool) -> Size:
    """The size of blocks for the devices and the memory.

    memory: bytes that all devices together may use; None for a share of what is free. spread: whether an executor or
    several hosts compute the blocks, so that there should be many. Raises `InputError` where a single network does not
    fit. The estimate counts networks and data, not the intermediate values of a step or trial.
    """
    on_cpu = jax.local_devices()[0].platform == "cpu"
    settings, seeds = max(1, work.settings), work.seeds
    if on_cpu or spread:
        settings = math.ceil(settings / math.ceil(settings / (_together_on_cpu(work) if on_cpu else SETTINGS_ON_CPU)))
    # A device computes one seed at a time on CPU: a trial, which is one step, is written and reported after each.
    devices = len(jax.local_devices())
    found = Size(settings, 1 if spread else min(seeds, devices) if on_cpu and not work.labels.stepped else seeds)
    allowed = _free() * SHARE_OF_MEMORY if memory is None else memory
    each, shared = COPIES * _bytes(work.states()), devices * _bytes(work.data)
    while (needed := each * found.settings * found.seeds + shared) > allowed:
        message = f"One network takes {needed / 1e6:,.0f} MB with its data, and {allowed / 1e6:,.0f} MB may be taken."
        require(found != Size(1, 1), message)
        found = found.smaller()
    return found


def _together_on_cpu(work):
    """The number of settings that step together on CPU; a trial decides itself what it computes together."""
    if work.settings < 2 or not work.labels.stepped:
        return SETTINGS_ON_CPU
    of = lambda name: footprint.widest(work.runs[name], first(work.hps[name], work.settings), work.keys[0], work.data)
    each = max(1, *map(of, {run.draw: name for name, run in work.runs.items()}.values()))  # a run for each task
    return max(1, min(SETTINGS_ON_CPU, CACHE // each))


def _bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype"))


def _free():
    """The free bytes of the machine on CPU, else of all local devices."""
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        stats = [device.memory_stats() or {} for device in devices]
        return sum(one.get("bytes_limit", math.inf) - one.get("bytes_in_use", 0) for one in stats)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


class Result(NamedTuple):
    """The results of all blocks.

    record: for every program its arrays `[S, rows, G, own …]`. networks: for every program its parameters, leaves
    `[S, G, …]`, if they are kept. seconds, compile_seconds: of training and of compiling.
    """

    record: dict[str, dict[str, np.ndarray]]
    networks: dict[str, Any]
    seconds: float
    compile_seconds: float


def done(work: Work, keep: Path | None, executor: Executor | None, bar: Bar, log: Log | None = None) -> Result:
    """The results of all blocks, computed or read from `keep`.

    Raises `InputError` where the folder holds other work or another process is at work in it, where the disk refuses,
    where the executor loses its workers, and where other hosts stop before their blocks are done.
    """
    hosts, host = jax.process_count(), jax.process_index()
    require(hosts == 1 or keep is not None, "Several hosts share a sweep by a folder: give keep=FOLDER.")
    places = dict(enumerate(work.places()))
    if keep is None:
        return _together(work, dict(_made(work, places, None, executor, bar, log)))
    kept, found = Store(keep, work.manifest()), {}
    with store.locked(keep, _lock(host)):
        if hosts == 1 and not any(keep.rglob("*.npz")):
            kept.forget()  # earlier work in the folder left no blocks
        kept.claim()
        _read_new(work, kept, places, found, bar)
        ours = {number: place for number, place in places.items() if number not in found and number % hosts == host}
        for number, made in _made(work, ours, keep, executor, bar, log):
            _write(kept, number, made)
            store.clear(_part(keep, number))
            found[number] = made
    active = time.monotonic()
    while len(found) < len(places):
        _read_new(work, kept, places, found, bar)
        if any(store.at_work(keep, _lock(other)) for other in range(hosts) if other != host):
            active = time.monotonic()
        state = f"{len(found)} of {len(places)} blocks are in {keep}, and no other process is at work on the rest"
        require(time.monotonic() - active < TIMEOUT, f"{state}: start all again.")
        time.sleep(POLL)
    return _together(work, found)


def _lock(host):
    """The name of a host's lock on the folder."""
    return f"-{host}"


def _part(keep, number):
    """The folder of the checkpoints of a block."""
    return keep / f"{PARTS}{number:06d}"


def _made(work, places, keep, executor, bar, log):
    """(number, (arrays, leaves)) of blocks as they are computed."""
    if executor is None:
        for number, place in places.items():
            yield number, work.block(place, bar, None if keep is None else _part(keep, number), log)
        return
    import cloudpickle

    payload, futures, lost, n = cloudpickle.dumps(work), {}, None, 0
    try:
        for number, place in places.items():
            futures[executor.submit(_elsewhere, payload, chosen(), place)] = number
        for future in as_completed(futures):
            try:
                made = future.result()
            except BrokenExecutor as error:  # other blocks may be done
                lost = error
                continue
            n += 1
            if log is not None:
                work.log(log, _by_program(work, made[0]), places[futures[future]], range(work.steps))
            yield futures[future], made
            bar.update(work.steps)
    except BrokenExecutor as error:
        lost = error
    finally:
        for future in futures:
            future.cancel()
    if lost is not None:
        rest = f"{len(places) - n} of {len(places)} blocks were done"
        others = f"the others are in {keep}, where the same call goes on" if keep else "keep=FOLDER keeps the others"
        raise InputError(f"The executor lost its workers before {rest}: {others}.") from lost


def _by_program(work, arrays):
    """The arrays named `PROGRAM/NAME` by program and name; "seconds" is none of them."""
    record: dict[str, dict[str, np.ndarray]] = {program: {} for program in work.runs}
    for full, array in arrays.items():
        program, slash, name = full.rpartition("/")
        if slash:
            record[program][name] = array
    return record


@functools.lru_cache(maxsize=1)
def _loaded(payload):
    """The work of a payload, cached, so that all blocks of this process share compiled programs."""
    return pickle.loads(payload)


def _elsewhere(payload, settings, place):
    """A block, computed in an executor's process. Raises `InputError` where JAX has other settings in it."""
    here = chosen()
    differ = [f"{name} {here[name]} for {value}" for name, value in settings.items() if here[name] != value]
    require(not differ, f"The executor's workers have other settings of JAX: {', '.join(differ)}.")
    return _loaded(payload).block(place, Silent())


def _read_new(work, kept, places, found, bar):
    """Add the blocks on disk to `found`."""
    for number in places:
        if number not in found and (block := _read(work, kept, number)) is not None:
            found[number] = block
            bar.update(work.steps)


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


def _together(work, found):
    """The result of all blocks, `found` by number."""
    arrays, leaves = zip(*(found[number] for number in sorted(found)), strict=True)
    seconds, compile_seconds = np.sum([one.pop("seconds") for one in arrays], axis=0)
    per_row = len({place.settings for place in work.places()})

    def joined(parts, axis):
        """The blocks' arrays `[S, …]`, concatenated along seeds and, at this axis, along settings."""
        by_seeds = [parts[i : i + per_row] for i in range(0, len(parts), per_row)]
        return np.concatenate([np.concatenate(row, axis) if work.settings else row[0] for row in by_seeds])

    record = _by_program(work, {full: joined([one[full] for one in arrays], 2) for full in arrays[0]})
    networks = {}
    if work.networks:
        flat = [joined([one[i] for one in leaves], 1) for i in range(len(leaves[0]))]
        params = {name: state.params for name, state in work.states().items()}
        networks = jax.tree.unflatten(jax.tree.structure(params), flat)
    return Result(record, networks, float(seconds), float(compile_seconds))
