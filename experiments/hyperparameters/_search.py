"""The notes' search for hyperparameters (§5.2): its space, its task, and trials × seeds trained in one program.

A *setting* is a point of the space, a learning rate and a λ; a *trial* trains it. Each seed has a shuffle of the
images, a
split, initial weights and minibatches, which all its trials share: they differ by the setting alone.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import lab, models, search, tasks, train
from fnn.base import packages
from fnn.base.errors import require
from fnn.base.types import Key, Keys
from fnn.data import DataSet
from fnn.optim.sgd import sgd
from fnn.rule import Rule
from fnn.tasks import Label, Split, Trial
from fnn.train import engine, halving, population

IMAGES = 500
"""The notes take the first 500 training images, shuffle them (here stratified by class) …"""
VALIDATION = 100
"""… and set 20 % of them aside for validation."""
FRESH = 1000
"""Further training images of a seed, on which the chosen setting is evaluated."""
HIDDEN = (100,) * 6
BATCH = 100
STEPS_EACH = (IMAGES - VALIDATION) // BATCH
"""Updates per epoch."""
CPU_BATCH = 4
"""Trials that a CPU trains in one batch: few, so that their weights stay in the cache."""


OWN_IMAGES = 2**30
"""Folded into a seed's key to draw its images: larger than any index that is used to split the key."""


class Setting(NamedTuple):
    """Hyperparameters, arrays of one shape: the learning rate, and λ of the penalty ½ λ ‖W‖²."""

    lr: Any
    l2: Any


EXPONENTS = Setting(lr=(-6.0, -2.0), l2=(-8.0, -4.0))
"""The notes' ranges: lr = 10^U(−6, −2), λ = 10^U(−8, −4)."""


SPACE = {axis: search.Log(10.0**low, 10.0**high) for axis, (low, high) in EXPONENTS._asdict().items()}
"""The same as a space for samplers."""


HEADING = "=========== Hyper-Parameter Optimization Result ==========="
"""The heading of the book's ranking."""

NEEDS = {"tpe": ("optuna",), "gp": ("optuna", "torch"), "cmaes": ("cmaes",)}
"""The packages that some searches need."""


def missing(name: str) -> list[str]:
    """The packages that a search needs and that are not installed."""
    return packages.missing(*NEEDS.get(name, ()))


def load(cfg: lab.DataOptions) -> DataSet:
    """The data set that the options name. Raises `InputError` where it has too few images for a seed of the task."""
    images = cfg.load()
    needed, n = IMAGES + FRESH, len(images.x_train)
    require(n >= needed, f"This takes {needed:,} training images, and {images.name} has {n:,}.")
    return images


def setting(unit: Any) -> Setting:
    """The settings at points `[…, 2]` of the unit square, which lies over the space."""
    return Setting(*(axis.at(unit[..., i]) for i, axis in enumerate(SPACE.values())))


def sample(key: Key, n: int) -> Setting:
    """`n` settings drawn uniformly on log scales, as the notes do: each leaf `[n]`."""
    return setting(jax.random.uniform(key, (n, 2)))


def samples(keys: Keys, n: int) -> Setting:
    """`n` settings for each seed, each leaf `[S, n]`. They do not depend on the number of seeds."""
    return jax.vmap(lambda key: settings_of(key, n))(keys)


def settings_of(key: Key, n: int) -> Setting:
    """The `n` settings of the seed with this key."""
    return sample(_keys(key)[2], n)


def sampler_keys(keys: Keys) -> Keys:
    """The key of the samplers of each seed."""
    return jax.vmap(lambda key: _keys(key)[3])(keys)


def _keys(key: Key) -> tuple[Key, ...]:
    k_split, k_run, k_sample, k_ask, k_luck = jax.random.split(key, 5)
    return k_split, k_run, k_sample, k_ask, k_luck


def own(key: Key, images: Split) -> Split:
    """The images of the seed with this key: `IMAGES` of these, drawn without replacement."""
    return _picked(images, _order(key, images)[:IMAGES])


