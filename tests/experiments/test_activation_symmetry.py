"""Symmetric activations at tiny size: the mean's eigenvalue exactly, and findings that can go either way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.initial_weights import activation_symmetry as module
from experiments.initial_weights.activation_symmetry import EXPERIMENT
from fnn import data, losses, optim, tasks, train
from fnn.base.errors import InputError
from fnn.train import engine

TINY = EXPERIMENT.options(quick=True, seeds=4, steps=12, batch=16, lrs=(0.3, 0.01))


@pytest.fixture(scope="module")
def ds():
    return EXPERIMENT.run(TINY)


def outcome(ds, beginning):
    (found,) = [v.outcome for v in EXPERIMENT.judge(ds) if v.claim.startswith(beginning)]
    return found


def with_loss(ds, **levels):
    """A copy in which contenders have such losses at every rate, a little different for each seed."""
    changed = ds.copy(deep=True)
    for name, level in levels.items():
        changed.loss.loc[{"activation": name}] = level * (1 + 0.001 * ds.seed)
    return changed


# -- the networks --


def initialized(name, gain=4.0):
    network = module.network(module.CONTENDERS[name], gain)
    x = jax.random.uniform(jax.random.key(1), (20, 30), jnp.float64)
    return network, network.init(jax.random.key(0), x), x


def test_balanced_starts_as_the_shifted_sigmoid(x64):
    """The same outputs and the same activations but for 1/2; and with sigmoid the same weights."""
    (shifted, (p, s), x), (balanced, (q, t), _) = initialized("shifted"), initialized("balanced")
    np.testing.assert_allclose(
        balanced.apply(q, t, x, None, False)[0], shifted.apply(p, s, x, None, False)[0], rtol=1e-12, atol=1e-12
    )
    one, other = (
        module.hidden(module.CONTENDERS[name], 4.0, params, stats, x)
        for name, params, stats in (("shifted", p, s), ("balanced", q, t))
    )
    assert one.shape == (4, 20, 100)
    np.testing.assert_allclose(other, one + 0.5, rtol=1e-12)
    for name in module.CONTENDERS:
        for w, expected in zip(losses.weights(initialized(name)[1][0]), losses.weights(p), strict=True):
            np.testing.assert_array_equal(w, expected)


def test_contenders_are_what_they_are_called(x64):
    x = jnp.linspace(-4, 4, 33)
    f = {name: one.f(x) for name, one in module.CONTENDERS.items()}
    np.testing.assert_allclose(f["shifted"], f["sigmoid"] - 0.5, rtol=1e-12)
    np.testing.assert_allclose(f["scaled"], 2 * f["sigmoid"] - 1, atol=1e-14)
    np.testing.assert_array_equal(f["balanced"], f["sigmoid"])
    for name in ("shifted", "scaled", "tanh"):
        np.testing.assert_allclose(f[name], -f[name][::-1], atol=1e-14)


# -- what is measured --


def test_nothing_is_learnt_before_the_first_update(ds):
    np.testing.assert_array_equal(ds.lr, [0.01, 0.3])
    at_first = ds.loss.isel(step=0)
    np.testing.assert_allclose(at_first.isel(lr=0), at_first.isel(lr=1), rtol=1e-5)
    np.testing.assert_allclose(at_first.sel(activation="shifted"), at_first.sel(activation="balanced"), rtol=1e-4)


def test_the_gram_matrices_are_those_of_the_networks_that_train(ds):
    """The spectrum of the first hidden layer, from the initial weights of seed 1."""
    one = module.CONTENDERS["tanh"]
    images = data.load("mnist_5k")
    task = module.learning(one, TINY, tasks.splits(images))
    hp = train.Hyper(optim.rule("sgd").hyper, module.Hyper())
    first = train.training(task, optim.rule("sgd"), 1).start(hp, engine.seeds(2)[1], task.data).params[0]
    x = images.x_train[: module.PROBE].reshape(module.PROBE, -1) / 255.0
    h = np.tanh(x @ np.asarray(first.w, np.float64).T)
    expected = np.linalg.svd(h, compute_uv=False) ** 2 / module.PROBE
    found = ds.sel(activation="tanh", seed=1, layer=1)
    np.testing.assert_allclose(found.eigenvalue, expected, rtol=1e-3)
    assert float(found["mean"]) == pytest.approx(h.mean(), abs=1e-5)
    assert float(found.squared_means) == pytest.approx((h.mean(0) ** 2).sum(), rel=1e-4)


def test_the_mean_is_worth_its_eigenvalue(ds):
    """Jensen: λ₁ ≥ n m², and ‖E h‖² lies between; balanced and shifted differ by the eigenvalue of 1/2."""
    top = ds.eigenvalue.isel(number=0)
    assert (ds.squared_means >= 100 * ds["mean"] ** 2 - 1e-9).all()
    assert (top >= ds.squared_means - 1e-9).all()
    balanced, shifted = (ds.sel(activation=name) for name in ("balanced", "shifted"))
    np.testing.assert_allclose(balanced["mean"], shifted["mean"] + 0.5, atol=1e-5)
    trace = balanced.eigenvalue.sum("number") - shifted.eigenvalue.sum("number")
    np.testing.assert_allclose(trace, 100 * (0.25 + shifted["mean"]), rtol=1e-4)


def test_the_condition_number_survives_a_singular_matrix(ds):
    changed = ds.copy(deep=True)
    changed.eigenvalue.loc[{"number": 100}] = -1e-20
    assert np.isfinite(module.decades(changed)).all()
    np.testing.assert_allclose(module.decades(changed), -np.log10(np.finfo(np.float64).eps))


# -- what is measured of them --


def test_each_contender_is_compared_at_its_best(ds):
    changed = with_loss(ds, **dict.fromkeys(module.CONTENDERS, 1.0))
    changed.loss.loc[{"activation": "tanh", "lr": 0.01}] = 0.5
    changed.loss.loc[{"activation": "shifted", "lr": 0.3, "seed": 2, "step": 5}] = np.nan
    changed.loss.loc[{"activation": "shifted", "lr": 0.01}] = 7.0
    changed.loss.loc[{"activation": "sigmoid", "lr": 0.01}] = 2.0
    rates = module.best_rates(changed)
    assert (rates["tanh"], rates["shifted"], rates["sigmoid"]) == (0.01, 0.01, 0.3)
    own = module.at_own_rate(changed)
    np.testing.assert_allclose(own.sel(activation="tanh"), 0.5)
    # The even seeds, of which one diverged at 0.3, choose 0.01 for the odd ones, and these 0.3 for them.
    np.testing.assert_allclose(own.sel(activation="shifted"), [1, 7, np.nan, 7], rtol=0.01)


def test_the_gram_claims_hold_and_fail_as_the_numbers_do(ds):
    claims = "The sigmoid's Gram matrices", "The mean alone", "A mean m that n units", "With every activation"
    assert [outcome(ds, claim) for claim in claims[:2]] == ["holds", "holds"]
    assert outcome(ds, claims[3]) == "holds"
    changed = ds.copy(deep=True)
    for name in ("sigmoid", "balanced"):
        changed.eigenvalue.loc[{"activation": name}] = 1 + 0.01 * ds.seed
    assert {outcome(changed, claim) for claim in claims[:3]} == {"does not hold"}
    changed.eigenvalue.loc[{"number": 1}] = (1.2 + 0.01 * ds.seed) * ds.squared_means
    assert outcome(changed, claims[3]) == "does not hold"


PAIRS = {
    "The shifted sigmoid learns faster than the sigmoid": ("shifted", "sigmoid"),
    "The shifted sigmoid learns faster than one that": ("shifted", "balanced"),
    "tanh(x/2)": ("scaled", "sigmoid"),
    "tanh learns": ("tanh", "sigmoid"),
}


@pytest.mark.parametrize("claim", PAIRS)
def test_the_learning_claims_hold_and_fail_as_the_numbers_do(ds, claim):
    name, other = PAIRS[claim]
    for level, expected in ((0.5, "holds"), (2.0, "does not hold")):
        found = EXPERIMENT.judge(with_loss(ds, **{name: level, other: 1.0}))
        assert {v.outcome for v in found if v.claim.startswith(claim)} == {expected}
        assert len([v for v in found if v.claim.startswith(claim)]) == 2


def test_the_answer_follows_the_numbers(ds):
    def answered(changed):
        (answer,) = EXPERIMENT.answer(changed)
        assert answer.source == "question §2.2.3"
        return answer.answer

    assert "So the mean itself slows learning." in answered(with_loss(ds, shifted=0.5, balanced=1.0))
    assert "not seen to slow learning" in answered(with_loss(ds, shifted=1.0, balanced=0.5))
    mixed = with_loss(ds, shifted=0.5, balanced=1.0)
    mixed.loss.loc[{"activation": "shifted", "lr": 0.01}] = 1.5
    assert "not at a small one" in answered(mixed)
    assert "One seed does not show" in answered(ds.isel(seed=slice(0, 1)))


def test_without_the_notes_rate_only_the_best_are_compared(ds):
    some = ds.isel(lr=[1])
    assert len(EXPERIMENT.judge(some)) == len(EXPERIMENT.judge(ds)) - 4 == 8
    assert len(EXPERIMENT.figures["learning"](some).axes) == 1
    assert "0.01" not in EXPERIMENT.answer(some)[0].answer


def test_a_contender_that_diverges_at_every_rate_is_the_worst(ds):
    changed = with_loss(ds, tanh=1.0, sigmoid=1.0)
    changed.loss.loc[{"activation": "sigmoid"}] = np.nan
    (found,) = [
        v
        for v in EXPERIMENT.judge(changed)
        if v.claim.startswith(f"tanh learns faster than the sigmoid, {module.BEST}")
    ]
    assert min(found.effects) == np.inf
    assert len(EXPERIMENT.summary(changed).splitlines()) == 6


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gain": -1.0}, "--gain is above 0, not -1.0"),
        ({"gain": float("nan")}, "--gain is above 0, not nan"),
        ({"lrs": ()}, "--lrs names no learning rate"),
        ({"lrs": (0.1, -1.0)}, r"--lrs is numbers above 0, not \[-1.0\]"),
        ({"lrs": (0.1, float("inf"))}, "--lrs is numbers above 0"),
        ({"lrs": (0.1, 1e-1)}, "--lrs names 0.1 more than once"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        EXPERIMENT.options(**options).check()
