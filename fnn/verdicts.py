"""Verdicts: what the seeds say of a claim, as an effect with a 95 % interval, paired by seed."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Outcome = Literal["holds", "does not hold", "depends"]


@dataclass(frozen=True)
class Verdict:
    """A claim, the measured effect (positive speaks for it) with its 95 % interval, and what follows."""

    claim: str
    effect: float
    low: float
    high: float
    unit: str
    seeds: int
    outcome: Outcome
    sentence: str


FEW = 10
"""Below so many seeds there is too little to resample, and the interval is Student's."""


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): the mean over seeds `[S]` with its 95 % interval; differences paired by seed go in as such.

    From `FEW` seeds on by the bias-corrected and accelerated bootstrap (Efron 1987, J. Am. Stat. Assoc. 82, §§2-6),
    below by Student's t. One seed has no interval: (mean, −∞, ∞). Equal values have no spread: (mean, mean, mean).
    """
    from scipy.stats import bootstrap, t

    values = np.asarray(values, np.float64)
    n, mean = len(values), float(values.mean())
    if not np.isfinite(mean) or n < 2:
        return mean, -math.inf, math.inf
    if np.ptp(values) == 0:
        return mean, mean, mean
    if n < FEW:
        reach = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
        return mean, mean - reach, mean + reach
    # The generator is seeded so that the same data always give the same verdict.
    found = bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    return mean, float(found.low), float(found.high)


def decide(claim: str, effect: np.ndarray, unit: str, sentence: str) -> Verdict:
    """The verdict on a claim that says `effect`, one value a seed, is positive.

    It *holds* where the whole interval is above 0, *does not hold* where it is below, and *depends* (on the seed, as
    far as these many can tell) in between. Seeds whose effect is not a number (a diverged run) make it depend.
    `sentence` may use {effect}, {low}, {high}, {unit}, {seeds}.
    """
    mean, low, high = interval(effect)
    outcome: Outcome = "holds" if low > 0 else "does not hold" if high < 0 else "depends"
    told = sentence.format(effect=f"{mean:+.3g}", low=f"{low:+.3g}", high=f"{high:+.3g}", unit=unit, seeds=len(effect))
    return Verdict(claim, mean, low, high, unit, len(effect), outcome, told)
