"""Between fnn and optax, both ways, and the twins: the optax transformation that equals each of our rules.

This is the only file that imports optax.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from fnn.errors import InputError, require
from fnn.optim import rule as find
from fnn.rule import Rule, widen
from fnn.types import Hyper


def to_optax(rule: Rule, hp: Hyper = None) -> optax.GradientTransformation:
    """The rule at `hp` (its defaults if None) as an optax transformation, for flax, equinox, or a loop of your own."""
    hp = rule.hyper if hp is None else hp

    def update(updates, state, params=None):
        require(params is not None, "An fnn rule sees the parameters: call update(grads, state, params).")
        return rule.update(hp, updates, state, params)

    return optax.GradientTransformation(lambda params: rule.init(hp, params), update)


def from_optax(hyper: Hyper, build: Callable[[Hyper], optax.GradientTransformation]) -> Rule:
    """The optax transformation `build(hp)` as a rule with default hyperparameters `hyper`, in at least float32.

    `build` runs while tracing, so hp stays a traced value: one compilation serves a whole sweep.
    """
    return Rule(
        hyper,
        lambda hp, params: build(hp).init(widen(params)),
        lambda hp, grads, state, params: build(hp).update(widen(grads), state, widen(params)),
    )


def _book_adagrad(hp):
    # Σg² is t times the running mean of g², and that mean is RMSProp's with decay 1 − 1/t. Pulling √t out of the root
    # leaves the book's form: lr/√t and eps/√t beside √(mean).
    def after(count):
        return 1.0 / (count + 1)

    return optax.inject_hyperparams(optax.rmsprop, static_args=("eps_in_sqrt", "centered", "bias_correction"))(
        learning_rate=lambda count: hp.lr * jnp.sqrt(after(count)),
        decay=lambda count: 1 - after(count),
        eps=lambda count: hp.eps * jnp.sqrt(after(count)),
        eps_in_sqrt=False,
    )


def _book_adam(hp):
    return optax.inject_hyperparams(optax.adam)(
        learning_rate=hp.lr,
        b1=hp.b1,
        b2=hp.b2,
        eps=lambda count: hp.eps / jnp.sqrt(1 - hp.b2 ** (count + 1)),
    )


def _outer_eps_rmsprop(hp):
    return optax.rmsprop(hp.lr, hp.rho, hp.eps, eps_in_sqrt=False)


TWINS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda hp: optax.sgd(hp.lr),
    "sgd:book": lambda hp: optax.sgd(hp.lr),
    "momentum": lambda hp: optax.sgd(hp.lr, hp.mu),
    "momentum:book": lambda hp: optax.chain(optax.scale_by_learning_rate(hp.lr), optax.trace(hp.mu)),
    "nesterov": lambda hp: optax.sgd(hp.lr, hp.mu, nesterov=True),
    "nesterov:book": lambda hp: optax.chain(optax.scale_by_learning_rate(hp.lr), optax.trace(hp.mu, nesterov=True)),
    "adagrad": lambda hp: optax.adagrad(hp.lr, hp.h0, hp.eps),
    "adagrad:book": _book_adagrad,
    "adagrad:torch": _book_adagrad,
    "rmsprop": lambda hp: optax.rmsprop(hp.lr, hp.rho, hp.eps),
    "rmsprop:book": _outer_eps_rmsprop,
    "rmsprop:torch": _outer_eps_rmsprop,
    "adam": lambda hp: optax.adam(hp.lr, hp.b1, hp.b2, hp.eps),
    "adam:book": _book_adam,
}
"""`TWINS[NAME](hp)` or `TWINS["NAME:DIALECT"](hp)`: the optax transformation equal to that rule at the same hp."""


def twin(spec: str) -> Rule:
    """The twin of a rule, as a rule: same defaults, optax's arithmetic. Raises `InputError` where there is none."""
    hyper = find(spec).hyper
    if spec not in TWINS:
        raise InputError(f"{spec} has no optax twin; these have one: {', '.join(sorted(TWINS))}.")
    return from_optax(hyper, TWINS[spec])
