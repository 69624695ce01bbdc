"""Rules around rules: clipping, decay, masks, groups, accumulation, averaging, lookahead, master weights.

Each takes a rule and gives a rule, whose hyperparameters hold the inner one's as `inner`; so they nest, sweep and
schedule ("inner.lr") as any rule does. The outermost sees the gradient first:

    clip_norm(decay(adam))      clips, then adds the decay, then takes Adam's step

A wrapper changes everything that the inner rule reads in the same way: `decay` adds its penalty to the loss, the loss
elsewhere (`Extra.value_fn`), the gradient and every example's gradient (`Extra.example_grads`); clipping clips every
gradient, also those of the loss elsewhere; a group of arrays has its part of the gradients and losses, and its key.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fnn.base.errors import InputError, require, whole
from fnn.base.trees import cast_like, dot, norm, norm_along, rms, spread, widen, zeros_like
from fnn.base.types import Interval, Kept, Limit, NonNegative, Params, Scalar
from fnn.nn.axes import Convention, axes, multihead
from fnn.rule.contract import EMPTY, NOTHING, Empty, Extra, Rule, checked, composed, owned
from fnn.rule.hyper import without_lr

Where = Callable[[Params], Any]
"""`params -> tree of bools`, a prefix of the parameters' tree, by structure and shapes: True for the arrays meant."""

Gradient = Callable[[Params, Params], Params]
"""`(g, w) -> another gradient`, of the gradient g at the parameters w."""


def everywhere(params: Params) -> Any:
    """All arrays."""
    return jax.tree.map(lambda w: True, params)


def matrices(params: Params) -> Any:
    """Arrays of two axes and more: weights, but neither biases nor scales."""
    return jax.tree.map(lambda w: w.ndim >= 2, params)


def mask(where: Where, params: Params) -> Any:
    """`where(params)` as a bool for each array. Raises `InputError` where it is no prefix, or not of bools."""
    on = where(params)
    wrong = [leaf for leaf in jax.tree.leaves(on) if not isinstance(leaf, bool | np.bool_)]
    require(not wrong, f"A mask is a tree of True and False, not of {', '.join(map(repr, wrong))}.")
    return spread(on, params, "The masks")


def loss_of(value_and_grad: Callable[[Params], tuple[Scalar, Params]]) -> Callable[[Params], Scalar]:
    """The loss whose value and gradient at `params` are `value_and_grad(params)`, for every derivative that is taken.

    The given gradient need not be that of the value (it may be clipped); second derivatives are its derivatives.
    """

    def loss(params):
        # What value_and_grad closes over becomes arguments, so that one may differentiate by hyperparameters and data.
        pure, others = jax.closure_convert(value_and_grad, params)

        @jax.custom_jvp
        def value(params, *others):
            return pure(params, *others)[0]

        @value.defjvp
        def slope(primals, tangents):
            (params, *others), (d_params, *d_others) = primals, tangents
            (f, g), (df, _) = jax.jvp(lambda *others: pure(params, *others), others, d_others)
            return f, df + dot(g, d_params).astype(f.dtype)

        return value(params, *others)

    return loss


def at_gradients(extra: Extra, change: Gradient, w: Params) -> Extra:
    """`extra` with every gradient g of its functions, at parameters w, replaced by `change(g, w)`."""
    value_fn, example_grads = extra.value_fn, extra.example_grads

    def changed(value_fn):
        def value_and_grad(params):
            value, g = jax.value_and_grad(value_fn)(params)
            return value, change(g, params)

        return loss_of(value_and_grad)

    return extra._replace(
        value_fn=value_fn and changed(value_fn),
        example_grads=example_grads and (lambda: jax.vmap(change, (0, None))(example_grads(), w)),
    )


def without(extra: Extra, name: str, sentence: str) -> Extra:
    """`extra` where a call of this part raises `InputError(sentence)`."""

    def refuse(*_):
        raise InputError(sentence)

    return extra if getattr(extra, name) is None else extra._replace(**{name: refuse})


