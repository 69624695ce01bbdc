"""Work kept block by block: whole or absent, one work a folder, one process at a time, no matter what goes wrong."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from fnn import blocks
from fnn.errors import InputError

ARRAYS = {"loss": np.arange(6.0).reshape(2, 3), "diverged_at": np.array([-1, 4], np.int32)}


def test_what_is_written_is_read(tmp_path):
    assert blocks.there(tmp_path) == set()
    for number in (0, 7, 1_234_567):
        blocks.write(tmp_path, number, ARRAYS)
    assert blocks.there(tmp_path) == {0, 7, 1_234_567}
    found = blocks.read(tmp_path, 1_234_567)
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_a_folder_is_one_work_s(tmp_path):
    assert blocks.manifest(tmp_path) == {}
    blocks.claim(tmp_path, {"seeds": "a", "data": "b"})
    blocks.claim(tmp_path, {"seeds": "a", "data": "b"})
    assert blocks.manifest(tmp_path) == {"seeds": "a", "data": "b"}
    with pytest.raises(InputError, match="holds part of another run, whose data differs: take another folder, or"):
        blocks.claim(tmp_path, {"seeds": "a", "data": "c"})
    with pytest.raises(InputError, match="whose seeds, data differ: "):
        blocks.claim(tmp_path, {"seeds": "c"})
    assert blocks.manifest(tmp_path) == {"seeds": "a", "data": "b"}


def test_blocks_of_nobody_are_not_taken_for_ours(tmp_path):
    blocks.write(tmp_path, 0, ARRAYS)
    with pytest.raises(InputError, match=r"holds blocks, and no manifest\.json to say of what"):
        blocks.claim(tmp_path, {"seeds": "a"})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / blocks.MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.json cannot be read: delete the folder"):
        blocks.claim(tmp_path, {"seeds": "a"})


@pytest.mark.parametrize("keep", [0, 10, -30])
def test_a_damaged_block_is_named(tmp_path, keep):
    blocks.write(tmp_path, 3, ARRAYS)
    path = tmp_path / "000003.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"000003\.npz is damaged: delete it"):
        blocks.read(tmp_path, 3)


def test_a_block_with_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "000000.npz", loss=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="damaged"):
        blocks.read(tmp_path, 0)


HOLDER = """
import sys, time
from pathlib import Path
from fnn import blocks
with blocks.locked(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(InputError, match="Another process is at work in"), blocks.locked(tmp_path):
            pass
        with blocks.locked(tmp_path, "-1"):
            pass  # another share of the same work
        other.kill()
    with blocks.locked(tmp_path):
        pass
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"in\n", "what was let go is free for others"
        other.kill()


def test_a_file_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: "), blocks.locked(tmp_path / "file"):
        pass


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from fnn import blocks
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk, a write fails in the middle
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder = Path(sys.argv[1])
blocks.write(folder, 0, {"loss": np.ones(1_000)})
try:
    blocks.write(folder, 1, {"loss": np.ones(10_000)})
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are POSIX's")
def test_a_write_that_fails_in_the_middle_leaves_nothing(tmp_path):
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert told == f"InputError Cannot write {tmp_path / '000001.npz'}: {os.strerror(errno.EFBIG)}.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["000000.npz"]
    assert blocks.read(tmp_path, 0)["loss"].sum() == 1_000
