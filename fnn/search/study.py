"""Studies: a search on disk, so that no trial is lost or run twice, and its test set is evaluated once.

`opened` keeps a study in a folder, for one process at a time. A trial is on disk when `tell` returns. Samplers are
functions of the finished trials, so the settings that were pending when a process died are proposed again.

`Shared` is a study of many processes, on one host or many, in any storage of Optuna's (extra `search`): a journal file
on a common disk by default, or the URL of a database. Pending trials of a process that died or was interrupted are
proposed again to other processes: immediately where its end can be seen, on the same host, else when their lease is
    over.

A setting may be trained from several seeds: its values are then a row, and it is ranked by their mean or, more
cautiously, by the lower end of their 95 % interval.
"""

import contextlib
import math
import os
import re
import socket
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from fnn import store
from fnn.base import statistics
from fnn.base.arithmetic import chosen
from fnn.base.checks import check_key
from fnn.base.errors import InputError, require, whole
from fnn.base.types import Key
from fnn.search import samplers, storages
from fnn.search import space as spaces
from fnn.search.samplers import History, Sampler
from fnn.search.space import Choice, Space
from fnn.store import Block, Store

TEST = "test.json"
"""The file that records every evaluation on the test set."""

LEASE = timedelta(hours=1)
"""The age at which a pending trial is proposed again: whether a process on another host lives cannot be seen."""

UNSIGNED = timedelta(minutes=1)
"""The age at which a pending trial that names no process counts as lost."""


class Evaluations(TypedDict):
    """The content of `TEST`: the work whose test set it is, and every evaluation of it."""

    work: str
    evaluations: list["Evaluation"]


class Evaluation(TypedDict):
    """One evaluation on a test set: of what, its value (a number, or a list of them), and the UTC time in ISO 8601."""

    of: str
    value: Any
    time: str


def evaluate_once(folder: Path, of: str, measure: Callable[[], Any], again: bool = False, work: str = "") -> Any:
    """The value of `measure()`, a number or a list, measured on the test set: once for the work in the folder.

    The evaluation is recorded in the folder before it starts and its value after it, so one that was killed counts.

    of: what is evaluated. again: evaluate a second time, which is recorded too. work: the work that the folder holds.
    Raises `InputError` where there was an evaluation already, and where the record is of other work.
    """
    before = evaluations(folder, work)
    _refuse(before, again, folder)
    evaluation = _evaluation(of)
    save = lambda records: store.save_sealed(folder / TEST, {"work": work, "evaluations": records})
    save([*before, evaluation])
    try:
        value = _plain(measure())
    except BaseException:
        save(before)  # nobody has seen a number
        raise
    save([*before, evaluation | {"value": value}])
    return value


def _evaluation(of):
    return Evaluation(of=of, value=None, time=datetime.now(UTC).isoformat(timespec="seconds"))


def _plain(value):
    return np.asarray(value, float).tolist()


def _refuse(before, again, whose):
    if before and not again:
        first = before[0]
        value = "and the result was lost" if first["value"] is None else f"with the result {first['value']}"
        raise InputError(
            f"The test set of {whose} was evaluated on {first['time']}, for {first['of']}, {value}: a second "
            "evaluation would choose by it."
        )


def found(records: Sequence[Evaluation], of: str) -> Evaluation | None:
    """The last evaluation of `of` that has a value; None where there is none."""
    return next((one for one in reversed(records) if one["of"] == of and one["value"] is not None), None)


def evaluations(folder: Path, work: str = "") -> list[Evaluation]:
    """Every evaluation of the test set of the work in the folder. Raises `InputError` where the record is damaged or of
    other work."""
    unknown = "Whether the test set was evaluated is not known: restore the file, or rename it if it was not."
    try:
        known = store.read_sealed(folder / TEST, Evaluations)
    except store.Damaged as damage:
        raise InputError(f"{damage} {unknown}") from damage
    require(known.get("work", work) == work, f"{folder / TEST} is of other work. {unknown}")
    return known.get("evaluations", [])


