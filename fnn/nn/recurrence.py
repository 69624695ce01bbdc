"""Recurrent layers: from `[batch, time, features]` to a state at every time, `[batch, time, hidden]`.

The inputs' part of all gates at all times is one product; only the state's part is inside the loop over time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.checks import check_key
from fnn.base.errors import require, whole
from fnn.base.types import Initializer, Scalar
from fnn.nn.axes import NO_WEIGHTS, Axes
from fnn.nn.contract import Layer
from fnn.nn.dense import check_initializers, product
from fnn.nn.init import orthogonal, xavier, zeros

MATRIX = Axes(outputs=(0,), inputs=(1,))


class LSTM(NamedTuple):
    """w `[4 · hidden, n_in]` of the inputs, u `[4 · hidden, hidden]` of the state, b `[4 · hidden]`: of the input gate,
    the forget gate, the candidate and the output gate, in this order."""

    w: Array
    u: Array
    b: Array

    AXES = (MATRIX, MATRIX, NO_WEIGHTS)


class GRU(NamedTuple):
    """w `[3 · hidden, n_in]` of the inputs, u `[3 · hidden, hidden]` of the state, b `[3 · hidden]`: of the reset gate,
    the update gate and the candidate, in this order; c `[hidden]`, of the state's part of the candidate."""

    w: Array
    u: Array
    b: Array
    c: Array

    AXES = (MATRIX, MATRIX, NO_WEIGHTS, NO_WEIGHTS)


def lstm(
    hidden: int,
    *,
    w: Initializer | None = None,
    u: Initializer | None = None,
    b: Initializer = zeros,
    forget: Scalar = 1.0,
) -> Layer:
    """Long short-term memory, from `[batch, time, n_in]` to the outputs h at all times, `[batch, time, hidden]`.

        i, f, g, o = σ, σ, tanh, σ of W x_t + U h_{t−1} + b
        c_t = f ⊙ c_{t−1} + i ⊙ g,    h_t = o ⊙ tanh(c_t),    h_0 = c_0 = 0

    Hochreiter & Schmidhuber 1997, Long short-term memory, with the forget gate of Gers et al. 2000, Learning to forget.
    w, u: draw `[n_in, hidden]` and `[hidden, hidden]`, once for each gate; by default of variance 1 / n_in, and
        orthogonal.
    forget: what is added to the forget gate's bias at the start: 1 keeps gradients alive, Jozefowicz et al. 2015, An
        empirical exploration of recurrent network architectures, §2.
    """
    _check(hidden, "LSTM")
    check_initializers(w=w, u=u, b=b)

    def init(key, x):
        params = LSTM(*_gates(key, 4, hidden, x, w, u, b))
        return params._replace(b=params.b.at[hidden : 2 * hidden].add(jnp.asarray(forget, x.dtype))), ()

    def apply(params, stats, x, key, train):
        def step(state, gates):
            h, c = state
            i, f, g, o = jnp.split(gates + product(h, params.u), 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((len(x), hidden), x.dtype)
        return _over_time(step, (zero, zero), product(x, params.w) + params.b), stats

    return Layer(init, apply)


def gru(hidden: int, *, w: Initializer | None = None, u: Initializer | None = None, b: Initializer = zeros) -> Layer:
    """Gated recurrent unit, from `[batch, time, n_in]` to the states h at all times, `[batch, time, hidden]`.

        r, z = σ of W x_t + U h_{t−1} + b
        n = tanh(W_n x_t + b_n + r ⊙ (U_n h_{t−1} + c))
        h_t = (1 − z) ⊙ n + z ⊙ h_{t−1},    h_0 = 0

    Cho et al. 2014, arXiv:1406.1078, eq. 5–8, with the reset after the product, as in torch, flax and cuDNN.
    w, u: draw `[n_in, hidden]` and `[hidden, hidden]`, once for each gate; by default of variance 1 / n_in, and
        orthogonal.
    """
    _check(hidden, "GRU")
    check_initializers(w=w, u=u, b=b)

    def init(key, x):
        return GRU(*_gates(key, 3, hidden, x, w, u, b), jnp.zeros(hidden, x.dtype)), ()

    def apply(params, stats, x, key, train):
        def step(h, gates):
            of_input, of_state = (jnp.split(part, 3, axis=-1) for part in (gates, product(h, params.u)))
            r, z = (jax.nn.sigmoid(a + b) for a, b in zip(of_input[:2], of_state[:2], strict=True))
            n = jnp.tanh(of_input[2] + r * (of_state[2] + params.c))
            h = (1 - z) * n + z * h
            return h, h

        zero = jnp.zeros((len(x), hidden), x.dtype)
        return _over_time(step, zero, product(x, params.w) + params.b), stats

    return Layer(init, apply)


def last() -> Layer:
    """What there is at the last time: from `[batch, time, features]` to `[batch, features]`."""
    return Layer(lambda key, x: ((), ()), lambda params, stats, x, key, train: (x[:, -1], stats))


def _check(hidden, name):
    require(whole(hidden, 1), f"The state of {name} has at least 1 unit, not {hidden!r}.")


def _gates(key, n, hidden, x, w, u, b):
    """The weights of the inputs and of the state, and the bias, of n gates, each drawn alone."""
    check_key(key)
    require(x.ndim == 3, f"The input of a recurrent layer is of shape [batch, time, features], not {x.shape}.")
    w, u = xavier() if w is None else w, orthogonal() if u is None else u
    k_w, k_u, k_b = jax.random.split(key, 3)

    def drawn(key, initializer, n_in):
        gates = [initializer(k, (n_in, hidden), x.dtype).T for k in jax.random.split(key, n)]
        return jnp.concatenate(gates)

    return drawn(k_w, w, x.shape[-1]), drawn(k_u, u, hidden), b(k_b, (n * hidden,), x.dtype)


def _over_time(step, start, gates):
    """The outputs of every step through `gates` `[batch, time, …]`."""
    return jax.lax.scan(step, start, gates.swapaxes(0, 1))[1].swapaxes(0, 1)
