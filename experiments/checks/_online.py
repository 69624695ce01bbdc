"""Online problems on which Adam goes to the worst point. Reddi, Kale & Kumar 2018, arXiv:1904.09237.

In round t a player at x in [−1, 1] pays f_t(x) = g_t x and moves by a rule with rate lr/√t.

    Theorem 1   g = C, −1, −1, C, −1, −1, … with C > 2: the best point is −1. With b1 = 0, b2 = 1/(1 + C²) and
                lr < √(1 − b2), Adam is back at its start +1 after every third round. There it pays C, −1, −1 at least,
                where −1 pays −C, 1, 1: its average regret is never below (2 C − 4)/3.
    Theorem 3   g = C with probability (1 + δ)/(C + 1), else −1, which is δ in the mean: the best point is −1. Adam
                moves by the mean of −m/√v, which is above 0 where C is large enough.

Players' moves are clipped to [−1, 1], the projection of one dimension. Adam without momentum and correction, as in
the theorem, is RMSProp. AMSGrad without momentum is gradient descent with rates that only fall, and Zinkevich 2003
bounds its regret by D²/2η_T + Σ η_t g_t²/2 with D = 2.
"""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.checks._oracles import marks, repeated, split, tosses, uniform
from fnn import lab, optim, schedules
from fnn.base.types import Hyper, Keys
from fnn.lab import figures, plotting
from fnn.lab.claims import Effect, Test
from fnn.rule import Rule

WRONG = {"adam": "Adam", "rmsprop:book": "Adam, uncorrected"}
RIGHT = {"amsgrad": "AMSGrad, corrected", "amsgrad:paper": "AMSGrad"}
"""The players and their titles: "corrected", as Adam is, for means that start at 0."""
LARGE, DELTA, B1, B2, RATE = 20.0, 1.0, 0.5, 0.5, 0.5
"""C, δ and the players' hyperparameters in Theorem 3."""
TOSSERS = ("adam", "amsgrad:paper")
DRAWS = 16
"""Number of last gradients on which Adam's move depends in Theorem 3: with b1 and b2 of ½ the others weigh 2⁻¹⁶."""
SAMPLED = 0.05
"""Relative tolerance of a mean over random rounds."""
ROUNDED = 1e-9
"""Relative tolerance of a theorem's bound: the accuracy of float64 sums of 10,000 rounds."""
AT_THE_END = 0.05
"""Distance from −1 that counts as arrived: AMSGrad still moves slightly within every three rounds."""


@functools.partial(jax.jit, static_argnums=0)
def play(
    rules: tuple[Rule, ...], hypers: tuple[Hyper, ...], gradients: Float[Array, "games rounds"], start: float
) -> list[tuple[Float[Array, "games rounds"], Float[Array, "games rounds"]]]:
    """Every player's points x₁, x₂, … in every game, and its moves before clipping, divided by lr/√t."""
    rounds = gradients.shape[-1]
    falling = schedules.on("lr", lambda progress: 1 / jnp.sqrt(1 + progress.t))

    def one(rule, hp, gradients):
        def move(carry, g):
            x, state = carry
            dx, after = rule.update(hp, g, state, x)
            return (jnp.clip(x + dx, -1, 1), after), (x, dx)

        x = jnp.asarray(start, gradients.dtype)
        places, moves = jax.lax.scan(move, (x, rule.init(hp, x)), gradients)[1]
        return places, moves * jnp.sqrt(1 + jnp.arange(rounds)) / hp.lr

    slower = [schedules.scheduled(rule, falling, rounds) for rule in rules]
    return [jax.vmap(functools.partial(one, rule))(hp, gradients) for rule, hp in zip(slower, hypers, strict=True)]


def players(names: Iterable[str], n: int, lr: Any, b1: Any, b2: Any) -> tuple[tuple[Rule, ...], tuple[Hyper, ...]]:
    """The rules of these names, and their hyperparameters for n games, with eps = 0."""
    given = {"lr": lr, "b1": b1, "b2": b2, "rho": b2, "eps": 0.0}
    rules = tuple(map(optim.rule, names))
    hypers = (rule.hyper._replace(**{name: given[name] for name in rule.hyper._fields}) for rule in rules)
    return rules, tuple(repeated(hyper, n) for hyper in hypers)


def measure(keys: Keys, rounds: int) -> xr.Dataset:
    """Theorem 1 with random constants, and Theorem 3 with random gradients; the rounds are whole cycles of three."""
    k_one, k_three = split(keys, 2)
    rounds -= rounds % 3
    return xr.merge([constants(k_one, rounds), coins(k_three, rounds)])


