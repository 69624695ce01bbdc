"""Every experiment at tiny size, from its command line: files, table, exit codes, one sentence for bad options."""

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_interrupts import interrupt, stub

from experiments import __main__ as listing
from experiments import _cli, _lab, optimizer_compare_mnist
from fnn import store
from fnn.lab import results
from fnn.lab.verdicts import Answer, decide

ROOT = Path(__file__).parents[1]
EXPERIMENTS = listing.questions()


def command(name, *options, **environment):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, options)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    """A tiny race with twins, from the command line."""
    out = tmp_path_factory.mktemp("race")
    names = "sgd,momentum,adam,adam:own"
    done = command(
        "optimizer_compare_mnist", "--seeds", 3, "--steps", 120, "--batch", 32, "--optimizers", names, "--twins",
        "--dataset", "mnist_5k", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / "optimizer_compare_mnist", done.stdout


def test_the_race_leaves_labelled_results(race):
    folder, _ = race
    ds = results.load(folder)
    assert dict(ds.loss.sizes) == {"optimizer": 4, "seed": 3, "step": 120}
    assert ds.test_accuracy.dims == ds.train_accuracy.dims == ("optimizer", "seed")
    assert np.isfinite(ds.loss).all()
    assert (ds.diverged_at == -1).all()
    assert (ds.train_accuracy > ds.train_accuracy.min() - 1).all()
    start, end = ds.loss[..., :10].mean("step"), ds.loss[..., -10:].mean("step")
    assert (end < start).all()
    names = {p.name for p in folder.iterdir()}
    assert {"metrics.nc", "provenance.json", "verdicts.json", "06_loss.png", "06_loss.svg", "twins.png"} <= names
    told = json.loads((folder / "provenance.json").read_text())
    assert told["dataset"] == "mnist_5k"
    assert told["checksum"] == ds.checksum
    assert told["config"]["steps"] == 120


def test_the_race_is_paired_and_agrees_with_optax(race):
    ds = results.load(race[0])
    # The first update differs between rules, the batch and weights before it do not: SGD and book Momentum coincide.
    np.testing.assert_allclose(ds.loss.sel(optimizer="sgd")[:, 0], ds.loss.sel(optimizer="momentum")[:, 0], rtol=1e-6)
    # In float32 training soon amplifies the last bit; the float64 trajectories are in test_parity.py.
    np.testing.assert_allclose(ds.loss[..., :6], ds.twin_loss[..., :6], rtol=1e-4)


def test_the_race_prints_the_notes_table(race):
    out = race[1].splitlines()
    assert out[0].startswith("mnist_5k: 4,000 training and 1,000 test images")
    assert "24 networks" in out[1]
    assert out[2].split()[:3] == ["iteration", "SGD", "Momentum"]
    assert [line.split()[0] for line in out[3:5]] == ["0", "100"]
    ds = results.load(race[0])
    np.testing.assert_allclose(
        float(out[4].split()[1]), float(ds.loss.sel(optimizer="sgd", step=100).mean()), atol=1e-4
    )


def test_figures_are_remade_from_the_saved_data_alone(race, monkeypatch):
    folder, _ = race
    before = (folder / "verdicts.json").read_bytes()
    (folder / "06_loss.png").unlink()
    monkeypatch.setattr(optimizer_compare_mnist, "run", None)
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    assert _cli.main(optimizer_compare_mnist, ["--redraw", "--out", str(folder.parent)]) == 0
    assert (folder / "06_loss.png").is_file()
    assert (folder / "verdicts.json").read_bytes() == before


BAD = {
    "--seeds 0": "--seeds is at least 1, not 0",
    "--steps -5": "--steps is at least 1, not -5",
    "--batch 0": "--batch is at least 1, not 0",
    "--batch 4001 --dataset mnist_5k": "--batch is at most the 4,000 training images of mnist_5k, not 4,001",
    "--optimizers adma": "There is no optimizer 'adma'; there are acprop",
    "--optimizers adam:torhc": "adam has no dialect 'torhc'",
    "--optimizers sgd,,sgd": "--optimizers names sgd more than once",
    "--optimizers ,": "--optimizers names no optimizer",
    "--dialect klingon": "--dialect is book or own, not 'klingon'",
    "--dataset mnits": "data set 'mnits' is unknown",
    "--data-dir /nowhere": "must be a folder that exists",
    "--data-dir .": "mnist is not in . (data_dir), it is empty",
    "--quick --data-dir .": "mnist is not in . (data_dir), it is empty",
    "--quick --data-dir=.": "mnist is not in . (data_dir), it is empty",
    "--out /proc/there": "cannot be written",
    f"--out {300 * 'a'}": "cannot be written: File name too long",
    "--redraw": "There are no results in",
}


@pytest.mark.parametrize("options", BAD)
def test_bad_options_get_one_sentence(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    assert _cli.main(optimizer_compare_mnist, options.split()) == 2
    said = capsys.readouterr()
    assert BAD[options] in said.err
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("optimizer_compare_mnist: ")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_option_ends_the_process_with_2(tmp_path):
    done = command("optimizer_compare_mnist", "--seeds", 0, "--out", tmp_path / "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()
    assert command("optimizer_compare_mnist", "--sedes", 3).returncode == 2


def test_an_interrupt_keeps_what_is_done(tmp_path):
    """Ctrl-C after the first row: the steps so far are saved beside, never over, a whole result."""
    # A shell starts background jobs with interrupts ignored, and Python would leave them so.
    program = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('experiments.optimizer_compare_mnist', run_name='__main__', alter_sys=True)"
    )
    options = f"--seeds 2 --steps 100000 --batch 32 --optimizers sgd --dataset mnist_5k --out {tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program, *options.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[:1] == ["100"]:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Interrupted: what is done is kept" in out
    ds = results.load(tmp_path / "optimizer_compare_mnist" / "interrupted")
    assert 100 < ds.sizes["step"] < 100000
    assert np.isfinite(ds.loss).all()
    assert not (tmp_path / "optimizer_compare_mnist" / "metrics.nc").exists()


def test_a_disk_that_fills_up_meanwhile_costs_nothing(tmp_path, monkeypatch, capsys):
    """The data go to the temporary folder when their own place refuses them after the work is done; blocks stay."""
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "out" / "stub" / "metrics.nc").mkdir(parents=True)  # a place that no file can take
    store.Store(tmp_path / "out" / "stub" / "blocks", {}).write(0, {})
    measured = xr.Dataset({"loss": ("step", np.arange(3.0))}, attrs={"complete": 1})
    assert _cli.main(stub(lambda cfg: measured), ["--out", str(tmp_path / "out")]) == 2
    (shelter,) = tmp_path.glob("fnn-*/stub")
    xr.testing.assert_equal(results.load(shelter), measured)
    said = capsys.readouterr().err
    assert "metrics.nc: Is a directory. The results are" in said
    assert f"kept in {shelter}" in said
    assert len(said.splitlines()) == 1
    assert (tmp_path / "out" / "stub" / "blocks" / "000000.npz").exists()


@dataclasses.dataclass(frozen=True)
class Config(_cli.Options):
    steps: int = 2000


def worked(**attrs):
    """An experiment whose claim holds."""
    measured = xr.Dataset({"loss": ("step", np.arange(3.0))}, attrs={"checksum": "ab12", **attrs})
    module = stub(lambda cfg: measured)
    module.Config, module.QUICK = Config, Config(seeds=2, steps=3, quick=True)
    module.verdicts = lambda ds: [decide("It works", np.arange(1.0, 9), "m", "By {effect}.", "claim 1")]
    module.answers = lambda ds: [Answer("Why?", "Because.", "figure", 8)]
    return module


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        ("mnist", "", "mnist"),
        ("fashion_mnist", "--steps 300 --seeds 3", "fashion_mnist, not mnist, seeds 3 (not 10), steps 300 (not 2000)"),
        ("fashion_mnist", "--dataset fashion_mnist", "fashion_mnist, not mnist"),
    ],
)
def test_a_claim_says_what_it_was_measured_on(tmp_path, monkeypatch, capsys, dataset, options, said):
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    assert _cli.main(worked(dataset=dataset), [*options.split(), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"holds: It works [{said}]. By +4.5." in printed
    assert f"Why? Because. [figure, {said}]" in printed
    (verdict,) = json.loads((tmp_path / "stub" / "verdicts.json").read_text())
    found = verdict["setting"]
    assert (found["dataset"], found["checksum"], found["length"], found["quick"]) == (dataset, "ab12", "3 steps", False)
    assert verdict["effects"] == list(range(1, 9))
    (answer,) = json.loads((tmp_path / "stub" / "answers.json").read_text())
    assert answer["setting"] == found


def test_a_quick_run_has_effects_and_no_outcomes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    assert _cli.main(worked(dataset="mnist_5k"), ["--quick", "--out", str(tmp_path)]) == 0
    for arguments in ([], ["--redraw", "--out", str(tmp_path)]):
        assert not arguments or _cli.main(worked(), arguments) == 0
        printed = capsys.readouterr().out
        assert "A quick run: effects only, no verdicts." in printed
        assert "effect: It works [mnist_5k, quick run]. By +4.5." in printed
        assert "holds" not in printed
        (verdict,) = json.loads((tmp_path / "stub" / "verdicts.json").read_text())
        assert (verdict["outcome"], verdict["effect"], verdict["setting"]["quick"]) == (None, 4.5, True)
    monkeypatch.setattr(listing, "questions", lambda: {"stub": "Does it work?"})
    assert listing.show_verdicts(tmp_path) == 0
    printed = capsys.readouterr().out
    assert "\n0 verdicts; 1 effects of quick runs, without an outcome\n" in printed
    assert "holds" not in printed


def test_saved_data_that_lack_something_are_a_sentence(tmp_path, monkeypatch, capsys):
    """They may be of another version; where they were just measured, it is a fault of ours."""
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    module = worked(dataset="mnist")
    assert _cli.main(module, ["--out", str(tmp_path)]) == 0
    for missing in (lambda ds: ds.no_such_variable, lambda ds: ds["no_such_variable"], lambda ds: ds.sel(seed=0)):
        module.verdicts = missing
        capsys.readouterr()
        assert _cli.main(module, ["--redraw", "--out", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert "lack what this version reads" in said
        assert len(said.splitlines()) == 1
        with pytest.raises((AttributeError, KeyError)):
            _cli.main(module, ["--out", str(tmp_path)])


def test_a_platform_that_is_not_there_is_a_sentence(tmp_path):
    done = command("weight_init_compare", "--quick", "--out", tmp_path, JAX_PLATFORMS="nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match("weight_init_compare: JAX finds no device: .*'nowhere'.*\n$", done.stderr)


def test_data_of_an_interrupted_run_say_so():
    ds = xr.Dataset({"loss": ("step", np.arange(3.0))}, attrs={"dataset": "mnist", "complete": 0})
    ds.attrs["options"] = json.dumps({"steps": 2000, "seeds": 10})
    found = _cli.measured_on(worked(), ds)
    assert (str(found), found.length) == ("mnist, interrupted", "3 steps")


@pytest.mark.parametrize("options", [None, "", "[]", "{", "[" * 100_000, 5, "\0"])
def test_options_that_are_unknown_are_said_to_be(options):
    ds = xr.Dataset(attrs={"dataset": "mnist", **({} if options is None else {"options": options})})
    assert str(_cli.measured_on(worked(), ds)) == "mnist, unknown options"


@pytest.mark.parametrize("becomes", ["lost", "damaged", "another run's"])
def test_data_of_a_quick_run_stay_so_whatever_becomes_of_their_provenance(tmp_path, monkeypatch, capsys, becomes):
    """A kill between the two files of a later run leaves that of another run beside them, say."""
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    assert _cli.main(worked(dataset="mnist"), ["--quick", "--out", str(tmp_path)]) == 0
    provenance = tmp_path / "stub" / "provenance.json"
    if becomes == "another run's":
        config = json.loads(provenance.read_text())["config"]
        store.save_json(provenance, {"config": {**config, "quick": False, "steps": 2000, "seeds": 10}})
    elif becomes == "damaged":
        provenance.write_text("[]")
    else:
        provenance.unlink()
    capsys.readouterr()
    assert _cli.main(worked(), ["--redraw", "--out", str(tmp_path)]) == 0
    assert "effect: It works [mnist, quick run]. By +4.5." in capsys.readouterr().out
    assert json.loads((tmp_path / "stub" / "verdicts.json").read_text())[0]["outcome"] is None


def test_an_early_interrupt_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_cli, "prepare", lambda: None)
    assert _cli.main(stub(interrupt), ["--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "stub: interrupted; there was nothing yet to keep.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_run_is_a_result():
    """A learning rate that explodes is marked, and the figures and verdicts still come."""
    loss = np.ones((2, 3, 300), np.float32)
    loss[0, 1, 40:] = np.nan
    loss[0, 2, 7] = np.inf
    ds = xr.Dataset(
        {"loss": (("optimizer", "seed", "step"), loss)},
        {"optimizer": ["sgd", "adam"], "seed": range(3), "step": range(300)},
        {"dataset": "mnist", "batch": 128},
    )
    ds["diverged_at"] = _lab.first_not_finite(ds.loss)
    np.testing.assert_array_equal(ds.diverged_at, [[-1, 40, 7], [-1, -1, -1]])
    for name in ("train_accuracy", "test_accuracy"):
        ds[name] = ("optimizer", "seed"), np.full((2, 3), 0.5)
    said = optimizer_compare_mnist.summary(ds)
    assert "2 of 3" in said
    assert said.splitlines()[1].split()[:2] == ["SGD", "inf"], "the median run diverged"
    assert optimizer_compare_mnist.verdicts(ds)[0].outcome == "undecided"
    for figure in optimizer_compare_mnist.figures(ds).values():
        figure.canvas.draw()


def test_the_benchmark_at_tiny_size(tmp_path):
    done = command("bench_sweep", "--quick", "--networks", "4", "--lap", 8, "--laps", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench_sweep" / "benchmark.json").read_text())
    ours = [row for row in rows if row["contender"] == "fnn"]
    assert [row["networks"] for row in ours] == [4]
    for row in rows:
        assert {"contender", "networks", "seconds", "fraction_of_peak", "compile_seconds", "peak_bytes"} <= set(row)
        assert 0 < row["seconds"] < 10
        assert 0 < row["fraction_of_peak"] < 1
    assert all(row["compile_seconds"] > 0 for row in ours)
    assert {"numpy", "fnn"} <= {row["contender"] for row in rows}


@pytest.mark.parametrize("networks", ["0", "3", "-4", "x", ",", "1.5"])
def test_the_benchmark_refuses_odd_numbers_of_networks(networks, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("experiments.bench_sweep")
    assert _cli.main(module, [f"--networks={networks}"]) == 2
    assert "--networks" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_keeps_the_contract(name):
    module = importlib.import_module(f"experiments.{name}")
    assert EXPERIMENTS[name].rstrip(")").count("?") >= 1, "the docstring's first line is the question"
    assert "Takes" in (module.__doc__ or ""), "the docstring says how long it takes"
    assert issubclass(module.Config, _cli.Options)
    assert module.QUICK.quick
    for function in ("run", "figures", "verdicts"):
        assert callable(getattr(module, function))


def test_the_list_names_every_experiment():
    done = subprocess.run([sys.executable, "-m", "experiments"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in EXPERIMENTS:
        assert name in done.stdout
