"""`.npz` files, as `numpy.savez` writes them: read without pickle, within a bound on memory."""

import math
import os
import re
import zipfile
import zlib
from typing import Any

import numpy as np
from jaxtyping import Shaped

from fnn.base.errors import InputError, require
from fnn.data import files
from fnn.data.arrays import file_name, from_parts
from fnn.data.data_set import DataSet

EXPECTED = "an .npz file of NumPy arrays"

_PART = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}
_AXIS = {
    **dict.fromkeys(("x", "images", "image", "data", "inputs", "features"), "x"),
    **dict.fromkeys(("y", "labels", "label", "target", "targets"), "y"),
}


def from_npz(
    path: str | os.PathLike[str],
    *,
    test: float | int | None = None,
    validation: float | int = 0,
    key: Any = None,
    stratify: bool = True,
) -> DataSet:
    """The data set in an `.npz` file: its arrays x_train, y_train, x_test and y_test, or x and y, which are cut.

    The names may be those of MedMNIST and others: train_images, val_labels, X, data, target. Other arrays are not read.
    test, validation, key, stratify: see `from_arrays`; parts that are in the file need none.
    Raises `InputError` for a file that is damaged, holds objects, claims more than `files.MOST_BYTES` in all, or lacks
    arrays, and as `from_arrays` does.
    """
    path = files.named(path)
    arrays = read_npz(path)
    parts: dict[str, Any] = {}
    for part in dict.fromkeys(part for part, _ in arrays):
        pair = tuple(arrays.get((part, axis)) for axis in "xy")
        lacking = [axis for axis, array in zip("xy", pair, strict=True) if array is None]
        require(not lacking, f"{path} has no array {' '.join(lacking)}_{part} beside the other of {part}")
        parts[part] = pair
    how = {"key": key, "stratify": stratify, "name": file_name(path), "source": str(path)}
    return from_parts(parts, test=test, validation=validation, **how)


def read_npz(path: str | os.PathLike[str]) -> dict[tuple[str, str], Shaped[np.ndarray, "..."]]:
    """The arrays of an `.npz` file by part and axis, `("train", "x")`; those of other names are left out."""
    with files.opened(path, EXPECTED, unzip=False) as stream:
        head = stream.peek(files.HEAD)[: files.HEAD]  # pyright: ignore[reportAttributeAccessIssue]
        require(head[:4] in (b"PK\3\4", b"PK\5\6"), f"{path} {files.kind(head)}: expected {EXPECTED}")
        try:
            with zipfile.ZipFile(stream) as archive:
                return _members(archive, path)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"{path} is a damaged .npz file: {error}") from None


def _members(archive: zipfile.ZipFile, path: Any) -> dict[tuple[str, str], Shaped[np.ndarray, "..."]]:
    found: dict[tuple[str, str], zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if (place := _place(member.filename)) is not None:
            both = f"{path} has two arrays for {'_'.join(place[::-1])}: {member.filename} and another"
            require(place not in found, both)
            found[place] = member
    names = ", ".join(sorted(member.filename.removesuffix(".npy") for member in archive.infolist())[:8])
    require(
        ("train", "x") in found or ("train", "y") in found,
        f"{path} has the arrays {names or 'none'}: expected x_train, y_train, x_test and y_test, or x and y",
    )
    claims, arrays = 0, {}
    for place, member in found.items():
        plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not member.flag_bits & 1
        require(plain, f"{path} is compressed or encrypted as no .npz file of NumPy is")
        with archive.open(member) as stream:
            arrays[place], claim = _array(stream, f"{member.filename} in {path}", files.MOST_BYTES - claims)
        claims += claim
    return arrays


def _place(member: str) -> tuple[str, str] | None:
    """The part and axis that an array's name says, or None."""
    words = re.split(r"[_.\- ]", member.removesuffix(".npy").lower())
    parts = [_PART[word] for word in words if word in _PART]
    axes = [_AXIS[word] for word in words if word in _AXIS]
    if len(axes) != 1 or len(parts) > 1 or len(words) != len(axes) + len(parts):
        return None
    return (*parts, "train")[0], axes[0]


def _array(stream: Any, what: str, most: int) -> tuple[Shaped[np.ndarray, "..."], int]:
    """The array in a `.npy` stream, and its size in bytes, which may be `most`."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
        shape, fortran, kind = read(stream)
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
        raise InputError(f"{what} is no NumPy array: {str(error).splitlines()[0] if str(error) else error!r}") from None
    objects = kind.hasobject
    require(not objects, f"{what} holds Python objects, which only a pickle can, and a pickle is never loaded")
    require(kind.kind in "biufSU", f"{what} holds {kind}: expected numbers or text")
    sound = all(isinstance(n, int) and n >= 0 for n in shape)
    size = math.prod(max(n, 1) for n in shape) * max(kind.itemsize, 1) if sound else 0
    require(sound and len(shape) <= 64, f"{what} has the shape {shape}")
    require(size <= most, f"{what} claims the shape {shape}: at most {files.MOST_BYTES} bytes in all are allowed")
    size = math.prod(shape) * kind.itemsize
    body = files.read_up_to(stream, size + 1)
    more = "more than " if len(body) > size else ""
    held = min(len(body), size)
    require(len(body) == size, f"{what} holds {more}{held} bytes: expected {size} for shape {shape}")
    array = np.frombuffer(body, kind).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array, kind.newbyteorder("=")), size
