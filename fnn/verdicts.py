"""Verdicts: what the seeds say of a claim, as an effect with a 95 % interval, paired by seed.

What depends on random seeds is judged by an interval over them: `decide` and `decide_share`. What theory says exactly
is compared by tolerance: `exact`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from fnn.errors import InputError, listed, real, require

Outcome = Literal["holds", "does not hold", "undecided", "mixed", "not measurable"]
"""*undecided*: the interval contains the bar. *mixed*: of a claim made of several some hold and some do not. *not
measurable*: there was nothing to measure."""

CONFIDENCE = 0.95
EQUAL = 1e-6
"""Values that differ by less, relative to the largest, have no spread: float32's rounding makes as much."""
SKEWED = 1.0
"""From this size on sample skewness is large (Bulmer 1979, Principles of Statistics, §4: "highly skewed")."""
LEAST = 5
"""The fewest values whose skewness is estimated."""
RESAMPLES = 2000
"""Bootstrap samples of an `envelope`."""


@dataclass(frozen=True)
class Setting:
    """What a finding was measured on.

    dataset, checksum: of the data set, "" without one. length: of the training, "2,000 steps" say.
    quick: whether the run was one of `--quick`, which gives effects and no outcomes.
    differs: how the run differs from the experiment's own setting, each in a few words.
    """

    dataset: str = ""
    checksum: str = ""
    length: str = ""
    quick: bool = False
    differs: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The data set and what differs; a quick run differs in most."""
        return ", ".join(part for part in (self.dataset, *(("quick run",) if self.quick else self.differs)) if part)


@dataclass(frozen=True)
class Verdict:
    """A claim, the measured effect (positive speaks for it) with its 95 % interval, and what follows.

    low, high: the interval; of an exact comparison the smallest and the largest gap.
    outcome: None for the effect of a quick run.
    source: where the claim comes from: "claim 7", "question §1.1", "slip §4.3".
    effects: the effect of every seed; none for a share, of which `effect` and `seeds` say all.
    sd: their standard deviation. p: two-sided, of no effect. diverged: the number of seeds without a finite effect.
    method: what the interval is: "t", "ranks", "worst of several" (see `decide_every`), "share" or "exact".
    """

    claim: str
    effect: float
    low: float
    high: float
    unit: str
    seeds: int
    outcome: Outcome | None
    sentence: str
    source: str = ""
    effects: tuple[float, ...] = ()
    sd: float = math.nan
    p: float = math.nan
    diverged: int = 0
    method: str = ""
    setting: Setting = field(default_factory=Setting)

    @property
    def statement(self) -> str:
        """The claim with what it was measured on."""
        return f"{self.claim} [{self.setting}]" if str(self.setting) else self.claim

    def measured_on(self, setting: Setting) -> "Verdict":
        """The same with its setting; without an outcome where that is a quick run."""
        return replace(self, setting=setting, outcome=None if setting.quick else self.outcome)


@dataclass(frozen=True)
class Answer:
    """A question, what the numbers say to it in two or three plain sentences, and the figure that shows it."""

    question: str
    answer: str
    figure: str
    seeds: int
    source: str = ""
    setting: Setting = field(default_factory=Setting)


def intervals(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) over axis 0, the seeds, of `values` `[S, …]`: Student's t interval of the mean, at every S.

    Where all values are equal, and where some are not finite, it is (median, low, high) by ranks, see `by_ranks`: −∞
    and ∞ are the lowest and the highest value, and NaN counts as the lowest in low and as the highest in high.
    """
    values = _numbers(values)
    require(values.ndim > 0, f"An interval is over values one a seed, not over {values!r}.")
    ranks = by_ranks(values, confidence)
    if len(values) < 2:
        return ranks
    by_t = students(np.where(np.isfinite(values), values, 0), confidence)
    mean, low, high = (np.where(_differ(values), *ends) for ends in zip(by_t, ranks, strict=True))
    return mean, low, high


def _differ(values):
    """Whether the values along axis 0, at least one, are finite and differ by more than rounding."""
    finite, _ = _within_range(np.where(np.isfinite(values), values, 0))
    return np.isfinite(values).all(0) & (np.ptp(finite, axis=0) > EQUAL * np.abs(finite).max(0))


