"""What experiments that are modules of functions share; `record` makes the `fnn.lab.Experiment` of one."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import xarray as xr

from fnn import data, lab
from fnn.base import provenance
from fnn.base.errors import require
from fnn.lab import command
from fnn.lab.command import BLOCKS, measured_by
from fnn.train import checkpoints


@dataclass(frozen=True)
class Options(lab.DataOptions):
    """Options that mean the same in every experiment."""

    checkpoint: float | None = None
    """Seconds between two checkpoints on disk, which is what a kill or an interrupt costs at most; None for none."""

    def check(self) -> None:
        """Raise `InputError` for values that no experiment can use."""
        super().check()
        if self.checkpoint is not None:
            self.check_at_least(checkpoint=0)


@dataclass(frozen=True)
class Module(lab.Experiment):
    """The record of an experiment that is a module of functions."""

    of: Any = None

    @property
    def file(self) -> Path:
        """Its file."""
        return Path(self.of.__file__)

    @property
    def module(self) -> str:
        """The name that Python imports it by."""
        return self.of.__spec__.name if self.of.__spec__ else self.of.__name__

    def options(self, *, quick: bool = False, **given: Any) -> Any:
        """Its options."""
        return replace(self.of.QUICK if quick else self.of.Config(), **{"checkpoint": checkpoints.EVERY, **given})

    def judge(self, ds: xr.Dataset) -> list[lab.Verdict]:
        """The verdicts on its claims."""
        return self.of.verdicts(ds)

    def draw(self, ds: xr.Dataset) -> dict[str, Any]:
        """Its figures."""
        return dict(self.of.figures(ds))


def record(module: ModuleType) -> Module:
    """The record of a module: what the page says of it stands in its docstring."""
    doc = " ".join((module.__doc__ or "").split())
    found = [re.sub(r"\s+", " ", part) for part in re.split(r"\n\s*\n|\n(?=[-*] )", (module.__doc__ or "").strip())]
    question, *rest = found or [doc]
    question, _, source = question.rpartition(" (") if question.endswith(")") else (question, "", "")
    takes = re.findall(r"^Takes (.+?)\.?$", module.__doc__ or "", re.M)
    says = [part for part in rest if re.match(r"The notes (say|show|ask|leave)|A slip", part)]
    method = [part for part in rest if part not in says and not part.startswith("Takes ")]
    of = lambda name: getattr(module, name, None)
    return Module(
        question=question,
        run=module.run,
        config=module.Config,
        source=source.removesuffix(")"),
        says="\n\n".join(says),
        method="\n\n".join(method),
        takes=" ".join(takes),
        answers=of("answers"),
        tables=of("tables"),
        pages=of("pages"),
        of=module,
    )


def main(module: ModuleType, argv: Sequence[str] | None = None) -> int:
    """Run an experiment module from its command line; returns the exit code."""
    return command.main(record(module), argv)


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


def sources(name: str) -> str:
    """SHA-256 over the code that the results of a module of `experiments` depend on."""
    return command.sources_of(Path(__file__).parent.joinpath(*name.split(".")).with_suffix(".py"))


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
