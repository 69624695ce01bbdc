"""Progress of long work: a bar in a terminal or notebook, else a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from tqdm.auto import tqdm

EVERY = 30.0
"""Seconds between two lines where the output is no terminal."""


@runtime_checkable
class Bar(Protocol):
    """What reports progress."""

    def update(self, n: int) -> object:
        """n more steps are done."""


class Silent:
    """No report."""

    def update(self, n: int) -> None:
        """Do nothing."""


class Lines:
    """A line on standard error now and then, for log files."""

    def __init__(self, total: int, unit: str):
        self.total, self.unit, self.done = total, unit, 0
        self.began = self.reported = time.monotonic()

    def update(self, n: int) -> None:
        """Report n more steps, if the last line is old enough or nothing is left to do."""
        self.done += n
        now = time.monotonic()
        if now - self.reported >= EVERY or (self.done >= self.total and now - self.began >= EVERY):
            self.reported = now
            print(
                f"{self.done:,} of {self.total:,} {self.unit}s, {now - self.began:,.0f} s", file=sys.stderr, flush=True
            )


@contextmanager
def progress(total: int, unit: str, shown: bool) -> Iterator[Bar]:
    """Something whose `update(n)` reports that n more of `total` are done."""
    if not shown:
        yield Silent()
    elif sys.stderr.isatty() or "ipykernel" in sys.modules:
        with tqdm(total=total, unit=unit, leave=False) as bar:
            yield bar
    else:
        yield Lines(total, unit)
