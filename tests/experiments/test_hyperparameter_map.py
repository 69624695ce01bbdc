"""The map of hyperparameters: its statistics on made-up planes; from the command line killed, and shared."""

import contextlib
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from experiments.hyperparameters import _search
from experiments.hyperparameters import hyperparameter_map as experiment
from experiments.hyperparameters.hyperparameter_map import EXPERIMENT
from fnn.lab import profile

SETTINGS, SEEDS = 200, 6


def made_up(accuracy, settings=SETTINGS, seeds=SEEDS, seed=0):
    """Results as if accuracy, 0…1, were `accuracy(unit square, noise)` for every seed."""
    rng = np.random.default_rng(seed)
    unit = rng.uniform(size=(settings, 2))
    values = np.stack([accuracy(unit, rng.normal(size=settings)) for _ in range(seeds)], axis=1)
    setting = _search.setting(unit)
    return xr.Dataset(
        {
            "accuracy": (("setting", "seed"), values),
            "diverged_at": (("setting", "seed"), np.full((settings, seeds), -1)),
        },
        {"lr": ("setting", setting.lr), "l2": ("setting", setting.l2), "seed": np.arange(seeds)},
        {"dataset": "made up", "epochs": 1},
    )


def test_every_setting_is_trained_for_every_seed():
    measured = EXPERIMENT.run(EXPERIMENT.options(seeds=2, settings=5, epochs=1, dataset="mnist_5k"))
    assert measured.accuracy.dims == ("setting", "seed")
    assert measured.accuracy.shape == (5, 2)
    assert ((measured.accuracy >= 0) & (measured.accuracy <= 1)).all()
    assert (measured.diverged_at == -1).all()
    assert measured.lr.attrs["long_name"] == "learning rate"


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
        (
            lambda unit, noise: 0.5 + 0.4 * unit[:, 1] - 0.3 * (unit[:, 0] - 0.3) ** 2 + 0.01 * noise,
            ("does not hold", "holds", None),
        ),
    ],
)
def test_claims_follow_the_numbers(accuracy, outcomes):
    found = EXPERIMENT.judge(made_up(accuracy))
    assert all(expected in (None, verdict.outcome) for verdict, expected in zip(found, outcomes, strict=True))


def test_of_equal_learning_rates_none_inside_is_better_than_the_end():
    """Judged on the seeds it is chosen on, the best of 11 bins would be, in nearly all repetitions."""
    noise = [made_up(lambda unit, noise: 0.5 + 0.02 * noise, settings=60, seed=seed) for seed in range(100)]
    effects = np.array([experiment.inside(ds).mean() for ds in noise])
    assert abs(effects.mean()) < 3 * effects.std(ddof=1) / np.sqrt(len(effects))
    assert (effects > 0).mean() == pytest.approx(0.5, abs=0.15)


def test_where_all_learning_rates_are_in_one_bin_none_is_inside():
    one = made_up(lambda unit, noise: 0.5 + 0.1 * noise)
    one = one.assign_coords(lr=one.lr * 0 + 1e-3)
    assert not [verdict for verdict in EXPERIMENT.judge(one) if "range of learning rates" in verdict.claim]


def test_luck_is_what_others_do_not_get():
    noise = made_up(lambda unit, noise: 0.5 + 0.01 * noise)
    own, others = experiment.luck(noise)
    assert own.mean() == pytest.approx(50 + 2.75, abs=0.4), "the largest of 200 normal numbers"
    assert others.mean() == pytest.approx(50, abs=0.5)


COMMAND = ["--seeds", "3", "--settings", "64", "--epochs", "12", "--dataset", "mnist_5k"]


@contextlib.contextmanager
def started(out, *options):
    command = [sys.executable, "-m", "experiments", "hyperparameter_map", *COMMAND, "--out", str(out), *options]
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


def together(out):
    """Two processes on this machine that share the work."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = ["--distributed", "--coordinator", f"localhost:{port}", "--processes", "2"]
    return [started(out, *shared, "--process", str(i)) for i in range(2)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What two processes print, and their data."""
    out = tmp_path_factory.mktemp("uninterrupted")
    first, second = together(out)
    with first as a, second as b:
        (said, _), (other, _) = a.communicate(timeout=300), b.communicate(timeout=60)
    assert (a.returncode, b.returncode) == (0, 0), said + other
    assert not (out / "hyperparameter_map" / "blocks").exists()
    return said, other, metrics(out)


@pytest.mark.slow
def test_a_profile_is_a_trace_and_a_sum(tmp_path):
    said = finished(tmp_path, "--epochs", "1", "--settings", "2", "--profile")
    [line] = [line for line in said.splitlines() if "compiling" in line]
    whole, compiling, evaluating, writing = (float(number) for number in re.findall(r"([\d.]+) s\b", line))
    assert whole > 0
    assert compiling > 0
    assert evaluating < 2 * whole
    assert 0 < profile.evaluating(next(tmp_path.rglob("*.xplane.pb"))) < 2 * whole
    assert writing < whole
    [trace] = (tmp_path / "hyperparameter_map" / "trace").rglob("perfetto_trace.json.gz")
    assert str(trace) in said
    with gzip.open(trace) as file:
        assert len(json.load(file)["traceEvents"]) > 100


def test_the_first_of_several_processes_makes_the_results(uninterrupted):
    said, other, _ = uninterrupted
    assert "This is process 0 of 2" in said
    assert "of the settings are within" in said
    assert "This is process 1 of 2" in other
    assert "this process has done its share, and the first one makes the results" in other


def test_killed_and_continued_by_one_process_it_ends_as_if_it_had_not_been(uninterrupted, tmp_path):
    blocks = tmp_path / "hyperparameter_map" / "blocks"

    def wait_for(n, process):
        while len(list(blocks.glob("0*.npz"))) < n:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    first, second = together(tmp_path)
    with first as a, second as b:
        wait_for(3, a)
        b.kill()
        wait_for(4, a)
        a.kill()
    done = {path: path.read_bytes() for path in blocks.glob("0*.npz")}
    assert not (tmp_path / "hyperparameter_map" / "metrics.nc").exists()
    with started(tmp_path) as process:
        wait_for(len(done) + 1, process)
        assert {path: path.read_bytes() for path in done} == done, "what is done is not done again"
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert metrics(tmp_path) == uninterrupted[2]
