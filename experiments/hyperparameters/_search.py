"""The notes' search for hyperparameters (§5.2): its space, its task, and trials × seeds trained in one program.

A *setting* is a point of the space, a learning rate and a λ; a *trial* trains it. A seed has a shuffle of the images, a
split, initial weights and minibatches of its own, and all its trials share them: what they differ by is the setting.
"""

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import _cli
from fnn import models, search, store, tasks, train
from fnn.base.errors import require
from fnn.base.types import Key, Keys
from fnn.data import DataSet
from fnn.optim.sgd import sgd
from fnn.rule import Rule
from fnn.tasks import Split
from fnn.train import checkpoints, engine, halving, population

IMAGES = 500
"""The notes take the first 500 training images, shuffle them (here every class by itself) …"""
VALIDATION = 100
"""… and set 20 % of them aside to validate on."""
HIDDEN = (100,) * 6
BATCH = 100
STEPS_EACH = (IMAGES - VALIDATION) // BATCH
"""Updates an epoch."""
AT_ONCE = 4
"""Trials that a CPU steps together: few, so that their weights stay in the cache."""


OWN_IMAGES = 2**30
"""What a seed's key is folded with to draw its images: what is split off the key for the rest is far less."""


class Setting(NamedTuple):
    """Hyperparameters, arrays of one shape: the learning rate, and λ of the penalty ½ λ ‖W‖²."""

    lr: Any
    l2: Any


EXPONENTS = Setting(lr=(-6.0, -2.0), l2=(-8.0, -4.0))
"""The notes' ranges: lr = 10^U(−6, −2), λ = 10^U(−8, −4)."""


SPACE = {axis: search.Log(10.0**low, 10.0**high) for axis, (low, high) in EXPONENTS._asdict().items()}
"""The same as a space for samplers."""


HEADING = "=========== Hyper-Parameter Optimization Result ==========="
"""What the book prints above its ranking."""

NEEDS = {"tpe": ("optuna",), "gp": ("optuna", "torch"), "cmaes": ("cmaes",)}
"""The packages that some searches need."""


def missing(name: str) -> list[str]:
    """The packages that a search needs and that are not installed."""
    return [package for package in NEEDS.get(name, ()) if importlib.util.find_spec(package) is None]


def load(cfg: _cli.Options) -> DataSet:
    """The data set that the options name. Raises `InputError` where it has too few images for the task."""
    images = _cli.load_data(cfg)
    require(len(images.x_train) >= IMAGES, f"This takes {IMAGES} training images.")
    return images


def setting(unit: Any) -> Setting:
    """The settings at points `[…, 2]` of the unit square, which lies over the space."""
    return Setting(*(axis.at(unit[..., i]) for i, axis in enumerate(SPACE.values())))


def sample(key: Key, n: int) -> Setting:
    """`n` settings drawn uniformly on log scales, as the notes do: each leaf `[n]`."""
    return setting(jax.random.uniform(key, (n, 2)))


def samples(keys: Keys, n: int) -> Setting:
    """For every seed `n` settings of its own, each leaf `[S, n]`. They do not depend on how many seeds there are."""
    return jax.vmap(lambda key: settings_of(key, n))(keys)


def settings_of(key: Key, n: int) -> Setting:
    """The `n` settings of the seed with this key."""
    return sample(_keys(key)[2], n)


def asking(keys: Keys) -> Keys:
    """For every seed the key of its samplers."""
    return jax.vmap(lambda key: _keys(key)[3])(keys)


def _keys(key: Key) -> tuple[Key, ...]:
    k_split, k_run, k_sample, k_ask, k_luck = jax.random.split(key, 5)
    return k_split, k_run, k_sample, k_ask, k_luck


def own(key: Key, images: Split) -> Split:
    """The images of the seed with this key: `IMAGES` of these, drawn without replacement."""
    some = jax.random.choice(jax.random.fold_in(key, OWN_IMAGES), len(images.y), (IMAGES,), replace=False)
    return Split(images.x[some], images.y[some])