class Study:
    """A search in a folder, as `opened` returns it.

    points, values: of all finished trials, in order: `[n, axes]` and `[n, seeds]`.
    trials: their numbers `[n]`, which do not change where other trials are lost.
    proposed: the points of the pending trials `[m, axes]`; None where there are none.
    """

    def __init__(self, kept: Store, space: Space, sampler: Sampler, key: Key):
        self.store, self.space, self.sampler, self.key = kept, space, sampler, key
        self.proposed: np.ndarray | None = None
        self.blocks = {number: block for number in kept.numbers() if (block := kept.get(number))}
        self._gather()
        lost = sorted({*range(self.trials.max(initial=-1) + 1)} - {*self.trials.tolist()})
        if lost:
            store.log.warning("%s lacks trials %s: they are proposed next.", self.folder, ", ".join(map(str, lost)))

    @property
    def folder(self) -> Path:
        """The folder of the trials."""
        return self.store.folder

    def _gather(self):
        batches = [self.blocks[number] for number in sorted(self.blocks)]
        self.points = np.concatenate([np.empty((0, len(self.space))), *(batch.arrays["points"] for batch in batches)])
        self.values = np.concatenate([batch.arrays["values"] for batch in batches]) if batches else np.empty((0, 1))
        counted = (batch.first + np.arange(len(batch.arrays["values"])) for batch in batches)
        self.trials = np.concatenate([np.empty(0, int), *counted])

    @property
    def batches(self) -> int:
        """The number of batches of trials on disk."""
        return len(self.blocks)

    @property
    def history(self) -> History:
        """The history for samplers: every setting with the mean of its values."""
        return History(self.points, self.values.mean(1))

    @property
    def settings(self) -> dict[str, np.ndarray]:
        """The settings of all finished trials, in order: arrays `[n]` by axis."""
        return spaces.settings(self.space, self.points)

    def finished(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """All finished trials, in order: their settings and their values `[n, seeds]`."""
        return self.settings, self.values

    def ask(self, n: int) -> dict[str, np.ndarray]:
        """At most n settings to try next, fewer or none where the search ends; the same ones until `tell`.

        Arrays `[m]` by axis, m ≤ n.
        """
        _check_number(n)
        if self.proposed is None:
            _, first, missing = self._gap()
            known = History(*(each[:first] for each in self.history))  # a lost trial is proposed as it was
            self.proposed = self.sampler(self.key, known, min(n, missing))
        return spaces.settings(self.space, self.proposed)

    def tell(self, values: np.ndarray) -> None:
        """Append the values of the pending trials: one each `[n]`, or a row of seeds each `[n, seeds]`."""
        if self.proposed is None:
            raise InputError("There are no pending trials: call ask before tell.")
        values = _values(values)
        seeds = self.values.shape[1] if len(self.values) else values.shape[-1]
        expected = (len(self.proposed), seeds)
        require(values.shape == expected, f"{expected[0]} × {seeds} values are expected, not {values.shape}.")
        number, first, _ = self._gap()
        batch = {"points": self.proposed, "values": values}
        if number in self.blocks:
            before = self.blocks[number]
            first, batch = before.first, {name: np.concatenate([before.arrays[name], batch[name]]) for name in batch}
        self.store.write(number, batch, first)
        self.blocks[number], self.proposed = Block(first, batch), None
        self._gather()

    def _gap(self) -> tuple[int, int, int]:
        """The number of the batch for the next trials, that of the first of them, and how many there may be.

        The next trials are the first lost ones, or those after the last. Where no number is free between two batches,
        they are appended to the earlier one.
        """
        stop, before = 0, -1
        for number in sorted(self.blocks):
            block = self.blocks[number]
            if block.first > stop:
                return min(before + 1, number - 1), stop, block.first - stop
            stop, before = block.first + len(block.arrays["values"]), number
        return before + 1, stop, sys.maxsize

    def ranking(self, by: Literal["mean", "low"] = "mean") -> np.ndarray:
        """The trials from best to worst, see `ranking`."""
        return ranking(self.values, by)

    def test(self, trial: int, measure: Callable[[], Any], again: bool = False) -> Any:
        """`measure()` on the test set for the chosen trial, once. Raises `InputError` where the study was tested.

        measure: returns a number, or one for each seed.
        again: evaluate a second time; every evaluation is recorded in the folder.
        """
        require(whole(trial, 0, len(self.points) - 1), f"There is no trial {trial!r} among {len(self.points)}.")
        return evaluate_once(self.folder, self._called(trial), measure, again, self.store.work)

    def tested(self, trial: int) -> Evaluation | None:
        """The last evaluation of the test set for this trial, where there was one."""
        return found(self.evaluations(), self._called(trial))

    def _called(self, trial):
        return f"trial {self.trials[trial]}"

    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the test set."""
        return evaluations(self.folder, self.store.work)


@contextlib.contextmanager
def opened(
    folder: Path, space: Space, sampler: Sampler, key: Key, manifest: Mapping[str, Any] | None = None
) -> Iterator[Study]:
    """The study in a folder, a new one or one to resume, as a context manager.

    manifest: what else must be the same to resume it: the sampler's name and numbers, say. Raises `InputError`
    where the folder holds another study or another process is at work in it, and where it cannot be written.
    """
    spaces.check_space(space)
    require(callable(sampler), f"A sampler is a function (key, history, n) -> points, not {sampler!r}.")
    check_key(key)
    manifest = {} if manifest is None else manifest
    require(isinstance(manifest, Mapping), f"A manifest is a mapping of names, not {manifest!r}.")
    # Samplers know axes by their indices: the same axes in another order are another search.
    axes = {"space": _axes(space), "order of axes": list(space)}
    kept = Store(folder, {**manifest, **axes, "key": store.checksum(key)})
    with store.locked(folder):
        kept.claim()
        yield Study(kept, space, sampler, key)


def _check_number(n):
    require(whole(n, 1), f"A study proposes at least 1 setting, not {n!r}.")


def _values(values):
    """The values as float64 `[n, seeds]`, from `[n]` or `[n, seeds]`. Raises `InputError` for anything else."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        array = np.asarray(None)
    numbers = array.dtype.kind in "biuf" and array.ndim in (1, 2) and array.shape[-1] > 0
    require(numbers, f"A study takes numbers, one for each setting or a row of seeds for each, not {values!r:.60}.")
    return array.astype(float).reshape(len(array), -1)


def _axes(space):
    """The axes of a space as text that is the same in every process: without addresses in memory."""
    return {name: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(axis)) for name, axis in space.items()}


