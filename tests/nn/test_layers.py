"""Layers: gradients against differences, batch norm against plain code, dropout against the binomial law."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy import stats as laws
from slopes import KEY, batch, slopes_agree, started

from fnn.base.errors import InputError
from fnn.nn.layers import (
    Running,
    affine,
    batch_norm,
    dropout,
    elementwise,
    gelu,
    identity,
    inverted_dropout,
    leaky_relu,
    normalize,
    relu,
    serial,
    sigmoid,
    softplus,
    tanh,
)
from fnn.nn.models import multilayer

NOISE = jax.random.key(1)
ACTIVATIONS = [identity, relu, leaky_relu, sigmoid, tanh, softplus, gelu]
LAYERS = {
    "affine": affine(3),
    "batch_norm": batch_norm(),
    "batch_norm-large-eps": batch_norm(0.5, 0.3),
    "dropout": dropout(0.3),
    "inverted_dropout": inverted_dropout(0.3),
    "serial": serial(affine(5), elementwise(gelu), batch_norm(), serial(affine(3), elementwise(softplus))),
} | {
    f"multilayer-{normalize}-{drop.__name__}-{ratio}": multilayer(
        (4,), 3, activation=tanh, normalize=normalize, dropout_ratio=ratio, drop=drop
    )
    for normalize in ("before", "after", None)
    for drop, ratio in ((dropout, None), (dropout, 0.3), (inverted_dropout, 0.3))
}
modes = pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@modes
def test_slopes(x64, layer, train):
    x = batch()
    params, stats = started(layer, x)
    # Running statistics are outputs too: in training they carry cotangents into batch norm's μ and σ².
    slopes_agree(lambda params, x: layer.apply(params, stats, x, NOISE if train else None, train), params, x)


@pytest.mark.parametrize("f", ACTIVATIONS)
def test_slopes_of_activations(x64, f):
    slopes_agree(f, batch())


def test_the_slope_check_sees_a_wrong_slope(x64):
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, d: (d * jnp.cos(x) * (1 + 1e-6),))
    with pytest.raises(AssertionError):
        slopes_agree(f, batch())


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (identity, lambda x: x),
        (relu, lambda x: np.maximum(x, 0)),
        (leaky_relu, lambda x: np.maximum(x, 0.01 * x)),
        (sigmoid, special.expit),
        (tanh, np.tanh),
        (softplus, lambda x: np.logaddexp(x, 0)),
        (gelu, lambda x: x * laws.norm.cdf(x)),
    ],
)
def test_activation(x64, f, expected):
    x = np.linspace(-8, 8, 401)
    np.testing.assert_allclose(f(jnp.asarray(x)), expected(x), rtol=1e-12)


@pytest.mark.parametrize("f", ACTIVATIONS)
def test_activations_at_the_extremes(f):
    x = jnp.array([-1e4, -100.0, 0.0, 100.0, 1e4])
    y, slope = jax.jit(jax.vmap(jax.value_and_grad(f)))(x)
    assert jnp.isfinite(y).all()
    assert jnp.isfinite(slope).all()
    low, high = {
        identity: (-1e4, 1e4),
        leaky_relu: (-100.0, 1e4),
        sigmoid: (0, 1),
        tanh: (-1, 1),
    }.get(f, (0, 1e4))
    np.testing.assert_allclose(y[jnp.array([0, 4])], [low, high], rtol=1e-6)


@pytest.mark.parametrize(("f", "slope"), [(relu, 0.0), (leaky_relu, 0.01)])
def test_slope_at_the_kink(f, slope):
    for zero in (0.0, -0.0):
        np.testing.assert_array_equal(jax.grad(f)(zero), np.float32(slope))


@pytest.mark.parametrize("f", ACTIVATIONS)
def test_activations_pass_nan_on(f):
    """A diverged run has to look like one."""
    assert jnp.isnan(f(jnp.array([jnp.nan, 1.0]))).tolist() == [True, False]


# --- normalize: the backward pass by hand against autodiff of plain code


def plain(x, gamma, beta, eps):
    mu, var = jnp.mean(x, axis=0), jnp.var(x, axis=0)
    return gamma * (x - mu) / jnp.sqrt(var + eps) + beta, mu, var


def arrays(seed, lead=()):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=lead + shape)) for shape in ((6, 4), (4,), (4,), ()))


def arguments(eps, lead):
    x, gamma, beta, one = arrays(0, lead)
    return 2 * x + 1, gamma, beta, jnp.full_like(one, eps)


def agree(ours, theirs, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


transforms = pytest.mark.parametrize(
    ("transform", "lead"),
    [(jax.jit, ()), (lambda f: jax.jit(jax.vmap(f)), (3,))],
    ids=["jit", "vmap"],
)


@pytest.mark.parametrize("eps", [1e-6, 0.3])
@transforms
def test_normalize_backward(x64, transform, lead, eps):
    def outputs_and_slopes(f):
        def pulled(args, cotangents):
            out, pull = jax.vjp(f, *args)
            return out, pull(cotangents)

        return transform(pulled)

    ours, theirs = outputs_and_slopes(normalize), outputs_and_slopes(plain)
    args, cotangents = arguments(eps, lead), arrays(1, lead)[:3]
    for on in [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:  # y, μ and σ² together, then one by one
        through = args, tuple(i * d for i, d in zip(on, cotangents, strict=True))
        out, slopes = theirs(*through)
        agree(ours(*through), (out, slopes), 1e-12)
        assert jnp.abs(slopes[0]).max() > 0.1
        assert not on[0] or all(jnp.abs(d).max() > 0.1 for d in slopes)


@pytest.mark.parametrize("eps", [1e-6, 0.3])
@transforms
def test_normalize_twice(x64, transform, lead, eps):
    """Hessian-vector products, forward over the hand-written reverse."""

    def product(f):
        def loss(*args):
            y, mu, var = f(*args)
            return (jnp.tanh(y) * jnp.cos(args[0])).sum() + jnp.sin(mu).sum() + (var**3).sum()

        return transform(lambda args, v: jax.jvp(jax.grad(loss, (0, 1, 2, 3)), args, v))

    ours, theirs = (product(f)(arguments(eps, lead), arrays(1, lead)) for f in (normalize, plain))
    assert all(jnp.abs(product).max() > 0.01 for product in theirs[1])
    agree(ours, theirs, 1e-10)


# --- batch norm


def test_batch_norm_standardizes(x64):
    x = 5 + 3 * batch(50)
    y, _ = batch_norm(eps=1e-3).apply(*batch_norm().init(KEY, x), x, None, True)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(0), x.var(0) / (x.var(0) + 1e-3), rtol=1e-12)
    np.testing.assert_allclose(batch_norm().apply(*batch_norm().init(KEY, x), x, None, True)[0].var(0), 1, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("traced", [False, True])
def test_running_statistics(x64, momentum, traced):
    xs = np.asarray(jnp.stack([i + (1 + i) * batch(key=jax.random.key(i)) for i in range(20)]))
    mean, var = np.zeros(4), np.ones(4)
    for x in xs:
        mean = momentum * mean + (1 - momentum) * x.mean(0)
        var = momentum * var + (1 - momentum) * ((x - x.mean(0)) ** 2).mean(0)

    def run(momentum):
        layer = batch_norm(momentum)
        params, stats = layer.init(KEY, xs[0])
        return jax.lax.scan(lambda s, x: (layer.apply(params, s, x, None, True)[1], None), stats, jnp.asarray(xs))[0]

    running = jax.jit(run)(momentum) if traced else run(momentum)
    np.testing.assert_allclose(running.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(running.var, var, rtol=1e-12)


def test_inference_uses_the_running_statistics(x64):
    x, layer = batch(), batch_norm(eps=0.1)
    params, _ = started(layer, x)
    stats = Running(jnp.arange(4.0), 1 + jnp.arange(4.0))
    y, after = layer.apply(params, stats, x, None, False)
    expected = params.gamma * (x - np.arange(4)) / np.sqrt(1.1 + np.arange(4)) + params.beta
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert after is stats
    one_by_one = jnp.concatenate([layer.apply(params, stats, row[None], None, False)[0] for row in x])
    np.testing.assert_allclose(y, one_by_one, rtol=1e-12)


@pytest.mark.parametrize("m", [2, 7])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e3])
def test_constant_features(m, value):
    """σ² = 0, or what rounding the mean leaves of it: y = β up to u |x| / √ε, and slopes are finite."""
    x, layer = jnp.full((m, 4), value), batch_norm()
    params, stats = started(layer, x)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def run(params, x):
        y, after = layer.apply(params, stats, x, None, True)
        return jnp.sin(y).sum(), (y, after)

    everything = (_, (y, _)), _ = run(params, x)
    bound = 2 * np.finfo(np.float32).eps * abs(value) / math.sqrt(1e-6)
    np.testing.assert_allclose(y, jnp.broadcast_to(params.beta, y.shape), rtol=1e-6, atol=bound)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(everything))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("scale", [float, jnp.float32, jnp.float64], ids=["static", "float32", "float64"])
@modes
def test_dtypes_are_kept(x64, train, scale, dtype):
    """Outputs, parameters and statistics keep the input's type, whatever the type of traced numbers:
    a scan's carry may not change its type."""
    layer = serial(
        affine(5),
        *map(elementwise, ACTIVATIONS),
        elementwise(lambda x: leaky_relu(x, scale(0.1))),
        batch_norm(scale(0.9), scale(1e-3)),
        dropout(scale(0.3)),
        inverted_dropout(scale(0.3)),
    )

    def everything(key, x):
        params, stats = layer.init(key, x)
        run = lambda params: layer.apply(params, stats, x, key, train)
        grads = jax.grad(lambda params: run(params)[0].sum())(params)
        return params, stats, run(params), grads

    leaves = jax.tree.leaves(jax.eval_shape(everything, KEY, batch(dtype=dtype)))
    assert len(leaves) == 13
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


