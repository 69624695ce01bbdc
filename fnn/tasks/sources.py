"""The real data of the workloads at each size, with examples held out to validate and to test on."""

from fnn import data
from fnn.data import DataSet
from fnn.data.data_set import data_set
from fnn.tasks.workload import Size, sized

HELD_OUT = ("validation", "test")
"""The splits that metrics are taken of: evaluating all that is learned would cost more than learning it."""

EXAMPLES = {"tiny": 100, "small": 1000, "full": 10_000}
"""At most how many examples are held out, for each of the two."""

PICTURES = {"tiny": 100, "small": 500, "full": 10_000}
"""The same for convolutional networks, which take longer for each."""

CHARACTERS = {"tiny": 512, "small": 4096, "full": 2**20}
"""The same for texts, in characters."""


def digits(size: Size) -> DataSet:
    """Handwritten digits: `mnist_5k`; at full size all of MNIST where it is found."""
    return held_out(data.load("auto" if size == "full" else "mnist_5k"), sized(EXAMPLES, size))


def clothes(size: Size) -> DataSet:
    """Fashion-MNIST where it is found, else `mnist_5k`, which is also that of the tiny size."""
    return held_out(data.load_first(*_unless_tiny(size, "fashion_mnist"), "mnist_5k"), sized(PICTURES, size))


def plays(size: Size) -> DataSet:
    """Tiny Shakespeare where it is found, else `python_topics`, which is also that of the tiny size."""
    text = data.load_first(*_unless_tiny(size, "tiny_shakespeare"), "python_topics")
    n = sized(CHARACTERS, size)
    parts = {part: (x, y) if part == "train" else (x[:n], y[:n]) for part, (x, y) in text.parts.items()}
    return data_set(text.name, parts, text.source, text.classes)


def _unless_tiny(size, name):
    return () if size == "tiny" else (name,)


def held_out(found: DataSet, most: int) -> DataSet:
    """The data set with examples of its training part to validate on, and as many to test on.

    most: their number, which is at most a quarter of the training part. Those to validate on are drawn by
    `jax.random.key(0)`, classes in proportion; those to test on are the first of the test part.
    """
    n = min(most, len(found.x_train) // 4)
    return data.from_arrays(
        *(found.x_train, found.y_train),
        test=(found.x_test[:n], found.y_test[:n]),
        validation=n,
        classes=found.classes,
        features=found.features,
        name=found.name,
        source=found.source,
    )
