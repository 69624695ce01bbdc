"""The four problems at tiny size: theory against arithmetic by hand, runs against theory, verdicts in both ways."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.checks import _online as online
from experiments.checks import _quadratics as quadratics
from experiments.checks import _rescaled as rescaled
from experiments.checks import _separable as separable
from experiments.checks import optimizer_oracles
from experiments.checks._oracles import in_words, marks
from experiments.checks.optimizer_oracles import EXPERIMENT, Config
from fnn import optim
from fnn.base.errors import InputError
from fnn.lab.claims import judge
from fnn.rule import apply_updates, hyper
from fnn.train import engine

TINY = Config(
    seeds=6,
    rates=8,
    rules=("sgd", "adam", "adam:book", "radam", "madgrad", "sign_sgd", "lion", "rprop", "rprop:torch", "polyak_sgd"),
    updates=6,
    examples=40,
    fresh=50,
    fits=1000,
    rounds=1800,
)


@pytest.fixture(scope="module")
def ds():
    return optimizer_oracles.run(TINY)


KIN = "Without eps every rule of Adam's kind, with b1, b2 and eps, takes the same path on gradients g and c·g"


def outcomes(ds):
    return {verdict.claim: verdict.outcome for verdict in EXPERIMENT.judge(ds)}


def test_the_rules_agree_with_theory(ds):
    found = outcomes(ds)
    assert found.pop(KIN) == "does not hold", "RAdam starts as momentum"
    # The mean move is a mean over few rounds here, and decides nothing yet.
    assert found.pop("In Theorem 3 Adam's mean move per round is the expectation over all gradients") != "does not hold"
    assert set(found.values()) == {"holds"}
    assert len(found) == 19


def test_figures_and_tables_come_from_the_saved_data(ds):
    made = EXPERIMENT.draw(ds)
    assert list(made) == list(optimizer_oracles.PROBLEMS)
    for figure in made.values():
        figure.canvas.draw()
    rows = json.loads(json.dumps(rescaled.rows(ds), allow_nan=False))
    assert [row["rule"] for row in rows] == TINY.specs()


# Quadratics


def test_companion_matrices_have_the_factors_of_the_textbooks():
    factor = lambda rule, beta, z: float(quadratics.spectral_radius(quadratics.companion(rule, beta, np.array(z))))
    assert factor("sgd", 0, 0.3) == pytest.approx(0.7)
    assert factor("sgd", 0, 2.5) == pytest.approx(1.5)
    assert factor("momentum", 0.81, 1.0) == pytest.approx(0.9), "complex roots"
    assert factor("momentum", 0.5, 0.02) == pytest.approx((1.48 + np.sqrt(1.48**2 - 2)) / 2), "real roots"
    assert factor("nesterov", 0.9, 1.0) == 0
    assert factor("nesterov", 0.5, 0.5) == pytest.approx(0.5), "√(β (1 − z)) at complex roots"
    for rule, beta in quadratics.RUNS.values():
        limit = quadratics.stability_limit(rule, beta)
        below, at, above = (factor(rule, beta, limit * side) for side in (0.999, 1, 1.001))
        assert below < 1 < above
        assert at == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("m", [1, 2])
def test_the_factor_of_a_linear_map_is_found_from_its_states(m):
    """Also where the state turns and where it decays at two rates."""
    rng = np.random.default_rng(0)
    for matrix in rng.standard_normal((20, m, m)):
        states = [rng.standard_normal(m)]
        for _ in range(24):
            states.append(matrix @ states[-1])
        found = quadratics.contraction(np.array(states)[..., None])
        np.testing.assert_allclose(found, [quadratics.spectral_radius(matrix)], rtol=1e-9)


def test_a_learning_rate_that_is_slightly_off_is_found(ds):
    """Factors of rates a hundred-thousandth larger are not those of the rates that are given."""
    wrong = ds.assign(lr=ds.lr * 1.00001, edge_lr=ds.edge_lr * 1.00001)
    found = judge(quadratics.CLAIMS, wrong)
    assert {verdict.outcome for verdict in found if "√β" not in verdict.claim} == {"does not hold"}
    momentum = ds.assign(factor=ds.factor * (1 + 1e-5))
    assert "does not hold" in {v.outcome for v in judge(quadratics.CLAIMS, momentum) if "√β" in v.claim}


# Gradients of any scale


def updates_of_degree(k, seeds=2):
    """Updates that are cᵏ times those at c = 1, which are 1, 2, 3."""
    one = np.arange(1.0, 4)[:, None] * np.ones(5)
    return np.broadcast_to(rescaled.SCALES[:, None, None] ** k * one, (seeds, 2, len(rescaled.SCALES), 3, 5))


@pytest.mark.parametrize("k", [0, 1, 1 / 3, -1])
def test_degrees_are_found(k):
    found = rescaled.response(updates_of_degree(k), lr=2.0)
    np.testing.assert_allclose(found.degree, k, atol=1e-14)
    assert (found.remainder < 1e-14).all()
    np.testing.assert_allclose(found.change[0, 0], np.abs(rescaled.SCALES**k - 1), atol=1e-14)
    np.testing.assert_allclose(found.shortest[0], [0.5, 1, 1.5])


def test_what_is_not_homogeneous_is_found():
    """A single update that does not scale as the others do."""
    updates = updates_of_degree(1).copy()
    updates[1, 1, 3, 2, 4] *= 1 + 1e-9
    found = rescaled.response(updates, lr=1.0)
    np.testing.assert_array_equal(found.remainder > rescaled.ROUNDING, [[False, False], [False, True]])


def test_kinds_of_rules(ds):
    assert {spec: rescaled.degree(ds, spec) for spec in TINY.specs()} == {
        "sgd": 1,
        "adam": 0,
        "adam:book": 0,
        "radam": None,
        "madgrad": pytest.approx(1 / 3, abs=1e-9),
        "sign_sgd": 0,
        "lion": 0,
        "rprop": 0,
        "rprop:torch": 0,
        "polyak_sgd": None,
    }
    assert (ds.change.sel(rule=["adam", "sign_sgd"], setting="bare") == 0).all(), "to the last bit"
    assert rescaled.kind(ds, "adam", "own") == "neither"
    assert ds.rule[ds.kin].values.tolist() == ["adam", "adam:book", "radam"]
    without = ds.sel(rule=[spec for spec in TINY.specs() if spec != "radam"])
    assert outcomes(without)[KIN] == "holds"
    # eps 1e-8 beside gradients of about 2⁻²¹.
    smallest = ds.change.sel(rule="adam", setting="own").isel(scale=0)
    assert ((smallest > 1e-3) & (smallest < 1)).all()
    assert rescaled.exact_moves(ds) == (["sign_sgd", "lion"], ["adam", "adam:book", "rprop:torch"])


def test_bare_hyperparameters_have_no_floors_and_no_decay():
    bare = rescaled.bare(optim.rule("mechanize").hyper)
    assert bare.inner.eps == bare.eps < 1e-50
    assert bare.inner.b1 == 0.9
    assert rescaled.bare(optim.rule("lion").hyper).weight_decay == 0
    assert hyper.get(bare, hyper.lr_path(bare) or "") == 1


def test_a_rule_answers_alone_as_among_others():
    """Momentum's updates with c = 1, by hand."""
    keys = engine.seeds(2)
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        weights = {"w": rng.standard_normal((2, 3))}
        gradients = {"w": rng.standard_normal((2, 4, 3))}
        rule = optim.rule("momentum")
        found = np.asarray(rescaled.respond((rule,), (rescaled.both(rule.hyper),), weights, gradients, keys)[0])
    v, exact = 0, []
    for t in range(4):
        v = 0.9 * v + gradients["w"][:, t]
        exact.append(-0.01 * v)
    np.testing.assert_allclose(found[:, 0, rescaled.UNIT], np.stack(exact, 1), rtol=1e-14)


