"""Verdicts: intervals that cover, outcomes that follow them, exact shares."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import _findings
from fnn import results
from fnn.errors import InputError
from fnn.verdicts import Answer, Verdict, decide, decide_share, interval, share


def test_intervals_cover_the_truth_95_times_in_100():
    """Coverage over 400 samples, for few seeds (Student) and for many (bootstrap)."""
    rng = np.random.default_rng(0)
    for n in (5, 30):
        inside = 0
        for _ in range(400):
            _, low, high = interval(rng.normal(1.0, 2.0, n))
            inside += low <= 1.0 <= high
        assert 0.91 <= inside / 400 <= 0.985, (n, inside)


@pytest.mark.parametrize(
    ("effect", "outcome"),
    [
        ([1.0, 1.1, 0.9, 1.05], "holds"),
        ([-1.0, -1.1, -0.9, -1.05], "does not hold"),
        ([1.0, -1.0, 0.5, -0.6], "depends"),
        ([1.0], "depends"),
        ([1.0, np.nan, 1.0], "depends"),
        ([2.0, 2.0, 2.0], "holds"),
        ([0.3, 0.1 + 0.2] * 10, "holds"),
        ([0.0, 0.0, 0.0], "depends"),
    ],
)
def test_verdicts_follow_the_interval(effect, outcome):
    verdict = decide("a claim", np.array(effect), "m", "{effect} {unit} [{low}, {high}] {seeds}")
    assert verdict.outcome == outcome
    assert verdict.seeds == len(effect)
    assert verdict.sentence.endswith(f"] {len(effect)}")


def test_a_share_has_the_exact_interval():
    """Clopper & Pearson: 0 of n has the upper end 1 − 0.025^(1/n); k of n solves the two tails."""
    found = share(np.zeros(10, bool))
    np.testing.assert_allclose(found, (0, 0, 1 - 0.025**0.1), atol=1e-12)
    np.testing.assert_allclose(share(np.arange(20) < 7), (0.35, 0.153909, 0.592189), atol=1e-6)


@pytest.mark.parametrize(
    ("hits", "outcome"),
    [(np.ones(30, bool), "holds"), (np.zeros(30, bool), "does not hold"), (np.arange(30) % 2 == 0, "depends")],
)
def test_shares_decide(hits, outcome):
    verdict = decide_share("most do", hits, 0.5, "{effect} {unit} [{low}, {high}] of {seeds}", "claim 3")
    assert verdict.outcome == outcome
    assert (verdict.unit, verdict.seeds, verdict.source) == ("%", 30, "claim 3")
    assert verdict.low <= verdict.effect == 100 * hits.mean() <= verdict.high
    assert verdict.sentence.endswith("of 30")


def test_the_table_gathers_what_is_there(tmp_path):
    verdict = decide("it works", np.array([1.0, 2.0, 3.0]), "m", "by {effect}", "claim 1")
    answer = Answer("Why?", "Because.", "because", 3, "question §1")
    results.save_findings(tmp_path / "first", [verdict], [answer], {}, {}, {})
    results.save_findings(tmp_path / "third", [verdict], [], {}, {}, {})
    results.save_json(tmp_path / "second" / "verdicts.json", [{"claim": "half a verdict"}])
    found = _findings.gather(tmp_path, ["third", "second", "first", "absent"])
    assert found.verdicts == [("third", verdict), ("first", verdict)]
    assert found.answers == [("first", answer)]
    assert len(found.unreadable) == 1
    assert "second/verdicts.json cannot be read (TypeError)" in found.unreadable[0]
    told = _findings.table(found)
    for words in ("it works (claim 1)", "2 verdicts: 2 depends", "Why? (question §1)", "first/because.png", "second"):
        assert words in told
    rows = json.loads(_findings.save(tmp_path, found).read_text())
    assert rows["verdicts"][0] == {"experiment": "third", **dataclasses.asdict(verdict)}
    assert Verdict(**{k: v for k, v in rows["verdicts"][1].items() if k != "experiment"}) == verdict


def test_no_results_folder_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="There is no results folder"):
        _findings.gather(tmp_path / "nowhere", ["x"])
