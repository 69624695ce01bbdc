"""What is chosen on some seeds is judged on others."""

import numpy as np
import xarray as xr

from fnn.lab import at_best


def table(values):
    return xr.DataArray(np.asarray(values, float), dims=("place", "seed"))


def test_each_seed_is_judged_where_the_others_are_best():
    # Over seeds 1 and 2 the second place is best; seed 0 alone would choose the first, where it is 9.
    score = table([[9, 1, 1], [2, 3, 3]])
    np.testing.assert_array_equal(at_best(score, score, "place"), [2, 1, 1])
    np.testing.assert_array_equal(at_best(score, score, "place", lower=True), [9, 3, 3])


def test_the_values_may_be_of_another_quantity_and_have_other_dimensions():
    score = table([[1, 1], [2, 2]])
    values = xr.DataArray(np.arange(12.0).reshape(2, 2, 3), dims=("place", "seed", "step"))
    np.testing.assert_array_equal(at_best(values, score, "place"), values[1])


def test_a_place_where_another_seed_diverged_is_not_chosen():
    score = table([[1, np.nan, 1], [2, 2, 2], [np.inf, np.nan, 3]])
    np.testing.assert_array_equal(at_best(score, score, "place", lower=True), [2, np.nan, 2])
    lost = table([[np.nan, np.nan], [np.inf, 1]])
    np.testing.assert_array_equal(at_best(lost, lost, "place"), [np.inf, np.nan])
    np.testing.assert_array_equal(at_best(lost, lost, "place"), [np.inf, np.nan])
    assert at_best(table([[1], [2]]), table([[1], [2]]), "place").isnull().all(), "one seed has no others"
