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
from fnn.rule import Rule, apply_updates
from fnn.schedules import Schedule, constant, progress
from fnn.tasks import Task
from fnn.types import Key, Params

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


def _keys(key):
    k_init, k_batch, k_noise = jax.random.split(key, 3)
    return k_init, k_batch, k_noise


def training(
    task: Task,
    rule: Rule,
    steps: int,
    *,
    schedule: Schedule = constant,
    loss_after: bool = False,
    evaluate_at: tuple[int, ...] = (),
) -> Run:
    """The run that trains `task` by `rule`, with hyperparameters `Hyper(rule=…, task=…)`.

    steps: updates in all, which is what `schedule` (on the whole `Hyper`) measures progress by.
    loss_after: record the minibatch's loss at inference *after* the update, as the notes do, at the price of one more
        forward pass; otherwise the training loss before it, which costs nothing.
    evaluate_at: numbers of updates done (1…steps) after which `task.metrics` are taken; elsewhere they are NaN.
    """
    require(steps >= 1, f"A run needs at least 1 step, not {steps}.")
    wrong = [at for at in evaluate_at if not 1 <= at <= steps]
    require(not wrong, f"Evaluation happens after 1 to {steps} updates, not after {wrong}.")

    def start(hp, key, data):
        k_init, _, _ = _keys(key)
        params, stats = task.init(hp.task, k_init, data)
        return State(params, stats, rule.init(hp.rule, params))

    def step(hp, key, data, state, i):
        _, k_batch, k_noise = _keys(key)
        hp = schedule(hp, progress(i, steps))
        batch = task.batch(jax.random.fold_in(k_batch, i), data)

        def loss(params):
            return task.loss(hp.task, params, state.stats, batch, jax.random.fold_in(k_noise, i), True)

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt = rule.update(hp.rule, grads, state.opt, state.params)
        params = apply_updates(state.params, updates)
        if loss_after:
            value, _ = task.loss(hp.task, params, stats, batch, None, False)
        record = {"loss": value, **evaluate(hp.task, params, stats, data, i)}
        return State(params, stats, opt), record

    def evaluate(hp, params, stats, data, i):
        if not evaluate_at:
            return {}
        nothing = jax.tree.map(
            lambda s: jnp.full(s.shape, jnp.nan, s.dtype), jax.eval_shape(task.metrics, hp, params, stats, data)
        )
        now = jnp.isin(i + 1, jnp.asarray(evaluate_at))
        return jax.lax.cond(now, lambda: task.metrics(hp, params, stats, data), lambda: nothing)

    return Run(start, step)


def advance(run: Run, hp: Any, key: Key, data: Any, state: Any, steps: Int[Array, " n"]) -> tuple[Any, Record]:
    """Do the steps with these (consecutive) numbers: `(state, record)` with a leading axis of n on every record."""
    return jax.lax.scan(lambda state, i: run.step(hp, key, data, state, i), state, steps)


def train(run: Run, steps: int, hp: Any, key: Key, data: Any) -> tuple[Any, Record]:
    """A whole run: `(final state, record)` with axis 0 of every record the step."""
    return advance(run, hp, key, data, run.start(hp, key, data), jnp.arange(steps))
