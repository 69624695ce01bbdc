"""Progress of long work: a bar in a terminal or notebook, else a line every 30 seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from tqdm.auto import tqdm

EVERY = 30.0
"""Seconds between two lines where the output is not a terminal."""


@runtime_checkable
class Bar(Protocol):
    """A report of progress."""

    def update(self, n: int) -> object:
        """Report that n more steps are done."""


class Silent:
    """A `Bar` that reports nothing."""

    def update(self, n: int) -> None:
        """Do nothing."""


class Lines:
    """A `Bar` that prints a line on standard error every `EVERY` seconds, for log files."""

    def __init__(self, total: int, unit: str):
        self.total, self.unit, self.done = total, unit, 0
        self.start = self.reported = time.monotonic()

    def update(self, n: int) -> None:
        """Print a line where the last one is `EVERY` seconds old, or all is done after longer than that."""
        self.done += n
        now = time.monotonic()
        if now - self.reported >= EVERY or (self.done >= self.total and now - self.start >= EVERY):
            self.reported = now
            print(
                f"{self.done:,} of {self.total:,} {self.unit}s, {now - self.start:,.0f} s", file=sys.stderr, flush=True
            )


@contextmanager
def progress(total: int, unit: str, shown: bool) -> Iterator[Bar]:
    """A `Bar` for `total` steps: a bar in a terminal or notebook, else lines; one that is silent unless `shown`."""
    if not shown:
        yield Silent()
    elif sys.stderr.isatty() or "ipykernel" in sys.modules:
        with tqdm(total=total, unit=unit, leave=False) as bar:
            yield bar
    else:
        yield Lines(total, unit)
