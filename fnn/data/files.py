"""Files of unknown content: read within a bound on memory, and named for what they are."""

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from fnn.base.errors import InputError, require

MOST_BYTES = 2**30
"""The largest array that a file may declare, a bound on memory: 20 times MNIST."""

MOST_TEXT = 2**28
"""The largest text or table in bytes, decompressed: it is read whole."""

CHUNK = 2**20

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

HEAD = 512
"""First bytes of a file that are enough to name its format."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], expected: str, unzip: bool = True) -> Iterator[io.BufferedIOBase]:
    """A stream of a file's bytes; of a gzipped file (content decides, not the name) those within.

    expected: what the file should be, for sentences, "an IDX file".
    unzip: False streams a gzipped file as it is.
    Raises `InputError` where the file cannot be opened, and where the block reads what is damaged or cut off.
    """
    require(isinstance(path, str | os.PathLike), f"{path!r} is not the path of a file: expected {expected}")
    require("\0" not in os.fsdecode(path), f"{os.fsdecode(path)!r} is not the path of a file: expected {expected}")
    try:
        # Opening a pipe would wait for a process that writes to it.
        stream = not (os.path.isfile(path) or os.path.isdir(path)) and os.path.exists(path)
        require(not stream, f"{path} is a pipe or a device: expected {expected}")
        with open(path, "rb") as file:
            zipped = unzip and file.peek(2)[:2] == b"\x1f\x8b"
            yield gzip.GzipFile(fileobj=file) if zipped else file
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: expected {expected}") from None
    except EOFError:
        raise InputError(f"{path} is a gzip file that is cut off: copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is a damaged gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def read_up_to(stream: io.BufferedIOBase, limit: int) -> bytearray:
    """The next `limit` bytes, or all that follow. Memory grows with what is read, not with `limit`."""
    body = bytearray()
    while len(body) < limit and (chunk := stream.read(min(CHUNK, limit - len(body)))):
        body += chunk
    return body


def content(path: str | os.PathLike[str], expected: str, most: int, unzip: bool = True) -> bytes:
    """The bytes of a file, at most `most`. Raises `InputError` as `opened` does, and where there are more or none."""
    with opened(path, expected, unzip) as stream:
        body = read_up_to(stream, most + 1)
    require(len(body) > 0, f"{path} is empty: expected {expected}")
    require(len(body) <= most, f"{path} holds more than {most} bytes (decompressed), the most that are allowed")
    return bytes(body)


def text(path: str | os.PathLike[str], expected: str, pages: bool = False) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises `InputError` where the file is something else.

    pages: whether an HTML page or XML document counts as text; elsewhere it is what a server answers an error with.
    """
    body = content(path, expected, MOST_TEXT)
    named = kind(body[:HEAD])
    page = pages and named.startswith(("is an HTML", "is an XML"))
    require(page or not named.startswith(("is a ", "is an ")), f"{path} {named}: expected {expected}")
    try:
        decoded = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise InputError(f"{path} is not UTF-8 in line {line}: expected {expected}") from None
    require("\0" not in decoded, f"{path} {named} and has zero bytes: expected {expected}")
    return decoded


def kind(head: bytes) -> str:
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


def listed(folder: Path) -> str:
    """What lies in a folder, for sentences: "there are a, b"."""
    entries = sorted(os.listdir(folder))
    return f"there are {', '.join(entries[:5])}{', …' * (len(entries) > 5)}" if entries else "it is empty"


def named(path: str | os.PathLike[str]) -> Path:
    """The path that a person wrote, "~" and all. Raises `InputError` where it is none."""
    sound = isinstance(path, str | os.PathLike) and str(path) != "" and "\0" not in os.fsdecode(path)
    require(sound, f"{path!r} is not the path of a file or folder")
    return Path(os.path.expanduser(path))