def before(hyper: Any, rule: Rule, change: Callable[[Any, Params, Params, Extra], tuple[Params, Extra]]) -> Rule:
    """The rule that reads `change(hp, g, w, extra)` in place of (g, extra); `hyper` holds the rule's as `inner`."""

    def update(hp, t: Array, g: Params, s: Any, w: Params, extra: Extra):
        g, extra = change(hp, g, w, extra)
        return rule.update(hp.inner, g, s, w, extra)

    return composed(hyper, _inner_init(rule), update, _inner_result(rule), inside=[rule])


def _inner_init(rule):
    return lambda hp, w: rule.init(hp.inner, w)


def _inner_result(rule):
    return lambda hp, t, w, s: rule.result(hp.inner, w, s)


def _state_result(rule):
    """The result where the rule's state is a part of the wrapper's."""
    return lambda hp, t, w, s: rule.result(hp.inner, w, s.inner)


class Clipped(NamedTuple):
    """inner: the rule's; limit: the largest size of a gradient, ∞ for no limit."""

    inner: Any
    limit: Limit = 1.0


def clipped(rule: Rule, shorter: Callable[[Scalar, Params, Params], Params], limit: float = 1.0) -> Rule:
    """The rule with `shorter(limit, g, w)` in place of every gradient g at parameters w."""

    rule = checked(rule)

    def change(hp, g, w, extra):
        clip = lambda g, w: shorter(hp.limit, g, w)
        return clip(g, w), at_gradients(extra, clip, w)

    return before(Clipped(rule.hyper, limit), rule, change)


def _of_each_array(shorter):
    return lambda limit, g, w: jax.tree.map(lambda g, w: shorter(limit, g, w), g, w)


def clip_value(rule: Rule) -> Rule:
    """Every coordinate of the gradient within ± limit."""
    return clipped(rule, _of_each_array(lambda limit, g, w: jnp.clip(g, -limit, limit)))


def clip_rms(rule: Rule) -> Rule:
    """Every array of the gradient scaled down to a root mean square of at most limit.

    Shazeer & Stern 2018, arXiv:1804.04235, Algorithm 4.
    """

    def shorter(limit, g, w):
        return g / jnp.where(rms(g) > limit, rms(g) / limit, 1)

    return clipped(rule, _of_each_array(shorter))


def clip_norm(rule: Rule) -> Rule:
    """The gradient scaled down to a norm of at most limit, over all arrays together.

    g · min(1, limit / ‖g‖). Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, Algorithm 1.
    """

    def shorter(limit, g, w):
        size = norm(g)
        return jax.tree.map(lambda g: jnp.where(size < limit, g, g / jnp.where(size == 0, 1, size) * limit), g)

    return clipped(rule, shorter)


def clip_adaptive(rule: Rule, layout: Convention = multihead) -> Rule:
    """Every unit's gradient scaled down to at most limit times its weights' norm, which counts for at least 0.001.

    Brock et al. 2021, arXiv:2102.06171, eq. 3. A unit has the weights of one output or is an entry of a table, as the
    layer declares its axes and otherwise by `layout`, optax's by default; an array that is neither is one unit.
    """

    def unit(limit, known, g, w):
        along = known.unit(w)
        most, now = limit * norm_along(w, along, 1e-3), norm_along(g, along, 1e-6)
        return jnp.where(now < most, g, g * (most / now))

    def shorter(limit, g, w):
        return jax.tree.map(lambda known, g, w: unit(limit, known, g, w), axes(w, layout), g, w)

    return clipped(rule, shorter, 0.01)


class Bounded(NamedTuple):
    """inner: the rule's; limit: the largest norm of a unit's weights, ∞ for no limit."""

    inner: Any
    limit: Limit = 3.0


