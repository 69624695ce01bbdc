"""Attention: torch's and flax's numbers, what causality hides, positions that only distances change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import KEY, alike, keeps_dtype, of_layer, pulled, pulled_torch, same_alone_and_mapped, slopes_agree, wave

from fnn import models
from fnn.base.errors import InputError
from fnn.nn.axes import axes, inputs_first
from fnn.nn.layers import Affine, Attention, attention, weighted_values

WIDTH, HEADS, TIME = 6, 2, 5


def inputs(*lead):
    return wave(*lead, TIME, WIDTH, start=0.3)


def weights():
    return [wave(*shape, start=i) for i in range(4) for shape in ((WIDTH, WIDTH), (WIDTH,))]


def as_params(weights):
    return Attention(*(Affine(w, b) for w, b in zip(weights[::2], weights[1::2], strict=True)))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs_and_flaxs(x64, causal):
    nn = pytest.importorskip("flax.linen")
    x, layer, given = inputs(2), attention(HEADS, causal), weights()

    def flaxs(x, *given):
        size = WIDTH // HEADS
        maps = as_params(given)
        split = {
            name: {"kernel": part.w.T.reshape(WIDTH, HEADS, size), "bias": part.b.reshape(HEADS, size)}
            for name, part in zip(("query", "key", "value"), maps[:3], strict=True)
        }
        out = {"kernel": maps.out.w.T.reshape(HEADS, size, WIDTH), "bias": maps.out.b}
        hidden = nn.make_causal_mask(x[..., 0]) if causal else None
        return nn.MultiHeadDotProductAttention(HEADS).apply({"params": split | {"out": out}}, x, x, mask=hidden)

    ours = lambda x, *given: of_layer(layer, as_params(given), x)
    found, expected = jax.jit(lambda *args: (pulled(ours, *args), pulled(flaxs, *args)))(x, *given)
    for (y, grads), (z, others) in [(found, expected), (found, torchs(x, given, causal))]:
        # A bias of the keys adds the same to all scores of a query, which the softmax takes away.
        np.testing.assert_allclose(grads[4], np.zeros(WIDTH), atol=1e-12)
        alike((y, grads[:4] + grads[5:]), (z, others[:4] + others[5:]))


def torchs(x, given, causal):
    torch = pytest.importorskip("torch")

    def run(x, qw, qb, kw, kb, vw, vb, ow, ob):
        hidden = torch.triu(torch.ones(TIME, TIME, dtype=bool), 1) if causal else None
        y, _ = torch.nn.functional.multi_head_attention_forward(
            *(x.movedim(0, 1),) * 3,
            *(WIDTH, HEADS, torch.cat([qw, kw, vw]), torch.cat([qb, kb, vb]), None, None, False, 0.0, ow, ob),
            attn_mask=hidden,
        )
        return y.movedim(0, 1)

    return pulled_torch(run, x, *given)


def test_slopes(x64):
    x = jnp.asarray(wave(1, 3, 4, start=0.3))
    layer = attention(2, causal=True, size=4, base=100.0)
    params = jax.tree.map(lambda a: jnp.asarray(wave(*a.shape, start=a.size)), jax.eval_shape(layer.init, KEY, x)[0])
    slopes_agree(lambda params, x: layer.apply(params, (), x, None, True)[0], params, x)


def test_mapped_networks_are_as_alone(x64):
    same_alone_and_mapped(attention(HEADS, causal=True, size=4, base=10.0), jnp.asarray(inputs(2)))


def test_types_are_kept():
    keeps_dtype(attention(HEADS, causal=True, size=4, base=10.0), jnp.ones((2, TIME, WIDTH), jnp.bfloat16))


def test_a_causal_place_reads_from_the_past_only(x64):
    """Outputs do not depend on later inputs, and on all earlier ones."""
    layer = attention(HEADS, causal=True)
    params = as_params([jnp.asarray(a) for a in weights()])
    slopes = jax.jacobian(lambda x: of_layer(layer, params, x)[0].sum(-1))(jnp.asarray(inputs(1)))[:, 0].any(-1)
    np.testing.assert_array_equal(slopes, np.tri(TIME, dtype=bool))


def test_rotary_positions_tell_equal_inputs_apart(x64):
    """Of the sequence a, b, a, b the outputs at both a are the same without positions, and not with them."""
    params = as_params([jnp.asarray(a) for a in weights()])
    x = jnp.asarray(np.tile(inputs(1)[:, :2], (1, 2, 1)))
    run = lambda base: of_layer(attention(1, base=base), params, x)[0]
    plain, turned = run(None), run(10.0)
    np.testing.assert_allclose(plain[0], plain[2], rtol=1e-12)
    assert np.abs(turned[0] - turned[2]).max() > 1e-3


def test_every_matrix_of_attention_is_weights():
    params, _ = attention(HEADS).init(KEY, jax.ShapeDtypeStruct((1, TIME, WIDTH), jnp.float32))
    found = axes(params, inputs_first)
    for part in found:
        assert part.w.weights
        assert part.b.exempt
    assert not (params.query.w == params.key.w).any()


def test_weighted_values_by_hand(x64):
    q, k, v = (jnp.asarray(wave(n, 3, start=n)) for n in (2, 4, 4))
    scores = np.exp(np.asarray(q @ k.T) / 3**0.5)
    np.testing.assert_allclose(weighted_values(q, k, v), scores / scores.sum(1, keepdims=True) @ v, rtol=1e-12)


# --- the transformer


@pytest.mark.parametrize("place", ["learned", "rotary"])
def test_a_transformer_predicts_from_the_past(place):
    net = models.transformer(11, 5, width=8, heads=2, place=place)
    tokens = jnp.array([[1, 2, 3, 4, 5]], jnp.uint8)
    params, stats = net.init(KEY, tokens)
    run = jax.jit(lambda tokens: net.apply(params, stats, tokens, None, False)[0])
    y, other = run(tokens), run(tokens.at[0, 3].set(9))
    assert y.shape == (1, 5, 11)
    np.testing.assert_array_equal(y[:, :3], other[:, :3])
    assert (y[:, 3:] != other[:, 3:]).any(-1).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: attention(0), "at least 1 head, not 0"),
        (lambda: attention(2, causal="yes"), "causal or not, True or False, not 'yes'"),
        (lambda: attention(2, size=0), "at least 1 feature, not 0"),
        (lambda: attention(4).init(KEY, jnp.ones((1, 5, 6))), "heads of attention divide the width, and 4 does not 6"),
        (lambda: attention(2).init(KEY, jnp.ones((5, 6))), r"shape \[batch, time, width\], not \(5, 6\)"),
        (lambda: attention(2, base=10.0).init(KEY, jnp.ones((1, 5, 6))), "pairs of features, and 3 is odd"),
        (lambda: attention(2, base=0.5).init(KEY, jnp.ones((1, 5, 8))), "base of rotary positions"),
        (lambda: models.transformer(5, place="sines"), "'learned' or 'rotary', not 'sines'"),
    ],
)
def test_misuse(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
