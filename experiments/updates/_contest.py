"""What comparisons of update rules on the notes' network share: which rules, on what task, and how fast a loss
falls."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from fnn import lab, models, optim
from fnn.base.errors import require
from fnn.lab import plotting
from fnn.lab.titles import NOTES
from fnn.rule import Rule

NETWORK = models.multilayer((100, 100, 100, 100), 10)
SMOOTH = 31
"""The window, in steps, that a loss is smoothed over before it counts as having reached a target."""


@dataclass(frozen=True)
class Contest(lab.DataOptions):
    """Options of a comparison of update rules."""

    batch: int = 128
    """Examples per update, drawn with replacement."""
    optimizers: tuple[str, ...] = ("sgd", "momentum", "adagrad", "adam")
    """Rules to compare: NAME, or NAME:DIALECT for a form other than --dialect's; all for every rule."""
    dialect: str = "book"
    """Form of the rules: book (the notes' listings; optax's where they have none) or own (optax's)."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(batch=1)
        require(self.dialect in ("book", "own"), f"--dialect is book or own, not {self.dialect!r}.")
        self.check_distinct(optimizers="rule")
        self.rules()

    @property
    def all_rules(self) -> bool:
        """Whether every rule is compared."""
        return self.optimizers == ("all",)

    def specs(self) -> dict[str, str]:
        """For each contender, as the options name it, the rule and dialect that `optim.rule` takes."""
        names = self.optimizers
        if self.all_rules:
            names = [*NOTES, *(name for name in optim.names() if name not in NOTES)]
        return {name: self._spec(name) for name in names}

    def rules(self) -> dict[str, Rule]:
        """The contenders by their names. Raises `InputError` where there is no such rule."""
        return {name: optim.rule(spec) for name, spec in self.specs().items()}

    def _spec(self, name):
        if self.dialect == "book" and ":" not in name and "book" in optim.dialects(name):
            return f"{name}:book"
        return name.removesuffix(":own")


def speed(ds: xr.Dataset) -> xr.DataArray:
    """The mean training loss over the run, in nats: the lower, the faster a rule learns. NaN where a run diverged."""
    return ds.loss.mean("step", skipna=False)


def steps_to(loss: xr.DataArray, target: float) -> xr.DataArray:
    """The number of steps until the smoothed loss is first at or below `target`; infinite where it never is."""
    loss = loss.transpose(..., "step")
    reached = plotting.smooth(loss.values, SMOOTH) <= target
    steps = np.where(reached.any(-1), reached.argmax(-1) + 1, np.inf)
    return loss.isel(step=0, drop=True).copy(data=steps).assign_attrs(long_name="steps to the target", units="steps")
