"""Which initial weights learn MNIST fastest under SGD: std = 0.01, Xavier's or He's? (notes §2.3.1, figure 11)"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr

from fnn import init, lab, models, optim, sweep, tasks
from fnn.base.errors import require
from fnn.base.types import Initializer, Scalar
from fnn.lab import figures

HIDDEN = (100, 100, 100, 100)
CLASSES = 10
START = math.log(CLASSES)
"""The loss of guessing, in nats."""
LAST = 200
"""The final loss is the mean over this many last steps: one minibatch's loss is too noisy."""


class Scaled(NamedTuple):
    """Normal weights with standard deviation gain · (n_in + back · n_out)^−power: one program for all such."""

    gain: Scalar
    power: Scalar = 0.5
    back: Scalar = 0.0

    def __call__(self, key, shape, dtype=jnp.float32):
        """The weights of a layer."""
        n_in, n_out = init.fans(shape)
        return init.normal(self.gain * (n_in + self.back * n_out) ** -self.power)(key, shape, dtype)


INITS: dict[str, Scaled | Initializer] = {
    "xavier": Scaled(1.0),
    "he": Scaled(math.sqrt(2)),
    "glorot": Scaled(math.sqrt(2), back=1.0),
    "orthogonal": init.orthogonal(math.sqrt(2)),
}
"""What --inits can name beside a standard deviation; √2 is He's gain for ReLU."""


class Hyper(NamedTuple):
    """The hyperparameters of the task: the initial weights."""

    init: Scaled = Scaled(1.0)


@dataclass(frozen=True)
class Config(lab.DataOptions):
    """Settings of the comparison; the defaults are the notes'."""

    steps: int = 2000
    """Updates per network."""
    batch: int = 128
    """Examples per update, drawn with replacement."""
    lr: float = 0.01
    """SGD's step size."""
    inits: tuple[str, ...] = ("0.01", "xavier", "he")
    """Initial weights to compare: standard deviations, xavier, he, glorot, orthogonal."""

    def check(self) -> None:
        """Raise `InputError` for options that cannot be used."""
        super().check()
        self.check_at_least(steps=1, batch=1)
        require(0 < self.lr < math.inf, f"--lr is a number above 0, not {self.lr}.")
        self.check_distinct(inits="initial weights")
        for name in self.inits:
            known = name in INITS or _positive(name)
            require(known, f"--inits takes a standard deviation above 0, {', '.join(INITS)}; not {name!r}.")


def _positive(text):
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def run(cfg: Config) -> xr.Dataset:
    """Losses and accuracies from all initial weights over all seeds, on the same minibatches."""
    images = cfg.load(batch=cfg.batch)
    weights = {name: INITS[name] if name in INITS else Scaled(float(name), power=0.0) for name in cfg.inits}
    scaled = {name: one for name, one in weights.items() if isinstance(one, Scaled)}
    sgd = optim.rule("sgd")._replace(hyper=optim.rule("sgd").hyper._replace(lr=cfg.lr))

    def trained(network, name, **over):
        task = tasks.classification(network, images, cfg.batch, hyper=Hyper())
        return sweep(
            *(task, sgd), **over, seeds=cfg.seeds, steps=cfg.steps, loss_after=True, keep=cfg.keep(name), progress=True
        )

    network = lambda weights: models.multilayer(HIDDEN, CLASSES, weights=weights)
    parts = [trained(lambda hp: network(hp.init), "scaled", over={"init": scaled})] if scaled else []
    for name, one in weights.items():
        if name not in scaled:
            parts.append(trained(network(one), name).expand_dims(init=[name]))
    guessing = float(np.bincount(images.y_test).max() / len(images.y_test))
    return (
        xr.concat(parts, "init", combine_attrs="override")
        .sel(init=list(weights))
        .assign_attrs(lr=cfg.lr, guessing=guessing)
    )


def title(name: str) -> str:
    """The name of initial weights in figures and sentences."""
    return name.capitalize() if name in INITS else f"std = {name}"


def final_loss(ds: xr.Dataset) -> xr.DataArray:
    """The mean loss of the last steps; infinite for a run that diverged."""
    return ds.loss.isel(step=slice(-LAST, None)).mean("step", skipna=False).fillna(np.inf)


