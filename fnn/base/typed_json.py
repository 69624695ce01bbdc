"""JSON values checked against type hints, with the path of what does not fit."""

import dataclasses
import types
import typing
from typing import Any


def fit(value: Any, hint: Any, place: str = "it") -> Any:
    """The JSON value as the hint's type: a whole number may become a float, an object a dataclass.

    hint: `Any`, `None`, `bool`, `int`, `float`, `str`, `list`, `dict`, `list[X]`, `dict[str, X]`, `tuple[X, ...]` (of a
    list), a `Literal`, a union, a dataclass or a `TypedDict`, whose objects have all required fields and no others.

    place: the name of the value in messages. Raises `ValueError` with the path of the first value that does not fit.
    """
    kind: Any = typing.get_origin(hint) or hint
    inner = typing.get_args(hint)
    if hint is Any:
        return value
    if kind is typing.Literal:
        if type(value) in map(type, inner) and value in inner:
            return value
        raise ValueError(f"{place} is {_called(value)}, not one of {', '.join(map(repr, inner))}")
    if kind in (typing.Union, types.UnionType):
        for one in inner:
            try:
                return fit(value, one, place)
            except ValueError:
                continue
        raise ValueError(f"{place} is {_called(value)}")
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        make: Any = kind
        return make(**_fields(value, kind, place))
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{place} is too large a number") from None
    if kind is tuple and type(value) is list:
        return tuple(fit(one, inner[0], f"{place}[{i}]") for i, one in enumerate(value))
    if type(value) is not (type(None) if kind is None else kind):
        raise ValueError(f"{place} is {_called(value)}, not {NAMES[kind]}")
    if kind is list and inner:
        return [fit(one, inner[0], f"{place}[{i}]") for i, one in enumerate(value)]
    if kind is dict and inner:
        return {name: fit(one, inner[1], f"{place}.{name:.40}") for name, one in value.items()}
    return value


NAMES = {
    None: "null",
    type(None): "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}
"""JSON's kinds of values, as text for messages."""


def _called(value):
    return repr(value) if isinstance(value, str) and len(value) <= 40 else NAMES[type(value)]


def _fields(value, kind, place):
    if type(value) is not dict:
        raise ValueError(f"{place} is {_called(value)}, not {NAMES[dict]}")
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        free = (dataclasses.MISSING, dataclasses.MISSING)
        needed = {field.name for field in dataclasses.fields(kind) if (field.default, field.default_factory) == free}
    else:
        needed = kind.__required_keys__
    missing, unknown = sorted(needed - value.keys()), sorted(value.keys() - hints.keys())
    if missing or unknown:
        raise ValueError(f"{place} has {'no' if missing else 'an unknown'} field {(missing or unknown)[0]!r:.40}")
    return {name: fit(one, hints[name], f"{place}.{name}") for name, one in value.items()}
