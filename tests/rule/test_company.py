"""A wrapper changes all that a rule reads alike: gradient, loss, loss elsewhere, every example's gradient, key.

Every wrapper around every rule that reads more than the gradient is held to the bare rule on the changed loss, which is
written out by hand: as a value, a gradient and examples' gradients at any parameters.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import interop, optim, schedules
from fnn.base.errors import InputError
from fnn.optim.mechanize import mechanized
from fnn.optim.reduce_on_plateau import patient
from fnn.optim.sam import sharpness_aware
from fnn.rule import NOTHING, Extra, Rule, apply_updates, hyper
from fnn.rule.wrappers import (
    accumulate,
    by_group,
    cast_result,
    clip_adaptive,
    clip_norm,
    clip_rms,
    clip_value,
    decay,
    decay_decoupled,
    ema,
    everywhere,
    lookahead,
    master,
    matrices,
    max_norm,
    only,
    polyak,
    smooth,
)

pytestmark = pytest.mark.usefixtures("x64")

STEPS, EXAMPLES = 4, 2
QUICK = {"xla_backend_optimization_level": 0}
"""Compilation takes nearly all of the time."""
RULES = optim.rules()
HYPER = {
    "sophia": {"lr": 0.1, "gamma": 30.0, "bound": 10.0},
    "noisy_sgd": {"lr": 0.1},
    "dpsgd": {"lr": 0.1, "clip": 0.5, "noise": 0.1},
    "sam": {"inner.lr": 0.1, "rho": 0.5},
    "reduce_on_plateau": {"inner.lr": 0.1, "patience": 1.0, "factor": 0.5},
    "adam": {"lr": 0.1},
    "schedule_free_sgd": {"lr": 0.1},
    "schedule_free_adamw": {"lr": 0.1},
}
"""Where the defaults hide a part of what a rule reads: steps too short, or clipped to a sign."""


class Loss(NamedTuple):
    """A minibatch's loss: its value, gradient and examples' gradients as functions of the parameters."""

    value: Callable[[Any], Any]
    grad: Callable[[Any], Any]
    each: Callable[[Any], Any]


def weights():
    rng = np.random.default_rng(0)
    return {"a": jnp.asarray(rng.standard_normal((3, 2))), "b": jnp.asarray(rng.standard_normal(2))}


def batches():
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.standard_normal((STEPS, EXAMPLES, 3))), jnp.asarray(
        rng.standard_normal((STEPS, EXAMPLES, 2))
    )


def of_batch(batch) -> Loss:
    def one(w, x, y):
        return jnp.sum((jnp.tanh(x @ w["a"]) + w["b"] ** 2 - y) ** 2)

    def value(w):
        return jnp.mean(jnp.stack([one(w, x, y) for x, y in zip(*batch, strict=True)]))

    def each(w):
        return stack([jax.grad(one)(w, x, y) for x, y in zip(*batch, strict=True)])

    return Loss(value, jax.grad(value), each)


def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def unstack(trees):
    return [jax.tree.map(lambda x, i=i: x[i], trees) for i in range(len(jax.tree.leaves(trees)[0]))]


def plus(a, b, factor: Any = 1.0):
    return jax.tree.map(lambda a, b: a + factor * b, a, b)


def size(a):
    return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(a)))


def extra_of(loss: Loss, w, key) -> Extra:
    """What a rule may read of it; the loss elsewhere has the gradient that was written down."""

    @jax.custom_vjp
    def at(w):
        return loss.value(w)

    at.defvjp(lambda w: (loss.value(w), loss.grad(w)), lambda g, c: (jax.tree.map(lambda g: c * g, g),))
    return Extra(loss.value(w), at, lambda: loss.each(w), key)


def reads(rule: Rule) -> set[str]:
    """The parts of `Extra` that a rule needs, found by leaving them out."""
    w, found = weights(), set()
    full = extra_of(of_batch([b[0] for b in batches()]), w, jax.random.key(0))
    while True:
        given = NOTHING._replace(**{name: getattr(full, name) for name in found})
        try:
            jax.eval_shape(lambda given=given: rule.update(rule.hyper, w, rule.init(rule.hyper, w), w, given))
        except InputError as error:
            lacking = {*re.findall(r"\w+", str(error).partition(":")[0])} & {*Extra._fields}
            found |= lacking or {str(error)}
        else:
            return found


@functools.cache
def readers() -> dict[str, set[str]]:
    with jax.enable_x64(True):
        return {spec: read for spec, rule in RULES.items() if (read := reads(rule))}


SPECS = ["adam", *{frozenset(read): spec for spec, read in reversed(readers().items())}.values()]
"""One that reads nothing but the gradient, and one for every set of parts that some rule reads."""


def rule(spec: str) -> Rule:
    """The rule, with hyperparameters of `HYPER` for its defaults."""
    found = RULES[spec]
    hp = functools.reduce(lambda hp, item: hyper.put(hp, *item), HYPER.get(spec, {}).items(), found.hyper)
    return found._replace(hyper=hp)


def follow(step, carry, steps: int = STEPS):
    """The parameters after every step, `step(carry, batch, key) -> (carry, w)`; compiled once."""
    step, found = jax.jit(step, compiler_options=QUICK), []
    for i in range(steps):
        carry, w = step(carry, [b[i] for b in batches()], jax.random.fold_in(jax.random.key(7), i))
        found.append(w)
    return found


def both(rule: Rule, change=lambda loss: loss, steps: int = STEPS):
    """The parameters and the results of the rule on the changed loss, after every step."""

    def step(carry, batch, key):
        w, state = carry
        loss = change(of_batch(batch))
        updates, state = rule.update(rule.hyper, loss.grad(w), state, w, extra_of(loss, w, key))
        w = apply_updates(w, updates)
        return (w, state), (w, rule.result(rule.hyper, w, state))

    found = follow(step, (weights(), rule.init(rule.hyper, weights())), steps)
    return [w for w, _ in found], [result for _, result in found]


def run(rule: Rule, change=lambda loss: loss, steps: int = STEPS):
    """The parameters of the rule on the changed loss after every step."""
    return both(rule, change, steps)[0]


@functools.cache
def unchanged(spec: str):
    return run(rule(spec))


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12), a, b)


def differ(a, b):
    return any(jax.tree.leaves(jax.tree.map(lambda x, y: bool(np.any(np.abs(x - y) > 1e-6)), a[-1], b[-1])))


def test_some_rule_reads_each_part():
    """And the wrappers are tried around all that do."""
    assert set().union(*readers().values()) == {"value", "value_fn", "example_grads", "key"}
    assert {"sam", "dpsgd", "lbfgs", "sophia", "polyak_sgd", "momo", "noisy_sgd"} <= set(readers())


DECAY, LIMIT, RHO = 0.3, 0.4, 0.5


def decayed(loss: Loss) -> Loss:
    return Loss(
        lambda w: loss.value(w) + DECAY / 2 * jnp.sum(w["a"] ** 2),
        lambda w: plus(loss.grad(w), {"a": w["a"], "b": 0 * w["b"]}, DECAY),
        lambda w: stack([plus(g, {"a": w["a"], "b": 0 * w["b"]}, DECAY) for g in unstack(loss.each(w))]),
    )


def shorter(clip):
    return lambda loss: Loss(
        loss.value,
        lambda w: clip(loss.grad(w), w),
        lambda w: stack([clip(g, w) for g in unstack(loss.each(w))]),
    )


by_value = shorter(lambda g, w: jax.tree.map(lambda g: jnp.where(jnp.abs(g) > LIMIT, LIMIT * jnp.sign(g), g), g))
by_norm = shorter(lambda g, w: jax.tree.map(lambda x: x * jnp.minimum(1, LIMIT / size(g)), g))
by_rms = shorter(lambda g, w: jax.tree.map(lambda g: g * jnp.minimum(1, LIMIT / jnp.sqrt(jnp.sum(g**2) / g.size)), g))


def unitwise(g, w):
    columns = [(g["a"][:, j], w["a"][:, j]) for j in range(2)]
    short = lambda g, w: g * jnp.minimum(1, LIMIT * size(w) / size(g))
    return {"a": jnp.stack([short(*c) for c in columns], 1), "b": short(g["b"], w["b"])}


by_unit = shorter(unitwise)


def sharp(loss: Loss) -> Loss:
    worst = lambda w: plus(w, loss.grad(w), RHO / size(loss.grad(w)))
    return Loss(lambda w: loss.value(worst(w)), lambda w: loss.grad(worst(w)), loss.each)


def first(rule: Rule, **values) -> Rule:
    """The wrapped rule with these of the wrapper's own hyperparameters."""
    return rule._replace(hyper=rule.hyper._replace(**values))


