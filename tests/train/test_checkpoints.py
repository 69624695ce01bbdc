"""Checkpoints: work that is cut off goes on where it was, bit for bit; nothing of other work is mixed in."""

import importlib
import itertools
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import models, optim, store, tasks, train
from fnn.base.errors import InputError
from fnn.train import checkpoints, engine

STEPS, CHUNK, SEEDS = 23, 5, 3
ROOT = Path(__file__).parents[2]


def work(**options):
    """The arguments of a sweep of two rules, one with settings."""
    rng = np.random.default_rng(0)
    data = {"train": tasks.Split(jnp.asarray(rng.integers(0, 256, (300, 16)), jnp.uint8), jnp.arange(300) % 10)}
    task = tasks.classification(lambda hp: models.multilayer((12,), 10), batch=16)
    rules = {"momentum": optim.rule("momentum"), "adam": optim.rule("adam")}
    runs = {name: train.training(task, rule, STEPS) for name, rule in rules.items()}
    runs["adam"] = engine.over_hypers(runs["adam"])
    hps = {name: train.Hyper(rule.hyper) for name, rule in rules.items()}
    hps["adam"] = train.Hyper(engine.grid(rules["adam"].hyper, lr=[0.001, 0.01]))
    return {
        "manifest": {"code": "1"},
        "runs": runs,
        "hps": hps,
        "keys": engine.seeds(SEEDS),
        "data": data,
        "steps": STEPS,
        "chunk": CHUNK,
        "every": 0.0,
    } | options


def joined(chunks):
    chunks = list(chunks)
    assert [i for chunk in chunks for i in chunk.steps] == list(range(STEPS))
    return {
        (name, what): np.concatenate([chunk.record[name][what] for chunk in chunks], axis=1)
        for name in ("momentum", "adam")
        for what in ("loss",)
    }


@pytest.fixture(scope="module")
def whole():
    mine = work()
    return joined(engine.stream(*(mine[n] for n in ("runs", "hps", "keys", "data", "steps")), chunk=CHUNK))


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_with_checkpoints_it_is_the_same_sweep(whole, tmp_path):
    same(joined(checkpoints.stream(tmp_path, **work())), whole)
    assert len(store.numbers(tmp_path)) == 5
    assert len(list(tmp_path.glob("state-*.npz"))) == 1, "older networks are forgotten"


@pytest.mark.parametrize("cut", [1, 4])
def test_cut_off_after_any_chunk_it_resumes(whole, tmp_path, cut):
    first = checkpoints.stream(tmp_path, **work())
    seen = list(itertools.islice(first, cut))
    first.close()
    assert store.numbers(tmp_path) == list(range(cut))
    again = list(checkpoints.stream(tmp_path, **work()))
    assert [len(chunk.steps) for chunk in again[:cut]] == [len(chunk.steps) for chunk in seen]
    assert [chunk.seconds for chunk in again[:cut]] == [chunk.seconds for chunk in seen], "they were not done again"
    same(joined(again), whole)


def test_killed_between_the_networks_and_their_record(whole, tmp_path, monkeypatch):
    write = store.Store.write

    def fails_at_the_third(kept, number, arrays, first, kind=""):
        if (number, kind) == (2, ""):
            raise InputError("Cannot write: No space left on device.")
        write(kept, number, arrays, first, kind)

    monkeypatch.setattr(store.Store, "write", fails_at_the_third)
    with pytest.raises(InputError, match="No space left"):
        list(checkpoints.stream(tmp_path, **work()))
    monkeypatch.undo()
    same(joined(checkpoints.stream(tmp_path, **work())), whole)


def test_short_work_leaves_no_trace(whole, tmp_path):
    same(joined(checkpoints.stream(tmp_path / "new", **work(every=1000.0))), whole)
    assert not list((tmp_path / "new").glob("*.npz"))
    assert not store.manifest(tmp_path / "new")


def test_a_few_chunks_make_one_block(whole, tmp_path, monkeypatch):
    now = itertools.count()
    monkeypatch.setattr(checkpoints, "time", types.SimpleNamespace(monotonic=lambda: float(next(now))))
    first = checkpoints.stream(tmp_path, **work(every=2.0))
    list(itertools.islice(first, 4))
    first.close()
    again = list(checkpoints.stream(tmp_path, **work(every=2.0)))
    assert [len(chunk.steps) for chunk in again] == [10, 10, 3]
    same(joined(again), whole)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"manifest": {"code": "2"}}, "code"),
        ({"keys": engine.seeds(SEEDS, first=1)}, "seeds"),
        ({"steps": STEPS + 1}, "steps"),
        ({"chunk": CHUNK + 1}, "steps"),
    ],
)
def test_other_work_is_refused(tmp_path, changed, name):
    first = checkpoints.stream(tmp_path, **work())
    next(first)
    first.close()
    with pytest.raises(InputError, match=f"part of another run, whose {name} differs"):
        next(checkpoints.stream(tmp_path, **work(**changed)))
    same_again = checkpoints.stream(tmp_path, **work())
    next(same_again)


