"""Statistics over seeds: means and shares with their 95 % intervals, differences of paired seeds, skewness."""

import math
from typing import Literal

import numpy as np

from fnn.base.errors import InputError, real, require

CONFIDENCE = 0.95
EQUAL = 1e-6
"""Values that differ by less, relative to the largest, have no spread: that much is rounding in float32."""
SKEWED = 1.0
"""Sample skewness above this is large (Bulmer 1979, Principles of Statistics, §4: "highly skewed")."""
LEAST = 5
"""The fewest values whose skewness is estimated."""
RESAMPLES = 2000
"""Bootstrap samples of an `envelope`."""


def intervals(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) over axis 0, the seeds, of `values` `[S, …]`: Student's t interval of the mean.

    Where all values are equal, and where some are not finite, it is (median, low, high) by ranks, see `by_ranks`: −∞
    and ∞ are the lowest and the highest value, and NaN counts as the lowest in low and as the highest in high.
    """
    values = as_numbers(values)
    require(values.ndim > 0, f"An interval is over one value per seed, not over {values!r}.")
    ranks = by_ranks(values, confidence)
    if len(values) < 2:
        return ranks
    by_t = students(np.where(np.isfinite(values), values, 0), confidence)
    mean, low, high = (np.where(differ(values), *ends) for ends in zip(by_t, ranks, strict=True))
    return mean, low, high


def differ(values):
    """Whether the values along axis 0 are finite and differ by more than rounding, as bools `[…]`."""
    finite, _ = within_range(np.where(np.isfinite(values), values, 0))
    return np.isfinite(values).all(0) & (np.ptp(finite, axis=0) > EQUAL * np.abs(finite).max(0))


def students(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) over axis 0 by Student's t, for any values; of one value (mean, −∞, ∞)."""
    from scipy.stats import t

    n = len(values)
    with np.errstate(invalid="ignore", over="ignore"):  # of values that are not finite, or have no finite interval
        values, exponent = within_range(values)
        mean, spread = np.asarray(values.mean(0)), values.std(0, ddof=1) if n > 1 else np.inf
        reach = np.asarray(t.ppf((1 + confidence) / 2, max(n - 1, 1)) * spread / math.sqrt(n))
        mean, low, high = (np.asarray(np.ldexp(x, exponent)) for x in (mean, mean - reach, mean + reach))
    return mean, low, high


def within_range(values):
    """The values over a power of 2, along axis 0, so that squares neither overflow nor vanish; and its exponent."""
    exponent = np.frexp(np.abs(values).max(0))[1]
    return np.ldexp(values, -exponent), exponent