CHANGES = {
    "decay": (lambda r: first(decay(r), weight_decay=DECAY), decayed),
    "clip_value": (lambda r: first(clip_value(r), limit=LIMIT), by_value),
    "clip_rms": (lambda r: first(clip_rms(r), limit=LIMIT), by_rms),
    "clip_norm": (lambda r: first(clip_norm(r), limit=LIMIT), by_norm),
    "clip_adaptive": (lambda r: first(clip_adaptive(r), limit=LIMIT), by_unit),
    "sharpness_aware": (lambda r: first(sharpness_aware(r), rho=RHO), sharp),
    "clip, then decay": (
        lambda r: first(clip_norm(first(decay(r), weight_decay=DECAY)), limit=LIMIT),
        lambda loss: decayed(by_norm(loss)),
    ),
    "decay, then clip": (
        lambda r: first(decay(first(clip_norm(r), limit=LIMIT)), weight_decay=DECAY),
        lambda loss: by_norm(decayed(loss)),
    ),
    "decay, then the worst point, then clip": (
        lambda r: first(decay(first(sharpness_aware(first(clip_rms(r), limit=LIMIT)), rho=RHO)), weight_decay=DECAY),
        lambda loss: by_rms(sharp(decayed(loss))),
    ),
}
"""A wrapper, and by hand the loss that the rule in it has."""


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_loss_is_changed_in_all_that_is_read(name, spec):
    wrapper, change = CHANGES[name]
    bare = rule(spec)
    if "example_grads" in readers().get(spec, ()) and sharpness_aware.__name__ in (
        name,
        *("sharpness_aware",) * ("worst" in name),
    ):
        with pytest.raises(InputError, match="no rule inside SAM can read every example's gradient"):
            run(wrapper(bare), steps=1)
        return
    ours = run(wrapper(bare))
    assert_same(ours, run(bare, change))
    assert differ(ours, unchanged(spec))


