"""Why should an activation function be symmetric about the origin? (notes §2.2.3)

Trains the notes' network, 784-100-100-100-100-10, by SGD with five activations that part the sigmoid's two differences
from tanh, its mean and its slope: the sigmoid σ(x); the shifted sigmoid σ(x) − 1/2, with the same slope and no mean;
the scaled one, 2 σ(x) − 1 = tanh(x/2); tanh(x), steeper again; and the balanced one, σ(x) with first biases −½ Σ w, so
that at the start it computes what the shifted one does and only its activations have a mean. All begin from the same
weights of std gain/√n and see the same minibatches. Gain 4 makes up for the sigmoid's slope of 1/4; with Xavier's gain
of 1 a sigmoid network this deep hardly moves.

Before training it looks at the Gram matrix G = E[h hᵀ] of each hidden layer's activations h, the Hessian block of a
linear layer on h: a mean m of n units adds an eigenvalue of about n m² to it, and gradient descent is as slow as the
ratio of its largest to its smallest eigenvalue is high (LeCun et al. 1998, Efficient BackProp, §§4.3–4.4).

The notes say: an activation had better be symmetric about the origin, and ask why.

Takes about 45 seconds for 10 seeds of 250 steps at five learning rates on two cores.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _cli, _lab
from fnn import init, instruments, layers, models, optim, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import interval, middle, paired
from fnn.base.types import Keys, Scalar
from fnn.data import DataSet
from fnn.lab import plotting
from fnn.lab.verdicts import Answer, Verdict, decide
from fnn.train import Record, Run, engine

HIDDEN = (100, 100, 100, 100)
PROBE = 1000
"""Training images whose activations make the Gram matrices."""
NOTES_LR = 0.01
TOLERANCE = 0.10
"""A prediction is right if it is within 1 ± this of what is measured."""
BEST = "each at its best learning rate"
SOURCE = "question §2.2.3"


class Contender(NamedTuple):
    """An activation, and the mean that its network's first biases take away."""

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
class Config(_cli.Options):
    """Settings of the comparison."""

    steps: int = 250
    """Updates per network."""
    batch: int = 128
    """Examples per update, drawn with replacement."""
    lrs: str = "0.01,0.1,0.3,1,3"
    """Learning rates of SGD, with commas between; the notes' is 0.01."""
    gain: float = 4.0
    """Standard deviation of every initial weight times √n; Xavier's is 1."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, batch=1)
        require(0 < self.gain < float("inf"), f"--gain is above 0, not {self.gain}.")
        rates = self.rates()
        require(bool(rates), "--lrs names no learning rate.")
        require(len(set(rates)) == len(rates), f"--lrs names a learning rate more than once: {self.lrs}.")

    def rates(self) -> list[float]:
        """The learning rates that were asked for, from the smallest on."""
        try:
            rates = sorted(float(lr) for lr in self.lrs.split(",") if lr.strip())
        except ValueError:
            rates = [0.0]
        require(
            all(0 < lr < float("inf") for lr in rates),
            f"--lrs is numbers above 0 with commas between, not {self.lrs!r}.",
        )
        return rates


QUICK = Config(seeds=2, steps=60, lrs="0.01,0.3,1", dataset="mnist_5k", quick=True)


# -- measuring --


def network(one: Contender, gain: Scalar) -> layers.Layer:
    """The notes' network with a contender's activation; balanced, it begins as if its activations had no mean."""
    plain = models.multilayer(HIDDEN, 10, activation=one.f, weights=init.xavier(gain=gain))
    if not one.balance:
        return plain

    def start(key, x):
        (first, *rest), stats = plain.init(key, x)  # what the first layer sees are pixels
        return (first, *(balanced(p) if isinstance(p, layers.Affine) else p for p in rest)), stats

    def balanced(p):
        return p._replace(b=p.b - one.balance * p.w.sum(1))

    return plain._replace(init=start)


def hidden(one: Contender, gain: Scalar, params, stats, x: Array) -> Array:
    """The activations `[layer, example, unit]` of the hidden layers."""
    return jnp.stack(instruments.activations(network(one, gain), params, stats, x)[1:-1:2])


def racing(one: Contender, cfg: Config) -> Run:
    """One contender's training; the task's hyperparameter is the gain."""
    task = tasks.classification(lambda gain: network(one, gain), batch=cfg.batch)
    return train.training(task, optim.rule("sgd"), cfg.steps)


def at_the_start(cfg: Config, keys: Keys, data: Mapping[str, tasks.Split]) -> dict[str, Record]:
    """Of every contender's hidden layers before training: mean activations, and eigenvalues of the Gram matrices."""
    hp = train.Hyper(optim.rule("sgd").hyper, jnp.float32(cfg.gain))

    @jax.jit
    def look(key, data):
        x = tasks.rows(data["train"].x[:PROBE])
        begun = {name: racing(one, cfg).start(hp, key, data) for name, one in CONTENDERS.items()}
        return {name: hidden(CONTENDERS[name], cfg.gain, state.params, state.stats, x) for name, state in begun.items()}

    def measured(h):
        # In float64: the smallest eigenvalues are further below the largest than float32 resolves.
        h = np.asarray(h, np.float64)
        gram = np.swapaxes(h, -1, -2) @ h / h.shape[-2]
        squared_means = np.square(h.mean(-2)).sum(-1)
        eigenvalues = np.linalg.eigvalsh(gram)[..., ::-1]
        return {"mean": h.mean((-1, -2)), "squared_means": squared_means, "eigenvalue": eigenvalues}

    seeds = [{name: measured(h) for name, h in look(key, data).items()} for key in keys]
    return jax.tree.map(lambda *each: np.stack(each), *seeds)


