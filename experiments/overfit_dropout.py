"""Does dropout keep a network from overfitting 300 images? (notes §4.3, figures 17 and 18)

Trains the notes' network of 784-100×6-10 on the first 300 images, with several dropout ratios from the same initial
weights on the same minibatches with the same random numbers in the masks; a few seeds for much longer. Then it looks
at the same trained weights under other factors at test time, and trains the inverted form of today's libraries.

The notes show that dropout of ratio 0.2 narrows the gap between the accuracies on training and on test images within
301 epochs. Corrected: they say that at test time outputs are multiplied by the deletion ratio; it is the *keep* ratio,
as in their own listing.

The notes' form has no factor in training. So it trains as the inverted form does with initial weights 1 − p times as
large and a learning rate (1 − p)² times as large in all layers but the first: the same dropout, but slower.

Takes about two and a quarter minutes on two cores.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import _cli, _lab, _overfit
from experiments._overfit import Contender, repeated
from fnn import layers, models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import interval, paired
from fnn.base.types import Key, Scalar
from fnn.data import DataSet
from fnn.lab import diagrams, plotting
from fnn.lab.verdicts import Answer, Verdict, decide
from fnn.nn.layers import Layer
from fnn.train import Moment

FACTORS = {"deletion": lambda p: p, "unscaled": lambda p: 1.0}
"""What else a unit's output may be multiplied by at test time than the share kept, 1 − p."""
LONG_EVERY = 100
"""Epochs between two evaluations of the longer training."""
DRAWN = 5
"""Units of a layer that figure 17 shows."""


@dataclass(frozen=True)
class Config(_overfit.Config):
    """Settings; the defaults are the notes'."""

    epochs: int = 301
    """Epochs of training, each of (images / batch) updates."""
    ratio: float = 0.2
    """The dropout ratio of figure 18, which is compared with none."""
    ratios: tuple[float, ...] = (0.05, 0.1, 0.3, 0.5)
    """Other ratios, for the curves against the ratio."""
    long_epochs: int = 600
    """Epochs of the longer training."""
    long_seeds: int = 10
    """Seeds of the longer training, at most --seeds."""
    long_ratios: tuple[float, ...] = (0.2,)
    """Ratios of the longer training, beside none."""
    inverted_seeds: int = 10
    """Seeds that also train the inverted form, at most --seeds."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(long_epochs=1, long_seeds=1, inverted_seeds=1)
        require(0 < self.ratio < 1, f"--ratio is above 0 and below 1, not {self.ratio}.")
        for option in ("ratios", "long_ratios"):
            wrong = [ratio for ratio in getattr(self, option) if not 0 <= ratio < 1]
            said = ", ".join(map(str, wrong))
            require(not wrong, f"--{option.replace('_', '-')} are at least 0 and below 1, not {said}.")
        require(bool(self.others()), "--ratios names no ratio besides 0 and --ratio.")

    def others(self) -> list[float]:
        """The ratios that are evaluated at milestones only."""
        return sorted({*self.ratios} - {0.0, self.ratio})

    def milestones(self) -> list[int]:
        """The epochs at which every ratio is evaluated."""
        return sorted({*(epoch for epoch in (100, 200) if epoch < self.epochs), self.epochs})


QUICK = Config(
    seeds=2, epochs=20, evaluate_every=5, long_epochs=30, long_seeds=2, inverted_seeds=2, dataset="mnist_5k", quick=True
)


class Numbers(NamedTuple):
    """What is traced: the dropout ratio."""

    ratio: Scalar


def network(ratio: Scalar, drop=layers.dropout) -> Layer:
    """784-100×6-10 with ReLU and He's initial weights, dropout after every ReLU."""
    return models.multilayer(_overfit.HIDDEN, 10, dropout_ratio=ratio, drop=drop)


def first_mask(ratio: float, key: Key) -> np.ndarray:
    """The units that the network's dropout layers keep of one image `[hidden, units]`, by the layers' own keys."""
    keys = jax.random.split(key, len(network(ratio).parts))[2::3]  # affine, ReLU, dropout, affine, …
    ones = jnp.ones((1, _overfit.HIDDEN[0]))
    return np.concatenate([layers.dropout(ratio).apply((), (), ones, k, True)[0] for k in keys])


def look(moment: Moment) -> dict[str, Any]:
    """Loss and accuracy on the test set of the same weights, under the factors that are not the right one."""

    def scored(factor):
        # A dropout layer multiplies by 1 − its ratio at inference.
        scaled = tasks.classification(lambda hp: network(1 - factor(hp.ratio)), batch=1)
        return scaled.metrics(moment.hp, moment.after, moment.stats, {"test": moment.data["test"]})

    scores = {name: scored(factor) for name, factor in FACTORS.items()}
    return {f"{name}_{what}": value for name, score in scores.items() for what, value in score.items()}


