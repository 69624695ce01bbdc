"""What does not fit is refused before training in a sentence; what cannot be seen while tracing is NaN, never wrong."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import layers, models, optim, sweep, wrappers
from fnn.base.errors import InputError
from fnn.nn.losses import accuracy, mean_squared_error, softmax_cross_entropy
from fnn.tasks import Split, Trial, check_splits, classification
from fnn.train import Hyper, engine, halving, population, train, training

pytestmark = pytest.mark.usefixtures("unchecked")

N, CLASSES = 12, 3
rng = np.random.default_rng(0)
X = rng.integers(0, 256, (N, 4, 4), np.uint8)
X[0, 0] = 255
Y = (np.arange(N) % CLASSES).astype(np.int32)
SOFT = rng.dirichlet(np.ones(CLASSES), N).astype(np.float32)
KEY = jax.random.key(0)


def network(hp):
    return models.multilayer((5,), CLASSES)


def splits(x=X, y=Y, name="train"):
    good = {"train": Split(X, Y), "test": Split(X[:7], Y[:7])}
    return {**good, name: Split(x, y)}


def changed(array, value, at=3):
    array = np.array(array)
    array.flat[at] = value
    return array


NUMBERS = X.astype(np.float32) / 255
BAD = {
    "label too large": (splits(y=changed(Y, 3)), "labels of train are classes 0 to 2, as the network has 3 outputs"),
    "label negative": (splits(y=changed(Y, -1)), "The targets of train are classes from 0 on, and one is -1"),
    "label in a test split": (splits(X, changed(Y, 9), "test"), "The labels of test are classes 0 to 2"),
    "labels as a column": (splits(y=Y[:, None]), "not int32 of shape (12, 1)"),
    "labels as floats": (splits(y=Y.astype(np.float32)), "not float32 of shape (12,)"),
    "labels as truths": (splits(y=Y > 0), "The targets of train are whole or floating-point numbers, not bool"),
    "labels as text": (splits(y=Y.astype(str)), "The targets of train are whole or floating-point numbers, not <U"),
    "labels as a list": (splits(y=Y.tolist()), "The targets of train are an array, not list"),
    "one label": (splits(y=np.int32(3)), "The targets of train are of shape ()"),
    "fewer labels than images": (splits(y=Y[:-1]), "The targets of train are of shape (11,), and there are 12 inputs"),
    "more labels than images": (splits(x=X[:-1]), "The targets of train are of shape (12,), and there are 11 inputs"),
    "probabilities of other classes": (splits(y=np.full((N, 4), 0.25, np.float32)), "of shape (12, 3), not float32"),
    "probabilities off": (splits(y=SOFT / 2), "rows from 0 on that sum to 1"),
    "probabilities negative": (splits(y=SOFT + np.float32([[1, -1, 0]])), "rows from 0 on that sum to 1"),
    "probabilities NaN": (splits(y=changed(SOFT, np.nan)), "The targets of train hold numbers that are infinite"),
    "bytes as floats": (splits(x=X.astype(np.float32)), "hold whole numbers up to 255 as float32: give bytes as uint8"),
    "bytes as int32": (splits(x=X.astype(np.int32)), "are bytes (uint8) or floating-point numbers, not int32"),
    "bytes as int16, negative": (splits(x=changed(X.astype(np.int16), -5)), "not int16"),
    "above 255": (splits(x=changed(X.astype(np.uint16), 256)), "not uint16"),
    "truths": (splits(x=X > 128), "The inputs of train are whole or floating-point numbers, not bool"),
    "text": (splits(x=X.astype(str)), "are whole or floating-point numbers, not <U"),
    "images as a list": (splits(x=X.tolist()), "The inputs of train are an array, not list"),
    "NaN": (splits(x=changed(NUMBERS, np.nan)), "The inputs of train hold numbers that are infinite, NaN or"),
    "infinite": (splits(NUMBERS, Y, "test") | splits(x=changed(NUMBERS, np.inf)), "infinite, NaN or"),
    "beyond float32": (splits(x=changed(NUMBERS.astype(float), 1e39)), "beyond float32"),
    "no features": (splits(x=np.ones((N, 0), np.float32)), "at least one, of shape (n, features …), not (12, 0)"),
    "masked images": (splits(x=np.ma.masked_equal(X, 0)), "The inputs of train have masked entries"),
    "masked labels": (splits(y=np.ma.masked_equal(Y, 0)), "The targets of train have masked entries"),
    "empty": (splits(X[:0], Y[:0]), "The inputs of train are at least one"),
    "empty test": (splits(X[:0], Y[:0], "test"), "The inputs of test are at least one"),
    "numbers in a row": (splits(np.ones(N, np.float32), Y), "of shape (n, features …), not (12,)"),
    "other images to test on": (splits(X[:, :3], Y, "test"), "The inputs of test are of shape (3, 4) each, not (4, 4)"),
    "no split to learn from": ({"test": Split(X, Y)}, "There is no split 'train' to learn from; there are test"),
    "no splits": ({}, "There is no split 'train' to learn from; there are none"),
    "one split alone": (Split(X, Y), "a mapping from names to tasks.Split"),
    "pairs": ({"train": (X, Y)}, "a mapping from names to tasks.Split"),
    "nothing": (None, "a mapping from names to tasks.Split"),
}  # fmt: skip

RULE = optim.rule("sgd")
HP = Hyper(RULE.hyper, ())


def several(rule):
    """Two settings of a rule."""
    return Hyper(engine.grid(rule.hyper, lr=[0.1, 0.2]), ())


def loss_of(hp, state, data):
    return jnp.float32(0)


def streamed(run, data, hp):
    return list(engine.stream({"a": run}, {"a": hp}, engine.seeds(2), data, 2))


WAYS = {
    "train": lambda run, data, rule=RULE: train(run, 2, Hyper(rule.hyper, ()), KEY, data),
    "stream": lambda run, data, rule=RULE: streamed(run, data, Hyper(rule.hyper, ())),
    "stream of settings": lambda run, data, rule=RULE: streamed(engine.over_hypers(run), data, several(rule)),
    "halving": lambda run, data, rule=RULE: halving.halving(run, (1, 2), loss_of)(several(rule), KEY, data),
    "population": lambda run, data, rule=RULE: population.population(run, 1, 2, loss_of, population.perturb())(
        several(rule), KEY, jax.random.key(1), data
    ),
}


def run_of(network=network, rule=RULE, **options):
    return training(classification(network, batch=4, **options), rule, 2)


@pytest.mark.parametrize(("data", "sentence"), BAD.values(), ids=BAD)
def test_data_that_do_not_fit_are_refused_in_a_sentence(data, sentence):
    with pytest.raises(InputError) as caught:
        train(run_of(), 2, HP, KEY, data)
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["label too large", "labels as a column", "NaN", "no split to learn from"])
def test_for_every_way_to_start_training(way, name):
    data, sentence = BAD[name]
    with pytest.raises(InputError) as caught:
        WAYS[way](run_of(), data)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_what_fits_trains(way):
    WAYS[way](run_of(), splits())


@pytest.mark.parametrize("y", [Y, Y.astype(np.uint8), Y.astype(np.int64), np.eye(CLASSES, dtype=np.float32)[Y], SOFT])
@pytest.mark.parametrize("x", [X, X / 255, NUMBERS, (X - 128.0) / 64, (X > 128) * 1.0], ids=lambda x: str(x.dtype))
def test_labels_and_images_of_every_kind_that_fits(x, y):
    _, record = train(run_of(), 2, HP, KEY, splits(x, y))
    assert np.isfinite(record["loss"]).all()


def test_numbers_are_taken_as_they_are_and_bytes_divided_by_255():
    """The same images, given as bytes and as numbers 0…1, are the same: they were divided by 255 twice."""
    losses = [train(run_of(), 2, HP, KEY, splits(x))[1]["loss"] for x in (X, NUMBERS)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


# What is traced


@pytest.mark.parametrize("label", [-1, CLASSES, 255])
def test_a_traced_label_out_of_range_gives_nan(label):
    z = jnp.zeros((2, CLASSES))
    for score in (softmax_cross_entropy, accuracy):
        assert np.isnan(jax.jit(score)(z, jnp.array([0, label])))
        assert np.isfinite(jax.jit(score)(z, jnp.array([0, 1])))
    slope = jax.jit(jax.grad(softmax_cross_entropy))(z, jnp.array([0, label]))
    assert np.isnan(slope[1]).all(), "training stops to learn at once, instead of going on with a better-looking loss"
    assert np.isfinite(slope[0]).all()


@pytest.mark.parametrize("row", [[0.5, 0.4, 0.0], [1.0, 1.0, 0.0], [1.5, -0.5, 0.0], [0.0, 0.0, 0.0]])
def test_traced_probabilities_that_do_not_sum_to_1_give_nan(row):
    z = jnp.zeros((2, CLASSES))
    assert np.isnan(jax.jit(softmax_cross_entropy)(z, jnp.array([[0.0, 1.0, 0.0], row])))


def test_traced_data_with_a_label_out_of_range_give_nan():
    run = run_of()
    states = jax.jit(lambda data: train(run, 2, HP, KEY, data))(splits(y=np.full(N, CLASSES)))
    assert np.isnan(states[1]["loss"]).all()


SHAPES = {
    "cross-entropy, column": (softmax_cross_entropy, (4, 3), np.zeros((4, 1), int)),
    "cross-entropy, column of floats": (softmax_cross_entropy, (4, 3), np.zeros((4, 1))),
    "cross-entropy, one logit": (softmax_cross_entropy, (4, 1), np.zeros((4, 3))),
    "cross-entropy, fewer targets": (softmax_cross_entropy, (4, 3), np.zeros(3, int)),
    "cross-entropy, one target": (softmax_cross_entropy, (4, 3), np.zeros((), int)),
    "cross-entropy, floats as classes": (softmax_cross_entropy, (4, 3), np.zeros(4)),
    "cross-entropy, one row": (softmax_cross_entropy, (3,), np.zeros(3, int)),
    "cross-entropy, square": (softmax_cross_entropy, (4, 4), np.zeros((1, 4))),
    "accuracy, column": (accuracy, (4, 3), np.zeros((4, 1), int)),
    "accuracy, fewer targets": (accuracy, (4, 3), np.zeros(1, int)),
    "accuracy, floats": (accuracy, (4, 3), np.zeros(4)),
    "squares, column against row": (mean_squared_error, (4, 1), np.zeros(4)),
    "squares, row against column": (mean_squared_error, (4,), np.zeros((4, 1))),
    "squares, a number": (mean_squared_error, (4, 1), np.zeros(())),
}


@pytest.mark.parametrize(("score", "shape", "targets"), SHAPES.values(), ids=SHAPES)
def test_shapes_that_broadcast_by_accident_are_refused(score, shape, targets):
    with pytest.raises(InputError, match="shape"):
        jax.jit(score)(jnp.zeros(shape), jnp.asarray(targets))


# Parts that do not go together


class Decay(NamedTuple):
    decay: float = 0.1


def test_weight_decay_of_a_network_without_weights_is_refused():
    run = run_of(lambda hp: layers.serial(layers.batch_norm()), weight_decay=lambda hp: 0.1)
    data = {"train": Split(rng.normal(size=(N, CLASSES)), Y)}
    with pytest.raises(InputError, match="this network has none"):
        train(run, 2, HP, KEY, data)


def test_hyperparameters_of_the_task_that_are_not_given_are_named():
    task = classification(network, batch=4, weight_decay=lambda hp: hp.decay)
    with pytest.raises(InputError, match=r"has hyperparameters, and Hyper\(task=…\) has none: .*'decay'"):
        train(training(task, RULE, 2), 2, HP, KEY, splits())
    train(training(task, RULE, 2), 2, Hyper(RULE.hyper, Decay()), KEY, splits())


NORMALIZED = {
    where: lambda hp, where=where: models.multilayer((5,), CLASSES, normalize=where) for where in ("before", "after")
}
PRIVATE = {
    "dpsgd": optim.rule("dpsgd"),
    "in a wrapper": wrappers.clip_norm(optim.rule("dpsgd")),
    "in groups": wrappers.by_group({"a": optim.rule("dpsgd")}, lambda w: jax.tree.map(lambda w: "a", w)),
}


@pytest.mark.parametrize("way", WAYS)
def test_gradients_by_example_do_not_exist_where_examples_mix(way):
    run = run_of(NORMALIZED["before"], optim.rule("dpsgd"))
    with pytest.raises(InputError, match="mixes the examples of a batch, as batch normalization does"):
        WAYS[way](run, splits(), optim.rule("dpsgd"))


@pytest.mark.parametrize("rule", PRIVATE.values(), ids=PRIVATE)
@pytest.mark.parametrize("where", NORMALIZED)
def test_whatever_is_around_the_rule(rule, where):
    with pytest.raises(InputError, match="mixes the examples"):
        train(run_of(NORMALIZED[where], rule), 2, Hyper(rule.hyper, ()), KEY, splits())
    train(run_of(rule=rule), 2, Hyper(rule.hyper, ()), KEY, splits())


def test_a_layer_declares_whether_it_mixes_examples():
    for layer in (layers.affine(3), layers.dropout(0.5), layers.inverted_dropout(0.5), layers.elementwise(jnp.tanh)):
        assert not layer.mixes
    assert layers.batch_norm().mixes
    assert layers.serial(layers.affine(3), layers.serial(layers.batch_norm())).mixes
    assert not layers.serial(layers.affine(3), layers.serial(layers.affine(3))).mixes


def test_layers_that_mix_declare_it():
    """An example's output in training is the same whatever is beside it, unless its layer declares that it mixes."""
    x = jnp.asarray(rng.normal(size=(2, 6, 4)).astype(np.float32)).at[:, 0].set(0.3)
    makers = {
        "affine": layers.affine(3),
        "batch_norm": layers.batch_norm(),
        "elementwise": layers.elementwise(jnp.tanh),
        "serial": layers.serial(layers.affine(3), layers.batch_norm()),
        "multilayer": models.multilayer((5,), CLASSES),
    }
    for name, layer in makers.items():
        params, stats = layer.init(KEY, x[0])
        first, second = (layer.apply(params, stats, one, None, True)[0][0] for one in x)
        assert layer.mixes == (not np.allclose(first, second)), name


def test_batch_normalization_of_one_example_is_refused():
    """Its output would be β for whatever example."""
    layer = layers.batch_norm()
    params, stats = layer.init(KEY, jnp.ones((1, 4)))
    with pytest.raises(InputError, match="at least 2 examples at once"):
        layer.apply(params, stats, jnp.ones((1, 4)), None, True)
    layer.apply(params, stats, jnp.ones((1, 4)), None, False)


def test_work_of_any_kind_checks_its_splits_first():
    bad = splits(y=changed(Y, -1))
    with pytest.raises(InputError, match="The targets of train are classes from 0 on, and one is -1"):
        engine.over_seeds(lambda mine, key, data: mine)(jnp.zeros(2), engine.seeds(2), bad)
    with pytest.raises(InputError, match="The targets of train are classes from 0 on, and one is -1"):
        sweep(Trial(lambda hp, key, data: {"x": 0.0}, bad), seeds=2)


def test_splits_in_any_tree_are_checked():
    check_splits([{"a": Split(X, Y)}, None, 3.0])
    with pytest.raises(InputError, match=r"The targets of 0\.a are of shape \(11,\)"):
        check_splits([{"a": Split(X, Y[:-1])}])
