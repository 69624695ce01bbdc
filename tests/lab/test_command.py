"""An experiment's command line: files, redrawing, settings, exit codes, one sentence for whatever goes wrong."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from stubs import interrupt, stub, worked

from fnn import lab, store
from fnn.lab import command, findings, process, results

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def unprepared(monkeypatch):
    """This process's JAX is set up already."""
    monkeypatch.setattr(process, "prepare", lambda: None)


def started(name, *options, **environment):
    """An experiment of the collection, in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "experiments", name, *map(str, options)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_disk_that_fills_up_meanwhile_costs_nothing(tmp_path, monkeypatch, capsys):
    """The data go to the temporary folder when their own place refuses them after the work is done; blocks stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "out" / "stub" / "metrics.nc").mkdir(parents=True)  # a place that no file can take
    store.Store(tmp_path / "out" / "stub" / "blocks", {}).write(0, {})
    measured = xr.Dataset({"loss": ("step", np.arange(3.0))}, attrs={"complete": 1})
    assert command.main(stub(lambda cfg: measured), ["--out", str(tmp_path / "out")]) == 2
    (shelter,) = tmp_path.glob("fnn-*/stub")
    xr.testing.assert_equal(results.load(shelter), measured)
    said = capsys.readouterr().err
    assert "metrics.nc: Is a directory. The results are" in said
    assert f"kept in {shelter}" in said
    assert len(said.splitlines()) == 1
    assert (tmp_path / "out" / "stub" / "blocks" / "000000.npz").exists()


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        ("mnist", "", "mnist"),
        ("fashion_mnist", "--steps 300 --seeds 3", "fashion_mnist, not mnist, seeds 3 (not 10), steps 300 (not 2000)"),
        ("fashion_mnist", "--dataset fashion_mnist", "fashion_mnist, not mnist"),
    ],
)
def test_a_claim_names_the_data_it_was_measured_on(tmp_path, capsys, dataset, options, said):
    assert command.main(worked(dataset=dataset), [*options.split(), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"holds: It works [{said}]. +4.5 m [+2.45, +6.55], 8 seeds." in printed
    assert f"Why? Because. [figure, {said}]" in printed
    (verdict,) = json.loads((tmp_path / "stub" / "verdicts.json").read_text())
    found = verdict["setting"]
    assert (found["dataset"], found["checksum"], found["length"], found["quick"]) == (dataset, "ab12", "3 steps", False)
    assert verdict["effects"] == list(range(1, 9))
    (answer,) = json.loads((tmp_path / "stub" / "answers.json").read_text())
    assert answer["setting"] == found


def test_a_quick_run_has_effects_and_no_outcomes(tmp_path, capsys):
    assert command.main(worked(dataset="mnist_5k"), ["--quick", "--out", str(tmp_path)]) == 0
    for arguments in ([], ["--redraw", "--out", str(tmp_path)]):
        assert not arguments or command.main(worked(), arguments) == 0
        printed = capsys.readouterr().out
        assert "A quick run: effects only, no verdicts." in printed
        assert "effect: It works [mnist_5k, quick run]. +4.5 m" in printed
        assert "holds" not in printed
        (verdict,) = json.loads((tmp_path / "stub" / "verdicts.json").read_text())
        assert (verdict["outcome"], verdict["effect"], verdict["setting"]["quick"]) == (None, 4.5, True)
    found = findings.gather(tmp_path, ["stub"])
    assert "\n0 verdicts; 1 effects of quick runs, without an outcome\n" in f"{findings.table(found)}\n"
    assert "holds" not in findings.table(found)


LACKING = (lambda ds: ds.no_such_variable, lambda ds: ds["no_such_variable"], lambda ds: ds.sel(seed=0))


@pytest.mark.parametrize("missing", LACKING)
@pytest.mark.parametrize("what", ["claims", "answers", "summary", "figures"])
def test_saved_data_that_lack_something_are_a_sentence(tmp_path, capsys, what, missing):
    """They may be of another version; where they were just measured, it is a fault of the experiment."""
    experiment = worked(dataset="mnist")
    assert command.main(experiment, ["--out", str(tmp_path)]) == 0
    claim = lab.Claim("It is there", missing, lab.above(0.0))
    lacks = {"claims": (claim,), "answers": missing, "summary": missing, "figures": {"one": missing}}
    experiment = dataclasses.replace(experiment, **{what: lacks[what]})
    capsys.readouterr()
    assert command.main(experiment, ["--redraw", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "lack what this version reads" in said
    assert "measure them again" in said
    assert len(said.splitlines()) == 1
    if what == "claims":
        assert command.main(experiment, ["--out", str(tmp_path)]) == 2
        assert "lacks what the claim 'It is there' measures" in capsys.readouterr().err
    else:
        with pytest.raises((AttributeError, KeyError)):
            command.main(experiment, ["--out", str(tmp_path)])


def test_a_missing_platform_is_a_sentence(tmp_path):
    done = started("weight_init_compare", "--quick", "--out", tmp_path, JAX_PLATFORMS="nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match("weight_init_compare: JAX finds no device: .*'nowhere'.*\n$", done.stderr)


def test_data_of_an_interrupted_run_are_marked():
    ds = xr.Dataset({"loss": ("step", np.arange(3.0))}, attrs={"dataset": "mnist", "complete": 0})
    ds.attrs["options"] = json.dumps({"steps": 2000, "seeds": 10})
    found = command.measured_on(worked(), ds)
    assert (str(found), found.length) == ("mnist, interrupted", "3 steps")


@pytest.mark.parametrize("options", [None, "", "[]", "{", "[" * 100_000, 5, "\0"])
def test_unknown_options_are_named(options):
    ds = xr.Dataset(attrs={"dataset": "mnist", **({} if options is None else {"options": options})})
    assert str(command.measured_on(worked(), ds)) == "mnist, unknown options"


@pytest.mark.parametrize("becomes", ["lost", "damaged", "another run's"])
def test_data_of_a_quick_run_stay_so_whatever_becomes_of_their_provenance(tmp_path, capsys, becomes):
    """A kill between the two files of a later run may leave that of another run beside them."""
    assert command.main(worked(dataset="mnist"), ["--quick", "--out", str(tmp_path)]) == 0
    provenance = tmp_path / "stub" / "provenance.json"
    if becomes == "another run's":
        config = json.loads(provenance.read_text())["config"]
        store.save_json(provenance, {"config": {**config, "quick": False, "steps": 2000, "seeds": 10}})
    elif becomes == "damaged":
        provenance.write_text("[]")
    else:
        provenance.unlink()
    capsys.readouterr()
    assert command.main(worked(), ["--redraw", "--out", str(tmp_path)]) == 0
    assert "effect: It works [mnist, quick run]. +4.5 m" in capsys.readouterr().out
    assert json.loads((tmp_path / "stub" / "verdicts.json").read_text())[0]["outcome"] is None


def test_an_early_interrupt_is_a_sentence(tmp_path, capsys):
    assert command.main(stub(interrupt), ["--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "stub: interrupted; there was nothing yet to keep.\n"
    assert list(tmp_path.iterdir()) == []
