"""Does weight decay keep a network from overfitting 300 images, and why? (notes §4.1-4.2, figures 15 and 16)"""

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.regularization import _overfit
from experiments.regularization._overfit import INTERVAL, gap, part
from fnn import data, instruments, lab, losses, models, optim, tasks
from fnn.base.errors import require
from fnn.base.statistics import side
from fnn.base.types import Scalar
from fnn.lab import plotting, titles
from fnn.lab.options import at_least
from fnn.rule.wrappers import decay_decoupled
from fnn.tasks import Label, rows
from fnn.train import Moment, Observation

RULES = ("sgd", "adam")
KINDS = ("L2", "decoupled")
LEARNED = 0.5
"""Below this training accuracy a network has not learned enough for its margins to mean anything."""
SOON = 100
"""The notes' "after about 100 epochs"."""
NEARLY_ALL = 95.0
"""The notes' "almost 100 %", in percent: their figure's axis, in steps of 20 %, cannot be read more closely."""
FAR = 10.0
"""The notes' "considerable gap", in points."""
ROUNDING = 1e-4
"""Relative difference that float32 rounding may cause between two equal trainings."""
HELD = 300
"""Test images on which the network's slope is measured."""
WHERE = "logits and slope on test images, margins and distances on training images"
"""The images that these are measured on, for captions."""


@dataclass(frozen=True)
class Config(_overfit.Config):
    """Settings; the defaults are the notes'."""

    decay: float = 0.1
    """λ of figure 16, which is compared with none."""
    decays: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.3)
    """Other λ, for the curves against λ."""
    form_epochs: int = 100
    """Epochs of the comparison of L2 with decoupled decay."""
    form_decays: tuple[float, ...] = (0.0, 0.1, 1.0)
    """λ of that comparison."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(form_epochs=1)
        for option in ("decays", "form_decays"):
            for value in getattr(self, option):
                at_least(option, value, 0)
        require(0 < self.decay < np.inf, f"--decay is above 0, not {self.decay}.")
        require(max(self.form_decays, default=0.0) > 0, "--form-decays names no λ above 0.")


class Hyper(NamedTuple):
    """The hyperparameter of the task: λ of the penalty."""

    decay: Scalar = 0.0


def network():
    """784-100×6-10 with ReLU and He's initial weights."""
    return models.multilayer(_overfit.HIDDEN, 10)


