"""Does weight decay keep a network from overfitting 300 images, and why? (notes §4.1-4.2, figures 15 and 16)

Trains the notes' network of 784-100×6-10, with ReLU and He's initial weights, on the first 300 images by SGD, with
several strengths λ of the penalty ½ λ ‖W‖² on weights (not on biases), from the same initial weights on the same
minibatches. Watches the weights, the slope of the network's function and its margins on the way. Then it puts the
penalty beside decoupled decay, w ← (1 − lr λ) w, under SGD, where the two are one, and under Adam, where they are not.

The notes say: without decay the network recognizes nearly all of its 300 images after about 100 epochs and far fewer of
the test images; λ = 0.1 narrows the gap, and training accuracy stays below 100 %.

Takes about two minutes on two cores.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _cli, _lab, _overfit
from experiments._overfit import Contender, repeated
from fnn import instruments, losses, models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import side
from fnn.base.types import Scalar
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide, exact
from fnn.rule import Rule
from fnn.rule.wrappers import Decayed, decay_decoupled
from fnn.tasks import rows
from fnn.train import Moment

RULES = ("sgd", "adam")
KINDS = ("L2", "decoupled")
LEARNT = 0.5
"""Below this training accuracy a network has not learnt enough for its margins to mean anything."""
NEARLY_ALL = 99
"""What the notes' "almost 100 %" is read as, in percent."""
FAR = 10
"""What their "considerable gap" is read as, in points."""
ROUNDING = 1e-4
"""Relative difference that float32 may make of two equal trainings."""
HELD = 300
"""Test images on which the network's slope is measured."""
WHERE = "logits and slope on test images, margins and distances on training images"
"""What captions say of that."""


@dataclass(frozen=True)
class Config(_overfit.Config):
    """Settings; the defaults are the notes'."""

    decay: float = 0.1
    """λ of figure 16, which is compared with none."""
    decays: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.3)
    """Other λ, for the curves against λ."""
    form_seeds: int = 10
    """Seeds for the comparison of L2 with decoupled decay, at most --seeds."""
    form_epochs: int = 100
    """Epochs of that comparison."""
    form_decays: tuple[float, ...] = (0.0, 0.1, 1.0)
    """λ of that comparison."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(form_seeds=1, form_epochs=1)
        for option in ("decays", "form_decays"):
            for value in getattr(self, option):
                _cli.at_least(option, value, 0)
        require(0 < self.decay < np.inf, f"--decay is above 0, not {self.decay}.")
        require(bool(self.others()), "--decays names no λ besides 0 and --decay.")
        require(max(self.form_decays, default=0.0) > 0, "--form-decays names no λ above 0.")

    def others(self) -> list[float]:
        """The λ that are evaluated at milestones only."""
        return sorted({*self.decays} - {0.0, self.decay})


QUICK = Config(seeds=2, epochs=20, evaluate_every=5, form_epochs=10, form_seeds=2, dataset="mnist_5k", quick=True)


class Numbers(NamedTuple):
    """What is traced: λ of the penalty."""

    decay: Scalar


def network():
    """784-100×6-10 with ReLU and He's initial weights."""
    return models.multilayer(_overfit.HIDDEN, 10)


def look(moment: Moment) -> dict[str, Any]:
    """How large the weights are, how steep the network's function is, and how far its classes lie apart.

    weight_norm: ‖W‖ of all weights; log_norms: Σ log ‖W_l‖ over the layers.
    logits: root mean square of ‖f(x)‖; slope: that of ‖J(x)‖_F, J the Jacobian of f; both on test images.
    margin: mean over the training images of m(x) = f_y(x) − max_{c≠y} f_c(x).
    distance: median of m(x) / ‖∇m(x)‖: how far, to first order, an image must move to change its class.
    """
    weights = losses.weights(moment.after)
    f = lambda x: network().apply(moment.after, moment.stats, x, None, False)[0]
    train_set, held = moment.data["train"], rows(moment.data["test"].x[:HELD])

    def margin(x):
        z = f(x)
        own = jax.nn.one_hot(train_set.y, z.shape[-1], dtype=bool)
        return jnp.where(own, z, 0).sum(-1) - jnp.where(own, -jnp.inf, z).max(-1)

    margins, pull = jax.vjp(margin, rows(train_set.x))
    (slopes,) = pull(jnp.ones_like(margins))
    # E ‖J v‖² = ‖J‖²_F for v ~ N(0, I): one direction an image instead of the whole Jacobian.
    logits, change = jax.jvp(f, (held,), (jax.random.normal(moment.key, held.shape),))
    return {
        "weight_norm": instruments.norm(weights),
        "log_norms": sum(jnp.log(jnp.linalg.norm(w)) for w in weights),
        "logits": jnp.sqrt(jnp.square(logits).sum(-1).mean()),
        "slope": jnp.sqrt(jnp.square(change).sum(-1).mean()),
        "margin": margins.mean(),
        "distance": jnp.nanmedian(margins / jnp.linalg.norm(slopes, axis=-1)),
    }


