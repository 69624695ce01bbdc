"""The order of the notes: which chapter an experiment belongs to, and what stands where in the notes."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """A chapter of the notes.

    number: 1 to 5, or 0 for what goes beyond them.
    sections: the notes' sections as (number, title).
    """

    number: int
    title: str
    about: str
    sections: tuple[tuple[str, str], ...] = ()

    @property
    def anchor(self) -> str:
        """The chapter's place in the page."""
        return f"chapter-{self.number}" if self.number else "beyond"


CHAPTERS = (
    Chapter(
        1,
        "Updating the parameters",
        "How a rule turns gradients into steps: in a valley with two parameters, where every step can be seen, and on "
        "MNIST.",
        (
            ("1.1", "SGD"),
            ("1.2", "Momentum"),
            ("1.3", "AdaGrad, and RMSProp"),
            ("1.4", "Adam"),
            ("1.5", "The update rules compared on MNIST"),
        ),
    ),
    Chapter(
        2,
        "Initial weights",
        "What the size of the first weights does to the activations of deep layers, to the gradients that come back "
        "through them, and to learning.",
        (
            ("2.1", "Can weights start at 0?"),
            ("2.2", "The distribution of hidden activations"),
            ("2.2.1", "Vanishing gradients"),
            ("2.2.2", "Limited expressiveness"),
            ("2.2.3", "Xavier's initial weights"),
            ("2.3", "Initial weights for ReLU"),
        ),
    ),
    Chapter(
        3,
        "Batch normalization",
        "Every layer's inputs brought to mean 0 and variance 1 over the minibatch.",
        (("3.1", "The algorithm"), ("3.2", "Its evaluation")),
    ),
    Chapter(
        4,
        "Regularization",
        "300 images and a network that can learn them by heart: what weight decay, dropout and ensembles do about it.",
        (("4.1", "Overfitting"), ("4.2", "Weight decay"), ("4.3", "Dropout"), ("4.3.1", "Ensembles")),
    ),
    Chapter(
        5,
        "Hyperparameters",
        "How to look for good ones, how long, and how far to believe what validation says of them.",
        (("5.1", "Validation data"), ("5.2", "The search for hyperparameters")),
    ),
    Chapter(
        0,
        "Beyond the notes",
        "Whether the hand-written rules are what they say they are, and how fast all of this is.",
    ),
)


def section(question: str) -> str:
    """The first section of the notes that an experiment's first line names, "" where there is none."""
    found = re.search(r"notes §(\d[\d.]*\d|\d)", question)
    return found[1] if found else ""


def number(question: str) -> int:
    """The number of the chapter that an experiment belongs to."""
    first = int(section(question).partition(".")[0] or 0)
    return first if any(chapter.number == first for chapter in CHAPTERS) else 0
