"""Does random search beat grid search, and why? (notes §5.2.2; figure 1 of Bergstra & Bengio 2012, JMLR 13)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.hyperparameters import _search
from fnn import lab, models, sweep, tasks
from fnn.base.errors import require
from fnn.base.types import Key, Scalar
from fnn.lab import plotting
from fnn.lab.figures import caption
from fnn.tasks import Split

TRAINING = _search.IMAGES - _search.VALIDATION
"""Training images of a setting, as in the notes' search."""
HELD_OUT = 1000
"""Further images of the training set to measure accuracy on: with the notes' 100 its resolution would be a point."""
EPSILONS = (1.0, 2.0, 5.0)
"""Points of accuracy below the best that count as reaching it."""
LEVELS = {2: (3, 4, 5, 8), 3: (2, 3, 4)}
"""A grid's levels per axis, for two and for three axes; their power is the budget."""
MESH = {2: 240, 3: 60}
"""Cells of a surface per axis: a multiple of all levels."""
KINDS = {
    "random": "random",
    "laid": "grid, laid at random",
    "centred": "grid, in its cells' middle",
    "edges": "grid, edge to edge",
}
SPACES = {"two": "learning rate, λ", "equal": "control: both matter equally", "three": "learning rate, λ, momentum"}
NAMES = {"lr": "learning rate", "l2": "weight decay λ", "mu": "momentum"}


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the lattice; the ranges of the learning rate and of λ are the notes'."""

    seeds: int = 20
    """Repetitions, each with images, initial weights and minibatches of one seed."""
    lr_points: int = 16
    """Learning rates of the lattice, 10^−6 to 10^−2."""
    l2_points: int = 3
    """Weight decays of the lattice, 10^−8 to 10^−4."""
    mu_points: int = 3
    """Momenta of the lattice, 0 to 0.9, evenly spaced in log(1 − momentum)."""
    epochs: int = 20
    """Epochs of training of a setting."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(lr_points=2, l2_points=2, mu_points=2, epochs=1)


class Setting(NamedTuple):
    """A point of the space: the notes' two hyperparameters, and momentum."""

    lr: Any
    l2: Any
    mu: Any


def setting(unit: np.ndarray) -> Setting:
    """The settings at points `[…, 3]` of the unit cube, which lies over the space on log scales."""
    return Setting(*_search.setting(unit[..., :2]), mu=1 - 10 ** -unit[..., 2])


def points(*axes: np.ndarray) -> np.ndarray:
    """The grid that these coordinates span, `[n₁, n₂, …, axes]`."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def edge_to_edge(shape: Sequence[int]) -> list[np.ndarray]:
    """The coordinates of a lattice over the unit cube."""
    return [np.linspace(0, 1, n) for n in shape]


class Hyper(NamedTuple):
    """The hyperparameter of the task: λ of the penalty ½ λ ‖W‖²."""

    l2: Scalar = 0.0


@dataclass(frozen=True)
class Own:
    """`(key, data) -> data`: a seed's training images, and others to measure accuracy on, stratified."""

    held_out: int

    def __call__(self, key: Key, data: Mapping[str, Split]) -> Mapping[str, Split]:
        """The images of one seed."""
        x, y = data["train"]
        order = tasks.stratified(key, y)
        train, held_out = order[:TRAINING], order[TRAINING : TRAINING + self.held_out]
        return {"train": Split(x[train], y[train]), "held_out": Split(x[held_out], y[held_out])}


def run(cfg: Config) -> xr.Dataset:
    """The accuracy of every setting of the lattice and seed, and the probabilities of searches on it."""
    images = cfg.load()
    needed, n = TRAINING + HELD_OUT, len(images.x_train)
    require(n >= needed, f"This takes {needed:,} training images, and {images.name} has {n:,}.")
    task = tasks.classification(
        models.multilayer(_search.HIDDEN, 10),
        {"train": tasks.splits(images)["train"]},
        _search.BATCH,
        hyper=Hyper(),
        weight_decay=lambda hp: hp.l2,
    )
    about = {"dataset": images.name, "checksum": images.checksum, "source": images.source}
    task = task._replace(own=Own(HELD_OUT), about={**task.about, **about})
    lattice = setting(points(*edge_to_edge((cfg.lr_points, cfg.l2_points, cfg.mu_points))))
    ds = sweep(
        *(task, "momentum:book"),
        over={"lr": lattice.lr[:, 0, 0], "l2": lattice.l2[0, :, 0], "mu": lattice.mu[0, 0, :]},
        seeds=cfg.seeds,
        steps=cfg.epochs * TRAINING // _search.BATCH,
        keep=cfg.keep(),
        progress=True,
    )
    ds = ds.isel(update=-1, drop=True).transpose("seed", *Setting._fields, ...)
    accuracy = ds.held_out_accuracy.assign_attrs(long_name="accuracy on held-out training images", units="1")
    measured = xr.Dataset({"accuracy": accuracy, "diverged_at": ds.diverged_at}, attrs=ds.attrs)
    return with_searches(measured.assign_attrs(epochs=cfg.epochs))


