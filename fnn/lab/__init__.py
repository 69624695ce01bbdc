"""Experiments: a question, its options, what it runs, its claims and its figures, as one record.

    from fnn import lab

    EXPERIMENT = lab.Experiment(question=…, run=run, claims=(lab.Claim(…),), figures={…})

Nothing is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnn.lab import figures as figures
    from fnn.lab.claims import Claim as Claim
    from fnn.lab.claims import above as above
    from fnn.lab.claims import ahead as ahead
    from fnn.lab.claims import always as always
    from fnn.lab.claims import at_best as at_best
    from fnn.lab.claims import below as below
    from fnn.lab.claims import exactly as exactly
    from fnn.lab.claims import has as has
    from fnn.lab.claims import share as share
    from fnn.lab.claims import within as within
    from fnn.lab.experiment import Experiment as Experiment
    from fnn.lab.hosts import HostOptions as HostOptions
    from fnn.lab.options import DataOptions as DataOptions
    from fnn.lab.options import Options as Options
    from fnn.lab.verdicts import Answer as Answer
    from fnn.lab.verdicts import Verdict as Verdict

_WHERE = {
    "claims": ("Claim", "above", "ahead", "always", "at_best", "below", "exactly", "has", "share", "within"),
    "experiment": ("Experiment",),
    "hosts": ("HostOptions",),
    "options": ("DataOptions", "Options"),
    "verdicts": ("Answer", "Verdict"),
}


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"fnn.lab.{module}"), name)
    try:
        return import_module(f"fnn.lab.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module 'fnn.lab' has no attribute {name!r}") from error
