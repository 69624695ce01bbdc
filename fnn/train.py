"""One run of training, as a pure function on `lax.scan`.

A `Run` is two functions: how it starts and what a step does. Everything else (many steps, many hyperparameters, many
seeds, many rules side by side) is a transformation of a run that gives a run or a record; see `fnn.sweep`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from fnn.errors import require
from fnn.rule import Extra, Rule, apply_updates
from fnn.schedules import Schedule, constant, progress
from fnn.tasks import Task
from fnn.types import Key, Params, Scalar

Record = Mapping[str, Any]


class Hyper(NamedTuple):
    """The traced numbers of a run: those of its update rule and those of its task."""

    rule: Any
    task: Any = ()


class State(NamedTuple):
    """All that a run carries. No key: step i draws from `fold_in(key, i)`, so a run can resume anywhere."""

    params: Params
    stats: Any
    opt: Any


class Run(NamedTuple):
    """Training as two pure functions.

    start: `(hp, key, data) -> state`
    step:  `(hp, key, data, state, i) -> (state, record)`, i = 0, 1, …
    """

    start: Callable[[Any, Key, Any], Any]
    step: Callable[[Any, Key, Any, Any, Int[Array, ""]], tuple[Any, Record]]


class Moment(NamedTuple):
    """What an instrument may look at: everything there is just after an update.

    hp: the hyperparameters of the task.
    start: the parameters the run began with.
    before, after: the parameters around the update; their difference is `updates` (up to rounding).
    stats: the layers' running statistics after it.
    grads: the loss's gradient at `before`.
    batch, data: the step's minibatch and the whole data set.
    key: for an instrument's own noise.
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


def _keys(key):
    k_init, k_batch, k_noise, k_look, k_rule = jax.random.split(key, 5)
    return k_init, k_batch, k_noise, k_look, k_rule


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

    steps: updates in all, which is what `schedule` (on the whole `Hyper`) measures progress by.
    Losses after updates and metrics are those of the rule's `result`, which is the parameters for all but averages.
    loss_after: record the minibatch's loss at inference *after* the update, as the notes do, at the price of one more
        forward pass; otherwise the training loss before it, which costs nothing.
    evaluate_at: numbers of updates done (1…steps) after which `task.metrics` are taken; elsewhere they are NaN.
    observe: what else to record of a step as floating-point arrays, by `fnn.instruments` say; None costs nothing.
    observe_at: numbers of updates done after which `observe` is taken, as `evaluate_at`; None takes it at every step.
    """
    require(steps >= 1, f"A run needs at least 1 step, not {steps}.")
    wrong = [at for at in (*evaluate_at, *(observe_at or ())) if not 1 <= at <= steps]
    require(not wrong, f"Evaluation happens after 1 to {steps} updates, not after {wrong}.")

    def start(hp, key, data):
        k_init, *_ = _keys(key)
        params, stats = task.init(hp.task, k_init, data)
        return State(params, stats, rule.init(hp.rule, params))

    def step(hp, key, data, state, i):
        k_init, *others = _keys(key)
        k_batch, k_noise, k_look, k_rule = (jax.random.fold_in(k, i) for k in others)
        hp = schedule(hp, progress(i, steps))
        batch = task.batch(k_batch, data)

        def loss(params, batch):
            return task.loss(hp.task, params, state.stats, batch, k_noise, True)

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        asked = extra(lambda *at: loss(*at)[0], state.params, batch, value, k_rule)
        updates, opt = rule.update(hp.rule, grads, state.opt, state.params, asked)
        params = apply_updates(state.params, updates)
        result = lambda: rule.result(hp.rule, params, opt)
        if loss_after:
            value, _ = task.loss(hp.task, result(), stats, batch, None, False)
        record = {"loss": value}
        if evaluate_at:
            record |= _at(evaluate_at, i, lambda: task.metrics(hp.task, result(), stats, data))
        if observe is not None:

            def look(observe=observe):
                first, _ = task.init(hp.task, k_init, data)
                return observe(Moment(hp.task, first, state.params, params, stats, grads, updates, batch, data, k_look))

            record |= look() if observe_at is None else _at(observe_at, i, look)
        return State(params, stats, opt), record

    return Run(start, step)


def extra(loss: Callable[[Params, Any], Scalar], params: Params, batch: Any, value: Scalar, key: Key) -> Extra:
    """What a rule may ask about `loss(params, batch)`, whose value is known; examples are a batch's first axis."""

    def each():
        alone = jax.tree.map(lambda a: a[:, None], batch)
        return jax.vmap(jax.grad(loss), (None, 0))(params, alone)

    return Extra(value, lambda elsewhere: loss(elsewhere, batch), each, key)


def _at(numbers, i, measure):
    """What `measure` gives once i + 1 updates are done, where that is one of `numbers`; NaN elsewhere."""
    nothing = jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), jax.eval_shape(measure))
    return jax.lax.cond(jnp.isin(i + 1, jnp.asarray(numbers)), measure, lambda: nothing)


def advance(run: Run, hp: Any, key: Key, data: Any, state: Any, steps: Int[Array, " n"]) -> tuple[Any, Record]:
    """Do the steps with these (consecutive) numbers: `(state, record)` with a leading axis of n on every record."""
    return jax.lax.scan(lambda state, i: run.step(hp, key, data, state, i), state, steps)


def train(run: Run, steps: int, hp: Any, key: Key, data: Any) -> tuple[Any, Record]:
    """A whole run: `(final state, record)` with axis 0 of every record the step."""
    return advance(run, hp, key, data, run.start(hp, key, data), jnp.arange(steps))
