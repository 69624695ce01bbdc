"""The report: whole, partial, damaged and hostile results folders, in text and in a real browser."""

import dataclasses
import json
import math
import os
import re
import resource
import shutil
import struct
import zlib
from html.parser import HTMLParser

import h5netcdf
import numpy as np
import pytest
import xarray as xr

from experiments.__main__ import COLLECTION
from experiments._playground import embed, pack, parts, play, surfaces
from fnn import store
from fnn.base.errors import InputError
from fnn.lab import command, findings, plotting, process, results, run_all
from fnn.lab.figures import words as words_of
from fnn.lab.report import gather, page, pictures
from fnn.lab.verdicts import Answer, Verdict
from fnn.store import SUMS

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
ARRIVED = "optimizer_compare_mnist"
EXPERIMENTS = COLLECTION.experiments()
VALLEY, ONE = EXPERIMENTS["loss_surface"], {ARRIVED: EXPERIMENTS[ARRIVED]}


def write(out):
    """The page with little to play with."""
    return page.write(out, EXPERIMENTS, lambda: parts.more(out, quick=True))


class Reader(HTMLParser):
    """Every element with its attributes, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.ids, self.silent = [], [], set(), False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids |= {dict(attrs).get("id")}
        self.silent = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.silent = False

    def handle_data(self, data):
        if not self.silent:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())


def squeezed(text):
    return " ".join(text.split())


def figure(title):
    """A small figure of the project's."""
    made = plotting.figure(3, 2)
    plotting.axes(made, title, "iterations", "loss (nats)").plot([0, 1], [1, 0], label="a line")
    plotting.caption(made, "mnist_5k · 3 seeds, paired")
    return made


@pytest.fixture(scope="module", autouse=True)
def jax_is_set_up():
    """For all tests of this process, so a command must not do it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "prepare", lambda: None)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A results folder: a real experiment, and one with learning curves, an answer and hostile strings everywhere."""
    folder = tmp_path_factory.mktemp("report") / "results"
    assert command.main(VALLEY, ["--seeds", "100", "--out", str(folder)]) == 0
    loss = np.exp(-np.linspace(0, 3, 40)) * np.ones((2, 3, 1)) + 0.01 * np.random.default_rng(0).random((2, 3, 40))
    names = ["sgd", HOSTILE]
    measured = xr.Dataset({"loss": (("optimizer", "seed", "step"), loss)}, {"optimizer": names}, {"note": HOSTILE})
    stored = {
        "config": {"seeds": 3, "steps": 40, HOSTILE: HOSTILE, "out": "/elsewhere"},
        "command": ["/usr/bin/python", "/x/optimizer_compare_mnist.py", "--out", "/elsewhere", "--steps", HOSTILE],
        "versions": {"fnn": HOSTILE, "jax": 3},
        "dataset": HOSTILE,
        "device": None,
        "time": HOSTILE,
    }
    results.save_data(folder / ARRIVED, measured, stored)
    verdicts = [
        Verdict(
            f"Momentum beats SGD {HOSTILE}", 0.5, 0.2, 0.8, HOSTILE, 3, "holds", HOSTILE, HOSTILE, figure="06_loss"
        ),
        Verdict("One seed has no interval", math.nan, -math.inf, math.inf, "", 1, "undecided", "So it is."),
    ]
    answers = [Answer(f"Why? {HOSTILE}", f"Because. {HOSTILE}", "06_loss", 3, HOSTILE)]
    drawn = {"06_loss": figure("Training loss of each rule (notes, figure 06)"), "other": figure("Something else")}
    words = {name: words_of(one, [f"Why? Because. {HOSTILE}"]) for name, one in drawn.items()}
    results.save_findings(folder / ARRIVED, verdicts, answers, drawn, {"figures": words}, {})
    shutil.copy(folder / ARRIVED / "other.png", folder / ARRIVED / "a<b> & 'c'.png")
    return folder


@pytest.fixture(scope="module")
def made(out):
    """The page of that folder, and what writing it printed."""
    written = write(out)
    return written, written.path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader(made):
    return Reader(made[1])


