"""Convolution and pooling: flax's and torch's numbers, central differences, fans, and rules that read axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import KEY, alike, keeps_dtype, of_layer, pulled, pulled_torch, same_alone_and_mapped, slopes_agree, wave

from fnn import layers, optim, wrappers
from fnn.base.errors import InputError
from fnn.nn.axes import Axes, axes, inputs_first
from fnn.nn.layers import (
    Convolution,
    average_pool,
    convolution,
    elementwise,
    flatten,
    global_average,
    max_pool,
    residual,
    serial,
    tanh,
)
from fnn.optim import adafactor

GEOMETRIES = [
    ((3, 3), (1, 1), "same"),
    ((2, 3), (2, 1), "valid"),
    ((3, 2), (2, 3), "same"),
    ((2, 2), (1, 2), ((1, 0), (0, 2))),
    ((1, 1), (1, 1), "valid"),
    ((3,), (2,), "same"),
    ((2,), (1,), ((2, 1),)),
]
"""Of windows, strides and paddings, in one and two axes of space."""

SPACE = (5, 6)
geometries = pytest.mark.parametrize(("window", "stride", "padding"), GEOMETRIES, ids=str)


def inputs(window, channels=2):
    return wave(2, *SPACE[: len(window)], channels, start=0.3)


def kernel(window):
    return wave(4, 2, *window), wave(4, start=2)


def of_torch(f, window, stride, padding, fill=0.0):
    """A function of torch's on inputs with channels last, padded beforehand."""
    torch = pytest.importorskip("torch")
    named = padding.upper() if isinstance(padding, str) else padding
    pads = jax.lax.padtype_to_pads(SPACE[: len(window)], window, stride, named) if isinstance(named, str) else named
    around = [n for pair in reversed(pads) for n in pair]

    def run(x, *weights):
        y = f(torch.nn.functional.pad(x.movedim(-1, 1), around, value=fill), *weights)
        return y.movedim(1, -1)

    return run


@geometries
def test_a_convolution_is_flaxs_and_torchs(x64, window, stride, padding):
    nn = pytest.importorskip("flax.linen")
    x, (w, b) = inputs(window), kernel(window)
    layer = convolution(4, window, stride, padding)
    theirs = nn.Conv(4, window, stride, padding.upper() if isinstance(padding, str) else padding)

    def flaxs(x, w, b):
        params = {"kernel": jnp.moveaxis(w, (0, 1), (-1, -2)), "bias": b}
        return theirs.apply({"params": params}, x)

    ours = lambda x, w, b: of_layer(layer, Convolution(w, b), x)
    found, expected = jax.jit(lambda *args: (pulled(ours, *args), pulled(flaxs, *args)))(x, w, b)
    alike(found, expected)
    torch = pytest.importorskip("torch")
    convolve = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[len(window)]
    run = of_torch(lambda x, w, b: convolve(x, w, b, stride), window, stride, padding)
    alike(found, pulled_torch(run, x, w, b))


@pytest.mark.parametrize(("window", "stride", "padding"), [*GEOMETRIES[:4], GEOMETRIES[6], ((2, 3), (2, 3), "valid")])
def test_pools_are_torchs(x64, window, stride, padding):
    """Where windows overlap, leave gaps, reach over the edge, or lie side by side."""
    torch = pytest.importorskip("torch")
    x, n = inputs(window), len(window)
    parts = {
        max_pool: (getattr(torch.nn.functional, f"max_pool{n}d"), -np.inf),
        average_pool: (getattr(torch.nn.functional, f"avg_pool{n}d"), 0.0),
    }
    pools = [f(window, stride, padding) for f in parts]
    ours = jax.jit(lambda x: [pulled(lambda x, pool=pool: of_layer(pool, (), x), x) for pool in pools])(x)
    for found, (f, fill) in zip(ours, parts.values(), strict=True):
        pool = of_torch(lambda x, f=f: f(x, window, stride), window, stride, padding, fill)
        alike(found, pulled_torch(pool, x))


def test_global_average_and_flatten(x64):
    x = wave(2, 3, 4, 5)
    np.testing.assert_allclose(of_layer(global_average(), (), x), x.reshape(2, 12, 5).mean(1), rtol=1e-12)
    np.testing.assert_array_equal(of_layer(flatten(), (), jnp.asarray(x)), x.reshape(2, 60))


def test_slopes(x64):
    x = jnp.asarray(wave(2, 4, 5, 2))
    layer = serial(
        convolution(3, (2, 3), (1, 2)),
        elementwise(tanh),
        residual(convolution(3, 2), max_pool(2, 1, "same")),
        average_pool(2),
        flatten(),
    )
    params, stats = layer.init(KEY, x)
    slopes_agree(lambda params, x: layer.apply(params, stats, x, None, True)[0], params, x)


