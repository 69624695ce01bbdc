"""The command line of an experiment: options, the order of work, files, sentences for errors, exit codes."""

import ast
import dataclasses
import hashlib
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import tyro

import fnn
from fnn import store
from fnn.base.errors import InputError
from fnn.base.provenance import provenance
from fnn.lab import figures as drawn
from fnn.lab import process, profile, results
from fnn.lab.experiment import Experiment
from fnn.lab.options import ELSEWHERE
from fnn.lab.verdicts import Answer, Setting, Verdict

BLOCKS = "blocks"
"""The subfolder of an experiment's folder for unfinished work."""

PART = "interrupted"
"""The subfolder of an experiment's folder for the data of a run that was interrupted."""

TIMES = ("train_seconds", "compile_seconds", "provenance")
"""Attributes of a measured data set that belong to its provenance: they differ between runs."""

OPTIONS = "options"
"""The attribute of saved data that holds the options they were measured with, as JSON."""


def configure(experiment: Experiment, argv: Sequence[str]) -> Any:
    """The options of an experiment from command-line arguments, with the folder for its unfinished work."""
    default = replace(experiment.options(quick="--quick" in argv), quick=False)
    if any(argument.replace("_", "-").startswith("--data-dir") for argument in argv) and hasattr(default, "dataset"):
        default = replace(default, dataset="auto")  # a quick run reads a folder that is named, too
    cfg = tyro.cli(
        experiment.config,
        default=default,
        args=list(argv),
        prog=" ".join(started(experiment)),
        description=experiment.help(),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return replace(cfg, work=cfg.out / experiment.name / BLOCKS)


def started(experiment: Experiment) -> list[str]:
    """The arguments of the command that starts an experiment."""
    return ["python", "-m", experiment.module] if experiment.module else ["python", experiment.file.name]


def measured_by(cfg: Any) -> dict[str, Any]:
    """The options that what is measured depends on, as a JSON file would give them back."""
    options = json.loads(json.dumps(cfg if isinstance(cfg, dict) else dataclasses.asdict(cfg), default=str))
    return {name: value for name, value in options.items() if name not in ELSEWHERE}


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> int:
    """Run an experiment from its command line; returns the exit code.

    0 done, 1 an error of the program, 2 bad input or a full disk (one sentence), 130 interrupted (finished work is
    kept).
    """
    process.console()
    name = experiment.name
    cfg = configure(experiment, sys.argv[1:] if argv is None else argv)
    folder, kept = cfg.out / name, None
    before = {one: _changed(one) for one in (folder, folder / PART)}
    try:
        cfg.check()
        results.check_writable(folder)
        store.clean(folder)
        cfg.start()
        if cfg.redraw:
            kept, complete = folder, True
        else:
            _check_devices()
            with profile.profiled(folder / "trace" if cfg.profile else None):
                kept, complete = _measure(experiment, cfg)
        if kept is None:
            print(f"{name}: this process has done its share, and the first one makes the results.")
            return 0
        _find(experiment, kept, cfg.redraw)
    except InputError as error:
        rest = f" The data are in {folder}: --redraw makes the rest." if _changed(folder) != before[folder] else ""
        print(f"{name}: {error}{rest}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        _is_last()
        print(f"{name}: interrupted; {str(interrupt) or on_disk(folder, before)}.", file=sys.stderr)
        return 130
    if not complete:
        _is_last()
        print(f"Interrupted: what is done is kept in {kept}; the same command {_again(folder)}.")
        return 130
    return 0 if kept in before else 2


def _check_devices():
    """Raise `InputError` where JAX finds nothing to compute on, as with JAX_PLATFORMS=cuda on a machine without."""
    try:
        jax.local_devices()
    except RuntimeError as error:
        raise InputError(f"JAX finds no device: {error}") from error


def _is_last():
    """Ignore further interrupts: what follows is the program's last message."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def on_disk(folder: Path, before: Mapping[Path, int]) -> str:
    """A sentence about what an interrupted experiment left in its folder.

    before: `_changed` of the folder and of its `PART` before the experiment.
    """
    part = folder / PART
    if _changed(folder) != before[folder]:
        return f"the data are in {folder}, and --redraw makes the rest"
    if _changed(part) != before[part]:
        return f"what is done is kept in {part}, and the same command {_again(folder)}"
    n = _checkpoints(folder)
    return f"the same command {_again(folder)}" if n else "there was nothing yet to keep"


def _again(folder):
    n = _checkpoints(folder)
    return f"goes on from the {n} checkpoint{'s' * (n > 1)} in {folder / BLOCKS}" if n else "starts anew"


def _checkpoints(folder):
    """The number of blocks of unfinished work in an experiment's folder."""
    return sum(path.stem.isdecimal() for path in (folder / BLOCKS).rglob("*.npz"))


def _changed(folder):
    """The time in nanoseconds of the last change of the data in a folder; 0 where there are none."""
    try:
        return (folder / results.METRICS).stat().st_mtime_ns
    except OSError:
        return 0


def _measure(experiment: Experiment, cfg: Any) -> tuple[Path | None, bool]:
    """Run the experiment and save its data; returns (folder, whether the data are complete).

    The folder is None where another process saves the data.
    """
    start, name = time.perf_counter(), experiment.name
    measured = experiment.run(cfg)
    if measured is None:
        return None, True
    complete = bool(measured.attrs.get("complete", True))
    # A part of a run never replaces a whole one.
    folder = cfg.out / name if complete else cfg.out / name / PART
    seconds = round(time.perf_counter() - start, 2)
    attrs = {key: value for key, value in measured.attrs.items() if key != "provenance"}
    origin = provenance(cfg, seconds=seconds, sources=sources(experiment), **attrs)
    lasting = measured.copy()
    lasting.attrs = {key: value for key, value in measured.attrs.items() if key not in TIMES}
    lasting.attrs[OPTIONS] = json.dumps(measured_by(cfg), sort_keys=True)
    kept = _keep(folder, lasting, origin)
    measured.close()
    if complete and kept == folder:
        store.clear(folder / BLOCKS)  # their content is in the data now
    return kept, complete


def _find(experiment: Experiment, folder: Path, redrawn: bool) -> None:
    """Make verdicts, answers and figures of the data saved in `folder`, save them and print them.

    redrawn: whether the data are of an earlier run, perhaps of another version, which may lack something.
    """
    saved = results.load(folder)
    setting = measured_on(experiment, saved)
    try:
        verdicts = [verdict.measured_on(setting) for verdict in experiment.judge(saved)]
        answers = [replace(answer, setting=setting) for answer in experiment.answer(saved)]
        tables = experiment.tables(saved) if experiment.tables else {}
        pages = experiment.pages(saved) if experiment.pages else {}
        figures = experiment.draw(saved)
        summary = experiment.summary(saved) if experiment.summary else ""
    except (AttributeError, KeyError, InputError) as error:
        if not redrawn:
            raise
        why = str(error).rstrip(".")
        raise InputError(f"The data in {folder} lack what this version reads ({why}): measure them again.") from error
    words = {name: drawn.words(figure, shown(name, verdicts, answers)) for name, figure in figures.items()}
    written = results.save_findings(folder, verdicts, answers, figures, {**tables, "figures": words}, pages)
    if summary:
        print(summary)
    if setting.quick:
        print("A quick run: effects only, no verdicts.")
    for verdict in verdicts:
        beside = " (secondary)" if verdict.secondary else ""
        print(f"{verdict.outcome or 'effect':>14}: {verdict.statement}{beside}. {verdict.sentence}")
    for answer in answers:
        where = ", ".join(part for part in (answer.figure, str(setting)) if part)
        print(f"{answer.question} {answer.answer} [{where}]")
    print(f"Written to {folder}: metrics.nc, provenance.json, {', '.join(path.name for path in written)}")


def shown(name: str, verdicts: Sequence[Verdict], answers: Sequence[Answer]) -> list[str]:
    """What a figure shows: a sentence for each claim and answer that names it."""
    found = [f"{verdict.claim}: {verdict.outcome or 'effect only'}" for verdict in verdicts if verdict.figure == name]
    return found + [f"{answer.question} {answer.answer}" for answer in answers if answer.figure == name]


def measured_on(experiment: Experiment, ds: Any) -> Setting:
    """What saved data were measured on, and how that differs from the experiment's own setting.

    An experiment's own data set is full MNIST where its default is `auto`. The options are read from the data: a second
    file could be lost, or be that of another run. Without them "unknown options" is one of the differences.
    """
    own, name = measured_by(experiment.config()), str(ds.attrs.get("dataset", ""))
    config = _options_in(ds)
    usual = "mnist" if own.get("dataset") == "auto" else own.get("dataset", "")
    differs = [f"not {usual}"] if name not in ("", usual) else []
    differs += [
        f"{option.replace('_', '-')} {config[option]} (not {value})"
        for option, value in own.items()
        if option not in ("dataset", "quick") and config.get(option, value) != value
    ]
    differs += [] if config else ["unknown options"]
    differs += [] if ds.attrs.get("complete", 1) else ["interrupted"]
    quick = config.get("quick") is True
    return Setting(name, str(ds.attrs.get("checksum", "")), _length(config, ds), quick, tuple(differs))


def _options_in(ds: Any) -> dict[str, Any]:
    """The options in saved data; empty where they are not a JSON object."""
    try:
        config = json.loads(str(ds.attrs.get(OPTIONS, "")))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _length(config: dict[str, Any], ds: Any) -> str:
    """The steps or epochs of training by the options, or up to an interrupt; "" without such an option."""
    if isinstance(steps := config.get("steps"), int):
        return f"{min(steps, ds.sizes.get('step', steps)):,} steps"
    return f"{config['epochs']:,} epochs" if isinstance(config.get("epochs"), int) else ""


def _keep(folder: Path, measured: Any, origin: dict[str, Any]) -> Path:
    """Save the data in `folder`, or in a temporary one if the disk is full; returns the folder."""
    try:
        results.save_data(folder, measured, origin)
        return folder
    except InputError as error:
        spare = Path(tempfile.mkdtemp(prefix="fnn-")) / folder.name
        results.save_data(spare, measured, origin)
        print(f"{folder.name}: {error} The results are kept in {spare} instead.", file=sys.stderr)
        return spare


def sources(experiment: Experiment) -> str:
    """`sources_of` its file."""
    return sources_of(experiment.file)


def sources_of(file: Path) -> str:
    """The SHA-256 of the code that results depend on: an experiment's file, the files that it imports, and all of fnn.

    Only imports from its package, or from its folder, count.
    """
    files = {*_imported(file), *Path(fnn.__file__).parent.rglob("*.py")}
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _imported(path: Path, seen: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """A file, and the files of its package or folder that it imports, directly or indirectly."""
    path = path.resolve()
    if path in seen or not path.is_file():
        return seen
    seen |= {path}
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    inside = path.parent.relative_to(top).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = [*inside[: len(inside) + 1 - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            names = [base, *([*base, alias.name] for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        for parts in names:
            for n in range(1, len(parts) + 1) if parts and parts[0] != "fnn" else ():
                file = top.joinpath(*parts[:n])
                for one in (file.with_suffix(".py"), file / "__init__.py"):
                    seen = _imported(one, seen)
    return seen
