"""A store: a folder that knows what work it holds, so that work resumes where it was cut off, or says why it cannot.

FOLDER/manifest.json     what work this is: one folder never holds parts of two works
FOLDER/000017.npz        the arrays of block 17
FOLDER/000017.npz.damaged  one that was not whole, set aside and made again
FOLDER/.lock, .owner     held while a process is at work here, and which process that is

Files are whole or absent: each is written beside its place, flushed to the disk, and renamed. Every file carries a
SHA-256 of its content, which is compared before anything parses the file:

- a block is a NumPy archive whose comment says what it is (its work, kind, number and first step) and ends with the
  SHA-256 of everything before it, so a block of another place or another store is not taken for this one;
- a manifest is a JSON object whose first member is the SHA-256 of everything after it;
- results, which other programs read as they are, are listed in `SHA256SUMS` beside them, as `sha256sum -c` reads it.
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

from fnn.arithmetic import arithmetic
from fnn.errors import InputError, require
from fnn.shapes import fit

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
TEMPORARY = ".tmp-"
"""How the names of files that are being written begin, and those of folders that are being removed."""
DAMAGED = ".damaged"
"""How the names of files end that were set aside."""

PATIENCE = 1.0
"""Seconds that a lock is tried for: longer than `at_work` holds it."""
ABANDONED = 24 * 3600.0
"""Seconds after which a temporary file is taken for a killed process's where the system cannot tell."""

LARGEST_JSON = 50_000_000
"""Bytes of a JSON file that is read."""

WRITING = "/fnn/writing"
"""The event of `jax.monitoring` that records the seconds it took to make a file."""

log = logging.getLogger(__name__)
"""Where it is said that a file was set aside, or that work starts again: on standard error, if nobody changes that."""


class Damaged(InputError):
    """A file that is not what was written: its checksum, its place or its work is another."""


# --- whole files -----------------------------------------------------------------------------------------------------


class Disk:
    """The operations on files that everything here is made of. Tests put another in its place, which fails at any."""

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
            os.close(handle)  # `clean` came between the two

    def write(self, file: io.FileIO, content: memoryview) -> int:
        """Write as much as the disk takes; gives how many bytes that were."""
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
        """Rename, in one step, in place of what is there."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)


disk = Disk()


class File(io.RawIOBase):
    """A new file that takes everything, for HDF5, which may crash where a write to it fails or is interrupted.

    From the first error on its content is in memory, and closing the file raises that error.
    """

    def __init__(self, path: Path):
        self.file: Any = path.open("w+b", buffering=0)
        self.error: BaseException | None = None

    def write(self, content: Any) -> int:
        """Write everything."""
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
        """Read what is written."""
        return self.file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self.file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend it."""
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
        """Close it. Raises the first error."""
        if not self.closed:
            self.file.close()
            super().close()
            if self.error is not None:
                raise self.error


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Interrupts wait until the block has ended."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    came = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            usual(signal.SIGINT, None)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well and vanishes when it does not.

    Raises `InputError` where the folder or the disk refuses; what stood at `path` before is then still there.
    """
    with _temporary(path) as temporary:
        yield temporary
        _put(temporary, path)
        disk.sync(path.parent)


def write(path: Path, content: bytes) -> Path:
    """Write a whole file; gives its path. Raises `InputError` as `atomic` does."""
    with atomic(path) as temporary:
        _fill(temporary, content)
    return path


@contextlib.contextmanager
def _temporary(path):
    began = time.perf_counter()
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = disk.create(path)
        try:
            yield temporary
            jax.monitoring.record_event_duration_secs(WRITING, time.perf_counter() - began)
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
    """Remove what killed processes left in a folder: files half written, and folders half removed."""
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

    It is renamed first: an interrupt or a kill leaves all of it, or a rest that `clean` knows.
    """
    with contextlib.ExitStack() as stack:
        try:
            for path in folder.rglob(".lock*"):
                stack.enter_context(locked(path.parent, path.name.removeprefix(".lock")))
            rest = folder.with_name(f"{TEMPORARY}{folder.name}-{secrets.token_hex(4)}")
            disk.replace(folder, rest)
        except (OSError, InputError):
            return  # what is there is right, and the next start finds it finished
        shutil.rmtree(rest, ignore_errors=True)


