"""IDX files, the format of MNIST and similar data sets, in all number types; other formats are recognized by name."""

import gzip
import hashlib
import io
import math
import os
import zlib

import numpy as np
from jaxtyping import Shaped

from fnn.base.errors import InputError, require

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
"""The type byte of an IDX file and the NumPy type of its elements, which are big-endian."""

MOST_BYTES = 2**30
"""The largest array that an IDX header may declare, a bound on memory: 20 times MNIST."""

_CHUNK = 2**20

_HEAD = 512
"""Bytes that are read before the shape is known: more than the longest header, of 64 dimensions."""

_KINDS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, which `git lfs pull` replaces by the file itself"),
    (0, b"/annex/objects/", "a git-annex pointer, which `git annex get` replaces by the file itself"),
    (0, b"<?xml", "an XML document, as servers answer with where they refuse"),
    (0, b"PK\x03\x04", "a zip archive, to be unpacked first"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x1f\x8b", "a gzip file inside a gzip file"),
    (0, b"BZh", "a bzip2 file, to be unpacked first"),
    (0, b"\xfd7zXZ\x00", "an xz file, to be unpacked first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file, to be unpacked first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive, to be unpacked first"),
    (0, b"Rar!", "a RAR archive, to be unpacked first"),
    (257, b"ustar", "a tar archive, to be unpacked first"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x80\x02", "a pickle, which is never loaded"),
    (0, b"\x80\x03", "a pickle, which is never loaded"),
    (0, b"\x80\x04", "a pickle, which is never loaded"),
    (0, b"\x80\x05", "a pickle, which is never loaded"),
)
"""Other formats: (offset, the bytes there, what such a file is)."""


def read_idx(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "..."]:
    """The array in an IDX file, gzipped or plain (content decides, not the name), in the machine's byte order.

    IDX is two zero bytes, the type (see `TYPES`), the rank r, r dimensions as big-endian uint32, and the elements in
    C order. Raises `InputError` where the file cannot be read or is not exactly that.
    """
    require(isinstance(path, str | os.PathLike), f"{path!r} is not the path of a file: expected an IDX file")
    require("\0" not in os.fsdecode(path), f"{os.fsdecode(path)!r} is not the path of a file: expected an IDX file")
    try:
        # Opening a pipe would wait for a process that writes to it.
        stream = not (os.path.isfile(path) or os.path.isdir(path)) and os.path.exists(path)
        require(not stream, f"{path} is a pipe or a device: expected an IDX file")
        with open(path, "rb") as file:
            zipped = file.peek(2)[:2] == b"\x1f\x8b"
            return _parsed(gzip.GzipFile(fileobj=file) if zipped else file, path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: expected an IDX file") from None
    except EOFError:
        raise InputError(f"{path} is a gzip file that is cut off: copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is a damaged gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def sha256(array: Shaped[np.ndarray, "..."]) -> str:
    """The SHA-256 (hex) of the IDX file of `array`, which is unique."""
    [code] = [code for code, kind in TYPES.items() if array.dtype == kind]
    digest = hashlib.sha256(bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes())
    digest.update(array.astype(array.dtype.newbyteorder(">"), copy=False).data)
    return digest.hexdigest()


def _parsed(stream: io.BufferedIOBase, path: str | os.PathLike[str]) -> Shaped[np.ndarray, "..."]:
    head = stream.read(_HEAD)
    require(len(head) > 0, f"{path} is empty: expected an IDX file")
    require(b"\0\0".startswith(head[:2]), f"{path} {_kind(head)}: expected an IDX file, which starts with 00 00")
    code = head[2] if len(head) > 2 else 0x08
    known = ", ".join(f"{known:02x}" for known in TYPES)
    zeros = "holds zeros only" if not any(head) and len(head) == _HEAD else f"has the type {code:02x} in its IDX header"
    require(code in TYPES, f"{path} {zeros}: types are {known}")
    rank = head[3] if len(head) > 3 else 1
    require(1 <= rank <= 64, f"{path} has rank {rank} in its IDX header: it must be 1 to 64")  # as in NumPy
    start = 4 + 4 * rank
    require(len(head) >= start, f"{path} ends inside its IDX header, after {len(head)} of {start} bytes")
    kind = np.dtype(f">{TYPES[code]}")
    shape = tuple(int(n) for n in np.frombuffer(head[4:start], ">u4"))
    # A zero counts as one: it would hide dimensions beside it that NumPy cannot hold.
    claim = math.prod(max(n, 1) for n in shape) * kind.itemsize
    require(claim <= MOST_BYTES, f"{path} claims the shape {shape}: at most {MOST_BYTES} bytes are allowed")
    size = math.prod(shape) * kind.itemsize
    # Reading past the declared end finds surplus bytes, and makes gzip verify its checksum.
    body = head[start:] + _read_up_to(stream, max(size + _CHUNK - len(head[start:]), 0))
    more = "or more " if len(body) >= size + _CHUNK else ""
    found = f"{start + len(body)} {more}bytes (decompressed)"
    require(len(body) == size, f"{path} holds {found}: expected {start + size} for shape {shape}")
    return np.frombuffer(body, kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def _read_up_to(stream: io.BufferedIOBase, limit: int) -> bytearray:
    """The next `limit` bytes, or all that follow. Memory grows with what is read, not with `limit`."""
    body = bytearray()
    while len(body) < limit and (chunk := stream.read(min(_CHUNK, limit - len(body)))):
        body += chunk
    return body


def _kind(head: bytes) -> str:
    """What a file with these first bytes is, as a predicate: "is an HTML page"."""
    for place, mark, name in _KINDS:
        if head.startswith(mark, place):
            return f"is {name}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.lower().startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<!--")):
        return "is an HTML page"
    line = text.splitlines()[0][:40] if text else b""
    if len(line) >= 8 and line.isascii() and line.decode("ascii").isprintable():
        return f"is text ({line.decode('ascii')!r}…)"
    return f"starts with the bytes {head[:4].hex(' ')}"