def run(cfg: Config) -> xr.Dataset:
    """Train at every ratio, then a few seeds much longer, then some by the inverted form."""
    images = _cli.load_data(cfg, fitting="images")
    n, longer = (2 + len(cfg.others())) * cfg.seeds, len({0.0, *cfg.long_ratios}) * cfg.few(cfg.long_seeds)
    other = cfg.few(cfg.inverted_seeds)
    _cli.headline(cfg, images, f"{n} networks, {longer} trained longer and {other} by inverted dropout")
    ds = _overfit.stages(lambda: curves(cfg, images), lambda: longer_runs(cfg, images), lambda: inverted(cfg, images))
    ds["kept"] = ("hidden", "unit"), first_mask(cfg.ratio, jax.random.key(0)), {"long_name": "1 where a unit is kept"}
    ds = ds.assign_attrs(
        **_lab.origin(images),
        images=cfg.images,
        batch=cfg.batch,
        evaluate_every=cfg.evaluate_every,
        compared=cfg.ratio,
    )
    print(summary(ds))
    return ds


def contender(cfg: Config, ratios: Sequence[float], epochs: Sequence[int], drop=layers.dropout, **looks) -> Contender:
    """Networks of these dropout ratios under SGD."""
    task = tasks.classification(lambda hp: network(hp.ratio, drop), batch=cfg.batch)
    sgd = optim.rule("sgd")
    hps = train.Hyper(repeated(sgd.hyper, len(ratios)), Numbers(jnp.asarray(ratios)))
    return Contender(task, sgd, ratios, hps, epochs, **looks)


def curves(cfg: Config, images: DataSet) -> xr.Dataset:
    """Every ratio, and at the end the test set under each factor; dims ratio, seed, epoch."""
    looks = {"observe": look, "observed": [cfg.epochs]}
    contenders = {
        "watched": contender(cfg, (0.0, cfg.ratio), cfg.curve_epochs(cfg.milestones()), **looks),
        "others": contender(cfg, cfg.others(), cfg.milestones(), **looks),
    }
    return _overfit.joined(**_overfit.race(cfg, images, contenders, "ratio", cfg.epochs, cfg.seeds), axis="ratio")


def longer_runs(cfg: Config, images: DataSet) -> xr.Dataset:
    """Some ratios for longer, over fewer seeds; dims long_ratio, long_seed, long_epoch."""
    epochs = sorted({*range(LONG_EVERY, cfg.long_epochs, LONG_EVERY), cfg.long_epochs})
    contenders = {"long": contender(cfg, sorted({0.0, *cfg.long_ratios}), epochs)}
    raced = _overfit.race(cfg, images, contenders, "ratio", cfg.long_epochs, cfg.few(cfg.long_seeds))
    return _overfit.prefixed(raced["long"], "long")


def inverted(cfg: Config, images: DataSet) -> xr.Dataset:
    """The compared ratio in the inverted form; dims inverted_ratio, inverted_seed, inverted_epoch."""
    contenders = {"inverted": contender(cfg, (cfg.ratio,), cfg.milestones(), layers.inverted_dropout)}
    raced = _overfit.race(cfg, images, contenders, "ratio", cfg.epochs, cfg.few(cfg.inverted_seeds))
    return _overfit.prefixed(raced["inverted"], "inverted")


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Figures 17 and 18 as in the notes, their spread, and what ratio, length, factor and form do."""
    name = f"dropout, ratio {ds.compared:g}"
    titles = {0.0: "Without dropout", ds.compared: f"With {name} (notes, figure 18)"}
    made = {
        "17_schematic": schematic(ds),
        "18_dropout": _overfit.notes_figure(ds, "ratio", titles),
        "18_spread": _overfit.spread(ds, "ratio", {0.0: "no dropout", ds.compared: name}),
    }
    if reached := _overfit.milestones(ds):
        made["against_ratio"], _ = _overfit.against(ds, "ratio", "ratio", reached[-1])
        made["length"] = length(ds)
        if scaled(ds):
            made["factor"] = factors(ds, reached[-1])
        if other_form := _overfit.stage(ds, "inverted"):
            made["inverted"] = two_forms(ds, other_form)
    return made


def scaled(ds: xr.Dataset) -> bool:
    """Whether the run came to its end, where the factors are compared."""
    return bool(np.isfinite(ds.deletion_test_loss).any())


def schematic(ds: xr.Dataset) -> Figure:
    """Figure 17: the network whole, and with the units dropped that the layers' own keys drop for one image."""
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
        f"dropped as its own dropout layers drew for one image, {1 - float(ds.kept.mean()):.1%} of all hidden units",
    )
    return fig


