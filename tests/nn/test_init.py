"""Initializers: their distributions, their twins in JAX, and scales that are traced.

Statistical bounds are 5 standard errors, under fixed keys: of the mean of n draws σ/√n, of their variance
σ² √((2 + excess kurtosis)/n).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn.base.errors import InputError
from fnn.nn.init import (
    constant,
    fans,
    flat,
    gaussian,
    glorot,
    he,
    lecun,
    normal,
    orthogonal,
    truncated,
    truncated_normal,
    uniform,
    xavier,
    zeros,
)

KEY = jax.random.key(0)
N_IN, N_OUT = 200, 300
twins = jax.nn.initializers

# Each draw as the distribution of variance 1 that it should be.
cut = stats.truncnorm(-2, 2)
DRAWS = {
    gaussian: stats.norm(),
    flat: stats.uniform(-(3**0.5), 12**0.5),
    truncated: stats.truncnorm(-2, 2, 0, 1 / cut.std()),
}
FAMILIES = {
    xavier: lambda n_in, n_out: 1 / n_in,
    lecun: lambda n_in, n_out: 1 / n_in,
    glorot: lambda n_in, n_out: 2 / (n_in + n_out),
    he: lambda n_in, n_out: 2 / n_in,
}
DISTRIBUTIONS = [
    pytest.param(f(draw, gain), unit, gain * variance(N_IN, N_OUT) ** 0.5, id=f"{f.__name__}-{draw.__name__}-{gain}")
    for f, variance in FAMILIES.items()
    for draw, unit in DRAWS.items()
    for gain in (1.0, 3.0)
] + [
    pytest.param(gaussian, DRAWS[gaussian], 1, id="gaussian"),
    pytest.param(flat, DRAWS[flat], 1, id="flat"),
    pytest.param(truncated, DRAWS[truncated], 1, id="truncated"),
    pytest.param(normal(0.3), DRAWS[gaussian], 0.3, id="normal"),
    pytest.param(normal(0.3, flat), DRAWS[flat], 0.3, id="normal-flat"),
    pytest.param(uniform(0.3), DRAWS[flat], 0.3 / 3**0.5, id="uniform"),
    pytest.param(truncated_normal(0.3), DRAWS[truncated], 0.3, id="truncated_normal"),
]


@pytest.mark.parametrize(("init", "unit", "std"), DISTRIBUTIONS)
def test_distribution(init, unit, std):
    w = np.asarray(init(KEY, (N_IN, N_OUT)), np.float64) / std
    n, kurtosis, (low, high) = w.size, unit.stats("k"), unit.support()
    assert abs(w.mean()) < 5 / n**0.5
    assert abs(w.var() - 1) < 5 * ((2 + kurtosis) / n) ** 0.5
    slack = 1e-6 * abs(high) if math.isfinite(high) else 0
    assert low - slack <= w.min()
    assert w.max() <= high + slack
    if math.isfinite(high):  # and the ends are reached, so a narrower law does not pass
        assert -w.min() > 0.99 * high
        assert w.max() > 0.99 * high
    assert stats.kstest(w.ravel(), unit.cdf).pvalue > 1e-3


def test_the_distribution_check_sees_another_law():
    """Equal in mean and variance is not enough: the uniform law fails as a normal one."""
    w = np.asarray(flat(KEY, (N_IN, N_OUT))).ravel()
    assert stats.kstest(w, DRAWS[gaussian].cdf).pvalue < 1e-9


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_constant(value):
    np.testing.assert_array_equal(constant(value)(KEY, (3, 4)), np.full((3, 4), value, np.float32))
    np.testing.assert_array_equal(zeros(KEY, (3,)), np.zeros(3, np.float32))


@pytest.mark.parametrize("shape", [(12, 30), (3, 6, 4)], ids=str)
@pytest.mark.parametrize(
    ("init", "twin"),
    [
        pytest.param(f(draw), twin(), id=twin.__name__)
        for f, draw, twin in [
            (glorot, flat, twins.glorot_uniform),
            (glorot, truncated, twins.glorot_normal),
            (he, flat, twins.he_uniform),
            (he, truncated, twins.he_normal),
            (lecun, flat, twins.lecun_uniform),
            (lecun, truncated, twins.lecun_normal),
        ]
    ]
    + [
        pytest.param(
            glorot(gain=2.0), twins.variance_scaling(4.0, "fan_avg", "normal", dtype=None), id="glorot-normal"
        ),
        pytest.param(normal(0.3), twins.normal(0.3), id="normal"),
        # JAX's has standard deviation `stddev` before the cut, ours after it.
        pytest.param(truncated_normal(0.3), twins.truncated_normal(0.3 / cut.std()), id="truncated_normal"),
        pytest.param(orthogonal(1.5), twins.orthogonal(1.5), id="orthogonal"),
    ],
)
def test_same_key_same_numbers_as_jax(x64, init, twin, shape):
    ours, theirs = init(KEY, shape, jnp.float64), twin(KEY, shape, jnp.float64)
    assert ours.std() > 0
    # JAX writes √Var[z | −2 ≤ z ≤ 2] with 17 digits; everything else is a few roundings.
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (9, 9), (1, 7), (3, 6, 4), (2, 3, 40)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.float64, 1e-12)])
def test_orthogonal(x64, dtype, tolerance, shape):
    w = orthogonal()(KEY, shape, dtype)
    assert w.shape == shape
    q = np.asarray(w, np.float64).reshape(-1, shape[-1])
    gram = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(min(q.shape)), atol=tolerance)


def test_orthogonal_is_haar():
    """Over O(n): E q_ii = 0, Var q_ii = 1/n, E (tr Q)² = 1, and E (tr Q)⁴ = 3. Raw QR fails the first."""
    n, draws = 4, 4000
    keys = jax.random.split(KEY, draws)
    q = np.asarray(jax.vmap(lambda key: orthogonal()(key, (n, n)))(keys), np.float64)
    raw = np.asarray(jax.vmap(lambda key: jnp.linalg.qr(gaussian(key, (n, n)))[0])(keys), np.float64)
    bound = 5 / math.sqrt(n * draws)
    diagonal = lambda q: np.diagonal(q, axis1=1, axis2=2).mean(0)
    assert np.abs(diagonal(q)).max() < bound
    assert np.abs(diagonal(raw)).max() > 5 * bound
    trace = np.trace(q, axis1=1, axis2=2)
    assert abs((trace**2).mean() - 1) < 5 * math.sqrt((3 - 1) / draws)
    assert abs((trace**4).mean() - 3) < 5 * math.sqrt((105 - 9) / draws)  # at most the normal law's 8th moment
    assert abs((np.linalg.det(q) > 0).mean() - 0.5) < 5 * 0.5 / math.sqrt(draws)


@pytest.mark.parametrize(("shape", "expected"), [((2, 3), (2, 3)), ((5, 2, 3), (10, 15)), ((5, 7, 2, 3), (70, 105))])
def test_fans(shape, expected):
    assert fans(shape) == expected


@pytest.mark.parametrize(
    "init", [f() for f in FAMILIES] + [orthogonal()], ids=[*(f.__name__ for f in FAMILIES), "orthogonal"]
)
@pytest.mark.parametrize("shape", [(), (5,)], ids=str)
def test_a_matrix_has_two_axes(init, shape):
    with pytest.raises(InputError, match="at least 2 axes"):
        init(KEY, shape)


TRACED = {
    "constant": constant,
    "normal": normal,
    "normal-flat": lambda s: normal(s, flat),
    "uniform": uniform,
    "truncated_normal": truncated_normal,
    "orthogonal": orthogonal,
} | {f.__name__: (lambda s, f=f: f(gain=s)) for f in FAMILIES}


@pytest.mark.parametrize("factory", TRACED.values(), ids=TRACED)
def test_a_traced_scale_compiles_once_and_maps(factory):
    traces = []

    @jax.jit
    def draw(scale):
        traces.append(scale)
        return factory(scale)(KEY, (6, 5))

    scales = jnp.array([0.01, 0.5, 3.0])
    singles = jnp.stack([draw(s) for s in scales])
    assert len(traces) == 1
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda s: factory(s)(KEY, (6, 5))))(scales), singles, rtol=1e-6)
    by_hand = jnp.stack([factory(float(s))(KEY, (6, 5)) for s in scales])
    np.testing.assert_allclose(singles, by_hand, rtol=1e-6)
    np.testing.assert_allclose(singles[2] / singles[0], np.full((6, 5), 300.0), rtol=1e-5)  # linear in the scale


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("factory", TRACED.values(), ids=TRACED)
@pytest.mark.parametrize("scale", [0.5, "float32", "float64"])
def test_dtype(x64, factory, dtype, scale):
    """The asked-for type, whatever the type of the scale."""
    w = factory(scale if isinstance(scale, float) else jnp.asarray(0.5, scale))(KEY, (6, 5), dtype)
    assert w.dtype == dtype
    assert jnp.isfinite(w).all()
    assert jnp.abs(w).max() > 0


@pytest.mark.parametrize("factory", TRACED.values(), ids=TRACED)
def test_float32_by_default(factory):
    assert factory(0.5)(KEY, (6, 5)).dtype == jnp.float32


def test_keys_matter():
    a, b, again = (he()(key, (6, 5)) for key in (*jax.random.split(KEY), jax.random.split(KEY)[0]))
    assert not (a == b).any()
    np.testing.assert_array_equal(a, again)
