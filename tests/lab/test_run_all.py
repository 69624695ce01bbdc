"""`python -m experiments`: the list, running everything, skipping what is unchanged, carrying on after a failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import COLLECTION
from fnn import lab
from fnn.base.errors import InputError
from fnn.lab import collection, command, findings, run_all
from fnn.lab.run_all import Entry, Options

ROOT = Path(__file__).parents[2]
CHEAP = "loss_surface"
EXPERIMENTS = COLLECTION.experiments()
ONE = {CHEAP: EXPERIMENTS[CHEAP]}


class Lost(lab.Experiment):
    """An experiment whose module has been lost."""

    name, module = "no_such_experiment", "experiments.no_such_experiment"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cheap experiment and one that cannot even be imported."""
    out = tmp_path_factory.mktemp("all") / "results"
    lost = Lost(question="Is it there?", run=lambda cfg: None)
    return out, run_all.run({lost.name: lost, **ONE}, Options(out=out, quick=True))


def test_a_failure_stops_nothing(made):
    out, entries = made
    assert [(e.name, e.outcome) for e in entries] == [("no_such_experiment", "failed"), (CHEAP, "made")]
    assert "exit code 1" in entries[0].remark
    assert "no_such_experiment" in entries[0].remark
    assert (out / CHEAP / "metrics.nc").is_file()
    assert "Written to" in (out / f"{CHEAP}.log").read_text()
    text = run_all.table(entries, 12)
    assert "2 experiments: 1 made, 1 failed; 12 s in all" in text


def test_what_is_unchanged_is_skipped(made, monkeypatch):
    out, _ = made
    options = Options(out=out, quick=True)
    before = (out / CHEAP / "metrics.nc").stat().st_mtime_ns
    (again,) = run_all.run(ONE, options)
    assert again.outcome == "unchanged"
    assert (out / CHEAP / "metrics.nc").stat().st_mtime_ns == before
    arguments = ["--out", str(out), "--quick"]
    assert run_all.unchanged(EXPERIMENTS[CHEAP], arguments)
    assert not run_all.unchanged(EXPERIMENTS[CHEAP], [*arguments, "--seeds", "7"]), "other options"
    monkeypatch.setattr(command, "sources", lambda experiment: "other code")
    assert not run_all.unchanged(EXPERIMENTS[CHEAP], arguments)


def test_half_written_results_are_made_again(made):
    out, _ = made
    arguments = ["--out", str(out), "--quick"]
    verdicts, provenance = out / CHEAP / "verdicts.json", out / CHEAP / "provenance.json"
    whole = provenance.read_bytes()
    provenance.write_bytes(whole)  # as if new data had been saved and the verdicts not yet
    assert not run_all.unchanged(EXPERIMENTS[CHEAP], arguments)
    verdicts.write_bytes(verdicts.read_bytes())
    assert run_all.unchanged(EXPERIMENTS[CHEAP], arguments)
    provenance.write_text("{half")
    assert not run_all.unchanged(EXPERIMENTS[CHEAP], arguments)
    provenance.write_bytes(whole)
    verdicts.write_bytes(verdicts.read_bytes())
    (entry,) = run_all.run(ONE, Options(out=out, quick=True, force=True))
    assert entry.outcome == "made"


def test_the_code_that_results_depend_on_has_a_fingerprint():
    sources = lambda name: command.sources(EXPERIMENTS[name])
    assert sources(CHEAP) == sources(CHEAP) != sources("bench_sweep")


def test_a_bad_folder_or_data_set_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        run_all.run(ONE, Options(out=tmp_path / "file" / "results"))
    with pytest.raises(InputError, match="data set 'mnits' is unknown"):
        run_all.run(ONE, Options(out=tmp_path / "results", dataset="mnits"))
    with pytest.raises(InputError, match="--jobs is at least 0, not -1"):
        run_all.run(ONE, Options(out=tmp_path / "results", jobs=-1))
    assert not (tmp_path / "results").exists()


