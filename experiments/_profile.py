"""Where the time of an experiment goes: a trace for Perfetto, and the seconds spent compiling and writing."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import jax

from fnn import results

COMPILING = "/jax/core/compile/"
"""What JAX calls the times of tracing, lowering and compiling by."""


@contextlib.contextmanager
def profiled(folder: Path | None) -> Iterator[None]:
    """Trace what the block computes into the folder, and print at its end what the time went into; nothing for None."""
    if folder is None:
        yield
        return
    spent: dict[str, float] = defaultdict(float)

    def listen(event: str, duration_secs: float, **kwargs) -> None:
        spent[event] += duration_secs

    began = time.perf_counter()
    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.profiler.start_trace(folder, create_perfetto_trace=True)
    try:
        yield
    finally:
        whole = time.perf_counter() - began
        jax.profiler.stop_trace()
        jax.monitoring.unregister_event_duration_listener(listen)
        compiling = sum(seconds for event, seconds in spent.items() if event.startswith(COMPILING))
        writing = spent[results.WRITING]
        trace = max(folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
        print(
            f"{whole:.1f} s: {compiling:.1f} s compiling (of all threads), {writing:.1f} s writing files, "
            "the rest running and evaluating."
        )
        print(f"Open {trace} in ui.perfetto.dev.", flush=True)
