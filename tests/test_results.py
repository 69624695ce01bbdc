"""Results: whole files or none, data that come back as they went, and sentences for what cannot be read or written."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.text import Text

from fnn import plotting, results
from fnn.errors import InputError
from fnn.verdicts import Verdict, decide, interval


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
    results.save_findings(tmp_path, [verdict], [], {"drawing": Figure()}, {"rows": [{"x": 1}]})
    assert {p.name for p in tmp_path.iterdir()} == {"verdicts.json", "drawing.png", "drawing.svg", "rows.json"}
    assert Verdict(**json.loads((tmp_path / "verdicts.json").read_text())[0]) == verdict
    assert (tmp_path / "drawing.png").read_bytes()[:4] == b"\x89PNG"


def test_provenance_says_how_to_do_it_again():
    found = json.loads(json.dumps(results.provenance(Config(), seconds=1.5), default=str))
    assert found["config"] == {"lr": 0.1, "out": "here"}
    assert found["seconds"] == 1.5
    assert found["versions"]["jax"].startswith("0.")
    assert "cpu" in found["device"].lower() or "gpu" in found["device"].lower()
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


# -- verdicts --


def test_intervals_cover_the_truth_95_times_in_100():
    """Coverage over 400 samples, for few seeds (Student) and for many (bootstrap)."""
    rng = np.random.default_rng(0)
    for n in (5, 30):
        inside = 0
        for _ in range(400):
            _, low, high = interval(rng.normal(1.0, 2.0, n))
            inside += low <= 1.0 <= high
        assert 0.91 <= inside / 400 <= 0.985, (n, inside)


@pytest.mark.parametrize(
    ("effect", "outcome"),
    [
        ([1.0, 1.1, 0.9, 1.05], "holds"),
        ([-1.0, -1.1, -0.9, -1.05], "does not hold"),
        ([1.0, -1.0, 0.5, -0.6], "depends"),
        ([1.0], "depends"),
        ([1.0, np.nan, 1.0], "depends"),
        ([2.0, 2.0, 2.0], "holds"),
        ([0.0, 0.0, 0.0], "depends"),
    ],
)
def test_verdicts_follow_the_interval(effect, outcome):
    verdict = decide("a claim", np.array(effect), "m", "{effect} {unit} [{low}, {high}] {seeds}")
    assert verdict.outcome == outcome
    assert verdict.seeds == len(effect)
    assert verdict.sentence.endswith(f"] {len(effect)}")


# -- plotting --


def test_smoothing_keeps_length_constants_and_lines():
    x = np.arange(40.0)
    np.testing.assert_allclose(plotting.smooth(np.full((2, 40), 3.0)), 3.0)
    smooth = plotting.smooth(x[None])
    assert smooth.shape == (1, 40)
    np.testing.assert_allclose(smooth[0, 5:-5], x[5:-5])
    short = np.ones((2, 4))
    assert plotting.smooth(short) is short


def test_the_band_is_students_interval_of_the_mean():
    values = np.array([[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]])
    mean, low, high = plotting.band(values)
    np.testing.assert_allclose(mean, [2, 4])
    np.testing.assert_allclose(high - mean, [4.302653 * 1 / np.sqrt(3), 0], rtol=1e-6)
    np.testing.assert_allclose(mean - low, high - mean)
    values[0, 0] = np.inf
    np.testing.assert_allclose(plotting.band(values)[0], [2.5, 4], err_msg="diverged seeds are left out")
    one = plotting.band(values[1:2])
    np.testing.assert_array_equal(one[0], one[1])


def test_figures_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    fig = plotting.figure()
    ax = plotting.axes(fig, "t", "x", "y")
    plotting.curve(ax, np.arange(30), np.random.default_rng(0).random((3, 30)), "a", 0, markers=10)
    plotting.legend(fig, 2)
    plotting.caption(fig, "words " * 60)
    fig.canvas.draw()
    assert dict(matplotlib.rcParams) == before
    (small_print,) = fig.findobj(lambda artist: isinstance(artist, Text) and "words" in artist.get_text())
    box = small_print.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= fig.bbox.width, "a long caption is wrapped, not cut off"
