"""Folders of IDX files in every spelling, and CIFAR's binary files."""

import gzip
import struct

import numpy as np
import pytest

from fnn import data
from fnn.base.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 6, 5), np.uint8)
Y = (np.arange(40) % 4).astype(np.uint8)
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array):
    """The IDX file of an array, written independently of `fnn`."""
    kind = array.dtype.str[1:]
    head = struct.pack(f">4B{array.ndim}I", 0, 0, CODES[kind], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def put(folder, contents):
    """Write files by name, gzipped where the name ends in .gz."""
    for name, array in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = array if isinstance(array, bytes) else idx(array)
        path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return folder


def named(train, test, images="images-idx3-ubyte", labels="labels-idx1-ubyte", end="", x=X, y=Y):
    parts = {f"{train}{images}{end}": x[:30], f"{train}{labels}{end}": y[:30]}
    return parts | {f"{test}{images}{end}": x[30:], f"{test}{labels}{end}": y[30:]}


def sentence(call, *args, **named):
    with pytest.raises(InputError) as caught:
        call(*args, **named)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


EXPECTED = data.from_arrays(X[:30], Y[:30], test=(X[30:], Y[30:]))


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("inner", ["", "raw/"])
@pytest.mark.parametrize(
    "names",
    [
        ("train-", "t10k-"),
        ("train-", "test-"),
        ("kmnist-train-", "kmnist-test-"),
        ("qmnist-train-", "qmnist-test-", "images-idx3-ubyte", "labels-idx2-int"),
        ("train-", "t10k-", "images.idx3-ubyte", "labels.idx1-ubyte"),
        ("Train_", "Test_", "Images_idx3_ubyte", "Labels_idx1_ubyte"),
    ],
    ids=["MNIST, KMNIST", "test", "KMNIST", "QMNIST", "dots", "underscores"],
)
def test_spellings_of_one_set(tmp_path, names, inner, end):
    y = Y
    if names[3:] == ("labels-idx2-int",):  # the class, and seven numbers more
        y = np.c_[Y, RNG.integers(0, 1000, (40, 7))].astype(np.int32)
    put(tmp_path, {f"{inner}{name}": array for name, array in named(*names, end=end, y=y).items()})
    ds = data.load(tmp_path)
    assert ds.checksum == EXPECTED.checksum
    assert (ds.name, ds.source) == (f"{tmp_path.name}/", str(tmp_path))


def test_emnist_is_turned_upright_and_named_by_its_mapping(tmp_path):
    """A folder has several of its sets; letters are counted from 1."""
    letters = named("emnist-letters-train-", "emnist-letters-test-", end=".gz", x=X.swapaxes(1, 2), y=Y + 1)
    digits = named("emnist-digits-train-", "emnist-digits-test-")
    mapping = {"emnist-letters-mapping.txt": b"1 65 97\n2 66 98\n3 67 99\n4 68 100\n"}
    put(tmp_path / "gzip", letters | digits | mapping)
    ds = data.load(tmp_path / "gzip" / "emnist-letters")
    np.testing.assert_array_equal(ds.x_train, X[:30])
    assert ds.classes == ("A", "B", "C", "D")
    assert ds.checksum == EXPECTED.checksum
    assert data.load(f"{tmp_path}/gzip/emnist-digits").x_train.shape == (30, 5, 6)
    text = sentence(data.load, tmp_path / "gzip")
    assert f"name one of {tmp_path}/gzip/emnist-digits, {tmp_path}/gzip/emnist-letters" in text
    assert "has the files of emnist-digits, emnist-letters" in sentence(data.load, tmp_path / "gzip" / "emnist-byclass")


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "f4", "f8"])
def test_every_kind_of_numbers(tmp_path, kind):
    x = (X % 100).astype(kind)
    names = named("train-", "t10k-", "images-idx3-float", x=x, y=Y.astype(np.int32))
    assert data.load(put(tmp_path, names)).checksum == data.from_arrays(x[:30], Y[:30], test=(x[30:], Y[30:])).checksum


def test_a_set_without_a_test_part_is_cut_and_one_to_validate_on_is_kept(tmp_path):
    files = named("train-", "val-")
    put(tmp_path, files)
    ds = data.from_folder(tmp_path, test=6)
    assert (len(ds.x_train), len(ds.x_test), len(ds.y_validation)) == (24, 6, 10)
    np.testing.assert_array_equal(ds.x_validation, X[30:])


BAD = {
    "nothing": ({"notes.md": b"no data"}, "has no IDX files, there are notes.md"),
    "no labels": ({"train-images-idx3-ubyte": X}, "lacks the labels of train, and has the others"),
    "no images": ({**named("train-", "t10k-"), "val-labels-idx1-ubyte": Y}, "lacks the images of validation"),
    "only a test": ({"t10k-images-idx3-ubyte": X, "t10k-labels-idx1-ubyte": Y}, "nothing to train on"),
    "damaged": (named("train-", "t10k-") | {"t10k-images-idx3-ubyte": b"\0\0\x08"}, "ends inside its IDX header"),
    "lengths": (named("train-", "t10k-") | {"t10k-labels-idx1-ubyte": Y}, "10 examples"),
    "rank": (named("train-", "t10k-") | {"train-images-idx3-ubyte": Y}, "images have two axes or more"),
    "sizes": (named("train-", "t10k-") | {"t10k-images-idx3-ubyte": X[30:, :5]}, "(5, 5), those to train on (6, 5)"),
    "mapping": (
        {f"emnist-{name}": array for name, array in named("train-", "test-").items()} | {"emnist-mapping.txt": b"a b"},
        "is no mapping of labels",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("contents", "complaint"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_gets_a_sentence(tmp_path, contents, complaint):
    assert complaint in sentence(data.load, put(tmp_path, contents))


def cifar(labels, seed=0):
    """Batches of CIFAR's binary form by name, and the images and classes in them."""
    rng = np.random.default_rng(seed)
    names, of_classes = {
        1: ([f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"], {"batches.meta.txt": 10}),
        2: (["train.bin", "test.bin"], {"fine_label_names.txt": 100, "coarse_label_names.txt": 20}),
    }[labels]
    contents, x, y = {}, [], []
    for name in names:
        classes = np.stack([rng.integers(0, 20, 4), np.arange(4, 8)][2 - labels :], 1).astype(np.uint8)
        images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
        channels = images.transpose(0, 3, 1, 2).reshape(4, -1)
        contents[name] = np.c_[classes, channels].astype(np.uint8).tobytes()
        x.append(images)
        y.append(classes[:, -1])
    contents |= {name: "".join(f"class_{i}\n" for i in range(n)).encode() for name, n in of_classes.items()}
    return contents, np.concatenate(x), np.concatenate(y)


@pytest.mark.parametrize("labels", [1, 2])
def test_the_binary_files_of_cifar(tmp_path, labels):
    contents, x, y = cifar(labels, seed=4)
    ds = data.load(put(tmp_path, contents))
    np.testing.assert_array_equal(np.concatenate([ds.x_train, ds.x_test]), x)
    np.testing.assert_array_equal(np.concatenate([ds.y_train, ds.y_test]), y)
    assert len(ds.x_test) == 4
    assert ds.classes[9] == "class_9"
    assert len(ds.classes) == [10, 100][labels - 1]
    put(tmp_path, {name: content[:-1] for name, content in contents.items() if name.startswith("test")})
    assert f"images take {3072 + labels} each" in sentence(data.load, tmp_path)
