"""Do averaged networks classify better than one, and is dropout such an average? (notes §4.3.1 and the question in
§4.3)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.regularization import _overfit
from experiments.regularization._overfit import part
from fnn import instruments, lab, layers, models, optim, schedules, sweep, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import interval, middle, paired
from fnn.base.types import Key, Scalar
from fnn.lab import plotting
from fnn.lab.figures import caption
from fnn.nn.layers import Layer
from fnn.tasks import Label, Sample, Split, Trial
from fnn.train import State

HIDDEN = _overfit.HIDDEN
CLASSES = 10
FIVE = 5
"""The notes' example of an ensemble."""
SEVERAL = 2.0
"""Points of accuracy from which on a gain is "several percent"."""
ALIKE = 0.5
"""Points of accuracy within which two ways of inference are "about" equal."""
MEANS = {"arithmetic": "probabilities", "geometric": "logits"}
"""The means over networks, and the quantities that they average."""
RIDGE_RATIO, RIDGE_STEPS = 0.5, 1000
CORE_BATCH = 5
"""Networks that one core trains in one batch."""


RATIOS = (0.2, 0.5)
"""The notes' dropout ratios, to which the claims apply."""
OWN_IMAGES = 2**30
"""Folded into a seed's key to draw its images: larger than any index that is used to split the key."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the ensembles and of dropout; Adam with lr 0.001 trains all of them."""

    seeds: int = 20
    """Independent ensembles on few images, and networks with each dropout ratio; each seed draws its own images."""
    members: int = 10
    """Networks in an ensemble."""
    images: int = 300
    """The few training images of a seed."""
    steps: int = 120
    """Updates of a network in an ensemble on few images."""
    large_seeds: int = 10
    """Independent ensembles on all images; 0 for none."""
    large_steps: int = 400
    """Updates of a network in an ensemble on all images."""
    batch: int = 100
    """Examples per update, drawn with replacement."""
    ratios: tuple[float, ...] = RATIOS
    """Dropout ratios (the share that is dropped); the notes use 0.2 and name 0.5."""
    dropout_steps: int = 500
    """Updates of a network with dropout, which learns more slowly."""
    masks: int = 100
    """Masked networks that are averaged."""
    probe: int = 1000
    """Test images on which masked networks and factors are compared: the first ones."""
    factors: int = 25
    """Number of factors from 0 to 1.2 that are tried at inference; those of the ratios are added."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(members=2, large_seeds=0, images=1, steps=1, large_steps=1, batch=1)
        self.check_at_least(dropout_steps=1, masks=1, probe=1, factors=2)
        wrong = [ratio for ratio in self.ratios if not 0 < ratio < 1]
        require(not wrong, f"--ratios lie between 0 and 1, unlike {', '.join(map(str, wrong))}.")
        require(len(self.ratios) > 0, "--ratios takes at least one dropout ratio.")

    def tried(self) -> np.ndarray:
        """The factors tried at inference: a grid, and for every ratio p both p and 1 − p."""
        own = [factor for ratio in self.ratios for factor in (ratio, 1 - ratio)]
        return np.unique(np.round([*np.linspace(0, 1.2, self.factors), 1.0, *own], 6))


class Hyper(NamedTuple):
    """The hyperparameter of dropout: its ratio."""

    ratio: Scalar = 0.0


# Averages of distributions, their scores, and exact results.


def averages(log_p: Float[Array, "networks n classes"]) -> Float[Array, "2 networks n classes"]:
    """Log-probabilities of the first 1, 2, … networks' mean: arithmetic, and geometric (made to sum to 1).

    The geometric mean of softmax outputs is the softmax of the mean logits.
    """
    count = jnp.arange(1, len(log_p) + 1)[:, None, None]
    arithmetic = jax.lax.cumlogsumexp(log_p, 0) - jnp.log(count)
    return jnp.stack([arithmetic, jax.nn.log_softmax(jnp.cumsum(log_p, 0) / count)])


def scores(log_p: Float[Array, "*networks n classes"], y: Array) -> dict[str, Float[Array, "*networks"]]:
    """Accuracy, loss (nats) and Brier's squared error Σ_c (p_c − t_c)², means over the images; NaN for NaN outputs."""
    affected = jnp.isnan(log_p).any((-2, -1))
    target = jax.nn.one_hot(y, CLASSES)
    chosen = jnp.where(target > 0, log_p, 0).sum(-1)
    return {
        "accuracy": jnp.where(affected, jnp.nan, (log_p.argmax(-1) == y).mean(-1)),
        "loss": -chosen.mean(-1),
        "brier": jnp.square(jnp.exp(log_p) - target).sum(-1).mean(-1),
    }


def variation(log_p: Array, log_q: Array) -> Array:
    """The total variation ½ Σ |p − q| between outputs, mean over the images."""
    return jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)).sum(-1).mean(-1) / 2


