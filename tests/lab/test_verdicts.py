"""Verdicts: intervals that cover, outcomes that follow them, exact shares, ranks where runs diverge."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from fnn import store
from fnn.base import statistics
from fnn.base.errors import InputError
from fnn.base.statistics import envelope, interval, paired, share
from fnn.lab import findings, results, verdicts
from fnn.lab.verdicts import Answer, Setting, decide, decide_share, exact, together

POPULATIONS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "lognormal": lambda rng, size: rng.lognormal(0, 0.7, size) - np.exp(0.7**2 / 2),
    "t3": lambda rng, size: rng.standard_t(3, size),
}
KNOWN = {
    # Seeds: (coverage, false "holds") of Student's t with 4,000,000 samples.
    "normal": {5: (0.950, 0.025), 10: (0.950, 0.025), 12: (0.950, 0.025), 20: (0.950, 0.025), 30: (0.950, 0.025)},
    "lognormal": {5: (0.884, 0.003), 10: (0.896, 0.003), 12: (0.900, 0.003), 20: (0.910, 0.004), 30: (0.919, 0.005)},
    "t3": {5: (0.963, 0.019), 10: (0.959, 0.020), 12: (0.959, 0.020), 20: (0.957, 0.021), 30: (0.956, 0.022)},
}
"""A mean of 0 in all three populations."""


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n", [5, 10, 12, 20, 30])
def test_intervals_cover_as_students_do_at_every_number_of_seeds(population, n):
    _, low, high = statistics.intervals(POPULATIONS[population](np.random.default_rng(n), (n, 20_000)))
    coverage, false_holds = KNOWN[population][n]
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(coverage, abs=0.015)
    assert (low > 0).mean() == pytest.approx(false_holds, abs=0.015)


def test_one_sample_has_the_interval_of_all():
    values = np.random.default_rng(0).lognormal(size=(12, 3))
    found = np.array([interval(column) for column in values.T]).T
    np.testing.assert_allclose(statistics.intervals(values), found, rtol=1e-12)
    from scipy.stats import ttest_1samp

    expected = ttest_1samp(values, 0).confidence_interval()
    np.testing.assert_allclose(found[1:], [expected.low, expected.high], rtol=1e-9)
    _, low, high = interval(values[:, 0], 0.99)
    assert low < found[1, 0] < found[2, 0] < high


def test_the_envelope_covers_better_where_values_are_skewed():
    samples = POPULATIONS["lognormal"](np.random.default_rng(3), (800, 10))
    ends = [interval(one)[1:] for one in samples]
    wide = [envelope(one) or end for one, end in zip(samples, ends, strict=True)]
    covered, wider = (np.mean([low <= 0 <= high for low, high in found]) for found in (ends, wide))
    assert covered + 0.01 < wider < 0.96
    assert all(a <= low and high <= b for (a, b), (low, high) in zip(wide, ends, strict=True))


def test_only_large_skewness_has_an_envelope_and_it_is_named():
    skewed = np.exp(np.arange(10.0))
    assert statistics.skewness(skewed) > statistics.SKEWED
    low, high = envelope(skewed)
    mean, t_low, t_high = interval(skewed)
    assert low <= t_low < mean < t_high < high
    assert envelope(skewed) == (low, high), "the same values, the same ends"
    assert "bootstrap-t" in decide("a claim", skewed, "", "").sentence
    for plain in (np.arange(10.0), skewed[:4], np.ones(10), np.append(skewed, np.inf)):
        assert envelope(plain) is None
    assert decide("a claim", np.arange(10.0), "", "").sentence == ""


@pytest.mark.parametrize(
    ("effect", "outcome"),
    [
        ([1.0, 1.1, 0.9, 1.05], "holds"),
        ([-1.0, -1.1, -0.9, -1.05], "does not hold"),
        ([1.0, -1.0, 0.5, -0.6], "undecided"),
        ([1.0], "undecided"),
        ([], "not measurable"),
        ([np.nan] * 8, "not measurable"),
        ([2.0, 2.0], "undecided"),
        ([2.0] * 5, "undecided"),
        ([2.0] * 6, "holds"),
        ([-2.0] * 6, "does not hold"),
        ([1.0, 1.0 + 1e-7], "undecided"),
        ([0.3, 0.1 + 0.2] * 10, "holds"),
        ([0.0] * 10, "undecided"),
        ([1.0, np.nan, 1.0], "undecided"),
        ([*range(1, 10), np.nan], "holds"),
        ([*range(-9, 0), np.nan], "does not hold"),
        ([*range(1, 10), -np.inf], "holds"),
        ([*range(1, 9), -np.inf, -np.inf], "undecided"),
        ([*range(1, 9), np.inf, np.inf], "holds"),
        ([np.inf] * 6, "holds"),
        ([-np.inf] * 6, "does not hold"),
    ],
)
def test_verdicts_follow_the_interval(effect, outcome):
    verdict = decide("a claim", np.array(effect), "m", "{effect} {unit} [{low}, {high}] {seeds}.")
    assert verdict.outcome == outcome
    assert verdict.seeds == len(effect)
    assert f"] {len(effect)}." in verdict.sentence
    if len(effect) > 1 and outcome != "not measurable":
        assert (verdict.p < 0.05) == (outcome in ("holds", "does not hold"))


def test_a_verdict_stores_what_it_was_made_of():
    effect = np.array([0.5, 1.5, 1.0, 2.0])
    verdict = decide("a claim", effect, "m", "")
    from scipy.stats import ttest_1samp

    assert verdict.effects == (0.5, 1.5, 1.0, 2.0)
    assert (verdict.sd, verdict.p) == pytest.approx((effect.std(ddof=1), ttest_1samp(effect, 0).pvalue))
    assert (verdict.diverged, verdict.method) == (0, "t")
    ranked = decide("a claim", np.array([1.0, 2, 3, 4, 5, 6, 7, 8, np.inf, -np.inf]), "m", "")
    assert (ranked.diverged, ranked.method, ranked.effect) == (2, "ranks", 4.5)
    assert ranked.p == pytest.approx(2 * 11 / 2**10)
    assert (ranked.low, ranked.high) == (1, 8)
    assert "2 of 10" in ranked.sentence


def test_equal_values_bound_what_others_may_be():
    """0 of n others bounds their share below 1 − .05^(1/n)."""
    assert "All 10 values are equal: others have a share below 26%." in decide("", np.full(10, 3.0), "", "").sentence
    assert interval(np.full(5, 3.0)) == (3, -np.inf, np.inf)
    assert interval(np.full(6, 3.0)) == (3, 3, 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exponent", [-1040, -600, 0, 600, 1020])
def test_no_unit_changes_a_verdict(exponent):
    """Squares of the numbers overflow, or vanish, long before the numbers do."""
    for values in ([1.0, 2, 4, 3, 2, 9], [1.0, 2, 3], [-1.0, 1.5, 1.5, 2, 1.0, 1.0]):
        one = decide("it is so", np.array(values), "m", "")
        other = decide("it is so", np.ldexp(values, exponent), "m", "")
        for name in ("effect", "low", "high", "sd"):
            expected = np.ldexp(getattr(one, name), exponent)
            np.testing.assert_allclose(getattr(other, name), expected, rtol=1e-2 if exponent < -1000 else 1e-15)
        assert (other.outcome, other.p, other.method) == (one.outcome, one.p, one.method)


@pytest.mark.filterwarnings("error")
def test_runs_that_diverged_on_both_sides_leave_it_undecided():
    assert decide("it is so", np.array([np.inf, -np.inf] * 3), "m", "").outcome == "undecided"


@pytest.mark.parametrize("hits", [[np.nan] * 6, [0.5] * 6, ["yes"] * 6, [2, 1, 1], [None] * 3])
def test_what_is_neither_true_nor_false_is_not_counted(hits):
    with pytest.raises(InputError, match="true or false, not"):
        decide_share("it is so", np.array(hits), 0.5, "")


def test_a_run_that_diverged_is_the_worst():
    ours, theirs = np.array([0.9, np.nan, 0.8, np.nan]), np.array([0.7, 0.6, -np.inf, np.inf])
    np.testing.assert_allclose(paired(ours, theirs), [0.2, -np.inf, np.inf, np.nan])


def test_sides():
    assert statistics.side(np.arange(1.0, 9)) == 1
    assert statistics.side(-np.arange(1.0, 9)) == -1
    assert statistics.side(np.array([2.0, 2.0])) == statistics.side(np.arange(-4.0, 5)) == 0
    assert statistics.side(np.arange(1.0, 9), bar=10) == -1


@pytest.mark.parametrize(
    ("gap", "outcome"),
    [
        ([0.0], "holds"),
        ([0.1, 0.0], "holds"),
        ([0.0] * 20 + [0.11], "does not hold"),
        ([0.0, np.nan], "does not hold"),
        ([], "not measurable"),
    ],
)
def test_exact_theory_is_compared_by_tolerance(gap, outcome):
    verdict = exact("a claim", np.array(gap), 0.1, "at most {worst} of {seeds}", "a theorem")
    assert (verdict.outcome, verdict.method, verdict.source) == (outcome, "exact", "a theorem")
    if outcome == "holds":
        assert (verdict.effect, verdict.low, verdict.high) == (max(gap), min(gap), max(gap))


def test_a_share_has_the_exact_interval():
    """Clopper & Pearson: 0 of n has the upper end 1 − 0.025^(1/n); k of n solves the two tails."""
    found = share(np.zeros(10, bool))
    np.testing.assert_allclose(found, (0, 0, 1 - 0.025**0.1), atol=1e-12)
    np.testing.assert_allclose(share(np.arange(20) < 7), (0.35, 0.153909, 0.592189), atol=1e-6)


@pytest.mark.parametrize(
    ("hits", "outcome"),
    [
        (np.ones(30, bool), "holds"),
        (np.zeros(30, bool), "does not hold"),
        (np.arange(30) % 2 == 0, "undecided"),
        (np.ones(5, bool), "undecided"),
        (np.zeros(0, bool), "not measurable"),
    ],
)
def test_shares_decide(hits, outcome):
    verdict = decide_share("most do", hits, 0.5, "{effect} {unit} [{low}, {high}] of {seeds}", "claim 3")
    assert verdict.outcome == outcome
    assert (verdict.unit, verdict.seeds, verdict.source) == ("%", len(hits), "claim 3")
    assert verdict.sentence.endswith(f"of {len(hits)}")
    if len(hits):
        assert verdict.low <= verdict.effect == 100 * hits.mean() <= verdict.high
        assert (verdict.p < 0.05) == (outcome != "undecided")


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "does not hold"], "mixed"),
        (["holds", "does not hold", "undecided"], "mixed"),
        (["holds", "undecided"], "undecided"),
        (["holds", "not measurable"], "holds"),
        (["not measurable"], "not measurable"),
        ([None, None], None),
        ([], None),
    ],
)
def test_only_a_claim_made_of_several_is_mixed(outcomes, outcome):
    assert together(outcomes) == outcome


SETTING = Setting("fashion_mnist", "ab12", "300 steps", False, ("not mnist", "steps 300 (not 2000)"))


def test_a_claim_names_its_data_set_and_a_quick_run_has_no_outcome():
    verdict = decide("It works", np.array([1.0, 1.1, 1.2]), "m", "", "claim 1").measured_on(SETTING)
    assert verdict.statement == "It works [fashion_mnist, not mnist, steps 300 (not 2000)]"
    assert verdict.outcome == "holds"
    quick = verdict.measured_on(dataclasses.replace(SETTING, quick=True))
    assert (quick.outcome, quick.statement) == (None, "It works [fashion_mnist, quick run]")
    assert verdict.measured_on(Setting()).statement == "It works"


def test_the_table_gathers_all_results(tmp_path):
    verdict = decide("it works", np.array([1.0, 2.0, 3.0]), "m", "by {effect}", "claim 1").measured_on(SETTING)
    fails = decide("it works well", -np.arange(1.0, 9), "m", "by {effect}", "claim 1")
    quick = decide("it works", np.ones(3), "m", "", "claim 2").measured_on(Setting(quick=True))
    answer = Answer("Why?", "Because.", "because", 3, "question §1", SETTING)
    works = dataclasses.replace(verdict, outcome="holds")
    results.save_findings(tmp_path / "first", [verdict, quick], [answer], {}, {}, {})
    results.save_findings(tmp_path / "third", [works, fails], [], {}, {}, {})
    store.save_json(tmp_path / "second" / "verdicts.json", [{"claim": "half a verdict"}])
    store.save_json(tmp_path / "old" / "verdicts.json", [dataclasses.asdict(verdict) | {"outcome": "depends"}])
    found = findings.gather(tmp_path, ["third", "second", "first", "absent", "old"])
    assert repr(found.verdicts) == repr([("third", works), ("third", fails), ("first", verdict), ("first", quick)])
    assert found.answers == [("first", answer)]
    assert len(found.unreadable) == 2
    assert "second/verdicts.json cannot be read: it[0]" in found.unreadable[0]
    assert "old/verdicts.json cannot be read: it[0]" in found.unreadable[1]
    assert findings.claims(found) == {"claim 1": "mixed"}
    said = " ".join(findings.table(found).split())
    for words in (
        "it works [fashion_mnist, not mnist, steps 300 (not 2000)] (claim 1)",
        "3 verdicts: 1 holds, 1 does not hold, 1 undecided; 1 effects of quick runs, without an outcome",
        "claim 1: mixed",
        "effect only it works [quick run]",
        "3 seeds, sd 1, p 0.074",
        "Why? (question §1) [fashion_mnist",
        "first/because.png",
        "second",
    ):
        assert words in said
    rows = json.loads(findings.save(tmp_path, found).read_text())
    assert rows["verdicts"][2]["experiment"] == "first"
    assert rows["verdicts"][2]["setting"]["checksum"] == "ab12"
    assert rows["verdicts"][2]["effects"] == [1.0, 2.0, 3.0]
    assert rows["verdicts"][3]["outcome"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "depends"},
        {"effects": "1, 2"},
        {"effects": [1, "2"]},
        {"setting": []},
        {"setting": {"dataset": 3}},
        {"setting": {"planet": "Mars"}},
        {"seeds": True},
        {"claim": None},
        {"more": 1},
    ],
)
def test_a_verdict_of_another_shape_is_named(tmp_path, change):
    verdict = dataclasses.asdict(decide("it works", np.array([1.0, 2.0, 3.0]), "m", ""))
    store.save_json(tmp_path / "a" / "verdicts.json", [verdict])
    assert not findings.gather(tmp_path, ["a"]).unreadable
    store.save_json(tmp_path / "a" / "verdicts.json", [verdict | change])
    found = findings.gather(tmp_path, ["a"])
    assert not found.verdicts
    assert "a/verdicts.json cannot be read: it[0]" in found.unreadable[0]


def test_no_results_folder_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="There is no results folder"):
        findings.gather(tmp_path / "nowhere", ["x"])


def test_intervals_and_verdicts_are_made_in_one_place():
    """An interval typed by hand is how figures and verdicts came to disagree."""
    root = Path(verdicts.__file__).parents[2]
    files = [path for folder in ("fnn", "experiments") for path in (root / folder).rglob("*.py")]
    assert len(files) > 100
    made = re.compile(r"\bVerdict\(|\.ppf\(|\bbootstrap\(|proportion_ci|\bsem\(|\b1\.96\b")
    found = {str(path.relative_to(root)) for path in files if made.search(path.read_text(encoding="utf-8"))}
    assert found == {"fnn/base/statistics.py", "fnn/lab/verdicts.py"}
