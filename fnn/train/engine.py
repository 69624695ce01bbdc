"""Sweeps: one run vmapped over hyperparameters × seeds, rules side by side, in chunks, over every device.

What depends on the seed alone (initial weights, minibatches, masks) is computed once for each seed and shared by all
hyperparameters and all rules. So every comparison is *paired*: the same start and the same batches for each.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn.base.checks import check_hyper, check_keys
from fnn.base.errors import listed, real, require, whole
from fnn.base.types import Hyper, Key, Keys
from fnn.rule.hyper import get, put
from fnn.tasks import check_splits
from fnn.train.run import Record, Run, advance, check_run, draw


def grid(hyper: Hyper, **axes: Sequence[float]) -> Hyper:
    """Every combination of the named hyperparameters, the rest as in `hyper`: each leaf `[G]`, last axis fastest.

    `grid(adam.hyper, lr=[1e-3, 1e-2], b1=[0.0, 0.9])` has G = 4; `**{"inner.lr": [...]}` reaches deeper.
    """
    for name, values in axes.items():
        get(hyper, name)
        numbers = listed(values) and all(map(real, values))
        require(numbers, f"The grid takes a list of numbers for {name}, not {values!r}.")
        require(len(values) > 0, f"The grid has no value for {name}.")
    points = []
    for values in itertools.product(*axes.values()):
        point = hyper
        for name, value in zip(axes, values, strict=True):
            point = put(point, name, value)
        points.append(point)
    return jax.tree.map(lambda *values: jnp.asarray(values), *points)


def seeds(n: int, first: int = 0) -> Keys:
    """The keys `[n]` of the seeds first, first + 1, …. A seed's key does not depend on n."""
    require(whole(n, 1), f"A sweep needs at least 1 seed, not {n!r}.")
    require(whole(first), f"Seeds are whole numbers from 0 on, and the first is not {first!r}.")
    return jax.vmap(jax.random.key)(jnp.arange(first, first + n))


def over_hypers(run: Run) -> Run:
    """The run of G settings together: every leaf of hp, state and record gains a leading axis G."""
    check_run(run)
    return Run(
        jax.vmap(run.start, (0, None, None)),
        jax.vmap(run.step, (0, None, 0, None)),
        run.draw,
        CheckFirst(run.check),
        run.own,
    )


@dataclass(frozen=True)
class CheckFirst:
    """`(hps, data) -> None`, by a run's `check` of the first setting: data that fit one setting fit all."""

    check: Callable[[Any, Any], None]

    def __call__(self, hps: Any, data: Any) -> None:
        """Raise `InputError` where the data do not fit."""
        self.check(jax.tree.map(lambda a: a[0], hps), data)


def over_seeds(f: Callable[[Any, Key, Any], Any]) -> Callable[[Any, Keys, Any], Any]:
    """`(per_seed, keys, shared) -> results`: `f(one, key, shared)` for every seed, seeds spread over the devices.

    per_seed, keys: leaves `[S, …]`; shared: the same for every seed. The results are NumPy arrays, leaves `[S, …]`.
    A device computes one seed at a time on CPU, all of its seeds together elsewhere.
    """

    require(callable(f), f"What is done for every seed is a function (one, key, shared) -> anything, not {f!r}.")

    @functools.cache
    def program(n):
        devices = jax.local_devices()
        mesh, padded = _mesh(n, devices)
        each = _each_seed(lambda one, shared: f(one[0], one[1], shared), mesh, _batch_size(devices, n))
        return jax.jit(each), padded

    def everywhere(per_seed, keys, shared):
        check_keys(keys)
        check_splits(shared)
        each, padded = program(len(keys))
        results = each(jax.tree.map(lambda a: a[padded], (per_seed, keys)), shared)
        return jax.tree.map(lambda a: np.asarray(a)[: len(keys)], results)

    return everywhere


def _batch_size(devices, n):
    """How many of n seeds a device steps together by default: see `stream`."""
    return 1 if devices[0].platform == "cpu" else n


