"""The contenders of the benchmark of sweeps train the same networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from experiments.benchmarks import _networks
from experiments.benchmarks._networks import CONTEXT, NETWORKS, SIDE, TOKENS, WIDTH
from fnn import models
from fnn.nn.losses import next_token_cross_entropy, softmax_cross_entropy

LAYERS = {
    "dense": models.multilayer(_networks.SIZES[1:-1], _networks.SIZES[-1]),
    "cnn": models.cnn(_networks.CLASSES, _networks.CHANNELS, (_networks.DENSE,)),
    "transformer": models.transformer(TOKENS, CONTEXT, blocks=_networks.BLOCKS, width=WIDTH, heads=_networks.HEADS),
}
CHANCE = {"dense": np.log(10), "cnn": np.log(10), "transformer": np.log(TOKENS)}


def inputs(name):
    rng = np.random.default_rng(0)
    if name == "transformer":
        return rng.integers(0, TOKENS, (2, CONTEXT)).astype(np.int32)
    shape = (3, SIDE**2) if name == "dense" else (3, SIDE, SIDE, 1)
    return rng.random(shape, np.float32)


def ours(name):
    """Our parameters, random also where they start at 0 or 1, and the function of inputs that they make."""
    layer, x = LAYERS[name], jnp.asarray(inputs(name))
    params, stats = layer.init(jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    params = tree.unflatten(moved)
    return params, layer.apply(params, stats, x, None, False)[0]


def with_parameters(name, params):
    """Our parametric layers in order, each as a list of its arrays."""
    return [part for part in params if jax.tree.leaves(part)]


def as_flax(name, params):
    from flax import nnx

    module = NETWORKS[name].flax(0)
    layers = with_parameters(name, params)

    def linear(there, affine):
        there.kernel[...], there.bias[...] = affine.w.T, affine.b

    def norm(there, scaled):
        there.scale[...], there.bias[...] = scaled.gamma, scaled.beta

    if name != "transformer":
        theirs = [layer for layer in module.layers if isinstance(layer, nnx.Linear | nnx.Conv)]
        for there, layer in zip(theirs, layers, strict=True):
            if isinstance(there, nnx.Conv):
                there.kernel[...], there.bias[...] = layer.w.transpose(2, 3, 1, 0), layer.b
            else:
                linear(there, layer)
        return module
    table, places, *blocks, last, head = layers
    module.table.embedding[...], module.places[...] = table.w, places.w
    for block, (first, second) in zip(module.blocks, zip(blocks[::2], blocks[1::2], strict=True), strict=True):
        norm(block.norms[0], first[0])
        norm(block.norms[1], second[0])
        own = block.attention
        for there, affine in zip((own.query, own.key, own.value), first[1][:3], strict=True):
            there.kernel[...] = affine.w.T.reshape(there.kernel.shape)
            there.bias[...] = affine.b.reshape(there.bias.shape)
        own.out.kernel[...], own.out.bias[...] = first[1].out.w.T.reshape(own.out.kernel.shape), first[1].out.b
        linear(block.wide, second[1])
        linear(block.narrow, second[3])
    norm(module.norm, last)
    linear(module.head, head)
    return module


def as_torch(name, params):
    import torch

    module = NETWORKS[name].torch()
    layers = with_parameters(name, params)

    def fill(there, weight, bias):
        with torch.no_grad():
            there.weight.copy_(torch.tensor(np.asarray(weight)))
            there.bias.copy_(torch.tensor(np.asarray(bias)))

    if name != "transformer":
        theirs = [layer for layer in module if hasattr(layer, "weight")]
        for i, (there, layer) in enumerate(zip(theirs, layers, strict=True)):
            w = layer.w
            if name == "cnn" and i == len(_networks.CHANNELS):  # flattened with channels first
                side = SIDE // 2 ** len(_networks.CHANNELS)
                w = w.reshape(len(w), side, side, -1).transpose(0, 3, 1, 2).reshape(len(w), -1)
            fill(there, w, layer.b)
        return module
    table, places, *blocks, last, head = layers
    with torch.no_grad():
        module.table.weight.copy_(torch.tensor(np.asarray(table.w)))
        module.places.copy_(torch.tensor(np.asarray(places.w)))
    for block, (first, second) in zip(module.blocks, zip(blocks[::2], blocks[1::2], strict=True), strict=True):
        fill(block.norms[0], *first[0])
        fill(block.norms[1], *second[0])
        fill(block.into, *(jnp.concatenate(parts) for parts in zip(*first[1][:3], strict=True)))
        fill(block.out, *first[1].out)
        fill(block.wide, *second[1])
        fill(block.narrow, *second[3])
    fill(module.norm, *last)
    fill(module.head, *head)
    return module


@pytest.mark.parametrize("name", NETWORKS)
def test_flax_and_ours_are_the_same_function(name):
    pytest.importorskip("flax")
    params, y = ours(name)
    np.testing.assert_allclose(as_flax(name, params)(jnp.asarray(inputs(name))), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_and_ours_are_the_same_function(name):
    torch = pytest.importorskip("torch")
    params, y = ours(name)
    x = inputs(name)
    x = torch.tensor(x.transpose(0, 3, 1, 2) if name == "cnn" else x)
    with torch.no_grad():
        found = as_torch(name, params)(x.long() if name == "transformer" else x)
    np.testing.assert_allclose(found.numpy(), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_begin_near_chance(name):
    flax, torch = pytest.importorskip("flax"), pytest.importorskip("torch")
    assert flax
    x = inputs(name)
    of_loss = next_token_cross_entropy if name == "transformer" else softmax_cross_entropy
    y = jnp.asarray(x if name == "transformer" else np.arange(len(x)))
    params, stats = LAYERS[name].init(jax.random.key(0), jnp.asarray(x))
    theirs = torch.tensor(x.transpose(0, 3, 1, 2) if name == "cnn" else x)
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = NETWORKS[name].torch()(theirs.long() if name == "transformer" else theirs).numpy()
    losses = [
        of_loss(LAYERS[name].apply(params, stats, jnp.asarray(x), None, False)[0], y),
        of_loss(NETWORKS[name].flax(0)(jnp.asarray(x)), y),
        of_loss(jnp.asarray(outputs), y),
    ]
    np.testing.assert_allclose(losses, CHANCE[name], atol=1.5)


def test_the_arithmetic_of_a_step_is_what_its_products_need():
    for name, network in NETWORKS.items():
        layer, x = LAYERS[name], jnp.asarray(inputs(name))
        params, stats = layer.init(jax.random.key(0), x)
        apply = lambda params, layer=layer, stats=stats, x=x: layer.apply(params, stats, x, None, True)[0].sum()
        found = products(jax.make_jaxpr(jax.grad(apply))(params).jaxpr)
        if network.loss_after:
            found += products(jax.make_jaxpr(apply)(params).jaxpr)
        assert found == network.flop(len(x)), name


def products(jaxpr):
    """Multiplications and additions of the matrix products in a program without loops."""
    flop = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            flop += 2 * int(np.prod(sizes)) * equation.outvars[0].aval.size
        for inner in jaxprs_in_params(equation.params):
            flop += products(inner)
    return flop
