"""The caption of the experiments that search."""

import xarray as xr


def about(ds: xr.Dataset, *details: str, paired: bool = True) -> str:
    """The caption that every figure carries: data set, details, how many seeds, how many runs diverged."""
    n = ds.sizes["seed"]
    parts = [ds.attrs["dataset"]] if "dataset" in ds.attrs else []
    parts += [*details, f"{n} seed{'s' * (n > 1)}" + (", paired" if paired and n > 1 else "")]
    diverged = int((ds.diverged_at >= 0).sum()) if "diverged_at" in ds else 0
    parts += [f"{diverged} run{'s' * (diverged > 1)} diverged, the worst in medians and ranks"] if diverged else []
    return " · ".join(parts)
