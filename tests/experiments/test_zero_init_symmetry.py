"""Equal weights at tiny size; that they are a network of width 1, in float64; findings in both directions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.initial_weights import zero_init_symmetry as experiment
from experiments.initial_weights.zero_init_symmetry import ACTIVATIONS, EXPERIMENT, collapse, copies, of_width_one
from fnn import init, losses, models, optim
from fnn.base.errors import InputError
from fnn.nn.layers import Affine
from fnn.rule import apply_updates

TINY = EXPERIMENT.options(quick=True, steps=12, batch=32, width=5, constants=(0.0, 0.01), noises=(1e-4,), dropout=0.3)


@pytest.fixture(scope="module")
def ds():
    return EXPERIMENT.run(TINY)


def test_starts_of_all_kinds_are_in_one_data_set(ds):
    assert list(ds.start.values) == ["random", "all 0", "all 0.01", "all 0.01, noise 0.0001", "all 0.01, dropout"]
    assert list(ds.kind.values) == ["random", "equal", "equal", "noise", "dropout"]
    assert list(ds.equal.values) == ["all 0", "all 0.01"]
    np.testing.assert_array_equal(ds.score, [1, 10, 12])
    assert ds["update"].values[[0, -1]].tolist() == [1, 12]
    for name in ("loss", "spread", "test_accuracy", "narrow_loss", "exact_gap"):
        assert np.isfinite(ds[name]).all()
    assert ds.attrs["dataset"] == "mnist_5k"


def test_equal_units_stay_equal_and_others_do_not(ds):
    equal = ds.sel(start=list(ds.equal.values))
    # Not exactly 0 on every jax: a width of 5 fills no vector, so one unit's sums may be rounded differently.
    assert (equal.spread <= 1e-6).all()
    np.testing.assert_allclose(equal.stable_rank.fillna(1), 1, atol=1e-5)
    assert (ds.spread.sel(start="random") > 0.1).all()
    assert (ds["rank"].sel(start="random") == 5).all()
    noisy = ds.spread.sel(start="all 0.01, noise 0.0001", update=1)
    assert ((noisy > 1e-5) & (noisy < 1e-2)).all()
    assert (ds.spread.sel(start="all 0.01, dropout").isel(update=-1) > 0).all()


def test_zeros_with_relu_move_the_last_bias_only(ds):
    relu, sigmoid = (ds.sel(activation=a, start="all 0") for a in ("relu", "sigmoid"))
    assert (relu["rank"] == 0).all()
    assert (relu["size"] == 0).all()
    assert np.isnan(relu.stable_rank).all()
    # Sigmoid gives 1/2 at 0, so the last layer moves at once and the ones before it, one by one, afterwards.
    assert (sigmoid["rank"].sel(matrix="W3") >= 1).all()
    assert (sigmoid["rank"].sel(matrix="W1", score=1) == 0).all()
    assert (sigmoid["rank"].sel(matrix="W1", score=12) >= 1).all()


def test_equal_weights_train_as_width_one(ds):
    def pair(name):
        full = ds[name].sel(start=list(ds.equal.values)).rename(start="equal")
        return full.values, ds[f"narrow_{name}"].transpose(*full.dims).values

    np.testing.assert_allclose(*pair("loss"), rtol=1e-4)
    np.testing.assert_allclose(*pair("test_accuracy"), atol=5e-3)
    # In float64 the same is exact; not 0, which would mean that nothing was compared.
    assert 0 < float(ds.exact_gap.max()) < 1e-13
    assert float(ds.exact_spread.max()) < 1e-13


def test_what_is_exactly_0_is_named_beside_a_log_axis(ds):
    exact = ds.copy(deep=True)
    exact.spread.loc[{"start": ["all 0", "all 0.01"]}] = 0
    notes = [text.get_text() for ax in EXPERIMENT.figures["spread"](exact).axes for text in ax.texts]
    assert notes == ["exactly 0 at every update: all 0, all 0.01"] * 2


# The theory, in float64 and for any depth: a network of identical units is one of width 1.


def network(activation, widths):
    return models.multilayer(widths, 3, activation=ACTIVATIONS[activation][0], weights=init.constant(0.05))


def problem(activation, widths):
    """(full parameters of identical units with biases, inputs, labels) in float64."""
    k_x, k_y, k_b = jax.random.split(jax.random.key(0), 3)
    x, y = jax.random.normal(k_x, (20, 7)) + 0.5, jax.random.randint(k_y, (20,), 0, 3)
    params, _ = network(activation, widths).init(k_b, jax.ShapeDtypeStruct((20, 7), jnp.float64))
    # Units are copies, but the inputs and the classes differ.
    first, last = params[0], params[-1]
    first = first._replace(w=first.w + jnp.linspace(-0.1, 0.2, 7))
    last = last._replace(w=last.w + jnp.linspace(-0.5, 0.5, 3)[:, None], b=jnp.array([0.1, 0.0, -0.1]))
    return (first, *params[1:-1], last), x, y


def trained(activation, widths, rule, params, x, y, steps=100):
    """(parameters, losses) after a number of updates on all of x."""
    hp = rule.hyper._replace(lr=0.02)

    def loss(params):
        logits, _ = network(activation, widths).apply(params, ((),) * len(params), x, None, True)
        return losses.softmax_cross_entropy(logits, y)

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = rule.update(hp, grads, state, params)
        return (apply_updates(params, updates), state), value

    @jax.jit
    def run(params):
        (params, _), values = jax.lax.scan(step, (params, rule.init(hp, params)), None, steps)
        return params, values

    return run(params)


@pytest.mark.parametrize(
    ("name", "activation"), [("sgd", "relu"), ("momentum", "sigmoid"), ("adagrad", "relu"), ("adam", "sigmoid")]
)
def test_identical_units_are_one_unit(name, activation, x64):
    """Whatever rule acts on each weight alone: same losses, and the collapsed parameters stay the collapsed ones."""
    full, x, y = problem(activation, (4, 6, 5))
    rule, narrow = optim.rule(name), collapse(full)
    after, values = trained(activation, (4, 6, 5), rule, full, x, y)
    after_narrow, values_narrow = trained(activation, (1, 1, 1), of_width_one(rule, full), narrow, x, y)
    assert values[-1] < values[0] - 1e-3, "there is something to compare"
    np.testing.assert_allclose(values_narrow, values, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), after_narrow, collapse(after))


def test_without_the_rescaling_they_part(x64):
    full, x, y = problem("relu", (4, 6, 5))
    _, values = trained("relu", (4, 6, 5), optim.rule("sgd"), full, x, y)
    _, naive = trained("relu", (1, 1, 1), optim.rule("sgd"), collapse(full), x, y)
    np.testing.assert_allclose(naive[0], values[0], rtol=1e-12)
    assert abs(naive[-1] - values[-1]) > 1e-3


def test_copies_are_counted():
    def layer(n_out, n_in):
        return Affine(jnp.ones((n_out, n_in)), jnp.ones(n_out))

    params = (layer(4, 7), (), layer(6, 4), (), layer(3, 6))
    s, r = copies(params)
    assert jax.tree.leaves(s) == [1, 1, 4, 1, 6, 1]
    assert jax.tree.leaves(r) == [4, 4, 6, 6, 1, 1]
    assert [one.w.shape for one in collapse(params) if one] == [(1, 7), (1, 1), (3, 1)]
    assert [one.w[0, 0] for one in collapse(params) if one] == [1, 4, 6]


def test_every_difference_of_units_is_measured():
    """By what enters them, by their bias, by what leaves them."""

    def measured(layer=0, **change):
        params = [Affine(jnp.full((4, 3), 0.5), jnp.zeros(4)), Affine(jnp.full((2, 4), 0.5), jnp.zeros(2))]
        params[layer] = params[layer]._replace(**change)
        return experiment.apart((params[0], (), params[1]))["spread"]

    assert measured() == 0
    assert measured(w=jnp.full((4, 3), 0.5) + jnp.arange(3)) == 0, "inputs may differ"
    assert measured(1, b=jnp.array([1.0, 2.0])) == 0, "classes may differ"
    assert measured(w=jnp.full((4, 3), 0.5).at[2, 1].add(0.25)) == 0.25
    assert measured(b=jnp.zeros(4).at[1].add(0.25)) == 0.25
    assert measured(1, w=jnp.full((2, 4), 0.5).at[1, 3].add(0.25)) == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "--steps is at least 3, not 2"),
        ({"width": 1}, "--width is at least 2 .* not 1"),
        ({"lr": -1.0}, "--lr is a number above 0, not -1.0"),
        ({"base": math.inf}, "--base is a finite number, not inf"),
        ({"dropout": 1.0}, "--dropout is between 0 and 1, not 1.0"),
        ({"constants": ()}, "--constants names no weight"),
        ({"constants": (0.1, 1e-1)}, "--constants names 0.1 more than once"),
        ({"constants": (0.1, math.inf)}, r"--constants are finite numbers, not \[inf\]"),
        ({"noises": (1e-3, 0.0)}, r"--noises are numbers above 0, not \[0.0\]"),
        ({"noises": (math.nan,)}, r"--noises are numbers above 0, not \[nan\]"),
        ({"optimizer": "adma"}, "There is no optimizer 'adma'"),
    ],
)
def test_bad_options_get_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        EXPERIMENT.options(**options).check()


@pytest.fixture
def made_up(ds):
    """Twelve seeds of numbers to set at will, with a little spread."""
    many = ds.isel(seed=[0] * 12).assign_coords(seed=range(12)).copy(deep=True)
    noise = 1e-3 * np.random.default_rng(0).normal(size=many.test_accuracy.shape)
    return many.assign(test_accuracy=many.test_accuracy + noise)


def outcomes(ds):
    return {v.claim: v.outcome for v in EXPERIMENT.judge(ds)}


DROPOUT = "Nothing but random initial weights breaks the symmetry: under dropout equal units stay equal"


def test_the_numbers_decide(made_up):
    made_up.test_accuracy.loc[{"start": ["all 0", "all 0.01"]}] = made_up.test_accuracy.sel(start="all 0") - 0.5
    made_up.test_accuracy.loc[{"start": "random"}] += 0.5
    times = np.geomspace(1e-6, 1e-3, made_up.sizes["update"])[:, None] * (1 + 0.01 * np.arange(12))
    growing = xr.DataArray(times, dims=("update", "seed"))
    made_up.spread.loc[{"start": "all 0.01, noise 0.0001"}] = growing
    found = outcomes(made_up)
    assert len(found) == 12
    assert found.pop(
        "Nothing but random initial weights breaks the symmetry: under dropout equal units stay equal"
    ) == ("does not hold")
    assert set(found.values()) == {"holds"}

    made_up.spread.loc[{"start": "all 0.01"}] = 1e-3
    made_up["exact_gap"] = made_up.exact_gap + 1e-5
    made_up["exact_spread"] = made_up.exact_spread + 1e-5
    made_up.test_accuracy.loc[{"start": ["all 0", "all 0.01"]}] += 2
    made_up.spread.loc[{"start": "all 0.01, dropout"}] = 0
    made_up.spread.loc[{"start": "all 0.01, noise 0.0001"}] = growing.isel(update=slice(None, None, -1))
    found = outcomes(made_up)
    assert found.pop(
        "Nothing but random initial weights breaks the symmetry: under dropout equal units stay equal"
    ) == ("holds")
    assert set(found.values()) == {"does not hold"}
    (answer,) = EXPERIMENT.answer(made_up)
    assert "differ by rounding alone" in answer.answer
    assert "more than guessing" in answer.answer


def test_one_seed_whose_units_differ_refutes_that_they_stay_equal(made_up):
    made_up.spread.loc[{"start": ["all 0", "all 0.01"]}] = 0
    (claim,) = [name for name in outcomes(made_up) if name.startswith("Units that start equal stay equal to the last")]
    assert outcomes(made_up)[claim] == "holds"
    made_up.spread.loc[{"start": "all 0.01", "seed": 7, "activation": "relu", "update": 12}] = 1e-3
    assert outcomes(made_up)[claim] == "does not hold"


def test_one_size_of_weights_that_learns_refutes_that_none_does(made_up):
    accuracy = made_up.test_accuracy
    accuracy.loc[{"start": ["all 0", "all 0.01"]}] = accuracy.sel(start=["all 0", "all 0.01"]) * 0.001 + 0.1
    claim = "Equal weights of no size learn: they end no better than guessing (ReLU)"
    assert outcomes(made_up)[claim] == "holds"
    accuracy.loc[{"start": "all 0.01", "activation": "relu"}] += 0.3
    assert outcomes(made_up)[claim] == "does not hold"


def test_without_zeros_there_is_no_answer_about_them(ds):
    some = ds.sel(start=[s for s in ds.start.values if s != "all 0"], equal=["all 0.01"])
    assert EXPERIMENT.answer(some) == []
    assert not [name for name in outcomes(some) if name.startswith("All-zero")]


def test_a_diverged_run_is_a_result(ds):
    wild = ds.copy(deep=True)
    for what in ("loss", "spread", "size", "rank", "stable_rank"):
        wild[what].loc[{"activation": "relu", "start": "all 0.01"}] = np.nan
    wild.diverged_at.loc[{"activation": "relu", "start": "all 0.01"}] = 0
    assert "2 runs diverged, the worst in medians and ranks" in experiment.about(wild)
    for figure in EXPERIMENT.draw(wild).values():
        figure.canvas.draw()
