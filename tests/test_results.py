"""Results: whole files or none, data that come back as they went, and sentences for what cannot be read or written."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from fnn import results
from fnn.errors import InputError
from fnn.verdicts import Verdict, decide


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
    verdict = decide("it works", np.array([1.0, 2.0, 3.0]), "m", "{effect} {unit}")
    results.save_findings(tmp_path, [verdict], [], {"drawing": Figure()}, {"rows": [{"x": 1}]}, {"page": "# Page"})
    files = {"verdicts.json", "drawing.png", "drawing.svg", "rows.json", "page.md"}
    assert {p.name for p in tmp_path.iterdir()} == files
    assert (tmp_path / "page.md").read_text() == "# Page"
    assert Verdict(**json.loads((tmp_path / "verdicts.json").read_text())[0]) == verdict
    assert (tmp_path / "drawing.png").read_bytes()[:4] == b"\x89PNG"


def test_provenance_says_how_to_do_it_again():
    found = json.loads(json.dumps(results.provenance(Config(), seconds=1.5), default=str))
    assert found["config"] == {"lr": 0.1, "out": "here"}
    assert found["seconds"] == 1.5
    assert found["versions"]["jax"].startswith("0.")
    assert found["device"] == f"{jax.local_device_count()} × {jax.devices()[0].device_kind}"
    assert found["matmul_precision"] == "float32"
    assert found["command"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with results.atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_full_disk_is_told_in_a_sentence_and_costs_nothing(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full to stand for a full disk")
    path = tmp_path / "file.txt"
    path.write_text("old")
    no_space = pytest.raises(InputError, match=r"Cannot write .*file.txt: No space left on device")
    with no_space, results.atomic(path), open("/dev/full", "w") as full:
        full.write("x")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_new_files_are_as_readable_as_any(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    made = results.save_json(tmp_path / "made.json", [])
    assert made.stat().st_mode == plain.stat().st_mode


def test_a_folder_that_cannot_be_written_is_told_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        results.check_writable(tmp_path / "file" / "results")
    with pytest.raises(InputError, match="cannot be written"):
        results.check_writable(Path("/proc/results"))
    results.check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("content", [None, b"", b"not a netCDF file", "truncated"])
def test_missing_and_damaged_results_are_told(tmp_path, dataset, content):
    if content is not None:
        results.save_data(tmp_path, dataset, {})
        path = tmp_path / "metrics.nc"
        path.write_bytes(path.read_bytes()[:1000] if content == "truncated" else content)
    with pytest.raises(InputError, match=r"is missing|cannot be read") as caught:
        results.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_revision_is_gits(tmp_path, monkeypatch):
    def git(*command):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    monkeypatch.setattr(results, "__file__", str(tmp_path / "results.py"))
    assert results._revision() is None
    git("init")
    git("commit", "--allow-empty", "-m", "x")
    clean = results._revision()
    assert clean is not None
    assert len(clean) == 40
