"""Sweeps: rules × settings × seeds of a task, paired, in one program, as one labelled data set."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from fnn import optim, store
from fnn.base.checks import check_hyper, check_keys
from fnn.base.errors import InputError, listed, require, whole
from fnn.base.provenance import origin
from fnn.rule import Rule
from fnn.rule.hyper import get, paths, put
from fnn.rule.schedules import Shape, constant
from fnn.tasks import check_splits
from fnn.tasks.contract import Label, Task, Trial
from fnn.train import blocks, engine
from fnn.train.blocks import Work
from fnn.train.labels import Labels, names_of, networks_of
from fnn.train.progress import progress as reported
from fnn.train.run import Hyper, Moment, Record, Run, train, training
from fnn.train.settings import axes, stacked

Rules = Rule | str | Sequence[str] | Mapping[str, Rule | str]
"""One rule, or several by name; a name as `optim.rule` takes it stands for its rule."""

CHUNK = 100
"""About how many steps are done between two reports, checkpoints and parts of a stream."""


def sweep(
    task: Task | Trial | Mapping[str, Task],
    rules: Rules | None = None,
    *,
    over: Mapping[Any, Any] | None = None,
    seeds: int | range = 10,
    steps: int | None = None,
    schedule: Mapping[str, Shape] | None = None,
    loss_after: bool = False,
    evaluate: Sequence[int] | None = None,
    observe: Callable[[Moment], Record] | None = None,
    observe_at: Sequence[int] | None = None,
    keep: str | Path | None = None,
    networks: bool = False,
    executor: Executor | None = None,
    memory: float | None = None,
    progress: bool = False,
) -> Any:
    """Train a task by rules, at settings, for seeds; returns an `xarray.Dataset` with a dimension for each of these.

    What depends on the seed alone, initial weights and minibatches, is the same for all rules and settings, so that
    every comparison is paired.

    task: a `Task`, or several by name (dimension `task`); or a `Trial`, which is measured without rules and steps.
    rules: one rule, or several by name (dimension `rule`), rules or names as "adam" and "adam:book".
    over: the values of hyperparameters, of rules or of the task, by their names: `{"lr": [0.01, 0.1]}`, a dimension
        each. `{"lr": {"adam": […], "sgd": […]}}` gives each rule its own (dimension `setting`); `{"init": {"he": …}}`
        names the values, which may be trees like the default; `{("lr", "decay"): [(0.1, 0.0), …]}` varies several
        together (dimension `setting`). Values are traced: new ones do not recompile.
    seeds: their number, or a range of them.
    steps: updates of each network.
    schedule: for a hyperparameter the shape it is multiplied by, `{"lr": schedules.cosine()}`.
    loss_after: record the minibatch's loss at inference after the update; otherwise the training loss before it.
    evaluate: numbers of updates after which the task's metrics are taken (dimension `update`); None: after the last.
    observe: what else is recorded of a step, as `fnn.nn.instruments` computes it; observe_at: after which numbers of
        updates (dimension `observed`), None for every step. A `fnn.train.Observation` names what it records.
    keep: a folder for finished work: after an interrupt or a kill the same call goes on there, to the same numbers.
    networks: return `(data set, networks)`, the trained parameters by the names of the programs: "TASK", "RULE",
        "TASK/RULE" or "" by what has a name; every leaf has the axes of the settings and of the seeds in front.
    executor: does the blocks of settings and seeds in its workers: any `concurrent.futures.Executor`. Several hosts
        (`jax.distributed`) share the blocks where they share `keep`.
    memory: bytes that may be taken; None for half of what is free. What needs more is done in blocks.
    progress: show a bar in a terminal or notebook, or a line now and then in a log.

    The data set has what is recorded with units, `diverged_at`, and as attributes what the task is about, steps,
    seconds, and `provenance` (JSON). Raises `InputError` for arguments that are none, hyperparameters out of range and
    data that do not fit, before anything is computed.
    """
    work = _work(task, rules, over, seeds, steps, schedule, loss_after, evaluate, observe, observe_at, networks)
    keep = None if keep is None else store.as_folder(Path(keep))
    size = blocks.size(work, _bytes(memory), executor is not None or jax.process_count() > 1)
    work = blocks.cut(work, size, keep)
    with reported(len(work.places()) * work.steps, "step", progress) as bar:
        result = blocks.done(work, keep, executor, bar)
    seconds = {"train_seconds": round(result.seconds, 2), "compile_seconds": round(result.compile_seconds, 2)}
    ds = work.labels.dataset(result.record, range(work.steps)).assign_attrs(seconds)
    return (ds, networks_of(result.networks, work.labels)) if networks else ds


def stream(
    task: Task | Mapping[str, Task],
    rules: Rules,
    *,
    over: Mapping[Any, Any] | None = None,
    seeds: int | range = 10,
    steps: int | None = None,
    schedule: Mapping[str, Shape] | None = None,
    loss_after: bool = False,
    evaluate: Sequence[int] | None = None,
    observe: Callable[[Moment], Record] | None = None,
    observe_at: Sequence[int] | None = None,
    keep: str | Path | None = None,
) -> Iterator[xr.Dataset]:
    """As `sweep`, a data set for every hundred steps or so as they are done, of all networks at the same steps."""
    work = _work(task, rules, over, seeds, steps, schedule, loss_after, evaluate, observe, observe_at, False)
    work = blocks.cut(work, blocks.Size(max(1, work.settings), work.seeds), None)
    [place] = work.places()
    folder = None if keep is None else store.as_folder(Path(keep))
    for chunk in work.chunks(place, folder):
        yield work.labels.dataset(work.labels.select(chunk.record, chunk.steps), chunk.steps)


def _work(task, rules, over, seeds, steps, schedule, loss_after, evaluate, observe, observe_at, networks) -> Work:
    """The programs, settings and labels of a sweep, checked."""
    keys, numbers = _keys(seeds)
    if isinstance(task, Trial):
        given = {"rules": rules, "steps": steps, "schedule": schedule, "evaluate": evaluate, "observe": observe}
        extra = [name for name, value in given.items() if value is not None] + ["networks"] * networks
        require(not extra, f"A Trial is measured without {', '.join(extra)}.")
        return _measuring(task, axes(over, ()), keys, numbers)
    tasks, rules = _tasks(task), _rules(rules)
    require(whole(steps, 1), f"A sweep trains for 1 step or more: steps=1000, not {steps!r}.")
    evaluate = (steps,) if evaluate is None else evaluate
    along = axes(over, [name for name in rules if name])
    runs, hps = {}, {}
    for task_name, one in tasks.items():
        for rule_name, rule in rules.items():
            name = "/".join(part for part in (task_name, rule_name) if part)
            hyper = Hyper(rule.hyper, one.hyper)
            runs[name] = training(
                *(one, rule, steps),
                schedule=_schedule(schedule, hyper),
                loss_after=loss_after,
                evaluate_at=_at("evaluate", evaluate),
                observe=observe,
                observe_at=None if observe_at is None else _at("observe_at", observe_at),
            )
            hps[name] = stacked(along, hyper, rule_name)
    first = next(iter(tasks.values()))
    settings = len(jax.tree.leaves(next(iter(hps.values())))[0]) if along else 0
    _check(runs, hps, keys, first.data, settings)
    metrics = _metrics(tasks, hps, keys, settings)
    recorded = frozenset() if observe is None else _observed(runs, hps, keys, first.data, settings) - metrics - {"loss"}
    labels = Labels(
        *(None if set(tasks) == {""} else tuple(tasks), None if set(rules) == {""} else tuple(rules), along, numbers),
        evaluated=metrics,
        evaluate_at=_at("evaluate", evaluate),
        observed=recorded,
        observe_at=None if observe_at is None else _at("observe_at", observe_at),
        labels=_labels(first, observe, loss_after),
        coords={**first.coords, **getattr(observe, "coords", {})},
        attrs={**first.about, "steps": steps, "provenance": json.dumps(origin())},
    )
    return Work(runs, hps, settings, keys, first.data, steps, _chunk(steps), labels, networks)


def _measuring(trial, along, keys, numbers):
    """The work of a trial: a run of one step, which records what is measured."""

    def step(hp, data, state, key):
        return state, dict(trial.measure(hp, key, data))

    run = Run(lambda hp, key, data: (), step, lambda key, data, i: key)
    hps = {"": stacked(along, trial.hyper, "")}
    check_hyper(hps[""])
    check_splits(trial.data)
    settings = len(jax.tree.leaves(hps[""])[0]) if along else 0
    attrs = {**trial.about, "provenance": json.dumps(origin())}
    labels = Labels(None, None, along, numbers, stepped=False, labels=trial.labels, coords=trial.coords, attrs=attrs)
    return Work({"": run}, hps, settings, keys, trial.data, 1, 1, labels, False)


def _keys(seeds):
    if isinstance(seeds, range):
        require(len(seeds) > 0 and seeds.step == 1, f"Seeds are a number or a range without gaps, not {seeds!r}.")
        return engine.seeds(len(seeds), seeds.start), tuple(seeds)
    require(whole(seeds, 1), f"A sweep needs at least 1 seed, a number of them or a range, not {seeds!r}.")
    keys = engine.seeds(seeds)
    check_keys(keys)
    return keys, tuple(range(seeds))


def _tasks(task) -> dict[str, Task]:
    tasks = dict(task) if isinstance(task, Mapping) else {"": task}
    wrong = [one for one in tasks.values() if not isinstance(one, Task)]
    require(bool(tasks) and not wrong, f"What is learnt is a fnn.tasks.Task, or several by name, not {task!r:.80}.")
    named = isinstance(task, Mapping)
    require(not named or all(isinstance(n, str) and n and "/" not in n for n in tasks), "Tasks have names without '/'.")
    first, *others = tasks.values()
    same = all(other.data is first.data or store.checksum(other.data) == store.checksum(first.data) for other in others)
    require(same, "Tasks that are swept together have the same data.")
    for one in tasks.values():
        require(one.data is not None, "The task has no data: give them to it, tasks.classification(network, data).")
    return tasks


def _rules(rules) -> dict[str, Rule]:
    lacking = "A sweep needs a rule: sweep(task, 'adam', steps=1000)."
    if rules is None:
        raise InputError(lacking)
    if isinstance(rules, Rule | str):
        return {"": _rule(rules)}
    if isinstance(rules, Mapping):
        found = {name: _rule(one) for name, one in rules.items()}
        named = all(isinstance(name, str) and name and "/" not in name for name in found)
        require(named, "Rules have names without '/'.")
    else:
        texts = listed(rules) and all(isinstance(one, str) for one in rules)
        require(texts, f"Rules are one, names of several, or a mapping from names to rules, not {rules!r:.80}.")
        found = {name: optim.rule(name) for name in rules}
        require(len(found) == len(rules), "A rule is named more than once.")
    require(len(found) > 0, lacking)
    return found


def _rule(rule) -> Rule:
    found = optim.rule(rule) if isinstance(rule, str) else rule
    if not isinstance(found, Rule):
        raise InputError(f"A rule is a fnn.rule.Rule or its name, not {rule!r:.80}.")
    return found


def _at(what, numbers):
    require(listed(numbers), f"{what} is a list of numbers of updates, not {numbers!r}.")
    return tuple(dict.fromkeys(int(n) if whole(n) else n for n in numbers))


def _schedule(schedule, hyper):
    """The schedule on a run's `Hyper` of shapes by hyperparameters' names."""
    if schedule is None:
        return constant
    require(isinstance(schedule, Mapping), f"A schedule is shapes by names, {{'lr': cosine()}}, not {schedule!r:.80}.")
    for shape in schedule.values():
        require(callable(shape), f"A shape is a function of progress, not {shape!r:.80}.")
    places = {name: paths(hyper, name) for name in schedule}

    def at(hp, now):
        for name, shape in schedule.items():
            for path in places[name]:
                hp = put(hp, path, get(hp, path) * shape(now))
        return hp

    return at


def _check(runs, hps, keys, data, settings):
    """Raise `InputError` where hyperparameters are out of range or the data do not fit."""
    for hp in hps.values():
        check_hyper(hp)
    for check, name in {run.check: name for name, run in runs.items()}.items():
        check(_one(hps[name], settings), data)


def _one(hps, settings):
    """The first of the settings."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], hps) if settings else hps


