"""Storages of shared studies: damaged, cut off, full, locked or foreign, they end in a sentence and never in a hang."""

import importlib.util
import logging
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from fnn.base.errors import InputError
from fnn.search import Log, storages, study

if importlib.util.find_spec("optuna") is None:
    pytest.skip("needs optuna (extra `search`)", allow_module_level=True)

SPACE = {"lr": Log(1e-6, 1e-2)}
RECORDS = [{"op_code": 0, "worker_id": "a", "study_name": "≤", "directions": [2]}] + [
    {"op_code": 4, "worker_id": "a", "study_id": 0, "datetime_start": f"2020-01-0{day}T00:00:00"} for day in (1, 2, 3)
]


def shared(storage, **options):
    return study.Shared(storage, "one", SPACE, **options)


def finished(storage, n=2):
    """A study with n finished trials."""
    one = shared(storage)
    one.ask(n)
    one.tell(np.arange(float(n)))
    return one


def written(path):
    """A journal of the records above, and its lines."""
    storages.Journal(path).append_logs(RECORDS)
    return path.read_bytes().splitlines(keepends=True)


def plain(records):
    return [{name: value for name, value in record.items() if name != "sha256"} for record in records]


def process(program, *arguments, **options):
    program = "import os, sys\nsys.path.insert(0, sys.argv[1])\nimport test_storages as t\n" + program
    command = [sys.executable, "-c", program, str(Path(__file__).parent), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def test_a_journal_is_optunas_own_format(tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    file = tmp_path / "journal.log"
    one = finished(file)
    theirs = optuna.load_study(study_name="one", storage=optuna.storages.JournalStorage(JournalFileBackend(str(file))))
    assert [trial.params for trial in theirs.trials] == [trial.params for trial in one.done()]
    theirs.tell(theirs.ask(), state=optuna.trial.TrialState.FAIL)  # records without a digest
    assert len(finished(file).done()) == 4
    assert all(b'"sha256"' in line for line in file.read_bytes().splitlines()[-3:])


@pytest.mark.parametrize("cut", ["last record", "first record"])
def test_a_journal_cut_off_at_any_byte_is_resumed(tmp_path, cut, monkeypatch, caplog):
    monkeypatch.setattr(storages, "WAIT", 0.0)
    file = tmp_path / "journal.log"
    lines = written(file)
    whole = lines[:-1] if cut == "last record" else []
    last = lines[len(whole)]
    for end in range(len(last)):
        file.write_bytes(b"".join(whole) + last[:end])
        journal = storages.Journal(file)
        assert plain(journal.read_logs(0)) == RECORDS[: len(whole)]
        caplog.clear()
        journal.append_logs(RECORDS[len(whole) :])
        assert file.read_bytes() == b"".join(lines), "as if it had not been cut off"
        assert bool(end) == ("the last line was cut off" in caplog.text)


def test_a_shared_study_whose_journal_was_cut_off_is_resumed(tmp_path):
    file = tmp_path / "journal.log"
    finished(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    one = shared(file)
    assert len(one.done()) == 1, "the last was not finished"
    again = one.ask(1)
    one.tell(np.ones(1))
    settings, values = shared(file).finished()
    np.testing.assert_array_equal(settings["lr"][1:], again["lr"])
    np.testing.assert_array_equal(values, [[0.0], [1.0]])


def test_every_flipped_bit_of_a_journal_is_found(tmp_path):
    """Where it is not, nothing is wrong: it is in the name of the last record's digest, or cuts the last record off."""
    file = tmp_path / "journal.log"
    lines = written(file)
    whole = b"".join(lines)
    begin, silent = len(whole) - len(lines[-1]), 0
    for place in range(len(whole)):
        for bit in range(8):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                records = storages.Journal(file).read_logs(0)
            except InputError:
                continue
            silent += 1
            assert place >= begin
            kept = [{name: record[name] for name in RECORDS[n]} for n, record in enumerate(records)]
            assert kept == RECORDS[: len(records)]
            assert len(records) == 4 or place == len(whole) - 1
    assert silent <= 8 * len("sha256") + 8


def test_lines_removed_swapped_or_of_another_journal_are_found(tmp_path):
    lines = written(tmp_path / "journal.log")
    others = written(tmp_path / "other.log")
    others[0] = others[0].replace(b"a", b"b")
    for changed in (
        lines[1:],
        lines[:1] + lines[2:],
        [lines[1], lines[0], *lines[2:]],
        [lines[0], lines[2], lines[1], lines[3]],
        [*lines, lines[3]],
        [others[0], *lines[1:]],
    ):
        (tmp_path / "journal.log").write_bytes(b"".join(changed))
        with pytest.raises(InputError, match=r"journal.log is damaged at or before line \d\. Use a copy"):
            storages.Journal(tmp_path / "journal.log")


def test_a_disk_that_fills_is_one_sentence_and_nothing_is_torn(tmp_path):
    file = tmp_path / "journal.log"
    finished(file)
    program = """
import resource
one = t.shared(t.Path(sys.argv[2]))
size = os.path.getsize(sys.argv[2])
for more in (1, 300, 700, 1500):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, resource.RLIM_INFINITY))
    try:
        with t.shared(t.Path(sys.argv[2])) as one:
            for _ in range(9):
                one.ask(1)
                one.tell(t.np.ones(1))
    except t.InputError as error:
        print(error)
    with open(sys.argv[2], "rb") as file:
        assert file.read().endswith(b"\\n")
"""
    with process(program, file) as one:
        said, _ = one.communicate(timeout=60)
    assert one.returncode == 0, said
    assert said.splitlines() == 4 * [f"The storage {file} cannot be used: File too large."]
    assert shared(file).ask(2)["lr"].shape == (2,)


LOCKED = """
journal = t.storages.Journal(t.Path(sys.argv[2]))
with journal._locked():
    print("held", flush=True)
    t.time.sleep(60)
"""


def test_a_lock_ends_with_its_process_and_has_a_timeout(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "journal.log.lock").symlink_to("journal.log")  # what Optuna's own lock leaves behind
    (tmp_path / "other.log.lock").symlink_to("no/such/journal.log")
    journals = [storages.Journal(Path(name)) for name in ("journal.log", "other.log")]
    with process(LOCKED, "journal.log") as holds:
        assert holds.stdout.readline() == "held\n", holds.stdout.read()
        monkeypatch.chdir("/")
        monkeypatch.setattr(storages, "PATIENCE", 0.3)
        monkeypatch.setattr(storages, "SLOW", 0.1)
        with (
            pytest.raises(InputError, match=r"has held .*/journal\.log for more than 0.3 s"),
            storages.using(tmp_path / "journal.log"),
        ):
            journals[0].append_logs(RECORDS)
        assert "journal.log after 0.1 s: another process may hold it" in caplog.text
        holds.send_signal(signal.SIGKILL)
        holds.wait()
    for journal in journals:
        journal.append_logs(RECORDS)
        assert plain(journal.read_logs(0)) == RECORDS


FOREIGN = {
    "a note": b"no end of line",
    "a table": b"lr,loss\n1,2\n",
    "other JSON": b'{"a": 1}\n',
    "lists": b"[1]\n[2]\n",
    "deep": b"[" * 100_000 + b"\n",
    "zeros": bytes(100),
    "letters": b"\xff\xfe\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path, kind):
    file = tmp_path / "study.log"
    file.write_bytes(FOREIGN[kind])
    with pytest.raises(InputError, match="is not a journal of Optuna's"):
        shared(file)
    assert file.read_bytes() == FOREIGN[kind]
    with pytest.raises(InputError, match=r"cannot be used: Is a directory\."):
        shared(tmp_path)


def test_a_journal_of_records_that_make_no_sense_is_a_sentence(tmp_path):
    for record in ('{"op_code":99}', '{"op_code":6,"worker_id":"a"}', '{"op_code":0,"study_name":1}'):
        (tmp_path / "journal.log").write_text(record + "\n")
        with pytest.raises(InputError, match="cannot be used"):
            shared(tmp_path / "journal.log")


def test_a_journal_that_is_replaced_under_way_is_a_sentence(tmp_path):
    file = tmp_path / "journal.log"
    one = finished(file)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="has become shorter: another program has changed it"):
        one.ask(1)


# ---- Databases ----


def database(tmp_path):
    file = tmp_path / "study.db"
    return file, f"sqlite:///{file}"


def test_a_locked_database_is_waited_for_in_the_middle_of_the_work(tmp_path, caplog):
    """For longer than SQLite itself waits, which is 5 s."""
    file, url = database(tmp_path)
    one = finished(url)
    holds = sqlite3.connect(file, check_same_thread=False)
    holds.execute("BEGIN EXCLUSIVE")
    threading.Timer(6, holds.rollback).start()
    began = time.monotonic()
    one.ask(1)
    one.tell(np.ones(1))
    assert time.monotonic() - began > 5
    assert len(one.done()) == 3
    assert "another process may hold it" in caplog.text
    holds.close()


def test_a_database_that_stays_locked_is_a_sentence(tmp_path, monkeypatch):
    file, url = database(tmp_path)
    finished(url)
    monkeypatch.setattr(storages, "PATIENCE", 0.1)
    one = shared(url)
    holds = sqlite3.connect(file)
    holds.execute("BEGIN EXCLUSIVE")
    for action in (
        lambda: one.ask(1),
        one.done,
        one.evaluations,
        lambda: one.test(0, lambda: 1.0),
        lambda: shared(url),
    ):
        with pytest.raises(InputError, match=r"study.db cannot be used: database is locked\."):
            action()
    holds.rollback()
    holds.close()
    assert one.ask(1)["lr"].shape == (1,)


def test_a_path_in_a_url_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = finished("sqlite:///study.db")
    monkeypatch.chdir("/")
    one.study._storage._backend.engine.dispose()  # its connections; the next one opens the file anew
    assert len(one.done()) == 2


def test_databases_that_cannot_be_used_are_a_sentence(tmp_path):
    file, url = database(tmp_path)
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="file is not a database"):
        shared(url)
    file.unlink()
    finished(url)
    with pytest.raises(InputError, match="attempt to write a readonly database"):
        shared(f"sqlite:///file:{file}?mode=ro&uri=true").ask(1)
    with sqlite3.connect(file) as changed:
        changed.execute("UPDATE version_info SET schema_version = 99")
        changed.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(InputError, match=r"cannot be used: .*(version|revision)"):
        shared(url)
    for bad in ("sqlite:////no/such/folder/x.db", "nosuch://host/x", "://"):
        with pytest.raises(InputError, match="cannot be used"):
            shared(bad)
    with pytest.raises(InputError, match=r"^A storage is a path of a journal file, .* or a database's URL"):
        shared("sqlite:")


def test_another_programs_database_is_left_as_it_is(tmp_path):
    file, url = database(tmp_path)
    with sqlite3.connect(file) as theirs:
        theirs.execute("CREATE TABLE places (url TEXT)")
    before = file.read_bytes()
    with pytest.raises(InputError, match="is a database of another program"):
        shared(url)
    assert file.read_bytes() == before


def test_a_database_whose_disk_fills_is_a_sentence(tmp_path):
    file, url = database(tmp_path)
    finished(url)
    program = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(sys.argv[3]) + 4096, resource.RLIM_INFINITY))
