"""AdaGrad. Duchi, Hazan & Singer 2011, Figure 1 (diagonal form); the notes' §1.3.

    h ← h + g²
    optax   w ← w − lr · g / √(h + eps)     h starts at 0.1; no step where h = 0
    book    w ← w − lr · g / (√h + eps)     h starts at 0, eps 1e-7
    torch   the book's, with eps 1e-10, h from h0, g with an L2 term, and lr / (1 + (t − 1) · lr_decay)

No setting of `optax.adagrad` gives the book's form: eps stands inside its root.

When not to use it: on long runs, since h only grows and the steps die out like 1/√t.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.types import NonNegative
from fnn.rule.contract import coupled, leafwise


class Hyper(NamedTuple):
    """lr: step size; h0: where the sum of squares starts; eps: keeps the divisor from 0."""

    lr: NonNegative = 0.01
    h0: NonNegative = 0.1
    eps: NonNegative = 1e-7


class State(NamedTuple):
    """h: the sum of squares."""

    h: Array


def init(hp: Hyper, w: Array):
    return State(jnp.full_like(w, hp.h0))


def update(hp: Hyper, t: Array, g: Array, s: State, w: Array):
    h = s.h + g**2
    return jnp.where(h == 0, 0, -hp.lr * g / jnp.sqrt(h + hp.eps)), State(h)


class BookHyper(NamedTuple):
    """lr: step size; eps: keeps the divisor from 0."""

    lr: NonNegative = 0.01
    eps: NonNegative = 1e-7


def book_init(hp: BookHyper, w: Array):
    return State(jnp.zeros_like(w))


def book_update(hp: Any, t: Array, g: Array, s: State, w: Array):
    h = s.h + g**2
    return -hp.lr * g / (jnp.sqrt(h) + hp.eps), State(h)


class TorchHyper(NamedTuple):
    """lr: step size; h0: where the sum of squares starts; eps: keeps the divisor from 0; lr_decay: how fast lr falls;
    weight_decay: L2."""

    lr: NonNegative = 0.01
    h0: NonNegative = 0.0
    eps: NonNegative = 1e-10
    lr_decay: NonNegative = 0.0
    weight_decay: NonNegative = 0.0


def torch_init(hp: TorchHyper, w: Array):
    return State(jnp.full_like(w, hp.h0))


def torch_update(hp: TorchHyper, t: Array, g: Array, s: State, w: Array):
    lr = hp.lr / (1 + (t - 1) * hp.lr_decay)
    return book_update(BookHyper(lr, hp.eps), t, g, s, w)


adagrad = leafwise(Hyper(), init, update)
DIALECTS = {
    "book": leafwise(BookHyper(), book_init, book_update),
    "torch": leafwise(TorchHyper(), torch_init, coupled(torch_update)),
}
