"""Statistics of a suite of tasks: against SciPy, by hand, and intervals of data whose spread is known."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from fnn.base import suite
from fnn.base.errors import InputError

RNG = np.random.default_rng(1)


def test_the_probability_of_improvement_is_mann_and_whitneys():
    first, second = RNG.integers(0, 6, (4, 5)), RNG.integers(1, 7, (4, 5))
    by_task = [mannwhitneyu(b, a).statistic / 25 for a, b in zip(first, second, strict=True)]
    assert suite.improvement(first, second) == pytest.approx(np.mean(by_task))
    assert suite.improvement(first, first) == pytest.approx(0.5)
    assert suite.improvement(first, first + 10) == 1


def test_a_geometric_mean_is_of_ratios_and_not_of_differences():
    assert suite.geometric(np.array([[2.0, 2.0], [0.5, 0.5]])) == pytest.approx(1)
    assert suite.geometric(np.full((3, 2), 3.0)) == pytest.approx(3)


@pytest.mark.parametrize(("tasks", "spread"), [(True, np.sqrt(1.0 / 40)), (False, np.sqrt(0.01 / 80))])
def test_an_interval_is_as_wide_as_its_data_are_spread(tasks, spread):
    """Effects of tasks with variance 1, of seeds with variance 0.01: tasks decide where they are drawn."""
    values = RNG.normal(size=(40, 1)) + 0.1 * RNG.normal(size=(40, 2))
    mean = lambda x: x.mean((-2, -1))
    value, low, high = suite.hierarchical(mean, values, tasks=tasks)
    assert value == pytest.approx(values.mean())
    assert low < value < high
    # An interval of two seeds, drawn from themselves, is narrower by √½ than that of their spread.
    expected = 2 * 1.96 * (spread if tasks else spread * np.sqrt(0.5))
    assert high - low == pytest.approx(expected, rel=0.3)


def test_the_same_values_have_the_same_interval_and_pairs_stay_together():
    values = RNG.normal(size=(5, 3))
    mean = lambda x: x.mean((-2, -1))
    assert suite.hierarchical(mean, values) == suite.hierarchical(mean, values)
    shifted = suite.hierarchical(lambda a, b: (a - b).mean((-2, -1)), values + 1, values)
    np.testing.assert_allclose(shifted, 1)


def test_a_profile_counts_runs_within_a_ratio_of_the_best():
    times = {"fast": np.array([[1.0, 1.0], [4.0, 4.0]]), "slow": np.array([[2.0, 3.0], [np.inf, 2.0]])}
    found = suite.profile(times, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(found["fast"], [1, 1, 1])  # its mean is the best on both tasks
    np.testing.assert_allclose(found["slow"], [0.25, 0.5, 0.75])


def test_a_task_that_nobody_solves_counts_against_all():
    found = suite.profile({"a": np.array([[1.0], [np.inf]]), "b": np.full((2, 1), np.inf)}, np.array([1.0, 10.0]))
    np.testing.assert_allclose(found["a"], [0.5, 0.5])
    np.testing.assert_allclose(found["b"], [0, 0])


def test_groups_split_where_an_interval_excludes_equality():
    noise = lambda: np.exp(0.05 * RNG.normal(size=(8, 4)))
    found = suite.groups({"worst": 3 * noise(), "first": noise(), "same": 1.001 * noise()})
    assert [sorted(group) for group in found] == [["first", "same"], ["worst"]]


def test_values_of_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"\[tasks, seeds\]"):
        suite.hierarchical(suite.geometric, np.ones((3, 2)), np.ones((2, 3)))
