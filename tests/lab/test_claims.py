"""Claims: each test on made-up effects, several tests of one claim, effects of several places, sentences."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from fnn import lab
from fnn.base.errors import InputError
from fnn.lab import claims, findings
from fnn.lab.findings import Findings
from fnn.lab.verdicts import Verdict, discoveries, holm

SEEDS = 12
SPREAD = np.linspace(-1, 1, SEEDS)
"""Made-up noise of mean 0."""
NOTHING = xr.Dataset()


def claim(values, test, dims="seed", **fields):
    """A claim whose effect is these values."""
    return lab.Claim("It is so", lambda ds: xr.DataArray(values, dims=dims), test, "m", **fields)


def outcome(values, test, **fields):
    return claim(values, test, **fields).verdict(NOTHING).outcome


@pytest.mark.parametrize("bar", [0.0, 5.0, -2])
@pytest.mark.parametrize(("away", "above"), [(2.0, "holds"), (-2.0, "does not hold"), (0.1, "undecided")])
def test_an_effect_is_on_one_side_of_its_bar(bar, away, above):
    opposite = {"holds": "does not hold", "does not hold": "holds", "undecided": "undecided"}
    assert outcome(bar + away + SPREAD, lab.above(bar)) == above
    assert outcome(bar + away + SPREAD, lab.below(bar)) == opposite[above]


def test_the_interval_is_students_and_so_is_the_sentence():
    values = 3.0 + SPREAD
    found = claim(values, lab.above(1), detail="Of {so} much.").verdict(NOTHING)
    expected = stats.ttest_1samp(values, 1.0)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval()
    np.testing.assert_allclose((found.effect, found.low, found.high), (3.0, interval.low, interval.high), rtol=1e-9)
    np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-6)
    assert found.sentence == "+3 m [+2.58, +3.42], 12 seeds. The claim is above 1. Of {so} much."


@pytest.mark.parametrize(
    ("values", "outcome_above"),
    [
        (np.full(SEEDS, -np.inf), "does not hold"),
        (np.full(SEEDS, np.inf), "holds"),
        (np.full(SEEDS, np.nan), "not measurable"),
        (np.r_[np.full(11, 1.0), -np.inf], "holds"),  # one of 12 diverged: the median is still above
        (np.r_[np.full(6, 1.0), np.full(6, -np.inf)], "undecided"),
        (np.r_[np.full(6, 1.0), np.full(6, np.nan)], "undecided"),
        (np.empty(0), "not measurable"),
        (np.ones(5), "undecided"),  # five equal values are no certainty
        (np.ones(6), "holds"),
    ],
)
def test_runs_that_diverged_are_ranked(values, outcome_above):
    assert outcome(values, lab.above(0.0)) == outcome_above


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (0.1 * SPREAD, "holds"),
        (0.9 + 0.1 * SPREAD, "holds"),
        (1.0 + 0.1 * SPREAD, "undecided"),
        (2.0 + 0.1 * SPREAD, "does not hold"),
        (5.0 * SPREAD, "undecided"),
        (np.r_[np.zeros(6), np.full(6, -np.inf)], "undecided"),
        (np.full(SEEDS, np.nan), "not measurable"),
    ],
)
def test_equivalence_needs_both_bounds(values, expected):
    assert outcome(values, lab.within(-1.0, 1.0)) == expected


def test_equivalence_is_claimed_wrongly_in_five_percent_of_cases():
    """A true effect on the bound: two one-sided tests hold in 5 %, and where it is 0 in as many as SciPy's would."""
    rng = np.random.default_rng(0)
    on_bound = 1.0 + 0.3 * rng.normal(size=(1500, SEEDS))
    wrong = np.mean([outcome(one, lab.within(-1, 1)) == "holds" for one in on_bound])
    assert wrong == pytest.approx(0.05, abs=0.015)
    for one in 1.5 * rng.normal(size=(50, SEEDS)):
        lower = stats.ttest_1samp(one, -1.0, alternative="greater").pvalue
        upper = stats.ttest_1samp(one, 1.0, alternative="less").pvalue
        found = claim(one, lab.within(-1, 1)).verdict(NOTHING)
        assert (found.outcome == "holds") == (max(lower, upper) < 0.05)
        if found.outcome == "holds":
            np.testing.assert_allclose(found.p, max(lower, upper), rtol=1e-6)


