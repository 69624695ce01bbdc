"""Gradients of any scale: which rules take the same path on g and c·g, and which move every coordinate by exactly lr.

A rule is homogeneous of degree k where its path on c·g is cᵏ times its path on g: SGD of degree 1, Adam without eps of
degree 0, that is *invariant*. RAdam starts as momentum and ACProp as SGD, so they are neither. Rules are run along
gradients that do not depend on the parameters, so this is a property of whole paths. Rules that need more than the
gradient receive a loss that is also c times as large.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.checks._oracles import NOTHING, ONCE, in_words, split
from fnn import lab, optim
from fnn.base.trees import random_like
from fnn.base.types import Hyper, Keys, Params
from fnn.lab import figures, plotting
from fnn.lab.titles import title
from fnn.rule import Extra, Rule, apply_updates, gradient_streams, hyper, needed

ARRAYS = {"matrix": jax.ShapeDtypeStruct((4, 3), np.float64), "vector": jax.ShapeDtypeStruct((5,), np.float64)}
"""The shapes of the arrays that rules update: 17 coordinates."""
SCALES = 2.0 ** np.arange(-21, 22, 3)
"""The factors c. Powers of 2 are exact, so invariance holds to the last bit; their cube roots are powers of 2 as
well."""
UNIT = int(np.flatnonzero(SCALES == 1)[0])
SETTINGS = {"own": "own hyperparameters", "bare": "no eps and no decay"}
FLOORS = ("eps", "eps_root", "h0", "start", "min_norm")
"""The names of hyperparameters that keep divisors from 0."""
ROUNDING = 1e-12
"""Relative differences up to this count as none."""
ALIKE = 1e-8
"""The same where c is not 1: the ratio of step and w differs then, and so does rounding."""
KINDS = ("invariant", "homogeneous", "neither")
PER_PROGRAM = 24
"""Rules per program: compiling takes nearly all of the time, and longer for many small programs."""
SIGNS = ("sign_sgd", "signum", "lion")
"""Rules whose step is a sign."""


def rate(spec: str) -> float:
    """The default learning rate of a rule."""
    hp = optim.rule(spec).hyper
    return hyper.get(hp, hyper.lr_path(hp) or "lr")


def bare(hp: Hyper) -> Hyper:
    """The hyperparameters with negligible floors of divisors and without weight decay."""
    given = {**dict.fromkeys(FLOORS, NOTHING), "weight_decay": 0.0}
    return jax.tree_util.tree_map_with_path(lambda path, value: given.get(path[-1].name, value), hp)


def both(hp: Hyper) -> Hyper:
    """The hyperparameters under both `SETTINGS`, on a new first axis."""
    return jax.tree.map(lambda *h: np.array(h, np.float64), hp, bare(hp))


def is_kin(rule: Rule) -> bool:
    """Whether a rule is of Adam's kind: it has b1, b2 and eps."""
    return {"b1", "b2", "eps"} <= set(rule.hyper._fields)


def times(c: Any, extra: Extra) -> Extra:
    """The `Extra` of c times the loss."""
    value, value_fn, example_grads = needed(extra, "value", "value_fn", "example_grads")
    scaled = lambda tree: jax.tree.map(lambda g: c * g, tree)
    return Extra(c * value, lambda w: c * value_fn(w), lambda: scaled(example_grads()), extra.key)


@functools.partial(jax.jit, static_argnums=1, compiler_options=ONCE)
def draw(keys: Keys, updates: int) -> tuple[Params, Params]:
    """Every seed's weights `[seeds, …]` and gradients `[seeds, updates, …]`, normal."""
    longer = jax.tree.map(lambda a: jax.ShapeDtypeStruct((updates, *a.shape), a.dtype), ARRAYS)

    def one(key):
        k_w, k_g = jax.random.split(key)
        return random_like(jax.random.normal, k_w, ARRAYS), random_like(jax.random.normal, k_g, longer)

    return jax.vmap(one)(keys)


@functools.partial(jax.jit, static_argnums=0, compiler_options=gradient_streams.EXACT)
def respond(
    rules: tuple[Rule, ...], hypers: tuple[Hyper, ...], weights: Params, gradients: Params, keys: Keys
) -> list[Float[Array, "seeds settings scales updates coordinates"]]:
    """Every rule's updates along every seed's gradients `[seeds, updates, …]`, times every scale."""

    def one(rule, hp, c, w, gradients, key):
        def step(carry, now):
            (w, state), (t, g) = carry, now
            extra = times(c, gradient_streams.extra(g, w, 1 / t, jax.random.fold_in(key, t)))
            dw, state = rule.update(hp, jax.tree.map(lambda g: c * g, g), state, w, extra)
            return (apply_updates(w, dw), state), jax.flatten_util.ravel_pytree(dw)[0]

        t = 1 + jnp.arange(len(jax.tree.leaves(gradients)[0]))
        return jax.lax.scan(step, (w, rule.init(hp, w)), (t, gradients))[1]

    def every(rule, hp):
        over_scales = jax.vmap(functools.partial(one, rule), (None, 0, None, None, None))
        over_settings = jax.vmap(over_scales, (0, None, None, None, None))
        return jax.vmap(over_settings, (None, None, 0, 0, 0))(hp, SCALES, weights, gradients, keys)

    return [every(rule, hp) for rule, hp in zip(rules, hypers, strict=True)]


