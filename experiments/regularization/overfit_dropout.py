"""Does dropout keep a network from overfitting 300 images? (notes §4.3, figures 17 and 18)"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.regularization import _overfit
from experiments.regularization._overfit import INTERVAL
from fnn import lab, layers, models, tasks
from fnn.base.errors import require
from fnn.base.statistics import CONFIDENCE, interval
from fnn.base.types import Key, Scalar
from fnn.lab import diagrams, plotting
from fnn.nn.layers import Layer
from fnn.tasks import Label
from fnn.train import Moment, Observation

FACTORS = {"deletion": lambda p: p, "unscaled": lambda p: 1.0}
"""Factors at test time other than the share kept, 1 − p."""
DRAWN = 5
"""Units of a layer that figure 17 shows."""


@dataclass(frozen=True)
class Config(_overfit.Config):
    """Settings; the defaults are the notes', except that each seed draws its images."""

    epochs: int = 301
    """Epochs of training in the notes, each of (images / batch) updates."""
    long_epochs: int = 600
    """Epochs of training here, at least --epochs."""
    evaluate_every: int = 50
    """Epochs between two points of a curve; two more are early ones."""
    ratio: float = 0.2
    """The dropout ratio of figure 18, which is compared with none."""
    ratios: tuple[float, ...] = (0.05, 0.1, 0.3, 0.5)
    """Other ratios, for the curves against the ratio."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(long_epochs=self.epochs)
        require(0 < self.ratio < 1, f"--ratio is above 0 and below 1, not {self.ratio}.")
        wrong = [ratio for ratio in self.ratios if not 0 <= ratio < 1]
        require(not wrong, f"--ratios are at least 0 and below 1, not {', '.join(map(str, wrong))}.")


class Hyper(NamedTuple):
    """The hyperparameter of the task: the dropout ratio."""

    ratio: Scalar = 0.0


def network(ratio: Scalar, drop=layers.dropout) -> Layer:
    """784-100×6-10 with ReLU and He's initial weights, dropout after every ReLU."""
    return models.multilayer(_overfit.HIDDEN, 10, dropout_ratio=ratio, drop=drop)


def first_mask(ratio: float, key: Key) -> np.ndarray:
    """The units that the network's dropout layers keep for one image `[hidden, units]`, by the layers' own keys."""
    keys = jax.random.split(key, len(network(ratio).parts))[2::3]  # affine, ReLU, dropout, affine, …
    ones = jnp.ones((1, _overfit.HIDDEN[0]))
    return np.concatenate([layers.dropout(ratio).apply((), (), ones, k, True)[0] for k in keys])


def observe(moment: Moment) -> dict[str, Any]:
    """Loss and accuracy on the test set of the same weights, under the factors other than 1 − p."""

    def scored(factor):
        # A dropout layer multiplies by 1 − its ratio at inference.
        scaled = tasks.classification(lambda hp: network(1 - factor(hp.ratio)), batch=1)
        return scaled.metrics(moment.hp, moment.after, moment.stats, {"test": moment.data["test"]})

    scores = {name: scored(factor) for name, factor in FACTORS.items()}
    return {f"{name}_{what}": value for name, score in scores.items() for what, value in score.items()}


WHAT = {"loss": "nats", "accuracy": "1"}
OBSERVED = {
    f"{name}_test_{what}": Label(f"{what} on the test set with the factor called {name}", unit)
    for name in FACTORS
    for what, unit in WHAT.items()
}
"""The labels of what `observe` records."""


def run(cfg: Config) -> xr.Dataset:
    """Metrics at every ratio, on each seed's images and once on the notes', and of the inverted form."""
    images = cfg.load(images=cfg.images)

    def task(drop=layers.dropout):
        return lambda data, sample: tasks.classification(
            lambda hp: network(hp.ratio, drop), data, cfg.batch, hyper=Hyper(), sample=sample
        )

    def trained(part, ratios, epochs, drop=layers.dropout, **observed):
        return _overfit.trained(cfg, task(drop), images, "sgd", {"ratio": ratios}, epochs, part, **observed)

    soon = [epoch for epoch in (100, 200) if epoch < cfg.epochs]
    compared, to_the_end = [0.0, cfg.ratio], [*soon, cfg.epochs]
    ds = trained(
        *("curves", sorted({*compared, *cfg.ratios}), cfg.curve(*to_the_end, cfg.long_epochs)),
        observe=Observation(observe, OBSERVED),
        observe_at=[cfg.epochs * cfg.steps_each],
    )
    notes = trained("notes", compared, cfg.curve(cfg.epochs, every=_overfit.NOTES_EVERY))
    inverted = trained("inverted", [cfg.ratio], to_the_end, layers.inverted_dropout)
    ds = _overfit.together(ds.squeeze("observed", drop=True), notes=notes, inverted=inverted)
    kept = first_mask(cfg.ratio, jax.random.key(0))
    ds["kept"] = ("hidden", "unit"), kept, {"long_name": "1 where a unit is kept", "units": "1"}
    ds = ds.assign_coords(hidden=np.arange(kept.shape[0]), unit=np.arange(kept.shape[1]))
    return ds.assign_attrs(images=cfg.images, compared=cfg.ratio, epochs=cfg.epochs, long_epochs=cfg.long_epochs)


