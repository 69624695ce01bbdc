"""Random orders of examples."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fnn.base.checks import check_key
from fnn.base.errors import require
from fnn.base.types import Key


def stratified(key: Key, labels: Int[Array, " n"] | Int[np.ndarray, " n"]) -> Int[Array, " n"]:
    """The indices `[n]` of n examples in a random order, in every prefix of which the classes are in proportion.

    Of the first m examples m · n_c / n are of class c, to within (1 + C · n_c / n) / 2 with C classes: one, where all
    are equally common. So it may be cut anywhere to train, validate and test on. The n_c examples of a class are
    shuffled, number r = 0, 1, … of them gets the sort key (r + ½) / n_c, and equal sort keys are ordered at random.
    """
    check_key(key)
    one_axis = getattr(labels, "ndim", None) == 1 and len(labels) > 0
    require(one_axis, f"Labels are an array of one axis, not {getattr(labels, 'shape', repr(labels))}.")
    labels = jnp.asarray(labels)
    k_shuffle, k_equals = jax.random.split(key)
    # In float32 whatever the default: an order depends on its key and labels only.
    by_class = jnp.lexsort((jax.random.uniform(k_shuffle, labels.shape, jnp.float32), labels))
    ordered = labels[by_class]
    first, end = (jnp.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    rank, count = (jnp.asarray(n, jnp.float32) for n in (jnp.arange(len(labels)) - first, end - first))
    at = (rank + 0.5) / count
    return by_class[jnp.lexsort((jax.random.uniform(k_equals, at.shape, jnp.float32), at))]