# --- dropout

BOTH = pytest.mark.parametrize("form", [dropout, inverted_dropout])


def dropped(form, ratio, x, key=NOISE, train=True):
    return form(ratio).apply((), (), x, key, train)[0]


@BOTH
@pytest.mark.parametrize("ratio", [0.0, 0.15, 0.5, 0.9])
def test_dropout_rate_and_scale(form, ratio):
    x = batch(500, 200, jnp.float32)
    y = dropped(form, ratio, x)
    kept = y != 0
    deviation = math.sqrt(ratio * (1 - ratio))
    assert abs(kept.mean() - (1 - ratio)) <= 5 * deviation / math.sqrt(x.size)
    # No row (an example) and no column (a unit) stands out; 5.5 errors, because there are 700 of them.
    for axis in (0, 1):
        off = jnp.abs(kept.mean(axis) - (1 - ratio)).max()
        assert off <= 5.5 * deviation / math.sqrt(x.shape[axis])
    expected = x if form is dropout else x / (1 - jnp.float32(ratio))
    np.testing.assert_allclose(y[kept], expected[kept], rtol=0 if form is dropout else 1e-6)


@BOTH
def test_dropout_at_inference(x64, form):
    x = batch()
    np.testing.assert_array_equal(dropped(form, 0.25, x, None, False), 0.75 * x if form is dropout else x)


