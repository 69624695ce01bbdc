"""The separable examples on which adaptive rules must fail. Wilson et al. 2017, arXiv:1705.08292, §3.3.

A label y is 1 with probability p > ½, else −1. Its example has the features (y, 1, 1), and features that no
other example has: one if y = 1, five if y = −1, all of them 1. Only the first feature determines a fresh label.
Least squares ½ ‖Xw − y‖² from w = 0 has many solutions:

    least norm      w = Xᵀα, where gradient descent ends. On fresh examples it gives 1 − α₊ and −1 − 5 α₋ > −1, where α₊
                    and α₋ solve X Xᵀ α = y: the right sign, if there is a negative example to learn from.
    even            w = sign(Xᵀy)/4, where AdaGrad, RMSProp and Adam without eps end if most labels are 1 (Lemma 3.1).
                    On fresh examples it gives (y + 2)/4: ¾ and ¼, both positive.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.checks._oracles import in_words, marks, split, tosses
from experiments.checks._rescaled import bare
from fnn import lab, optim
from fnn.base.types import Hyper, Keys
from fnn.lab import figures, plotting
from fnn.lab.claims import Effect
from fnn.lab.titles import title
from fnn.rule import Rule, apply_updates

PLAIN = ("sgd", "momentum", "nesterov")
ADAPTIVE = {"adagrad:book": 0.1, "rmsprop:book": 1e-3, "adam": 1e-3}
"""Rules that divide every coordinate by its gradients, each with a learning rate at which it converges in time."""
OWN = 5
CLOSE = 1e-6
"""The tolerance of gradient descent's solution, to which it converges geometrically."""
EVEN = 0.01
"""The relative tolerance of the equality of adaptive rules' weights. In exact arithmetic it holds at every update; but
once gradients are small, steps may be too long for other directions, in which rounding then grows to about lr."""
SOURCE = "arXiv:1705.08292 §3.3"


