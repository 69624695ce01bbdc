"""`python -m experiments`: the list, running everything, skipping what is unchanged, carrying on after a failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments import _all, _cli, _findings
from fnn.base.errors import InputError

ROOT = Path(__file__).parents[2]
CHEAP = "loss_surface"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cheap experiment and one that cannot even be imported."""
    out = tmp_path_factory.mktemp("all") / "results"
    return out, _all.run(["no_such_experiment", CHEAP], _all.Options(out=out, quick=True))


def test_a_failure_stops_nothing(made):
    out, entries = made
    assert [(e.name, e.outcome) for e in entries] == [("no_such_experiment", "failed"), (CHEAP, "made")]
    assert "exit code 1" in entries[0].remark
    assert "no_such_experiment" in entries[0].remark
    assert (out / CHEAP / "metrics.nc").is_file()
    assert "Written to" in (out / f"{CHEAP}.log").read_text()
    told = _all.table(entries, 12)
    assert "2 experiments: 1 made, 1 failed; 12 s in all" in told


def test_what_is_unchanged_is_skipped(made, monkeypatch):
    out, _ = made
    options = _all.Options(out=out, quick=True)
    before = (out / CHEAP / "metrics.nc").stat().st_mtime_ns
    (again,) = _all.run([CHEAP], options)
    assert again.outcome == "unchanged"
    assert (out / CHEAP / "metrics.nc").stat().st_mtime_ns == before
    arguments = ["--out", str(out), "--quick"]
    assert _all.unchanged(CHEAP, arguments)
    assert not _all.unchanged(CHEAP, [*arguments, "--seeds", "7"]), "other options"
    monkeypatch.setattr(_cli, "sources", lambda name: "other code")
    assert not _all.unchanged(CHEAP, arguments)


def test_half_written_results_are_made_again(made):
    out, _ = made
    arguments = ["--out", str(out), "--quick"]
    verdicts, provenance = out / CHEAP / "verdicts.json", out / CHEAP / "provenance.json"
    whole = provenance.read_bytes()
    provenance.write_bytes(whole)  # as if new data had been saved and the verdicts not yet
    assert not _all.unchanged(CHEAP, arguments)
    verdicts.write_bytes(verdicts.read_bytes())
    assert _all.unchanged(CHEAP, arguments)
    provenance.write_text("{half")
    assert not _all.unchanged(CHEAP, arguments)
    provenance.write_bytes(whole)
    verdicts.write_bytes(verdicts.read_bytes())
    (entry,) = _all.run([CHEAP], _all.Options(out=out, quick=True, force=True))
    assert entry.outcome == "made"


def test_the_code_that_results_depend_on_has_a_fingerprint():
    assert _cli.sources(CHEAP) == _cli.sources(CHEAP) != _cli.sources("bench_sweep")


def test_a_bad_folder_or_data_set_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        _all.run([CHEAP], _all.Options(out=tmp_path / "file" / "results"))
    with pytest.raises(InputError, match="data set 'mnits' is unknown"):
        _all.run([CHEAP], _all.Options(out=tmp_path / "results", dataset="mnits"))
    with pytest.raises(InputError, match="--jobs is at least 0, not -1"):
        _all.run([CHEAP], _all.Options(out=tmp_path / "results", jobs=-1))
    assert not (tmp_path / "results").exists()


def test_an_interrupt_names_what_is_left(tmp_path):
    """One interrupt of `all`: the running experiment is told once, the rest is not reached, exit code 130."""
    program = (
        "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('experiments', run_name='__main__', alter_sys=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "all", "--out", str(tmp_path), "--dataset", "mnist_5k"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.log")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "the same command goes on with the rest" in out
    assert f"{len(command.questions()) - 1} not reached" in out


class Slow:
    """A process that saves for as long as it is interrupted fewer than three times."""

    returncode = 130

    def __init__(self):
        self.interrupts = 0

    def poll(self):
        raise KeyboardInterrupt

    def send_signal(self, number):
        self.interrupts += number == signal.SIGINT

    def wait(self):
        if self.interrupts < 3:
            raise KeyboardInterrupt


def test_every_interrupt_is_passed_on_until_the_running_experiment_has_ended(tmp_path, monkeypatch):
    slow = Slow()
    log = tmp_path / "log"
    log.write_text("interrupted; the same command goes on")
    running = _all.Running(CHEAP, slow, log, 0.0, tmp_path / "saved", 0)
    monkeypatch.setattr(_all, "_start", lambda name, arguments, options: running)
    options = _all.Options(out=tmp_path, dataset="mnist_5k", jobs=1, force=True)
    entries = _all.run([CHEAP, "zero_init_symmetry"], options)
    assert [entry.outcome for entry in entries] == ["interrupted", "not reached"]
    assert slow.interrupts == 3


def test_an_interrupt_is_one_even_where_the_running_experiment_still_ends_well(tmp_path, monkeypatch, capsys):
    """It may be saving its last file when it is told: then it is made, and what comes after it is not reached."""
    entries = [_all.Entry(CHEAP, "made", 3.0), _all.Entry("batch_norm_test", "not reached")]
    monkeypatch.setattr(_all, "run", lambda names, options: entries)
    assert command.run_all(_all.Options(out=tmp_path)) == 130
    assert "goes on with the rest" in capsys.readouterr().out


def test_the_list_gives_question_and_time_in_the_notes_order(capsys):
    assert command.show_list() == 0
    told = capsys.readouterr().out
    names = list(command.questions())
    assert names.index("optimizer_paths") < names.index("optimizer_compare_mnist") < names.index("batch_norm_test")
    for name in names:
        assert f"\n{name}\n" in f"\n{told}"
        assert command.durations()[name], f"{name} says how long it takes"


def test_verdicts_are_printed_and_kept(made, capsys):
    out, _ = made
    assert command.show_verdicts(out) == 0
    assert CHEAP in capsys.readouterr().out
    kept = json.loads((out / "verdicts.json").read_text())
    assert len(kept["verdicts"]) == len(_findings.gather(out, [CHEAP]).verdicts) > 0


def test_a_fingerprint_follows_imports(tmp_path, monkeypatch):
    """An experiment's own code and what it imports count, directly or not; what its neighbours import does not."""
    for name, text in {
        "one": "from experiments import _shared\n",
        "_shared": "import os\nfrom experiments._deep import f\n",
        "_deep": "f = 1\n",
        "_other": "g = 1\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(_cli, "__file__", str(tmp_path / "_cli.py"))
    before = _cli.sources("one")
    (tmp_path / "_other.py").write_text("g = 2\n")
    assert _cli.sources("one") == before
    (tmp_path / "_deep.py").write_text("f = 2\n")
    assert _cli.sources("one") != before


def test_the_next_begins_while_one_draws_but_a_benchmark_waits(tmp_path):
    saved = tmp_path / "provenance.json"
    saved.write_text("of an earlier run")
    one = _all.Running(CHEAP, None, tmp_path / "log", 0.0, saved, _all._changed(saved))
    assert one.measures()
    assert _all._in_the_way([one], "zero_init_symmetry") == 1
    os.utime(saved, ns=(one.old + 1, one.old + 1))
    assert not one.measures()
    assert _all._in_the_way([one], "zero_init_symmetry") == 0
    assert _all._in_the_way([one], "bench_sweep") == 1
    assert _all._in_the_way([one], "optax_parity") == 1
