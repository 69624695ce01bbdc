"""Sweeps of a convolutional network and of a transformer, killed with -9 in the middle, end bit for bit as if not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small import identical

PROGRAM = """
import os, signal, sys
import numpy as np
from fnn import models, store, sweep, tasks
from fnn.train import blocks

network, folder, writes = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(0)
if network == "cnn":
    x, y = rng.normal(size=(40, 8, 8)).astype(np.float32), np.arange(40, dtype=np.int32) % 3
    layer = models.cnn(3, channels=(2, 3), dense=(4,))
    task = tasks.classification(layer, {"train": tasks.Split(x, y)}, 8, prepare=tasks.images)
else:
    text = {"train": np.arange(200, dtype=np.int32) % 5}
    task = tasks.language(models.transformer(5, blocks=1, width=8, heads=2, context=6), text, 4, context=6)

write, done = store.Store.write, []

def kill(kept, *arguments):
    write(kept, *arguments)
    done.append(1)
    if len(done) == writes:
        os.kill(os.getpid(), signal.SIGKILL)

store.Store.write = kill
blocks.Work.chunks.__defaults__ = (None, 0.0)  # a checkpoint after every chunk
keep = None if folder == "-" else folder
work = {"over": {"lr": [0.01, 0.1]}, "seeds": 2, "steps": 300, "evaluate": (100, 300), "keep": keep}
sweep(task, ["adam", "sgd"], **work).to_netcdf(sys.argv[4], engine="h5netcdf")
"""


def swept(network, folder, writes, out):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, network, str(folder), str(writes), str(out)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cnn", "transformer"])
def test_killed_in_the_middle_it_ends_as_if_not(network, tmp_path):
    whole = swept(network, "-", 0, tmp_path / "whole.nc")
    assert whole.returncode == 0, whole.stderr
    for writes in (1, 2):
        assert swept(network, tmp_path / "kept", writes, tmp_path / "none.nc").returncode == -9
    again = swept(network, tmp_path / "kept", 0, tmp_path / "again.nc")
    assert again.returncode == 0, again.stderr
    one, other = (xr.load_dataset(tmp_path / name, engine="h5netcdf") for name in ("whole.nc", "again.nc"))
    identical(one, other)
    assert np.isfinite(one.loss).all()
