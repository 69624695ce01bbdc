"""Training: one run, sweeps over devices in blocks on disk, successive halving and populations."""

from fnn.train.logs import frames
from fnn.train.parameters import load, save, starting_from
from fnn.train.run import (
    Check,
    Drawing,
    Drawn,
    Hyper,
    Moment,
    Observation,
    Record,
    Run,
    State,
    advance,
    check_run,
    draw,
    extra,
    train,
    training,
)
from fnn.train.stopping import EarlyStopping

__all__ = [
    "Check",
    "Drawing",
    "Drawn",
    "EarlyStopping",
    "Hyper",
    "Moment",
    "Observation",
    "Record",
    "Run",
    "State",
    "advance",
    "check_run",
    "draw",
    "extra",
    "frames",
    "load",
    "save",
    "starting_from",
    "train",
    "training",
]