def test_dropping_everything():
    np.testing.assert_array_equal(dropped(dropout, 1.0, jnp.ones((50, 40))), 0)


@BOTH
def test_inference_is_the_expectation_of_training(form):
    draws, x = 4000, batch(dtype=jnp.float32)
    y = jax.vmap(lambda key: dropped(form, 0.3, x, key))(jax.random.split(NOISE, draws))
    error = y.std(0) / math.sqrt(draws)
    assert (error > 0).all()
    assert (jnp.abs(y.mean(0) - dropped(form, 0.3, x, None, False)) < 5 * error).all()


@BOTH
def test_masks_are_nested(form):
    """One key is one draw of uniforms, whatever the ratio: comparisons over ratios are paired."""
    ratios = jnp.array([0.0, 0.2, 0.5, 0.8])
    kept = jax.jit(jax.vmap(lambda ratio: dropped(form, ratio, jnp.ones((30, 20))) != 0))(ratios)
    assert (kept[1:] <= kept[:-1]).all()
    assert (jnp.diff(kept.sum((1, 2))) < 0).all()
    for mask, ratio in zip(kept, (0.0, 0.2, 0.5, 0.8), strict=True):
        np.testing.assert_array_equal(mask, dropped(form, ratio, jnp.ones((30, 20))) != 0)


