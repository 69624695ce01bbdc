"""Paths against the exact theory of quadratics, in float64; verdicts in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.updates import optimizer_paths as paths
from experiments.updates._valley import book, curvatures, descend
from experiments.updates.optimizer_paths import EXPERIMENT, Config
from fnn.base.errors import InputError

START = np.array([-7.0, 2.0])


@pytest.fixture(scope="module")
def ds():
    return paths.run(Config(seeds=12))


@pytest.fixture(scope="module")
def diverged():
    """One start, and an SGD that leaves float64."""
    return paths.run(Config(seeds=1, sgd=1e12))


def follow(name, condition, steps, **hyper):
    rule = book(name)
    go = jax.jit(lambda hp, condition, start: descend(rule, hp, condition, start, steps))
    return go(rule.hyper._replace(**hyper), condition, jnp.asarray(START))


@pytest.mark.parametrize("lr", [0.01, 0.475, 0.95, 1.0, 1.1])
def test_sgd_is_a_power(x64, lr):
    path = follow("sgd", 20.0, 30, lr=lr)
    exact = (1 - lr * curvatures(20.0)) ** np.arange(31)[:, None] * START
    np.testing.assert_allclose(path.place, exact, rtol=1e-12)
    np.testing.assert_allclose(path.value, exact[:, 0] ** 2 / 20 + exact[:, 1] ** 2, rtol=1e-12)


@pytest.mark.parametrize(("lr", "alpha"), [(0.1, 0.9), (0.95, 0.9), (0.3, 0.0), (1.2, 0.5)])
def test_momentum_is_a_power_of_its_matrix(x64, lr, alpha):
    path = follow("momentum", 20.0, 60, lr=lr, mu=alpha)
    for axis, curvature in enumerate(curvatures(20.0)):
        exact = paths.exact_momentum(lr, alpha, curvature, 60) * START[axis]
        scale = abs(exact).max()
        np.testing.assert_allclose(path.place[:, axis], exact[:, 0], rtol=1e-12, atol=1e-12 * scale)
        np.testing.assert_allclose(path.move[:, axis], exact[1:, 1], rtol=1e-12, atol=1e-12 * scale)


def test_the_notes_paths(ds):
    """SGD's first points by hand; the first step of AdaGrad and RMSProp is 1.5 along both axes, Adam's 0.3."""
    notes = ds.notes_place
    np.testing.assert_allclose(notes.sel(contender="sgd")[:3], [[-7, 2], [-6.335, -1.8], [-5.733175, 1.62]])
    for name, length in (("adagrad", 1.5), ("rmsprop", 1.5), ("adam", 0.3)):
        np.testing.assert_allclose(ds.notes_move.sel(contender=name)[0], [length, -length], rtol=1e-4)
    assert dict(ds.lr.to_series()) == {
        "sgd": 0.95, "momentum": 0.1, "adagrad": 1.5, "adam": 0.3, "rmsprop": 0.15, "nesterov": 0.1,
        "sgd@momentum": 0.1, "momentum@sgd": 0.95,
    }  # fmt: skip


def test_all_starts_are_on_the_notes_level_and_shared(ds):
    np.testing.assert_allclose(ds.value.sel(step=0), 6.45, rtol=1e-12)
    starts = ds.place.sel(step=0)
    assert len(np.unique(starts.sel(contender="sgd"), axis=0)) == ds.sizes["seed"]
    np.testing.assert_array_equal(starts.sel(contender="sgd"), starts.sel(contender="adam"))


def test_the_two_terms_of_momentum_make_its_step(ds):
    for axis in "xy":
        momentum, gradient = paths.terms(ds, axis)
        np.testing.assert_allclose(momentum + gradient, paths.along(ds, "momentum", axis)[:, 1:], atol=1e-14)


def outcomes(found):
    return {verdict.claim: verdict.outcome for verdict in found}


def exchanged(ds, one, other):
    """The data with the paths of two contenders exchanged."""
    names = [{one: other, other: one}.get(name, name) for name in ds.contender.values]
    return ds.assign({what: ds[what].sel(contender=names).drop_vars(["contender", "lr"]) for what in ("place", "move")})


def test_claim_1_is_decided_by_the_paths(ds):
    claim = "SGD zigzags: its steps along y turn round more often than Momentum's"
    other = exchanged(ds, "sgd", "momentum")
    assert outcomes(EXPERIMENT.judge(ds))[claim] == "holds"
    assert outcomes(EXPERIMENT.judge(other))[claim] == "does not hold"
    way = "Momentum damps y: its path along y is shorter than SGD's, at the notes' learning rates"
    assert outcomes(EXPERIMENT.judge(ds))[way] == "holds"
    assert outcomes(EXPERIMENT.judge(other))[way] == "does not hold"


def test_one_start_without_it_refutes_from_every_start(ds):
    claim = "Along x, the momentum exceeds the gradient step at some step, from every start"
    move = ds.move.copy()
    move.loc[{"contender": "momentum", "axis": "x", "seed": 5}] = 0
    assert outcomes(EXPERIMENT.judge(ds))[claim] == "holds"
    assert outcomes(EXPERIMENT.judge(ds.assign(move=move)))[claim] == "does not hold"


def test_the_claims_about_adagrad_are_decided_by_the_paths(ds):
    claim = "AdaGrad's effective learning rate is smaller along y than along x"
    turned = ds.assign(move=ds.move.isel(axis=[1, 0]).assign_coords(axis=["x", "y"]))
    turned["gradient"] = ds.gradient.isel(axis=[1, 0]).assign_coords(axis=["x", "y"])
    assert outcomes(EXPERIMENT.judge(ds))[claim] == "holds"
    assert outcomes(EXPERIMENT.judge(turned))[claim] == "does not hold"


def test_the_answer_on_momentums_terms_follows_the_numbers(ds):
    claim = "Along x, |αv| is smaller than |η∇L| at most steps"
    small = ds.assign(move=ds.move / 1e6)
    assert outcomes(EXPERIMENT.judge(ds))[claim] == "does not hold"
    assert outcomes(EXPERIMENT.judge(small))[claim] == "holds"
    assert "at fewer than half of the steps along x" in EXPERIMENT.answer(ds)[0].answer
    assert "exceeds the gradient step along y and x" in EXPERIMENT.answer(ds)[0].answer
    assert "at most steps along x" in EXPERIMENT.answer(small)[0].answer
    assert "exceeds the gradient step along neither axis" in EXPERIMENT.answer(small)[0].answer


def test_every_figure_of_the_notes_is_drawn(ds):
    made = EXPERIMENT.draw(ds)
    assert {"03_sgd", "04_momentum", "05_adagrad", "adam", "rmsprop", "nesterov", "overview"} <= set(made)
    assert {answer.figure for answer in EXPERIMENT.answer(ds)} <= set(made)
    for figure in made.values():
        figure.canvas.draw()
    line, cross = made["03_sgd"].axes[0].lines[::-1]
    points = np.stack(line.get_data(), -1)
    assert points.shape == (30, 2)
    np.testing.assert_allclose(points[0], [-7, 2])
    assert cross.get_marker() == "+"


def test_a_diverged_path_and_a_single_start_are_results(diverged):
    assert (diverged.diverged_at.sel(contender="sgd") > 0).all()
    assert (diverged.diverged_at.sel(contender="adam") == -1).all()
    assert {verdict.outcome for verdict in EXPERIMENT.judge(diverged)} == {"undecided", "not measurable"}
    assert "at about half of the steps along y" in EXPERIMENT.answer(diverged)[0].answer
    assert "1e+12" in paths.summary(diverged)
    for figure in EXPERIMENT.draw(diverged).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 1}, "--steps is at least 2, not 1"),
        ({"adam": -0.3}, "--adam is a learning rate above 0, not -0.3"),
        ({"sgd": float("nan")}, "--sgd is a learning rate above 0, not nan"),
        ({"alpha": 1.0}, "--alpha is at least 0 and below 1, not 1.0"),
        ({"condition": 0.9}, "--condition is at least 1, not 0.9"),
        ({"x": 0.0, "y": 0.0}, "--x and --y are a point other than the minimum"),
    ],
)
def test_bad_options_get_one_sentence(options, said):
    with pytest.raises(InputError, match=said):
        Config(**options).check()
