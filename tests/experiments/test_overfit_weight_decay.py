"""The experiment on weight decay at tiny size, its decoupled form and instruments against theory, its findings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import _overfit
from experiments import overfit_weight_decay as experiment
from experiments.overfit_weight_decay import Config
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
    form_seeds=2,
    form_epochs=3,
    form_decays=(0.0, 0.1, 1.0),
    dataset="mnist_5k",
)


@pytest.fixture(scope="module")
def ds(small):
    return experiment.run(TINY)


def test_the_run_is_labelled_and_paired(ds):
    assert dict(ds.test_accuracy.sizes) == {"decay": 3, "seed": 3, "epoch": 3}
    np.testing.assert_array_equal(ds.epoch, [1, 2, 4])
    np.testing.assert_array_equal(ds.watched, [True, False, True])
    np.testing.assert_array_equal(ds.milestone, [False, False, True])
    whole = ds.test_accuracy.isel(decay=ds.watched)
    assert np.isfinite(whole).all()
    assert np.isnan(ds.test_accuracy.sel(decay=0.01)[:, :2]).all()
    assert np.isfinite(ds.test_accuracy.sel(epoch=4)).all()
    assert (ds.weight_norm.sel(decay=0.1) < ds.weight_norm.sel(decay=0.0)).all()
    # From the same start, after two updates, decay has hardly done anything yet.
    np.testing.assert_allclose(
        ds.weight_norm.sel(decay=0.1, epoch=1), ds.weight_norm.sel(decay=0.0, epoch=1), rtol=3e-3
    )


def test_weights_without_a_gradient_follow_the_theory(ds):
    """(1 − lr λ)ᵗ under SGD and for decoupled decay; under Adam the penalty forgets λ."""
    forms = experiment.finished_forms(ds)
    assert forms is not None
    share = forms.blank_left / (1 - forms.lr * forms.decay) ** (forms.epoch * TINY.steps_each)
    np.testing.assert_allclose(share.sel(rule="sgd"), 1, rtol=1e-5)
    np.testing.assert_allclose(share.sel(rule="adam", kind="decoupled"), 1, rtol=1e-5)
    adam = forms.blank_left.sel(rule="adam", kind="L2")
    np.testing.assert_allclose(adam.sel(decay=0.1), adam.sel(decay=1.0), rtol=1e-4)
    assert (adam.sel(decay=0.1, epoch=3) < 0.95).all()


def test_everything_is_drawn_and_told(ds):
    figures = experiment.figures(ds)
    assert {"15_no_decay", "16_decay", "15_16_spread", "against_decay", "why", "l2_and_decoupled"} <= set(figures)
    for figure in figures.values():
        figure.canvas.draw()
    assert {v.source for v in experiment.verdicts(ds)} == {"claim 11", "claim 12", "question §4.2"}
    for answer in experiment.answers(ds):
        assert answer.figure in figures
        assert "nan" not in answer.answer


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


look = jax.jit(experiment.look)


def moment(scale=1.0):
    """A network at its start, every weight times `scale`, looking at random images."""
    images = jax.random.randint(jax.random.key(3), (experiment.HELD, 28, 28), 0, 256).astype(jnp.uint8)
    split = Split(images, jnp.arange(len(images)) % 10)
    params, stats = experiment.network().init(jax.random.key(0), jnp.zeros((1, 784)))
    scaled = jax.tree.map(lambda w: scale * w, params)
    return Moment(
        None, params, params, scaled, stats, None, None, None, {"train": split, "test": split}, jax.random.key(1)
    )


def test_the_instruments_know_that_the_network_is_homogeneous():
    """Without biases all weights times c give each layer's factor c to function, slope and margin, not to distance."""
    c, depth = 1.1, len(_overfit.HIDDEN) + 1
    small, large = look(moment()), look(moment(c))
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
    np.testing.assert_allclose(look(now)["slope"], np.sqrt(np.square(whole).sum((1, 2)).mean()), rtol=0.05)


