"""Which examples a step takes: every one once per epoch, in a new order each, found without the steps before."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn.base.errors import InputError
from fnn.tasks import Epochs, Everything, Split, WithReplacement
from fnn.tasks.drawing import shuffled

pytestmark = pytest.mark.usefixtures("unchecked")

KEY = jax.random.key(3)


def data(n):
    return {"train": Split(np.zeros((n, 1), np.float32), np.zeros(n, np.int32))}


def drawn(drawing, n, steps):
    return np.asarray(jax.vmap(lambda i: drawing(KEY, data(n), i))(jnp.arange(steps)))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 97, 256])
def test_a_permutation_without_its_table(n):
    at = jax.vmap(lambda place: shuffled(KEY, place, n))(jnp.arange(n))
    assert sorted(at.tolist()) == list(range(n))


def test_every_permutation_is_as_likely():
    keys = jax.random.split(KEY, 24 * 200)
    orders = jax.vmap(lambda key: jax.vmap(lambda place: shuffled(key, place, 4))(jnp.arange(4)))(keys)
    code = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
    counts = np.bincount([code[tuple(order)] for order in np.asarray(orders).tolist()], minlength=24)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_neighbors_are_parted():
    """The image of one place does not determine that of the next."""
    at = np.asarray(jax.vmap(lambda place: shuffled(KEY, place, 1000))(jnp.arange(1000)))
    assert abs(stats.spearmanr(at[:-1], at[1:]).statistic) < 0.12
    assert abs(stats.spearmanr(np.arange(1000), at).statistic) < 0.12


@pytest.mark.parametrize(("n", "size"), [(12, 4), (10, 4), (7, 7), (5, 1), (9, 8)])
def test_each_example_once_per_epoch(n, size):
    epochs = 3
    flat = drawn(Epochs(size), n, -(-epochs * n // size)).ravel()[: epochs * n].reshape(epochs, n)
    for order in flat:
        assert sorted(order.tolist()) == list(range(n))
    if n > 5:
        assert (flat[0] != flat[1]).any()
        assert (flat[1] != flat[2]).any()


def test_the_rest_of_an_epoch_is_dropped_where_that_is_meant():
    steps = drawn(Epochs(4, last="drop"), 10, 4).reshape(2, 8)
    for order in steps:
        assert len(set(order.tolist())) == 8
    assert set(steps[0].tolist()) != set(steps[1].tolist()), "others in every epoch"


def test_far_steps_do_not_overflow():
    n, size = 60_000, 4096
    late = 2**31 - 1
    places = np.asarray(Epochs(size)(KEY, data(n), jnp.int32(late)))
    assert ((places >= 0) & (places < n)).all()
    assert len(np.unique(places)) >= size - 1
    first = late * size // n  # epochs before this step, exactly
    expected = [(late * size + j) for j in (0, size - 1)]
    for at, place in zip((0, -1), expected, strict=True):
        epoch = jax.random.fold_in(KEY, place // n)
        assert places[at] == int(shuffled(epoch, jnp.int32(place % n), n))
    assert first == expected[0] // n


def test_other_ways():
    assert drawn(Everything(), 5, 2).tolist() == [list(range(5))] * 2
    often = np.bincount(drawn(WithReplacement(50), 5, 100).ravel(), minlength=5)
    assert stats.chisquare(often).pvalue > 1e-4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Epochs(0), "at least 1 example, not 0"),
        (lambda: Epochs(4, last="keep"), "'span' or 'drop', not 'keep'"),
        (lambda: WithReplacement(2.5), "at least 1 example, not 2.5"),
        (lambda: Epochs(9)(KEY, data(8), 0), "A minibatch of 9 is more than the 8 examples of train"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