def length(ds: xr.Dataset) -> Figure:
    """Test accuracy over a longer training, and what dropout changes in it at several lengths, against the ratio."""
    fig = plotting.figure(10.5, 4.6)
    left, right = _overfit.panels(
        fig,
        ("Longer training", "epochs", "test accuracy"),
        ("Change of test accuracy by dropout", "dropout ratio", "points"),
    )
    for number, epoch in enumerate(_overfit.milestones(ds)):
        change = _overfit.gain(ds, "ratio", epoch)
        _overfit.intervals(right, ds.ratio.values, change.values, f"{epoch} epochs", number)
    if long := _overfit.stage(ds, "long"):
        last, seeds = int(long.epoch[-1]), long.sizes["seed"]
        _overfit.intervals(
            right, long.ratio.values, _overfit.gain(long, "ratio", last).values, f"{last} epochs ({seeds} seeds)", 3
        )
        for number, ratio in enumerate(long.ratio.values):
            accuracy = long.test_accuracy.sel(ratio=ratio).values
            plotting.curve(left, long.epoch.values, accuracy, f"ratio {ratio:g} ({seeds} seeds)", number, markers=1)
        left.set(ylim=(0, 1))
        left.legend(loc="lower right")
    right.axhline(0, color="0.5", linewidth=0.8)
    right.legend(loc="lower left")
    plotting.caption(fig, f"{_overfit.about(ds)}; mean with its 95 % interval")
    return fig


def factors(ds: xr.Dataset, when: int) -> Figure:
    """The same trained networks under three factors at test time."""
    fig = plotting.figure(10.0, 4.6)
    drawn = _overfit.panels(
        fig,
        (f"Test loss after {when} epochs", "dropout ratio p", "loss (nats)"),
        (f"Test accuracy after {when} epochs", "dropout ratio p", "accuracy"),
    )
    labels = {
        "test": "times 1 − p, the share kept (the notes' listing)",
        "deletion_test": "times p, the share dropped (the notes' sentence)",
        "unscaled_test": "not scaled",
    }
    for ax, what in zip(drawn, ("loss", "accuracy"), strict=True):
        for number, (name, label) in enumerate(labels.items()):
            values = ds[f"{name}_{what}"].sel(epoch=when).values
            _overfit.intervals(ax, ds.ratio.values, values, label if what == "loss" else "", number)
        ax.set(ylim=(0, None))
    plotting.legend(fig, 3)
    plotting.caption(fig, f"{_overfit.about(ds)}; the same weights under each factor; mean with its 95 % interval")
    return fig


def two_forms(ds: xr.Dataset, other: xr.Dataset) -> Figure:
    """The notes' form beside the inverted one, from the same weights and at the same learning rate."""
    fig = plotting.figure(10.0, 4.6)
    ratio, epochs = ds.compared, other.epoch.values
    same = ds.sel(seed=other.seed, epoch=epochs)
    contenders = {
        "no dropout": same.sel(ratio=0.0),
        f"the notes' form, ratio {ratio:g}": same.sel(ratio=ratio),
        f"inverted form, ratio {ratio:g}": other.sel(ratio=ratio),
    }
    drawn = _overfit.panels(
        fig,
        *((title, "epochs", "accuracy") for title in ("Accuracy on the training images", "Accuracy on the test set")),
    )
    for ax, split in zip(drawn, ("train", "test"), strict=True):
        for number, (name, one) in enumerate(contenders.items()):
            accuracy = one[f"{split}_accuracy"].transpose("epoch", "seed").values
            _overfit.intervals(ax, epochs, accuracy, name if split == "train" else "", number)
        ax.set(ylim=(0, 1.02))
    plotting.legend(fig)
    plotting.caption(fig, f"{_overfit.about(same)}; mean with its 95 % interval")
    return fig


