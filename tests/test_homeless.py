"""A user without a home or a name, as of `docker run -u 12345`, can do all that needs neither."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pooch
import pytest

from fnn import data
from fnn.lab import process

ROOT = Path(__file__).parents[1]

WORK = """
import jax
from fnn import data
from fnn.lab import process
from fnn.search import study
process.prepare()
jax.numpy.ones(3).sum().block_until_ready()
print(data.user_cache(), data.load("mnist_5k").name)
import matplotlib.figure, fnn.lab.plotting, xarray, tyro
"""


def stranger(code, uid=54321, **environment):
    """The code run by a user without an entry in the system."""
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return subprocess.run(
        [*who, sys.executable, "-c", code], cwd="/", env=known | environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("home", [None, "/nonexistent", "/proc"], ids=["none", "gone", "read-only"])
def test_no_home_and_no_name(home):
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("only root can run a process as another user, with setpriv")
    if stranger("import fnn, experiments, jax").returncode != 0:
        pytest.skip("others cannot read this checkout or its environment")
    done = stranger(WORK, **({} if home is None else {"HOME": home}))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "mnist_5k"
    assert "Traceback" not in done.stderr
    assert "compilation cache" not in done.stderr


def test_compilations_are_not_kept_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert not process._writable(tmp_path / "file" / "compiled")
    assert process._writable(tmp_path / "new" / "compiled")

    def homeless(project):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(pooch, "os_cache", homeless)
    assert data.user_cache() is None
