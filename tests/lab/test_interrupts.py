"""What a command prints and keeps when it is interrupted, repeatedly, at any time, or has no memory or disk left."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from stubs import interrupt, stub

from fnn import store
from fnn.lab import command, process, results

ROOT = Path(__file__).parents[2]


PART = xr.Dataset({"loss": ("step", np.arange(3.0))}, attrs={"complete": 0})


@pytest.fixture
def interrupted(tmp_path, monkeypatch, capsys):
    """The lines that an interrupted run prints, on either stream."""
    monkeypatch.setattr(process, "prepare", lambda: None)

    def run(run=interrupt):
        assert command.main(stub(run), ["--out", str(tmp_path)]) == 130
        said = capsys.readouterr()
        return (said.out + said.err).splitlines()

    return run


def test_an_interrupt_names_what_is_on_disk(tmp_path, monkeypatch, interrupted):
    folder = tmp_path / "stub"
    part = folder / "interrupted"
    assert interrupted() == ["stub: interrupted; there was nothing yet to keep."]
    kept = f"Interrupted: what is done is kept in {part}; the same command"
    assert interrupted(lambda _: PART)[-1] == f"{kept} starts anew."
    for number in range(2):
        store.Store(folder / "blocks" / "part", {}).write(number, {})
    again = f"goes on from the 2 checkpoints in {folder / 'blocks'}."
    assert interrupted() == [f"stub: interrupted; the same command {again}"]
    assert interrupted(lambda _: PART)[-1] == f"{kept} {again}"
    with monkeypatch.context() as second:  # while what is done is being saved
        second.setattr(results, "save_data", interrupt)
        assert interrupted(lambda _: PART) == [f"stub: interrupted; the same command {again}"]
    with monkeypatch.context() as second:  # while it is being drawn
        second.setattr(results, "save_findings", interrupt)
        kept = f"stub: interrupted; what is done is kept in {part}, and the same command {again}"
        assert interrupted(lambda _: PART) == [kept]
        kept = f"stub: interrupted; the data are in {folder}, and --redraw makes the rest."
        assert interrupted(lambda _: PART.assign_attrs(complete=1)) == [kept]
    assert not (folder / "blocks").exists()


def test_killed_writers_files_are_gone_after_the_next_start(tmp_path, interrupted):
    for name in (".tmp-metrics-x.nc", "interrupted/.tmp-map-x.png", "blocks/.tmp-000000-x.npz", ".tmp-blocks-x/0.npz"):
        (tmp_path / "stub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stub" / name).touch()
    interrupted()
    assert not list(tmp_path.rglob(".tmp*"))


AT_IMPORT = """
import os, signal, time
for _ in range({times}):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        pass
raise {error}
"""

STARTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts background jobs with interrupts ignored
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""


def started(*words, before="", **environment):
    return subprocess.run(
        [sys.executable, "-c", before + STARTED, *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        ("KeyboardInterrupt", 130, "interrupted; what is on disk is kept, and the same command goes on from there"),
        ("MemoryError", 1, "there is not enough memory for this process"),
        ("ImportError('x.so: failed to map segment from shared object')", 1, "there is not enough memory"),
    ],
)
@pytest.mark.parametrize("name", ["experiments.updates.loss_surface", "experiments"])
def test_interrupts_and_a_lack_of_memory_during_an_import_are_one_sentence(tmp_path, name, error, code, sentence):
    (tmp_path / "tyro.py").write_text(AT_IMPORT.format(times=4 * (code == 130), error=error))
    done = started(name, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"{name.rpartition('.')[2]}: {sentence}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of addresses are POSIX's")
def test_too_little_memory_is_one_sentence_at_the_start():
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2)"
    done = started("experiments.updates.loss_surface", before=limit)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "loss_surface: this process may use 1.4 GiB of addresses (ulimit -v), and takes 3 GiB.\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are POSIX's")
def test_a_disk_that_takes_no_results_is_one_sentence(tmp_path):
    """No file of more than 10 kB can be written, neither there nor elsewhere."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, -1))"
    words = ["--quick", "--seeds", "2000", "--out"]
    done = started("experiments.updates.loss_surface", *words, str(tmp_path), before=limit)
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("loss_surface: Cannot write ")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.nc"))
