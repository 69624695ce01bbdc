"""What every experiment's command line shares: options, the order of work, sentences for errors, exit codes."""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import tyro

from fnn import data, results
from fnn.errors import InputError, require


@dataclass(frozen=True)
class Options:
    """Options that mean the same in every experiment."""

    seeds: int = 10
    """How many networks a contender trains, each from its own weights and batches."""
    out: Path = Path("results")
    """Folder for the results; this experiment's go into a folder of its own in it."""
    dataset: str = "auto"
    """mnist, fashion_mnist, mnist_5k, or auto: full MNIST where it can be had, else the 5,000 embedded digits."""
    data_dir: Path | None = None
    """Where to look for data-set files first (default: the environment's FNN_DATA)."""
    quick: bool = False
    """Tiny sizes, for a first look: changes the defaults of the other options."""
    redraw: bool = False
    """Train nothing: make figures and verdicts again from the data saved in --out."""

    def check(self) -> None:
        """Raise `InputError` for values that no experiment can use."""
        require(self.seeds >= 1, f"--seeds is at least 1, not {self.seeds}.")


def prepare() -> None:
    """Set JAX up for a program of our own: one device a core on CPU, and compilations kept between runs.

    A core trains its own seeds, instead of all cores sharing every small matrix product and waiting for each other.
    """
    import pooch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(pooch.os_cache("fnn") / "compiled"))


def main(module: ModuleType, argv: Sequence[str] | None = None) -> int:
    """Run an experiment module from its command line; gives the exit code.

    0 done, 1 a failure of ours, 2 bad input (one sentence, nothing written), 130 interrupted (what was done is kept).
    """
    argv = sys.argv[1:] if argv is None else argv
    name = module.__spec__.name.rpartition(".")[2] if module.__spec__ else module.__name__
    default = replace(module.QUICK, quick=False) if "--quick" in argv else module.Config()
    cfg = tyro.cli(
        module.Config,
        default=default,
        args=list(argv),
        prog=f"python -m experiments.{name}",
        description=module.__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        cfg.check()
        results.check_writable(cfg.out / name)
        prepare()
        return _run(module, name, cfg)
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted before there was anything to keep.", file=sys.stderr)
        return 130


def _run(module: ModuleType, name: str, cfg: Any) -> int:
    folder, complete, written = cfg.out / name, True, []
    if not cfg.redraw:
        began = time.perf_counter()
        measured = module.run(cfg)
        complete = bool(measured.attrs.get("complete", True))
        # A part of a run never takes the place of a whole one.
        folder = folder if complete else folder / "interrupted"
        seconds = round(time.perf_counter() - began, 2)
        folder, saved = _keep(folder, measured, results.provenance(cfg, seconds=seconds, **measured.attrs))
        written += saved
    saved = results.load(folder)
    verdicts = module.verdicts(saved)
    answers = module.answers(saved) if hasattr(module, "answers") else []
    tables = module.tables(saved) if hasattr(module, "tables") else {}
    written += results.save_findings(folder, verdicts, answers, module.figures(saved), tables)
    for verdict in verdicts:
        print(f"{verdict.outcome:>13}: {verdict.claim}. {verdict.sentence}")
    for answer in answers:
        print(f"{answer.question} {answer.answer} [{answer.figure}]")
    print(f"Written to {folder}: {', '.join(path.name for path in written)}")
    if not complete:
        print(f"Interrupted: the steps done are kept in {folder}; the same command starts again from the first.")
        return 130
    return 0


def _keep(folder: Path, measured: Any, provenance: dict[str, Any]) -> tuple[Path, list[Path]]:
    """Save the data in `folder`, or elsewhere if the disk has filled up while they were made."""
    try:
        return folder, results.save_data(folder, measured, provenance)
    except InputError as error:
        shelter = Path(tempfile.mkdtemp(prefix="fnn-")) / folder.name
        saved = results.save_data(shelter, measured, provenance)
        print(f"{error} The results are kept in {shelter} instead.", file=sys.stderr)
        return shelter, saved


def load_data(cfg: Options) -> data.DataSet:
    """The data set that the options name."""
    return data.load(cfg.dataset, cfg.data_dir)


def headline(cfg: Options, images: data.DataSet, work: str) -> None:
    """The honest first lines: which data, how many networks, on what."""
    n, m = len(images.x_train), len(images.x_test)
    missed = ", since full MNIST was not to be had" if cfg.dataset == "auto" and images.name != "mnist" else ""
    print(f"{images.name}: {n:,} training and {m:,} test images from {images.source}{missed}")
    print(f"{work} on {results.describe_devices(jax.local_devices())}", flush=True)
