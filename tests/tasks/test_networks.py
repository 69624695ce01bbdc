"""The workloads of networks: their loss at the start is that of a computation by hand; what they reach."""

import jax
import numpy as np
import pytest

from fnn import sweep, tasks
from fnn.rule import schedules
from fnn.tasks import fashion_cnn, mnist_autoencoder, tabular

pytestmark = pytest.mark.usefixtures("unchecked", "quickly_compiled")

KEY = jax.random.key(0)


def start(name):
    """A tiny workload's task, and its initial parameters, stats, minibatch, loss in training and examples' places."""
    task = tasks.workload(name, "tiny").task

    @jax.jit
    def at_start(data):
        params, stats = task.init(task.hyper, KEY, data)
        indices = task.draw(KEY, data, 0)
        batch = task.batch(data, indices)
        return params, stats, batch, task.loss(task.hyper, params, stats, batch, KEY, True)[0], indices

    return task, jax.tree.map(np.asarray, at_start(task.data))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def layers(params):
    """The layers with weights, in order."""
    return [p for p in jax.tree.leaves(params, is_leaf=lambda p: hasattr(p, "w")) if hasattr(p, "w")]


def through(layers, x, activation):
    *hidden, last = layers
    for one in hidden:
        x = activation(x @ np.asarray(one.w).T + np.asarray(one.b))
    return x @ np.asarray(last.w).T + np.asarray(last.b)


def test_the_notes_network_at_the_start():
    task, (params, _, _, loss, indices) = start("mnist_mlp")
    x, y = task.data["train"]
    logits = through(layers(params), x[indices].reshape(-1, 784) / 255.0, lambda z: np.maximum(z, 0))
    shown = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -shown[np.arange(len(indices)), y[indices]].mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_autoencoder_at_the_start():
    """Cross-entropy of pixels, and the squared error that the literature reports; the code is linear."""
    task, (params, stats, _, loss, indices) = start("mnist_autoencoder")
    one, two, three, four = layers(params)
    x = task.data["train"].x[indices].reshape(-1, 784) / 255.0
    code = through([one, two], x, sigmoid)
    p = sigmoid(through([three, four], code, sigmoid))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    whole = {**task.data, "validation": tasks.Split(*(a[indices] for a in task.data["train"]))}
    found = jax.jit(task.metrics)((), params, stats, whole)["validation_error"]
    assert float(found) == pytest.approx(((p - x) ** 2).sum(1).mean(), rel=1e-4)


def test_sparse_weights_are_fifteen_for_each_unit():
    w = np.asarray(mnist_autoencoder.sparse(KEY, (784, 500)))
    assert ((w != 0).sum(0) == 15).all()
    assert w[w != 0].std() == pytest.approx(1, abs=0.03)


def test_the_elbo_is_that_of_numpy():
    task, (params, stats, batch, loss, indices) = start("mnist_vae")
    one, two, three, four = layers(params)
    x = task.data["train"].x[indices].reshape(-1, 784) / 255.0
    mean, log_variance = np.split(through([one, two], x, np.tanh), 2, axis=1)
    noise = np.asarray(jax.random.normal(KEY, mean.shape))
    p = sigmoid(through([three, four], mean + np.exp(log_variance / 2) * noise, np.tanh))
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1)
    expected = (divergence - (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    other = jax.jit(task.loss, static_argnums=5)((), params, stats, batch, jax.random.key(1), True)[0]
    assert abs(float(other) - expected) > 1e-3, "the noise is of the key"


def test_deepobs_weights_are_small_so_that_ten_classes_are_alike_at_the_start():
    _, (params, _, _, loss, _) = start("fashion_cnn")
    assert np.concatenate([layer.w.ravel() for layer in layers(params)]).std() == pytest.approx(0.05, rel=0.1)
    for layer in layers(params):
        np.testing.assert_array_equal(layer.b, np.float32(0.05))
    assert float(loss) == pytest.approx(np.log(10), abs=0.02)


def test_images_are_halved_by_means():
    x = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    found = np.asarray(fashion_cnn.halved(x))
    assert found.shape == (2, 2, 2, 1)
    assert found[0, 0, 0, 0] == x[0, :2, :2].mean()
    assert found[1, 1, 0, 0] == x[1, 2:, :2].mean()


@pytest.mark.parametrize("name", ["shakespeare_transformer", "shakespeare_gru"])
def test_characters_at_the_start_are_at_random(name):
    task, (_, _, _, loss, _) = start(name)
    vocabulary = int(max(part.y.max() for part in task.data.values())) + 1
    assert np.log(vocabulary) - 0.3 < float(loss) < np.log(vocabulary) + 1


def test_the_progress_of_diabetes_is_explained_by_half():
    """By least squares on the same splits; the loss is the share of the variance that is not."""
    split = tasks.workload("tabular").task.data
    for part in ("train", "validation", "test"):
        assert abs(split[part].y.mean()) < 0.3
    np.testing.assert_allclose(split["train"].y.std(), 1, rtol=1e-5)
    design = lambda part: np.c_[split[part].x, np.ones(len(split[part].x))]
    best, *_ = np.linalg.lstsq(design("train"), split["train"].y)
    assert 0.35 < np.square(design("test") @ best - split["test"].y).mean() < 0.65


def test_a_table_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).round(3)
    y = x @ [1.0, -2.0, 0.5] + 40.25
    rows = "\n".join(",".join(map(str, row)) for row in np.c_[x, y])
    (tmp_path / "mine.csv").write_text(f"a,b,c,target\n{rows}\n")
    workload = tabular.workload("tiny", tmp_path / "mine.csv")
    assert workload.task.about["dataset"] == "mine.csv"
    ds = sweep(workload.task, "adam", over={"lr": [0.03]}, seeds=1, steps=150)
    assert float(ds.test_loss.squeeze()) < 0.2


@pytest.mark.slow
def test_a_transformer_comes_below_2_2_bits_per_character():
    workload = tasks.workload("shakespeare_transformer", "full")
    if workload.task.about["dataset"] != "tiny_shakespeare":
        pytest.skip("tiny Shakespeare is not there: name the folder that has it by FNN_DATA")
    shape = {"lr": schedules.warmup(0.05, schedules.cosine())}
    ds = sweep(workload.task, "adamw", over={"lr": [0.003]}, seeds=1, steps=workload.steps, schedule=shape)
    assert float(ds.validation_bits.squeeze()) < 2.2