def max_norm(rule: Rule, layout: Convention = multihead) -> Rule:
    """The rule, after whose step every unit's weights are scaled down to a norm of at most limit.

    w ← w · min(1, limit / ‖w‖), the nearest point that is allowed. Srivastava et al. 2014, Dropout, §5.1. A unit has
    the weights of one output or is an entry of a table, as the layer declares its axes and otherwise by `layout`;
    biases, scales and shifts are free. Rules around it may lengthen its steps, so it is best the outermost.

    When not to use it: where normalization follows the weights, whose size then changes nothing but the step.
    """
    rule = checked(rule)

    def update(hp, t: Array, g: Params, s: Any, w: Params, extra: Extra):
        step, s = rule.update(hp.inner, g, s, w, extra)

        def bounded(known, w, u):
            if known.exempt:
                return u
            size = norm_along(w + u, known.unit(w), 0.0)
            # From w + u, not w: an array within its limit takes the rule's step, bit for bit.
            return jnp.where(size > hp.limit, (w + u) * (hp.limit / jnp.where(size == 0, 1, size)) - w, u)

        return jax.tree.map(bounded, axes(w, layout), w, step), s

    return composed(Bounded(rule.hyper), _inner_init(rule), update, _inner_result(rule), inside=[rule])


class Decayed(NamedTuple):
    """inner: the rule's; weight_decay: the share of the weights."""

    inner: Any
    weight_decay: NonNegative = 1e-4


def decay(rule: Rule, where: Where = matrices) -> Rule:
    """L2: the rule with ½ · weight_decay · ‖w‖² added to every loss, hence weight_decay · w to every gradient."""

    rule = checked(rule)

    def change(hp, g, w, extra):
        on, value, value_fn, example_grads = mask(where, w), *extra[:3]
        pull = lambda g: jax.tree.map(lambda on, g, w: g + hp.weight_decay * w if on else g, on, g, w)

        def penalty(w):
            held = jax.tree.map(lambda on, w: w if on else None, on, w)
            return hp.weight_decay / 2 * dot(held, held)

        return pull(g), extra._replace(
            value=None if value is None else value + penalty(w),
            value_fn=value_fn and (lambda w: value_fn(w) + penalty(w)),
            example_grads=example_grads and (lambda: pull(example_grads())),
        )

    return before(Decayed(rule.hyper), rule, change)


def decay_decoupled(rule: Rule, where: Where = matrices) -> Rule:
    """The rule's step minus lr · weight_decay · w. Loshchilov & Hutter 2019, arXiv:1711.05101, as in optax and torch.

    It is subtracted by the rule whose lr scales it: inside schedules, averages, accumulation and whatever scales steps,
    in each of several groups with that group's lr; frozen arrays do not decay. Raises `InputError` where a rule in it
    has no lr.
    """
    rule = checked(rule)
    lacking = without_lr(rule.hyper)
    whose = " and ".join(path or "this rule" for path in lacking)
    require(not lacking, f"Decoupled decay is scaled by the rule's lr, and {whose} has none.")

    def change(hp, g, w, extra):
        shares = jax.tree.map(lambda on: hp.weight_decay if on else jnp.zeros_like(hp.weight_decay), mask(where, w))
        around = extra.decay
        return g, extra._replace(decay=shares if around is None else jax.tree.map(jnp.add, shares, around))

    return before(Decayed(rule.hyper), rule, change)


class Inner(NamedTuple):
    """inner: the rule's."""

    inner: Any


def only(rule: Rule, where: Where) -> Rule:
    """The rule where it is meant to be; all other arrays stay as they are, and no state is kept for them."""
    require(callable(where), f"Where a rule is meant to be is a function of the parameters, not {where!r}.")
    group = by_group(
        {"trained": rule}, lambda w: jax.tree.map(lambda on: "trained" if on else "frozen", mask(where, w))
    )
    inside = lambda f: lambda hp, *rest: f({"trained": hp.inner}, *rest)
    return group._replace(
        hyper=Inner(rule.hyper), init=inside(group.init), update=inside(group.update), result=inside(group.result)
    )


