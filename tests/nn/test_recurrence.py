"""Recurrence: torch's and flax's numbers, central differences, the gates' initial weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import (
    KEY,
    alike,
    keeps_dtype,
    of_layer,
    pulled,
    pulled_torch,
    same_alone_and_mapped,
    slopes_agree,
    started,
    wave,
)

from fnn import sweep, tasks
from fnn.base.errors import InputError
from fnn.nn.axes import axes, inputs_first
from fnn.nn.layers import GRU, LSTM, affine, gru, last, lstm, serial
from fnn.nn.losses import weights

N_IN, HIDDEN = 2, 3
KINDS = pytest.mark.parametrize(("make", "kind"), [(lstm, LSTM), (gru, GRU)], ids=["lstm", "gru"])


def inputs():
    return wave(2, 4, N_IN, start=0.3)


def weights_of(kind):
    gates = {LSTM: 4, GRU: 3}[kind] * HIDDEN
    shapes = [(gates, N_IN), (gates, HIDDEN), (gates,), (HIDDEN,)][: len(kind._fields)]
    return [wave(*shape, start=i) for i, shape in enumerate(shapes)]


@KINDS
def test_torch_recurs_so(x64, make, kind):
    torch = pytest.importorskip("torch")
    x, given = inputs(), weights_of(kind)

    def run(x, w, u, b, *c):
        module = {LSTM: torch.nn.LSTM, GRU: torch.nn.GRU}[kind](N_IN, HIDDEN, batch_first=True, dtype=x.dtype)
        of_state = torch.cat([torch.zeros(2 * HIDDEN, dtype=x.dtype), *c]) if c else torch.zeros_like(b)
        named = {"weight_ih_l0": w, "weight_hh_l0": u, "bias_ih_l0": b, "bias_hh_l0": of_state}
        return torch.func.functional_call(module, named, (x,))[0]

    ours = lambda x, *given: of_layer(make(HIDDEN), kind(*given), x)
    alike(jax.jit(lambda *args: pulled(ours, *args))(x, *given), pulled_torch(run, x, *given))


@KINDS
def test_flax_recurs_so(x64, make, kind):
    nn = pytest.importorskip("flax.linen")
    x, given = inputs(), weights_of(kind)
    names = {LSTM: "ifgo", GRU: "rzn"}[kind]

    def flaxs(x, *given):
        w, u, b = (jnp.split(part, len(names)) for part in given[:3])
        if kind is LSTM:
            params = {f"i{name}": {"kernel": part.T} for name, part in zip(names, w, strict=True)}
            params |= {
                f"h{name}": {"kernel": part.T, "bias": bias} for name, part, bias in zip(names, u, b, strict=True)
            }
            cell = nn.OptimizedLSTMCell(HIDDEN, param_dtype=jnp.float64)
        else:
            params = {f"i{n}": {"kernel": part.T, "bias": bias} for n, part, bias in zip(names, w, b, strict=True)}
            params |= {f"h{n}": {"kernel": part.T} for n, part in zip(names, u, strict=True)}
            params["hn"]["bias"] = given[3]
            cell = nn.GRUCell(HIDDEN, param_dtype=jnp.float64)
        return nn.RNN(cell).apply({"params": {"cell": params}}, x)

    ours = lambda x, *given: of_layer(make(HIDDEN), kind(*given), x)
    found, expected = jax.jit(lambda *args: (pulled(ours, *args), pulled(flaxs, *args)))(x, *given)
    alike(found, expected)


@KINDS
def test_slopes(x64, make, kind):
    x = jnp.asarray(inputs())
    params, _ = started(make(HIDDEN), x)
    slopes_agree(lambda params, x: of_layer(make(HIDDEN), params, x), params, x)


@KINDS
def test_mapped_networks_are_as_alone(x64, make, kind):
    same_alone_and_mapped(make(HIDDEN), jnp.asarray(inputs()))


@KINDS
def test_types_are_kept(make, kind):
    keeps_dtype(serial(make(HIDDEN), last()), jnp.ones((2, 4, N_IN), jnp.bfloat16))


@KINDS
def test_gates_start_apart(make, kind):
    """Each gate's state matrix is orthogonal by itself, its inputs' of variance 1 / n_in; biases are 0 but one."""
    params, _ = make(50).init(KEY, jax.ShapeDtypeStruct((1, 2, 200), jnp.float32))
    gates = np.asarray(params.u).reshape(-1, 50, 50)
    np.testing.assert_allclose(gates @ gates.transpose(0, 2, 1), np.broadcast_to(np.eye(50), gates.shape), atol=1e-5)
    assert np.abs(gates[0] - gates[1]).max() > 0.1
    assert abs(params.w.var() * 200 - 1) < 5 * (2 / params.w.size) ** 0.5
    bias = np.asarray(params.b).reshape(-1, 50)
    assert bias.mean(1).tolist() == ([0, 1, 0, 0] if kind is LSTM else [0, 0, 0])


@KINDS
def test_matrices_are_weights(make, kind):
    params, _ = make(HIDDEN).init(KEY, jnp.ones((1, 2, N_IN)))
    found = axes(params, inputs_first)
    assert [found.w.weights, found.u.weights, found.b.exempt] == [True] * 3
    assert [w.shape for w in weights(params)] == [params.w.shape, params.u.shape]


def test_images_are_classified_row_by_row():
    """The rows of an image as times: a recurrent network is swept as any other."""
    x = np.random.default_rng(0).random((40, 5, 3), np.float32)
    y = (x[:, 0, 0] > 0.5).astype(np.int32)  # what came first is to be remembered
    data = {"train": tasks.Split(x, y), "test": tasks.Split(x, y)}
    task = tasks.classification(serial(gru(8), last(), affine(2)), data, 20, prepare=lambda x: x)
    found = sweep(task, ["adam"], over={"lr": [0.03]}, seeds=2, steps=100)
    assert found.test_accuracy.mean() > 0.85


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: lstm(0), "state of LSTM has at least 1 unit, not 0"),
        (lambda: gru(2.5), "state of GRU"),
        (lambda: gru(2, u=3), "An initializer of u is a function"),
        (lambda: lstm(2).init(KEY, jnp.ones((2, 3))), r"shape \[batch, time, features\], not \(2, 3\)"),
    ],
)
def test_misuse(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
