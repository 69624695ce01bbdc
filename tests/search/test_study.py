"""Studies: resumed after any death with no trial lost or run twice, tested once, shared by many processes."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import jax
import numpy as np
import pytest

from fnn import search, store
from fnn.base.errors import InputError
from fnn.search import Choice, Linear, Log, study

SPACE = {"lr": Log(1e-6, 1e-2), "mu": Linear(0, 1)}
KEY = jax.random.key(0)
OPTUNA = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs optuna (extra `search`)")


def value(settings):
    return -np.square(np.log10(settings["lr"]) + 3) - np.square(settings["mu"] - 0.7)


def opened(folder, sampler=None, **options):
    return study.opened(folder, SPACE, sampler or search.narrowing(2, 8), KEY, **options)


def searched(folder, batches, at_once=4):
    with opened(folder) as one:
        for _ in range(batches):
            one.tell(value(one.ask(at_once)))
        return one.points, one.values


def test_a_study_is_its_sampler_and_resumes_from_its_folder(tmp_path):
    whole, values = searched(tmp_path / "whole", 8)
    assert whole.shape == (32, 2)
    assert values.shape == (32, 1)
    searched(tmp_path / "parts", 3)
    with opened(tmp_path / "parts") as one:
        assert one.batches == 3
        first = one.ask(4)
        np.testing.assert_array_equal(one.ask(4)["lr"], first["lr"])  # until its values are given
    parts, _ = searched(tmp_path / "parts", 5)
    np.testing.assert_array_equal(parts, whole)


def test_pending_trials_are_proposed_again(tmp_path):
    searched(tmp_path, 2)
    with opened(tmp_path) as one:
        lost = one.ask(4)
    with opened(tmp_path) as one:
        again = one.ask(4)
    for name in SPACE:
        np.testing.assert_array_equal(lost[name], again[name])


def test_seeds_are_ranked_by_their_mean_or_by_what_is_sure(tmp_path):
    with opened(tmp_path, search.uniform(2)) as one:
        one.ask(3)
        one.tell(np.array([[0.9, 0.1, 0.95], [0.6, 0.61, 0.6], [0.5, np.nan, 0.5]]))
        assert one.ranking().tolist() == [0, 1, 2]
        assert one.ranking("low").tolist() == [1, 0, 2]
        np.testing.assert_allclose(one.history.values[:2], [0.65, 0.60333333])
        one.ask(2)
        with pytest.raises(InputError, match=r"2 × 3 values are expected, not \(2, 2\)"):
            one.tell(np.zeros((2, 2)))
        one.tell(np.zeros((2, 3)))
        assert one.values.shape == (5, 3)


def test_lower_ends_are_students():
    values = np.random.default_rng(0).normal(size=(2, 5))
    from scipy.stats import ttest_1samp

    expected = [ttest_1samp(row, 0).confidence_interval().low for row in values]
    np.testing.assert_allclose(study.lower_ends(values), expected, rtol=1e-9)
    assert study.lower_ends(np.ones((2, 1))).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("by", ["mean", "low"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_setting_with_a_run_that_diverged_is_ranked_last(by, seeds):
    values = np.array([[0.5], [0.9], [0.1], [0.8]]) + 0.001 * np.arange(seeds)
    values[1, 0] = np.nan
    assert study.ranking(values, by).tolist() == [3, 0, 2, 1]


def test_a_search_that_ends(tmp_path):
    with opened(tmp_path, search.lattice((2, 2))) as one:
        assert len(one.ask(3)["lr"]) == 3
        one.tell(np.zeros(3))
        assert len(one.ask(3)["lr"]) == 1
        one.tell(np.zeros(1))
        assert len(one.ask(3)["lr"]) == 0


def test_the_test_set_is_evaluated_once(tmp_path):
    searched(tmp_path, 1)
    with opened(tmp_path) as one:
        assert one.test(2, lambda: 0.5) == 0.5
    with opened(tmp_path) as one:
        with pytest.raises(
            InputError, match=r"was evaluated on .*, for trial 2, with the result 0.5: a second evaluation"
        ):
            one.test(1, lambda: pytest.fail("it was evaluated"))
        assert one.tested(1) is None
        assert one.test(1, lambda: 0.25, again=True) == 0.25
        assert [one.tested(trial)["value"] for trial in (1, 2)] == [0.25, 0.5]
        assert [(look["of"], look["value"]) for look in one.evaluations()] == [("trial 2", 0.5), ("trial 1", 0.25)]
        (tmp_path / study.TEST).write_text("{")
        with pytest.raises(InputError, match="cannot be read"):
            one.test(1, lambda: 0.0)


def test_an_evaluation_that_was_cut_off_counts(tmp_path):
    with pytest.raises(InputError, match="the result was lost"):
        study.evaluate_once(tmp_path, "all", lambda: study.evaluate_once(tmp_path, "all", lambda: 0.0))
    assert study.evaluations(tmp_path) == []
    killed = "import os; from pathlib import Path; from fnn.search import study; "
    killed += f"study.evaluate_once(Path({str(tmp_path)!r}), 'all', lambda: os._exit(9))"
    assert subprocess.run([sys.executable, "-c", killed]).returncode == 9
    with pytest.raises(InputError, match="for all, and the result was lost"):
        study.evaluate_once(tmp_path, "all", lambda: 0.0)
    assert study.evaluate_once(tmp_path, "all", lambda: [0.5, 0.25], again=True) == [0.5, 0.25]
    assert [look["value"] for look in study.evaluations(tmp_path)] == [None, [0.5, 0.25]]


def test_a_test_that_fails_does_not_count(tmp_path):
    searched(tmp_path, 1)
    with opened(tmp_path) as one:
        with pytest.raises(ZeroDivisionError):
            one.test(0, lambda: 1 / 0)
        with pytest.raises(InputError, match="no trial 9 among 4"):
            one.test(9, lambda: 1.0)
        assert one.evaluations() == []


def test_other_studies_are_not_mixed_in(tmp_path):
    searched(tmp_path, 1)
    other = SPACE | {"mu": Linear(0, 2)}
    for arguments, differing in (
        ((other, KEY, None), "space"),
        ((SPACE, jax.random.key(1), None), "key"),
        ((SPACE, KEY, {"sampler": "x"}), "sampler"),
    ):
        space, key, manifest = arguments
        with (
            pytest.raises(InputError, match=f"another run, whose {differing} differ"),
            study.opened(tmp_path, space, search.uniform(2), key, manifest),
        ):
            pass
    with opened(tmp_path), pytest.raises(InputError, match="Another process is at work"), opened(tmp_path):
        pass


def test_the_same_axes_in_another_order_are_another_study(tmp_path):
    """A sampler identifies axes by position: it would read every trial as one of other settings."""
    searched(tmp_path, 1)
    turned = dict(reversed(SPACE.items()))
    refused = pytest.raises(InputError, match="another run, whose order of axes differs")
    with refused, study.opened(tmp_path, turned, search.narrowing(2, 8), KEY):
        pass


def test_options_of_a_choice_are_the_same_in_every_process(tmp_path):
    def space():
        return {"activation": Choice((lambda x: x, abs))}  # a new function each time, in another place in memory

    for trials in (2, 4):
        with study.opened(tmp_path, space(), search.uniform(1), KEY) as one:
            one.ask(2)
            one.tell(np.zeros(2))
            assert len(one.points) == trials


@pytest.mark.parametrize("lost", [[0], [1], [0, 1], [1, 2], [3]])
@pytest.mark.parametrize("damaged", [False, True])
def test_lost_trials_are_the_next_ones_and_no_other_is_lost(tmp_path, lost, damaged):
    whole, values = searched(tmp_path, 4)
    for number in lost:
        path = tmp_path / f"{number:06d}.npz"
        path.write_bytes(path.read_bytes()[:-1]) if damaged else path.unlink()
    kept = [trial for trial in range(16) if trial // 4 not in lost]
    with opened(tmp_path) as one:
        np.testing.assert_array_equal(one.points, whole[kept])
        np.testing.assert_array_equal(one.trials, kept)
        if 3 not in lost:
            one.test(len(kept) - 1, lambda: 0.5)  # the last trial, whatever its place is now
        asked = []
        while len(one.points) < 16:  # in smaller batches than before
            asked.append(len(one.ask(3)["lr"]))
            one.tell(value(search.settings(SPACE, one.proposed)))
        assert sum(asked) == 4 * len(lost)
    again, _ = searched(tmp_path, 0)
    with opened(tmp_path) as one:
        np.testing.assert_array_equal(again, whole)
        np.testing.assert_array_equal(one.values, values)
        np.testing.assert_array_equal(one.trials, np.arange(16))
        assert (one.tested(15) is not None) == (3 not in lost)
    assert len(list(tmp_path.glob("*.damaged"))) == len(lost) * damaged


def test_misuse_is_a_sentence(tmp_path):
    with opened(tmp_path) as one:
        with pytest.raises(InputError, match="no pending trials"):
            one.tell(np.zeros(3))
        with pytest.raises(InputError, match="at least 1 setting"):
            one.ask(0)


WORK = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_study as t
with t.opened(Path(sys.argv[2])) as one:
    while len(one.points) < 64:
        settings = one.ask(2)
        time.sleep(0.02)
        one.tell(t.value(settings))
"""

