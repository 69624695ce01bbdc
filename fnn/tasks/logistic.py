"""Logistic regression with an L2 penalty: convex, smooth and without noise, so that its optimum is known to any digit.

    f(w, b) = mean of −log p(y | x; w, b) + λ ‖w‖² / 2,    λ = 1 / n for n examples

as Schmidt, Le Roux & Bach 2017, arXiv:1309.2388, §5, write it. The penalty makes the optimum unique, and without it
there is none where a plane separates the classes, so it belongs to the problem. Every step takes the gradient of all
examples.
"""

import jax.numpy as jnp

from fnn.data import DataSet, load, standardized
from fnn.nn.layers import affine
from fnn.nn.losses import accuracy, sign_accuracy
from fnn.tasks.binary import binary
from fnn.tasks.classification import classification
from fnn.tasks.contract import Label, Task
from fnn.tasks.drawing import Everything
from fnn.tasks.sources import digits, held_out
from fnn.tasks.workload import Size, Workload, sized

SIZES = {"tiny": 40, "small": 1000, "full": 5000}
"""The horizon."""


def workload(size: Size = "small") -> Workload:
    """Tumors by 30 measurements, standardized; at full size the ten digits by their pixels."""
    steps = sized(SIZES, size)
    data = digits(size) if size == "full" else standardized(held_out(load("breast_cancer"), 1000))
    known = (
        "Convex and smooth, with a full gradient at every step: Newton's method finds the optimum to rounding, "
        "of breast_cancer f* = 0.0827; L-BFGS is the method of choice (Nocedal & Wright 2006, §7.2)."
    )
    return Workload(penalized(data), steps, "objective", "test_error", known)


def penalized(data: DataSet) -> Task:
    """The task of logistic regression, of two classes by one logit. Its metrics are the objective, and loss, error
    and accuracy on the test set."""
    two, penalty = len(data.classes) == 2, 1 / len(data.y_train)
    kind, outputs, right = (binary, 1, sign_accuracy) if two else (classification, len(data.classes), accuracy)
    task = kind(
        affine(outputs),
        data,
        Everything(),
        weight_decay=lambda hp: penalty,
        metrics={"error": lambda logits, y: 1 - right(logits, y)},
        metrics_of=("test",),
    )

    def metrics(hp, params, stats, data):
        everything = task.batch(data, jnp.arange(len(data["train"].y)))
        objective, _ = task.loss(hp, params, stats, everything, None, False)
        return {"objective": objective, **task.metrics(hp, params, stats, data)}

    labels = {**task.labels, "objective": Label("loss on the training set, with the penalty", "nats")}
    return task._replace(metrics=metrics, labels=labels)