# Claims.


def ahead_of(other: str, what: str) -> lab.Claim:
    """The claim that the same weights are better with the keep ratio than with another factor at test time."""
    lower = what == "loss"
    scale = -1 if lower else 100

    def effect(ds):
        one = ds.sel(ratio=ds.compared, drop=True)
        right = scale * one[f"test_{what}"].sel(epoch=ds.epochs, drop=True)
        both = xr.concat([right, scale * one[f"{other}_test_{what}"]], "factor").assign_coords(factor=[1, 0])
        return lab.ahead(lambda ds: both, "factor", 1, 0)(ds)

    by = {"deletion": "by the deletion ratio, as in the notes' text", "unscaled": "by nothing"}[other]
    return lab.Claim(
        f"At test time, multiplying by the keep ratio gives a {'lower' if lower else 'higher'} test {what} than "
        f"multiplying {by}",
        effect,
        *(lab.above(0.0), "nats" if lower else "points", "slip §4.3", "factor"),
        detail=lambda ds: f"It is of the same weights, trained at ratio {ds.compared:g} for {ds.epochs} epochs.",
        secondary=(other, what) != ("deletion", "loss"),
    )


def inverted_ahead(ds: xr.Dataset) -> xr.DataArray:
    """By how many points the inverted form's training accuracy is higher than that of the notes' form."""
    inverted = _overfit.part(ds, "inverted").train_accuracy.sel(ratio=ds.compared, epoch=ds.epochs, drop=True)
    return 100 * (inverted - ds.train_accuracy.sel(ratio=ds.compared, epoch=ds.epochs, drop=True))


DROPOUT = "Dropout of ratio {compared:g}"
CLAIMS = (
    *_overfit.narrows("ratio", DROPOUT, "18_spread", "claim 13"),
    *_overfit.narrows("ratio", DROPOUT, "length", "claim 13", "long_epochs", primary=False),
    _overfit.stopped_early("ratio", DROPOUT, "18_spread", "claim 13"),
    _overfit.best_raises("ratio", "dropout", "ratio", "against_ratio", "claim 13"),
    _overfit.best_raises("ratio", "dropout", "ratio", "length", "claim 13", "long_epochs"),
    *(ahead_of(other, what) for other in FACTORS for what in ("loss", "accuracy")),
    lab.Claim(
        "From the same weights at the same learning rate, inverted dropout learns faster than the notes' form",
        inverted_ahead,
        *(lab.above(0.0), "points", "question §4.3", "inverted"),
        detail=lambda ds: f"It is of training accuracies after {ds.epochs} epochs at ratio {ds.compared:g}.",
    ),
)


# Figures.


def schematic(ds: xr.Dataset) -> Figure:
    """Figure 17: the whole network, and the network without the units that its dropout layers drop for one image."""
    fig = plotting.figure(7.5, 7.5)
    kept = ds.kept.values[:, :DRAWN].astype(bool)
    inputs = np.zeros(DRAWN, bool)
    sizes = [DRAWN] * (2 + len(kept))
    for ax, title, dropped in (
        (fig.add_subplot(1, 2, 1), "Whole network", None),
        (fig.add_subplot(1, 2, 2), f"After dropout, ratio {ds.compared:g}", [inputs, *~kept, inputs]),
    ):
        diagrams.units_diagram(ax, sizes, dropped)
        ax.set_title(title)
    plotting.caption(
        fig,
        f"the first {DRAWN} units of each layer of 784-{'-'.join(['100'] * len(kept))}-10, inputs at the bottom; "
        f"dropped as by its dropout layers for one image, {1 - float(ds.kept.mean()):.1%} of all hidden units",
    )
    return fig


