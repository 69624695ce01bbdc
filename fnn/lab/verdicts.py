"""Verdicts: the outcome of a claim, with its effect and 95 % interval over seeds.

Effects that depend on random seeds are tested by an interval over them: `decide` and `decide_share`. Exact theory is
compared by tolerance: `exact`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from fnn.base.errors import InputError, listed, real, require
from fnn.base.statistics import (
    CONFIDENCE,
    as_numbers,
    differ,
    envelope,
    interval,
    intervals,
    per_seed,
    share,
    skewness,
    truths,
    within_range,
)

Outcome = Literal["holds", "does not hold", "undecided", "mixed", "not measurable"]
"""*undecided*: the interval contains the bar. *mixed*: of a claim made of several some hold and some do not. *not
measurable*: there was nothing to measure."""


@dataclass(frozen=True)
class Setting:
    """What a finding was measured on, and how that differs from the experiment's default.

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
    """A claim, its measured effect with the 95 % interval, and the outcome of its test.

    low, high: the interval; of an exact comparison the smallest and the largest gap.
    outcome: None for the effect of a quick run.
    source: where the claim comes from: "claim 7", "question §1.1", "slip §4.3".
    effects: the effect of every seed; none for a share, which `effect` and `seeds` determine.
    sd: their standard deviation. p: the two-sided p-value against the bar. diverged: the number of seeds without a
        finite effect.
    method: what the interval is: "t", "ranks", "worst of several" (see `decide_every`), "share", "equivalence" (see
        `decide_within`), "always" or "exact".
    bar: what the effect is compared with. p_holm: p adjusted for the other primary effects of the same claim.
    figure: the name of the figure that shows it. secondary: whether it is shown beside the effect that decides.
    repeats: what `seeds` counts: the "seed", or the "lap" of a benchmark.
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
    bar: float = 0.0
    p_holm: float = math.nan
    figure: str = ""
    secondary: bool = False
    repeats: str = "seed"
    setting: Setting = field(default_factory=Setting)

    @property
    def statement(self) -> str:
        """The claim, with its setting in brackets."""
        return f"{self.claim} [{self.setting}]" if str(self.setting) else self.claim

    def measured_on(self, setting: Setting) -> "Verdict":
        """The verdict with this setting; without an outcome where that is a quick run."""
        return replace(self, setting=setting, outcome=None if setting.quick else self.outcome)


@dataclass(frozen=True)
class Answer:
    """An open question, its answer in two or three plain sentences, and the figure that shows it."""

    question: str
    answer: str
    figure: str
    seeds: int
    source: str = ""
    setting: Setting = field(default_factory=Setting)


def _check_text(sentence):
    require(isinstance(sentence, str), f"A verdict's sentence is text, not {sentence!r}.")


def _filled(sentence, **values):
    """The sentence with these values. Raises `InputError` where it names others."""
    _check_text(sentence)
    try:
        return sentence.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        offers = ", ".join(f"{{{name}}}" for name in values)
        raise InputError(f"The sentence {sentence!r} may use {offers} and nothing else.") from error


def decide(
    claim: str,
    effect: np.ndarray,
    unit: str,
    sentence: str,
    source: str = "",
    *,
    bar: float | int = 0,
    below: bool = False,
) -> Verdict:
    """The verdict on a claim that says `effect`, one value for each seed, is above the bar, or below it.

    It *holds* where the whole interval (`interval`) is on that side, *does not hold* where it is on the other, is
    *undecided* in between and *not measurable* without values. Where seeds have no finite effect (runs that diverged)
    the interval is by ranks: see `paired` for −∞ and ∞; NaN counts against either outcome. `sentence` may use {effect},
    {low}, {high}, {unit}, {seeds}. Raises `InputError` where the effect is not one number per seed.
    """
    _check_text(sentence)
    require(real(bar), f"A bar is a number, not {bar!r}.")
    effect = per_seed(effect)
    by_t = len(effect) > 0 and bool(differ(effect))
    measured = _measured(effect, _p_by_t(effect - bar) if by_t else _p_by_ranks(effect - bar), "t" if by_t else "ranks")
    text = sentence + _remark(effect, measured.diverged)
    found = interval(effect)
    return _verdict(claim, found, float(bar), unit, len(effect), text, "+.3g", source, measured, below)


def decide_within(
    claim: str, effect: np.ndarray, low: float | int, high: float | int, unit: str, sentence: str, source: str = ""
) -> Verdict:
    """The verdict on a claim of equivalence, which says that `effect`, one value per seed, lies between the bounds.

    Two one-sided tests at 5 % (Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15, 657–680): it *holds* where
    both bounds are excluded, that is where the 90 % interval lies within them; it *does not hold* where the 95 %
    interval lies outside, and is *undecided* otherwise. `sentence` as in `decide`.
    """
    _check_text(sentence)
    require(real(low) and real(high) and low < high, f"Equivalence is within rising bounds, not {low!r} and {high!r}.")
    effect = per_seed(effect)
    n = len(effect)
    mean, lowest, highest = interval(effect)
    _, inner_low, inner_high = interval(effect, 1 - 2 * (1 - CONFIDENCE)) if n else (math.nan, -math.inf, math.inf)
    by_t = n > 1 and bool(differ(effect))
    outcome: Outcome = "undecided"
    if math.isnan(mean):
        outcome = "not measurable"
    elif low < inner_low and inner_high < high:
        outcome = "holds"
    elif highest < low or lowest > high:
        outcome = "does not hold"
    p = math.nan
    if by_t:
        nearest = min((low, high), key=lambda bound: abs(mean - bound))
        p = _p_by_t(effect - nearest) / (2 if low <= mean <= high else 1)
    measured = _measured(effect, p, "equivalence")
    shown = (format(x, "+.3g") for x in (mean, lowest, highest))
    text = _filled(sentence, **dict(zip(("effect", "low", "high"), shown, strict=True)), unit=unit, seeds=n)
    verdict = Verdict(claim, mean, lowest, highest, unit, n, outcome, text, source, *measured)
    return replace(verdict, bar=float(high))


def decide_always(claim: str, hits: np.ndarray, sentence: str, source: str = "") -> Verdict:
    """The verdict on a claim that says `hits`, a bool for each instance, is always true: one counterexample refutes it.

    Without one it *holds* from 6 instances on, and the sentence bounds the share of exceptions: with n instances below
    1 − 0.05^(1/n) at 95 % confidence. `sentence` may use {effect}, the share of hits in percent, {unit} and {seeds}.
    """
    hits = truths(hits)
    n, misses = len(hits), int((~hits).sum())
    percent = [100 * x for x in share(hits)]
    outcome: Outcome = "not measurable" if n == 0 else "does not hold" if misses else "holds" if n >= 6 else "undecided"
    bound = (
        f" No exception in {n}: their share is below {1 - (1 - CONFIDENCE) ** (1 / n):.0%}." if n and not misses else ""
    )
    exceptions = f" {misses} of {n} are exceptions." if misses else ""
    text = _filled(sentence, effect=f"{percent[0]:.3g}", unit="%", seeds=n) + bound + exceptions
    measured = Measured((), math.nan, math.nan, 0, "always")
    mean, low, high = percent
    return Verdict(claim, mean, low, high, "%", n, outcome, text, source, *measured, bar=100.0)


def holm(verdicts: Sequence[Verdict], level: float | int = 1 - CONFIDENCE) -> list[Verdict]:
    """The verdicts of the primary effects of one claim, with p adjusted so that all are right at this level.

    Holm 1979, Scandinavian Journal of Statistics 6, 65–70: the k-th smallest of m p-values is multiplied by
    m − k + 1, and none is below the one before. An outcome with an adjusted p above the level becomes *undecided*.
    """
    tested = sorted((v.p, i) for i, v in enumerate(verdicts) if v.p == v.p and not v.secondary)
    adjusted, least = list(verdicts), 0.0
    for k, (p, i) in enumerate(tested):
        least = min(1.0, max(least, p * (len(tested) - k)))
        decided = verdicts[i].outcome in ("holds", "does not hold")
        outcome = "undecided" if decided and least > level else verdicts[i].outcome
        adjusted[i] = replace(verdicts[i], p_holm=least, outcome=outcome)
    return adjusted


def discoveries(p: np.ndarray, rate: float | int = 1 - CONFIDENCE) -> np.ndarray:
    """Which of the tests with these p-values `[n]` are discoveries; the expected share of false ones is at most `rate`.

    Benjamini & Hochberg 1995, Journal of the Royal Statistical Society B 57, 289–300. NaN is not a discovery.
    """
    p = as_numbers(p)
    order = np.argsort(np.where(np.isnan(p), np.inf, p))
    m = int((~np.isnan(p)).sum())
    below = [k for k in range(m) if p[order[k]] <= rate * (k + 1) / m]
    found = np.zeros(len(p), bool)
    found[order[: max(below) + 1 if below else 0]] = True
    return found


class Measured(NamedTuple):
    """The fields of a `Verdict` that describe its sample and interval."""

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
    scaled, exponent = within_range(effects)
    with np.errstate(over="ignore"):
        return float(np.ldexp(scaled.std(ddof=1), exponent))


def _p_by_t(effect):
    from scipy.stats import t

    n, (scaled, _) = len(effect), within_range(effect)
    return float(2 * t.sf(abs(scaled.mean()) * math.sqrt(n) / scaled.std(ddof=1), n - 1))


def _p_by_ranks(effect):
    """The p-value of the sign test; zeros and NaN count against either side."""
    from scipy.stats import binom

    if np.isnan(effect).all():
        return math.nan
    most = max((effect > 0).sum(), (effect < 0).sum())
    return min(1.0, 2 * float(binom.sf(most - 1, len(effect), 0.5)))


def _remark(effect, diverged):
    """A sentence on an interval that is not plain Student's; "" for one that is."""
    n = len(effect)
    if np.isnan(effect).all():
        return ""
    if diverged:
        return f" Not finite: {diverged} of {n}, ranked worst; the effect is a median, its interval by ranks."
    if n > 1 and not differ(effect):
        return f" All {n} values are equal: others have a share below {1 - (1 - CONFIDENCE) ** (1 / n):.0%}."
    if around := envelope(effect):
        return f" Skewness {skewness(effect):+.1f}: with bootstrap-t [{around[0]:+.3g}, {around[1]:+.3g}]."
    return ""