def by_group(rules: Mapping[str, Rule], label: Callable[[Params], Any]) -> Rule:
    """A rule for each group of arrays: `label(params)` names every array's group, by a prefix of the parameters' tree.

    Hyperparameters are a dictionary of the groups'. Arrays whose name is "frozen" stay as they are. A group's rule
    reads its arrays' part of the gradients; its loss elsewhere is the loss with all other arrays unchanged; and where
    there are several groups, the group's place in `rules` is folded into the key. Raises `InputError` for a name
    without a rule.
    """
    named = isinstance(rules, Mapping) and len(rules) > 0
    require(named, f"Groups are rules by name, {{'weights': adam, 'biases': sgd}}, not {rules!r}.")
    rules = {name: checked(rule) for name, rule in rules.items()}
    require(callable(label), f"What names groups is a function of the parameters, not {label!r}.")

    def part(name, tree, names):
        return jax.tree.map(lambda n, x: x if n == name else None, names, tree)

    def names_of(w):
        names = label(w)
        unknown = sorted({str(name) for name in jax.tree.leaves(names)} - {*rules, "frozen"})
        if unknown:
            raise InputError(f"There is no rule for the group {', '.join(unknown)}; there are {', '.join(rules)}.")
        return spread(names, w, "The labels")

    def init(hp, w):
        names = names_of(w)
        return {name: rule.init(hp[name], part(name, w, names)) for name, rule in rules.items()}

    def gather(names, found, otherwise):
        """Every array from its group's tree."""
        leaves, tree = jax.tree.flatten(otherwise)
        groups = tree.flatten_up_to(names)
        parts = {name: iter(jax.tree.leaves(part_)) for name, part_ in found.items()}
        return tree.unflatten([next(parts[n]) if n in parts else x for n, x in zip(groups, leaves, strict=True)])

    def own(name, place, names, w, extra):
        """The `Extra` of a group."""
        value, value_fn, example_grads, key, decay, scale = extra
        return Extra(
            value,
            value_fn and (lambda p: value_fn(gather(names, {name: p}, w))),
            example_grads and (lambda: part(name, example_grads(), names)),
            key if key is None or len(rules) == 1 else jax.random.fold_in(key, place),
            None if decay is None else part(name, decay, names),
            scale,
        )

    def update(hp, t: Array, g: Params, s: Any, w: Params, extra: Extra):
        names, done = names_of(w), {}
        for place, (name, rule) in enumerate(rules.items()):
            g_own, w_own = part(name, g, names), part(name, w, names)
            if jax.tree.leaves(w_own):
                done[name] = rule.update(hp[name], g_own, s[name], w_own, own(name, place, names, w, extra))
        updates = gather(names, {name: u for name, (u, _) in done.items()}, zeros_like(w))
        return updates, {**s, **{name: state for name, (_, state) in done.items()}}

    def result(hp, t, w, s):
        names = names_of(w)
        return gather(names, {n: r.result(hp[n], part(n, w, names), s[n]) for n, r in rules.items()}, w)

    hypers = {name: rule.hyper for name, rule in rules.items()}
    return composed(hypers, init, update, result, inside=list(rules.values()))


class Accumulated(NamedTuple):
    """inner: the rule's state; mean: of the gradients since its last step, and of their losses."""

    inner: Any
    mean: Params
    value: Array


def accumulate(rule: Rule, every: int) -> Rule:
    """The rule that steps after every `every` gradients, with their mean, and not in between.

    The same step as one with a minibatch `every` times as large, without batch normalization. The rule also reads the
    mean of the losses, and the last minibatch's key. Minibatches are not kept, so a rule that evaluates the loss
    elsewhere (SAM, L-BFGS) or reads every example's gradient raises `InputError`; SAM around accumulate,
    `sharpness_aware(accumulate(sgd, 4))`, reads those of each minibatch.
    """
    rule = checked(rule)
    require(whole(every, 1), f"Gradients are accumulated over 1 or more steps, not {every!r}.")
    refused = "Accumulated minibatches are not kept, so the rule inside accumulate cannot read {} of them all."

    def init(hp, w):
        return Accumulated(rule.init(hp.inner, w), zeros_like(w), jnp.zeros(()))

    def update(hp, t: Array, g: Params, s: Accumulated, w: Params, extra: Extra):
        seen = (t - 1) % every
        mean = jax.tree.map(lambda m, g: m + (g - m) / (seen + 1), s.mean, g)
        value = (
            s.value if extra.value is None else s.value + ((extra.value - s.value) / (seen + 1)).astype(s.value.dtype)
        )
        if every > 1:
            extra = without(extra, "value_fn", refused.format("the loss elsewhere"))
            extra = without(extra, "example_grads", refused.format("every example's gradient"))
        averaged = extra if extra.value is None else extra._replace(value=value)
        step, inner = rule.update(hp.inner, mean, s.inner, w, averaged)
        full = seen == every - 1
        state = Accumulated(
            jax.tree.map(lambda new, old: jnp.where(full, new, old), inner, s.inner),
            jax.tree.map(lambda m: jnp.where(full, 0, m), mean),
            jnp.where(full, 0, value),
        )
        return jax.tree.map(lambda u: jnp.where(full, u, 0), step), state

    return composed(Inner(rule.hyper), init, update, _state_result(rule), inside=[rule])


