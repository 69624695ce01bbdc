"""Programs as a user writes them, in tests/programs, run as written from an empty folder."""

import os
import runpy
from pathlib import Path

import pytest

PROGRAMS = {
    "nnx_cnn": lambda ds: ds.test_accuracy.mean("seed").max() > 0.8,
    "equinox_mlp": lambda ds: ds.test_accuracy.mean("seed").max() > 0.85,
    "linen_batch_norm": lambda ds: ds.test_accuracy.mean("seed").max() > 0.85,
    "csv_regression": lambda ds: 30 < ds.test_error.isel(update=-1).mean("seed").min() < 60,
    "npz_images": lambda ds: ds.test_accuracy.mean("seed").max() > 0.9,
    "text_file": lambda ds: 2 < ds.validation_bits.mean("seed").min() < 4,
    "resumed_training": lambda ds: ds.test_accuracy.mean("seed") > 0.85,
}
"""By program whether its data set shows that something was learned."""

FOLDER = Path(__file__).with_name("programs")


def test_every_program_is_run():
    assert set(PROGRAMS) == {file.stem for file in FOLDER.glob("*.py")}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs_as_written(name, tmp_path, monkeypatch, capsys):
    for package in ("flax", "equinox", "sklearn"):
        if package in (FOLDER / f"{name}.py").read_text("utf-8"):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    assert not os.listdir()
    names = runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert PROGRAMS[name](names["found"])
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_resuming_goes_on_from_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(FOLDER / "resumed_training.py"))
    first, second = names["first"].loss.squeeze(), names["found"].loss.squeeze()
    assert second[:10].mean() < first[:10].mean() / 2
    assert second[:10].mean() < 1.5 * first[-10:].mean()