# --- locks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path, name: str = "") -> Iterator[None]:
    """No other process is in the folder under this name until the block ends, or the process, however it ends.

    Raises `InputError` where another is, and where the folder cannot be written.
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
            with contextlib.suppress(OSError):  # it is only for the sentence above
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
    """Write files that other programs read as they are, each given as its content or as a function that writes it.

    Gives their paths. Their checksums are in `SHA256SUMS` before the files are in their places, those of the files
    that they replace remain there until they are: whatever happens in between, no whole file is taken for a damaged
    one. Raises `InputError` as `atomic` does, and where another process is writing here.
    """
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
        coming = {name: (_sum_of(path),) for name, path in made.items()}
        _save_sums(folder, {name: before.get(name, ()) + coming.get(name, ()) for name in {**before, **coming}})
        for name, temporary in made.items():
            with _writing(folder / name):
                _put(temporary, folder / name)
        with _writing(folder):
            disk.sync(folder)
        _save_sums(folder, before | coming)
    return [folder / name for name in files]


def verify(path: Path) -> None:
    """Raise `Damaged` unless the file is as `publish` wrote it."""
    _compare(path, _sum_of(path))


def listed(folder: Path) -> frozenset[str]:
    """The names of the files that `publish` wrote here. Raises `Damaged` where that is not known."""
    return frozenset(_sums(folder))


def published(path: Path) -> bytes:
    """The content of a file that `publish` wrote. Raises `Damaged` where it is another."""
    content = _read(path)
    _compare(path, hashlib.sha256(content).hexdigest())
    return content


def _compare(path, found):
    accepted = _sums(path.parent).get(path.name, ())
    if not accepted:
        raise Damaged(
            f"{path} cannot be read: it has no checksum, since an earlier version wrote it or {SUMS} is lost. Make it "
            f"again, or, if you know it to be whole, run `sha256sum {path.name} >> {SUMS}` in its folder."
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
    """The checksums that each file may have: one, or two while it is being replaced."""
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
    """Indented JSON in UTF-8; what is not JSON's as its `str`, and what UTF-8 has no code for as JSON's escapes."""
    text = json.dumps(content, indent=2, default=str, ensure_ascii=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def parse(raw: bytes, hint: Any, path: Path) -> Any:
    """What JSON says, of the shape of a type hint, see `fit`. Raises `Damaged`, naming `path`, where it is not."""
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} cannot be read: it is not JSON.") from error
    try:
        return fit(content, hint)
    except ValueError as error:
        raise Damaged(f"{path} cannot be read: {error}.") from error


def save_json(path: Path, content: Any) -> Path:
    """Write JSON, with its checksum beside it."""
    return publish(path.parent, {path.name: json_bytes(content)})[0]


def read_json(path: Path, hint: Any) -> Any:
    """What `publish` wrote as JSON, of the shape of a type hint. Raises `Damaged` where it is something else."""
    with contextlib.suppress(OSError):
        require(path.stat().st_size <= LARGEST_JSON, f"{path} cannot be read: it is larger than any file of ours.")
    return parse(published(path), hint, path)


_BEFORE, _AFTER = b'{"sha256": "', b'",'


def save_sealed(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON object whose first member is the SHA-256 of everything after it."""
    rest = json_bytes(content)[1:]
    return write(path, _BEFORE + hashlib.sha256(rest).hexdigest().encode() + _AFTER + rest)


def read_sealed(path: Path, hint: Any = dict) -> dict[str, Any]:
    """What `save_sealed` wrote, of the shape of a type hint; empty where there is no file. Raises as `parse` does."""
    if not path.exists():
        return {}
    raw, end = _read(path), len(_BEFORE) + 64 + len(_AFTER)
    rest = raw[end:]
    if raw[:end] != _BEFORE + hashlib.sha256(rest).hexdigest().encode() + _AFTER:
        raise Damaged(f"{path} cannot be read: it is damaged, or by an earlier version.")
    return parse(b"{" + rest, hint, path)


# --- arrays ----------------------------------------------------------------------------------------------------------


