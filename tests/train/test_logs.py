"""A log has every evaluation of every network once, whatever computes them; tables of a data set do not explode."""

import numpy as np
import pytest
import small

from fnn import sweep, tasks
from fnn.base.errors import InputError
from fnn.train import frames

pytestmark = pytest.mark.usefixtures("unchecked")

OPTIONS = {"over": {"lr": [0.01, 0.1, 0.3], "weights": small.SCALES}, "seeds": range(1, 4), "evaluate": (2, 5, 6)}


def logged(**options):
    log = []
    ds = sweep(small.task(), small.RULES, **({"log": log.append} | OPTIONS | options), steps=6)
    return ds, log


def check(ds, log):
    assert len(log) == 2 * 3 * 2 * 3 * 3
    assert len({(row["rule"], row["lr"], row["weights"], row["seed"], row["update"]) for row in log}) == len(log)
    for row in log:
        at = {dim: row[dim] for dim in ("rule", "lr", "weights", "seed")}
        for name in ("train_loss", "test_accuracy"):
            assert row[name] == ds[name].sel(at | {"update": row["update"]}).item()
        assert row["loss"] == ds.loss.sel(at | {"step": row["update"] - 1}).item()


def test_every_evaluation_of_every_network_is_logged_once(tmp_path):
    ds, log = logged()
    check(ds, log)
    parts, more = logged(memory=100_000, keep=tmp_path / "kept")
    check(parts, more)
    _, again = logged(memory=100_000, keep=tmp_path / "kept")
    assert again == [], "what is read is not logged"


def test_values_by_rule_are_those_of_the_rule():
    ds, log = logged(over={"lr": {"adam": [0.01, 0.02], "sgd": [0.1, 0.3]}}, seeds=1)
    assert {(row["rule"], row["lr"]) for row in log} == {("adam", 0.01), ("adam", 0.02), ("sgd", 0.1), ("sgd", 0.3)}
    one = next(row for row in log if row["lr"] == 0.3 and row["update"] == 5)
    assert one["test_loss"] == ds.test_loss.sel(rule="sgd", seed=0, update=5).isel(setting=1).item()


def test_tables_have_a_row_a_value():
    ds, _ = logged()
    tables = frames(ds)
    assert len(tables["loss"]) == ds.loss.size
    assert len(tables["test_loss"]) == ds.test_loss.size
    assert set(tables["test_loss"].columns) == {"rule", "lr", "weights", "seed", "update", "test_loss"}
    np.testing.assert_array_equal(tables["test_loss"].test_loss, ds.test_loss.values.ravel())


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: logged(log=3), "A log is a function of a row, not 3"),
        (lambda: sweep(tasks.Trial(lambda hp, key, data: {"x": 0.0}), log=print), "A Trial has no evaluations to log"),
        (lambda: frames(3), "Tables are made of a data set"),
    ],
)
def test_what_cannot_be_logged_is_a_sentence(act, sentence):
    with pytest.raises(InputError, match=sentence):
        act()
