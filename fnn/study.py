"""Studies: a search on disk, so that no trial is lost or run twice, and its test set is looked at once.

`opened` keeps a study in a folder, for one process at a time. Trials are on disk when they are told. Samplers are
functions of what is known, so what had been asked for and not told when a process died is asked for again.

`Shared` is a study of many processes, on one host or many, in any storage of Optuna's (extra `search`): a journal file
on a common disk by default, or the URL of a database. What a process that died had asked for is handed to another: at
once on the same host, after a lease where it was on another.

A setting may be trained from several seeds: its values are then a row, and it is ranked by their mean or, more
cautiously, by the lower end of their 95 % interval.
"""

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from fnn import blocks, search
from fnn.errors import InputError, require
from fnn.results import save_json
from fnn.search import Choice, History, Sampler, Space
from fnn.types import Key

TEST = "test.json"
"""The file that tells every look at the test set."""

LEASE = timedelta(hours=1)
"""What another host has not told for so long is handed on: whether that host lives cannot be seen from here."""

UNSIGNED = timedelta(minutes=1)
"""A trial that no process has signed for so long after it was asked for belongs to none."""

WAIT = 0.2
"""Seconds between two looks at what other processes are doing."""


class Look(TypedDict):
    """One look at a test set: at what, what it gave (a number, or a list of them), and when."""

    of: str
    value: Any
    time: str


def look_once(folder: Path, of: str, measure: Callable[[], Any], again: bool = False) -> Any:
    """What `measure()` finds on the test set, a number or a list: once for all that a folder stands for.

    That it is looked at is told in the folder before, and what was found after, so a kill in between is a look, too.
    Raises `InputError` where it has been looked at already. again: look all the same, which is told as well.
    """
    before = looks(folder)
    _refuse(before, again, folder)
    look = _look(of)
    save_json(folder / TEST, [*before, look])
    try:
        value = _plain(measure())
    except BaseException:
        save_json(folder / TEST, before)  # nobody has seen a number
        raise
    save_json(folder / TEST, [*before, look | {"value": value}])
    return value


def _look(of):
    return Look(of=of, value=None, time=datetime.now(UTC).isoformat(timespec="seconds"))


def _plain(value):
    return np.asarray(value, float).tolist()


def _refuse(before, again, whose):
    if before and not again:
        first = before[0]
        gave = "what it gave was lost" if first["value"] is None else f"gave {first['value']}"
        raise InputError(
            f"The test set of {whose} was looked at on {first['time']}, for {first['of']}, and {gave}: a second look "
            "would choose by it."
        )


def found(told: Sequence[Look], of: str) -> Look | None:
    """The last look at this that gave something, where there was one."""
    return next((look for look in reversed(told) if look["of"] == of and look["value"] is not None), None)


