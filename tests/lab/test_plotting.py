"""Figure shapes: smoothing, bands, and nothing of matplotlib's changed."""

import numpy as np
import pytest
from matplotlib.text import Text

from fnn.base import statistics
from fnn.lab import plotting


def test_smoothing_keeps_length_constants_and_lines():
    x = np.arange(40.0)
    np.testing.assert_allclose(plotting.smooth(np.full((2, 40), 3.0)), 3.0)
    smooth = plotting.smooth(x[None])
    assert smooth.shape == (1, 40)
    np.testing.assert_allclose(smooth[0, 5:-5], x[5:-5])
    short = np.ones((2, 4))
    assert plotting.smooth(short) is short


def test_the_band_is_students_interval_of_the_mean():
    values = np.array([[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]])
    mean, low, high = plotting.band(values)
    np.testing.assert_allclose(mean, [2, 4])
    np.testing.assert_allclose(high - mean, [4.302653 * 1 / np.sqrt(3), 0], rtol=1e-6)
    np.testing.assert_allclose(mean - low, high - mean)
    one = plotting.band(values[1:2])
    np.testing.assert_array_equal(one[0], one[1])


@pytest.mark.parametrize("n", [5, 12, 30])
def test_figures_and_verdicts_show_the_same_interval(n):
    values = np.random.default_rng(n).lognormal(size=(n, 2))
    for column, ends in zip(values.T, np.transpose(plotting.band(values)), strict=True):
        np.testing.assert_allclose(ends, statistics.interval(column), rtol=1e-12)


def test_a_diverged_run_stays_in_the_band_as_the_worst():
    """Median and ranks all along the curve; the mean of those that did not diverge would reward divergence."""
    loss = np.tile(np.arange(1.0, 9)[:, None], 3)
    loss[0, 1:] = np.nan
    loss[1, 2:] = np.inf
    mean, low, high = plotting.band(loss)
    np.testing.assert_array_equal(mean, [4.5, 5.5, 6.5])
    np.testing.assert_array_equal(low, [1, 2, 3])
    np.testing.assert_array_equal(high, [8, 8, 8], err_msg="an end at infinity is drawn at the largest value")
    assert plotting.diverged(loss) == 2
    accuracy, _, _ = plotting.band(loss, worst=-np.inf)
    assert accuracy[1] == 4.5
    loss[:, 2] = np.nan
    assert np.isnan(plotting.band(loss)).all(0).tolist() == [False, False, True], "nothing where none is finite"
    few = plotting.band(np.array([[1.0, 1], [1, np.nan]]))
    np.testing.assert_array_equal(few[1], few[2])


def test_a_curve_counts_what_diverged():
    loss = np.ones((3, 4))
    loss[1, 2:] = np.nan
    ax = plotting.axes(plotting.figure(), "t", "x", "y")
    plotting.curve(ax, np.arange(4), loss, "a", 0)
    plotting.curve(ax, np.arange(4), np.ones((3, 4)), "b", 1)
    assert [line.get_label() for line in ax.lines] == ["a (median; 1 of 3 diverged)", "b"]


def test_figures_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    fig = plotting.figure()
    ax = plotting.axes(fig, "t", "x", "y")
    plotting.curve(ax, np.arange(30), np.random.default_rng(0).random((3, 30)), "a", 0, markers=10)
    plotting.legend(fig, 2)
    plotting.caption(fig, "words " * 60)
    fig.canvas.draw()
    assert dict(matplotlib.rcParams) == before
    (small_print,) = fig.findobj(lambda artist: isinstance(artist, Text) and "words" in artist.get_text())
    box = small_print.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= fig.bbox.width, "a long caption is wrapped, not cut off"


@pytest.mark.parametrize("letters", [4, 30, 70])
def test_a_legend_is_within_its_figure(letters):
    fig = plotting.figure()
    ax = plotting.axes(fig, "", "", "")
    for number in range(5):
        ax.plot([0, 1], [0, number], label="e" * letters)
    plotting.legend(fig, 5)
    fig.canvas.draw()
    box = fig.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.x1
    assert fig.legends[0]._ncols == {4: 5, 30: 2, 70: 1}[letters]
