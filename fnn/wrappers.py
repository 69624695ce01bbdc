"""Rules around rules: clipping, decay, masks, groups, accumulation, averaging, lookahead.

Each takes a rule and gives a rule, whose hyperparameters hold the inner one's as `inner`; so they nest, sweep and
schedule ("inner.lr") as any rule does. The outermost sees the gradient first:

    clip_norm(decay(adam))      clips, then adds the decay, then takes Adam's step
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.errors import InputError, require
from fnn.hyper import get, rate
from fnn.rule import Extra, Rule, treewise
from fnn.trees import norm, rms, zeros_like
from fnn.types import Params, Scalar

Where = Callable[[Params], Any]
"""`params -> tree of bools` of the same structure, decided without looking at values: which arrays are meant."""


def everywhere(params: Params) -> Any:
    """All arrays."""
    return jax.tree.map(lambda w: True, params)


def matrices(params: Params) -> Any:
    """Arrays of two axes and more: weights, but neither biases nor scales."""
    return jax.tree.map(lambda w: w.ndim >= 2, params)


def before(hyper: Any, rule: Rule, change: Callable[[Any, Params, Params, Extra], Params]) -> Rule:
    """The rule fed with `change(hp, g, w, extra)` in place of the gradient g; `hyper` holds the rule's as `inner`."""

    def update(hp, t: Array, g: Params, s: Any, w: Params, extra: Extra):
        return rule.update(hp.inner, change(hp, g, w, extra), s, w, extra)

    return treewise(hyper, _inner_init(rule), update, _inner_result(rule))


def _inner_init(rule):
    return lambda hp, w: rule.init(hp.inner, w)


def _inner_result(rule):
    return lambda hp, t, w, s: rule.result(hp.inner, w, s)


class Clipped(NamedTuple):
    """inner: the rule's; limit: the most that is let through, more than 0."""

    inner: Any
    limit: Scalar = 1.0


def _clip_each(rule: Rule, shorter: Callable[[Scalar, Array, Array], Array], limit: float = 1.0) -> Rule:
    """The rule fed with `shorter(limit, g, w)` of every array."""

    def change(hp, g, w, extra):
        return jax.tree.map(lambda g, w: shorter(hp.limit, g, w), g, w)

    return before(Clipped(rule.hyper, limit), rule, change)


def clip_value(rule: Rule) -> Rule:
    """Every coordinate of the gradient within ± limit."""
    return _clip_each(rule, lambda limit, g, w: jnp.clip(g, -limit, limit))


def clip_rms(rule: Rule) -> Rule:
    """Every array of the gradient scaled down to a root mean square of at most limit.

    Shazeer & Stern 2018, arXiv:1804.04235, Algorithm 4.
    """
    return _clip_each(rule, lambda limit, g, w: g / jnp.maximum(1, rms(g) / limit))


def clip_norm(rule: Rule) -> Rule:
    """The gradient scaled down to a norm of at most limit, over all arrays together.

    g · min(1, limit / ‖g‖). Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, Algorithm 1.
    """

    def change(hp, g, w, extra):
        size = norm(g)
        return jax.tree.map(lambda g: jnp.where(size < hp.limit, g, g / jnp.where(size > 0, size, 1) * hp.limit), g)

    return before(Clipped(rule.hyper), rule, change)


def clip_adaptive(rule: Rule, inputs: int = 0) -> Rule:
    """Every unit's gradient scaled down to at most limit times its weights' norm, which counts for at least 0.001.

    Brock et al. 2021, arXiv:2102.06171, eq. 3. A vector is one unit. inputs: the axis of a unit's weights in a matrix;
    0 for `[inputs, outputs]` as in flax, 1 for the layers of fnn and torch.
    """

    def size(x):
        axis = inputs if x.ndim >= 2 else None
        return jnp.sqrt(jnp.sum(x**2, axis, keepdims=True))

    def shorter(limit, g, w):
        most = limit * jnp.maximum(size(w), 1e-3)
        return jnp.where(size(g) < most, g, g * (most / jnp.maximum(size(g), 1e-6)))

    return _clip_each(rule, shorter, 0.01)


class Decayed(NamedTuple):
    """inner: the rule's; weight_decay: the share of the weights."""

    inner: Any
    weight_decay: Scalar = 1e-4


def decay(rule: Rule, where: Where = matrices) -> Rule:
    """L2: the rule fed with g + weight_decay · w, as if ½ · weight_decay · ‖w‖² were part of the loss."""

    def change(hp, g, w, extra):
        return jax.tree.map(lambda on, g, w: g + hp.weight_decay * w if on else g, where(w), g, w)

    return before(Decayed(rule.hyper), rule, change)


