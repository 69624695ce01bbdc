"""One run of training, as a pure function on `lax.scan`.

A `Run` is three functions: its initial state, what is random in a step, and the step. Everything else (many steps, many
hyperparameters, many seeds, many rules side by side) is a transformation of a run that returns a run or a record; see
`fnn.train.engine`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from fnn.base.checks import check_key
from fnn.base.errors import listed, require, whole
from fnn.base.types import Key, Params, Scalar
from fnn.rule.contract import Extra, Rule, apply_updates, checked
from fnn.rule.schedules import Schedule, constant, progress
from fnn.tasks.contract import Label, Task, everything, fitting

Record = Mapping[str, Any]


class Hyper(NamedTuple):
    """The traced numbers of a run: those of its update rule and those of its task."""

    rule: Any
    task: Any = ()


class State(NamedTuple):
    """What a run carries from step to step. No key: the draws of step i depend on the run's key and i alone."""

    params: Params
    stats: Any
    opt: Any


class Run(NamedTuple):
    """Training as three pure functions.

    start: `(hp, key, data) -> state`
    step:  `(hp, data, state, drawn) -> (state, record)`
    draw:  `(key, data, i) -> drawn`, all that is random in step i = 0, 1, …. It is computed for many steps before they
           are done, and once for all runs whose `draw` are equal (`==`) and that share a key.
    check: `(hp, data) -> None`, raises `InputError` where these do not fit the run; to be called before a program is
           traced, once for all runs whose `check` are equal.
    own:   `(key, data) -> data`, the data of the run with this key; `start`, `step` and `draw` take these.
    """

    start: Callable[[Any, Key, Any], Any]
    step: Callable[[Any, Any, Any, Any], tuple[Any, Record]]
    draw: Callable[[Key, Any, Int[Array, ""]], Any]
    check: Callable[[Any, Any], None] = fitting
    own: Callable[[Key, Any], Any] = everything


class Drawn(NamedTuple):
    """The random part of a training step: its number, its examples and its keys.

    i: the number of the step, from 0.
    examples: those of the minibatch, as the task's `draw` returns them.
    init: the key of the initial parameters, with which an instrument computes them again.
    noise, observe, rule: keys for the layers, for instruments and for the update rule.
    """

    i: Int[Array, ""]
    examples: Any
    init: Key
    noise: Key
    observe: Key
    rule: Key


@dataclass(frozen=True)
class Drawing:
    """`(key, data, i) -> Drawn`, by a task's `draw`. Instances of one task are equal, so its runs share their draws."""

    examples: Callable[[Key, Any, Any], Any]

    def __call__(self, key: Key, data: Any, i: Int[Array, ""]) -> Drawn:
        """The draws of step i."""
        init, k_examples, *others = _keys(key)
        return Drawn(i, self.examples(k_examples, data, i), init, *(jax.random.fold_in(k, i) for k in others))


@dataclass(frozen=True)
class Own:
    """`(key, data) -> data`, by a task's `own`, with a key that nothing else uses."""

    sample: Callable[[Key, Any], Any]

    def __call__(self, key: Key, data: Any) -> Any:
        """The data of the run with this key."""
        return self.sample(jax.random.fold_in(key, OWN), data)


OWN = 2**30
"""Folded into the run's key for its own data; above every number of keys that `_keys` splits off."""


@dataclass(frozen=True)
class Check:
    """`(hp, data) -> None`, by a task's `check`. Instances of one task are equal."""

    fits: Callable[[Any, Any], None]

    def __call__(self, hp: Any, data: Any) -> None:
        """Raise `InputError` where hyperparameters or data do not fit."""
        both = hasattr(hp, "rule") and hasattr(hp, "task")
        require(both, f"The hyperparameters of a run are train.Hyper(rule=…, task=…), not {hp!r}.")
        self.fits(hp.task, data)


