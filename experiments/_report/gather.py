"""What the page says, gathered from a results folder into plain records. What cannot be read is named, and left out."""

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from experiments import _cli
from experiments._report import chapters, figures
from experiments._report.figures import Figure
from fnn import store
from fnn.base.errors import InputError, require
from fnn.lab import findings
from fnn.lab.experiment import Experiment
from fnn.lab.verdicts import Answer, Setting, Verdict
from fnn.search import storages


@dataclass(frozen=True)
class Fineness:
    """How finely pictures are kept: WebP's quality, the widest in pixels, and how many an experiment shows."""

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
"""The first at which the pictures of the page fit into `PICTURES`; the last even where they do not."""

PICTURES = 5_200_000
"""The most bytes of all pictures, in base64. The page is to stay below 8 million; without them it takes about 1.5."""

FINDINGS = 1_000_000
"""The most bytes of all verdicts and answers on the page."""

MARKUP = 1_500
"""Bytes of the page's markup around a verdict, which is on the page twice."""

SETTINGS, LONGEST, OTHERS = 60, 200, 60
"""The most settings of an experiment that are shown, characters of each, and figures that are named but not shown."""

GALLERY = Path(__file__).parents[1] / "gallery"


@dataclass(frozen=True)
class Provenance:
    """Where an experiment's results come from, in words."""

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
        """In one line, for small print."""
        return " · ".join(part for part in (self.data, self.seeds, self.versions, self.device, self.when) if part)


@dataclass(frozen=True)
class Entry:
    """An experiment as the page shows it.

    notes: its place in the notes and their figures; said: what the notes say; method: how it is measured.
    others: figures that are in the results and not shown.
    provenance: None where there are no results.
    """

    name: str
    question: str
    notes: str
    section: str
    chapter: int
    said: tuple[str, ...]
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
class Gathered:
    """All there is. troubles: what could not be read, a sentence each."""

    entries: tuple[Entry, ...]
    troubles: tuple[str, ...]

    @property
    def verdicts(self) -> list[tuple[Entry, Verdict]]:
        """Every verdict with its experiment."""
        return [(entry, verdict) for entry in self.entries for verdict in entry.verdicts]

    @property
    def missing(self) -> list[Entry]:
        """The experiments without results."""
        return [entry for entry in self.entries if entry.provenance is None]


def gather(out: Path, experiments: Mapping[str, Experiment]) -> Gathered:
    """Everything in a results folder about these experiments. Raises `InputError` where there is no such folder."""
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
    """The findings that the page has room for: those of experiments with few are all shown."""
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


def _share(wanted: Sequence[int], total: float) -> float:
    """The largest bound of each that keeps their sum within the total."""
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
    there: Provenance | None,
    fineness: Fineness,
    troubles: list[str],
) -> Entry:
    verdicts = [finding for finding in found if isinstance(finding, Verdict)]
    answers = [finding for finding in found if isinstance(finding, Answer)]
    shown, others = _figures(out, name, verdicts, answers, fineness, troubles) if there else ((), ())
    return Entry(
        name=name,
        question=experiment.question,
        notes=experiment.source,
        section=chapters.section(experiment.source),
        chapter=chapters.number(experiment.source),
        said=tuple(_paragraphs(experiment.says)),
        method=tuple(_paragraphs(experiment.method)),
        takes=f"Takes {experiment.takes}." if experiment.takes else "",
        figures=shown,
        others=others,
        verdicts=tuple(verdicts),
        answers=tuple(answers),
        provenance=there,
        command=_command(name, there),
    )


def _paragraphs(doc: str) -> list[str]:
    """Paragraphs of a docstring; points of a list are paragraphs too."""
    parts = re.split(r"\n\s*\n|\n(?=[-*] )", doc.strip())
    return [re.sub(r"\s*\n\s*", "\n", part) for part in parts if part.strip()]


