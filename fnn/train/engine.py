"""Sweeps: one run vmapped over hyperparameters × seeds, rules side by side, in chunks, over every device.

What depends on the seed alone (initial weights, minibatches, masks) is computed once a seed and shared by all
hyperparameters and all rules. So every comparison is *paired*: same start, same batches for each contender.
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

from fnn.base.checks import check_hyper, check_keys, check_settings
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
    """Keys of seeds first, first + 1, …: `[n]`. A seed's key does not depend on how many there are."""
    require(whole(n, 1), f"A sweep needs at least 1 seed, not {n!r}.")
    require(whole(first), f"Seeds are whole numbers from 0 on, and the first is not {first!r}.")
    return jax.vmap(jax.random.key)(jnp.arange(first, first + n))


def sweep(f: Callable[..., Any], hps: Hyper, keys: Keys, *rest: Any) -> Any:
    """`f(hp, key, *rest)` over hps `[G]` × keys `[S]`: every result with leading axes `[G, S]`.

    Seeds are the outer map, so what depends on the key alone is computed S times and not G · S times.
    """
    require(callable(f), f"What is swept is a function (hp, key) -> anything, not {f!r}.")
    check_keys(keys)
    check_settings(hps)
    shared = (None,) * len(rest)
    return jax.vmap(jax.vmap(f, (0, None, *shared)), (None, 0, *shared), 1)(hps, keys, *rest)


def over_hypers(run: Run) -> Run:
    """The run of many hyperparameter settings at once: every leaf of hp, state and record gains a leading axis G."""
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
    """`(hps, data) -> None`, by the `check` of a run of one setting: data that fit one fit all."""

    check: Callable[[Any, Any], None]

    def __call__(self, hps: Any, data: Any) -> None:
        """Raise `InputError` where the data do not fit."""
        self.check(jax.tree.map(lambda a: a[0], hps), data)


def over_seeds(f: Callable[[Any, Key, Any], Any]) -> Callable[[Any, Keys, Any], Any]:
    """`f(mine, key, shared)` for every seed, spread over the devices; a device does one seed at a time on CPU.

    It gives a function of the same arguments, with a leading axis S on `mine` and the keys, and on every result, a
    NumPy array.
    """

    require(callable(f), f"What is done for every seed is a function (mine, key, shared) -> anything, not {f!r}.")

    @functools.cache
    def program(n):
        devices = jax.local_devices()
        mesh, padded = _mesh(n, devices)
        each = _each_seed(lambda one, shared: f(one[0], one[1], shared), mesh, _at_once(devices, n))
        return jax.jit(each), padded

    def everywhere(mine, keys, shared):
        check_keys(keys)
        check_splits(shared)
        each, padded = program(len(keys))
        found = each(jax.tree.map(lambda a: a[padded], (mine, keys)), shared)
        return jax.tree.map(lambda a: np.asarray(a)[: len(keys)], found)

    return everywhere


def _at_once(devices, n):
    """How many of n seeds a device steps together: see `stream`."""
    return 1 if devices[0].platform == "cpu" else n


