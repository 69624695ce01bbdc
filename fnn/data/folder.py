"""Folders of IDX files, as MNIST, KMNIST, EMNIST and QMNIST come, and of CIFAR's binary ones."""

import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from fnn.base.errors import InputError, require
from fnn.data import files
from fnn.data.arrays import file_name, from_parts
from fnn.data.data_set import DataSet
from fnn.data.idx import read_idx

_NAME = re.compile(
    r"(?:(?P<set>.+?)[-_.])?(?P<part>train|t10k|test|val|valid|validation)[-_.](?P<what>images|labels)"
    r"[-_.]idx[1-9][-_.](?:ubyte|byte|short|int|float|double)(?:\.gz)?",
    re.IGNORECASE,
)
_PART = {"t10k": "test", "val": "validation", "valid": "validation"}


def is_part(name: str) -> bool:
    """Whether a file of this name is one of a set's IDX files."""
    return _NAME.fullmatch(name) is not None


CIFAR = {
    "cifar10": ([f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin", "batches.meta.txt", 1),
    "cifar100": (["train.bin"], "test.bin", "fine_label_names.txt", 2),
}
"""The files to train on, to test on, of the classes' names, and the bytes of labels before each image.

Of CIFAR-100's two, the coarse class and the fine one, the last is taken.
"""

CIFAR_IMAGE = (3, 32, 32)


def idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The IDX files in a folder by data set, "" or "emnist-letters", and by part, "train-images" or "test-labels".

    They may be gzipped, a plain one goes first, being faster to read; be spelled with dashes or dots; and lie in a
    folder that has their name, as archives are often unpacked.
    """
    found: dict[str, dict[str, Path]] = {}
    try:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        names.sort(key=lambda name: (name.lower().endswith(".gz"), name))
        folders = [name for name in names if _NAME.fullmatch(name) and os.path.isdir(folder / name)]
        paths = [folder / name for name in names]
        paths += [folder / outer / inner for outer in folders for inner in sorted(os.listdir(folder / outer))]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    for path in paths:
        # Neither a folder nor a broken link; anything else, a pipe say, is refused when it is read.
        if (match := _NAME.fullmatch(path.name)) and os.path.exists(path) and not os.path.isdir(path):
            part = match["part"].lower()
            place = f"{_PART.get(part, part)}-{match['what'].lower()}"
            found.setdefault(match["set"] or "", {}).setdefault(place, path)
    return found


def from_folder(
    path: str | os.PathLike[str],
    *,
    test: float | int | None = None,
    validation: float | int = 0,
    key: Any = None,
    stratify: bool = True,
) -> DataSet:
    """The data set in a folder of IDX files, or of CIFAR's binary files.

    path: the folder, or torchvision's around `raw/`. Where it has files of several sets, their beginning in that
        folder: "gzip/emnist-letters". A data set is called as its folder, "mnist/", which is no name of a known one.
    test, validation, key, stratify: see `from_arrays`; parts that are in the folder need none.
    Images of EMNIST are turned upright, their classes named by the mapping beside them. Of QMNIST's labels, which have
    8 numbers each, the first is the class.
    Raises `InputError` where files are missing or damaged, and as `from_arrays` does.
    """
    path = files.named(path)
    folder, wanted = (path, None) if path.is_dir() else (path.parent, path.name.lower())
    require(folder.is_dir(), f"{path} does not exist: expected a file, or a folder of IDX files")
    name = file_name(path) + "/" * (wanted is None)
    how = {"test": test, "validation": validation, "key": key, "stratify": stratify, "name": name}
    for inner in (folder, folder / "raw", folder / "gzip"):
        if sets := idx_files(inner):
            return _from_idx(path, sets, wanted, how)
        for kind, (train, *_) in CIFAR.items():
            if wanted is None and (inner / train[0]).is_file():
                contents = _Directory(inner)
                return cifar(kind, contents, how | {"source": str(inner)})
    expected = "expected train-images-idx3-ubyte and so on"
    require(wanted is None, f"{path} does not exist: expected a file, or a folder of IDX files")
    raise InputError(f"{path} has no IDX files, {files.listed(folder)}: {expected}")


def _from_idx(path: Path, sets: Mapping[str, Mapping[str, Path]], wanted: str | None, how: dict[str, Any]) -> DataSet:
    if wanted is None:
        beginnings = ", ".join(str(path / name) for name in sorted(sets))
        require(len(sets) == 1, f"{path} has the files of {len(sets)} data sets: name one of {beginnings}")
    [name] = sets if wanted is None else [name for name in sets if name.lower() == wanted] or [None]
    if name is None:
        raise InputError(f"{path} is not there; {path.parent} has the files of {', '.join(sorted(sets))}")
    parts = {}
    for part in dict.fromkeys(place.partition("-")[0] for place in sets[name]):
        pair = [sets[name].get(f"{part}-{what}") for what in ("images", "labels")]
        if pair[0] is None or pair[1] is None:
            raise InputError(f"{path} lacks the {'labels' if pair[0] else 'images'} of {part}, and has the others")
        images, labels = read_idx(pair[0]), read_idx(pair[1])
        require(images.ndim >= 2, f"{pair[0]} has the shape {images.shape}: images have two axes or more")
        if labels.ndim == 2 and labels.shape[1] == 8 and labels.dtype.kind == "i":
            labels = labels[:, 0]
        if name.lower().startswith("emnist") and images.ndim == 3:
            images = images.swapaxes(1, 2)
        parts[part] = images, labels
    require("train" in parts, f"{path} has {', '.join(parts)}, and nothing to train on")
    found = from_parts(parts, source=str(path), **how)
    names = _mapping(sets[name]["train-images"].parent / f"{name}-mapping.txt")
    return replace(found, classes=tuple(names.get(label, label) for label in found.classes))


def _mapping(path: Path) -> dict[str, str]:
    """The characters by label of EMNIST's mapping, whose lines are a label and the codes of its characters."""
    if not path.is_file():
        return {}
    rows = [line.split() for line in files.text(path, "a mapping of labels").splitlines() if line.strip()]
    sound = all(len(row) >= 2 and all(cell.isdecimal() for cell in row) and int(row[1]) < 2**16 for row in rows)
    require(sound, f"{path} is no mapping of labels to codes of characters")
    return {row[0]: chr(int(row[1])) for row in rows}


class _Directory:
    """Files of a folder, by name."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, name: str) -> bytes:
        return files.content(self.folder / name, "a file of CIFAR", files.MOST_BYTES)


class Archive:
    """Files of a tar archive, by name, whatever folder of it they lie in."""

    def __init__(self, content: bytes, what: str):
        self.what, self.found = what, {}
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                left = files.MOST_BYTES
                for member in archive:
                    if not member.isfile():
                        continue
                    left -= member.size
                    require(left >= 0, f"{what} holds more than {files.MOST_BYTES} bytes, the most that are allowed")
                    stream = archive.extractfile(member)
                    assert stream is not None, "a regular file has content"
                    self.found[os.path.basename(member.name)] = stream.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InputError(f"{what} is a damaged archive: {error}") from None

    def read(self, name: str) -> bytes:
        """The content of a file."""
        require(name in self.found, f"{self.what} has no {name}")
        return self.found[name]


def cifar(kind: str, contents: "_Directory | Archive", how: dict[str, Any]) -> DataSet:
    """CIFAR-10 or CIFAR-100 from its binary files: images `[n, 32, 32, 3]` and their classes.

    kind: see `CIFAR`. how: what `from_parts` takes.
    """
    train, test, named, labels = CIFAR[kind]
    names = tuple(contents.read(named).decode("utf-8", "replace").split())

    def part(members: Iterable[str]) -> tuple[UInt8[np.ndarray, "n 32 32 3"], Any]:
        length, blocks = labels + int(np.prod(CIFAR_IMAGE)), []
        for member in members:
            content = contents.read(member)
            whole = len(content) > 0 and len(content) % length == 0
            require(whole, f"{member} of {how['source']} has {len(content)} bytes: images take {length} each")
            blocks.append(np.frombuffer(content, np.uint8).reshape(-1, length))
        table = np.concatenate(blocks)
        images = table[:, labels:].reshape(-1, *CIFAR_IMAGE).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), table[:, labels - 1].astype(np.int32)

    return from_parts({"train": part(train), "test": part([test])}, classes=names, **how)