def students(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) over axis 0 by Student's t, whatever the values; of one value (mean, −∞, ∞)."""
    from scipy.stats import t

    n = len(values)
    with np.errstate(invalid="ignore", over="ignore"):  # of values that are not finite, or have no finite interval
        values, exponent = _within_range(values)
        mean, spread = np.asarray(values.mean(0)), values.std(0, ddof=1) if n > 1 else np.inf
        reach = np.asarray(t.ppf((1 + confidence) / 2, max(n - 1, 1)) * spread / math.sqrt(n))
        mean, low, high = (np.asarray(np.ldexp(x, exponent)) for x in (mean, mean - reach, mean + reach))
    return mean, low, high


def _within_range(values):
    """The values over a power of 2, at every place, so that squares neither overflow nor vanish; and its exponent."""
    exponent = np.frexp(np.abs(values).max(0))[1]
    return np.ldexp(values, -exponent), exponent


def by_ranks(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(median, low, high) over axis 0, the seeds: the sign test's interval, from one value to another of `[S, …]`.

    Fewer than 6 seeds (at 95 %) have none: (median, −∞, ∞). See `intervals` for values that are not finite.
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
    """The median of sorted values; of two infinite ones in the middle the lower."""
    low, high = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    finite = np.isfinite(low) & np.isfinite(high)
    return np.where(finite, np.where(finite, low, 0) / 2 + np.where(finite, high, 0) / 2, low)


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """(mean, low, high) of one value a seed, `[S]`; see `intervals`. Differences paired by seed go in as such."""
    between = real(confidence, 0, 1) and 0 < confidence < 1
    require(between, f"A confidence lies between 0 and 1, unlike {confidence!r}.")
    mean, low, high = map(float, intervals(_of_seeds(values), confidence))
    return mean, low, high


def _numbers(values):
    """As float64. Raises `InputError` where they are no numbers; none at all are fine."""
    found = _array(values)
    numbers = found.size == 0 or found.dtype.kind in "biuf"
    require(numbers, f"Effects and gaps are numbers, not {values!r:.60}.")
    return found.astype(np.float64)


def _array(values):
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"Effects are an array, not rows of several lengths: {values!r:.60}.") from error


def _of_seeds(values):
    """As float64, one a seed `[S]`. Raises `InputError` for other shapes: what lies along another axis is no seed."""
    found = _numbers(values)
    require(found.ndim == 1, f"An effect is one number a seed, [seeds], not of shape {found.shape}.")
    return found


def _truths(hits):
    """As bool, one a seed `[S]`. Raises `InputError` where one is neither true nor false: a NaN would count as true."""
    found = _array(hits)
    wrong = [hit for hit in found.ravel() if hit not in (0, 1)]
    require(not wrong, f"What is counted in a share is true or false, not {', '.join(map(str, wrong[:3]))}.")
    return _of_seeds(found.astype(bool)).astype(bool)


def _check_text(sentence):
    require(isinstance(sentence, str), f"A verdict's sentence is text, not {sentence!r}.")


def _filled(sentence, **values):
    """The sentence with these in their places."""
    _check_text(sentence)
    try:
        return sentence.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        offers = ", ".join(f"{{{name}}}" for name in values)
        raise InputError(f"The sentence {sentence!r} may use {offers} and nothing else.") from error


def side(values: np.ndarray, bar: float | int = 0) -> Literal[-1, 0, 1]:
    """1 where the interval over seeds is above the bar, −1 where it is below, 0 where it contains the bar."""
    require(real(bar), f"A bar is a number, not {bar!r}.")
    _, low, high = interval(values)
    return 1 if low > bar else -1 if high < bar else 0


