"""Do hyperparameters overfit the validation data? (notes §5.1)"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.hyperparameters import _search
from fnn import lab, models, optim, sweep, tasks, train
from fnn.base.errors import require
from fnn.base.statistics import interval
from fnn.base.types import Key
from fnn.data import DataSet
from fnn.lab import plotting, titles
from fnn.lab.figures import caption
from fnn.tasks import Label, Split, Trial

TRAINING = _search.IMAGES - _search.VALIDATION
NETWORK = models.multilayer(_search.HIDDEN, 10)
EQUAL = _search.Setting(lr=1e-2, l2=1e-6)
"""The setting of the equal trials, one of the best of the space."""
BLOCK = 50
"""Validation images whose accuracy is recorded together: validation sets of any multiple are composed of them."""
KINDS = "The notes' search", "Equal trials: only seeds differ"
FAR = 1000
"""Theory is drawn up to this number of trials."""


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the search."""

    seeds: int = 30
    """Independent repetitions, each with its images and its trials."""
    trials: int = 60
    """Random trials per seed; 1000 show the whole range and take ten times as long and more."""
    equals: int = 30
    """Trials per seed that differ in nothing but weights and minibatches."""
    epochs: int = 10
    """Epochs of a trial, of 4 updates each."""
    optimizer: str = "momentum"
    """The update rule; the notes use sgd and 50 epochs."""
    sizes: tuple[int, ...] = (50, 100, 400, 1000)
    """Sizes of the validation set, multiples of 50."""
    test: int = 1000
    """Fresh test images per seed; an even number."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(trials=2, equals=2, epochs=1, test=2)
        require(self.test % 2 == 0, f"--test is an even number, not {self.test}.")
        require("lr" in optim.rule(self.optimizer).hyper._fields, f"--optimizer {self.optimizer} has no lr to search.")
        require(len(self.sizes) > 0, "--sizes takes at least one size of the validation set.")
        wrong = [size for size in self.sizes if size < BLOCK or size % BLOCK]
        require(not wrong, f"--sizes are multiples of {BLOCK}, not {', '.join(map(str, wrong))}.")


# The best of K, exactly and in theory.


def chances(trials: int, k: int) -> np.ndarray:
    """The probability that the r-th of T trials, in ascending order, is the best of k drawn from them: C(r − 1, k − 1)
    / C(T, k)."""
    from scipy.special import gammaln

    def log_choose(n, k):
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    below = np.arange(trials)
    enough = below >= k - 1
    return np.where(enough, np.exp(log_choose(np.maximum(below, k - 1), k - 1) - log_choose(trials, k)), 0)


def selected(validation: np.ndarray, test: np.ndarray, ks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(validation, test) accuracy `[K]` of the best on validation of k out of the `[T]` trials; ties are broken at
    random.

    Exactly the expectation over all choices of k trials.
    """
    _, level, alike = np.unique(validation, return_inverse=True, return_counts=True)
    fair = (np.bincount(level, test) / alike)[level]
    order, weights = np.argsort(validation), np.stack([chances(len(test), k) for k in ks])
    return weights @ validation[order], weights @ fair[order]


def largest_of(ks: np.ndarray) -> np.ndarray:
    """E[largest of k standard normals] = ∫₀^∞ 1 − Φ(x)^k − Φ(−x)^k dx for every k."""
    from scipy.integrate import quad
    from scipy.special import ndtr

    return np.array([quad(lambda x, k=k: 1 - ndtr(x) ** k - ndtr(-x) ** k, 0, np.inf, epsabs=1e-12)[0] for k in ks])


def spreads(halves: np.ndarray, images: int) -> tuple[float, float]:
    """(variance of the noise for one image, variance τ² of the true accuracies), from test accuracies `[S, T, 2]`.

    Two halves of the test images, `images` each, share the true accuracy and not the noise. The difficulty
    that images have for all trials counts as neither.
    """
    off = halves - halves.mean(1, keepdims=True)
    freedom = halves.shape[0] * (halves.shape[1] - 1)
    noise = images * ((off[..., 0] - off[..., 1]) ** 2).sum() / freedom / 2
    return float(noise), max(float((off[..., 0] * off[..., 1]).sum() / freedom), 0.0)