def test_a_share_has_an_exact_interval():
    hits = np.arange(20) < 17
    found = claim(hits, lab.share(at_least=0.5)).verdict(NOTHING)
    interval = stats.binomtest(17, 20).proportion_ci(method="exact")
    np.testing.assert_allclose((found.low, found.high), (100 * interval.low, 100 * interval.high), rtol=1e-9)
    assert found.outcome == "holds"
    assert outcome(hits, lab.share(at_least=0.9)) == "undecided"
    assert outcome(~hits, lab.share(at_least=0.5)) == "does not hold"
    with pytest.raises(InputError, match="true or false"):
        outcome(np.array([1.0, np.nan]), lab.share(0.5))


def test_one_counterexample_refutes_always():
    assert outcome(np.ones(6, bool), lab.always()) == "holds"
    assert outcome(np.ones(5, bool), lab.always()) == "undecided"
    assert outcome(np.r_[np.ones(999, bool), False], lab.always()) == "does not hold"
    said = claim(np.ones(10, bool), lab.always()).verdict(NOTHING).sentence
    assert said.endswith(f"No exception in 10: their share is below {1 - 0.05 ** (1 / 10):.0%}.")
    assert "1 of 7 are exceptions" in claim(np.arange(7) > 0, lab.always()).verdict(NOTHING).sentence


def test_theory_is_compared_by_tolerance():
    assert outcome(np.array([0.0, 1e-7]), lab.exactly(1e-6)) == "holds"
    assert outcome(np.array([0.0, 1e-5]), lab.exactly(1e-6)) == "does not hold"
    assert outcome(np.array([0.0, np.nan]), lab.exactly(1e-6)) == "does not hold"
    assert outcome(np.array([[0.0], [1.0]]), lab.exactly(0.5), dims=("seed", "layer"), each="layer") == "does not hold"


def places(means, spread=0.1):
    """Effects of these means at as many places."""
    return np.array(means)[None] + spread * SPREAD[:, None]


def at_each(values, test):
    effect = lambda ds: xr.DataArray(values, dims=("seed", "depth"), coords={"depth": [10, 20, 30]})
    return lab.Claim("It is so", effect, test, "m", each="depth").verdict(NOTHING)


@pytest.mark.parametrize(
    ("means", "test", "outcome", "worst", "effect"),
    [
        ([3, 1, 2], lab.above(0.5), "holds", 20, 1.0),
        ([3, 1, 2], lab.above(1.0), "undecided", 20, 1.0),
        ([3, 1, 2], lab.above(1.5), "does not hold", 20, 1.0),
        ([3, 1, 2], lab.below(3.5), "holds", 10, 3.0),
        ([3, 1, 2], lab.below(2.5), "does not hold", 10, 3.0),
        ([-3, np.nan, -2], lab.below(0.0), "not measurable", 20, math.nan),
        ([3, -np.inf, 2], lab.above(0.0), "does not hold", 20, -math.inf),
    ],
)
def test_the_worst_place_decides_in_its_own_numbers(means, test, outcome, worst, effect):
    found = at_each(places(means), test)
    assert found.outcome == outcome
    assert found.sentence.startswith(f"At the worst, depth {worst}: {effect:+.3g} m [")
    np.testing.assert_allclose(found.effect, effect)
    if math.isfinite(effect):
        assert found.low < effect < found.high


def test_the_choice_of_the_worst_costs_confidence():
    """Bonferroni: the interval of one place among three is as wide as one at 98.3 %."""
    values = places([5, 1, 5])
    found = at_each(values, lab.above(0))
    expected = stats.ttest_1samp(values[:, 1], 0).confidence_interval(1 - 0.05 / 3)
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-9)


def test_always_is_about_every_place():
    assert at_each(np.ones((SEEDS, 3), bool), lab.always()).outcome == "holds"
    hits = np.ones((SEEDS, 3), bool)
    hits[4, 1] = False
    found = at_each(hits, lab.always())
    assert found.outcome == "does not hold"
    assert "of 36 cases. 1 of 36 are exceptions" in found.sentence


