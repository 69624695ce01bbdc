"""An experiment as one record: its question, its options, what it runs, its claims and its figures.

Command line, files, verdicts and the report come from it:

    EXPERIMENT = Experiment(question="Does …?", run=run, config=Config, claims=(…), figures={…})

    if __name__ == "__main__":
        EXPERIMENT.main()
"""

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from fnn.base.errors import require
from fnn.lab import process
from fnn.lab.claims import Claim, judge
from fnn.lab.options import Options
from fnn.lab.verdicts import Answer, Verdict

Drawing = Callable[[xr.Dataset], Any]
"""`dataset -> Figure`, or None where the data set has nothing to draw."""


@dataclass(frozen=True)
class Experiment:
    """A question with everything that answers it.

    question: in one sentence. run: `options -> dataset`; None where another process saves the results.
    config: the frozen dataclass of its options. quick: the options that --quick changes.
    claims: of its source, tested on the data set. figures: drawings by name.
    source: where the question comes from, "notes §2.3.1, figure 11". says: what the source says. method: how it is
        measured, and the definitions of its words. takes: the duration, "1 min".
    alone: whether it times the machine, so that nothing may run at the same time.
    answers: of open questions. summary: text that is printed. tables, pages: more files, by name.
    """

    question: str
    run: Callable[[Any], xr.Dataset | None]
    config: type[Options] = Options
    quick: Mapping[str, Any] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    figures: Mapping[str, Drawing] = field(default_factory=dict)
    source: str = ""
    says: str = ""
    method: str = ""
    takes: str = ""
    alone: bool = False
    answers: Callable[[xr.Dataset], Sequence[Answer]] | None = None
    summary: Callable[[xr.Dataset], str] | None = None
    tables: Callable[[xr.Dataset], Mapping[str, Any]] | None = None
    pages: Callable[[xr.Dataset], Mapping[str, str]] | None = None

    def __post_init__(self):
        require(isinstance(self.question, str) and bool(self.question), "An experiment has a question.")
        require(callable(self.run), f"An experiment runs a function of its options, not {self.run!r}.")
        sound = isinstance(self.config, type) and issubclass(self.config, Options)
        require(sound, f"An experiment's options extend fnn.lab.Options, unlike {self.config!r}.")
        unknown = [name for name in self.quick if name not in self.config.__dataclass_fields__]
        require(not unknown, f"--quick changes options that the experiment lacks: {', '.join(unknown)}.")
        lost = sorted({c.figure for c in self.claims if c.figure and c.figure not in self.figures})
        require(not lost, f"Claims name figures that the experiment lacks: {', '.join(lost)}.")

    @property
    def file(self) -> Path:
        """The file of the experiment."""
        return Path(inspect.getfile(inspect.unwrap(self.run)))

    @property
    def name(self) -> str:
        """Its name, that of its file."""
        return self.file.stem

    @property
    def section(self) -> str:
        """The number of the first section that its source names, "2.3.1" of "notes §2.3.1"; "" where it names none."""
        found = re.search(r"§(\d[\d.]*)", self.source)
        return found[1].rstrip(".") if found else ""

    @property
    def module(self) -> str:
        """The name that Python imports it by; "" where its file is not in a package."""
        spec = getattr(sys.modules.get(self.run.__module__), "__spec__", None)
        name = spec.name if spec is not None else self.run.__module__
        return name if "." in name else ""

    def options(self, *, quick: bool = False, **values: Any) -> Any:
        """Its options with these values and the defaults of all others; `quick` as on the command line."""
        changed = {**self.quick, "quick": True} if quick else {}
        return replace(self.config(), **{**changed, **values})

    def judge(self, ds: xr.Dataset) -> list[Verdict]:
        """The verdicts on its claims."""
        return judge(self.claims, ds)

    def answer(self, ds: xr.Dataset) -> list[Answer]:
        """The answers to its open questions."""
        return list(self.answers(ds)) if self.answers else []

    def draw(self, ds: xr.Dataset) -> dict[str, Any]:
        """Its figures by name; those without data are left out."""
        drawn = {name: drawing(ds) for name, drawing in self.figures.items()}
        return {name: figure for name, figure in drawn.items() if figure is not None}

    def help(self) -> str:
        """The description of its command line."""
        parts = [f"{self.question}{f' ({self.source})' if self.source else ''}", self.method]
        parts += [f"The source says: {self.says}"] if self.says else []
        parts += [f"Takes {self.takes}."] if self.takes else []
        return "\n\n".join(part for part in parts if part)

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Run it from a command line, and end the program with the exit code of `fnn.lab.command.main`."""
        from fnn.lab.command import main

        process.guard()
        sys.exit(main(self, argv))
