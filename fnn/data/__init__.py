"""Data sets: `load(name)` returns one as arrays; `read_idx` reads its file format."""

from fnn.data.idx import read_idx
from fnn.data.known import NAMES, DataSet, load, user_cache

__all__ = ["NAMES", "DataSet", "load", "read_idx", "user_cache"]