def lengths(ds: xr.Dataset) -> list[int]:
    """The numbers of epochs after which ratios are compared."""
    return [int(epoch) for epoch in ds.epoch.values if epoch in (100, 200, ds.epochs, ds.long_epochs)]


def length(ds: xr.Dataset) -> Figure:
    """Test accuracy over a longer training, and its change by dropout at several lengths, against the ratio."""
    fig = plotting.figure(10.5, 4.6)
    left, right = _overfit.panels(
        fig,
        ("Longer training", "epochs", "test accuracy"),
        ("Change of test accuracy by dropout", "dropout ratio", "points"),
    )
    for number, ratio in enumerate(ds.ratio.values):
        plotting.curve(left, ds.epoch.values, ds.test_accuracy.sel(ratio=ratio).values, f"ratio {ratio:g}", number)
    for number, epoch in enumerate(lengths(ds)):
        _overfit.bars(right, _overfit.gain(ds, "ratio", epoch), f"{epoch} epochs", number)
    left.set(ylim=(0, 1))
    left.legend(loc="lower right")
    right.axhline(0, color="0.5", linewidth=0.8)
    right.legend(loc="lower left")
    plotting.caption(fig, _overfit.about(ds, INTERVAL))
    return fig


def factors(ds: xr.Dataset) -> Figure:
    """The same trained networks under three factors at test time."""
    fig = plotting.figure(10.0, 4.6)
    drawn = _overfit.panels(
        fig,
        (f"Test loss after {ds.epochs} epochs", "dropout ratio p", "loss (nats)"),
        (f"Test accuracy after {ds.epochs} epochs", "dropout ratio p", "accuracy"),
    )
    labels = {
        "test": "times 1 − p, the share kept (the notes' listing)",
        "deletion_test": "times p, the share dropped (the notes' sentence)",
        "unscaled_test": "not scaled",
    }
    end = ds.sel(epoch=ds.epochs, drop=True)
    for ax, what in zip(drawn, ("loss", "accuracy"), strict=True):
        for number, (name, label) in enumerate(labels.items()):
            _overfit.bars(ax, end[f"{name}_{what}"], label if what == "loss" else "", number)
        ax.set(ylim=(0, None))
    plotting.legend(fig, 3)
    plotting.caption(fig, _overfit.about(ds, "the same weights under each factor", INTERVAL))
    return fig


def two_forms(ds: xr.Dataset) -> Figure:
    """The notes' form and the inverted one, from the same weights and at the same learning rate."""
    fig = plotting.figure(10.0, 4.6)
    other = _overfit.part(ds, "inverted").sel(ratio=ds.compared)
    contenders = {
        "no dropout": ds.sel(ratio=0.0, epoch=other.epoch),
        f"the notes' form, ratio {ds.compared:g}": ds.sel(ratio=ds.compared, epoch=other.epoch),
        f"inverted form, ratio {ds.compared:g}": other,
    }
    drawn = _overfit.panels(
        fig,
        *((title, "epochs", "accuracy") for title in ("Accuracy on the training images", "Accuracy on the test set")),
    )
    for ax, split in zip(drawn, ("train", "test"), strict=True):
        for number, (name, one) in enumerate(contenders.items()):
            _overfit.bars(ax, one[f"{split}_accuracy"], name if split == "train" else "", number)
        ax.set(ylim=(0, 1.02))
    plotting.legend(fig)
    plotting.caption(fig, _overfit.about(ds, INTERVAL))
    return fig


# Answers and the table.


