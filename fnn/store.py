"""A store: a folder with a manifest of the work it holds, so that work resumes where it was cut off, or is refused.

FOLDER/manifest.json     what work this is: a folder never holds parts of two works
FOLDER/000017.npz        the arrays of block 17
FOLDER/000017.npz.damaged  a damaged block, set aside under this name and computed again
FOLDER/.lock, .owner     held while a process is at work here, and the name of that process

Files are whole or absent: each is written beside its place, flushed to the disk, and renamed. Every file carries a
SHA-256 of its content, which is compared before anything parses the file:

- a block is a NumPy archive whose comment says what it is (its work, kind, number and first step) and ends with the
  SHA-256 of everything before it, so a block of another number or another store is not mistaken for this one;
- a manifest is a JSON object whose first member is the SHA-256 of everything after it;
- results, in formats that other programs read, are listed in `SHA256SUMS` beside them, as `sha256sum -c` reads it.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from filelock import FileLock, Timeout

from fnn.base.arithmetic import arithmetic
from fnn.base.errors import InputError, require, whole
from fnn.base.typed_json import fit

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
TEMPORARY = ".tmp-"
"""The prefix of files that are being written, and of folders that are being removed."""
DAMAGED = ".damaged"
"""The suffix of files that were set aside."""

PATIENCE = 1.0
"""The timeout of a lock in seconds: longer than `at_work` holds it."""
ABANDONED = 24 * 3600.0
"""The age in seconds at which a temporary file is removed where the system has no locks that show its use."""

LARGEST_JSON = 50_000_000
"""The most bytes of a JSON file that is read."""

WRITING = "/fnn/writing"
"""The event of `jax.monitoring` that records the seconds it took to make a file."""

log = logging.getLogger(__name__)
"""Warns that a file was set aside, or that work starts again: on standard error, unless logging is configured."""


class Damaged(InputError):
    """A file is not what was written there: its checksum, its place or its work differs."""


# --- whole files -----------------------------------------------------------------------------------------------------


class Disk:
    """The operations on files. Tests replace `disk` by one that fails."""

    def read(self, path: Path) -> bytes:
        """The content of a file."""
        return path.read_bytes()

    def create(self, path: Path) -> tuple[Path, int | None]:
        """A new temporary file beside `path`, and the handle that marks it as in use as long as it is open."""
        while True:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.stem}-", suffix=path.suffix)
            if fcntl is None:
                os.close(handle)
                return Path(name), None
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink:
                return Path(name), handle
            os.close(handle)  # `clean` removed it before it was locked

    def write(self, file: io.FileIO, content: memoryview) -> int:
        """The number of bytes written, which may be fewer than all: the disk decides."""
        return file.write(content)

    def sync(self, path: Path) -> None:
        """Wait until a file, or a folder's list of files, is on the disk."""
        if path.is_dir() and os.name == "nt":
            return
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def replace(self, old: Path, new: Path) -> None:
        """Rename in one step, replacing a file of the new name."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)


disk = Disk()


class File(io.RawIOBase):
    """A new file whose writes never fail, for HDF5, which may crash where a write fails or is interrupted.

    From the first error on the content is in memory, and closing the file raises that error.
    """

    def __init__(self, path: Path):
        self.file: Any = path.open("w+b", buffering=0)
        self.error: BaseException | None = None

    def write(self, content: Any) -> int:
        """Write everything; returns the number of bytes."""
        left = memoryview(content).cast("B")
        size = len(left)
        while left:
            try:
                left = left[(disk.write if self.error is None else io.BytesIO.write)(self.file, left) :]
            except BaseException as error:
                self.error, at = error, self.file.tell()
                self.file.seek(0)
                with self.file as file:
                    self.file = io.BytesIO(file.read())
                self.file.seek(at)
        return size

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; returns the number of bytes."""
        return self.file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position; returns it."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self.file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file; returns its size."""
        try:
            return self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Close the file. Raises the first error of its writes."""
        if not self.closed:
            self.file.close()
            super().close()
            if self.error is not None:
                raise self.error


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that Ctrl-C does not interrupt: the signal is handled when the block has ended."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    received = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if received:
            usual(signal.SIGINT, None)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, renamed to `path` at the end of the block, or removed where the block raises.

    Raises `InputError` where the folder or the disk refuses; an earlier file at `path` is then unchanged.
    """
    with _temporary(path) as temporary:
        yield temporary
        _put(temporary, path)
        disk.sync(path.parent)


