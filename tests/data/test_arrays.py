"""Arrays of one's own: how they are cut, what becomes of their targets, and what is refused."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, tasks
from fnn.base.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3, 2))
Y = np.arange(60) % 3


def sentence(call, *args, **named):
    """The message of the `InputError` that a call raises; it must be one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **named)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def rows(array):
    return sorted(map(tuple, np.asarray(array).reshape(len(array), -1).tolist()))


def test_parts_hold_every_example_once_with_its_target_and_classes_in_proportion():
    ds = data.from_arrays(X, Y, test=0.2, validation=15)
    assert {part: x.shape for part, (x, _) in ds.parts.items()} == {
        "train": (33, 3, 2),
        "test": (12, 3, 2),
        "validation": (15, 3, 2),
    }
    whole = np.concatenate([np.c_[x.reshape(len(x), -1), y] for x, y in ds.parts.values()])
    assert rows(whole) == rows(np.c_[X.reshape(60, -1).astype(np.float32), Y])
    assert ds.x_train.dtype == np.float32
    assert ds.y_train.dtype == np.int32
    assert [np.bincount(y).tolist() for _, y in ds.parts.values()] == [[11] * 3, [4] * 3, [5] * 3]
    assert ds.classes == ("0", "1", "2")


def test_a_split_depends_on_its_key_alone():
    ds = data.from_arrays(X, Y)
    assert ds.checksum == data.from_arrays(X, Y, key=jax.random.key(0)).checksum
    assert ds.checksum != data.from_arrays(X, Y, key=jax.random.key(1)).checksum
    with jax.enable_x64(True):
        assert ds.checksum == data.from_arrays(X, Y).checksum
    with jax.default_prng_impl("rbg"):
        assert ds.checksum == data.from_arrays(X, Y).checksum


def test_a_rare_class_is_learnt_and_chance_decides_where_it_is_not_stratified():
    y = np.array([0] * 57 + [1] * 3)
    stratified = data.from_arrays(X, y, test=1 / 3)
    assert [np.bincount(part, minlength=2)[1] for part in (stratified.y_train, stratified.y_test)] == [2, 1]
    keys = jax.random.split(jax.random.key(0), 20)
    counts = [np.bincount(data.from_arrays(X, Y, key=key, stratify=False).y_test)[0] for key in keys]
    assert len(set(counts)) > 2


def test_arrays_are_copied_and_read_only():
    x, y = np.array(X, np.float32), np.array(Y, np.int32)
    ds = data.from_arrays(x, y, test=(x[:5], y[:5]))
    x[0] = y[0] = 9
    assert ds.x_train[0, 0, 0] == np.float32(X[0, 0, 0])
    assert ds.x_test[0, 0, 0] == np.float32(X[0, 0, 0])
    with pytest.raises(ValueError, match="read-only"):
        ds.x_train[0] = 0


@pytest.mark.parametrize(
    ("y", "classes", "first"),
    [
        (np.where(Y == 0, -1, 7), ("-1", "7"), [0, 1, 1]),
        (Y.astype(bool), ("False", "True"), [0, 1, 1]),
        (["cat", "ant", "dog"] * 20, ("ant", "cat", "dog"), [1, 0, 2]),
        (np.array(["b", "a", "b"] * 20, object), ("a", "b"), [1, 0, 1]),
        (np.array([b"b", b"a", b"b"] * 20), ("a", "b"), [1, 0, 1]),
        (Y.astype(np.uint8)[:, None], ("0", "1", "2"), [0, 1, 2]),
    ],
    ids=["numbers", "truth values", "text", "objects", "bytes", "a column"],
)
def test_classes_are_numbered_in_order_and_keep_their_names(y, classes, first):
    ds = data.from_arrays(X, y, test=(X[:3], y[:3]))
    assert ds.classes == classes
    assert ds.y_train[:3].tolist() == ds.y_test.tolist() == first
    assert ds.y_train.dtype == np.int32


def test_named_classes_stay_as_they_are_though_one_has_no_example():
    ds = data.from_arrays(X, Y, classes=("a", "b", "c", "d"))
    assert ds.classes == ("a", "b", "c", "d")
    assert sorted(set(ds.y_train.tolist())) == [0, 1, 2]


@pytest.mark.parametrize("shape", [(60,), (60, 2)])
def test_floating_point_targets_are_a_regression(shape):
    y = RNG.normal(size=shape)
    ds = data.from_arrays(X, y)
    assert ds.classes == ()
    assert ds.y_train.dtype == np.float32
    assert rows(np.concatenate([ds.y_train, ds.y_test])) == rows(y.astype(np.float32))


def test_kinds_of_examples():
    kinds = {np.uint8: np.uint8, np.int64: np.int32, np.int16: np.int32, np.float16: np.float32, bool: np.float32}
    for kind, expected in kinds.items():
        assert data.from_arrays((X > 0).astype(kind), Y).x_train.dtype == expected
    assert data.from_arrays(jnp.asarray(X, jnp.bfloat16), jnp.asarray(Y)).x_train.dtype == np.float32
    assert data.from_arrays(X.tolist(), Y.tolist()).x_train.shape == (48, 3, 2)
    big = data.from_arrays(X.astype(">f8"), Y.astype(">i4"))
    assert big.checksum == data.from_arrays(X, Y).checksum