def _metrics(tasks, hps, keys, settings):
    """The names of the tasks' metrics."""

    def names(task, hp):
        take = lambda hp, key, data: task.metrics(hp.task, *task.init(hp.task, key, data), data)
        return jax.eval_shape(take, hp, keys[0], jax.eval_shape(task.own, keys[0], task.data))

    found = zip(tasks.items(), list(hps.values())[:: max(1, len(hps) // len(tasks))], strict=True)
    return frozenset(name for (_, task), hp in found for name in names(task, _one(hp, settings)))


def _observed(runs, hps, keys, data, settings):
    """The flat names of all that the first run records."""
    name, run = next(iter(runs.items()))
    one = lambda hp, key, data: train(run, 1, hp, key, data)[1]
    return names_of(jax.eval_shape(one, _one(hps[name], settings), keys[0], data))


def _labels(task, observe, loss_after):
    loss = Label("loss on the minibatch after the update" if loss_after else "loss on the minibatch", "nats")
    given = task.labels.get("loss", loss)
    own = {"loss": Label(loss.long_name, given.units, given.dims)}
    return {**task.labels, **own, **getattr(observe, "labels", {})}


def _chunk(steps):
    """A number of steps between two parts, near `CHUNK`, that divides them evenly where one does."""
    near = [n for n in range(CHUNK // 2, 2 * CHUNK + 1) if steps % n == 0]
    return steps if steps <= CHUNK else min(near, key=lambda n: abs(n - CHUNK), default=CHUNK)


def _bytes(memory):
    fits = memory is None or (isinstance(memory, int | float) and not isinstance(memory, bool) and memory > 0)
    if not fits:
        raise InputError(f"The memory is a number of bytes above 0, not {memory!r}.")
    return memory