def pretended(ds, **accuracy):
    """The same data set with other accuracies: `{what}_{plain|decayed}`, over 12 seeds that scatter a little."""
    ds = ds.isel(seed=np.arange(12) % 3).assign_coords(seed=np.arange(12))
    scatter = 0.001 * np.arange(12)[:, None]
    for split in ("train", "test"):
        values = ds[f"{split}_accuracy"].copy()
        for decay in ds.decay.values:
            values.loc[{"decay": decay}] = accuracy[f"{split}_{'decayed' if decay > 0 else 'plain'}"] + scatter
        ds[f"{split}_accuracy"] = values
    return ds


def outcome(ds, *words):
    (verdict,) = [v for v in experiment.verdicts(ds) if all(word in v.claim for word in words)]
    return verdict.outcome


def test_verdicts_follow_the_numbers_in_both_directions(ds):
    kind = pretended(ds, train_plain=0.995, test_plain=0.6, train_decayed=0.9, test_decayed=0.8)
    cruel = pretended(ds, train_plain=0.7, test_plain=0.65, train_decayed=1.01, test_decayed=0.5)
    for words in (["99 %"], ["far below"], ["narrows"], ["raises", "λ = 0.1"], ["best λ"], ["below 100 %"]):
        assert outcome(kind, *words) == "holds", words
        assert outcome(cruel, *words) == "does not hold", words
    assert "better nor worse" not in experiment.answers(kind)[0].answer
    assert "less is learnt" in experiment.answers(cruel)[0].answer


def test_sgd_forms_that_differ_are_found_out(ds):
    changed = ds.copy(deep=True)
    changed["form_weight_norm"].loc[{"form_kind": "L2", "form_rule": "sgd"}] *= 1.01
    assert outcome(ds, "Under SGD") == "holds"
    assert outcome(changed, "Under SGD") == "does not hold"


def test_a_single_seed_decides_nothing_that_varies(ds):
    one = ds.isel(seed=[0])
    assert outcome(one, "narrows") == "undecided"
    assert not [v for v in experiment.verdicts(one) if "best λ" in v.claim]
    assert experiment.answers(one)


def test_a_diverged_run_is_a_result(ds):
    ill = ds.copy(deep=True)
    for name in ("train_accuracy", "test_accuracy", "weight_norm", "slope", "margin", "distance"):
        ill[name].loc[{"decay": 0.1, "seed": 1}] = np.nan
    ill["diverged_at"].loc[{"decay": 0.1, "seed": 1}] = 3
    assert outcome(ill, "narrows") == "undecided"
    assert experiment.answers(ill)
    for figure in experiment.figures(ill).values():
        figure.canvas.draw()


def check_that_all_copes(ds):
    assert ds.complete == 0
    assert "form_kind" not in ds
    assert experiment.verdicts(ds) == experiment.answers(ds) == []
    for figure in experiment.figures(ds).values():
        figure.canvas.draw()


def test_an_interrupt_keeps_what_is_done(monkeypatch):
    """In the first stage, before every λ was evaluated."""
    stream = _overfit._lab.stream

    def interrupted(*arguments, **options):
        yield next(stream(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(_overfit._lab, "stream", interrupted)
    monkeypatch.setattr(_overfit, "LONGEST_CHUNK", 4)
    ds = experiment.run(TINY)
    np.testing.assert_array_equal(ds.epoch, [1, 2])
    check_that_all_copes(ds)
    check_that_all_copes(ds.isel(epoch=[]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "--epochs is at least 1, not 0"),
        ({"images": 0}, "--images is at least 1, not 0"),
        ({"evaluate_every": 0}, "--evaluate-every is at least 1"),
        ({"decay": 0.0}, "--decay is above 0, not 0"),
        ({"decay": float("nan")}, "--decay is above 0, not nan"),
        ({"decays": (0.1,)}, "--decays names no λ besides"),
        ({"decays": (-0.1,)}, "--decays is at least 0, not -0.1"),
        ({"form_decays": (0.0,)}, "--form-decays names no λ above 0"),
        ({"form_seeds": 0}, "--form-seeds is at least 1"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()


def test_more_images_than_there_are():
    with pytest.raises(InputError, match="--images is at most the 4,000 training images of mnist_5k, not 4,001"):
        experiment.run(Config(images=4001, dataset="mnist_5k"))
