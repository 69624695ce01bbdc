"""Claims as data: a statement, the effect that measures it, and the test that decides it.

    Claim("He learns faster than Xavier", ahead("loss", "init", "he", "xavier", lower=True), above(0.0), "nats")

An *effect* is a function of the experiment's data set that returns one value for each seed, or for each lap of a
benchmark. `judge` computes the verdicts of claims on a data set, with Holm's adjustment among the primary effects of
one claim of the source.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from fnn.base.errors import InputError, require
from fnn.base.statistics import paired
from fnn.lab import verdicts
from fnn.lab.verdicts import Verdict

Effect = Callable[[xr.Dataset], xr.DataArray]
"""`dataset -> values` along the claim's `repeats`, the seeds, and along its `each` where it has one."""

Test = Callable[["Claim", xr.DataArray, str], Verdict]
"""`(claim, effect, sentence) -> verdict`, effect `[seed]`, or `[seed, each]` where its attribute `each` is true."""


@dataclass(frozen=True)
class Claim:
    """A statement of a source, and how it is tested.

    text: the claim as it is printed; `{lr:g}` is replaced by that attribute of the data set.
    effect: what is measured, one value for each seed; for `share` and `always` one bool for each seed.
    test: `above`, `below`, `within`, `share`, `always` or `exactly`.
    unit: of the effect. source: where the claim comes from, "claim 6" say.
    figure: the name of the figure that shows it.
    each: a dimension of the effect at all of whose coordinates the claim must hold: the worst decides. For the tests
        `above`, `below`, `always` and `exactly`.
    detail: text printed after the effect, or a function of the data set that returns it.
    where: `dataset -> bool`, whether the claim applies to a data set; None: to every one.
    secondary: whether the effect is shown beside the one that decides.
    repeats: the dimension of the repetitions where these are not seeds: the "lap" of a benchmark.
    """

    text: str
    effect: Effect
    test: Test
    unit: str = ""
    source: str = ""
    figure: str = ""
    each: str = ""
    detail: str | Callable[[xr.Dataset], str] = ""
    where: Callable[[xr.Dataset], bool] | None = None
    secondary: bool = False
    repeats: str = "seed"

    def __post_init__(self):
        require(bool(self.text), "A claim has a text.")
        fits = not self.each or getattr(self.test, "each", False)
        require(fits, f"The claim {self.text!r} is about each {self.each}: within and share are about all seeds.")

    def verdict(self, ds: xr.Dataset) -> Verdict:
        """The verdict on a data set, before Holm's adjustment. Raises `InputError` where the effect has other axes."""
        effect = xr.DataArray(self.effect(ds))
        dims = (self.repeats, self.each) if self.each else (self.repeats,)
        fits = set(effect.dims) == set(dims)
        require(fits, f"The effect of {self.text!r} has dimensions {dims}, not {effect.dims}.")
        values = effect.transpose(*dims)
        detail = self.detail(ds) if callable(self.detail) else self.detail
        sentence = detail.replace("{", "{{").replace("}", "}}")
        verdict = self.test(self, values, f" {sentence}" if sentence else "")
        record = {"figure": self.figure, "secondary": self.secondary, "repeats": self.repeats}
        return replace(verdict, claim=self.text.format(**ds.attrs), **record)


def _effect(claim):
    """The template of every effect's sentence."""
    return f"{{effect}} {{unit}} [{{low}}, {{high}}], {{seeds}} {claim.repeats}s."


@dataclass(frozen=True)
class _Side:
    bar: float | int
    below: bool
    each = True

    def __call__(self, claim, effect, sentence):
        side = {"bar": self.bar, "below": self.below}
        beside = f" The claim is {'below' if self.below else 'above'} {self.bar:.3g}." if self.bar else ""
        text = _effect(claim) + beside + sentence
        if not claim.each:
            return verdicts.decide(claim.text, effect.values, claim.unit, text, claim.source, **side)
        at = effect[claim.each].values.tolist()
        places = np.array([f"{place:.4g}" if isinstance(place, float) else place for place in at])
        text = f"At the worst, {claim.each} {{worst}}: {text}"
        return verdicts.decide_every(claim.text, effect.values, places, claim.unit, text, claim.source, **side)


def above(bar: float | int) -> Test:
    """The test that the effect is above the bar, the smallest effect of interest."""
    return _Side(bar, below=False)


def below(bar: float | int) -> Test:
    """The test that the effect is below the bar."""
    return _Side(bar, below=True)


def within(low: float | int, high: float | int) -> Test:
    """The test that the effect lies between the bounds: equivalence, by two one-sided tests."""

    def test(claim, effect, sentence):
        text = f"{_effect(claim)} Equivalent is what lies from {low:g} to {high:g}.{sentence}"
        return verdicts.decide_within(claim.text, effect.values, low, high, claim.unit, text, claim.source)

    return test


