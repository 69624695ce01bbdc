"""What every experiment's command line shares: options, the order of work, sentences for errors, exit codes."""

import ast
import dataclasses
import hashlib
import io
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import tyro

import fnn
from experiments import _profile
from fnn import data, store
from fnn.base import provenance
from fnn.base.errors import InputError, require
from fnn.lab import results
from fnn.lab.verdicts import Setting
from fnn.train import checkpoints

BLOCKS = "blocks"
"""The folder, in an experiment's own, where work that is under way is kept block by block."""

PART = "interrupted"
"""The folder, in an experiment's own, for the data of a run that was interrupted."""

ELSEWHERE = (
    *("out", "data_dir", "redraw", "profile", "checkpoint", "storage", "retest"),
    *("memory", "distributed", "coordinator", "processes", "process"),
)
"""Options that say where things are, how work is spread, watched and how often it is tested, not what is measured."""

TIMES = ("train_seconds", "compile_seconds")
"""Attributes of a measured data set that belong to its provenance: no two runs have them alike."""

OPTIONS = "options"
"""The attribute of saved data that holds the options they were measured with, as JSON."""


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
    """Where the data-set files are (default: the environment's FNN_DATA); otherwise they are searched for."""
    quick: bool = False
    """Tiny sizes, for a first look: changes the defaults of the other options; effects only, no verdicts."""
    redraw: bool = False
    """Train nothing: make figures and verdicts again from the data saved in --out."""
    profile: bool = False
    """Write a trace beside the results, to be opened in ui.perfetto.dev, and say what the time went into."""
    checkpoint: float | None = None
    """Seconds between two checkpoints on disk, which is what a kill or an interrupt costs at most; None for none."""

    def start(self) -> None:
        """Set JAX up, before anything is computed."""
        prepare()

    def check(self) -> None:
        """Raise `InputError` for values that no experiment can use."""
        self.check_at_least(seeds=1)
        if self.checkpoint is not None:
            self.check_at_least(checkpoint=0)

    def check_at_least(self, **least: float) -> None:
        """Raise `InputError` unless each of these options is a number and at least as large as told."""
        for name, bound in least.items():
            at_least(name, getattr(self, name), bound)


def at_least(option: str, value: float, least: float) -> None:
    """Raise `InputError` unless the option's value is a number and at least that."""
    require(least <= value < math.inf, f"--{option.replace('_', '-')} is at least {least}, not {value}.")