def _mesh(n, devices):
    """A mesh for n seeds, and their numbers with some repeated, so that they divide evenly over it."""
    d = min(n, len(devices))
    return jax.make_mesh((d,), ("seed",), (AxisType.Auto,), devices=devices[:d]), np.arange(-(-n // d) * d) % n


def _each_seed(f, mesh, at_once):
    """`f(mine, shared)` for every seed of the mesh: `mine` has an axis of seeds in front, `shared` is everywhere."""

    def share(mine, shared):
        return jax.lax.map(lambda one: f(one, shared), mine, batch_size=None if at_once == 1 else at_once)

    return jax.shard_map(share, mesh=mesh, in_specs=(P("seed"), P()), out_specs=P("seed"), check_vma=False)


class Chunk(NamedTuple):
    """A stretch of steps of all networks.

    steps: the numbers of its steps.
    record: for each run its record, NumPy arrays `[S, len(steps), …]` with the run's own axes (settings) last.
    state: for each run its networks after it, leading axis S or some more; good until the next chunk is asked for,
        which reuses the memory.
    seconds, compile_seconds: what the chunk took to run, and to compile beforehand; the first one's, with the start.
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
    at_once: int | None = None,
    devices: Sequence[Any] | None = None,
    done: int = 0,
    state: Mapping[str, Any] | None = None,
    compiled: dict[Any, Any] | None = None,
) -> Iterator[Chunk]:
    """Train every run at its `hps` for every key, `chunk` steps at a time, with the seeds spread over the devices.

    Runs differ in what is compiled (their rules, say); settings that differ in numbers only belong into one run, by
    `over_hypers`. All runs see the same keys, so they are paired: the same weights at the start, the same minibatches.
    A run of a seed stays on one device and devices never talk, so the numbers do not depend on how many there are.
    Where the seeds do not divide evenly, the last device repeats some and drops them again; where there are more
    devices than seeds, the runs are spread over them too.
    at_once: seeds that a device steps together. By default 1 on CPU, where a network then stays in the cache from step
        to step while it trains, and all of them on other devices, which have the arithmetic to fill.
    done, state: go on after this number of steps, a number of whole chunks, from the state that the last of them left.
    compiled: the programs of an earlier stream of the same runs and shapes; those that it lacks are added.
    """
    check_stream(runs, hps, keys, data, steps, chunk)
    require(at_once is None or whole(at_once, 1), f"A device steps at least 1 seed at once, not {at_once!r}.")
    at_end = whole(done, 0, steps) and (done % chunk == 0 or done == steps)
    require(at_end, f"A sweep goes on after whole chunks of {chunk} steps, not after {done!r}.")
    given = devices is None or (listed(devices) and len(devices) > 0)
    require(given, f"A sweep runs on a list of devices, as jax.local_devices() gives it, not on {devices!r}.")
    require((done > 0) == (state is not None), "A sweep goes on from a number of steps and their state.")
    devices = jax.local_devices() if devices is None else list(devices)
    at_once = at_once or _at_once(devices, len(keys))
    n_groups = min(len(runs), max(1, len(devices) // len(keys)))
    run_groups = [{name: runs[name] for name in list(runs)[i::n_groups]} for i in range(n_groups)]
    device_groups = [devices[i::n_groups] for i in range(n_groups)]
    programs = {} if compiled is None else compiled
    streams = [
        _stream_group(
            *(run_groups[i], hps, keys, data, _ranges(done, steps, chunk), at_once, device_groups[i], state),
            programs.setdefault(("group", i, n_groups), {}),
        )
        for i in range(n_groups)
    ]
    for numbers in _ranges(done, steps, chunk):
        began = time.perf_counter()
        parts = [next(one) for one in streams]  # every group of devices computes before the first is waited for
        after = {name: networks for states, _, _ in parts for name, networks in states.items()}
        found = {name: record for _, records, _ in parts for name, record in records.items()}
        record = jax.tree.map(lambda a: np.asarray(a)[: len(keys)], {name: found[name] for name in runs})
        compile_seconds = sum(seconds for _, _, seconds in parts)
        yield Chunk(numbers, record, after, time.perf_counter() - began - compile_seconds, compile_seconds)


def _ranges(done, steps, chunk):
    return (range(first, min(first + chunk, steps)) for first in range(done, steps, chunk))


def _stream_group(runs, hps, keys, data, chunks, at_once, devices, state, programs):
    """Some of the runs on some of the devices: after each chunk (state, record, compile seconds), not waited for."""
    mesh, padded = _mesh(len(keys), devices)
    one_a_seed, everywhere = NamedSharding(mesh, P("seed")), NamedSharding(mesh, P())
    keys = jax.device_put(keys[padded], one_a_seed)
    hps, data = jax.device_put(({name: jax.tree.map(jnp.asarray, hps[name]) for name in runs}, data), everywhere)

    def owned(key, data):
        """What the seed has of the data, by the runs' `own`."""
        return {own: own(key, data) for own in {run.own for run in runs.values()}}

    def start(mine, shared):
        (key, _), (hps, data) = mine, shared
        own = owned(key, data)
        return {name: run.start(hps[name], key, own[run.own]) for name, run in runs.items()}

    def go_on(mine, shared):
        (key, state), (hps, data, numbers) = mine, shared
        own = owned(key, data)
        drawing = {(run.draw, run.own): run for run in runs.values()}  # once for all whose draws are equal
        drawn = {same: draw(run, key, own[run.own], numbers) for same, run in drawing.items()}
        # One loop a run rather than one for all, which would copy what their updates carry.
        done = {
            name: advance(run, hps[name], own[run.own], state[name], drawn[run.draw, run.own])
            for name, run in runs.items()
        }
        return {name: s for name, (s, _) in done.items()}, {name: r for name, (_, r) in done.items()}

    def compiled(f, state, *shared):
        """f for every seed of the mesh, for arguments like these, and the seconds that compiling it took."""
        began = time.perf_counter()
        each = _each_seed(f, mesh, at_once)
        program = jax.jit(lambda keys, state, *shared: each((keys, state), shared), donate_argnums=1)
        return program.lower(keys, state, *shared).compile(), time.perf_counter() - began

    compile_seconds = 0.0
    if state is None:
        if "start" not in programs:
            programs["start"], compile_seconds = compiled(start, (), hps, data)
        state = programs["start"](keys, (), hps, data)
    else:
        state = jax.device_put(jax.tree.map(lambda a: a[padded], {name: state[name] for name in runs}), one_a_seed)
    for numbers in chunks:
        steps = jax.device_put(np.arange(numbers.start, numbers.stop), everywhere)
        if len(numbers) not in programs:
            programs[len(numbers)], seconds = compiled(go_on, state, hps, data, steps)
            compile_seconds += seconds
        state, record = programs[len(numbers)](keys, state, hps, data, steps)
        yield state, record, compile_seconds
        compile_seconds = 0.0
