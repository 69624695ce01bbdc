"""IDX files, the format of MNIST and similar data sets, in all number types."""

import hashlib
import io
import math
import os

import numpy as np
from jaxtyping import Shaped

from fnn.base.errors import require
from fnn.data import files

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
"""The type byte of an IDX file and the NumPy type of its elements, which are big-endian."""


def read_idx(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "..."]:
    """The array in an IDX file, gzipped or plain (content decides, not the name), in the machine's byte order.

    IDX is two zero bytes, the type (see `TYPES`), the rank r, r dimensions as big-endian uint32, and the elements in
    C order. Raises `InputError` where the file cannot be read or is not exactly that.
    """
    with files.opened(path, "an IDX file") as stream:
        return _parsed(stream, path)


def sha256(array: Shaped[np.ndarray, "..."]) -> str:
    """The SHA-256 (hex) of the IDX file of `array`, which is unique."""
    [code] = [code for code, kind in TYPES.items() if array.dtype == kind]
    digest = hashlib.sha256(bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes())
    digest.update(array.astype(array.dtype.newbyteorder(">"), copy=False).data)
    return digest.hexdigest()


def _parsed(stream: io.BufferedIOBase, path: str | os.PathLike[str]) -> Shaped[np.ndarray, "..."]:
    head = stream.read(files.HEAD)
    require(len(head) > 0, f"{path} is empty: expected an IDX file")
    require(b"\0\0".startswith(head[:2]), f"{path} {files.kind(head)}: expected an IDX file, which starts with 00 00")
    code = head[2] if len(head) > 2 else 0x08
    known = ", ".join(f"{known:02x}" for known in TYPES)
    zeros = (
        "holds zeros only"
        if not any(head) and len(head) == files.HEAD
        else f"has the type {code:02x} in its IDX header"
    )
    require(code in TYPES, f"{path} {zeros}: types are {known}")
    rank = head[3] if len(head) > 3 else 1
    require(1 <= rank <= 64, f"{path} has rank {rank} in its IDX header: it must be 1 to 64")  # as in NumPy
    start = 4 + 4 * rank
    require(len(head) >= start, f"{path} ends inside its IDX header, after {len(head)} of {start} bytes")
    kind = np.dtype(f">{TYPES[code]}")
    shape = tuple(int(n) for n in np.frombuffer(head[4:start], ">u4"))
    # A zero counts as one: it would hide dimensions beside it that NumPy cannot hold.
    claim = math.prod(max(n, 1) for n in shape) * kind.itemsize
    require(claim <= files.MOST_BYTES, f"{path} claims the shape {shape}: at most {files.MOST_BYTES} bytes are allowed")
    size = math.prod(shape) * kind.itemsize
    # Reading past the declared end finds surplus bytes, and makes gzip verify its checksum.
    body = head[start:] + files.read_up_to(stream, max(size + files.CHUNK - len(head[start:]), 0))
    more = "or more " if len(body) >= size + files.CHUNK else ""
    found = f"{start + len(body)} {more}bytes (decompressed)"
    require(len(body) == size, f"{path} holds {found}: expected {start + size} for shape {shape}")
    return np.frombuffer(body, kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)
