"""Profiles of experiments: a trace for Perfetto, and the seconds of compiling, evaluating and writing."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import jax

from fnn import store

COMPILING = "/jax/core/compile/"
"""The prefix of JAX's names of the times of tracing, lowering and compiling."""

BRANCHES = ("cond", "conditional")
"""XLA's names of `lax.cond`."""


@contextlib.contextmanager
def profiled(folder: Path | None) -> Iterator[None]:
    """A block that is traced into the folder, and whose times are printed at its end; nothing is done for None."""
    if folder is None:
        yield
        return
    spent: dict[str, float] = defaultdict(float)

    def listen(event: str, duration_secs: float, **kwargs) -> None:
        spent[event] += duration_secs

    start = time.perf_counter()
    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.profiler.start_trace(folder, create_perfetto_trace=True)
    try:
        yield
    finally:
        whole = time.perf_counter() - start
        jax.profiler.stop_trace()
        jax.monitoring.unregister_event_duration_listener(listen)
        compiling = sum(seconds for event, seconds in spent.items() if event.startswith(COMPILING))
        writing = spent[store.WRITING]
        print(
            f"{whole:.1f} s: {compiling:.1f} s compiling and {evaluating(_latest(folder, '*.xplane.pb')):.1f} s "
            f"evaluating (of all threads), {writing:.1f} s writing files, the rest training."
        )
        print(f"Open {_latest(folder, 'perfetto_trace.json.gz')} in ui.perfetto.dev.", flush=True)


def evaluating(trace: Path) -> float:
    """The seconds, of all threads, that compiled programs spent in branches of `lax.cond`, which evaluate metrics.

    The branches of a few rules (Sophia, GaLore) are counted too.
    """
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    events = (event for plane in planes for line in plane.lines for event in line.events)
    return sum(event.duration_ns for event in events if event.name.partition(".")[0] in BRANCHES) / 1e9


def _latest(folder: Path, name: str) -> Path:
    return max(folder.rglob(name), key=lambda path: path.stat().st_mtime)
