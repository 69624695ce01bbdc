"""The content of the page as plain records, from a results folder. Files that cannot be read are named and left out."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from fnn import store
from fnn.base.errors import InputError, require
from fnn.lab import command, findings
from fnn.lab.experiment import Experiment
from fnn.lab.options import ELSEWHERE
from fnn.lab.report import pictures
from fnn.lab.verdicts import Answer, Setting, Verdict
from fnn.search import storages


@dataclass(frozen=True)
class Fineness:
    """The quality of pictures: WebP's quality, the largest width in pixels, and the most pictures of an experiment."""

    quality: int
    widest: int
    most: int


FINENESS = (
    Fineness(82, 1120, 6),
    Fineness(70, 1040, 6),
    Fineness(62, 1000, 6),
    Fineness(55, 900, 6),
    Fineness(55, 900, 4),
    Fineness(50, 800, 3),
    Fineness(40, 640, 2),
    Fineness(30, 480, 1),
)
"""In order of preference: the first at which the page's pictures fit into `PICTURES` is used, or else the last."""

PICTURES = 5_200_000
"""The most bytes of all pictures, in base64: the page stays below 8 million, and has 1.5 million without them."""

FINDINGS = 1_000_000
"""The most bytes of all verdicts and answers on the page."""

MARKUP = 1_500
"""Bytes of the page's markup around a verdict, which is on the page twice."""

SETTINGS, LONGEST, OTHERS = 60, 200, 60
"""The most settings of an experiment that are shown, characters of each, and figures that are named but not shown."""

WORDS = 3_000
"""The most characters of a figure's title, caption and alternative text."""


@dataclass(frozen=True)
class Words:
    """The texts of a figure in figures.json, see `fnn.lab.figures.words`."""

    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Figure:
    """A figure in the page. uri: the picture itself; shows: the verdicts on claims that name it."""

    name: str
    title: str
    uri: str
    width: int
    height: int
    alt: str
    caption: str
    shows: tuple[Verdict, ...]


@dataclass(frozen=True)
class Provenance:
    """Where an experiment's results come from, as text."""

    data: str
    seeds: str
    versions: str
    device: str
    when: str
    revision: str
    settings: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...]

    @property
    def line(self) -> str:
        """All of it in one line."""
        return " · ".join(part for part in (self.data, self.seeds, self.versions, self.device, self.when) if part)


@dataclass(frozen=True)
class Entry:
    """An experiment on the page.

    source: where the question comes from; section: its number; says: what the source says, in paragraphs; method: how
        it is measured, in paragraphs.
    package: of the experiment, its group on the page; "" for a file without one.
    others: names of figures that are in the results folder and not shown.
    provenance: None where there are no results.
    """

    name: str
    question: str
    source: str
    section: str
    package: str
    says: tuple[str, ...]
    method: tuple[str, ...]
    takes: str
    figures: tuple[Figure, ...]
    others: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    answers: tuple[Answer, ...]
    provenance: Provenance | None
    command: str

    @property
    def setting(self) -> Setting:
        """What its findings were measured on."""
        return next((finding.setting for finding in (*self.verdicts, *self.answers)), Setting())


@dataclass(frozen=True)
class Group:
    """The experiments of one package, under the first line of its docstring: `title: about.`"""

    package: str
    entries: tuple[Entry, ...]

    @property
    def anchor(self) -> str:
        """The id of its element."""
        return f"group-{self.package.replace('.', '-')}"

    @property
    def title(self) -> str:
        """Its heading; "" for experiments that are in no package."""
        return self._doc.partition("\n")[0].partition(": ")[0].rstrip(".")

    @property
    def about(self) -> str:
        """Its docstring without the heading."""
        first, _, rest = self._doc.partition("\n")
        about = first.partition(": ")[2]
        return f"{about[:1].upper()}{about[1:]} {rest}".strip()

    @property
    def _doc(self):
        return (import_module(self.package).__doc__ or self.package) if self.package else ""


@dataclass(frozen=True)
class Gathered:
    """All content of the page. troubles: a sentence for each file that could not be read."""

    entries: tuple[Entry, ...]
    troubles: tuple[str, ...]

    @property
    def verdicts(self) -> list[tuple[Entry, Verdict]]:
        """Every verdict with its experiment."""
        return [(entry, verdict) for entry in self.entries for verdict in entry.verdicts]

    @property
    def groups(self) -> list[Group]:
        """The experiments by their packages, in the order of the first of each."""
        packages = dict.fromkeys(entry.package for entry in self.entries)
        return [Group(one, tuple(entry for entry in self.entries if entry.package == one)) for one in packages]

    @property
    def missing(self) -> list[Entry]:
        """The experiments without results."""
        return [entry for entry in self.entries if entry.provenance is None]