def test_columns_are_standardized_by_the_training_rows():
    x = np.c_[RNG.normal(5, 3, 60), np.ones(60), RNG.normal(-1, 0.1, 60)]
    raw = data.from_arrays(x, Y, features=("a", "b", "c"))
    ds = data.standardized(raw)
    np.testing.assert_allclose(ds.x_train.mean(0), [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(ds.x_train.std(0), [1, 0, 1], atol=1e-6)
    mean, deviation = ds.scales["a"]
    np.testing.assert_allclose(ds.x_test[:, 0] * deviation + mean, raw.x_test[:, 0], rtol=1e-5)
    some = data.standardized(raw, ["c"])
    assert some.checksum == data.standardized(raw, [2]).checksum
    np.testing.assert_array_equal(some.x_test[:, :2], raw.x_test[:, :2])
    assert list(some.scales) == ["c"]
    assert "no column [3] among its 3" in sentence(data.standardized, raw, [3])
    assert "examples of shape (3, 2)" in sentence(data.standardized, data.from_arrays(X, Y))


def nothing_but(value):
    y = np.zeros(60)
    y[7] = value
    return y


BAD = {
    "NaN": ((np.where(Y[:, None] == 1, np.nan, 0.0), Y), {}, "at [1, 0] is nan"),
    "infinite target": ((X, nothing_but(np.inf)), {}, "at [7] is inf"),
    "beyond float32": ((X * 1e39, Y), {}, "finite numbers of float32"),
    "beyond int32": ((Y[:, None] * 2**33, Y), {}, "int32 holds none beyond"),
    "text": ((np.array(["a"] * 60), Y), {}, "are numbers, not text"),
    "complex": ((X + 1j, Y), {}, "not complex128"),
    "objects": ((np.array([None] * 60), Y), {}, "not object"),
    "ragged": (([[1, 2], [3]], [0, 1]), {}, "are no array"),
    "masked": ((np.ma.masked_less(X, 0), Y), {}, "masked entries"),
    "masked targets": ((X, np.ma.masked_less(Y, 1)), {}, "masked entries"),
    "lengths": ((X, Y[:-1]), {}, "60 examples of arrays (train) and 59 targets"),
    "no axis": ((X, 3), {}, "an axis of examples"),
    "no examples": ((X[:0], Y[:0]), {}, "at least one"),
    "one class": ((X, np.full(60, 4)), {}, "All targets of arrays are '4'"),
    "one named class": ((X, Y * 0), {"classes": ["a"]}, "All targets of arrays are 'a'"),
    "identifiers": ((X, np.arange(60)), {}, "60 different values, too many for classes"),
    "class without a name": ((X, Y), {"classes": ("a", "b")}, "classes 0 to 1, as 2 have names; one is 2"),
    "negative class": ((X, Y - 1), {"classes": ("a", "b")}, "one is -1"),
    "named numbers": ((X, Y / 2), {"classes": ("a", "b")}, "they have no classes"),
    "unknown class": ((X, Y), {"test": (X[:2], np.array([0, 5]))}, "class ['5'] of arrays (test) has no example"),
    "test of another shape": ((X, Y), {"test": (X[:, :2], Y)}, "(2, 2), those to train on (3, 2)"),
    "test of another kind": ((X, Y), {"test": (X > 0, Y.astype(str))}, "those to train on"),
    "test of other bytes": ((X, Y), {"test": (X.astype(np.uint8), Y)}, "are uint8, those to train on float32"),
    "too many": ((X, Y), {"test": 60}, "60 examples: 60 to test on would leave none"),
    "too many of both": ((X, Y), {"test": 0.5, "validation": 30}, "30 to test on and 30 to validate on"),
    "no test": ((X, Y), {"test": 0}, "not 0"),
    "all to test": ((X, Y), {"test": 1.0}, "not 1.0"),
    "share above 1": ((X, Y), {"test": 1.2}, "not 1.2"),
    "truth value": ((X, Y), {"test": True}, "not True"),
    "text for a share": ((X, Y), {"validation": "a tenth"}, "not 'a tenth'"),
    "three arrays": ((X, Y), {"test": (X, Y, Y)}, "not 3 arrays"),
    "names of features": ((X, Y), {"features": ("a",)}, "1 names of features"),
    "key": ((X, Y), {"key": 0}, "A key is what"),
}  # fmt: skip


@pytest.mark.parametrize(("args", "named", "complaint"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_gets_a_sentence(unchecked, args, named, complaint):
    assert complaint in sentence(data.from_arrays, *args, **named)


def test_a_task_takes_the_parts_as_splits():
    ds = data.from_arrays(X, Y, validation=0.1)
    splits = tasks.splits(ds, 20)
    assert {name: split.x.shape for name, split in splits.items()} == {
        "train": (20, 3, 2),
        "test": (12, 3, 2),
        "validation": (6, 3, 2),
    }
    np.testing.assert_array_equal(splits["validation"].y, ds.y_validation)


def test_arrays_with_their_test_set_are_no_work_for_jax():
    code = (
        "import sys, numpy as np; from fnn import data\n"
        "data.from_arrays(np.eye(4), [0, 1] * 2, test=(np.eye(4), [0, 1] * 2)); print('jax' in sys.modules)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
