"""Normalization over space, features, groups and squares: flax's and torch's numbers, and central differences.

Batch norm of `[batch, features]` is tested with the other dense layers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import KEY, alike, keeps_dtype, pulled, pulled_torch, same_alone_and_mapped, slopes_agree, started, wave

from fnn.base.errors import InputError
from fnn.nn.layers import (
    BatchNorm,
    Gain,
    Running,
    Scaled,
    batch_norm,
    elementwise,
    flatten,
    group_norm,
    layer_norm,
    rms_norm,
    serial,
    tanh,
)

EPS = 0.01
LAYERS = {
    "layer": (layer_norm(EPS), Scaled),
    "group": (group_norm(2, EPS), Scaled),
    "instance": (group_norm(6, EPS), Scaled),
    "rms": (rms_norm(EPS), Gain),
}
layers = pytest.mark.parametrize(("layer", "kind"), LAYERS.values(), ids=LAYERS)


def images():
    return wave(3, 4, 5, 6, start=0.3)


def scales(kind):
    return tuple(1 + wave(6, start=start) / 2 for start in range(len(kind._fields)))


@layers
def test_flax_and_torch_normalize_so(x64, layer, kind):
    nn = pytest.importorskip("flax.linen")
    x, weights = images(), scales(kind)
    name = next(name for name, (other, _) in LAYERS.items() if other is layer)
    theirs = {
        "layer": nn.LayerNorm(EPS),
        "group": nn.GroupNorm(2, epsilon=EPS),
        "instance": nn.GroupNorm(6, epsilon=EPS),
        "rms": nn.RMSNorm(EPS),
    }[name]

    def flaxs(x, *weights):
        params = dict(zip(("scale", "bias"), weights, strict=False))
        return theirs.apply({"params": params}, x)

    ours = lambda x, *weights: layer.apply(kind(*weights), (), x, None, True)[0]
    found, expected = jax.jit(lambda *args: (pulled(ours, *args), pulled(flaxs, *args)))(x, *weights)
    alike(found, expected)
    functional = pytest.importorskip("torch").nn.functional
    first = lambda x: x.movedim(-1, 1)
    run = {
        "layer": lambda x, w, b: functional.layer_norm(x, (6,), w, b, EPS),
        "group": lambda x, w, b: functional.group_norm(first(x), 2, w, b, EPS).movedim(1, -1),
        "instance": lambda x, w, b: functional.instance_norm(first(x), None, None, w, b, eps=EPS).movedim(1, -1),
        "rms": lambda x, w: functional.rms_norm(x, (6,), w, EPS),
    }[name]
    alike(found, pulled_torch(run, x, *weights))


def test_batch_norm_over_space_is_that_of_all_places(x64):
    """torch's outputs and gradients; its running variance is the unbiased one, of n / (n − 1)."""
    torch = pytest.importorskip("torch")
    x, layer = images(), batch_norm(0.9, EPS)
    gamma, beta = map(jnp.asarray, scales(BatchNorm))
    stats = Running(jnp.asarray(wave(6)), jnp.asarray(2 + wave(6)))

    def ours(x, gamma, beta):
        return layer.apply(BatchNorm(gamma, beta), stats, x, None, True)[0]

    def run(x, gamma, beta):
        y = torch.nn.functional.batch_norm(x.movedim(-1, 1), mean, var, gamma, beta, True, 0.1, EPS)
        return y.movedim(1, -1)

    mean, var = (torch.tensor(np.array(stat)) for stat in stats)
    alike(jax.jit(lambda *args: pulled(ours, *args))(x, gamma, beta), pulled_torch(run, x, *scales(BatchNorm)))
    _, after = layer.apply(BatchNorm(gamma, beta), stats, jnp.asarray(x), None, True)
    n = x.size // 6
    unbiased = 0.9 * stats.var + (after.var - 0.9 * stats.var) * n / (n - 1)
    alike((after.mean, unbiased), (mean.numpy(), var.numpy()))
    at_rest = layer.apply(BatchNorm(gamma, beta), stats, jnp.asarray(x), None, False)[0]
    np.testing.assert_allclose(at_rest, gamma * (x - stats.mean) / np.sqrt(stats.var + EPS) + beta, rtol=1e-12)


@pytest.mark.parametrize(
    "layer", [*(layer for layer, _ in LAYERS.values()), batch_norm(0.9, EPS)], ids=[*LAYERS, "batch"]
)
def test_slopes(x64, layer):
    x = jnp.asarray(wave(2, 2, 2, 6, start=0.3))
    params, stats = started(layer, x)
    slopes_agree(lambda params, x: layer.apply(params, stats, x, None, True), params, x)


def test_mapped_networks_are_as_alone(x64):
    bent = [part for layer, _ in LAYERS.values() for part in (layer, elementwise(tanh))]
    layer = serial(*bent, batch_norm(0.9, EPS), flatten())
    same_alone_and_mapped(layer, jnp.asarray(images()))


def test_types_are_kept():
    keeps_dtype(serial(*(layer for layer, _ in LAYERS.values()), batch_norm()), jnp.ones((2, 3, 3, 6), jnp.bfloat16))


@layers
def test_bfloat16_is_averaged_in_float32(layer, kind):
    """Of 1,536 numbers around 100 the outputs are those of float32 but for the rounding of inputs and outputs."""
    x = (100 + 8 * jnp.asarray(wave(2, 16, 16, 6), jnp.float32)).astype(jnp.bfloat16)
    run = lambda x: layer.apply(*layer.init(KEY, x), x, None, True)[0].astype(jnp.float32)
    np.testing.assert_allclose(run(x), run(x.astype(jnp.float32)), atol=2**-7 * 3)


def test_one_image_of_several_places_has_statistics():
    layer, image = batch_norm(), jnp.asarray(wave(1, 3, 3, 6), jnp.float32)
    params, stats = layer.init(KEY, image)
    y, _ = layer.apply(params, stats, image, None, True)
    np.testing.assert_allclose(y.mean((0, 1, 2)), np.zeros(6), atol=1e-6)
    with pytest.raises(InputError, match="at least 2 examples"):
        layer.apply(params, stats, image[:, :1, :1], None, True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: group_norm(0), "at least 1 group, not 0"),
        (lambda: group_norm(4).init(KEY, jnp.ones((2, 6))), "divide the features, and 4 does not 6"),
        (lambda: layer_norm(-1.0), "ε of layer normalization is a number from 0 on, not -1.0"),
        (lambda: rms_norm("small"), "ε of RMS normalization"),
    ],
)
def test_misuse(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
