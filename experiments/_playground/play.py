"""The interactive data of the report, computed by fnn's rules: the settings of a slider are the axis of a vmap.

Each function returns plain NumPy arrays with an axis for each slider; `pack` makes them small.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments._playground.surfaces import Surface, all_surfaces, any_value
from experiments.updates._valley import LARGEST, book, factor_of_momentum, tuned, valley
from fnn import data, init, layers, models, optim, tasks, train
from fnn.rule import Rule, apply_updates, hyper
from fnn.train import engine


@dataclass(frozen=True)
class Config:
    """The amount of interactive data."""

    steps: int = 60
    """Updates on a surface."""
    factors: int = 25
    """Learning rates of every rule on a surface, a quarter of an octave apart."""
    rates: int = 45
    """Learning rates of the stability plane."""
    momenta: int = 25
    """Momenta of the stability plane."""
    scales: int = 31
    """Initial standard deviations of the weights."""
    depth: int = 10
    """Hidden layers of the networks whose activations are shown."""
    rules: tuple[str, ...] = ()
    """The rules whose sensitivity to the learning rate is measured; none: all."""
    sensitivity_steps: int = 100
    """Updates of the networks whose sensitivity is measured."""


QUICK = Config(steps=12, factors=3, rates=8, momenta=5, scales=5, depth=3, rules=("sgd", "adam"), sensitivity_steps=5)
"""A small configuration, for tests."""

RULES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "lion")
"""The rules on the surfaces: the notes' own, and one of later years."""

KEEPS = {"momentum": "mu", "nesterov": "mu", "adam": "b1", "lion": "b1"}
"""The hyperparameter that the momentum slider sets, for the rules that have one."""

MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)

IN_VALLEY = {"sgd": 0.95, "momentum": 0.1, "nesterov": 0.1, "adagrad": 1.5, "rmsprop": 0.15, "adam": 0.3}
"""The notes' learning rates in their valley, and those of `optimizer_paths` for the rules that the notes do not run."""


class Paths(NamedTuple):
    """base `[rule, surface]`: the learning rate at factor 1; factor `[lr]`; places `[rule, surface, lr, mu, step, 2]`
    and f `[rule, surface, lr, mu, step]`. A rule without momentum has the same path at all momenta."""

    base: np.ndarray
    factor: np.ndarray
    place: np.ndarray
    value: np.ndarray


def paths(cfg: Config) -> Paths:
    """Every rule's descent of every surface, at learning rates around its own and at all momenta.

    A rule's own rate is `optimizer_paths`' in the valleys; elsewhere the one of `cfg.factors` from 10⁻⁵ to 10²
    with the lowest final f at momentum 0.9.
    """
    surfaces = all_surfaces()
    middle = 2 * (cfg.factors - 1) // 3  # more factors below 1 than above: most rules diverge soon
    factor = 2.0 ** ((np.arange(cfg.factors) - middle) / 4)
    base, place, value = [], [], []
    with jax.enable_x64(True):
        for name in tqdm(RULES, desc="paths on surfaces", leave=False):
            many = _descents(book(name) if name in IN_VALLEY else optim.rule(name), name, surfaces, cfg.steps)
            momenta = np.array(MOMENTA if name in KEEPS else MOMENTA[:1])
            own = _own_rates(many, name, surfaces, cfg.factors, momenta)
            w, f = many(np.arange(len(surfaces)), own[:, None] * factor, momenta)
            shape = (len(surfaces), cfg.factors, len(MOMENTA), cfg.steps + 1)
            place.append(np.broadcast_to(w, (*shape, 2)))
            value.append(np.broadcast_to(f, shape))
            base.append(own)
    return Paths(np.stack(base), factor, np.stack(place), np.stack(value))


