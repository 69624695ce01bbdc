"""The map of hyperparameters: its statistics on made-up planes, and a campaign from the command line that is cut off,
killed and shared."""

import contextlib
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from experiments import hyperparameter_map as experiment
from experiments.hyperparameters import _search
from fnn.base.errors import InputError
from fnn.lab import profile

SETTINGS, SEEDS = 200, 6


def made_up(accuracy):
    """Results as if accuracy, 0…1, were `accuracy(unit square, noise)` for every seed."""
    rng = np.random.default_rng(0)
    unit = rng.uniform(size=(SETTINGS, 2))
    values = np.stack([accuracy(unit, rng.normal(size=SETTINGS)) for _ in range(SEEDS)], axis=1)
    setting = _search.setting(unit)
    return xr.Dataset(
        {
            "lr": ("setting", setting.lr),
            "l2": ("setting", setting.l2),
            "accuracy": (("setting", "seed"), values),
            "diverged_at": (("setting", "seed"), np.full((SETTINGS, SEEDS), -1)),
        },
        {"setting": np.arange(SETTINGS), "seed": np.arange(SEEDS)},
        {"dataset": "made up", "epochs": 1},
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    cfg = experiment.Config(seeds=2, settings=5, epochs=1, dataset="mnist_5k", out=tmp_path_factory.mktemp("map"))
    cfg.check()
    return experiment.run(cfg)


def test_the_experiment_whole(measured):
    assert measured.accuracy.dims == ("setting", "seed")
    assert measured.accuracy.shape == (5, 2)
    assert ((measured.accuracy >= 0) & (measured.accuracy <= 1)).all()
    assert (measured.diverged_at == -1).all()
    for figure in experiment.figures(measured).values():
        figure.canvas.draw()
    assert len(experiment.verdicts(measured)) == 3
    assert "of the settings are within" in experiment.summary(measured)


def test_what_one_axis_explains():
    lr_alone = made_up(lambda unit, noise: unit[:, 0])
    assert experiment.explained(lr_alone, "lr").min() > 98
    assert np.abs(experiment.explained(lr_alone, "l2").mean()) < 10, "chance alone explains nothing on average"
    half = made_up(lambda unit, noise: 0.5 + 0.1 * (unit[:, 0] > 0.5) + 0.05 * noise)
    assert experiment.explained(half, "lr").mean() == pytest.approx(50, abs=8), "0.05² of 0.05² + 0.05²"


@pytest.mark.parametrize(
    ("accuracy", "outcomes"),
    [
        (lambda unit, noise: 0.5 + 0.4 * unit[:, 0] + 0.02 * noise, ("holds", "does not hold", "holds")),
        (lambda unit, noise: 0.5 + 0.4 * unit[:, 1] - 0.3 * (unit[:, 0] - 0.3) ** 2, ("does not hold", "holds", None)),
    ],
)
def test_verdicts_follow_the_numbers(accuracy, outcomes):
    found = experiment.verdicts(made_up(accuracy))
    assert all(told in (None, verdict.outcome) for verdict, told in zip(found, outcomes, strict=True))


def test_luck_is_what_others_do_not_get():
    noise = made_up(lambda unit, noise: 0.5 + 0.01 * noise)
    mine, others = experiment.luck(noise)
    assert mine.mean() == pytest.approx(50 + 2.75, abs=0.4), "the largest of 200 normal numbers"
    assert others.mean() == pytest.approx(50, abs=0.5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"settings": 1}, "--settings is at least 2, not 1"),
        ({"seeds": 1}, "--seeds is at least 2, not 1"),
        ({"memory": 0.0}, "--memory is more than 0 GiB, not 0"),
        ({"coordinator": "here:1"}, "--coordinator is for --distributed"),
        ({"distributed": True, "process": 0}, "go together, or are left to the cluster"),
        (
            {"distributed": True, "coordinator": "here:1", "processes": 2, "process": 2},
            "--process is from 0 to 1, not 2",
        ),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        experiment.Config(**options).check()


