"""Layouts: layers declare which axes are outputs, inputs and space, and a rule's step is the same in each of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import interop, layers, models, optim, wrappers
from fnn.nn.axes import NO_WEIGHTS, Axes, axes, inputs_first, multihead, only_matrices, outputs_first, undeclared
from fnn.optim import adafactor, muon
from fnn.optim.galore import low_rank
from fnn.rule import EMPTY, twins

KEY = jax.random.key(0)


class Kernel(NamedTuple):
    """A layer whose container declares a convolution's kernel `[*space, inputs, outputs]` and a bias."""

    k: Any
    b: Any

    AXES = (Axes((3,), (2,), (0, 1)), NO_WEIGHTS)


def network(*widths, key=KEY, dtype=jnp.float32):
    """Parameters of a network of fnn with batch normalization."""
    *hidden, outputs = widths[1:]
    return models.multilayer(hidden, outputs, normalize="before").init(key, jnp.zeros((1, widths[0]), dtype))[0]


def gradients(params, key=KEY):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([jax.random.normal(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)])


def step(rule, grads, params):
    return rule.update(rule.hyper, grads, rule.init(rule.hyper, params), params)[0]


def close(a, b, **how):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **how), a, b)


def test_axes_are_those_that_layers_declare_and_elsewhere_the_conventions():
    params = {"net": network(5, 4, 3), "bare": jnp.zeros((2, 3)), "kernel": jnp.zeros((3, 3, 2, 7)), "b": jnp.zeros(4)}
    found = axes(params, inputs_first)
    (w, b), (gamma, beta) = found["net"][0], found["net"][1]
    assert w == Axes(outputs=(0,), inputs=(1,))
    assert b == gamma == beta == found["b"] == NO_WEIGHTS
    assert found["bare"] == Axes((1,), (0,))
    assert found["kernel"] == Axes((3,), (2,), (0, 1))
    assert axes(params, outputs_first)["kernel"] == Axes((0,), (1,), (2, 3))
    assert axes(params, only_matrices(outputs_first))["kernel"] == NO_WEIGHTS
    assert multihead(jnp.zeros((2, 3, 4))) == Axes((1, 2), (0,))
    assert jax.tree.structure(found) == jax.tree.structure(params)
    gap = params | {"net": jax.tree.map(lambda w: w if w.ndim == 2 else None, params["net"])}
    assert jax.tree.leaves(axes(gap, inputs_first)["net"]) == [w, w]


def test_every_layer_with_parameters_declares_their_axes():
    series, tokens = jnp.zeros((2, 3, 4)), jnp.zeros((2, 3), int)
    made = {
        layers.Affine: (layers.affine(3), series),
        layers.Attention: (layers.attention(2), series),
        layers.BatchNorm: (layers.batch_norm(), series),
        layers.Convolution: (layers.convolution(3, 2), series),
        layers.GRU: (layers.gru(3), series),
        layers.Gain: (layers.rms_norm(), series),
        layers.LSTM: (layers.lstm(3), series),
        layers.Scaled: (layers.layer_norm(), series),
        layers.Table: (layers.embedding(5, 3), tokens),
    }
    state = {layers.Layer, layers.Running}
    assert made.keys() == {kind for kind in vars(layers).values() if isinstance(kind, type)} - state
    for kind, (layer, x) in made.items():
        params, _ = layer.init(KEY, x)
        assert type(params) is kind
        declared = axes(params, undeclared)
        assert all(found.known for found in jax.tree.leaves(declared))
        assert jax.tree.structure(declared) == jax.tree.structure(params)


