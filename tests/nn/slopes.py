"""What tests of layers share: gradients against central differences, and inputs and parameters without kinks.

A central difference of step h errs by h² f‴/6 + u f/h: at h = 6e-6 = u^⅓ in float64 that is below 1e-9 for
the losses here (f < 100), so 1e-8 leaves room for curvature and still sees a slope wrong in its eighth digit.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

KEY = jax.random.key(0)


def slopes_agree(f, *args):
    """Autodiff's slopes of Σ sin(f(*args)), over all outputs, are central differences by every coordinate."""

    @jax.jit
    def both(point):
        loss = lambda point: sum(jnp.sin(y).sum() for y in jax.tree.leaves(f(*unravel(point))))
        difference = lambda step: (loss(point + step) - loss(point - step)) / 12e-6
        return jax.grad(loss)(point), jax.vmap(difference)(6e-6 * jnp.eye(point.size))

    point, unravel = ravel_pytree(args)
    slopes, differences = both(point)
    np.testing.assert_allclose(slopes, differences, rtol=1e-8, atol=1e-8)
    assert all(jnp.abs(d).max() > 1e-4 for d in jax.tree.leaves(unravel(slopes)))  # nothing is compared as 0 = 0


def batch(m=6, n=4, dtype=jnp.float64, key=KEY):
    """Inputs on both sides of 0 and never within 0.1 of it, where activations have their kinks."""
    z = jax.random.normal(key, (m, n), dtype)
    return z + jnp.where(z > 0, 0.1, -0.1).astype(dtype)


def started(layer, x):
    """Parameters around 0 and statistics around 1 (variances are positive), none where layers start."""
    wave = lambda mean: (
        lambda a: jnp.asarray(mean + 0.8 * np.sin(1 + 2.3 * np.arange(a.size)), a.dtype).reshape(a.shape)
    )
    params, stats = jax.eval_shape(layer.init, KEY, x)
    return jax.tree.map(wave(0), params), jax.tree.map(wave(1), stats)


def wave(*shape, start=1.0):
    """An array of numbers between −1 and 1 with no two alike, from NumPy in float64."""
    return np.sin(start + 2.3 * np.arange(np.prod(shape, dtype=int))).reshape(shape)


def pulled(f, *args):
    """f(*args), and the gradients of Σ sin(f(*args)) by all of them, to be traced."""

    def loss(*args):
        y = f(*args)
        return jnp.sin(y).sum(), y

    grads, y = jax.grad(loss, tuple(range(len(args))), has_aux=True)(*args)
    return y, grads


def pulled_torch(f, *args):
    """As `pulled`, of a function of torch's tensors at NumPy's arrays."""
    import torch

    tensors = [torch.tensor(arg, requires_grad=True) for arg in args]
    y = f(*tensors)
    y.sin().sum().backward()
    return y.detach().numpy(), tuple(t.grad.numpy() for t in tensors)


def alike(ours, theirs, tolerance=1e-12):
    """Trees of arrays are equal to within `tolerance` of 1 and of themselves, and none is zero."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        assert np.abs(b).max() > 1e-3


def of_layer(layer, params, x, train=True):
    """A layer without state and noise, at these parameters."""
    return layer.apply(params, (), x, None, train)[0]


def same_alone_and_mapped(layer, x, train=True):
    """vmap over three sets of parameters gives what each alone gives, and gradients too."""
    params, stats = started(layer, x)
    many = jax.tree.map(lambda a: jnp.stack([a, 1.5 * a, a - 0.1]), params)
    f = lambda params: pulled(lambda params: layer.apply(params, stats, x, None, train)[0], params)
    mapped = jax.jit(jax.vmap(f))(many)
    for i in range(3):
        one = jax.jit(f)(jax.tree.map(lambda a, i=i: a[i], many))
        alike(jax.tree.map(lambda a, i=i: a[i], mapped), one, 1e-11)


def keeps_dtype(layer, x, dtype=jnp.bfloat16):
    """Parameters, outputs, state and gradients of a layer are of its input's type."""

    def everything(key, x):
        params, stats = layer.init(key, x)
        run = lambda params: layer.apply(params, stats, x, None, True)
        return params, stats, run(params), jax.grad(lambda params: run(params)[0].sum())(params)

    leaves = jax.tree.leaves(jax.eval_shape(everything, KEY, x))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}
