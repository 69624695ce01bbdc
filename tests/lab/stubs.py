"""Experiments without training, for tests of what the lab does around them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from fnn import lab
from fnn.lab.verdicts import Answer


@dataclass(frozen=True)
class Stub(lab.Experiment):
    """An experiment named stub, wherever its functions are defined."""

    file = Path("stub.py")
    module = ""


def stub(run, **fields) -> Stub:
    """An experiment that measures by `run`."""
    return Stub(question="Is anything lost?", run=run, **{"config": lab.DataOptions, **fields})


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Options with a number of steps."""

    steps: int = 2000


def worked(**attrs) -> Stub:
    """An experiment whose claim holds."""
    measured = xr.Dataset({"loss": ("step", np.arange(3.0))}, attrs={"checksum": "ab12", **attrs})
    effect = lambda ds: xr.DataArray(np.arange(1.0, 9), dims="seed")
    return stub(
        lambda cfg: measured,
        config=Config,
        quick={"seeds": 2, "steps": 3},
        claims=(lab.Claim("It works", effect, lab.above(0.0), "m", source="claim 1"),),
        answers=lambda ds: [Answer("Why?", "Because.", "figure", 8)],
    )


def interrupt(*_):
    """What is interrupted."""
    raise KeyboardInterrupt