class Moment(NamedTuple):
    """What an instrument observes: all quantities of a step, just after its update.

    hp: the hyperparameters of the task.
    start: the initial parameters.
    before, after: the parameters around the update; `updates`: after − before, up to rounding.
    stats: the layers' running statistics after it.
    grads: the loss's gradient at `before`.
    batch, data: the step's minibatch and the whole data set.
    key: for noise in the instrument.
    """

    hp: Any
    start: Params
    before: Params
    after: Params
    stats: Any
    grads: Params
    updates: Params
    batch: Any
    data: Any
    key: Key


@dataclass(frozen=True, eq=False)
class Observation:
    """`Moment -> Record`, what is recorded of a step, with the labels that a sweep gives it.

    labels: of the recorded arrays. coords: of the dimensions that only they have.
    """

    record: Callable[[Moment], Record]
    labels: Mapping[str, Label] = field(default_factory=dict)
    coords: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, moment: Moment) -> Record:
        """The record of a step."""
        return self.record(moment)


def _keys(key):
    """Keys for the first parameters, the examples, the layers, instruments and the rule."""
    return jax.random.split(key, 5)


def training(
    task: Task,
    rule: Rule,
    steps: int,
    *,
    schedule: Schedule = constant,
    loss_after: bool = False,
    evaluate_at: tuple[int, ...] = (),
    observe: Callable[[Moment], Record] | None = None,
    observe_at: tuple[int, ...] | None = None,
) -> Run:
    """The run that trains `task` by `rule`, with hyperparameters `Hyper(rule=…, task=…)`.

    Losses after updates and metrics are of the rule's `result`: the parameters, or their average.

    steps: updates in all; `schedule`, a map on the whole `Hyper`, gets the share of them that is done.
    loss_after: record the minibatch's loss at inference *after* the update, as the notes do, which costs one more
        forward pass; otherwise the training loss before it, which costs nothing.
    evaluate_at: numbers of updates (1…steps) after which `task.metrics` are computed; at other steps they are NaN.
    observe: what else is recorded of a step, floating-point arrays, by `fnn.instruments` say; None costs nothing.
    observe_at: numbers of updates after which `observe` is computed, as `evaluate_at`; None for every step.
    """
    require(isinstance(task, Task), f"What a run learns is a fnn.tasks.Task, not {task!r}.")
    rule = checked(rule)
    require(whole(steps, 1), f"A run needs at least 1 step, not {steps}.")
    for what, numbers in (("evaluate_at", evaluate_at), ("observe_at", () if observe_at is None else observe_at)):
        require(listed(numbers), f"{what} is a list of numbers of updates, not {numbers!r}.")
        wrong = [at for at in numbers if not whole(at, 1, steps)]
        require(not wrong, f"Evaluation happens after 1 to {steps} updates, not after {wrong}.")
    require(callable(schedule), f"A schedule is a function (hp, progress) -> hp, not {schedule!r}.")
    require(observe is None or callable(observe), f"What to observe is a function of a Moment, not {observe!r}.")
    check = Check(task.check)

    def start(hp, key, data):
        check(hp, data)  # inside a program: shapes and types
        check_key(key)
        params, stats = task.init(hp.task, _keys(key)[0], data)
        return State(params, stats, rule.init(hp.rule, params))

    def step(hp, data, state, drawn):
        i = drawn.i
        hp = schedule(hp, progress(i, steps))
        batch = task.batch(data, drawn.examples)

        def loss(params, batch):
            return task.loss(hp.task, params, state.stats, batch, drawn.noise, True)

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        mixes = task.mixes(hp.task)
        more = extra(lambda params, batch: loss(params, batch)[0], state.params, batch, value, drawn.rule, mixes)
        updates, opt = rule.update(hp.rule, grads, state.opt, state.params, more)
        params = apply_updates(state.params, updates)
        result = lambda: rule.result(hp.rule, params, opt)
        if loss_after:
            value, _ = task.loss(hp.task, result(), stats, batch, None, False)
        record = {"loss": value}
        if len(evaluate_at):
            record |= _at(evaluate_at, i, lambda: task.metrics(hp.task, result(), stats, data))
        if observe is not None:

            def observed(observe=observe):
                first, _ = task.init(hp.task, drawn.init, data)
                around = (first, state.params, params, stats, grads, updates)
                return observe(Moment(hp.task, *around, batch, data, drawn.observe))

            record = _joined(record, observed() if observe_at is None else _at(observe_at, i, observed))
        return State(params, stats, opt), record

    own = everything if task.own is everything else Own(task.own)
    return Run(start, step, Drawing(task.draw), check, own)