SHARED = """
import sys, time
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_study as t
one = t.study.Shared(Path(sys.argv[2]) / "journal.log", "many", t.SPACE)
print("ready", flush=True)
while len(one.done()) < 40:
    settings = one.ask(2)
    time.sleep(0.1)
    one.tell(t.value(settings))
"""


def process(program, folder):
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_killed_again_and_again_no_trial_is_lost_or_run_twice(tmp_path):
    whole, _ = searched(tmp_path / "whole", 32, at_once=2)
    folder, killed = tmp_path / "killed", 0
    while not killed or len(store.numbers(folder)) < 32:
        before = len(store.numbers(folder))
        with process(WORK, folder) as one:
            while one.poll() is None and len(store.numbers(folder)) < before + 11:
                time.sleep(0.01)
            one.send_signal(signal.SIGKILL)
        killed += one.returncode == -signal.SIGKILL
        assert len(store.numbers(folder)) > before, one.communicate()
    with opened(folder) as one:
        np.testing.assert_array_equal(one.points, whole)
        np.testing.assert_allclose(one.values[:, 0], value(one.settings))


@OPTUNA
def test_many_processes_share_a_study_and_one_of_them_dies(tmp_path, monkeypatch):
    many = [process(SHARED, tmp_path) for _ in range(3)]
    one = study.Shared(tmp_path / "journal.log", "many", SPACE)
    while len(one.done()) < 8:
        assert many[0].poll() is None, many[0].communicate()
        time.sleep(0.05)
    many[0].kill()
    for other in many[1:]:
        said, _ = other.communicate(timeout=120)
        assert other.returncode == 0, said
    many[0].communicate()
    # It may have died so late that its trials were not proposed again, or before it had signed.
    monkeypatch.setattr(study, "UNSIGNED", timedelta(0))
    one.tell(value(one.ask(2)))
    trials = one.study.get_trials(deepcopy=False)
    assert not [trial for trial in trials if trial.state.name in ("RUNNING", "WAITING")], "nothing is lost"
    done = one.done()
    assert 42 <= len(done) <= 48
    assert len({trial.params["lr"] for trial in done}) == len(done), "nothing is run twice"
    assert len({trial.user_attrs["worker"]["pid"] for trial in done}) >= 3
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    drawn = [trial for trial in failed if trial.params]  # one that died before it had drawn any has none to hand on
    assert {trial.params["lr"] for trial in drawn} <= {trial.params["lr"] for trial in done}, "but handed on"