def look_at_blanks(moment: Moment) -> dict[str, Any]:
    """How much is left of the first weights of pixels that are blank in every training image: no gradient reaches them.

    weight_norm: ‖W‖ of all weights.
    """
    blank = (moment.data["train"].x == 0).all(0).ravel()
    left = [jnp.linalg.norm(jnp.where(blank, losses.weights(params)[0], 0)) for params in (moment.after, moment.start)]
    return {"blank_left": left[0] / left[1], "weight_norm": instruments.norm(losses.weights(moment.after))}


def run(cfg: Config) -> xr.Dataset:
    """Train without decay and with every λ, then L2 beside decoupled decay under SGD and Adam."""
    images = _cli.load_data(cfg, fitting="images")
    n = (2 + len(cfg.others())) * cfg.seeds
    m = len(RULES) * len(KINDS) * len({*cfg.form_decays}) * cfg.few(cfg.form_seeds)
    _cli.headline(cfg, images, f"{n} networks for the curves and {m} for L2 beside decoupled decay")
    ds = _overfit.stages(lambda: curves(cfg, images), lambda: forms(cfg, images))
    ds = ds.assign_attrs(
        **_lab.origin(images),
        images=cfg.images,
        batch=cfg.batch,
        evaluate_every=cfg.evaluate_every,
        compared=cfg.decay,
        steps_each=cfg.steps_each,
    )
    print(summary(ds))
    return ds


def l2_task(cfg: Config) -> tasks.Task:
    """Classification with the penalty ½ λ ‖W‖²."""
    return tasks.classification(lambda hp: network(), batch=cfg.batch, weight_decay=lambda hp: hp.decay)


def curves(cfg: Config, images: DataSet) -> xr.Dataset:
    """Every λ under SGD; dims decay, seed, epoch."""
    sgd, task = optim.rule("sgd"), l2_task(cfg)
    milestones = sorted({min(100, cfg.epochs), cfg.epochs})

    def contender(values: Sequence[float], epochs: Sequence[int]):
        hps = train.Hyper(repeated(sgd.hyper, len(values)), Numbers(jnp.asarray(values)))
        return Contender(task, sgd, values, hps, epochs, look, epochs)

    contenders = {
        "watched": contender((0.0, cfg.decay), cfg.curve_epochs(milestones)),
        "others": contender(cfg.others(), milestones),
    }
    return _overfit.joined(**_overfit.race(cfg, images, contenders, "decay", cfg.epochs, cfg.seeds), axis="decay")