def write(path: Path, content: bytes) -> Path:
    """Write a whole file; returns its path. Raises `InputError` as `atomic` does."""
    with atomic(path) as temporary:
        _fill(temporary, content)
    return path


@contextlib.contextmanager
def _temporary(path):
    start = time.perf_counter()
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = disk.create(path)
        try:
            yield temporary
            jax.monitoring.record_event_duration_secs(WRITING, time.perf_counter() - start)
        finally:
            try:
                disk.remove(temporary)
            finally:
                if handle is not None:
                    os.close(handle)


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error


def _read(path):
    try:
        # Opening a pipe would wait for a process that writes to it.
        stream = not (path.is_file() or path.is_dir()) and path.exists()
        require(not stream, f"{path} cannot be read: it is a pipe or a device.")
        return disk.read(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _remove(path):
    try:
        disk.remove(path)
    except OSError as error:
        raise InputError(f"{path} cannot be removed: {error.strerror}.") from error


def _unreadable(path, error):
    return InputError(f"{path} cannot be read: {error.strerror or error}.")


def _fill(temporary, content):
    with File(temporary) as file:
        file.write(content)


def _put(temporary, path):
    temporary.chmod(0o666 & ~_umask())
    disk.sync(temporary)
    disk.replace(temporary, path)


def _umask() -> int:
    # The only portable way to read it is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def clean(folder: Path) -> None:
    """Remove the temporary files and half-removed folders that killed processes left in a folder."""
    for path in list(folder.rglob(f"{TEMPORARY}*")):
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif _abandoned(path):
                disk.remove(path)


def _abandoned(path):
    """Whether the process that was writing a temporary file is gone."""
    if fcntl is None:
        return time.time() - path.stat().st_mtime > ABANDONED
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def clear(folder: Path) -> None:
    """Remove a folder of work that is finished, unless a process is at work in it.

    It is renamed first: an interrupt or a kill leaves all of it, or a rest that `clean` removes.
    """
    with contextlib.ExitStack() as stack:
        try:
            for path in folder.rglob(".lock*"):
                stack.enter_context(locked(path.parent, path.name.removeprefix(".lock")))
            rest = folder.with_name(f"{TEMPORARY}{folder.name}-{secrets.token_hex(4)}")
            disk.replace(folder, rest)
        except (OSError, InputError):
            return  # the content is valid, and the next start finds it finished
        shutil.rmtree(rest, ignore_errors=True)


# --- locks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path, name: str = "") -> Iterator[None]:
    """A block in which this process holds the folder's lock of this name, which ends with the process, however it ends.

    Raises `InputError` where another process holds it, and where the folder cannot be written.
    """
    folder = folder.absolute()
    owner = folder / f".owner{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _lock(folder, name).acquire(timeout=PATIENCE)
    except Timeout as error:
        raise InputError(
            f"Another process is at work in {folder}{_named(owner)}: wait for it, or take another folder."
        ) from error
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    with held:
        try:
            with contextlib.suppress(OSError):  # it is only for the message above
                owner.write_text(f"{os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            clean(folder)
            yield
        finally:
            with contextlib.suppress(OSError):
                disk.remove(owner)


def at_work(folder: Path, name: str = "") -> bool:
    """Whether a process holds the folder under this name, this one or another."""
    try:
        _lock(folder.absolute(), name).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    return False


def _lock(folder, name):
    return FileLock(folder / f".lock{name}")


def _named(owner):
    try:
        known = re.fullmatch(r"\d+ on \S+", owner.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return f" (process {known[0]})" if known else ""


# --- checksums of results, beside them -------------------------------------------------------------------------------


def publish(folder: Path, files: Mapping[str, bytes | Callable[[Path], None]]) -> list[Path]:
    """Write files for other programs, each given as its content or as a function that writes it; returns their paths.

    Their checksums are written to `SHA256SUMS` before the files are renamed; those of the files that they replace are
    removed afterwards, so at any moment every whole file has its checksum there. Raises
    `InputError` as `atomic` does, and where another process is writing here.
    """
    folder = as_folder(folder)
    with locked(folder, "-results"), contextlib.ExitStack() as stack:
        made = {}
        for name, content in files.items():
            made[name] = stack.enter_context(_temporary(folder / name))
            with _writing(folder / name):
                content(made[name]) if callable(content) else _fill(made[name], content)
        try:
            before = {name: sums for name, sums in _sums(folder).items() if (folder / name).exists()}
        except Damaged:
            before = {}
        new = {name: (_sum_of(path),) for name, path in made.items()}
        _save_sums(folder, {name: before.get(name, ()) + new.get(name, ()) for name in {**before, **new}})
        for name, temporary in made.items():
            with _writing(folder / name):
                _put(temporary, folder / name)
        with _writing(folder):
            disk.sync(folder)
        _save_sums(folder, before | new)
    return [folder / name for name in files]


def verify(path: Path) -> None:
    """Raise `Damaged` unless the file is as `publish` wrote it."""
    _compare(path, _sum_of(path))


def listed(folder: Path) -> frozenset[str]:
    """The names of the files that `publish` wrote here. Raises `Damaged` where `SHA256SUMS` cannot be read."""
    return frozenset(_sums(folder))


def published(path: Path) -> bytes:
    """The content of a file that `publish` wrote. Raises `Damaged` where it differs."""
    content = _read(path)
    _compare(path, hashlib.sha256(content).hexdigest())
    return content


def _compare(path, found):
    accepted = _sums(path.parent).get(path.name, ())
    if not accepted:
        raise Damaged(
            f"{path} cannot be read: it has no checksum, since an earlier version wrote it or {SUMS} is lost. Make it "
            f"again, or, if it is certainly whole, run `sha256sum {path.name} >> {SUMS}` in its folder."
        )
    if found not in accepted:
        raise Damaged(f"{path} cannot be read: it is damaged, its SHA-256 is not that in {SUMS}. Make it again.")


def _sum_of(path):
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _sums(folder):
    """`{name: checksums}` of the files in a folder: one each, or two while the file is being replaced."""
    if not (folder / SUMS).exists():
        return {}
    try:
        lines = _read(folder / SUMS).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise Damaged(f"{folder / SUMS} is damaged, so {folder} cannot be read: make it again.") from error
    found = {}
    for line in lines:
        if match := re.fullmatch(r"(?:# )?([0-9a-f]{64}) [ *](.+)", line):
            found[match[2]] = (*found.get(match[2], ()), match[1])
    return found


def _save_sums(folder, sums):
    lines = (
        f"{'# ' if i else ''}{one}  {name}\n"
        for name in sorted(sums)
        for i, one in enumerate(dict.fromkeys(sums[name]))
    )
    write(folder / SUMS, "".join(lines).encode())


# --- JSON ------------------------------------------------------------------------------------------------------------


def json_bytes(content: Any) -> bytes:
    """Indented JSON in UTF-8; objects of other types as their `str`, unpaired surrogates as JSON's escapes."""
    text = json.dumps(content, indent=2, default=str, ensure_ascii=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def parse(raw: bytes, hint: Any, path: Path) -> Any:
    """The value of JSON text, as `fit` returns it for the type hint. Raises `Damaged`, naming `path`."""
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} cannot be read: it is not JSON.") from error
    try:
        return fit(content, hint)
    except ValueError as error:
        raise Damaged(f"{path} cannot be read: {error}.") from error


def save_json(path: Path, content: Any) -> Path:
    """Write JSON, with its checksum in `SHA256SUMS`; returns the path."""
    path = as_folder(path)
    return publish(path.parent, {path.name: json_bytes(content)})[0]


def read_json(path: Path, hint: Any) -> Any:
    """The value of a JSON file that `publish` wrote, see `parse`. Raises `Damaged` as `published` and `parse` do."""
    with contextlib.suppress(OSError):
        require(path.stat().st_size <= LARGEST_JSON, f"{path} cannot be read: it is larger than any file of ours.")
    return parse(published(path), hint, path)


_BEFORE, _AFTER = b'{"sha256": "', b'",'


def save_sealed(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON object whose first member is the SHA-256 of everything after it; returns the path."""
    rest = json_bytes(content)[1:]
    return write(path, _BEFORE + hashlib.sha256(rest).hexdigest().encode() + _AFTER + rest)


def read_sealed(path: Path, hint: Any = dict) -> dict[str, Any]:
    """The object that `save_sealed` wrote, see `parse`; empty where there is no file. Raises `Damaged` as `parse`."""
    if not path.exists():
        return {}
    raw, end = _read(path), len(_BEFORE) + 64 + len(_AFTER)
    rest = raw[end:]
    if raw[:end] != _BEFORE + hashlib.sha256(rest).hexdigest().encode() + _AFTER:
        raise Damaged(f"{path} cannot be read: it is damaged, or an earlier version wrote it.")
    return parse(b"{" + rest, hint, path)


# --- arrays ----------------------------------------------------------------------------------------------------------


def pack(label: Mapping[str, Any], arrays: Mapping[str, Any]) -> bytes:
    """The bytes of a NumPy archive (.npz), whose comment is the label and the SHA-256 of everything before it.

    label: what JSON can hold. arrays: NumPy's, or what `np.asarray` takes, by name.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        archive.comment = json.dumps(label).encode() + b" " + b"0" * 64
    before = buffer.getbuffer()[:-64]
    return bytes(before) + hashlib.sha256(before).hexdigest().encode()


def unpack(raw: bytes, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The label and the arrays of an archive of `pack`. Raises `Damaged`, naming `path`, where the bytes differ."""
    if hashlib.sha256(raw[:-64]).hexdigest().encode() != raw[-64:]:
        raise Damaged(f"{path} is damaged: its SHA-256 differs.")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            label = parse(archive.comment[:-65], dict, path)
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return label, dict(arrays)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path} is damaged: it is not an archive of arrays.") from error


def checksum(tree: Any) -> str:
    """The SHA-256 (hex) of a tree of arrays: of their paths, types, shapes and values."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _is_key(leaf):
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


# --- the store -------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A block on disk: the number of its first step (or trial), and its arrays."""

    first: int
    arrays: dict[str, np.ndarray]


def as_folder(path: Any) -> Path:
    """`Path(path)`. Raises `InputError` where this is not a path or the text of one."""
    sound = isinstance(path, Path) or (isinstance(path, str) and path != "" and "\0" not in path)
    require(sound, f"A folder is named by its path, not by {path!r}.")
    return Path(path)


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the work in the folder; empty where there is none yet. Raises `Damaged` as `read_sealed`."""
    return read_sealed(folder / MANIFEST)


class Store:
    """The numbered blocks of one piece of work in a folder. To write, hold the folder's lock, see `locked`.

    manifest: everything that must be the same for two runs to be parts of one, besides `arithmetic()`, which is added.
    work: the SHA-256 of the whole manifest, which every block carries.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]):
        self.folder = as_folder(folder).absolute()
        named = isinstance(manifest, Mapping) and all(isinstance(name, str) for name in manifest)
        require(named, f"A manifest is a mapping of names, {{'steps': 100}}, not {manifest!r}.")
        self.manifest = json.loads(json_bytes({**arithmetic(), **manifest}))
        self.work = hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    def claim(self) -> None:
        """Write the manifest, if there is none. Raises `InputError` where the folder holds other work.

        Where the manifest is lost or damaged, the work is compared with that of the blocks.
        """
        path, damage = self.folder / MANIFEST, None
        try:
            stored = manifest(self.folder)
        except Damaged as error:
            stored, damage = {}, error
        if not stored:
            blocks = self.numbers()
            require(
                not blocks or any(self._is_ours(number) for number in blocks),
                f"{self.folder} holds blocks of other work or an earlier version, and no readable {MANIFEST}: take "
                "another folder.",
            )
            if damage:
                self._set_aside(path, damage)
            save_sealed(path, self.manifest)
            return
        differ = [name for name in {**stored, **self.manifest} if stored.get(name) != self.manifest.get(name)]
        require(
            not differ,
            f"{self.folder} holds part of another run, whose {', '.join(differ)} differ{'s' * (len(differ) == 1)}: "
            "take another folder, or move this one away.",
        )

    def forget(self) -> None:
        """Remove the manifest of a folder without blocks, so that it can hold other work."""
        _remove(self.folder / MANIFEST)

    def numbers(self, kind: str = "") -> list[int]:
        """The numbers of the blocks of a kind in the folder, in order."""
        return numbers(self.folder, kind)

    def write(self, number: int, arrays: Mapping[str, np.ndarray], first: int = 0, kind: str = "") -> None:
        """Write a block; `first` is its first step or trial. Raises `InputError` where the folder or disk refuses."""
        require(whole(first), f"A block begins with a step from 0 on, not {first!r}.")
        named = isinstance(arrays, Mapping) and all(isinstance(name, str) for name in arrays)
        plain = named and all(np.asarray(array).dtype.kind in "biufcSU" for array in arrays.values())
        require(plain, f"A block holds arrays of numbers or text by names, not {arrays!r:.60}.")
        label = {"work": self.work, "kind": kind, "number": number, "first": first}
        write(self._path(number, kind), pack(label, arrays))

    def read(self, number: int, kind: str = "") -> Block:
        """A block on disk. Raises `Damaged` where it is damaged, or is another block or of other work."""
        path = self._path(number, kind)
        label, arrays = unpack(_read(path), path)
        ours = {"work": self.work, "kind": kind, "number": number}
        if {name: label.get(name) for name in ours} != ours:
            raise Damaged(f"{path} is another block, or of other work.")
        return Block(label["first"], arrays)

    def get(self, number: int, kind: str = "") -> Block | None:
        """A block; None where it is missing or damaged. A damaged one is set aside under another name."""
        path = self._path(number, kind)
        if not path.exists():
            return None
        try:
            return self.read(number, kind)
        except Damaged as damage:
            self._set_aside(path, damage)
            return None

    def drop(self, number: int, kind: str = "") -> None:
        """Remove a block, if it is there."""
        _remove(self._path(number, kind))

    def _is_ours(self, number):
        try:
            self.read(number)
        except Damaged:
            return False
        return True

    def _set_aside(self, path, damage):
        aside = path.with_name(path.name + DAMAGED)
        try:
            disk.replace(path, aside)
        except FileNotFoundError:
            return  # another process has done it
        except OSError as error:
            raise InputError(f"{damage} It cannot be set aside: {error.strerror}.") from error
        log.warning("%s It is kept as %s, and its content is computed again.", damage, aside.name)

    def _path(self, number, kind):
        require(whole(number), f"Blocks are numbered from 0 on; there is no block {number!r}.")
        return self.folder / f"{kind}{number:06d}.npz"


def numbers(folder: Path, kind: str = "") -> list[int]:
    """The numbers of the blocks of a kind in a folder, in order."""
    names = (path.name.removeprefix(kind).removesuffix(".npz") for path in folder.glob(f"{kind}*.npz"))
    return sorted(int(name) for name in names if name.isdecimal())
