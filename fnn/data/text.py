"""Text as tokens: every character is one, and each is to be foretold from those before it."""

import os

import numpy as np

from fnn.base.errors import real, require
from fnn.data import files
from fnn.data.arrays import file_name
from fnn.data.data_set import DataSet, Pair, data_set

EXPECTED = "a text in UTF-8"


def from_text(path: str | os.PathLike[str], *, test: float = 0.05, validation: float | int = 0.05) -> DataSet:
    """The characters of a text file, gzipped or plain: `x` are tokens `[n]`, and `y` the one that follows each.

    The text is cut by position: its beginning is to train on, then comes what validates, and its end is the test.
    A token is the place of its character in `classes`, which are in the order of Unicode.
    test, validation: shares of the text; validation may be 0.
    Raises `InputError` where the file is no UTF-8, larger than `files.MOST_TEXT`, has one character only, or a part
    has fewer than two.
    """
    path = files.named(path)
    return tokenized(files.text(path, EXPECTED, pages=True), file_name(path), str(path), test, validation)


def tokenized(text: str, name: str, source: str, test: float = 0.05, validation: float | int = 0.05) -> DataSet:
    """The characters of a text as a data set, see `from_text`."""
    for part, share, least in (("test", test, "above 0"), ("validation", validation, "from 0 on")):
        sound = real(share, 0, 1) and share < 1 and (share > 0 or part == "validation")
        require(sound, f"The {part} part of a text is a share below 1 and {least}, not {share!r}.")
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    blocks = [slice(begin, begin + files.CHUNK) for begin in range(0, len(codes), files.CHUNK)]
    seen = np.zeros(0x110000, bool)
    for block in blocks:  # NumPy widens indices to 8 bytes each
        seen[codes[block]] = True
    classes = tuple(map(chr, np.flatnonzero(seen)))
    require(len(classes) > 1, f"{name} has {len(classes)} different characters: a text has at least two.")
    numbers = np.cumsum(seen, dtype=np.int32) - 1
    tokens = np.concatenate([numbers[codes[block]] for block in blocks])
    n = len(tokens)
    begins = {"train": 0, "validation": round(n * (1 - test - validation)), "test": round(n * (1 - test))}
    if validation == 0:
        del begins["validation"]
    ends = [*list(begins.values())[1:], n]
    parts: dict[str, Pair] = {}
    for (part, begin), end in zip(begins.items(), ends, strict=True):
        enough = end - begin >= 2
        require(enough, f"{name} has {n:,} characters: {max(end - begin, 0)} would be in {part}, which needs two.")
        parts[part] = tokens[begin : end - 1], tokens[begin + 1 : end]
    return data_set(name, parts, source, classes)
