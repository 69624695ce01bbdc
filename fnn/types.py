"""Names for what flows through fnn. jaxtyping and beartype check the shapes while the tests run."""

from collections.abc import Callable
from typing import Any

import jax
import jaxtyping
from jaxtyping import Array, PRNGKeyArray, Shaped

Scalar = float | int | Shaped[Array, ""]
"""A traced number: a hyperparameter, a loss, a time."""

Key = PRNGKeyArray
"""A `jax.random.key`: split or folded, never used twice."""

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