def looks(folder: Path) -> list[Look]:
    """Every look at the test set of what is in the folder."""
    try:
        return json.loads((folder / TEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / TEST} cannot be read.") from error


class Study:
    """A search in a folder; `opened` gives it.

    points, values: of all trials told, in order: `[n, axes]` and `[n, seeds]`.
    """

    def __init__(self, folder: Path, space: Space, sampler: Sampler, key: Key):
        self.folder, self.space, self.sampler, self.key = folder, space, sampler, key
        self.asked: np.ndarray | None = None
        told = [blocks.read(folder, number) for number in sorted(blocks.there(folder))]
        self.points = np.concatenate([np.empty((0, len(space))), *(batch["points"] for batch in told)])
        self.values = np.concatenate([batch["values"] for batch in told]) if told else np.empty((0, 1))
        self.batches = len(told)

    @property
    def history(self) -> History:
        """What samplers see: every setting with the mean of its values."""
        return History(self.points, self.values.mean(1))

    @property
    def settings(self) -> dict[str, np.ndarray]:
        """All settings told, in order."""
        return search.settings(self.space, self.points)

    def told(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """All trials told, in order: their settings and their values `[n, seeds]`."""
        return self.settings, self.values

    def ask(self, n: int) -> dict[str, np.ndarray]:
        """At most n settings to try next, fewer or none where the search ends; the same ones until they are told."""
        require(n >= 1, f"A study is asked for at least 1 setting, not {n}.")
        if self.asked is None:
            self.asked = self.sampler(self.key, self.history, n)
        return search.settings(self.space, self.asked)

    def tell(self, values: np.ndarray) -> None:
        """Keep what came of the settings asked for: a value each `[n]`, or a row of seeds each `[n, seeds]`."""
        if self.asked is None:
            raise InputError("A study is told of settings that it was asked for.")
        values = np.asarray(values, float)
        values = values[:, None] if values.ndim == 1 else values
        seeds = self.values.shape[1] if len(self.values) else values.shape[-1]
        expected = (len(self.asked), seeds)
        require(values.shape == expected, f"{expected[0]} × {seeds} values are awaited, not {values.shape}.")
        blocks.write(self.folder, self.batches, {"points": self.asked, "values": values})
        self.points = np.concatenate([self.points, self.asked])
        self.values = np.concatenate([self.values.reshape(-1, seeds), values])
        self.asked, self.batches = None, self.batches + 1

    def ranking(self, by: Literal["mean", "low"] = "mean") -> np.ndarray:
        """The trials from best to worst, see `ranking`."""
        return ranking(self.values, by)

    def test(self, trial: int, measure: Callable[[], Any], again: bool = False) -> Any:
        """`measure()` on the test set for the chosen trial, once: a study that has been tested says so and refuses.

        measure: gives a number, or one a seed.
        again: look all the same; every look is told in the folder.
        """
        require(0 <= trial < len(self.points), f"There is no trial {trial} among {len(self.points)}.")
        return look_once(self.folder, f"trial {trial}", measure, again)

    def tested(self, trial: int) -> Look | None:
        """The last look at the test set for this trial, where there was one."""
        return found(self.looks(), f"trial {trial}")

    def looks(self) -> list[Look]:
        """Every look at the test set."""
        return looks(self.folder)


@contextlib.contextmanager
def opened(
    folder: Path, space: Space, sampler: Sampler, key: Key, manifest: Mapping[str, Any] | None = None
) -> Iterator[Study]:
    """The study of a folder, a new one or one to go on with.

    manifest: what else must be the same to go on with it: the sampler's name and numbers, say. Raises `InputError`
    where the folder holds another study or another process is at work in it, and where it cannot be written.
    """
    axes = {name: repr(axis) for name, axis in space.items()}
    with blocks.locked(folder):
        blocks.claim(folder, {**(manifest or {}), "space": axes, "key": blocks.checksum(key)})
        yield Study(folder, space, sampler, key)


def ranking(values: np.ndarray, by: Literal["mean", "low"] = "mean") -> np.ndarray:
    """The rows of `[n, seeds]` from best to worst, by their mean or by the lower end of its 95 % interval."""
    return search.ranked(values.mean(1) if by == "mean" else lower_ends(values))


def lower_ends(values: np.ndarray) -> np.ndarray:
    """`[n]`: the lower ends of the 95 % intervals (Student's) of the means of rows; −∞ for a single value a row."""
    from scipy.stats import t

    n = values.shape[1]
    if n == 1:
        return np.where(np.isnan(values[:, 0]), np.nan, -np.inf)
    return values.mean(1) - t.ppf(0.975, n - 1) * values.std(1, ddof=1) / np.sqrt(n)


class Shared:
    """A study that many processes work on, in a storage of Optuna's.

    storage: a path for a journal file, or a database's URL. name: of the study, many of which a storage may hold.
    sampler: one of Optuna's; TPE, told of what others are at, by default.
    lease: after which what another host has not told is handed on; longer than its slowest trials take.
    """

    def __init__(self, storage: Path | str, name: str, space: Space, sampler: Any = None, lease: timedelta = LEASE):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.name, self.lease, self.asked = space, name, lease, []
        self.study = _in_storage(storage, name, sampler or optuna.samplers.TPESampler(constant_liar=True))
        self.tests = _in_storage(storage, f"{name}, tested")
        axes = {name: repr(axis) for name, axis in space.items()}
        theirs = self.study.user_attrs.get("space")
        require(theirs in (None, axes), f"The study {name} searches another space.")
        self.study.set_user_attr("space", axes)

    def ask(self, n: int) -> dict[str, np.ndarray]:
        """n settings to try next, first those that processes which died had asked for; the same until they are told."""
        self._hand_on()
        for _ in range(0 if self.asked else n):
            self.asked.append(self.study.ask(_distributions(self.space)))
            self.asked[-1].set_user_attr("worker", _worker())
        return {name: np.array([trial.params[name] for trial in self.asked]) for name in self.space}

    def tell(self, values: np.ndarray) -> None:
        """Keep what came of the settings asked for, the mean over seeds where a value is a row of them.

        What has been handed on to another meanwhile is the other's to tell.
        """
        values = np.asarray(values, float)
        require(len(values) == len(self.asked), f"{len(self.asked)} values are awaited, not {len(values)}.")
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        for trial, value in zip(self.asked, values.reshape(len(values), -1), strict=True):
            with contextlib.suppress(UpdateFinishedTrialError):
                trial.set_user_attr("values", value.tolist())
                if np.isfinite(value).all():
                    self.study.tell(trial, float(value.mean()))
                else:  # a network that diverged is a result; Optuna has no value for it
                    trial.set_user_attr("diverged", True)
                    self.study.tell(trial, state=TrialState.PRUNED)
        self.asked = []

    def done(self) -> list[Any]:
        """Optuna's records of all trials that are told, by any process, in order."""
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def others(self) -> int:
        """How many trials other living processes are at."""
        mine = [trial.number for trial in self.asked]
        return sum(trial.number not in mine and not _lost(trial, self.lease) for trial in _running(self.study))

    def told(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """All trials told, by any process, in order: their settings and their values `[n, seeds]`."""
        done = self.done()
        settings = {name: np.array([trial.params[name] for trial in done]) for name in self.space}
        return settings, np.array([trial.user_attrs["values"] for trial in done]) if done else np.empty((0, 1))

    def test(self, trial: int, measure: Callable[[], Any], again: bool = False) -> Any:
        """As `Study.test`, for all processes together: who comes while another looks waits, and is told what it saw."""
        from optuna.trial import TrialState

        look = _look(self._called(trial))
        # The storage numbers looks for all processes, so one of those that come at once is the first.
        mine = self.tests.ask()
        mine.set_user_attr("worker", _worker())
        mine.set_user_attr("look", look)
        try:
            while any(t.number < mine.number and not _lost(t, self.lease) for t in _running(self.tests)):
                time.sleep(WAIT)
            _refuse(self.looks(before=mine.number), again, self.name)
            value = _plain(measure())
        except BaseException:
            self.tests.tell(mine, state=TrialState.FAIL)
            raise
        mine.set_user_attr("look", look | {"value": value})
        self.tests.tell(mine, float(np.mean(value)))
        return value

    def tested(self, trial: int) -> Look | None:
        """The last look at the test set for this trial, by any process, where there was one."""
        return found(self.looks(), self._called(trial))

    def looks(self, before: float | int = math.inf) -> list[Look]:
        """Every look at the test set, by any process, whose number in the storage is below `before`."""
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.RUNNING)
        told = self.tests.get_trials(deepcopy=False, states=states)
        return [one.user_attrs["look"] for one in told if one.number < before and "look" in one.user_attrs]

    def _called(self, trial):
        # By the storage's number: places among those told may move while others are at work.
        done = self.done()
        require(0 <= trial < len(done), f"There is no trial {trial} among {len(done)}.")
        return f"trial {done[trial].number}"

    def _hand_on(self):
        """Trials whose process is gone wait to be asked for again, by whoever comes first."""
        from optuna.trial import TrialState

        for trial in _running(self.study):
            if _lost(trial, self.lease):
                # Of several that try only one can end a trial.
                with contextlib.suppress(ValueError, RuntimeError):
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    self.study.enqueue_trial(trial.params)


def _in_storage(storage, name, sampler=None, tries=10):
    """Optuna's study of a name, new or not. Raises `InputError` where the storage cannot be used."""
    import optuna
    from optuna.exceptions import OptunaError
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import DatabaseError, SQLAlchemyError

    try:
        if isinstance(storage, Path):
            storage.parent.mkdir(parents=True, exist_ok=True)
        there = JournalStorage(JournalFileBackend(str(storage))) if isinstance(storage, Path) else storage
        return optuna.create_study(
            storage=there, sampler=sampler, study_name=name, direction="maximize", load_if_exists=True
        )
    except (OSError, ImportError, ValueError, OptunaError, SQLAlchemyError) as error:
        # Several that come to a new database at once trip over each other's tables.
        if isinstance(error, DatabaseError) and tries:
            time.sleep(WAIT)
            return _in_storage(storage, name, sampler, tries - 1)
        raise InputError(f"The storage {storage} cannot be used: {str(error).partition(chr(10))[0]}") from error


def _running(study):
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _distributions(space) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def of(axis):
        if isinstance(axis, Choice):
            return CategoricalDistribution(list(range(len(axis.options))))
        if isinstance(axis, search.Whole):
            return IntDistribution(int(axis.low), int(axis.high))
        return FloatDistribution(axis.low, axis.high, log=isinstance(axis, search.Log))

    return {name: of(axis) for name, axis in space.items()}


def _worker():
    host, pid = socket.gethostname(), os.getpid()
    return {"host": host, "pid": pid, "began": _began(pid), "time": datetime.now(UTC).timestamp()}


def _lost(trial, lease):
    """Whether the process that was at a trial is gone: it, and not a later one of the same number."""
    worker = trial.user_attrs.get("worker")
    if worker is None:  # it died between asking and signing
        return datetime.now() - trial.datetime_start > UNSIGNED
    if worker["host"] == socket.gethostname() and worker["began"] is not None:
        return _began(worker["pid"]) != worker["began"]
    return datetime.now(UTC).timestamp() - worker["time"] > lease.total_seconds()


def _began(pid):
    """When a process of this host began, in the kernel's own count; None where there is none or it cannot be told."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if told[0] == "Z" else int(told[19])  # a zombie has ended
    except (OSError, IndexError, ValueError):
        return None