def ranking(values: np.ndarray, by: Literal["mean", "low"] = "mean") -> np.ndarray:
    """Indices `[n]` of the rows of `[n, seeds]` from best to worst, by mean or by the lower end of its 95 % interval.

    Equal ends are ordered by the mean, as with one seed, which has no interval. Rows with a run that diverged (a value
    that is not a number) are the worst.
    """
    order = samplers.ranked(values.mean(1))
    return order if by == "mean" else order[samplers.ranked(lower_ends(values[order]))]


def lower_ends(values: np.ndarray) -> np.ndarray:
    """`[n]`: the lower ends of the 95 % intervals (Student's) of the means of rows; −∞ where a row has one value."""
    return statistics.students(values.T)[1]


class Shared:
    """A study that many processes share, in a storage of Optuna's. As a context manager it calls `release` at its end.

    storage: the path of a journal file, or a database's URL. name: of the study; a storage may hold many.
    sampler: one of Optuna's; by default TPE, which takes pending trials of all processes into account.
    lease: the age at which a pending trial is proposed again; longer than the slowest trials take.

    Every method raises `InputError` where the storage cannot be used, is locked by another process for too long, or
    holds trials that no `Shared` has finished.
    """

    def __init__(self, storage: Path | str, name: str, space: Space, sampler: Any = None, lease: timedelta = LEASE):
        spaces.check_space(space)
        located = isinstance(storage, Path) or (isinstance(storage, str) and "://" in storage)
        require(
            located, f"A storage is a path of a journal file, pathlib.Path(…), or a database's URL, not {storage!r}."
        )
        require(isinstance(name, str) and name != "", f"A study is named by text, not by {name!r}.")
        lasts = isinstance(lease, timedelta) and lease >= timedelta(0)
        require(lasts, f"A lease is a datetime.timedelta of 0 or more, not {lease!r}.")
        import optuna

        suggests = sampler is None or isinstance(sampler, optuna.samplers.BaseSampler)
        require(suggests, f"A shared study takes one of Optuna's samplers, not {sampler!r}.")
        if optuna.logging.get_verbosity() < optuna.logging.WARNING:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage, self.space, self.name, self.lease, self.proposed = storage, space, name, lease, []
        backend = storages.opened(storage)
        self.study = self._studied(backend, name, sampler or optuna.samplers.TPESampler(constant_liar=True))
        self.tests = self._studied(backend, f"{name}, tested")
        axes = _axes(space)
        with self._using():
            stored = self.study.user_attrs.get("space")
            require(stored in (None, axes), f"The study {name} searches another space.")
            if stored is None:
                self.study.set_user_attr("space", axes)
            arithmetic, stored = chosen(), self.study.user_attrs.get("arithmetic")
            differ = [name for name, value in arithmetic.items() if value != (stored or arithmetic).get(name)]
            require(not differ, f"The study {name} is computed with other settings of {', '.join(differ)}.")
            if stored is None:
                self.study.set_user_attr("arithmetic", arithmetic)

    def __enter__(self) -> "Shared":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(InputError):  # where the storage fails, that is what has ended the block
            self.release()

    def _using(self):
        return storages.using(self.storage, KeyError)  # for records that are gone

    def _studied(self, backend, name, sampler=None):
        """Optuna's study of this name, new or not."""
        import optuna

        with storages.using(self.storage, Exception):
            return optuna.create_study(
                storage=backend, sampler=sampler, study_name=name, direction="maximize", load_if_exists=True
            )

    def ask(self, n: int) -> dict[str, np.ndarray]:
        """n settings to try next, arrays `[n]` by axis; the same ones until `tell`.

        The pending trials of processes that died come first.
        """
        _check_number(n)
        with self._using():
            self._requeue_lost()
            for _ in range(0 if self.proposed else n):
                self.proposed.append(self.study.ask(_distributions(self.space)))
                self.proposed[-1].set_user_attr("worker", _worker())
        return {name: np.array([trial.params[name] for trial in self.proposed]) for name in self.space}

    def tell(self, values: np.ndarray) -> None:
        """Finish the pending trials with these values, one each `[n]` or a row of seeds each `[n, seeds]`.

        Where a trial was proposed to another process meanwhile, the value that is finished first counts.
        """
        values = _values(values)
        require(len(values) == len(self.proposed), f"{len(self.proposed)} values are expected, not {len(values)}.")
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        before = self.finished()[1]
        seeds = before.shape[1] if len(before) else values.shape[1]
        require(values.shape[1] == seeds, f"A setting of this study has {seeds} values, not {values.shape[1]}.")
        with self._using():
            for trial, value in zip(self.proposed, values, strict=True):
                with contextlib.suppress(UpdateFinishedTrialError):
                    trial.set_user_attr("values", value.tolist())
                    if np.isfinite(value).all():
                        self.study.tell(trial, float(value.mean()))
                    else:  # a network that diverged is a result; Optuna has no value for it
                        trial.set_user_attr("diverged", True)
                        self.study.tell(trial, state=TrialState.PRUNED)
        self.proposed = []

    def release(self) -> None:
        """End the pending trials and queue their settings, which the next `ask` of any process returns."""
        with self._using():
            for trial in self.proposed:
                self._requeue(trial.number, trial.params)
        self.proposed = []

    def done(self) -> list[Any]:
        """Optuna's records of all finished trials, of any process, in order."""
        from optuna.trial import TrialState

        with self._using():
            return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def others(self) -> int:
        """The number of trials that are pending in other living processes and threads."""
        return len(self._elsewhere())

    def awaited(self) -> str:
        """The processes whose trials `others` counts, as text, and when the last lease is over."""
        workers = [trial.user_attrs["worker"] for trial in self._elsewhere() if "worker" in trial.user_attrs]
        whose = sorted({f"process {worker['pid']} on {worker['host']}" for worker in workers})
        at_last = max((worker["time"] for worker in workers), default=time.time()) + self.lease.total_seconds()
        until = datetime.fromtimestamp(at_last).astimezone().isoformat(" ", "minutes")
        return f"{' and '.join(whose) or 'a process that has just started'}, until {until} at the latest"

    def finished(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """All finished trials, of any process, in order: their settings and their values `[n, seeds]`."""
        done = self.done()
        rows = [trial.user_attrs.get("values") for trial in done]
        whole = all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows)
        ours = whole and all(set(trial.params) == set(self.space) for trial in done)
        require(ours, f"The study {self.name} in {storages.shown(self.storage)} holds trials of another program.")
        settings = {name: np.array([trial.params[name] for trial in done]) for name in self.space}
        return settings, np.array(rows, float) if done else np.empty((0, 1))

    def test(self, trial: int, measure: Callable[[], Any], again: bool = False) -> Any:
        """As `Study.test`, once for all processes: where another process is evaluating, it waits for its end."""
        from optuna.trial import TrialState

        evaluation = _evaluation(self._called(trial))
        with self._using():
            # The storage numbers evaluations for all processes, so one of several at the same time is the first.
            record = self.tests.ask()
            record.set_user_attr("worker", _worker())
            record.set_user_attr("test_evaluation", evaluation)
        earlier = lambda: [one for one in _running(self.tests) if one.number < record.number and not self._lost(one)]
        notice = storages.Notice()
        try:
            with self._using():
                while earlier():
                    notice.pause(lambda: f"another process that evaluates the test set of {self.name}")
            _refuse(self.evaluations(before=record.number), again, self.name)
            value = _plain(measure())
        except BaseException:
            with contextlib.suppress(InputError), self._using():
                self.tests.tell(record, state=TrialState.FAIL)
            raise
        with self._using():
            record.set_user_attr("test_evaluation", evaluation | {"value": value})
            self.tests.tell(record, float(np.mean(value)))
        return value

    def tested(self, trial: int) -> Evaluation | None:
        """The last evaluation of the test set for this trial, by any process, where there was one."""
        return found(self.evaluations(), self._called(trial))

    def evaluations(self, before: float | int = math.inf) -> list[Evaluation]:
        """Every evaluation of the test set, by any process, whose number in the storage is below `before`."""
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.RUNNING)
        with self._using():
            trials = self.tests.get_trials(deepcopy=False, states=states)
        return [
            one.user_attrs["test_evaluation"]
            for one in trials
            if one.number < before and "test_evaluation" in one.user_attrs
        ]

    def _called(self, trial):
        # By the storage's number: indices among the finished trials may change while other processes work.
        done = self.done()
        require(whole(trial, 0, len(done) - 1), f"There is no trial {trial!r} among {len(done)}.")
        return f"trial {done[trial].number}"

    def _elsewhere(self):
        """The pending trials of other living processes and threads."""
        with self._using():
            return [trial for trial in self._foreign() if not self._lost(trial)]

    def _foreign(self):
        """The pending trials that this object has not proposed."""
        own = {trial.number for trial in self.proposed}
        return [trial for trial in _running(self.study) if trial.number not in own]

    def _lost(self, trial):
        return _lost(trial, self.lease)

    def _requeue_lost(self):
        for trial in self._foreign():
            if self._lost(trial):
                self._requeue(trial.number, trial.params)

    def _requeue(self, number, params):
        """End a pending trial and queue its setting, which the next `ask` of any process returns."""
        from optuna.trial import TrialState

        # Of several processes only one can end a trial.
        with contextlib.suppress(ValueError, RuntimeError):
            self.study.tell(number, state=TrialState.FAIL)
            self.study.enqueue_trial(params)


