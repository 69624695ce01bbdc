"""Sweeps: rules × settings × seeds of a task, paired, in one program, as one labeled data set."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import optim, store
from fnn.base.checks import check_hyper
from fnn.base.errors import InputError, listed, require, whole
from fnn.base.provenance import origin
from fnn.rule import Rule, checked
from fnn.rule.hyper import get, paths, put
from fnn.rule.schedules import Shape, constant
from fnn.tasks import check_splits
from fnn.tasks.contract import Label, Task, Trial
from fnn.train import blocks, engine
from fnn.train.blocks import Work
from fnn.train.labels import DIVERGED, Dataset, Labels, Rows, flat
from fnn.train.logs import Log
from fnn.train.progress import progress as reported
from fnn.train.run import Hyper, Moment, Record, Run, recorded, training
from fnn.train.settings import axes, first, size, stacked
from fnn.train.stopping import EarlyStopping

Rules = Rule | ModuleType | str | Sequence[str] | Mapping[str, Rule | ModuleType | str]
"""One rule, or several by name. A rule may be given as its name for `optim.rule`, or as its module `optim.adam`."""

CHUNK = 100
"""The approximate number of steps between two reports, checkpoints and parts of a stream."""


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
    stopping: EarlyStopping | None = None,
    keep: str | Path | None = None,
    networks: bool = False,
    executor: Executor | None = None,
    memory: float | int | None = None,
    progress: bool = False,
    log: Log | None = None,
) -> Any:
    """An `xarray.Dataset` of a task trained by rules, at settings, for seeds, with a dimension for each of these.

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
    observe: `Moment -> arrays by name`, what else is recorded of a step, by `fnn.nn.instruments` say; arrays of a tree
        as `NAME.PART`. A `fnn.train.Observation` has labels for them.
    observe_at: the numbers of updates after which `observe` is called (dimension `observed`, or `update` where these
        are those of `evaluate`); None for every step.
    stopping: `EarlyStopping("validation_loss", patience=5)`: the metric, of those evaluated, by which a network stops
        and by which the parameters are chosen that `networks` returns.
    keep: a folder for finished work: after an interrupt or a kill the same call resumes from it, to the same numbers.
    networks: return `(data set, networks)`, the parameters after the last update, or with `stopping` the best ones, by
        the names of the programs: "TASK", "RULE", "TASK/RULE" or "" by what has a name; every leaf has the axes of the
        settings and of the seeds in front.
    executor: any `concurrent.futures.Executor`, whose workers compute blocks of settings and seeds. Several hosts
        (`jax.distributed`) share the blocks where they share `keep`.
    memory: bytes that may be used; None for half of what is free. Larger sweeps are computed in blocks.
    progress: show a bar in a terminal or notebook, or a line now and then in a log.
    log: a function that is called with a row, `{"rule": "adam", "lr": 0.1, "seed": 0, "update": 100, "loss": …}`, for
        each evaluation of each network as it is done, in this process; blocks that are read from `keep` are not logged.

    The data set has the recorded variables with units, `diverged_at` (the first step whose loss is not finite, −1 for
    none), and as attributes those of the task, steps, seconds, and `provenance` (JSON). Raises `InputError` for invalid
    arguments, hyperparameters out of range and data that do not fit, before anything is computed.
    """
    how = _Training(schedule, loss_after, observe, observe_at, stopping)
    work = _work(task, rules, over, seeds, steps, evaluate, networks, how)
    folder = None if keep is None else store.as_folder(keep)
    require(log is None or callable(log), f"A log is a function of a row, not {log!r:.80}.")
    require(log is None or not isinstance(task, Trial), "A Trial has no evaluations to log.")
    submits = executor is None or hasattr(executor, "submit")
    require(submits, f"An executor is one of concurrent.futures, with a method submit, unlike {executor!r:.80}.")
    spread = executor is not None or jax.process_count() > 1
    work = blocks.cut(work, blocks.size(work, _bytes(memory), spread), folder)
    with reported(len(work.places()) * work.steps, "step", progress) as bar:
        result = blocks.done(work, folder, executor, bar, log)
    seconds = {"train_seconds": round(result.seconds, 2), "compile_seconds": round(result.compile_seconds, 2)}
    ds = work.labels.dataset(result.record, range(work.steps)).assign_attrs(seconds)
    return (ds, work.labels.networks(result.networks)) if networks else ds


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
    stopping: EarlyStopping | None = None,
    keep: str | Path | None = None,
) -> Iterator[Dataset]:
    """An iterator of data sets as `sweep` returns, each of the next hundred steps or so of all networks.

    Arguments: see `sweep`.
    """
    require(not isinstance(task, Trial), "A Trial has no steps to stream: use sweep.")
    how = _Training(schedule, loss_after, observe, observe_at, stopping)
    work = _work(task, rules, over, seeds, steps, evaluate, False, how)
    work = blocks.cut(work, blocks.Size(max(1, work.settings), work.seeds), None)
    return _parts(work, None if keep is None else store.as_folder(keep))


def _parts(work, folder):
    diverged = None
    for chunk in work.chunks(work.places()[0], folder):
        ds = work.labels.dataset(work.labels.select(chunk.record, chunk.steps), chunk.steps)
        if diverged is not None:
            ds[DIVERGED] = ds[DIVERGED].copy(data=np.where(diverged < 0, ds[DIVERGED], diverged))
        diverged = ds[DIVERGED].values
        yield ds


class _Training(NamedTuple):
    """The arguments of `sweep` that only training has."""

    schedule: Any
    loss_after: Any
    observe: Any
    observe_at: Any
    stopping: Any


def _work(task, rules, over, seeds, steps, evaluate, networks, how: _Training) -> Work:
    """The programs, settings and labels of a sweep, checked."""
    keys, numbers = _keys(seeds)
    if not isinstance(task, Trial):
        return _learning(task, rules, over, keys, numbers, steps, evaluate, networks, how)
    given = {"rules": rules, "steps": steps, "evaluate": evaluate, "networks": networks or None, **how._asdict()}
    given["loss_after"] = how.loss_after or None
    extra = [name for name, value in given.items() if value is not None]
    require(not extra, f"A Trial is measured without {', '.join(extra)}.")
    return _measuring(task, axes(over, ()), keys, numbers)


def _learning(task, rules, over, keys, numbers, steps, evaluate, networks, how: _Training) -> Work:
    """The work of training: a program for each task and rule."""
    schedule, loss_after, observe, observe_at, stopping = how
    tasks, rules = _tasks(task), _rules(rules)
    if not whole(steps, 1):
        raise InputError(f"A sweep trains for 1 step or more: steps=1000, not {steps!r}.")
    require(observe is None or callable(observe), f"What to observe is a function of a Moment, not {observe!r:.80}.")
    evaluate = _at("evaluate", (steps,) if evaluate is None else evaluate, steps)
    observe_at = None if observe_at is None else _at("observe_at", observe_at, steps)
    seen = _flat(observe)
    along = axes(over, [name for name in rules if name])
    runs, hps, names = {}, {}, {}
    for task_name, one in tasks.items():
        for rule_name, rule in rules.items():
            name = "/".join(part for part in (task_name, rule_name) if part)
            hyper = Hyper(rule.hyper, one.hyper)
            hps[name] = stacked(along, hyper, rule_name)
            runs[name] = training(
                *(one._replace(data=None), rule, steps),
                schedule=_schedule(schedule, hyper),
                loss_after=loss_after,
                evaluate_at=evaluate,
                observe=seen,
                observe_at=observe_at,
            )
            if stopping is not None:
                runs[name] = stopping(runs[name], evaluate)
            names.setdefault(task_name, name)
    data = next(iter(tasks.values())).data
    _check(runs, hps, data, size(along))
    rows, shapes = {}, []
    for task_name, one in tasks.items():
        metrics, more = recorded(one, seen, first(hps[names[task_name]], size(along)).task, keys[0], data)
        if observe_at is not None:
            dim = "update" if observe_at == evaluate else "observed"
            rows |= dict.fromkeys(more, Rows(dim, observe_at))
        if stopping is not None:
            require(stopping.metric in metrics, f"No metric {stopping.metric}: there are {', '.join(metrics)}.")
            metrics = {**metrics, **dict.fromkeys(stopping.labels({}), metrics[stopping.metric])}
        rows |= dict.fromkeys(metrics, Rows("update", evaluate))
        shapes.append({name: leaf.shape for name, leaf in {**more, **(metrics if evaluate else {})}.items()})
    labels = Labels(
        tasks=None if set(tasks) == {""} else tuple(tasks),
        rules=None if set(rules) == {""} else tuple(rules),
        axes=along,
        seeds=numbers,
        rows=rows,
        labels=_labels(tasks, observe, loss_after, stopping),
        coords={**_merged(one.coords for one in tasks.values()), **getattr(observe, "coords", {})},
        attrs={**_common(one.about for one in tasks.values()), "steps": steps, "provenance": json.dumps(origin())},
    )
    labels.check([{"loss": (), **one} for one in shapes])
    return Work(runs, hps, size(along), keys, data, steps, _chunk(steps), labels, networks)


def _measuring(trial, along, keys, numbers):
    """The work of a trial: a run of one step, which records what is measured."""

    def step(hp, data, state, key):
        return state, flat(trial.measure(hp, key, data))

    run = Run(lambda hp, key, data: (), step, lambda key, data, i: key)
    hps = {"": stacked(along, trial.hyper, "")}
    check_splits(trial.data)
    check_hyper(hps[""])
    attrs = {**trial.about, "provenance": json.dumps(origin())}
    labels = Labels(None, None, along, numbers, stepped=False, labels=trial.labels, coords=trial.coords, attrs=attrs)
    return Work({"": run}, hps, size(along), keys, trial.data, 1, 1, labels, False)


def _keys(seeds):
    if isinstance(seeds, range):
        require(len(seeds) > 0 and seeds.step == 1, f"Seeds are a number or a range without gaps, not {seeds!r}.")
        return engine.seeds(len(seeds), seeds.start), tuple(seeds)
    require(whole(seeds, 1), f"A sweep needs at least 1 seed, a number of them or a range, not {seeds!r}.")
    return engine.seeds(seeds), tuple(range(seeds))


def _tasks(task) -> dict[str, Task]:
    tasks = dict(task) if isinstance(task, Mapping) else {"": task}
    wrong = [one for one in tasks.values() if not isinstance(one, Task)]
    require(bool(tasks) and not wrong, f"What is learned is a fnn.tasks.Task, or several by name, not {task!r:.80}.")
    named = isinstance(task, Mapping)
    require(not named or all(isinstance(n, str) and n and "/" not in n for n in tasks), "Tasks have names without '/'.")
    for one in tasks.values():
        require(one.data is not None, "The task has no data: give them to it, tasks.classification(network, data).")
    data, *others = [one.data for one in tasks.values()]
    same = all(other is data or store.checksum(other) == store.checksum(data) for other in others)
    require(same, "Tasks that are swept together have the same data.")
    return tasks


def _rules(rules) -> dict[str, Rule]:
    lacking = "A sweep needs a rule: sweep(task, 'adam', steps=1000)."
    if rules is None:
        raise InputError(lacking)
    if isinstance(rules, Rule | ModuleType | str):
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
    return checked(optim.rule(rule) if isinstance(rule, str) else rule)


def _flat(observe):
    """The observation with trees flattened to arrays by name; None for None."""
    return None if observe is None else lambda moment: flat(observe(moment))


def _at(what, numbers, steps):
    require(listed(numbers), f"{what} is a list of numbers of updates, not {numbers!r}.")
    wrong = [n for n in numbers if not whole(n, 1, steps)]
    require(not wrong, f"{what} names numbers of updates from 1 to {steps}, unlike {', '.join(map(repr, wrong))}.")
    return tuple(sorted({int(n) for n in numbers}))


def _schedule(schedule, hyper):
    """The schedule on a run's `Hyper`, from shapes by the names of hyperparameters."""
    if schedule is None:
        return constant
    require(isinstance(schedule, Mapping), f"A schedule is shapes by names, {{'lr': cosine()}}, not {schedule!r:.80}.")
    for shape in schedule.values():
        require(callable(shape), f"A shape is a function of progress, not {shape!r:.80}.")
    places = {name: paths(hyper, name) for name in schedule}
    for path in (path for found in places.values() for path in found):
        one = jax.tree_util.all_leaves([get(hyper, path)])
        require(one, f"A schedule is of one hyperparameter, and {path} is several numbers.")

    def at(hp, now):
        for name, shape in schedule.items():
            for path in places[name]:
                hp = put(hp, path, get(hp, path) * shape(now))
        return hp

    return at