def test_every_finding_is_on_the_page(out, made, reader):
    written, _ = made
    found = findings.gather(out, list(EXPERIMENTS))
    words = reader.words()
    assert len(found.verdicts) > 3
    for _, verdict in found.verdicts:
        assert words.count(squeezed(verdict.claim)) >= 2, "in the front table and with its experiment"
        assert squeezed(verdict.sentence) in words
    for _, answer in found.answers:
        assert squeezed(answer.answer) in words
    assert written.troubles == ()


def test_every_experiment_is_listed_and_missing_ones_with_their_commands(made, reader):
    written, _ = made
    words = reader.words()
    for name, experiment in EXPERIMENTS.items():
        assert name in reader.ids
        assert squeezed(experiment.question.replace("`", "")) in words
        assert (name in written.missing) == (name not in ("loss_surface", ARRIVED))
        assert f"python -m {experiment.module}" in words
    linked = {attrs["href"][1:] for attrs in reader.all("a") if attrs.get("href", "").startswith("#")}
    assert linked <= reader.ids, "every link within the page leads somewhere"


def test_pictures_have_alternative_text_and_a_fixed_size(reader):
    pictures = [attrs for attrs in reader.all("img") if attrs.get("src")]
    assert len(pictures) == 4 + 3
    for attrs in pictures:
        assert attrs["src"].startswith("data:image/webp;base64,")
        assert int(attrs["width"]) > 100
        assert int(attrs["height"]) > 100
        assert attrs["loading"] == "lazy"
    alts = {attrs["alt"] for attrs in pictures}
    assert any("figure 06" in alt and "Because." in alt for alt in alts), "the answer that names the figure"
    assert any(alt.endswith(": holds.") for alt in alts), "a verdict"
    assert "mnist_5k · 3 seeds, paired" in reader.words(), "the small print, read from the SVG"
    for attrs in reader.all("div"):
        assert attrs.get("role") != "img" or len(attrs["aria-label"]) > 20


def test_nothing_of_the_results_becomes_markup(made, reader):
    _, text = made
    scripts = reader.all("script")
    assert len([one for one in scripts if one.get("type") == "module"]) == 2
    assert {one.get("type") for one in scripts} == {"module", "text/plain", "application/json"}
    assert not [attrs for _, attrs in reader.elements if any(name.startswith("on") for name in attrs)]
    assert squeezed(HOSTILE) in reader.words(), "it is there, as text, and the template does not compute it"
    assert "alert(1)</script>" not in re.sub(r"&lt;/script&gt;|\\u003c", "", text)
    [policy] = [one["content"] for one in reader.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "eval" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]


def test_the_command_leaves_out_paths(out):
    [entry] = [one for one in gather.gather(out, EXPERIMENTS).entries if one.name == ARRIVED]
    assert entry.command.startswith(f"python -m experiments.updates.{ARRIVED} --steps '</script>")
    assert "/elsewhere" not in entry.command
    assert ("steps", "40") in entry.provenance.settings


def test_it_is_self_contained_and_small(made, reader):
    written, text = made
    assert written.size == written.path.stat().st_size < 8e6
    for tag, attrs in reader.elements:
        for name in ("src", "href", "srcset", "action", "poster"):
            link = attrs.get(name)
            assert not link or link.startswith(("#", "data:")), (tag, name, link[:80])
    assert "@import" not in text
    assert "url(" not in (page.HERE / "style.css").read_text()


def test_pictures_grow_coarser_until_the_page_is_light(out, monkeypatch):
    docs = ONE
    weight = lambda found: sum(len(one.uri) for entry in found.entries for one in entry.figures)
    fine = gather.gather(out, docs)
    monkeypatch.setattr(gather, "PICTURES", weight(fine) - 1)
    coarse = gather.gather(out, docs)
    assert 0 < weight(coarse) < weight(fine)
    monkeypatch.setattr(gather, "PICTURES", 1)
    assert len(gather.gather(out, docs).entries[0].figures) == 1, "one is always shown"