class Smoothed(NamedTuple):
    """inner: the rule's; keep: the share of the old in every new average."""

    inner: Any
    keep: Kept = 0.9


class Averaged(NamedTuple):
    """inner: the rule's state; mean: the average, uncorrected."""

    inner: Any
    mean: Params


def smooth(rule: Rule) -> Rule:
    """The rule with the corrected moving average of the gradients in place of the gradient.

    m ← keep · m + (1 − keep) · g, and m / (1 − keepᵗ).

    A gradient of the loss elsewhere replaces g in this. Examples change from step to step and have no average: a rule
    that reads every example's gradient raises `InputError`.
    """
    rule = checked(rule)
    refused = "Every example's gradient has no average over steps, so the rule inside smooth cannot read it."

    def init(hp, w):
        return Averaged(rule.init(hp.inner, w), zeros_like(w))

    def update(hp, t: Array, g: Params, s: Averaged, w: Params, extra: Extra):
        joined = lambda g: jax.tree.map(lambda m, g: hp.keep * m + (1 - hp.keep) * g, s.mean, g)
        corrected = lambda g, w: jax.tree.map(lambda m: m / (1 - hp.keep**t), joined(g))
        smoothed = without(at_gradients(extra, corrected, w), "example_grads", refused)
        step, inner = rule.update(hp.inner, corrected(g, w), s.inner, w, smoothed)
        return step, Averaged(inner, joined(g))

    return composed(Smoothed(rule.hyper), init, update, _state_result(rule), inside=[rule])


def ema(rule: Rule) -> Rule:
    """The rule, whose `result` is the corrected moving average of the parameters after its steps.

    m ← keep · m + (1 − keep) · w, and m / (1 − keepᵗ).
    """
    rule = checked(rule)
    return _averaging(Smoothed(rule.hyper, 0.99), rule, lambda hp, t: hp.keep, lambda hp, t: 1 - hp.keep**t)


def polyak(rule: Rule) -> Rule:
    """The rule, whose `result` is the mean of the parameters after its steps. Polyak & Juditsky 1992, eq. 2."""
    rule = checked(rule)
    return _averaging(Inner(rule.hyper), rule, lambda hp, t: 1 - 1 / t.astype(float), lambda hp, t: 1)


def _averaging(hyper: Any, rule: Rule, keep: Callable[..., Any], weight: Callable[..., Any]) -> Rule:
    """The rule, whose result is m / weight, with m ← keep · m + (1 − keep) · w; keep and weight of (hp, t).

    The state's mean contains the parameters up to those before the last step. Those after it are added by the next
    update or by the result, since a rule around this one may have changed the step.
    """

    def init(hp, w):
        return Averaged(rule.init(hp.inner, w), zeros_like(w))

    def joined(hp, t, mean, w):
        kept = keep(hp, jnp.maximum(t, 1))
        return jax.tree.map(lambda m, w: jnp.where(t > 0, kept * m + (1 - kept) * w, m).astype(m.dtype), mean, w)

    def update(hp, t: Array, g: Params, s: Averaged, w: Params, extra: Extra):
        step, inner = rule.update(hp.inner, g, s.inner, w, extra)
        return step, Averaged(inner, joined(hp, t - 1, s.mean, w))

    def result(hp, t, w, s):
        # Before the first step there is nothing to average but the parameters themselves.
        total = weight(hp, jnp.maximum(t, 1))
        return jax.tree.map(lambda m, w: jnp.where(t > 0, m / total, w), joined(hp, t, s.mean, w), w)

    return composed(hyper, init, update, result, inside=[rule])


class Slow(NamedTuple):
    """inner: the fast rule's; share: of the way to the fast weights that the slow ones go."""

    inner: Any
    share: Annotated[Scalar, Interval("(0, 1]")] = 0.5


