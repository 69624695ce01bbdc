"""Training: one run, sweeps over devices in blocks on disk, successive halving and populations."""

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

__all__ = [
    "Check",
    "Drawing",
    "Drawn",
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
    "train",
    "training",
]
