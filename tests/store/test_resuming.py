"""Work that fails, is interrupted or killed at any of its operations on files goes on to the result of one that is not.

The training is a recurrence in NumPy: what is tested is what is on disk.
"""

import errno
import functools
import itertools
import os
import shutil
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from fnn import search, store
from fnn.base.errors import InputError
from fnn.lab import results
from fnn.lab.verdicts import decide
from fnn.search import study
from fnn.train import Run, blocks, checkpoints, engine
from fnn.train.blocks import Size, Work
from fnn.train.engine import Chunk
from fnn.train.labels import Labels
from fnn.train.progress import Silent
from fnn.train.settings import axes

STEPS, CHUNK, SEEDS = 8, 3, 2


class Killed(BaseException):
    """The process is gone."""


def failing(at, how):
    """A disk that fails at its operation number `at`: refuses it, is interrupted in it, or is gone from then on."""
    number = itertools.count(1)

    def method(inner, name):
        @functools.wraps(inner)
        def failing(self, *arguments):
            now = next(number)
            if now == at or (now > at and how is Killed):
                if now == at and name == "write":
                    inner(self, arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if how is OSError else how
            return inner(self, *arguments)

        return failing

    operations = {name: method(inner, name) for name, inner in vars(Quick).items() if not name.startswith("_")}
    return type("Failing", (Quick,), operations)(), number


class Quick(store.Disk):
    """A disk that does not wait."""

    read, create, write = store.Disk.read, store.Disk.create, store.Disk.write
    replace, remove = store.Disk.replace, store.Disk.remove

    def sync(self, path):
        """Nothing."""


def trained(runs, hps, keys, data, steps, *, chunk, done, state, compiled=None):
    """What `engine.stream` gives, of a recurrence that starts from multiples of the learning rates."""
    [name] = runs
    starts = np.multiply.outer(np.arange(1.0, 1 + len(keys)), hps[name]["lr"]).astype(np.float32)
    w = starts if state is None else state[name]["w"]
    for first in range(done, steps, chunk):
        numbers, loss = range(first, min(first + chunk, steps)), []
        for i in numbers:
            w = np.sin(3 * w + i, dtype=np.float32)
            loss.append(w)
        yield Chunk(numbers, {name: {"loss": np.stack(loss, axis=1)}}, {name: {"w": w}}, time.perf_counter(), 0.0)


def stream(folder, **manifest):
    """The chunks of a sweep with checkpoints after each."""
    run = Run(lambda hp, key, data: {"w": jnp.float32(0)}, None, None)
    work = {"runs": {"rule": run}, "hps": {"rule": {"lr": 0.1}}, "keys": engine.seeds(SEEDS), "data": np.ones(3)}
    return checkpoints.stream(folder, manifest, **work, steps=STEPS, chunk=CHUNK, every=0.0)


def joined(chunks):
    chunks = list(chunks)
    assert [i for chunk in chunks for i in chunk.steps] == list(range(STEPS))
    return np.concatenate([chunk.record["rule"]["loss"] for chunk in chunks], axis=1).tobytes()


@pytest.fixture(autouse=True)
def _recurrence(monkeypatch):
    monkeypatch.setattr(
        checkpoints, "engine", types.SimpleNamespace(stream=trained, check_stream=lambda *arguments: None)
    )
    monkeypatch.setattr(checkpoints, "time", types.SimpleNamespace(monotonic=itertools.count(0, 60).__next__))
    monkeypatch.setattr(store, "disk", Quick())


@functools.cache
def work(settings, seed):
    """A sweep in blocks of two settings, with a checkpoint after each chunk."""
    run = Run(lambda hp, key, data: {"w": hp["lr"]}, lambda *arguments: None, lambda *arguments: None)
    lrs = np.arange(1.0, 1 + settings, dtype=np.float32)
    labels = Labels(None, None, axes({"lr": lrs.tolist()}, ()), (seed,))
    keys, compiled = engine.seeds(1, seed), {"program": "a recurrence"}
    given = {"": run}, {"": {"lr": lrs}}, settings, keys, np.ones(3), STEPS, STEPS // 2, labels, False
    return Work(*given, Size(2, 1), compiled)


def swept(folder, settings=3, seed=0, bar=Silent()):  # noqa: B008  it has no state
    return blocks.done(work(settings, seed), folder, None, bar).record[""]["loss"].tobytes()


def searched(folder, other=False, n=6, more=lambda one: None):
    """A study of n trials, one of which is tested, or another one, with `more` of it."""
    space = {"lr": search.Log(1e-4, 1e-1), "u": search.Linear(0, 1)}
    sampler = lambda key, known, n: np.full((n, 2), (len(known.values) + other) / 9)
    with study.opened(folder, space, sampler, jax.random.key(other)) as one:
        while len(one.points) < n:
            one.ask(2)
            one.tell(one.proposed.sum(1))
        if not one.evaluations():
            one.test(1, lambda: 0.5 + other)
        return str([one.points.tolist(), one.values.tolist(), one.trials.tolist(), more(one)])


def saved(folder, times=2):
    ds = xr.Dataset({"loss": ("step", times * np.arange(5.0))})
    results.save_data(folder, ds, {"times": times})
    results.save_findings(
        folder, [decide(f"{times} times", np.arange(6.0), "", "")], [], {}, {"rows": [times]}, {"page": f"# {times}"}
    )
    return whole(folder)


def whole(folder):
    """Every file of results, each as it was published."""
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [(path.name, path.read_bytes() if path.name == store.SUMS else store.published(path)) for path in files]


WORK = {
    "a sweep": lambda folder: joined(stream(folder)),
    "parts": lambda folder: [
        made["x"].tobytes()
        for made in checkpoints.each(folder, {}, range(3), lambda i: {"x": np.arange(3) * i}, every=0.0)
    ],
    "blocks": swept,
    "a study": searched,
}


def outcome(work, folder):
    """The result of the work, or how it was cut off: an error of the disk is one sentence."""
    try:
        return work(folder)
    except (Killed, KeyboardInterrupt) as error:
        return type(error).__name__
    except InputError as error:
        assert str(error).count("\n") == 0  # noqa: PT017  any other error fails the test
        return str(error)


@pytest.mark.parametrize("how", [OSError, KeyboardInterrupt, Killed])
@pytest.mark.parametrize("name", WORK)
def test_work_cut_off_at_any_operation_resumes_to_the_same_result(name, how, tmp_path, monkeypatch):
    work = WORK[name]
    disk, count = failing(10**9, how)
    monkeypatch.setattr(store, "disk", disk)
    expected = work(tmp_path / "whole")
    operations = next(count) - 1
    assert operations > 10
    cut = 0
    for at in range(1, operations + 1):
        folder = tmp_path / str(at)
        monkeypatch.setattr(store, "disk", failing(at, how)[0])
        said = outcome(work, folder)
        cut += said != expected
        monkeypatch.setattr(store, "disk", Quick())
        found = outcome(work, folder)
        if name == "a study" and "the result was lost" in found:
            continue  # the message: whether the test set was evaluated is unknown
        assert found == expected, (at, said)
        assert not list(folder.rglob(f"{store.TEMPORARY}*")), at
        assert not list(folder.rglob(f"*{store.DAMAGED}")), at
    assert cut > operations / 2


@pytest.mark.parametrize("how", [OSError, KeyboardInterrupt, Killed])
def test_results_are_the_old_ones_or_the_new_ones_and_never_taken_for_damaged(how, tmp_path, monkeypatch):
    old, new = saved(tmp_path / "old", 1), saved(tmp_path / "new", 2)
    disk, count = failing(10**9, how)
    monkeypatch.setattr(store, "disk", disk)
    saved(tmp_path / "new", 2)
    for at in range(1, next(count)):
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "old", folder)
        monkeypatch.setattr(store, "disk", failing(at, how)[0])
        outcome(lambda folder: saved(folder, 2), folder)
        monkeypatch.setattr(store, "disk", Quick())
        for name, content in whole(folder):
            assert name == store.SUMS or content in (dict(old)[name], dict(new)[name]), at
        assert results.load(folder).loss.values[-1] in (4, 8)
        assert saved(folder, 2) == new