def summary(ds: xr.Dataset) -> str:
    """The numbers after several lengths of training, one line for each ratio."""
    lines = [f"{'epoch':>8}{'ratio':>8}{_overfit.HEADINGS}"]
    for epoch in lengths(ds):
        for ratio in ds.ratio.values:
            mean = ds.sel(epoch=epoch, ratio=ratio).mean("seed")
            lines.append(f"{epoch:8d}{ratio:8g}{_overfit.scores(mean)}")
    return "\n".join(lines)


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The answers to when dropout helps, and why the factor is the keep ratio."""
    n = ds.sizes["seed"]
    return [
        lab.Answer("At what ratio and length does dropout help?", helps(ds), "length", n, "claim 13"),
        lab.Answer("Why scale by the keep ratio at test time?", right_factor(ds), "factor", n, "question §4.3"),
    ]


def helps(ds: xr.Dataset) -> str:
    """The ratios at which the test accuracy is higher or lower than without dropout, for every length, as sentences.

    Of many comparisons some differ by chance, so intervals have Bonferroni's correction: all hold together with 95 %
    confidence.
    """
    at, ratios = lengths(ds), [float(ratio) for ratio in ds.ratio.values if ratio > 0]
    confidence = 1 - (1 - CONFIDENCE) / (len(at) * len(ratios))
    phrases, raised_anywhere = [], False
    for epoch in at:
        change = _overfit.gain(ds, "ratio", epoch)
        ends = {f"{ratio:g}": interval(change.sel(ratio=ratio).values, confidence) for ratio in ratios}
        raised = [ratio for ratio, (_, low, _) in ends.items() if low > 0]
        lowered = [ratio for ratio, (_, _, high) in ends.items() if high < 0]
        found = [f"{how} at {', '.join(at)}" for how, at in (("higher", raised), ("lower", lowered)) if at]
        phrases.append(f"after {epoch} epochs {' and '.join(found) or 'not measurably different'}")
        raised_anywhere |= bool(raised)
    verb = "It can raise the test accuracy" if raised_anywhere else "No ratio raises the test accuracy measurably"
    return (
        f"{verb}. Compared with no dropout it is, by ratio: {'; '.join(phrases)} (with 95 % confidence all of these "
        f"{len(at) * len(ratios)} comparisons are right)."
    )


def right_factor(ds: xr.Dataset) -> str:
    """Test loss and accuracy of the same weights under each factor, as sentences."""
    p = ds.compared
    one = ds.sel(epoch=ds.epochs, ratio=p).mean("seed")
    names = {f"1 − p = {1 - p:g}": "test", f"p = {p:g}": "deletion_test", "1": "unscaled_test"}
    phrases = [
        f"{float(one[f'{name}_loss']):.2f} nats and {float(one[f'{name}_accuracy']):.1%} at factor {factor}"
        for factor, name in names.items()
    ]
    lowest = min(names, key=lambda factor: float(one[f"{names[factor]}_loss"]))
    return (
        "A unit is kept in a share 1 − p of the training steps, so the next layer is trained on sums smaller by that "
        "factor. "
        f"Trained at p = {p:g}, the same weights give on the test set {', '.join(phrases)}. "
        f"The loss is lowest at factor {lowest}."
    )


def compared(ds: xr.Dataset) -> dict[float, str]:
    """The names in figures of the two ratios that are compared."""
    return {0.0: "no dropout", ds.compared: f"dropout, ratio {ds.compared:g}"}


EXPERIMENT = lab.Experiment(
    question="Does dropout keep a network from overfitting 300 images?",
    source="notes §4.3, figures 17 and 18",
    says="Dropout of ratio 0.2 narrows the gap between the accuracies on training and on test images within 301 "
    "epochs. Corrected: the notes say that at test time outputs are multiplied by the deletion ratio; it is the *keep* "
    "ratio, as in their own listing.",
    method="Trains the notes' network of 784-100×6-10 with several dropout ratios. Each seed draws 300 training "
    "images, initial weights, minibatches and the random numbers in the masks, the same for every ratio; figure 18 "
    "uses the first 300 images, as in the notes. A network that learns less has a narrower gap in any case, so the "
    "claim on the gap is decided at equal training loss. Then the same trained weights are evaluated under other "
    "factors at test time, and the inverted form of current libraries is trained. The notes' form has no factor in "
    "training, so it trains as the inverted form does with initial weights 1 − p times as large and a learning rate "
    "(1 − p)² times as large in all layers except the first: the same dropout, but slower.",
    takes="about two and a half minutes on two cores",
    config=Config,
    quick={"seeds": 2, "epochs": 20, "evaluate_every": 5, "long_epochs": 30, "dataset": "mnist_5k"},
    run=run,
    claims=CLAIMS,
    figures={
        "17_schematic": schematic,
        "18_dropout": lambda ds: _overfit.notes_figure(
            ds,
            "ratio",
            {0.0: "Without dropout", ds.compared: f"With dropout, ratio {ds.compared:g} (notes, figure 18)"},
        ),
        "18_spread": lambda ds: _overfit.spread(ds.sel(epoch=slice(ds.epochs)), "ratio", compared(ds)),
        "against_ratio": lambda ds: _overfit.against(ds, "ratio", "ratio", ds.epochs),
        "length": length,
        "factor": factors,
        "inverted": two_forms,
    },
    answers=answers,
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
