"""Why should an activation function be symmetric about the origin? (notes §2.2.3)"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnn import init, instruments, lab, layers, models, optim, sweep, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import interval, middle
from fnn.base.types import Scalar
from fnn.lab import figures, plotting
from fnn.tasks import Label, Split, Task

HIDDEN = (100, 100, 100, 100)
PROBE = 1000
"""Training images whose activations make the Gram matrices."""
NOTES_LR = 0.01
TOLERANCE = 10.0
"""The largest relative difference, in percent, of a prediction that counts as right."""
EQUAL = f"all at learning rate {NOTES_LR}"
BEST = "each at its best learning rate"
SOURCE = "question §2.2.3"


class Contender(NamedTuple):
    """An activation, and the mean activation that the initial biases of its network cancel."""

    f: Callable[[Array], Array]
    title: str
    balance: float = 0.0


CONTENDERS = {
    "sigmoid": Contender(layers.sigmoid, "sigmoid σ(x)"),
    "balanced": Contender(layers.sigmoid, "balanced σ(x)", balance=0.5),
    "shifted": Contender(lambda x: layers.sigmoid(x) - 0.5, "shifted σ(x) − 1/2"),
    "scaled": Contender(lambda x: layers.tanh(x / 2), "scaled tanh(x/2)"),
    "tanh": Contender(layers.tanh, "tanh(x)"),
}


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the comparison."""

    steps: int = 250
    """Updates per network."""
    batch: int = 128
    """Examples per update, drawn with replacement."""
    lrs: tuple[float, ...] = (0.01, 0.1, 0.3, 1.0, 3.0)
    """Learning rates of SGD; the notes' is 0.01."""
    gain: float = 4.0
    """Standard deviation of every initial weight times √n; Xavier's is 1."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, batch=1)
        require(0 < self.gain < float("inf"), f"--gain is above 0, not {self.gain}.")
        self.check_distinct(lrs="learning rate")
        wrong = [lr for lr in self.lrs if not 0 < lr < float("inf")]
        require(not wrong, f"--lrs is numbers above 0, not {wrong}.")


class Hyper(NamedTuple):
    """The hyperparameter of the task: the gain of the initial weights."""

    gain: Scalar = 4.0


# -- measuring --


def network(one: Contender, gain: Scalar) -> layers.Layer:
    """The notes' network with a contender's activation; balanced, its initial biases cancel the activations' mean."""
    plain = models.multilayer(HIDDEN, 10, activation=one.f, weights=init.xavier(gain=gain))
    if not one.balance:
        return plain

    def start(key, x):
        (first, *rest), stats = plain.init(key, x)  # the inputs of the first layer are pixels
        return (first, *(balanced(p) if isinstance(p, layers.Affine) else p for p in rest)), stats

    def balanced(p):
        return p._replace(b=p.b - one.balance * p.w.sum(1))

    return plain._replace(init=start)


def hidden(one: Contender, gain: Scalar, params, stats, x: Array) -> Array:
    """The activations `[layer, example, unit]` of the hidden layers."""
    return jnp.stack(instruments.activations(network(one, gain), params, stats, x)[1:-1:2])


def learning(one: Contender, cfg: Config, data: dict[str, Split]) -> Task:
    """The classification task of a contender."""
    return tasks.classification(lambda hp: network(one, hp.gain), data, cfg.batch, hyper=Hyper(cfg.gain))


def at_the_start(cfg: Config, data: dict[str, Split]) -> xr.Dataset:
    """Mean activations and eigenvalues of the Gram matrices of every contender's hidden layers before training."""

    def measure(hp, key, data):
        x = tasks.rows(data["train"].x[:PROBE])

        def activations(one):
            run = train.training(learning(one, cfg, data), optim.rule("sgd"), 1)
            state = run.start(train.Hyper(optim.rule("sgd").hyper, hp), key, data)
            return hidden(one, hp.gain, state.params, state.stats, x)

        return {"h": jnp.stack([activations(one) for one in CONTENDERS.values()])}

    dims = ("activation", "layer", "example", "unit")
    coords = {"activation": list(CONTENDERS), "layer": np.arange(1, len(HIDDEN) + 1)}
    trial = tasks.Trial(measure, data, Hyper(cfg.gain), labels={"h": Label(dims=dims)}, coords=coords)
    # In float64: the smallest eigenvalues are further below the largest than float32 resolves.
    h = sweep(trial, seeds=cfg.seeds).h.astype(np.float64)
    gram = xr.dot(h, h.rename(unit="other"), dim="example") / h.sizes["example"]
    falling = lambda g: np.linalg.eigvalsh(g)[..., ::-1]
    eigenvalue = xr.apply_ufunc(falling, gram, input_core_dims=[["unit", "other"]], output_core_dims=[["number"]])
    found = xr.Dataset(
        {
            "mean": h.mean(("example", "unit")),
            "squared_means": (h.mean("example") ** 2).sum("unit"),
            "eigenvalue": eigenvalue.assign_coords(number=np.arange(1, HIDDEN[0] + 1)),
        }
    )
    for name, what in (
        ("mean", "mean activation"),
        ("squared_means", "sum of the units' squared mean activations"),
        ("eigenvalue", "eigenvalue of the Gram matrix"),
    ):
        found[name].attrs = {"long_name": f"{what} before training", "units": "1"}
    return found


