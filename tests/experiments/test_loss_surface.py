"""The valley and its gradient against the closed forms, and the shares of the window against its exact area."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.updates import loss_surface
from experiments.updates._valley import valley
from experiments.updates.loss_surface import EXPERIMENT, Config
from fnn.base.errors import InputError


@pytest.fixture(scope="module")
def many():
    return loss_surface.run(Config(seeds=20_000))


def test_the_gradient_is_the_closed_form(x64):
    for x, y, condition in [(-7.0, 2.0, 20.0), (0.0, 0.0, 20.0), (3.5, -1e-9, 1.0), (1e8, 1.0, 1e3)]:
        w = jnp.array([x, y])
        np.testing.assert_allclose(valley(w, condition), x**2 / condition + y**2, rtol=1e-15)
        np.testing.assert_allclose(jax.grad(valley)(w, condition), [2 * x / condition, 2 * y], rtol=1e-15)


def test_the_notes_start_has_the_notes_slopes():
    np.testing.assert_allclose(jax.grad(valley)(jnp.array([-7.0, 2.0]), 20.0), [-0.7, 4.0], rtol=1e-6)


def test_the_exact_shares_are_areas(many):
    """Against a count over a fine regular grid, and by hand for the notes' window."""
    x, y = np.meshgrid(*((np.arange(2000) + 0.5) / 2000 * side for side in (many.width, many.height)))
    for times in (0.5, 1.0, 7.0, 15.0, 400.0):
        counted = (2 * y > times * 2 * x / many.condition).mean()
        np.testing.assert_allclose(loss_surface.steeper_share(times, many), counted, atol=1e-3)
    for degrees in (1.0, 10.0, 45.0, 64.0, 65.0, 80.0):
        angle = np.degrees(np.arctan2(2 * y, 2 * x / many.condition) - np.arctan2(y, x))
        np.testing.assert_allclose(loss_surface.astray_share(degrees, many), (angle > degrees).mean(), atol=1e-3)
    assert float(loss_surface.steeper_share(1.0, many)) == 0.95
    assert float(loss_surface.steeper_share(0.0, many)) == 1.0


def test_random_points_find_the_exact_shares(many):
    assert abs(many.point.sel(axis="x")).max() <= 10
    assert abs(many.point.sel(axis="y")).max() <= 5
    assert len(np.unique(many.point, axis=0)) == many.sizes["seed"]
    shares = loss_surface.steeper_share(1.0, many), loss_surface.steeper_share(2.0, many)
    for claim, exact in zip(EXPERIMENT.claims, (*shares, loss_surface.astray_share(10.0, many)), strict=True):
        # Four standard errors of a share of 20,000.
        hits = claim.effect(many).mean()
        assert abs(hits - exact) < 4 * np.sqrt(exact * (1 - exact) / many.sizes["seed"])


def test_the_largest_angle_is_the_theorys(many):
    worst = np.degrees(np.arctan(19 / (2 * np.sqrt(20))))
    assert worst - 0.01 < float(many.angle.max()) <= worst + 1e-3
    assert float(loss_surface.astray_share(worst + 0.01, many)) == 0
    assert float(loss_surface.astray_share(worst - 0.01, many)) > 0


def test_the_verdicts_follow_the_valley(many):
    assert [v.outcome for v in EXPERIMENT.judge(many)] == ["holds"] * 3
    assert "of its area it is exactly 95.0 %" in EXPERIMENT.judge(many)[0].sentence
    round_bowl = loss_surface.run(Config(seeds=500, condition=1, height=10))
    steep, steeper, astray = EXPERIMENT.judge(round_bowl)
    assert steep.outcome == "undecided"
    assert steeper.outcome == astray.outcome == "does not hold"
    assert astray.effect == 0
    assert float(round_bowl.angle.max()) < 0.1


@pytest.mark.parametrize("options", [{"seeds": 1}, {"seeds": 30, "condition": 1.0, "width": 2.0, "height": 9.0}])
def test_figures_and_verdicts_come(options):
    ds = loss_surface.run(Config(**options))
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()
    assert len(EXPERIMENT.judge(ds)) == 3


def test_one_point_decides_nothing():
    assert {v.outcome for v in EXPERIMENT.judge(loss_surface.run(Config(seeds=1)))} == {"undecided"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"condition": 0.5}, "--condition is at least 1, not 0.5"),
        ({"condition": float("nan")}, "--condition is at least 1, not nan"),
        ({"width": 0.0}, "--width is a length above 0, not 0.0"),
        ({"height": float("inf")}, "--height is a length above 0, not inf"),
        ({"tolerance": 90.0}, "--tolerance is an angle between 0 and 90 degrees, not 90.0"),
    ],
)
def test_bad_options_get_one_sentence(options, said):
    with pytest.raises(InputError, match=said):
        Config(**options).check()