@OPTUNA
def test_a_shared_study_takes_rows_choices_and_networks_that_diverge(tmp_path):
    space = SPACE | {"units": search.Whole(1, 4), "rule": Choice(("sgd", "adam"))}
    one = study.Shared(f"sqlite:///{tmp_path / 'study.db'}", "kinds", space)
    settings = one.ask(3)
    assert set(settings) == set(space)
    assert set(settings["rule"]) <= {0, 1}
    assert ((settings["units"] >= 1) & (settings["units"] <= 4)).all()
    one.tell(np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, 4.0]]))
    assert [trial.state.name for trial in one.done()] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert one.study.best_value == 3.5
    assert json.dumps(one.done()[0].user_attrs["values"]) == "[1.0, 2.0]"
    one.ask(1)
    with pytest.raises(InputError, match="1 values are expected, not 2"):
        one.tell(np.zeros(2))
    with pytest.raises(InputError, match="searches another space"):
        study.Shared(f"sqlite:///{tmp_path / 'study.db'}", "kinds", SPACE)


@OPTUNA
def test_pending_trials_of_another_host_are_offered_after_a_lease(tmp_path, monkeypatch):
    """The other host is this process under another name, whose trial is finished in the end too, too late."""
    slow = study.Shared(tmp_path / "journal.log", "far", SPACE)
    with monkeypatch.context() as there:
        there.setattr(study.socket, "gethostname", lambda: "far away")
        lost = slow.ask(1)
    patient = study.Shared(tmp_path / "journal.log", "far", SPACE)
    assert patient.others() == 1
    assert patient.ask(1)["lr"] != lost["lr"]
    patient.tell(np.zeros(1))
    hasty = study.Shared(tmp_path / "journal.log", "far", SPACE, lease=timedelta(0))
    assert hasty.others() == 0
    np.testing.assert_array_equal(hasty.ask(1)["lr"], lost["lr"])
    slow.tell(np.ones(1))
    hasty.tell(np.full(1, 2.0))
    settings, values = hasty.finished()
    np.testing.assert_array_equal(values, [[0.0], [2.0]])
    np.testing.assert_array_equal(settings["lr"][1:], lost["lr"])