def test_clearing_leaves_all_or_a_rest_that_is_recognized(tmp_path, monkeypatch):
    folder = tmp_path / "blocks"
    for part in (folder, folder / "part"):
        joined(stream(part))
    content = {path: path.read_bytes() for path in folder.rglob("*.npz")}
    monkeypatch.setattr(store, "disk", failing(1, KeyboardInterrupt)[0])
    with pytest.raises(KeyboardInterrupt):
        store.clear(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.npz")} == content

    def interrupted(rest, **_):
        next(rest.rglob("*.npz")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "disk", Quick())
    monkeypatch.setattr(store.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.clear(folder)
    assert not folder.exists()
    monkeypatch.undo()
    store.clean(tmp_path)
    assert not list(tmp_path.iterdir())


LAST = STEPS // CHUNK
LOST = {
    "nothing": (lambda folder: None, 3),
    "the first block": (lambda folder: (folder / "000000.npz").unlink(), 0),
    "a block in the middle": (lambda folder: (folder / "000001.npz").unlink(), 0),
    "the last block": (lambda folder: (folder / "000002.npz").unlink(), 0),
    "the networks": (lambda folder: (folder / "state-000002.npz").unlink(), 0),
    "a byte of a block": (lambda folder: flip(folder / "000001.npz"), 0),
    "a byte of the networks": (lambda folder: flip(folder / "state-000002.npz"), 0),
    "a byte of the manifest": (lambda folder: flip(folder / "manifest.json"), 3),
    "the manifest": (lambda folder: (folder / "manifest.json").unlink(), 3),
    "a block in the place of another": (lambda folder: place(folder / "000001.npz", folder / "000002.npz"), 0),
    "networks in the place of a block": (lambda folder: place(folder / "state-000002.npz", folder / "000002.npz"), 0),
    "older networks beside": (lambda folder: place(folder / "state-000002.npz", folder / "state-000001.npz"), 3),
    "all but the networks": (lambda folder: [path.unlink() for path in folder.glob("0*.npz")], 0),
    "a block of other work": (lambda folder: place(other(folder) / "000001.npz", folder / "000001.npz"), 0),
}
"""What is done to a folder of three blocks, and how many of them are used."""
SILENT = ("nothing", "all but the networks", "the manifest")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def place(source, target):
    target.write_bytes(source.read_bytes())


def other(folder):
    joined(stream(folder.with_name("other"), code=2))
    return folder.with_name("other")


@pytest.mark.parametrize("lost", LOST)
def test_what_is_lost_or_damaged_is_computed_again(lost, tmp_path, caplog):
    folder, (harm, used) = tmp_path / "blocks", LOST[lost]
    before = list(stream(folder))
    harm(folder)
    again = list(stream(folder))
    assert joined(again) == joined(before)
    assert [chunk.seconds for chunk in again[:used]] == [chunk.seconds for chunk in before[:used]]
    assert not {chunk.seconds for chunk in again[used:]} & {chunk.seconds for chunk in before}
    assert bool(caplog.messages) == (lost not in SILENT), caplog.messages
    assert joined(stream(folder)) == joined(before)


def test_networks_of_another_shape_are_not_gone_on_from(tmp_path, monkeypatch):
    before = joined(stream(tmp_path))
    monkeypatch.setattr(checkpoints, "_starts", lambda runs: lambda *_: {"rule": {"w": jnp.zeros((SEEDS, 2))}})
    assert joined(stream(tmp_path)) == before
