"""The notes' network on handwritten digits: the anchor, which everybody knows."""

from typing import NamedTuple

from fnn.nn.losses import error
from fnn.nn.models import multilayer
from fnn.tasks.classification import classification
from fnn.tasks.sources import HELD_OUT, digits
from fnn.tasks.workload import Size, Workload, sized


class Scale(NamedTuple):
    """The widths of the hidden layers, the examples of a minibatch and the horizon."""

    hidden: tuple[int, ...]
    batch: int
    steps: int


SIZES = {
    "tiny": Scale((16,), 16, 40),
    "small": Scale((100, 100, 100, 100), 128, 500),
    "full": Scale((100, 100, 100, 100), 128, 2000),
}


def workload(size: Size = "small") -> Workload:
    """Four hidden layers of 100 ReLU units from He's weights, the notes' network; at small it learns 3,000 digits."""
    hidden, batch, steps = sized(SIZES, size)
    task = classification(
        *(multilayer(hidden, 10), digits(size), batch),
        metrics={"error": error},
        metrics_of=HELD_OUT,
    )
    known = (
        "The anchor. Dense networks without tricks reach a test error of 1.6 % on all of MNIST (Simard et al. 2003, "
        "Best practices for convolutional neural networks)."
    )
    return Workload(task, steps, "validation_loss", "test_error", known)
