"""Does momentum help on handwritten digits? Start it with `python template.py`, see its options with --help."""

from dataclasses import dataclass

import xarray as xr

from fnn import lab, models, sweep, tasks
from fnn.lab import figures


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Options of this experiment; --seeds, --dataset and others are there already."""

    steps: int = 300
    """Updates per network."""
    lr: float = 0.05
    """Learning rate of both rules."""
    dataset: str = "mnist_5k"
    """A data set by name: mnist_5k has 5,000 digits and needs no download."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, lr=0)


def run(cfg: Config) -> xr.Dataset:
    """Train both rules on the same minibatches, from the same weights, over all seeds."""
    network = models.multilayer((50, 50), 10)
    task = tasks.classification(network, cfg.load(), batch=64)
    rules = {"sgd": "sgd", "momentum": "momentum"}
    found = sweep(task, rules, over={"lr": [cfg.lr]}, seeds=cfg.seeds, steps=cfg.steps, keep=cfg.keep(), progress=True)
    return found.isel(lr=0)


EXPERIMENT = lab.Experiment(
    question="Does momentum help on handwritten digits?",
    says="Momentum speeds up learning.",
    takes="10 s",
    config=Config,
    quick={"seeds": 2, "steps": 50},
    run=run,
    claims=(
        lab.Claim(
            "Momentum ends with a lower test loss than SGD, by 0.01 nats or more",
            lab.ahead(lambda ds: ds.test_loss.isel(update=-1), "rule", "momentum", "sgd", lower=True),
            lab.above(0.01),
            unit="nats",
            figure="loss",
        ),
    ),
    figures={
        "loss": figures.curves("loss", hue="rule", title="Training loss with and without momentum", smooth=11),
        "accuracy": figures.dots("test_accuracy", by="rule"),
    },
)

if __name__ == "__main__":
    EXPERIMENT.main()
