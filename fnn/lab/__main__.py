"""`python -m fnn.lab new NAME` writes an experiment to start from; `python -m fnn.lab report FILE…` makes a page."""

import keyword
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fnn.base.errors import InputError, require
from fnn.base.modules import module
from fnn.lab import process
from fnn.lab.experiment import Experiment

TEMPLATE = Path(__file__).with_name("template.py")


@dataclass(frozen=True)
class New:
    """Write a working experiment, NAME.py, to start from."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name, like that of a Python module."""


@dataclass(frozen=True)
class Report:
    """Make one page, report.html in the results folder, of what experiments found."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The files of the experiments."""
    out: Path = Path("results")
    """The results folder."""


def new(name: str) -> Path:
    """Write the example as NAME.py; returns its path. Raises `InputError` where the name is not valid or taken."""
    sound = name.isidentifier() and not keyword.iskeyword(name)
    require(sound, f"An experiment is named like a Python module, my_question say, not {name!r}.")
    path = Path(f"{name}.py")
    require(not path.exists(), f"{path} is there already.")
    path.write_text(TEMPLATE.read_text(encoding="utf-8").replace("template.py", path.name), encoding="utf-8")
    return path


def load(file: Path) -> Experiment:
    """The experiment of a file. Raises `InputError` where there is none in it."""
    found = getattr(module(file), "EXPERIMENT", None)
    if not isinstance(found, Experiment):
        raise InputError(f"{file} holds no EXPERIMENT, a record of fnn.lab.Experiment.")
    return found


def report(files: tuple[Path, ...], out: Path) -> int:
    """Make the page; returns 1 where a file of the results cannot be read."""
    from fnn.lab import collection
    from fnn.lab.report import page

    require(len(files) > 0, "The report is of one experiment at least: name its file.")
    experiments = {experiment.name: experiment for experiment in map(load, files)}
    title = next(iter(experiments.values())).question if len(experiments) == 1 else page.More().title
    command = " ".join(["python -m fnn.lab report", *(file.name for file in files)])
    return collection.show(page.write(out, experiments, lambda: page.More(title=title, command=command)))


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    process.console()
    chosen = tyro.extras.subcommand_cli_from_dict(
        {"new": New, "report": Report}, prog="python -m fnn.lab", description=__doc__, args=argv
    )
    try:
        if isinstance(chosen, Report):
            return report(chosen.files, chosen.out)
        path = new(chosen.name)
    except (InputError, OSError) as error:
        print(f"fnn.lab: {error}", file=sys.stderr)
        return 2
    print(f"Written to {path}: start it with `python {path} --quick`, see its options with `python {path} --help`.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