def run(cfg: Config) -> xr.Dataset:
    """Look at the networks before training, then train all of them at every learning rate in one program."""
    images = _cli.load_data(cfg, fitting="batch")
    rates, keys, data = cfg.rates(), engine.seeds(cfg.seeds), {"train": _lab.splits(images)["train"]}
    hp = train.Hyper(engine.grid(optim.rule("sgd").hyper, lr=rates), jnp.full(len(rates), cfg.gain, jnp.float32))
    _cli.headline(
        cfg,
        images,
        f"{len(CONTENDERS) * len(rates) * cfg.seeds} networks ({len(CONTENDERS)} activations × {len(rates)} learning "
        f"rates × {cfg.seeds} seeds)",
    )
    before = at_the_start(cfg, keys, data)
    chunks = _lab.stream(
        cfg,
        {name: engine.over_hypers(racing(one, cfg)) for name, one in CONTENDERS.items()},
        dict.fromkeys(CONTENDERS, hp),
        keys,
        data,
        cfg.steps,
        chunk=min(50, cfg.steps),
    )
    followed = _lab.follow(chunks, cfg.steps)
    ds = label(cfg, images, before, followed.record).assign_attrs(followed.attrs)
    print(summary(ds))
    return ds


def label(cfg: Config, images: DataSet, before: Mapping[str, Record], record: Mapping[str, Record]) -> xr.Dataset:
    """All of it as one labelled data set: dims activation, lr, seed, step, layer and number (of the eigenvalue)."""
    loss = np.stack([np.moveaxis(record[name]["loss"], 2, 0) for name in CONTENDERS])
    ds = xr.Dataset(
        coords={
            "activation": list(CONTENDERS),
            "lr": ("lr", cfg.rates(), {"long_name": "learning rate"}),
            "seed": np.arange(cfg.seeds),
            "step": np.arange(loss.shape[-1]),
            "layer": np.arange(1, len(HIDDEN) + 1),
            "number": np.arange(1, HIDDEN[0] + 1),
        },
        attrs={**_lab.origin(images), "batch": cfg.batch, "gain": cfg.gain},
    )
    ds["loss"] = (
        ("activation", "lr", "seed", "step"),
        loss,
        {"long_name": "minibatch loss before the update", "units": "nats"},
    )
    ds["diverged_at"] = _lab.first_not_finite(ds.loss)
    for name, dims, long_name in (
        ("mean", ("layer",), "mean activation before training"),
        ("squared_means", ("layer",), "sum of the units' squared mean activations before training"),
        ("eigenvalue", ("layer", "number"), "eigenvalue of the Gram matrix before training"),
    ):
        values = np.stack([before[contender][name] for contender in CONTENDERS])
        ds[name] = ("activation", "seed", *dims), values, {"long_name": long_name, "units": "1"}
    return ds


# -- what is read off the measurements, one number a seed --


def units(ds: xr.Dataset) -> int:
    """n, the units of a hidden layer: as many as its Gram matrix has eigenvalues."""
    return ds.sizes["number"]


def decades(ds: xr.Dataset) -> xr.DataArray:
    """log₁₀ of the Gram matrices' condition number, the largest eigenvalue over the smallest."""
    top = ds.eigenvalue.isel(number=0)
    # Of an eigenvalue of 0 rounding may leave anything around 0.
    least = np.maximum(ds.eigenvalue.isel(number=-1), np.finfo(np.float64).eps * top)
    return xr.apply_ufunc(np.log10, top / least)


