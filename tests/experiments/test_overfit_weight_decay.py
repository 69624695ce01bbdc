"""The experiment on weight decay at tiny size, its decoupled form and instruments against theory, its claims."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from experiments.regularization import _overfit
from experiments.regularization import overfit_weight_decay as experiment
from experiments.regularization.overfit_weight_decay import EXPERIMENT, Config
from fnn import interop, losses, models, optim
from fnn.base.errors import InputError
from fnn.rule import apply_updates
from fnn.rule.wrappers import Decayed, decay_decoupled
from fnn.tasks import Split
from fnn.train import Moment

pytestmark = pytest.mark.usefixtures("small")

TINY = Config(
    seeds=3,
    images=60,
    batch=30,
    epochs=4,
    evaluate_every=2,
    decays=(0.01,),
    form_epochs=3,
    dataset="mnist_5k",
)


@pytest.fixture(scope="module")
def ds(small):
    return EXPERIMENT.run(TINY)


def test_the_run_is_labelled_and_paired(ds):
    assert dict(ds.test_accuracy.sizes) == {"decay": 3, "seed": 3, "epoch": 3}
    np.testing.assert_array_equal(ds.epoch, [1, 2, 4])
    assert np.isfinite(ds.test_accuracy).all()
    assert (ds.weight_norm.sel(decay=0.1) < ds.weight_norm.sel(decay=0.0)).all()
    # From the same start, after two updates, decay has hardly done anything yet.
    np.testing.assert_allclose(
        ds.weight_norm.sel(decay=0.1, epoch=1), ds.weight_norm.sel(decay=0.0, epoch=1), rtol=3e-3
    )
    assert dict(ds.notes_test_accuracy.sizes) == {"notes_decay": 2, "notes_seed": 1, "notes_epoch": 2}


def test_every_seed_draws_its_own_images(ds):
    """The notes' network has weights and minibatches of seed 0, whose images are others."""
    notes = ds.notes_train_loss.sel(notes_decay=0.0, notes_epoch=4)
    assert abs(float(notes.squeeze() - ds.train_loss.sel(decay=0.0, epoch=4, seed=0))) > 1e-4


def test_weights_without_a_gradient_follow_the_theory(ds):
    """(1 − lr λ)ᵗ under SGD and for decoupled decay; under Adam the penalty forgets λ."""
    forms = _overfit.part(ds, "form")
    share = forms.blank_left / (1 - forms.lr * forms.decay) ** (forms.epoch * TINY.steps_each)
    np.testing.assert_allclose(share.sel(rule="sgd"), 1, rtol=1e-5)
    np.testing.assert_allclose(share.sel(rule="adam", kind="decoupled"), 1, rtol=1e-5)
    adam = forms.blank_left.sel(rule="adam", kind="L2")
    np.testing.assert_allclose(adam.sel(decay=0.1), adam.sel(decay=1.0), rtol=1e-4)
    assert (adam.sel(decay=0.1, epoch=3) < 0.95).all()


def problem(dtype):
    """A small network with its loss's gradient on a fixed batch."""
    net = models.multilayer((8, 8), 3)
    x = jax.random.normal(jax.random.key(1), (20, 5), dtype)
    y = jnp.arange(20) % 3
    params, stats = net.init(jax.random.key(0), x)

    def loss(params, decay):
        logits, _ = net.apply(params, stats, x, None, True)
        return losses.softmax_cross_entropy(logits, y) + decay * losses.l2_penalty(params)

    return params, jax.grad(loss)


def trained(rule, hp, params, grad, decay):
    """The parameters after 100 steps."""

    def step(carry, _):
        params, state = carry
        updates, state = rule.update(hp, grad(params, decay), state, params)
        return (apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, rule.init(hp, params)), None, 100)[0][0]


