"""The notes' network: the order of its layers, its shapes, and numbers that may be traced."""

import inspect
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.base.errors import InputError
from fnn.nn.init import constant, he, normal
from fnn.nn.layers import Affine, BatchNorm, elementwise, relu, sigmoid, tanh
from fnn.nn.losses import softmax_cross_entropy
from fnn.nn.models import cnn, multilayer, transformer

KEY = jax.random.key(0)
NOISE = jax.random.key(1)
NORMALIZE = pytest.mark.parametrize("normalize", [None, "before", "after"])


def notes(**options):
    return multilayer((100,) * 4, 10, **options)


def affines(params):
    return [layer for layer in params if isinstance(layer, Affine)]


@NORMALIZE
@pytest.mark.parametrize("ratio", [None, 0.4])
def test_order_of_layers(x64, normalize, ratio):
    """affine → [batch norm] → activation → [batch norm] → [dropout], and nothing after the last affine layer.

    The dropout here is a map that commutes with none of the others, so every order has its own outputs.
    """
    x = 3 + jax.random.normal(KEY, (8, 4), jnp.float64)
    drop = lambda ratio: elementwise(lambda x: ratio * x**2 + 1)
    net = multilayer((6, 5), 3, activation=tanh, normalize=normalize, dropout_ratio=ratio, drop=drop)
    params, stats = net.init(KEY, x)
    params = jax.tree.map(lambda a: a + 0.2 if a.ndim == 1 and not a.any() else a, params)  # biases and β off 0
    y, _ = net.apply(params, stats, x, None, True)

    def batch_norm(a, on):
        return (a - a.mean(0)) / jnp.sqrt(a.var(0) + 1e-6) + 0.2 if on else a

    *hidden, last = affines(params)
    for layer in hidden:
        x = batch_norm(x @ layer.w.T + layer.b, normalize == "before")
        x = batch_norm(jnp.tanh(x), normalize == "after")
        x = x if ratio is None else ratio * x**2 + 1
    np.testing.assert_allclose(y, x @ last.w.T + last.b, rtol=1e-10)


def test_defaults():
    """ReLU, the notes' dropout (its factor at inference is the keep ratio), He's weights and biases of 0."""
    x = jax.random.normal(NOISE, (8, 4))
    net = multilayer((500,), 3, dropout_ratio=0.25)
    params, stats = net.init(KEY, x)
    first, last = affines(params)
    y, _ = net.apply(params, stats, x, None, False)
    np.testing.assert_allclose(y, 0.75 * relu(x @ first.w.T) @ last.w.T, rtol=1e-5, atol=1e-5)
    for layer in (first, last):
        np.testing.assert_array_equal(layer.b, 0)
        # The variance of n normal draws has relative standard error √(2/n).
        assert abs(layer.w.var() * layer.w.shape[1] / 2 - 1) < 5 * (2 / layer.w.size) ** 0.5


@NORMALIZE
def test_the_notes_network(normalize):
    net = notes(normalize=normalize)
    params, stats = jax.eval_shape(net.init, KEY, jax.ShapeDtypeStruct((100, 784), jnp.float32))
    widths = [784, 100, 100, 100, 100, 10]
    shapes = [(layer.w.shape, layer.b.shape) for layer in affines(params)]
    assert shapes == [((n_out, n_in), (n_out,)) for n_in, n_out in pairwise(widths)]
    normalized = sum(isinstance(layer, BatchNorm) for layer in params)
    assert normalized == (0 if normalize is None else 4)
    # 784·100 + 3·100·100 + 100·10 weights, 410 biases, and γ and β of every normalized unit.
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 109_400 + 410 + 200 * normalized
    assert sum(leaf.size for leaf in jax.tree.leaves(stats)) == 200 * normalized
    x = jnp.ones((7, 784))
    assert jax.eval_shape(lambda p, s: net.apply(p, s, x, KEY, True), params, stats)[0].shape == (7, 10)


def test_a_network_without_hidden_layers_is_affine():
    x = jax.random.normal(NOISE, (8, 4))
    params, stats = multilayer((), 3).init(KEY, x)
    y, _ = multilayer((), 3).apply(params, stats, x, None, True)
    np.testing.assert_allclose(y, x @ params[0].w.T + params[0].b, rtol=1e-5, atol=1e-6)