def part(w, *names):
    return {name: w[name] for name in names}


def held(loss: Loss, others) -> Loss:
    """The loss of the other arrays."""
    whole = lambda own: {**others, **own}
    return Loss(
        lambda own: loss.value(whole(own)),
        lambda own: part(loss.grad(whole(own)), *own),
        lambda own: part(loss.each(whole(own)), *own),
    )


def in_groups(groups):
    """Bare rules side by side, each on its own arrays: `groups` of (names, rule, key's place or None)."""

    def step(carry, batch, key):
        w, states = carry
        loss, after, new = of_batch(batch), dict(w), []
        for (names, rule, place), state in zip(groups, states, strict=True):
            own, others = part(w, *names), {n: x for n, x in w.items() if n not in names}
            own_loss = held(loss, others)
            own_key = key if place is None else jax.random.fold_in(key, place)
            updates, state = rule.update(rule.hyper, own_loss.grad(own), state, own, extra_of(own_loss, own, own_key))
            after |= apply_updates(own, updates)
            new.append(state)
        return (after, new), after

    w = weights()
    return follow(step, (w, [rule.init(rule.hyper, part(w, *names)) for names, rule, _ in groups]))


@pytest.mark.parametrize("spec", SPECS)
def test_a_group_reads_its_part_of_gradients_and_losses_and_its_key(spec):
    bare = rule(spec)
    assert_same(run(only(bare, matrices)), in_groups([("a", bare, None)]))
    other = rule("noisy_sgd")
    ours = run(by_group({"x": bare, "y": other}, lambda w: {"a": "x", "b": "y"}))
    assert_same(ours, in_groups([("a", bare, 0), ("b", other, 1)]))
    alone = run(by_group({"x": bare, "none": other}, lambda w: "x"))
    assert_same(alone, in_groups([("ab", bare, 0)]))


@pytest.mark.parametrize("spec", SPECS)
def test_a_wrapper_inside_a_group_changes_the_groups_part(spec):
    """Its norm is the group's, its decay that of the group's arrays."""
    bare = rule(spec)
    inside = first(decay(first(clip_norm(bare), limit=LIMIT), everywhere), weight_decay=DECAY)

    def change(loss):
        own = lambda w: part(w, "b")
        pull = Loss(
            lambda w: loss.value(w) + DECAY / 2 * jnp.sum(w["b"] ** 2),
            lambda w: plus(loss.grad(w), w, DECAY),
            lambda w: stack([plus(g, own(w), DECAY) for g in unstack(loss.each(w))]),
        )
        return by_norm(pull)

    def step(carry, batch, key):
        w, state = carry
        own, loss = part(w, "b"), change(held(of_batch(batch), part(w, "a")))
        updates, state = bare.update(bare.hyper, loss.grad(own), state, own, extra_of(loss, own, key))
        w = w | apply_updates(own, updates)
        return (w, state), w

    hand = follow(step, (weights(), bare.init(bare.hyper, part(weights(), "b"))))
    assert_same(run(only(inside, lambda w: {"a": False, "b": True})), hand)


@pytest.mark.parametrize("spec", SPECS)
def test_a_smoothed_rule_takes_averages_for_gradients(spec):
    bare, keep = rule(spec), 0.6
    if "example_grads" in readers().get(spec, ()):
        with pytest.raises(InputError, match="no average over steps, so the rule inside smooth cannot read it"):
            run(smooth(bare), steps=1)
        return

    def step(carry, batch, key):
        w, state, past, t = carry  # past: Σ keepᵏ g over earlier steps, k = 1, 2, …
        loss = of_batch(batch)
        total = (1 - keep**t) / (1 - keep)
        average = lambda w: jax.tree.map(lambda g, p: (g + p) / total, loss.grad(w), past)
        smoothed = Loss(loss.value, average, loss.each)
        updates, state = bare.update(bare.hyper, average(w), state, w, extra_of(smoothed, w, key))
        past = jax.tree.map(lambda g, p: keep * (g + p), loss.grad(w), past)
        w = apply_updates(w, updates)
        return (w, state, past, t + 1), w

    w = weights()
    hand = follow(step, (w, bare.init(bare.hyper, w), plus(w, w, -1.0), 1.0))
    assert_same(run(first(smooth(bare), keep=keep)), hand)


