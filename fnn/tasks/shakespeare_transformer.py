"""A transformer that learns characters: where Adam and its kind beat SGD."""

from typing import NamedTuple

from fnn.nn.models import transformer
from fnn.tasks.language import language
from fnn.tasks.sources import HELD_OUT, plays
from fnn.tasks.workload import Size, Workload, sized


class Scale(NamedTuple):
    """Blocks, width, heads, the length of the context, windows of a minibatch and the horizon."""

    blocks: int
    width: int
    heads: int
    context: int
    batch: int
    steps: int


SIZES = {
    "tiny": Scale(1, 16, 2, 16, 8, 30),
    "small": Scale(2, 32, 4, 32, 16, 300),
    "full": Scale(4, 128, 4, 128, 16, 5000),
}


def workload(size: Size = "small") -> Workload:
    """Two pre-norm blocks of width 32 with rotary positions at small; four of width 128 at full size."""
    blocks, width, heads, context, batch, steps = sized(SIZES, size)
    text = plays(size)
    network = transformer(len(text.classes), context, blocks=blocks, width=width, heads=heads, place="rotary")
    task = language(network, text, batch, context=context, metrics_of=HELD_OUT, block=batch)
    known = (
        "SGD falls far behind Adam on transformers (Zhang et al. 2020, arXiv:1912.03194; Kunstner et al. 2024, "
        "arXiv:2402.19449). On the last tenth of tiny Shakespeare, validation and test here, 10 million weights come "
        "to 2.12 bits per character (Karpathy's nanoGPT), and these at full size by AdamW to 2.08 and 2.33."
    )
    return Workload(task, steps, "validation_bits", "test_bits", known)
