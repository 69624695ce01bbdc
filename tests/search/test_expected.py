"""Expected bests of k trials: against SciPy's distribution and against all orders of the trials."""

import itertools

import numpy as np
import pytest

from fnn.search.expected import expected_best, missed


def test_missed_is_the_hypergeometric_distribution():
    from scipy.stats import hypergeom

    n = 12
    k, i = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    np.testing.assert_allclose(missed(n), hypergeom.pmf(0, n, i, k), rtol=1e-12, atol=1e-14)
    assert 1 - missed(100)[60, 5] == pytest.approx(0.99126, abs=1e-5)


def test_expected_best_is_the_mean_over_all_orders():
    values = np.array([0.3, 0.9, 0.3, 0.1, 0.5])
    orders = np.array(list(itertools.permutations(values)))
    np.testing.assert_allclose(expected_best(values), np.maximum.accumulate(orders, 1).mean(0), rtol=1e-12)
    both = expected_best(np.stack([values, values[::-1]]))
    np.testing.assert_allclose(both[0], both[1], rtol=1e-12)


def test_a_trial_without_an_accuracy_is_the_worst():
    values = np.array([[0.5, np.nan, 0.25]])
    np.testing.assert_allclose(expected_best(values), expected_best(np.array([[0.5, 0, 0.25]])))


def test_the_expected_best_of_two_is_that_of_all_pairs():
    by, judged = np.array([0.3, 0.9, 0.6]), np.array([0.1, 0.2, 0.4])
    np.testing.assert_allclose(expected_best(by, judged), [0.7 / 3, (0.2 + 0.4 + 0.2) / 3, 0.2])
