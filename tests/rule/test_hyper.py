"""Hyperparameters by name, at any depth."""

import pytest

from fnn import optim, wrappers
from fnn.base.errors import InputError
from fnn.rule import hyper

SGD = optim.rule("sgd")
DEEP = wrappers.clip_norm(wrappers.by_group({"fast": SGD}, lambda w: w)).hyper


def test_names_are_paths():
    assert hyper.names(SGD.hyper) == ("lr",)
    assert hyper.names(DEEP) == ("inner.fast.lr", "limit")
    assert hyper.names(()) == ()


def test_values_are_read_and_replaced_by_name():
    assert hyper.get(DEEP, "inner.fast.lr") == SGD.hyper.lr
    changed = hyper.put(DEEP, "inner.fast.lr", 7.0)
    assert hyper.get(changed, "inner.fast.lr") == 7.0
    assert hyper.get(DEEP, "inner.fast.lr") == SGD.hyper.lr
    assert hyper.put(DEEP, "limit", 2.0).limit == 2.0


def test_the_learning_rate_is_the_outermost():
    assert hyper.lr_path(optim.rule("adam").hyper) == "lr"
    assert hyper.lr_path(DEEP) == "inner.fast.lr"
    assert hyper.lr_path(()) is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rate", "no hyperparameter 'rate'; there are inner, limit"),
        ("inner.slow.lr", "'slow'; there are fast"),
        ("limit.x", "'x'; there are none"),
    ],
)
def test_an_unknown_name_is_a_sentence(name, sentence):
    with pytest.raises(InputError, match=sentence):
        hyper.get(DEEP, name)
    with pytest.raises(InputError, match=sentence):
        hyper.put(DEEP, name, 1.0)