def run(cfg: Config) -> xr.Dataset:
    """Measurements of the networks before training, and their losses at every learning rate."""
    images = cfg.load(batch=cfg.batch)
    data = {"train": tasks.splits(images)["train"]}
    found = sweep(
        *({name: learning(one, cfg, data) for name, one in CONTENDERS.items()}, "sgd"),
        over={"lr": sorted(cfg.lrs)},
        seeds=cfg.seeds,
        steps=cfg.steps,
        keep=cfg.keep(),
        progress=True,
    ).rename(task="activation")[["loss", "diverged_at"]]
    found.lr.attrs["long_name"] = "learning rate"
    return found.merge(at_the_start(cfg, data)).assign_attrs({**found.attrs, **images.about, "gain": cfg.gain})


# -- effects, one number per seed --


def units(ds: xr.Dataset) -> int:
    """n, the units of a hidden layer: the number of eigenvalues of its Gram matrix."""
    return ds.sizes["number"]


def top(ds: xr.Dataset) -> xr.DataArray:
    """The largest eigenvalue of the Gram matrices."""
    return ds.eigenvalue.isel(number=0, drop=True)


def decades(ds: xr.Dataset) -> xr.DataArray:
    """log₁₀ of the Gram matrices' condition number, the largest eigenvalue over the smallest."""
    # Rounding may turn an eigenvalue of 0 into any number around 0.
    least = np.maximum(ds.eigenvalue.isel(number=-1, drop=True), np.finfo(np.float64).eps * top(ds))
    return xr.apply_ufunc(np.log10, top(ds) / least)


def off(ds: xr.Dataset, predicted: xr.DataArray) -> xr.DataArray:
    """By how many percent the largest eigenvalue differs from a prediction, mean over the layers.

    No prediction here is above it (Jensen's inequality), so positive and negative differences cannot cancel.
    """
    return 100 * (top(ds) / predicted - 1).mean("layer")


def mean_loss(ds: xr.Dataset) -> xr.DataArray:
    """The mean loss over the run: the lower, the faster a network learns."""
    return ds.loss.mean("step", skipna=False)


def at_notes_rate(ds: xr.Dataset) -> xr.DataArray:
    """The mean loss at the notes' learning rate."""
    return mean_loss(ds).sel(lr=NOTES_LR, drop=True)


def at_own_rate(ds: xr.Dataset) -> xr.DataArray:
    """The mean loss of every contender and seed at the learning rate that is best for the other half of the seeds."""
    return lab.at_best(mean_loss(ds), mean_loss(ds), "lr", lower=True)


def best_rates(ds: xr.Dataset) -> dict[str, float]:
    """For each contender the learning rate at which its loss, mean over the run and all seeds, is lowest."""
    losses = mean_loss(ds).mean("seed", skipna=False)
    places = losses.where(abs(losses) < np.inf, np.inf).argmin("lr")
    return {name: float(ds.lr[int(places.sel(activation=name))]) for name in ds.activation.values.tolist()}


def comparisons(ds: xr.Dataset) -> dict[str, dict[str, float]]:
    """The learning rates at which contenders are shown: all at the notes', if it was tried, and each at its best."""
    equal = {EQUAL: dict.fromkeys(ds.activation.values.tolist(), NOTES_LR)}
    return (equal if NOTES_LR in ds.lr.values else {}) | {BEST: best_rates(ds)}


# -- figures --


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure."""
    return figures.caption(ds, "initial weights of std {gain:g}/√n", *details)


def panels(*titles: str, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with one row of panels."""
    fig = plotting.figure(max(7.0, 3.6 * len(titles)), 4.4)
    axs = list(fig.subplots(1, len(titles), sharey=share_y, squeeze=False)[0])
    for ax, title in zip(axs, titles, strict=True):
        ax.set_title(title, fontsize="medium")
        plotting.dress(ax)
    return fig, axs


