"""Attention: every place of a sequence reads from the others."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.base.checks import check_key
from fnn.base.errors import require, whole
from fnn.base.types import Initializer, Scalar
from fnn.nn.contract import Layer
from fnn.nn.dense import Affine, affine_params, check_initializers, product
from fnn.nn.embedding import check_rotary, rotary
from fnn.nn.init import xavier, zeros


class Attention(NamedTuple):
    """Affine maps to the queries, keys and values of all heads, one head after the other, and from their outputs."""

    query: Affine
    key: Affine
    value: Affine
    out: Affine


def weighted_values(
    query: Float[Array, "*heads time features"],
    key: Float[Array, "*heads places features"],
    value: Float[Array, "*heads places out"],
    causal: bool = False,
) -> Float[Array, "*heads time out"]:
    """softmax(q kᵀ / √features) v, over places; with `causal` a time reads only from places up to itself.

    The softmax is in at least float32. Vaswani et al. 2017, arXiv:1706.03762, eq. 1. Both products contract the last
    axis of their left operand, which is what matrix libraries do fastest.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("...td,...pd->...tp", query, key).astype(wide) / math.sqrt(query.shape[-1])
    if causal:
        earlier = jnp.arange(key.shape[-2]) <= jnp.arange(query.shape[-2])[:, None]
        scores = jnp.where(earlier, scores, -jnp.inf)
    return jnp.einsum("...tp,...pd->...td", jax.nn.softmax(scores).astype(value.dtype), value)


def attention(
    heads: int,
    causal: bool = False,
    *,
    size: int | None = None,
    base: Scalar | None = None,
    w: Initializer | None = None,
    b: Initializer = zeros,
) -> Layer:
    """Multi-head self-attention, from `[batch, time, width]` to the same shape.

        y = W_o (head_1, …, head_n) + b_o,    head_i = softmax(q_i k_iᵀ / √size) v_i,    q_i = W_q,i x + b_q,i

    and k_i, v_i as q_i.

    Vaswani et al. 2017, arXiv:1706.03762, §3.2.
    causal: whether a time reads only from times up to itself.
    size: the features of a head, by default width / heads.
    base: of the rotary positions of queries and keys, 10,000 in their paper; None leaves positions out.
    w: of all four matrices, variance 1 / inputs by default.
    Raises `InputError` where `heads` does not divide the width and no size is given.
    """
    require(whole(heads, 1), f"Attention has at least 1 head, not {heads!r}.")
    require(isinstance(causal, bool), f"Attention is causal or not, True or False, not {causal!r}.")
    require(size is None or whole(size, 1), f"A head of attention has at least 1 feature, not {size!r}.")
    check_initializers(w=w, b=b)
    w = xavier() if w is None else w

    def features(x):
        require(x.ndim == 3, f"The input of attention is of shape [batch, time, width], not {x.shape}.")
        divides = size is not None or x.shape[-1] % heads == 0
        require(divides, f"The heads of attention divide the width, and {heads} does not {x.shape[-1]}: give size.")
        d = x.shape[-1] // heads if size is None else size
        if base is not None:
            check_rotary(d, base)
        return d

    def init(key, x):
        check_key(key)
        width, inner = x.shape[-1], heads * features(x)
        *into, back = jax.random.split(key, 4)
        query, keys, value = (affine_params(k, width, inner, w, b, x.dtype) for k in into)
        return Attention(query, keys, value, affine_params(back, inner, width, w, b, x.dtype)), ()

    def apply(params, stats, x, key, train):
        batch, time, _ = x.shape
        d = features(x)

        def headed(affine):
            y = product(x, affine.w) + affine.b
            return y.reshape(batch, time, heads, d).swapaxes(1, 2)

        query, keys, value = map(headed, params[:3])
        if base is not None:
            query, keys = rotary(query, base), rotary(keys, base)
        y = weighted_values(query, keys, value, causal).swapaxes(1, 2).reshape(batch, time, heads * d)
        return product(y, params.out.w) + params.out.b, stats

    return Layer(init, apply)