def split(key: Key, images: Split) -> dict[str, Split]:
    """The images in an order of `key`: the first `VALIDATION` to validate on, the others to train on, stratified."""
    order = tasks.stratified(key, images.y)
    part = lambda picked: Split(images.x[picked], images.y[picked])
    return {"validation": part(order[:VALIDATION]), "train": part(order[VALIDATION:])}


Trainer = Callable[[Any, Keys], dict[str, np.ndarray]]
"""`(settings, keys) -> record`.

settings: a NamedTuple of arrays `[S, G]`: G trials for each of S seeds. keys: `[S]`.
record: "SPLIT_accuracy" and "SPLIT_loss" `[S, G, times evaluated]`, and "diverged_at" `[S, G]`: the first update whose
loss is not finite, −1 where there is none.
"""


def trainer(
    images: DataSet,
    epochs: int,
    *,
    evaluate_at: Sequence[int] = (),
    on: Sequence[str] = ("validation",),
    also: Mapping[str, Split] | None = None,
    rule: Rule = sgd,
) -> Trainer:
    """What trains any settings for any seeds on the notes' task; compiled at its first call and when S or G change.

    epochs: how long each trial trains. evaluate_at: after which of them to evaluate (by default, the last).
    on: which splits to evaluate on: "validation", "train" (four times as dear), or a name in `also`.
    also: further splits. The test set belongs here, and only for settings that are already chosen.
    rule: takes those numbers of a setting that its own hyperparameters are named after (`lr`, `mu`); `l2` is the task's
        own.
    """
    one_trial = trial(epochs, evaluate_at=evaluate_at, on=on, rule=rule)
    pool, also = tasks.splits(images, IMAGES)["train"], dict(also or {})

    def one_seed(mine, key, also):
        settings, state, parts = mine
        at_once = _at_once() or len(settings.lr)
        return jax.lax.map(lambda s: one_trial(s, key, parts | also, state), settings, batch_size=at_once)

    program = engine.over_seeds(one_seed)

    def train_settings(settings, keys):
        settings = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), settings)
        k_run, parts, state = _begin_all(keys, pool, rule)
        return program((settings, state, parts), k_run, also)

    return train_settings


class Schedule(NamedTuple):
    """Successive halving: the epochs after which trials are compared, and the share of them that goes on."""

    rungs: tuple[int, ...]
    keep: float


def schedule(first: int, eta: int, epochs: int) -> Schedule:
    """Comparisons after first, first · η, first · η², … epochs, and at the end."""
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= eta
    return Schedule((*rungs, epochs), 1 / eta)


def cost(plan: Schedule, trials: int) -> float:
    """The share of the updates of whole trainings that a schedule takes."""
    return halving.updates(trials, plan.rungs, plan.keep) / (trials * plan.rungs[-1])


def abandoning(images: DataSet, plan: Schedule, rule: Rule = sgd) -> Trainer:
    """What trains settings by successive halving, from the same starts and on the same minibatches as `trainer` does.

    Trials are compared by validation loss, which differs also between trials that are equally inaccurate still. The
    record is that of `fnn.train.halving`: "values" `[S, G, rungs]`, −loss, NaN where given up, "survivors" `[S, kept]`,
    and as "final" the validation accuracies of these.
    """
    halve = halved(plan, rule)
    return _in_one_program(images, rule, lambda s, key, _, data: halve(s, key, data)._asdict())


def halved(plan: Schedule, rule: Rule = sgd) -> Callable[[Any, Key, Any], halving.Halved]:
    """`(settings, key, data) -> Halved`: successive halving of one seed's settings, by validation loss."""
    rungs = [epoch * STEPS_EACH for epoch in plan.rungs]
    run, scores = _scored(rungs[-1], rule)
    return halving.halving(run, rungs, scores["loss"], plan.keep, _at_once(), scores["accuracy"])