def _descents(rule: Rule, name: str, surfaces: tuple[Surface, ...], steps: int):
    """(surface `[n]`, lr `[n, l]`, momentum `[m]`) -> places `[n, l, m, steps + 1, 2]` and f without the last axis."""
    starts = jnp.array([surface.start for surface in surfaces], float)

    def one(number, lr, momentum):
        hp = rule.hyper._replace(lr=lr, **({KEEPS[name]: momentum} if name in KEEPS else {}))
        loss = lambda w: any_value(surfaces, number, w)

        def step(carry, _):
            w, state = carry
            dw, state = rule.update(hp, jax.grad(loss)(w), state, w)
            return (apply_updates(w, dw), state), w

        (last, _), places = jax.lax.scan(step, (starts[number], rule.init(hp, starts[number])), length=steps)
        places = jnp.concatenate([places, last[None]])
        return places, jax.vmap(loss)(places)

    over_momenta = jax.vmap(one, (None, None, 0))
    over_rates = jax.vmap(over_momenta, (None, 0, None))
    return jax.jit(jax.vmap(over_rates, (0, 0, None)))


def _own_rates(many: Callable, name: str, surfaces: tuple[Surface, ...], count: int, momenta: np.ndarray) -> np.ndarray:
    """The learning rate at factor 1 on every surface. `many` is called with the shapes of later calls, so that it
    compiles once."""
    candidates = np.logspace(-5, 2, count)
    _, f = many(np.arange(len(surfaces)), np.broadcast_to(candidates, (len(surfaces), count)), momenta)
    usual = MOMENTA.index(0.9) if name in KEEPS else 0
    last = np.nan_to_num(np.asarray(f)[:, :, usual, -1], nan=np.inf)
    known = [surface.name.startswith("valley") and name in IN_VALLEY for surface in surfaces]
    return np.where(known, IN_VALLEY.get(name, np.nan), candidates[last.argmin(1)])


class Plane(NamedTuple):
    """lr `[l]`, momentum `[m]`, condition `[k]`; measured and exact `[k, l, m]`: the factor per step of the distance to
    the minimum in the long run; value `[k, l, m, step]`: f, from the notes' start on."""

    lr: np.ndarray
    momentum: np.ndarray
    condition: np.ndarray
    measured: np.ndarray
    exact: np.ndarray
    value: np.ndarray


LONG = 400
"""Updates after which the factor is measured, over the last half of them."""


def plane(cfg: Config) -> Plane:
    """Momentum in valleys of several condition numbers, over the plane of learning rate and momentum.

    The stable region is 0 < lr < 2 (1 + α) / L. Measured as the ratio of the largest distances of consecutive windows
    of `LONG` / 4 updates, since distances oscillate where a root is complex.
    """
    momenta = np.linspace(0, 0.96, cfg.momenta)
    rates = np.linspace(0, 4.4 / LARGEST, cfg.rates + 1)[1:]
    conditions = np.array([1, 5, 20, 100])
    rule = book("momentum")

    def one(condition, lr, momentum):
        hp = tuned(rule, lr, momentum)
        start = jnp.array([-7.0, 2.0])

        def step(carry, _):
            w, state = carry
            dw, state = rule.update(hp, jax.grad(valley)(w, condition), state, w)
            w = apply_updates(w, dw)
            return (w, state), w

        _, places = jax.lax.scan(step, (start, rule.init(hp, start)), length=LONG)
        far = jnp.abs(places).max(-1).reshape(4, -1).max(-1)
        places = jnp.concatenate([start[None], places[: cfg.steps]])
        return (far[3] / far[1]) ** (2 / LONG), jax.vmap(valley, (0, None))(places, condition)

    with jax.enable_x64(True):
        every = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
        measured, value = jax.jit(every)(conditions.astype(float), rates, momenta)
    exact = factor_of_momentum(rates[:, None], momenta, conditions[:, None, None])
    return Plane(rates, momenta, conditions, np.asarray(measured), exact, np.asarray(value))


