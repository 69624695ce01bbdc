"""CSV files: the types of columns inferred, categories as columns of 0 and 1, one column the target."""

import array
import collections
import csv
import io
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from fnn.base.errors import InputError, listed, near, require, whole
from fnn.data import files
from fnn.data.arrays import file_name, from_arrays, standardized
from fnn.data.data_set import DataSet

EXPECTED = "a table in CSV"

TARGETS = ("target", "label", "class", "y")
"""Names of the target column where none is given."""

MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "?"))

MOST_CATEGORIES = 1000

MOST_COLUMNS = 2**16

MOST_WHOLE = 64
"""The most different whole numbers of a target that are taken for classes; with more the caller says what they are."""

_BLOCK = 4096


def from_csv(
    path: str | os.PathLike[str],
    target: str | int | None = None,
    *,
    classes: bool | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    drop: Sequence[str] = (),
    standardize: bool = True,
    test: float | int = 0.2,
    validation: float | int = 0,
    key: Any = None,
    stratify: bool = True,
) -> DataSet:
    """The table in a CSV file, gzipped or plain: `x` `[rows, features]` in float32 and the target column `y`.

    A column of numbers is one feature; any other is one feature "COLUMN=VALUE" of 0 and 1 for each of its values.
    target: the name of the target column, or its place, 0, 1, … or −1. None takes the one that is called as in
        `TARGETS`.
    classes: whether the target is a class or a number. None takes text and up to `MOST_WHOLE` whole numbers for
        classes, and columns with a fraction for numbers.
    header: whether the first line has the names of columns. None takes it for names where no cell is a number, or one
        that is not has a number below. Without names, columns are called "0", "1", ….
    delimiter: None takes the one of , ; tab | that is most frequent in the first line.
    drop: names of columns to leave out.
    standardize: whether columns of numbers are scaled by the training rows' mean and standard deviation, see
        `standardized`.
    test, validation, key, stratify: see `from_arrays`.
    Raises `InputError` for a value that is missing or not finite, naming its line and column, for lines of different
    length, columns of one name, a target that is not there or not clear, and as `from_arrays` does.
    """
    path = files.named(path)
    for option, value in (("header", header), ("classes", classes)):
        require(value in (None, True, False), f"{option} is True, False or None, not {value!r:.50}.")
    require(isinstance(drop, str) or listed(drop), f"drop is a list of names of columns, not {drop!r:.50}.")
    text = files.text(path, EXPECTED)
    table = _Table(path, text, header, delimiter)
    dropped = {table.place(name, "drop") for name in ([drop] if isinstance(drop, str) else drop)}
    at = table.place(_target(table, target, dropped), "target")
    require(at not in dropped, f"The target {table.names[at]!r} of {path} is to be dropped.")
    kept = [i for i in range(len(table.names)) if i not in dropped]
    nameless = "name it, or leave it out, drop=('',), as the index that pandas writes."
    require(all(table.names[i] for i in kept), f"{path} has a column without a name: {nameless}")
    require(len(kept) > 1, f"{path} has no column beside the target {table.names[at]!r}.")
    columns = (None if dropped else table.all_numbers(at)) or table.columns(kept, at)
    of_target = columns.pop(at)
    if of_target.values.dtype == np.float64:
        y, named = _as_target(table, at, of_target.values, classes), ()
    else:
        y, named = of_target.values, _class_names(table, at, of_target, classes)
    x, scaled = _joined(path, list(columns.values()))
    found = from_arrays(
        x,
        y,
        test=test,
        validation=validation,
        key=key,
        stratify=stratify,
        classes=named,
        features=[feature for column in columns.values() for feature in column.features],
        name=file_name(path),
        source=str(path),
    )
    return standardized(found, scaled) if standardize and scaled else found


class _Column(NamedTuple):
    """A column's features, and its numbers, or places in its sorted categories."""

    features: list[str]
    values: Shaped[np.ndarray, " rows"]


