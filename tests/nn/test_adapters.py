"""Networks of flax and equinox, and plain functions, as layers: what they compute there, they compute in a sweep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, sweep, tasks
from fnn.base.errors import InputError
from fnn.train import Hyper, engine, train, training

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")

pytestmark = pytest.mark.usefixtures("unchecked")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int32)
DATA = {"train": tasks.Split(X[:16], Y[:16]), "test": tasks.Split(X[16:], Y[16:])}
KEY = jax.random.key(0)


class Linen(linen.Module):
    """Batch normalization and dropout."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Dense(8)(x)
        x = linen.BatchNorm(use_running_average=not train)(x)
        x = linen.Dropout(0.5, deterministic=not train)(linen.relu(x))
        return linen.Dense(2)(x)


class Nnx(nnx.Module):
    """The same."""

    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


class Stateful(eqx.Module):
    """Batch normalization and dropout, of one example."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key):
        k_first, k_last = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(6, 8, key=k_first), eqx.nn.Linear(8, 2, key=k_last)
        self.norm, self.drop = eqx.nn.BatchNorm(8, axis_name="batch", mode="batch"), eqx.nn.Dropout(0.5)

    def __call__(self, x, state, key=None):
        x, state = self.norm(self.first(x), state)
        return self.last(self.drop(jax.nn.relu(x), key=key)), state


def plain(key, x):
    return 0.1 * jax.random.normal(key, (x.shape[-1], 2))


LAYERS = {
    "linen": lambda: nn.from_flax(Linen(), X),
    "nnx": lambda: nn.from_flax(Nnx, X),
    "equinox": lambda: nn.from_equinox(eqx.nn.make_with_state(Stateful)),
    "equinox mlp": lambda: nn.from_equinox(lambda key: eqx.nn.MLP(6, 2, 8, 1, key=key)),
    "functions": lambda: nn.from_functions(plain, lambda w, x: x @ w),
}
NOISY = ("linen", "nnx", "equinox")


@pytest.fixture(params=LAYERS)
def name(request):
    return request.param


@pytest.fixture
def layer(name):
    return LAYERS[name]()


def test_noise_and_statistics_are_of_training_alone(name, layer):
    params, stats = layer.init(KEY, jax.ShapeDtypeStruct(X.shape, X.dtype))
    still, same = layer.apply(params, stats, X, None, False)
    again, _ = layer.apply(params, stats, X, None, False)
    np.testing.assert_array_equal(still, again)
    jax.tree.map(np.testing.assert_array_equal, same, stats)
    one, moved = layer.apply(params, stats, X, jax.random.key(1), True)
    other, _ = layer.apply(params, stats, X, jax.random.key(2), True)
    assert (name in NOISY) == bool((one != other).any())
    assert layer.mixes == (name in NOISY)
    changed = [bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (moved, stats)), strict=True)]
    assert any(changed) == (name in NOISY)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params))


def test_keys_give_other_weights(layer):
    first, second = (jax.tree.leaves(layer.init(jax.random.key(i), X)[0]) for i in (0, 1))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


def test_a_sweep_of_it_is_each_network_alone(layer):
    """Over rules, rates and seeds in one program, and one of them by `train.train`."""
    task = tasks.classification(layer, DATA, batch=5)
    ds = sweep(task, ["sgd", "adam"], over={"lr": [0.01, 0.1]}, seeds=2, steps=4, evaluate=(2, 4))
    assert np.isfinite(ds.loss).all()
    rule = optim.rule("adam")
    run = training(task, rule, 4, evaluate_at=(2, 4))
    hp = Hyper(rule.hyper._replace(lr=0.1), ())
    record = jax.jit(lambda key, data: train(run, 4, hp, key, data)[1])(engine.seeds(1, 1)[0], DATA)
    np.testing.assert_allclose(ds.loss.sel(rule="adam", lr=0.1, seed=1), record["loss"], rtol=2e-4)


def test_linen_computes_what_it_computes_in_flax():
    layer = LAYERS["linen"]()
    params, stats = layer.init(KEY, X)
    y, moved = layer.apply(params, stats, X, jax.random.key(3), True)
    expected, after = Linen().apply(
        {"params": params, **stats}, X, train=True, rngs={"dropout": jax.random.key(3)}, mutable=["batch_stats"]
    )
    np.testing.assert_array_equal(y, expected)
    jax.tree.map(np.testing.assert_array_equal, moved, dict(after))
    np.testing.assert_array_equal(
        layer.apply(params, moved, X, None, False)[0], Linen().apply({"params": params, **moved}, X)
    )


def test_nnx_computes_what_it_computes_in_flax():
    layer = LAYERS["nnx"]()
    params, stats = layer.init(KEY, X)
    model = Nnx(nnx.Rngs(0))
    for kind, values in ((nnx.Param, params), (nnx.BatchStat, stats)):
        state = nnx.state(model, kind)
        nnx.replace_by_pure_dict(state, values)
        nnx.update(model, state)
    model.eval()
    np.testing.assert_allclose(layer.apply(params, stats, X, None, False)[0], model(X), rtol=1e-6)
    model.drop.rate = 0.0
    model.train()
    y = model(X)
    without = nn.from_flax(lambda rngs: _without_dropout(rngs), X)
    mine, moved = without.apply(params, stats, X, None, True)
    np.testing.assert_allclose(mine, y, rtol=1e-6)
    np.testing.assert_allclose(moved["norm"]["mean"], nnx.state(model, nnx.BatchStat)["norm"]["mean"].get_value())


def _without_dropout(rngs):
    model = Nnx(rngs)
    model.drop.rate = 0.0
    return model


def test_equinox_computes_what_it_computes_there():
    layer = LAYERS["equinox mlp"]()
    params, stats = layer.init(KEY, X)
    model = eqx.nn.MLP(6, 2, 8, 1, key=KEY)
    np.testing.assert_allclose(layer.apply(params, stats, X, None, False)[0], jax.vmap(model)(X), rtol=1e-6)


def test_functions_take_key_and_train_by_name():
    noisy = lambda w, x, key, train: x @ w + (jax.random.normal(key, (2,)) if train else 0)
    layer = nn.from_functions(plain, noisy)
    params, stats = layer.init(KEY, X)
    assert (layer.apply(params, stats, X, KEY, True)[0] != layer.apply(params, stats, X, None, False)[0]).any()


def test_what_is_frozen_stays_and_the_rest_learns():
    layer = nn.frozen(LAYERS["linen"](), lambda path: path.startswith("Dense_0"))
    task = tasks.classification(layer, DATA, batch=5)
    rule = optim.rule("adam")
    run = training(task, rule, 3)
    start = run.start(Hyper(rule.hyper), KEY, DATA)
    state, _ = train(run, 3, Hyper(rule.hyper), KEY, DATA)
    jax.tree.map(np.testing.assert_array_equal, start.stats[0], state.stats[0])
    assert len(jax.tree.leaves(start.stats[0])) == 2
    assert len(jax.tree.leaves(state.params)) == 4
    moved = [bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (start.params, state.params)), strict=True)]
    assert any(moved)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.from_functions(plain, 3), "A network is two functions"),
        (lambda: nn.from_flax(3, X), "A flax model is a linen.Module, or a function"),
        (lambda: nn.from_flax(lambda rngs: 3, X), r"make\(rngs\) gives a flax.nnx.Module, not ShapeDtypeStruct"),
        (lambda: nn.from_equinox(lambda key: 3.0), r"make\(key\) gives an equinox.Module, not 3"),
        (lambda: nn.frozen(LAYERS["functions"](), lambda path: True).init(KEY, X), "1 of 1 arrays would be frozen"),
        (lambda: nn.frozen(LAYERS["linen"](), lambda path: False).init(KEY, X), "0 of 6 arrays would be frozen"),
    ],
)
def test_what_is_no_network_is_a_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
