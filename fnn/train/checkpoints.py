"""Checkpoints: long work on disk while it runs, so that it resumes after an interrupt or a kill.

Every few seconds the new results are written as a block of a `fnn.store.Store`, and a sweep's networks beside it, so
that training resumes in the middle. The results of a resumed run equal those of an uninterrupted one bit for bit: it
uses the blocks without a gap up to networks that are complete, and computes the rest again.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn import store
from fnn.base.errors import real, require, whole
from fnn.base.types import Keys
from fnn.store import Store
from fnn.train import engine
from fnn.train.engine import Chunk
from fnn.train.run import Run

EVERY = 20.0
"""Seconds between two checkpoints: the most work that a kill loses. Shorter work writes none."""

STATE = "state-"
"""The kind of block that holds networks."""


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
    compiled: dict[Any, Any] | None = None,
) -> Iterator[Chunk]:
    """`engine.stream` with checkpoints: first the chunks on disk, those of a block as one; the last has its state.

    folder: for the checkpoints. every: seconds between two. Other arguments: see `engine.stream`.
    manifest: what else two runs must have in common to be parts of one: the code, say; and `data`, the checksum of the
        data, where it is known.
    Raises `InputError` where the folder holds part of other work or another process is at work in it, and where the
    folder or the disk refuses.
    """
    _check_every(every)
    engine.check_stream(runs, hps, keys, data, steps, chunk)
    named = _named(manifest)
    kept = Store(
        folder,
        {
            **named,
            "settings": store.checksum(hps),
            "seeds": store.checksum(keys),
            "data": named["data"] if "data" in named else store.checksum(data),
            "steps": [steps, chunk],
            "devices": len(jax.local_devices()),
        },
    )
    with store.locked(folder):
        _bind(kept)
        chunks, state = _resumed(kept, lambda: jax.eval_shape(_starts(runs), hps, keys, data))
        done, number = chunks[-1].steps.stop if chunks else 0, len(chunks)
        while chunks:
            one = chunks.pop(0)
            yield one if chunks else one._replace(state=state)
        unsaved, saved_at = [], time.monotonic()
        for one in engine.stream(runs, hps, keys, data, steps, chunk=chunk, done=done, state=state, compiled=compiled):
            unsaved.append(one)
            if time.monotonic() - saved_at >= every:
                kept.claim()
                leaves = [np.asarray(leaf)[: len(keys)] for leaf in jax.tree.leaves(one.state)]
                kept.write(number, {str(i): leaf for i, leaf in enumerate(leaves)}, one.steps.stop, STATE)
                kept.write(number, _packed(unsaved), unsaved[0].steps.start)
                if number > 0:
                    kept.drop(number - 1, STATE)
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
    """`make(number)` for every number in turn, as an iterator, with checkpoints: results on disk are read.

    manifest: what two runs must have in common to be parts of one. every: seconds between checkpoints. Raises
        `InputError` as `stream` does.
    """
    _check_every(every)
    require(callable(make), f"What is made for every number is a function of it, not {make!r}.")
    numbers = list(numbers) if isinstance(numbers, Iterable) else [numbers]
    wrong = [number for number in numbers if not whole(number)]
    require(not wrong, f"Numbers are whole ones from 0 on, unlike {', '.join(map(repr, wrong))}.")
    kept = Store(folder, {**_named(manifest), "devices": len(jax.local_devices())})
    with store.locked(folder):
        _bind(kept)
        unsaved, saved_at = {}, time.monotonic()
        for number in numbers:
            if block := kept.get(number):
                yield block.arrays
                continue
            unsaved[number] = made = make(number)
            if time.monotonic() - saved_at >= every:
                kept.claim()
                for which, arrays in unsaved.items():
                    kept.write(which, arrays, which)
                unsaved, saved_at = {}, time.monotonic()
            yield made


def _check_every(every):
    require(every == math.inf or real(every, 0), f"Checkpoints are seconds from 0 on apart, not {every!r}.")


def _named(manifest):
    require(isinstance(manifest, Mapping), f"A manifest is a mapping of names, not {manifest!r}.")
    return manifest


def _bind(kept):
    """Raise `InputError` where the folder holds blocks of other work; where it holds none, remove its manifest."""
    if kept.numbers():
        kept.claim()
    else:
        kept.forget()


def _resumed(kept: Store, like: Callable[[], Any]) -> tuple[list[Chunk], Any]:
    """The chunks on disk from the first step on, up to the last networks that are whole, and these networks.

    like: returns the shapes of the networks. Later blocks are removed, and computed again.
    """
    numbers, chunks, usable, state = kept.numbers(), [], [], None
    while block := kept.get(len(chunks)):
        chunk = _unpacked(block)
        if chunk.steps.start != (chunks[-1].steps.stop if chunks else 0):
            break  # left by a run that was cut into other blocks
        chunks.append(chunk)
        networks = kept.get(len(chunks) - 1, STATE)
        if networks and networks.first == chunk.steps.stop and (tree := _networks(networks.arrays, like())) is not None:
            usable, state = list(chunks), tree
    if len(usable) < len(numbers):
        gap = len(chunks) < len(numbers)
        why = f"block {len(chunks)} is missing" if gap else "the networks after the last are missing"
        where = f"step {usable[-1].steps.stop:,}" if usable else "the first step"
        store.log.warning("%s: %s, so training resumes from %s.", kept.folder, why, where)
    for number in numbers[::-1]:
        if number >= len(usable):
            kept.drop(number)
    for number in kept.numbers(STATE):
        if number != len(usable) - 1:
            kept.drop(number, STATE)
    return usable, state


def _networks(leaves, like):
    """The tree of networks with these leaves; None where their shapes or types are not those of `like`."""
    expected = {str(i): (leaf.shape, leaf.dtype) for i, leaf in enumerate(jax.tree.leaves(like))}
    if {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()} != expected:
        return None
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in expected])


def _starts(runs):
    def start(hps, keys, data):
        return {name: jax.vmap(run.start, (None, 0, None))(hps[name], keys, data) for name, run in runs.items()}

    return start


def _packed(chunks):
    """The records of consecutive chunks as arrays by name, with their seconds and their number of steps."""
    seconds = np.array([[chunk.seconds, chunk.compile_seconds] for chunk in chunks]).sum(0)
    records = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *(chunk.record for chunk in chunks))
    named = {f"{name}/{what}": array for name, record in records.items() for what, array in record.items()}
    return named | {"seconds": seconds, "steps": np.int64(sum(len(chunk.steps) for chunk in chunks))}


def _unpacked(block):
    arrays = dict(block.arrays)
    seconds, compile_seconds = arrays.pop("seconds")
    steps = range(block.first, block.first + int(arrays.pop("steps")))
    record = {}
    for name, array in arrays.items():
        run, _, what = name.rpartition("/")
        record.setdefault(run, {})[what] = array
    return Chunk(steps, record, {}, float(seconds), float(compile_seconds))
