"""fnn: a laboratory for training dynamics, in pure functions on pytrees.

`from fnn import optim, tasks, sweep` imports packages, modules and functions by short names, each on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnn.nn import init as init
    from fnn.nn import instruments as instruments
    from fnn.nn import layers as layers
    from fnn.nn import losses as losses
    from fnn.nn import models as models
    from fnn.rule import interop as interop
    from fnn.rule import schedules as schedules
    from fnn.rule import wrappers as wrappers
    from fnn.train.sweep import stream as stream
    from fnn.train.sweep import sweep as sweep

__version__ = "0.1.0"

_SHORTCUTS = {
    **{name: f"fnn.nn.{name}" for name in ("init", "instruments", "layers", "losses", "models")},
    **{name: f"fnn.rule.{name}" for name in ("interop", "schedules", "wrappers")},
}
"""Modules that can also be imported from `fnn` directly."""

_FOLDERS = ("base", "data", "lab", "nn", "optim", "rule", "search", "store", "tasks", "train")


def __getattr__(name: str) -> Any:
    if name in _SHORTCUTS:
        return import_module(_SHORTCUTS[name])
    if name in ("sweep", "stream"):
        return getattr(import_module("fnn.train.sweep"), name)
    if name in _FOLDERS:
        return import_module(f"fnn.{name}")
    raise AttributeError(f"module 'fnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SHORTCUTS, *_FOLDERS])