def constants(keys: Keys, rounds: int) -> xr.Dataset:
    """Theorem 1: points and average regrets, with C from 3 to 10 and lr from 0.3 to 0.9 of the largest allowed."""
    large, share = np.asarray(uniform(keys, 2)).T
    large, share = 3 + 7 * large, 0.3 + 0.6 * share
    b2 = 1 / (1 + large**2)
    lr = share * np.sqrt(1 - b2)
    gradient = np.where(np.arange(rounds) % 3 == 0, large[:, None], -1.0)
    seen, cycles = marks(rounds), marks(rounds // 3)
    games = play(*players(WRONG | RIGHT, len(large), lr, 0.0, b2), gradient, 1.0)
    place = np.stack([places for places, _ in games])
    # After whole cycles, in which the gradients sum to C − 2 > 0, the best point in hindsight is −1.
    regret = (gradient * (place + 1)).cumsum(-1)[..., 2::3][..., cycles - 1] / (3 * cycles)
    return xr.Dataset(
        {
            "place": (("player", "seed", "round"), place[..., seen - 1], {"long_name": "place", "units": "1"}),
            "regret": (("player", "seed", "cycle"), regret, {"long_name": "average regret", "units": "1"}),
            "away": (
                ("player", "seed"),
                abs(place[..., ::3] - 1).max(-1),
                {"long_name": "|x − 1| after whole cycles", "units": "1"},
            ),
            "large": ("seed", large, {"long_name": "constant C", "units": "1"}),
            "online_lr": ("seed", lr, {"long_name": "learning rate", "units": "1"}),
        },
        {"player": list(WRONG | RIGHT), "round": seen, "cycle": cycles},
    )


def coins(keys: Keys, rounds: int) -> xr.Dataset:
    """Theorem 3: points, and the mean move of every game."""
    gradient = np.where(tosses(keys, chance(LARGE, DELTA), rounds), LARGE, -1.0)
    games = play(*players(TOSSERS, len(gradient), RATE, B1, B2), gradient, 0.0)
    place, move = (np.stack(each) for each in zip(*games, strict=True))
    seen = marks(rounds)
    return xr.Dataset(
        {
            "tossed_place": (("tosser", "seed", "round"), place[..., seen - 1], {"long_name": "place", "units": "1"}),
            "tossed_move": (
                ("tosser", "seed"),
                move[..., DRAWS:].mean(-1),
                {"long_name": "mean move", "units": "lr/√t"},
            ),
        },
        {"tosser": list(TOSSERS), "round": seen},
    )


def chance(large: float, delta: float) -> float:
    """The probability of C, at which the mean gradient is δ."""
    return (1 + delta) / (1 + large)


def expected_move(large: float, delta: float, b1: float, b2: float) -> float:
    """The mean of Adam's −m̂/√v̂ after `DRAWS` rounds of Theorem 3, over all sequences of gradients."""
    heads = (np.arange(2**DRAWS)[:, None] >> np.arange(DRAWS)) & 1 == 1
    g = np.where(heads, large, -1.0)
    corrected = lambda b, moment: moment @ ((1 - b) * b ** np.arange(DRAWS)) / (1 - b**DRAWS)
    probability = np.where(heads, chance(large, delta), 1 - chance(large, delta)).prod(1)
    return float(probability @ (-corrected(b1, g) / np.sqrt(corrected(b2, g**2))))


def regret_of_adam(large: Any) -> Any:
    """(2 C − 4)/3, the lower bound of Adam's average regret in Theorem 1."""
    return (2 * large - 4) / 3


def regret_of_amsgrad(large: Any, lr: Any, rounds: Any) -> Any:
    """The upper bound of AMSGrad's average regret in Theorem 1: (2 C/lr + lr √(1 + C²))/√T.

    Zinkevich's bound with η_t = lr/√(t v), where C √(1 − b2) ≤ √v ≤ C, b2 = 1/(1 + C²), and Σ 1/√t ≤ 2 √T.
    """
    return (2 * large / lr + lr * np.sqrt(1 + large**2)) / np.sqrt(rounds)


def figure(ds: xr.Dataset) -> Figure:
    """Points and average regrets in Theorem 1, and points in Theorem 3."""
    fig = plotting.figure(11.0, 4.8)
    left, middle, right = fig.subplots(1, 3)
    t, rounds, level = ds["round"].values, 3 * ds.cycle.values, regret_of_adam(ds.large.values)[:, None]
    for number, (name, called) in enumerate((WRONG | RIGHT).items()):
        plotting.curve(left, t, ds.place.sel(player=name).values, called, number, markers=9)
        plotting.curve(middle, rounds, ds.regret.sel(player=name).values / level, called, number, markers=9)
        if name in TOSSERS:
            plotting.curve(right, t, ds.tossed_place.sel(tosser=name).values, called, number, markers=9)
    bound = regret_of_amsgrad(ds.large.values[:, None], ds.online_lr.values[:, None], rounds) / level
    middle.axhline(1, color="black", linestyle=":", linewidth=1.2, label="Adam's, predicted: at least (2 C − 4)/3")
    middle.plot(rounds, bound.mean(0), "k--", linewidth=1.2, label="AMSGrad's, predicted: at most K/√T")
    for ax, title in ((left, "Theorem 1"), (right, "Theorem 3")):
        plotting.dress(ax, xscale="log", xlabel="round t", ylabel="point x", title=title, ylim=(-1.1, 1.1))
    level_name = "average regret / ((2 C − 4)/3)"
    plotting.dress(middle, xscale="log", yscale="log", xlabel="rounds T", ylabel=level_name, title="Theorem 1")
    plotting.legend(fig, 3, of=middle)
    mean = figures.caption(ds, "the best point is −1", "mean with its 95 % interval")
    plotting.caption(
        fig,
        f"{mean} · Theorem 1: gradients C, −1, −1, …, C and lr differ by seed, Adam at 1 in every third round · "
        f"Theorem 3: gradient {LARGE:g} with probability {chance(LARGE, DELTA):.3f}, else −1; b1 = {B1:g}, b2 = {B2:g}",
    )
    return fig


def over(effect: xr.DataArray) -> xr.DataArray:
    """The largest value of each game."""
    return effect.max([dim for dim in effect.dims if dim != "seed"], skipna=False)


def relative(ds: xr.Dataset) -> xr.DataArray:
    """Adam's average regrets over their lower bound."""
    return ds.regret.sel(player=list(WRONG)) / regret_of_adam(ds.large)


def used(ds: xr.Dataset) -> xr.DataArray:
    """AMSGrad's average regrets over their upper bound."""
    return ds.regret.sel(player=list(RIGHT)) / regret_of_amsgrad(ds.large, ds.online_lr, 3 * ds.cycle)


def tossed(ds: xr.Dataset, name: str) -> xr.DataArray:
    """The final point of a player of Theorem 3."""
    return ds.tossed_place.sel(tosser=name, drop=True).isel(round=-1, drop=True)


def theorem(number: int, text: str, effect: Effect, test: Test, detail: Any = "", source: str = "") -> lab.Claim:
    """A claim of one of the theorems."""
    source = source or f"arXiv:1904.09237, Theorem {number}"
    return lab.Claim(f"In Theorem {number} {text}", effect, test, source=source, figure="online", detail=detail)


def mean_moves(ds: xr.Dataset) -> str:
    """The sentence on Adam's mean move and its prediction."""
    predicted, move = expected_move(LARGE, DELTA, B1, B2), float(ds.tossed_move.sel(tosser="adam").mean())
    return f"Its mean move is {move:+.4f} lr/√t, predicted {predicted:+.4f}; the effect is the relative difference."


CLAIMS = (
    theorem(
        1,
        "Adam is back at +1, the worst point, after every third round",
        lambda ds: over(ds.away.sel(player=list(WRONG))),
        lab.exactly(0),
        "Gaps are distances from it, with and without bias correction.",
    ),
    theorem(
        1,
        "Adam's average regret is never below (2 C − 4)/3",
        lambda ds: over(1 - relative(ds)),
        lab.exactly(ROUNDED),
        lambda ds: (
            "Gaps are relative to that, negative where the regret is above; at the end it is "
            f"{float(relative(ds).isel(cycle=-1).mean()):.3f} times as large."
        ),
    ),
    theorem(
        1,
        "AMSGrad ends at −1, the best point",
        lambda ds: over(ds.place.sel(player=list(RIGHT)).isel(round=-1) + 1),
        lab.exactly(AT_THE_END),
        "Gaps are distances from it, with and without bias correction.",
    ),
    theorem(
        1,
        "AMSGrad's average regret never exceeds K/√T",
        lambda ds: over(used(ds)),
        lab.exactly(1 + ROUNDED),
        "Gaps are shares of the bound.",
        "Zinkevich 2003",
    ),
    theorem(
        3,
        "Adam ends on the wrong side, above 0",
        lambda ds: tossed(ds, "adam") > 0,
        lab.always(),
        lambda ds: f"It ends at {float(tossed(ds, 'adam').mean()):+.3f} in the mean.",
    ),
    theorem(
        3,
        "Adam's mean move per round is the expectation over all gradients",
        lambda ds: ds.tossed_move.sel(tosser="adam", drop=True) / expected_move(LARGE, DELTA, B1, B2) - 1,
        lab.within(-SAMPLED, SAMPLED),
        mean_moves,
    ),
    theorem(
        3,
        "AMSGrad ends on the right side, below 0",
        lambda ds: tossed(ds, "amsgrad:paper") < 0,
        lab.always(),
        lambda ds: f"It ends at {float(tossed(ds, 'amsgrad:paper').mean()):+.3f} in the mean.",
    ),
)