def with_searches(ds: xr.Dataset) -> xr.Dataset:
    """The lattice of every seed, dims seed, lr, l2, mu, and the probabilities computed from it."""
    ds = ds.assign_coords(kind=list(KINDS), epsilon=list(EPSILONS))
    surfaces = spaces(ds)
    goals = {space: [s.max() - np.array(EPSILONS) for s in each] for space, each in surfaces.items()}
    goals["equal"] = [as_rare(*each) for each in zip(surfaces["equal"], surfaces["two"], goals["two"], strict=True)]
    for space, each in surfaces.items():
        d = each.ndim - 1
        found = np.stack([reach(*one) for one in zip(each, goals[space], strict=True)])
        attrs = {"long_name": f"probability to come close to the best, space {space}", "units": "1"}
        ds[f"reach_{space}"] = ("seed", "kind", "epsilon", f"budget_{d}"), found, attrs
        ds.coords[f"budget_{d}"] = [k**d for k in LEVELS[d]]
    return ds


def spaces(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """The seeds' surfaces in percent of accuracy, for every space that is searched."""
    everything = 100 * ds.accuracy.values
    notes = everything[..., 0]
    along_lr = notes.mean(-1)
    return {"two": notes, "equal": (along_lr[:, :, None] + along_lr[:, None]) / 2, "three": everything}


def importance(surfaces: np.ndarray) -> np.ndarray:
    """[S, axes + 1]: each axis's share of a surface's variance over the lattice, and the share of interactions.

    Functional ANOVA, whose main effects are the variances of the means over all other axes: Hooker 2007, J. Comput.
    Graph. Stat. 16, §2; for hyperparameters Hutter, Hoos & Leyton-Brown 2014, ICML.
    """
    axes = range(1, surfaces.ndim)
    total = surfaces.var(axis=tuple(axes))
    mains = [surfaces.mean(axis=tuple(a for a in axes if a != axis)).var(-1) for axis in axes]
    shares = np.stack(mains, axis=-1) / np.maximum(total, 1e-12)[:, None]
    return np.concatenate([shares, 1 - shares.sum(-1, keepdims=True)], axis=-1)


def on_grid(surface: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """A surface, given as a lattice, at every point of the grid that has these coordinates on every axis."""
    from scipy.interpolate import RegularGridInterpolator

    return RegularGridInterpolator(edge_to_edge(surface.shape), surface)(points(*[coordinates] * surface.ndim))


def cells(surface: np.ndarray) -> np.ndarray:
    """A surface at the centers of the cells of the fine mesh."""
    m = MESH[surface.ndim]
    return on_grid(surface, (np.arange(m) + 0.5) / m)


def as_rare(surface: np.ndarray, other: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """The heights that the same number of cells of `surface` reach as cells of `other` reach `goals`."""
    counts = (cells(other)[..., None] >= goals).reshape(-1, len(goals)).sum(0)
    falling = np.sort(cells(surface), axis=None)[::-1]
    return np.where(counts > 0, falling[counts - 1], np.inf)


def reach(surface: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """`[kind, goal, level]`: the probability that each kind of search finds a point of a surface at least as high as
    each goal.

    A random point reaches it with a probability p, the share of cells that are high enough, and at least one of n
    points with 1 − (1 − p)ⁿ. The offset of a grid at random is uniform over the cells of its period.
    """
    d, m = surface.ndim, MESH[surface.ndim]
    height = cells(surface)

    def good(values):
        return (values[..., None] >= goals).reshape(-1, len(goals)).mean(0)

    found = []
    for k in LEVELS[d]:
        # Axes in pairs: the level of the grid, and the offset in its period.
        laid = height.reshape((k, m // k) * d).max(axis=tuple(range(0, 2 * d, 2)))
        centred = on_grid(surface, (np.arange(k) + 0.5) / k).max()
        edges = on_grid(surface, np.linspace(0, 1, k)).max()
        found.append([1 - (1 - good(height)) ** k**d, good(laid), good(centred), good(edges)])
    return np.moveaxis(np.array(found), 0, -1)


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of this experiment."""
    return caption(ds, f"{ds.epochs} epochs", f"accuracy on {HELD_OUT:,} held-out training images", *details)


def _contours(fig: Figure, ax: Axes, ds: xr.Dataset, values: np.ndarray, other: str, bar: bool = True) -> None:
    """Accuracy `[lr, other]` as filled contours over log scales; momentum goes by 1 − momentum."""
    heights = ax.contourf(ds.lr, 1 - ds.mu if other == "mu" else ds[other], values.T, 12, cmap="viridis")
    if bar:
        fig.colorbar(heights, ax=ax, label="accuracy (%)")
    ax.set(xscale="log", yscale="log", xlabel=NAMES["lr"], ylabel=NAMES[other])
    if other == "mu":
        ax.set_yticks(1 - ds.mu.values, [f"{mu:.2f}" for mu in ds.mu.values])
        ax.minorticks_off()
        ax.invert_yaxis()


def response_surface(ds: xr.Dataset) -> Figure:
    """Mean accuracy over the notes' two hyperparameters, and over learning rate and momentum."""
    fig = plotting.figure(9.0, 4.2)
    mean = 100 * ds.accuracy.mean("seed")
    left, right = fig.subplots(1, 2)
    _contours(fig, left, ds, mean[..., 0].values, "l2")
    left.set_title("The notes' two hyperparameters")
    _contours(fig, right, ds, mean.mean("l2").values, "mu")
    right.set_title("Learning rate and momentum")
    detail = (
        f"mean over seeds; a lattice of {' × '.join(str(ds.sizes[a]) for a in Setting._fields)} settings, interpolated"
    )
    plotting.caption(fig, about(ds, detail))
    return fig


def importances(ds: xr.Dataset) -> Figure:
    """The share of the variance of accuracy that each hyperparameter explains."""
    fig = plotting.figure(9.0, 3.4)
    for ax, (space, surfaces) in zip(fig.subplots(1, 3, sharey=True), spaces(ds).items(), strict=True):
        mean, low, high = 100 * np.array(plotting.band(importance(surfaces)))
        names = ["first", "second"] if space == "equal" else [NAMES[a] for a in Setting._fields[: surfaces.ndim - 1]]
        ax.bar(range(len(mean)), mean, yerr=[mean - low, high - mean], color=plotting.color(0), capsize=3, width=0.6)
        ax.set_xticks(range(len(mean)), [*(n.replace(" ", "\n") for n in names), "inter-\nactions"], fontsize="small")
        ax.set(title=SPACES[space], ylim=(0, 100))
        ax.grid(axis="y", alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    fig.supylabel("share of variance (%)", fontsize="medium")
    plotting.caption(fig, about(ds, "functional ANOVA over the lattice; mean with its 95 % interval"))
    return fig


def projection(ds: xr.Dataset) -> Figure:
    """Nine trials as a grid and at random, and the values that they try: Bergstra & Bengio's figure 1."""
    fig = plotting.figure(9.0, 4.9)
    mean = 100 * ds.accuracy.mean("seed")[..., 0].values
    k = 3
    trials = {
        "grid": points(*[(np.arange(k) + 0.5) / k] * 2).reshape(-1, 2),
        "random": np.random.default_rng(0).uniform(size=(k * k, 2)),
    }
    grid = fig.add_gridspec(2, 4, width_ratios=(4, 1, 4, 1), height_ratios=(1, 3.2))
    for i, (kind, unit) in enumerate(trials.items()):
        ax = fig.add_subplot(grid[1, 2 * i])
        top, side = fig.add_subplot(grid[0, 2 * i], sharex=ax), fig.add_subplot(grid[1, 2 * i + 1], sharey=ax)
        at = _search.setting(unit)
        _contours(fig, ax, ds, mean, "l2", bar=False)
        ax.plot(at.lr, at.l2, "o", color="white", markeredgecolor="black", markersize=6, clip_on=False)
        top.plot(ds.lr, mean.mean(1), color=plotting.color(0))
        top.plot(at.lr, np.interp(np.log(at.lr), np.log(ds.lr), mean.mean(1)), "o", color="black", markersize=4)
        side.plot(mean.mean(0), ds.l2, color=plotting.color(0))
        side.plot(np.interp(np.log(at.l2), np.log(ds.l2), mean.mean(0)), at.l2, "o", color="black", markersize=4)
        for extra in (top, side):
            extra.spines[["top", "right"]].set_visible(False)
        levels = len(np.unique(at.lr.round(12)))
        top.set_title(f"{kind}: {k * k} trials, {levels} learning rates")
        top.set(ylabel="mean\naccuracy (%)", ylim=(0, 1.1 * mean.max()))
        side.set(xlabel="mean (%)", xlim=(0, 1.1 * mean.max()))
        top.tick_params(labelbottom=False)
        side.tick_params(labelleft=False)
    plotting.caption(fig, about(ds, "color: mean accuracy over seeds; margins: its mean over the other hyperparameter"))
    return fig


def reaches(ds: xr.Dataset) -> Figure:
    """The probability of coming within ε of the best against the budget, for each space and each ε."""
    fig = plotting.figure(9.0, 8.2)
    axes = fig.subplots(3, len(EPSILONS), sharex=True, sharey=True)
    for row, (space, name) in zip(axes, SPACES.items(), strict=True):
        probability = 100 * ds[f"reach_{space}"]
        budgets = probability[probability.dims[-1]].values
        for ax, epsilon in zip(row, EPSILONS, strict=True):
            for number, (kind, label) in enumerate(KINDS.items()):
                values = probability.sel(kind=kind, epsilon=epsilon).values
                plotting.curve(ax, budgets, values, label if ax is axes[0, 0] else "", number, markers=1)
            ax.set(xscale="log", ylim=(-3, 103))
            ax.set_xticks([8, 16, 32, 64], ["8", "16", "32", "64"])
            ax.minorticks_off()
            plotting.dress(ax)
            goal = (
                "as large a good part"
                if space == "equal"
                else f"within {epsilon:g} point{'s' * (epsilon != 1)} of the best"
            )
            ax.set_title(f"{name}\n{goal}", fontsize="small")
    fig.supylabel("probability of reaching the best (%)", fontsize="medium")
    for ax in axes[-1]:
        ax.set_xlabel("trials")
    plotting.legend(fig)
    plotting.caption(fig, about(ds, "exact on each seed's surface; mean with its 95 % interval"))
    return fig


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """Every probability, mean over seeds with its interval."""
    rows = []
    for space in SPACES:
        probability = ds[f"reach_{space}"]
        mean, low, high = plotting.band(probability.values)
        for index in np.ndindex(*mean.shape):
            where = {dim: probability[dim].values[i].item() for dim, i in zip(probability.dims[1:], index, strict=True)}
            kind, epsilon, budget = where.values()
            found = {"probability": mean[index].item(), "low": low[index].item(), "high": high[index].item()}
            rows.append({"space": space, "search": kind, "epsilon": epsilon, "trials": budget, **found})
    return {"reach": rows}


def summary(ds: xr.Dataset) -> str:
    """The importance of each hyperparameter, and each search's probability of reaching within a point of the best."""
    lines = []
    for space, surfaces in spaces(ds).items():
        shares = importance(surfaces).mean(0)
        names = [*Setting._fields[: len(shares) - 1], "interactions"]
        if space != "equal":
            named = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True))
            lines.append(f"share of the variance of accuracy ({SPACES[space]}): {named}")
    for space, name in SPACES.items():
        probability = ds[f"reach_{space}"].isel(epsilon=0).mean("seed")
        budgets = probability[probability.dims[-1]].values
        lines.append(
            f"{name + f', within {EPSILONS[0]:g} point of the best':<50}"
            + "".join(f"{f'{n} trials':>11}" for n in budgets)
        )
        for kind, label in KINDS.items():
            lines.append(f"{label:<50}" + "".join(f"{p:11.1%}" for p in probability.sel(kind=kind).values))
    return "\n".join(lines)


def advantage(ds: xr.Dataset, space: str, kind: str) -> xr.DataArray:
    """One value per seed: random search's probability minus the grid's, in points, mean over all ε and budgets."""
    probability = ds[f"reach_{space}"]
    ahead = 100 * (probability.sel(kind="random", drop=True) - probability.sel(kind=kind, drop=True))
    return ahead.mean(ahead.dims[-2:])


def lr_ahead(ds: xr.Dataset) -> xr.DataArray:
    """The share of the variance that the learning rate explains minus that of λ, in percentage points."""
    shares = 100 * importance(spaces(ds)["two"])
    return xr.DataArray(shares[:, 0] - shares[:, 1], dims="seed")


def on_the_edge(ds: xr.Dataset) -> float:
    """The share of seeds whose best learning rate is the largest of the lattice, which an edge-to-edge grid
    includes."""
    return float((spaces(ds)["two"].mean(-1).argmax(-1) == ds.sizes["lr"] - 1).mean())


def beats(text: str, space: str, kind: str, secondary: bool = True) -> lab.Claim:
    """The claim that random search beats this kind of grid in this space."""
    d = 3 if space == "three" else 2
    budgets, epsilons = ", ".join(str(k**d) for k in LEVELS[d]), ", ".join(f"{e:g}" for e in EPSILONS)
    mean = f"It is of the probability of coming within ε of the best, mean over ε = {epsilons} points and {budgets}"

    def detail(ds):
        best = f"; the best lies at the largest learning rate in {on_the_edge(ds):.0%} of the seeds"
        return f"{mean} trials{best if kind == 'edges' else ''}."

    effect = lambda ds: advantage(ds, space, kind)
    return lab.Claim(text, effect, lab.above(0.0), "points", "claim 16", "reach", detail=detail, secondary=secondary)


CLAIMS = (
    beats("Random search beats grid search", "two", "laid", secondary=False),
    beats("Random search beats a grid laid in the middle of its cells", "two", "centred"),
    beats("Random search beats a grid laid from edge to edge", "two", "edges"),
    beats("Random search beats grid search over three hyperparameters", "three", "laid"),
    lab.Claim(
        "The learning rate matters more than the weight decay",
        lr_ahead,
        *(lab.above(0.0), "% of the variance of accuracy", "notes §5.2", "importance"),
    ),
    lab.Claim(
        "Random search beats grid search because hyperparameters differ in how much they matter",
        lambda ds: advantage(ds, "two", "laid") - advantage(ds, "equal", "laid"),
        *(lab.above(0.0), "points", "notes §5.2", "reach"),
        detail=lambda ds: (
            "It is how much larger its advantage is than where both matter equally and an equally large part is good, "
            "where "
            f"it is {float(advantage(ds, 'equal', 'laid').mean()):+.3g} points of probability."
        ),
    ),
)

EXPERIMENT = lab.Experiment(
    question="Does random search beat grid search, and why?",
    source="notes §5.2.2; figure 1 of Bergstra & Bengio 2012, JMLR 13",
    says="Random search does better, since hyperparameters differ in how much they matter: where only one matters, "
    "k × k trials of a grid try only k values of it.",
    method="Measures the response surface of the notes' task, held-out accuracy over learning rate, weight decay and "
    "momentum on log scales, as a lattice of settings for every seed, and interpolates it. On each seed's surface it "
    "then computes the probability that searches of equal budget come within ε of the best: random points, and k × k "
    "grids with a random offset, at the centers of their cells, and from edge to edge. The probabilities are exact on "
    "a fine mesh: the limit of many repeated searches. The importance of hyperparameters is measured by functional "
    "ANOVA on the lattice. In the control two hyperparameters matter equally: both act as the learning rate does, and "
    "an equally large part of the space is good enough, so that only its shape differs. Since a grid with more axes "
    "has fewer levels on each, momentum is added as a third axis. Every seed draws its images.",
    takes="about two minutes for 20 seeds of 144 settings on two cores",
    config=Config,
    quick={"seeds": 2, "lr_points": 6, "l2_points": 2, "mu_points": 2, "epochs": 10, "dataset": "mnist_5k"},
    run=run,
    claims=CLAIMS,
    figures={
        "response_surface": response_surface,
        "importance": importances,
        "projection": projection,
        "reach": reaches,
    },
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