def fresh(key: Key, images: Split) -> Split:
    """`FRESH` images that are not among the seed's `IMAGES`."""
    return _picked(images, _order(key, images)[IMAGES : IMAGES + FRESH])


def _order(key, images):
    """All images in the order of the seed."""
    return jax.random.permutation(jax.random.fold_in(key, OWN_IMAGES), len(images.y))


def _picked(images, places):
    return Split(images.x[places], images.y[places])


def split(key: Key, images: Split) -> dict[str, Split]:
    """The images in an order of `key`: the first `VALIDATION` for validation, the others for training, stratified."""
    order = tasks.stratified(key, images.y)
    return {"validation": _picked(images, order[:VALIDATION]), "train": _picked(images, order[VALIDATION:])}


Trainer = Callable[[Any, Keys], Mapping[str, Any]]
"""`(settings, keys) -> record`, compiled at its first call and when the numbers of settings or seeds change.

settings: a NamedTuple of arrays `[S, G]`: G trials for each of S seeds. keys: `[S]`. The first axis of the record's
arrays is S.
"""


def trainer(data: Mapping[str, Split], epochs: int, *, rule: Rule = sgd, **evaluated: Any) -> Trainer:
    """The trainer of settings × seeds on the notes' task; its record has the arrays `[S, G, …]` of `trial`.

    data: the splits "train", from which a seed draws its images, and "test". epochs, rule, evaluated: as of `trial`.
    """
    one = trial(epochs, rule=rule, **evaluated)
    return _in_one_program(data, lambda settings, _, start: side_by_side(lambda s: one(s, *start), settings), rule)


class Schedule(NamedTuple):
    """Successive halving: the epochs after which trials are compared, and the share of them that continues."""

    rungs: tuple[int, ...]
    keep: float


def schedule(first: int, eta: int, epochs: int) -> Schedule:
    """The schedule with comparisons after first, first · η, first · η², … epochs, and at the end."""
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= eta
    return Schedule((*rungs, epochs), 1 / eta)


def cost(plan: Schedule, trials: int) -> float:
    """The share of the updates of whole trainings that a schedule uses."""
    return halving.updates(trials, plan.rungs, plan.keep) / (trials * plan.rungs[-1])


def abandoning(data: Mapping[str, Split], plan: Schedule) -> Trainer:
    """The trainer by successive halving, from the same weights and on the same minibatches as `trainer`.

    Trials are compared by validation loss, which differs also between trials of equal accuracy. The
    record is that of `fnn.train.halving`: "values" `[S, G, rungs]`, −loss, NaN where abandoned, "survivors" `[S,
    kept]`, and as "final" the validation and fresh scores of these.
    """
    halve = halved(plan)

    return _in_one_program(data, lambda settings, _, start: halve(settings, *start[:2])._asdict())


def halved(plan: Schedule) -> Callable[[Any, Key, Any], halving.Halved]:
    """`(settings, key, data) -> Halved`: successive halving of one seed's settings, by validation loss."""
    rungs = [epoch * STEPS_EACH for epoch in plan.rungs]
    run, score, final = _scored(rungs[-1])
    return halving.halving(run, rungs, score, plan.keep, _batch_size(), final)


def populating(data: Mapping[str, Split], epochs: int) -> Trainer:
    """The trainer of a population, from the same weights and on the same minibatches as `trainer`.

    Networks are compared by validation loss after every epoch; perturbed settings are clipped to the space. The record
    is that of `fnn.train.population`, with the validation and fresh scores at the end as "final", arrays `[S, G]`.
    """
    run, score, final = _scored(epochs * STEPS_EACH)
    perturb = population.perturb()

    def explore(key, s):
        tried = zip(perturb(key, s), SPACE.values(), strict=True)
        return Setting(*(jnp.clip(x, axis.low, axis.high) for x, axis in tried))

    evolve = population.population(run, STEPS_EACH, epochs, score, explore, final=final, batch_size=_batch_size())

    def of_seed(settings, key, start):
        k_run, parts, _ = start
        return evolve(settings, k_run, _keys(key)[4], parts)._asdict()

    return _in_one_program(data, of_seed)


