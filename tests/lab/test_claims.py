"""Effects that claims are made of."""

import numpy as np
import xarray as xr

from fnn import lab


def of(values, **coords):
    return xr.DataArray(values, dims=("seed", "lr"), coords=coords)


def test_what_is_best_is_chosen_on_the_other_half_of_the_seeds():
    """Even seeds choose for odd ones and odd ones for even ones, also where seeds have no numbers."""
    even, odd = [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]
    score = of(np.array([even, odd, even, odd, even]))
    judged = of(np.arange(15.0).reshape(5, 3))
    np.testing.assert_array_equal(lab.at_best(judged, score, "lr"), [2, 3, 8, 9, 14])
    np.testing.assert_array_equal(lab.at_best(judged, score, "lr", lower=True), [0, 5, 6, 11, 12])
    numbered = {"seed": [4, 3, 2, 1, 0], "lr": [0.1, 1.0, 10.0]}
    found = lab.at_best(judged.assign_coords(numbered), score.assign_coords(numbered), "lr")
    np.testing.assert_array_equal(found.seed, [4, 3, 2, 1, 0])
    np.testing.assert_array_equal(found, [2, 3, 8, 9, 14])
    np.testing.assert_array_equal(found.lr, [10.0, 0.1, 10.0, 0.1, 10.0])


def test_the_values_may_be_of_another_quantity_and_have_other_dimensions():
    score = of(np.array([[1.0, 2.0], [1.0, 2.0]]))
    values = xr.DataArray(np.arange(12.0).reshape(2, 2, 3), dims=("lr", "seed", "step"))
    np.testing.assert_array_equal(lab.at_best(values, score, "lr"), values[1])


def test_a_place_where_one_of_the_others_diverged_is_not_chosen():
    score = of(np.array([[9.0, 1.0], [np.inf, 1.0], [9.0, 1.0], [9.0, 1.0]]))
    np.testing.assert_array_equal(lab.at_best(score, score, "lr"), [1, np.inf, 1, 9])
    lost = of(np.full((4, 2), np.nan))
    assert np.isnan(lab.at_best(of(np.ones((4, 2))), lost, "lr")).all()


def test_one_seed_chooses_nothing():
    one = of(np.ones((1, 2)))
    assert np.isnan(lab.at_best(one, one, "lr")).all()


def test_the_choice_rarely_finds_what_is_not_there():
    """16 equal places, 12 seeds: chosen on the seeds that judge it, the best would be ahead in every case."""
    rng, claim = np.random.default_rng(0), lab.Claim("It is ahead", lambda ds: ds.effect, lab.above(0.0))

    def holds(effect):
        return claim.verdict(xr.Dataset({"effect": effect})).outcome == "holds"

    drawn = [of(rng.standard_normal((12, 16))) for _ in range(300)]
    assert all(holds(values.max("lr")) for values in drawn)
    assert np.mean([holds(lab.at_best(values, values, "lr")) for values in drawn]) <= 0.09
