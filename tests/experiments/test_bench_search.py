"""The benchmark of searches: tiny, its arithmetic, and the notes' way of training a trial."""

import numpy as np
import pytest

from experiments.benchmarks import bench_search as experiment
from experiments.benchmarks._contenders import Rows, numpy_trial
from experiments.hyperparameters import _search
from fnn import data
from fnn.base.errors import InputError

TINY = experiment.Config(trials=4, epochs=3, few=1, laps=2, dataset="mnist_5k")


@pytest.fixture(scope="module")
def measured():
    TINY.check()
    return experiment.run(TINY)


def test_the_benchmark_whole(measured):
    assert list(measured.contender.values) == list(experiment.TITLES)
    assert (measured.seconds > 0).all()
    rows = experiment.rows(measured)
    for row in rows:
        assert {"contender", "networks", "seconds", "fraction_of_peak", "compile_seconds", "peak_bytes"} <= set(row)
        assert 0 < row["fraction_of_peak"] < 1
    assert rows[0]["faster_than_the_notes_by"] == 1
    assert rows[1]["compile_seconds"] > 0
    assert "fnn, successive halving" in experiment.table(measured)
    assert len(experiment.EXPERIMENT.judge(measured)) == 2
    for figure in experiment.EXPERIMENT.draw(measured).values():
        figure.canvas.draw()


@pytest.mark.parametrize(("times", "outcome"), [(21, "holds"), (19, "does not hold")])
def test_claims_follow_the_numbers(measured, times, outcome):
    ds = measured.isel(lap=[0] * 6).copy(deep=True)
    ds["seconds"] = (ds.seconds * 0 + 1).where(ds.contender != "numpy", times)
    found = experiment.EXPERIMENT.judge(ds)
    assert [(verdict.effect, verdict.outcome) for verdict in found] == [(times, outcome)] * 2


def test_arithmetic_of_a_trial():
    """784-100⁶-10 on batches of 100: 2 operations per weight and example, thrice less the first layer's input."""
    weights = 784 * 100 + 5 * 100 * 100 + 100 * 10
    update = 2 * 100 * (3 * weights - 784 * 100)
    assert experiment.flop_per_trial(50) == 50 * (4 * update + 2 * 100 * weights)


def test_the_notes_way_learns():
    images = data.load("mnist_5k")
    x = images.x_train[: _search.IMAGES].reshape(_search.IMAGES, -1).astype(np.float32) / 255
    y = images.y_train[: _search.IMAGES]
    sets = Rows(x[100:], y[100:]), Rows(x[:100], y[:100])
    good, hopeless = (
        numpy_trial(experiment.SIZES, *sets, lr, 1e-6, 30, 100, np.random.default_rng(0)) for lr in (0.05, 1e-6)
    )
    assert len(good) == 30
    assert good[-1] > 0.6
    assert hopeless[-1] < 0.4


@pytest.mark.parametrize("option", ["trials", "epochs", "few", "laps"])
def test_bad_options_are_a_sentence(option):
    with pytest.raises(InputError, match=f"--{option} is at least"):
        experiment.Config(**{option: 0}).check()