def populating(images: DataSet, epochs: int, rule: Rule = sgd) -> Trainer:
    """What trains settings as a population, from the same starts and on the same minibatches as `trainer` does.

    Networks are compared by validation loss after every epoch; what copies try stays in the space. The record is that
    of `fnn.train.population`, with the validation accuracies at the end as "final" `[S, G]`.
    """
    run, scores = _scored(epochs * STEPS_EACH, rule)
    perturb = population.perturb()

    def explore(key, s):
        return Setting(
            *(jnp.clip(x, axis.low, axis.high) for x, axis in zip(perturb(key, s), SPACE.values(), strict=True))
        )

    evolve = population.population(
        run, STEPS_EACH, epochs, scores["loss"], explore, final=scores["accuracy"], batch_size=_at_once()
    )
    return _in_one_program(images, rule, lambda s, key, luck, data: evolve(s, key, luck, data)._asdict())


def _scored(updates: int, rule: Rule) -> tuple[train.Run, dict[str, Callable[[Any, Any, Any], Any]]]:
    """The run that takes a setting as it is, and what it is scored by: −loss, and the accuracy, in validation."""
    task = _task(("validation",))
    run = train.training(task, rule, updates)
    of_setting = train.Run(
        lambda s, key, data: run.start(_hyper(rule, s), key, data),
        lambda s, data, state, drawn: run.step(_hyper(rule, s), data, state, drawn),
        run.draw,
    )

    def metric(name, sign):
        return lambda s, state, data: sign * task.metrics(s, state.params, state.stats, data)[f"validation_{name}"]

    return of_setting, {"loss": metric("loss", -1), "accuracy": metric("accuracy", 1)}


def _in_one_program(images: DataSet, rule: Rule, f: Callable[[Any, Key, Key, Any], Any]) -> Trainer:
    """`f(settings, key, luck, data)` for all seeds, each with all of its settings at once."""
    pool = tasks.splits(images, IMAGES)["train"]
    program = engine.over_seeds(lambda mine, key, _: f(mine[0], key, mine[1], mine[2]))

    def train_settings(settings, keys):
        settings = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), settings)
        k_run, parts, _ = _begin_all(keys, pool, rule)
        return program((settings, jax.vmap(lambda key: _keys(key)[4])(keys), parts), k_run, ())

    return train_settings


def side_by_side(one: Callable[[Any], Any], settings: Any) -> Any:
    """`one(setting)` for every setting, as many at a time as suit the device."""
    return jax.lax.map(one, settings, batch_size=_at_once() or len(settings[0]))


def trial(
    epochs: int,
    *,
    evaluate_at: Sequence[int] = (),
    on: Sequence[str] = ("validation",),
    at_end: Sequence[str] = (),
    rule: Rule = sgd,
) -> Callable[[Any, Key, Any, train.State], dict[str, Any]]:
    """One trial, `(setting, key, data, state) -> record`, from where `begin` left it; options as those of `trainer`.

    at_end: splits that it is evaluated on at the end only; their scores are scalars.
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


def begin(key: Key, images: Split, rule: Rule = sgd) -> tuple[Key, dict[str, Split], train.State]:
    """What a seed's trials have in common: the key of its runs, its images, the network they start from."""
    k_split, k_run, *_ = _keys(key)
    parts = split(k_split, images)
    return k_run, parts, train.training(_task(), rule, 1).start(_hyper(rule, Setting(0.0, 0.0)), k_run, parts)


def _task(on: Sequence[str] = ()) -> tasks.Task:
    """The notes' task, evaluated on some of the splits only."""
    task = tasks.classification(lambda s: models.multilayer(HIDDEN, 10), batch=BATCH, weight_decay=lambda s: s.l2)
    these = lambda data: {name: data[name] for name in on}
    return task._replace(metrics=lambda s, params, stats, data: task.metrics(s, params, stats, these(data)))