def divergence(log_p: Array, log_q: Array) -> Array:
    """The Kullback-Leibler divergence Σ p log(p / q) in nats, mean over the images."""
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean(-1)


def brier_law(single: Any, last: Any, members: np.ndarray) -> Any:
    """Brier's error of N averaged networks from that of one and that of all, `members[-1]`.

    B(N) = B(∞) + (B(1) − B(∞)) / N, exactly for the mean over all choices of N networks: squared error is bias plus
    variance, and averaging divides the variance.
    """
    share = (1 / members - 1 / members[-1]) / (1 - 1 / members[-1])
    return last + (single - last) * share


def every_mask(n: int) -> np.ndarray:
    """All 2ⁿ masks of n units: `[2ⁿ, n]`, 1 where a unit is kept."""
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1


def one_layer(w: np.ndarray, b: np.ndarray, x: np.ndarray, ratio: float) -> dict[str, np.ndarray]:
    """Softmax of w x + b with inputs dropped: by scaling, and the means over all 2ⁿ masks, each as likely as it is.

    w `[classes, n]`, b `[classes]`, x `[examples, n]`; every result `[examples, classes]`.
    """
    masks = every_mask(x.shape[1])
    likely = np.prod(np.where(masks, 1 - ratio, ratio), 1)

    def log_softmax(z):
        return z - np.logaddexp.reduce(z, -1, keepdims=True)

    masked = log_softmax((masks[:, None] * x) @ w.T + b)
    return {
        "scaled": np.exp(log_softmax((1 - ratio) * x @ w.T + b)),
        "geometric": np.exp(log_softmax(np.tensordot(likely, masked, 1))),
        "arithmetic": np.tensordot(likely, np.exp(masked), 1),
    }


def ridge_loss(w: Any, x: Any, y: Any, ratio: float) -> Any:
    """‖y − (1 − p) X w‖² + p (1 − p) ‖Γ w‖², Γ² = diag(XᵀX): what dropping inputs with ratio p costs on average.

    Srivastava et al. 2014, §9.1, where p is the ratio kept, which leaves the product the same.
    """
    keep = 1 - ratio
    return ((y - keep * x @ w) ** 2).sum() + ratio * keep * ((x**2).sum(0) * w**2).sum()


def ridge(x: Any, y: Any, ratio: float) -> Any:
    """The weights that minimize `ridge_loss`."""
    keep = 1 - ratio
    gram = x.T @ x
    penalty = jnp.diag(ratio * keep * jnp.diagonal(gram))
    return jnp.linalg.solve(keep**2 * gram + penalty, keep * x.T @ y)


# The networks: all of a seed in one program.


def scaled(factor: Scalar) -> Layer:
    """The layer y = factor · x: the replacement of dropout at inference."""
    return layers.elementwise(lambda x: factor * x)


def multilayer(ratio: Scalar | None = None, drop=layers.dropout) -> Layer:
    """The network of the notes' §4: six hidden layers of 100, with dropout after each where a ratio is given."""
    return models.multilayer(HIDDEN, CLASSES, dropout_ratio=ratio, drop=drop)


def first(split: Split, n: int) -> Split:
    """The first n examples."""
    return Split(split.x[:n], split.y[:n])


def trained(cfg: Config, ratio: Scalar | None, steps: int, key: Key, images: Split) -> State:
    """A network after training."""
    rule = optim.rule("adam")
    run = train.training(tasks.classification(lambda ratio: multilayer(ratio), batch=cfg.batch), rule, steps)
    return train.train(run, steps, train.Hyper(rule.hyper, ratio), key, {"train": images})[0]


def log_probabilities(network: Layer, state: State, x: Array) -> Float[Array, "n classes"]:
    """The network's outputs at inference, a block of images at a time."""

    def one(image):
        logits, _ = network.apply(state.params, state.stats, tasks.rows(image[None]), None, False)
        return jax.nn.log_softmax(logits[0])

    return jax.lax.map(one, x, batch_size=1000)


def ensemble(cfg: Config, steps: int, images: Split, test: Split, key: Key) -> dict[str, Array]:
    """Members trained for this number of steps: scores `[2, members]` of their averages, and the mean score of one."""

    def member(key):
        return log_probabilities(multilayer(), trained(cfg, None, steps, key, images), test.x)

    log_p = jax.lax.map(member, jax.random.split(key, cfg.members), batch_size=CORE_BATCH)
    alone = {f"single_{name}": values.mean() for name, values in scores(log_p, test.y).items()}
    return scores(averages(log_p), test.y) | alone