def mean_and_gram(ds: xr.Dataset) -> Figure:
    """Layer by layer before training: the mean activation, the largest eigenvalue, the condition number."""
    fig, axs = panels("mean activation m", "largest eigenvalue of E[h hᵀ]", "log₁₀ of the condition number of E[h hᵀ]")
    for ax, quantity in zip(axs, (ds["mean"], top(ds), decades(ds)), strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            values = quantity.sel(activation=name).transpose("seed", "layer").values
            plotting.curve(ax, ds.layer.values, values, one.title if ax is axs[0] else "", number, markers=1)
        ax.set(xlabel="hidden layer", xticks=ds.layer.values)
    axs[1].axhline(units(ds) / 4, color="0.4", linestyle="--", linewidth=1)
    plotting.legend(fig, 5)
    details = "before training", "mean with its 95 % interval", "dashed: n m² of a mean m = 1/2, predicted"
    plotting.caption(fig, about(ds, *details))
    return fig


def spectrum(ds: xr.Dataset) -> Figure:
    """All eigenvalues of the Gram matrices of the first and of the last hidden layer."""
    ends = ds.layer.values[[0, -1]]
    fig, axs = panels(*(f"hidden layer {layer}" for layer in ends), share_y=True)
    for ax, layer in zip(axs, ends, strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            values = ds.eigenvalue.sel(activation=name, layer=layer).transpose("seed", "number").values
            plotting.curve(ax, ds.number.values, values, one.title if ax is axs[0] else "", number, markers=10)
        ax.set(xscale="log", yscale="log", xlabel="number of the eigenvalue, largest first")
    axs[0].set_ylabel("eigenvalue of E[h hᵀ]")
    plotting.legend(fig, 3)
    plotting.caption(fig, about(ds, "before training", "mean with its 95 % interval"))
    return fig


def top_eigenvalue(ds: xr.Dataset) -> Figure:
    """The largest eigenvalue, measured, against what the mean activation predicts."""
    fig, axs = panels("one mean m for all units: n m²", "a mean mᵢ for each unit: Σ mᵢ²", share_y=True)
    for ax, predicted in zip(axs, (units(ds) * ds["mean"] ** 2, ds.squared_means), strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            x, y = (a.sel(activation=name).transpose("seed", "layer").values.ravel() for a in (predicted, top(ds)))
            style = {"color": plotting.color(number), "markersize": 4, "alpha": 0.6}
            ax.plot(x, y, plotting.MARKERS[number], label=one.title if ax is axs[0] else "", **style)
        ax.axline((1, 1), (10, 10), color="0.4", linestyle="--", linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="predicted eigenvalue")
    axs[0].set_ylabel("largest eigenvalue of E[h hᵀ]")
    plotting.legend(fig, 3)
    plotting.caption(fig, about(ds, "before training", "a mark for each seed and hidden layer", "dashed: as predicted"))
    return fig


def learning_curves(ds: xr.Dataset) -> Figure:
    """The training loss, all at the notes' learning rate and each contender at its best."""
    compared = comparisons(ds)
    fig, axs = panels(*compared, share_y=True)
    for ax, rates in zip(axs, compared.values(), strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            loss = ds.loss.sel(activation=name, lr=rates[name]).transpose("seed", "step").values
            plotting.curve(ax, ds.step.values, plotting.smooth(loss), one.title if ax is axs[0] else "", number)
        ax.set(xlabel="step", yscale="log", xlim=(0, ds.sizes["step"]))
        ax.minorticks_off()
    ticks = 0.2, 0.5, 1, 2, 5
    axs[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axs[0].set_ylabel("loss (nats)")
    plotting.legend(fig, 3)
    rates = ", ".join(f"{name} {lr:g}" for name, lr in best_rates(ds).items())
    plotting.caption(fig, about(ds, "mean with its 95 % interval, smoothed over 11 steps", f"best: {rates}"))
    return fig


def learning_rates(ds: xr.Dataset) -> Figure:
    """The mean loss over the run against the learning rate."""
    fig = plotting.figure()
    ax = plotting.axes(
        fig, "Speed of learning by learning rate", "learning rate", f"mean loss over {ds.sizes['step']} steps (nats)"
    )
    losses = mean_loss(ds).transpose("activation", "seed", "lr")
    for number, (name, one) in enumerate(CONTENDERS.items()):
        values, color, marker = losses.sel(activation=name).values, plotting.color(number), plotting.MARKERS[number]
        ax.plot(ds.lr, np.median(values, 0), color=color, linewidth=1.3, marker=marker, label=one.title)
        ax.plot(ds.lr, values.T, ".", color=color, markersize=3, alpha=0.6)
    ax.set(xscale="log", yscale="log")
    plotting.legend(fig, 3)
    plotting.caption(fig, about(ds, "line: the median network", "dots: every network"))
    return fig


# -- claims and answers --


def conditioned(text: str, name: str, *, secondary: bool = False) -> lab.Claim:
    """A contender's Gram matrices are worse conditioned than the shifted sigmoid's."""

    def detail(ds):
        one, other = (float(decades(ds).sel(activation=a).mean()) for a in (name, "shifted"))
        return f"The condition number is 10^{one:.1f} against 10^{other:.1f}, mean over the layers before training."

    effect = lab.ahead(decades, "activation", name, "shifted", over=["layer"])
    shown = lab.above(0.0), "decades", SOURCE, "mean_and_gram"
    return lab.Claim(text, effect, *shown, detail=detail, secondary=secondary)


def faster(text: str, name: str, other: str, *, secondary: bool = True) -> tuple[lab.Claim, lab.Claim]:
    """A contender learns faster than another, at the notes' learning rate and each at its best."""
    measured = "The effect is the difference of the mean losses over the run"
    shown = lab.above(0.0), "nats", SOURCE, "learning"
    return (
        lab.Claim(
            f"{text}, {EQUAL}",
            lab.ahead(at_notes_rate, "activation", name, other, lower=True),
            *shown,
            detail=f"{measured}.",
            where=lab.has("lr", NOTES_LR),
            secondary=True,
        ),
        lab.Claim(
            f"{text}, {BEST}",
            lab.ahead(at_own_rate, "activation", name, other, lower=True),
            *shown,
            detail=f"{measured}, each seed at the rates that are best for the other half of the seeds.",
            secondary=secondary,
        ),
    )


def _balanced(ds):
    one = ds.sel(activation="balanced")
    predicted = float((units(ds) * one["mean"] ** 2).mean())
    return f"With the balanced sigmoid it is {float(top(one).mean()):.1f}, predicted {predicted:.1f}."


CLAIMS = (
    conditioned("The mean alone, 1/2 on the same activations, makes Gram matrices worse conditioned", "balanced"),
    conditioned(
        *("The sigmoid's Gram matrices are worse conditioned than those of the shifted sigmoid", "sigmoid"),
        secondary=True,
    ),
    lab.Claim(
        f"A mean m that n units share makes a largest eigenvalue of n m², ± {TOLERANCE:.0f} %",
        lambda ds: off(ds, units(ds) * ds["mean"] ** 2).sel(activation="balanced", drop=True),
        *(lab.within(-TOLERANCE, TOLERANCE), "%", SOURCE, "top_eigenvalue"),
        detail=_balanced,
        secondary=True,
    ),
    lab.Claim(
        f"With every activation the largest eigenvalue is that of the units' own means, Σ mᵢ² ± {TOLERANCE:.0f} %",
        lambda ds: off(ds, ds.squared_means),
        *(lab.below(TOLERANCE), "%", SOURCE, "top_eigenvalue"),
        each="activation",
        detail="The effect is the difference from it, mean over the hidden layers before training.",
        secondary=True,
    ),
    *faster(
        *("The shifted sigmoid learns faster than one that starts as the same function", "shifted", "balanced"),
        secondary=False,
    ),
    *faster("The shifted sigmoid learns faster than the sigmoid", "shifted", "sigmoid"),
    *faster("tanh(x/2), the sigmoid made symmetric, learns faster than the sigmoid", "scaled", "sigmoid"),
    *faster("tanh learns faster than the sigmoid", "tanh", "sigmoid"),
)


def summary(ds: xr.Dataset) -> str:
    """A line for each contender: its Gram matrices before training, and how fast it learns at its best rate."""
    heads = "mean", "log10 cond", "best lr", "mean loss"
    lines = [f"{'':>10}" + "".join(f"{head:>14}" for head in heads)]
    for name, lr in best_rates(ds).items():
        one = ds.sel(activation=name)
        loss = middle(mean_loss(one).sel(lr=lr).values)
        numbers = float(one["mean"].mean()), float(decades(one).mean()), lr, loss
        lines.append(f"{name:>10}" + "".join(f"{x:14.3g}" for x in numbers))
    return "\n".join(lines)


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """Why should an activation be symmetric about the origin?"""
    means = top(ds).mean(("seed", "layer"))
    mean = float(ds["mean"].sel(activation="balanced").mean())
    worse = interval(lab.ahead(decades, "activation", "balanced", "shifted", over=["layer"])(ds).values)
    answer = (
        f"A mean of {mean:.2f} that all units and examples share makes one direction steep: the largest eigenvalue of "
        f"E[h hᵀ] is {float(means.sel(activation='balanced')):.1f} (n m² = {units(ds) * mean**2:.1f}), without the "
        f"mean {float(means.sel(activation='shifted')):.1f}, and the condition number "
        f"{with_interval(tuple(10.0**x for x in worse))} times as high. "
    )
    if ds.sizes["seed"] == 1:
        answer += "One seed does not show whether the mean itself slows learning."
    else:
        answer += _on_learning(ds, worse[1] > 0)
    question = "Why should an activation be symmetric about the origin?"
    return [lab.Answer(question, answer, "learning", ds.sizes["seed"], SOURCE)]


def _on_learning(ds, worse):
    losses = {EQUAL: at_notes_rate} if NOTES_LR in ds.lr.values else {}
    losses[BEST] = at_own_rate
    lead = lambda of, other: interval(lab.ahead(of, "activation", "shifted", other, lower=True)(ds).values)
    leads = {other: {when: lead(of, other) for when, of in losses.items()} for other in ("sigmoid", "balanced")}
    sigmoid, balanced = (
        " and ".join(f"{with_interval(x)} nats lower, {when}" for when, x in of.items()) for of in leads.values()
    )
    alone = {when: low > 0 for when, (_, low, _) in leads["balanced"].items()}
    if worse and all(alone.values()):
        conclusion = "So the mean itself slows learning."
    elif worse and alone[BEST]:
        conclusion = "So the mean itself slows learning at the best learning rates, and not at a small one."
    else:
        conclusion = "So the worse conditioning is not seen to slow learning here."
    return (
        f"Over {ds.sizes['step']} steps the shifted sigmoid's mean loss is, against the sigmoid's, {sigmoid}; against "
        f"that of a sigmoid that starts as the same function, {balanced}. {conclusion}"
    )


def with_interval(found: tuple[float, ...]) -> str:
    """A mean with its interval, for a sentence."""
    return "{:.3g} [{:.3g}, {:.3g}]".format(*found)


EXPERIMENT = lab.Experiment(
    question="Why should an activation function be symmetric about the origin?",
    source="notes §2.2.3",
    says="An activation should be symmetric about the origin; the reason is left open.",
    method="Trains the notes' network, 784-100-100-100-100-10, by SGD with five activations that separate the "
    "sigmoid's two differences from tanh, its mean and its slope: the sigmoid σ(x); the shifted sigmoid σ(x) − "
    "1/2, with the same slope and no mean; the scaled one, 2 σ(x) − 1 = tanh(x/2); tanh(x), steeper again; and "
    "the balanced one, σ(x) with first biases −½ Σ w, so that at the start it computes what the shifted one "
    "does and only its activations have a mean. All start from the same weights of std gain/√n and train on "
    "the same minibatches. Gain 4 compensates for the sigmoid's slope of 1/4; with Xavier's gain of 1 a sigmoid "
    "network this deep hardly learns. A network learns faster where its mean loss over the run is lower.\n\nBefore "
    "training the Gram matrix G = E[h hᵀ] of each hidden layer's activations h is computed, the Hessian block of a "
    "linear layer on h: a mean m of n units adds an eigenvalue of about n m² to it, and gradient descent is as slow "
    "as the ratio of its largest to its smallest eigenvalue is large (LeCun et al. 1998, Efficient BackProp, "
    "§§4.3–4.4).",
    takes="about 45 seconds for 10 seeds of 250 steps at five learning rates on two cores",
    config=Config,
    quick={"seeds": 2, "steps": 60, "lrs": (0.01, 0.3, 1.0), "dataset": "mnist_5k"},
    run=run,
    claims=CLAIMS,
    figures={
        "mean_and_gram": mean_and_gram,
        "spectrum": spectrum,
        "top_eigenvalue": top_eigenvalue,
        "learning": learning_curves,
        "learning_rates": learning_rates,
    },
    answers=answers,
    summary=summary,
)

if __name__ == "__main__":
    EXPERIMENT.main()
