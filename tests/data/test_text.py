"""Text as tokens: vocabulary, and parts by position."""

import gzip

import numpy as np
import pytest

from fnn import data
from fnn.base.errors import InputError
from fnn.data import files

TEXT = "Wär' ich ein Vöglein,\nflög' ich zu dir. 🐦\n" * 20


def put(folder, content, name="song.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sentence(call, *args, **named):
    with pytest.raises(InputError) as caught:
        call(*args, **named)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def decoded(ds, tokens):
    return "".join(ds.classes[token] for token in tokens)


def test_characters_are_tokens_and_parts_follow_each_other(tmp_path):
    ds = data.load(put(tmp_path, TEXT))
    assert ds.classes == tuple(sorted(set(TEXT)))
    n = len(TEXT)
    cuts = [0, round(0.9 * n), round(0.95 * n), n]
    for part, begin, end in zip(("train", "validation", "test"), cuts, cuts[1:], strict=False):
        x, y = ds.parts[part]
        assert decoded(ds, x) == TEXT[begin : end - 1]
        assert decoded(ds, y) == TEXT[begin + 1 : end]
        assert x.dtype == y.dtype == np.int32


def test_spellings_of_one_text(tmp_path):
    expected = data.load(put(tmp_path, TEXT)).checksum
    assert data.load(put(tmp_path, gzip.compress(TEXT.encode()), "song.txt.gz")).checksum == expected
    assert data.load(put(tmp_path, b"\xef\xbb\xbf" + TEXT.encode())).checksum == expected
    page = data.load(put(tmp_path, f"<html>{TEXT}</html>", "page.html"))
    assert decoded(page, page.x_train[:6]) == "<html>"


def test_without_validation(tmp_path):
    ds = data.from_text(put(tmp_path, TEXT), test=0.5, validation=0)
    assert list(ds.parts) == ["train", "test"]
    assert len(ds.x_train) == len(ds.x_test) == len(TEXT) // 2 - 1


BAD = {
    "empty": (b"", {}, "is empty"),
    "one character": (b"aaaaaaaaaaaa", {}, "has 1 different characters"),
    "too short": (b"to be or not", {}, "would be in validation, which needs two"),
    "no test": (TEXT, {"test": 0.0}, "above 0, not 0.0"),
    "all": (TEXT, {"test": 0.6, "validation": 0.4}, "which needs two"),
    "Latin-1": (TEXT.replace("🐦", "").encode("latin-1"), {}, "is not UTF-8 in line 1"),
    "IDX": (b"\0\0\x08\1\0\0\0\2ab", {}, "has zero bytes"),
    "pickle": (b"\x80\x04\x95\0", {}, "is a pickle, which is never loaded"),
    "array": (b"\x93NUMPY\1\0v\0", {}, "is a NumPy file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 99\n", {}, "a Git LFS pointer"),
    "picture": (b"\x89PNG\r\n", {}, "is a PNG picture"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "named", "complaint"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_gets_a_sentence(tmp_path, content, named, complaint):
    assert complaint in sentence(data.from_text, put(tmp_path, content), **named)


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_TEXT", 2**20)
    bomb = put(tmp_path, gzip.compress(bytes(2**24)), "bomb.txt.gz")
    assert "holds more than 1048576 bytes" in sentence(data.load, bomb)
