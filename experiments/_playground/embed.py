"""The input of play.js: for every figure its charts and its packed data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments._playground import charts, play
from experiments._playground.pack import Rounded, pack
from experiments._playground.surfaces import all_surfaces, contours
from fnn import store
from fnn.base.errors import InputError
from fnn.lab import command, findings, results, titles

Block = dict[str, Any]

FARTHEST = 0.5
"""A path is followed until it is this far outside the window, in widths of it."""

CURVES = {"optimizer_compare_mnist": "Update rules (§1.5)", "weight_init_compare": "Initial weights under SGD (§2.3.1)"}
"""The experiments whose learning curves are interactive, and the titles of their comparisons."""

POINTS = 200
"""Points of a learning curve; longer ones are averaged in blocks."""

VALUES = 200_000
"""The most points of all learning curves of an experiment: beyond it seeds are left out, then contenders."""

NAME = 60
"""The most characters of a contender's name."""


def logarithm(values: np.ndarray) -> np.ndarray:
    """log₁₀; that of 0 is below any range."""
    with np.errstate(divide="ignore"):
        return np.log10(values)


def paths(found: play.Paths) -> Block:
    """The descents of surfaces. Points are stored as fractions of the window."""
    surfaces = all_surfaces()
    window = np.array([surface.window for surface in surfaces])
    low, high = window[:, ::2], window[:, 1::2]
    wide = lambda edge: edge[None, :, None, None, None, :]
    share = (found.place - wide(low)) / wide(high - low)
    f = logarithm(found.value)
    return {
        "charts": {"surface": charts.surface(), "descent": charts.descent()},
        "rules": [{"name": name, "title": titles.title(name)} for name in play.RULES],
        "colors": charts.colors(play.RULES),
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
    """The final loss of every rule, against its learning rate."""
    return {
        "charts": {"sensitivity": charts.sensitivity()},
        "rules": [titles.title(name) for name in found.rules],
        "default": found.default.tolist(),
        "factor": found.factor.tolist(),
        "packed": pack({"loss": Rounded(np.minimum(found.loss, 10), 0, 10)}),
    }


def learning_curves(out: Path, troubles: list[str]) -> Block | None:
    """Learning curves of the experiments that have them; None without any."""
    races = []
    for name, title in CURVES.items():
        path = out / name / results.METRICS
        try:
            if not findings.present(out, path):
                continue
            loss = results.load(out / name).get("loss")
        except InputError as error:
            troubles.append(f"{str(error).rstrip('.')}; run {name} again")
            continue
        if loss is None or loss.dims[1:] != ("seed", "step") or not loss.size or loss.dtype.kind not in "fiu":
            troubles.append(f"{path} has no loss of (contender, seed, step), in numbers; run {name} again")
            continue
        contender = loss.dims[0]
        each = -(-loss.sizes["step"] // POINTS)
        points = loss.sizes["step"] // each
        most = {contender: VALUES // points}
        most["seed"] = max(1, most[contender] // loss.sizes[contender])
        shown = loss.isel({dim: slice(n) for dim, n in most.items()})
        if shown.size < loss.size:
            kept = " and ".join(f"{shown.sizes[dim]} of {loss.sizes[dim]} {dim}s" for dim in most)
            troubles.append(f"Of the learning curves in {path} the page has room for {kept}")
        names = [str(one)[:NAME] for one in shown[contender].values]
        whole = shown.values[..., : points * each].astype(float)
        blocks = whole.reshape(*whole.shape[:2], -1, each).mean(-1)
        called = [titles.title(one) if name.startswith("optimizer") else one for one in names]
        colors = dict(zip(called, charts.colors(names), strict=True))
        races.append(
            {
                "title": title,
                "experiment": name,
                "chart": charts.curves(colors),
                "contenders": called,
                "each": each,
                "packed": pack({"loss": Rounded(logarithm(np.maximum(blocks, 1e-6)), -6, 4)}),
            }
        )
    return {"races": races} if races else None


def measured(out: Path, cfg: play.Config) -> dict[str, Block]:
    """All interactive blocks that fnn's rules compute."""
    return {
        "paths": paths(_kept(out, play.paths, play.Paths, cfg)),
        "plane": plane(_kept(out, play.plane, play.Plane, cfg)),
        "activations": activations(_kept(out, play.activations, play.Activations, cfg)),
        "sensitivity": sensitivity(_kept(out, play.sensitivity, play.Sensitivity, cfg)),
    }


def _kept(out: Path, make: Callable[[play.Config], Any], kind: type[Any], cfg: play.Config) -> Any:
    """The result of `make(cfg)`, read from its file if code and settings are unchanged."""
    file = out / "report" / f"{make.__name__}.npz"
    fingerprint = f"{command.sources_of(Path(play.__file__))} {cfg}"
    try:
        label, arrays = store.unpack(file.read_bytes(), file)
        if label == {"fingerprint": fingerprint}:
            return kind(**arrays)
    except (OSError, store.Damaged):
        pass  # computed again
    found = make(cfg)
    store.write(file, store.pack({"fingerprint": fingerprint}, found._asdict()))
    return found
