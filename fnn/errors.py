"""The one error for bad input: a single sentence that names the thing, its value and what is allowed."""

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np


class InputError(ValueError):
    """Input a person can mend. The command line prints its sentence and ends with exit code 2."""


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError(sentence)` unless `condition` holds.

    Call it before work starts, on values that are known without tracing.
    """
    if not condition:
        raise InputError(sentence)


def whole(value: Any, least: float | int = 0, most: float | int = math.inf) -> bool:
    """Whether `value` is a whole number, no truth value, from `least` to `most`."""
    try:
        return not isinstance(value, bool | np.bool_) and least <= operator.index(value) <= most
    except TypeError:
        return False


def real(value: Any, least: float | int = -math.inf, most: float | int = math.inf) -> bool:
    """Whether `value` is one finite number from `least` to `most`; what is traced could be, and passes."""
    if isinstance(value, bool | np.bool_) or getattr(value, "shape", ()) != ():
        return False
    try:
        return math.isfinite(value) and least <= value <= most
    except TypeError:
        return hasattr(value, "aval")  # a traced number has no value yet


def near(name: Any, names: Iterable[str]) -> str:
    """For the end of a sentence: which of `names` may have been meant, and all there are."""
    names = list(names)
    close = difflib.get_close_matches(str(name), names, 1)
    return f"{f'did you mean {close[0]}? ' if close else ''}there are {', '.join(names) or 'none'}"