def accuracy(ds: xr.Dataset) -> xr.DataArray:
    """The test accuracy at the end, in percent."""
    return 100 * ds.test_accuracy.isel(update=-1, drop=True)


def ahead(better: str, worse: str) -> tuple[lab.Claim, lab.Claim]:
    """`better` learns faster than `worse`, and ends with a higher test accuracy."""
    both = lab.has("init", better, worse)
    one, other = title(better), title(worse)
    return (
        lab.Claim(
            f"{one} learns faster than {other}",
            lab.ahead("loss", "init", better, worse, lower=True, over=["step"]),
            lab.above(0.0),
            "nats",
            source="claim 6",
            figure="11_differences",
            detail="The effect is the difference of the mean losses over all iterations.",
            where=both,
        ),
        lab.Claim(
            f"{one} ends with a higher test accuracy than {other}",
            lab.ahead(accuracy, "init", better, worse),
            lab.above(0.0),
            "points",
            source="claim 6",
            figure="accuracy",
            where=both,
            secondary=True,
        ),
    )


NO_PROGRESS = (
    lab.Claim(
        "With std = 0.01 learning makes almost no progress (takes less than 10 % off ln 10)",
        lambda ds: final_loss(ds).sel(init="0.01", drop=True) - START,
        lab.above(-0.1 * START),
        "nats",
        source="claim 6",
        figure="11_loss_log",
        detail=f"The effect is the final loss minus that of guessing, ln 10 = {START:.3f}.",
        where=lab.has("init", "0.01"),
    ),
    lab.Claim(
        "With std = 0.01 the network ends no better than guessing (within 1 point)",
        lambda ds: accuracy(ds).sel(init="0.01", drop=True) - 100 * ds.guessing,
        lab.within(-1.0, 1.0),
        "points",
        source="claim 6",
        figure="accuracy",
        detail="The effect is the test accuracy minus the share of the most common class.",
        where=lab.has("init", "0.01"),
        secondary=True,
    ),
)

STYLE = figures.Style(title, {"0.01": 0, "xavier": 2, "he": 3})
"""The notes' three keep their markers (circle, square, diamond), whatever is compared with them."""
SGD = "SGD, learning rate {lr:g}"

EXPERIMENT = lab.Experiment(
    question="Which initial weights learn MNIST fastest under SGD: std = 0.01, Xavier's or He's?",
    source="notes §2.3.1, figure 11",
    says="With std = 0.01 the activations and so the gradients are tiny, and learning makes almost no progress; in "
    "figure 11 He's weights learn fastest, Xavier's next.",
    method="Trains the notes' network, 784-100-100-100-100-10 with ReLU, by SGD from initial weights of different "
    "size. For a seed the weights of all contenders are the same normal draw times their own standard deviation, and "
    "the minibatches are the same. The loss recorded is that on the minibatch after the update; weights that learn "
    "faster have the lower mean loss. Other sizes, Glorot's form of Xavier and orthogonal weights can be compared "
    "too: --inits 0.03 xavier glorot orthogonal.",
    takes="about three quarters of a minute for 10 seeds of 2,000 steps on two cores",
    config=Config,
    quick={"seeds": 2, "steps": 200, "dataset": "mnist_5k"},
    run=run,
    claims=(*ahead("xavier", "0.01"), *ahead("he", "xavier"), *NO_PROGRESS),
    figures={
        "11_loss": figures.curves(
            *("loss", "init", "Training loss from each initial weights (notes, figure 11)"),
            style=STYLE,
            smooth=11,
            markers=100,
            ylim=(0.0, 2.5),
            details=(SGD,),
        ),
        "11_loss_log": figures.curves(
            *("loss", "init", "Training loss from each initial weights, log scale"),
            style=STYLE,
            smooth=31,
            log="y",
            guide=(START, "guessing, ln 10"),
            details=(SGD,),
        ),
        "11_differences": lambda ds: (
            figures.differences("loss", "init", style=STYLE, details=(SGD,))(ds) if ds.sizes["init"] > 1 else None
        ),
        "accuracy": figures.dots(
            *("test_accuracy", "init", "Test accuracy after {steps:,} iterations"),
            style=STYLE,
            guide=("guessing", "guessing the most common class"),
            xlim=(0.0, 100.0),
            details=(SGD,),
        ),
    },
)

if __name__ == "__main__":
    EXPERIMENT.main()
