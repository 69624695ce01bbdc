"""Experiments: one question a module, each started as `python -m experiments.NAME`; see `python -m experiments`."""

import os
import signal
import sys
from types import TracebackType


def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the program with one sentence where it was interrupted or lacks memory, which may happen at any import.

    It is the last that a program does (`sys.excepthook`): further interrupts change nothing.
    """
    if issubclass(kind, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _leave(str(error) or "interrupted; what is on disk is kept, and the same command goes on from there", 130)
    if issubclass(kind, MemoryError) or any(words in str(error) for words in LACK):
        _leave(f"there is not enough memory for this process, or it may not use more (ulimit -v): {error}", 1)
    sys.__excepthook__(kind, error, trace)


LACK = ("failed to map", "Cannot allocate memory", "cannot allocate memory", "RESOURCE_EXHAUSTED", "start new thread")
"""What systems, loaders of libraries and JAX say where there is no memory left."""


def _leave(sentence, code):
    name = next((word.rpartition(".")[2] for word in sys.orig_argv if word.startswith("experiments")), "experiments")
    sentence = " ".join(sentence.split()).rstrip(".")
    try:
        sys.stdout.flush()
        print(f"{name}: {sentence}.", file=sys.stderr, flush=True)
    finally:
        os._exit(code)  # threads and libraries have nothing to add


def check_memory() -> None:
    """End the program where it may use less memory than JAX reserves: its libraries would abort without a sentence."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if resource.RLIM_INFINITY != limit < LEAST:
        _leave(f"this process may use {limit / 2**30:.1f} GiB of addresses (ulimit -v), and takes {LEAST >> 30} GiB", 2)


LEAST = 3 << 30
"""Bytes of addresses that JAX and its threads reserve at least; a small part of them is ever used."""


if sys.argv[:1] == ["-m"]:  # `python -m experiments…` is being started; otherwise the program is another's
    sys.excepthook = end
    check_memory()