def test_a_path_reaches_the_experiments_as_it_is(tmp_path, monkeypatch):
    np.savez(tmp_path / "mine.npz", x=np.zeros((40, 3), np.uint8), y=np.arange(40) % 4)
    started = []

    def start(experiment, arguments, options):
        started.extend(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_all, "_start", start)
    path = str(tmp_path / "mine.npz")
    run_all.run({"zero_init_symmetry": EXPERIMENTS["zero_init_symmetry"]}, Options(out=tmp_path / "out", dataset=path))
    assert started[started.index("--dataset") + 1] == path


def test_an_interrupt_names_what_is_left(tmp_path):
    """One interrupt of `all`: the running experiment is interrupted once, the rest is not reached, exit code 130."""
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
    assert f"{len(EXPERIMENTS) - 1} not reached" in out


class Slow(subprocess.Popen):
    """A process that saves for as long as it is interrupted fewer than three times."""

    returncode, _child_created = 130, False

    def __init__(self):  # no process is started
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
    running = run_all.Running(CHEAP, slow, log, 0.0, tmp_path / "saved", 0)
    monkeypatch.setattr(run_all, "_start", lambda experiment, arguments, options: running)
    options = Options(out=tmp_path, dataset="mnist_5k", jobs=1, force=True)
    entries = run_all.run({name: EXPERIMENTS[name] for name in (CHEAP, "zero_init_symmetry")}, options)
    assert [entry.outcome for entry in entries] == ["interrupted", "not reached"]
    assert slow.interrupts == 3


def test_an_interrupt_is_one_even_where_the_running_experiment_still_ends_well(tmp_path, monkeypatch, capsys):
    """It may be saving its last file when it is interrupted: then it is made, and what comes after it is not
    reached."""
    entries = [Entry(CHEAP, "made", 3.0), Entry("batch_norm_test", "not reached")]
    monkeypatch.setattr(run_all, "run", lambda experiments, options: entries)
    assert COLLECTION.main(["all", "--out", str(tmp_path)]) == 130
    assert "goes on with the rest" in capsys.readouterr().out


def test_the_list_gives_question_and_time_in_the_notes_order(capsys):
    assert COLLECTION.main(["list"]) == 0
    text = capsys.readouterr().out
    names = list(EXPERIMENTS)
    assert names.index("optimizer_paths") < names.index("optimizer_compare_mnist") < names.index("batch_norm_test")
    for name in names:
        assert f"\n{name}\n" in f"\n{text}"
        assert EXPERIMENTS[name].takes, f"{name} says how long it takes"


def test_verdicts_are_printed_and_kept(made, capsys):
    out, _ = made
    assert COLLECTION.main(["verdicts", "--out", str(out)]) == 0
    assert CHEAP in capsys.readouterr().out
    kept = json.loads((out / "verdicts.json").read_text())
    assert len(kept["verdicts"]) == len(findings.gather(out, [CHEAP]).verdicts) > 0


def test_a_fingerprint_follows_imports(tmp_path):
    """An experiment's own code and what it imports count, directly or not; what its neighbors import does not."""
    for name, text in {
        "one": "from chapters.first import _shared\nfrom . import _near\nimport chapters.second.far\n",
        "_shared": "import os\nfrom chapters.first._deep import f\n",
        "_deep": "f = 1\n",
        "_near": "n = 1\n",
        "_other": "g = 1\n",
        "__init__": '"""A chapter."""\n',
    }.items():
        (tmp_path / "chapters" / "first").mkdir(parents=True, exist_ok=True)
        (tmp_path / "chapters" / "first" / f"{name}.py").write_text(text)
    (tmp_path / "chapters" / "second").mkdir()
    for file in ("__init__", "second/__init__", "second/far"):
        (tmp_path / "chapters" / f"{file}.py").write_text("")
    folder = tmp_path / "chapters" / "first"
    sources = lambda: command.sources_of(folder / "one.py")
    before = sources()
    (folder / "_other.py").write_text("g = 2\n")
    assert sources() == before
    for file in ("first/_deep", "first/_near", "first/one", "second/far", "second/__init__", "__init__"):
        before = sources()
        path = tmp_path / "chapters" / f"{file}.py"
        path.write_text(path.read_text() + "\n\n")
        assert sources() != before, file