def optimism_of_equals(ks: np.ndarray, size: int, noise: float, true: float) -> np.ndarray:
    """E[validation − true accuracy] of the best of k trials whose accuracies vary normally: see the experiment."""
    variance = noise / size
    return variance / np.sqrt(variance + true) * largest_of(ks)


# The trials: all of a seed in one program.


def draw(key: Key, everything: Split, validation: int, test: int) -> dict[str, Split]:
    """A seed's training, validation and test images."""
    order = jax.random.choice(key, len(everything.y), (TRAINING + validation + test,), replace=False)
    parts = jnp.split(order, (TRAINING, TRAINING + validation))
    return {
        name: Split(everything.x[part], everything.y[part])
        for name, part in zip(("train", "validation", "test"), parts, strict=True)
    }


def accuracies(state: train.State, split: Split, block: int) -> Float[Array, " blocks"]:
    """The accuracy on every `block` of the images."""
    logits, _ = NETWORK.apply(state.params, state.stats, tasks.rows(split.x), None, False)
    return (logits.argmax(-1) == split.y).reshape(-1, block).mean(-1)


def all_trials_of(cfg: Config) -> Trial:
    """The trial that trains all of a seed's random and equal ones; the latter's labels have the prefix `equal_`."""
    rule, steps = optim.rule(cfg.optimizer), cfg.epochs * TRAINING // _search.BATCH
    task = tasks.classification(lambda s: NETWORK, batch=_search.BATCH, weight_decay=lambda s: s.l2)
    run = train.training(task, rule, steps)

    def one(s, key, parts):
        hyper = train.Hyper(rule.hyper._replace(lr=s.lr), s)
        state, record = train.train(run, steps, hyper, key, {"train": parts["train"]})
        return {
            "validation": accuracies(state, parts["validation"], BLOCK),
            "test": accuracies(state, parts["test"], cfg.test // 2),
            "diverged": ~jnp.isfinite(record["loss"][-1]),
        }

    def measure(hp, key, data):
        k_settings, k_seed = jax.random.split(key)
        k_images, k_trials = jax.random.split(k_seed)
        parts = draw(k_images, data["all"], max(cfg.sizes), cfg.test)
        drawn = _search.settings_of(k_settings, cfg.trials)
        settings = jax.tree.map(lambda a, b: jnp.concatenate([a, jnp.full(cfg.equals, b)]), drawn, EQUAL)
        keys = jax.random.split(k_trials, len(settings.lr))
        found = jax.lax.map(
            lambda trial: one(trial[0], trial[1], parts), (settings, keys), batch_size=_search.CPU_BATCH
        )
        random = {name: values[: cfg.trials] for name, values in found.items()}
        return drawn._asdict() | random | {f"equal_{name}": a[cfg.trials :] for name, a in found.items()}

    what = {
        "validation": Label("validation accuracy", "1", ("block",)),
        "test": Label("test accuracy", "1", ("half",)),
        "diverged": Label("whether it diverged", "1"),
    }
    labels = {name: one._replace(dims=("trial", *one.dims)) for name, one in what.items()}
    labels |= {f"equal_{name}": one._replace(dims=("equal", *one.dims)) for name, one in what.items()}
    labels |= {"lr": Label("learning rate", "1", ("trial",)), "l2": Label("weight decay λ", "1", ("trial",))}
    return Trial(measure, labels=labels, coords={"trial": np.arange(cfg.trials), "equal": np.arange(cfg.equals)})


def pooled(images: DataSet) -> Split:
    """All images of the data set, training and test together."""
    parts = tasks.splits(images).values()
    joined: Any = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]  # NumPy arrays, typed as JAX's
    return Split(*joined)