def decide_every(
    claim: str,
    effect: np.ndarray,
    points: np.ndarray,
    unit: str,
    sentence: str,
    source: str = "",
    *,
    bar: float | int = 0,
    below: bool = False,
) -> Verdict:
    """The verdict on a claim that says `effect` `[S, point]` is above the bar, or below it, at every one of `points`.

    The worst decides. The interval accounts for its choice by Bonferroni's correction: each point's holds with
    confidence 1 − 0.05 / n_points, so with at least 95 % all do, and the smallest effect lies between the smallest low
    and the smallest high. `sentence` may use {worst}, the point, beside what `decide` offers.
    """
    require(real(bar), f"A bar is a number, not {bar!r}.")
    effect = as_numbers(effect)
    fits = effect.ndim == 2 and listed(points) and effect.shape[1] == len(points) > 0
    require(fits, f"An effect at several points is [seeds, points], of shape {effect.shape} not at {points!r}.")
    n, choices = effect.shape
    sign = -1 if below else 1
    means, lows, highs = intervals(sign * effect, 1 - (1 - CONFIDENCE) / choices)
    worst = int(np.nan_to_num(means, nan=-np.inf).argmin())
    measured = _measured(effect[:, worst], math.nan, "worst of several")
    low, high = sorted((sign * float(lows.min()), sign * float(highs.min())))
    found = sign * float(means[worst]), low, high
    return _verdict(claim, found, float(bar), unit, n, sentence, "+.3g", source, measured, below, worst=points[worst])


