"""Do the rules behave exactly as theory predicts? (quadratics, gradients of any scale, and where Adam must fail)"""

from dataclasses import dataclass

import jax
import xarray as xr

from experiments.checks import _online, _quadratics, _rescaled, _separable
from experiments.checks._oracles import split
from fnn import lab, optim
from fnn.base.errors import require
from fnn.train import engine

PROBLEMS = {"rates": _quadratics, "scale": _rescaled, "separable": _separable, "online": _online}
"""The problems by the names of their figures."""


@dataclass(frozen=True)
class Config(lab.Options):
    """Settings of the four problems."""

    seeds: int = 30
    """Random instances of every problem."""
    rates: int = 60
    """Learning rates of every rule's log grid on quadratics."""
    rules: tuple[str, ...] = ("all",)
    """Rules whose gradients are rescaled, NAME or NAME:DIALECT; all for every rule and dialect."""
    updates: int = 30
    """Updates with rescaled gradients."""
    examples: int = 100
    """Training examples of the separable problem."""
    positive: float = 0.7
    """The probability of a positive example in it."""
    fresh: int = 1000
    """Fresh examples to be labeled."""
    fits: int = 2000
    """Updates on the training examples."""
    rounds: int = 10_000
    """Rounds of the online problems."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_distinct(rules="rule")
        self.check_at_least(rates=2, updates=1, examples=2, fresh=1, fits=1, rounds=30)
        require(0.5 < self.positive < 1, f"--positive is a probability above 0.5 and below 1, not {self.positive}.")
        for spec in self.specs():
            optim.rule(spec)

    def specs(self) -> list[str]:
        """The rules whose gradients are rescaled."""
        return list(optim.rules()) if self.rules == ("all",) else list(self.rules)


def run(cfg: Config) -> xr.Dataset:
    """All four problems, in float64."""
    with jax.enable_x64(True):
        k_quadratics, k_rescaled, k_separable, k_online = split(engine.seeds(cfg.seeds), len(PROBLEMS))
        found = [
            _quadratics.measure(k_quadratics, cfg.rates),
            _rescaled.measure(k_rescaled, cfg.specs(), cfg.updates),
            _separable.measure(k_separable, cfg.examples, cfg.positive, cfg.fresh, cfg.fits),
            _online.measure(k_online, cfg.rounds),
        ]
    ds = xr.merge(found)
    return ds.assign_coords({dim: range(n) for dim, n in ds.sizes.items() if dim not in ds.coords})


EXPERIMENT = lab.Experiment(
    question="Do the rules behave exactly as theory predicts?",
    source="quadratics, gradients of any scale, and where Adam must fail",
    method="""Compares the rules of fnn.optim with exact results in float64. Each claim tests the difference of a
measured number from its prediction.

On a quadratic a step of SGD leaves |1 − lr λ| of a direction of curvature λ; Momentum and Nesterov leave the spectral
radius of a 2 × 2 matrix, which is √β where Momentum's roots are complex. All three diverge beyond a known lr.

Without eps Adam takes the same path on gradients g and c·g. The paths of all rules are compared, c from 2⁻²¹ to 2²¹.
Sign rules move every coordinate by exactly lr.

On the separable examples of Wilson et al. 2017 (arXiv:1705.08292, §3.3) gradient descent labels every fresh example
right; AdaGrad, RMSProp and Adam label every fresh negative one positive.

In the online problems of Reddi et al. 2018 (arXiv:1904.09237, Theorems 1 and 3) Adam goes to the worst point, AMSGrad
to the best.

Every seed is an independent instance of each: curvatures and starts, gradients, training sets, constants and random
signs.""",
    takes="about 30 seconds on two cores",
    config=Config,
    quick={
        "seeds": 10,
        "rates": 20,
        "rules": ("sgd", "madgrad", "adam", "radam", "yogi", "sign_sgd"),
        "updates": 10,
        "fits": 1000,
        "rounds": 1500,
    },
    run=run,
    claims=tuple(claim for problem in PROBLEMS.values() for claim in problem.CLAIMS),
    figures={name: problem.figure for name, problem in PROBLEMS.items()},
    tables=lambda ds: {"scale": _rescaled.rows(ds)},
)

if __name__ == "__main__":
    EXPERIMENT.main()