def run(cfg: Config) -> xr.Dataset:
    """Accuracies of all trials of every seed."""
    images = cfg.load()
    everything = pooled(images)
    needed = TRAINING + max(cfg.sizes) + cfg.test
    require(
        needed <= len(everything.y),
        f"--sizes and --test need {needed:,} images per seed, and {images.name} has {len(everything.y):,}.",
    )
    about = {
        "dataset": images.name,
        "checksum": images.checksum,
        "source": images.source,
        "validation_sizes": sorted({*cfg.sizes}),
        "half_images": cfg.test // 2,
        "epochs": cfg.epochs,
        "optimizer": cfg.optimizer,
    }
    trial = all_trials_of(cfg)._replace(data={"all": everything}, about=about)
    return sweep(trial, seeds=cfg.seeds, keep=cfg.keep(), progress=True)


def sizes(ds: xr.Dataset) -> list[int]:
    """The sizes of the validation set, smallest first."""
    return [int(size) for size in np.atleast_1d(ds.validation_sizes)]


def notes_size(ds: xr.Dataset) -> int:
    """The notes' number of validation images, or the smallest here."""
    return _search.VALIDATION if _search.VALIDATION in sizes(ds) else sizes(ds)[0]


class Pool(NamedTuple):
    """A kind of trials.

    validation: accuracies `[S, T, blocks]`. test: accuracies `[S, T, 2]`.
    """

    validation: np.ndarray
    test: np.ndarray

    @property
    def ks(self) -> np.ndarray:
        """Numbers of trials, from 1 to all, evenly spaced on a log axis."""
        trials = self.test.shape[1]
        return np.unique(np.geomspace(1, trials, 25).round().astype(int))


def random_trials(ds: xr.Dataset) -> Pool:
    """The random trials of the search."""
    return Pool(ds.validation.values, ds.test.values)


def equal_trials(ds: xr.Dataset) -> Pool:
    """Trials of one setting."""
    return Pool(ds.equal_validation.values, ds.equal_test.values)


class Best(NamedTuple):
    """Validation and test accuracy, in percent, `[S, K]`, of the best of k trials, for every k of `ks`."""

    ks: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def optimism(self) -> np.ndarray:
        """Validation minus test accuracy, in points."""
        return self.validation - self.test

    def at(self, k: int) -> int:
        """The index of the largest of `ks` that does not exceed k."""
        return int(np.searchsorted(self.ks, k, "right")) - 1


def best(pool: Pool, size: int) -> Best:
    """The best by `size` validation images; the mean over all disjoint validation sets of that size."""
    each = size // BLOCK
    seeds, trials, blocks = pool.validation.shape
    sets = blocks // each
    validation = pool.validation[..., : sets * each].reshape(seeds, trials, sets, each).mean(-1)
    test = pool.test.mean(-1)
    found = np.array(
        [np.mean([selected(validation[s, :, i], test[s], pool.ks) for i in range(sets)], 0) for s in range(seeds)]
    )
    return Best(pool.ks, 100 * found[:, 0], 100 * found[:, 1])


def theory(ds: xr.Dataset) -> tuple[float, float]:
    """(noise variance for one image, variance of the true accuracies) among the equal trials."""
    return spreads(ds.equal_test.values, ds.half_images)


def about(ds: xr.Dataset, *details: str) -> str:
    """The caption of a figure."""
    bad = int(ds.diverged.sum() + ds.equal_diverged.sum())
    more = [f"{bad} diverged trial{'s' * (bad > 1)}, accurate by chance only"] if bad else []
    how = f"{TRAINING} training images, {ds.epochs} epochs of {titles.title(ds.optimizer)}"
    return caption(ds, how, *details, *more, paired=False)


def panels(figure: Figure, *names: str, y: str) -> list[Any]:
    """Axes side by side, against the number of trials."""
    drawn = figure.subplots(1, len(names))
    return [plotting.dress(ax, title=name, xlabel="trials", ylabel=y) for ax, name in zip(drawn, names, strict=True)]


