"""Every transformation of optax and optax.contrib as a rule steps, and is evaluated, as it does in optax's own loop.

They are discovered: a public function of either module that gives a transformation. What it must be called with comes
from one table by the argument's name, and what its update needs from another; a newcomer whose arguments are in neither
fails here until they are.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from fnn import interop
from fnn.base.errors import InputError
from fnn.base.trees import norm
from fnn.rule import Extra, apply_updates

CENTER = 0.3


def loss(w):
    """½ Σ (w − 0.3)², whose gradient and examples are known."""
    return sum(jnp.sum((x - CENTER) ** 2) for x in jax.tree.leaves(w)) / 2


def examples(w):
    """Three examples' gradients, whose mean is the loss's."""
    return jax.tree.map(lambda x: jnp.stack([3 * (x - CENTER), -2 * (x - CENTER), 2 * (x - CENTER)]), w)


MASK = {"matrix": True, "vector": False}
ARGUMENTS = {
    **dict.fromkeys(("learning_rate", "step_size", "slow_step_size"), 0.125),
    **dict.fromkeys(("max_delta", "threshold", "max_norm", "clipping", "l2_norm_clip", "noise_multiplier"), 0.5),
    **dict.fromkeys(("inner", "fast_optimizer", "base_optimizer", "optimizer", "tx"), optax.sgd(0.125, 0.5)),
    **dict.fromkeys(("mask", "freeze_mask"), MASK),
    **dict.fromkeys(("max_consecutive_errors", "sync_period"), 2),
    **dict.fromkeys(("max_backtracking_steps", "max_linesearch_steps"), 5),
    "decay": 0.5,
    "eta": 0.01,
    "gamma": 0.55,
    "key": jax.random.key(0),
    "seed": 0,
    "adv_optimizer": optax.chain(contrib.normalize(), optax.sgd(0.05)),
    "should_transform_fn": lambda step: step > 0,
    "step_size_fn": lambda count: 1 / (1 + count),
    "f": lambda updates, params: 0.5 * updates,
    "transforms": {"adam": optax.adam(0.125), "free": contrib.schedule_free_sgd(0.125)},
    "param_labels": {"matrix": "free", "vector": "adam"},
    "measure": norm,
    "measures": {"size": norm},
    "measure_name": "size",
}


def axes(params):
    return jax.tree.map(lambda w: contrib.MuonDimensionNumbers(), params)


SPECIAL = {
    "chain": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.lookahead(optax.adam(0.125), 2, 0.5)),
    "named_chain": lambda: optax.named_chain(("clip", optax.clip(0.5)), ("free", contrib.schedule_free_sgd(0.125))),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.125),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(optax.adam)(learning_rate=0.125),
    "stateless": lambda: optax.stateless(lambda g, w: jax.tree.map(lambda g: 0.5 * g, g)),
    "MultiSteps": lambda: optax.MultiSteps(optax.polyak_sgd(0.125), 2),
    "sam, opaque": lambda: contrib.sam(optax.sgd(0.125), ARGUMENTS["adv_optimizer"], opaque_mode=True),
    "scale_by_muon": lambda: optax.masked(contrib.scale_by_muon(weight_dimension_numbers=axes), MASK),
    "clip, then sam, opaque": lambda: optax.chain(optax.clip(0.5), FACTORIES["sam, opaque"]()),
    "masked schedule_free": lambda: optax.masked(contrib.schedule_free_sgd(0.125), MASK),
}
"""Those that take other arguments than by name, and some in company."""

VALUE, SEARCH = ("value",), ("value", "grad", "value_fn")
NEEDS = {
    **dict.fromkeys(("polyak_sgd", "scale_by_polyak", "momo", "momo_adam", "reduce_on_plateau", "MultiSteps"), VALUE),
    **dict.fromkeys(("lbfgs", "scale_by_backtracking_linesearch", "scale_by_zoom_linesearch"), SEARCH),
    **dict.fromkeys(("sophia", "hutchinson_estimator_diag_hessian"), ("obj_fn",)),
    **dict.fromkeys(("sam, opaque", "clip, then sam, opaque"), ("grad_fn",)),
}
"""What an update must be given beyond the gradient, as optax documents it."""


NO_UPDATES = {"measure_with_ema": "gives a number, for `monitor`"}


def gives_transformations(name, module):
    f = getattr(module, name)
    if name.startswith("_") or not inspect.isfunction(f) or name in NO_UPDATES:
        return False
    annotation = inspect.signature(f).return_annotation
    return annotation is inspect.Signature.empty or "GradientTransformation" in str(annotation)


def factories():
    """`name: () -> transformation`; those without an annotation may give something else."""
    found = {}
    for module in (optax, contrib):
        for name in filter(lambda name: gives_transformations(name, module), dir(module)):
            f = getattr(module, name)
            parameters = inspect.signature(f).parameters.values()
            arguments = {p.name: ARGUMENTS.get(p.name) for p in parameters if p.default is p.empty}
            annotated = inspect.signature(f).return_annotation is not inspect.Signature.empty
            if annotated or None not in arguments.values():
                keyed = {"key": ARGUMENTS["key"]} if "key" in inspect.signature(f).parameters else {}
                found[name] = lambda f=f, arguments=arguments | keyed: f(**arguments)
    return found | SPECIAL


FACTORIES = factories()


def start():
    rng = np.random.default_rng(0)
    return {"matrix": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), "vector": jnp.arange(3.0)}


def in_optax(name, tx, steps):
    """Parameters and what optax evaluates after every step of its loop."""
    w, found = start(), []
    paired = "lookahead" in name or name == "chain"
    w = optax.LookaheadParams.init_synced(w) if paired else w
    state = tx.init(w)
    for _ in range(steps):
        at = w.fast if paired else w
        value, g = jax.value_and_grad(loss)(at)
        known = {"value": value, "grad": g, "value_fn": loss, "obj_fn": loss, "grad_fn": lambda w, i: jax.grad(loss)(w)}
        given = examples(at) if name in ("dpsgd", "differentially_private_aggregate") else g
        updates, state = tx.update(given, state, w, **{k: known[k] for k in NEEDS.get(name, ())})
        w = optax.apply_updates(w, updates)
        found.append((w.fast, w.slow) if paired else (w, evaluated(name, state, w)))
    return found


def evaluated(name, state, w):
    if name.startswith("schedule_free"):
        return contrib.schedule_free_eval_params(state, w)
    if name == "named_chain":
        return contrib.schedule_free_eval_params(state["free"], w)
    if name == "masked schedule_free":
        return w | {
            "matrix": contrib.schedule_free_eval_params(state.inner_state, w | {"vector": optax.MaskedNode()})["matrix"]
        }
    if name in ("partition", "multi_transform"):
        inner = state.inner_states["free"].inner_state
        return w | {"matrix": contrib.schedule_free_eval_params(inner, w | {"vector": optax.MaskedNode()})["matrix"]}
    if name == "sam":
        return state.cache if state.steps_since_sync else w
    return w


@pytest.mark.parametrize("name", FACTORIES)
def test_a_transformation_is_the_same_as_a_rule(name):
    tx = FACTORIES[name]()
    rule = interop.from_optax((), lambda hp: tx)
    w, found = start(), []
    state = rule.init((), w)
    for _ in range(3):
        value, g = jax.value_and_grad(loss)(w)
        extra = Extra(value, loss, lambda w=w: examples(w), jax.random.key(1))
        updates, state = rule.update((), g, state, w, extra)
        w = apply_updates(w, updates)
        found.append((w, rule.result((), w, state)))
    assert name in ("freeze", "set_to_zero", "snapshot", "monitor") or any(
        np.any(w[k] != x) for k, x in start().items()
    )
    jax.tree.map(np.testing.assert_array_equal, found, in_optax(name, tx, 3))


def test_every_kind_is_found():
    """Discovery finds aliases, parts, wrappers and contrib's, with and without an annotation."""
    assert {"adam", "scale_by_adam", "lookahead", "masked", "sophia", "dog", "scale_by_factored_rms"} <= set(FACTORIES)
    assert len(FACTORIES) > 120


