"""Trees and gradient sequences that rules are held to: the shapes and sizes where mistakes show."""

import jax
import jax.numpy as jnp
import numpy as np

STEPS = 120


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