def test_a_matrix_and_back():
    x = jax.random.normal(KEY, (2, 3, 4, 5))
    for a in (Axes((3,), (2,), (0, 1)), Axes((0,), (1,), (2, 3)), Axes((1, 2), (0, 3))):
        matrix = a.matrix(x)
        assert matrix.shape == (x.size // matrix.shape[1], np.prod([x.shape[i] for i in a.outputs]))
        np.testing.assert_array_equal(a.array(matrix, x.shape), x)
    np.testing.assert_array_equal(Axes((1,), (0,)).matrix(x[0, 0]), x[0, 0])
    np.testing.assert_array_equal(Axes((0,), (1,)).matrix(x[0, 0]), x[0, 0].T)


def spread(update):
    """The median singular value."""
    return float(np.median(np.linalg.svd(np.asarray(update, np.float64), compute_uv=False)))


@pytest.mark.parametrize(("inputs", "outputs"), [(784, 100), (100, 400)])
def test_muons_step_has_the_same_singular_values_in_every_layout(inputs, outputs):
    """Flax's and torch's matrices, and fnn's own layers: about 0.74 · √max(1, outputs / inputs)."""
    g = jax.random.normal(KEY, (inputs, outputs))
    wanted = 0.74 * max(1, outputs / inputs) ** 0.5
    plain = lambda rule: rule._replace(hyper=rule.hyper._replace(lr=1.0, weight_decay=0.0))
    ours, optaxs, torchs = map(plain, (muon.muon, muon.DIALECTS["optax"], muon.DIALECTS["torch"]))
    layer = layers.Affine(g.T, jnp.zeros(outputs))
    found = {
        "flax": step(optaxs, g, 0 * g),
        "torch": step(torchs, g.T, 0 * g.T),
        "bare": step(ours, g.T, 0 * g.T),
        "fnn": step(ours, layer, layer).w,
        "fnn, by the torch dialect": step(torchs, layer, layer).w,
        "fnn, by optax's": step(optaxs, layer, layer).w,
        "fnn, through optax": interop.to_optax(ours).update(layer, interop.to_optax(ours).init(layer), layer)[0].w,
    }
    assert {name: pytest.approx(spread(u), rel=0.1) for name, u in found.items()} == dict.fromkeys(found, wanted)


def test_transposing_the_convention_transposes_the_step():
    w = jax.random.normal(KEY, (20, 6))
    first, last = muon.orthogonalized(inputs_first), muon.orthogonalized(outputs_first)
    close(step(first, w, w).T, step(last, w.T, w.T), rtol=1e-5, atol=1e-6)
    kernel = jax.random.normal(KEY, (3, 3, 4, 8))  # HWIO
    turn = lambda k: jnp.transpose(k, (3, 2, 0, 1))  # OIHW
    close(turn(step(first, kernel, kernel)), step(last, turn(kernel), turn(kernel)), rtol=1e-4, atol=1e-6)
    flat = kernel.reshape(36, 8)
    close(step(first, kernel, kernel).reshape(36, 8), step(first, flat, flat), rtol=1e-4, atol=1e-6)
    declared = Kernel(kernel, jnp.ones(8))
    close(step(muon.muon, declared, declared).k, step(first, kernel, kernel), rtol=1e-6)
    sgd = optim.rule("sgd")
    clip = lambda layout: wrappers.clip_adaptive(sgd, layout)
    close(step(clip(inputs_first), w, w).T, step(clip(outputs_first), w.T, w.T), rtol=1e-6)
    close(
        turn(step(clip(inputs_first), kernel, kernel)), step(clip(outputs_first), turn(kernel), turn(kernel)), rtol=1e-6
    )


def test_a_step_on_fnns_layers_is_the_same_in_any_company():
    """Through groups with gaps, masks, accumulation, clipping, a sweep, and optax's masks."""
    rule, params = muon.muon, network(6, 5, 9, 3)
    grads = gradients(params)
    alone = step(rule, grads, params)
    weights = lambda tree: [u for u in jax.tree.leaves(tree) if u.ndim == 2]
    label = lambda p: jax.tree.map(lambda w: "weights" if w.ndim == 2 else "others", p)
    company = {
        "groups": wrappers.by_group({"weights": rule, "others": optim.rule("adam")}, label),
        "only": wrappers.only(rule, wrappers.matrices),
        "accumulate": wrappers.accumulate(rule, 1),
        "clip": wrappers.clip_norm(rule)._replace(hyper=wrappers.Clipped(rule.hyper, 1e9)),
        "lookahead": wrappers.lookahead(rule, 2),
        "ema": wrappers.ema(rule),
        "master": wrappers.master(rule),
    }
    for around in company.values():
        close(weights(step(around, grads, params)), weights(alone), rtol=2e-5, atol=1e-7)
    masked = optax.masked(interop.to_optax(rule), wrappers.matrices)
    close(weights(masked.update(grads, masked.init(params), params)[0]), weights(alone), rtol=2e-5, atol=1e-7)
    rates = jnp.array([0.01, 0.02])
    many = jax.vmap(lambda lr: step(rule._replace(hyper=rule.hyper._replace(lr=lr)), grads, params))(rates)
    close(jax.tree.map(lambda u: u[1], many), alone, rtol=2e-5, atol=1e-7)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, network(6, 5, 9, 3, key=jax.random.key(5)))
    each = jax.vmap(lambda p: step(rule, grads, p))(stacked)
    close(jax.tree.map(lambda u: u[0], each), alone, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("spec", ["muon", "lars", "lamb", "adafactor"])
def test_the_twin_reads_the_same_axes(spec, x64):
    """On fnn's own layers, over steps, with decay, in float64."""
    rule, twin = optim.rule(spec), twins.twin(spec, optim.rule(spec).hyper)
    params = network(7, 5, 9, 3, dtype=jnp.float64)
    hp = jax.tree.map(jnp.float64, rule.hyper)
    hp = hp._replace(weight_decay=jnp.float64(0.1)) if "weight_decay" in hp._fields else hp

    def trajectory(rule):
        def one(carry, key):
            params, state = carry
            updates, state = rule.update(hp, gradients(params, key), state, params)
            return (jax.tree.map(jnp.add, params, updates), state), updates

        keys = jax.random.split(KEY, 12)
        return jax.jit(lambda p: jax.lax.scan(one, (p, rule.init(hp, p)), keys)[1])(params)

    for a, b in zip(*map(jax.tree.leaves, map(trajectory, (rule, twin))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(a).max())


@pytest.mark.parametrize("spec", ["lars", "lamb"])
def test_biases_and_scales_of_layers_have_no_trust_ratio(spec):
    """Their step is as long as momentum's or Adam's; of bare arrays every one has a ratio, as in optax."""
    rule = optim.rule(spec)
    rule = rule._replace(hyper=rule.hyper._replace(lr=1.0, weight_decay=0.5))
    plain = {"lars": lambda g: -g, "lamb": lambda g: -jnp.sign(g)}[spec]
    params = jax.tree.map(lambda w: w + 3.0, network(4, 5, 3))
    grads = gradients(params)
    for node, u, g in zip(params, step(rule, grads, params), grads, strict=True):
        if isinstance(node, layers.BatchNorm):
            close(u, jax.tree.map(plain, g), rtol=1e-4)
        elif node:
            close(u.b, plain(g.b), rtol=1e-4)
            assert not np.allclose(u.w, plain(g.w), rtol=0.1)
    assert not np.allclose(step(rule, grads[0].b, params[0].b), plain(grads[0].b), rtol=0.1)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (6, 4), (3, 2, 4), (3, 2, 4, 5), (2, 3, 2, 4, 5)])