@pytest.mark.parametrize("test", [lab.within(-1, 1), lab.share(0.5)])
def test_what_is_about_all_seeds_has_no_places(test):
    with pytest.raises(InputError, match="is about each depth: within and share are about all seeds"):
        claim(np.ones((3, 2)), test, each="depth")


@pytest.mark.parametrize(("dims", "each"), [(("seed", "step"), ""), (("step",), ""), (("seed",), "depth"), ((), "")])
def test_an_effect_of_other_dimensions_is_named(dims, each):
    with pytest.raises(InputError, match="The effect of 'It is so' has dimensions"):
        claim(np.ones((3,) * len(dims)), lab.above(0.0), dims=dims, each=each).verdict(NOTHING)


def test_repetitions_need_not_be_seeds():
    found = claim(3.0 + SPREAD, lab.above(1), dims="lap", repeats="lap").verdict(NOTHING)
    assert (found.outcome, found.sentence) == ("holds", "+3 m [+2.58, +3.42], 12 laps. The claim is above 1.")
    assert "12 laps, sd" in findings.table(Findings([("bench", found)], [], []))
    hits = np.ones(SEEDS, bool)
    assert "of 12 laps" in claim(hits, lab.always(), dims="lap", repeats="lap").verdict(NOTHING).sentence
    assert "of 12 laps" in claim(hits, lab.share(0.5), dims="lap", repeats="lap").verdict(NOTHING).sentence
    with pytest.raises(InputError, match="lap"):
        claim(3.0 + SPREAD, lab.above(1), repeats="lap").verdict(NOTHING)


def ladder(p):
    """A verdict that holds with this value of p."""
    return Verdict("It is so", 1.0, 0.5, 1.5, "m", 10, "holds", "", "claim 1", p=p)


def test_holms_adjustment_by_hand():
    """Four tests: 0.01 · 4, 0.02 · 3, 0.03 · 2 = 0.06 and 0.005 · 4; in order 0.02, 0.03, 0.06 and 0.06."""
    found = holm([ladder(p) for p in (0.04, 0.01, 0.03, 0.005)])
    np.testing.assert_allclose([v.p_holm for v in found], [0.06, 0.03, 0.06, 0.02])
    assert [v.outcome for v in found] == ["undecided", "holds", "undecided", "holds"]


def test_holm_adjusts_the_primary_effects_of_one_source():
    weak = 0.9 + 1.4 * SPREAD  # p = 0.006 alone
    p = claim(weak, lab.above(0.0)).verdict(NOTHING).p
    assert 0.05 / 12 < p < 0.05

    def judged(n, **fields):
        return claims.judge([claim(weak, lab.above(0.0), source="claim 1", **fields) for _ in range(n)], NOTHING)

    np.testing.assert_allclose([v.p_holm for v in judged(3)], [3 * p] * 3)
    assert {v.outcome for v in judged(3)} == {"holds"}
    assert {v.outcome for v in judged(20)} == {"undecided"}
    beside = judged(20, secondary=True)
    assert all(math.isnan(v.p_holm) and v.outcome == "holds" for v in beside)
    alone = claims.judge([claim(weak, lab.above(0.0), source=f"claim {i}") for i in range(20)], NOTHING)
    assert {v.outcome for v in alone} == {"holds"}, "claims of other sources"
    unsourced = claims.judge([claim(weak, lab.above(0.0)) for _ in range(20)], NOTHING)
    assert {v.outcome for v in unsourced} == {"holds"}


@pytest.mark.parametrize("seed", range(5))
def test_discoveries_are_benjamini_and_hochbergs(seed):
    rng = np.random.default_rng(seed)
    p = np.r_[rng.uniform(size=60), rng.uniform(0, 0.01, size=40), 0.0, 1.0]
    np.testing.assert_array_equal(discoveries(p), stats.false_discovery_control(p, method="bh") <= 0.05)
    with_gaps = np.r_[p[:50], np.nan, p[50:], np.nan]
    np.testing.assert_array_equal(discoveries(with_gaps)[~np.isnan(with_gaps)], discoveries(p))
    assert not discoveries(with_gaps)[np.isnan(with_gaps)].any()
    assert discoveries(np.empty(0)).shape == (0,)