def decide_share(claim: str, hits: np.ndarray, above: float | int, sentence: str, source: str = "") -> Verdict:
    """The verdict on a claim that `hits`, a bool for each seed, is true in more than the share `above` of all seeds.

    Decided as `decide` does, by the exact interval of the share. `sentence` may use {effect}, {low}, {high} (percent),
    {unit} and {seeds}.
    """
    from scipy.stats import binom

    hits = truths(hits)
    require(real(above, 0, 1), f"The share above which a claim holds lies from 0 to 1, unlike {above!r}.")
    n, k = len(hits), int(hits.sum())
    percent = tuple(100 * x for x in share(hits))
    p = min(1.0, 2 * float(min(binom.cdf(k, n, above), binom.sf(k - 1, n, above)))) if n else math.nan
    measured = Measured((), math.nan, p, 0, "share")
    return _verdict(claim, percent, 100 * above, "%", n, sentence, ".3g", source, measured)


def _verdict(claim, found, bar, unit, seeds, sentence, style, source, measured, below=False, **more) -> Verdict:
    mean, low, high = found
    holds, refuted = (high < bar, low > bar) if below else (low > bar, high < bar)
    outcome: Outcome = "holds" if holds else "does not hold" if refuted else "undecided"
    if math.isnan(mean):
        outcome = "not measurable"
    effect, lowest, highest = (format(x, style) for x in found)
    text = _filled(sentence, effect=effect, low=lowest, high=highest, unit=unit, seeds=seeds, **more)
    return Verdict(claim, mean, low, high, unit, seeds, outcome, text, source, *measured, bar=bar)


def exact(
    claim: str, gap: np.ndarray, tolerance: float | int, sentence: str, source: str = "", unit: str = ""
) -> Verdict:
    """The verdict on a claim of exact theory, which says that no `gap`, one for each instance, exceeds `tolerance`.

    It *holds* where none does and *does not hold* where a single one does, or is not a number; there is no interval,
    and one instance suffices. `sentence` may use {worst}, the largest gap, {unit} and {seeds}.
    """
    gap = as_numbers(gap).ravel()
    bound = tolerance == math.inf or real(tolerance, 0)
    require(bound, f"A tolerance is a number from 0 on, not {tolerance!r}.")
    if not len(gap):
        worst, low, high = math.nan, math.nan, math.nan
        outcome: Outcome = "not measurable"
    else:
        worst, low, high = float(gap.max()), float(np.fmin.reduce(gap)), float(np.fmax.reduce(gap))
        outcome = "holds" if worst <= tolerance else "does not hold"
    text = _filled(sentence, worst=f"{worst:.2g}", unit=unit, seeds=len(gap))
    measured = _measured(gap, math.nan, "exact")._replace(sd=math.nan)
    return Verdict(claim, worst, low, high, unit, len(gap), outcome, text, source, *measured)


def together(outcomes: Iterable[Outcome | None]) -> Outcome | None:
    """The outcome of a claim made of several: the common one; *mixed* where some hold and some do not; *undecided*.

    *Not measurable* ones are ignored beside others. None where there is no outcome at all.
    """
    found: set[Outcome] = {outcome for outcome in outcomes if outcome is not None}
    if len(found) > 1:
        found.discard("not measurable")
    if {"holds", "does not hold"} <= found or "mixed" in found:
        return "mixed"
    if len(found) == 1:
        return found.pop()
    return "undecided" if found else None