def observe(moment: Moment) -> dict[str, Any]:
    """The size of the weights, the slope of the network's function, and the distances between its classes.

    weight_norm: ‖W‖ of all weights; log_norms: Σ log ‖W_l‖ over the layers.
    logits: root mean square of ‖f(x)‖; slope: that of ‖J(x)‖_F, J the Jacobian of f; both on test images.
    margin: mean over the training images of m(x) = f_y(x) − max_{c≠y} f_c(x).
    distance: median of m(x) / ‖∇m(x)‖: the distance, to first order, to an image of another class.
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
    # E ‖J v‖² = ‖J‖²_F for v ~ N(0, I): one direction per image instead of the whole Jacobian.
    logits, change = jax.jvp(f, (held,), (jax.random.normal(moment.key, held.shape),))
    return {
        "weight_norm": instruments.norm(weights),
        "log_norms": sum(jnp.log(jnp.linalg.norm(w)) for w in weights),
        "logits": jnp.sqrt(jnp.square(logits).sum(-1).mean()),
        "slope": jnp.sqrt(jnp.square(change).sum(-1).mean()),
        "margin": margins.mean(),
        "distance": jnp.nanmedian(margins / jnp.linalg.norm(slopes, axis=-1)),
    }


EXPLAINED = {
    "weight_norm": Label("norm of all weights", "1"),
    "log_norms": Label("sum of the logarithms of the layers' norms", "1"),
    "logits": Label("root mean square of the logits' norm on test images", "1"),
    "slope": Label("root mean square of the Jacobian's norm on test images", "1"),
    "margin": Label("mean margin of the training images", "1"),
    "distance": Label("median distance of the training images from another class", "1"),
}
"""The labels of what `observe` records."""


def observe_blanks(moment: Moment) -> dict[str, Any]:
    """The share left of the initial weights of pixels that are blank in every training image, whose gradient is 0.

    weight_norm: ‖W‖ of all weights.
    """
    blank = (moment.data["train"].x == 0).all(0).ravel()
    left = [jnp.linalg.norm(jnp.where(blank, losses.weights(params)[0], 0)) for params in (moment.after, moment.start)]
    return {"blank_left": left[0] / left[1], "weight_norm": instruments.norm(losses.weights(moment.after))}


BLANKS = {
    "blank_left": Label("share left of the first weights of blank pixels", "1"),
    "weight_norm": Label("norm of all weights", "1"),
}
"""The labels of what `observe_blanks` records."""


def run(cfg: Config) -> xr.Dataset:
    """Metrics without decay and with every λ, and of L2 and decoupled decay under SGD and Adam."""
    images = cfg.load(images=cfg.images)

    def task(data, sample):
        return tasks.classification(
            *(network(), data, cfg.batch), hyper=Hyper(), weight_decay=lambda hp: hp.decay, sample=sample
        )

    epochs = cfg.curve(min(SOON, cfg.epochs), cfg.epochs)
    updates = [epoch * cfg.steps_each for epoch in epochs]
    decays = sorted({0.0, cfg.decay, *cfg.decays})
    ds = _overfit.trained(
        *(cfg, task, images, "sgd", {"decay": decays}, epochs, "curves"),
        observe=Observation(observe, EXPLAINED),
        observe_at=updates,
    )
    at_ends = cfg.curve(cfg.epochs, every=_overfit.NOTES_EVERY)
    notes = _overfit.trained(cfg, task, images, "sgd", {"decay": [0.0, cfg.decay]}, at_ends, "notes")
    return _overfit.together(ds, notes=notes, form=forms(cfg, task, images)).assign_attrs(
        images=cfg.images, compared=cfg.decay, epochs=cfg.epochs, steps_each=cfg.steps_each
    )


def forms(cfg: Config, task: Any, images: data.DataSet) -> xr.Dataset:
    """L2 and decoupled decay under SGD and Adam; dims rule, kind, decay, seed, epoch."""
    values = sorted({*cfg.form_decays})
    rules = {name: optim.rule(name) for name in RULES}
    epochs = cfg.curve(cfg.form_epochs)
    settings = [(0.0, decay) for decay in values] + [(decay, 0.0) for decay in values]
    ds = _overfit.trained(
        *(cfg, task, images, {name: decay_decoupled(rule) for name, rule in rules.items()}),
        *({("weight_decay", "decay"): settings}, epochs, "forms"),
        observe=Observation(observe_blanks, BLANKS),
        observe_at=[epoch * cfg.steps_each for epoch in epochs],
    )
    ds = ds.drop_vars(["weight_decay", "decay"])
    both = xr.concat([ds.isel(setting=slice(len(values))), ds.isel(setting=slice(len(values), None))], "kind")
    both = both.rename(setting="decay").assign_coords(kind=list(KINDS), decay=values)
    rates = [float(rule.hyper.lr) for rule in rules.values()]
    return both.assign(lr=("rule", rates, {"long_name": "learning rate", "units": "1"}))


# Possible explanations.


def explained(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """The quantities that may explain the effect, by their labels in figures.

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


def ratios(ds: xr.Dataset) -> list[xr.DataArray]:
    """Each of them at the end with the notes' λ over its value without decay, one per seed."""
    none, with_it = _overfit.beside(ds.sel(epoch=ds.epochs, drop=True), "decay")
    return [after / before for before, after in zip(explained(none).values(), explained(with_it).values(), strict=True)]


def disagreement(ds: xr.Dataset) -> xr.DataArray:
    """The largest relative difference in ‖W‖ that L2 and decoupled decay make under SGD, for each seed.

    Not in the loss, in which training amplifies rounding errors.
    """
    norm = part(ds, "form").weight_norm.sel(rule="sgd", drop=True)
    return abs(norm.sel(kind="L2") / norm.sel(kind="decoupled") - 1).max(["decay", "epoch"])


def under_adam(ds: xr.Dataset) -> xr.DataArray:
    """By how many points decoupled decay is ahead of L2 of the same λ under Adam, at every λ above 0."""
    end = 100 * part(ds, "form").test_accuracy.sel(rule="adam", drop=True).isel(epoch=-1, drop=True)
    ahead = end.sel(kind="decoupled", drop=True) - end.sel(kind="L2", drop=True)
    return ahead.sel(decay=ahead.decay > 0)


# Claims.