@pytest.mark.parametrize("spec", SPECS)
def test_accumulating_is_a_larger_minibatch_or_refused(spec):
    """The rule reads the mean loss too, and the last key; minibatches that are gone cannot be evaluated."""
    bare = rule(spec)
    if {"value_fn", "example_grads"} & readers().get(spec, set()):
        lacking = "the loss elsewhere" if "value_fn" in readers()[spec] else "every example's gradient"
        with pytest.raises(InputError, match=f"not kept, so the rule inside accumulate cannot read {lacking}"):
            run(accumulate(bare, 2), steps=1)
        assert_same(run(accumulate(bare, 1)), unchanged(spec))
        return
    ours = run(accumulate(bare, 2))
    w, state = weights(), bare.init(bare.hyper, weights())
    for i in (0, 2):
        assert_same(ours[i], w)
        loss = of_batch([jnp.concatenate(b[i : i + 2]) for b in batches()])
        key = jax.random.fold_in(jax.random.key(7), i + 1)
        updates, state = bare.update(bare.hyper, loss.grad(w), state, w, extra_of(loss, w, key))
        w = apply_updates(w, updates)
        assert_same(ours[i + 1], w)


def test_sam_around_accumulation_takes_the_worst_point_of_each_minibatch():
    bare = rule("sam")
    ours = run(first(sharpness_aware(accumulate(bare._replace(hyper=bare.hyper.inner, **plain("sgd")), 2)), rho=RHO))
    w = weights()
    for i in (0, 2):
        losses = [sharp(of_batch([b[i + j] for b in batches()])) for j in range(2)]
        w = jax.tree.map(lambda w, g, h: w - 0.1 * (g + h) / 2, w, *(loss.grad(w) for loss in losses))
        assert_same(ours[i + 1], w)


def plain(spec):
    return {name: getattr(RULES[spec], name) for name in ("init", "update", "result")}


@pytest.mark.parametrize("spec", SPECS)
def test_averages_and_slow_weights_leave_the_rule_as_it_is(spec):
    bare = rule(spec)
    ws = unchanged(spec)
    _, means = both(polyak(bare))
    assert_same(means, [jax.tree.map(lambda *w: sum(w) / len(w), *ws[:t]) for t in range(1, STEPS + 1)])
    fast, slow = both(lookahead(bare, STEPS))
    assert_same(fast[:-1], ws[:-1])
    assert_same(slow[0], weights())
    assert_same(slow[-1], jax.tree.map(lambda a, b: (a + b) / 2, weights(), ws[-1]))
    assert_same(fast[-1], slow[-1])


@pytest.mark.parametrize("spec", SPECS)
def test_a_patient_rule_reads_what_the_bare_one_does(spec):
    """From the second step on without a better loss, half a step of the bare rule's."""
    bare = rule(spec)
    hp = {"patience": 1.0, "factor": 0.5, "atol": 1e9}

    def step(carry, batch, key):
        w, state, scale = carry
        loss = of_batch(batch)
        updates, state = bare.update(bare.hyper, loss.grad(w), state, w, extra_of(loss, w, key))
        w = plus(w, updates, scale)
        return (w, state, scale / 2), w

    hand = follow(step, (weights(), bare.init(bare.hyper, weights()), 1.0))
    assert_same(run(first(patient(bare), **hp)), hand)


@pytest.mark.parametrize("spec", SPECS)
def test_a_mechanized_rule_starts_with_a_share_of_the_bare_ones_step(spec):
    bare, w = rule(spec), weights()
    ours = run(first(mechanized(bare), s_init=0.1), steps=1)[0]
    assert_same(plus(ours, w, -1.0), jax.tree.map(lambda v, w: 0.1 * (v - w), unchanged(spec)[0], w))


def by_hand(r):
    """The rule without `Extra`, as one may write it without `leafwise`."""
    return Rule(r.hyper, r.init, lambda hp, g, s, w, extra: r.update(hp, g, s, w))


AROUND = {
    "clip_norm": clip_norm,
    "decay": decay,
    "smooth": smooth,
    "only": lambda r: only(r, everywhere),
    "by_group": lambda r: by_group({"x": r, "y": RULES["sgd"]}, lambda w: {"a": "x", "b": "y"}),
    "accumulate": lambda r: accumulate(r, 2),
    "ema": ema,
    "polyak": polyak,
    "lookahead": lambda r: lookahead(r, 2),
    "max_norm": lambda r: first(max_norm(r), limit=0.5),
    "patient": patient,
    "mechanized": lambda r: first(mechanized(r), s_init=0.1),
    "sharpness_aware": sharpness_aware,
    "master": master,
    "cast_result": cast_result,
    "scheduled": lambda r: schedules.scheduled(r, falling(r.hyper), STEPS),
    "from_optax": lambda r: interop.from_optax(r.hyper, lambda hp: optax.adam(hp.lr)),
    "by hand": by_hand,
    "master, by hand": lambda r: master(by_hand(r)),
}
"""Whatever scales, delays, averages or restricts steps."""

OPAQUE = {"from_optax", "by hand", "master, by hand"}
"""Those that do not apply `Extra.decay` themselves."""


def falling(hp):
    """A schedule of the rule's lr, which lies deeper in a decayed rule."""
    return schedules.on(str(hyper.lr_path(hp)), schedules.polynomial())