def _mesh(n, devices):
    """A mesh for n seeds, and their numbers, some of them repeated so that they divide evenly over the mesh."""
    d = min(n, len(devices))
    return jax.make_mesh((d,), ("seed",), (AxisType.Auto,), devices=devices[:d]), np.arange(-(-n // d) * d) % n


def _each_seed(f, mesh, batch_size):
    """`(per_seed, shared) -> results`: `f(one, shared)` for every seed of the mesh, with the seeds as leading axis.

    Each device holds its seeds of `per_seed` and all of `shared`, and computes `batch_size` seeds together.
    """

    def on_device(per_seed, shared):
        return jax.lax.map(lambda one: f(one, shared), per_seed, batch_size=None if batch_size == 1 else batch_size)

    return jax.shard_map(on_device, mesh=mesh, in_specs=(P("seed"), P()), out_specs=P("seed"), check_vma=False)


class Chunk(NamedTuple):
    """Consecutive steps of all networks.

    steps: their numbers, from 0.
    record: by run, NumPy arrays `[S, len(steps), …]`, the axis of the settings before those of what is recorded.
    state: by run, the networks after these steps, leaves `[S, …]` or longer, where seeds are repeated to divide evenly
        over the devices. Valid until the next chunk is computed, which reuses the memory.
    seconds, compile_seconds: to run the chunk, and to compile it; the first chunk's include the start.
    """

    steps: range
    record: dict[str, Record]
    state: dict[str, Any]
    seconds: float
    compile_seconds: float


def check_stream(runs: Any, hps: Any, keys: Any, data: Any, steps: Any, chunk: Any) -> None:
    """Raise `InputError` where these are not the arguments of `stream`."""
    named = isinstance(runs, Mapping) and all(isinstance(run, Run) for run in runs.values())
    require(named and len(runs) > 0, f"A sweep takes runs by name, {{'adam': fnn.train.training(…)}}, not {runs!r}.")
    require(isinstance(hps, Mapping), f"A sweep takes hyperparameters by the names of their runs, not {hps!r}.")
    require(whole(steps, 1), f"A sweep needs at least 1 step, not {steps!r}.")
    require(whole(chunk, 1), f"A chunk needs at least 1 step, not {chunk!r}.")
    check_keys(keys)
    lacking = [name for name in runs if name not in hps]
    require(not lacking, f"There are no hyperparameters for {', '.join(lacking)}; there are for {', '.join(hps)}.")
    for hp in hps.values():
        check_hyper(hp)
    for check, name in {run.check: name for name, run in runs.items()}.items():
        check(hps[name], data)


def stream(
    runs: Mapping[str, Run],
    hps: Mapping[str, Any],
    keys: Keys,
    data: Any,
    steps: int,
    *,
    chunk: int = 100,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    done: int = 0,
    state: Mapping[str, Any] | None = None,
    compiled: dict[Any, Any] | None = None,
) -> Iterator[Chunk]:
    """Every run at its `hps` for every key, as an iterator of chunks of `chunk` steps; seeds are spread over devices.

    Runs differ in what is compiled (their rules, say); settings that differ in numbers only are one run, by
    `over_hypers`. All runs have the same keys, so they are paired: the same initial weights, the same minibatches.
    A run of a seed stays on one device and devices exchange nothing, so the numbers do not depend on how many there
    are. Where the seeds do not divide evenly over the devices, some are computed twice and dropped; where there are
    more devices than seeds, the runs are divided among groups of devices.

    data: arrays, the same for all runs. steps: updates in all.
    batch_size: seeds that a device steps together. By default 1 on CPU, where a network then stays in the cache while
        it trains, and all seeds on other devices, whose arithmetic units few networks do not fill.
    devices: by default all local ones.
    done, state: to resume after this number of steps, a number of whole chunks, from the state of the last chunk.
    compiled: the compiled programs of an earlier stream of the same runs and shapes; missing ones are added to it.
    Raises `InputError` for arguments of other kinds, and where hyperparameters or data do not fit a run.
    """
    check_stream(runs, hps, keys, data, steps, chunk)
    sized = batch_size is None or whole(batch_size, 1)
    require(sized, f"batch_size is a number of seeds from 1 on, not {batch_size!r}.")
    at_chunk_end = whole(done, 0, steps) and (done % chunk == 0 or done == steps)
    require(at_chunk_end, f"A sweep resumes after whole chunks of {chunk} steps, not after {done!r}.")
    usable = devices is None or (listed(devices) and len(devices) > 0)
    require(usable, f"A sweep runs on a list of devices, jax.local_devices() say, not on {devices!r}.")
    both = (done > 0) == (state is not None)
    require(both, "A sweep resumes from a number of steps and their state: give both, done and state, or neither.")
    devices = jax.local_devices() if devices is None else list(devices)
    batch_size = batch_size or _batch_size(devices, len(keys))
    n_groups = min(len(runs), max(1, len(devices) // len(keys)))
    run_groups = [{name: runs[name] for name in list(runs)[i::n_groups]} for i in range(n_groups)]
    device_groups = [devices[i::n_groups] for i in range(n_groups)]
    programs = {} if compiled is None else compiled
    streams = [
        _stream_group(
            *(run_groups[i], hps, keys, data, _ranges(done, steps, chunk), batch_size, device_groups[i], state),
            programs.setdefault(("group", i, n_groups), {}),
        )
        for i in range(n_groups)
    ]
    for numbers in _ranges(done, steps, chunk):
        start = time.perf_counter()
        parts = [next(one) for one in streams]  # every group of devices is started before any is waited for
        after = {name: networks for states, _, _ in parts for name, networks in states.items()}
        records = {name: record for _, part, _ in parts for name, record in part.items()}
        record = jax.tree.map(lambda a: np.asarray(a)[: len(keys)], {name: records[name] for name in runs})
        compile_seconds = sum(seconds for _, _, seconds in parts)
        yield Chunk(numbers, record, after, time.perf_counter() - start - compile_seconds, compile_seconds)


def _ranges(done, steps, chunk):
    return (range(first, min(first + chunk, steps)) for first in range(done, steps, chunk))


def _stream_group(runs, hps, keys, data, chunks, batch_size, devices, state, programs):
    """`(state, record, compile seconds)` after each chunk, of some runs on some devices; the arrays may be pending."""
    mesh, padded = _mesh(len(keys), devices)
    by_seed, everywhere = NamedSharding(mesh, P("seed")), NamedSharding(mesh, P())
    keys = jax.device_put(keys[padded], by_seed)
    hps, data = jax.device_put(({name: jax.tree.map(jnp.asarray, hps[name]) for name in runs}, data), everywhere)

    def owned(key, data):
        """The data of a seed, by the runs' `own`."""
        return {own: own(key, data) for own in {run.own for run in runs.values()}}

    def start(one, shared):
        (key, _), (hps, data) = one, shared
        own = owned(key, data)
        return {name: run.start(hps[name], key, own[run.own]) for name, run in runs.items()}

    def advanced(one, shared):
        (key, state), (hps, data, numbers) = one, shared
        own = owned(key, data)
        drawing = {(run.draw, run.own): run for run in runs.values()}  # once for all runs with equal draws
        drawn = {same: draw(run, key, own[run.own], numbers) for same, run in drawing.items()}
        # One loop per run: a loop for all of them would copy the state that each carries.
        done = {
            name: advance(run, hps[name], own[run.own], state[name], drawn[run.draw, run.own])
            for name, run in runs.items()
        }
        return {name: s for name, (s, _) in done.items()}, {name: r for name, (_, r) in done.items()}

    def compiled(f, state, *shared):
        """f for every seed of the mesh, compiled for arguments like these, and the seconds that it took."""
        begin = time.perf_counter()
        each = _each_seed(f, mesh, batch_size)
        program = jax.jit(lambda keys, state, *shared: each((keys, state), shared), donate_argnums=1)
        return program.lower(keys, state, *shared).compile(), time.perf_counter() - begin

    compile_seconds = 0.0
    if state is None:
        if "start" not in programs:
            programs["start"], compile_seconds = compiled(start, (), hps, data)
        state = programs["start"](keys, (), hps, data)
    else:
        state = jax.device_put(jax.tree.map(lambda a: a[padded], {name: state[name] for name in runs}), by_seed)
    for numbers in chunks:
        steps = jax.device_put(np.arange(numbers.start, numbers.stop), everywhere)
        if len(numbers) not in programs:
            programs[len(numbers)], seconds = compiled(advanced, state, hps, data, steps)
            compile_seconds += seconds
        state, record = programs[len(numbers)](keys, state, hps, data, steps)
        yield state, record, compile_seconds
        compile_seconds = 0.0