def test_what_is_damaged_is_named_and_left_out(out, tmp_path, capsys):
    folder = tmp_path / "results"
    shutil.copytree(out, folder)
    theirs, ours = folder / ARRIVED, folder / "loss_surface"
    (theirs / "verdicts.json").write_text("{half")
    (theirs / "answers.json").write_text(json.dumps([{"question": "Why?", "answer": 3, "figure": "x", "seeds": 1}]))
    (theirs / "metrics.nc").write_bytes(b"no such thing")
    (theirs / "06_loss.png").write_bytes((theirs / "06_loss.png").read_bytes()[:500])
    (theirs / "figures.json").write_bytes(b"\xff\xfe[1")
    (ours / "provenance.json").write_text("[1, 2]")
    stored = json.loads((theirs / "provenance.json").read_text())
    store.save_json(theirs / "provenance.json", stored | {"device": "\ud800 is no letter", "command": [1, 2, 3]})
    assert COLLECTION.main(["report", "--quick", "--out", str(folder)]) == 1
    output = capsys.readouterr().out
    words = Reader((folder / "report.html").read_text()).words()
    for name in ("verdicts.json", "answers.json", "figures.json", "metrics.nc", "06_loss.png", "provenance.json"):
        assert name in output
        assert name in words
    assert "Something else" not in words
    assert "loss_surface" in output.rpartition("Without results yet")[2], "without provenance there are no results"


HUGE = json.dumps([dataclasses.asdict(Verdict("a", 1.0, 1.0, 1.0, "", 3, "holds", "b")) | {"effect": 10**400}])
WRONG = [HUGE, "3", "null", '{"a": 1}', "[3]", '[{"claim": 1}]', "[" * 100_000, "\x00", '{"config": null}', "9" * 5000]
WRONG += ["[[[[[[]]]]]]", "NaN", "[true]", '"text"', "", '[{"question": NaN}]']


@pytest.mark.parametrize("content", WRONG, ids=lambda content: content[:20])
def test_findings_of_another_shape_are_named(tmp_path, content):
    store.publish(tmp_path / ARRIVED, {"verdicts.json": content.encode()})
    found = findings.gather(tmp_path, [ARRIVED])
    assert not found.verdicts
    assert len(found.unreadable) == 1
    assert "verdicts.json cannot be read" in found.unreadable[0]


def test_a_quick_run_is_effects_only(tmp_path, out):
    assert command.main(VALLEY, ["--quick", "--out", str(tmp_path)]) == 0
    shutil.copytree(out / "report", tmp_path / "report")  # what was computed for the other page
    assert COLLECTION.main(["report", "--quick", "--out", str(tmp_path)]) == 0
    page_of_it = Reader((tmp_path / "report.html").read_text())
    assert "Quick run: effects only." in page_of_it.words()
    rows = [attrs["data-outcome"] for attrs in page_of_it.all("tr") if "data-outcome" in attrs]
    assert rows == ["effect only"] * 3
    alts = [attrs["alt"] for attrs in page_of_it.all("img") if attrs.get("src")]
    assert any("effect only" in alt for alt in alts)
    assert not any("holds" in alt for alt in alts)


def test_a_setting_other_than_the_default_is_named(reader):
    assert "the experiment’s own setting: seeds 100 (not 1000)" in reader.words()


@pytest.mark.parametrize("content", WRONG, ids=lambda content: content[:20])
def test_provenance_of_another_shape_stops_nothing(tmp_path, content):
    """Neither the report, nor the verdicts, nor `all`, which makes the experiment again."""
    store.publish(tmp_path / ARRIVED, {"provenance.json": content.encode(), "verdicts.json": b"[]", "metrics.nc": b""})
    found = gather.gather(tmp_path, ONE)
    [entry] = found.entries
    if content.startswith("{"):  # an object, of which nothing is known
        assert entry.provenance.settings == ()
    else:
        assert entry.provenance is None
        assert re.search(
            r"provenance.json cannot be read: it is .*; running the experiment makes it", found.troubles[0]
        )
    assert findings.gather(tmp_path, [ARRIVED]).unreadable == []
    assert not run_all.unchanged(EXPERIMENTS[ARRIVED], ["--out", str(tmp_path)])


