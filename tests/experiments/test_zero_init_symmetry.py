"""Equal weights at tiny size; that they are a network of width 1, in float64; findings in both directions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _lab
from experiments import zero_init_symmetry as experiment
from experiments.zero_init_symmetry import ACTIVATIONS, Config, collapse, copies, of_width_one
from fnn import init, losses, models, optim
from fnn.base.errors import InputError
from fnn.nn.layers import Affine
from fnn.rule import apply_updates
from fnn.train import Moment

TINY = Config(seeds=2, steps=12, batch=32, width=5, constants="0,0.01", noises="1e-4", dropout=0.3, dataset="mnist_5k")


@pytest.fixture(scope="module")
def ds():
    return experiment.run(TINY)


def one_of(verdicts, beginning, title):
    (found,) = [v for v in verdicts if v.claim.startswith(beginning) and v.claim.endswith(f"({title})")]
    return found


def test_the_run_is_labelled(ds):
    assert dict(ds.loss.sizes) == {"activation": 2, "start": 5, "seed": 2, "step": 12}
    assert list(ds.start.values) == ["random", "all 0", "all 0.01", "all 0.01, noise 0.0001", "all 0.01, dropout"]
    assert list(ds.kind.values) == ["random", "equal", "equal", "noise", "dropout"]
    assert list(ds.equal.values) == ["all 0", "all 0.01"]
    assert ds["rank"].dims == ("activation", "start", "seed", "score", "matrix")
    assert ds.narrow_loss.dims == ("activation", "equal", "seed", "step")
    np.testing.assert_array_equal(ds.score, [1, 10, 12])
    assert ds["update"][0] == 1
    assert ds["update"][-1] == 12
    assert np.isfinite(ds.loss).all()
    assert np.isfinite(ds.spread).all()
    assert np.isfinite(ds.test_accuracy).all()
    assert ds.attrs["complete"] == 1


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
    full = ds.loss.sel(start=list(ds.equal.values)).values
    np.testing.assert_allclose(full, ds.narrow_loss.values, rtol=1e-4)
    np.testing.assert_allclose(
        ds.test_accuracy.sel(start=list(ds.equal.values)).values, ds.narrow_test_accuracy.values, atol=5e-3
    )


def test_figures_and_findings_come_from_the_data(ds):
    made = experiment.figures(ds)
    assert set(made) == {"spread", "loss", "rank", "stable_rank", "accuracy"}
    for figure in made.values():
        figure.canvas.draw()
    assert len(made["rank"].axes) == 6
    exact = ds.copy(deep=True)
    exact.spread.loc[{"start": ["all 0", "all 0.01"]}] = 0
    told = [text.get_text() for ax in experiment.spreads(exact).axes for text in ax.texts]
    assert told == ["exactly 0 at every update: all 0, all 0.01"] * 2
    verdicts = experiment.verdicts(ds)
    assert len(verdicts) == 14
    assert {v.source for v in verdicts} == {"claim 3"}
    (answer,) = experiment.answers(ds)
    assert answer.figure in made
    assert "With sigmoid" in answer.answer
    assert "copies of each other" in answer.answer
    rows = experiment.tables(ds)["ends"]
    assert len(rows) == 10
    assert experiment.summary(ds).count("\n") == 10


# The theory, in float64 and for any depth: a network of identical units is one of width 1.


def network(activation, widths):
    return models.multilayer(widths, 3, activation=ACTIVATIONS[activation][0], weights=init.constant(0.05))


def problem(activation, widths):
    """(full parameters of identical units with biases of their own, inputs, labels) in float64."""
    k_x, k_y, k_b = jax.random.split(jax.random.key(0), 3)
    x, y = jax.random.normal(k_x, (20, 7)) + 0.5, jax.random.randint(k_y, (20,), 0, 3)
    params, _ = network(activation, widths).init(k_b, jax.ShapeDtypeStruct((20, 7), jnp.float64))
    # Units are copies, but the inputs and the classes differ.
    first, last = params[0], params[-1]
    first = first._replace(w=first.w + jnp.linspace(-0.1, 0.2, 7))
    last = last._replace(w=last.w + jnp.linspace(-0.5, 0.5, 3)[:, None], b=jnp.array([0.1, 0.0, -0.1]))
    return (first, *params[1:-1], last), x, y


def trained(activation, widths, rule, params, x, y, steps=100):
    """(parameters, losses) after so many updates on all of x."""
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


def test_every_way_in_which_units_differ_is_seen():
    """By what enters them, by their bias, by what leaves them."""

    def measured(layer=0, **change):
        params = [Affine(jnp.full((4, 3), 0.5), jnp.zeros(4)), Affine(jnp.full((2, 4), 0.5), jnp.zeros(2))]
        params[layer] = params[layer]._replace(**change)
        nothing = dict.fromkeys(Moment._fields)
        return experiment.between_units(Moment(**{**nothing, "after": (params[0], (), params[1])}))["spread"]

    assert measured() == 0
    assert measured(w=jnp.full((4, 3), 0.5) + jnp.arange(3)) == 0, "inputs may differ"
    assert measured(1, b=jnp.array([1.0, 2.0])) == 0, "classes may differ"
    assert measured(w=jnp.full((4, 3), 0.5).at[2, 1].add(0.25)) == 0.25
    assert measured(b=jnp.zeros(4).at[1].add(0.25)) == 0.25
    assert measured(1, w=jnp.full((2, 4), 0.5).at[1, 3].add(0.25)) == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps is at least 1, not 0"),
        ({"batch": 0}, "--batch is at least 1, not 0"),
        ({"seeds": 0}, "--seeds is at least 1, not 0"),
        ({"width": 1}, "--width is at least 2 .* not 1"),
        ({"lr": -1.0}, "--lr is a number above 0, not -1.0"),
        ({"base": math.inf}, "--base is a finite number, not inf"),
        ({"dropout": 1.0}, "--dropout is between 0 and 1, not 1.0"),
        ({"constants": ""}, "--constants takes different numbers with commas between, not ''"),
        ({"constants": "0,zero"}, "--constants takes different numbers with commas between, not '0,zero'"),
        ({"constants": "0.1,1e-1"}, "--constants takes different numbers"),
        ({"noises": "1e-3,0"}, "--noises are above 0, not 0"),
        ({"noises": "nan"}, "--noises takes different numbers"),
        ({"optimizer": "adma"}, "There is no optimizer 'adma'"),
    ],
)
def test_bad_options_get_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        Config(**options).check()


def test_a_minibatch_is_no_larger_than_the_data():
    with pytest.raises(InputError, match="at most the 4,000 training images of mnist_5k, not 4,001"):
        experiment.run(Config(batch=4001, dataset="mnist_5k"))


@pytest.fixture
def made_up(ds):
    """Twelve seeds of numbers to set at will, with a little spread."""
    many = ds.isel(seed=[0] * 12).assign_coords(seed=range(12)).copy(deep=True)
    many.test_accuracy.values += 1e-3 * np.random.default_rng(0).normal(size=many.test_accuracy.shape)
    return many


def test_the_numbers_decide(made_up):
    def outcomes():
        return {v.claim.partition(" (")[0].partition(":")[0]: v.outcome for v in experiment.verdicts(made_up)}

    made_up.test_accuracy.loc[{"start": ["all 0", "all 0.01"]}] -= 0.5
    made_up.test_accuracy.loc[{"start": "random"}] += 0.5
    found = outcomes()
    assert found["Units that start equal stay equal"] == "holds"
    assert found["A network of equal weights is one of width 1, rescaled"] == "holds"
    assert found["Equal weights learn worse than random ones"] == "holds"
    assert found["Equal weights cannot learn"] == found["All-zero weights cannot learn"] == "holds"
    assert found["Nothing but random initial weights breaks the symmetry"] == "does not hold"

    made_up.spread.loc[{"start": "all 0.01"}] = 1e-3
    made_up.narrow_loss[..., 3] += 0.1
    made_up.test_accuracy.loc[{"start": ["all 0", "all 0.01"]}] += 2
    made_up.spread.loc[{"start": "all 0.01, dropout"}] = 0
    made_up.spread.loc[{"start": "all 0.01, noise 0.0001"}] = np.geomspace(1e-3, 1e-6, made_up.sizes["update"])[:, None]
    found = outcomes()
    assert found.pop("Nothing but random initial weights breaks the symmetry") == "holds"
    assert set(found.values()) == {"does not hold"}
    (answer,) = experiment.answers(made_up)
    assert "rounding alone parts units" in answer.answer
    assert "more than guessing" in answer.answer


def test_without_zeros_there_is_no_answer_about_them(ds):
    some = ds.sel(start=[s for s in ds.start.values if s != "all 0"], equal=["all 0.01"])
    assert experiment.answers(some) == []
    assert len(experiment.verdicts(some)) == 12
    for figure in experiment.figures(some).values():
        figure.canvas.draw()


def test_an_interrupted_run_is_kept(ds):
    """Only the first step was done: one moment, one score."""
    cfg, images = TINY, experiment._cli.load_data(TINY)
    part = ds.isel(step=slice(1), update=slice(1), score=slice(1))
    assert len(experiment.verdicts(part)) == 14
    for figure in experiment.figures(part).values():
        figure.canvas.draw()
    record = {
        f"{a} {what}": {
            "loss": np.zeros((2, 11, n)),
            "spread": np.zeros((2, 11, n, 2)),
            "size": np.ones((2, 11, n, 2)),
            "rank": np.ones((2, 11, n, 3)),
            "stable_rank": np.ones((2, 11, n, 3)),
            "test_accuracy": np.zeros((2, 11, n)),
        }
        for a in ACTIVATIONS
        for what, n in (("wide", 4), ("dropout", 1), ("narrow", 2))
    }
    found = experiment.label(cfg, images, _lab.Followed(record, 11, {"complete": 0}))
    np.testing.assert_array_equal(found.score, [1, 10])
    assert found["update"][-1] <= 11
    assert found.sizes["step"] == 11


def test_a_diverged_run_is_a_result(ds):
    wild = ds.copy(deep=True)
    for what in ("loss", "spread", "size", "rank", "stable_rank"):
        wild[what].loc[{"activation": "relu", "start": "all 0.01"}] = np.nan
    wild["diverged_at"] = _lab.first_not_finite(wild.loss)
    width_one = one_of(experiment.verdicts(wild), "A network of equal weights", "ReLU")
    assert width_one.effect == 0, "one of them diverged and the other did not"
    wild.narrow_loss.loc[{"activation": "relu", "equal": "all 0.01"}] = np.nan
    assert one_of(experiment.verdicts(wild), "A network of equal weights", "ReLU").effect == 100
    assert one_of(experiment.verdicts(wild), "Units that start equal", "ReLU").effect == 100
    assert "diverged, the worst in medians and ranks" in experiment.about(wild)
    for figure in experiment.figures(wild).values():
        figure.canvas.draw()


def test_one_seed_gives_no_certainty(ds):
    one = ds.isel(seed=[0])
    assert {v.outcome for v in experiment.verdicts(one)} == {"undecided"}
    for figure in experiment.figures(one).values():
        figure.canvas.draw()
