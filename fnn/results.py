"""Labelled results with provenance: a folder an experiment, every file in it whole or absent.

metrics.nc         the `xarray.Dataset` of the run (netCDF 4)
provenance.json    configuration, command, versions, revision, device, data set, times
verdicts.json      the claims and what the numbers say of them
answers.json       the questions and what the numbers say to them
*.png, *.svg       the figures
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import xarray as xr

from fnn.errors import InputError

PACKAGES = ("fnn", "jax", "jaxlib", "optax", "numpy", "scipy", "xarray", "matplotlib")


WRITING = "/fnn/writing"
"""What a listener of `jax.monitoring` hears the seconds by that a file took to make."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well and vanishes when it does not.

    Raises `InputError` where the folder or the disk refuses; what stood at `path` before is then still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}.") from error
    temporary, began = Path(name), time.perf_counter()
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        jax.monitoring.record_event_duration_secs(WRITING, time.perf_counter() - began)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    # The only portable way to read it is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_writable(folder: Path) -> None:
    """Raise `InputError` unless files can be made in `folder` (or where it would be made). Leaves nothing behind."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise InputError(f"The output folder {folder} cannot be made: {there} is not a folder.")
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise InputError(f"The output folder {folder} cannot be written: {error.strerror}.") from error


def save_data(folder: Path, dataset: xr.Dataset, provenance: Mapping[str, Any]) -> list[Path]:
    """Write what a run measured and where it came from; gives the paths."""
    metrics = folder / "metrics.nc"
    with atomic(metrics) as path:
        dataset.to_netcdf(path, engine="h5netcdf")
    return [metrics, save_json(folder / "provenance.json", provenance)]


def save_findings(
    folder: Path,
    verdicts: Sequence[Any],
    answers: Sequence[Any],
    figures: Mapping[str, Any],
    tables: Mapping[str, Any],
    pages: Mapping[str, str],
) -> list[Path]:
    """Write what was made of the data, tables as NAME.json, pages as NAME.md, the verdicts last; gives the paths."""
    written = []
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            written.append(folder / f"{name}{suffix}")
            with atomic(written[-1]) as path:
                figure.savefig(path, dpi=160)
            figure.set_layout_engine("none")  # laying out is half of the work, and done for both files
    written += [save_json(folder / f"{name}.json", rows) for name, rows in tables.items()]
    for name, page in pages.items():
        written.append(folder / f"{name}.md")
        with atomic(written[-1]) as path:
            path.write_text(page, encoding="utf-8")
    written += [save_json(folder / "answers.json", [dataclasses.asdict(a) for a in answers])] if answers else []
    return [*written, save_json(folder / "verdicts.json", [dataclasses.asdict(v) for v in verdicts])]


def save_json(path: Path, content: Any) -> Path:
    """Write `content` as indented JSON."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n")
    return path


def load(folder: Path) -> xr.Dataset:
    """The saved data of an experiment, in memory. Raises `InputError` where it is missing or damaged."""
    path = folder / "metrics.nc"
    if not path.is_file():
        raise InputError(f"There are no results in {folder}: {path.name} is missing.")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            return dataset.load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The results in {path} cannot be read ({type(error).__name__}): make them again.") from error


def provenance(config: Any, **more: Any) -> dict[str, Any]:
    """What it takes to do a run again: configuration, command line, versions, revision, device, and `more`."""
    return {
        "config": dataclasses.asdict(config),
        "command": [sys.executable, *sys.argv],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "revision": _revision(),
        "device": describe_devices(jax.local_devices()),
        "matmul_precision": matmul_precision(),
        "machine": platform.platform(),
        **more,
    }


def matmul_precision() -> str:
    """The precision of matrix products that JAX is set to: "default" is less than float32's own on some devices."""
    return jax.config.values["jax_default_matmul_precision"] or "default"


def describe_devices(devices: Sequence[Any]) -> str:
    """For people: "2 × cpu"."""
    return f"{len(devices)} × {devices[0].device_kind}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