@OPTUNA
def test_many_processes_evaluate_the_test_set_once(tmp_path):
    one = study.Shared(tmp_path / "journal.log", "many", SPACE)
    one.ask(3)
    one.tell(np.arange(3.0))
    evaluating = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_study as t
one = t.study.Shared(Path(sys.argv[2]) / "journal.log", "many", t.SPACE)
def measure():
    print("evaluating", flush=True)
    time.sleep(1)
    return 0.5
try:
    print("found", one.test(2, measure))
except t.InputError as error:
    print("recorded", one.tested(2)["value"], error)
"""
    several = [process(evaluating, tmp_path) for _ in range(3)]
    said = [each.communicate(timeout=60)[0] for each in several]
    assert sum("evaluating" in words for words in said) == 1, said
    assert sum("found 0.5" in words for words in said) == 1, said
    assert sum("recorded 0.5 The test set of many was evaluated" in words for words in said) == 2, said
    with pytest.raises(InputError, match=r"for trial 2, with the result 0.5: a second evaluation"):
        one.test(1, lambda: pytest.fail("it was evaluated"))
    with pytest.raises(ZeroDivisionError):
        one.test(1, lambda: 1 / 0, again=True)
    assert one.test(1, lambda: 0.25, again=True) == 0.25
    assert [(look["of"], look["value"]) for look in one.evaluations()] == [("trial 2", 0.5), ("trial 1", 0.25)]
    with pytest.raises(InputError, match="no trial 9 among 3"):
        one.test(9, lambda: 1.0)


@OPTUNA
def test_an_evaluation_whose_process_was_killed_counts(tmp_path):
    one = study.Shared(tmp_path / "journal.log", "many", SPACE)
    one.ask(1)
    one.tell(np.ones(1))
    killed = "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_study as t; "
    killed += "t.study.Shared(Path(sys.argv[2]) / 'journal.log', 'many', t.SPACE).test(0, lambda: os._exit(9))"
    with process(killed, tmp_path) as dying:
        said, _ = dying.communicate(timeout=60)
    assert dying.returncode == 9, said
    with pytest.raises(InputError, match="for trial 0, and the result was lost"):
        one.test(0, lambda: 1.0)
    assert one.tested(0) is None
    assert one.test(0, lambda: 1.0, again=True) == 1.0