def assert_equal(one, other, tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def check_sgd(dtype, tolerance):
    sgd, decay = optim.rule("sgd"), jnp.asarray(0.3, dtype)
    params, grad = problem(dtype)
    hp = sgd.hyper._replace(lr=jnp.asarray(0.05, dtype))
    as_l2 = trained(sgd, hp, params, grad, decay)
    beside = trained(decay_decoupled(sgd), Decayed(hp, decay), params, grad, jnp.zeros((), dtype))
    assert_equal(as_l2, beside, tolerance)
    assert any(float(abs(p.w - q.w).max()) > 0.1 for p, q in zip(params, as_l2, strict=True) if p)


def test_l2_is_decoupled_decay_under_sgd():
    check_sgd(jnp.float32, 1e-6)


def test_l2_is_decoupled_decay_under_sgd_in_float64(x64):
    check_sgd(jnp.float64, 1e-12)


def test_decoupled_adam_is_optax_adamw(x64):
    params, grad = problem(jnp.float64)
    adam = optim.rule("adam")
    hp = jax.tree.map(jnp.float64, Decayed(adam.hyper._replace(lr=0.01), 0.3))
    ours = trained(decay_decoupled(adam), hp, params, grad, 0.0)
    weights_only = lambda params: jax.tree.map(lambda w: w.ndim == 2, params)
    twin = optax.adamw(0.01, weight_decay=0.3, mask=weights_only)
    theirs = trained(interop.from_optax(None, lambda hp: twin), None, params, grad, 0.0)
    assert_equal(ours, theirs, 1e-12)


def test_l2_is_not_decoupled_decay_under_adam(x64):
    params, grad = problem(jnp.float64)
    adam = optim.rule("adam")
    as_l2 = trained(adam, adam.hyper, params, grad, 0.3)
    beside = trained(decay_decoupled(adam), Decayed(adam.hyper, 0.3), params, grad, 0.0)
    assert float(abs(as_l2[0].w - beside[0].w).max()) > 0.01


observe = jax.jit(experiment.observe)


def moment(scale=1.0):
    """A network at its start, every weight times `scale`, on random images."""
    images = jax.random.randint(jax.random.key(3), (experiment.HELD, 28, 28), 0, 256).astype(jnp.uint8)
    split = Split(images, jnp.arange(len(images)) % 10)
    params, stats = experiment.network().init(jax.random.key(0), jnp.zeros((1, 784)))
    scaled = jax.tree.map(lambda w: scale * w, params)
    return Moment(
        None, params, params, scaled, stats, None, None, None, {"train": split, "test": split}, jax.random.key(1)
    )


def test_the_instruments_show_that_the_network_is_homogeneous():
    """Without biases all weights times c give each layer's factor c to function, slope and margin, not to distance."""
    c, depth = 1.1, len(_overfit.HIDDEN) + 1
    small, large = observe(moment()), observe(moment(c))
    for name in ("logits", "slope", "margin"):
        np.testing.assert_allclose(large[name], c**depth * small[name], rtol=1e-4)
    np.testing.assert_allclose(large["weight_norm"], c * small["weight_norm"], rtol=1e-5)
    np.testing.assert_allclose(large["log_norms"] - small["log_norms"], depth * np.log(c), rtol=1e-4)
    np.testing.assert_allclose(large["distance"], small["distance"], rtol=1e-3)


def test_the_slope_is_the_norm_of_the_jacobian():
    now = moment()
    f = lambda x: experiment.network().apply(now.after, now.stats, x[None], None, False)[0][0]
    x = jnp.asarray(now.data["test"].x.reshape(-1, 784) / 255, jnp.float32)
    whole = jax.vmap(jax.jacrev(f))(x)
    np.testing.assert_allclose(observe(now)["slope"], np.sqrt(np.square(whole).sum((1, 2)).mean()), rtol=0.05)


def made_up(ds, train_loss=(0.1, 0.1), **accuracy):
    """The same data set with other numbers: `{what}_{plain|decayed}`, over 12 seeds that scatter a little.

    train_loss: without and with decay at the last epoch; at the others it is 1 higher.
    """
    ds = ds.isel(seed=np.arange(12) % 3).assign_coords(seed=np.arange(12))
    scatter = 0.001 * xr.DataArray(np.arange(12) % 5, dims="seed")
    higher = xr.where(ds.epoch == ds.epochs, 0.0, 1.0)
    for split in ("train", "test"):
        with_it, without = (accuracy[f"{split}_{which}"] for which in ("decayed", "plain"))
        name = f"{split}_accuracy"
        values = xr.where(ds.decay > 0, with_it, without) + scatter * (1 + ds.decay)
        ds[name] = values.broadcast_like(ds[name]).transpose(*ds[name].dims).copy()
    losses = xr.where(ds.decay > 0, train_loss[1], train_loss[0]) + higher
    ds["train_loss"] = losses.broadcast_like(ds.train_loss).transpose(*ds.train_loss.dims).copy()
    return ds


def outcome(ds, *words):
    (verdict,) = [v for v in EXPERIMENT.judge(ds) if all(word in v.claim for word in words)]
    return verdict.outcome


CLAIMS = [
    ["more than 10 points"],
    ["equal training loss"],
    ["narrows the gap after"],
    ["raises", "λ = 0.1 raises", "after 4 epochs"],
    ["best epoch"],
    ["best λ"],
    ["unrecognized"],
]


@pytest.mark.parametrize("words", CLAIMS, ids=" ".join)
def test_claims_follow_the_numbers_in_both_directions(ds, words):
    kind = made_up(ds, train_plain=0.98, test_plain=0.6, train_decayed=0.9, test_decayed=0.8)
    cruel = made_up(ds, train_plain=0.7, test_plain=0.65, train_decayed=0.99, test_decayed=0.5)
    assert outcome(kind, *words) == "holds"
    assert outcome(cruel, *words) == "does not hold"


def test_answers_follow_the_numbers(ds):
    kind = made_up(ds, train_plain=0.98, test_plain=0.6, train_decayed=0.9, test_decayed=0.8)
    cruel = made_up(ds, train_plain=0.7, test_plain=0.65, train_decayed=0.99, test_decayed=0.5)
    assert "recognizes more unseen ones" in EXPERIMENT.answer(kind)[0].answer
    assert "less is learned" in EXPERIMENT.answer(cruel)[0].answer


def test_less_learning_is_no_narrower_gap(ds):
    """Decay that halts at the loss of an earlier epoch, with the gap of that epoch, narrows nothing."""
    ds = made_up(ds, (0.1, 0.6), train_plain=0.9, test_plain=0.6, train_decayed=0.7, test_decayed=0.5)
    early = {"decay": 0.0, "epoch": slice(None, 2)}
    ds["train_accuracy"].loc[early] = ds.test_accuracy.loc[early] + 0.1
    expected = np.interp(-np.log(0.6), -np.log([1.1, 0.1]), [10, 30]) - 20
    found = _overfit.narrower_at_equal_loss(ds, "decay", 4)
    np.testing.assert_allclose(found, expected, atol=0.5)
    # Where the network without never had that loss there is nothing to compare.
    ds["train_loss"].loc[{"decay": 0.1}] = 0.01
    assert np.isnan(_overfit.narrower_at_equal_loss(ds, "decay", 4)).all()


def test_nearly_all_images_is_a_claim_on_every_epoch_from_100_on(ds):
    (claim,) = [claim for claim in EXPERIMENT.claims if "recognized from" in claim.text]
    ds = made_up(ds, train_plain=0.98, test_plain=0.6, train_decayed=0.9, test_decayed=0.8)
    assert not claim.where(ds), "too short a run"
    long = ds.assign_coords(epoch=[50, 100, 201]).assign_attrs(epochs=201)
    long["train_accuracy"].loc[{"epoch": 50}] = 0.5
    assert claim.verdict(long).outcome == "holds"
    long["train_accuracy"].loc[{"epoch": 201}] = 0.9
    assert claim.verdict(long).outcome == "does not hold"


def test_sgd_forms_that_differ_are_found_out(ds):
    changed = ds.copy(deep=True)
    changed["form_weight_norm"].loc[{"form_kind": "L2", "form_rule": "sgd"}] *= 1.01
    assert outcome(ds, "Under SGD") == "holds"
    assert outcome(changed, "Under SGD") == "does not hold"


def test_a_diverged_run_is_a_result(ds):
    ill = ds.copy(deep=True)
    for name in ("train_accuracy", "test_accuracy", "train_loss", "weight_norm", "slope", "margin", "distance"):
        ill[name].loc[{"decay": 0.1, "seed": 1}] = np.nan
    ill["diverged_at"].loc[{"decay": 0.1, "seed": 1}] = 3
    assert outcome(ill, "narrows the gap after") == "undecided"
    assert EXPERIMENT.answer(ill)
    for figure in EXPERIMENT.draw(ill).values():
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "--epochs is at least 1, not 0"),
        ({"images": 0}, "--images is at least 1, not 0"),
        ({"evaluate_every": 0}, "--evaluate-every is at least 1"),
        ({"decay": 0.0}, "--decay is above 0, not 0"),
        ({"decay": float("nan")}, "--decay is above 0, not nan"),
        ({"decays": (-0.1,)}, "--decays is at least 0, not -0.1"),
        ({"form_decays": (0.0,)}, "--form-decays names no λ above 0"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()


def test_more_images_than_there_are():
    with pytest.raises(InputError, match="--images is at most the 4,000 training images of mnist_5k, not 4,001"):
        EXPERIMENT.run(Config(images=4001, dataset="mnist_5k"))