try:
    one = t.shared(sys.argv[2])
    while True:
        one.ask(1)
        one.tell(t.np.ones(1))
except t.InputError as error:
    print(error)
"""
    with process(program, url, file) as one:
        said, _ = one.communicate(timeout=60)
    assert one.returncode == 0, said
    assert re.fullmatch(r"The storage sqlite:///\S+ cannot be used: (database or )?disk .*\.\n", said), said
    assert len(shared(url).done()) >= 2


def test_a_study_that_is_gone_or_anothers_is_a_sentence(tmp_path):
    import optuna

    _, url = database(tmp_path)
    one = finished(url)
    theirs = optuna.load_study(study_name="one", storage=url)
    theirs.tell(theirs.ask(), 1.0)
    with pytest.raises(InputError, match="holds trials of another program"):
        one.finished()
    optuna.delete_study(study_name="one", storage=url)
    for action in (lambda: one.ask(1), one.done, one.others):
        with pytest.raises(InputError, match="cannot be used"):
            action()


def test_passwords_are_not_shown():
    assert storages.shown("postgresql://me:secret@host/name") == "postgresql://me:***@host/name"
    assert storages.shown("postgresql+psycopg://me:se:c@ret@host/name") == "postgresql+psycopg://me:***@host/name"
    assert storages.shown("sqlite:///a:b@c.db") == "sqlite:///a:b@c.db"
    assert storages.shown(Path("a/b:c@d")) == "a/b:c@d"
    with pytest.raises(InputError) as caught:
        storages.opened("nosuch://me:secret@host/name")
    assert "secret" not in str(caught.value)


# ---- Pending trials of no living process ----


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_a_process_does_not_wait_for_its_own_abandoned_trials(tmp_path, kind):
    storage = tmp_path / "journal.log" if kind == "journal" else database(tmp_path)[1]
    before = shared(storage)  # a cell of a notebook that was interrupted while it trained; a traceback holds it
    lost = before.ask(2)
    now = shared(storage)
    assert now.others() == 0
    np.testing.assert_array_equal(now.ask(2)["lr"], lost["lr"])
    now.tell(np.ones(2))
    before.tell(np.zeros(2))  # too late
    np.testing.assert_array_equal(now.finished()[1], [[1.0], [1.0]])


def test_a_living_thread_is_at_its_trials_and_a_dead_one_is_not(tmp_path):
    asked, pending, end = threading.Event(), {}, threading.Event()

    def work():
        one = shared(tmp_path / "journal.log")
        pending.update(one.ask(1))
        asked.set()
        end.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert asked.wait(60)
    one = shared(tmp_path / "journal.log")
    assert one.others() == 1
    assert re.match(r"process \d+ on .*, until \d{4}-\d\d-\d\d .* at the latest", one.awaited())
    end.set()
    thread.join()
    assert one.others() == 0
    np.testing.assert_array_equal(one.ask(1)["lr"], pending["lr"])


def test_what_a_living_process_gave_up_is_free_for_others(tmp_path):
    """Its context manager releases it, however the block ends; without one, the lease ends the wait."""
    program = """
one = t.shared(t.Path(sys.argv[2]))
try:
    with one:
        print(one.ask(1)["lr"][0], flush=True)
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print(t.shared(t.Path(sys.argv[2])).ask(2)["lr"][1], flush=True)
    t.time.sleep(60)
"""
    with process(program, tmp_path / "journal.log") as alive:
        released, kept = (float(alive.stdout.readline()) for _ in range(2))
        one = shared(tmp_path / "journal.log")
        assert one.others() == 2
        hasty = shared(tmp_path / "journal.log", lease=timedelta(0))
        assert hasty.others() == 0
        assert hasty.ask(2)["lr"].tolist() == [released, kept]
        alive.kill()


def test_a_wait_names_its_reason(monkeypatch, caplog):
    monkeypatch.setattr(storages, "SLOW", 0.05)
    monkeypatch.setattr(storages, "WAIT", 0.03)
    notice = storages.Notice()
    for _ in range(5):
        notice.pause(lambda: "somebody")
    assert [record.getMessage() for record in caplog.records] == ["Waiting for somebody."]
    assert caplog.records[0].levelno == logging.WARNING