def test_mapped_networks_are_as_alone(x64):
    layer = serial(convolution(3, 3, 2), elementwise(tanh), max_pool(2), flatten())
    same_alone_and_mapped(layer, jnp.asarray(wave(2, 5, 4, 2)))


def test_types_are_kept():
    layer = serial(convolution(3, 3), max_pool(3, 2, "same"), average_pool(2), residual(convolution(3, 1)), flatten())
    keeps_dtype(layer, jnp.ones((2, 6, 6, 2), jnp.bfloat16))


def test_no_pool_hides_nan():
    x = jnp.ones((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    for pool in (max_pool(2), max_pool(3, 1), average_pool(2)):
        assert jnp.isnan(of_layer(pool, (), x)).any()


def test_equal_maxima_share_the_gradient():
    slopes = jax.grad(lambda x: of_layer(max_pool(2), (), x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(slopes, np.full((1, 2, 2, 1), 0.25))


def test_fans_count_the_window():
    """He's variance 2 / n_in with n_in = window · channels, to 5 standard errors of a variance; biases are 0."""
    params, _ = convolution(200, (3, 5)).init(KEY, jax.ShapeDtypeStruct((1, 9, 9, 20), jnp.float32))
    assert params.w.shape == (200, 20, 3, 5)
    n_in = 20 * 15
    assert abs(params.w.var() * n_in / 2 - 1) < 5 * (2 / params.w.size) ** 0.5
    assert not params.b.any()


# --- rules that read the axes


def step(rule, grads, params):
    return rule.update(rule.hyper, grads, rule.init(rule.hyper, params), params)[0]


def test_axes_of_kernels():
    for window in [(3,), (3, 5)]:
        found = axes(Convolution(jnp.zeros((4, 2, *window)), jnp.zeros(4)), inputs_first)
        assert found.w == Axes((0,), (1,), tuple(range(2, 2 + len(window))))
        assert found.b.exempt


@pytest.mark.parametrize("spec", ["muon", "lars", "lamb"])
def test_a_kernel_steps_as_the_matrix_that_it_is(spec):
    """Of each output's weights at all places of the window; its biases as other biases."""
    rule = optim.rule(spec)
    params = Convolution(*(jnp.asarray(a, jnp.float32) for a in kernel((3, 2))))
    grads = jax.tree.map(lambda a: jnp.cos(3 * a), params)
    flat = lambda tree: layers.Affine(tree.w.reshape(4, -1), tree.b)
    found, expected = step(rule, grads, params), step(rule, flat(grads), flat(params))
    np.testing.assert_allclose(found.w.reshape(4, -1), expected.w, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.b, expected.b, rtol=1e-6)


def test_adaptive_clipping_takes_each_outputs_kernel():
    params = Convolution(jax.random.normal(KEY, (4, 2, 3, 3)), jnp.ones(4))
    grads = params._replace(w=params.w * jnp.array([1e-3, 1.0, 2.0, 3.0])[:, None, None, None])
    found = step(wrappers.clip_adaptive(optim.rule("sgd")), grads, params).w.reshape(4, -1)
    sizes = jnp.linalg.norm(found, axis=1) / jnp.linalg.norm(params.w.reshape(4, -1), axis=1)
    np.testing.assert_allclose(sizes, [1e-5, 1e-4, 1e-4, 1e-4], rtol=1e-5)


def test_adafactor_factors_channels_not_places():
    w = jax.ShapeDtypeStruct((130, 140, 200, 200), jnp.float32)
    found = axes(Convolution(w, jax.ShapeDtypeStruct((130,), jnp.float32)), inputs_first)
    assert adafactor.factored(w, found.w) == (1, 0)


# --- misuse

IMAGE = jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: convolution(0, 3), "at least 1 output, not 0"),
        (lambda: convolution(4, 0), "window of convolution is a whole number from 1 on"),
        (lambda: convolution(4, 3, stride=(1, 0)), "stride of convolution"),
        (lambda: convolution(4, 3, padding="full"), "'same', 'valid' or pairs"),
        (lambda: convolution(4, 3, padding=((1, -1), (0, 0))), "'same', 'valid' or pairs"),
        (lambda: convolution(4, 3, w=1.0), "An initializer of w is a function"),
        (lambda: max_pool(2.5), "window of max_pool"),
        (lambda: convolution(4, 5, padding="valid").init(KEY, IMAGE), r"window \(5, 5\) of convolution does not fit"),
        (lambda: average_pool((1, 9)).init(KEY, IMAGE), "does not fit into"),
        (lambda: convolution(4, (3, 3, 3)).init(KEY, IMAGE), "is not for the space"),
        (lambda: convolution(4, 3).init(KEY, jnp.ones((2, 16))), r"shape \[batch, \*space, channels\], not \(2, 16\)"),
        (lambda: residual(convolution(4, 3)).init(KEY, IMAGE), "A residual adds its input to its output"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_misuse(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