def _scored(updates: int) -> tuple[train.Run, Callable[..., Any], Callable[..., Any]]:
    """(run, score, scores): a run of a setting, −loss in validation, and all scores in validation and on fresh
    images."""
    run = train.training(_task(), sgd, updates)
    of_setting = train.Run(
        lambda s, key, data: run.start(_hyper(sgd, s), key, data),
        lambda s, data, state, drawn: run.step(_hyper(sgd, s), data, state, drawn),
        run.draw,
    )

    def scores(*splits):
        task = _task(splits)
        return lambda s, state, data: task.metrics(s, state.params, state.stats, data)

    validation = scores("validation")
    return of_setting, lambda *of: -validation(*of)["validation_loss"], scores("validation", "fresh")


def _in_one_program(data: Mapping[str, Split], of_seed: Callable[..., Any], rule: Rule = sgd) -> Trainer:
    """The trainer that maps `of_seed(settings, key, start)` over all seeds, each from the start of `start_own`."""
    pool, rest = {"train": data["train"]}, {name: split for name, split in data.items() if name != "train"}

    def one(inputs, key, rest):
        settings, (k_run, parts, state) = inputs
        return of_seed(settings, key, (k_run, {**rest, **parts}, state))

    program = engine.over_seeds(one)

    def train_settings(settings, keys):
        settings = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), settings)
        return program((settings, _start_all(keys, pool, rule)), keys, rest)

    return train_settings


@functools.partial(jax.jit, static_argnames="rule")
def _start_all(keys: Keys, data: Mapping[str, Split], rule: Rule) -> Any:
    """The starts of all seeds, by one program that trainings of any number and length share."""
    return jax.lax.map(lambda key: start_own(key, data, rule), keys)


def measured(
    one: Callable[..., Any], settings: Any, key: Key, data: Mapping[str, Split], rule: Rule = sgd
) -> dict[str, Any]:
    """The record of every setting of a seed, by the trial `one`, from one network on the seed's images."""
    k_run, parts, state = start_own(key, data, rule)
    return side_by_side(lambda s: one(s, k_run, parts, state), settings)


def random_trials(trials: int, epochs: int, judged: str) -> Trial:
    """The trial of a seed's random settings, trained to the end and evaluated in validation after every epoch.

    judged: the split on which they are evaluated at the end, "fresh" or "test".
    """
    every = range(1, epochs + 1)
    one = trial(epochs, evaluate_at=every, at_end=(judged,))

    def measure(hp, key, data):
        settings = settings_of(key, trials)
        return settings._asdict() | measured(one, settings, key, data)

    images = {"fresh": "fresh images", "test": "test images"}[judged]
    labels = {
        "lr": Label("learning rate", "1", ("trial",)),
        "l2": Label("weight decay λ", "1", ("trial",)),
        "validation_accuracy": Label("validation accuracy", "1", ("trial", "epoch")),
        "validation_loss": Label("validation loss", "nats", ("trial", "epoch")),
        f"{judged}_accuracy": Label(f"accuracy on {images} at the end", "1", ("trial",)),
        f"{judged}_loss": Label(f"loss on {images} at the end", "nats", ("trial",)),
        "diverged_at": Label("first step whose loss is not finite, −1 for none", "", ("trial",)),
    }
    return Trial(measure, labels=labels, coords={"trial": np.arange(trials), "epoch": np.array(every)})


def side_by_side(one: Callable[[Any], Any], settings: Any) -> Any:
    """`one(setting)` for every setting, in batches that suit the device."""
    return jax.lax.map(one, settings, batch_size=_batch_size() or len(settings[0]))