@pytest.mark.parametrize("name", AROUND)
def test_decoupled_decay_is_taken_off_where_the_learning_rate_is(name):
    """So that it is the same outside of any wrapper as inside, in steps and in results."""
    adam = rule("adam")
    outside = first(decay_decoupled(AROUND[name](adam), matrices), weight_decay=DECAY)
    inside = first(decay_decoupled(adam, matrices), weight_decay=DECAY)
    if name not in OPAQUE:
        inside = AROUND[name](inside)
    ours = both(outside)
    assert_same(ours, both(inside))
    without = both(first(outside, weight_decay=0.0))
    assert all(differ(*sides) for sides in zip(ours, without, strict=True))


@pytest.mark.parametrize("name", sorted(AROUND.keys() - OPAQUE))
def test_a_wrapper_decays_a_rule_made_by_hand(name):
    adam = rule("adam")
    ours = first(decay_decoupled(AROUND[name](by_hand(adam)), matrices), weight_decay=DECAY)
    assert_same(run(ours), run(first(decay_decoupled(AROUND[name](adam), matrices), weight_decay=DECAY)))


def test_groups_decay_by_their_own_rates():
    groups = {"x": rule("adam"), "y": RULES["sgd"]}
    ours = first(decay_decoupled(by_group(groups, lambda w: {"a": "x", "b": "y"}), everywhere), weight_decay=1.0)
    w = weights()
    zero = jax.tree.map(jnp.zeros_like, w)
    updates, _ = ours.update(ours.hyper, zero, ours.init(ours.hyper, w), w)
    assert_same(updates, {"a": -0.1 * w["a"], "b": -0.01 * w["b"]})
    twice = first(decay_decoupled(ours, matrices), weight_decay=1.0)
    updates, _ = twice.update(twice.hyper, zero, twice.init(twice.hyper, w), w)
    assert_same(updates, {"a": -0.2 * w["a"], "b": -0.01 * w["b"]})
    frozen = first(decay_decoupled(only(RULES["sgd"], matrices), everywhere), weight_decay=1.0)
    updates, _ = frozen.update(frozen.hyper, zero, frozen.init(frozen.hyper, w), w)
    assert_same(updates, {"a": -0.01 * w["a"], "b": zero["b"]})


def test_averages_are_of_where_the_parameters_are():
    """Not of where the averaged rule meant them to go: a rule around it may step otherwise."""
    hp = {"patience": 1.0, "factor": 0.5, "atol": 1e9}
    around = first(patient(RULES["asgd"]), **hp)
    ws, found = both(around)
    assert differ(ws, run(RULES["asgd"]))
    assert_same(found[:2], ws[:2])
    assert_same(found[2:], [jax.tree.map(lambda *w: sum(w) / len(w), *ws[1:t]) for t in (3, 4)])
    for average in (ema, polyak):
        around = first(patient(average(RULES["sgd"])), **hp)
        ws = run(around)
        assert differ(ws, run(RULES["sgd"]))
        weight = (lambda i, t: 0.99 ** (t - i)) if average is ema else (lambda i, t: 1.0)
        for t, found in enumerate(both(around)[1]):
            shares = [weight(i, t) for i in range(t + 1)]
            mean = jax.tree.map(
                lambda *w, s=shares: sum(a * x for a, x in zip(s, w, strict=False)) / sum(s), *ws[: t + 1]
            )
            assert_same(found, mean)


def test_groups_of_one_rule_draw_different_noise():
    noisy, w = rule("noisy_sgd"), {"a": jnp.zeros(3), "b": jnp.zeros(3)}
    both = by_group({"x": noisy, "y": noisy}, lambda w: {"a": "x", "b": "y"})
    updates, _ = both.update(both.hyper, w, both.init(both.hyper, w), w, Extra(key=jax.random.key(0)))
    assert not np.any(np.isclose(updates["a"], updates["b"]))
    more = by_group({"x": noisy, "y": noisy, "z": noisy}, lambda w: {"a": "x", "b": "y"})
    again, _ = more.update(more.hyper, w, more.init(more.hyper, w), w, Extra(key=jax.random.key(0)))
    assert_same(again, updates)


def nest(bare: Rule) -> Rule:
    groups = {"x": decay_decoupled(bare), "y": lookahead(rule("noisy_sgd"), 2)}
    return first(clip_norm(decay(ema(by_group(groups, lambda w: {"a": "x", "b": "y"})))), limit=LIMIT)


@pytest.mark.parametrize("spec", SPECS)
def test_company_is_mapped_and_compiled(spec):
    """Two settings at two places under vmap and jit are two runs without."""
    nested = nest(rule(spec))
    hps = jax.tree.map(lambda h: jnp.asarray([h, h * 0.9]), nested.hyper)
    ws = jax.tree.map(lambda w: jnp.stack([w, w / 2]), weights())
    batch = [b[0] for b in batches()]

    def one(hp, w):
        loss = of_batch(batch)
        extra = Extra(loss.value(w), loss.value, lambda: loss.each(w), jax.random.key(0))
        return nested.update(hp, loss.grad(w), nested.init(hp, w), w, extra)[0]

    mapped = unstack(jax.jit(jax.vmap(one))(hps, ws))
    for ours, hp, w in zip(mapped, unstack(hps), unstack(ws), strict=True):
        assert_same(ours, one(hp, w))


