"""`.npz` files: the names their arrays may have, and everything a hostile one may hold."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from fnn import data
from fnn.base.errors import InputError
from fnn.data import files

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (70, 5, 4, 3), np.uint8)
Y = np.arange(70, dtype=np.int64) % 7


def sentence(path):
    with pytest.raises(InputError) as caught:
        data.load(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_named_parts_are_taken_as_they_are(tmp_path, save):
    path = tmp_path / "images.npz"
    save(path, x_train=X[:50], y_train=Y[:50], x_test=X[50:], y_test=Y[50:])
    ds = data.load(path)
    assert (ds.name, ds.source) == ("images.npz", str(path))
    np.testing.assert_array_equal(ds.x_train, X[:50])
    np.testing.assert_array_equal(ds.y_test, Y[50:])
    assert ds.classes == tuple("0123456")
    assert ds.x_validation is None


def test_the_names_of_medmnist(tmp_path):
    """Its labels have a second axis of length 1."""
    arrays = {"train": slice(0, 40), "val": slice(40, 50), "test": slice(50, 70)}
    images = {f"{part}_images": X[places] for part, places in arrays.items()}
    labels = {f"{part}_labels": Y[places, None].astype(np.uint8) for part, places in arrays.items()}
    np.savez(tmp_path / "d.npz", **images, **labels)
    ds = data.load(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(ds.x_validation, X[40:50])
    np.testing.assert_array_equal(ds.y_validation, Y[40:50])


@pytest.mark.parametrize("names", [("x", "y"), ("X", "y"), ("data", "target"), ("images", "labels")])
def test_a_file_without_parts_is_cut(tmp_path, names):
    np.savez(tmp_path / "d.npz", **dict(zip(names, (X, Y), strict=True)), comment=np.array("by hand"))
    ds = data.load(tmp_path / "d.npz")
    assert (len(ds.x_train), len(ds.x_test)) == (56, 14)
    assert np.bincount(ds.y_test).tolist() == [2] * 7
    assert ds.checksum == data.from_arrays(X, Y).checksum
    wanted = data.from_npz(tmp_path / "d.npz", test=7, validation=0.1)
    assert (len(wanted.x_train), len(wanted.x_test), len(wanted.y_validation)) == (56, 7, 7)


def test_layouts_of_arrays(tmp_path):
    x = np.asfortranarray(RNG.normal(size=(70, 4)).astype(">f4"))
    np.savez(tmp_path / "d.npz", x=x, y=Y.astype(str))
    assert data.load(tmp_path / "d.npz").checksum == data.from_arrays(x, Y).checksum


def test_a_part_to_test_on_is_not_drawn_anew(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X, y_test=Y, x_val=X, y_val=Y)
    for part, named in {"test": {"test": 0.1}, "validate": {"validation": 3}}.items():
        with pytest.raises(InputError, match=f"has a part to {part} on"):
            data.from_npz(path, **named)


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


def header(text, length=None):
    """A `.npy` header of this text, and no array."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) if length is None else length) + text.encode()


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def pickled():
    stream = io.BytesIO()
    np.savez(stream, x=np.array([{"a": 1}] * 4, object), y=Y[:4])
    return stream.getvalue()


SOUND = archive(x=npy(X), y=npy(Y))
SIZE = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s,), }\n"
DUPLICATE = archive(x=npy(X), X=npy(X), y=npy(Y))
LZMA = io.BytesIO()
with zipfile.ZipFile(LZMA, "w", zipfile.ZIP_LZMA) as _file:
    _file.writestr("x.npy", npy(X))

BAD = {
    "empty": (b"", "starts with the bytes"),
    "text": (b"x,y\n1,2\n3,4\n", "expected an .npz file"),
    "one array": (npy(X), "is a NumPy file: expected an .npz file"),
    "HTML": (b"<html>no</html>", "is an HTML page"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "is a gzip file inside"),
    "pickle": (pickled(), "holds Python objects, which only a pickle can, and a pickle is never loaded"),
    "cut": (SOUND[:-30], "is a damaged .npz file"),
    "damaged": (SOUND[:500] + b"\0\0\0\0" + SOUND[504:], "is a damaged .npz file"),
    "other names": (archive(a=npy(X), b=npy(Y)), "has the arrays a, b: expected x_train, y_train, x_test and y_test"),
    "no members": (archive(), "has the arrays none"),
    "no labels": (archive(x_train=npy(X)), "has no array y_train"),
    "no images to test": (archive(x=npy(X), y=npy(Y), y_test=npy(Y)), "has no array x_test"),
    "nothing to train on": (archive(x_test=npy(X), y_test=npy(Y)), "has the arrays x_test, y_test"),
    "two": (DUPLICATE, "two arrays for x_train"),
    "compressed otherwise": (LZMA.getvalue(), "compressed or encrypted"),
    "no header": (archive(x=b"x", y=npy(Y)), "x.npy in"),
    "header of code": (archive(x=header("__import__('os').system('false')"), y=npy(Y)), "is no NumPy array"),
    "header without end": (archive(x=header("{", 9999), y=npy(Y)), "is no NumPy array"),
    "absurd": (archive(x=header(SIZE % 2**60), y=npy(Y)), "claims the shape (1152921504606846976,)"),
    "absurd behind a zero": (archive(x=header(SIZE % "0, 2**62"), y=npy(Y)), "is no NumPy array"),
    "negative": (archive(x=header(SIZE % -1), y=npy(Y)), "x.npy in"),
    "too long": (archive(x=npy(X) + b"1", y=npy(Y)), "holds more than 4200 bytes: expected 4200"),
    "too short": (archive(x=npy(X)[:-1], y=npy(Y)), "holds 4199 bytes: expected 4200"),
    "dates": (archive(x=npy(np.array(["2020"] * 70, "M8[D]")), y=npy(Y)), "holds datetime64[D]"),
    "records": (archive(x=npy(np.zeros(70, "u1,f4")), y=npy(Y)), "expected numbers or text"),
    "NaN": (archive(x=npy(np.full((70, 2), np.nan)), y=npy(Y)), "at [0, 0] is nan"),
    "lengths": (archive(x=npy(X), y=npy(Y[1:])), "70 examples of bad.npz (train) and 69 targets"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "complaint"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_gets_a_sentence(tmp_path, content, complaint):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    assert complaint in sentence(path)


def test_memory_is_bounded_whatever_a_file_claims(tmp_path, monkeypatch):
    """A bomb of 256 MiB in 260 kB, behind a header that promises little, and arrays that are too many together."""
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        member.write(header(SIZE % 10))
        for _ in range(256):
            member.write(bytes(2**20))
    tracemalloc.start()
    try:
        assert "holds more than 10 bytes" in sentence(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(files, "MOST_BYTES", X.nbytes + Y.nbytes - 1)
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    assert "bytes in all are allowed" in sentence(tmp_path / "d.npz")


def test_any_damage_gets_a_sentence_or_arrays(tmp_path):
    """A byte changed anywhere is found by zip's checksums, or lies where it changes nothing that is read."""
    content = archive(x=npy(X[:14, 0]), y=npy(Y[:14]))
    path = tmp_path / "d.npz"
    expected = data.from_arrays(X[:14, 0], Y[:14]).checksum
    outcomes = {"sentence": 0, "arrays": 0}
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        try:
            ds = data.load(path)
        except InputError:
            outcomes["sentence"] += 1
        else:
            assert ds.checksum == expected
            outcomes["arrays"] += 1
    assert outcomes["sentence"] > 100
