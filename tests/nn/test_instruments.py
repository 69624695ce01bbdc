"""Instruments against NumPy, closed forms and brute force; inside the training loop they change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import init, instruments, layers, losses, models, optim, tasks, train
from fnn.base.errors import InputError
from fnn.train import engine


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return {
        "train": tasks.Split(
            jnp.asarray(rng.integers(0, 256, (40, 9), dtype=np.uint8)), jnp.asarray(rng.integers(0, 3, 40))
        )
    }


TASK = tasks.classification(lambda hp: models.multilayer((5, 4), 3), batch=8)


def test_activations_are_the_outputs_of_every_layer():
    network = models.multilayer((5, 4), 3, normalize="before", dropout_ratio=0.5)
    x = jax.random.normal(jax.random.key(0), (7, 6))
    params, stats = network.init(jax.random.key(1), x)
    seen = instruments.activations(network, params, stats, x, jax.random.key(2), True)
    assert [h.shape[-1] for h in seen] == [5, 5, 5, 5, 4, 4, 4, 4, 3]
    np.testing.assert_array_equal(seen[-1], network.apply(params, stats, x, jax.random.key(2), True)[0])
    np.testing.assert_array_equal(seen[0], x @ params[0].w.T + params[0].b)
    dropped = np.asarray(seen[3] == 0) & np.asarray(seen[2] != 0)
    assert 0 < dropped.mean() < 1


def test_histogram_counts_shares():
    values = jnp.array([-1.0, 0.0, 0.1, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(instruments.histogram(values, jnp.array([0.0, 0.5, 1.0])), [2 / 6, 2 / 6])


def test_saturated_and_dead():
    values = jnp.array([[0.0, 0.01, 0.5], [0.0, 0.99, 0.5]])
    assert float(instruments.saturated(values, 0, 1)) == pytest.approx(4 / 6)
    assert float(instruments.saturated(2 * values - 1, -1, 1)) == pytest.approx(4 / 6)
    assert float(instruments.dead(values)) == pytest.approx(1 / 3)
    assert float(instruments.mean_square(values)) == pytest.approx((0.01**2 + 0.99**2 + 2 * 0.25) / 6)


def test_norms_distance_and_ratio_of_a_tree():
    tree = {"a": jnp.array([3.0, 4.0]), "b": (jnp.array(-2.0), jnp.ones((2, 2)))}
    assert float(instruments.norm(tree)) == pytest.approx(np.sqrt(25 + 4 + 4))
    assert jax.tree.leaves(instruments.norms(tree)) == pytest.approx([5.0, 2.0, 2.0])
    half = jax.tree.map(lambda x: x / 2, tree)
    assert jax.tree.leaves(instruments.distance(tree, half)) == pytest.approx([2.5, 1.0, 1.0])
    assert jax.tree.leaves(instruments.update_ratio(half, tree)) == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("r", [1, 2, 4])
def test_rank_agrees_with_numpy(shape, r):
    k_left, k_right = jax.random.split(jax.random.key(r))
    w = jax.random.normal(k_left, (shape[0], r)) @ jax.random.normal(k_right, (r, shape[1]))
    assert float(instruments.rank(w)) == np.linalg.matrix_rank(np.asarray(w)) == r
    s = np.linalg.svd(np.asarray(w), compute_uv=False)
    assert float(instruments.stable_rank(w)) == pytest.approx((s**2).sum() / s[0] ** 2, rel=1e-5)
    assert float(instruments.rank(0 * w)) == 0
    assert float(instruments.rank(jnp.eye(4), 2.0)) == 0


def test_ranks_under_vmap_are_those_one_by_one():
    w = jax.random.normal(jax.random.key(0), (3, 5, 8))
    np.testing.assert_array_equal(jax.vmap(instruments.rank)(w), [5, 5, 5])
    np.testing.assert_allclose(jax.vmap(instruments.stable_rank)(w), [instruments.stable_rank(a) for a in w], rtol=1e-5)


@pytest.fixture
def network_loss(x64):
    """A small network's loss, its parameters, and the Hessian by brute force."""
    network = models.multilayer((4,), 3, activation=layers.tanh, weights=init.xavier())
    x = jax.random.normal(jax.random.key(0), (12, 5), jnp.float64)
    params, stats = network.init(jax.random.key(1), x)
    y = jax.random.randint(jax.random.key(2), (12,), 0, 3)
    loss = lambda p: losses.softmax_cross_entropy(network.apply(p, stats, x, None, True)[0], y)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    return loss, params, jax.hessian(lambda v: loss(unravel(v)))(flat)


def test_hessian_vector_products(network_loss):
    loss, params, hessian = network_loss
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    v = jax.random.normal(jax.random.key(3), flat.shape)
    product, _ = jax.flatten_util.ravel_pytree(instruments.hessian_vector(loss, params, unravel(v)))
    np.testing.assert_allclose(product, hessian @ v, rtol=1e-10, atol=1e-12)


