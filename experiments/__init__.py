"""Experiments: one question a module, each started as `python -m experiments.NAME`; see `python -m experiments`."""

import os
import signal
import sys
from types import TracebackType


def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the program with one sentence where it was interrupted or lacks memory, at any import too.

    It is `sys.excepthook`, the last function that a program calls: further interrupts are ignored.
    """
    if issubclass(kind, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _leave(str(error) or "interrupted; what is on disk is kept, and the same command goes on from there", 130)
    if issubclass(kind, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        _leave(f"there is not enough memory for this process, or it may not use more (ulimit -v): {error}", 1)
    sys.__excepthook__(kind, error, trace)


OUT_OF_MEMORY = (
    "failed to map",
    "Cannot allocate memory",
    "cannot allocate memory",
    "RESOURCE_EXHAUSTED",
    "start new thread",
)
"""Parts of the messages of systems, loaders of libraries and JAX where no memory is left."""


def _leave(sentence, code):
    name = next((word.rpartition(".")[2] for word in sys.orig_argv if word.startswith("experiments")), "experiments")
    sentence = " ".join(sentence.split()).rstrip(".")
    try:
        sys.stdout.flush()
        print(f"{name}: {sentence}.", file=sys.stderr, flush=True)
    finally:
        os._exit(code)  # without waiting for threads, and without messages of libraries


def check_memory() -> None:
    """End the program where it may use less memory than JAX reserves: its libraries would abort without a message."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if resource.RLIM_INFINITY != limit < RESERVED:
        has, needs = f"{limit / 2**30:.1f} GiB of addresses (ulimit -v)", f"{RESERVED >> 30} GiB"
        _leave(f"this process may use {has}, and takes {needs}", 2)


RESERVED = 3 << 30
"""The least bytes of addresses that JAX and its threads reserve; they use a small part of them."""


if sys.argv[:1] == ["-m"]:  # `python -m experiments…` is being started; otherwise another program imports this
    sys.excepthook = end
    check_memory()
