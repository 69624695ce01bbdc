"""All verdicts and answers of a results folder in one table."""

import dataclasses
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fnn import store
from fnn.base.errors import InputError, require
from fnn.lab import verdicts
from fnn.lab.verdicts import Answer, Verdict, together

WIDTH = 118


@dataclass(frozen=True)
class Findings:
    """The verdicts and answers of a results folder.

    verdicts, answers: (experiment, finding), in the order of the names given to `gather`.
    unreadable: a sentence for each file that could not be read.
    """

    verdicts: list[tuple[str, Verdict]]
    answers: list[tuple[str, Answer]]
    unreadable: list[str]


def gather(out: Path, names: Sequence[str]) -> Findings:
    """The findings in `verdicts.json` and `answers.json` of these experiments, where these files exist.

    Raises `InputError` where there is no results folder.
    """
    require(out.is_dir(), f"There is no results folder {out}: run an experiment first, or name it with --out.")
    found = Findings([], [], [])
    for name in names:
        for file, kind, into in (("verdicts", Verdict, found.verdicts), ("answers", Answer, found.answers)):
            path = out / name / f"{file}.json"
            try:
                if present(out, path):
                    into += [(name, finding) for finding in store.read_json(path, list[kind])]
            except InputError as error:
                found.unreadable.append(f"{str(error).rstrip('.')}; --redraw makes it again")
    return found


def present(out: Path, path: Path) -> bool:
    """Whether a results folder has this file. Raises `InputError` where it is lost, or is a link to elsewhere."""
    if not path.is_file():
        require(path.name not in store.listed(path.parent), f"{path} was written here, and is missing.")
        return False
    inside = path.resolve().is_relative_to(out.resolve())
    require(inside, f"{path} is not read: it is a link to a file elsewhere.")
    return True


def save(out: Path, found: Findings) -> Path:
    """Write all findings as `verdicts.json` in the results folder itself; returns the path."""

    def rows(pairs: Sequence[tuple[str, Any]]) -> list[dict]:
        return [{"experiment": name, **dataclasses.asdict(finding)} for name, finding in pairs]

    return store.save_json(out / "verdicts.json", {"verdicts": rows(found.verdicts), "answers": rows(found.answers)})


def table(found: Findings) -> str:
    """The table as text: one line per verdict, the outcome of each claim, every question with its answer."""
    lines, before = [], ""
    for name, v in found.verdicts:
        lines += [f"\n{name}"] if name != before else []
        before = name
        effect = f"{v.effect:+.3g} [{v.low:+.3g}, {v.high:+.3g}] {v.unit}"
        claim = v.statement + (f" ({v.source})" if v.source else "")
        outcome = v.outcome or "effect only"
        lines += textwrap.wrap(claim, WIDTH, initial_indent=f"{outcome:>14}  ", subsequent_indent=" " * 16)
        lines.append(f"{'':16}{effect}, {', '.join(_numbers(v))}")
    outcomes = Counter(v.outcome for _, v in found.verdicts if v.outcome)
    quick = len(found.verdicts) - outcomes.total()
    each = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items())
    totals = [f"{outcomes.total()} verdicts{': ' * bool(each)}{each}"]
    totals += [f"{quick} effects of quick runs, without an outcome"] if quick else []
    lines.append("\n" + "; ".join(totals))
    lines += textwrap.wrap(discoveries(found), WIDTH)
    lines += [f"{source}: {outcome}" for source, outcome in claims(found).items()]
    for name, a in found.answers:
        source = f" ({a.source})" if a.source else ""
        where = f" [{a.setting}]" if str(a.setting) else ""
        lines += ["", *textwrap.wrap(f"{a.question}{source}{where}", WIDTH)]
        lines += textwrap.wrap(a.answer, WIDTH, initial_indent="    ", subsequent_indent="    ")
        lines.append(f"    {name}/{a.figure}.png, {a.seeds} seed{'s' * (a.seeds != 1)}")
    text = "\n".join([*lines, *(f"\n{sentence}." for sentence in found.unreadable)]).lstrip("\n")
    return re.sub(r"[^\n -~\xa0-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)  # no control characters for a terminal


def _numbers(v: Verdict) -> list[str]:
    """The details of a verdict as text: seeds or laps, standard deviation, p, the number that diverged."""
    parts = [f"{v.seeds} {v.repeats}{'s' * (v.seeds != 1)}"]
    parts += [f"sd {v.sd:.2g}"] if v.sd == v.sd else []
    parts += [f"p {v.p:.2g}"] if v.p == v.p else []
    return parts + ([f"{v.diverged} diverged"] if v.diverged else [])


def discoveries(found: Findings) -> str:
    """A sentence with the number of discoveries at a false discovery rate of 5 %, and of false ones among them.

    Of the primary effects with a p-value and an outcome; see `verdicts.discoveries`. "" where there are none.
    """
    tested = [v for _, v in found.verdicts if v.outcome and v.p == v.p and not v.secondary]
    if not tested:
        return ""
    discovered = verdicts.discoveries(np.array([v.p for v in tested]))
    decided = [v.outcome in ("holds", "does not hold") for v in tested]
    n, doubtful = int(discovered.sum()), sum(d and not one for d, one in zip(decided, discovered, strict=True))
    more = f"; {doubtful} that hold or do not hold are not among them" if doubtful else ""
    return (
        f"{n} of {len(tested)} tests are discoveries at a false discovery rate of 5 % (Benjamini & Hochberg), of which "
        f"{0.05 * n:.1f} at most are expected to be false{more}."
    )


def claims(found: Findings) -> dict[str, str]:
    """The outcome of each numbered claim of the notes, "claim 7" say, that has verdicts; see `verdicts.together`."""
    several: dict[str, list[Any]] = {}
    for _, verdict in found.verdicts:
        if re.fullmatch(r"claim \d+", verdict.source):
            several.setdefault(verdict.source, []).append(verdict.outcome)
    in_order = sorted(several, key=lambda source: int(source.split()[1]))
    outcomes = {source: together(several[source]) for source in in_order}
    return {source: outcome for source, outcome in outcomes.items() if outcome}