def test_the_table_gives_the_expected_number_of_false_verdicts():
    several = [ladder(p) for p in (0.001,) * 10 + (0.04, 0.9)]
    beside = [Verdict("", 1.0, 0.5, 1.5, "m", 10, "holds", "", secondary=True, p=0.001), ladder(math.nan)]
    found = Findings([("one", verdict) for verdict in several + beside], [], [])
    said = findings.discoveries(found)
    assert said.startswith("11 of 12 tests are discoveries at a false discovery rate of 5 %")
    assert "0.6 at most are expected to be false" in said
    assert said in " ".join(findings.table(found).split())
    assert findings.discoveries(Findings([], [], [])) == ""
    late = Findings([("one", ladder(p)) for p in (0.001, 0.04, 0.9)], [], [])
    assert "2 that hold or do not hold are not among them" in findings.discoveries(late)


def pairs(**values):
    return xr.Dataset({"loss": (("rule", "seed"), np.array([*values.values()]))}, {"rule": [*values]})


def test_ahead_is_paired_and_a_diverged_run_is_the_worst():
    ds = pairs(a=[1.0, np.nan, 1.0, np.inf], b=[3.0, 3.0, np.inf, np.nan])
    np.testing.assert_array_equal(lab.ahead("loss", "rule", "a", "b", lower=True)(ds), [2, -np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(lab.ahead(lambda ds: ds.loss, "rule", "a", "b")(ds)[0], -2)
    stepped = xr.Dataset({"loss": (("rule", "seed", "step"), np.arange(12.0).reshape(2, 2, 3))}, {"rule": ["a", "b"]})
    np.testing.assert_array_equal(lab.ahead("loss", "rule", "b", "a", over=["step"])(stepped), [6.0, 6.0])
    stepped.loss[0, 1, 2] = np.nan
    np.testing.assert_array_equal(lab.ahead("loss", "rule", "b", "a", over=["step"])(stepped), [6.0, np.inf])


def test_what_the_data_set_lacks_is_not_judged_or_named():
    there = lab.Claim("B is ahead", lab.ahead("loss", "rule", "b", "a"), lab.above(0), where=lab.has("rule", "a", "b"))
    ds = pairs(a=[1.0, 1.0], b=[2.0, 3.0])
    assert len(claims.judge([there], ds)) == 1
    assert claims.judge([there], ds.sel(rule=["a"])) == []
    assert claims.judge([there], xr.Dataset()) == []
    lost = lab.Claim("B is ahead", lab.ahead("error", "rule", "b", "a"), lab.above(0))
    with pytest.raises(InputError, match=r"lacks what the claim 'B is ahead' measures: .*error"):
        claims.judge([lost], ds)


def test_a_verdict_names_its_figure_and_whether_it_decides():
    found = claim(SPREAD, lab.above(0), figure="loss", secondary=True, source="claim 2").verdict(NOTHING)
    assert (found.figure, found.secondary, found.source) == ("loss", True, "claim 2")


def test_attributes_of_the_data_set_are_formatted_into_the_text():
    one = lab.Claim("At lr = {lr:g} it learns", lambda ds: ds.gain, lab.above(0.0))
    ds = xr.Dataset({"gain": ("seed", np.arange(1.0, 9.0))}, attrs={"lr": 0.10})
    (verdict,) = lab.claims.judge([one], ds)
    assert verdict.claim == "At lr = 0.1 it learns"
    with pytest.raises(InputError, match="lacks what the claim"):
        lab.claims.judge([one], ds.drop_attrs())


def test_the_best_place_is_chosen_on_the_other_seeds():
    """Values that are best at place 0 for even seeds and at 1 for odd ones: each is judged where others are best."""
    values = xr.DataArray(np.array([[1.0, 0.0], [0.0, 1.0]] * 4), dims=("seed", "lr"), coords={"lr": [0.1, 0.2]})
    np.testing.assert_array_equal(claims.at_best(values, values, "lr"), np.zeros(8))
    np.testing.assert_array_equal(claims.at_best(values, values, "lr", lower=True), np.ones(8))
    assert np.isnan(claims.at_best(values[:1], values[:1], "lr")).all()
    np.testing.assert_array_equal(claims.at_best(values, values * np.nan, "lr"), np.full(8, np.nan))
