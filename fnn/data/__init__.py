"""Data sets in, arrays out: `load(name)` of known names, and the IDX format they come in."""

from fnn.data.idx import read_idx
from fnn.data.known import NAMES, DataSet, load, user_cache

__all__ = ["NAMES", "DataSet", "load", "read_idx", "user_cache"]
