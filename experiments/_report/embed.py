"""What play.js is given: for every figure its charts and its packed data."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments import _cli, _lab
from experiments._report import charts, play
from experiments._report.pack import Rounded, pack
from experiments._report.surfaces import all_surfaces, contours
from fnn import results
from fnn.errors import InputError
from fnn.store import atomic

Block = dict[str, Any]

FARTHEST = 0.5
"""A path is followed until it is this far outside the window, in widths of it."""

CURVES = {"optimizer_compare_mnist": "Update rules (§1.5)", "weight_init_compare": "Initial weights under SGD (§2.3.1)"}
"""The experiments whose learning curves can be played with, and what they compare."""

POINTS = 200
"""Points of a learning curve; longer ones are averaged in blocks."""


def logarithm(values: np.ndarray) -> np.ndarray:
    """log₁₀; 0 is below everything."""
    with np.errstate(divide="ignore"):
        return np.log10(values)


def paths(found: play.Paths) -> Block:
    """The descents of surfaces. Places are kept as shares of the window."""
    surfaces = all_surfaces()
    window = np.array([surface.window for surface in surfaces])
    low, high = window[:, ::2], window[:, 1::2]
    wide = lambda edge: edge[None, :, None, None, None, :]
    share = (found.place - wide(low)) / wide(high - low)
    f = logarithm(found.value)
    return {
        "charts": {"surface": charts.surface(), "descent": charts.descent()},
        "rules": [{"name": name, "title": _lab.title(name)} for name in play.RULES],
        "colours": charts.colours(play.RULES),
        "surfaces": [
            {
                "name": surface.name,
                "formula": surface.formula,
                "window": surface.window,
                "minima": surface.minima,
                "contours": [
                    {"level": level, "lines": [np.round(line, 3).tolist() for line in lines]}
                    for level, lines in contours(surface)
                ],
            }
            for surface in surfaces
        ],
        "base": found.base.tolist(),
        "factor": found.factor.tolist(),
        "momenta": play.MOMENTA,
        "packed": pack(
            {
                "x": Rounded(share[..., 0], -FARTHEST, 1 + FARTHEST),
                "y": Rounded(share[..., 1], -FARTHEST, 1 + FARTHEST),
                "f": Rounded(f, -10, 5, short=True, floor=True),
            }
        ),
    }


def plane(found: play.Plane) -> Block:
    """The stability plane of Momentum."""
    edge = [{"lr": float(1 + alpha), "mu": float(alpha)} for alpha in found.momentum]  # 2 (1 + α) / L with L = 2
    return {
        "charts": {"plane": charts.plane(), "ride": charts.ride()},
        "lr": found.lr.tolist(),
        "momenta": found.momentum.tolist(),
        "conditions": found.condition.tolist(),
        "edge": edge,
        "packed": pack(
            {
                "measured": Rounded(found.measured, 0, 4),
                "exact": Rounded(found.exact, 0, 4),
                "f": Rounded(logarithm(found.value), -10, 10, short=True, floor=True),
            }
        ),
    }


def activations(found: play.Activations) -> Block:
    """Activations by weight scale, activation function and layer."""
    return {
        "charts": {"histogram": charts.histogram(), "spread": charts.spread()},
        "activations": list(play.ACTIVATIONS),
        "std": found.std.tolist(),
        "units": play.UNITS,
        "edges": found.edges.tolist(),
        "packed": pack(
            {"share": Rounded(found.share, 0, 1), "spread": Rounded(logarithm(found.spread), -12, 4, floor=True)}
        ),
    }


def sensitivity(found: play.Sensitivity) -> Block:
    """The loss that every rule ends at, against its learning rate."""
    return {
        "charts": {"sensitivity": charts.sensitivity()},
        "rules": [_lab.title(name) for name in found.rules],
        "default": found.default.tolist(),
        "factor": found.factor.tolist(),
        "packed": pack({"loss": Rounded(np.minimum(found.loss, 10), 0, 10)}),
    }


def learning_curves(out: Path, troubles: list[str]) -> Block | None:
    """Learning curves of the experiments that have them; None where there are none."""
    races = []
    for name, title in CURVES.items():
        if not (out / name / "metrics.nc").is_file():
            continue
        try:
            loss = results.load(out / name)["loss"]
        except (InputError, KeyError) as error:
            troubles.append(f"{out / name / 'metrics.nc'} cannot be read ({type(error).__name__}); run {name} again")
            continue
        if loss.dims[1:] != ("seed", "step") or not loss.size:
            troubles.append(f"{out / name / 'metrics.nc'} has no loss of (contender, seed, step); run {name} again")
            continue
        names = [str(one) for one in loss[loss.dims[0]].values]
        each = -(-loss.sizes["step"] // POINTS)
        whole = loss.values[..., : loss.sizes["step"] // each * each]
        blocks = whole.reshape(*whole.shape[:2], -1, each).mean(-1)
        called = [_lab.title(one) if name.startswith("optimizer") else one for one in names]
        colours = dict(zip(called, charts.colours(names), strict=True))
        races.append(
            {
                "title": title,
                "experiment": name,
                "chart": charts.curves(colours),
                "contenders": called,
                "each": each,
                "packed": pack({"loss": Rounded(logarithm(np.maximum(blocks, 1e-6)), -6, 4)}),
            }
        )
    return {"races": races} if races else None


def measured(out: Path, cfg: play.Config) -> dict[str, Block]:
    """Everything to play with that our own rules compute."""
    return {
        "paths": paths(_kept(out, play.paths, play.Paths, cfg)),
        "plane": plane(_kept(out, play.plane, play.Plane, cfg)),
        "activations": activations(_kept(out, play.activations, play.Activations, cfg)),
        "sensitivity": sensitivity(_kept(out, play.sensitivity, play.Sensitivity, cfg)),
    }


def _kept(out: Path, make: Callable[[play.Config], Any], kind: type[Any], cfg: play.Config) -> Any:
    """What `make` gives, from the file where it was kept if the code and the settings are still the same."""
    file = out / "report" / f"{make.__name__}.npz"
    fingerprint = f"{_cli.sources('_report.play')} {cfg}"
    try:
        with np.load(file, allow_pickle=False) as there:
            if str(there["fingerprint"]) == fingerprint:
                return kind(*(there[name] for name in kind._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or damaged: it is made again
    found = make(cfg)
    with atomic(file) as path:
        np.savez_compressed(path, fingerprint=fingerprint, **found._asdict())
    return found