def by_ranks(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(median, low, high) over axis 0, the seeds: the sign test's interval, whose ends are two of the values `[S, …]`.

    For fewer than 6 seeds (at 95 %) it is (median, −∞, ∞). See `intervals` for values that are not finite.
    """
    from scipy.stats import binom

    values = np.asarray(values, np.float64)
    n, anything = len(values), np.full(values.shape[1:], np.inf)
    if n == 0:
        return np.asarray(anything * np.nan), np.asarray(-anything), anything
    lowest, highest = (np.sort(np.where(np.isnan(values), worst, values), axis=0) for worst in (-np.inf, np.inf))
    unknown = np.isnan(values).all(0)
    middle = np.where(unknown, np.nan, _median(lowest))
    k = int(binom.ppf((1 - confidence) / 2, n, 0.5)) - 1
    low, high = (lowest[k], highest[n - 1 - k]) if k >= 0 else (-anything, anything)
    return middle, np.asarray(low), np.asarray(high)


def _median(ranked):
    """The median of sorted values; where the two in the middle are not both finite, the lower of them."""
    low, high = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    finite = np.isfinite(low) & np.isfinite(high)
    return np.where(finite, np.where(finite, low, 0) / 2 + np.where(finite, high, 0) / 2, low)


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """(mean, low, high) of one value for each seed, `[S]`, which may be a paired difference; see `intervals`."""
    between = real(confidence, 0, 1) and 0 < confidence < 1
    require(between, f"A confidence lies between 0 and 1, unlike {confidence!r}.")
    mean, low, high = map(float, intervals(per_seed(values), confidence))
    return mean, low, high


def as_numbers(values):
    """The values as an array of float64, which may be empty. Raises `InputError` where they are not numbers."""
    array = _array(values)
    numbers = array.size == 0 or array.dtype.kind in "biuf"
    require(numbers, f"Effects and gaps are numbers, not {values!r:.60}.")
    return array.astype(np.float64)


def _array(values):
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"Effects are an array, not rows of several lengths: {values!r:.60}.") from error


def per_seed(values):
    """The values as float64 `[S]`, one for each seed. Raises `InputError` for other shapes: only axis 0 is of seeds."""
    array = as_numbers(values)
    require(array.ndim == 1, f"An effect is one number per seed, [seeds], not of shape {array.shape}.")
    return array


def truths(hits):
    """The hits as bool `[S]`. Raises `InputError` where one is neither true nor false: a NaN would count as true."""
    array = _array(hits)
    wrong = [hit for hit in array.ravel() if hit not in (0, 1)]
    require(not wrong, f"What is counted in a share is true or false, not {', '.join(map(str, wrong[:3]))}.")
    return per_seed(array.astype(bool)).astype(bool)


def side(values: np.ndarray, bar: float | int = 0) -> Literal[-1, 0, 1]:
    """1 where the interval over seeds is above the bar, −1 where it is below, 0 where it contains the bar."""
    require(real(bar), f"A bar is a number, not {bar!r}.")
    _, low, high = interval(values)
    return 1 if low > bar else -1 if high < bar else 0


def paired(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`first − second`, `[S]`, of values of which the higher is better; one that is not finite is the worst.

    −∞ where only `first` is not finite, ∞ where only `second` is not; NaN, which favors neither, where both are not
    (see `intervals`).
    """
    first, second = map(as_numbers, (first, second))
    same = first.shape == second.shape and first.ndim > 0
    require(same, f"Paired values are of the same seeds, not of shapes {first.shape} and {second.shape}.")
    first, second = (np.where(np.isfinite(values), values, -np.inf) for values in (first, second))
    with np.errstate(invalid="ignore"):
        return first - second


def middle(values: np.ndarray, worst: float = math.inf) -> float:
    """The mean of `[S]`; where some are NaN (runs that diverged) the median of all, with those as `worst`."""
    values = as_numbers(values).ravel()
    missing = np.isnan(values)
    return float(np.median(np.where(missing, worst, values)) if missing.any() else values.mean())


def skewness(values: np.ndarray) -> float:
    """The sample skewness (Fisher & Pearson's, adjusted for n); 0 for fewer than `LEAST` values or without spread."""
    from scipy.stats import skew

    values = np.asarray(values, np.float64)
    spread = len(values) >= LEAST and differ(values)
    return float(skew(within_range(values)[0], bias=False)) if spread else 0.0


def envelope(values: np.ndarray) -> tuple[float, float] | None:
    """(low, high) around the Student's t and the bootstrap-t interval of the mean; None where |skewness| ≤ `SKEWED`.

    Bootstrap-t (Efron & Tibshirani 1993, An Introduction to the Bootstrap, §12.5) is wider on the side of the long
    tail, Student's t is symmetric. The generator has a fixed seed: the same values give the same ends.
    """
    if abs(skewness(values)) <= SKEWED:
        return None
    values, exponent = within_range(np.asarray(values, np.float64))
    n, (mean, low, high) = len(values), interval(values)
    drawn = values[np.random.default_rng(0).integers(n, size=(RESAMPLES, n))]
    spread = drawn.std(1, ddof=1)
    apart = spread > 0
    t = (drawn.mean(1)[apart] - mean) / spread[apart]
    tail = (1 - CONFIDENCE) / 2
    first, last = mean - np.quantile(t, [1 - tail, tail]) * values.std(ddof=1)
    return float(np.ldexp(min(low, first), exponent)), float(np.ldexp(max(high, last), exponent))


def share(hits: np.ndarray) -> tuple[float, float, float]:
    """(share, low, high): the share of true `hits` `[S]`, with Clopper & Pearson's exact 95 % interval (1934)."""
    from scipy.stats import binomtest

    hits = truths(hits)
    if not len(hits):
        return math.nan, 0.0, 1.0
    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, "exact")
    return float(hits.mean()), float(found.low), float(found.high)