def share(at_least: float | int) -> Test:
    """The test that the effect is true in more than this share of all seeds."""

    def test(claim, effect, sentence):
        text = f"In {{effect}} % [{{low}}, {{high}}] of {{seeds}} {claim.repeats}s.{sentence}"
        return verdicts.decide_share(claim.text, effect.values, at_least, text, claim.source)

    return test


@dataclass(frozen=True)
class _Always:
    each = True

    def __call__(self, claim, effect, sentence):
        text = f"In {{effect}} % of {{seeds}} {'cases' if claim.each else f'{claim.repeats}s'}.{sentence}"
        return verdicts.decide_always(claim.text, effect.values.ravel(), text, claim.source)


def always() -> Test:
    """The test that the effect is true for every seed, and all of `each`: one counterexample refutes the claim."""
    return _Always()


@dataclass(frozen=True)
class _Exactly:
    tolerance: float | int
    each = True

    def __call__(self, claim, effect, sentence):
        text = f"The largest gap is {{worst}} {{unit}}, of {{seeds}} instances.{sentence}"
        return verdicts.exact(claim.text, effect.values, self.tolerance, text, claim.source, claim.unit)


def exactly(tolerance: float | int) -> Test:
    """The test that the gap to theory is at most this, at every instance."""
    return _Exactly(tolerance)


def ahead(
    of: str | Effect, dim: str, first: Any, second: Any, *, lower: bool = False, over: Sequence[str] = ()
) -> Effect:
    """The effect by how much `first` is better than `second` along `dim`, paired by seed.

    of: a variable of the data set, or a function of it. lower: whether lower is better. over: dimensions that are
    averaged. A run that diverged is the worst: −∞ or ∞ where one of a pair did.
    """

    def effect(ds):
        values = ds[of] if isinstance(of, str) else of(ds)
        values = values.mean(over, skipna=False) if over else values
        one, other = (values.sel({dim: name}, drop=True) for name in (first, second))
        one, other = (-one, -other) if lower else (one, other)
        one, other = xr.broadcast(one, other)
        return one.copy(data=paired(one.values, other.values))

    return effect


def at_best(values: xr.DataArray, by: xr.DataArray, dim: str, *, lower: bool = False) -> xr.DataArray:
    """`values` of each seed at the coordinate of `dim` that is best by the mean of `by` over the other half of seeds.

    The halves are the even and the odd seeds, so what is chosen on some seeds is judged on others. With 16 coordinates
    of equal effect 0 and 12 seeds, the chosen one is found above 0 in 5 % of cases and below in 3 %; with one seed left
    out at a time it would be 15 % and 16 %, since each seed's value decides near ties against it.
    lower: whether lower `by` is better. A coordinate where `by` is not finite at one of the other seeds is not chosen;
    the result is NaN where none is left, and where there is a single seed.
    """
    score = by if lower else -by
    score = score.where(abs(score) < np.inf, np.inf)
    place = np.arange(score.sizes["seed"]) % 2
    if len(place) < 2:
        return values.isel({dim: 0}).astype(float) * np.nan
    halves: list[xr.DataArray] = []
    for half in (0, 1):
        choosing = score.isel(seed=place != half).mean("seed")
        judged = values.isel(seed=place == half).isel({dim: choosing.argmin(dim)})
        halves.append(judged.where((choosing < np.inf).any(dim)))
    return xr.concat(halves, "seed", coords="different", compat="equals").isel(
        seed=np.argsort(np.argsort(place, kind="stable"))
    )


def judge(claims: Iterable[Claim], ds: xr.Dataset) -> list[Verdict]:
    """The verdicts of the claims that apply to the data set, with Holm's adjustment within each claim of the source.

    The primary effects of one source, "claim 6" say, are parts of one claim. Raises `InputError` where an effect cannot
    be computed.
    """
    found = []
    for claim in claims:
        if claim.where is not None and not claim.where(ds):
            continue
        try:
            found.append(claim.verdict(ds))
        except (KeyError, AttributeError) as error:
            raise InputError(f"The data set lacks what the claim {claim.text!r} measures: {error}.") from error
    adjusted = list(found)
    for source in {verdict.source for verdict in found if verdict.source}:
        places = [i for i, verdict in enumerate(found) if verdict.source == source]
        for i, verdict in zip(places, verdicts.holm([found[i] for i in places]), strict=True):
            adjusted[i] = verdict
    return adjusted


def has(dim: str, *names: Any) -> Callable[[xr.Dataset], bool]:
    """The `where` of a claim about these coordinates of a dimension: whether a data set has them all."""
    return lambda ds: dim in ds.coords and set(names) <= set(np.atleast_1d(ds[dim].values).tolist())