@BOTH
def test_masks_follow_the_key(form):
    x = jnp.ones((30, 20))
    masks = [dropped(form, 0.5, x, key) for key in (KEY, KEY, NOISE)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


@BOTH
@pytest.mark.parametrize("nest", [lambda layer: layer, serial, lambda layer: serial(elementwise(relu), serial(layer))])
def test_dropout_needs_a_key_in_training_only(form, nest):
    layer, x = nest(form(0.5)), jnp.ones((2, 3))
    params, stats = layer.init(KEY, x)
    with pytest.raises(InputError, match="key"):
        layer.apply(params, stats, x, None, True)
    assert layer.apply(params, stats, x, None, False)[0].shape == x.shape


def test_dropouts_in_series_draw_apart():
    """Two independent masks keep a quarter; one mask used twice would keep half."""
    n = 40_000
    y, _ = serial(dropout(0.5), dropout(0.5)).apply(((), ()), ((), ()), jnp.ones((n // 100, 100)), NOISE, True)
    assert abs(y.mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / n)


# --- affine and serial


def test_affine(x64):
    x = batch()
    params, _ = started(affine(3), x)
    y, _ = affine(3).apply(params, (), x, None, True)
    expected = [[sum(x[i, k] * params.w[j, k] for k in range(4)) + params.b[j] for j in range(3)] for i in range(6)]
    np.testing.assert_allclose(y, np.array(expected), rtol=1e-12)


def test_serial_finds_widths_from_a_shape():
    layer = serial(affine(7), elementwise(relu), batch_norm(), serial(dropout(0.5), affine(7)), affine(3))
    shape = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    params, stats = layer.init(KEY, shape)
    assert params[0].w.shape == (7, 4)
    assert params[1] == ()
    assert params[2].gamma.shape == stats[2].mean.shape == (7,)
    assert params[3][0] == ()
    assert params[3][1].w.shape == (7, 7)
    assert params[4].w.shape == (3, 7)
    same = layer.init(KEY, jnp.full((2, 4), jnp.nan))
    for a, b in zip(jax.tree.leaves((params, stats)), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_serial_composes(x64):
    x, parts = batch(), (affine(5), batch_norm(), elementwise(tanh), affine(3))
    layer = serial(*parts)
    params, stats = started(layer, x)
    y, after = layer.apply(params, stats, x, None, True)
    by_hand = []
    for part, p, s in zip(parts, params, stats, strict=True):
        x, s = part.apply(p, s, x, None, True)
        by_hand.append(s)
    np.testing.assert_array_equal(y, x)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_array_equal(a, b)


def test_serial_of_nothing_is_the_identity():
    x = jnp.ones((2, 3))
    assert serial().init(KEY, x) == ((), ())
    y, stats = serial().apply((), (), x, NOISE, True)
    np.testing.assert_array_equal(y, x)
    assert stats == ()


def test_layers_of_one_shape_start_apart():
    params, _ = serial(affine(4), affine(4)).init(KEY, jnp.ones((1, 4)))
    assert not (params[0].w == params[1].w).any()


@pytest.mark.parametrize("n_out", [0, -1])
def test_an_affine_layer_has_outputs(n_out):
    with pytest.raises(InputError, match="at least 1 output"):
        affine(n_out)
