"""Classification: what a batch is, what the loss adds up, and what the metrics are taken over."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from fnn import sweep
from fnn.base.errors import InputError
from fnn.nn.layers import affine, elementwise, flatten, identity, serial
from fnn.nn.losses import weights
from fnn.nn.models import multilayer
from fnn.tasks import Split, classification, images, rows, stratified

KEY = jax.random.key(0)
NOISE = jax.random.key(1)
SIZES = {"train": 37, "test": 12}


class Hyper(NamedTuple):
    ratio: float = 0.3
    decay: float = 0.01


@pytest.fixture(scope="module")
def data():
    """Images whose first two pixels are their number and their label."""
    rng, splits = np.random.default_rng(0), {}
    for name, n in SIZES.items():
        x, y = rng.integers(0, 256, (n, 4, 3), np.uint8), rng.integers(0, 5, n)
        x[:, 0, 0], x[:, 0, 1] = np.arange(n), y
        x[0, 1], x[:, 1, 0] = 0, 255
        splits[name] = Split(jnp.asarray(x), jnp.asarray(y, jnp.int32))
    return splits


def network(hp):
    return multilayer((8,), 5, normalize="before", dropout_ratio=hp.ratio)


def task(batch_size=10, **options):
    return classification(network, batch=batch_size, **options)


def drawn(t, key, data):
    """A minibatch."""
    return t.batch(data, t.draw(key, data, 0))


def numbers(batch):
    return np.rint(255 * np.asarray(batch[0][:, 0])).astype(int)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 20)])
def test_rows(shape):
    x = np.arange(60, dtype=np.uint8).reshape(shape)
    x.flat[-1] = 255
    y = rows(jnp.asarray(x))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, x.reshape(3, 20) / 255, rtol=2e-7)  # XLA multiplies by 1/255
    assert (y.min(), y.max()) == (0, 1)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 2, 5, 2)])
def test_images(shape):
    x = np.arange(60, dtype=np.uint8).reshape(shape)
    y = images(jnp.asarray(x))
    assert y.shape == (*shape[:3], shape[3] if len(shape) == 4 else 1)
    np.testing.assert_array_equal(y.reshape(3, 20), rows(jnp.asarray(x)))
    with pytest.raises(InputError, match="not \\(3, 20\\)"):
        images(jnp.asarray(x.reshape(3, 20)))


def test_a_network_reads_images_as_it_reads_their_rows():
    """Flattened by a layer or beforehand: the same numbers, in training too."""
    rng = np.random.default_rng(0)
    pixels, y = rng.integers(0, 256, (24, 4, 5), np.uint8), rng.integers(0, 3, 24)
    data = {"train": Split(pixels, y), "test": Split(pixels[:6], y[:6])}
    found = [
        sweep(classification(network, data, 8, prepare=prepare), ["sgd"], over={"lr": [0.1]}, seeds=2, steps=5)
        for network, prepare in [
            (serial(elementwise(identity), affine(3)), rows),
            (serial(flatten(), affine(3)), images),
        ]
    ]
    np.testing.assert_array_equal(found[0].test_loss[..., -1], found[1].test_loss[..., -1])
    assert found[0].test_loss.notnull().all()


@pytest.mark.parametrize("batch_size", [1, 37, 200])
def test_a_batch_is_of_the_training_examples(data, batch_size):
    x, y = drawn(task(batch_size), KEY, data)
    assert x.shape == (batch_size, 12)
    i = numbers((x, y))
    np.testing.assert_array_equal(x, rows(data["train"].x)[i])
    np.testing.assert_array_equal(y, data["train"].y[i])


def test_batches_depend_on_the_key_only(data):
    t = task(50)
    first = drawn(t, KEY, data)
    other_data = {"train": Split(data["train"].x[::-1], data["train"].y[::-1]), "test": data["train"]}
    np.testing.assert_array_equal(numbers(first), numbers(drawn(t, KEY, data)))
    np.testing.assert_array_equal(numbers(first), numbers(jax.jit(partial(drawn, t))(KEY, data)))
    np.testing.assert_array_equal(numbers(first), 36 - numbers(drawn(t, KEY, other_data)))
    assert (numbers(first) != numbers(drawn(t, NOISE, data))).any()


def test_batches_are_drawn_with_replacement(data):
    """n uniform draws from n miss each example with probability q = (1 − 1/n)ⁿ; without replacement they miss none."""
    n, draws = 37, 2000
    batch = jax.jit(jax.vmap(lambda key: drawn(task(n), key, data)))(jax.random.split(KEY, draws))
    i = np.rint(255 * np.asarray(batch[0][..., 0])).astype(int)
    distinct = np.array([len(set(row)) for row in i])
    q, both = (1 - 1 / n) ** n, (1 - 2 / n) ** n
    variance = n * q * (1 - q) + n * (n - 1) * (both - q**2)
    assert abs(distinct.mean() - n * (1 - q)) < 5 * (variance / draws) ** 0.5
    counts, expected = np.bincount(i.ravel(), minlength=n), draws
    assert abs(counts - expected).max() < 5 * expected**0.5


def test_init_matches_the_data(data):
    params, stats = task().init(Hyper(), KEY, data)
    assert params[0].w.shape == (8, 12)
    assert stats[1].mean.shape == (8,)


@pytest.mark.parametrize("train", [True, False])
def test_loss_adds_half_lambda_squared_weights(data, train):
    hp = Hyper(decay=0.25)
    with_decay, without = task(weight_decay=lambda hp: hp.decay), task()
    params, stats = with_decay.init(hp, KEY, data)
    batch = drawn(with_decay, KEY, data)
    apply = jax.jit(network(hp).apply, static_argnums=4)
    logits, stats_after = apply(params, stats, batch[0], NOISE, train)
    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    entropy = -log_p[np.arange(10), np.asarray(batch[1])].mean()
    penalty = 0.125 * sum(np.square(np.asarray(w, np.float64)).sum() for w in weights(params))
    assert len(weights(params)) == 2
    assert penalty > 0.1
    for t, expected in ((without, entropy), (with_decay, entropy + penalty)):
        loss, after = jax.jit(t.loss, static_argnums=5)(hp, params, stats, batch, NOISE, train)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after, stats_after)


@pytest.mark.parametrize("block", [5, 12, 1000])
def test_metrics_are_of_whole_splits_at_inference(data, block):
    hp, t = Hyper(), task(block=block, weight_decay=lambda hp: hp.decay)
    params, stats = t.init(hp, KEY, data)
    _, stats = t.loss(hp, params, stats, drawn(t, KEY, data), NOISE, True)
    metrics = jax.jit(t.metrics)(hp, params, stats, data)
    assert set(metrics) == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    for name, split in data.items():
        x, y = np.asarray(split.x, np.float32).reshape(SIZES[name], 12) / 255, np.asarray(split.y)
        logits = np.asarray(network(hp).apply(params, stats, jnp.asarray(x), None, False)[0], np.float64)
        np.testing.assert_allclose(
            metrics[f"{name}_loss"], -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean(), rtol=1e-6
        )
        np.testing.assert_allclose(metrics[f"{name}_accuracy"], (logits.argmax(1) == y).mean(), rtol=1e-6)
    assert 0 < metrics["train_accuracy"] < 1
    assert metrics["train_loss"] != metrics["test_loss"]


def test_numbers_may_be_swept(data):
    """Over λ and the dropout ratio: one trace, and every run as it is alone."""
    traces, t = [], task(weight_decay=lambda hp: hp.decay)

    def run(hp):
        traces.append(hp)
        params, stats = t.init(hp, KEY, data)
        loss, stats = t.loss(hp, params, stats, drawn(t, KEY, data), NOISE, True)
        return t.metrics(hp, params, stats, data) | {"loss": loss}

    hps = Hyper(jnp.array([0.0, 0.2, 0.5]), jnp.array([0.0, 0.1, 0.2]))
    swept = jax.jit(jax.vmap(run))(hps)
    assert len(traces) == 1
    assert all(len(set(np.asarray(swept[name]).tolist())) == 3 for name in ("loss", "train_loss"))
    for i in range(3):
        alone = run(jax.tree.map(lambda a, i=i: a[i], hps))
        for name, value in alone.items():
            np.testing.assert_allclose(swept[name][i], value, rtol=1e-5)


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_are_at_least_one(size):
    for options in ({"batch": size}, {"batch": 1, "block": size}):
        with pytest.raises(InputError, match=f"at least 1 example, not {size}"):
            classification(lambda hp: affine(2), **options)


@pytest.mark.parametrize("shares", [np.ones(10), np.arange(1, 11) ** 2, [1.0, 200.0]])
def test_a_stratified_order_holds_the_classes_in_proportion_wherever_it_is_cut(shares):
    labels = np.random.default_rng(0).choice(len(shares), 600, p=np.array(shares) / np.sum(shares))
    counts = np.bincount(labels, minlength=len(shares))
    present = (counts > 0).sum()
    first = np.zeros(600)
    orders = jax.jit(jax.vmap(stratified, (0, None)))(jax.random.split(KEY, 300), jnp.asarray(labels))
    for order in np.asarray(orders):
        np.testing.assert_array_equal(np.sort(order), np.arange(600))
        found = np.cumsum(labels[order][:, None] == np.arange(len(shares)), axis=0)
        off = np.abs(found - np.arange(1, 601)[:, None] * counts / 600)
        assert (off <= (1 + present * counts / 600) / 2 + 1e-6).all()
        first[order[:120]] += 1
    # Everyone's chance to be in the first fifth is a fifth: counts of 300 draws, 5 standard deviations.
    common = counts[labels] >= 20
    assert np.abs(first[common] - 60).max() < 5 * np.sqrt(300 * 0.2 * 0.8) + 300 / counts[labels][common].min()
