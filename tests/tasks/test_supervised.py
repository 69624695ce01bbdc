"""Tasks of one's own: any loss and metrics, regression, two classes, text; known optima, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, layers, losses, models, optim, sweep, tasks
from fnn.base.errors import InputError
from fnn.tasks import Split
from fnn.train import Hyper, train, training

pytestmark = pytest.mark.usefixtures("unchecked")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * RNG.normal(size=40)).astype(np.float32)
DATA = {"train": Split(X[:30], Y[:30]), "test": Split(X[30:], Y[30:])}
LINE = models.multilayer((), 1)


def trained(task, rule="sgd", steps=3, **hyper):
    rule = optim.rule(rule)
    hp = Hyper(rule.hyper._replace(**hyper), task.hyper)
    return train(training(task, rule, steps, evaluate_at=(steps,)), steps, hp, jax.random.key(0), task.data)


def test_linear_regression_reaches_least_squares():
    """On the full batch gradient descent comes to the solution of the normal equations."""
    state, record = trained(tasks.regression(LINE, DATA, tasks.Everything()), steps=400, lr=0.2)
    best, rest, *_ = np.linalg.lstsq(np.c_[X[:30], np.ones(30)], Y[:30])
    np.testing.assert_allclose(np.r_[state.params[0].w[0], state.params[0].b], best, rtol=1e-4)
    np.testing.assert_allclose(record["train_loss"][-1], rest[0] / 30, rtol=1e-4)


def test_a_column_of_targets_is_the_same_and_a_row_is_refused():
    column = {name: Split(split.x, split.y[:, None]) for name, split in DATA.items()}
    one, other = (trained(tasks.regression(LINE, data, 8))[1] for data in (DATA, column))
    np.testing.assert_array_equal(one["loss"], other["loss"])
    with pytest.raises(InputError, match=r"outputs of shape \(2,\), and the targets of train are \(30,\)"):
        trained(tasks.regression(models.multilayer((), 2), DATA, 8))
    with pytest.raises(InputError, match="The targets of train are floating-point numbers, not int32"):
        trained(tasks.regression(LINE, {"train": Split(X, np.arange(40, dtype=np.int32))}, 8))


def test_losses_by_their_definitions(x64):
    y, t = jnp.array([[0.0], [0.5], [3.0]]), jnp.array([[0.2], [-2.0], [2.5]])
    np.testing.assert_allclose(losses.huber(y, t, 1.0), np.mean([0.02, 2.5 - 0.5, 0.125]), rtol=1e-12)
    z, c = jnp.array([[-3.0], [0.5], [800.0]]), jnp.array([0, 1, 1])
    expected = np.mean([np.log1p(np.exp(-3.0)), np.log1p(np.exp(-0.5)), 0.0])
    np.testing.assert_allclose(losses.sigmoid_cross_entropy(z, c), expected, rtol=1e-12)
    assert losses.sign_accuracy(z, jnp.array([0, 0, 1])) == pytest.approx(2 / 3)
    assert np.isnan(losses.sigmoid_cross_entropy(z, jnp.array([0, 2, 1])))
    logits = RNG.normal(size=(2, 3, 4))
    tokens = np.array([[0, 1, 3], [2, 2, 0]])
    chosen = np.take_along_axis(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), tokens[..., None], -1)
    loss = losses.next_token_cross_entropy(jnp.asarray(logits), jnp.asarray(tokens))
    np.testing.assert_allclose(loss, -chosen.mean(), rtol=1e-12)


def test_two_classes_by_one_logit_are_softmax_of_zero_and_it(x64):
    z = jnp.asarray(RNG.normal(size=(6, 1)))
    c = jnp.array([0, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        losses.sigmoid_cross_entropy(z, c), losses.softmax_cross_entropy(jnp.c_[0 * z, z], c), rtol=1e-12
    )


def test_a_binary_classification_learns_and_refuses_a_third_class():
    sides = {name: Split(split.x, (split.y > 0).astype(np.int32)) for name, split in DATA.items()}
    record = trained(tasks.binary(LINE, sides, 8), "adam", 150, lr=0.1)[1]
    assert record["train_accuracy"][-1] > 0.9
    with pytest.raises(InputError, match="The targets of train are classes 0 and 1, and one is 2"):
        trained(tasks.binary(LINE, {"train": Split(X, np.full(40, 2, np.int32))}, 8))
    with pytest.raises(InputError, match="a network of one output"):
        trained(tasks.binary(models.multilayer((), 2), sides, 8))


def test_any_loss_and_metrics_of_ones_own_with_labels():
    """The loss reads targets of any shape; metrics get the outputs of whole splits, block by block."""
    intervals = {name: Split(split.x, np.stack([split.y - 0.1, split.y + 0.1], 1)) for name, split in DATA.items()}
    outside = lambda out, y: (jax.nn.relu(y[:, 0] - out[:, 0]) + jax.nn.relu(out[:, 0] - y[:, 1])).mean()
    inside = lambda out, y: ((y[:, 0] <= out[:, 0]) & (out[:, 0] <= y[:, 1])).mean()
    task = tasks.supervised(
        *(LINE, intervals, outside),
        metrics={"inside": inside},
        batch=tasks.Epochs(10),
        block=7,
        labels={"loss": tasks.Label("distance", "m"), "inside": tasks.Label("share inside", "1")},
    )
    ds = sweep(task, "adam", over={"lr": [0.01, 0.1]}, seeds=2, steps=100)
    assert ds.test_inside.dims == ("lr", "seed", "update")
    assert ds.test_inside.attrs == {"long_name": "share inside on the test set", "units": "1"}
    assert ds.loss.attrs == {"long_name": "loss on the minibatch", "units": "m"}
    assert ds.attrs["batch"] == 10
    assert float(ds.train_inside.sel(lr=0.1).mean()) > 0.5


def test_augmentation_is_of_training_alone_and_new_at_every_step():
    """The inputs shift by a random number: losses in training differ from step to step, metrics do not see it."""
    seen = []

    def shifted(key, x):
        seen.append(x.shape)
        return x + jax.random.normal(key, (len(x), 1))

    still = layers.elementwise(lambda x: x[:, :1])  # nothing to learn
    data = {"train": Split(np.zeros((8, 2), np.float32), np.zeros(8, np.float32))}
    _, record = trained(tasks.regression(still, data, 4, augment=shifted), steps=4)
    assert seen[0] == (4, 2)
    assert len(np.unique(record["loss"])) == 4
    assert (np.asarray(record["loss"]) > 0).all()
    assert record["train_loss"][-1] == 0


def test_a_whole_number_of_numpy_is_a_size():
    assert tasks.regression(LINE, DATA, np.int64(8)).about["batch"] == 8


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 2.5}, "A minibatch is a number of examples, or what draws them, not 2.5"),
        ({"batch": 0}, "at least 1 example, not 0"),
        ({"metrics": {"loss": losses.huber}}, "none named loss"),
        ({"metrics": {"a": 3}}, "are functions"),
        ({"augment": 3}, "An augmentation is a function"),
        ({"prepare": None}, "What prepares inputs is a function of them, not None"),
        ({"sample": 31}, "A sample of 31 is more than the 30 examples of train"),
    ],
)
def test_an_impossible_task_is_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        tasks.supervised(LINE, DATA, losses.huber, **options)


# Text

TEXT = np.tile(np.arange(5, dtype=np.int32), 60)


def next_of(tokens):
    """Logits by the last token alone: a table."""

    def init(key, x):
        return jnp.zeros((tokens, tokens)), ()

    return layers.Layer(init, lambda params, stats, x, key, train: (params[x], stats))


def test_a_text_that_repeats_is_learnt():
    task = tasks.language(next_of(5), {"train": TEXT, "test": TEXT[:41]}, 4, context=8)
    assert task.data["test"].x.shape == (5, 8)
    ds = sweep(task, "adam", over={"lr": [0.3]}, seeds=2, steps=60, evaluate=(1, 60))
    np.testing.assert_allclose(ds.test_bits * np.log(2), ds.test_loss, rtol=1e-6)
    assert ds.test_bits.attrs == {"long_name": "loss on the test set", "units": "bits"}
    assert float(ds.test_bits.isel(update=-1).max()) < 0.05
    assert float(ds.loss.isel(step=0).min()) == pytest.approx(np.log(5), rel=1e-5)


def test_windows_start_anywhere_and_never_leave_the_text():
    """A minibatch's targets are the tokens after its inputs, as they stand in the text."""
    text = np.arange(100, dtype=np.int32)
    task = tasks.language(next_of(101), {"train": text}, 64, context=7)
    starts = [np.asarray(task.draw(jax.random.key(0), task.data, i)) for i in range(40)]
    assert np.min(starts) == 0
    assert np.max(starts) == 13 * 7
    x, y = task.batch(jax.tree.map(jnp.asarray, task.data), jnp.asarray(starts[0]))
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TEXT.astype(float), "whole numbers in one axis"),
        (TEXT[:8], "train has 8 tokens, and a window and the token after it take 9"),
        (np.where(TEXT == 4, 7, TEXT), "train has the token 7, and the network 5 logits"),
        (TEXT - 1, "one is -1"),
    ],
)
def test_a_text_that_does_not_fit_is_a_sentence(text, sentence):
    with pytest.raises(InputError, match=sentence):
        trained(tasks.language(next_of(5), {"train": text}, 4, context=8))