def recorded(
    task: Task, observe: Callable[[Moment], Record] | None, hp: Any, key: Key, data: Any
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The shapes of the task's metrics and of what `observe` returns; no training step is traced.

    hp: the hyperparameters of the task.
    """

    def measure(hp, key, data):
        data = task.own(key, data)
        params, stats = task.init(hp, key, data)
        batch = task.batch(data, task.draw(key, data, 0))
        moment = Moment(hp, params, params, params, stats, params, params, batch, data, key)
        return dict(task.metrics(hp, params, stats, data)), {} if observe is None else dict(observe(moment))

    metrics, seen = jax.eval_shape(measure, hp, key, data)
    _joined({"loss": None, **metrics}, seen)
    return metrics, seen


def _joined(record, seen):
    """The loss and the metrics, and what is observed. Raises `InputError` where two have one name."""
    taken = sorted(record.keys() & seen.keys())
    require(not taken, f"What is observed has names other than the loss and the metrics: {', '.join(taken)}.")
    return {**record, **seen}


def extra(
    loss: Callable[[Params, Any], Scalar], params: Params, batch: Any, value: Scalar, key: Key, mixes: bool = False
) -> Extra:
    """The `Extra` of `loss(params, batch)`, whose value is known; the first axis of a batch is its examples.

    mixes: whether an example's loss depends on the other examples of its batch. Then no example has a gradient by
    itself, and a rule that reads the gradients one by one raises `InputError`.
    """

    def example_grads():
        require(
            not mixes,
            "This rule reads the gradient of every example, and none has one by itself in a network that mixes the "
            "examples of a batch, as batch normalization does: take another rule, or a network without.",
        )
        batches_of_one = jax.tree.map(lambda a: a[:, None], batch)
        return jax.vmap(jax.grad(loss), (None, 0))(params, batches_of_one)

    return Extra(value, lambda params: loss(params, batch), example_grads, key)


def _at(numbers, i, measure):
    """`measure()` where i + 1, the updates done, is one of `numbers`; otherwise NaN."""
    nothing = jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), jax.eval_shape(measure))
    return jax.lax.cond(jnp.isin(i + 1, jnp.asarray(numbers)), measure, lambda: nothing)


def draw(run: Run, key: Key, data: Any, steps: Int[Array, " n"]) -> Any:
    """The draws of the steps with these numbers, every leaf `[n, …]`."""
    return jax.vmap(run.draw, (None, None, 0))(key, data, steps)


def advance(run: Run, hp: Any, data: Any, state: Any, drawn: Any) -> tuple[Any, Record]:
    """`(state, record)` after the consecutive steps with the draws `drawn`; every array of the record is `[n, …]`."""
    data = jax.tree.map(jnp.asarray, data)  # NumPy's arrays do not take traced places
    return jax.lax.scan(lambda state, drawn: run.step(hp, data, state, drawn), state, drawn)


def check_run(run: Any) -> None:
    """Raise `InputError` where this is not a `Run`."""
    require(isinstance(run, Run), f"This takes a Run, as fnn.train.training returns it, not {run!r}.")


def train(run: Run, steps: int, hp: Any, key: Key, data: Any) -> tuple[Any, Record]:
    """`(final state, record)` of a whole run; every array of the record is `[steps, …]`."""
    check_run(run)
    require(whole(steps, 1), f"A run needs at least 1 step, not {steps}.")
    check_key(key)
    data = run.own(key, data)
    return advance(run, hp, data, run.start(hp, key, data), draw(run, key, data, jnp.arange(steps)))