def paired(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """`ours − theirs`, `[S]`, of what is better the higher it is, where a run that diverged is the worst.

    −∞ where only ours is not finite, ∞ where only theirs is not; not a number where neither is, which speaks for
    neither (see `intervals`).
    """
    ours, theirs = map(_numbers, (ours, theirs))
    same = ours.shape == theirs.shape and ours.ndim > 0
    require(same, f"Paired are values of the same seeds, not of shape {ours.shape} with {theirs.shape}.")
    ours, theirs = (np.where(np.isfinite(values), values, -np.inf) for values in (ours, theirs))
    with np.errstate(invalid="ignore"):
        return ours - theirs


def middle(values: np.ndarray, worst: float = math.inf) -> float:
    """The mean of `[S]`; where some are not numbers (runs that diverged) the median of all, with those as `worst`."""
    values = _numbers(values).ravel()
    missing = np.isnan(values)
    return float(np.median(np.where(missing, worst, values)) if missing.any() else values.mean())


def skewness(values: np.ndarray) -> float:
    """The sample skewness (Fisher & Pearson's, adjusted for n); 0 for fewer than `LEAST` values or without spread."""
    from scipy.stats import skew

    values = np.asarray(values, np.float64)
    differ = len(values) >= LEAST and _differ(values)
    return float(skew(_within_range(values)[0], bias=False)) if differ else 0.0


def envelope(values: np.ndarray) -> tuple[float, float] | None:
    """(low, high) that hold Student's t and the bootstrap-t interval of the mean; None unless |skewness| > `SKEWED`.

    Bootstrap-t (Efron & Tibshirani 1993, An Introduction to the Bootstrap, §12.5) follows the skewness, which Student's
    t does not: it is wider on the side of the long tail. The generator is seeded: the same values give the same ends.
    """
    if abs(skewness(values)) <= SKEWED:
        return None
    values, exponent = _within_range(np.asarray(values, np.float64))
    n, (mean, low, high) = len(values), interval(values)
    drawn = values[np.random.default_rng(0).integers(n, size=(RESAMPLES, n))]
    spread = drawn.std(1, ddof=1)
    apart = spread > 0
    t = (drawn.mean(1)[apart] - mean) / spread[apart]
    tail = (1 - CONFIDENCE) / 2
    first, last = mean - np.quantile(t, [1 - tail, tail]) * values.std(ddof=1)
    return float(np.ldexp(min(low, first), exponent)), float(np.ldexp(max(high, last), exponent))


def decide(claim: str, effect: np.ndarray, unit: str, sentence: str, source: str = "") -> Verdict:
    """The verdict on a claim that says `effect`, one value a seed, is positive. Raises `InputError` for other effects.

    It *holds* where the whole interval (`interval`) is above 0, *does not hold* where it is below, is *undecided* in
    between and *not measurable* without values. Where seeds have no finite effect (runs that diverged) the interval is
    by ranks: see `paired` for −∞ and ∞; NaN counts against either outcome. `sentence` may use {effect}, {low}, {high},
    {unit}, {seeds}.
    """
    _check_text(sentence)
    effect = _of_seeds(effect)
    by_t = len(effect) > 0 and bool(_differ(effect))
    measured = _measured(effect, _p_by_t(effect) if by_t else _p_by_ranks(effect), "t" if by_t else "ranks")
    text = sentence + _remark(effect, measured.diverged)
    return _verdict(claim, interval(effect), 0.0, unit, len(effect), text, "+.3g", source, measured)


class Measured(NamedTuple):
    """The fields of a `Verdict` that its interval comes from."""

    effects: tuple[float, ...]
    sd: float
    p: float
    diverged: int
    method: str


def _measured(effects, p, method):
    diverged = int((~np.isfinite(effects)).sum())
    return Measured(tuple(effects.tolist()), math.nan if diverged else _sd(effects), p, diverged, method)


def _sd(effects):
    if len(effects) < 2:
        return math.nan
    scaled, exponent = _within_range(effects)
    with np.errstate(over="ignore"):
        return float(np.ldexp(scaled.std(ddof=1), exponent))


def _p_by_t(effect):
    from scipy.stats import t

    n, (scaled, _) = len(effect), _within_range(effect)
    return float(2 * t.sf(abs(scaled.mean()) * math.sqrt(n) / scaled.std(ddof=1), n - 1))


def _p_by_ranks(effect):
    """The sign test's; what is 0 or not a number counts against either side."""
    from scipy.stats import binom

    if np.isnan(effect).all():
        return math.nan
    most = max((effect > 0).sum(), (effect < 0).sum())
    return min(1.0, 2 * float(binom.sf(most - 1, len(effect), 0.5)))


def _remark(effect, diverged):
    """What a reader must know of an interval that is not plain Student's."""
    n = len(effect)
    if np.isnan(effect).all():
        return ""
    if diverged:
        return f" Not finite: {diverged} of {n}, ranked worst; the effect is a median, its interval by ranks."
    if n > 1 and not _differ(effect):
        return f" All {n} values are equal: others have a share below {1 - (1 - CONFIDENCE) ** (1 / n):.0%}."
    if around := envelope(effect):
        return f" Skewness {skewness(effect):+.1f}: with bootstrap-t [{around[0]:+.3g}, {around[1]:+.3g}]."
    return ""


def decide_every(
    claim: str, effect: np.ndarray, points: np.ndarray, unit: str, sentence: str, source: str = ""
) -> Verdict:
    """The verdict on a claim that says `effect` `[S, point]` is positive at every one of `points`: the worst decides.

    The interval accounts for the choice of the worst by Bonferroni's correction: each point's holds with confidence
    1 − 0.05 / n_points, so with at least 95 % all do, and the smallest effect lies between the smallest low and the
    smallest high. `sentence` may use {worst}, the point, beside what `decide` offers.
    """
    effect = _numbers(effect)
    fits = effect.ndim == 2 and listed(points) and effect.shape[1] == len(points) > 0
    require(fits, f"An effect at several points is [seeds, points], of shape {effect.shape} not at {points!r}.")
    n, choices = effect.shape
    means, lows, highs = intervals(effect, 1 - (1 - CONFIDENCE) / choices)
    worst = int(np.nan_to_num(means, nan=-np.inf).argmin())
    measured = _measured(effect[:, worst], math.nan, "worst of several")
    found = float(means[worst]), float(lows.min()), float(highs.min())
    return _verdict(claim, found, 0.0, unit, n, sentence, "+.3g", source, measured, worst=points[worst])


def share(hits: np.ndarray) -> tuple[float, float, float]:
    """(share, low, high): how often `hits` `[S]` is true, with Clopper & Pearson's exact 95 % interval (1934)."""
    from scipy.stats import binomtest

    hits = _truths(hits)
    if not len(hits):
        return math.nan, 0.0, 1.0
    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, "exact")
    return float(hits.mean()), float(found.low), float(found.high)