def decay_decoupled(rule: Rule, where: Where = matrices) -> Rule:
    """The rule's step less lr · weight_decay · w. Loshchilov & Hutter 2019, arXiv:1711.05101, as optax and torch do it.

    The rule, or the one innermost in it, must have an lr.
    """
    name = rate(rule.hyper)
    if name is None:
        raise InputError("Decoupled decay is scaled by the rule's lr, and this rule has none.")

    def update(hp, t: Array, g: Params, s: Any, w: Params, extra: Extra):
        step, s = rule.update(hp.inner, g, s, w, extra)
        lr = get(hp.inner, name)
        return jax.tree.map(lambda on, u, w: u - lr * hp.weight_decay * w if on else u, where(w), step, w), s

    return treewise(Decayed(rule.hyper), _inner_init(rule), update, _inner_result(rule))


class Inner(NamedTuple):
    """inner: the rule's."""

    inner: Any


def only(rule: Rule, where: Where) -> Rule:
    """The rule where it is meant to be; all other arrays stay as they are, and no state is kept for them."""
    group = by_group({"trained": rule}, lambda w: jax.tree.map(lambda on: "trained" if on else "frozen", where(w)))
    inside = lambda f: lambda hp, *rest: f({"trained": hp.inner}, *rest)
    return Rule(Inner(rule.hyper), inside(group.init), inside(group.update), inside(group.result))


def by_group(rules: Mapping[str, Rule], label: Callable[[Params], Any]) -> Rule:
    """A rule a group of arrays: `label(params)` is the tree of their names, the array's rule that of its name.

    Hyperparameters are a dictionary of the groups'. Arrays whose name is "frozen" stay as they are. Raises
    `InputError` for a name without a rule.
    """
    rules = dict(rules)

    def part(name, tree, names):
        return jax.tree.map(lambda n, x: x if n == name else None, names, tree)

    def names_of(w):
        names = label(w)
        unknown = sorted(set(jax.tree.leaves(names)) - {*rules, "frozen"})
        if unknown:
            raise InputError(f"There is no rule for the group {', '.join(unknown)}; there are {', '.join(rules)}.")
        return names

    def init(hp, w):
        names = names_of(w)
        return {name: rule.init(hp[name], part(name, w, names)) for name, rule in rules.items()}

    def gather(names, found, otherwise):
        """Every array from its group's tree."""
        leaves, tree = jax.tree.flatten(otherwise)
        groups = tree.flatten_up_to(names)
        parts = {name: iter(jax.tree.leaves(part_)) for name, part_ in found.items()}
        return tree.unflatten([next(parts[n]) if n in parts else x for n, x in zip(groups, leaves, strict=True)])

    def update(hp, t: Array, g: Params, s: Any, w: Params, extra: Extra):
        names = names_of(w)
        done = {
            name: rule.update(hp[name], part(name, g, names), s[name], part(name, w, names), extra)
            for name, rule in rules.items()
        }
        return gather(names, {n: u for n, (u, _) in done.items()}, zeros_like(w)), {n: s for n, (_, s) in done.items()}

    def result(hp, t, w, s):
        names = names_of(w)
        return gather(names, {n: r.result(hp[n], part(n, w, names), s[n]) for n, r in rules.items()}, w)

    return treewise({name: rule.hyper for name, rule in rules.items()}, init, update, result)


class Accumulated(NamedTuple):
    """inner: the rule's state; mean: of the gradients since its last step, and of their losses."""

    inner: Any
    mean: Params
    value: Array


def accumulate(rule: Rule, every: int) -> Rule:
    """A step of the rule every so many gradients, with their mean; none in between.

    The same step as one with a minibatch so many times as large, where examples do not meet in batch normalization.
    The rule is given the mean of the losses too; where it looks around or draws, it does so on the last minibatch.
    """
    require(every >= 1, f"Gradients are accumulated over 1 or more steps, not {every}.")

    def init(hp, w):
        return Accumulated(rule.init(hp.inner, w), zeros_like(w), jnp.zeros(()))

    def update(hp, t: Array, g: Params, s: Accumulated, w: Params, extra: Extra):
        seen = (t - 1) % every
        mean = jax.tree.map(lambda m, g: m + (g - m) / (seen + 1), s.mean, g)
        value = (
            s.value if extra.value is None else s.value + ((extra.value - s.value) / (seen + 1)).astype(s.value.dtype)
        )
        given = extra if extra.value is None else extra._replace(value=value)
        step, inner = rule.update(hp.inner, mean, s.inner, w, given)
        full = seen == every - 1
        state = Accumulated(
            jax.tree.map(lambda new, old: jnp.where(full, new, old), inner, s.inner),
            jax.tree.map(lambda m: jnp.where(full, 0, m), mean),
            jnp.where(full, 0, value),
        )
        return jax.tree.map(lambda u: jnp.where(full, u, 0), step), state

    return treewise(Inner(rule.hyper), init, update, lambda hp, t, w, s: rule.result(hp.inner, w, s.inner))