def test_links_out_of_the_folder_are_not_followed(out, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(out, folder)
    theirs, elsewhere = folder / ARRIVED, tmp_path / "elsewhere"
    theirs.rename(elsewhere)
    theirs.mkdir()
    shutil.copy(elsewhere / SUMS, theirs)
    names = ("verdicts.json", "answers.json", "metrics.nc", "06_loss.png")
    for name in names:
        (theirs / name).symlink_to(elsewhere / name)
    shutil.copy(elsewhere / "provenance.json", theirs)
    os.mkfifo(theirs / "pipe.png")
    (theirs / "loop.png").symlink_to("loop.png")
    (theirs / "a folder.png").mkdir()
    found = gather.gather(folder, ONE)
    curves = embed.learning_curves(folder, troubles := list(found.troubles))
    assert curves is None
    assert not found.entries[0].figures
    for name in names:
        assert any(f"{name} is not read: it is a link to a file elsewhere" in trouble for trouble in troubles)
    others = [trouble for trouble in troubles if "is a link to a file elsewhere" not in trouble]
    assert len(troubles) == len(names) + len(others)
    assert all("was written here, and is missing" in trouble for trouble in others), "neither pipe nor loop nor folder"
    theirs.rename(folder / "moved")
    theirs.symlink_to(elsewhere)
    assert len(gather.gather(folder, ONE).troubles) == 3
    (folder / "inside").mkdir()
    theirs.unlink()
    elsewhere.rename(folder / "inside" / ARRIVED)
    theirs.symlink_to(folder / "inside" / ARRIVED)
    assert gather.gather(folder, ONE).troubles == (), "a link within the folder is one's own"


def png(width, height, path):
    """A picture of one color: small on disk, however large."""
    chunk = lambda kind, content: (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    )
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + -(-width // 8)) * height), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.filterwarnings("ignore:Image size")
def test_huge_pictures_are_not_decoded(tmp_path):
    png(13_300, 13_300, tmp_path / "huge.png")
    png(3, 2, tmp_path / "small.png")
    assert (tmp_path / "huge.png").stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"13300 × 13300 pixels are too many"):
        pictures.picture(tmp_path / "huge.png", 80, 1120)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB"
    assert pictures.picture(tmp_path / "small.png", 80, 1120)[1:] == (3, 2)
    png(10, 100_000, tmp_path / "tall.png")
    _, width, height = pictures.picture(tmp_path / "tall.png", 80, 1120)
    assert (width, height) == (1, 5600)
    for damaged in (b"", b"GIF89a", (tmp_path / "small.png").read_bytes()[:40]):
        (tmp_path / "small.png").write_bytes(damaged)
        with pytest.raises((OSError, ValueError)):
            pictures.picture(tmp_path / "small.png", 80, 1120)


def test_ten_thousand_verdicts_make_no_heavy_page(out, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(out, folder)
    many = [Verdict(f'"{n}" & < {"long " * 60}', 0.5, 0.2, 0.8, "", 3, "holds", "&" * 500) for n in range(10_000)]
    long = [Answer("Why?", "because " * 100_000, f"figure {n}", 3) for n in range(30)]
    stored = {"config": {f"option {n}": "x" * 10_000 for n in range(2_000)}, "command": ["x" * 5_000] * 5_000}
    results.save_findings(folder / ARRIVED, many, long, {}, {}, {})
    store.save_json(folder / ARRIVED / "provenance.json", stored)
    for n in range(300):
        (folder / ARRIVED / f"{'n' * 200}{n}.png").write_bytes(b"")
    written = write(folder)
    assert written.size < 8e6
    [lost] = [trouble for trouble in written.troubles if "no room" in trouble]
    assert re.match(r"9,\d\d\d of 10,030 findings in .* are left out: there is no room", lost)
    ours = findings.gather(folder, ["loss_surface"]).verdicts
    words = Reader(written.path.read_text(encoding="utf-8")).words()
    assert all(squeezed(verdict.sentence) in words for _, verdict in ours), "others are complete"


LOSSES = {
    "text": np.full((2, 3, 40), "text"),
    "truths": np.ones((2, 3, 40), bool),
    "complex": np.ones((2, 3, 40), complex),
    "dates": np.zeros((2, 3, 40), "datetime64[ns]"),
    "empty": np.ones((2, 3, 0)),
}


@pytest.mark.filterwarnings("ignore:You are writing invalid netcdf features")
@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_that_is_no_loss_is_named(tmp_path, kind):
    ds = xr.Dataset({"loss": (("optimizer", "seed", "step"), LOSSES[kind])}, {"optimizer": ["a", "b"]})
    if kind == "complex":
        with h5netcdf.File(tmp_path / "raw.nc", "w", invalid_netcdf=True) as raw:
            raw.dimensions = {"optimizer": 2, "seed": 3, "step": 40}
            raw.create_variable("loss", ("optimizer", "seed", "step"), data=LOSSES[kind])
        store.publish(tmp_path / ARRIVED, {"metrics.nc": (tmp_path / "raw.nc").read_bytes()})
    else:
        results.save_data(tmp_path / ARRIVED, ds, {})
    assert embed.learning_curves(tmp_path, troubles := []) is None
    assert len(troubles) == 1
    assert "metrics.nc" in troubles[0]


@pytest.mark.parametrize("dtype", ["i4", "f4", "f8"])
def test_many_curves_are_cut_to_what_the_page_has_room_for(tmp_path, dtype):
    loss = np.ones((40, 300, 250), dtype)
    names = [str(n) * 100 for n in range(40)]
    results.save_data(
        tmp_path / ARRIVED, xr.Dataset({"loss": (("optimizer", "seed", "step"), loss)}, {"optimizer": names}), {}
    )
    curves = embed.learning_curves(tmp_path, troubles := [])
    [race] = curves["races"]
    assert math.prod(race["packed"]["parts"][0]["shape"]) <= embed.VALUES
    assert len(race["contenders"]) == 40
    assert "has room for 40 of 40 optimizers and 40 of 300 seeds" in troubles[0]
    assert max(map(len, race["contenders"])) <= embed.NAME


def test_every_damage_of_a_result_is_named_and_nothing_falls(out, tmp_path):
    """Files swapped, cut off, emptied, made folders; and the checksums of wrong files right."""
    folder = tmp_path / "results"
    names = sorted(path.name for path in (out / ARRIVED).iterdir())
    contents = {name: (out / ARRIVED / name).read_bytes() for name in names}
    others = (
        "provenance.json",
        "verdicts.json",
        "answers.json",
        "metrics.nc",
        "06_loss.png",
        "06_loss.svg",
        "figures.json",
        "SHA256SUMS",
    )
    for name in others:
        for sealed in (False, True):
            for content in [*contents.values(), b"", contents[name][: len(contents[name]) // 2], b"\0" * 1000]:
                if content == contents[name] or (sealed and name == SUMS):
                    continue
                shutil.rmtree(folder, ignore_errors=True)
                (folder / ARRIVED).mkdir(parents=True)
                for other, whole in contents.items():
                    (folder / ARRIVED / other).write_bytes(whole)
                if sealed:
                    store.publish(folder / ARRIVED, {name: content})
                else:
                    (folder / ARRIVED / name).write_bytes(content)
                found = gather.gather(folder, ONE)
                embed.learning_curves(folder, troubles := list(found.troubles))
                assert all("\n" not in trouble for trouble in troubles)
                assert troubles or name.endswith(".svg") or sealed


def test_no_folder_and_no_extra_are_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no results folder"):
        page.write(tmp_path / "none", {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("vl_convert", "PIL") else name)
    with pytest.raises(InputError, match=r"needs pillow: pip install pillow"):
        page.write(tmp_path, {})
    with pytest.raises(InputError, match=r"needs vl-convert-python: pip install vl-convert-python"):
        parts.more(tmp_path, quick=True)


def test_an_empty_folder_makes_a_page_without_results(tmp_path, out):
    shutil.copytree(out / "report", tmp_path / "report")  # what was computed for the other page
    written = write(tmp_path)
    words = Reader(written.path.read_text()).words()
    total = len(EXPERIMENTS)
    assert len(written.missing) == total
    assert f"{total} of {total} experiments have no results here yet" in words


def test_packed_arrays_come_back():
    values = np.array([[0.0, 0.5, 1.0, np.nan], [2.0, -1.0, 0.25, np.inf]])
    for short, step in ((False, 1 / 65534), (True, 1 / 254)):
        packed = pack.pack({"a": pack.Rounded(values, 0, 1, short=short), "b": pack.Rounded(values, 0, 1, short=True)})
        found = unpacked(packed)
        inside = np.isfinite(values) & (values >= 0) & (values <= 1)
        assert (np.isfinite(found["a"]) == inside).all()
        np.testing.assert_allclose(found["a"][inside], values[inside], atol=step / 2)
        np.testing.assert_allclose(found["b"][inside], values[inside], atol=1 / 508)
    floored = unpacked(pack.pack({"a": pack.Rounded(np.array([[-np.inf, 0.5]]), 0, 1, floor=True)}))["a"]
    assert floored[0, 0] == 0


def unpacked(packed):
    """The reverse of `pack.pack`, as play.js does it."""
    import base64
    import gzip

    planes = np.frombuffer(gzip.decompress(base64.b64decode(packed["gzip"])), np.uint8)
    found, at = {}, 0
    for part in packed["parts"]:
        size = math.prod(part["shape"])
        steps = planes[at : at + size].astype(int)
        at += size
        if not part["short"]:
            steps, at = steps + 256 * planes[at : at + size].astype(int), at + size
        mask = 255 if part["short"] else 65535
        codes = np.cumsum(steps.reshape(part["shape"]), -1) & mask
        values = part["low"] + codes / (mask - 1) * (part["high"] - part["low"])
        found[part["name"]] = np.where(codes == mask, np.nan, values)
    return found


def test_paths_are_the_rules_own():
    """SGD in the valley is known exactly, and its learning rate at factor 1 is the notes'."""
    found = play.paths(play.QUICK)
    rule, valley, factor = play.RULES.index("sgd"), surfaces.CONDITIONS.index(20), list(found.factor).index(1)
    assert found.base[rule, valley] == 0.95
    t = np.arange(play.QUICK.steps + 1)
    exact = np.stack([-7 * (1 - 0.95 / 10) ** t, 2 * (1 - 2 * 0.95) ** t], -1)
    np.testing.assert_allclose(found.place[rule, valley, factor, 0], exact, atol=1e-12)
    np.testing.assert_allclose(found.value[rule, valley, factor, 0], exact[:, 0] ** 2 / 20 + exact[:, 1] ** 2)


def test_surfaces_have_their_minima():
    for surface in surfaces.all_surfaces():
        left, right, low, high = surface.window
        for x, y in surface.minima:
            assert float(surface.value(np.array([x, y], float))) == pytest.approx(0, abs=1e-10)
            assert left < x < right
            assert low < y < high
        x, y = surface.start
        assert left < x < right
        assert low < y < high
        lines = [line for _, lines in surfaces.contours(surface, points=31) for line in lines]
        assert len(lines) >= 5


def test_the_plane_has_its_edge():
    found = play.plane(play.QUICK)
    stable = found.lr[:, None] < 1 + found.momentum - 0.05
    unstable = found.lr[:, None] > 1 + found.momentum + 0.05
    assert (found.measured[:, stable] < 1).all()
    assert (found.measured[:, unstable] > 1).all()
    complex_or_not = abs(found.measured - found.exact)
    assert np.median(complex_or_not) < 0.01
    assert complex_or_not.max() < 0.1


def test_an_experiments_group_is_its_package(out):
    groups = {group.package: group for group in gather.gather(out, EXPERIMENTS).groups}
    assert sum(len(group.entries) for group in groups.values()) == len(EXPERIMENTS)
    assert ARRIVED in [entry.name for entry in groups["experiments.updates"].entries]
    for group in groups.values():
        assert group.title
        assert "\n" not in group.title


def test_what_was_computed_is_kept_until_the_settings_change(tmp_path, monkeypatch):
    calls = []

    def sensitivity(cfg):
        calls.append(cfg)
        return play.Sensitivity(np.array(["sgd"]), np.ones(1), np.ones(2), np.array([[1.0, np.nan]]))

    keep = lambda cfg: embed._kept(tmp_path, sensitivity, play.Sensitivity, cfg)
    first, again = keep(play.QUICK), keep(play.QUICK)
    assert len(calls) == 1
    np.testing.assert_array_equal(first.loss, again.loss)
    assert list(again.rules) == ["sgd"]
    keep(play.Config())
    assert len(calls) == 2
    (tmp_path / "report" / "sensitivity.npz").write_bytes(b"PK\x03\x04 half a file")
    keep(play.Config())
    assert len(calls) == 3


# ---- In a real browser ----

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, Debian's; skips where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright.")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("There is no Chromium on this machine: apt-get install chromium.")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture
def opened(browser, made):
    """Opens the page at a width; at the end nothing may have gone wrong or out to the network."""
    written, _ = made
    contexts, wrong = [], []

    def visit(width, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce", **options)
        contexts.append(context)
        view = context.new_page()
        view.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda request: wrong.append(request.url) if not local(request.url) else None)
        view.on("dialog", lambda dialog: wrong.append(dialog.message))
        local = lambda url: url.startswith("data:") or url == written.path.as_uri()
        view.goto(written.path.as_uri())
        return view

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def play_with(figure):
    """Waits until a figure of the page is drawn; gives what is drawn, and a wait for it to be drawn anew."""
    figure.scroll_into_view_if_needed()
    drawn = lambda: int(figure.get_attribute("data-drawn") or 0)
    look = lambda: "".join(figure.locator("svg").evaluate_all("all => all.map((one) => one.outerHTML)"))

    def wait(before):
        figure.page.wait_for_function(
            "([id, before]) => +(document.getElementById(id).dataset.drawn || 0) > before",
            arg=[figure.get_attribute("id"), before],
            timeout=15_000,
        )

    wait(0)
    return look, drawn, wait


@pytest.mark.parametrize("name", ["paths", "plane", "curves", "activations", "sensitivity"])
def test_every_control_changes_the_picture_by_keyboard(opened, name):
    view = opened(1280)
    figure = view.locator(f"#play-{name}")
    look, drawn, wait = play_with(figure)
    assert len(look()) > 1000
    controls = figure.locator("input, select").all()
    assert controls
    for control in sorted(controls, key=lambda one: one.evaluate("one => one.localName") == "select"):
        before, times, status = look(), drawn(), figure.locator(".status").text_content()
        control.focus()
        kind = control.evaluate("one => one.type")
        if kind == "range":
            control.press("ArrowLeft" if control.input_value() == control.get_attribute("max") else "ArrowRight")
        elif kind == "checkbox":
            control.press("Space")
        else:
            others = control.locator("option:not(:checked)")
            if not others.count():
                continue  # one experiment has learning curves, so there is no choice
            control.select_option(others.first.get_attribute("value") or others.first.text_content())
        wait(times)
        assert look() != before, control.get_attribute("name")
        assert control.get_attribute("name") in ("smooth", "seed") or figure.locator(".status").text_content() != status


def test_pointing_at_the_plane_chooses_a_place(opened):
    view = opened(1280)
    figure = view.locator("#play-plane")
    _, drawn, wait = play_with(figure)
    before, status = drawn(), figure.locator(".status").text_content()
    box = figure.locator('[data-chart="plane"] svg').bounding_box()
    view.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.8 * box["height"])
    wait(before)
    assert figure.locator(".status").text_content() != status
    assert "it diverges" in figure.locator(".status").text_content()


MIDDLE = """(path) => {
    const point = path.getPointAtLength(path.getTotalLength() / 2).matrixTransform(path.getScreenCTM());
    return [point.x, point.y];
}"""
"""Where on the screen half of a line is."""


def test_pointing_at_a_seed_follows_it(opened):
    view = opened(1280)
    figure = view.locator("#play-curves")
    play_with(figure)
    thin = figure.locator('svg path[opacity="0.28"]')
    assert thin.count() == 2 * 3, "a line for every seed of both contenders"
    thin.first.scroll_into_view_if_needed()
    x, y = thin.first.evaluate(MIDDLE)
    view.mouse.move(x, y)
    followed = figure.locator('svg path[opacity="1"][stroke-width="3"]')
    followed.wait_for(timeout=5000)
    assert followed.count() == 1
    assert thin.count() == 2 * 3 - 1
    assert re.search(r"seed \d$", figure.locator('output[data-of="pointed"]').text_content())
    view.mouse.move(5, 5)
    followed.wait_for(state="detached", timeout=5000)
    assert figure.locator('output[data-of="pointed"]').text_content() == "nothing"


PAINTED = """() => new Promise((painted) => new PerformanceObserver((list) =>
    list.getEntriesByName("first-contentful-paint").length && painted()).observe({ type: "paint", buffered: true }))"""
"""Waits for the first text on the screen. (Playwright's own wait evaluates a string, which the page forbids.)"""


WATCH = """() => {
    window.shifted = 0;
    const add = (list) => list.getEntries().forEach((one) => (window.shifted += one.hadRecentInput ? 0 : one.value));
    new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
}"""
"""Sums how far things of the page move by themselves, in shares of the window."""


OUTSIDE = """() => [...document.body.querySelectorAll("*")]
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
    .filter((one) => !one.closest(".scroll, .pointed, dialog, .skip"))
    .map((one) => one.outerHTML.slice(0, 80))"""


def test_the_page_is_drawn_before_the_charts_and_nothing_shifts(opened):
    view = opened(390)
    view.evaluate(PAINTED)
    assert view.evaluate("window.vegaEmbed === undefined"), "the library waits until a chart is wanted"
    view.evaluate(WATCH)
    for figure in view.locator("[data-play]").all():
        play_with(figure)
    for picture in view.locator(".zoom img").all():
        picture.scroll_into_view_if_needed()
    view.wait_for_timeout(200)
    assert view.evaluate("window.shifted") < 0.02
    assert view.evaluate(OUTSIDE) == [], "nothing sticks out of a phone"
    assert view.evaluate("document.documentElement.scrollWidth") <= 390
    for picture in view.locator("img[src]").all():
        assert picture.get_attribute("alt")
        assert picture.evaluate("one => one.naturalWidth") > 0


def test_the_table_can_be_sifted_and_a_figure_enlarged(opened):
    view = opened(1280)
    rows = view.locator("#verdicts tbody tr:visible")
    everything = rows.count()
    view.get_by_label("Outcome").select_option("undecided")
    assert 0 < rows.count() < everything
    view.get_by_label("Outcome").select_option("")
    view.get_by_label("With the word").fill("momentum beats")
    assert rows.count() == 1
    zoom = view.locator(".zoom").first
    zoom.focus()
    zoom.press("Enter")
    assert view.locator("dialog").is_visible()
    view.keyboard.press("Escape")
    assert not view.locator("dialog").is_visible()
    view.locator("#theme").click()
    view.locator("#theme").click()
    assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"


def test_it_can_be_read_without_javascript(opened, out):
    view = opened(1280, java_script_enabled=False)
    words = squeezed(view.locator("main").inner_text())
    for _, verdict in findings.gather(out, list(EXPERIMENTS)).verdicts:
        assert squeezed(verdict.claim) in words
    assert "This figure needs JavaScript" in words