def test_a_strangers_fingerprint_follows_the_files_beside_it(tmp_path):
    (tmp_path / "mine.py").write_text("import numpy\nimport shared\n")
    (tmp_path / "shared.py").write_text("f = 1\n")
    before = command.sources_of(tmp_path / "mine.py")
    (tmp_path / "shared.py").write_text("f = 2\n")
    assert command.sources_of(tmp_path / "mine.py") != before


def test_the_next_starts_while_one_draws_but_a_benchmark_waits(tmp_path):
    saved = tmp_path / "provenance.json"
    saved.write_text("of an earlier run")
    one = run_all.Running(CHEAP, Slow(), tmp_path / "log", 0.0, saved, run_all._changed(saved))
    assert one.measures()
    assert run_all._in_the_way([one], EXPERIMENTS["zero_init_symmetry"]) == 1
    os.utime(saved, ns=(one.old + 1, one.old + 1))
    assert not one.measures()
    assert run_all._in_the_way([one], EXPERIMENTS["zero_init_symmetry"]) == 0
    assert run_all._in_the_way([one], EXPERIMENTS["bench_sweep"]) == 1
    assert run_all._in_the_way([one], EXPERIMENTS["optax_parity"]) == 1


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with an experiment in a chapter, a module that cannot be imported and a file of other things."""
    chapter = tmp_path / "inquiries" / "chapter"
    chapter.mkdir(parents=True)
    for folder in (chapter.parent, chapter):
        (folder / "__init__.py").write_text("")
    template = Path(lab.template.__file__).read_text(encoding="utf-8")
    (chapter / "sound.py").write_text(template)
    (chapter.parent / "broken.py").write_text("import no_such_module\n")
    (chapter.parent / "helpers.py").write_text("ONE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield collection.Collection("inquiries")
    for name in [name for name in sys.modules if name.partition(".")[0] == "inquiries"]:
        del sys.modules[name]


def test_a_module_that_cannot_be_imported_stops_no_other(package, tmp_path, monkeypatch, capsys):
    assert list(package.experiments()) == ["sound"]
    assert package.main(["list"]) == 0
    said = capsys.readouterr()
    assert "sound\n    Does momentum help on handwritten digits?\n    takes 10 s" in said.out
    why = "inquiries: broken cannot be imported (ModuleNotFoundError: No module named 'no_such_module').\n"
    assert said.err.endswith(why)
    (tmp_path / "out").mkdir()
    assert package.main(["verdicts", "--out", str(tmp_path / "out")]) == 0
    monkeypatch.setattr(run_all, "run", lambda experiments, options: [Entry(name, "made") for name in experiments])
    assert package.main(["all", "--quick", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "2 experiments: 1 made, 1 failed" in said
    assert "No module named 'no_such_module'" in said


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("soudn", "There is no experiment 'soudn'; there are broken, chapter, sound, helpers (did you mean sound?)."),
        ("helpers", "inquiries.helpers holds no experiment."),
        ("chapter", "inquiries.chapter holds no experiment."),
    ],
)
def test_a_name_without_an_experiment_is_a_sentence(package, capsys, name, sentence):
    assert package.main([name]) == 2
    assert capsys.readouterr().err == f"inquiries: {sentence}\n"


def test_two_experiments_of_one_name_are_a_sentence(package, tmp_path, capsys):
    (tmp_path / "inquiries" / "sound.py").write_text("")
    assert package.main(["list"]) == 2
    assert "inquiries.chapter.sound and inquiries.sound have the same name." in capsys.readouterr().err
