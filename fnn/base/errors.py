"""The error for bad input, one sentence that names the thing, its value and what is allowed; and its conditions."""

import difflib
import math
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class InputError(ValueError):
    """Invalid input from a user. The command line prints its sentence, one line, and ends with exit code 2."""

    def __init__(self, sentence: str):
        super().__init__(re.sub(r"\s*\n\s*", " ", sentence))  # values may be printed over several lines


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError(sentence)` unless `condition` holds.

    Call it before work starts, on values that are known without tracing.
    """
    if not condition:
        raise InputError(sentence)


def whole(value: Any, least: float | int = 0, most: float | int = math.inf) -> bool:
    """Whether `value` is a whole number, not a bool, from `least` to `most`."""
    try:
        return not isinstance(value, bool | np.bool_) and least <= operator.index(value) <= most
    except TypeError:
        return False


def real(value: Any, least: float | int = -math.inf, most: float | int = math.inf) -> bool:
    """Whether `value` is one finite number, not a bool, from `least` to `most`; true for every traced number."""
    if isinstance(value, bool | np.bool_) or getattr(value, "shape", ()) != ():
        return False
    try:
        return bool(math.isfinite(value) and least <= value <= most)
    except TypeError:
        return hasattr(value, "aval")  # a traced number has no value yet


def listed(value: Any) -> bool:
    """Whether `value` is a sequence of anything: a list, tuple, range or array of one axis, but not text."""
    if isinstance(value, Sequence):
        return not isinstance(value, str | bytes)
    return getattr(value, "ndim", 0) == 1


def near(name: Any, names: Iterable[str]) -> str:
    """The end of a sentence about a `name` that is not among `names`: all of these, and the most similar one."""
    names = list(names)
    close = difflib.get_close_matches(str(name), names, 1)
    return f"there are {', '.join(names) or 'none'}{f' (did you mean {close[0]}?)' if close else ''}"
