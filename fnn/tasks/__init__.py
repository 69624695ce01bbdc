"""Tasks: what is learned. `contract` defines a task, `splits` and `drawing` its data and minibatches; `classification`,
`binary`, `regression`, `language` and `supervised` make one of a network and data.

The other files hold one `workload` each, a task with a horizon and a metric, on which rules are compared: a new file is
a new one. `workloads()` finds their names, `workload("mnist_mlp")` returns one, `workload("my_task.py")` that of a
file of one's own.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import jax

from fnn.base import modules
from fnn.base.errors import near, require
from fnn.data.splitting import stratified
from fnn.tasks.binary import binary
from fnn.tasks.classification import classification
from fnn.tasks.contract import Label, Task, Trial
from fnn.tasks.drawing import Epochs, Everything, Sample, WithReplacement
from fnn.tasks.language import language
from fnn.tasks.regression import regression
from fnn.tasks.splits import Split, averaged, check_splits, images, rows, splits
from fnn.tasks.supervised import supervised
from fnn.tasks.workload import SIZES, Size, Workload

__all__ = [
    "Epochs",
    "Everything",
    "Label",
    "Sample",
    "Size",
    "Split",
    "Task",
    "Trial",
    "WithReplacement",
    "Workload",
    "averaged",
    "binary",
    "check_splits",
    "classification",
    "images",
    "language",
    "regression",
    "rows",
    "splits",
    "stratified",
    "supervised",
    "workload",
    "workloads",
]


def workloads() -> tuple[str, ...]:
    """The names of all workloads, in alphabetical order: of the files here that define a function `workload`."""
    names = sorted(module.name for module in iter_modules(__path__))
    return tuple(name for name in names if hasattr(import_module(f"{__name__}.{name}"), "workload"))


def workload(spec: str | Path, size: Size = "small") -> Workload:
    """The workload called `NAME`, or that of a file, `PATH.py` or `PATH.py:FUNCTION`, at a size.

    A file has a function of the size, `workload` where none is named, which returns a `Workload`.
    Raises `InputError` for a name, a file or a size that is not there, and for a file whose function returns no
    `Workload` or one whose metrics its task does not have.
    """
    require(isinstance(spec, str | Path), f"A workload is named by text, 'mnist_mlp' or 'my_task.py', not by {spec!r}.")
    require(size in SIZES, f"A workload has the sizes {', '.join(SIZES)}, not {size!r}.")
    spec = str(spec)
    if modules.is_file(spec):
        return _of_file(spec, size)
    known = workloads()
    require(spec in known, f"There is no workload {spec!r}; {near(spec, known)}.")
    return import_module(f"{__name__}.{spec}").workload(size)


def _of_file(spec, size) -> Workload:
    path, name = modules.parted(spec)
    name = name or "workload"
    make: Any = getattr(modules.module(path), name, None)
    require(callable(make), f"{path} has no function {name}(size) that returns a fnn.tasks.Workload.")
    found = make(size)
    sound = isinstance(found, Workload) and isinstance(found.task, Task) and found.task.data is not None
    require(sound, f"{name}({size!r}) of {path} returns a fnn.tasks.Workload of a task with data, not {found!r:.80}.")
    named = _metrics(found.task)
    lacking = [metric for metric in (found.metric, found.reported) if metric not in named]
    require(not lacking, f"The task of {path} has no metric {', '.join(lacking)}; there are {', '.join(named)}.")
    return found


def _metrics(task):
    """The names of a task's metrics."""

    def measured(key, data):
        data = task.own(key, data)
        params, stats = task.init(task.hyper, key, data)
        return dict(task.metrics(task.hyper, params, stats, data))

    return tuple(jax.eval_shape(measured, jax.random.key(0), task.data))