def pack(label: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as a NumPy archive (.npz) whose comment is the label and the SHA-256 of everything before that."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        archive.comment = json.dumps(label).encode() + b" " + b"0" * 64
    before = buffer.getbuffer()[:-64]
    return bytes(before) + hashlib.sha256(before).hexdigest().encode()


def unpack(raw: bytes, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The label and the arrays that `pack` made bytes of. Raises `Damaged`, naming `path`, where they are others."""
    if hashlib.sha256(raw[:-64]).hexdigest().encode() != raw[-64:]:
        raise Damaged(f"{path} is damaged: its SHA-256 is another.")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            label = parse(archive.comment[:-65], dict, path)
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return label, dict(arrays)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path} is damaged: it is no archive of arrays.") from error


def checksum(tree: Any) -> str:
    """SHA-256 of a tree of arrays: their places in it, their types and what they hold."""
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
    """A block as it is on disk: the number of its first step (or trial), and its arrays."""

    first: int
    arrays: dict[str, np.ndarray]


def manifest(folder: Path) -> dict[str, Any]:
    """What work is in the folder; empty where there is none yet. Raises `Damaged` where that cannot be read."""
    return read_sealed(folder / MANIFEST)


class Store:
    """The numbered blocks of one piece of work in a folder. Those who write hold the folder's lock, see `locked`.

    manifest: everything that must be the same for two runs to be parts of one; what else changes numbers is added, see
        `arithmetic`.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]):
        self.folder = folder.absolute()
        self.manifest = json.loads(json_bytes({**arithmetic(), **manifest}))
        self.work = hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    def claim(self) -> None:
        """Make the folder the place of this work. Raises `InputError` where it is that of another.

        Where the manifest is lost or damaged, the blocks say whose they are.
        """
        path, damage = self.folder / MANIFEST, None
        try:
            theirs = manifest(self.folder)
        except Damaged as error:
            theirs, damage = {}, error
        if not theirs:
            blocks = self.numbers()
            require(
                not blocks or any(self._whole(number, "") for number in blocks),
                f"{self.folder} holds blocks of other work or an earlier version, and no readable {MANIFEST} to say of "
                "which: take another folder.",
            )
            if damage:
                self._set_aside(path, damage)
            save_sealed(path, self.manifest)
            return
        differ = [name for name in {**theirs, **self.manifest} if theirs.get(name) != self.manifest.get(name)]
        require(
            not differ,
            f"{self.folder} holds part of another run, whose {', '.join(differ)} differ{'s' * (len(differ) == 1)}: "
            "take another folder, or move this one away.",
        )

    def forget(self) -> None:
        """Let the folder take other work, where no block is there."""
        _remove(self.folder / MANIFEST)

    def numbers(self, kind: str = "") -> list[int]:
        """The numbers of the blocks of a kind that are there, in order."""
        return numbers(self.folder, kind)

    def write(self, number: int, arrays: Mapping[str, np.ndarray], first: int = 0, kind: str = "") -> None:
        """Keep a block. Raises `InputError` where the folder or the disk refuses."""
        label = {"work": self.work, "kind": kind, "number": number, "first": first}
        write(self._path(number, kind), pack(label, arrays))

    def read(self, number: int, kind: str = "") -> Block:
        """A block that is there. Raises `Damaged` where it is not as it was written, or was written as another."""
        path = self._path(number, kind)
        label, arrays = unpack(_read(path), path)
        ours = {"work": self.work, "kind": kind, "number": number}
        if {name: label.get(name) for name in ours} != ours:
            raise Damaged(f"{path} is another block, or of other work.")
        return Block(label["first"], arrays)

    def get(self, number: int, kind: str = "") -> Block | None:
        """A block; None where it is missing, and where it is damaged: then it is set aside under another name."""
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

    def _whole(self, number, kind):
        try:
            return self.read(number, kind)
        except Damaged:
            return None

    def _set_aside(self, path, damage):
        aside = path.with_name(path.name + DAMAGED)
        try:
            disk.replace(path, aside)
        except FileNotFoundError:
            return  # another process has done it
        except OSError as error:
            raise InputError(f"{damage} It cannot be set aside: {error.strerror}.") from error
        log.warning("%s It is kept as %s, and what it held is made again.", damage, aside.name)

    def _path(self, number, kind):
        return self.folder / f"{kind}{number:06d}.npz"


def numbers(folder: Path, kind: str = "") -> list[int]:
    """The numbers of the blocks of a kind that are in a folder, in order."""
    names = (path.name.removeprefix(kind).removesuffix(".npz") for path in folder.glob(f"{kind}*.npz"))
    return sorted(int(name) for name in names if name.isdecimal())
