"""Every experiment, each in a separate process, so that one that fails or is killed stops no other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from fnn import data, store
from fnn.base.errors import InputError, require
from fnn.lab import command, results
from fnn.lab.experiment import Experiment
from fnn.lab.process import cores

Outcome = Literal["made", "unchanged", "failed", "interrupted", "not reached"]


@dataclass(frozen=True)
class Options:
    """Run every experiment; those that have results of the same options and the same code are skipped."""

    out: Path = Path("results")
    """Folder for the results; each experiment's are in a folder with its name there."""
    dataset: str = "auto"
    """mnist, fashion_mnist, mnist_5k, or auto: full MNIST where it is found, else the 5,000 embedded digits; or a
    path."""
    data_dir: Path | None = None
    """The folder of the data-set files (default: the environment's FNN_DATA); otherwise they are searched for."""
    quick: bool = False
    """Tiny sizes, as a preview: minutes in all, on the embedded digits."""
    force: bool = False
    """Run also those whose results are unchanged."""
    jobs: int = 0
    """Experiments that measure at the same time; 0 for one, which has all cores, and with --quick for one more than
    there are cores. While one draws what it has measured, which takes one core, the next starts."""


@dataclass(frozen=True)
class Entry:
    """The outcome of one experiment."""

    name: str
    outcome: Outcome
    seconds: float = 0.0
    remark: str = ""


@dataclass(frozen=True)
class Running:
    """An experiment whose process is running.

    log: the file of its output. start: by `time.perf_counter`. saved: the file that it writes once it has measured;
    old: the time of that file's last change before.
    """

    name: str
    process: subprocess.Popen
    log: Path
    start: float
    saved: Path
    old: int

    def measures(self) -> bool:
        """Whether its data are still to come; after that it draws."""
        return _changed(self.saved) == self.old


def run(experiments: Mapping[str, Experiment], options: Options) -> list[Entry]:
    """Run these experiments with one progress line; returns the outcome of each, in their order."""
    require(options.jobs >= 0, f"--jobs is at least 0, not {options.jobs}.")
    results.check_writable(options.out)
    arguments = ["--out", str(options.out)]
    if options.quick:
        arguments.append("--quick")
    if not options.quick or options.dataset != "auto" or options.data_dir is not None:
        # Found once, so that not every experiment searches again and all of them take the same.
        found = data.load(options.dataset, options.data_dir)
        arguments += ["--dataset", options.dataset if data.is_path(options.dataset) else found.name]
    if options.data_dir is not None:
        arguments += ["--data-dir", str(options.data_dir)]
    jobs = options.jobs or (cores() + 1 if options.quick else 1)
    names = list(experiments)
    waiting, running, entries = list(names), [], {}
    bar_format = "{n_fmt}/{total_fmt} |{bar:24}| {elapsed} {desc}"

    with tqdm(total=len(names), disable=None, leave=False, bar_format=bar_format) as bar:

        def settle(entry):
            entries[entry.name] = entry
            bar.write(line(entry))
            bar.update()

        try:
            while waiting or running:
                while waiting and _in_the_way(running, experiments[waiting[0]]) < jobs:
                    name = waiting.pop(0)
                    if not options.force and unchanged(experiments[name], fitting(experiments[name], arguments)):
                        settle(Entry(name, "unchanged"))
                        continue
                    try:
                        running.append(_start(experiments[name], fitting(experiments[name], arguments), options))
                    except OSError as error:
                        settle(Entry(name, "failed", remark=f"{error.filename}: {error.strerror}"))
                bar.set_description_str(", ".join(one.name for one in running))
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    settle(_ended(one))
                time.sleep(0.1)
        except KeyboardInterrupt:
            _interrupt(running)
            while running:
                try:
                    running[0].process.wait()  # it saves what it has done
                    settle(_ended(running[0], interrupted=True))
                    del running[0]
                except KeyboardInterrupt:
                    _interrupt(running)
    return [entries.get(name, Entry(name, "not reached")) for name in names]


def _interrupt(running: Sequence[Running]) -> None:
    for one in running:
        one.process.send_signal(signal.SIGINT)


def fitting(experiment: Experiment, arguments: Sequence[str]) -> list[str]:
    """The arguments without those that name data, for an experiment that has no such options."""
    if hasattr(experiment.config, "dataset"):
        return list(arguments)
    named = [i for i, one in enumerate(arguments) if one in ("--dataset", "--data-dir")]
    return [one for i, one in enumerate(arguments) if i not in named and i - 1 not in named]


def unchanged(experiment: Experiment, arguments: Sequence[str]) -> bool:
    """Whether there are complete results of these options, made by the present code."""
    cfg = command.configure(experiment, arguments)
    folder = cfg.out / experiment.name
    verdicts, provenance = folder / "verdicts.json", folder / "provenance.json"
    try:
        written = store.read_json(provenance, dict)
        # Verdicts are written last: older ones belong to data that are gone.
        whole = (folder / results.METRICS).is_file() and verdicts.stat().st_mtime_ns >= provenance.stat().st_mtime_ns
    except (OSError, InputError):
        return False
    config = written.get("config")
    same = isinstance(config, dict) and command.measured_by(config) == command.measured_by(cfg)
    return whole and same and written.get("sources") == command.sources(experiment)


def _in_the_way(running: Sequence[Running], experiment: Experiment) -> int:
    """The number of running experiments that delay this one: all where it runs alone, else those that measure."""
    return len(running) if experiment.alone else sum(one.measures() for one in running)


def _changed(path: Path) -> int:
    """The time in nanoseconds of a file's last change; 0 where it is missing."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _start(experiment: Experiment, arguments: Sequence[str], options: Options) -> Running:
    """Start one experiment in a separate process."""
    name = experiment.name
    log = options.out / f"{name}.log"
    saved = options.out / name / "provenance.json"  # written after the data
    log.parent.mkdir(parents=True, exist_ok=True)
    command, old = [sys.executable, "-m", experiment.module, *arguments], _changed(saved)
    with log.open("w", encoding="utf-8") as sink:
        # In a separate session it is interrupted once, by us, and not by the terminal as well.
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **(_fewer_optimizations() if options.quick else {})},
        )
    return Running(name, process, log, time.perf_counter(), saved, old)


def _fewer_optimizations() -> dict[str, str]:
    """The environment in which XLA optimizes less: quick runs take longer to compile than to run."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1".strip()}


def _ended(one: Running, interrupted: bool = False) -> Entry:
    """The outcome of an experiment whose process has ended."""
    seconds, code = time.perf_counter() - one.start, one.process.returncode
    if code == 0:
        return Entry(one.name, "made", seconds)
    last = (one.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
    outcome = "interrupted" if interrupted or code == 130 else "failed"
    return Entry(one.name, outcome, seconds, f"exit code {code}, {one.log}: {last}")


def line(entry: Entry) -> str:
    """One experiment's line of the table."""
    seconds = f"{entry.seconds:.0f} s" if entry.seconds else ""
    return f"{entry.name:34}{entry.outcome:>12}{seconds:>8}  {entry.remark}".rstrip()


def table(entries: Sequence[Entry], seconds: float | int) -> str:
    """The table of outcomes and seconds, with totals."""
    count = lambda outcome: sum(entry.outcome == outcome for entry in entries)
    ends = ", ".join(f"{count(o)} {o}" for o in Outcome.__args__ if count(o))
    return "\n".join([*map(line, entries), f"{len(entries)} experiments: {ends}; {seconds:.0f} s in all"])