class Smoothed(NamedTuple):
    """inner: the rule's; keep: the share of the old in every new average, in [0, 1)."""

    inner: Any
    keep: Scalar = 0.9


class Averaged(NamedTuple):
    """inner: the rule's state; mean: the average."""

    inner: Any
    mean: Params


def smooth(rule: Rule) -> Rule:
    """The rule fed with the corrected moving average of the gradients.

    m ← keep · m + (1 − keep) · g, and m / (1 − keepᵗ).
    """

    def init(hp, w):
        return Averaged(rule.init(hp.inner, w), zeros_like(w))

    def update(hp, t: Array, g: Params, s: Averaged, w: Params, extra: Extra):
        mean = jax.tree.map(lambda m, g: hp.keep * m + (1 - hp.keep) * g, s.mean, g)
        step, inner = rule.update(hp.inner, jax.tree.map(lambda m: m / (1 - hp.keep**t), mean), s.inner, w, extra)
        return step, Averaged(inner, mean)

    return treewise(Smoothed(rule.hyper), init, update, lambda hp, t, w, s: rule.result(hp.inner, w, s.inner))


def ema(rule: Rule) -> Rule:
    """The rule, whose `result` is the corrected moving average of the parameters after its steps.

    m ← keep · m + (1 − keep) · w, and m / (1 − keepᵗ).
    """
    return _averaging(Smoothed(rule.hyper, 0.99), rule, lambda hp, t: hp.keep, lambda hp, t: 1 - hp.keep**t)


def polyak(rule: Rule) -> Rule:
    """The rule, whose `result` is the mean of the parameters after its steps. Polyak & Juditsky 1992, eq. 2."""
    return _averaging(Inner(rule.hyper), rule, lambda hp, t: 1 - 1 / t.astype(float), lambda hp, t: 1)


def _averaging(hyper: Any, rule: Rule, keep: Callable[..., Any], weight: Callable[..., Any]) -> Rule:
    """The rule, whose result is m / weight, with m ← keep · m + (1 − keep) · w; keep and weight of (hp, t)."""

    def init(hp, w):
        return Averaged(rule.init(hp.inner, w), zeros_like(w))

    def update(hp, t: Array, g: Params, s: Averaged, w: Params, extra: Extra):
        step, inner = rule.update(hp.inner, g, s.inner, w, extra)
        kept = keep(hp, t)
        mean = jax.tree.map(lambda m, w, u: (kept * m + (1 - kept) * (w + u)).astype(m.dtype), s.mean, w, step)
        return step, Averaged(inner, mean)

    def result(hp, t, w, s):
        # Before the first step there is nothing to average but the parameters themselves.
        total = weight(hp, jnp.maximum(t, 1))
        return jax.tree.map(lambda m, w: jnp.where(t > 0, m / total, w), s.mean, w)

    return treewise(hyper, init, update, result)


class Slow(NamedTuple):
    """inner: the fast rule's; share: of the way to the fast weights that the slow ones go, in (0, 1]."""

    inner: Any
    share: Scalar = 0.5


class Ahead(NamedTuple):
    """inner: the fast rule's state; slow: the slow weights."""

    inner: Any
    slow: Params


def lookahead(rule: Rule, every: int = 5) -> Rule:
    """Slow weights that follow: every so many steps φ ← φ + share · (w − φ), and w ← φ. The `result` is φ.

    Zhang et al. 2019, arXiv:1907.08610, Algorithm 1.
    """
    require(every >= 1, f"Lookahead follows every 1 or more steps, not {every}.")

    def init(hp, w):
        return Ahead(rule.init(hp.inner, w), w)

    def update(hp, t: Array, g: Params, s: Ahead, w: Params, extra: Extra):
        step, inner = rule.update(hp.inner, g, s.inner, w, extra)
        now = t % every == 0
        gone = jax.tree.map(lambda w, u, slow: w + u - slow, w, step, s.slow)
        slow = jax.tree.map(lambda slow, d: jnp.where(now, slow + hp.share * d, slow), s.slow, gone)
        back = jax.tree.map(lambda u, d: jnp.where(now, u - (1 - hp.share) * d, u), step, gone)
        return back, Ahead(inner, slow)

    return treewise(Slow(rule.hyper), init, update, lambda hp, t, w, s: s.slow)
