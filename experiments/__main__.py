"""`python -m experiments`: every experiment with its question; `all` runs them, `verdicts` and `report` tell."""

import ast
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules

import tyro

import experiments
from experiments import _all, _cli, _findings
from fnn.base.errors import InputError


def docstrings() -> dict[str, str]:
    """Every experiment's docstring, read without importing it, in the order of the notes' sections."""
    folder = Path(experiments.__file__).parent
    names = [m.name for m in iter_modules(experiments.__path__) if not m.name.startswith("_")]
    docs = {name: ast.get_docstring(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))) for name in names}

    def section(name):
        found = re.search(r"notes §([\d.]+)", docs[name] or "")
        return [int(number) for number in found[1].strip(".").split(".")] if found else [99]

    return {name: docs[name] or "" for name in sorted(names, key=lambda name: (section(name), name))}


def questions() -> dict[str, str]:
    """The first line of every experiment's docstring."""
    return {name: doc.partition("\n")[0] for name, doc in docstrings().items()}


def durations() -> dict[str, str]:
    """How long every experiment says that it takes."""
    found = {name: re.search(r"^Takes (.+?)\.?$", doc, re.M) for name, doc in docstrings().items()}
    return {name: match[1] if match else "" for name, match in found.items()}


@dataclass(frozen=True)
class List:
    """List every experiment with its question and the time it takes."""


@dataclass(frozen=True)
class Verdicts:
    """Print every verdict and answer in the results folder, and write them to verdicts.json there."""

    out: Path = Path("results")
    """The results folder."""


@dataclass(frozen=True)
class Report:
    """Make one page of the results folder, report.html in it: figures, verdicts, answers, and charts to play with."""

    out: Path = Path("results")
    """The results folder."""
    quick: bool = False
    """Little to play with, for a first look: seconds instead of minutes the first time."""


def show_list() -> int:
    """Print the list."""
    takes = durations()
    for name, question in questions().items():
        print(f"{name}\n    {question}\n    takes {takes[name]}")
    print("\nStart one with `python -m experiments.NAME [--help]`, all with `python -m experiments all [--quick]`;")
    print("`python -m experiments verdicts` shows what they found, `python -m experiments report` makes a page of it.")
    return 0


def show_verdicts(out: Path) -> int:
    """Print and save the table; 1 where a file of it cannot be read."""
    found = _findings.gather(out, list(questions()))
    print(_findings.table(found))
    print(f"Written to {_findings.save(out, found)}")
    return 1 if found.unreadable else 0


def make_report(options: Report) -> int:
    """Make the page, and say where it is and what it lacks; 1 where a file of the results cannot be read."""
    from experiments._report import page  # what it needs is an extra, and slow to import

    _cli.prepare()
    made = page.write(options.out, docstrings(), quick=options.quick)
    for trouble in made.troubles:
        print(f"{trouble}.")
    if made.missing:
        print(f"Without results yet: {', '.join(made.missing)}; the page has the commands.")
    print(f"Written to {made.path} ({made.size / 1e6:.1f} MB): open it in a browser.")
    return 1 if made.troubles else 0


def run_all(options: _all.Options) -> int:
    """Run everything; 0 if all is there, 1 if something failed, 130 if interrupted."""
    began = time.perf_counter()
    entries = _all.run(list(questions()), options)
    print(f"\n{_all.table(entries, time.perf_counter() - began)}")
    outcomes = {entry.outcome for entry in entries}
    if outcomes & {"made", "unchanged"}:
        _findings.save(options.out, _findings.gather(options.out, list(questions())))
        print(f"All verdicts: python -m experiments verdicts --out {options.out}")
        print(f"As a page: python -m experiments report --out {options.out}")
    if outcomes & {"interrupted", "not reached"}:  # the experiment under way may still have come to its end
        print("Interrupted: what is finished is kept, and the same command goes on with the rest.")
        return 130
    return 1 if "failed" in outcomes else 0


def main() -> int:
    """Dispatch; gives the exit code."""
    _cli.console()
    commands = {"list": List, "all": _all.Options, "verdicts": Verdicts, "report": Report}
    chosen = tyro.extras.subcommand_cli_from_dict(
        commands, prog="python -m experiments", description=__doc__, args=sys.argv[1:] or ["list"]
    )
    try:
        if isinstance(chosen, _all.Options):
            return run_all(chosen)
        if isinstance(chosen, Report):
            return make_report(chosen)
        return show_verdicts(chosen.out) if isinstance(chosen, Verdicts) else show_list()
    except InputError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("experiments: interrupted; what is finished is kept, and the same command goes on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