def forms(cfg: Config, images: DataSet) -> xr.Dataset:
    """L2 and decoupled decay under SGD and Adam; dims form_rule, form_kind, form_decay, form_seed, form_epoch."""
    values = sorted({*cfg.form_decays})
    n, end = len(values), cfg.form_epochs
    decays, none = jnp.asarray(values), jnp.zeros(n)
    rules = {name: optim.rule(name) for name in RULES}

    def contender(rule: Rule):
        """First every λ as L2 without decoupled decay, then the other way round: one program for both."""
        beside, in_the_loss = jnp.concatenate([none, decays]), jnp.concatenate([decays, none])
        hps = train.Hyper(Decayed(repeated(rule.hyper, 2 * n), beside), Numbers(in_the_loss))
        return Contender(
            l2_task(cfg), decay_decoupled(rule), 2 * values, hps, [end], look_at_blanks, cfg.curve_epochs([end])
        )

    contenders = {name: contender(rule) for name, rule in rules.items()}
    raced = _overfit.race(cfg, images, contenders, "decay", end, cfg.few(cfg.form_seeds))
    both = xr.concat(raced.values(), xr.Variable("rule", list(rules)))
    both = xr.concat([both.isel(decay=slice(n)), both.isel(decay=slice(n, None))], xr.Variable("kind", list(KINDS)))
    both["lr"] = "rule", [float(rule.hyper.lr) for rule in rules.values()]
    return _overfit.prefixed(both, "form")


def named(ds: xr.Dataset) -> dict[float, str]:
    """The two λ that are watched over the epochs, as figures call them."""
    return {0.0: "no weight decay", ds.compared: f"λ = {ds.compared:g}"}


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """Figures 15 and 16 as in the notes, their spread, everything against λ, and why decay does what it does."""
    made = {
        "15_no_decay": _overfit.notes_figure(ds, "decay", {0.0: "No weight decay (notes, figure 15)"}),
        "16_decay": _overfit.notes_figure(
            ds, "decay", {ds.compared: f"Weight decay, λ = {ds.compared:g} (notes, figure 16)"}
        ),
        "15_16_spread": _overfit.spread(ds, "decay", named(ds)),
        "why": why(ds),
    }
    if reached := _overfit.milestones(ds):
        made["against_decay"] = against_decay(ds, reached[-1])
        end = ds.sel(epoch=reached[-1])
        learnt = np.flatnonzero(end.train_accuracy.mean("seed") >= LEARNT)
        if end.decay[learnt].any():
            made["why_against_decay"] = why_against_decay(end, learnt)
    if forms := finished_forms(ds):
        made["l2_and_decoupled"] = l2_and_decoupled(forms)
    return made


def on_decays(ax: Axes, decays: np.ndarray) -> None:
    """An axis of λ: logarithmic from the smallest positive one, with 0 at its left end."""
    least, most = decays[decays > 0].min(), decays.max()
    ax.set_xscale("symlog", linthresh=least, linscale=0.4)
    ax.set_xticks(decays, [f"{decay:g}" for decay in decays])
    ax.set_xlim(-0.3 * least, 1.4 * most)
    ax.minorticks_off()


def against_decay(ds: xr.Dataset, when: int) -> Figure:
    """Accuracies and gap against λ."""
    fig, drawn = _overfit.against(ds, "decay", "λ", when)
    for ax in drawn:
        on_decays(ax, ds.decay.values)
    return fig


