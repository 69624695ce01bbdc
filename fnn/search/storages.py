"""Optuna's storages of studies that many processes share, a journal file or a database; failures are `InputError`s.

A journal is a file of Optuna's format, one JSON record per line, which plain Optuna reads too. Every record written
here ends in a field `sha256`, a digest of all bytes before it, so damage is found, at the latest by the next record.
Appending is protected by a lock of the operating system, which is released when its process ends, however it ends. A
last line without its end was cut off by a kill or a full disk: it is removed.

Every wait is bounded by `PATIENCE` and announced after `SLOW` by a warning of the logger `fnn.search.storages`.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fnn.base.errors import InputError, require
from fnn.base.provenance import shown

PATIENCE = 30.0
"""The timeout of a lock that another process holds, in seconds."""

SLOW = 5.0
"""Seconds after which a wait is announced."""

WAIT = 0.2
"""Seconds between two checks of what other processes have done."""

RECORD = b'{"op_code":'
"""The first bytes of every record of a journal."""

SIGNED = re.compile(rb'(.*),"sha256":"([0-9a-f]{32})"}', re.S)
"""A record with its digest: that of everything before the digest's own field."""

_log = logging.getLogger(__name__)


class Notice:
    """Pauses of `WAIT` seconds, with one warning after `SLOW` seconds that names what is waited for."""

    def __init__(self):
        self.start, self.announced = time.monotonic(), False

    def pause(self, awaited: Callable[[], str]) -> None:
        """Sleep `WAIT` seconds. awaited: returns the end of the sentence "Waiting for …"."""
        if not self.announced and time.monotonic() - self.start > SLOW:
            self.announced = True
            _log.warning("Waiting for %s.", awaited())
        time.sleep(WAIT)


class Journal:
    """A journal file for `optuna.storages.JournalStorage`. Raises `InputError` where it is damaged or foreign."""

    def __init__(self, path: Path):
        self.path = path.absolute()  # the working directory may change
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.open("ab").close()
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        self._records: list[dict[str, Any]] = []
        self._end, self._digest = 0, hashlib.sha256()
        self._read()

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """All records from this number on."""
        self._read()
        return self._records[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, all of them or none. Raises `OSError` for a full disk, `InputError` for too long a wait."""
        with self._locked(), self.path.open("ab", buffering=0) as file:
            if self._read():
                self._remove_torn(file)
            digest, lines = self._digest.copy(), b""
            for log in logs:
                record = json.dumps(log, separators=(",", ":")).encode()[:-1]
                digest.update(record)
                line = record + f',"sha256":"{digest.hexdigest()[:32]}"}}\n'.encode()
                digest.update(line[len(record) :])
                lines += line
            try:
                left = memoryview(lines)
                while left:  # a disk that fills takes a part first and refuses then
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(self._end)
                raise

    def _read(self) -> bytes:
        """Check and append the records written since the last call; returns the start of a line without an end."""
        with self.path.open("rb") as file:
            shrunk = os.fstat(file.fileno()).st_size < self._end
            require(not shrunk, f"{self.path} has become shorter: another program has changed it.")
            file.seek(self._end)
            *lines, torn = file.read().split(b"\n")
        for line in lines:
            record = self._checked(line)
            self._digest.update(line + b"\n")
            self._end += len(line) + 1
            self._records.append(record)
        ours = self._records or torn.startswith(RECORD) or RECORD.startswith(torn)
        require(bool(ours), f"{self.path} is not a journal of Optuna's: it is left as it is.")
        return torn

    def _checked(self, line: bytes) -> dict[str, Any]:
        number = len(self._records) + 1
        signed = SIGNED.fullmatch(line)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("op_code"), int):
            what = "is damaged" if self._records else "is not a journal of Optuna's"
            raise InputError(f"{self.path} {what}: line {number} is not a record. Use a copy of it or another file.")
        if "sha256" in record:
            digest = self._digest.copy()
            digest.update(signed[1] if signed else b"")
            whole = signed is not None and digest.hexdigest()[:32] == signed[2].decode()
            require(whole, f"{self.path} is damaged at or before line {number}. Use a copy of it or another file.")
        return record

    def _remove_torn(self, file) -> None:
        """Remove the last line, whose end is missing, unless a program that does not use our lock is writing it."""
        time.sleep(WAIT)
        torn = self._read()
        if torn:
            _log.warning("%s: the last line was cut off, %d bytes are removed.", self.path, len(torn))
            file.truncate(self._end)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            held = self._lock.acquire(timeout=PATIENCE, poll_interval=0.01)
        except Timeout as error:
            raise InputError(f"Another process has held {self.path} for more than {PATIENCE:g} s.") from error
        except NotImplementedError as error:
            raise InputError(f"The disk of {self.path} has no file locks: take another disk or a database.") from error
        with held:
            yield


def opened(storage: Path | str) -> Any:
    """Optuna's storage in a journal file (a path) or a database (a URL), new or not.

    Raises `InputError` where it cannot be used.
    """
    from optuna.storages import JournalStorage, get_storage

    deadline = time.monotonic() + SLOW
    with using(storage, Exception):  # any error of another library while it opens the storage
        if isinstance(storage, Path):
            return JournalStorage(Journal(storage))  # pyright: ignore[reportArgumentType]  it has what a backend has
        while True:
            try:
                return get_storage(_database(storage))
            except Exception as error:
                # Of several processes that create a new database's tables at the same time all but one fail.
                if not _passing(error) or time.monotonic() > deadline:
                    raise
                time.sleep(WAIT)


def _passing(error):
    """Whether opening the database may succeed later. (SQLite's "unable to open" is a missing folder.)"""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    of_tables = isinstance(error, IntegrityError | OperationalError | ProgrammingError)
    return of_tables and "unable to open" not in str(error)


def _database(url):
    import sqlalchemy
    from optuna.storages import RDBStorage

    at = sqlalchemy.engine.make_url(url)
    options: dict[str, Any] = {"pool_pre_ping": True}  # a server that was away for a moment is connected to again
    if at.get_backend_name() == "sqlite":
        if at.database and at.database != ":memory:" and not at.database.startswith("file:"):
            at = at.set(database=os.path.abspath(at.database))  # the working directory may change
        if "timeout" not in at.query:
            options["connect_args"] = {"timeout": PATIENCE}
        _check_ours(at, options)
    return RDBStorage(at.render_as_string(hide_password=False), engine_kwargs=options)


def _check_ours(at, options):
    """Raise `InputError` where a database file belongs to another program: Optuna would add its tables to it."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(at, **options)
    try:
        tables = sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    require(not tables or "studies" in tables, f"{at.database} is a database of another program: it is left as it is.")


@contextlib.contextmanager
def using(storage: Path | str, *more: type[Exception]) -> Iterator[None]:
    """Errors of a storage within the block become an `InputError`; a block that takes longer than `SLOW` is announced.

    more: further types of errors that are the storage's within this block.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    name = shown(storage)
    text = f"Still at work on the storage {name} after {SLOW:g} s: another process may hold it."
    notice = threading.Timer(SLOW, _log.warning, (text,))
    notice.daemon = True
    notice.start()
    try:
        yield
    except InputError:
        raise
    except (OSError, StorageInternalError, SQLAlchemyError, *more) as error:
        raise InputError(f"The storage {name} cannot be used: {_first_cause(error)}") from error
    finally:
        notice.cancel()


def _first_cause(error):
    """The first line of the error that caused the others: Optuna's own does not name the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    return first if first.endswith((".", "!", "?")) else f"{first}."