def test_a_clipped_loss_has_second_derivatives_and_those_by_what_it_closes_over():
    """Of the clipped gradient: 0 where it is clipped, else the loss's; and of the loss by the data."""
    clip = first(clip_value(rule("sophia")), limit=jnp.asarray(1.0))
    seen = {}

    def catch(hp, g, s, w, extra):
        seen["at"] = extra.value_fn
        return w, s

    caught = clip_value(Rule(clip.hyper.inner, lambda hp, w: (), catch))
    w = jnp.asarray([3.0, 1.1])

    def by_data(x):
        at = lambda w: jnp.sum((w - x) ** 4)
        caught.update(clip.hyper, w, caught.init(clip.hyper, w), w, Extra(value_fn=at))
        return seen["at"](w), jax.grad(seen["at"])(w), jax.hessian(seen["at"])(w)

    value, grad, hessian = by_data(1.0)
    np.testing.assert_allclose(value, 16.0001)
    np.testing.assert_allclose(grad, [1.0, 0.004])
    np.testing.assert_allclose(hessian, [[0, 0], [0, 0.12]], atol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda x: by_data(x)[0])(1.0), -32.004)
    np.testing.assert_allclose(jax.jacfwd(lambda x: by_data(x)[1])(1.0), [0, -0.12])