def measure(keys: Keys, specs: Sequence[str], updates: int) -> xr.Dataset:
    """The changes of these rules' paths when all their gradients are multiplied by c."""
    k_drawn, k_own = split(keys, 2)
    weights, gradients = draw(k_drawn, updates)
    found = []
    with tqdm(total=len(specs), unit="rule", disable=None, leave=False) as bar:
        for first in range(0, len(specs), PER_PROGRAM):
            names = specs[first : first + PER_PROGRAM]
            rules = tuple(map(optim.rule, names))
            moves = respond(rules, tuple(both(rule.hyper) for rule in rules), weights, gradients, k_own)
            found += [response(np.asarray(u), rate(n)) for n, u in zip(names, moves, strict=True)]
            bar.update(len(rules))
    ds = xr.concat(found, xr.DataArray(list(specs), dims="rule", name="rule"))
    ds["kin"] = "rule", [is_kin(optim.rule(spec)) for spec in specs], {"long_name": "rules of Adam's kind"}
    return ds.assign_coords(setting=list(SETTINGS), scale=SCALES)


def response(updates: np.ndarray, lr: float) -> xr.Dataset:
    """The statistics of a rule's updates `[seeds, settings, scales, updates, coordinates]`.

    change: the largest |path at c − path at 1| over the largest |path at 1|.
    degree: the k of path at c = cᵏ · path at 1, by the largest c.
    remainder: the largest change after every path is divided by cᵏ.
    shortest, longest: the least and the largest |Δw|/lr of an update, bare and at c = 1.
    """
    size = lambda path: np.abs(path).max((-2, -1))
    path = updates.cumsum(-2)
    unit = path[:, :, [UNIT]]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        degree = np.log(size(path)[..., -1] / size(unit)[..., 0]) / np.log(SCALES[-1])
        back = SCALES ** -degree[..., None]
        remainder = (size(back[..., None, None] * path - unit) / size(unit)).max(-1)
        change = size(path - unit) / size(unit)
    moves = np.abs(updates[:, list(SETTINGS).index("bare"), UNIT]) / lr
    return xr.Dataset(
        {
            "change": (("seed", "setting", "scale"), change, {"long_name": "change of the path", "units": "1"}),
            "degree": (("seed", "setting"), degree, {"long_name": "degree", "units": "1"}),
            "remainder": (("seed", "setting"), remainder, {"long_name": "change beyond the degree", "units": "1"}),
            "shortest": (("seed", "update"), moves.min(-1), {"long_name": "shortest move", "units": "lr"}),
            "longest": (("seed", "update"), moves.max(-1), {"long_name": "longest move", "units": "lr"}),
        }
    )


def kind(ds: xr.Dataset, spec: str, setting: str = "bare") -> str:
    """Whether a rule is "invariant", else "homogeneous", else "neither"."""
    one = ds.sel(rule=spec, setting=setting)
    if (one.change <= ROUNDING).all():
        return "invariant"
    return "homogeneous" if (one.remainder <= ALIKE).all() else "neither"


def degree(ds: xr.Dataset, spec: str) -> float | None:
    """The degree of a rule without eps; None where it has none."""
    if kind(ds, spec) == "neither":
        return None
    return round(float(ds.degree.sel(rule=spec, setting="bare").mean()), 9)


def off_lr(ds: xr.Dataset) -> xr.DataArray:
    """The largest | |Δw| / lr − 1 | of the coordinates of each update: rule, seed, update."""
    return np.maximum(abs(ds.shortest - 1), abs(ds.longest - 1))


def exact_moves(ds: xr.Dataset) -> tuple[list[str], list[str]]:
    """The rules that always move every coordinate by exactly lr, and those that do so at the first update only."""
    by_lr = (off_lr(ds) <= ROUNDING).all("seed")
    always, first = by_lr.all("update"), by_lr.isel(update=0)
    return [str(spec) for spec in ds.rule[always].values], [str(spec) for spec in ds.rule[first & ~always].values]


