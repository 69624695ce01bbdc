"""Files of a user's own: what they define, and one sentence where they do not."""

import dataclasses
import json
import sys

import pytest

from fnn.base import modules
from fnn.base.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def number(spec):
    """The number that a file defines."""
    path, name = modules.parted(spec)
    return modules.defined(modules.module(path), name, float, "number")


def test_a_file_is_known_by_its_ending():
    assert modules.is_file("a/my_rule.py")
    assert modules.is_file("my_rule.py:NAME")
    assert not modules.is_file("adam")
    assert not modules.is_file("adam:book")
    assert modules.parted("my.python/my_rule.py") == ("my.python/my_rule.py", "")
    assert modules.parted("my.python/my_rule.py:NAME") == ("my.python/my_rule.py", "NAME")


def test_a_file_that_fails_leaves_no_module(folder):
    (folder / "half.py").write_text("first = 1\n1 / 0\n")
    with pytest.raises(InputError):
        modules.module(folder / "half.py")
    assert "half" not in sys.modules


def test_what_is_named_like_the_file_or_alone_or_by_name(folder):
    (folder / "mine.py").write_text("other = 1.5\nmine = 2.5\n")
    (folder / "alone.py").write_text("text = 'a'\nit = 3.5\n")
    assert number(f"{folder}/mine.py") == 2.5
    assert number(f"{folder}/mine.py:other") == 1.5
    assert number(f"{folder}/alone.py") == 3.5


@pytest.mark.parametrize(
    ("text", "spec", "sentence"),
    [
        ("", "mine.py", "defines no number"),
        ("a = 1.0\nb = 2.0\n", "mine.py", "defines several: name one of a, b"),
        ("a = 1.0\n", "mine.py:c", "has no number 'c'; there are a"),
        ("1 / 0\n", "mine.py", "cannot be imported: ZeroDivisionError"),
        ("def (:\n", "mine.py", "cannot be imported: SyntaxError"),
        ("", "there_is_none.py", "There is no file"),
    ],
)
def test_what_is_not_there_is_a_sentence(folder, text, spec, sentence):
    (folder / "mine.py").write_text(text)
    with pytest.raises(InputError, match=sentence):
        number(f"{folder}/{spec}")


def test_a_file_may_import_its_neighbors_and_have_the_name_of_a_known_module(folder):
    (folder / "neighbor.py").write_text("three = 3\n")
    (folder / "json.py").write_text(
        "import dataclasses\nimport neighbor\n@dataclasses.dataclass\nclass Pair:\n    a: int = neighbor.three\n"
    )
    found = modules.module(folder / "json.py")
    assert dataclasses.asdict(found.Pair()) == {"a": 3}
    assert sys.modules["json"] is json
    assert sys.modules[found.Pair.__module__] is found