def decide_share(claim: str, hits: np.ndarray, above: float, sentence: str, source: str = "") -> Verdict:
    """The verdict on a claim that says `hits`, one truth a seed, is true in more than the share `above` of all seeds.

    Decided as `decide` does, by the exact interval of the share. `sentence` may use {effect}, {low}, {high} (percent),
    {unit} and {seeds}.
    """
    from scipy.stats import binom

    hits = _truths(hits)
    require(real(above, 0, 1), f"The share above which a claim holds lies from 0 to 1, unlike {above!r}.")
    n, k = len(hits), int(hits.sum())
    percent = tuple(100 * x for x in share(hits))
    p = min(1.0, 2 * float(min(binom.cdf(k, n, above), binom.sf(k - 1, n, above)))) if n else math.nan
    measured = Measured((), math.nan, p, 0, "share")
    return _verdict(claim, percent, 100 * above, "%", n, sentence, ".3g", source, measured)


def _verdict(claim, found, bar, unit, seeds, sentence, style, source, measured, **more) -> Verdict:
    mean, low, high = found
    outcome: Outcome = "holds" if low > bar else "does not hold" if high < bar else "undecided"
    if math.isnan(mean):
        outcome = "not measurable"
    effect, lowest, highest = (format(x, style) for x in found)
    said = _filled(sentence, effect=effect, low=lowest, high=highest, unit=unit, seeds=seeds, **more)
    return Verdict(claim, mean, low, high, unit, seeds, outcome, said, source, *measured)


def exact(
    claim: str, gap: np.ndarray, tolerance: float | int, sentence: str, source: str = "", unit: str = ""
) -> Verdict:
    """The verdict on a claim of exact theory, which says that no `gap`, one an instance, exceeds `tolerance`.

    It *holds* where none does and *does not hold* where a single one does, or is not a number; there is no interval and
    no least number of instances. `sentence` may use {worst}, the largest gap, {unit} and {seeds}.
    """
    gap = _numbers(gap).ravel()
    bound = tolerance == math.inf or real(tolerance, 0)
    require(bound, f"A tolerance is a number from 0 on, not {tolerance!r}.")
    if not len(gap):
        worst, low, high = math.nan, math.nan, math.nan
        outcome: Outcome = "not measurable"
    else:
        worst, low, high = float(gap.max()), float(np.fmin.reduce(gap)), float(np.fmax.reduce(gap))
        outcome = "holds" if worst <= tolerance else "does not hold"
    said = _filled(sentence, worst=f"{worst:.2g}", unit=unit, seeds=len(gap))
    measured = _measured(gap, math.nan, "exact")._replace(sd=math.nan)
    return Verdict(claim, worst, low, high, unit, len(gap), outcome, said, source, *measured)


def together(outcomes: Iterable[Outcome | None]) -> Outcome | None:
    """The outcome of a claim made of several: theirs where all agree, *mixed* where some hold and some do not.

    What cannot be measured has no say. None where there is no outcome at all.
    """
    found: set[Outcome] = {outcome for outcome in outcomes if outcome is not None}
    if len(found) > 1:
        found.discard("not measurable")
    if {"holds", "does not hold"} <= found or "mixed" in found:
        return "mixed"
    if len(found) == 1:
        return found.pop()
    return "undecided" if found else None
