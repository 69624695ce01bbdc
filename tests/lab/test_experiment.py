"""A stranger's file: written by `python -m fnn.lab new`, run anywhere, killed, gone on with, redrawn, judged."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fnn import lab
from fnn.base.errors import InputError
from fnn.lab import command, process, results

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
NAME = "my_question"


def python(folder, *words, **options):
    """Python in this folder."""
    settings = {"cwd": folder, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([sys.executable, *map(str, words)], **(settings | options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder with a new experiment, run with --quick."""
    there = tmp_path_factory.mktemp("empty")
    done = python(there, "-m", "fnn.lab", "new", NAME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Written to {NAME}.py: start it with `python {NAME}.py --quick`")
    done = python(there, f"{NAME}.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert "A quick run: effects only, no verdicts." in done.stdout
    return there


FILES = {"metrics.nc", "provenance.json", "verdicts.json", "figures.json", "SHA256SUMS"}
DRAWN = {f"{name}.{suffix}" for name in ("loss", "accuracy") for suffix in ("png", "svg")}


def test_a_new_experiment_is_short_and_writes_the_same_files_as_ours(folder):
    assert len((folder / f"{NAME}.py").read_text().splitlines()) <= 65
    there = folder / "results" / NAME
    assert {path.name for path in there.iterdir() if not path.name.startswith(".")} == FILES | DRAWN
    ds = results.load(there)
    assert dict(ds.loss.sizes) == {"rule": 2, "seed": 2, "step": 50}
    assert ds.loss.attrs["units"] == "nats"
    [verdict] = json.loads((there / "verdicts.json").read_text())
    assert (verdict["outcome"], verdict["figure"], verdict["seeds"]) == (None, "loss", 2)
    words = json.loads((there / "figures.json").read_text())
    assert set(words) == {"loss", "accuracy"}
    assert words["loss"]["title"] == "Training loss with and without momentum"
    assert "Momentum ends with a lower test loss" in words["loss"]["alt"]
    assert json.loads((there / "provenance.json").read_text())["config"]["steps"] == 50


def test_its_help_has_the_question_and_the_options(folder):
    done = python(folder, f"{NAME}.py", "--help")
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    for words in (
        f"usage: python {NAME}.py",
        "Does momentum help",
        "Momentum speeds up learning",
        "--lr",
        "--seeds",
        "--out",
    ):
        assert words in said, words
    assert "--work" not in said


def test_redrawing_makes_the_same_files_from_the_data_alone(folder):
    there = folder / "results" / NAME
    drawn = {name: (there / name).read_bytes() for name in {*DRAWN, "verdicts.json", "figures.json"}}
    measured = (there / "metrics.nc").read_bytes()
    for name in ("loss.png", "figures.json"):
        (there / name).unlink()
    done = python(folder, f"{NAME}.py", "--redraw")
    assert done.returncode == 0, done.stderr
    assert (there / "metrics.nc").read_bytes() == measured
    for name, content in drawn.items():
        if not name.endswith(".svg"):  # they have the date
            assert (there / name).read_bytes() == content, name


BAD = {
    "--steps 0": "--steps is at least 1, not 0",
    "--seeds 0": "--seeds is at least 1, not 0",
    "--seeds -3": "--seeds is at least 1, not -3",
    "--lr nan": "--lr is at least 0, not nan",
    "--lr inf": "--lr is at least 0, not inf",
    "--dataset mnits": "data set 'mnits' is unknown",
    "--data-dir /nowhere": "must be a folder that exists",
    "--quick --data-dir=.": "is not in . (data_dir), it is empty",
    "--out /proc/there": "cannot be written",
    f"--out {300 * 'a'}": "cannot be written: File name too long",
    "--redraw": "There are no results in",
}


@pytest.fixture
def experiment(folder, monkeypatch):
    """The record of the new experiment, as its own file has it."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(process, "prepare", lambda: None)
    yield __import__(NAME).EXPERIMENT
    sys.modules.pop(NAME)


@pytest.mark.parametrize("options", BAD)
def test_bad_options_get_one_sentence_before_work_starts(experiment, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(experiment, options.split()) == 2
    said = capsys.readouterr()
    assert BAD[options] in said.err
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith(f"{NAME}: ")
    assert list(tmp_path.iterdir()) == []


def test_bad_options_end_the_process_with_2(folder, tmp_path):
    done = python(tmp_path, folder / f"{NAME}.py", "--steps", 0)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{NAME}: --steps is at least 1, not 0.\n"
    assert python(tmp_path, folder / f"{NAME}.py", "--stpes", 3).returncode == 2


LONG = ["--seeds", "2", "--steps", "2000"]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The data of a longer run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    done = python(folder, f"{NAME}.py", *LONG, "--out", out)
    assert done.returncode == 0, done.stderr
    return results.load(out / NAME)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_run_resumes_bit_for_bit(folder, whole, tmp_path, number):
    program = [sys.executable, "-c", STARTED, str(folder / f"{NAME}.py"), *LONG, "--out", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(program, cwd=folder, env=ENVIRONMENT, **pipes)
    blocks, deadline = tmp_path / NAME / "blocks", time.monotonic() + 120
    while not _kept(blocks) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(number)
    _, said = running.communicate(timeout=120)
    assert not (tmp_path / NAME / "metrics.nc").exists(), said
    n = _kept(blocks)
    assert n > 0
    if number == signal.SIGINT:
        assert running.returncode == 130
        again = f"the same command goes on from the {n} checkpoint{'s' * (n > 1)} in {blocks}."
        assert said.splitlines()[-1] == f"{NAME}: interrupted; {again}"
        assert "Traceback" not in said
    done = python(folder, f"{NAME}.py", *LONG, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    xr.testing.assert_identical(results.load(tmp_path / NAME), whole)
    assert not blocks.exists()


STARTED = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with interrupts ignored
from fnn.train import checkpoints
checkpoints.EVERY = 0.0
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""An experiment whose sweeps write a checkpoint after every chunk."""


def _kept(blocks):
    return sum(path.stem.isdecimal() for path in blocks.rglob("*.npz"))


def test_a_verdict_of_eight_seeds(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    done = python(tmp_path / "elsewhere", folder / f"{NAME}.py", "--seeds", 8, "--steps", 60, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []
    [verdict] = json.loads((tmp_path / NAME / "verdicts.json").read_text())
    ds = results.load(tmp_path / NAME)
    effect = -(ds.test_loss.sel(rule="momentum") - ds.test_loss.sel(rule="sgd")).isel(update=-1).values
    np.testing.assert_allclose(verdict["effects"], effect, rtol=1e-6)
    assert verdict["outcome"] == "holds"
    assert verdict["setting"]["differs"] == ["seeds 8 (not 10)", "steps 60 (not 300)"]
    assert (
        "holds: Momentum ends with a lower test loss than SGD, by 0.01 nats or more [mnist_5k, seeds 8" in done.stdout
    )


@pytest.mark.parametrize("name", ["my-question", "1st", "", "a/b", NAME, "class"])
def test_a_name_that_no_module_can_have_or_that_is_taken_is_a_sentence(folder, name):
    done = python(folder, "-m", "fnn.lab", "new", name)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("fnn.lab: ")


@pytest.mark.parametrize("words", [[], ["new"], ["old", "x"], ["new", "x", "y"]])
def test_another_command_is_refused(tmp_path, words):
    done = python(tmp_path, "-m", "fnn.lab", *words)
    assert done.returncode == 2
    assert "python -m fnn.lab" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


RECORD = {"question": "Is it?", "run": lambda cfg: None}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": ""}, "An experiment has a question"),
        ({"run": 3}, "runs a function of its options, not 3"),
        ({"config": int}, "options extend fnn.lab.Options"),
        ({"quick": {"steps": 3}}, "--quick changes options that the experiment lacks: steps"),
        (
            {"claims": (lab.Claim("So", lambda ds: ds, lab.above(0), figure="lost"),)},
            "Claims name figures that the experiment lacks: lost",
        ),
    ],
)
def test_a_record_that_cannot_be_right_is_a_sentence(fields, message, unchecked):
    with pytest.raises(InputError, match=message):
        lab.Experiment(**RECORD | fields)


def test_a_record_has_its_file_and_its_options():
    experiment = lab.Experiment(**RECORD, quick={"seeds": 2})
    assert (experiment.name, experiment.module) == ("test_experiment", "")
    assert experiment.options().seeds == 10
    assert dataclasses.asdict(experiment.options(quick=True, out=Path("there"))) == {
        **dataclasses.asdict(lab.Options()),
        "seeds": 2,
        "quick": True,
        "out": Path("there"),
    }
