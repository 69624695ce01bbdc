"""Trees and gradient sequences that rules are held to: the shapes and sizes where mistakes show."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from fnn.rule import Rule, apply_updates, gradient_streams

STEPS = 120
RTOL = 1e-12
"""How far a rule may be from its twin in float64."""


def tree(dtype=jnp.float32):
    """Scalars, vectors and matrices in a nested tree."""
    rng = np.random.default_rng(1)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    return {"scalar": draw(), "layers": [(draw(3, 4), draw(4)), (draw(4, 2), draw(2))], "deep": {"er": {"x": draw(5)}}}


def small(dtype=jnp.float32):
    """A matrix and a vector: what a rule compiles for each shape of array, it compiles for these two only."""
    rng = np.random.default_rng(1)
    return {"w": jnp.asarray(rng.standard_normal((3, 4)), dtype), "b": jnp.asarray(rng.standard_normal(4), dtype)}


def _like(params, f):
    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten([jnp.asarray(f(i, w.shape), w.dtype) for i, w in enumerate(leaves)])


def gradients(kind: str, params, steps: int = STEPS):
    """A list of gradient trees: `kind` is one of KINDS."""
    rng = np.random.default_rng(2)
    draw = {
        "normal": lambda t, i, shape: rng.standard_normal(shape),
        "zeros": lambda t, i, shape: np.zeros(shape),
        "tiny": lambda t, i, shape: 1e-8 * rng.standard_normal(shape),
        "huge": lambda t, i, shape: 1e8 * rng.standard_normal(shape),
        "sign flips": lambda t, i, shape: (-1) ** t * np.ones(shape),
        "one-hot": lambda t, i, shape: (np.arange(int(np.prod(shape))) == t % max(int(np.prod(shape)), 1)).reshape(
            shape
        ),
        "all scales": lambda t, i, shape: 10.0 ** rng.integers(-8, 9, shape) * rng.choice([-1, 0, 1], shape),
    }[kind]
    return [_like(params, lambda i, shape, t=t: draw(t, i, shape)) for t in range(steps)]


KINDS = ("normal", "zeros", "tiny", "huge", "sign flips", "one-hot", "all scales")


@cache
def streams():
    """Parameters, and gradients of every kind, each leaf `[kinds, steps, …]`."""
    params = tree(jnp.float64)
    stack = lambda trees: jax.tree.map(lambda *a: np.stack(a), *trees)
    return params, stack([stack(gradients(kind, params)) for kind in KINDS])


def trajectory(rule: Rule, hp, params, grads):
    """All updates of a rule along given gradients, each leaf `[steps, …]`."""

    def step(carry, now):
        g, i = now
        params, state = carry
        value = 1 + jnp.cos(i / 7.0) / 2
        extra = gradient_streams.extra(g, params, value, jax.random.fold_in(jax.random.key(0), i))
        updates, state = rule.update(hp, g, state, params, extra)
        return (apply_updates(params, updates), state), updates

    _, updates = jax.lax.scan(step, (params, rule.init(hp, params)), (grads, jnp.arange(STEPS)))
    return updates


def along(rule: Rule, hps):
    """Updates at many hyperparameters along all streams, each leaf `[settings, kinds, steps, …]`, every operation
    rounded alone."""
    params, grads = streams()
    many = jax.vmap(jax.vmap(trajectory, (None, None, None, 0)), (None, 0, None, None))
    program = jax.jit(
        lambda hps, params, grads: many(rule, hps, params, grads), compiler_options=gradient_streams.EXACT
    )
    return jax.tree.map(np.asarray, program(hps, params, grads))
