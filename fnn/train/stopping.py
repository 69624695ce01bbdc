"""Early stopping, and the parameters of the best evaluation, inside the program of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.errors import require, whole
from fnn.base.types import Params
from fnn.tasks.contract import Label
from fnn.train.run import Run

UPDATES = "updates_done"
"""The recorded number of updates."""


class Best(NamedTuple):
    """The parameters and running statistics of the best evaluation so far, and the run that goes on.

    value: of the metric there. waited: evaluations since. done: updates that were made. state: of the run.
    """

    params: Params
    stats: Any
    value: Array
    waited: Array
    done: Array
    state: Any


@dataclass(frozen=True)
class EarlyStopping:
    """`run -> run` that keeps the parameters with the best value of a metric, and stops where it no longer improves.

    metric: of the task, "validation_loss" say, at the evaluations of the run.
    patience: evaluations without an improvement after which the network is left as it is; None: it is never stopped.
    higher: whether more is better. NaN is never better.

    The run records beside its own `best_METRIC`, the best value so far, and `updates_done`. Later losses of a network
    that has stopped are of the same network. Prechelt 1998, https://doi.org/10.1007/3-540-49430-8_3.
    """

    metric: str
    patience: int | None = None
    higher: bool = False

    def __post_init__(self):
        require(isinstance(self.metric, str), f"The metric of early stopping is a name, not {self.metric!r}.")
        patient = self.patience is None or whole(self.patience, 1)
        require(patient, f"The patience of early stopping is at least 1 evaluation, not {self.patience!r}.")

    def __call__(self, run: Run, evaluate: Sequence[int]) -> Run:
        """The run with early stopping. evaluate: numbers of updates after which it takes its metrics."""

        def start(hp, key, data):
            state = run.start(hp, key, data)
            worst = jnp.float32(-jnp.inf if self.higher else jnp.inf)
            return Best(state.params, state.stats, worst, jnp.int32(0), jnp.int32(0), state)

        def step(hp, data, best, drawn):
            going = True if self.patience is None else best.waited < self.patience
            after, record = run.step(hp, data, best.state, drawn)
            state = _where(going, after, best.state)
            value = record[self.metric].astype(best.value.dtype)
            evaluated = jnp.isin(drawn.i + 1, jnp.asarray(evaluate))
            better = going & evaluated & ((value > best.value) if self.higher else (value < best.value))
            params, stats = _where(better, (state.params, state.stats), (best.params, best.stats))
            waited = jnp.where(better, 0, best.waited + (going & evaluated))
            value, done = jnp.where(better, value, best.value), best.done + jnp.int32(going)
            record = {**record, f"best_{self.metric}": value, UPDATES: done}
            return Best(params, stats, value, waited, done, state), record

        return run._replace(start=start, step=step)

    def labels(self, labels: Mapping[str, Label]) -> dict[str, Label]:
        """The labels of what is recorded beside, from those of the task."""
        of = labels.get(self.metric, Label(self.metric, "1"))
        return {
            f"best_{self.metric}": of._replace(long_name=f"best {of.long_name} so far"),
            UPDATES: Label("updates that were made", "1"),
        }


def _where(condition, chosen, other):
    """The first tree where the condition holds, else the second; both of arrays or keys."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)
