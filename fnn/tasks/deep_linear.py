"""Three linear layers that learn a linear teacher: plateaus whose times are known.

    f(W₁, W₂, W₃) = ½ E ‖W₃ W₂ W₁ x − T x‖²,    x ~ N(0, I)

Saxe, McClelland & Ganguli 2014, arXiv:1312.6120. From weights that are decoupled, W₁ = a R₁ Vᵀ, W₂ = a R₂ R₁ᵀ and
W₃ = a U R₂ᵀ with T = U S Vᵀ and random rotations R, gradient flow keeps them so: every singular value s of the teacher
is learned by itself, as a³, with

    da/dt = a² (s − a³)

so that it waits for about 1 / (a s) before it is learned, the weak ones after the strong ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fnn.nn.axes import Axes
from fnn.nn.init import orthogonal
from fnn.tasks.contract import Label, Task
from fnn.tasks.workload import Size, Workload, sized

STRENGTHS = (2.0, 1.0, 0.5, 0.25)
"""The singular values of the teacher that are not 0."""
START = 0.1
"""a at the start: the smaller it is, the longer are the plateaus."""


class Linear(NamedTuple):
    """w `[outputs, inputs]`."""

    w: Array

    AXES = (Axes(outputs=(0,), inputs=(1,)),)


class Teacher(NamedTuple):
    """T = U S Vᵀ: `u` and `v` `[n, n]`, `s` `[n]`, from the largest down."""

    u: np.ndarray | Array
    s: np.ndarray | Array
    v: np.ndarray | Array


class Scale(NamedTuple):
    """The width of all layers, the examples of a step and the horizon."""

    width: int
    batch: int
    steps: int


SIZES = {"tiny": Scale(6, 16, 40), "small": Scale(16, 64, 600), "full": Scale(128, 256, 5000)}


def workload(size: Size = "small") -> Workload:
    """Layers of width 16 at small, 64 new examples at every step."""
    width, batch, steps = sized(SIZES, size)
    known = (
        "The loss is 0 at the optimum. Under gradient flow the time until each of the teacher's four singular values "
        "is learned is known (Saxe et al. 2014, arXiv:1312.6120); between are saddles, where the loss hardly falls."
    )
    return Workload(learning(teacher(width), batch), steps, "expected_loss", "weakest", known)


def teacher(width: int) -> Teacher:
    """A teacher with the singular values `STRENGTHS` and random singular vectors, drawn with seed 0."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32) for _ in range(2))
    return Teacher(u, np.pad(np.asarray(STRENGTHS, np.float32), (0, width - len(STRENGTHS))), v)


def learning(data: Teacher, batch: int) -> Task:
    """The task of learning a teacher from new examples at every step.

    Its metrics are the expected loss and the weakest singular value's share that is not learned yet.
    """

    def init(hp, key, data):
        k_1, k_2 = jax.random.split(key)
        r_1, r_2 = (orthogonal()(k, data.u.shape) for k in (k_1, k_2))
        return tuple(Linear(START * w) for w in (r_1 @ data.v.T, r_2 @ r_1.T, data.u @ r_2.T)), ()

    def draw(key, data, i):
        return jax.random.normal(jax.random.fold_in(key, i), (batch, len(data.s)))

    def examples(data, x):
        return x, (x @ data.v * data.s) @ data.u.T

    def mean_loss(hp, params, stats, batch, key, train):
        x, y = batch
        for layer in params:
            x = x @ layer.w.T
        return jnp.square(x - y).sum(1).mean() / 2, stats

    def metrics(hp, params, stats, data):
        one, two, three = (layer.w for layer in params)
        learned = data.u.T @ three @ two @ one @ data.v
        off, last = learned - jnp.diag(data.s), len(STRENGTHS) - 1
        return {"expected_loss": jnp.square(off).sum() / 2, "weakest": jnp.abs(off[last, last]) / data.s[last]}

    labels = {
        "loss": Label("loss on the minibatch", "1"),
        "expected_loss": Label("expected loss", "1"),
        "weakest": Label("share of the weakest singular value that is not learned", "1"),
    }
    return Task(init, draw, examples, mean_loss, metrics, data=data, labels=labels, about={"batch": batch})
