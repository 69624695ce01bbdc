"""What every experiment keeps: labels, figures, claims, redrawing, resuming, options, help, its place on the page.

Experiments are discovered, and each runs once, with --quick, for all tests. All this is the work of `fnn.lab` for one
experiment as for any other, so that the runs of some that differ in kind are enough; those of the others are slow.
"""

import contextlib
import dataclasses
import functools
import io
import json
import math
import re
import shutil

import pytest
import xarray as xr

from experiments.__main__ import COLLECTION
from fnn import store
from fnn.lab import command, process, results
from fnn.lab.report import gather

EXPERIMENTS = COLLECTION.experiments()

TIMED = {name for name, one in EXPERIMENTS.items() if one.alone}
"""Experiments that measure times, which no two runs have alike."""


def started(experiment, *words):
    """Exit code, standard output and error of an experiment's command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "prepare", lambda: None)
        try:
            code = command.main(experiment, list(words))
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


OF_EVERY_KIND = ("weight_init_compare", "hyperparameter_map", "loss_surface", "optimizer_oracles", "bench_search")
"""A sweep, a sweep of a trial, a drawing without training, exact results with tables, a benchmark."""


@pytest.fixture(scope="module", params=EXPERIMENTS)
def every(request):
    """Every experiment."""
    return EXPERIMENTS[request.param]


@pytest.fixture(
    scope="module",
    params=[name if name in OF_EVERY_KIND else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS],
)
def experiment(request):
    """Every experiment whose run is tested."""
    return EXPERIMENTS[request.param]


@pytest.fixture(scope="module")
def out(experiment, tmp_path_factory):
    """A results folder with a quick run of the experiment."""
    folder = tmp_path_factory.mktemp(experiment.name)
    code, said, wrong = started(experiment, "--quick", "--out", str(folder))
    assert code == 0, wrong
    assert "A quick run: effects only, no verdicts." in said
    return folder


def test_its_data_are_labelled(experiment, out):
    ds = results.load(out / experiment.name)
    unlabeled = {dim for dim in ds.dims if not any(dim in coord.dims for coord in ds.coords.values())}
    assert not unlabeled, "every dimension has its places"
    assert {"seed", "lap"} & set(ds.dims), "what is repeated"
    said = {name: ds[name].attrs for name in ds.data_vars}
    assert not [name for name, attrs in said.items() if not attrs.get("long_name")], "what is measured, in words"
    assert not [name for name, attrs in said.items() if "units" not in attrs and ds[name].dtype.kind == "f"]


def test_its_figures_are_drawn_and_in_words(experiment, out):
    folder = out / experiment.name
    words = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    assert set(words) <= set(experiment.figures)
    for name, said in words.items():
        assert (folder / f"{name}.png").stat().st_size > 1000
        assert (folder / f"{name}.svg").is_file()
        assert said["alt"], name
        assert said["title"], name
        assert said["caption"], name
    drawn = {path.stem for path in folder.glob("*.png")}
    assert drawn == set(words)


def test_its_claims_name_their_figures_and_have_effects_only(experiment, out):
    folder = out / experiment.name
    words = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    for verdict in json.loads((folder / "verdicts.json").read_text(encoding="utf-8")):
        assert verdict["outcome"] is None
        assert verdict["setting"]["quick"] is True
        assert verdict["figure"], f"no figure shows {verdict['claim']!r}"
        if verdict["figure"] in words:
            assert verdict["claim"] in words[verdict["figure"]]["alt"]


def test_redrawing_makes_the_same_files(experiment, out, tmp_path):
    shutil.copytree(out / experiment.name, tmp_path / experiment.name)
    before = {path.name: path.read_bytes() for path in (out / experiment.name).iterdir() if path.is_file()}
    for path in (tmp_path / experiment.name).iterdir():
        if path.suffix in (".png", ".md") or path.name in ("verdicts.json", "answers.json", "figures.json"):
            path.write_bytes(b"")
    code, _, wrong = started(experiment, "--redraw", "--out", str(tmp_path))
    assert code == 0, wrong
    for name, content in before.items():
        if not name.startswith(".") and not name.endswith(".svg") and name != store.SUMS:  # a SVG has its date
            assert (tmp_path / experiment.name / name).read_bytes() == content, name


def test_an_interrupted_run_resumes_to_the_same_numbers(experiment, out, tmp_path, monkeypatch):
    if experiment.name in TIMED:
        pytest.skip("No two runs take the same time.")
    written = []

    def once(kept, *arguments):
        write(kept, *arguments)
        written.append(arguments)
        if len(written) == 1:
            raise KeyboardInterrupt

    write = store.Store.write
    monkeypatch.setattr(store.Store, "write", once)
    code, _, said = started(experiment, "--quick", "--out", str(tmp_path))
    if not written:
        pytest.skip("It computes nothing that would be worth keeping.")
    assert code == 130
    assert re.search("goes on from the (1 checkpoint|trials) in", said), said
    assert len(said.splitlines()) == 1 + said.count(" of ")
    code, _, wrong = started(experiment, "--quick", "--out", str(tmp_path))
    assert code == 0, wrong
    xr.testing.assert_identical(results.load(tmp_path / experiment.name), results.load(out / experiment.name))


def numbers(experiment):
    """Its options that are numbers, with a value that none can have."""
    _, said, _ = started(experiment, "--help")
    for field in dataclasses.fields(experiment.config):
        if f"--{field.name.replace('_', '-')}" not in said:
            continue  # a question may have no use for an option of all
        default = getattr(experiment.config(), field.name)
        kind = default[0] if isinstance(default, tuple) and default else default
        if not isinstance(kind, bool) and isinstance(kind, int | float):
            yield field.name.replace("_", "-"), "-1" if isinstance(kind, int) else "nan"


def test_a_bad_number_is_one_sentence_before_work_starts(every, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = functools.wraps(every.run)(lambda cfg: pytest.fail("it measures"))
    idle = dataclasses.replace(every, run=run)
    assert idle.name == every.name
    for option, value in numbers(every):
        code, said, wrong = started(idle, "--quick", f"--{option}", value)
        assert (code, said) == (2, ""), (option, value)
        assert len(wrong.splitlines()) == 1, wrong
        assert f"--{option}" in wrong, (option, wrong)
        assert not list(tmp_path.iterdir())


def test_its_help_describes_it(every):
    code, said, _ = started(every, "--help")
    assert code == 0
    assert every.question.split()[-1] in said
    assert "--out" in said


def test_its_record_is_complete(every):
    assert every.question.endswith("?") or "? " in every.question or ": " in every.question
    assert every.takes
    assert every.method
    assert every.claims
    assert all(claim.figure for claim in every.claims)
    assert every.module.startswith("experiments.")


def test_it_has_its_place_on_the_page(experiment, out):
    found = gather.gather(out, {experiment.name: experiment})
    assert found.troubles == ()
    [entry] = found.entries
    assert entry.provenance is not None
    assert entry.figures
    assert all(math.isfinite(figure.width) and figure.alt for figure in entry.figures)
    [group] = found.groups
    assert group.title