def _hyper(rule: Rule, s: Any) -> train.Hyper:
    """A setting as a run takes it: to the rule what its hyperparameters are named after, to the task all."""
    mine = {name: value for name, value in s._asdict().items() if name in rule.hyper._fields}
    return train.Hyper(rule.hyper._replace(**mine), s)


@functools.partial(jax.jit, static_argnames="rule")
def _begin_all(keys: Keys, images: Split, rule: Rule) -> tuple[Keys, dict[str, Split], train.State]:
    """The beginnings of all seeds. A program of its own, which trainings of any length share."""
    return jax.lax.map(lambda key: begin(key, images, rule), keys)


def _at_once() -> int | None:
    """Trials that a device steps together; None for all."""
    return AT_ONCE if _on_cpu() else None


def _on_cpu() -> bool:
    return jax.local_devices()[0].platform == "cpu"


def seed_by_seed(
    cfg: _cli.Options, images: DataSet, train_settings: Trainer, settings: Any, keys: Keys, part: str = ""
) -> tuple[dict[str, np.ndarray], int]:
    """Long work under a progress bar, as many seeds at a time as there are devices: `(record, seeds done)`.

    With checkpoints, if the options ask for them, the same command goes on from the last one. An interrupt ends it and
    keeps the seeds done; it is passed on where there are none yet. part: the name of this work among several of one
    experiment.
    """
    done, records = 0, []
    at_once = len(jax.local_devices()) if _on_cpu() else len(keys)

    def train_from(first):
        mine = slice(first, first + at_once)
        return train_settings(jax.tree.map(lambda a: a[mine], settings), keys[mine])

    numbers = range(0, len(keys), at_once)
    if cfg.checkpoint is None:
        found = map(train_from, numbers)
    else:
        manifest = {
            **_cli.manifest(cfg),
            "settings": store.checksum(settings),
            "seeds": store.checksum(keys),
            "data": images.checksum,
        }
        found = checkpoints.each(_cli.under_way(cfg) / part, manifest, numbers, train_from, every=cfg.checkpoint)
    with tqdm(total=len(keys), unit="seed", disable=None, leave=False) as bar:
        try:
            for first, record in zip(numbers, found, strict=True):
                records.append(record)
                done += len(keys[first : first + at_once])
                bar.update(len(keys[first : first + at_once]))
        except KeyboardInterrupt:
            if not done:
                raise
    return {what: np.concatenate([r[what] for r in records]) for what in records[0]}, done


def remembered(
    cfg: _cli.Options, images: DataSet, part: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    """What `make` gives; with checkpoints, if the options ask for them, the same command does not make it again.

    part: the name of this work among several of one experiment.
    """
    if cfg.checkpoint is None:
        return make()
    manifest = {**_cli.manifest(cfg), "data": images.checksum}
    [made] = checkpoints.each(_cli.under_way(cfg) / part, manifest, range(1), lambda _: make(), every=0.0)
    return made


def missed(n: int) -> np.ndarray:
    """`[k, i]`, 0 … n each: the probability that k of n trials, drawn without replacement, hold none of the best i.

    The hypergeometric ∏_{j<i} (n − k − j) / (n − j).
    """
    k, j = np.arange(n + 1)[:, None], np.arange(n)
    return np.concatenate([np.ones((n + 1, 1)), np.cumprod(np.maximum(n - k - j, 0) / (n - j), axis=1)], axis=1)


def expected_best(by: np.ndarray, judged: np.ndarray | None = None) -> np.ndarray:
    """Of trials `[…, n]` the expected score of the best of the first k = 1 … n, over all orders of the trials.

    by: the scores that choose, accuracies in validation. judged: the scores of what is chosen, on images that no choice
    depends on; None for `by`. A score that is not a number counts as 0, the worst.
    """
    by, judged = (np.nan_to_num(values, nan=0.0) for values in (by, by if judged is None else judged))
    order = np.argsort(-by, axis=-1, kind="stable")
    missing = missed(by.shape[-1])[1:]
    return np.take_along_axis(judged, order, -1) @ (missing[:, :-1] - missing[:, 1:]).T