def test_lanczos_is_exact_once_it_spans_everything(network_loss):
    loss, params, hessian = network_loss
    true = np.linalg.eigvalsh(np.asarray(hessian))
    found = instruments.hessian_extremes(loss, params, jax.random.key(4), 1000)
    assert float(found.top) == pytest.approx(true[-1], rel=1e-10)
    assert float(found.bottom) == pytest.approx(true[0], rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("iterations", [3, 6, 12])
def test_lanczos_bounds_its_error(network_loss, iterations):
    loss, params, hessian = network_loss
    true = np.linalg.eigvalsh(np.asarray(hessian))
    found = instruments.hessian_extremes(loss, params, jax.random.key(4), iterations)
    assert abs(true - float(found.top)).min() <= float(found.top_error) + 1e-12
    assert abs(true - float(found.bottom)).min() <= float(found.bottom_error) + 1e-12
    assert float(found.top) <= true[-1] + 1e-12
    assert float(found.bottom) >= true[0] - 1e-12


def test_lanczos_survives_an_exhausted_space(x64):
    """−|p|² has one eigenvalue, so one vector spans all there is to find."""
    found = instruments.hessian_extremes(lambda p: -jnp.vdot(p, p), jnp.ones(9), jax.random.key(0), 8)
    np.testing.assert_allclose([found.top, found.bottom], -2, rtol=1e-12)


def test_instruments_serve_other_libraries(x64):
    """A plain pytree and a plain function are enough: linear regression, whose Hessian is XᵀX · 2/n."""
    x = jax.random.normal(jax.random.key(0), (30, 4))
    loss = lambda p: jnp.square(x @ p["slope"] + p["offset"] - 1).mean()
    found = instruments.hessian_extremes(loss, {"slope": jnp.zeros(4), "offset": jnp.zeros(())}, jax.random.key(1))
    design = np.column_stack([np.ones(30), x])
    true = np.linalg.eigvalsh(2 * design.T @ design / 30)
    np.testing.assert_allclose([found.top, found.bottom], [true[-1], true[0]], rtol=1e-9)


def look(moment):
    return {
        "grad": instruments.norm(moment.grads),
        "moved": instruments.norm(instruments.distance(moment.after, moment.start)),
        "step": instruments.norm(instruments.distance(moment.after, moment.before)),
        "update": instruments.norm(moment.updates),
    }


def test_a_run_that_asks_for_nothing_is_the_same_program(data):
    """Its jaxpr has no trace of the instruments; and looking changes nothing that is learned."""
    rule, key = optim.rule("adam"), jax.random.key(0)
    hp = train.Hyper(rule.hyper)
    plain = train.training(TASK, rule, 10)
    seeing = train.training(TASK, rule, 10, observe=look)
    state = plain.start(hp, key, data)
    drawn = plain.draw(key, data, jnp.int32(0))
    step = lambda run: str(jax.make_jaxpr(lambda s, drawn: run.step(hp, data, s, drawn))(state, drawn))
    assert step(plain) == step(train.training(TASK, rule, 10, observe=None, observe_at=(3,)))
    assert len(step(plain)) < len(step(seeing))
    end, record = train.train(plain, 10, hp, key, data)
    seen_end, seen = train.train(seeing, 10, hp, key, data)
    np.testing.assert_allclose(record["loss"], seen["loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(end.params), jax.tree.leaves(seen_end.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_moments_are_what_they_say(data):
    rule, key = optim.rule("sgd"), jax.random.key(0)
    hp = train.Hyper(rule.hyper._replace(lr=0.1))
    run = train.training(TASK, rule, 6, observe=look)
    start = run.start(hp, key, data)
    end, seen = train.train(run, 6, hp, key, data)
    np.testing.assert_allclose(seen["step"], seen["update"], rtol=1e-3)
    np.testing.assert_allclose(seen["update"], 0.1 * seen["grad"], rtol=1e-5)
    assert float(seen["moved"][-1]) == pytest.approx(
        float(instruments.norm(instruments.distance(end.params, start.params))), rel=1e-4
    )


def test_observation_only_where_asked_and_under_a_sweep(data):
    rule = optim.rule("sgd")
    run = train.training(TASK, rule, 6, observe=look, observe_at=(1, 4))
    hps = train.Hyper(engine.grid(rule.hyper, lr=[0.01, 0.1]))
    (chunk,) = engine.stream({"sgd": engine.over_hypers(run)}, {"sgd": hps}, engine.seeds(3), data, 6)
    grad = chunk.record["sgd"]["grad"]
    assert grad.shape == (3, 6, 2)
    np.testing.assert_array_equal(np.isfinite(grad).all((0, 2)), [True, False, False, True, False, False])
    np.testing.assert_allclose(grad[:, 0, 0], grad[:, 0, 1], rtol=1e-5)  # the first gradient knows no learning rate
    with pytest.raises(InputError, match="after 1 to 6 updates, not after \\[7\\]"):
        train.training(TASK, rule, 6, observe=look, observe_at=(7,))