@pytest.mark.parametrize("wrapper", [clip_rms, clip_norm, clip_adaptive])
def test_a_clipped_gradient_of_zero_has_derivatives(wrapper):
    """Roots have none at 0: curvature taken through a clip stays finite where a gradient or the weights are 0."""
    sophia = wrapper(rule("sophia"))
    w = {"dead": jnp.zeros(2), "live": jnp.ones(2)}
    at = lambda w: 1e3 * jnp.sum((w["live"] - 3) ** 4) + jnp.sum(w["dead"] ** 4) + jnp.sum(w["dead"]) * 0
    state = sophia.init(sophia.hyper, w)
    for _ in range(2):
        _, state = sophia.update(sophia.hyper, jax.grad(at)(w), state, w, Extra(value_fn=at, key=jax.random.key(0)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


PREFIXES = {"nest": {"k": jnp.ones((2, 2)), "c": jnp.ones(1)}, "y": [jnp.ones(2)]}


@pytest.mark.parametrize("wrapper", [decay, decay_decoupled, only])
def test_a_mask_may_be_a_prefix(wrapper):
    whole = wrapper(RULES["sgd"], lambda w: {"nest": {"k": True, "c": True}, "y": [False]})
    prefix = wrapper(RULES["sgd"], lambda w: {"nest": np.bool_(True), "y": False})
    ours, theirs = (r.update(r.hyper, PREFIXES, r.init(r.hyper, PREFIXES), PREFIXES)[0] for r in (prefix, whole))
    assert_same(ours, theirs)
    for wrong, sentence in (
        ({"nest": True}, r"masks are not a prefix of the parameters' tree: PyTreeDef\({'nest': \*}\) against"),
        ({"nest": True, "y": None}, "masks are not a prefix of the parameters' tree"),
        ({"nest": "yes", "y": False}, "A mask is a tree of True and False, not of 'yes'"),
        ({"nest": 1, "y": 0.5}, "A mask is a tree of True and False, not of 1, 0.5"),
    ):
        bad = wrapper(RULES["sgd"], lambda w, wrong=wrong: wrong)
        with pytest.raises(InputError, match=sentence):
            jax.eval_shape(lambda w, r=bad: r.update(r.hyper, w, r.init(r.hyper, w), w), PREFIXES)


def test_labels_may_be_a_prefix():
    rules = {"x": RULES["adam"], "y": RULES["sgd"]}
    whole = by_group(rules, lambda w: {"nest": {"k": "x", "c": "x"}, "y": ["y"]})
    prefix = by_group(rules, lambda w: {"nest": "x", "y": "y"})
    ours, theirs = (r.update(r.hyper, PREFIXES, r.init(r.hyper, PREFIXES), PREFIXES)[0] for r in (prefix, whole))
    assert_same(ours, theirs)
    for wrong, sentence in (
        ({"nest": "x"}, "labels are not a prefix of the parameters' tree"),
        ({"nest": "x", "y": 1}, "no rule for the group 1; there are x, y"),
    ):
        bad = by_group(rules, lambda w, wrong=wrong: wrong)
        with pytest.raises(InputError, match=sentence):
            bad.init(bad.hyper, PREFIXES)


def test_a_rule_without_a_learning_rate_is_named():
    none = Rule((), RULES["sgd"].init, RULES["sgd"].update)
    for rule, sentence in (
        (none, "this rule has none"),
        (clip_norm(none), "inner has none"),
        (by_group({"x": RULES["sgd"], "y": clip_norm(none)}, lambda w: w), "y.inner has none"),
    ):
        with pytest.raises(InputError, match=f"scaled by the rule's lr, and {sentence}"):
            decay_decoupled(rule)


def test_examples_gradients_come_in_at_least_float32():
    """Or their sum is rounded to bfloat16's 8 bits."""
    w = {"a": jnp.ones(2, jnp.bfloat16)}
    each = lambda: {"a": jnp.asarray([[1, 1], [2**-9, 2**-9]], jnp.bfloat16)}
    bare = first(RULES["dpsgd"], lr=1.0, clip=1e9, noise=0.0)
    for wrapped in (bare, first(clip_norm(bare), limit=1e9), only(bare, everywhere)):
        updates, _ = wrapped.update(
            wrapped.hyper, w, wrapped.init(wrapped.hyper, w), w, Extra(None, None, each, jax.random.key(0))
        )
        np.testing.assert_array_equal(updates["a"], -(1 + 2**-9) / 2)


def by_three_iterates(spec, decay=0.0, scale=lambda t: 1.0, moved=lambda t, w: w):
    """Schedule-free by its equations, with x, y and z: the parameters y and the result x after every step.

    decay: of the matrix, in z's step. scale: of the step t of z. moved: where y is brought after step t; x and z go
    the same way.
    """
    hp = rule(spec).hyper

    def step(carry, batch, key):
        x, y, z, v, t = carry
        u = of_batch(batch).grad(y)
        if "adamw" in spec:
            v = jax.tree.map(lambda v, g: hp.b2 * v + (1 - hp.b2) * g**2, v, u)
            u = jax.tree.map(lambda v, g: g / (jnp.sqrt(v / (1 - hp.b2**t)) + hp.eps), v, u)
        u = plus(u, {"a": y["a"], "b": 0 * y["b"]}, decay)
        z = plus(z, u, -hp.lr * scale(t))
        x = jax.tree.map(lambda x, z: (1 - 1 / t) * x + z / t, x, z)
        y = jax.tree.map(lambda x, z: hp.b1 * x + (1 - hp.b1) * z, x, z)
        there = moved(t, y)
        x, z = (jax.tree.map(lambda i, y, to: i + (to - y), i, y, there) for i in (x, z))
        return (x, there, z, v, t + 1), (there, x)

    w = weights()
    found = follow(step, (w, w, w, jax.tree.map(jnp.zeros_like, w), jnp.ones(())))
    return [y for y, _ in found], [x for _, x in found]


FREE = ["schedule_free_sgd", "schedule_free_adamw"]
PLATEAU = {"patience": 1.0, "factor": 0.5, "atol": 1e9}
"""Half as long a step, from the second on, as the one before."""

INSIDE = {
    "bare": lambda r: r,
    "clip_norm": lambda r: first(clip_norm(r), limit=1e9),
    "only": lambda r: only(r, everywhere),
    "by_group": lambda r: by_group({"x": r, "y": r}, lambda w: {"a": "x", "b": "y"}),
    "accumulate": lambda r: accumulate(r, 1),
    "smooth": lambda r: first(smooth(r), keep=0.0),
    "scheduled": lambda r: schedules.scheduled(r, schedules.constant, STEPS),
    "master": master,
    "patient": lambda r: patient(r),
}
"""Wrappers that change nothing."""


@pytest.mark.parametrize("spec", FREE)
def test_schedule_free_rules_are_their_three_iterates(spec):
    ys, xs = by_three_iterates(spec)
    assert_same(both(rule(spec)), (ys, xs))
    assert differ(ys, xs)


@pytest.mark.parametrize("spec", FREE)
@pytest.mark.parametrize("name", INSIDE)
def test_decoupled_decay_and_scales_of_schedule_free_rules_are_those_of_zs_step(name, spec):
    """Whatever lies between."""
    inside, plain = INSIDE[name](rule(spec)), by_three_iterates(spec)
    decayed = by_three_iterates(spec, decay=DECAY)
    assert_same(both(first(decay_decoupled(inside), weight_decay=DECAY)), decayed)
    assert differ(decayed[0], plain[0])
    halved = by_three_iterates(spec, scale=lambda t: 0.5 ** (t - 1))
    assert_same(both(first(patient(inside), **PLATEAU)), halved)
    assert differ(halved[0], plain[0])


def test_decoupled_decay_of_a_schedule_free_rule_is_its_own_weight_decay():
    for spec in FREE:
        own = first(rule(spec), weight_decay=DECAY)
        assert_same(both(first(decay_decoupled(rule(spec), everywhere), weight_decay=DECAY)), both(own))


@pytest.mark.parametrize("spec", FREE)
def test_slow_weights_take_all_iterates_of_a_schedule_free_rule_along(spec):
    ys, _ = by_three_iterates(spec)
    half = lambda slow, w: jax.tree.map(lambda a, b: (a + b) / 2, slow, w)
    first_slow = half(weights(), ys[1])
    moved = lambda t, w: jax.tree.map(lambda w, s: jnp.where(t == 2, s, w), w, first_slow)
    ys, _ = by_three_iterates(spec, moved=moved)
    slow = half(first_slow, ys[3])
    fast, result = both(lookahead(rule(spec), 2))
    assert_same(fast, [*ys[:3], slow])
    assert_same(result, [weights(), first_slow, first_slow, slow])


@pytest.mark.parametrize("spec", FREE)
def test_weights_that_the_user_clips_take_all_iterates_of_a_schedule_free_rule_along(spec):
    bare, clip = rule(spec), lambda w: jax.tree.map(lambda w: jnp.clip(w, -0.3, 0.3), w)

    def step(carry, batch, key):
        w, state = carry
        updates, state = bare.update(bare.hyper, of_batch(batch).grad(w), state, w)
        w = clip(apply_updates(w, updates))
        return (w, state), (w, bare.result(bare.hyper, w, state))

    found = follow(step, (weights(), bare.init(bare.hyper, weights())))
    hand = by_three_iterates(spec, moved=lambda t, w: clip(w))
    assert_same([w for w, _ in found], hand[0])
    assert_same([x for _, x in found], hand[1])


@pytest.mark.parametrize("inside", [*(INSIDE[name] for name in INSIDE), lambda r: lookahead(RULES["sgd"])])
def test_mechanic_refuses_rules_with_further_iterates(inside):
    with pytest.raises(InputError, match="a rule with further iterates beside them cannot be in it"):
        mechanized(inside(RULES["schedule_free_sgd"]))


READS_WEIGHTS = {
    "adafactor": "its steps are relative to the weights",
    "adafactor:torch": "as adafactor",
    "asgd": "decay by default; its result is a mean of where the weights were",
    "asgd:torch": "as asgd",
    "dog": "the distance from the start, by whatever way",
    "dowg": "as dog",
    "prodigy": "as dog",
    "mechanize": "rescales the whole way from the start",
    "fromage": "relative to the weights",
    "lamb": "as fromage",
    "lars": "as fromage",
    "momo": "a model of the loss through the gradients' products with the weights",
    "momo_adam": "as momo",
    "lbfgs": "differences of weights whose gradients it knows",
    "lbfgs:torch": "as lbfgs",
}
"""Rules whose steps are functions of the weights, read anew at every step, by their equations."""


@pytest.mark.parametrize("spec", list(RULES))
def test_weights_moved_from_outside_stay_moved(spec):
    """The rule's later steps are those it would have made, where its equation does not read weights: it holds no place
    that would draw them back, and its result has gone with them."""
    bare = RULES[spec]
    decays = [name for name in hyper.names(bare.hyper) if name.rpartition(".")[2] == "weight_decay"]
    hp = functools.reduce(lambda hp, name: hyper.put(hp, name, 0.0), decays, bare.hyper)
    way = {"a": jnp.full((3, 2), 5.0), "b": jnp.asarray([-7.0, 3.0])}

    def step(carry, batch, key):
        w, state, moves = carry
        g = of_batch(batch).grad(weights())
        at = lambda v: sum(jnp.vdot(g, v - w) for g, v, w in zip(*map(jax.tree.leaves, (g, v, w)), strict=True))
        extra = Extra(jnp.ones(()), at, lambda: of_batch(batch).each(weights()), key)
        updates, state = bare.update(hp, g, state, w, extra)
        w = plus(apply_updates(w, updates), way, moves)
        return (w, state, moves), (updates, bare.result(hp, w, state))

    plain, moved = (follow(step, (weights(), bare.init(hp, weights()), jnp.float64(moves))) for moves in (0, 1))
    same = lambda a, b: jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-9), a, b)
    if spec in READS_WEIGHTS:
        with pytest.raises(AssertionError):
            same(plain, moved)
        return
    same([u for u, _ in plain], [u for u, _ in moved])
    same([plus(x, way, t) for t, (_, x) in enumerate(plain, start=1)], [x for _, x in moved])


