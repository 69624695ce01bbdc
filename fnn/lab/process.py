"""The set-up of a program: memory, interrupts, the console, JAX's devices and its cache.

This module imports nothing that takes long, so it can be called before anything else is imported.
"""

import io
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

OUT_OF_MEMORY = (
    "failed to map",
    "Cannot allocate memory",
    "cannot allocate memory",
    "RESOURCE_EXHAUSTED",
    "start new thread",
)
"""Parts of the messages of the system, the loader of libraries and JAX where memory is exhausted."""

RESERVED = 3 << 30
"""The least bytes of addresses that JAX and its threads reserve; they use a small part of them."""


def guard() -> None:
    """Make interrupts and lack of memory end the program with one sentence, also during imports."""
    sys.excepthook = end
    check_memory()


def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the program with one sentence where it was interrupted or lacks memory.

    It is `sys.excepthook`, the last function that a program calls: further interrupts are ignored.
    """
    if issubclass(kind, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _leave(str(error) or "interrupted; what is on disk is kept, and the same command goes on from there", 130)
    if issubclass(kind, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        _leave(f"there is not enough memory for this process, or it may not use more (ulimit -v): {error}", 1)
    sys.__excepthook__(kind, error, trace)


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


def _leave(sentence, code):
    sentence = " ".join(sentence.split()).rstrip(".")
    try:
        sys.stdout.flush()
        print(f"{_program()}: {sentence}.", file=sys.stderr, flush=True)
    finally:
        os._exit(code)  # without waiting for threads, and without messages of libraries


def _program() -> str:
    """The name of the module or file that Python was started with, also while it is imported."""
    words = sys.orig_argv
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1].rpartition(".")[2]
    return Path(sys.argv[0]).stem or "python"


def console() -> None:
    """Make standard output and error print "?" for characters that their encoding lacks, not raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def prepare() -> None:
    """Configure JAX: one device per core on CPU, and a persistent cache of compiled programs.

    Each core trains different seeds: sharing every small matrix product among all cores would cost waiting.
    """
    import jax

    from fnn.data import user_cache

    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a second start compiles nothing
    cache = user_cache()
    if jax.config.values["jax_compilation_cache_dir"] is None and cache is not None and _writable(cache / "compiled"):
        jax.config.update("jax_compilation_cache_dir", str(cache / "compiled"))


def _writable(folder: Path) -> bool:
    """Whether files can be created in the folder, created if it is missing: a home may be read-only or absent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