def plain(ds: xr.Dataset) -> xr.Dataset:
    """The networks without decay."""
    return ds.sel(decay=0.0, drop=True)


def reason(text: str, number: int, sign: int = 1, **more: Any) -> lab.Claim:
    """A claim about one of `explained`: by how many percent decay makes it larger, or smaller with `sign` −1."""
    return lab.Claim(
        f"Weight decay of λ = {{compared:g}} {text}",
        lambda ds: sign * 100 * (ratios(ds)[number] - 1),
        *(lab.above(0.0), "%", "question §4.2", "why"),
        **more,
    )


DECAY = "Weight decay of λ = {compared:g}"
CLAIMS = (
    lab.Claim(
        f"Without weight decay more than {NEARLY_ALL:g} % of the training images are recognized from {SOON} epochs on",
        lambda ds: 100 * plain(ds).train_accuracy.sel(epoch=slice(SOON, None)),
        *(lab.above(NEARLY_ALL), "%", "claim 11", "15_16_spread"),
        each="epoch",
        where=lambda ds: ds.epochs >= SOON,
    ),
    lab.Claim(
        f"Without weight decay the gap to the test accuracy is more than {FAR:g} points after {{epochs}} epochs",
        lambda ds: gap(plain(ds)).sel(epoch=ds.epochs, drop=True),
        *(lab.above(FAR), "points", "claim 11", "15_16_spread"),
    ),
    *_overfit.narrows("decay", DECAY, "15_16_spread", "claim 12"),
    _overfit.stopped_early("decay", DECAY, "15_16_spread", "claim 12"),
    lab.Claim(
        f"{DECAY} leaves more than 1 % of the training images unrecognized after {{epochs}} epochs",
        lambda ds: 100 * (1 - _overfit.beside(ds, "decay")[1].train_accuracy.sel(epoch=ds.epochs, drop=True)),
        *(lab.above(1.0), "points", "claim 12", "15_16_spread"),
        secondary=True,
    ),
    _overfit.best_raises("decay", "weight decay", "λ", "against_decay", "claim 12"),
    reason("makes the weights smaller", 0, -1),
    reason("makes the network's function flatter", 2, -1, detail="It is the slope on test images."),
    reason("widens the margins of the training images", 3),
    reason("widens the margins normalized by the layers' norms", 4),
    reason("moves the training images away from other classes", 5, detail="It is the median distance."),
    lab.Claim(
        "Under SGD, L2 and decoupled decay of the same λ shrink the weights alike, up to rounding",
        disagreement,
        *(lab.exactly(ROUNDING), "of their norm", "question §4.2", "l2_and_decoupled"),
        detail=f"At any epoch and λ {ROUNDING:g} is allowed.",
    ),
    lab.Claim(
        "Under Adam, decoupled decay gives a higher test accuracy than L2 of the same λ",
        under_adam,
        *(lab.above(0.0), "points", "question §4.2", "l2_and_decoupled"),
        each="decay",
    ),
)


# Figures.


def on_decays(ax: Axes, decays: np.ndarray) -> None:
    """An axis of λ: logarithmic from the smallest positive one, with 0 at its left end."""
    least, most = decays[decays > 0].min(), decays.max()
    ax.set_xscale("symlog", linthresh=least, linscale=0.4)
    ax.set_xticks(decays, [f"{decay:g}" for decay in decays])
    ax.set_xlim(-0.3 * least, 1.4 * most)
    ax.minorticks_off()


def named(ds: xr.Dataset) -> dict[float, str]:
    """The two λ that are compared, by their names in figures."""
    return {0.0: "no weight decay", ds.compared: f"λ = {ds.compared:g}"}


def against_decay(ds: xr.Dataset) -> Figure:
    """Accuracies and gap against λ."""
    fig = _overfit.against(ds, "decay", "λ", ds.epochs)
    for ax in fig.axes:
        on_decays(ax, ds.decay.values)
    return fig


def why(ds: xr.Dataset) -> Figure:
    """Weights, function and margins over the epochs, with and without decay."""
    fig = plotting.figure(11.0, 6.4)
    quantities = explained(ds)
    drawn = _overfit.panels(fig, *(("", "epochs", label) for label in quantities), rows=2)
    for ax, values in zip(drawn, quantities.values(), strict=True):
        for number, (decay, name) in enumerate(named(ds).items()):
            label = name if ax is drawn[0] else ""
            plotting.curve(ax, ds.epoch.values, values.sel(decay=decay).values, label, number)
    plotting.legend(fig, title="What weight decay does to weights, function and margins")
    plotting.caption(fig, _overfit.about(ds, WHERE, INTERVAL))
    return fig