def decades_worse(ds: xr.Dataset, name: str, than: str) -> np.ndarray:
    """By how many powers of ten one contender's condition number exceeds another's, mean over the layers."""
    powers = decades(ds).mean("layer")
    return (powers.sel(activation=name) - powers.sel(activation=than)).values


def mean_loss(ds: xr.Dataset) -> xr.DataArray:
    """The mean loss over the run, `[activation, lr, seed]`: the lower, the faster a network learns."""
    return ds.loss.mean("step", skipna=False)


def best_rates(ds: xr.Dataset) -> dict[str, float]:
    """For each contender the learning rate at which its loss, mean over the run and all seeds, is lowest."""
    losses = mean_loss(ds).mean("seed", skipna=False).transpose("activation", "lr").values
    least = np.where(np.isfinite(losses), losses, np.inf).argmin(1)
    return dict(zip(map(str, ds.activation.values), map(float, ds.lr.values[least]), strict=True))


def lead(ds: xr.Dataset, name: str, over: str, rates: Mapping[str, float]) -> np.ndarray:
    """By how many nats one contender's mean loss over the run is below another's, each at its rate."""
    one, other = (mean_loss(ds).sel(activation=a, lr=rates[a]).values for a in (name, over))
    return paired(-one, -other)


def comparisons(ds: xr.Dataset) -> dict[str, dict[str, float]]:
    """The learning rates at which contenders are compared: all at the notes', if it was tried, and each at its best."""
    equal = {f"all at learning rate {NOTES_LR}": dict.fromkeys(map(str, ds.activation.values), NOTES_LR)}
    return (equal if NOTES_LR in ds.lr.values else {}) | {BEST: best_rates(ds)}