def rows(ds: xr.Dataset) -> list[dict]:
    """One row per rule: its degree, and under both settings its kind and its largest change."""
    found = []
    for spec in map(str, ds.rule.values):
        row: dict[str, Any] = {"rule": spec, "degree": degree(ds, spec)}
        for setting in SETTINGS:
            change = float(ds.change.sel(rule=spec, setting=setting).max())
            row |= {f"kind_{setting}": kind(ds, spec, setting), f"change_{setting}": _finite(change)}
        found.append(row)
    return found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def figure(ds: xr.Dataset) -> Figure:
    """The change of every rule's path under g → c·g, with its own hyperparameters and without eps."""
    specs = sorted(map(str, ds.rule.values), key=lambda spec: (KINDS.index(kind(ds, spec)), spec))
    degrees = [degree(ds, spec) for spec in specs]
    fig = plotting.figure(9.0, 2.4 + 0.2 * len(specs))
    left, right = fig.subplots(1, len(SETTINGS))
    image, _ = (heat(ax, ds.change.sel(setting=s, rule=specs)) for ax, s in zip((left, right), SETTINGS, strict=True))
    left.set_yticks(range(len(specs)), map(title, specs), fontsize="small")
    right.yaxis.tick_right()
    right.set_yticks(range(len(specs)), ["–" if k is None else f"{k:.2g}" for k in degrees], fontsize="small")
    bar = fig.colorbar(image, ax=(left, right), location="top", shrink=0.6, aspect=40, pad=0.005)
    bar.set_label("largest relative change of the path under g → c·g (decades; 0 and more are one color)")
    streams = f"{ds.sizes['update']} normal gradients"
    plotting.caption(
        fig,
        f"{figures.caption(ds, streams, paired=False)}, the largest change of them all · on the right: the degree k of "
        "path(c) = cᵏ · path(1), where there is one",
    )
    return fig


def heat(ax: Axes, change: xr.DataArray) -> QuadMesh:
    """The decades of the largest change over seeds, one row per rule and one column per scale."""
    largest = change.max("seed").transpose("rule", "scale")
    decades = np.log10(np.clip(np.nan_to_num(largest, nan=np.inf), 1e-16, 1))
    exponents, n = np.log2(SCALES), len(decades)
    ax.set(xlabel="c", title=SETTINGS[str(change.setting.values)], ylim=(n - 0.5, -0.5))
    ax.set_xticks(exponents[::2], [f"$2^{{{k:.0f}}}$" for k in exponents[::2]])
    ax.spines[:].set_visible(False)
    return ax.pcolormesh(exponents, range(n), decades, cmap="cividis", vmin=-16, vmax=0, rasterized=True)


def largest(ds: xr.Dataset, rules: list[str], setting: str = "bare") -> xr.DataArray:
    """The largest relative change of these rules' paths, of every seed."""
    return ds.change.sel(setting=setting, rule=rules, drop=True).max(("scale", "rule"))


def kindred(ds: xr.Dataset) -> list[str]:
    """The rules of Adam's kind."""
    return list(map(str, ds.rule[ds.kin].values))


def signs(ds: xr.Dataset) -> list[str]:
    """The sign rules."""
    return [spec for spec in SIGNS if spec in ds.rule]


def on_adam(ds: xr.Dataset) -> str:
    """The sentence on Adam with its default eps."""
    own = float(largest(ds, ["adam"], "own").max())
    return (
        f"It is a relative change of the path, c from {SCALES[0]:.0e} to {SCALES[-1]:.0e}; with its own eps {own:.2g}."
    )


def on_kin(ds: xr.Dataset) -> str:
    """The sentence on which rules of Adam's kind are invariant, and on the kinds of the others."""
    by_kind = {name: [spec for spec in map(str, ds.rule.values) if kind(ds, spec) == name] for name in KINDS}
    others = [spec for spec in kindred(ds) if spec not in by_kind["invariant"]]
    n, do = len(kindred(ds)), f"all but {in_words(others)}" if others else "all"
    degrees = [f"{spec} ({degree(ds, spec):.2g})" for spec in by_kind["homogeneous"]]
    return (
        f"{n - len(others)} of {n} rules and dialects do, {do}; of all rules, {len(by_kind['invariant'])} of "
        f"{ds.sizes['rule']} do. Homogeneous, of degree, are {', '.join(degrees) or 'none'}; neither are "
        f"{', '.join(by_kind['neither']) or 'none'}."
    )


def on_signs(ds: xr.Dataset) -> str:
    """The sentence on which rules move by exactly lr."""
    always, first = exact_moves(ds)
    return (
        f"The sign rules are {in_words(signs(ds))}. Of all rules every coordinate moves by lr under "
        f"{', '.join(always) or 'none'}; at the first update only, under {', '.join(first) or 'none'}."
    )


def claim(text: str, effect: Callable[[xr.Dataset], xr.DataArray], source: str, **more: Any) -> lab.Claim:
    """A claim about gaps that rounding alone explains."""
    return lab.Claim(text, effect, lab.exactly(ROUNDING), source=source, figure="scale", **more)


CLAIMS = (
    claim(
        "Adam without eps takes the same path on gradients g and c·g",
        lambda ds: largest(ds, ["adam"]),
        "Kingma & Ba 2015, §2.1",
        detail=on_adam,
        where=lab.has("rule", "adam"),
    ),
    claim(
        "Without eps every rule of Adam's kind, with b1, b2 and eps, takes the same path on gradients g and c·g",
        lambda ds: largest(ds, kindred(ds)),
        "the equations of the rules",
        detail=on_kin,
        where=lambda ds: bool(kindred(ds)),
    ),
    claim(
        "Every coordinate moves by exactly lr under sign rules without decay",
        lambda ds: off_lr(ds).sel(rule=signs(ds)).max(("rule", "update")),
        "the equations of the rules",
        detail=on_signs,
        where=lambda ds: bool(signs(ds)),
    ),
)