@pytest.mark.parametrize("spec", ["cocob", "madgrad"])
def test_decoupled_decay_lasts_in_rules_that_keep_their_start(spec):
    """With gradients of 0 the weights fall as a geometric series."""
    around = first(decay_decoupled(first(rule(spec), lr=0.1), everywhere), weight_decay=1.0)
    w, zero = weights(), jax.tree.map(jnp.zeros_like, weights())
    state = around.init(around.hyper, w)
    for t in range(1, 4):
        updates, state = around.update(around.hyper, zero, state, w)
        w = apply_updates(w, updates)
        assert_same(w, jax.tree.map(lambda w, t=t: 0.9**t * w, weights()))


def test_pairs_of_torchs_lbfgs_are_of_the_steps_that_were_made():
    """On a quadratic of Hessian A a pair is (Δw, A Δw), however a rule around it scaled the step."""
    around, scales = first(patient(RULES["lbfgs:torch"]), **PLATEAU), jnp.asarray([1.0, 4.0])
    w = jnp.asarray([1.0, -2.0])
    state, places = around.init(around.hyper, w), [w]
    for _ in range(3):
        updates, state = around.update(around.hyper, scales * w, state, w, Extra(value=jnp.ones(())))
        w = w + updates
        places.append(w)
    dw = places[2] - places[1]
    np.testing.assert_allclose(state.own.inner.own.pairs.dw[-1], dw, rtol=1e-9)
    np.testing.assert_allclose(state.own.inner.own.pairs.dg[-1], scales * dw, rtol=1e-9)
