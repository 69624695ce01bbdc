"""Embedding and positions: torch's numbers, unknown tokens, angles, and how rules treat tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import KEY, alike, keeps_dtype, of_layer, pulled, pulled_torch, same_alone_and_mapped, slopes_agree, wave

from fnn import optim, wrappers
from fnn.base.errors import InputError
from fnn.nn.axes import Axes, axes, inputs_first
from fnn.nn.layers import Table, embedding, positions, rotary, serial
from fnn.nn.losses import weights
from fnn.optim import adafactor

TOKENS = jnp.array([[0, 3, 3], [6, 1, 0]], jnp.uint8)


def test_an_embedding_is_torchs(x64):
    torch = pytest.importorskip("torch")
    layer, w = embedding(7, 4), wave(7, 4)
    found = jax.jit(lambda w: pulled(lambda w: of_layer(layer, Table(w), TOKENS), w))(w)
    at = torch.tensor(np.asarray(TOKENS, np.int64))
    alike(found, pulled_torch(lambda w: torch.nn.functional.embedding(at, w), w))


def test_an_unknown_token_is_nan():
    """Before and after the vocabulary, also where its size is beyond the token's type."""
    y = of_layer(embedding(5, 2), Table(jnp.ones((5, 2))), jnp.array([-1, 0, 4, 5]))
    assert jnp.isnan(y).all(1).tolist() == [True, False, False, True]
    y = of_layer(embedding(256, 1), Table(jnp.ones((256, 1))), jnp.array([0, 255], jnp.uint8))
    np.testing.assert_array_equal(y, np.ones((2, 1)))


def test_positions_add_a_table(x64):
    x, w = wave(2, 3, 4), wave(5, 4, start=2)
    np.testing.assert_allclose(of_layer(positions(5), Table(w), x), x + w[:3], rtol=1e-12)


def test_rotary_by_complex_numbers(x64):
    """Pairs as complex numbers times e^{i t θ}; lengths and, with a turned partner, distances alone count."""
    x = wave(2, 5, 6)
    theta = 100.0 ** (-np.arange(3) / 3)
    turned = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * np.arange(5)[:, None] * theta)
    found = rotary(jnp.asarray(x), 100.0)
    np.testing.assert_allclose(found, np.concatenate([turned.real, turned.imag], -1), rtol=1e-12, atol=1e-14)
    same = rotary(jnp.broadcast_to(jnp.asarray(x[0, 0]), (5, 6)), 100.0)
    scores = same @ same.T
    for gap in range(5):
        np.testing.assert_allclose(np.diagonal(scores, gap), scores[0, gap], rtol=1e-12)
    assert np.abs(scores[0, 1] - scores[0, 0]) > 1e-3


def test_slopes(x64):
    layer = serial(embedding(7, 4, dtype=jnp.float64), positions(3))
    params, stats = layer.init(KEY, TOKENS)
    slopes_agree(lambda params: rotary(layer.apply(params, stats, TOKENS, None, True)[0], 10.0), params)


def test_mapped_networks_are_as_alone(x64):
    same_alone_and_mapped(serial(embedding(7, 4, dtype=jnp.float64), positions(3)), TOKENS)


def test_types_are_kept():
    keeps_dtype(serial(embedding(7, 4, dtype=jnp.bfloat16), positions(3)), TOKENS)


def test_the_variance_is_that_of_the_layer_back():
    params, _ = embedding(300, 100).init(KEY, TOKENS)
    assert params.w.shape == (300, 100)
    assert abs(params.w.var() * 100 - 1) < 5 * (2 / params.w.size) ** 0.5


# --- rules: a table is factored and decayed, its entries are units, but it is no matrix to make orthogonal


def step(rule, grads, params):
    return rule.update(rule.hyper, grads, rule.init(rule.hyper, params), params)[0]


def test_axes_of_tables():
    found = axes(Table(jnp.zeros((7, 4))), inputs_first).w
    assert found == Axes(outputs=(1,), entries=(0,))
    assert not found.weights
    assert not found.exempt
    assert adafactor.factored(jax.ShapeDtypeStruct((200, 130), jnp.float32), found) == (0, 1)
    assert len(weights(Table(jnp.ones((7, 4))))) == 1


def test_muon_leaves_tables_to_nadam():
    params, grads = Table(jnp.asarray(wave(7, 4), jnp.float32)), Table(jnp.asarray(wave(7, 4, start=2), jnp.float32))
    rule = optim.rule("muon")
    rule = rule._replace(hyper=rule.hyper._replace(lr=1.0, weight_decay=0.0))
    u = step(rule, grads, params).w
    np.testing.assert_allclose(jnp.sign(u), -jnp.sign(grads.w))
    assert np.ptp(jnp.abs(u)) < 1e-3  # NAdam's first step has one length


@pytest.mark.parametrize("spec", ["lars", "lamb"])
def test_tables_have_a_trust_ratio(spec):
    """Twice the table, twice the step."""
    rule = optim.rule(spec)
    grads = Table(jnp.asarray(wave(7, 4, start=2), jnp.float32))
    once, twice = (step(rule, grads, Table(scale * jnp.asarray(wave(7, 4), jnp.float32))).w for scale in (1.0, 2.0))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-4)


def test_entries_are_clipped_each():
    params = Table(jnp.ones((3, 4)))
    grads = Table(jnp.array([[1e-3], [1.0], [2.0]]) * params.w)
    found = step(wrappers.clip_adaptive(optim.rule("sgd")), grads, params).w
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1) / 2, [1e-5, 1e-4, 1e-4], rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: embedding(0, 4), "vocabulary of at least 1 token, not 0"),
        (lambda: embedding(5, -1), "at least 1 feature, not -1"),
        (lambda: embedding(5, 4).init(KEY, jnp.ones((2, 3))), "reads tokens, which are integers, not float32"),
        (lambda: positions(0), "context of at least 1 place, not 0"),
        (lambda: positions(2).init(KEY, jnp.ones((1, 3, 4))), "positions for 2 places, and the input has 3"),
        (lambda: positions(2).init(KEY, jnp.ones((3, 4))), r"\[batch, time, features\], not \(3, 4\)"),
        (lambda: rotary(jnp.ones((2, 3))), "pairs of features, and 3 is odd"),
    ],
)
def test_misuse(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