def selected_trial(ds: xr.Dataset) -> Figure:
    """Validation and test accuracy of the best on validation against the number of trials."""
    fig = plotting.figure(10.5, 4.8)
    size, drawn = notes_size(ds), panels(fig, *KINDS, y="accuracy (%)")
    for ax, pool in zip(drawn, (random_trials(ds), equal_trials(ds)), strict=True):
        found, named = best(pool, size), ax is fig.axes[0]
        plotting.curve(ax, found.ks, found.validation, f"on {size:,} validation images" if named else "", 0)
        plotting.curve(ax, found.ks, found.test, f"on {2 * ds.half_images:,} test images" if named else "", 1)
        ax.set(xscale="log")
    plotting.legend(fig)
    plotting.caption(
        fig,
        f"{about(ds)}; the trial with the highest validation accuracy: mean with its 95 % interval over seeds, each "
        "with its images and trials",
    )
    return fig


def optimism(ds: xr.Dataset) -> Figure:
    """Validation minus test accuracy of the selected trial, for several validation sizes, and theory."""
    fig = plotting.figure(10.5, 5.0)
    left, right = panels(fig, *reversed(KINDS), y="validation minus test accuracy (points)")
    noise, true = theory(ds)
    far = np.unique(np.geomspace(1, FAR, 40).round().astype(int))
    for number, size in enumerate(sizes(ds)):
        name = f"{size:,} validation images"
        for ax, pool in ((left, equal_trials(ds)), (right, random_trials(ds))):
            found = best(pool, size)
            plotting.curve(ax, found.ks, found.optimism, name if ax is left else "", number)
        color = plotting.color(number)
        left.plot(far, 100 * optimism_of_equals(far, size, noise, true), "--", color=color, linewidth=1)
        right.plot(far, 100 * optimism_of_equals(far, size, noise, 0.0), ":", color=color, linewidth=1)
    for ax in (left, right):
        ax.axhline(0, color="0.5", linewidth=0.8)
        ax.set(xscale="log")
    right.sharey(left)
    plotting.legend(fig)
    plotting.caption(
        fig,
        f"{about(ds)}; mean with its 95 % interval. Dashed: theory for equal trials, its two variances measured on the "
        "test images; dotted: its upper limit, all true accuracies the same",
    )
    return fig


def all_trials(ds: xr.Dataset) -> Figure:
    """Every trial of one seed, validation against test accuracy."""
    fig = plotting.figure(6.4, 5.4)
    ax = plotting.axes(fig, "All trials of the first seed", "test accuracy (%)", "validation accuracy (%)")
    blocks = notes_size(ds) // BLOCK
    for number, (pool, name) in enumerate(((random_trials(ds), "random trials"), (equal_trials(ds), "equal trials"))):
        test, validation = 100 * pool.test[0].mean(-1), 100 * pool.validation[0, :, :blocks].mean(-1)
        color, top = plotting.color(number), validation.argmax()
        ax.scatter(test, validation, s=14, marker=plotting.MARKERS[number], color=color, linewidths=0.9, label=name)
        ax.scatter(test[top], validation[top], s=130, facecolors="none", edgecolors=color, linewidths=1.2)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    plotting.legend(fig)
    plotting.caption(
        fig,
        f"{about(ds)}; {notes_size(ds)} validation images; a ring around the highest validation accuracy of each kind",
    )
    return fig


# Claims: of the best of all trials.


def per_seed(values: np.ndarray) -> xr.DataArray:
    """The effect of `values`, one per seed."""
    return xr.DataArray(values, dims="seed")


def searched(ds: xr.Dataset) -> Best:
    """The best of the random trials by the notes' number of validation images."""
    return best(random_trials(ds), notes_size(ds))