def test_adaptive_clipping_is_optaxs_on_arrays_of_every_kind(shape):
    w = jax.random.normal(KEY, shape)
    g = 10.0 ** jnp.linspace(-4, 1, w.size).reshape(shape) * w
    rule = wrappers.clip_adaptive(optim.rule("sgd"))
    theirs = optax.adaptive_grad_clip(0.01)
    expected, _ = theirs.update(g, theirs.init(w), w)
    np.testing.assert_allclose(step(rule, g, w) / -0.01, expected, rtol=1e-5)
    assert w.size <= 1 or not np.allclose(expected, g)


def test_adaptive_clipping_takes_units_from_layers():
    layer = layers.Affine(jax.random.normal(KEY, (4, 6)), jnp.ones(4))
    grads = layers.Affine(layer.w * jnp.array([[1e-3], [1.0], [2.0], [3.0]]), 5 * jnp.ones(4))
    found = step(wrappers.clip_adaptive(optim.rule("sgd")), grads, layer)
    by_row = step(wrappers.clip_adaptive(optim.rule("sgd"), outputs_first), grads.w, layer.w)
    close(found.w, by_row, rtol=1e-6)
    sizes = jnp.linalg.norm(found.w, axis=1) / jnp.linalg.norm(layer.w, axis=1)
    np.testing.assert_allclose(sizes, [1e-5, 1e-4, 1e-4, 1e-4], rtol=1e-5)


def test_adafactor_factors_outputs_and_inputs_where_a_layer_declares_them():
    """Not its two largest axes, as it does of a bare array, which may be places of a window."""
    shape = (150, 160, 130, 140)
    kernel = jax.ShapeDtypeStruct(shape, jnp.float32)
    bare, declared = adafactor.factored(kernel, Axes(known=False)), adafactor.factored(kernel, Kernel.AXES[0])
    assert bare == (1, 0)
    assert declared == (3, 2)
    assert adafactor.factored(kernel, NO_WEIGHTS) is None
    wide = layers.Affine(jnp.ones((130, 200)), jnp.ones(130))
    state = adafactor.adafactor.init(adafactor.adafactor.hyper, wide).own
    assert (state.r.w.shape, state.c.w.shape, state.v.w) == ((130,), (200,), EMPTY)


@pytest.mark.parametrize(("spec", "projected", "scale"), [("galore", "longer", 1.0), ("galore:paper", "shorter", 0.25)])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_galores_first_step_by_hand(spec, projected, scale, shape, x64):
    """NumPy's singular vectors of the side that the dialect projects; at first Adam's step is r / (|r| + eps)."""
    rule = low_rank(2, 10, longer=projected == "longer", scale=scale)
    g = np.random.default_rng(0).standard_normal(shape)
    u, _, vt = np.linalg.svd(g.astype(np.float32))
    rows = (shape[0] > shape[1]) == (projected == "longer")
    p = (u if rows else vt.T)[:, :2].astype(float)
    r = p.T @ g if rows else g @ p
    u = r / (np.abs(r) + 1e-8)
    expected = -1e-3 * scale * (p @ u if rows else u @ p.T)
    state = rule.init(rule.hyper, jnp.asarray(g))
    assert state.own.p.shape == p.shape
    assert state.own.m.shape == ((2, g.size // len(p)))
    np.testing.assert_allclose(step(rule, jnp.asarray(g), jnp.asarray(g)), expected, rtol=1e-4)
    assert optim.rule(spec).hyper.scale == scale
