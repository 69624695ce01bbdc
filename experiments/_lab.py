"""What the experiments that search share: splits of a data set, captions."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import xarray as xr

from fnn.data import DataSet
from fnn.tasks import Split


def splits(images: DataSet, train: int | None = None) -> dict[str, Split]:
    """The data set as tasks take it, with only the first `train` training images if told so."""
    return {
        "train": Split(jnp.asarray(images.x_train[:train]), jnp.asarray(images.y_train[:train])),
        "test": Split(jnp.asarray(images.x_test), jnp.asarray(images.y_test)),
    }


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
