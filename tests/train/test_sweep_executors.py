"""Executors and hosts do the blocks of a sweep to the same bits, also where workers are lost."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from small import ALL, identical, swept

HERE = Path(__file__).parent


def started(*command):
    """A process without the checks of annotations that tests have: with these functions cannot be pickled."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], env=environment, **pipe)


def ended(process):
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize("check", ["accidents", "pool", "lost", pytest.param("dask", marks=pytest.mark.slow)])
def test_executors(check, tmp_path):
    assert f"{check}: " in ended(started(HERE / "executors.py", check, tmp_path))


def hosts(folder, *options):
    """Two hosts, on this machine, that share a sweep by a folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        where = f"localhost:{probe.getsockname()[1]}"
    return [started(HERE / "hosts.py", folder, where, number, *options) for number in range(2)]


@pytest.mark.slow
def test_two_hosts_share_a_sweep(tmp_path):
    for host in hosts(tmp_path):
        ended(host)
    whole = swept(**ALL)
    for number in range(2):
        with xr.open_dataset(tmp_path / f"found-{number}.nc", engine="h5netcdf") as found:
            identical(found.load(), whole)


@pytest.mark.slow
def test_a_host_that_never_works_is_given_up_and_one_process_can_finish(tmp_path):
    first, second = hosts(tmp_path, "idle")
    assert "2 of 3 blocks are in" in (said := ended(first))
    assert "no other process is at work on the rest: start all again." in said
    second.kill()
    second.communicate()
    identical(swept(**ALL, keep=tmp_path), swept(**ALL))