# Separable examples


def design(y):
    """The matrix of Wilson et al. as they write it, a feature a column: x_j for j = 1 … 3 + 5 n."""
    x = np.zeros((len(y), 3 + 5 * len(y)))
    for i, label in enumerate(y):
        x[i, :3] = label, 1, 1
        first = 3 + 5 * i
        x[i, first : first + 1 + int(2 * (1 - label))] = 1
    return x


def flat(weights):
    return np.concatenate([weights[0], weights[1].ravel()])


LABELS = np.array([1, 1, -1, 1, -1, 1, 1.0])


def test_both_solutions_are_solutions():
    x, (common, own) = design(LABELS), separable.features(LABELS)
    least, even = flat(separable.least_norm(LABELS)), flat(separable.even(LABELS))
    np.testing.assert_array_equal(x[:, :3], common)
    assert x[:, 3:].sum() == own.sum() == 5 + 2 * 5
    np.testing.assert_allclose(x @ least, LABELS, atol=1e-14)
    np.testing.assert_allclose(least, np.linalg.pinv(x) @ LABELS, atol=1e-14)
    np.testing.assert_allclose(x @ even, LABELS, atol=1e-14)
    np.testing.assert_allclose(even, np.sign(x.T @ LABELS) / 4, atol=1e-14)
    np.testing.assert_allclose([separable.on_fresh(even[:3], y) for y in (1, -1)], [0.75, 0.25])