def later(ds: xr.Dataset) -> tuple[int, str]:
    """The index of a tenth of all trials, and a phrase like "from 6 to 60 trials"."""
    found = searched(ds)
    then = found.at(found.ks[-1] // 10)
    return then, f"from {found.ks[then]} to {found.ks[-1]} trials"


def grows(ds: xr.Dataset, what: str) -> xr.DataArray:
    """The best's test accuracy or optimism with all trials minus that with a tenth, in points."""
    values = getattr(searched(ds), what)
    return per_seed(values[:, -1] - values[:, later(ds)[0]])


def shrinks(ds: xr.Dataset) -> xr.DataArray:
    """The smallest validation set's optimism minus the largest's, in points."""
    small, large = (best(random_trials(ds), size).optimism[:, -1] for size in (sizes(ds)[0], sizes(ds)[-1]))
    return per_seed(small - large)


def total_rise(ds: xr.Dataset) -> str:
    """The sentence on the rise of the test accuracy."""
    found = searched(ds)
    in_all = (found.test[:, -1] - found.test[:, 0]).mean()
    return f"It is of the rise {later(ds)[1]}; from 1 trial on it is {in_all:+.1f}."


SHARED = ("points", "question §5.1")
CLAIMS = (
    lab.Claim(
        "The selected trial's validation accuracy exceeds its test accuracy",
        lambda ds: per_seed(searched(ds).optimism[:, -1]),
        *(lab.above(0.0), *SHARED, "optimism"),
        detail=lambda ds: f"It is the best of {searched(ds).ks[-1]} trials on {notes_size(ds)} validation images.",
    ),
    lab.Claim(
        "This optimism grows with the number of trials",
        lambda ds: grows(ds, "optimism"),
        *(lab.above(0.0), *SHARED, "optimism"),
        detail=lambda ds: f"It is of the growth {later(ds)[1]}.",
        secondary=True,
    ),
    lab.Claim(
        "Among trials that differ by their seeds only, the selected one's validation accuracy is optimistic",
        lambda ds: per_seed(best(equal_trials(ds), notes_size(ds)).optimism[:, -1]),
        *(lab.above(0.0), *SHARED, "optimism"),
        detail=lambda ds: (
            f"It is the best of {ds.sizes['equal']} on {notes_size(ds)} validation images; theory predicts "
            f"{predicted(ds, notes_size(ds)):+.2f}."
        ),
        secondary=True,
    ),
    lab.Claim(
        "The selected trial's test accuracy still rises with the number of trials",
        lambda ds: grows(ds, "test"),
        *(lab.above(0.0), *SHARED, "selected"),
        detail=total_rise,
        secondary=True,
    ),
    lab.Claim(
        "A larger validation set shrinks the optimism",
        shrinks,
        *(lab.above(0.0), *SHARED, "optimism"),
        detail=lambda ds: f"It shrinks from {sizes(ds)[0]:,} to {sizes(ds)[-1]:,} images.",
        where=lambda ds: len(sizes(ds)) > 1,
        secondary=True,
    ),
)


def predicted(ds: xr.Dataset, size: int) -> float:
    """The optimism in points that theory predicts for the best of all equal trials."""
    return 100 * float(optimism_of_equals(np.array([ds.sizes["equal"]]), size, *theory(ds))[0])


def answers(ds: xr.Dataset) -> list[lab.Answer]:
    """The answer to the question of §5.1, from the selected trial's validation and test accuracy."""
    few, largest = notes_size(ds), sizes(ds)[-1]
    found, wide, equal = best(random_trials(ds), few), best(random_trials(ds), largest), best(equal_trials(ds), few)
    trials, promised, kept = found.ks[-1], found.validation[:, -1].mean(), found.test[:, -1].mean()
    mean, low, high = interval(found.optimism[:, -1])
    chance, least, _ = interval(equal.optimism[:, -1])
    _, rises, _ = interval(found.test[:, -1] - found.test[:, 0])
    head = "Yes" if low > 0 else "Not here" if high < 0 else "These seeds do not decide"
    luck = ": the best is in part lucky" if least > 0 else ""
    tail = ": the search helps, but its best score is not an estimate of accuracy" if low > 0 and rises > 0 else ""
    sentences = [
        f"{head}: the best of {trials} trials on {few} validation images scores {promised:.1f} % on them and "
        f"{kept:.1f} % on fresh images, a difference of {mean:+.1f} points [{low:+.1f}, {high:+.1f}]; with {largest:,} "
        f"validation images it is {wide.optimism[:, -1].mean():+.1f}.",
        f"{equal.ks[-1]} trials of one setting, where there is nothing to tune, give {chance:+.1f} (theory: "
        f"{predicted(ds, few):+.1f}){luck}.",
        f"On fresh images the selected trial goes from {found.test[:, 0].mean():.1f} % with 1 trial to {kept:.1f} % "
        f"with {trials}{tail}.",
    ]
    return [
        lab.Answer(
            "Do hyperparameters overfit the validation data?",
            " ".join(sentences),
            "optimism",
            ds.sizes["seed"],
            "question §5.1",
        )
    ]


def tables(ds: xr.Dataset) -> dict[str, list[dict[str, Any]]]:
    """The selected trial by validation size, means over the seeds."""
    rows = []
    for size in sizes(ds):
        for name, pool in (("random", random_trials(ds)), ("equal", equal_trials(ds))):
            found = best(pool, size)
            rows.append(
                {
                    "validation images": size,
                    "trials": f"{found.ks[-1]} {name}",
                    "validation (%)": round(float(found.validation[:, -1].mean()), 2),
                    "test (%)": round(float(found.test[:, -1].mean()), 2),
                    "optimism (points)": round(float(found.optimism[:, -1].mean()), 2),
                }
            )
    return {"selected": rows}


def summary(ds: xr.Dataset) -> str:
    """The table as text."""
    rows = tables(ds)["selected"]
    lines = ["".join(f"{name:>20}" for name in rows[0])]
    return "\n".join(lines + ["".join(f"{value:>20}" for value in row.values()) for row in rows])


EXPERIMENT = lab.Experiment(
    question="Do hyperparameters overfit the validation data?",
    source="notes §5.1",
    says="The notes leave open whether using validation data does not fit the hyperparameters to the validation data "
    "alone.",
    method="Trains random trials of the notes' search (§5.2: 400 training images, six hidden layers of 100, lr = "
    "10^U(−6, −2), λ = 10^U(−8, −4)) and measures how accurate the trial with the highest validation accuracy is "
    "on fresh images. The difference is its *optimism*. It is measured for 1 trial up to all of them, for several "
    "sizes of the validation set; the expectation over all choices of K trials is exact. As a control there "
    "are equal trials: of one setting, they differ in weights and minibatches alone. For them theory predicts "
    "the optimism. With noise of variance σ² in the validation accuracies and a variance τ² of the true "
    "ones, it is σ² / √(σ² + τ²) · E[largest of K standard normals].\n\n"
    "Every seed is an independent repetition: its training, validation and test images are drawn from all images "
    "of the data set (MNIST's test set was written by other people, and a gap to it would not be optimism), and "
    "its trials have their hyperparameters, weights and minibatches. Two departures from the notes' "
    "search: Momentum instead of SGD, which learns in 10 epochs about as much as SGD in the notes' 50, and "
    "larger validation sets beside their 100 images. Where a validation set is smaller than the images set aside, "
    "results are means over all disjoint sets of that size.",
    takes="about a minute and a half on two cores",
    config=Config,
    quick={
        "seeds": 2,
        "trials": 12,
        "equals": 8,
        "epochs": 5,
        "sizes": (50, 100, 200),
        "test": 200,
        "dataset": "mnist_5k",
    },
    run=run,
    claims=CLAIMS,
    figures={"selected": selected_trial, "optimism": optimism, "trials": all_trials},
    answers=answers,
    summary=summary,
    tables=tables,
)

if __name__ == "__main__":
    EXPERIMENT.main()