def test_traced_numbers_do_not_recompile():
    x, traces = jax.random.normal(NOISE, (8, 4)), []

    @jax.jit
    def outputs(scale, ratio):
        traces.append((scale, ratio))
        net = multilayer((6,), 3, weights=normal(scale), dropout_ratio=ratio)
        params, stats = net.init(KEY, x)
        return net.apply(params, stats, x, NOISE, True)[0], net.apply(params, stats, x, None, False)[0]

    base = outputs(1.0, 0.5)
    for scale, ratio in [(0.5, 0.5), (1.0, 0.0), (3.0, 0.25)]:
        train, inference = outputs(scale, ratio)
        # Two affine layers without biases and a ReLU: of degree 2 in the scale, and linear in what inference keeps.
        np.testing.assert_allclose(inference, base[1] * scale**2 * (1 - ratio) / 0.5, rtol=1e-4)
        assert ratio == 0.5 or not np.allclose(train, base[0] * scale**2)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("weights", "activation", "moves"),
    [(constant(0.0), relu, False), (constant(0.0), sigmoid, True), (constant(0.5), tanh, True)],
    ids=["zero-relu", "zero-sigmoid", "constant-tanh"],
)
def test_equal_units_stay_equal(x64, weights, activation, moves):
    """Notes §2.1: units that start equal get equal gradients; with zeros under ReLU the weights get none at all."""
    x, y = jax.random.normal(NOISE, (20, 4), jnp.float64), jnp.arange(20) % 3
    net = multilayer((6, 5), 3, activation=activation, weights=weights)

    def spread(params):
        return max(float(jnp.ptp(layer.w, axis=0).max()) for layer in affines(params)[:-1])

    def trained(net):
        params, stats = net.init(KEY, x)
        loss = lambda params: softmax_cross_entropy(net.apply(params, stats, x, None, True)[0], y)
        step = jax.jit(lambda params: jax.tree.map(lambda w, g: w - 0.5 * g, params, jax.grad(loss)(params)))
        start = params
        for _ in range(5):
            params = step(params)
        return start, params

    start, params = trained(net)
    assert spread(params) < 1e-12
    traveled = [float(jnp.abs(a.w - b.w).max()) for a, b in zip(affines(start), affines(params), strict=True)]
    assert all(d > 1e-9 for d in traveled) if moves else traveled == [0, 0, 0]
    assert jnp.abs(params[-1].b).max() > 1e-3
    assert spread(trained(multilayer((6, 5), 3, activation=activation, weights=he()))[1]) > 0.1


def test_normalize_has_three_values():
    # Unwrapped, because the annotations' check of the tests would answer first.
    with pytest.raises(InputError, match="'before', 'after' or None, not 'between'"):
        inspect.unwrap(multilayer)((6,), 3, normalize="between")


def test_a_cnn_halves_images_and_widens_them():
    net = cnn(10)
    images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    params, stats = jax.eval_shape(lambda key: net.init(key, images), KEY)
    shapes = [layer.w.shape for layer in params if layer]
    assert shapes == [(16, 1, 3, 3), (32, 16, 3, 3), (128, 7 * 7 * 32), (10, 128)]
    run = lambda params, x: net.apply(params, stats, x, None, True)[0]
    assert jax.eval_shape(run, params, images).shape == (2, 10)


def test_a_transformers_parameters():
    """12 · width² + 13 · width a block, as GPT-2's; the tables, the last norm and the layer to the logits."""
    width, vocabulary, context, blocks = 64, 65, 32, 2
    net = transformer(vocabulary, context, blocks=blocks, width=width)
    tokens = jax.ShapeDtypeStruct((2, context), jnp.int32)
    params, _ = jax.eval_shape(lambda key: net.init(key, tokens), KEY)
    block = 12 * width**2 + 13 * width
    others = (vocabulary + context) * width + 2 * width + (width + 1) * vocabulary
    assert sum(w.size for w in jax.tree.leaves(params)) == blocks * block + others


def test_dropout_acts_on_what_blocks_add():
    net = transformer(5, 4, width=8, heads=2, dropout_ratio=0.5)
    tokens = jnp.array([[0, 1, 2, 3]])
    params, stats = net.init(KEY, tokens)
    run = lambda key, train: net.apply(params, stats, tokens, key, train)[0]
    assert (run(KEY, True) != run(NOISE, True)).any()
    np.testing.assert_array_equal(run(KEY, False), run(None, False))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cnn(10, channels=16), "channels of convolutions are a list of whole numbers, not 16"),
        (lambda: cnn(10, dense="128"), "widths of dense layers are a list"),
        (lambda: transformer(5, blocks=-1), "0 blocks or more, not -1"),
    ],
)
def test_networks_of_no_such_shape(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
