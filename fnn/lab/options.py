"""Options that mean the same in every experiment. An experiment adds others in a frozen dataclass that extends it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fnn import data
from fnn.base.errors import require
from fnn.lab import process

ELSEWHERE = (
    *("out", "data_dir", "redraw", "profile", "storage", "retest", "work"),
    *("memory", "distributed", "coordinator", "processes", "process"),
)
"""Options that do not change what is measured: folders, how work is spread and reported, and repeated tests."""


@dataclass(frozen=True)
class Options:
    """Options of every experiment."""

    seeds: int = 10
    """Networks of each kind that is compared, each with the initial weights and minibatches of one seed."""
    out: Path = Path("results")
    """Folder for the results; those of this experiment are in a folder with its name there."""
    quick: bool = False
    """Tiny sizes, as a preview: changes the defaults of other options; effects only, no verdicts."""
    redraw: bool = False
    """Train nothing: make figures and verdicts again from the data saved in --out."""
    profile: bool = False
    """Write a trace beside the results, to be opened in ui.perfetto.dev, and print the seconds of each kind of work."""
    work: Annotated[Path | None, tyro.conf.Suppress] = None
    """The folder for unfinished work, where the command line keeps it."""

    def start(self) -> None:
        """Configure JAX, before anything is computed."""
        process.prepare()

    def check(self) -> None:
        """Raise `InputError` for values that cannot be used."""
        self.check_at_least(seeds=1)

    def check_at_least(self, **least: float | int) -> None:
        """Raise `InputError` unless each of these options is a number and at least this."""
        for name, bound in least.items():
            at_least(name, getattr(self, name), bound)

    def check_distinct(self, **what: str) -> None:
        """Raise `InputError` unless each of these options, a tuple, has values, and none of them twice.

        what: the noun for an option's values, `check_distinct(rates="learning rate")`.
        """
        for name, kind in what.items():
            option, values = f"--{name.replace('_', '-')}", getattr(self, name)
            require(len(values) > 0, f"{option} names no {kind}.")
            twice = dict.fromkeys(str(value) for value in values if values.count(value) > 1)
            require(not twice, f"{option} names {', '.join(twice)} more than once.")

    def keep(self, part: str = "") -> Path | None:
        """The folder for a sweep's finished work, `sweep(…, keep=cfg.keep())`; None outside of the command line.

        part: the name of the sweep where the experiment has several.
        """
        return None if self.work is None else self.work / part


@dataclass(frozen=True)
class DataOptions(Options):
    """Options of experiments that learn a data set."""

    dataset: str = "auto"
    """mnist, fashion_mnist, cifar10, cifar100, mnist_5k, or auto: full MNIST where it is found, else the 5,000 embedded
    digits; or a path: a folder of IDX files, an .npz file, or TABLE.csv:COLUMN with the column of classes."""
    data_dir: Path | None = None
    """The folder of the data-set files (default: the environment's FNN_DATA); otherwise they are searched for."""

    def load(self, **counts: int) -> data.DataSet:
        """The data set that the options name; its name and size are printed.

        counts: values of options that count training images. Raises `InputError` where the data set has fewer, and
            for one that cannot be classified.
        """
        images = data.load(self.dataset, self.data_dir)
        require(bool(images.classes), f"--dataset {self.dataset} has targets that are numbers, and this needs classes.")
        tokens = images.x_train.ndim < 2 or images.x_train.dtype.kind == "i"
        require(not tokens, f"--dataset {self.dataset} has tokens or whole numbers for examples, not images or rows.")
        n, m = len(images.x_train), len(images.x_test)
        for option, count in counts.items():
            require(count <= n, f"--{option} is at most the {n:,} training images of {images.name}, not {count:,}.")
        missed = ", since full MNIST could not be found" if self.dataset == "auto" and images.name != "mnist" else ""
        print(f"{images.name}: {n:,} training and {m:,} test images from {images.source}{missed}", flush=True)
        return images


def at_least(option: str, value: Any, least: float | int) -> None:
    """Raise `InputError` unless the option's value is a number and at least that."""
    require(least <= value < math.inf, f"--{option.replace('_', '-')} is at least {least}, not {value}.")