def why_against_decay(ds: xr.Dataset) -> Figure | None:
    """The same against λ, as multiples of the values without decay, for the λ at which enough is learned."""
    end = ds.sel(epoch=ds.epochs, drop=True)
    learned = np.flatnonzero(end.train_accuracy.mean("seed") >= LEARNED)
    if not end.decay[learned].any():
        return None
    fig = plotting.figure(8.0, 5.2)
    (ax,) = _overfit.panels(fig, (f"After {ds.epochs} epochs", "λ", "multiple of its value without decay"))
    for number, (label, values) in enumerate(explained(end).items()):
        _overfit.bars(ax, (values / values.sel(decay=0.0, drop=True)).isel(decay=learned), label, number)
    ax.set_yscale("log")
    on_decays(ax, end.decay.values[learned])
    plotting.legend(fig, 2)
    left_out = f"λ that leave the training accuracy below {LEARNED:.0%} are not shown"
    plotting.caption(fig, _overfit.about(ds, WHERE, left_out, "mean of the paired ratios with its 95 % interval"))
    return fig


def l2_and_decoupled(ds: xr.Dataset) -> Figure:
    """The share that the two forms leave of weights without gradient, and their final test accuracies."""
    forms = part(ds, "form")
    fig = plotting.figure(11.0, 5.0)
    *drawn, last = _overfit.panels(
        fig,
        *((f"{titles.title(rule)}: weights of blank pixels", "epochs", "share of their first norm") for rule in RULES),
        (f"After {int(forms.epoch[-1])} epochs", "λ", "test accuracy"),
    )
    decays = forms.decay.values
    for ax, rule in zip(drawn, RULES, strict=True):
        for number, decay in enumerate(decays):
            one = forms.blank_left.sel(rule=rule, decay=decay).transpose("kind", "seed", "epoch")
            labels = [f"λ = {decay:g}, {kind}" if ax is drawn[0] else "" for kind in KINDS]
            plotting.curve(ax, forms.epoch.values, one.sel(kind="L2").values, labels[0], number)
            # The widest is drawn first: curves coincide for every λ of L2 under Adam, and for both kinds under SGD.
            ax.lines[-1].set(linewidth=1 + 2 * (len(decays) - number), alpha=0.45)
            plotting.curve(ax, forms.epoch.values, one.sel(kind="decoupled").values, labels[1], number)
            ax.lines[-1].set_linestyle("--")
        ax.set(ylim=(0, 1.05))
    for number, (rule, kind) in enumerate(itertools.product(RULES, KINDS), start=3):
        accuracy = forms.test_accuracy.sel(rule=rule, kind=kind).isel(epoch=-1)
        _overfit.bars(last, accuracy, f"{titles.title(rule)}, {kind}", number)
    last.set(ylim=(0, 1))
    on_decays(last, decays)
    plotting.legend(fig, 5)
    blank = "pixels blank in every training image have no gradient but the penalty's"
    plotting.caption(fig, _overfit.about(ds, blank, INTERVAL))
    return fig


# Answers and the table.