def _figures(
    out: Path,
    name: str,
    verdicts: Sequence[Verdict],
    answers: Sequence[Answer],
    fineness: Fineness,
    troubles: list[str],
) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """An experiment's figures and the names of what is left out. Those of the README are shown before those that answer
    a question, and these before others."""
    folder = out / name
    ours = store.listed(folder)
    pictures = {path.name for path in folder.glob("*.png") if path.is_file()} | {
        one for one in ours if one.endswith(".png")
    }
    there = sorted(name.removesuffix(".png") for name in pictures)
    first = [path.stem for path in sorted((GALLERY / name).glob("*.png"))] + [answer.figure for answer in answers]
    order = [*dict.fromkeys(one for one in first if one in there), *(one for one in there if one not in first)]
    chosen, shown = order[: fineness.most], []
    for one in sorted(chosen):  # the notes' figures come first: their names begin with their numbers
        picture, drawn = folder / f"{one}.png", folder / f"{one}.svg"
        try:
            for path in (picture, drawn):
                if findings.there(out, path) and path.name in ours:  # a user's own figures have no checksum
                    store.verify(path)
            told = figures.words(drawn) if drawn.is_file() else figures.Words((), "")
            uri, width, height = figures.picture(picture, fineness.quality, fineness.widest)
        except InputError as error:
            troubles.append(str(error).rstrip("."))
            continue
        except (OSError, ValueError) as error:
            troubles.append(f"{picture} cannot be read ({type(error).__name__}: {error}); --redraw makes it again")
            continue
        title = figures.title(one, told)
        finding = figures.finding(one, told, verdicts, answers)
        drawn = "; ".join([heading for heading in told.headings if heading != title][:12])
        alt = ". ".join(part.rstrip(".") for part in (title, f"Labels: {drawn}" if drawn else "", finding) if part)
        shown.append(Figure(one, title, uri, width, height, f"{alt}.", told.caption))
    others = [one for one in there if one not in chosen]
    more = [f"{len(others) - OTHERS:,} more"] if len(others) > OTHERS else []
    return tuple(shown), (*others[:OTHERS], *more)


def _provenance(out: Path, path: Path, troubles: list[str]) -> Provenance | None:
    """Read provenance.json; what is of another type than ours is left out."""
    try:
        if not findings.there(out, path):
            return None
        told = store.read_json(path, dict)
    except InputError as error:
        troubles.append(f"{str(error).rstrip('.')}; running the experiment makes it again")
        return None
    config, versions = (told[key] if isinstance(told.get(key), dict) else {} for key in ("config", "versions"))
    seeds = config.get("seeds")
    source = f" ({_word(told.get('source'))})" if _word(told.get("source")) else ""
    command = told.get("command")
    return Provenance(
        data=f"{_word(told.get('dataset'))}{source}" if _word(told.get("dataset")) else "no data set",
        seeds=f"{seeds} seed{'s' * (seeds != 1)}"[:LONGEST] if type(seeds) is int else "",
        versions=", ".join(
            f"{name} {_word(versions.get(name))}" for name in ("fnn", "jax", "numpy") if versions.get(name)
        ),
        device=_word(told.get("device")),
        when=_word(told.get("time"))[:10],
        revision=_word(told.get("revision")),
        settings=tuple((_word(key), _word(value)) for key, value in config.items() if key not in _cli.ELSEWHERE)[
            :SETTINGS
        ],
        arguments=tuple(_word(one) for one in command[2 : 2 + SETTINGS]) if isinstance(command, list) else (),
    )


def _word(value: Any) -> str:
    """A value of a JSON file as text, without a password and at most `LONGEST` characters; "" for null."""
    try:
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "…"
    text = storages.shown(text[: 2 * LONGEST])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _command(name: str, there: Provenance | None) -> str:
    """The command that makes these results again, wherever the results and the data lie."""
    given, arguments = list(there.arguments if there else ()), []
    while given:
        one = given.pop(0)
        if one in ("--redraw", "--profile"):
            continue
        if one in ("--out", "--data-dir", "--storage"):
            given[:1] = []
        elif not one.startswith(("--out=", "--data-dir=", "--storage=")):
            arguments.append(one)
    return shlex.join(["python", "-m", f"experiments.{name}", *arguments])