def trial(
    epochs: int,
    *,
    evaluate_at: Sequence[int] = (),
    on: Sequence[str] = ("validation",),
    at_end: Sequence[str] = (),
    rule: Rule = sgd,
) -> Callable[[Any, Key, Any, train.State], dict[str, Any]]:
    """One trial, `(setting, key, data, state) -> record`, from the state of `start` left it.

    epochs: how long it trains. evaluate_at: after which of them it is evaluated (by default, the last), on the splits
    `on`: "validation", "train" (four times as expensive); scores "SPLIT_accuracy" and "SPLIT_loss" `[times]`.
    at_end: splits that it is evaluated on at the end only, "fresh" say; their scores are scalars. The test set belongs
        here, and only for settings that are already chosen, or on which no choice depends.
    rule: takes the numbers of a setting that have the names of its hyperparameters (`lr`, `mu`); `l2` is the task's.
    The record also has "diverged_at": the first update whose loss is not finite, −1 where there is none.
    """
    numbers = tuple(epoch * STEPS_EACH for epoch in evaluate_at or (epochs,))
    run = train.training(_task(on), rule, epochs * STEPS_EACH, evaluate_at=numbers)

    def follow(s, key, data, state):
        drawn = train.draw(run, key, data, jnp.arange(epochs * STEPS_EACH))
        end, record = train.advance(run, _hyper(rule, s), data, state, drawn)
        bad = ~jnp.isfinite(record["loss"])
        scores = {name: values[jnp.asarray(numbers) - 1] for name, values in record.items() if name != "loss"}
        if at_end:
            scores |= _task(at_end).metrics(s, end.params, end.stats, data)
        return scores | {"diverged_at": jnp.where(bad.any(), bad.argmax(), -1)}

    return follow


def start(key: Key, images: Split, rule: Rule = sgd) -> tuple[Key, dict[str, Split], train.State]:
    """(key, images, state) that the trials of a seed share: the key of their runs, their images and their initial
    state."""
    k_split, k_run, *_ = _keys(key)
    parts = split(k_split, images)
    return k_run, parts, train.training(_task(), rule, 1).start(_hyper(rule, Setting(0.0, 0.0)), k_run, parts)


def start_own(key: Key, data: Mapping[str, Split], rule: Rule = sgd) -> tuple[Key, dict[str, Split], train.State]:
    """As `start`, with images that the seed draws, `FRESH` others as "fresh", and the other splits."""
    k_run, parts, state = start(key, own(key, data["train"]), rule)
    return k_run, {**data, **parts, "fresh": fresh(key, data["train"])}, state


def _task(on: Sequence[str] = ()) -> tasks.Task:
    """The notes' task, evaluated on some of the splits only."""
    task = tasks.classification(lambda s: models.multilayer(HIDDEN, 10), batch=BATCH, weight_decay=lambda s: s.l2)
    these = lambda data: {name: data[name] for name in on}
    return task._replace(metrics=lambda s, params, stats, data: task.metrics(s, params, stats, these(data)))


def _hyper(rule: Rule, s: Any) -> train.Hyper:
    """The setting as the hyperparameters of a run: to the rule those that it has, to the task all."""
    own = {name: value for name, value in s._asdict().items() if name in rule.hyper._fields}
    return train.Hyper(rule.hyper._replace(**own), s)


def _batch_size() -> int | None:
    """Trials that a device trains in one batch; None for all."""
    return CPU_BATCH if _on_cpu() else None


def _on_cpu() -> bool:
    return jax.local_devices()[0].platform == "cpu"


def judged(by: np.ndarray, judged: np.ndarray, among: np.ndarray) -> np.ndarray:
    """`judged` `[S, n]` of the trial with the best `by` where `among` `[…, S, n]` is true; the mean where several are
    best.

    A score that is not a number counts as 0, the worst.
    """
    final = np.where(among, np.nan_to_num(by), -np.inf)
    best = final == final.max(-1, keepdims=True)
    return (np.nan_to_num(judged) * best).sum(-1) / best.sum(-1)


def chosen_so_far(by: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """`judged` `[…, n]` of the trial with the best `by` among the first k = 1 … n; the first where several are best.

    A score that is not a number counts as 0, the worst.
    """
    by, judged = np.nan_to_num(by), np.nan_to_num(judged)
    before = np.roll(np.maximum.accumulate(by, -1), 1, -1)
    before[..., 0] = -np.inf
    best = np.maximum.accumulate(np.where(by > before, np.arange(by.shape[-1]), 0), -1)
    return np.take_along_axis(judged, best, -1)
