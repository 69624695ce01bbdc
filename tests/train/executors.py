"""Checks of sweeps whose blocks are done by executors, each named by the command line: CHECK FOLDER.

They run in a process outside of pytest, where `fnn` is as its users have it: functions whose annotations are checked
cannot be pickled. A check that fails ends the process with its error.
"""

import multiprocessing
import os
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cloudpickle
import jax
import pytest
from small import ALL, DATA, RULES, alike, identical, swept, task

from fnn import store
from fnn.base.errors import InputError
from fnn.train import blocks, engine

SPAWN = multiprocessing.get_context("spawn")


def pool(folder):
    """A pool of processes gives the same bits, what it has done is kept, and a worker's error is an error."""
    whole = swept(**ALL, networks=True)
    log = []
    with ProcessPoolExecutor(1, SPAWN) as executor:
        alike(swept(**ALL, networks=True, executor=executor, keep=folder, log=log.append), whole)
        assert len(log) == whole[0].test_loss.size
        for row in log:
            at = {dim: row[dim] for dim in ("rule", "lr", "seed", "update")}
            assert row["test_loss"] == whole[0].test_loss.sel(at).item()
        log.clear()
        one = swept(task(), "sgd", **ALL, executor=executor, log=log.append)
        assert len(log) == one.test_loss.size, "as of one rule without a name"
        assert all(set(row) >= {"lr", "seed", "update", "loss", "test_loss"} for row in log)
        assert store.numbers(folder) == [0, 1, 2], "a block for each seed"
        trained, engine.stream = engine.stream, None  # nothing is left to train
        alike(swept(**ALL, networks=True, keep=folder), whole)
        engine.stream = trained


class Mortal:
    """The metrics of the small task; a worker that computes them ends where a file exists, and removes that file."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *arguments):
        if multiprocessing.parent_process() is not None:
            try:
                self.path.unlink()
            except FileNotFoundError:
                pass
            else:
                os._exit(9)
        return task().metrics(*arguments)


def lost(folder):
    """A pool that loses its worker is one sentence, and the same call goes on with another pool."""
    one = task()._replace(metrics=Mortal(folder / "die"))
    (folder / "die").touch()
    where = f"the others are in {folder / 'kept'}, where the same call goes on"
    with ProcessPoolExecutor(1, SPAWN) as executor:
        with pytest.raises(InputError, match=f"lost its workers before 3 of 3 blocks were done: {where}"):
            swept(one, RULES, **ALL, executor=executor, keep=folder / "kept")
        with pytest.raises(InputError, match="lost its workers before 3 of 3 blocks were done: keep=FOLDER keeps"):
            swept(**ALL, executor=executor)
    with ProcessPoolExecutor(1, SPAWN) as executor:
        found = swept(one, RULES, **ALL, executor=executor, keep=folder / "kept")
    identical(found, swept(**ALL))


class Here(Executor):
    """An executor that does its work at once, in this process, up to a number of blocks; the next fail."""

    def __init__(self, works, error):
        self.left, self.error = works, error

    def submit(self, f, /, *arguments, **options):
        future = Future()
        if self.left > 0:
            future.set_result(f(*arguments, **options))
        else:
            future.set_exception(self.error)
        self.left -= 1
        return future


class Wide(Here):
    """An executor whose worker computes in float64."""

    def submit(self, f, /, *arguments, **options):
        with jax.enable_x64(True):
            return super().submit(f, *arguments, **options)


def accidents(folder):
    """What was done before a loss is kept, errors are not swallowed, arithmetic is compared, and data pickled once."""
    with pytest.raises(InputError, match=f"before 1 of 3 blocks were done: the others are in {folder}"):
        swept(**ALL, executor=Here(2, BrokenProcessPool()), keep=folder)
    assert len(store.numbers(folder)) == 2
    identical(swept(**ALL, executor=Here(1, BrokenProcessPool()), keep=folder), swept(**ALL))
    with pytest.raises(ZeroDivisionError, match="in a worker"):
        swept(**ALL, executor=Here(1, ZeroDivisionError("in a worker")))
    with pytest.raises(InputError, match="workers have other settings of JAX: x64 True for False"):
        swept(**ALL, executor=Wide(3, None))
    works, done = [], blocks.done
    blocks.done = lambda work, *rest: works.append(work) or done(work, *rest)
    swept(**ALL)
    pickled = cloudpickle.dumps(works[0])
    assert pickled.count(DATA["train"].x.tobytes()) == 1
    assert cloudpickle.loads(pickled).manifest() == works[0].manifest()


def dask(folder):
    """Dask's cluster gives the same bits, though one of its workers is killed."""
    from distributed import Client, LocalCluster

    one = task()._replace(metrics=Mortal(folder / "die"))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        Client(cluster) as client,
    ):
        (folder / "die").touch()
        found = swept(one, RULES, **ALL, networks=True, executor=client.get_executor())
        assert not (folder / "die").exists(), "a worker was killed"
    alike(found, swept(**ALL, networks=True))


if __name__ == "__main__":
    began = time.monotonic()
    {"pool": pool, "lost": lost, "accidents": accidents, "dask": dask}[sys.argv[1]](Path(sys.argv[2]))
    print(f"{sys.argv[1]}: {time.monotonic() - began:.1f} s")