# -- figures --


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption that every figure of this experiment carries."""
    return _lab.about(ds, f"initial weights of std {ds.gain:g}/√n", *details)


def figures(ds: xr.Dataset) -> dict[str, Figure]:
    """What a mean does to the Gram matrix, and to learning."""
    return {
        "mean_and_gram": mean_and_gram(ds),
        "spectrum": spectrum(ds),
        "top_eigenvalue": top_eigenvalue(ds),
        "learning": learning(ds),
        "learning_rates": learning_rates(ds),
    }


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
    quantities = ds["mean"], ds.eigenvalue.isel(number=0), decades(ds)
    for ax, quantity in zip(axs, quantities, strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            values = quantity.sel(activation=name).values
            plotting.curve(ax, ds.layer.values, values, one.title if ax is axs[0] else "", number, markers=1)
        ax.set(xlabel="hidden layer", xticks=ds.layer.values)
    axs[1].axhline(units(ds) / 4, color="0.4", linestyle="--", linewidth=1)
    plotting.legend(fig, 5)
    plotting.caption(
        fig, about(ds, "before training", "mean with its 95 % interval", "dashed: n m² of a mean m = 1/2, predicted")
    )
    return fig


def spectrum(ds: xr.Dataset) -> Figure:
    """All eigenvalues of the Gram matrices of the first and of the last hidden layer."""
    ends = ds.layer.values[[0, -1]]
    fig, axs = panels(*(f"hidden layer {layer}" for layer in ends), share_y=True)
    for ax, layer in zip(axs, ends, strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            values = ds.eigenvalue.sel(activation=name, layer=layer).values
            plotting.curve(ax, ds.number.values, values, one.title if ax is axs[0] else "", number, markers=10)
        ax.set(xscale="log", yscale="log", xlabel="number of the eigenvalue, largest first")
    axs[0].set_ylabel("eigenvalue of E[h hᵀ]")
    plotting.legend(fig, 3)
    plotting.caption(fig, about(ds, "before training", "mean with its 95 % interval"))
    return fig


def top_eigenvalue(ds: xr.Dataset) -> Figure:
    """The largest eigenvalue, measured, against what the mean activation predicts."""
    fig, axs = panels("one mean m for all units: n m²", "each unit its own mean mᵢ: Σ mᵢ²", share_y=True)
    top = ds.eigenvalue.isel(number=0)
    for ax, predicted in zip(axs, (units(ds) * ds["mean"] ** 2, ds.squared_means), strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            x, y = (quantity.sel(activation=name).values.ravel() for quantity in (predicted, top))
            ax.plot(x, y, plotting.MARKERS[number], color=plotting.colour(number), markersize=4, alpha=0.6,
                    label=one.title if ax is axs[0] else "")  # fmt: skip
        ax.axline((1, 1), (10, 10), color="0.4", linestyle="--", linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="predicted eigenvalue")
    axs[0].set_ylabel("largest eigenvalue of E[h hᵀ]")
    plotting.legend(fig, 3)
    plotting.caption(fig, about(ds, "before training; a mark a seed and hidden layer; dashed: as predicted"))
    return fig


def learning(ds: xr.Dataset) -> Figure:
    """The training loss, all at the notes' learning rate and each contender at its best."""
    compared = comparisons(ds)
    fig, axs = panels(*compared, share_y=True)
    for ax, rates in zip(axs, compared.values(), strict=True):
        for number, (name, one) in enumerate(CONTENDERS.items()):
            loss = plotting.smooth(ds.loss.sel(activation=name, lr=rates[name]).values)
            plotting.curve(ax, ds.step.values, loss, one.title if ax is axs[0] else "", number)
        ax.set(xlabel="step", yscale="log", xlim=(0, ds.sizes["step"]))
        ax.minorticks_off()
    ticks = 0.2, 0.5, 1, 2, 5
    axs[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axs[0].set_ylabel("loss (nats)")
    plotting.legend(fig, 3)
    rates = ", ".join(f"{name} {lr:g}" for name, lr in best_rates(ds).items())
    plotting.caption(
        fig, about(ds, f"minibatch {ds.batch}", "mean with its 95 % interval, smoothed over 11 steps", f"best: {rates}")
    )
    return fig


def learning_rates(ds: xr.Dataset) -> Figure:
    """The mean loss over the run against the learning rate."""
    fig = plotting.figure()
    ax = plotting.axes(fig, "", "learning rate", f"mean loss over {ds.sizes['step']} steps (nats)")
    losses = mean_loss(ds).transpose("activation", "seed", "lr")
    for number, (name, one) in enumerate(CONTENDERS.items()):
        values, colour, marker = losses.sel(activation=name).values, plotting.colour(number), plotting.MARKERS[number]
        ax.plot(ds.lr, np.median(values, 0), color=colour, linewidth=1.3, marker=marker, label=one.title)
        ax.plot(ds.lr, values.T, ".", color=colour, markersize=3, alpha=0.6)
    ax.set(xscale="log", yscale="log")
    plotting.legend(fig, 3)
    plotting.caption(fig, about(ds, f"minibatch {ds.batch}", "line: the median network; dots: every network"))
    return fig


# -- what the numbers say --


def summary(ds: xr.Dataset) -> str:
    """A line a contender: its Gram matrices before training, and how fast it learns at its best learning rate."""
    heads = "mean", "log10 cond", "best lr", "mean loss"
    lines = [f"{'':>10}" + "".join(f"{head:>14}" for head in heads)]
    for name, lr in best_rates(ds).items():
        one = ds.sel(activation=name)
        numbers = (
            float(one["mean"].mean()),
            float(decades(ds).sel(activation=name).mean()),
            lr,
            middle(mean_loss(ds).sel(activation=name, lr=lr).values),
        )
        lines.append(f"{name:>10}" + "".join(f"{x:14.3g}" for x in numbers))
    return "\n".join(lines)


def verdicts(ds: xr.Dataset) -> list[Verdict]:
    """What a mean does to the Gram matrix before training, and to the speed of learning."""
    return [*on_the_gram_matrix(ds), *on_learning(ds)]


def on_the_gram_matrix(ds: xr.Dataset) -> list[Verdict]:
    """Condition numbers, and the eigenvalue that theory says a mean adds."""
    powers = decades(ds).mean(("seed", "layer"))
    found = [
        decide(
            claim,
            decades_worse(ds, name, "shifted"),
            "decades",
            f"The condition number is 10^{float(powers.sel(activation=name)):.1f} against "
            f"10^{float(powers.sel(activation='shifted')):.1f}: {{effect}} {{unit}} [{{low}}, {{high}}], mean over the "
            "hidden layers before training, {seeds} paired seeds.",
            SOURCE,
        )
        for name, claim in (
            ("sigmoid", "The sigmoid's Gram matrices are worse conditioned than those of the shifted sigmoid"),
            ("balanced", "The mean alone, 1/2 on the same activations, makes Gram matrices worse conditioned"),
        )
    ]
    top = ds.eigenvalue.isel(number=0)
    balanced, predicted = top.sel(activation="balanced"), units(ds) * ds["mean"].sel(activation="balanced") ** 2
    inside = 100 * (TOLERANCE - abs(top / ds.squared_means - 1)).mean("layer")
    return [
        *found,
        decide(
            f"A mean m that n units share makes a largest eigenvalue of n m², ± {100 * TOLERANCE:.0f} %",
            100 * (TOLERANCE - abs(balanced / predicted - 1)).mean("layer").values,
            "points",
            f"With the balanced sigmoid it is {float(balanced.mean()):.1f}, predicted {float(predicted.mean()):.1f}: "
            "{effect} {unit} within the tolerance [{low}, {high}], mean over the hidden layers, {seeds} seeds.",
            SOURCE,
        ),
        decide(
            "With every activation the largest eigenvalue is that of the units' own means, "
            f"Σ mᵢ² ± {100 * TOLERANCE:.0f} %",
            inside.min("activation").values,
            "points",
            f"With tanh it is {float(top.sel(activation='tanh').mean()):.1f}, predicted "
            f"{float(ds.squared_means.sel(activation='tanh').mean()):.1f}; the activation furthest off is "
            "{effect} {unit} within the tolerance [{low}, {high}], mean over the hidden layers, {seeds} seeds.",
            SOURCE,
        ),
    ]


def on_learning(ds: xr.Dataset) -> list[Verdict]:
    """Speed at equal and at best learning rates."""
    return [
        decide(
            f"{claim}, {when}",
            lead(ds, name, over, rates),
            "nats",
            f"Its mean loss over {ds.sizes['step']} steps at rate {rates[name]:g} is {{effect}} {{unit}} better than "
            f"the other's at {rates[over]:g} [{{low}}, {{high}}], {{seeds}} paired seeds.",
            SOURCE,
        )
        for name, over, claim in (
            ("shifted", "sigmoid", "The shifted sigmoid learns faster than the sigmoid"),
            ("shifted", "balanced", "The shifted sigmoid learns faster than one that starts as the same function"),
            ("scaled", "sigmoid", "tanh(x/2), the sigmoid made symmetric, learns faster than the sigmoid"),
            ("tanh", "sigmoid", "tanh learns faster than the sigmoid"),
        )
        for when, rates in comparisons(ds).items()
    ]


def answers(ds: xr.Dataset) -> list[Answer]:
    """Why should an activation be symmetric about the origin?"""
    top = ds.eigenvalue.isel(number=0).mean(("seed", "layer"))
    mean = float(ds["mean"].sel(activation="balanced").mean())
    worse = interval(decades_worse(ds, "balanced", "shifted"))
    leads = {
        over: {when: interval(lead(ds, "shifted", over, rates)) for when, rates in comparisons(ds).items()}
        for over in ("sigmoid", "balanced")
    }
    alone = {when: led[1] > 0 for when, led in leads["balanced"].items()}
    if ds.sizes["seed"] == 1:
        conclusion = "One seed cannot say whether the mean itself slows learning."
    elif worse[1] > 0 and all(alone.values()):
        conclusion = "So the mean itself slows learning."
    elif worse[1] > 0 and alone[BEST]:
        conclusion = "So the mean itself slows learning at the best learning rates, and not at a small one."
    else:
        conclusion = "So the worse conditioning is not seen to slow learning here."
    sigmoid, balanced = (
        " and ".join(f"{spelt(led)} nats lower, {when}" for when, led in led_over.items())
        for led_over in leads.values()
    )
    told = (
        f"A mean of {mean:.2f} that all units and examples share makes one steep direction: the largest eigenvalue of "
        f"E[h hᵀ] is {float(top.sel(activation='balanced')):.1f} (n m² = {units(ds) * mean**2:.1f}), without the mean "
        f"{float(top.sel(activation='shifted')):.1f}, and the condition number {spelt(tuple(10.0**x for x in worse))} "
        f"times as high. Over {ds.sizes['step']} steps the shifted sigmoid's mean loss is, against the sigmoid's, "
        f"{sigmoid}; against that of a sigmoid that starts as the same function, {balanced}. {conclusion}"
    )
    question = "Why should an activation be symmetric about the origin?"
    return [Answer(question, told, "learning", ds.sizes["seed"], SOURCE)]


def spelt(found: tuple[float, ...]) -> str:
    """A mean with its interval, for a sentence."""
    return "{:.3g} [{:.3g}, {:.3g}]".format(*found)


if __name__ == "__main__":
    sys.exit(_cli.main(sys.modules[__name__]))
