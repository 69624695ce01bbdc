"""A folder of work that is done block by block, and cannot be lost: every block is a file, whole or absent.

folder/manifest.json   what is done here: one folder never holds parts of two different works
folder/000017.npz      the arrays of block 17
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from filelock import FileLock, Timeout

from fnn.errors import InputError, require
from fnn.results import atomic, save_json

MANIFEST = "manifest.json"

LOOK = 1.0
"""Seconds that a lock is tried for: longer than somebody holds it who only looks whether it is held."""


def manifest(folder: Path) -> dict[str, Any]:
    """What is done in the folder; empty where nothing is yet. Raises `InputError` where that cannot be read."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / MANIFEST} cannot be read: delete the folder and start again.") from error


def claim(folder: Path, ours: Mapping[str, Any]) -> None:
    """Make the folder the place of this work. Raises `InputError` where it is that of another."""
    theirs = manifest(folder)
    if not theirs:
        require(not there(folder), f"{folder} holds blocks, and no {MANIFEST} to say of what: delete the folder.")
        save_json(folder / MANIFEST, ours)
        return
    differing = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    require(
        not differing,
        f"{folder} holds part of another run, whose {', '.join(differing)} differ{'s' * (len(differing) == 1)}: "
        "take another folder, or delete it.",
    )


@contextlib.contextmanager
def locked(folder: Path, name: str = "") -> Iterator[None]:
    """Nobody else is in the folder under this name until the block ends, or the process, however it ends.

    Raises `InputError` where somebody is, and where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _lock(folder, name).acquire(timeout=LOOK)
    except Timeout as error:
        raise InputError(f"Another process is at work in {folder}: wait for it, or take another folder.") from error
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    with held:
        yield


def at_work(folder: Path, name: str = "") -> bool:
    """Whether somebody is in the folder under this name, in this process or another."""
    try:
        _lock(folder, name).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    return False


def _lock(folder, name):
    return FileLock(folder / f".lock{name}")


def there(folder: Path) -> set[int]:
    """The numbers of the blocks that are done."""
    return {int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal()}


def write(folder: Path, number: int, arrays: Mapping[str, np.ndarray], kind: str = "") -> None:
    """Keep the arrays of a block, or of another kind of thing. Raises `InputError` where the folder or disk refuses."""
    with atomic(_path(folder, number, kind)) as path, path.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]  no array is named allow_pickle


def read(folder: Path, number: int, kind: str = "") -> dict[str, np.ndarray]:
    """The arrays of a block that is done. Raises `InputError` where it is damaged."""
    path = _path(folder, number, kind)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: delete it, and the same command makes it again.") from error


def drop(folder: Path, number: int, kind: str = "") -> None:
    """Forget a block, if it is there."""
    _path(folder, number, kind).unlink(missing_ok=True)


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


def _path(folder, number, kind):
    return folder / f"{kind}{number:06d}.npz"
