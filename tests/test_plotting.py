"""Figure shapes: smoothing, bands, and nothing of matplotlib's changed."""

import numpy as np
from matplotlib.text import Text

from fnn import plotting


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
    values[0, 0] = np.inf
    np.testing.assert_allclose(plotting.band(values)[0], [2.5, 4], err_msg="diverged seeds are left out")
    one = plotting.band(values[1:2])
    np.testing.assert_array_equal(one[0], one[1])


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