def test_other_settings_and_data_are_refused(tmp_path):
    mine = work()
    first = checkpoints.stream(tmp_path, **mine)
    next(first)
    first.close()
    hps = mine["hps"] | {"momentum": train.Hyper(optim.rule("momentum").hyper._replace(mu=0.5))}
    data = {"train": mine["data"]["train"]._replace(y=mine["data"]["train"].y[::-1])}
    with pytest.raises(InputError, match="whose settings, data differ"):
        next(checkpoints.stream(tmp_path, **work(hps=hps, data=data)))


def test_a_manifest_without_work_binds_nobody(tmp_path):
    store.Store(tmp_path, {"code": "older"}).claim()
    next(checkpoints.stream(tmp_path, **work()))
    assert store.manifest(tmp_path)["code"] == "1"


def test_a_second_process_is_refused(tmp_path):
    first = checkpoints.stream(tmp_path, **work())
    next(first)
    with pytest.raises(InputError, match="Another process is at work in"):
        next(checkpoints.stream(tmp_path, **work()))
    first.close()


def test_finished_parts_are_not_made_again(tmp_path):
    made = []

    def make(number):
        made.append(number)
        return {"x": np.arange(3) * number}

    first = checkpoints.each(tmp_path, {"code": "1"}, range(4), make, every=0.0)
    list(itertools.islice(first, 2))
    first.close()
    again = list(checkpoints.each(tmp_path, {"code": "1"}, range(4), make, every=0.0))
    assert made == [0, 1, 2, 3]
    np.testing.assert_array_equal([record["x"] for record in again], np.arange(3) * np.arange(4)[:, None])
    with pytest.raises(InputError, match="whose code differs"):
        next(checkpoints.each(tmp_path, {"code": "2"}, range(4), make, every=0.0))
    (tmp_path / "000001.npz").unlink()
    (tmp_path / "000002.npz").write_bytes(b"PK")
    shutil.copy(tmp_path / "000000.npz", tmp_path / "000003.npz")
    again = list(checkpoints.each(tmp_path, {"code": "1"}, range(4), make, every=0.0))
    np.testing.assert_array_equal([record["x"] for record in again], np.arange(3) * np.arange(4)[:, None])
    assert made == [0, 1, 2, 3, 1, 2, 3]
    list(checkpoints.each(tmp_path / "short", {"code": "1"}, range(4), make))
    assert not store.numbers(tmp_path / "short")


@pytest.mark.parametrize(
    ("done", "message"), [(3, "whole chunks of 5 steps"), (30, "whole chunks"), (5, "their state")]
)
def test_a_sweep_resumes_after_whole_chunks_from_a_state(done, message):
    mine = work()
    with pytest.raises(InputError, match=message):
        next(engine.stream(mine["runs"], mine["hps"], mine["keys"], mine["data"], STEPS, chunk=CHUNK, done=done))


EXPERIMENTS = {
    "optimizer_paths": "--seeds 2000",
    "validation_overfitting": "--seeds 8 --quick --dataset mnist_5k",
}
"""One of several sweeps, and one that goes from seed to seed."""


def experiment(name, out):
    command = [sys.executable, "-m", "experiments", name, "--out", str(out), *EXPERIMENTS[name].split()]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(name, out):
    with experiment(name, out) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert not (out / name / "blocks").exists()
    return (out / name / "metrics.nc").read_bytes()


@pytest.mark.parametrize(
    ("name", "kills"),
    [("optimizer_paths", 2), *(pytest.param(name, 15, marks=pytest.mark.slow) for name in EXPERIMENTS)],
)
def test_an_experiment_killed_at_random_moments_ends_as_if_it_had_not_been(name, kills, tmp_path):
    whole, rng, cut = finished(name, tmp_path / "whole"), random.Random(kills), 0
    for _ in range(kills):
        with experiment(name, tmp_path) as process:
            began, patience = time.monotonic(), rng.uniform(0.5, 6)
            blocks_before = len(list((tmp_path / name / "blocks").rglob("0*.npz")))
            # At least one more block each time, or the first ones would be all that is ever tried.
            while process.poll() is None and (
                time.monotonic() - began < patience
                or len(list((tmp_path / name / "blocks").rglob("0*.npz"))) == blocks_before
            ):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        cut += process.returncode == -signal.SIGKILL
    assert cut > 0
    assert finished(name, tmp_path) == whole


def test_from_python_nothing_is_left_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("experiments.updates.optimizer_compare_mnist")
    module.run(module.Config(seeds=1, steps=2, batch=8, optimizers=("sgd",), dataset="mnist_5k"))
    assert list(tmp_path.iterdir()) == []
