"""A recurrent network that learns characters: gradients through time, which explode."""

from typing import NamedTuple

from fnn.nn.contract import serial
from fnn.nn.dense import affine
from fnn.nn.embedding import embedding
from fnn.nn.init import xavier
from fnn.nn.recurrence import gru
from fnn.tasks.language import language
from fnn.tasks.sources import HELD_OUT, plays
from fnn.tasks.workload import Size, Workload, sized


class Scale(NamedTuple):
    """Units of the state, layers, the length of the context, windows of a minibatch and the horizon."""

    hidden: int
    layers: int
    context: int
    batch: int
    steps: int


SIZES = {
    "tiny": Scale(16, 1, 16, 8, 30),
    "small": Scale(64, 1, 32, 16, 300),
    "full": Scale(128, 2, 50, 50, 10_000),
}


def workload(size: Size = "small") -> Workload:
    """One layer of 64 gated units at small; at full size two of 128, the defaults of Karpathy's char-rnn, with GRUs."""
    hidden, layers, context, batch, steps = sized(SIZES, size)
    text = plays(size)
    vocabulary = len(text.classes)
    network = serial(
        embedding(vocabulary, hidden),
        *(gru(hidden) for _ in range(layers)),
        affine(vocabulary, xavier()),
    )
    task = language(network, text, batch, context=context, metrics_of=HELD_OUT, block=batch)
    known = (
        "Gradients through time explode now and then, which clipping cures (Pascanu et al. 2013, arXiv:1211.5063). "
        "The text is that of Karpathy's char-rnn (2015, The unreasonable effectiveness of recurrent networks)."
    )
    return Workload(task, steps, "validation_bits", "test_bits", known)
