"""Data sets in, arrays out: by name, by path, or from arrays of one's own, as a `DataSet`."""

from fnn.data.arrays import from_arrays, standardized
from fnn.data.data_set import DataSet
from fnn.data.folder import from_folder
from fnn.data.idx import read_idx
from fnn.data.known import NAMES, user_cache
from fnn.data.loading import is_path, load, load_first
from fnn.data.npz import from_npz
from fnn.data.table import from_csv
from fnn.data.text import from_text

__all__ = [
    "NAMES",
    "DataSet",
    "from_arrays",
    "from_csv",
    "from_folder",
    "from_npz",
    "from_text",
    "is_path",
    "load",
    "load_first",
    "read_idx",
    "standardized",
    "user_cache",
]