def _running(study):
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _distributions(space) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def of(axis):
        if isinstance(axis, Choice):
            return CategoricalDistribution(list(range(len(axis.options))))
        if isinstance(axis, spaces.Whole):
            return IntDistribution(int(axis.low), int(axis.high))
        return FloatDistribution(axis.low, axis.high, log=isinstance(axis, spaces.Log))

    return {name: of(axis) for name, axis in space.items()}


THREADS: weakref.WeakValueDictionary[str, threading.Thread] = weakref.WeakValueDictionary()
"""The threads of this process that have called `ask`, by the name in `worker`."""

_own = threading.local()


def _worker():
    if not hasattr(_own, "name"):
        _own.name = uuid.uuid4().hex
        THREADS[_own.name] = threading.current_thread()
    pid = os.getpid()
    return {
        "host": _host(),
        "pid": pid,
        "started": _start_time(pid),
        "thread": _own.name,
        "time": datetime.now(UTC).timestamp(),
    }


def _host():
    """This host's name and, on Linux, the namespace of its process numbers, which differs between containers."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _lost(trial, lease):
    """Whether a pending trial that this object has not proposed will never be finished.

    That is so where its process has ended (that one, and not a later one of the same number); where its thread has
    ended, or is the current one, which was then interrupted, in a notebook say; and where it is older than the lease.
    """
    worker = trial.user_attrs.get("worker")
    if worker is None:  # its process died before it wrote its name
        return datetime.now() - trial.datetime_start > UNSIGNED
    if worker["host"] == _host() and worker["started"] is not None:
        if _start_time(worker["pid"]) != worker["started"]:
            return True
        if worker["pid"] == os.getpid():
            thread = THREADS.get(worker["thread"])
            if thread is None or thread is threading.current_thread() or not thread.is_alive():
                return True
    return datetime.now(UTC).timestamp() - worker["time"] > lease.total_seconds()


def _start_time(pid):
    """The start of a process of this host in the kernel's clock ticks; None where it has ended or this is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] == b"Z" else int(fields[19])  # a zombie has ended
    except (OSError, IndexError, ValueError):
        return None
