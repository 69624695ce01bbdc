"""Losses against SciPy, optax and differences; the penalty against the leaves it may not touch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy.special import log_softmax, logsumexp, softmax

from fnn.nn.losses import accuracy, l2_penalty, mean_squared_error, softmax_cross_entropy, weights
from fnn.nn.models import multilayer

B, C = 7, 5
rng = np.random.default_rng(0)
LOGITS = 3 * rng.normal(size=(B, C))
LABELS = rng.integers(0, C, B)
ONE_HOT = np.eye(C)[LABELS]
SOFT = rng.dirichlet(np.ones(C), B)
TARGETS = pytest.mark.parametrize(
    ("targets", "rows"), [(LABELS, ONE_HOT), (ONE_HOT, ONE_HOT), (SOFT, SOFT)], ids=["integer", "one-hot", "soft"]
)


@TARGETS
def test_cross_entropy(x64, targets, rows):
    z, t = jnp.asarray(LOGITS), jnp.asarray(targets)
    loss = softmax_cross_entropy(z, t)
    by_scipy = np.mean(logsumexp(LOGITS, axis=1) - (rows * LOGITS).sum(1))
    twin = optax.softmax_cross_entropy_with_integer_labels if t.ndim == 1 else optax.softmax_cross_entropy
    np.testing.assert_allclose(loss, by_scipy, rtol=1e-12)
    np.testing.assert_allclose(loss, twin(z, t).mean(), rtol=1e-12)
    np.testing.assert_allclose(softmax_cross_entropy(z - 1e3, t), loss, rtol=1e-12)  # softmax forgets a shift


@TARGETS
def test_cross_entropys_slope(x64, targets, rows):
    z, t = jnp.asarray(LOGITS), jnp.asarray(targets)
    slope = jax.grad(softmax_cross_entropy)(z, t)
    np.testing.assert_allclose(slope, (softmax(LOGITS, axis=1) - rows) / B, atol=1e-12)
    # The smallest and largest of its entries lie far above the tolerance of the differences.
    assert 1e-5 < jnp.abs(slope).min() < jnp.abs(slope).max()
    check_grads(jax.jit(lambda z: softmax_cross_entropy(z, t)), (z,), 2, ["rev"], 1e-7, 1e-7, eps=6e-6)


@TARGETS
@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_extreme_logits(targets, rows, scale):
    """Certainty costs its margin where it is wrong and nothing where it is right; slopes are softmax − t still."""
    z = np.float32(scale) * np.where(np.arange(C) == 2, 1, -1) * np.ones((B, 1), np.float32)
    loss, slope = jax.value_and_grad(softmax_cross_entropy)(jnp.asarray(z), jnp.asarray(targets))
    np.testing.assert_allclose(loss, -(rows * log_softmax(z, axis=1)).sum(1).mean(), rtol=1e-6)
    np.testing.assert_allclose(slope, (softmax(z, axis=1) - rows) / B, atol=1e-7)
    right = softmax_cross_entropy(jnp.asarray(z), jnp.full(B, 2))
    assert right == 0


def test_cross_entropy_of_no_opinion():
    np.testing.assert_allclose(softmax_cross_entropy(jnp.zeros((3, 10)), jnp.arange(3)), np.log(10), rtol=1e-6)


def test_mean_squared_error(x64):
    y, t = jnp.asarray(LOGITS), jnp.asarray(SOFT)
    np.testing.assert_allclose(mean_squared_error(y, t), np.mean((LOGITS - SOFT) ** 2), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(mean_squared_error)(y, t), 2 * (LOGITS - SOFT) / (B * C), rtol=1e-12)


@TARGETS
def test_accuracy(targets, rows):
    expected = np.mean(LOGITS.argmax(1) == rows.argmax(1))
    assert 0 < expected < 1 or rows is SOFT
    np.testing.assert_allclose(accuracy(jnp.asarray(LOGITS), jnp.asarray(targets)), expected, rtol=1e-6)
    wrong = jnp.asarray(np.roll(rows, 1, axis=1))
    np.testing.assert_array_equal(accuracy(wrong, jnp.asarray(targets)), 0)
    np.testing.assert_array_equal(accuracy(jnp.asarray(rows), jnp.asarray(targets)), 1)


# --- the penalty


class Named(NamedTuple):
    w: jax.Array
    b: jax.Array


def net():
    """Every kind of parameter, none of them 0."""
    params, _ = multilayer((4, 3), 2, normalize="before").init(jax.random.key(0), jnp.ones((1, 5)))
    return jax.tree.map(lambda a: a + 0.5, params)


A, V = jnp.arange(1.0, 7.0).reshape(2, 3), jnp.ones(3)
TREES = {
    "named": (Named(A, V), [A]),
    "dict": ({"w": A, "b": V, "w2": V, "gamma": V}, [A]),
    "nested": ([{"first": Named(A, V), "w": -V}, (Named(2 * A, V), None)], [A, -V, 2 * A]),
    "convolution": ({"w": jnp.ones((3, 3, 2, 2))}, [jnp.ones(36)]),
    "bias only": ({"b": V}, []),
    "tuple": ((A, V), []),
    "array": (A, []),
    "empty": ((), []),
    "empty dict": ({}, []),
}


@pytest.mark.parametrize(("params", "squared"), TREES.values(), ids=TREES)
def test_penalty(params, squared):
    assert len(weights(params)) == len(squared)
    for penalty in (l2_penalty(params), jax.jit(l2_penalty)(params)):
        np.testing.assert_allclose(penalty, sum(float((w**2).sum()) for w in squared) / 2, rtol=1e-6)


@pytest.mark.parametrize("params", [net(), TREES["dict"][0], TREES["nested"][0]], ids=["net", "dict", "nested"])
def test_penaltys_slope_is_the_weights_and_nothing_else(params):
    """λW on every w, exactly 0 on b, γ and β."""
    slopes = jax.grad(lambda params: 0.25 * l2_penalty(params))(params)
    weighted = 0
    for (path, slope), leaf in zip(jax.tree_util.tree_leaves_with_path(slopes), jax.tree.leaves(params), strict=True):
        is_weight = jax.tree_util.keystr(path).endswith((".w", "['w']"))
        weighted += is_weight
        np.testing.assert_array_equal(slope, 0.25 * leaf if is_weight else 0 * leaf)
    assert 0 < weighted < len(jax.tree.leaves(params))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtype(x64, dtype):
    """float64 mode does not widen what float32 parameters give."""
    z, t = jnp.asarray(LOGITS, dtype), jnp.asarray(SOFT, dtype)
    losses = {
        "integer": softmax_cross_entropy(z, jnp.asarray(LABELS)),
        "soft": softmax_cross_entropy(z, t),
        "squared": mean_squared_error(z, t),
        "accuracy": accuracy(z, jnp.asarray(LABELS)),
        "penalty": l2_penalty(Named(z, t)),
        "penalty under jit": jax.jit(l2_penalty)(Named(z, t)),
    }
    assert {name: loss.dtype for name, loss in losses.items()} == dict.fromkeys(losses, jnp.dtype(dtype))