def features(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features of examples with labels y: those common to all, `[…, 3]`, and which own ones they have, `[…, 5]`."""
    common = np.stack([y, np.ones_like(y), np.ones_like(y)], -1)
    return common, np.where((np.arange(OWN) == 0) | (y[..., None] < 0), 1.0, 0.0)


def least_norm(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The solution of least norm for labels `[…, examples]`: weights of the common and of the own features.

    α is one number for all positive examples and one for all negative ones, which leaves two equations.
    """
    pos, neg = (y > 0).sum(-1, keepdims=True), (y < 0).sum(-1, keepdims=True)
    alpha = np.where(y > 0, 4 * neg + 5, -(4 * pos + 1)) / (8 * pos * neg + 15 * pos + 3 * neg + 5)
    common, own = features(y)
    return (alpha[..., None] * common).sum(-2), alpha[..., None] * own


def even(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The solution sign(Xᵀy)/4 for labels `[…, examples]`: weights of the common and of the own features."""
    common, own = features(y)
    return np.sign((y[..., None] * common).sum(-2)) / 4, y[..., None] * own / 4


@functools.partial(jax.jit, static_argnums=(0, 4))
def fit(
    rules: tuple[Rule, ...],
    hypers: tuple[Hyper, ...],
    x: tuple[Float[Array, "seeds examples 3"], Float[Array, "seeds examples 5"]],
    y: Float[Array, "seeds examples"],
    updates: int,
) -> list[tuple[Float[Array, "seeds updates 3"], Float[Array, "seeds examples 5"]]]:
    """Every rule's least squares from w = 0: weights of common features after every update, of own ones at the end."""

    def one(rule, hyper, x, y):
        def loss(w):
            (common, own), (v, u) = x, w
            return ((common @ v + (own * u).sum(-1) - y) ** 2).sum() / 2

        def step(carry, _):
            w, state = carry
            dw, state = rule.update(hyper, jax.grad(loss)(w), state, w)
            w = apply_updates(w, dw)
            return (w, state), w[0]

        w = jnp.zeros(3), jnp.zeros_like(x[1])
        ((_, own), _), common = jax.lax.scan(step, (w, rule.init(hyper, w)), length=updates)
        return common, own

    return [jax.vmap(functools.partial(one, *each))(x, y) for each in zip(rules, hypers, strict=True)]


def measure(keys: Keys, examples: int, positive: float, fresh: int, updates: int) -> xr.Dataset:
    """The weights of rules on training sets of this number of examples, and the labels of fresh ones.

    Features that only fresh examples have are left out: their gradient is always 0, so their weights stay 0.
    """
    k_train, k_fresh = split(keys, 2)
    y, y_fresh = (np.where(tosses(k, positive, n), 1.0, -1.0) for k, n in ((k_train, examples), (k_fresh, fresh)))
    # X Xᵀ is y yᵀ + 2 · 1 1ᵀ and a diagonal of 1 and 5, so that this is at least its largest eigenvalue L.
    largest = 3 * examples + OWN
    lr = dict.fromkeys(PLAIN, 1 / largest) | ADAPTIVE
    rules = tuple(map(optim.rule, lr))
    hypers = tuple(bare(rule.hyper)._replace(lr=rate) for rule, rate in zip(rules, lr.values(), strict=True))
    common, own = (np.stack(each) for each in zip(*fit(rules, hypers, features(y), y, updates), strict=True))
    seen = marks(updates)
    return xr.Dataset(
        {
            "common": (
                ("fitter", "seed", "fit", "feature"),
                common[:, :, seen - 1],
                {"long_name": "weights", "units": "1"},
            ),
            "own": (
                ("fitter", "seed", "example", "own_feature"),
                own,
                {"long_name": "weights at the end", "units": "1"},
            ),
            "label": (("seed", "example"), y, {"long_name": "label", "units": "1"}),
            "fresh_label": (("seed", "fresh_example"), y_fresh, {"long_name": "label", "units": "1"}),
        },
        {"fitter": list(lr), "fit": seen},
    )


def measured(ds: xr.Dataset, fitter: str) -> np.ndarray:
    """All weights of a rule at the end, `[seed, features]`."""
    one = ds.sel(fitter=fitter)
    return np.hstack([one.common.values[:, -1], one.own.values.reshape(ds.sizes["seed"], -1)])


def predicted(ds: xr.Dataset, fitter: str) -> np.ndarray:
    """The weights that theory predicts."""
    common, own = (least_norm if fitter in PLAIN else even)(ds.label.values)
    return np.hstack([common, own.reshape(ds.sizes["seed"], -1)])


def on_fresh(common: np.ndarray, y: float) -> np.ndarray:
    """The output ⟨w, x⟩ on a fresh example with label y, of the weights of common features `[…, 3]`."""
    return common @ np.array([y, 1, 1])


def mistakes(ds: xr.Dataset, fitter: str) -> np.ndarray:
    """Whether a rule's final output has the wrong sign on each fresh example, `[seed, fresh example]`."""
    common = ds.common.sel(fitter=fitter).values[:, -1]
    y = ds.fresh_label.values
    return np.sign(np.where(y > 0, on_fresh(common, 1)[:, None], on_fresh(common, -1)[:, None])) != y


def as_assumed(ds: xr.Dataset) -> xr.Dataset:
    """The seeds whose training set meets the assumption of the theory: most labels are 1, not all."""
    total = ds.label.values.sum(1)
    return ds.isel(seed=(total > 0) & (total < ds.sizes["example"]))


def figure(ds: xr.Dataset) -> Figure:
    """Outputs on a fresh negative example, the share of mistakes, and all weights, with their predictions."""
    fig = plotting.figure(11.0, 4.6)
    left, middle, right = fig.subplots(1, 3)
    negative = ds.fresh_label.values < 0
    for number, fitter in enumerate(map(str, ds.fitter.values)):
        style = {"marker": plotting.MARKERS[number], "color": plotting.color(number), "linestyle": "none"}
        outputs = on_fresh(ds.common.sel(fitter=fitter).values, -1)
        plotting.curve(left, ds.fit.values, outputs, title(fitter), number, markers=8)
        wrong = mistakes(ds, fitter)
        middle.plot(number, 100 * wrong[negative].mean(), **style)
        middle.plot(number, 100 * wrong.mean(), fillstyle="none", **style)
        theory, found = (weights(ds, fitter).ravel() for weights in (predicted, measured))
        right.plot(theory, found, fillstyle="none", markersize=10 - number, rasterized=True, **style)
    for solution in (least_norm, even):
        theory = on_fresh(solution(ds.label.values)[0], -1).mean()
        left.axhline(theory, color="0.3", linestyle=":", linewidth=1.2)
    left.axhline(0, color="0.6", linewidth=0.8)
    right.axline((0, 0), slope=1, color="0.3", linestyle=":", linewidth=1.2)
    plotting.dress(left, xscale="log", xlabel="updates", ylabel="output", title="on a fresh negative example")
    plotting.dress(middle, ylabel="share (%)", title="fresh examples labeled wrong", xticks=[], ylim=(-5, 105))
    plotting.dress(right, xlabel="predicted", ylabel="measured", title="all weights at the end")
    plotting.legend(fig, 6, of=left)
    training = f"{ds.sizes['example']} training and {ds.sizes['fresh_example']:,} fresh examples"
    left_panel = "left: mean with its 95 % interval, dotted: predicted"
    middle_panel = "middle: full marks for the negative examples, open ones for all"
    right_panel = "right: every weight of every seed, dotted: as predicted"
    plotting.caption(fig, figures.caption(ds, training, "; ".join((left_panel, middle_panel, right_panel))))
    return fig


def worst(names: Iterable[str], values: Callable[[xr.Dataset, str], np.ndarray]) -> Effect:
    """The effect "the largest of `values(ds, name)` over the names", of every seed that meets the assumption."""

    def effect(ds):
        meant = as_assumed(ds)
        return xr.DataArray(np.max([values(meant, name) for name in names], 0), dims="seed")

    return effect


def claim(text: str, effect: Effect, tolerance: float, detail: Any, source: str = SOURCE) -> lab.Claim:
    """A claim about training sets that meet the assumption of the theory."""
    where = lambda ds: as_assumed(ds).sizes["seed"] > 0
    test = lab.exactly(tolerance)
    return lab.Claim(text, effect, test, source=source, figure="separable", detail=detail, where=where)


def output(ds: xr.Dataset, fitter: str) -> float:
    """The mean output of a rule on a fresh negative example."""
    return float(on_fresh(as_assumed(ds).common.sel(fitter=fitter).values[:, -1], -1).mean())


def off(ds: xr.Dataset, fitter: str) -> np.ndarray:
    """The largest difference of a weight from theory's."""
    return np.abs(measured(ds, fitter) - predicted(ds, fitter)).max(1)


def uneven(ds: xr.Dataset, fitter: str) -> np.ndarray:
    """The same for weights relative to the first one."""
    found, theory = (weights / weights[:, :1] for weights in (measured(ds, fitter), predicted(ds, fitter)))
    return np.abs(found - theory).max(1)


def on_plain(ds: xr.Dataset) -> str:
    """The sentence on SGD's output and its prediction."""
    theory = on_fresh(least_norm(as_assumed(ds).label.values)[0], -1).mean()
    return (
        "Gaps are shares of mistakes. SGD's output on a fresh negative example is "
        f"{output(ds, 'sgd'):.4f}, predicted {theory:.4f}."
    )


def on_adaptive(ds: xr.Dataset) -> str:
    """The sentence on Adam's output and its prediction."""
    negative = (as_assumed(ds).fresh_label.values < 0).mean()
    return (
        f"Gaps are shares labeled differently; {100 * negative:.0f} % of the examples are negative. Adam's output on "
        f"one is {output(ds, 'adam'):.4f}, predicted 0.25."
    )


def on_even(ds: xr.Dataset) -> str:
    """The sentence on Adam's first weight and its prediction."""
    first = measured(as_assumed(ds), "adam")[:, 0].mean()
    return f"Gaps are of weights relative to the first, which is {first:.4f} under Adam, predicted 0.25."


PLAIN_NAMES, ADAPTIVE_NAMES = (in_words(map(title, names)) for names in (PLAIN, ADAPTIVE))

CLAIMS = (
    claim(
        f"{PLAIN_NAMES} label every fresh example right",
        worst(PLAIN, lambda ds, name: mistakes(ds, name).mean(1)),
        0,
        on_plain,
    ),
    claim(f"{PLAIN_NAMES} end at the solution of least norm", worst(PLAIN, off), CLOSE, "Gaps are of weights."),
    claim(
        f"{ADAPTIVE_NAMES} label every fresh negative example wrong, and every positive one right",
        worst(ADAPTIVE, lambda ds, name: (mistakes(ds, name) != (ds.fresh_label.values < 0)).mean(1)),
        0,
        on_adaptive,
    ),
    claim(
        f"The weights of {ADAPTIVE_NAMES} are in proportion to sign(Xᵀy)",
        worst(ADAPTIVE, uneven),
        EVEN,
        on_even,
        "arXiv:1705.08292, Lemma 3.1",
    ),
)