def test_the_fit_is_that_of_the_whole_matrix(x64):
    """With the columns of fresh examples too, whose weights no rule moves from 0."""
    y, fresh = LABELS[None], 3
    x = np.hstack([design(LABELS), np.zeros((len(LABELS), 5 * fresh))])
    for name in ("sgd", "adam", "adagrad:book"):
        rule = optim.rule(name)
        hyper = rescaled.bare(rule.hyper)._replace(lr=0.01)
        w = jnp.zeros(x.shape[1])
        state, update = rule.init(hyper, w), jax.jit(rule.update)
        for _ in range(20):
            dw, state = update(hyper, x.T @ (x @ w - LABELS), state, w)
            w = apply_updates(w, dw)
        [(common, own)] = separable.fit((rule,), (hyper,), separable.features(y), y, 20)
        np.testing.assert_allclose(w[: -5 * fresh], flat((common[0, -1], own[0])), atol=1e-12)
        assert (w[-5 * fresh :] == 0).all()


def test_mistakes_are_counted_example_by_example(ds):
    wrong = separable.mistakes(ds, "adam")
    np.testing.assert_array_equal(wrong, ds.fresh_label.values < 0)
    assert not separable.mistakes(ds, "sgd").any()
    flipped = ds.assign(fresh_label=-ds.fresh_label)
    np.testing.assert_array_equal(separable.mistakes(flipped, "adam"), flipped.fresh_label.values < 0)