def explained(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """What may explain the effect, by its label in figures.

    The margin over Π ‖W_l‖_F does not change when weights are scaled, biases aside; on capacity and such products:
    Neyshabur et al. 2015, arXiv:1503.00036.
    """
    return {
        "norm of the weights, ‖W‖": ds.weight_norm,
        "size of the logits, ‖f(x)‖": ds.logits,
        "slope, ‖J(x)‖": ds.slope,
        "margin, m(x)": ds.margin,
        "normalized margin, m(x) / Π‖Wₗ‖": ds.margin / np.exp(ds.log_norms),
        "distance, m(x) / ‖∇m(x)‖": ds.distance,
    }


def why(ds: xr.Dataset) -> Figure:
    """Weights, function and margins over the epochs, with and without decay."""
    fig = plotting.figure(11.0, 6.4)
    quantities = explained(ds)
    drawn = _overfit.panels(fig, *(("", "epochs", label) for label in quantities), rows=2)
    for ax, values in zip(drawn, quantities.values(), strict=True):
        for number, (decay, name) in enumerate(named(ds).items()):
            label = name if ax is drawn[0] else ""
            plotting.curve(ax, ds.epoch.values, values.sel(decay=decay).values, label, number)
    plotting.legend(fig)
    plotting.caption(fig, f"{_overfit.about(ds)}; {WHERE}; mean with its 95 % interval")
    return fig


def why_against_decay(end: xr.Dataset, learnt: np.ndarray) -> Figure:
    """The same against λ, as multiples of what it is without decay, for the λ at which enough is learnt."""
    fig = plotting.figure(8.0, 5.2)
    (ax,) = _overfit.panels(fig, (f"After {int(end.epoch)} epochs", "λ", "multiple of its value without decay"))
    for number, (label, values) in enumerate(explained(end).items()):
        ratio = (values / values.sel(decay=0.0)).isel(decay=learnt)
        _overfit.intervals(ax, ratio.decay.values, ratio.values, label, number)
    ax.set_yscale("log")
    on_decays(ax, end.decay.values[learnt])
    plotting.legend(fig, 2)
    plotting.caption(
        fig,
        f"{_overfit.about(end)}; {WHERE}; λ that leave the training accuracy below {LEARNT:.0%} are not shown; mean of "
        "the paired ratios with its 95 % interval",
    )
    return fig


def l2_and_decoupled(forms: xr.Dataset) -> Figure:
    """What the two forms leave of weights that get no gradient, and the test accuracies they end with."""
    fig = plotting.figure(11.0, 5.0)
    *drawn, last = _overfit.panels(
        fig,
        *((f"{_lab.title(rule)}: weights of blank pixels", "epochs", "share of their first norm") for rule in RULES),
        (f"After {int(forms.epoch[-1])} epochs", "λ", "test accuracy"),
    )
    decays = forms.decay.values
    for ax, rule in zip(drawn, RULES, strict=True):
        for number, decay in enumerate(decays):
            one = forms.blank_left.sel(rule=rule, decay=decay)
            labels = [f"λ = {decay:g}, {kind}" if ax is drawn[0] else "" for kind in KINDS]
            plotting.curve(ax, forms.epoch.values, one.sel(kind="L2").values, labels[0], number)
            # The widest lies below: every λ of L2 does the same under Adam, and both kinds under SGD.
            ax.lines[-1].set(linewidth=1 + 2 * (len(decays) - number), alpha=0.45)
            plotting.curve(ax, forms.epoch.values, one.sel(kind="decoupled").values, labels[1], number)
            ax.lines[-1].set_linestyle("--")
        ax.set(ylim=(0, 1.05))
    for number, (rule, kind) in enumerate(itertools.product(RULES, KINDS), start=3):
        accuracy = forms.test_accuracy.sel(rule=rule, kind=kind).isel(epoch=-1).values
        _overfit.intervals(last, decays, accuracy, f"{_lab.title(rule)}, {kind}", number)
    last.set(ylim=(0, 1))
    on_decays(last, decays)
    plotting.legend(fig, 5)
    plotting.caption(
        fig,
        f"{_overfit.about(forms)}; pixels blank in every training image get no gradient but the penalty's; "
        "mean with its 95 % interval",
    )
    return fig


def summary(ds: xr.Dataset) -> str:
    """The numbers at the end, a line a λ."""
    if not (reached := _overfit.milestones(ds)):
        return "No λ but the watched ones has been evaluated yet."
    one = ds.sel(epoch=reached[-1])
    lines = [f"{'λ':>8}{'train accuracy':>18}{'test accuracy':>18}{'test loss':>12}{'‖W‖':>10}{'slope':>10}"]
    for decay in ds.decay.values:
        mean = one.sel(decay=decay).mean("seed")
        lines.append(
            f"{decay:8g}{float(mean.train_accuracy):18.2%}{float(mean.test_accuracy):18.2%}"
            f"{float(mean.test_loss):12.3f}{float(mean.weight_norm):10.1f}{float(mean.slope):10.3f}"
        )
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """Claims 11 and 12 at the notes' λ, the best λ, and what the instruments say to the question why."""
    if not (reached := _overfit.milestones(ds)):
        return []
    name = f"Weight decay of λ = {ds.compared:g}"
    end = ds.sel(epoch=reached[-1])
    plain, decayed = end.sel(decay=0.0), end.sel(decay=ds.compared)
    found = [nearly_all(ds.sel(decay=0.0), epoch) for epoch in reached]
    found.append(
        decide(
            f"Without weight decay the test accuracy stays far below: the gap is more than {FAR} points",
            (_overfit.gap(plain) - FAR).values,
            "points",
            f"After {reached[-1]} epochs it is {float(_overfit.gap(plain).mean()):.1f} {{unit}}, that is {{effect}} "
            f"[{{low}}, {{high}}] beyond {FAR}, {{seeds}} seeds.",
            "claim 11",
        )
    )
    found += _overfit.narrows(ds, "decay", ds.compared, name, reached[-1], "claim 12")
    found.append(
        decide(
            f"{name} keeps the training accuracy below 100 %",
            100 * (1 - decayed.train_accuracy).values,
            "points",
            f"After {reached[-1]} epochs {{effect}} {{unit}} [{{low}}, {{high}}] are missing, {{seeds}} seeds.",
            "claim 12",
        )
    )
    found += _overfit.some_value_raises(ds, "decay", "weight decay", "λ", reached[-1], "claim 12")
    found += reasons(plain, decayed, name)
    if forms := finished_forms(ds):
        found += [same_under_sgd(forms), *other_under_adam(forms)]
    return found


def nearly_all(plain: xr.Dataset, epoch: int) -> Verdict:
    """Claim 11's first half, with "nearly 100 %" read as at least 99 %."""
    accuracy = 100 * plain.train_accuracy.sel(epoch=epoch)
    return decide(
        f"Without weight decay at least {NEARLY_ALL} % of the training images are recognized after {epoch} epochs",
        (accuracy - NEARLY_ALL).values,
        "points",
        f"It is {float(accuracy.mean()):.2f} %: {{effect}} {{unit}} [{{low}}, {{high}}] from there, {{seeds}} seeds.",
        "claim 11",
    )


def reasons(plain: xr.Dataset, decayed: xr.Dataset, name: str) -> list[Verdict]:
    """What decay makes of weights, function and margins, in percent of what they are without it."""
    changes = zip(explained(plain).values(), explained(decayed).values(), strict=True)
    weights, _, slope, margin, normalized, distance = (100 * (after / before - 1).values for before, after in changes)
    claims = [
        (f"{name} makes the weights smaller", "Their norm is smaller by", -weights),
        (f"{name} makes the network's function flatter", "Its slope on test images is smaller by", -slope),
        (f"{name} widens the margins of the training images", "Their mean width changes by", margin),
        (f"{name} widens the margins normalized by the layers' norms", "Their mean width changes by", normalized),
        (f"{name} moves the training images away from other classes", "Their median distance changes by", distance),
    ]
    sentence = " {effect} {unit} [{low}, {high}], {seeds} paired seeds."
    return [decide(claim, effect, "%", said + sentence, "question §4.2") for claim, said, effect in claims]


def finished_forms(ds: xr.Dataset) -> xr.Dataset | None:
    """The comparison of L2 with decoupled decay, where it came to its end."""
    forms = _overfit.stage(ds, "form")
    return forms if forms is not None and np.isfinite(forms.test_accuracy).any() else None


def disagreement(forms: xr.Dataset) -> np.ndarray:
    """The largest relative difference in ‖W‖ that L2 and decoupled decay make under SGD, for each seed.

    Not in the loss: training amplifies the rounding errors in it, so that it would measure the network's chaos.
    """
    norm = forms.weight_norm.sel(rule="sgd")
    return abs(norm.sel(kind="L2") / norm.sel(kind="decoupled") - 1).max(["decay", "epoch"]).values


def same_under_sgd(forms: xr.Dataset) -> Verdict:
    """L2 and decoupled decay are one under SGD, as far as float32 can tell."""
    difference = disagreement(forms)
    return exact(
        "Under SGD, L2 and decoupled decay of the same λ shrink the weights alike, up to rounding",
        difference,
        ROUNDING,
        f"At any epoch and λ their norms differ by at most {{worst}} of their size, where {ROUNDING:g} is allowed, "
        "{seeds} paired seeds.",
        "question §4.2",
    )


def other_under_adam(forms: xr.Dataset) -> list[Verdict]:
    """Under Adam the same λ does not mean the same."""
    accuracy = 100 * forms.test_accuracy.sel(rule="adam").isel(epoch=-1)
    return [
        decide(
            f"Under Adam, decoupled decay of λ = {decay:g} gives a higher test accuracy than L2 of the same λ",
            (accuracy.sel(kind="decoupled", decay=decay) - accuracy.sel(kind="L2", decay=decay)).values,
            "points",
            f"After {int(forms.epoch[-1])} epochs the difference is {{effect}} {{unit}} [{{low}}, {{high}}], "
            "{seeds} paired seeds.",
            "question §4.2",
        )
        for decay in forms.decay.values[forms.decay.values > 0]
    ]


def answers(ds: xr.Dataset) -> list[Answer]:
    """Why does weight decay work, and is it the same as the L2 penalty?"""
    found = []
    if reached := _overfit.milestones(ds):
        told = why_in_words(ds, reached[-1])
        found.append(Answer("Why does weight decay work?", told, "why", ds.sizes["seed"], "question §4.2"))
    if forms := finished_forms(ds):
        question, told = "Is weight decay the same as an L2 penalty?", forms_in_words(forms)
        found.append(Answer(question, told, "l2_and_decoupled", forms.sizes["seed"], "question §4.2"))
    return found


def why_in_words(ds: xr.Dataset, when: int) -> str:
    """What decay makes of weights, function and margins, and whether unseen images profit."""
    end = ds.sel(epoch=when)
    plain, decayed = end.sel(decay=0.0), end.sel(decay=ds.compared)
    changes = zip(explained(plain).values(), explained(decayed).values(), strict=True)
    weights, _, slope, margin, normalized, distance = (
        f"{float((after / before).mean()):.2g}" for before, after in changes
    )
    train, test = (100 * (decayed[name] - plain[name]).values for name in ("train_accuracy", "test_accuracy"))
    if (change := side(test)) > 0:
        so = "it fits its own images less tightly and recognizes more unseen ones"
    elif change < 0:
        so = "at this λ the gap is narrower because less is learnt, not because more unseen images are recognized"
    else:
        so = "at this λ it is neither better nor worse at unseen images, as far as these seeds can tell"
    best = _overfit.some_value_raises(ds, "decay", "weight decay", "λ", when, "")
    return (
        f"With λ = {ds.compared:g} the weights end at {weights} and the slope of the network's function at {slope} "
        f"times what they are without decay; margins are {margin} times as wide, {normalized} times once normalized by "
        f"the layers' norms, and other classes are {distance} times as far from a training image. "
        f"{_overfit.moved('Training accuracy', train)} and {_overfit.moved('test accuracy', test)}: {so}. "
        + "".join(verdict.sentence for verdict in best)
    ).rstrip()


def forms_in_words(forms: xr.Dataset) -> str:
    """Where L2 and decoupled decay are one, and what makes them differ."""
    forms = forms.sel(decay=forms.decay > 0)
    decays, steps = forms.decay.values, int(forms.epoch[-1]) * forms.steps_each
    adam = forms.sel(rule="adam").isel(epoch=-1)
    l2, decoupled = (adam.blank_left.sel(kind=kind).mean("seed").values for kind in KINDS)
    expected = (1 - float(adam.lr) * decays) ** steps
    accuracy = 100 * (adam.test_accuracy.sel(kind="decoupled") - adam.test_accuracy.sel(kind="L2")).mean("seed").values
    apart = disagreement(forms).max()

    def listed(values, style=".2g"):
        return " and ".join(format(value, style) for value in values)

    return (
        f"Under SGD {'yes' if apart < ROUNDING else 'no'}: weight norms differ by at most a share of {apart:.0e}. "
        f"Under Adam {'no' if abs(l2 - decoupled).max() > ROUNDING else 'yes'}: of weights that only the penalty moves "
        f"L2 leaves {listed(l2)} at λ = {listed(decays)}, since Adam divides a gradient by its own size; decoupled "
        f"decay leaves {listed(decoupled)}, where (1 − lr λ)ᵗ is {listed(expected)}. "
        f"Test accuracy with decoupled decay differs from that with L2 by {listed(accuracy, '+.1f')} points."
    )


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
