"""The comparison at tiny size, its arithmetic to the last bit, and that it finds what is not a twin."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.checks import optax_parity
from experiments.checks.optax_parity import EXPERIMENT, KINDS, Config
from fnn import interop, optim
from fnn.base.errors import InputError
from fnn.rule import Rule, apply_updates, gradient_streams, twins

TINY = Config(
    seeds=2,
    rules=("sgd", "adam:book"),
    steps=24,
    networks=2,
    train_steps=3,
    batch=8,
    parameters=(40,),
    laps=2,
    dataset="mnist_5k",
)


@pytest.fixture(scope="module")
def tiny():
    return optax_parity.run(TINY)


@pytest.fixture(scope="module")
def drawn():
    return optax_parity.streams(TINY)


def outcomes(ds):
    """The outcome of every rule."""
    return {verdict.claim.partition(" equals")[0]: verdict.outcome for verdict in EXPERIMENT.judge(ds)}


def test_every_twin_is_discovered():
    along_streams = set(twins.TWINS) - set(gradient_streams.ON_FUNCTIONS)
    assert Config().specs() == [spec for spec in optim.rules() if spec in along_streams]
    assert len(EXPERIMENT.claims) == len(along_streams & set(optim.rules()))


def test_a_run_is_labelled(tiny):
    assert tiny.relative.dims == tiny.ulp.dims == ("rule", "kind", "seed")
    assert dict(tiny.seconds.sizes) == {"rule": 2, "side": 2, "parameters": 1, "lap": 2}
    assert dict(tiny.loss_gap.sizes) == {"rule": 2, "network": 2, "iteration": 3}
    assert tiny.attrs["complete"] == 1
    assert (tiny.seconds > 0).all()
    assert (tiny.compile_seconds > 0).all()


def test_the_rules_are_their_twins(tiny):
    assert (tiny.ulp.sel(rule="sgd") == 0).all(), "one product, rounded once"
    assert (tiny.loss_gap.sel(rule="sgd") < 2e-6).all(), "in float32 each side is a program of its own"
    book = tiny.sel(rule="adam:book")
    assert 0 < float(book.relative.max()) < 1e-14, "its lr is scaled in another order"
    assert optax_parity.first_step(tiny, "sgd") is None
    assert optax_parity.first_step(tiny, "adam:book") in range(1, 25)
    assert outcomes(tiny) == {"SGD": "holds", "Adam (book)": "holds"}


def test_tables_and_figures_come_from_a_run(tiny):
    for figure in EXPERIMENT.draw(tiny).values():
        figure.canvas.draw()
    rows = json.loads(json.dumps(optax_parity.rows(tiny), allow_nan=False))
    assert [(row["rule"], row["dialect"]) for row in rows] == [("sgd", "own"), ("adam", "book")]
    assert {row["parameters"] for row in rows} == {40}
    assert rows[0]["first_step"] is None
    for row in rows:
        assert min(row[f"{what}_{side}"] for what in ("seconds", "compile") for side in ("ours", "twin")) > 0
        assert row["twin"].startswith("fnn.rule.twins.TWINS[")
    assert "adam:book" in optax_parity.summary(tiny)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_differences_are_counted_in_units_in_the_last_place(dtype):
    one, nan, eps = dtype(1), dtype(np.nan), np.finfo(dtype).eps
    a = np.array([0, one, one, nan, nan, 1e-30, one, 0], dtype)
    b = np.array([-0.0, np.nextafter(one, dtype(2)), one + 3 * eps, nan, one, -1e-30, np.inf, 1e-3], dtype)
    relative, ulp = optax_parity.differences(a, b)
    np.testing.assert_allclose(ulp[:4], [0, 1, 3, 0])
    np.testing.assert_allclose(relative, [0, eps, 3 * eps, 0, 2, 2, 2, 1], rtol=1e-5)
    assert np.isfinite(ulp).all()
    assert (ulp[4:] > 1e6).all()


def test_what_is_not_a_twin_is_found(tiny, drawn):
    """Adam's eps moved under the root: below 1e-5, and yet far above the bar."""
    adam = optim.rule("adam")
    misplaced = interop.from_optax(adam.hyper, lambda hp: optax.adam(hp.lr, hp.b1, hp.b2, 0.0, eps_root=hp.eps))
    wrong = optax_parity.along_streams(TINY, drawn, adam, misplaced)
    ds = tiny.copy(deep=True)
    ds.relative[1] = wrong.relative
    assert outcomes(ds) == {"SGD": "holds", "Adam (book)": "does not hold"}


def test_pages_show_where_twins_and_namesakes_differ(tiny):
    pages = optax_parity.pages(tiny)
    table = [line for line in pages["parity"].splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in table] == ["adam:book", "sgd"], "worst first"
    assert "another order" in table[0]
    named = {line.split("`")[1]: line for line in pages["same_name"].splitlines() if line.startswith("| `")}
    assert list(named) == ["adam:book"]
    assert "eps is added to the uncorrected" in named["adam:book"]
    gap = tiny.namesake_gap.sel(form="adam:book")
    assert float(gap.sel(lr="constant", kind="normal").max()) < 1e-5, "eps hardly shows beside normal gradients"
    assert float(gap.sel(lr="constant", kind="tiny").max()) > 1e-2
    assert "Kingma & Ba 2015" in pages["same_name"]


def test_one_seed_that_differs_is_enough(tiny):
    ds = tiny.isel(seed=[0] * 20).copy(deep=True)
    ds.relative[0, 0, 7] = 3e-12
    assert outcomes(ds) == {"SGD": "does not hold", "Adam (book)": "holds"}
    assert "The largest gap is 3e-12" in EXPERIMENT.judge(ds.sel(rule=["sgd"]))[0].sentence