class Ahead(NamedTuple):
    """inner: the fast rule's state; slow: the slow weights."""

    inner: Any
    slow: Params


def lookahead(rule: Rule, every: int = 5) -> Rule:
    """The rule with slow weights φ as `result`: after every `every` steps φ ← φ + share · (w − φ), and w ← φ.

    Zhang et al. 2019, arXiv:1907.08610, Algorithm 1.
    """
    rule = checked(rule)
    require(whole(every, 1), f"Lookahead follows every 1 or more steps, not {every!r}.")

    def init(hp, w):
        return Ahead(rule.init(hp.inner, w), w)

    def update(hp, t: Array, g: Params, s: Ahead, w: Params, extra: Extra):
        step, inner = rule.update(hp.inner, g, s.inner, w, extra)
        now = t % every == 0
        gone = jax.tree.map(lambda w, u, slow: w + u - slow, w, step, s.slow)
        slow = jax.tree.map(lambda slow, d: jnp.where(now, slow + hp.share * d, slow), s.slow, gone)
        back = jax.tree.map(lambda u, d: jnp.where(now, u - (1 - hp.share) * d, u), step, gone)
        return back, Ahead(inner, slow)

    return composed(Slow(rule.hyper), init, update, lambda hp, t, w, s: s.slow, inside=[rule], iterates=True)


class Mastered(NamedTuple):
    """inner: the rule's state; w: the master weights; rounded: the parameters they were rounded to.

    The latter two are `EMPTY` at arrays of float32 and wider.
    """

    inner: Any
    w: Params
    rounded: Params


def master(rule: Rule) -> Rule:
    """The rule on weights in float32, of which parameters in bfloat16 or float16 are the rounded copy.

    A step shorter than half the spacing of such numbers would otherwise be rounded away: rules whose first steps are
    tiny never move. Hyperparameters are the rule's. The `result` is the weights in float32. A change of the parameters
    by others is added to the weights. Arrays of float32 and wider cost nothing. Micikevicius et al. 2018,
    arXiv:1710.03740, §3.1.

    When not to use it: with float32 parameters, where it does nothing.
    """
    rule = checked(rule)

    def init(hp, params):
        narrow = lambda f: jax.tree.map(lambda p: f(p) if _is_narrow(p) else EMPTY, params)
        state = Mastered(rule.init(hp, widen(params)), narrow(lambda p: p.astype(jnp.float32)), narrow(jnp.copy))
        return owned(state, hp, params)

    def weights(params, s):
        def exact(p, w, rounded):
            return p if isinstance(w, Empty) else w + (p.astype(w.dtype) - rounded.astype(w.dtype))

        return _map_up_to(exact, params, s.w, s.rounded)

    def update(hp, grads, s, params, extra=NOTHING):
        w = weights(params, s)
        step, inner = rule.update(hp, grads, s.inner, w, extra)
        kept = _map_up_to(lambda p, w, u: w + u if _is_narrow(p) else EMPTY, params, w, step)
        # The barrier keeps XLA from computing with what was to be rounded.
        rounded = jax.lax.optimization_barrier(
            _map_up_to(lambda p, w: w if isinstance(w, Empty) else w.astype(p.dtype), params, kept)
        )

        def change(p, u, to):
            return u if isinstance(to, Empty) else to.astype(jnp.float32) - p.astype(jnp.float32)

        return _map_up_to(change, params, step, rounded), Mastered(inner, kept, rounded)

    def result(hp, params, s):
        return rule.result(hp, weights(params, s), s.inner)

    return rule._replace(init=init, update=update, result=result)


def cast_result(rule: Rule) -> Rule:
    """The rule, whose `result` comes in the dtypes of the parameters."""
    rule = checked(rule)

    def result(hp, params, state):
        return cast_like(params, rule.result(hp, params, state))

    return rule._replace(result=result)


def _is_narrow(p):
    return jnp.finfo(p.dtype).bits < 32


def _map_up_to(f, params, *trees):
    """f of every parameter and the corresponding nodes of the other trees."""
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten([f(*at) for at in zip(leaves, *map(tree.flatten_up_to, trees), strict=True)])
