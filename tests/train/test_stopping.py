"""Early stopping is what a loop by hand does: the best value, its parameters, and where it stops, for every network."""

import jax
import numpy as np
import pytest
import small

from fnn import sweep
from fnn.base.errors import InputError
from fnn.train import EarlyStopping

pytestmark = pytest.mark.usefixtures("unchecked")

STEPS, EVERY = 24, 2
AT = tuple(range(EVERY, STEPS + 1, EVERY))
OVER = {"lr": [0.02, 3.0, 1e30]}


def swept(stopping=None, **options):
    return sweep(small.task(), small.RULES, over=OVER, seeds=2, steps=STEPS, evaluate=AT, stopping=stopping, **options)


@pytest.fixture(scope="module")
def plain():
    return swept()


def by_hand(values, patience, higher):
    """(best so far, updates done) at every evaluation, from the values of a run that does not stop."""
    best, waited, done, found = -np.inf if higher else np.inf, 0, 0, []
    for value in values:
        if patience is None or waited < patience:
            done += EVERY
            if (value > best) if higher else (value < best):
                best, waited = value, 0
            else:
                waited += 1
        found.append((best, done))
    return np.array(found).T


@pytest.mark.parametrize(
    ("metric", "patience", "higher"), [("test_loss", 2, False), ("test_accuracy", 3, True), ("train_loss", None, False)]
)
def test_it_is_the_loop_by_hand(plain, metric, patience, higher):
    ds, networks = swept(EarlyStopping(metric, patience, higher), networks=True)
    stopped = 0
    for rule in small.RULES:
        for i, lr in enumerate(OVER["lr"]):
            for seed in range(2):
                here = {"rule": rule, "lr": lr, "seed": seed}
                best, done = by_hand(plain[metric].sel(here).values, patience, higher)
                one = ds.sel(here)
                np.testing.assert_allclose(one[f"best_{metric}"], best, rtol=1e-5)
                np.testing.assert_array_equal(one.updates_done, done)
                stopped += done[-1] < STEPS
                params = jax.tree.map(lambda a, i=i, seed=seed: a[i, seed], networks[rule])
                if np.isfinite(best[-1]):
                    task = small.task()
                    split = task.metrics(task.hyper, params, ((), (), ()), task.data)
                    np.testing.assert_allclose(split[metric], best[-1], rtol=1e-5)
    assert (stopped > 0) == (patience is not None)
    assert ds[f"best_{metric}"].dims == ("rule", "lr", "seed", "update")
    assert ds[f"best_{metric}"].attrs["long_name"].startswith("best ")
    assert ds.updates_done.attrs == {"long_name": "updates that were made", "units": "1"}


def test_interrupted_it_goes_on_to_the_same(tmp_path, plain):
    """What is kept of a run with early stopping has its best parameters too."""
    stopping = EarlyStopping("test_loss", 2)
    ds, networks = swept(stopping, networks=True)
    kept, again = (swept(stopping, networks=True, keep=tmp_path / "kept") for _ in range(2))
    for one, more in (kept, again):
        small.identical(one, ds)
        jax.tree.map(np.testing.assert_array_equal, more, networks)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EarlyStopping(3), "is a name, not 3"),
        (lambda: EarlyStopping("test_loss", 0), "at least 1 evaluation, not 0"),
        (lambda: swept(EarlyStopping("valid_loss")), "No metric valid_loss: there are test_accuracy"),
    ],
)
def test_what_cannot_stop_is_a_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
