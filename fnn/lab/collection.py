"""The experiments of a package: found in all of its modules, listed, run, gathered in tables and pages.

`python -m PACKAGE` is `main("PACKAGE")` in its `__main__.py`.
"""

import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

import tyro

from fnn.base.errors import InputError, near, require
from fnn.lab import command, findings, process, run_all
from fnn.lab.experiment import Experiment


class Found(NamedTuple):
    """The experiments of a package by name, and the errors of its modules that cannot be imported, by name."""

    experiments: dict[str, Experiment]
    broken: dict[str, str]


def modules(package: str) -> dict[str, str]:
    """The full names of the modules that may hold an experiment, by the last part of the name; none is imported.

    Raises `InputError` where two have the same last part.
    """
    root = importlib.import_module(package)
    names = [one.name for one in walk_packages(root.__path__, f"{package}.", onerror=lambda name: None)]
    public = [name for name in names if not any(part.startswith("_") for part in name.split(".")[1:])]
    found: dict[str, str] = {}
    for name in public:
        short = name.rpartition(".")[2]
        require(short not in found, f"{found.get(short)} and {name} have the same name.")
        found[short] = name
    return found


def load(module: str) -> Experiment | None:
    """The experiment of a module; None where it holds none, as a folder's `__init__`."""
    found = getattr(importlib.import_module(module), "EXPERIMENT", None)
    return found if isinstance(found, Experiment) else None


def find(package: str) -> Found:
    """Every experiment of a package, in the order of the sections that their sources name."""
    loaded, broken = {}, {}
    for name, module in modules(package).items():
        try:
            loaded[name] = load(module)
        except Exception as error:  # any error of one module: the others are loaded
            broken[name] = f"{type(error).__name__}: {error}"
    found = {name: experiment for name, experiment in loaded.items() if experiment is not None}
    return Found(dict(sorted(found.items(), key=lambda pair: (_place(pair[1]), pair[0]))), broken)


def _place(experiment):
    """The sort key of an experiment: the section of its source; those without one come last."""
    return [int(number) for number in experiment.section.split(".") if number] or [99]


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
    """Make one page of the results folder, report.html in it: figures, verdicts, answers, and interactive charts."""

    out: Path = Path("results")
    """The results folder."""
    quick: bool = False
    """Interactive charts of few points, as a preview: seconds instead of minutes the first time."""


def show(written: Any) -> int:
    """Print the path of a page and what it lacks; returns 1 where a file of the results cannot be read, else 0."""
    for trouble in written.troubles:
        print(f"{trouble}.")
    if written.missing:
        print(f"Without results yet: {', '.join(written.missing)}; the page has the commands.")
    print(f"Written to {written.path} ({written.size / 1e6:.1f} MB): open it in a browser.")
    return 1 if written.troubles else 0


@dataclass(frozen=True)
class Collection:
    """The experiments of a package.

    more: a module whose function `more(out, quick)` returns what the page has beside the results, a
    `fnn.lab.report.page.More`.
    """

    package: str
    more: str = ""

    def experiments(self) -> dict[str, Experiment]:
        """Every experiment by its name; those that cannot be imported are named on standard error."""
        return self._found().experiments

    def _found(self):
        found = find(self.package)
        for name, why in found.broken.items():
            print(f"{self.package}: {name} cannot be imported ({why}).", file=sys.stderr)
        return found

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run a command, or the experiment that the first argument names; returns the exit code."""
        process.console()
        argv = sys.argv[1:] if argv is None else list(argv)
        commands: dict[str, Any] = {"list": List, "all": run_all.Options, "verdicts": Verdicts, "report": Report}
        try:
            if argv and not argv[0].startswith("-") and argv[0] not in commands:
                return self._one(argv[0], argv[1:])
            chosen = tyro.extras.subcommand_cli_from_dict(
                commands,
                prog=f"python -m {self.package}",
                description="The experiments: `all` runs them, `verdicts` and `report` show what they found; "
                "a name runs that one.",
                args=argv or ["list"],
            )
            if isinstance(chosen, run_all.Options):
                return self._all(chosen)
            if isinstance(chosen, Report):
                return self._report(chosen)
            return self._verdicts(chosen.out) if isinstance(chosen, Verdicts) else self._list()
        except InputError as error:
            print(f"{self.package}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            again = "interrupted; what is finished is kept, and the same command goes on"
            print(f"{self.package}: {again}.", file=sys.stderr)
            return 130

    def _one(self, name, argv):
        """Run one experiment."""
        known = modules(self.package)
        if name not in known:
            raise InputError(f"There is no experiment {name!r}; {near(name, known)}.")
        experiment = load(known[name])
        if experiment is None:
            raise InputError(f"{known[name]} holds no experiment.")
        return command.main(experiment, argv)

    def _list(self):
        for name, experiment in self.experiments().items():
            source = f" ({experiment.source})" if experiment.source else ""
            takes = f"\n    takes {experiment.takes}" if experiment.takes else ""
            print(f"{name}\n    {experiment.question}{source}{takes}")
        start = f"`python -m {self.package}"
        print(f"\nStart one with {start} NAME [--help]`, all with {start} all [--quick]`;")
        print(f"{start} verdicts` shows what they found, {start} report` makes a page of it.")
        return 0

    def _verdicts(self, out):
        """Print and save the table; 1 where a file of it cannot be read."""
        known = self._found()
        found = findings.gather(out, [*known.experiments, *known.broken])
        print(findings.table(found))
        print(f"Written to {findings.save(out, found)}")
        return 1 if found.unreadable else 0

    def _report(self, options):
        """Make the page; 1 where a file of the results cannot be read."""
        page = importlib.import_module("fnn.lab.report.page")  # what it needs is an extra, and slow to import
        process.prepare()

        def more():
            if self.more:
                return importlib.import_module(self.more).more(options.out, options.quick)
            return page.More(title=self.package, command=f"python -m {self.package} report")

        return show(page.write(options.out, self.experiments(), more))

    def _all(self, options):
        """Run everything; 0 if all have results, 1 if something failed, 130 if interrupted."""
        start = time.perf_counter()
        known = self._found()
        entries = run_all.run(known.experiments, options)
        entries += [run_all.Entry(name, "failed", remark=why) for name, why in known.broken.items()]
        print(f"\n{run_all.table(entries, time.perf_counter() - start)}")
        outcomes = {entry.outcome for entry in entries}
        if outcomes & {"made", "unchanged"}:
            findings.save(options.out, findings.gather(options.out, [*known.experiments, *known.broken]))
            print(f"All verdicts: python -m {self.package} verdicts --out {options.out}")
            print(f"As a page: python -m {self.package} report --out {options.out}")
        if outcomes & {"interrupted", "not reached"}:  # the experiment that was running may still have ended
            print("Interrupted: what is finished is kept, and the same command goes on with the rest.")
            return 130
        return 1 if "failed" in outcomes else 0
