"""Samplers: the next points of a search, as pure functions `(key, history, n) -> points` of the unit cube.

A sampler keeps no state, so a search resumes from its history, and two searches with the same key and history
propose the same points. A higher value is better; one that is not a number, of a network that diverged say, is a
result too: the worst.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fnn.base.errors import listed, real, require, whole
from fnn.base.packages import check_installed
from fnn.base.types import Key
from fnn.search.space import Points


class History(NamedTuple):
    """The finished trials of a search in order: their points `[n, axes]` and values `[n]`, the higher the better."""

    points: Points
    values: Float[np.ndarray, " n"]


def append(history: History, points: Points, values: Float[np.ndarray, " n"]) -> History:
    """The history with these trials appended."""
    fits = np.ndim(points) == 2 and np.shape(values) == np.shape(points)[:1]
    require(
        fits,
        f"Points [n, axes] have values [n]; these have the shapes {np.shape(points)} and {np.shape(values)}.",
    )
    return History(np.concatenate([history.points, points]), np.concatenate([history.values, values]))


Sampler = Callable[[Key, History, int], Points]
"""`(key, history, n) -> points`: at most n points to try next, fewer or none where the search ends before.

The key is that of the whole search: a sampler folds in the number of finished trials, so that no draw is repeated.
"""


def ranked(values: np.ndarray) -> np.ndarray:
    """Indices along the last axis from best to worst; equal values keep their order, in which they were drawn."""
    return np.argsort(-np.nan_to_num(values, nan=-np.inf, neginf=-np.inf), axis=-1, kind="stable")


def _check_axes(axes):
    require(whole(axes, 1), f"A search has at least 1 axis, not {axes!r}.")


def uniform(axes: int) -> Sampler:
    """Random search: trial i depends on the key and i alone. Bergstra & Bengio 2012, JMLR 13, 281–305."""
    _check_axes(axes)

    def propose(key, history, n):
        return _drawn(key, len(history.values), n, axes)

    return propose


def _drawn(key, first, n, axes):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(first, first + n))
    return np.asarray(jax.vmap(lambda k: jax.random.uniform(k, (axes,)))(keys), float).reshape(n, axes)


def lattice(shape: Sequence[int]) -> Sampler:
    """Grid search: the centers of a grid of `shape` cells over the unit cube, the last axis fastest."""
    counts = listed(shape) and len(shape) > 0 and all(whole(count, 1) for count in shape)
    require(
        counts, f"A grid has at least one cell along each axis, unlike {tuple(shape) if listed(shape) else shape!r}."
    )
    centers = [(np.arange(count) + 0.5) / count for count in shape]
    every = np.array(list(itertools.product(*centers)))

    def propose(key, history, n):
        first = len(history.values)
        return every[first : first + n]

    return propose


def quasi_random(axes: int, kind: str = "sobol") -> Sampler:
    """Points that fill the cube more evenly than random ones: scrambled Sobol or Halton sequences of SciPy."""
    from scipy.stats import qmc

    _check_axes(axes)
    kinds = {"sobol": qmc.Sobol, "halton": qmc.Halton}
    require(kind in kinds, f"Quasi-random points are sobol or halton, not {kind!r}.")

    def propose(key, history, n):
        known = len(history.values)
        whole = 2 ** math.ceil(math.log2(known + n))  # a Sobol sequence is balanced when cut at a power of 2
        return kinds[kind](axes, rng=_rng(key)).random(whole)[known : known + n]

    return propose


def narrowing(axes: int, each: int, *, keep: float = 0.2, margin: bool = True) -> Sampler:
    """The notes' search (§5.2): rounds of random trials, each from the range of the best of the round before.

    each: trials per round. keep, margin: see `ranges`. It proposes at most the rest of a round.
    """
    _check_axes(axes)
    require(whole(each, 2), f"A round of narrowing has at least 2 trials, not {each!r}.")
    share = real(keep, 0, 1) and keep > 0
    require(share, f"The share of trials that is kept is above 0 and at most 1, not {keep!r}.")

    def propose(key, history, n):
        known = len(history.values)
        low, high = ranges(axes, each, history, keep=keep, margin=margin)[-1].T
        return low + (high - low) * _drawn(key, known, min(n, each - known % each), axes)

    return propose


def ranges(axes: int, each: int, history: History, *, keep: float = 0.2, margin: bool = True) -> list[np.ndarray]:
    """The ranges `[axis, (low, high)]` of every round of narrowing that is complete, and of the next one.

    keep: the share of a round's trials whose range is the next one.
    margin: widen that range at both ends by the mean gap between the kept trials. The extremes of k uniform points lie
        that far inside their range on average, so without it an optimum at an end is lost.
    """
    rounds = [np.tile([0.0, 1.0], (axes, 1))]
    for first in range(0, len(history.values) - each + 1, each):
        one = slice(first, first + each)
        best = history.points[one][ranked(history.values[one])[: max(2, round(keep * each))]]
        low, high = best.min(0), best.max(0)
        gap = (high - low) / (len(best) - 1) if margin else 0.0
        rounds.append(np.stack([np.maximum(low - gap, 0), np.minimum(high + gap, 1)], axis=-1))
    return rounds


def evolution(axes: int, parents: int = 8, step: float = 0.1) -> Sampler:
    """A steady-state evolution strategy: a random one of the best points plus a Gaussian step, reflected at the ends.

    The (μ + λ) strategy of Beyer & Schwefel 2002, Natural Computing 1, with a step of fixed size. The first `parents`
    trials are random.
    """
    _check_axes(axes)
    require(whole(parents, 1), f"An evolution has at least 1 parent, not {parents!r}.")
    require(real(step) and step > 0, f"A step of evolution is above 0, not {step!r}.")

    def propose(key, history, n):
        known = len(history.values)
        if known < parents:
            return _drawn(key, known, min(n, parents - known), axes)
        best = history.points[ranked(history.values)[:parents]]
        k_parent, k_step = jax.random.split(jax.random.fold_in(key, known))
        child = best[np.asarray(jax.random.randint(k_parent, (n,), 0, len(best)))]
        child = np.abs(child + step * np.asarray(jax.random.normal(k_step, (n, axes)))) % 2
        return 1 - np.abs(1 - child)

    return propose


def cmaes(axes: int, each: int = 6, step: float = 0.3) -> Sampler:
    """CMA-ES: a Gaussian whose mean, size and shape follow the better half of every generation of `each` trials.

    Hansen 2016, arXiv:1604.00772, by the package `cmaes` (extra `search`), which Optuna uses too. It starts at the
    center of the cube with a standard deviation of `step`, and proposes at most the rest of a generation.
    """
    require(whole(axes, 2), f"CMA-ES adapts a shape in at least 2 dimensions, not {axes!r}.")
    require(whole(each, 3), f"A generation of CMA-ES has at least 3 trials, not {each!r}.")
    require(real(step) and step > 0, f"The first step of CMA-ES is above 0, not {step!r}.")
    check_installed("This search", "cmaes")
    from cmaes import CMA

    def propose(key, history, n):
        gaussian = CMA(np.full(axes, 0.5), step, np.tile([0.0, 1.0], (axes, 1)), population_size=each, seed=0)
        known = len(history.values)
        start = known - known % each
        losses = -np.nan_to_num(history.values, nan=-np.inf, neginf=-np.inf)
        for first in range(0, start, each):
            one = slice(first, first + each)
            gaussian.tell(list(zip(history.points[one], losses[one], strict=True)))
        gaussian.reseed_rng(_seed(key, start))
        generation = np.array([gaussian.ask() for _ in range(each)])
        return generation[known - start :][:n]

    return propose


BAYESIAN = ("tpe", "gp")


def bayesian(axes: int, name: str = "tpe", startup: int = 10) -> Sampler:
    """Bayesian search: the point that a model of the finished trials prefers, by Optuna's samplers (extra `search`).

    name: tpe (Bergstra et al. 2011, NeurIPS 24, §4) or gp (a Gaussian process; needs torch). startup: random trials
    before the first model.
    """
    _check_axes(axes)
    require(name in BAYESIAN, f"Bayesian search is {', '.join(BAYESIAN)}, not {name!r}.")
    check_installed("This search", "optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names: dict[str, Any] = {f"u{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(axes)}

    samplers = {
        "tpe": lambda seed: optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed, constant_liar=True),
        "gp": lambda seed: optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed),
    }

    def propose(key, history, n):
        known = len(history.values)
        if known < startup:
            return _drawn(key, known, min(n, startup - known), axes)
        study = optuna.create_study(direction="maximize", sampler=samplers[name](_seed(key, known)))
        worst = np.nanmin(np.where(np.isfinite(history.values), history.values, np.nan), initial=0.0)
        for point, value in zip(history.points, history.values, strict=True):
            study.add_trial(
                optuna.trial.create_trial(
                    params=dict(zip(names, map(float, point), strict=True)),
                    distributions=names,
                    value=float(value) if np.isfinite(value) else float(worst),
                )
            )
        trials = [study.ask(names) for _ in range(n)]
        return np.array([[trial.params[u] for u in names] for trial in trials])

    return propose


def _rng(key):
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32))


def _seed(key, known):
    """A seed for a generator of another library, from the key and the number of finished trials."""
    return int(_rng(jax.random.fold_in(key, known)).integers(2**31))
