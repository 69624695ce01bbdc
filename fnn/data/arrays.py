"""Arrays of one's own as a data set: checked, classes named, cut into parts by lot."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Shaped

from fnn.base.errors import InputError, listed, real, require, whole
from fnn.data.data_set import PARTS, DataSet, Pair, data_set

SHARE = 0.2
"""The share of examples to test on, where nothing says which they are."""

MOST_CLASSES = 2**16


def from_arrays(
    x: Any,
    y: Any,
    *,
    test: float | int | tuple[Any, Any] = SHARE,
    validation: float | int | tuple[Any, Any] = 0,
    key: Any = None,
    stratify: bool = True,
    classes: Sequence[str] = (),
    features: Sequence[str] = (),
    name: str = "arrays",
    source: str = "arrays",
) -> DataSet:
    """A data set of copies of these arrays.

    x: the examples `[n, …]`: bytes stay bytes, other whole numbers become int32, floating-point ones float32.
    y: a target for each `[n, …]`. Whole numbers, truth values and text are classes: their values in order become 0, 1,
        …, and name them. Floating-point numbers are targets of a regression.
    test: the share of the examples to test on, or how many, or another pair (x, y).
    validation: the same for those to validate on; 0 for none.
    key: what the parts are drawn by, `jax.random.key(0)` where it is None.
    stratify: every part holds the classes in proportion; False, and targets that are numbers, leave that to chance.
    classes: names of the classes 0, 1, … of a `y` that is these numbers.
    features: names of the columns of `x` `[n, features]`.
    name, source: what results say of the data.
    Raises `InputError` for arrays that are no numbers, are not finite, or do not belong together, for a single class
    and for one that "train" lacks, and where there are fewer examples than are to be drawn.
    """
    for what, names in (("classes", classes), ("features", features)):
        texts = listed(names) and all(isinstance(one, str) for one in names)
        require(texts, f"The names of {what} are a list of texts, not {names!r:.50}.")
    given = {"train": (x, y)}
    counts: dict[str, Any] = {}
    for part, wanted in (("test", test), ("validation", validation)):
        if isinstance(wanted, tuple):
            require(len(wanted) == 2, f"The {part} part of {name} is a pair (x, y), not {len(wanted)} arrays.")
            given[part] = wanted
        else:
            counts[part] = wanted
    parts = {part: _pair(f"{name} ({part})", *pair) for part, pair in given.items()}
    _check_alike(name, parts)
    targets, names = _targets(name, {part: y for part, (_, y) in parts.items()}, tuple(classes))
    parts = {part: (x, targets[part]) for part, (x, _) in parts.items()}
    parts = _cut(name, parts, _wanted(name, counts, len(parts["train"][0])), key, stratify and bool(names))
    if names:
        learnt = np.unique(parts["train"][1])
        for part in parts.keys() - {"train"}:
            unknown = [names[c] for c in np.setdiff1d(parts[part][1], learnt)]
            require(not unknown, f"The class {unknown[:1]} of {name} ({part}) has no example to train on.")
    columns = parts["train"][0].shape[1:]
    require(
        not features or (len(columns) == 1 and len(features) == columns[0]),
        f"There are {len(features)} names of features, and the examples of {name} have the shape {columns}.",
    )
    return data_set(name, parts, source, names, tuple(features))


def from_parts(
    parts: Mapping[str, tuple[Any, Any]], *, test: float | int | None = None, validation: float | int = 0, **more: Any
) -> DataSet:
    """The data set of a file that has parts already, or has "train" only, which is then cut.

    parts: `(x, y)` by name. test, validation: shares or counts of those that it lacks. more: as in `from_arrays`.
    """
    name = more["name"]
    require(test is None or "test" not in parts, f"{name} has a part to test on: test={test!r} would be another.")
    both = "validation" in parts and validation != 0
    require(not both, f"{name} has a part to validate on: validation={validation!r} would be another.")
    return from_arrays(
        *parts["train"],
        test=parts.get("test", SHARE if test is None else test),
        validation=parts.get("validation", validation),
        **more,
    )


def standardized(data: DataSet, columns: Sequence[int | str] | None = None) -> DataSet:
    """The data set with columns of its table scaled to mean 0 and standard deviation 1 of the training examples.

    columns: their names or places; None for all. A column that is constant becomes 0.
    """
    require(isinstance(data, DataSet), f"What is standardized is a data set, not {data!r:.50}.")
    shape = data.x_train.shape
    table = len(shape) == 2 and data.x_train.dtype != np.int32
    require(table, f"Only a table's columns are standardized; {data.name} has examples of shape {shape[1:]}.")
    wanted: Sequence[Any] = range(shape[1]) if columns is None else columns
    require(listed(wanted), f"Columns are a list of names or places, not {columns!r:.50}.")
    wrong = [c for c in wanted if c not in data.features and not whole(c, 0, shape[1] - 1)]
    require(not wrong, f"{data.name} has no column {wrong[:1]} among its {shape[1]}.")
    chosen = [data.features.index(c) if c in data.features else int(c) for c in wanted]
    train = data.x_train[:, chosen]
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    parts = {}
    for part, (x, y) in data.parts.items():
        scaled = x.astype(np.float32)
        scaled[:, chosen] = (x[:, chosen] - mean) / np.where(deviation > 0, deviation, 1)
        parts[part] = scaled, y
    named = data.features or tuple(map(str, range(shape[1])))
    scales = {named[c]: (float(m), float(s)) for c, m, s in zip(chosen, mean, deviation, strict=True)}
    return data_set(data.name, parts, data.source, data.classes, data.features, scales)


def file_name(path: str | os.PathLike[str]) -> str:
    """The name of the data set in a file or folder."""
    return os.path.basename(os.path.abspath(path))


def _pair(what: str, x: Any, y: Any) -> Pair:
    examples, targets = _examples(what, x), _plain(f"The targets of {what}", y)
    require(targets.ndim >= 1, f"The targets of {what} are an array with an axis of examples, not {y!r:.50}.")
    n, m = len(examples), len(targets)
    require(n == m, f"There are {n:,} examples of {what} and {m:,} targets.")
    return examples, targets


def _plain(what: str, values: Any) -> Shaped[np.ndarray, "..."]:
    """The values as an array of numbers or text."""
    masked = isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values)
    require(not masked, f"{what} have masked entries: fill them first, or leave them out.")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{what} are no array: {error}.") from None
    if array.dtype.kind in "OTU" and array.size and all(isinstance(value, str) for value in array.flat):
        return array.astype(str)
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    require(array.dtype.kind in "biufSU", f"{what} are numbers or text, not {array.dtype}.")
    return array


def _examples(what: str, x: Any) -> Shaped[np.ndarray, "..."]:
    """The examples as a new array of uint8, int32 or float32."""
    what = f"The examples of {what}"
    array = _plain(what, x)
    require(array.dtype.kind in "biuf", f"{what} are numbers, not text.")
    require(array.ndim >= 1 and array.size > 0, f"{what} are at least one, not an array of shape {array.shape}.")
    if array.dtype == np.uint8:
        return np.array(array)
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        fits = low >= -(2**31) and high < 2**31
        require(fits, f"{what} are whole numbers from {low} to {high}, and int32 holds none beyond ±2³¹.")
        return array.astype(np.int32)
    return _float32(what, array)


def _float32(what: str, array: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not (finite := np.isfinite(numbers)).all():
        at = tuple(int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))
        raise InputError(f"{what} are finite numbers of float32; at {list(at)} is {array[at]}.")
    return numbers


def _check_alike(name: str, parts: Mapping[str, Pair]) -> None:
    """Raise `InputError` where examples or targets differ between parts in shape or kind."""
    for axis, of in enumerate(("examples", "targets")):
        train = parts["train"][axis]
        for part in parts.keys() - {"train"}:
            other = parts[part][axis]
            same = other.shape[1:] == train.shape[1:]
            shapes = f"{other.shape[1:]}, those to train on {train.shape[1:]}"
            require(same, f"The {of} of {name} ({part}) have the shape {shapes}.")
            alike = _kind(other) == _kind(train) and (axis == 1 or other.dtype == train.dtype)
            require(alike, f"The {of} of {name} ({part}) are {other.dtype}, those to train on {train.dtype}.")


def _kind(array):
    return {"f": "numbers", "S": "text", "U": "text"}.get(array.dtype.kind, "whole numbers")


def _targets(
    name: str, targets: Mapping[str, Shaped[np.ndarray, "..."]], classes: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The targets by part, as float32, or as classes in int32 and their names."""
    if targets["train"].dtype.kind == "f":
        require(not classes, f"The targets of {name} are floating-point numbers: they have no classes to be named.")
        return {part: _float32(f"The targets of {name} ({part})", y) for part, y in targets.items()}, ()
    if targets["train"].ndim == 2 and targets["train"].shape[1] == 1:
        targets = {part: y[:, 0] for part, y in targets.items()}
    if classes:
        require(
            len(classes) > 1, f"All targets of {name} are {classes[0]!r}: a classification has at least two classes."
        )
        return {part: _numbered(name, y, len(classes)) for part, y in targets.items()}, classes
    values = np.unique(np.concatenate([np.unique(y) for y in targets.values()]))
    several = len(values) > 1
    named = tuple(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in values)
    require(several, f"All targets of {name} are {named[0]!r}: a classification has at least two classes.")
    n = sum(y.size for y in targets.values())
    require(
        2 * len(values) <= n and len(values) <= MOST_CLASSES,
        f"The {n:,} targets of {name} have {len(values):,} different values, too many for classes: targets that are "
        "numbers are floating-point ones.",
    )
    numbered = {part: np.searchsorted(values, y).astype(np.int32) for part, y in targets.items()}
    return numbered, named


