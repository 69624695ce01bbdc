"""The page of a stranger's experiment: the content of its record and of figures.json, and nothing else."""

import re

import numpy as np
import pytest
import xarray as xr
from stubs import stub

from fnn import lab, store
from fnn.lab import __main__ as start
from fnn.lab import command, figures, process, results
from fnn.lab.report import gather, page
from fnn.lab.verdicts import Answer

MINE = '''"""A file of one's own."""
import beside
import numpy as np
import xarray as xr
from fnn import lab
from fnn.lab import figures

EFFECT = lambda ds: ds.loss.sel(rule="a", drop=True).mean("step") - ds.loss.sel(rule="b", drop=True).mean("step")


def run(cfg):
    loss = np.random.default_rng(0).uniform(size=(2, cfg.seeds, 5)) + np.array([1, 0])[:, None, None]
    coords = {"rule": ["a", "b"], "seed": range(cfg.seeds), "step": range(5)}
    return xr.Dataset({"loss": (("rule", "seed", "step"), loss, {"units": "nats", "long_name": "loss"})}, coords)


EXPERIMENT = lab.Experiment(
    question="Is a <b> above b?",
    source="a paper §2.1",
    says="It is.\\n\\nSo they say.",
    method="By `hand`.",
    takes="1 s",
    run=run,
    claims=(lab.Claim("a is above b", EFFECT, lab.above(0), "nats", figure="loss"),),
    figures={"loss": figures.curves("loss", "rule", "The loss of both")},
)
if __name__ == "__main__":
    EXPERIMENT.main()
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A stranger's file with its results, in the current folder."""
    monkeypatch.setattr(process, "prepare", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("ONE = 1\n")
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [*start.sys.path])
        experiment = start.load(tmp_path / "mine.py")
        assert command.main(experiment, []) == 0
        yield experiment
    for name in ("mine", "beside"):
        start.sys.modules.pop(name, None)


def test_a_file_alone_has_its_page(mine, tmp_path, capsys):
    assert start.main(["report", "mine.py"]) == 0
    assert "report.html" in capsys.readouterr().out
    text = (tmp_path / "results" / "report.html").read_text()
    said = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    for words in ("Is a &lt;b&gt; above b?", "So they say.", "a is above b", "The loss of both", "python mine.py"):
        assert words in said, words
    assert "<code>hand</code>" in text
    assert "python -m fnn.lab report mine.py" in said
    assert text.count('<script type="module">') == 1
    assert 'id="library"' not in text
    assert len(text) < 300_000


def test_a_figure_has_the_texts_of_its_record(mine, tmp_path):
    [entry] = gather.gather(tmp_path / "results", {"mine": mine}).entries
    [figure] = entry.figures
    assert (entry.section, entry.package, entry.says) == ("2.1", "", ("It is.", "So they say."))
    assert figure.title == "The loss of both"
    assert figure.caption.startswith("10 seeds, paired")
    assert figure.alt.endswith("a is above b: holds.")
    assert [verdict.claim for verdict in figure.shows] == ["a is above b"]


def test_figures_that_show_something_come_first_and_keep_their_order(tmp_path):
    names = ["e", "d", "c", "b", "a"]
    drawn = {name: figures.plotting.figure(2, 2) for name in names}
    effect = lambda ds: xr.DataArray(np.ones(8), dims="seed")
    claim = lab.Claim("It is", effect, lab.above(0), figure="a")
    experiment = stub(lambda cfg: None, claims=(claim,), figures={name: lambda ds: None for name in names})
    verdicts = experiment.judge(xr.Dataset())
    answers = [Answer("Why?", "So.", "c", 8)]
    words = {"figures": {name: figures.words(one) for name, one in drawn.items()}}
    results.save_findings(tmp_path / "stub", verdicts, answers, drawn, words, {})
    store.save_json(tmp_path / "stub" / "provenance.json", {"config": {}})
    shown = lambda: [one.name for one in gather.gather(tmp_path, {"stub": experiment}).entries[0].figures]
    assert shown() == names
    finest = gather.FINENESS[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "FINENESS", (gather.Fineness(finest.quality, finest.widest, 3),))
        assert shown() == ["e", "c", "a"], "what shows an answer or a claim, and the first of the others"


@pytest.mark.parametrize("content", ["{half", "[]", "3", '{"loss": 3}', '{"loss": {"title": 1}}'])
def test_words_of_another_shape_are_named(mine, tmp_path, content):
    store.publish(tmp_path / "results" / "mine", {"figures.json": content.encode()})
    found = gather.gather(tmp_path / "results", {"mine": mine})
    [trouble] = found.troubles
    assert "figures.json cannot be read" in trouble
    assert "--redraw makes it again" in trouble
    assert found.entries[0].figures[0].title == "Loss"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["report"], "The report is of one experiment at least"),
        (["report", "lost.py"], "There is no file lost.py"),
        (["report", "beside.py"], "beside.py holds no EXPERIMENT"),
        (["report", "mine.py", "--out", "nowhere"], "There is no results folder nowhere"),
    ],
)
def test_what_has_no_page_is_a_sentence(mine, capsys, words, sentence):
    capsys.readouterr()
    assert start.main(words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_an_experiments_own_package_is_its_group():
    group = gather.Group("fnn.lab.report", ())
    assert group.title == "The report"
    assert group.about.startswith("One page, without network")
    assert gather.Group("", ()).title == ""


def test_what_a_page_has_beside_its_results_is_put_in_its_place(mine, tmp_path):
    more = page.More(title="T <1>", parts={"": "<p>the end</p>"}, contents={"": [("x", "X")]}, data={"d": "</script>"})
    text = page.write(tmp_path / "results", {"mine": mine}, lambda: more).path.read_text()
    assert "<h1>T &lt;1&gt;</h1>" in text
    assert "<p>the end</p>" in text
    assert '<a href="#x">X</a>' in text
    assert text.count("</script>") == 2, "data end no element"