def test_a_data_set_is_the_data_of_every_task(tmp_path):
    """With its validation part, and its name and checksum in what is recorded."""
    known = dict(zip(("test", "validation"), ((X[30:35], Y[30:35]), (X[35:], Y[35:])), strict=True))
    numbers = data.from_arrays(X[:30], Y[:30], **known)
    task = tasks.regression(LINE, numbers, 8)
    splits = {"train": DATA["train"], **{name: Split(*pair) for name, pair in known.items()}}
    one, other = trained(task)[1], trained(tasks.regression(LINE, splits, 8))[1]
    assert {"train_loss", "test_loss", "validation_loss"} <= set(one)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert task.about["checksum"] == numbers.checksum
    signs = data.from_arrays(X, Y > 0, test=10)
    assert "test_accuracy" in trained(tasks.binary(LINE, signs, 8))[1]

    (tmp_path / "song.txt").write_text("abcde" * 20, "utf-8")
    text = data.from_text(tmp_path / "song.txt", test=0.2, validation=0)
    task = tasks.language(next_of(5), text, 4, context=8)
    tokens = np.tile(np.arange(5), 20)
    given = tasks.language(next_of(5), {"train": tokens[:80], "test": tokens[80:]}, 4, context=8)
    jax.tree.map(np.testing.assert_array_equal, task.data, given.data)
    assert (task.about["dataset"], task.about["context"]) == ("song.txt", 8)
    with pytest.raises(InputError, match="is no text: it has examples of shape"):
        tasks.language(next_of(5), numbers)
