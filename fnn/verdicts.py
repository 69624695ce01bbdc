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
    source: str = ""
    """Where the claim comes from: "claim 7", "question §1.1", "slip §4.3"."""


@dataclass(frozen=True)
class Answer:
    """A question, what the numbers say to it in two or three plain sentences, and the figure that shows it."""

    question: str
    answer: str
    figure: str
    seeds: int
    source: str = ""


FEW = 10
"""Below so many seeds there is too little to resample, and the interval is Student's."""


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): the mean over seeds `[S]` with its 95 % interval; differences paired by seed go in as such.

    From `FEW` seeds on by the bias-corrected and accelerated bootstrap (Efron 1987, J. Am. Stat. Assoc. 82, §§2-6),
    below by Student's t. One seed has no interval: (mean, −∞, ∞). Values that are equal up to rounding have no spread:
    (mean, mean, mean).
    """
    from scipy.stats import bootstrap, t

    values = np.asarray(values, np.float64)
    n, mean = len(values), float(values.mean())
    if not np.isfinite(mean) or n < 2:
        return mean, -math.inf, math.inf
    if np.ptp(values) <= 1e-12 * np.abs(values).max():  # what differs by rounding only has nothing to resample
        return mean, mean, mean
    if n < FEW:
        reach = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
        return mean, mean - reach, mean + reach
    # The generator is seeded so that the same data always give the same verdict.
    found = bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    return mean, float(found.low), float(found.high)


def decide(claim: str, effect: np.ndarray, unit: str, sentence: str, source: str = "") -> Verdict:
    """The verdict on a claim that says `effect`, one value a seed, is positive.

    It *holds* where the whole interval is above 0, *does not hold* where it is below, and *depends* (on the seed, as
    far as these many can tell) in between. Seeds whose effect is not a number (a diverged run) make it depend.
    `sentence` may use {effect}, {low}, {high}, {unit}, {seeds}.
    """
    return _verdict(claim, interval(effect), 0.0, unit, len(effect), sentence, "+.3g", source)


def share(hits: np.ndarray) -> tuple[float, float, float]:
    """(share, low, high): how often `hits` `[S]` is true, with Clopper & Pearson's exact 95 % interval (1934)."""
    from scipy.stats import binomtest

    hits = np.asarray(hits, bool)
    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, "exact")
    return float(hits.mean()), float(found.low), float(found.high)


def decide_share(claim: str, hits: np.ndarray, above: float, sentence: str, source: str = "") -> Verdict:
    """The verdict on a claim that says `hits`, one truth a seed, is true in more than the share `above` of all seeds.

    Decided as `decide` does, by the exact interval of the share. `sentence` may use {effect}, {low}, {high} (percent),
    {unit} and {seeds}.
    """
    percent = tuple(100 * x for x in share(hits))
    return _verdict(claim, percent, 100 * above, "%", len(hits), sentence, ".3g", source)


def _verdict(claim, found, bar, unit, seeds, sentence, style, source) -> Verdict:
    mean, low, high = found
    outcome: Outcome = "holds" if low > bar else "does not hold" if high < bar else "depends"
    effect, lowest, highest = (format(x, style) for x in found)
    told = sentence.format(effect=effect, low=lowest, high=highest, unit=unit, seeds=seeds)
    return Verdict(claim, mean, low, high, unit, seeds, outcome, told, source)
