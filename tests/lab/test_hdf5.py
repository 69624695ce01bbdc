"""HDF5 files that take data from other files, or claim more than they hold, are refused before anything is read."""

import os

import h5py
import numpy as np
import pytest

from fnn.base.errors import InputError
from fnn.lab import hdf5

SECRET = b"of the machine, and not of the results"


def external_storage(file, folder):
    file.create_dataset("loss", (len(SECRET),), "u1", external=[(str(folder / "secret"), 0, len(SECRET))])


def external_link(file, folder):
    file["loss"] = h5py.ExternalLink(str(folder / "other.nc"), "/x")


def external_link_below(file, folder):
    file.create_group("a/b")["loss"] = h5py.ExternalLink(str(folder / "other.nc"), "/x")


def external_link_to_a_pipe(file, folder):
    file["loss"] = h5py.ExternalLink(str(folder / "pipe"), "/x")


def soft_link(file, folder):
    file["loss"] = h5py.SoftLink("/loss")


def virtual(file, folder):
    layout = h5py.VirtualLayout((10,), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.nc"), "x", (10,))
    file.create_virtual_dataset("loss", layout)


def virtual_of_a_pipe_without_end(file, folder):
    endless = lambda: h5py.h5s.create_simple((0,), (h5py.h5s.UNLIMITED,))
    ours, theirs, plan = endless(), endless(), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    for space in (ours, theirs):
        space.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), (1,), (1,))
    plan.set_virtual(ours, os.fsencode(folder / "pipe"), b"x", theirs)
    h5py.h5d.create(file.id, b"loss", h5py.h5t.IEEE_F64LE, endless(), plan)


FOREIGN = (
    external_storage,
    external_link,
    external_link_below,
    external_link_to_a_pipe,
    soft_link,
    virtual,
    virtual_of_a_pipe_without_end,
)


@pytest.fixture
def folder(tmp_path):
    """A folder with things that a file may point at."""
    (tmp_path / "secret").write_bytes(SECRET)
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "other.nc", "w") as other:
        other["x"] = np.arange(10.0)
    return tmp_path


def made(folder, make):
    """A results folder with a file of this kind."""
    with h5py.File(folder / "metrics.nc", "w") as file:
        file["step"] = np.arange(3)
        make(file, folder)
    return folder


@pytest.mark.parametrize("make", FOREIGN)
def test_data_of_other_files_are_refused(folder, make):
    with pytest.raises(InputError, match=r"metrics.nc is not read: it takes data from other files \(.* '(loss)'\)"):
        hdf5.check_contained(made(folder, make) / "metrics.nc")


def test_arrays_that_were_never_written_are_refused(folder):
    huge = lambda file, _: file.create_dataset("loss", (10**6, 10**6), "f4", chunks=(1000, 1000))
    with pytest.raises(InputError, match="claims to hold 4,000,000 MB, more than a file of its size can"):
        hdf5.check_contained(made(folder, huge) / "metrics.nc")


def test_groups_in_a_circle_end(folder):
    def circle(file, _):
        below = file.create_group("a/b")
        below["c"] = file["a"]

    hdf5.check_contained(made(folder, circle) / "metrics.nc")


def test_what_is_dense_is_read(folder):
    zeros = lambda file, _: file.create_dataset("loss", (10**6,), "f4", compression="gzip", compression_opts=9)
    hdf5.check_contained(made(folder, lambda *at: zeros(*at).write_direct(np.zeros(10**6, "f4"))) / "metrics.nc")