def _check(runs, hps, data, settings):
    """Raise `InputError` where hyperparameters are out of range or the data do not fit."""
    for hp in hps.values():
        check_hyper(hp)
    for check, name in {run.check: name for name, run in runs.items()}.items():
        check(first(hps[name], settings), data)


def _labels(tasks, observe, loss_after, stopping):
    labels = _merged(task.labels for task in tasks.values())
    loss = labels.get("loss", Label("loss on the minibatch", "nats"))
    named = Label("loss on the minibatch after the update", loss.units, loss.dims) if loss_after else loss
    beside = {} if stopping is None else stopping.labels(labels)
    return {**labels, "loss": named, **beside, **getattr(observe, "labels", {})}


def _merged(mappings):
    """The union of the mappings; where several have a name, the first one's value."""
    union = {}
    for one in mappings:
        union = {**one, **union}
    return union


def _common(mappings):
    """The items that all mappings have."""
    first, *rest = mappings
    return {name: value for name, value in first.items() if all(name in o and o[name] == value for o in rest)}


def _chunk(steps):
    """The number of steps of a chunk: the divisor of `steps` nearest to `CHUNK`, or `CHUNK` without a near one."""
    near = [n for n in range(CHUNK // 2, 2 * CHUNK + 1) if steps % n == 0]
    return steps if steps <= CHUNK else min(near, key=lambda n: abs(n - CHUNK), default=CHUNK)


def _bytes(memory):
    fits = memory is None or (isinstance(memory, int | float) and not isinstance(memory, bool) and memory > 0)
    if not fits:
        raise InputError(f"The memory is a number of bytes above 0, not {memory!r}.")
    return memory
