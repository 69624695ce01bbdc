"""A store: files whole or absent, one work a folder, one process at a time, nothing damaged believed."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fnn import store
from fnn.base.errors import InputError
from fnn.store import Damaged, Store

ARRAYS = {"loss": np.arange(6.0).reshape(2, 3), "diverged_at": np.array([-1, 4], np.int32), "a/b": np.array("text")}


def kept(folder, **manifest):
    return Store(folder, manifest or {"seeds": "a"})


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_what_is_written_is_read(tmp_path):
    one = kept(tmp_path)
    assert one.numbers() == []
    for number in (0, 1_234_567, 7):
        one.write(number, ARRAYS, first=2 * number)
    one.write(7, {}, kind="state-")
    assert one.numbers() == [0, 7, 1_234_567]
    assert one.numbers("state-") == [7]
    first, found = one.read(1_234_567)
    assert first == 2 * 1_234_567
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    with np.load(tmp_path / "000007.npz") as arrays:  # any NumPy reads it
        np.testing.assert_array_equal(arrays["loss"], ARRAYS["loss"])
    one.drop(7)
    one.drop(8)
    assert one.get(7) is None
    assert one.numbers() == [0, 1_234_567]


def test_a_folder_is_one_work_s(tmp_path):
    assert store.manifest(tmp_path) == {}
    ours = kept(tmp_path, seeds="a", data=("b", 1))
    ours.claim()
    ours.claim()
    assert store.manifest(tmp_path) == ours.manifest
    assert ours.manifest.items() >= {"seeds": "a", "data": ["b", 1]}.items()
    with pytest.raises(InputError, match="holds part of another run, whose data differs: take another folder, or"):
        kept(tmp_path, seeds="a", data="c").claim()
    with pytest.raises(InputError, match="whose seeds, data differ: "):
        kept(tmp_path, seeds="c").claim()
    assert store.manifest(tmp_path) == ours.manifest


def test_what_changes_numbers_is_part_of_the_work(tmp_path, monkeypatch, x64):
    ours = kept(tmp_path)
    assert ours.manifest["x64"] is True
    ours.claim()
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3 --xla_cpu_enable_fast_math=true")
    with pytest.raises(InputError, match="whose xla_flags differs"):
        kept(tmp_path).claim()


def test_blocks_identify_their_work_where_the_manifest_is_lost(tmp_path):
    kept(tmp_path).write(0, ARRAYS)
    with pytest.raises(InputError, match=r"holds blocks of other work .*, and no readable manifest\.json: take ano"):
        kept(tmp_path, seeds="b").claim()
    assert names(tmp_path) == {"000000.npz"}
    kept(tmp_path).claim()
    assert store.manifest(tmp_path) == kept(tmp_path).manifest


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"1", b"{}", b"[" * 100_000])
def test_a_damaged_manifest_is_set_aside_where_the_blocks_identify_their_work(tmp_path, content):
    one = kept(tmp_path)
    one.write(0, ARRAYS)
    (tmp_path / store.MANIFEST).write_bytes(content)
    with pytest.raises(Damaged, match=r"manifest\.json cannot be read: it is damaged"):
        store.manifest(tmp_path)
    with pytest.raises(InputError, match="holds blocks of other work"):
        kept(tmp_path, seeds="b").claim()
    one.claim()
    assert store.manifest(tmp_path) == one.manifest
    assert (tmp_path / "manifest.json.damaged").read_bytes() == content


def test_every_byte_of_a_block_and_of_a_manifest_counts(tmp_path, monkeypatch):
    one = kept(tmp_path)
    one.write(3, {"x": np.arange(3)})
    one.claim()
    for path, read in (
        (tmp_path / "000003.npz", lambda: one.read(3)),
        (tmp_path / store.MANIFEST, lambda: store.manifest(tmp_path)),
    ):
        content = bytearray(path.read_bytes())
        monkeypatch.setattr(store.disk, "read", lambda _, content=content: bytes(content))
        read()
        for place in range(len(content)):
            content[place] ^= 1 << place % 8
            with pytest.raises(Damaged):
                read()
            content[place] ^= 1 << place % 8


@pytest.mark.parametrize("keep", [0, 10, 64, -30])
def test_a_damaged_block_is_set_aside(tmp_path, keep, caplog):
    one = kept(tmp_path)
    one.write(3, ARRAYS)
    path = tmp_path / "000003.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Damaged, match=r"000003\.npz is damaged"):
        one.read(3)
    assert one.get(3) is None
    assert names(tmp_path) == {"000003.npz.damaged"}
    [said] = caplog.messages
    assert "is kept as 000003.npz.damaged, and its content is computed again" in said
    assert one.get(3) is None


def test_a_block_is_not_taken_for_another(tmp_path):
    ours, theirs = kept(tmp_path / "a"), kept(tmp_path / "b", seeds="b")
    ours.write(2, ARRAYS)
    ours.write(2, ARRAYS, kind="state-")
    theirs.write(3, ARRAYS)
    for source in (tmp_path / "a" / "000002.npz", tmp_path / "a" / "state-000002.npz", tmp_path / "b" / "000003.npz"):
        shutil.copy(source, tmp_path / "a" / "000003.npz")
        with pytest.raises(Damaged, match=r"000003\.npz is another block, or of other work"):
            ours.read(3)


def test_objects_are_neither_pickled_nor_unpickled(tmp_path):
    objects = np.array([{"a": 1}], object)
    with pytest.raises(InputError, match="A block holds arrays of numbers or text by names"):
        kept(tmp_path).write(0, {"x": objects})
    assert not names(tmp_path)
    np.savez(tmp_path / "000000.npz", x=objects)
    with pytest.raises(Damaged):
        kept(tmp_path).read(0)


HOLDER = """
import sys, time
from pathlib import Path
from fnn import store
with store.locked(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"in\n"
        named = rf"Another process is at work in {tmp_path} \(process {other.pid} on \S+\): wait for it"
        monkeypatch.chdir(tmp_path)
        for folder in (tmp_path, Path()):
            with pytest.raises(InputError, match=named), store.locked(folder):
                pass
        assert store.at_work(Path())
        with store.locked(tmp_path, "-1"):
            pass  # another share of the same work
        store.clear(tmp_path)
        assert tmp_path.exists()
        other.kill()
    with store.locked(tmp_path):
        monkeypatch.chdir("/")
        assert store.at_work(tmp_path)
    assert not store.at_work(tmp_path)


def test_a_file_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: "), store.locked(tmp_path / "file"):
        pass


KILLED = """
import os, sys
from pathlib import Path
from fnn import store
with store.atomic(Path(sys.argv[1]) / "figure.png") as path:
    path.write_bytes(b"half")
    os._exit(9)
"""


def test_what_killed_writers_leave_is_removed_and_what_is_being_written_is_not(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120).returncode == 9
    [left] = tmp_path.iterdir()
    rest = tmp_path / f"{store.TEMPORARY}blocks-0"
    rest.mkdir()
    (rest / "000000.npz").touch()
    with store.atomic(tmp_path / "other.png") as writing:
        with store.locked(tmp_path):
            assert names(tmp_path) == {".lock", ".owner", writing.name}
        writing.write_bytes(b"whole")
    assert not left.exists()
    assert (tmp_path / "other.png").read_bytes() == b"whole"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with store.atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == {"file.txt"}


def test_new_files_are_as_readable_as_any(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    assert store.write(tmp_path / "made", b"").stat().st_mode == plain.stat().st_mode


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from fnn import store
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as on a full disk, a write fails in the middle
one = store.Store(Path(sys.argv[1]), {})
one.write(0, {"loss": np.ones(1_000)})
try:
    one.write(1, {"loss": np.ones(10_000)})
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are POSIX's")
def test_a_write_that_fails_in_the_middle_leaves_nothing(tmp_path):
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert said == f"InputError Cannot write {tmp_path / '000001.npz'}: {os.strerror(errno.EFBIG)}.\n"
    assert names(tmp_path) == {"000000.npz"}
    assert kept(tmp_path).numbers() == [0]


@pytest.mark.parametrize("failing", range(0, 12, 3))
def test_a_file_never_refuses_and_reports_failure_at_its_end(tmp_path, monkeypatch, failing):
    class Full(store.Disk):
        taken = 0

        def write(self, file, content):
            self.taken += 1
            if self.taken > failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(file, content[:3])

    monkeypatch.setattr(store, "disk", Full())
    file = store.File(tmp_path / "file")
    file.write(b"0123456789")
    file.seek(2)
    file.write(b"xyz")
    file.seek(0)
    assert file.read() == b"01xyz56789"
    file.truncate(4)
    file.seek(0)
    assert file.read() == b"01xy"
    if failing < 5:
        with pytest.raises(OSError, match="No space left"):
            file.close()
    else:
        file.close()
        assert (tmp_path / "file").read_bytes() == b"01xy"


def test_an_interrupt_waits_until_a_block_has_ended():
    ended = []

    def work():
        with store.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_results_have_their_checksums_beside_them(tmp_path):
    store.publish(
        tmp_path, {"a.json": store.json_bytes([1, "ü≤\udc80"]), "b": lambda path: path.write_bytes(b"b") and None}
    )
    store.save_json(tmp_path / "c.json", {"x": 1})
    assert names(tmp_path) >= {"a.json", "b", "c.json", "SHA256SUMS"}
    assert store.read_json(tmp_path / "a.json", list) == [1, "ü≤\udc80"]
    assert "ü≤" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert store.published(tmp_path / "b") == b"b"
    if shutil.which("sha256sum"):
        subprocess.run(
            ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
        )
    with pytest.raises(Damaged, match="it is an object, not a list"):
        store.read_json(tmp_path / "c.json", list)
    (tmp_path / "b").write_bytes(b"c")
    with pytest.raises(Damaged, match="b cannot be read: it is damaged"):
        store.verify(tmp_path / "b")
    (tmp_path / "d").write_bytes(b"d")
    with pytest.raises(Damaged, match="it has no checksum, since an earlier version wrote it"):
        store.published(tmp_path / "d")
    with pytest.raises(InputError, match="nothing cannot be read: No such file"):
        store.published(tmp_path / "nothing")
    (tmp_path / store.SUMS).write_bytes(b"\xff")
    with pytest.raises(Damaged, match="SHA256SUMS is damaged"):
        store.verify(tmp_path / "b")
    store.save_json(tmp_path / "c.json", {"x": 2})
    assert store.read_json(tmp_path / "c.json", dict) == {"x": 2}


@pytest.mark.parametrize("content", [b"[", b"\xff", b"[" * 100_000, b"NaN"])
def test_json_of_the_wrong_shape_is_a_sentence(tmp_path, content):
    store.publish(tmp_path, {"a.json": content})
    with pytest.raises(Damaged, match=r"a\.json cannot be read: it is (not JSON|a number, not an object)") as caught:
        store.read_json(tmp_path / "a.json", dict)
    assert "\n" not in str(caught.value)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    pipe = tmp_path / store.SUMS
    os.mkfifo(pipe)
    (tmp_path / "metrics.nc").write_bytes(b"here")
    with pytest.raises(InputError, match=f"{store.SUMS} cannot be read: it is a pipe or a device"):
        store.verify(tmp_path / "metrics.nc")
    pipe.rename(tmp_path / store.MANIFEST)
    with pytest.raises(InputError, match=f"{store.MANIFEST} cannot be read: it is a pipe or a device"):
        store.manifest(tmp_path)


def test_clearing_is_one_step(tmp_path, monkeypatch):
    folder = tmp_path / "blocks"
    for part in (folder, folder / "part"):
        with store.locked(part):
            kept(part).write(0, ARRAYS)
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **options: None)
    store.clear(folder)  # killed before anything is deleted
    assert not folder.exists()
    monkeypatch.undo()
    store.clean(tmp_path)
    assert not names(tmp_path)
    store.clear(folder)
