"""Tasks: what is learned. `contract` defines a task, `splits` and `drawing` its data and minibatches; every other file
holds one kind."""

from fnn.data.splitting import stratified
from fnn.tasks.binary import binary
from fnn.tasks.classification import classification
from fnn.tasks.contract import Label, Task, Trial
from fnn.tasks.drawing import Epochs, Everything, Sample, WithReplacement
from fnn.tasks.language import language
from fnn.tasks.regression import regression
from fnn.tasks.splits import Split, averaged, check_splits, images, rows, splits
from fnn.tasks.supervised import supervised

__all__ = [
    "Epochs",
    "Everything",
    "Label",
    "Sample",
    "Split",
    "Task",
    "Trial",
    "WithReplacement",
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
]
