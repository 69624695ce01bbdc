"""What the experiments in the long valley share: f itself, starts on one level of it, descents, exact theory.

f(x, y) = x²/κ + y² is quadratic, so SGD and Momentum are linear here: per step a direction of curvature λ shrinks by
|1 − ηλ| under SGD, and in the long run by the largest root of r² − (1 + α − ηλ) r + α under Momentum.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from fnn import lab, optim
from fnn.base.errors import require
from fnn.base.statistics import side
from fnn.base.types import Hyper, Key, Scalar
from fnn.lab import figures
from fnn.rule import Rule, apply_updates

LARGEST = 2.0
"""L, the curvature along y, the same in every valley x²/κ + y²; the curvature along x is L/κ."""


def valley(w: Float[Array, "2"], condition: Scalar) -> Float[Array, ""]:
    """f(x, y) = x²/condition + y². Its curvatures are 2/condition along x and 2 along y: their ratio is `condition`."""
    return w[0] ** 2 / condition + w[1] ** 2


@dataclass(frozen=True)
class Config(lab.Options):
    """Settings of descents down the valley; the defaults are the notes'."""

    seeds: int = 100
    """Random starts on the level of the notes' start, each from its own key."""
    x: float = -7.0
    """Where the notes start along x."""
    y: float = 2.0
    """Where the notes start along y."""
    condition: float = 20.0
    """The valley is x²/condition + y²."""
    sgd: float = 0.95
    """Learning rate of SGD."""
    momentum: float = 0.1
    """Learning rate of Momentum."""
    alpha: float = 0.9
    """Momentum coefficient α: the share of the velocity that is kept at each step."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_learning_rates("sgd", "momentum")
        self.check_at_least(condition=1)
        require(0 <= self.alpha < 1, f"--alpha is at least 0 and below 1, not {self.alpha}.")
        start = np.array([self.x, self.y])
        require(bool(np.isfinite(start).all() and start.any()), "--x and --y are a point other than the minimum.")

    def check_learning_rates(self, *names: str) -> None:
        """Raise `InputError` for what is no learning rate."""
        for name in names:
            value = getattr(self, name)
            require(0 < value < np.inf, f"--{name} is a learning rate above 0, not {value}.")


def book(name: str) -> Rule:
    """The rule as the notes write it."""
    return optim.rule(f"{name}:book")


def tuned(rule: Rule, lr: Any, alpha: Any) -> Hyper:
    """The rule's hyperparameters at this learning rate and, where it has one, this momentum."""
    given = {"lr": lr, "mu": alpha}
    return rule.hyper._replace(**{name: given[name] for name in rule.hyper._fields if name in given})


def random_start(cfg: Config, key: Key, condition: Any) -> Float[Array, "2"]:
    """A point in the valley of this condition number, at a random angle, as high above the minimum as the notes'
    start."""
    level = valley(jnp.array([cfg.x, cfg.y]), cfg.condition)
    angle = jax.random.uniform(key, maxval=2 * jnp.pi)
    return jnp.sqrt(level) * jnp.array([jnp.sqrt(condition) * jnp.cos(angle), jnp.sin(angle)])


class Path(NamedTuple):
    """A descent: points and values of f `[steps + 1, …]` from the start on, gradients and updates `[steps, …]`."""

    place: Array
    value: Array
    gradient: Array
    move: Array


def descend(rule: Rule, hp: Hyper, condition: Any, start: Float[Array, "2"], steps: int) -> Path:
    """The path of a rule from `start` down the valley."""
    loss = lambda w: valley(w, condition)

    def step(carry, _):
        w, state = carry
        value, g = jax.value_and_grad(loss)(w)
        dw, state = rule.update(hp, g, state, w)
        return (apply_updates(w, dw), state), Path(w, value, g, dw)

    (last, _), path = jax.lax.scan(step, (start, rule.init(hp, start)), length=steps)
    return path._replace(place=jnp.concatenate([path.place, last[None]]), value=jnp.append(path.value, loss(last)))


def curvatures(condition: Any) -> np.ndarray:
    """The curvatures along x and along y, on a new first axis."""
    return np.stack(np.broadcast_arrays(LARGEST / np.asarray(condition), LARGEST))


def factor_of_sgd(lr: Any, condition: Any) -> np.ndarray:
    """What a step of SGD leaves of the distance along the slower direction: the larger |1 − ηλ|."""
    lr, condition = np.broadcast_arrays(lr, condition)
    return abs(1 - lr * curvatures(condition)).max(0)


def factor_of_momentum(lr: Any, alpha: Any, condition: Any) -> np.ndarray:
    """The same for Momentum in the long run: along a direction, the larger root of r² − (1 + α − ηλ) r + α."""
    lr, condition = np.broadcast_arrays(lr, condition)
    half = (1 + alpha - lr * curvatures(condition)) / 2
    root = np.sqrt(half**2 - alpha + 0j)
    return np.maximum(abs(half + root), abs(half - root)).max(0)


def caption(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of the valley: the function, the starts, their number."""
    start = "every seed a random start on the level of the notes' start"
    return figures.caption(ds, "f = x²/{condition:g} + y²", start, *details)


def in_words(gain: Any, words: tuple[str, str, str]) -> str:
    """The first word where the interval of a gain, one value per seed, is above 0, the second where it is below, else
    the third."""
    return {1: words[0], -1: words[1], 0: words[2]}[side(np.asarray(gain))]