def console() -> None:
    """Let standard output and error print every character: what their encoding lacks as "?"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def prepare() -> None:
    """Set JAX up for a program of our own: one device a core on CPU, and compilations kept between runs.

    A core trains its own seeds, instead of all cores sharing every small matrix product and waiting for each other.
    """
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a second start compiles nothing
    cache = data.user_cache()
    if jax.config.values["jax_compilation_cache_dir"] is None and cache is not None and _writable(cache / "compiled"):
        jax.config.update("jax_compilation_cache_dir", str(cache / "compiled"))


def _writable(folder: Path) -> bool:
    """Whether files can be made in the folder, which is made if need be: a home may be read-only, or nowhere."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure(module: ModuleType, argv: Sequence[str]) -> Any:
    """The `Config` that these command-line options mean for an experiment module.

    From the command line there are checkpoints: it clears them away when the results are saved, which a caller of
    `run` would have to do.
    """
    default = replace(module.QUICK, quick=False) if "--quick" in argv else module.Config()
    if any(argument.replace("_", "-").startswith("--data-dir") for argument in argv):
        default = replace(default, dataset="auto")  # a quick run, too, reads the folder that is named
    return tyro.cli(
        module.Config,
        default=replace(default, checkpoint=checkpoints.EVERY),
        args=list(argv),
        prog=f"python -m experiments.{name_of(module)}",
        description=module.__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def name_of(module: ModuleType) -> str:
    """The experiment's name, also where the module runs as `__main__`."""
    return (module.__spec__.name if module.__spec__ else module.__name__).rpartition(".")[2]


def whose(cfg: Options) -> str:
    """The name of the experiment that has these options."""
    return name_of(sys.modules[type(cfg).__module__])


def under_way(cfg: Options) -> Path:
    """The folder where the work of an experiment with these options is kept until it is done."""
    return cfg.out / whose(cfg) / BLOCKS


def manifest(cfg: Options) -> dict[str, Any]:
    """What two runs must have in common for one to go on where the other was cut off."""
    return {"options": measured_by(cfg), "code": sources(whose(cfg))}


def measured_by(cfg: Any) -> dict[str, Any]:
    """The options that what is measured depends on, as they come back from a JSON file."""
    told = json.loads(json.dumps(cfg if isinstance(cfg, dict) else dataclasses.asdict(cfg), default=str))
    return {name: value for name, value in told.items() if name not in ELSEWHERE}


def main(module: ModuleType, argv: Sequence[str] | None = None) -> int:
    """Run an experiment module from its command line; gives the exit code.

    0 done, 1 a failure of ours, 2 bad input or a full disk (one sentence), 130 interrupted (what was done is kept).
    """
    console()
    name = name_of(module)
    cfg = configure(module, sys.argv[1:] if argv is None else argv)
    folder, kept = cfg.out / name, None
    before = {there: _changed(there) for there in (folder, folder / PART)}
    try:
        cfg.check()
        results.check_writable(folder)
        store.clean(folder)
        cfg.start()
        if cfg.redraw:
            kept, complete = folder, True
        else:
            _check_devices()
            with _profile.profiled(folder / "trace" if cfg.profile else None):
                kept, complete = _measure(module, name, cfg)
        if kept is None:
            print(f"{name}: this process has done its share, and the first one makes the results.")
            return 0
        _tell(module, kept, cfg.redraw)
    except InputError as error:
        rest = f" The data are in {folder}: --redraw makes the rest." if _changed(folder) != before[folder] else ""
        print(f"{name}: {error}{rest}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        _is_last(module)
        print(f"{name}: interrupted; {str(interrupt) or on_disk(folder, before)}.", file=sys.stderr)
        return 130
    if not complete:
        _is_last(module)
        print(f"Interrupted: what is done is kept in {kept}; the same command {_again(folder)}.")
        return 130
    return 0 if kept in before else 2


def _check_devices():
    """Raise `InputError` where JAX finds nothing to compute on, as with JAX_PLATFORMS=cuda on a machine without."""
    try:
        jax.local_devices()
    except RuntimeError as error:
        raise InputError(f"JAX finds no device: {error}") from error


def _is_last(module):
    """Ignore further interrupts: what follows is the program's last message."""
    if module.__name__ == "__main__":
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def on_disk(folder: Path, before: Mapping[Path, int]) -> str:
    """In words, what of an interrupted experiment is in its folder.

    before: `_changed` of the folder and of its `PART`, from before the experiment.
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
    """How many blocks of unfinished work there are."""
    return sum(path.stem.isdecimal() for path in (folder / BLOCKS).rglob("*.npz"))


def _changed(folder):
    """When the data in a folder were last changed, in nanoseconds; 0 where there are none."""
    try:
        return (folder / results.METRICS).stat().st_mtime_ns
    except OSError:
        return 0


def _measure(module: ModuleType, name: str, cfg: Any) -> tuple[Path | None, bool]:
    """Run the experiment and save its data; gives where they are, None if another process does, and whether whole."""
    began = time.perf_counter()
    measured = module.run(cfg)
    if measured is None:
        return None, True
    complete = bool(measured.attrs.get("complete", True))
    # A part of a run never takes the place of a whole one.
    folder = cfg.out / name if complete else cfg.out / name / PART
    seconds = round(time.perf_counter() - began, 2)
    origin = provenance.provenance(cfg, seconds=seconds, sources=sources(name), **measured.attrs)
    lasting = measured.copy()
    lasting.attrs = {key: value for key, value in measured.attrs.items() if key not in TIMES}
    lasting.attrs[OPTIONS] = json.dumps(measured_by(cfg), sort_keys=True)
    kept = _keep(folder, lasting, origin)
    measured.close()
    if complete and kept == folder:
        store.clear(folder / BLOCKS)  # all they hold is in the data now
    return kept, complete


def _tell(module: ModuleType, folder: Path, redrawn: bool) -> None:
    """Make verdicts, answers and figures of the data saved in `folder`, save them and print them.

    redrawn: whether they are of an earlier run, perhaps of another version, which may lack something.
    """
    saved = results.load(folder)
    setting = measured_on(module, saved)
    try:
        verdicts = [verdict.measured_on(setting) for verdict in module.verdicts(saved)]
        answers = module.answers(saved) if hasattr(module, "answers") else []
        answers = [replace(answer, setting=setting) for answer in answers]
        tables = module.tables(saved) if hasattr(module, "tables") else {}
        pages = module.pages(saved) if hasattr(module, "pages") else {}
        figures = module.figures(saved)
    except (AttributeError, KeyError) as error:
        if not redrawn:
            raise
        raise InputError(f"The data in {folder} lack what this version reads ({error}): measure them again.") from error
    written = results.save_findings(folder, verdicts, answers, figures, tables, pages)
    if setting.quick:
        print("A quick run: effects only, no verdicts.")
    for verdict in verdicts:
        print(f"{verdict.outcome or 'effect':>13}: {verdict.statement}. {verdict.sentence}")
    for answer in answers:
        where = ", ".join(part for part in (answer.figure, str(setting)) if part)
        print(f"{answer.question} {answer.answer} [{where}]")
    print(f"Written to {folder}: metrics.nc, provenance.json, {', '.join(path.name for path in written)}")


def measured_on(module: ModuleType, ds: Any) -> Setting:
    """What saved data were measured on, and how that differs from the experiment's own setting.

    An experiment's own data set is full MNIST where its default is `auto`. The options stand in the data: another file
    could be lost, or be that of another run. Without them "unknown options" is one of the differences.
    """
    own, name = measured_by(module.Config()), str(ds.attrs.get("dataset", ""))
    config = _options_in(ds)
    usual = "mnist" if own["dataset"] == "auto" else own["dataset"]
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
    """The options in saved data; none where they are no JSON object."""
    try:
        config = json.loads(str(ds.attrs.get(OPTIONS, "")))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _length(config: dict[str, Any], ds: Any) -> str:
    """The steps or epochs of training by the options, or up to an interrupt; "" where no option gives them."""
    if isinstance(steps := config.get("steps"), int):
        return f"{min(steps, ds.sizes.get('step', steps)):,} steps"
    return f"{config['epochs']:,} epochs" if isinstance(config.get("epochs"), int) else ""


def _keep(folder: Path, measured: Any, origin: dict[str, Any]) -> Path:
    """Save the data in `folder`, or elsewhere if the disk has filled up while they were made; gives where."""
    try:
        results.save_data(folder, measured, origin)
        return folder
    except InputError as error:
        shelter = Path(tempfile.mkdtemp(prefix="fnn-")) / folder.name
        results.save_data(shelter, measured, origin)
        print(f"{folder.name}: {error} The results are kept in {shelter} instead.", file=sys.stderr)
        return shelter


def sources(name: str) -> str:
    """SHA-256 over the code that a module's results depend on: its own, what it imports here, and all of fnn.

    name: of a module in this folder, or in one below it with a dot between.
    """
    files = [*_imported(name), *Path(fnn.__file__).parent.rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _imported(name: str, seen: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The file of a module of `experiments`, and those of what it imports from there, directly or not."""
    path = Path(__file__).parent.joinpath(*name.split(".")).with_suffix(".py")
    if path in seen or not path.is_file():
        return seen
    seen |= {path}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            names = [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
            for one in names if package == "experiments" else ():
                seen = _imported(one, seen)
    return seen


def load_data(cfg: Options, fitting: str | None = None) -> data.DataSet:
    """The data set that the options name.

    fitting: an option that counts training images. Raises `InputError` where the data set has fewer.
    """
    images = data.load(cfg.dataset, cfg.data_dir)
    if fitting:
        n, asked = len(images.x_train), getattr(cfg, fitting)
        require(asked <= n, f"--{fitting} is at most the {n:,} training images of {images.name}, not {asked:,}.")
    return images


def headline(cfg: Options, images: data.DataSet, work: str) -> None:
    """The honest first lines: which data, how many networks, on what."""
    n, m = len(images.x_train), len(images.x_test)
    missed = ", since full MNIST was not to be had" if cfg.dataset == "auto" and images.name != "mnist" else ""
    print(f"{images.name}: {n:,} training and {m:,} test images from {images.source}{missed}")
    print(f"{work} on {provenance.describe_devices(jax.local_devices())}", flush=True)
