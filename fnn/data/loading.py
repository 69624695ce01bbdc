"""`load`: a data set by name or by path; `load_first`: the first of several names that is found."""

import contextlib
import os
from pathlib import Path

from fnn.base.errors import require
from fnn.data import files, known
from fnn.data.data_set import DataSet
from fnn.data.folder import from_folder, is_part
from fnn.data.npz import from_npz
from fnn.data.table import from_csv
from fnn.data.text import from_text

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def load(name: str | os.PathLike[str] = "auto", data_dir: str | os.PathLike[str] | None = None) -> DataSet:
    """The data set of this name, or in this file or folder.

    name: one of `NAMES`, see `fnn.data.known`, or a path: a folder of IDX files (`from_folder`), an `.npz` file
        (`from_npz`), a `.csv` or `.tsv` file (`from_csv`; "table.csv:price" names its target column), or any other
        text (`from_text`). Parts that it does not have are drawn by `jax.random.key(0)`.
    data_dir: the folder where the files of a known name must be, and not elsewhere; without it, `$FNN_DATA`.
    Raises `InputError` for an unknown name, a path that does not exist, what does not fit, and as these functions do.
    """
    if isinstance(name, str) and not is_path(name):
        return known.load(name, data_dir)
    path = files.named(name)
    meaning = f"data_dir is {str(data_dir)!r}: it is where known names are looked for, and {str(name)!r} is a path"
    require(data_dir is None, meaning)
    table, _, target = path.name.rpartition(":")
    if target and not path.exists() and table.lower().endswith(TABLES):
        return from_csv(path.with_name(table), target)
    if path.name.lower().endswith(TABLES):
        return from_csv(path)
    if path.suffix.lower() == ".npz":
        return from_npz(path)
    if path.is_dir() or not path.exists():
        return from_folder(path)
    require(not is_part(path.name), f"{path} is one file of a set of images and labels: name the folder around it")
    return from_text(path)


def load_first(*names: str) -> DataSet:
    """The first of these known data sets that is found: where `load` searches for it, or embedded.

    Raises `InputError` where a file is damaged or `$FNN_DATA` is no folder, and where none of them is found.
    """
    require(len(names) > 0, "The first of no data sets is none: name one.")
    *wanted, last = names
    for name in wanted:
        with contextlib.suppress(known.Absent):
            return known.load(name)
    return known.load(last)


def is_path(name: str | os.PathLike[str]) -> bool:
    """Whether `load` takes this for a path: no known name, and one with a separator, an ending, or a file or folder."""
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    if name in known.NAMES or "\0" in name:
        return False
    return name.startswith("~") or bool(Path(name).suffix) or os.path.basename(name) != name or os.path.exists(name)
