"""What the experiments that train share: splits of a data set, following a sweep, captions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from tqdm import tqdm

from experiments import _cli
from fnn.base.errors import require
from fnn.base.types import Keys
from fnn.data import DataSet
from fnn.lab import titles
from fnn.tasks import Split
from fnn.train import Record, Run, checkpoints, engine
from fnn.train.engine import Chunk

NOTES, title = titles.NOTES, titles.title


def listed(option: str, text: str, what: str) -> list[str]:
    """The names in a comma-separated option. Raises `InputError` where there is none or one comes twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    require(bool(names), f"{option} names no {what}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"{option} names {', '.join(twice)} more than once.")
    return names


def whole_numbers(option: str, text: str, what: str, least: int) -> list[int]:
    """The whole numbers in a comma-separated option. Raises `InputError` where one is no such number, or too small."""
    parts = listed(option, text, what)
    for part in parts:
        good = part.isdecimal() and int(part) >= least
        require(good, f"{option} takes whole numbers from {least} on, not {part!r}.")
    return [int(part) for part in parts]


def asked(rules: str, everyone: Iterable[str]) -> list[str]:
    """The rules that --rules names: those of the list, or everyone for "all"."""
    names = listed("--rules", rules, "rule")
    return list(everyone) if names == ["all"] else names


def splits(images: DataSet, train: int | None = None) -> dict[str, Split]:
    """The data set as tasks take it, with only the first `train` training images if told so."""
    return {
        "train": Split(jnp.asarray(images.x_train[:train]), jnp.asarray(images.y_train[:train])),
        "test": Split(jnp.asarray(images.x_test), jnp.asarray(images.y_test)),
    }


def stream(
    cfg: _cli.Options,
    runs: Mapping[str, Run],
    hps: Mapping[str, Any],
    keys: Keys,
    data: Any,
    steps: int,
    *,
    chunk: int,
    part: str = "",
) -> Iterator[Chunk]:
    """`engine.stream`, with checkpoints if the options ask for them: the same command goes on from the last one.

    part: tells several sweeps of one experiment apart.
    """
    if cfg.checkpoint is None:
        return engine.stream(runs, hps, keys, data, steps, chunk=chunk)
    where = _cli.under_way(cfg) / part
    return checkpoints.stream(
        where, _cli.manifest(cfg), runs, hps, keys, data, steps, chunk=chunk, every=cfg.checkpoint
    )


class Followed(NamedTuple):
    """What a followed sweep left.

    record: for each run its record, arrays `[S, steps done, …]`.
    done: the number of steps done; fewer than asked for after an interrupt.
    attrs: `complete` (0 or 1), `train_seconds`, `compile_seconds`: to be saved with the results.
    """

    record: Mapping[str, Record]
    done: int
    attrs: dict[str, Any]


def follow(chunks: Iterable[Chunk], steps: int, row: Callable[[Chunk], str] | None = None) -> Followed:
    """Go through a sweep under a progress bar, printing `row(chunk)` after each chunk.

    An interrupt ends it and keeps the steps done; it is passed on where there are none yet.
    """
    records, done, seconds, compile_seconds, complete = [], 0, 0.0, 0.0, 1
    with tqdm(total=steps, unit="step", disable=None, leave=False) as bar:
        try:
            for chunk in chunks:
                records.append(chunk.record)
                done += len(chunk.steps)
                seconds += chunk.seconds
                compile_seconds += chunk.compile_seconds
                if row:
                    bar.write(row(chunk))
                bar.update(len(chunk.steps))
        except KeyboardInterrupt:
            complete = 0
            if not records:
                raise
    record = {
        name: {what: np.concatenate([r[name][what] for r in records], axis=1) for what in records[0][name]}
        for name in records[0]
    }
    times = {"train_seconds": round(seconds, 2), "compile_seconds": round(compile_seconds, 2)}
    return Followed(record, done, {"complete": complete, **times})


def at(record: np.ndarray, numbers: Sequence[int], axis: int = 1) -> np.ndarray:
    """Of a record `[S, steps, …]` the entries after so many updates, without those that an interrupt kept away."""
    reached = [number - 1 for number in numbers if number <= record.shape[axis]]
    return np.take(record, np.asarray(reached, int), axis)


def first_not_finite(loss: xr.DataArray) -> xr.DataArray:
    """The first step whose loss is infinite or not a number; −1 where there is none."""
    bad = ~xr.apply_ufunc(np.isfinite, loss)
    return bad.argmax("step").where(bad.any("step"), -1).astype(np.int32)


def origin(images: DataSet) -> Mapping[str, Any]:
    """What every data set of results says of the images it came from."""
    return {"dataset": images.name, "checksum": images.checksum, "source": images.source}


def about(ds: xr.Dataset, *details: str, paired: bool = True) -> str:
    """The caption that every figure carries: data set, details, how many seeds, how many runs diverged."""
    n = ds.sizes["seed"]
    parts = [ds.attrs["dataset"]] if "dataset" in ds.attrs else []
    parts += [*details, f"{n} seed{'s' * (n > 1)}" + (", paired" if paired and n > 1 else "")]
    diverged = int((ds.diverged_at >= 0).sum()) if "diverged_at" in ds else 0
    parts += [f"{diverged} run{'s' * (diverged > 1)} diverged, the worst in medians and ranks"] if diverged else []
    return " · ".join(parts)