def preactivations(outputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """The outputs of the affine layers that follow a dropout layer."""
    return outputs[3::3]


def masked(network: Layer, state: State, x: Array, key: Key) -> tuple[Array, ...]:
    """All layers' outputs of one masked network: the same units are missing for every example."""

    def one(row):
        outputs = instruments.activations(network, state.params, state.stats, row[None], key, True)
        return tuple(output[0] for output in outputs)

    return jax.vmap(one)(x)


def dropout(cfg: Config, ratio: Scalar, images: Split, test: Split, key: Key) -> dict[str, Array]:
    """A network trained with dropout: scaled inference, the mean of masked networks, and a sweep of the factor."""
    k_train, k_masks = jax.random.split(key)
    state = trained(cfg, ratio, cfg.dropout_steps, k_train, images)
    probe = first(test, cfg.probe)
    x = tasks.rows(probe.x)

    def add(total, key):
        outputs = masked(multilayer(ratio), state, x, key)
        return jax.tree.map(jnp.add, total, preactivations(outputs)), jax.nn.log_softmax(outputs[-1])

    nothing = tuple(jnp.zeros((len(x), width)) for width in (*HIDDEN[1:], CLASSES))
    total, log_masked = jax.lax.scan(add, nothing, jax.random.split(k_masks, cfg.masks))
    mean_input = jax.tree.map(lambda z: z / cfg.masks, total)
    log_mean = averages(log_masked)

    def at(factor):
        outputs = instruments.activations(multilayer(factor, scaled), state.params, state.stats, x)
        log_q = jax.nn.log_softmax(outputs[-1])
        off = [
            jnp.linalg.norm(z - m) / jnp.linalg.norm(m)
            for z, m in zip(preactivations(outputs), mean_input, strict=True)
        ]
        return log_q, {"error": jnp.stack(off), "variation": variation(log_q, log_mean[0, -1])} | scores(log_q, probe.y)

    log_scaled, here = at(1 - ratio)
    swept = jax.lax.map(lambda factor: at(factor)[1], jnp.asarray(cfg.tried(), jnp.float32))
    whole = scores(log_probabilities(multilayer(ratio), state, test.x), test.y)
    return {
        "masked_accuracy": scores(log_mean, probe.y)["accuracy"],
        "masked_variation": variation(log_scaled, log_mean),
        "masked_divergence": divergence(log_scaled, log_mean),
        "submodel_accuracy": scores(log_masked, probe.y)["accuracy"].mean(),
        "scaled_accuracy": here["accuracy"],
        "dropout_accuracy": whole["accuracy"],
    } | {f"factor_{name}": values for name, values in swept.items()}


def dropped_regression(key: Key) -> dict[str, Array]:
    """Least squares with half of the inputs dropped: the distances of SGD's weights from ridge regression and from no
    penalty."""
    k_x, k_w, k_y, k_run = jax.random.split(key, 4)
    x = jax.random.normal(k_x, (40, 10)) * jnp.linspace(0.5, 2, 10)  # columns of different size: Γ is not the identity
    y = x @ jax.random.normal(k_w, (10,)) + jax.random.normal(k_y, (40,))
    drop = layers.dropout(RIDGE_RATIO)
    ends = {"ridge": ridge(x, y, RIDGE_RATIO), "no_penalty": ridge(x, y, 0.0) / (1 - RIDGE_RATIO)}

    def loss(hp, w, stats, batch, key, train):
        return jnp.square(y - drop.apply((), (), x, key, train)[0] @ w).mean(), stats

    def distances(moment):
        return {f"to_{name}": jnp.linalg.norm(moment.after - w) / jnp.linalg.norm(w) for name, w in ends.items()}

    nothing = lambda *everything: ()
    task = tasks.Task(lambda hp, key, data: (jnp.zeros(10), ()), nothing, nothing, loss, lambda *everything: {})
    rule = optim.rule("sgd")
    decay = schedules.on("rule.lr", schedules.polynomial())
    run = train.training(task, rule, RIDGE_STEPS, schedule=decay, observe=distances)
    hyper = train.Hyper(rule.hyper._replace(lr=0.03))
    record = train.train(run, RIDGE_STEPS, hyper, k_run, ())[1]
    return {name: record[name] for name in ("to_ridge", "to_no_penalty")}


# The trials, one for each part.

SCORES = {
    "accuracy": Label("test accuracy", "1"),
    "loss": Label("test loss", "nats"),
    "brier": Label("Brier error on the test set", "1"),
}


def keys(key: Key) -> tuple[Key, Key, Key, Key]:
    """The keys of a seed: for its images, its ensemble, its networks with dropout and its regression."""
    return jax.random.fold_in(key, OWN_IMAGES), *jax.random.split(key, 3)


def ensembles_of(cfg: Config, steps: int, few: bool) -> Trial:
    """Ensembles on each seed's few images, or on all images."""

    def measure(hp, key, data):
        k_images, k_ensemble, *_ = keys(key)
        train_set = Sample(cfg.images)(k_images, data)["train"] if few else data["train"]
        return ensemble(cfg, steps, train_set, data["test"], k_ensemble if few else key)

    labels = {name: one._replace(dims=("average", "members")) for name, one in SCORES.items()}
    alone = {f"single_{name}": one for name, one in SCORES.items()}
    return Trial(
        measure, labels=labels | alone, coords={"average": list(MEANS), "members": np.arange(1, cfg.members + 1)}
    )


def dropouts(cfg: Config) -> Trial:
    """Networks with dropout on each seed's few images."""

    def measure(hp, key, data):
        k_images, _, k_dropout, _ = keys(key)
        train_set = Sample(cfg.images)(k_images, data)["train"]
        return dropout(cfg, hp.ratio, train_set, data["test"], k_dropout)

    by_masks, by_factor = ("average", "masks"), ("factor",)
    distances = {"variation": Label("total variation", "1"), "divergence": Label("Kullback-Leibler divergence", "nats")}
    masked = {"accuracy": SCORES["accuracy"], **distances}
    swept = {**SCORES, "variation": distances["variation"]}
    labels = {f"masked_{name}": one._replace(dims=by_masks) for name, one in masked.items()}
    labels |= {f"factor_{name}": one._replace(dims=by_factor) for name, one in swept.items()}
    labels |= {f"{name}_accuracy": SCORES["accuracy"] for name in ("submodel", "scaled", "dropout")}
    labels["factor_error"] = Label("relative error of the pre-activations", "1", ("factor", "layer"))
    coords = {
        "average": list(MEANS),
        "masks": np.arange(1, cfg.masks + 1),
        "factor": cfg.tried(),
        "layer": np.arange(2, len(HIDDEN) + 2),
    }
    return Trial(measure, hyper=Hyper(), labels=labels, coords=coords)


def regressions() -> Trial:
    """Least squares with dropped inputs, on each seed's data."""
    distance = Label("relative distance of the weights", "1", ("updates",))
    return Trial(
        lambda hp, key, data: dropped_regression(keys(key)[-1]),
        labels={"to_ridge": distance, "to_no_penalty": distance},
        coords={"updates": np.arange(1, RIDGE_STEPS + 1)},
    )


def run(cfg: Config) -> xr.Dataset:
    """Scores of ensembles and of dropout on few images, of dropped regression, and of ensembles on all images."""
    images = cfg.load(images=cfg.images)
    n, most = len(images.x_train), len(images.x_test)
    require(cfg.probe <= most, f"--probe is at most the {most:,} test images of {images.name}, not {cfg.probe:,}.")
    about = {"dataset": images.name, "checksum": images.checksum, "source": images.source, "batch": cfg.batch}

    def measured(part: str, trial: Trial, seeds: int, **over: Sequence[float]) -> xr.Dataset:
        data = () if part == "regression" else tasks.splits(images)
        trial = trial._replace(data=data, about=about)
        return sweep(trial, over=over, seeds=seeds, keep=cfg.keep(part), progress=True)

    ds = measured("ensembles", ensembles_of(cfg, cfg.steps, few=True), cfg.seeds)
    ds = ds.merge(measured("dropout", dropouts(cfg), cfg.seeds, ratio=cfg.ratios))
    ds = ds.merge(measured("regression", regressions(), cfg.seeds))
    if cfg.large_seeds:
        large = measured("large", ensembles_of(cfg, cfg.large_steps, few=False), cfg.large_seeds)
        ds = ds.merge(large.rename({name: f"large_{name}" for name in (*large.data_vars, "seed")}))
    settings = {name: getattr(cfg, name) for name in ("images", "steps", "large_steps", "dropout_steps", "probe")}
    return ds.assign_attrs(settings, all_images=n, averaged=min(FIVE, cfg.members))


def committees(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """The scores of the ensembles, dims seed, average and members: on few images, and on all if they were trained."""
    found = {f"{ds.images:,} training images": ds}
    if "large_accuracy" in ds:
        found[f"{ds.all_images:,} training images"] = part(ds, "large")
    return found


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure of networks."""
    affected = int(np.isnan(ds.accuracy[..., -1]).any("average").sum())
    more = (
        [f"{affected} ensemble{'s' * (affected > 1)} with a diverged network, the worst in medians and ranks"]
        if affected
        else []
    )
    return caption(ds, *details, *more, paired=False)


def about_ensembles(ds: xr.Dataset) -> str:
    """The caption of the figures about ensembles."""
    large = f" ({ds.sizes['large_seed']} with all images)" if "large_seed" in ds.sizes else ""
    updates = f"{ds.steps} updates" + (f" ({ds.large_steps} with all images)" if large else "")
    return f"{about(ds, updates)}{large}; mean with its 95 % interval over independent ensembles"


def about_dropout(ds: xr.Dataset) -> str:
    """The caption of the figures about dropout."""
    learned = f"{ds.images:,} training images, {ds.dropout_steps} updates"
    return f"{about(ds, learned, f'first {ds.probe:,} test images')}; mean with its 95 % interval"


def ensembles(ds: xr.Dataset) -> Figure:
    """Test accuracy against the number of averaged networks."""
    found = committees(ds)
    fig = plotting.figure(5.2 * len(found), 4.4)
    drawn = _overfit.panels(fig, *((name, "networks averaged", "test accuracy (%)") for name in found))
    for ax, one in zip(drawn, found.values(), strict=True):
        named = ax is drawn[0]
        for number, (average, what) in enumerate(MEANS.items()):
            values = 100 * one.accuracy.sel(average=average).values
            label = f"mean of {what}" if named else ""
            plotting.curve(ax, ds.members.values, values, label, number, markers=1, worst=-math.inf)
        alone = 100 * middle(one.single_accuracy.values, worst=-math.inf)
        ax.axhline(alone, color="0.4", linestyle="--", linewidth=1, label="one network" if named else "")
        ax.set_xticks(ds.members.values)
    plotting.legend(fig)
    plotting.caption(fig, about_ensembles(ds))
    return fig


def brier(ds: xr.Dataset) -> Figure:
    """Brier's error against the number of networks, with its exact law."""
    fig = plotting.figure()
    ax = plotting.axes(
        fig, "Squared error of averaged probabilities", "networks averaged", "Brier error on the test set"
    )
    members = ds.members.values
    for number, (name, one) in enumerate(committees(ds).items()):
        values = one.brier.sel(average="arithmetic")
        plotting.curve(ax, members, values.values, name, number, markers=1)
        law = brier_law(float(one.single_brier.mean()), float(values[:, -1].mean()), members)
        ax.plot(members, law, "--", color="0.25", linewidth=1, label="" if number else "B(∞) + (B(1) − B(∞)) / N")
    ax.set(ylim=(0, None), xticks=members)
    plotting.legend(fig, 3)
    plotting.caption(fig, f"{about_ensembles(ds)}; the law is drawn through one network and {members[-1]}")
    return fig


def masked_networks(ds: xr.Dataset) -> Figure:
    """Scaled inference compared with the mean of an increasing number of masked networks: accuracy and outputs."""
    fig = plotting.figure(10.0, 4.8)
    x = "masked networks averaged"
    left, right = _overfit.panels(
        fig,
        ("Accuracy: their mean minus scaled inference", x, "difference (points)"),
        ("Outputs: their mean against scaled inference", x, "total variation"),
    )
    left.axhspan(-ALIKE, ALIKE, color="0.9", zorder=0)
    for i, ratio in enumerate(ds.ratio.values):
        for j, average in enumerate(MEANS):
            one, number = ds.sel(ratio=ratio, average=average), 2 * i + j
            ahead = 100 * (one.masked_accuracy - one.scaled_accuracy).values
            label = f"{average} mean, ratio {ratio:g}"
            plotting.curve(left, ds.masks.values, ahead, label, number, worst=-math.inf)
            plotting.curve(right, ds.masks.values, one.masked_variation.values, "", number)
    left.set(xscale="log")
    right.set(xscale="log", yscale="log", ylim=(float(ds.masked_variation.mean("seed").min()) / 2, None))
    plotting.legend(fig)
    plotting.caption(fig, f"{about_dropout(ds)}; gray: within {ALIKE:g} points")
    return fig


def factors(ds: xr.Dataset) -> Figure:
    """The effect of the factor at inference on the next layers' inputs, on the outputs and on the loss."""
    fig = plotting.figure(12.5, 4.8)
    x = "factor at inference"
    drawn = _overfit.panels(
        fig,
        ("Pre-activations off their mean over masks", x, "relative error"),
        (f"Outputs off the mean of {ds.sizes['masks']} masked networks", x, "total variation"),
        ("Test loss", x, "loss (nats)"),
    )
    near, far = int(ds.layer[0]), int(ds.layer[-1])
    for i, ratio in enumerate(ds.ratio.values):
        one, color = ds.sel(ratio=ratio), plotting.color(2 * i)
        off = one.factor_error.transpose("seed", ...)
        name = f"ratio {ratio:g}"
        plotting.curve(drawn[0], ds.factor.values, off.sel(layer=near).values, f"{name} (left: layer {near})", 2 * i)
        plotting.curve(drawn[0], ds.factor.values, off.sel(layer=far).values, f"{name}, logits", 2 * i + 1)
        plotting.curve(drawn[1], ds.factor.values, one.factor_variation.values, "", 2 * i)
        plotting.curve(drawn[2], ds.factor.values, one.factor_loss.values, "", 2 * i)
        for ax in drawn:
            ax.axvline(1 - ratio, color=color, linewidth=0.9)
            if ratio != 1 - ratio:
                ax.axvline(ratio, color=color, linewidth=0.9, linestyle=":")
    drawn[0].set(ylim=(0, 1.5))
    drawn[1].set(ylim=(0, None))
    drawn[2].set(yscale="log", ylim=(float(ds.factor_loss.mean("seed").min()) / 2, None))
    plotting.legend(fig)
    plotting.caption(fig, f"{about_dropout(ds)}; vertical lines: the ratio kept (solid) and the ratio deleted (dotted)")
    return fig


def example() -> dict[str, np.ndarray]:
    """`one_layer` for random weights and inputs."""
    rng = np.random.default_rng(0)
    return one_layer(rng.normal(size=(CLASSES, 10)), rng.normal(size=CLASSES), rng.normal(size=(40, 10)), 0.5)


def exact_results(ds: xr.Dataset) -> Figure:
    """The two cases in which dropout can be computed: softmax of one layer, and linear regression."""
    fig = plotting.figure(10.0, 4.8)
    left, right = _overfit.panels(
        fig,
        ("One layer, 2¹⁰ masks: means against scaling", "probability by scaling", "probability by averaging"),
        ("Linear regression with half of the inputs dropped", "updates", "relative distance of the weights"),
    )
    exact = example()
    for number, average in enumerate(MEANS):
        color, label = plotting.color(number), f"{average} mean"
        left.scatter(exact["scaled"], exact[average], s=9, color=color, label=label, linewidths=0)
    left.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    plotting.curve(right, ds.updates.values, ds.to_ridge.values, "to ridge regression", 2)
    plotting.curve(right, ds.updates.values, ds.to_no_penalty.values, "to no penalty", 3)
    right.set(yscale="log", ylim=(float(ds.to_ridge.mean("seed").min()) / 2, 1.5))
    plotting.legend(fig)
    plotting.caption(
        fig,
        "Left: random weights and inputs, all masks, float64. Right: SGD with lr falling to 0; "
        f"{ds.sizes['seed']} seeds, each with its data, mean with its 95 % interval",
    )
    return fig


# Claims.


def gain(one: xr.Dataset, members: int) -> xr.DataArray:
    """Points of accuracy that the mean probabilities of `members` networks have over one network, one value per
    seed."""
    together = one.accuracy.sel(average="arithmetic", members=members, drop=True)
    return xr.apply_ufunc(paired, 100 * together, 100 * one.single_accuracy)


def ensembles_gain(large: bool) -> tuple[lab.Claim, lab.Claim]:
    """Claim 14 on few or on all images: several percent, and any gain."""
    of = lambda ds: part(ds, "large") if large else ds
    where = (lambda ds: "large_accuracy" in ds) if large else None
    on = f"({{{'all_images' if large else 'images'}:,}} training images)"

    def errors(ds):
        one = of(ds)
        share = float(gain(one, ds.averaged).mean() / (100 * (1 - one.single_accuracy)).mean())
        return f"That is {share:.0%} of one network's errors."

    effect = lambda ds: gain(of(ds), ds.averaged)
    return (
        lab.Claim(
            f"An ensemble of {{averaged}} networks gains several percent, at least {SEVERAL:g} points {on}",
            *(effect, lab.above(SEVERAL), "points", "claim 14", "ensemble"),
            detail=errors,
            where=where,
        ),
        lab.Claim(
            f"An ensemble of {{averaged}} networks is more accurate than one network {on}",
            *(effect, lab.above(0.0), "points", "claim 14", "ensemble"),
            where=where,
            secondary=True,
        ),
    )


def apart(ds: xr.Dataset, ratio: float) -> xr.DataArray:
    """By how many points the mean of all masked networks is more accurate than scaled inference."""
    one = ds.sel(ratio=ratio, drop=True)
    masked = one.masked_accuracy.isel(masks=-1, drop=True).sel(average="arithmetic", drop=True)
    return 100 * (masked - one.scaled_accuracy)


def nearer_geometric(ds: xr.Dataset, ratio: float) -> xr.DataArray:
    """By how much of total variation scaled inference is closer to the geometric than to the arithmetic mean."""
    variation = ds.masked_variation.sel(ratio=ratio, drop=True).isel(masks=-1, drop=True)
    return variation.sel(average="arithmetic", drop=True) - variation.sel(average="geometric", drop=True)


def dropout_ahead(ds: xr.Dataset, ratio: float) -> xr.DataArray:
    """By how many points one network trained with dropout is more accurate than one without."""
    return xr.apply_ufunc(paired, 100 * ds.dropout_accuracy.sel(ratio=ratio, drop=True), 100 * ds.single_accuracy)


def dropout_averages(ratio: float) -> list[lab.Claim]:
    """Claim 15 and the slip with this ratio."""
    present = lab.has("ratio", ratio)
    after = lambda ds: (
        f"It had {ds.dropout_steps} updates, and is {float(dropout_ahead(ds, ratio).mean()):+.2f} points ahead of one "
        "network without dropout."
    )
    claims = [
        lab.Claim(
            f"Scaled inference is as accurate as the mean of masked networks, within {ALIKE:g} points (ratio "
            f"{ratio:g})",
            lambda ds: apart(ds, ratio),
            *(lab.within(-ALIKE, ALIKE), "points", "claim 15", "masked_networks"),
            detail="The effect is the accuracy of their mean minus that of scaled inference.",
            where=present,
        ),
        lab.Claim(
            f"Scaled inference is closer to the geometric than to the arithmetic mean of them (ratio {ratio:g})",
            lambda ds: nearer_geometric(ds, ratio),
            *(lab.above(0.0), "of total variation", "claim 15", "masked_networks"),
            where=present,
            secondary=True,
        ),
        lab.Claim(
            f"One network trained with dropout is as accurate as an ensemble of {{averaged}} without, or falls short "
            f"by less than {ALIKE:g} points (ratio {ratio:g}, {{images:,}} training images)",
            lambda ds: dropout_ahead(ds, ratio) - gain(ds, ds.averaged),
            *(lab.above(-ALIKE), "points", "claim 15", "ensemble"),
            detail=after,
            where=present,
        ),
    ]
    if ratio != 1 - ratio:
        by_factor = lambda ds: ds.factor_loss.sel(ratio=ratio, drop=True)
        claims.append(
            lab.Claim(
                f"The factor at inference is the ratio kept ({1 - ratio:g}), not the ratio deleted ({ratio:g})",
                lambda ds: at_factor(by_factor(ds), ratio) - at_factor(by_factor(ds), 1 - ratio),
                *(lab.above(0.0), "nats", "slip §4.3", "factor"),
                detail="The effect is how much lower the test loss is.",
                where=present,
            )
        )
    return claims


CLAIMS = (
    *ensembles_gain(large=False),
    *ensembles_gain(large=True),
    *(claim for ratio in RATIOS for claim in dropout_averages(ratio)),
    lab.Claim(
        "Linear regression with dropped inputs leads to ridge regression",
        lambda ds: (ds.to_no_penalty - ds.to_ridge).isel(updates=-1, drop=True),
        *(lab.above(0.0), "of their norm", "claim 15", "exact"),
        detail=lambda ds: (
            f"After {ds.sizes['updates']} updates the weights are {float(ds.to_ridge[..., -1].mean()):.2g} of their "
            "norm from ridge regression; the effect is how much farther they are from the solution without a penalty."
        ),
        secondary=True,
    ),
)


def at_factor(values: xr.DataArray, factor: float) -> xr.DataArray:
    """The values at a factor, which is one of those tried."""
    return values.sel(factor=factor, method="nearest", drop=True)


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The answers to why outputs are scaled by the ratio kept, and how one network can give the average of many."""
    # At a ratio of one half the two factors are equal.
    ratio = next((float(ratio) for ratio in ds.ratio.values if ratio != 1 - ratio), float(ds.ratio[0]))
    return [why_scale(ds, ratio), how_it_averages(ds, ratio)]


def closest_at(distance: xr.DataArray) -> str:
    """The phrase on the factor with the least distance, over the seeds whose distances are all finite."""
    found = distance.dropna("seed")
    best, low, high = interval(found.idxmin("factor").values)
    n, every = found.sizes["seed"], distance.sizes["seed"]
    return f"at the factor {best:.2f} [{low:.2f}, {high:.2f}]" + (f" (in {n} of {every} networks)" if n < every else "")


def why_scale(ds: xr.Dataset, ratio: float) -> lab.Answer:
    """The answer to the question of §4.3, from the sweep of the factor."""
    one, keep, near = ds.sel(ratio=ratio), 1 - ratio, int(ds.layer[0])
    candidates = {"the ratio kept": keep, "no scaling": 1.0, "the ratio deleted": ratio}

    def mean(values):
        return {name: float(at_factor(values, factor).mean("seed")) for name, factor in candidates.items()}

    inputs, outputs = mean(one.factor_error.isel(layer=0)), mean(one.factor_variation)
    loss, accuracy = mean(one.factor_loss), mean(one.factor_accuracy)
    off = ", ".join(f"{inputs[name]:.0%} with {name} ({factor:g})" for name, factor in candidates.items())
    closest = min(outputs, key=outputs.__getitem__)
    scores = ", ".join(f"{loss[name]:.2f} nats ({accuracy[name]:.1%} accuracy) with {name}" for name in candidates)
    return lab.Answer(
        "Why is a unit's output scaled by the keep ratio at test time?",
        f"In training a unit reaches the next layer in {keep:.0%} of the passes (ratio {ratio:g}), so that layer "
        f"learns from {keep:.0%} of the full input on average. At inference layer {near}'s is off it by {off}. "
        f"The logits are closest to their mean over {ds.sizes['masks']} masks "
        f"{closest_at(one.factor_error.isel(layer=-1))}, the probabilities {closest_at(one.factor_variation)} and, of "
        f"these three, with {closest}. The test loss is {scores}.",
        "factor",
        ds.sizes["seed"],
        "question §4.3",
    )


def how_it_averages(ds: xr.Dataset, ratio: float) -> lab.Answer:
    """The answer to what §4.3.1 leaves open, from the exact and the measured case."""
    exact, last = example(), ds.sel(ratio=ratio).isel(masks=-1)
    off = {average: abs(exact[average] - exact["scaled"]).max() for average in MEANS}
    variation = {average: float(last.masked_variation.sel(average=average).mean()) for average in MEANS}
    ahead = float(apart(ds, ratio).mean())
    return lab.Answer(
        "How can one scaled network give the average of many masked ones?",
        "For one linear layer and softmax it gives their geometric mean, as logits average linearly: over all 2¹⁰ "
        f"masks the two differ by at most {off['geometric']:.0e}, the arithmetic mean by {off['arithmetic']:.2f}. "
        f"Through {len(HIDDEN)} ReLU layers, with ratio {ratio:g}, scaling differs from the geometric mean of "
        f"{ds.sizes['masks']} masked networks by a total variation of {variation['geometric']:.3f} and from the "
        f"arithmetic mean by {variation['arithmetic']:.3f}; the latter is {ahead:+.2f} points ahead in accuracy.",
        "masked_networks",
        ds.sizes["seed"],
        "question §4.3.1",
    )


def percent(values: xr.DataArray) -> float:
    """The mean over the seeds in percent, as it is printed."""
    return round(100 * float(values.mean()), 2)


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """Mean accuracies in percent: of the ensembles by their images, of dropout by its ratio."""

    def ensemble_row(name, one):
        sizes = sorted({min(FIVE, one.sizes["members"]), one.sizes["members"]})
        averaged = {
            f"{n} by {what}": percent(one.accuracy.sel(average=average, members=n))
            for n in sizes
            for average, what in MEANS.items()
        }
        return {"ensembles on": name, "one network": percent(one.single_accuracy), **averaged}

    def dropout_row(ratio, one):
        masked = {f"{average} mean": percent(one.masked_accuracy.sel(average=average)) for average in MEANS}
        apart = float(one.masked_divergence.sel(average="arithmetic").mean())
        return {
            "dropout ratio": float(ratio),
            "one masked network": percent(one.submodel_accuracy),
            **masked,
            "scaled inference": percent(one.scaled_accuracy),
            "KL(scaled ‖ arithmetic mean) in nats": round(apart, 4),
        }

    last = ds.isel(masks=-1)
    return {
        "ensembles": [ensemble_row(name, one) for name, one in committees(ds).items()],
        "dropout": [dropout_row(ratio, last.sel(ratio=ratio)) for ratio in ds.ratio.values],
    }


def summary(ds: xr.Dataset) -> str:
    """The tables, one row per line."""
    rows = [row for table in tables(ds).values() for row in table]
    return "\n".join("; ".join(f"{name}: {value}" for name, value in row.items()) for row in rows)


EXPERIMENT = lab.Experiment(
    question="Do averaged networks classify better than one, and is dropout such an average?",
    source="notes §4.3.1 and the question in §4.3",
    says="An ensemble of, say, 5 networks gains several percent of accuracy; dropout with scaled outputs imitates an "
    "ensemble by one network. A slip is corrected: the notes' text scales by the ratio that is *deleted*; the factor "
    "is the ratio that is *kept*, as in the notes' listing.",
    method="Ensembles: networks are trained each from its own weights and minibatches, on 300 training images that a "
    "seed draws (the notes' setting for overfitting, §4, uses the first 300) and on all of them, and the outputs of "
    "the first 1, 2, … 10 are averaged: probabilities (the arithmetic mean) or logits (the geometric mean). Dropout: "
    "networks are trained with it on the seed's 300 images, and inference by scaling is compared with the mean of 100 "
    "masked networks, each of them one mask for all test images; then the factor that scales the hidden layers' "
    "outputs is varied from 0 to 1.2. Measured are test accuracy, test loss and distances between outputs. Two exact "
    "results complete it. For one linear layer and softmax, scaling *is* the geometric mean of all masked networks "
    "(Hinton et al. 2012, arXiv:1207.0580, §2; Goodfellow et al. 2016, §7.12). Linear regression with dropped inputs "
    "*is* ridge regression (Srivastava et al. 2014, §9.1).",
    takes="about two minutes on two cores",
    config=Config,
    quick={
        "seeds": 2,
        "members": 5,
        "steps": 60,
        "large_seeds": 0,
        "dropout_steps": 100,
        "masks": 20,
        "probe": 500,
        "factors": 9,
        "dataset": "mnist_5k",
    },
    run=run,
    claims=CLAIMS,
    figures={
        "ensemble": ensembles,
        "ensemble_brier": brier,
        "masked_networks": masked_networks,
        "factor": factors,
        "exact": exact_results,
    },
    answers=answers,
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