def gather(out: Path, experiments: Mapping[str, Experiment]) -> Gathered:
    """The content of a results folder for these experiments. Raises `InputError` where there is no such folder."""
    require(out.is_dir(), f"There is no results folder {out}: run an experiment first, or name it with --out.")
    troubles: list[str] = []
    read = {name: _read(out, name, troubles) for name in experiments}
    found = _fitting(out, {name: several for name, (several, _) in read.items()}, troubles)
    for fineness in FINENESS:
        entries, missed = [], []
        for name, experiment in experiments.items():
            entries.append(_entry(out, name, experiment, found[name], read[name][1], fineness, missed))
            heavy = sum(len(figure.uri) for entry in entries for figure in entry.figures) > PICTURES
            if heavy and fineness != FINENESS[-1]:
                break
        else:
            return Gathered(tuple(entries), tuple(troubles + missed))
    raise AssertionError("the last fineness is always taken")


Finding = Answer | Verdict


def _read(out: Path, name: str, troubles: list[str]) -> tuple[list[Finding], Provenance | None]:
    """An experiment's answers and verdicts, and where they come from."""
    found = findings.gather(out, [name])
    provenance = _provenance(out, out / name / "provenance.json", troubles)
    troubles += found.unreadable
    return [finding for _, finding in (*found.answers, *found.verdicts)], provenance


def _fitting(out: Path, found: Mapping[str, list[Finding]], troubles: list[str]) -> dict[str, list[Finding]]:
    """The findings that fit the page: experiments with few findings keep them all."""
    share = _share([sum(map(_weight, several)) for several in found.values()], FINDINGS)
    fitting = {}
    for name, several in found.items():
        room, fitting[name] = share, []
        for finding in several:
            if _weight(finding) <= room:
                room -= _weight(finding)
                fitting[name].append(finding)
        lost = len(several) - len(fitting[name])
        if lost:
            troubles.append(f"{lost:,} of {len(several):,} findings in {out / name} are left out: there is no room")
    return fitting


def _weight(finding: Finding) -> int:
    """The most bytes that a finding takes on the page."""
    return MARKUP + 2 * sum(len(escape(str(value)).encode("utf-8", "replace")) for value in vars(finding).values())


def _share(wanted: Sequence[int], total: float | int) -> float | int:
    """The largest s for which the sum of min(wanted, s) is at most the total; ∞ where all fit."""
    for i, one in enumerate(sorted(wanted)):
        share = total / (len(wanted) - i)
        if one > share:
            return share
        total -= one
    return math.inf


def _entry(
    out: Path,
    name: str,
    experiment: Experiment,
    found: Sequence[Finding],
    provenance: Provenance | None,
    fineness: Fineness,
    troubles: list[str],
) -> Entry:
    verdicts = [finding for finding in found if isinstance(finding, Verdict)]
    answers = [finding for finding in found if isinstance(finding, Answer)]
    shown, others = _figures(out, name, verdicts, answers, fineness, troubles) if provenance else ((), ())
    return Entry(
        name=name,
        question=experiment.question,
        source=experiment.source,
        section=experiment.section,
        package=experiment.module.rpartition(".")[0],
        says=tuple(_paragraphs(experiment.says)),
        method=tuple(_paragraphs(experiment.method)),
        takes=f"Takes {experiment.takes}." if experiment.takes else "",
        figures=shown,
        others=others,
        verdicts=tuple(verdicts),
        answers=tuple(answers),
        provenance=provenance,
        command=_command(experiment, provenance),
    )


