"""Labeled results with provenance: one folder per experiment, every file in it whole or absent.

metrics.nc         the `xarray.Dataset` of the run (netCDF 4)
provenance.json    configuration, command, versions, revision, device, data set, times
verdicts.json      the claims with their effects and outcomes
answers.json       the open questions with their answers
*.png, *.svg       the figures
SHA256SUMS         the checksums of all these, as `sha256sum -c SHA256SUMS` reads them

Results without a checksum, as an earlier version wrote them, are refused: make them again, or add their checksums.
"""

import dataclasses
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5netcdf
import xarray as xr
from xarray.backends import H5NetCDFStore

from fnn import store
from fnn.base.errors import InputError, listed, require
from fnn.lab.hdf5 import check_contained
from fnn.lab.verdicts import Answer, Verdict

METRICS = "metrics.nc"


def check_writable(folder: Path) -> None:
    """Raise `InputError` unless files can be created in `folder`, or in its nearest parent that exists."""
    folder = store.as_folder(folder)
    nearest = folder
    try:
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise InputError(f"The output folder {folder} cannot be made: {nearest} is not a folder.")
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise InputError(f"The output folder {folder} cannot be written: {error.strerror}.") from error


def save_data(folder: Path, dataset: xr.Dataset, provenance: Mapping[str, Any]) -> list[Path]:
    """Write the data of a run and their provenance; returns the paths."""
    require(isinstance(dataset, xr.Dataset), f"What is saved is an xarray.Dataset, not {dataset!r:.60}.")
    require(
        isinstance(provenance, Mapping),
        f"A provenance is a mapping, as fnn.base.provenance.provenance returns it, not {provenance!r}.",
    )
    files = {METRICS: lambda path: write_netcdf(path, dataset), "provenance.json": store.json_bytes(provenance)}
    return store.publish(folder, files)


def save_findings(
    folder: Path,
    verdicts: Sequence[Any],
    answers: Sequence[Any],
    figures: Mapping[str, Any],
    tables: Mapping[str, Any],
    pages: Mapping[str, str],
) -> list[Path]:
    """Write figures, answers, tables (NAME.json), pages (NAME.md) and, last, the verdicts; returns the paths."""
    for named, what in ((figures, "Figures"), (tables, "Tables"), (pages, "Pages")):
        sound = isinstance(named, Mapping) and all(isinstance(name, str) for name in named)
        require(sound, f"{what} are saved by their names, not as {named!r:.60}.")
    drawn = all(hasattr(figure, "savefig") for figure in figures.values())
    require(drawn, f"Figures are Matplotlib's, not {figures!r:.60}.")
    require(all(isinstance(page, str) for page in pages.values()), f"Pages are text, not {pages!r:.60}.")
    found = [isinstance(verdict, Verdict) for verdict in verdicts] if listed(verdicts) else [False]
    require(all(found), f"Verdicts are a list of them, as fnn.lab.verdicts.decide returns one, not {verdicts!r:.60}.")
    found = [isinstance(answer, Answer) for answer in answers] if listed(answers) else [False]
    require(all(found), f"Answers are a list of fnn.lab.verdicts.Answer, not {answers!r:.60}.")
    files = {}
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=suffix, dpi=160)
            files[f"{name}.{suffix}"] = drawn.getvalue()
        figure.set_layout_engine("none")  # the layout takes half of the time, and is the same for both files
    files |= {f"{name}.json": store.json_bytes(rows) for name, rows in tables.items()}
    files |= {f"{name}.md": page.encode() for name, page in pages.items()}
    files |= {"answers.json": store.json_bytes([dataclasses.asdict(a) for a in answers])} if answers else {}
    return store.publish(folder, files | {"verdicts.json": store.json_bytes([dataclasses.asdict(v) for v in verdicts])})


def write_netcdf(path: Path, dataset: xr.Dataset) -> None:
    """Write a data set as netCDF 4. Raises `OSError` where the disk is full."""
    with store.uninterrupted(), store.File(path) as file, h5netcdf.File(file, "w") as target:
        dataset.dump_to_store(H5NetCDFStore(target))


def load(folder: Path) -> xr.Dataset:
    """The saved data of an experiment, in memory.

    Raises `InputError` where they are missing or damaged, and where the file takes data from other files.
    """
    require(isinstance(folder, str | os.PathLike), f"Results are in a folder, named by its path, not by {folder!r}.")
    path = Path(folder) / METRICS
    if not path.is_file():
        raise InputError(f"There are no results in {folder}: {path.name} is missing.")
    store.verify(path)
    try:
        check_contained(path)
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            return dataset.load()
    except InputError:
        raise
    except Exception as error:  # HDF5, h5py, h5netcdf and xarray raise many types for other files
        raise InputError(f"The results in {path} cannot be read ({type(error).__name__}): make them again.") from error