def summary(ds: xr.Dataset) -> str:
    """The numbers at the end, one line for each λ."""
    lines = [f"{'λ':>8}{_overfit.HEADINGS}{'‖W‖':>10}{'slope':>10}"]
    for decay in ds.decay.values:
        mean = ds.sel(epoch=ds.epochs, decay=decay).mean("seed")
        own = f"{float(mean.weight_norm):10.1f}{float(mean.slope):10.3f}"
        lines.append(f"{decay:8g}{_overfit.scores(mean)}{own}")
    return "\n".join(lines)


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The answers to why weight decay works, and whether it is the same as the L2 penalty."""
    n = ds.sizes["seed"]
    return [
        lab.Answer("Why does weight decay work?", why_in_words(ds), "why", n, "question §4.2"),
        lab.Answer(
            *("Is weight decay the same as an L2 penalty?", forms_in_words(ds), "l2_and_decoupled", n, "question §4.2")
        ),
    ]


def why_in_words(ds: xr.Dataset) -> str:
    """The effect of decay on weights, function, margins and unseen images, as sentences."""
    none, with_it = _overfit.beside(ds.sel(epoch=ds.epochs, drop=True), "decay")
    weights, _, slope, margin, normalized, distance = (f"{float(ratio.mean()):.2g}" for ratio in ratios(ds))
    train, test = (100 * (with_it[name] - none[name]).values for name in ("train_accuracy", "test_accuracy"))
    if (change := side(test)) > 0:
        so = "it fits its training images less closely and recognizes more unseen ones"
    elif change < 0:
        so = "at this λ the gap is narrower because less is learned, not because more unseen images are recognized"
    else:
        so = "at this λ it is neither better nor worse at unseen images, as far as these seeds decide"
    return (
        f"With λ = {ds.compared:g} the weights end at {weights} and the slope of the network's function at {slope} "
        f"times what they are without decay; margins are {margin} times as wide, {normalized} times once normalized by "
        f"the layers' norms, and other classes are {distance} times as far from a training image. "
        f"{_overfit.moved('Training accuracy', train)} and {_overfit.moved('test accuracy', test)}: {so}."
    )


def forms_in_words(ds: xr.Dataset) -> str:
    """Where L2 and decoupled decay are equal, and why they differ elsewhere, as sentences."""
    forms = part(ds, "form")
    forms = forms.sel(decay=forms.decay > 0)
    adam = forms.sel(rule="adam").isel(epoch=-1)
    l2, decoupled = (adam.blank_left.sel(kind=kind).mean("seed").values for kind in KINDS)
    expected = (1 - float(adam.lr) * forms.decay.values) ** (int(forms.epoch[-1]) * ds.steps_each)
    apart = float(disagreement(ds).max())

    def listed(values, style=".2g"):
        return " and ".join(format(value, style) for value in values)

    return (
        f"Under SGD {'yes' if apart < ROUNDING else 'no'}: weight norms differ by at most a share of {apart:.0e}. "
        f"Under Adam {'no' if abs(l2 - decoupled).max() > ROUNDING else 'yes'}: of weights that only the penalty moves "
        f"L2 leaves {listed(l2)} at λ = {listed(forms.decay.values)}, since Adam divides a gradient by its own size; "
        f"decoupled decay leaves {listed(decoupled)}, where (1 − lr λ)ᵗ is {listed(expected)}. Test accuracy with "
        f"decoupled decay differs from that with L2 by {listed(under_adam(ds).mean('seed').values, '+.1f')} points."
    )


EXPERIMENT = lab.Experiment(
    question="Does weight decay keep a network from overfitting 300 images, and why?",
    source="notes §4.1-4.2, figures 15 and 16",
    says="Without decay the network recognizes nearly all of its 300 images after about 100 epochs and far fewer of "
    "the test images; λ = 0.1 narrows the gap, and training accuracy stays below 100 %.",
    method="Trains the notes' network of 784-100×6-10, with ReLU and He's initial weights, by SGD with several "
    "strengths λ of the penalty ½ λ ‖W‖² on weights (not on biases). Each seed draws 300 training images, initial "
    "weights and minibatches, the same for every λ; figures 15 and 16 use the first 300 images, as in the notes. A "
    "network that learns less has a narrower gap in any case, so the claim on the gap is decided at equal training "
    "loss. Weights, the slope of the network's function and its margins are measured during training. Then the "
    "penalty is compared with decoupled decay, w ← (1 − lr λ) w, under SGD, where the two are equal, and under Adam, "
    "where they are not.",
    takes="about two minutes on two cores",
    config=Config,
    quick={"seeds": 2, "epochs": 20, "evaluate_every": 5, "form_epochs": 10, "dataset": "mnist_5k"},
    run=run,
    claims=CLAIMS,
    figures={
        "15_no_decay": lambda ds: _overfit.notes_figure(ds, "decay", {0.0: "No weight decay (notes, figure 15)"}),
        "16_decay": lambda ds: _overfit.notes_figure(
            ds, "decay", {ds.compared: f"Weight decay, λ = {ds.compared:g} (notes, figure 16)"}
        ),
        "15_16_spread": lambda ds: _overfit.spread(ds, "decay", named(ds)),
        "why": why,
        "against_decay": against_decay,
        "why_against_decay": why_against_decay,
        "l2_and_decoupled": l2_and_decoupled,
    },
    answers=answers,
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
