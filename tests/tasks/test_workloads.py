"""What every workload is, of those that are found at their tiny size, and of a file of one's own."""

import os
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest

from fnn import data, sweep, tasks
from fnn.base.errors import InputError
from fnn.tasks import quadratic, sources

pytestmark = pytest.mark.usefixtures("unchecked", "quickly_compiled")

ROOT = Path(__file__).parents[2]
NAMES = tasks.workloads()


@cache
def tiny(name):
    return tasks.workload(name, "tiny")


@cache
def trained(name):
    """Two rules at two learning rates, for two seeds, evaluated after the first and the last step."""
    workload = tiny(name)
    at = (1, workload.steps)
    return sweep(workload.task, ["adam", "sgd"], over={"lr": [0.003, 0.03]}, seeds=2, steps=workload.steps, evaluate=at)


def test_the_thirteen_are_found():
    assert set(NAMES) == {
        *("quadratic", "logistic", "deep_linear", "tabular", "mnist_mlp", "mnist_autoencoder", "mnist_vae"),
        *("fashion_cnn", "fashion_resnet", "shakespeare_transformer", "shakespeare_gru", "modular_addition", "pinn"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_rules_are_swept_and_everything_is_finite_and_labeled(name):
    workload, ds = tiny(name), trained(name)
    for metric in (workload.metric, workload.reported):
        assert ds[metric].dims == ("rule", "lr", "seed", "update")
        assert np.isfinite(ds[metric].sel(rule="adam")).all()
    for variable in ds.data_vars:
        if variable != "diverged_at":
            assert ds[variable].attrs["long_name"]
            assert ds[variable].attrs["units"] in ("1", "nats", "bits")
    exact = ("quadratic", "deep_linear", "modular_addition", "pinn")
    assert (name in exact) != ("checksum" in ds.attrs)
    assert "batch" in ds.attrs or isinstance(workload.task.draw, tasks.Everything)


@pytest.mark.parametrize("name", NAMES)
def test_adam_learns(name):
    """By the metric; where pairs are memorized first, by the loss."""
    metric = trained(name)[tiny(name).metric].sel(rule="adam").mean("seed")
    loss = trained(name).loss.sel(rule="adam").mean("seed")
    falls = metric.isel(update=-1) < metric.isel(update=0)
    fits = loss.isel(step=slice(-5, None)).mean("step") < loss.isel(step=slice(0, 5)).mean("step")
    assert bool((fits if name == "modular_addition" else falls).any())


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_and_nothing_else(name):
    """Built twice, a workload is the same; another seed is another run."""
    jax.tree.map(np.testing.assert_array_equal, tiny(name).task.data, tasks.workload(name, "tiny").task.data)
    first, second = trained(name).loss.sel(rule="adam", lr=0.003).isel(step=0)
    assert float(first) != float(second)


PICKLED = """
import cloudpickle, jax, numpy as np
from fnn import tasks

for name in tasks.workloads():
    workload = tasks.workload(name, "tiny")
    again = cloudpickle.loads(cloudpickle.dumps(workload))
    start = lambda task: jax.eval_shape(task.init, task.hyper, jax.random.key(0), task.data)
    assert start(again.task) == start(workload.task), name
    jax.tree.map(np.testing.assert_array_equal, again.task.data, workload.task.data)
    assert again._replace(task=workload.task) == workload
    print(name)
"""


def test_every_workload_is_sent_to_other_processes():
    """In a process without annotations that are checked, which cannot be pickled."""
    done = subprocess.run([sys.executable, "-c", PICKLED], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_is_known_and_measures_no_training_set(name):
    workload = tiny(name)
    assert re.search(r"(19|20)\d\d|arXiv", workload.known)
    assert workload.known.endswith(".")
    assert not [metric for metric in trained(name).data_vars if metric.startswith("train_")]


def test_the_table_has_every_workload_with_its_horizons():
    table = (ROOT / "fnn/tasks/README.md").read_text("utf-8")
    for name in NAMES:
        sizes = import_module(f"fnn.tasks.{name}").SIZES
        small, full = (getattr(sizes[size], "steps", sizes[size]) for size in ("small", "full"))
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
        assert f" | {small:,} {full:,} | " in row


def test_real_data_have_three_splits_that_share_nothing():
    for name, examples in {"mnist_mlp": 100, "tabular": 88, "logistic": 113}.items():
        split = tiny(name).task.data
        assert list(split) == ["train", "test", "validation"]
        assert len(split["validation"].y) == examples
        seen = [tuple(x.ravel()) for part in split.values() for x in part.x]
        assert len(seen) - len(set(seen)) <= 0


def test_embedded_data_are_in_the_place_of_what_is_not_found(monkeypatch, tmp_path):
    monkeypatch.setenv("FNN_DATA", str(tmp_path))
    assert sources.clothes("small").name == "mnist_5k"
    assert len(sources.clothes("small").y_validation) == 500
    text = sources.plays("small")
    assert text.name == "python_topics"
    assert len(text.x_test) == len(text.x_validation) == 4096
    (tmp_path / "input.txt").write_text("To be, or not to be")
    with pytest.raises(InputError, match="SHA-256"):
        sources.plays("small")
    monkeypatch.setenv("FNN_DATA", f"{tmp_path}/absent")
    with pytest.raises(InputError, match=f"FNN_DATA is '{tmp_path}/absent'"):
        sources.plays("small")


def test_held_out_examples_are_in_proportion():
    digits = data.load("mnist_5k")
    found = sources.held_out(digits, 1000)
    assert [len(y) for _, y in found.parts.values()] == [3000, 1000, 1000]
    assert np.bincount(found.y_validation).tolist() == [100] * 10
    np.testing.assert_array_equal(found.x_test, digits.x_test)


OWN = """
from fnn import models, tasks
from fnn.tasks import quadratic, sources

def workload(size="small"):
    task = tasks.classification(models.multilayer((8,), 10), sources.digits("tiny"), metrics_of=("validation", "test"))
    return tasks.Workload(task, 100, "validation_loss", "test_loss", "Mine.")

def typo(size):
    return workload(size)._replace(metric="loss_of_validation")

def nothing(size):
    return None
"""


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    mine = tasks.workload(tmp_path / "mine.py", "tiny")
    assert mine.known == "Mine."
    assert float(sweep(mine.task, "adam", seeds=1, steps=3).validation_loss.squeeze()) < 5
    assert tasks.workload(f"{tmp_path}/mine.py:workload").steps == 100


@pytest.mark.parametrize(
    ("spec", "size", "sentence"),
    [
        ("mnist_mpl", "tiny", r"There is no workload 'mnist_mpl'; there are .* \(did you mean mnist_mlp\?\)\.$"),
        ("mnist_mlp", "big", r"A workload has the sizes tiny, small, full, not 'big'\."),
        (3, "tiny", "A workload is named by text"),
        ("{}/none.py", "tiny", "There is no file .*none.py"),
        ("{}/mine.py:absent", "tiny", r"mine.py has no function absent\(size\) that returns a fnn.tasks.Workload"),
        ("{}/mine.py:nothing", "tiny", r"nothing\('tiny'\) of .*mine.py returns .* not None"),
        ("{}/mine.py:typo", "tiny", "has no metric loss_of_validation; there are .*validation_loss"),
    ],
)
def test_what_is_no_workload_is_a_sentence(tmp_path, spec, size, sentence):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(InputError, match=sentence) as caught:
        tasks.workload(spec.format(tmp_path) if isinstance(spec, str) else spec, size)
    assert len(str(caught.value).splitlines()) == 1


def test_a_size_is_checked_by_the_task_itself():
    with pytest.raises(InputError, match="A task has the sizes tiny, small, full, not 'big'"):
        quadratic.workload("big")


def test_metrics_are_of_splits_that_are_there():
    digits = sources.digits("tiny")
    task = tasks.classification(lambda hp: None, digits, metrics_of=("validation", "dev"))
    with pytest.raises(InputError, match="Metrics are to be taken of dev, and the splits are train, test, validation"):
        task.check((), task.data)
    with pytest.raises(InputError, match="a list of splits by name, or of all, None; not 'test'"):
        tasks.classification(lambda hp: None, digits, metrics_of="test")