class Activations(NamedTuple):
    """std `[s]`; edges of the bins, a row for each of `ACTIVATIONS`; share `[activation, s, layer, bin]` of all
    activations that fall into a bin (ReLU's last bin takes all above it); spread `[activation, s, layer]`: their
    standard deviation."""

    std: np.ndarray
    edges: np.ndarray
    share: np.ndarray
    spread: np.ndarray


ACTIVATIONS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, 4.0)}
UNITS, EXAMPLES, BINS = 100, 1000, 40


def activations(cfg: Config) -> Activations:
    """The notes' §2.2: 1,000 Gaussian examples through layers of 100 units, at many standard deviations of weights."""
    std = np.unique(np.append(np.geomspace(0.003, 3, cfg.scales), (0.01, 0.1, 0.02**0.5, 1)))
    k_x, k_w = jax.random.split(jax.random.key(0))
    x = jax.random.normal(k_x, (EXAMPLES, UNITS))
    keys = jax.random.split(k_w, cfg.depth)
    edges, share, spread = [], [], []
    for name, (low, high) in ACTIVATIONS.items():
        f = getattr(layers, name) if hasattr(layers, name) else getattr(jnp, name)
        bins = jnp.linspace(low, high, BINS + 1)

        def through(scale, f=f, bins=bins):
            def layer(h, key):
                h = f(h @ init.normal(scale)(key, (UNITS, UNITS)))
                inside = jnp.clip(h.ravel(), bins[0], bins[-1])
                return h, (jnp.histogram(inside, bins)[0] / h.size, h.std())

            return jax.lax.scan(layer, x, keys)[1]

        found = jax.jit(lambda scales, through=through: jax.lax.map(through, scales))(jnp.asarray(std, jnp.float32))
        edges.append(np.asarray(bins))
        share.append(np.asarray(found[0]))
        spread.append(np.asarray(found[1]))
    return Activations(std, np.stack(edges), np.stack(share), np.stack(spread))


class Sensitivity(NamedTuple):
    """rules: their names; default `[rule]`: the default learning rate; factor `[l]`: of it; loss `[rule, l]`: the mean
    of the last tenth of training steps, NaN where it is not finite."""

    rules: tuple[str, ...]
    default: np.ndarray
    factor: np.ndarray
    loss: np.ndarray


SEEDS = 3


def sensitivity(cfg: Config) -> Sensitivity:
    """Every rule that has a learning rate, on the embedded digits, at rates from 1/100 to 1,000 times its default.

    49-20-10 on images shrunk to 7 × 7, so that 50 rules take about a minute; ReLU, He's weights, minibatches of 64
    of 1,000 digits; the mean over `SEEDS` seeds, which all rules share.
    """
    digits = data.load("mnist_5k")
    images = digits.x_train[:1000].reshape(-1, 7, 4, 7, 4).mean((2, 4)).astype(np.uint8)
    split = {"train": tasks.Split(jnp.asarray(images), jnp.asarray(digits.y_train[:1000]))}
    task = tasks.classification(lambda hp: models.multilayer((20,), 10), batch=64)
    factor, keys = np.logspace(-2, 3, 21), engine.seeds(SEEDS)
    names, default, loss = [], [], []
    for name in tqdm(cfg.rules or optim.names(), desc="sensitivity", leave=False):
        rule = optim.rule(name)
        rate = hyper.lr_path(rule.hyper)
        if rate is None:
            continue
        run = train.training(task, rule, cfg.sensitivity_steps)

        def one(lr, key, run=run, rule=rule, rate=rate):
            hp = train.Hyper(hyper.put(rule.hyper, rate, lr))
            return train.train(run, cfg.sensitivity_steps, hp, key, split)[1]["loss"]

        own = float(hyper.get(rule.hyper, rate))
        curves = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(own * factor, keys)
        end = np.asarray(curves)[..., -max(1, cfg.sensitivity_steps // 10) :].mean((-1, -2))
        names.append(name)
        default.append(own)
        loss.append(np.where(np.isfinite(end), end, np.nan))
    return Sensitivity(tuple(names), np.array(default), factor, np.stack(loss))