def summary(ds: xr.Dataset) -> str:
    """The numbers at every milestone, a line a ratio."""
    lines = [f"{'epoch':>8}{'ratio':>8}{'train accuracy':>18}{'test accuracy':>18}{'test loss':>12}"]
    for epoch in _overfit.milestones(ds):
        for ratio in ds.ratio.values:
            mean = ds.sel(epoch=epoch, ratio=ratio).mean("seed")
            lines.append(
                f"{epoch:8d}{ratio:8g}{float(mean.train_accuracy):18.2%}{float(mean.test_accuracy):18.2%}"
                f"{float(mean.test_loss):12.3f}"
            )
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Claim 13 at the notes' ratio and length, at other ratios and longer; the factor; the form."""
    if not (reached := _overfit.milestones(ds)):
        return []
    when, ratio = reached[-1], ds.compared
    found = _overfit.narrows(ds, "ratio", ratio, f"Dropout of ratio {ratio:g}", when, "claim 13")
    found += _overfit.some_value_raises(ds, "ratio", "dropout", "ratio", when, "claim 13")
    if long := _overfit.stage(ds, "long"):
        last = int(long.epoch[-1])
        for longer in long.ratio.values[long.ratio.values > 0]:
            what = f"Trained for {last} epochs, dropout of ratio {longer:g}"
            found += _overfit.narrows(long, "ratio", float(longer), what, last, "claim 13")
    if scaled(ds):
        found += factor_verdicts(ds.sel(ratio=ratio, epoch=when), ratio)
    if other := _overfit.stage(ds, "inverted"):
        when = int(other.epoch[-1])
        same = ds.train_accuracy.sel(ratio=ratio, epoch=when, seed=other.seed)
        found.append(
            decide(
                "From the same weights at the same learning rate, inverted dropout learns faster than the notes' form",
                100 * (other.train_accuracy.sel(ratio=ratio, epoch=when) - same).values,
                "points",
                f"At ratio {ratio:g} its training accuracy after {when} epochs is {{effect}} {{unit}} higher "
                "[{low}, {high}], {seeds} paired seeds.",
                "question §4.3",
            )
        )
    return found


def factor_verdicts(one: xr.Dataset, ratio: float) -> list[Verdict]:
    """Is the keep ratio the right factor at test time, beside the deletion ratio and beside none?"""
    found = []
    for name, other in (("deletion", "by the deletion ratio, as the notes say"), ("unscaled", "by nothing")):
        claim = f"At test time, multiplying by the keep ratio gives a {{}} than multiplying {other}"
        sentence = f"At ratio {ratio:g} the same weights do better by {{effect}} {{unit}} [{{low}}, {{high}}], "
        sentence += "{seeds} seeds."
        loss = paired(-one.test_loss.values, -one[f"{name}_test_loss"].values)
        accuracy = 100 * (one.test_accuracy - one[f"{name}_test_accuracy"])
        found += [
            decide(claim.format("lower test loss"), loss, "nats", sentence, "slip §4.3"),
            decide(claim.format("higher test accuracy"), accuracy.values, "points", sentence, "slip §4.3"),
        ]
    return found


def answers(ds: xr.Dataset) -> list[Answer]:
    """Why the keep ratio; and when dropout helps."""
    if not (reached := _overfit.milestones(ds)):
        return []
    when, n = reached[-1], ds.sizes["seed"]
    found = [Answer("At what ratio and length does dropout help?", helps(ds, reached), "length", n, "claim 13")]
    if scaled(ds):
        told = right_factor(ds.sel(epoch=when))
        found.append(Answer("Why scale by the keep ratio at test time?", told, "factor", n, "question §4.3"))
    return found


def helps(ds: xr.Dataset, reached: Sequence[int]) -> str:
    """In words: at which ratios the test accuracy is higher or lower than without dropout, for every length."""
    lengths = [(ds, epoch) for epoch in reached]
    if long := _overfit.stage(ds, "long"):
        lengths.append((long, int(long.epoch[-1])))
    told, raised_anywhere = [], False
    for part, epoch in lengths:
        change = _overfit.gain(part, "ratio", epoch)
        ranges = {f"{ratio:g}": interval(change.sel(ratio=ratio).values) for ratio in part.ratio.values if ratio > 0}
        raised = [ratio for ratio, (_, low, _) in ranges.items() if low > 0]
        lowered = [ratio for ratio, (_, _, high) in ranges.items() if high < 0]
        said = [f"{how} at {', '.join(at)}" for how, at in (("higher", raised), ("lower", lowered)) if at]
        told.append(f"after {epoch} epochs ({part.sizes['seed']} seeds) {' and '.join(said) or 'not measurably other'}")
        raised_anywhere |= bool(raised)
    verb = "It can raise the test accuracy" if raised_anywhere else "No ratio raises the test accuracy measurably"
    return f"{verb}. Beside no dropout it is, by ratio: {'; '.join(told)}."


def right_factor(end: xr.Dataset) -> str:
    """In words: what each factor makes of the same weights."""
    p = end.compared
    one = end.sel(ratio=p).mean("seed")
    names = {f"1 − p = {1 - p:g}": "test", f"p = {p:g}": "deletion_test", "1": "unscaled_test"}
    told = [
        f"{float(one[f'{name}_loss']):.2f} nats and {float(one[f'{name}_accuracy']):.1%} at factor {factor}"
        for factor, name in names.items()
    ]
    lowest = min(names, key=lambda factor: float(one[f"{names[factor]}_loss"]))
    return (
        "A unit is there in a share 1 − p of the training steps, so the next layer learns from sums smaller by that. "
        f"Trained at p = {p:g}, the same weights give on the test set {', '.join(told)}. "
        f"The loss is lowest at factor {lowest}."
    )


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
