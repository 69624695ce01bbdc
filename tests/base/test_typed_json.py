"""JSON against type hints: what fits is given, what does not is named with its place."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from fnn.base.typed_json import fit


@dataclass(frozen=True)
class Point:
    x: float
    name: str
    kind: Literal["a", "b"] = "a"
    whole: int = 0


class Entry(TypedDict):
    of: str
    value: Any
    time: NotRequired[str]


GOOD = [
    (1, float, 1.0),
    (math.inf, float, math.inf),
    (None, None, None),
    ({"a": [1, 2.5]}, dict[str, list[float]], {"a": [1.0, 2.5]}),
    ({"a": object}, dict, {"a": object}),
    ([{"x": 1, "name": "n"}], list[Point], [Point(1.0, "n")]),
    ({"of": "it", "value": [None]}, Entry, {"of": "it", "value": [None]}),
    ("b", Literal["a", "b"], "b"),
    (None, str | None, None),
    ([1, 2], tuple[float, ...], (1.0, 2.0)),
]
BAD = [
    ([], dict, "it is a list, not an object"),
    (1, dict, "it is a whole number, not an object"),
    (None, dict[str, Any], "it is null, not an object"),
    (True, int, "it is true or false, not a whole number"),
    (True, float, "it is true or false, not a number"),
    (10**400, float, "it is too large a number"),
    ([1, "2"], list[float], r"it\[1\] is '2', not a number"),
    ({"config": None}, dict[str, dict], "it.config is null, not an object"),
    ([{"x": 1}], list[Point], r"it\[0\] has no field 'name'"),
    ([{"x": 1, "name": "n", "z": 1}], list[Point], r"it\[0\] has an unknown field 'z'"),
    ([{"x": 1, "name": "n", "kind": "c"}], list[Point], r"it\[0\].kind is 'c', not one of 'a', 'b'"),
    ([{"x": 1, "name": "n", "kind": []}], list[Point], r"it\[0\].kind is a list, not one of"),
    ({"of": "it"}, Entry, "it has no field 'value'"),
    ("x" * 99, int, "it is text, not a whole number"),
    (1, str | None, "it is a whole number"),
    (1, tuple[str, ...], "it is a whole number, not a list"),
    ([1], tuple[str, ...], r"it\[0\] is a whole number, not text"),
]


@pytest.mark.parametrize(("value", "hint", "expected"), GOOD, ids=str)
def test_what_fits_is_given(value, hint, expected):
    found = fit(value, hint)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("value", "hint", "said"), BAD, ids=[said for *_, said in BAD])
def test_what_does_not_fit_is_named(value, hint, said):
    with pytest.raises(ValueError, match=said):
        fit(value, hint)
