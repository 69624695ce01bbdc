"""Statistics of contenders on a suite of tasks: `[tasks, seeds]` numbers, the lower the better.

Agarwal et al. 2021, arXiv:2108.13264 ("rliable"): intervals by a bootstrap over the runs of each task, the probability
of improvement. Here the tasks are drawn too, so that an interval says what to expect on another task of the kind.
Dolan & Moré 2002, https://doi.org/10.1007/s101070100263: the performance profile, as AlgoPerf's scores use it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fnn.base.errors import require
from fnn.base.statistics import CONFIDENCE

RESAMPLES = 2000
"""Bootstrap samples."""

Values = np.ndarray
"""Numbers `[tasks, seeds]`."""


class Estimate(NamedTuple):
    """A number with the ends of its interval."""

    value: float
    low: float
    high: float


def hierarchical(
    statistic: Callable[..., Any], *values: Values, confidence: float = CONFIDENCE, tasks: bool = True
) -> Estimate:
    """A statistic of one contender's values, or of several's, with its interval by the hierarchical bootstrap.

    Tasks are drawn with replacement, and for each of them its seeds; contenders are paired by task and seed. The
    interval is between percentiles of the statistic of these samples. The generator has a fixed seed.

    statistic: `(*[…, tasks, seeds]) -> […]`, over the last two axes.
    tasks: whether tasks are drawn; without, the interval is for these tasks alone, as rliable's.
    """
    shapes = {np.shape(one) for one in values}
    paired = len(shapes) == 1 and len(next(iter(shapes))) == 2 and min(next(iter(shapes))) > 0
    require(paired, f"Values on a suite are [tasks, seeds] of the same tasks and seeds, not {sorted(shapes)}.")
    n, m = next(iter(shapes))
    rng = np.random.default_rng(0)
    rows = rng.integers(n, size=(RESAMPLES, n)) if tasks else np.broadcast_to(np.arange(n), (RESAMPLES, n))
    columns = rng.integers(m, size=(RESAMPLES, n, m))
    drawn = statistic(*(np.asarray(one)[rows[..., None], columns] for one in values))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(float(statistic(*map(np.asarray, values))), float(low), float(high))


def geometric(ratios: np.ndarray) -> Any:
    """The geometric mean over tasks and seeds, `[…, tasks, seeds]`."""
    return np.exp(np.log(ratios).mean((-2, -1)))


def improvement(first: np.ndarray, second: np.ndarray) -> Any:
    """The probability that a run of `first` is better than one of `second` on the same task, the mean over tasks.

    Of all pairs of runs of a task; a tie counts as half (Mann & Whitney's U over the number of pairs).
    """
    a, b = first[..., :, None], second[..., None, :]
    return ((a < b) + 0.5 * (a == b)).mean((-3, -2, -1))


def profile(times: Mapping[str, Values], ratios: np.ndarray) -> dict[str, np.ndarray]:
    """By contender the share of runs whose time is within each of `ratios` of the best contender's mean on that task.

    times: by contender, infinite where a run does not reach the target. A task that nobody solves counts against all.
    """
    every = np.stack([np.asarray(one) for one in times.values()])
    with np.errstate(invalid="ignore"):
        best = every.mean(-1).min(0)[:, None, None]
        within = lambda one: np.where(np.isfinite(best), one[..., None] <= best * np.asarray(ratios), False)
        return {name: within(one).mean((0, 1)) for name, one in zip(times, every, strict=True)}


def groups(values: Mapping[str, Values], statistic: Callable[..., Any] = geometric) -> list[list[str]]:
    """The contenders from best to worst, in groups whose members cannot be distinguished from their first.

    One is distinguished where the interval of the ratio of its statistic to the first one's, paired, excludes 1.
    """
    ordered = sorted(values, key=lambda name: float(statistic(values[name])))
    found: list[list[str]] = []
    for name in ordered:
        if found:
            ratio = lambda one, other: statistic(one) / statistic(other)
            behind = hierarchical(ratio, values[name], values[found[-1][0]])
            if not behind.low > 1:
                found[-1].append(name)
                continue
        found.append([name])
    return found
