"""Types with names: numbers, keys, trees. jaxtyping and beartype check the shapes while the tests run."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jaxtyping
from jaxtyping import Array, PRNGKeyArray, Shaped

Scalar = float | int | Shaped[Array, ""]
"""A traced number: a hyperparameter, a loss, a time."""


class Interval:
    """The numbers of an interval, `written` as "[0, 1)" or "(0, ∞]". NaN and what is not a number are in none."""

    def __init__(self, written: str):
        low, high = written[1:-1].split(",")
        self.low, self.high = (float(end.replace("∞", "inf")) for end in (low, high))
        self.with_low, self.with_high = written[0] == "[", written[-1] == "]"
        self.written = written

    def __contains__(self, x: Any) -> bool:
        try:
            above = self.low <= x if self.with_low else self.low < x
            below = x <= self.high if self.with_high else x < self.high
        except TypeError:
            return False
        return bool(above and below)

    def __repr__(self) -> str:
        return self.written


Real = Annotated[Scalar, Interval("(-∞, ∞)")]
NonNegative = Annotated[Scalar, Interval("[0, ∞)")]
Positive = Annotated[Scalar, Interval("(0, ∞)")]
Limit = Annotated[Scalar, Interval("(0, ∞]")]
Kept = Annotated[Scalar, Interval("[0, 1)")]
Fraction = Annotated[Scalar, Interval("(0, 1)")]
"""Types of hyperparameters: a number and its interval. Kept is the old value's share in a moving average."""

Key = PRNGKeyArray
"""A `jax.random.key`, never used twice: it is split or folded."""

Keys = jaxtyping.Key[Array, " seeds"]
"""A key for each seed."""

Params = Any
"""A pytree of arrays that training changes."""

Hyper = Any
"""A pytree of traced numbers that training reads, usually a `NamedTuple`."""

Spec = Array | jax.ShapeDtypeStruct
"""An array, or only its shape and dtype."""

Initializer = Callable[..., Array]
"""`(key, shape, dtype) -> array`, the signature of `jax.nn.initializers`."""