class _Table:
    """A CSV text: names of its columns, and passes over its rows."""

    def __init__(self, path: Any, text: str, header: bool | None, delimiter: str | None):
        require(bool(text.strip()), f"{path} has no rows: expected {EXPECTED}")
        if delimiter is None:
            first = text.lstrip("\r\n").splitlines()[0]
            delimiter = max(",;\t|", key=first.count)
        one = isinstance(delimiter, str) and len(delimiter) == 1 and delimiter not in '"\r\n '
        require(one, f"A delimiter is one character, not {delimiter!r}.")
        widest = max(line.count(delimiter) for line in io.StringIO(text))
        wide = f"{path} has a line of {widest + 1:,} cells: at most {MOST_COLUMNS:,} are allowed"
        require(widest < MOST_COLUMNS, wide)
        self.path, self.text, self.delimiter = path, text, delimiter
        # Python takes 1_000 for a number, a table's author for a name.
        self.number = _number if "_" in text else float
        self.header, self.names, self.begin = False, (), 0
        (_, first), (_, second) = [*itertools.islice(self.rows(), 2), (0, []), (0, [])][:2]
        if header is None:
            header = self._is_header(first, second)
        names = tuple(first) if header else tuple(map(str, range(len(first))))
        require(
            len(names) > 1, f"{path} has one column, by the delimiter {delimiter!r}: a table has a target and others."
        )
        require(not _twice(names), f"{path} has more than one column {_twice(names)}.")
        self.header, self.names = header, names
        require(next(self.rows(), None) is not None, f"{path} has a line of names, and no rows.")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The number of each line and its cells, blank lines and the names left out."""
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter, skipinitialspace=True)
        header, width = self.header, len(self.names)
        try:
            for row in reader:
                if not row:
                    continue
                if header:
                    header, self.begin = False, reader.line_num
                    continue
                fits = not width or len(row) == width
                require(fits, f"{self.path} has {len(row)} cells in line {reader.line_num}: expected {width}")
                yield reader.line_num, [cell.strip() for cell in row]
        except csv.Error as error:
            raise InputError(f"{self.path} is no CSV in line {reader.line_num}: {error}") from None

    def place(self, column: str | int, option: str) -> int:
        """The place of a column, by name or number."""
        if whole(column, -len(self.names), len(self.names) - 1):
            return int(column) % len(self.names)
        shown = [repr(name) for name in self.names[:12]]
        most = f", … ({len(self.names)} in all)" if len(self.names) > 12 else ""
        known = isinstance(column, str) and column in self.names
        require(known, f"{option} names {column!r}, no column of {self.path}: {near(column, shown)}{most}")
        return self.names.index(str(column))

    def all_numbers(self, target: int) -> dict[int, _Column] | None:
        """The columns as `columns` returns them, ten times as fast; None where a cell is no finite number."""
        text = io.StringIO(self.text)
        how = {"delimiter": self.delimiter, "skiprows": self.begin, "comments": None, "quotechar": '"', "ndmin": 2}
        try:
            cells = np.loadtxt(text, np.float64, **how)
        except ValueError:
            return None
        if cells.shape[1] != len(self.names) or not np.isfinite(cells).all():
            return None
        features = self._float32(cells, range(cells.shape[1]))
        found = {i: _Column([name], features[:, i]) for i, name in enumerate(self.names)}
        found[target] = _Column([self.names[target]], cells[:, target])
        return found

    def kinds(self, kept: Sequence[int]) -> set[int]:
        """The columns that are not numbers. Refuses cells that are missing or not finite."""
        texts: set[int] = set()
        for line, row in self.rows():
            if not texts and self._finite(row):
                continue
            for i in kept:
                cell = row[i]
                try:
                    finite = math.isfinite(self.number(cell))
                except ValueError:
                    finite = True
                    texts.add(i)
                if not finite or (cell.lower() in MISSING):
                    missing = cell.lower() in MISSING
                    fault = f"no value ({cell!r})" if missing else f"{cell!r}, which is not finite,"
                    raise InputError(f"{self.path} has {fault} in line {line}, column {self.names[i]!r}.")
        return texts

    def columns(self, kept: Sequence[int], target: int) -> dict[int, _Column]:
        """By place, in the order of the file, the columns; numbers in float32, those of the target in float64."""
        texts = sorted(self.kinds(kept))
        numbers = [i for i in kept if i not in texts]
        categories: dict[int, dict[str, int]] = {i: {} for i in texts}
        codes = {i: array.array("i") for i in texts}
        features = [i for i in numbers if i != target]
        blocks, block, y = [np.zeros((0, len(features)), np.float32)], [], array.array("d")
        for line, row in self.rows():
            block.append([self.number(row[i]) for i in features])
            for i in texts:
                known = categories[i]
                codes[i].append(known.setdefault(row[i], len(known)))
                few = len(known) <= MOST_CATEGORIES
                many = f"more than {MOST_CATEGORIES:,} different values that are not numbers"
                example = f"as {row[i][:40]!r} in line {line}"
                require(few, f"Column {self.names[i]!r} of {self.path} has {many}, {example}: drop it.")
            if target in numbers:
                y.append(self.number(row[target]))
            if len(block) == _BLOCK:
                blocks.append(self._float32(np.array(block), features))
                block = []
        rest = np.array(block).reshape(len(block), len(features))
        table = np.concatenate([*blocks, self._float32(rest, features)])
        found = {i: _Column([self.names[i]], table[:, j]) for j, i in enumerate(features)}
        if target in numbers:
            found[target] = _Column([self.names[target]], np.array(y))
        for i in texts:
            values = sorted(categories[i])
            order = np.empty(len(values), np.int64)
            order[[categories[i][value] for value in values]] = np.arange(len(values))
            prefix = "" if i == target else f"{self.names[i]}="
            found[i] = _Column([prefix + value for value in values], order[np.array(codes[i])])
        return dict(sorted(found.items()))

    def _float32(
        self, block: Float64[np.ndarray, "rows columns"], columns: Sequence[int]
    ) -> Float32[np.ndarray, "rows columns"]:
        with np.errstate(over="ignore"):
            values = block.astype(np.float32)
        if not (finite := np.isfinite(values)).all():
            row, column = (int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))
            cell = f"{block[row, column]:g} in column {self.names[columns[column]]!r}"
            raise InputError(f"{self.path} has {cell}, which is beyond float32.")
        return values

    def _finite(self, cells: Sequence[str]) -> bool:
        """Whether all are finite numbers, of a finite sum: most rows are, and their cells are not parsed one by one."""
        try:
            return math.isfinite(sum(map(self.number, cells)))
        except ValueError:
            return False

    def _is_header(self, first: list[str], second: list[str]) -> bool:
        """Whether the first line names columns: none is a number, or one that is text has a number below."""
        numbers = [self._finite([cell]) for cell in first]
        below = [self._finite([cell]) for cell in second]
        return not any(numbers) or any(under and not above for above, under in zip(numbers, below, strict=False))


def _target(table: _Table, target: str | int | None, dropped: set[int]) -> str | int:
    """The column that is the target: the one that is named, or the one that is called so."""
    if target is not None:
        return target
    called = [name for i, name in enumerate(table.names) if name.casefold() in TARGETS and i not in dropped]
    columns = ", ".join(table.names[:12]) + ", …" * (len(table.names) > 12)
    require(
        len(called) == 1,
        f"Name the target column of {table.path}, target=NAME or {file_name(table.path)}:NAME; it has the columns "
        f"{columns}, and {' and '.join(called) or f'none of them is called {TARGETS[0]}'}.",
    )
    return called[0]


def _class_names(table: _Table, at: int, column: _Column, classes: bool | None) -> tuple[str, ...]:
    what, n, rows = f"The target {table.names[at]!r} of {table.path}", len(column.features), len(column.values)
    require(classes is not False, f"{what} is not a number in every row, as classes=False says.")
    require(2 * n <= rows or n == 1, f"{what} has {n:,} different values in {rows:,} rows, too many for classes.")
    return tuple(column.features)


def _joined(path: Any, columns: Sequence[_Column]) -> tuple[Float32[np.ndarray, "rows features"], list[int]]:
    """The table of these columns' features, and which of them are numbers."""
    twice = _twice([feature for column in columns for feature in column.features])
    require(not twice, f"{path} has a column that is called as a value of another: {twice}.")
    rows, features = len(columns[0].values), sum(len(column.features) for column in columns)
    allowed = f"at most {files.MOST_BYTES} bytes are allowed"
    require(4 * rows * features <= files.MOST_BYTES, f"{path} becomes a table of {rows:,} × {features:,}: {allowed}")
    table, numbers, begin = np.zeros((rows, features), np.float32), [], 0
    for column in columns:
        if column.values.dtype == np.float32:
            table[:, begin] = column.values
            numbers.append(begin)
        else:
            table[np.arange(rows), begin + column.values] = 1
        begin += len(column.features)
    return table, numbers


def _as_target(table: _Table, at: int, y: Float64[np.ndarray, " rows"], classes: bool | None) -> Any:
    """The target's numbers as whole ones, which are classes, or as floating-point ones."""
    what = f"The target {table.names[at]!r} of {table.path}"
    distinct, fractional = len(np.unique(y)), bool(np.any(y != np.floor(y)))
    if classes is None:
        clear = fractional or (distinct <= MOST_WHOLE and 2 * distinct <= len(y))
        choice = f"say classes=True or classes=False; it has {distinct:,} different whole numbers in {len(y):,} rows"
        require(clear, f"{what} may be classes or numbers: {choice}.")
    if classes is False or (classes is None and fractional):
        return y
    sound = not fractional and np.abs(y).max() < 2**53
    require(bool(sound), f"{what} has numbers that are not whole, or beyond 2⁵³, so it names no classes.")
    return y.astype(np.int64)


def _number(cell: str) -> float:
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _twice(names: Sequence[str]) -> list[str]:
    """The first name that is there more than once, if any."""
    counts = collections.Counter(names)
    return [name for name in counts if counts[name] > 1][:1]