def _numbered(name: str, y: Shaped[np.ndarray, "..."], n: int) -> Int32[np.ndarray, "..."]:
    require(y.dtype.kind in "iu", f"The targets of {name} are numbers of its {n} named classes, not {y.dtype}.")
    low, high = int(y.min()), int(y.max())
    wrong = low if low < 0 else high
    require(
        low >= 0 and high < n, f"The targets of {name} are classes 0 to {n - 1}, as {n} have names; one is {wrong}."
    )
    return y.astype(np.int32)


def _wanted(name: str, counts: Mapping[str, Any], n: int) -> dict[str, int]:
    """How many examples each part takes of n, by name."""
    wanted = {}
    for part, given in counts.items():
        if part == "validation" and real(given) and given == 0:
            continue
        share = not whole(given) and real(given) and 0 < given < 1
        require(
            share or whole(given, 1),
            f"The {part} part of {name} is a share between 0 and 1, a number of examples or a pair (x, y), "
            f"not {given!r:.50}.",
        )
        wanted[part] = max(round(given * n), 1) if share else int(given)
    left = n - sum(wanted.values())
    parts = " and ".join(f"{count:,} to {part.replace('validation', 'validate')} on" for part, count in wanted.items())
    require(left >= 1, f"{name} has {n:,} examples: {parts} would leave none to train on.")
    return wanted


def _cut(name: str, parts: dict[str, Pair], wanted: Mapping[str, int], key: Any, stratify: bool) -> dict[str, Pair]:
    """The parts, with those that are wanted cut from "train", whose examples are then in random order."""
    if not wanted:
        return parts
    import jax

    from fnn.base.checks import check_key
    from fnn.data.splitting import stratified

    key = jax.random.key(0, impl="threefry2x32") if key is None else key
    check_key(key)
    x, y = parts["train"]
    strata = y if stratify and y.ndim == 1 else np.zeros(len(y), np.int32)
    order = np.asarray(jax.jit(stratified)(key, strata))
    begin = 0
    for part in (part for part in PARTS if part in wanted):
        places = order[begin : begin + wanted[part]]
        parts[part] = x[places], y[places]
        begin += len(places)
    parts["train"] = x[order[begin:]], y[order[begin:]]
    return parts