def test_an_exact_claim_needs_one_seed(tiny):
    assert set(outcomes(tiny.isel(seed=[0])).values()) == {"holds"}


def test_streams_are_as_named(drawn):
    kind = dict(zip(KINDS, np.split(np.asarray(drawn[1]["layers"][0]["w"]), len(KINDS), axis=1), strict=True))
    assert all(g.shape == (24, 2, 4, 3) and g.dtype == np.float64 for g in kind.values())
    np.testing.assert_array_equal(kind["sign flips"][1:], -kind["sign flips"][:-1])
    assert (kind["late"][:12] == 0).all()
    assert (kind["late"][12:] != 0).all()
    assert 0.02 < (kind["sparse"] != 0).mean() < 0.25
    assert np.abs(kind["tiny"]).max() < 1e-7
    assert np.abs(kind["huge"]).max() > 1e7
    assert np.ptp(np.log10(np.abs(kind["all scales"]))) > 10
    assert not np.array_equal(*kind["normal"].swapaxes(0, 1)), "every seed has its own"


def test_updates_of_many_streams_are_those_of_each_alone(drawn):
    rule, number = optim.rule("adam:book"), 5
    with jax.enable_x64(True):
        together = optax_parity.updates(rule, drawn)[:, number]
        hp = optax_parity.traced(rule.hyper, np.float64)
        w = jax.tree.map(lambda a: jnp.asarray(a[number]), drawn[0])
        gs = jax.tree.map(lambda a: jnp.asarray(a[:, number]), drawn[1])
        state, update = rule.init(hp, w), jax.jit(rule.update, compiler_options=gradient_streams.EXACT)
        for t in range(24):
            change, state = update(hp, jax.tree.map(lambda g, t=t: g[t], gs), state, w)
            w = apply_updates(w, change)
            flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(change)])
            np.testing.assert_allclose(together[t], flat, rtol=2e-14)
    assert together.dtype == np.float64


@pytest.fixture(scope="module")
def losses():
    cfg = Config(networks=2, train_steps=40, batch=32, dataset="mnist_5k")
    return optax_parity.trainer(cfg, cfg.load())


def test_networks_and_twins_start_alike_and_learn(losses):
    adam, sgd = losses(optim.rule("adam")), losses(optim.rule("sgd"))
    assert adam.shape == (2, 40)
    np.testing.assert_array_equal(adam[:, 0], sgd[:, 0])
    assert (adam[:, -5:].mean(1) < 0.7 * adam[:, 0]).all()
    assert adam[0, 0] != adam[1, 0]


@pytest.mark.parametrize("done", [1, 0])
def test_an_interrupt_keeps_the_rules_that_are_done(tiny, monkeypatch, done):
    """The second or the first rule is interrupted, in its last part."""
    parts = {"along_streams": ("step", "seed"), "in_training": ("network", "iteration"), "timed": ("side", "lap")}
    calls = iter([None] * done)

    def of_the_tiny_run(dims, last):
        def measure(*arguments):
            if last and next(calls, KeyboardInterrupt) is KeyboardInterrupt:
                raise KeyboardInterrupt
            return tiny.isel(rule=0, drop=True)[[name for name in tiny if set(dims) & set(tiny[name].dims)]]

        return measure

    for part, dims in parts.items():
        monkeypatch.setattr(optax_parity, part, of_the_tiny_run(dims, part == "timed"))
    for shared in ("streams", "trainer"):
        monkeypatch.setattr(optax_parity, shared, lambda *arguments: None)
    if not done:
        with pytest.raises(KeyboardInterrupt):
            optax_parity.run(TINY)
        return
    ds = optax_parity.run(TINY)
    assert list(ds.rule.values) == ["sgd"]
    assert ds.attrs["complete"] == 0
    assert len(EXPERIMENT.judge(ds)) == len(optax_parity.rows(ds)) == 1
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()


def test_a_diverged_training_is_marked_and_drawn(tiny, losses):
    exploding = Rule((), lambda hp, w: (), lambda hp, g, s, w, extra: (jax.tree.map(lambda g: g * jnp.inf, g), s))
    found = optax_parity.in_training(losses, exploding, exploding)
    assert (found.diverged_at == 1).all()
    ds = tiny.copy(deep=True)
    ds.loss_gap[0], ds.diverged_at[0] = found.loss_gap[:, :3], found.diverged_at
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()
    assert math.isfinite(optax_parity.rows(ds)[0]["max_loss_gap_f32"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": 0}, "--seeds is at least 1, not 0"),
        ({"train_steps": 0}, "--train-steps is at least 1, not 0"),
        ({"laps": 0}, "--laps is at least 1, not 0"),
        ({"rules": ()}, "--rules names no rule"),
        ({"rules": ("sgd", "adam", "sgd")}, "--rules names sgd more than once"),
        ({"rules": ("adma",)}, "There is no optimizer 'adma'"),
        ({"rules": ("adam:torhc",)}, "adam has no dialect 'torhc'"),
        ({"parameters": ()}, "--parameters names no size"),
        ({"parameters": (9,)}, "--parameters takes sizes from 10 on, not 9"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()


def test_sizes_are_those_of_square_matrices():
    assert Config(parameters=(10_000, 1_000_000)).sizes() == [10_240, 998_560]
    assert Config(parameters=(1000, 1010, 40)).sizes() == [40, 1000]


def test_a_batch_larger_than_the_data_gets_one_sentence():
    with pytest.raises(InputError, match="--batch is at most the 4,000 training images of mnist_5k, not 4,001"):
        optax_parity.run(Config(batch=4001, rules=("sgd",), dataset="mnist_5k"))


def test_the_defaults_are_good():
    Config().check()
    EXPERIMENT.options(quick=True).check()