def test_training_sets_that_theory_does_not_speak_of_are_left_out(ds):
    label = ds.label.copy(deep=True)
    label[0], label[1] = -1, 1
    label[2, : ds.sizes["example"] // 2 + 1] = -1
    assert separable.as_assumed(ds.assign(label=label)).seed.values.tolist() == [3, 4, 5]
    assert judge(separable.CLAIMS, ds.assign(label=-ds.label)) == []


def test_exchanged_rules_are_found(ds):
    """SGD's weights under Adam's name and the other way round."""
    names = {"sgd": "adam", "adam": "sgd"}
    other = ds.sel(fitter=[names.get(str(name), str(name)) for name in ds.fitter.values])
    wrong = ds.assign(common=other.common.drop_vars("fitter"), own=other.own.drop_vars("fitter"))
    assert {verdict.outcome for verdict in judge(separable.CLAIMS, wrong)} == {"does not hold"}


# Online problems


@pytest.mark.parametrize("name", [*online.WRONG, *online.RIGHT])
def test_a_game_is_the_papers(x64, name):
    """Theorem 1 with C = 3, round by round."""
    large, lr, b2 = 3.0, 0.5, 0.1
    gradients = np.array([large, -1, -1] * 4)
    [(x, moves)] = online.play(*online.players([name], 1, lr, 0.0, b2), gradients[None], 1.0)
    place, v, v_max = 1.0, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        assert float(x[0, t - 1]) == pytest.approx(place, abs=1e-13)
        v = b2 * v + (1 - b2) * g**2
        v_hat = v / (1 - b2**t) if name in ("adam", "amsgrad") else v
        v_max = max(v_max, v_hat) if name in online.RIGHT else v_hat
        assert float(moves[0, t - 1]) == pytest.approx(-g / np.sqrt(v_max), rel=1e-12)
        place = np.clip(place - lr / np.sqrt(t) * g / np.sqrt(v_max), -1, 1)


def test_the_expected_move_by_hand(monkeypatch):
    """Over two gradients C, −1 of probabilities p, q: four cases."""
    monkeypatch.setattr(online, "DRAWS", 2)
    large, delta, b1, b2 = 4.0, 1.0, 0.5, 0.25
    p = 2 / 5
    exact = 0
    for (g, one), (before, other) in itertools.product([(large, p), (-1, 1 - p)], repeat=2):
        m = ((1 - b1) * (g + b1 * before)) / (1 - b1**2)
        v = ((1 - b2) * (g**2 + b2 * before**2)) / (1 - b2**2)
        exact -= one * other * m / np.sqrt(v)
    assert online.expected_move(large, delta, b1, b2) == pytest.approx(exact, rel=1e-13)


def test_the_mean_gradient_is_delta():
    p = online.chance(online.LARGE, online.DELTA)
    assert p * online.LARGE - (1 - p) == pytest.approx(online.DELTA)


def test_regrets_are_within_their_bounds(ds):
    """Recomputed for one game from the points after every round."""
    with jax.enable_x64(True):
        large, lr, rounds = 4.0, 0.6, 300
        gradients = np.tile([large, -1, -1], rounds // 3)
        game = online.players(["amsgrad:paper"], 1, lr, 0.0, 1 / (1 + large**2))
        x = np.asarray(online.play(*game, gradients[None], 1.0)[0][0])[0]
    paid, best = (gradients * x).cumsum(), np.minimum(gradients.cumsum(), -gradients.cumsum())
    t = np.arange(1, rounds + 1)
    assert ((paid - best) / t <= online.regret_of_amsgrad(large, lr, t)).all()
    assert online.regret_of_adam(3) == pytest.approx(2 / 3)
    assert (ds.regret.sel(player="adam") > online.regret_of_adam(ds.large)).all()


def test_games_that_go_the_other_way_are_found(ds):
    names = {"adam": "amsgrad", "amsgrad": "adam"}
    players = [names.get(str(name), str(name)) for name in ds.player.values]
    wrong = ds.assign({name: ds[name].sel(player=players).drop_vars("player") for name in ("place", "regret", "away")})
    wrong = wrong.assign(tossed_place=-ds.tossed_place, tossed_move=ds.tossed_move + 0.1)
    assert {verdict.outcome for verdict in judge(online.CLAIMS, wrong)} == {"does not hold"}


# Shared


def test_a_single_seed_decides_what_is_exact(ds):
    one = ds.isel(seed=[0])
    random = [verdict for verdict in EXPERIMENT.judge(one) if verdict.method != "exact"]
    assert {verdict.outcome for verdict in random} == {"undecided"}
    assert len(random) == 3, "Theorem 3, whose gradients are tosses of a coin"
    many = outcomes(ds)
    assert all(outcome in (many[claim], "undecided") for claim, outcome in outcomes(one).items())
    for figure in EXPERIMENT.draw(one).values():
        figure.canvas.draw()


def test_lists_and_marks():
    assert in_words(["a"]) == "a"
    assert in_words("abc") == "a, b and c"
    assert marks(5).tolist() == [1, 2, 3, 4, 5]
    assert marks(1000)[-1] == 1000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rates": 1}, "--rates is at least 2, not 1"),
        ({"updates": 0}, "--updates is at least 1, not 0"),
        ({"examples": 1}, "--examples is at least 2, not 1"),
        ({"positive": 0.5}, "--positive is a probability above 0.5 and below 1, not 0.5"),
        ({"rounds": 29}, "--rounds is at least 30, not 29"),
        ({"rules": ("adma",)}, "There is no optimizer 'adma'"),
        ({"rules": ("sgd", "sgd")}, "--rules names sgd more than once"),
    ],
)
def test_bad_options_get_one_sentence(options, said):
    with pytest.raises(InputError, match=said):
        Config(**options).check()


def test_by_default_every_rule_is_compared():
    assert Config().specs() == list(optim.rules())