def test_missing_per_example_gradients_are_one_sentence():
    rule, w = interop.from_optax((), lambda hp: FACTORIES["dpsgd"]()), start()
    with pytest.raises(InputError, match="needs example_grads"):
        rule.update((), w, rule.init((), w), w)


def test_a_transformation_is_a_rule_in_a_program():
    """Traced hyperparameters, bfloat16 parameters, donated states: the pairs of lookahead and a `sam` in two steps."""
    for build in (
        lambda lr: optax.lookahead(optax.adam(lr), 2, 0.5),
        lambda lr: contrib.sam(optax.sgd(lr), ARGUMENTS["adv_optimizer"]),
        lambda lr: contrib.schedule_free(optax.sgd(lr), lr),
        lambda lr: contrib.sophia(lr),
    ):
        rule = interop.from_optax(jnp.float32(0.125), build)

        def step(hp, w, s, rule=rule):
            value, g = jax.value_and_grad(loss)(w)
            updates, s = rule.update(hp, g, s, w, Extra(value, loss))
            return apply_updates(w, updates), s

        step = jax.jit(step, donate_argnums=(1, 2))
        w = jax.tree.map(lambda x: x.astype(jnp.bfloat16), start())
        s = rule.init(rule.hyper, w)
        before = loss(rule.result(rule.hyper, w, s))
        for _ in range(10):
            w, s = step(rule.hyper, w, s)
        used = rule.result(rule.hyper, w, s)
        assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves((w, used)))
        assert loss(used) < before
