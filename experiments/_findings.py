"""All verdicts and answers of a results folder in one table."""

import dataclasses
import json
import textwrap
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnn import results
from fnn.errors import require
from fnn.verdicts import Answer, Verdict

WIDTH = 118


@dataclass(frozen=True)
class Findings:
    """What the experiments in a results folder found.

    verdicts, answers: (experiment, finding), in the order of the experiments asked for.
    unreadable: the files that could not be read, each with why.
    """

    verdicts: list[tuple[str, Verdict]]
    answers: list[tuple[str, Answer]]
    unreadable: list[str]


def gather(out: Path, names: Sequence[str]) -> Findings:
    """Read `verdicts.json` and `answers.json` of these experiments, where they are there."""
    require(out.is_dir(), f"There is no results folder {out}: run an experiment first, or name it with --out.")
    found = Findings([], [], [])
    for name in names:
        for file, kind, into in (("verdicts", Verdict, found.verdicts), ("answers", Answer, found.answers)):
            path = out / name / f"{file}.json"
            if not path.is_file():
                continue
            try:
                into += [(name, _read(kind, entry)) for entry in json.loads(path.read_text(encoding="utf-8"))]
            except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
                found.unreadable.append(f"{path} cannot be read ({type(error).__name__}); --redraw makes it again")
    return found


def _read(kind: type[Any], entry: Any) -> Any:
    """A finding from JSON. Raises `TypeError` where a field is missing, unknown or of another type."""
    if not isinstance(entry, dict):
        raise TypeError(f"a finding is an object, not {entry!r}")
    for field, hint in typing.get_type_hints(kind).items():
        value = entry.get(field)
        if typing.get_origin(hint) is typing.Literal:
            good = value in typing.get_args(hint)
        else:
            good = isinstance(value, (int, float) if hint is float else hint) or field not in entry
        if not good:
            raise TypeError(f"{field} is {value!r}")
        if hint is float and field in entry:
            entry = entry | {field: float(entry[field])}  # a whole number may be too large for one
    return kind(**entry)


def save(out: Path, found: Findings) -> Path:
    """Write the whole table as `verdicts.json` in the results folder itself."""

    def rows(pairs: Sequence[tuple[str, Any]]) -> list[dict]:
        return [{"experiment": name, **dataclasses.asdict(finding)} for name, finding in pairs]

    return results.save_json(out / "verdicts.json", {"verdicts": rows(found.verdicts), "answers": rows(found.answers)})


def table(found: Findings) -> str:
    """The table as people read it: a line a verdict, then every question with its answer."""
    lines, before = [], ""
    for name, v in found.verdicts:
        lines += [f"\n{name}"] if name != before else []
        before = name
        effect = f"{v.effect:+.3g} [{v.low:+.3g}, {v.high:+.3g}] {v.unit}"
        claim = v.claim + (f" ({v.source})" if v.source else "")
        lines += textwrap.wrap(claim, WIDTH, initial_indent=f"{v.outcome:>13}  ", subsequent_indent=" " * 15)
        lines.append(f"{'':15}{effect}, {v.seeds} seed{'s' * (v.seeds != 1)}")
    counts = Counter(v.outcome for _, v in found.verdicts)
    lines.append(f"\n{len(found.verdicts)} verdicts: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    for name, a in found.answers:
        source = f" ({a.source})" if a.source else ""
        lines += ["", *textwrap.wrap(f"{a.question}{source}", WIDTH)]
        lines += textwrap.wrap(a.answer, WIDTH, initial_indent="    ", subsequent_indent="    ")
        lines.append(f"    {name}/{a.figure}.png, {a.seeds} seed{'s' * (a.seeds != 1)}")
    return "\n".join([*lines, *(f"\n{sentence}." for sentence in found.unreadable)]).lstrip("\n")