COMMAND = ["--seeds", "3", "--settings", "64", "--epochs", "12", "--dataset", "mnist_5k"]
BLOCKS = 12


@contextlib.contextmanager
def started(out, *options):
    command = [sys.executable, "-m", "experiments.hyperparameter_map", *COMMAND, "--out", str(out), *options]
    environment = os.environ | {"MPLBACKEND": "agg"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(out, *options):
    with started(out, *options) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def metrics(out):
    return (out / "hyperparameter_map" / "metrics.nc").read_bytes()


def wait_for_blocks(out, process, n):
    folder = out / "hyperparameter_map" / "blocks"
    while len(list(folder.glob("0*.npz"))) < n:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    assert f"192 networks: {BLOCKS} blocks of 16 settings × 1 seed" in finished(out)
    assert not (out / "hyperparameter_map" / "blocks").exists()
    return metrics(out)


@pytest.mark.slow
def test_a_profile_is_a_trace_and_a_sum(tmp_path):
    said = finished(tmp_path, "--epochs", "1", "--settings", "2", "--profile")
    [told] = [line for line in said.splitlines() if "compiling" in line]
    whole, compiling, evaluating, writing = (float(number) for number in re.findall(r"([\d.]+) s\b", told))
    assert whole > 0
    assert compiling > 0
    assert evaluating < 2 * whole
    assert 0 < profile.evaluating(next(tmp_path.rglob("*.xplane.pb"))) < 2 * whole
    assert writing < whole
    [trace] = (tmp_path / "hyperparameter_map" / "trace").rglob("perfetto_trace.json.gz")
    assert str(trace) in said
    with gzip.open(trace) as file:
        assert len(json.load(file)["traceEvents"]) > 100


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_same_command_goes_on_where_it_was_cut_off(uninterrupted, tmp_path, how):
    with started(tmp_path) as process:
        wait_for_blocks(tmp_path, process, 3)
        process.send_signal(how)
        said, _ = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "of 192 networks are in" in said
        assert "the same command goes on from there" in said
    assert not (tmp_path / "hyperparameter_map" / "metrics.nc").exists()
    assert "of them done before" in finished(tmp_path)
    assert metrics(tmp_path) == uninterrupted


@pytest.mark.slow  # a campaign of other settings is refused in test_campaign.py
def test_other_options_are_not_mixed_in(tmp_path):
    with started(tmp_path) as process:
        wait_for_blocks(tmp_path, process, 1)
    with started(tmp_path, "--epochs", "13") as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "holds part of another run, whose program differs: take another folder, or move this one away" in said


def together(out, processes=2):
    """The command line of each of several processes on this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = ["--distributed", "--coordinator", f"localhost:{port}", "--processes", str(processes)]
    return [started(out, *shared, "--process", str(i)) for i in range(processes)]


def test_processes_share_the_work(uninterrupted, tmp_path):
    first, second = together(tmp_path)
    with first as a, second as b:
        (said, _), (other, _) = a.communicate(timeout=300), b.communicate(timeout=60)
    assert (a.returncode, b.returncode) == (0, 0), said + other
    assert "this is process 1 of 2" in other
    assert "this process has done its share, and the first one makes the results" in other
    assert metrics(tmp_path) == uninterrupted


def test_a_lost_process_costs_nothing_that_was_done(uninterrupted, tmp_path):
    first, second = together(tmp_path)
    with first as a, second as b:
        wait_for_blocks(tmp_path, a, 3)
        b.kill()
        wait_for_blocks(tmp_path, a, 4)
        a.kill()
    assert "of them done before" in finished(tmp_path)
    assert metrics(tmp_path) == uninterrupted


def test_the_first_process_does_not_wait_for_those_that_are_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment._campaigns, "PATIENCE", 0.2)
    monkeypatch.setattr(experiment._campaigns.jax, "process_count", lambda: 2)
    cfg = experiment.Config(seeds=2, settings=5, epochs=1, dataset="mnist_5k", out=tmp_path)
    with pytest.raises(InputError, match=r"5 of 10 networks are in .*, and no other process is at the rest"):
        experiment.run(cfg)
