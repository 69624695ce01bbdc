"""Any locale and any console: files are UTF-8, and what a console cannot show never ends a command."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
import fnn
from experiments.__main__ import COLLECTION
from fnn import store
from fnn.lab import results
from fnn.lab.verdicts import Answer, Verdict

NAME = "loss_surface"
OURS = "|".join(re.escape(str(Path(module.__file__).parent)) for module in (fnn, experiments))
PLACES = {
    "POSIX": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "Latin": {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "Windows": {"PYTHONIOENCODING": "cp1252"},
}


@pytest.fixture
def out(tmp_path):
    """Results whose words only UTF-8 can write, in a folder whose name is such a word."""
    folder = tmp_path / "Ergebnisse ≤ ü"
    verdicts = [Verdict("κ ≤ 1 \x1b[31m", 1.0, 0.5, 1.5, "‰", 3, "holds", "It is ≤ \ud800.", "notes §1")]
    results.save_findings(folder / NAME, verdicts, [Answer("≤?", "≥", "x", 3)], {}, {}, {})
    store.save_json(folder / NAME / "provenance.json", {"config": {"seeds": 3}})
    return folder


def run(place, *arguments):
    program = [sys.executable, "-W", "default::EncodingWarning", "-X", "warn_default_encoding", "-m", *arguments]
    done = subprocess.run(program, capture_output=True, env=os.environ | PLACES[place], timeout=300)
    said = done.stderr.decode("utf-8", "replace")
    ours = [line for line in said.splitlines() if "EncodingWarning" in line and re.match(OURS, line)]
    assert not ours, "a file is opened in the locale's encoding"
    assert done.returncode == 0, said
    return done


@pytest.mark.parametrize("place", PLACES)
def test_words_are_written_and_shown_everywhere(out, place):
    done = run(place, "experiments", "verdicts", "--out", out)
    assert b"1 verdicts: 1 holds" in done.stdout
    assert b"\x1b" not in done.stdout, "results do not steer a terminal"
    [verdict] = json.loads((out / "verdicts.json").read_text(encoding="utf-8"))["verdicts"]
    assert verdict["claim"] == "κ ≤ 1 \x1b[31m"
    assert verdict["sentence"] == "It is ≤ \ud800."


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_an_experiment_runs_everywhere(tmp_path, place):
    run(place, f"experiments.{NAME}", "--quick", "--out", tmp_path / "ü")
    assert results.load(tmp_path / "ü" / NAME).sizes
    assert store.read_json(tmp_path / "ü" / NAME / "verdicts.json", list)
    run(place, "experiments", "list")


def test_the_console_of_this_process_takes_every_character(capsys, monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert COLLECTION.main(["list"]) == 0
    narrow.flush()
    assert "\N{SECTION SIGN}".encode("cp1252") in narrow.buffer.getvalue()
