"""Checkpoints: long work on disk as it goes, so that it goes on where it was cut off, by an interrupt or by a kill.

Every few seconds what has been found since is written as a block of `fnn.blocks`; a sweep's networks are written beside
it, so that training resumes in the middle. What a resumed run finds is what an uninterrupted one finds, bit for bit.
A folder holds one piece of work: where its manifest tells of another, it is refused.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn import blocks, sweep
from fnn.sweep import Chunk
from fnn.train import Run
from fnn.types import Keys

EVERY = 20.0
"""Seconds between two checkpoints: what an accident costs at most. Shorter work leaves no trace."""

STATE = "state-"
"""What the files of networks are called."""


def stream(
    folder: Path,
    manifest: Mapping[str, Any],
    runs: Mapping[str, Run],
    hps: Mapping[str, Any],
    keys: Keys,
    data: Any,
    steps: int,
    *,
    chunk: int = 100,
    every: float = EVERY,
) -> Iterator[Chunk]:
    """`sweep.stream`, with checkpoints: chunks that are on disk come first, several as one and without a state.

    manifest: what cannot be told from the other arguments and must be the same for two runs to be parts of one: the
    code, say. Raises `InputError` where the folder holds part of other work or another process is at work in it, and
    where the folder or the disk refuses.
    """
    told = {
        **manifest,
        "settings": blocks.checksum(hps),
        "seeds": blocks.checksum(keys),
        "data": blocks.checksum(data),
        "steps": [steps, chunk],
        **_machine(),
    }
    with blocks.locked(folder):
        done, state, number = 0, None, 0
        for number in sorted(_kept(folder, told)):
            kept = _unpacked(blocks.read(folder, number), done)
            done = kept.steps.stop
            yield kept
        if done:
            leaves = blocks.read(folder, number, STATE)
            tree = jax.tree.structure(jax.eval_shape(_starts(runs), hps, keys, data))
            state = tree.unflatten([leaves[str(i)] for i in range(len(leaves))])
            number += 1
        unsaved, saved_at = [], time.monotonic()
        for one in sweep.stream(runs, hps, keys, data, steps, chunk=chunk, done=done, state=state):
            unsaved.append(one)
            if time.monotonic() - saved_at >= every:
                blocks.claim(folder, told)
                leaves = [np.asarray(leaf)[: len(keys)] for leaf in jax.tree.leaves(one.state)]
                blocks.write(folder, number, {str(i): leaf for i, leaf in enumerate(leaves)}, STATE)
                blocks.write(folder, number, _packed(unsaved))
                blocks.drop(folder, number - 1, STATE)
                unsaved, saved_at, number = [], time.monotonic(), number + 1
            yield one


def each(
    folder: Path,
    manifest: Mapping[str, Any],
    numbers: Iterable[int],
    make: Callable[[int], Mapping[str, np.ndarray]],
    *,
    every: float = EVERY,
) -> Iterator[Mapping[str, np.ndarray]]:
    """`make(number)` for every number in turn, with checkpoints: those that are on disk are read.

    manifest: what must be the same for two runs to be parts of one. Raises `InputError` as `stream` does.
    """
    told = {**manifest, **_machine()}
    with blocks.locked(folder):
        there = _kept(folder, told)
        unsaved, saved_at = {}, time.monotonic()
        for number in numbers:
            if number in there:
                yield blocks.read(folder, number)
                continue
            unsaved[number] = made = make(number)
            if time.monotonic() - saved_at >= every:
                blocks.claim(folder, told)
                for which, arrays in unsaved.items():
                    blocks.write(folder, which, arrays)
                unsaved, saved_at = {}, time.monotonic()
            yield made


def _machine():
    devices = jax.local_devices()
    return {"jax": jax.__version__, "device": devices[0].device_kind, "devices": len(devices)}


def _kept(folder, manifest):
    """The numbers of the blocks that are there; a manifest of which none came binds nobody."""
    there = blocks.there(folder)
    if there:
        blocks.claim(folder, manifest)
    else:
        (folder / blocks.MANIFEST).unlink(missing_ok=True)
    return there


def _starts(runs):
    def start(hps, keys, data):
        return {name: jax.vmap(run.start, (None, 0, None))(hps[name], keys, data) for name, run in runs.items()}

    return start


def _packed(chunks):
    """The records of consecutive chunks as arrays with one name each, and what they took."""
    seconds = np.array([[chunk.seconds, chunk.compile_seconds] for chunk in chunks]).sum(0)
    records = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *(chunk.record for chunk in chunks))
    named = {f"{name}/{what}": array for name, record in records.items() for what, array in record.items()}
    return named | {"seconds": seconds, "steps": np.int64(sum(len(chunk.steps) for chunk in chunks))}


def _unpacked(arrays, done):
    seconds, compile_seconds = arrays.pop("seconds")
    steps = range(done, done + int(arrays.pop("steps")))
    record = {}
    for name, array in arrays.items():
        run, _, what = name.rpartition("/")
        record.setdefault(run, {})[what] = array
    return Chunk(steps, record, {}, float(seconds), float(compile_seconds))