def _paragraphs(text: str) -> list[str]:
    """Paragraphs of a text, between blank lines."""
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _figures(
    out: Path,
    name: str,
    verdicts: Sequence[Verdict],
    answers: Sequence[Answer],
    fineness: Fineness,
    troubles: list[str],
) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """An experiment's figures, and the names of those that are left out.

    Figures of answers and claims are kept first, and a user's own, which figures.json lacks, last.
    """
    folder = out / name
    ours, texts = store.listed(folder), _words(out, folder / "figures.json", troubles)
    written = [one.removesuffix(".png") for one in ours if one.endswith(".png")]
    existing = sorted({*written, *(path.stem for path in folder.glob("*.png") if path.is_file())})
    known = [*(one for one in texts if one in existing), *(one for one in existing if one not in texts)]
    first = [finding.figure for finding in (*answers, *(v for v in verdicts if not v.secondary))]
    order = [*dict.fromkeys(one for one in first if one in existing), *(one for one in known if one not in first)]
    chosen, shown = order[: fineness.most], []
    for one in [one for one in known if one in chosen]:
        picture = folder / f"{one}.png"
        try:
            if findings.present(out, picture) and picture.name in ours:  # a user's own figures have no checksum
                store.verify(picture)
            uri, width, height = pictures.picture(picture, fineness.quality, fineness.widest)
        except InputError as error:
            troubles.append(str(error).rstrip("."))
            continue
        except (OSError, ValueError) as error:
            troubles.append(f"{picture} cannot be read ({type(error).__name__}: {error}); --redraw makes it again")
            continue
        words = texts.get(one, Words("", "", ""))
        spaced = one.replace("_", " ").strip()
        title = words.title[:WORDS] or spaced[:1].upper() + spaced[1:]
        shows = tuple(verdict for verdict in verdicts if verdict.figure == one)
        alt, caption = words.alt[:WORDS] or title, words.caption[:WORDS]
        shown.append(Figure(one, title, uri, width, height, alt, caption, shows))
    others = [one for one in existing if one not in chosen]
    more = [f"{len(others) - OTHERS:,} more"] if len(others) > OTHERS else []
    return tuple(shown), (*others[:OTHERS], *more)


def _words(out: Path, path: Path, troubles: list[str]) -> dict[str, Words]:
    """The texts in figures.json by figure; empty where it cannot be read."""
    try:
        return store.read_json(path, dict[str, Words]) if findings.present(out, path) else {}
    except InputError as error:
        troubles.append(f"{str(error).rstrip('.')}; --redraw makes it again")
        return {}


def _provenance(out: Path, path: Path, troubles: list[str]) -> Provenance | None:
    """The content of provenance.json, without values of wrong types; None where it is missing or unreadable."""
    try:
        if not findings.present(out, path):
            return None
        origin = store.read_json(path, dict)
    except InputError as error:
        troubles.append(f"{str(error).rstrip('.')}; running the experiment makes it again")
        return None
    config, versions = (origin[key] if isinstance(origin.get(key), dict) else {} for key in ("config", "versions"))
    seeds = config.get("seeds")
    source = f" ({_word(origin.get('source'))})" if _word(origin.get("source")) else ""
    started = origin.get("command")
    return Provenance(
        data=f"{_word(origin.get('dataset'))}{source}" if _word(origin.get("dataset")) else "no data set",
        seeds=f"{seeds} seed{'s' * (seeds != 1)}"[:LONGEST] if type(seeds) is int else "",
        versions=", ".join(
            f"{name} {_word(versions.get(name))}" for name in ("fnn", "jax", "numpy") if versions.get(name)
        ),
        device=_word(origin.get("device")),
        when=_word(origin.get("time"))[:10],
        revision=_word(origin.get("revision")),
        settings=tuple((_word(key), _word(value)) for key, value in config.items() if key not in ELSEWHERE)[:SETTINGS],
        arguments=tuple(_word(one) for one in started[2 : 2 + SETTINGS]) if isinstance(started, list) else (),
    )


def _word(value: Any) -> str:
    """A value of a JSON file as text, without a password and at most `LONGEST` characters; "" for null."""
    try:
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "…"
    text = storages.shown(text[: 2 * LONGEST])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _command(experiment: Experiment, provenance: Provenance | None) -> str:
    """The command that makes these results again, without the options that name folders."""
    words, arguments = list(provenance.arguments if provenance else ()), []
    if words and words[0] == experiment.name:  # it was started by the command of its package
        words.pop(0)
    while words:
        one = words.pop(0)
        if one in ("--redraw", "--profile"):
            continue
        if one in ("--out", "--data-dir", "--storage"):
            words[:1] = []
        elif not one.startswith(("--out=", "--data-dir=", "--storage=")):
            arguments.append(one)
    return shlex.join([*command.started(experiment), *arguments])
