"""Results: whole files or none, data that come back as they went, and sentences for what cannot be read or written."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from fnn.base import provenance
from fnn.base.errors import InputError
from fnn.lab import results
from fnn.lab.verdicts import Setting, Verdict, decide, holm


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    out: Path = Path("here")


@pytest.fixture
def dataset():
    loss = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    loss[0, 1, 2] = np.nan
    return xr.Dataset(
        {"loss": (("optimizer", "seed", "step"), loss, {"units": "nats"})},
        {"optimizer": ["sgd", "adam:book"], "seed": range(3), "step": range(4)},
        {"dataset": "mnist", "complete": 1},
    )


def test_data_come_back_as_they_went(tmp_path, dataset):
    written = results.save_data(tmp_path / "new" / "folder", dataset, {"a": 1})
    assert [p.name for p in written] == ["metrics.nc", "provenance.json"]
    xr.testing.assert_identical(results.load(tmp_path / "new" / "folder"), dataset)


def test_findings_are_files(tmp_path):
    [verdict] = holm([decide("it works", np.array([1.0, 2.0, 3.0]), "m", "{effect} {unit}")])
    results.save_findings(tmp_path, [verdict], [], {"drawing": Figure()}, {"rows": [{"x": 1}]}, {"page": "# Page"})
    files = {"verdicts.json", "drawing.png", "drawing.svg", "rows.json", "page.md", "SHA256SUMS"}
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".lock")} == files
    assert (tmp_path / "page.md").read_text() == "# Page"
    (saved,) = json.loads((tmp_path / "verdicts.json").read_text())
    assert Verdict(**saved | {"effects": tuple(saved["effects"]), "setting": Setting()}) == verdict
    assert (tmp_path / "drawing.png").read_bytes()[:4] == b"\x89PNG"


def test_provenance_has_the_command():
    found = json.loads(json.dumps(provenance.provenance(Config(), seconds=1.5), default=str))
    assert found["config"] == {"lr": 0.1, "out": "here"}
    assert found["seconds"] == 1.5
    assert found["versions"]["jax"].startswith("0.")
    assert found["device"] == f"{jax.local_device_count()} × {jax.devices()[0].device_kind}"
    assert found["arithmetic"]["matmul_precision"] == "float32"
    assert found["command"]


SMALL = r"""
import os, pathlib, resource, sys
import numpy as np, xarray as xr
from fnn.lab import results
folder, whole = pathlib.Path(sys.argv[1]), xr.Dataset({"loss": ("step", np.ones(20_000))})
results.save_data(folder, whole, {})
before = {path.name: path.read_bytes() for path in folder.iterdir()}
for size in (0, 100, 1_000, 3_000, 10_000, 100_000, 160_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))  # as on a full disk, a write fails in the middle
    try:
        results.save_data(folder, 2 * whole, {})
    except Exception as error:
        os.write(1, f"{type(error).__name__} {error}\n".encode())
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
results.save_data(folder, 2 * whole, {})
xr.testing.assert_identical(results.load(folder), 2 * whole)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are POSIX's")
def test_a_full_disk_is_a_sentence_and_costs_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", SMALL, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"(InputError Cannot write {tmp_path}/metrics\.nc: File too large\.\n){{7}}", done.stdout)


def test_a_folder_that_cannot_be_written_is_refused_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        results.check_writable(tmp_path / "file" / "results")
    with pytest.raises(InputError, match="cannot be written"):
        results.check_writable(Path("/proc/results"))
    results.check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("content", [None, b"", b"not a netCDF file", "truncated"])
def test_missing_and_damaged_results_are_named(tmp_path, dataset, content):
    if content is not None:
        results.save_data(tmp_path, dataset, {})
        path = tmp_path / "metrics.nc"
        path.write_bytes(path.read_bytes()[:1000] if content == "truncated" else content)
    with pytest.raises(InputError, match=r"is missing|cannot be read") as caught:
        results.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_revision_is_that_of_the_packages_own_files(tmp_path, monkeypatch):
    """A repository that holds an environment with the package in it is other work."""

    def git(*command):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    (tmp_path / "provenance.py").touch()
    assert provenance._revision() is None
    git("init")
    git("commit", "--allow-empty", "-m", "x")
    assert provenance._revision() is None, "the file is not the repository's"
    git("add", "provenance.py")
    git("commit", "-m", "y")
    clean = provenance._revision()
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "provenance.py").write_text("changed")
    assert provenance._revision() == f"{clean}-dirty"
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as in a hook
    assert provenance._revision() == f"{clean}-dirty"


def test_a_password_in_a_url_is_not_recorded(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Stored:
        storage: str = "postgresql://me:secret@host/name"
        seeds: int = 3

    monkeypatch.setattr("sys.argv", ["search", "--storage", Stored.storage, f"--storage={Stored.storage}"])
    found = provenance.provenance(Stored())
    assert found["config"] == {"storage": "postgresql://me:***@host/name", "seeds": 3}
    assert "secret" not in str(found)
