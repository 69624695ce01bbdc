"""Our rules against `torch.optim`: float64, 120 steps, nested trees, adversarial gradients, 1e-12 a coordinate.

torch moves its parameters in place. Where an optimizer does not look at them they are put to 0 before every step, so
that what a step leaves there is the update itself; where it does, as with weight decay, they are put to ours, and the
parameters after the step are compared.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

from fnn import optim
from fnn.optim import lbfgs, reduce_on_plateau
from fnn.rule import Extra, Rule, apply_updates, gradient_streams

torch = pytest.importorskip("torch")

RTOL = 1e-12

OPTIMIZERS = {
    name: found
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer)
}
"""All that `torch.optim` has."""


class Case(NamedTuple):
    """name: of the optimizer in `torch.optim`; options: what our hyperparameters are for its constructor."""

    name: str
    options: Callable[[Any], dict[str, Any]]


def moments(hp):
    return {"lr": hp.lr, "betas": (hp.b1, hp.b2), "eps": hp.eps}


def decayed(hp):
    return moments(hp) | {"weight_decay": hp.weight_decay}


def nadam(hp):
    return decayed(hp) | {"momentum_decay": hp.psi}


def rmsprop(hp):
    return {"lr": hp.lr, "alpha": hp.rho, "eps": hp.eps, "momentum": hp.mu, "weight_decay": hp.weight_decay}


def asgd(hp):
    return {"lr": hp.lr, "lambd": hp.decay, "alpha": hp.alpha, "t0": hp.t0, "weight_decay": hp.weight_decay}


CASES = {
    "sgd": Case("SGD", lambda hp: {"lr": hp.lr}),
    "sgd:torch": Case("SGD", lambda hp: {"lr": hp.lr, "weight_decay": hp.weight_decay}),
    "momentum": Case("SGD", lambda hp: {"lr": hp.lr, "momentum": hp.mu}),
    "momentum:torch": Case(
        "SGD",
        lambda hp: {"lr": hp.lr, "momentum": hp.mu, "dampening": hp.dampening, "weight_decay": hp.weight_decay},
    ),
    "nesterov": Case("SGD", lambda hp: {"lr": hp.lr, "momentum": hp.mu, "nesterov": True}),
    "nesterov:torch": Case(
        "SGD", lambda hp: {"lr": hp.lr, "momentum": hp.mu, "weight_decay": hp.weight_decay, "nesterov": True}
    ),
    "adagrad:torch": Case(
        "Adagrad",
        lambda hp: {
            "lr": hp.lr,
            "lr_decay": hp.lr_decay,
            "weight_decay": hp.weight_decay,
            "initial_accumulator_value": hp.h0,
            "eps": hp.eps,
        },
    ),
    "rmsprop:torch": Case("RMSprop", rmsprop),
    "rmsprop:torch_centered": Case("RMSprop", lambda hp: rmsprop(hp) | {"centered": True}),
    "adadelta": Case(
        "Adadelta", lambda hp: {"lr": hp.lr, "rho": hp.rho, "eps": hp.eps, "weight_decay": hp.weight_decay}
    ),
    "adam": Case("Adam", moments),
    "adam:torch": Case("Adam", decayed),
    "adamw": Case("Adam", lambda hp: decayed(hp) | {"decoupled_weight_decay": True}),
    "adamw:torch": Case("AdamW", decayed),
    "amsgrad:torch": Case("Adam", lambda hp: decayed(hp) | {"amsgrad": True}),
    "amsgrad:torch_decoupled": Case("AdamW", lambda hp: decayed(hp) | {"amsgrad": True}),
    "adamax": Case("Adamax", moments),
    "adamax:torch": Case("Adamax", decayed),
    "nadam:torch": Case("NAdam", nadam),
    "nadamw:torch": Case("NAdam", lambda hp: nadam(hp) | {"decoupled_weight_decay": True}),
    "radam:torch": Case("RAdam", decayed),
    "radam:torch_decoupled": Case("RAdam", lambda hp: decayed(hp) | {"decoupled_weight_decay": True}),
    "rprop:torch": Case(
        "Rprop",
        lambda hp: {"lr": hp.lr, "etas": (hp.eta_minus, hp.eta_plus), "step_sizes": (hp.step_min, hp.step_max)},
    ),
    "asgd": Case("ASGD", asgd),
    "asgd:torch": Case("ASGD", asgd),
    "adafactor:torch": Case(
        "Adafactor",
        lambda hp: {
            "lr": hp.lr,
            "beta2_decay": -hp.decay,
            "eps": (hp.eps, hp.eps_w),
            "d": hp.clip,
            "weight_decay": hp.weight_decay,
        },
    ),
    "muon:torch": Case(
        "Muon",
        lambda hp: {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.b, "nesterov": True, "eps": hp.eps},
    ),
    "lbfgs:torch": Case(
        "LBFGS",
        lambda hp: {"lr": hp.lr, "max_iter": 1, "tolerance_grad": 0, "tolerance_change": 0, "history_size": 100},
    ),
}
"""Our rules and dialects, and the optimizer of torch that each is held to."""

CANCELING = ("adam", "amsgrad", "adamax", "radam", "muon")
"""Rules whose updates are sums over gradients of both signs. torch rounds m + (1 − b1) · (g − m) where we round
b1 · m + (1 − b1) · g, and where the sum passes through 0 little but that rounding is left of it (1e-11, once in 5,000
coordinates). So they, and parameters, which are sums too, may be apart by 1e-12 of their largest value so far."""

STILL = {
    ("rmsprop:torch_centered", kind): "where the gradient stands still, h − ḡ² is rounding alone"
    for kind in ("zeros", "tiny", "one-hot")
}
"""Streams left out."""

ON_FUNCTIONS = {"lbfgs:torch": "along given gradients H is of so bad a condition that rounding grows to 1e-2"}
"""What is held to torch on functions instead of streams."""

WITHOUT = {
    "Optimizer": "the class of them all",
    "SparseAdam": "Adam that touches only the rows that a sparse gradient has; JAX's gradients are dense",
}
"""Optimizers of torch that no rule is held to."""

OPTIONS_WITHOUT = {
    "foreach": "how the arrays are looped over",
    "fused": "as foreach",
    "capturable": "for CUDA graphs",
    "differentiable": "for gradients through the step",
    "maximize": "held to the negative gradient below",
    "ns_coefficients": "constants of ours",
    "ns_steps": "as ns_coefficients",
    "adjust_lr_fn": "another lr for every shape",
    "max_eval": "for a search",
    "line_search_fn": "held to below",
}
"""Options of torch that no number of a rule stands for."""

MOVED = {
    "lr": 0.3,
    "mu": 0.7,
    "dampening": 0.3,
    "rho": 0.8,
    "b": 0.7,
    "b1": 0.6,
    "b2": 0.97,
    "psi": 0.1,
    "weight_decay": 0.1,
    "eps": 3e-7,
    "eps_w": 0.3,
    "h0": 0.2,
    "lr_decay": 0.05,
    "decay": 0.6,
    "alpha": 0.9,
    "t0": 7.0,
    "clip": 1.5,
    "eta_minus": 0.3,
    "eta_plus": 1.7,
    "step_min": 1e-3,
    "step_max": 0.02,
}
"""Hyperparameters off their defaults."""


@pytest.fixture(autouse=True)
def torch_in_float64(x64, monkeypatch):
    """torch's numbers beside the weights have its default type, and Muon's iteration has bfloat16: float64 for both."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Muon:
    """torch's Muon for the matrices and its AdamW for the other arrays."""

    def __init__(self, weights, **options):
        self.muon = torch.optim.Muon([w for w in weights if w.ndim == 2], **options)
        others = [w for w in weights if w.ndim != 2]
        self.adamw = torch.optim.AdamW(others, lr=options["lr"], weight_decay=options["weight_decay"])
        self.state, self.defaults = {}, self.muon.defaults

    def step(self, closure):
        closure()
        self.muon.step()
        self.adamw.step()


def made(case: Case, weights, hp, **more):
    """The optimizer of a case; skips where this torch has none of the name or not its options."""
    options = case.options(hp) | more
    lacking = {"it"} if case.name not in OPTIMIZERS else set(options) - taken(case.name)
    if lacking:
        pytest.skip(f"{case.name} of torch {torch.__version__} has no {', '.join(lacking)}")
    return (Muon if case.name == "Muon" else OPTIMIZERS[case.name])(weights, **options)


def taken(name: str) -> set[str]:
    """The options that an optimizer of torch takes."""
    return set(inspect.signature(OPTIMIZERS[name]).parameters) - {"params"}


def hypers(rule: Rule):
    """The defaults; all moved; and all moved but without weight decay."""
    moved = rule.hyper._replace(**{name: MOVED[name] for name in rule.hyper._fields if name in MOVED})
    decays = hasattr(moved, "weight_decay")
    return [rule.hyper, moved, *([moved._replace(weight_decay=0.0)] if decays else [])]


def sees_parameters(spec: str, hp) -> bool:
    return spec.partition(":")[0] in ("asgd", "adafactor") or getattr(hp, "weight_decay", 0) != 0


@cache
def streams():
    """Parameters, and gradients of every kind, as lists of leaves, and gradients' leaves are `[kinds, steps, …]`."""
    params = problems.tree(jnp.float64)
    of_kinds = [[jax.tree.leaves(g) for g in problems.gradients(kind, params)] for kind in problems.KINDS]
    leaves = [np.stack([[g[i] for g in steps] for steps in of_kinds]) for i in range(len(of_kinds[0][0]))]
    return jax.tree.leaves(params), leaves


class Path(NamedTuple):
    """Parameters before every step, the updates, and the parameters to be used after it; each leaf `[steps, …]`."""

    before: list
    updates: list
    result: list


def ours(rule: Rule, hps) -> list[list[Path]]:
    """Our path for every one of the hyperparameters along every kind of stream, every operation rounded alone."""

    def path(hp, params, grads):
        def step(carry, g):
            w, state = carry
            updates, state = rule.update(hp, g, state, w)
            after = apply_updates(w, updates)
            return (after, state), Path(w, updates, rule.result(hp, after, state))

        return jax.lax.scan(step, (params, rule.init(hp, params)), grads)[1]

    stacked = jax.tree.map(lambda *h: jnp.asarray(h, jnp.float64), *hps)
    many = jax.jit(jax.vmap(jax.vmap(path, (None, None, 0)), (0, None, None)), compiler_options=gradient_streams.EXACT)
    found = jax.tree.map(np.asarray, many(stacked, *streams()))
    kinds = range(len(problems.KINDS))
    return [[jax.tree.map(lambda a, i=i, k=k: a[i, k], found) for k in kinds] for i in range(len(hps))]


def theirs(case: Case, hp, kind: int, before: list, sign: float = 1, **more) -> tuple[list, list]:
    """torch's parameters after every step from `before` along `sign` times the stream, trained and to be used."""
    weights = [torch.tensor(w[0]) for w in before]
    optimizer = made(case, weights, hp, **more)
    grads = [sign * torch.tensor(g[kind]) for g in streams()[1]]
    kept = []
    for t in range(problems.STEPS):

        def closure(t=t):
            for w, g in zip(weights, grads, strict=True):
                w.grad = g[t]
            return 0.0

        for w, start in zip(weights, before, strict=True):
            w.copy_(torch.tensor(start[t]))
        optimizer.step(closure)
        result = [optimizer.state.get(w, {}).get("ax", w) for w in weights]
        kept.append([[w.numpy().copy() for w in leaves] for leaves in (weights, result)])
    after, result = ([np.stack(leaf) for leaf in zip(*steps, strict=True)] for steps in zip(*kept, strict=True))
    return after, result


@pytest.mark.parametrize("spec", [spec for spec in CASES if spec not in ON_FUNCTIONS])
def test_parity_with_torch(spec):
    rule = optim.rule(spec)
    hps = hypers(rule)
    for hp, of_kinds in zip(hps, ours(rule, hps), strict=True):
        sighted = sees_parameters(spec, hp)
        for k, (kind, path) in enumerate(zip(problems.KINDS, of_kinds, strict=True)):
            if (spec, kind) in STILL:
                continue
            before = path.before if sighted else [np.zeros_like(w) for w in path.before]
            after, result = theirs(CASES[spec], hp, k, before)
            pairs = [(w + u, found) for w, u, found in zip(before, path.updates, after, strict=True)]
            pairs += zip(path.result, result, strict=True) if sighted else []
            for a, b in pairs:
                summed = sighted or spec.partition(":")[0] in CANCELING
                size = np.maximum.accumulate(np.abs(b)) if summed else np.abs(b)
                assert np.all(np.abs(a - b) <= RTOL * size), (kind, hp, np.nanmax(np.abs(a - b) / size))


def test_every_optimizer_of_torch_has_a_case_or_a_reason():
    held = {case.name for case in CASES.values()}
    assert set(OPTIMIZERS) <= held | set(WITHOUT)
    assert not held & set(WITHOUT)


@pytest.mark.parametrize("name", sorted({case.name for case in CASES.values()} & set(OPTIMIZERS)))
def test_every_option_of_torch_is_a_hyperparameter_or_has_a_reason(name):
    given = {
        option for spec, case in CASES.items() if case.name == name for option in case.options(optim.rule(spec).hyper)
    }
    assert taken(name) <= given | set(OPTIONS_WITHOUT)


SWITCHES = {"nesterov", "centered", "amsgrad", "decoupled_weight_decay"}
DEFAULTS_APART = {
    "SGD": {"momentum"},  # 0 is another rule
    "Adafactor": {"eps"},  # None is the smallest of the weights' type
    "LBFGS": {"max_iter", "max_eval", "tolerance_grad", "tolerance_change"},  # an update is one iteration
}


@pytest.mark.parametrize("spec", ["adadelta", *(spec for spec in CASES if ":torch" in spec)])
def test_torch_dialects_have_the_defaults_of_torch(spec):
    case, weights = CASES[spec], [torch.zeros(2, 2), torch.zeros(2)]
    found, plain = made(case, weights, optim.rule(spec).hyper).defaults, OPTIMIZERS[case.name](weights[:1]).defaults
    apart = {option for option in plain if found[option] != plain[option]}
    assert apart <= SWITCHES | DEFAULTS_APART.get(case.name, set())


def test_adafactors_eps_is_that_of_float32():
    assert optim.rule("adafactor:torch").hyper.eps == torch.finfo(torch.float32).eps


def test_adafactor_factors_the_last_two_of_three_axes():
    rule, rng = optim.rule("adafactor:torch"), np.random.default_rng(4)
    w, *gs = rng.standard_normal((6, 2, 3, 4))
    ours, weights = jnp.asarray(w), torch.tensor(w)
    state, optimizer = rule.init(rule.hyper, ours), made(CASES["adafactor:torch"], [weights], rule.hyper)
    for g in gs:
        updates, state = rule.update(rule.hyper, jnp.asarray(g), state, ours)
        ours, weights.grad = apply_updates(ours, updates), torch.tensor(g)
        optimizer.step()
    np.testing.assert_allclose(ours, weights.numpy(), rtol=RTOL)


@pytest.mark.parametrize("spec", CASES)
def test_to_maximize_is_to_follow_the_negative_gradient(spec):
    case, hp = CASES[spec], optim.rule(spec).hyper
    if case.name not in OPTIMIZERS or "maximize" not in taken(case.name):
        pytest.skip(f"{case.name} does not maximize")
    before = [np.broadcast_to(w, (problems.STEPS, *w.shape)) for w in streams()[0]]
    up, down = theirs(case, hp, 0, before, sign=-1, maximize=True), theirs(case, hp, 0, before)
    jax.tree.map(np.testing.assert_array_equal, up, down)


def on_a_function(rule: Rule, hp, f, w, steps: int, **options):
    """Weights that our L-BFGS and torch's go through on f, `[1 + steps, …]` both."""

    @jax.jit
    def step(w, state):
        value, g = jax.value_and_grad(f)(w)
        updates, state = rule.update(hp, g, state, w, Extra(value=value, value_fn=f))
        return apply_updates(w, updates), state

    ours, state = [w], rule.init(hp, w)
    for _ in range(steps):
        after, state = step(ours[-1], state)
        ours.append(after)

    weights = torch.tensor(np.asarray(w), requires_grad=True)
    optimizer = made(CASES["lbfgs:torch"], [weights], hp, **options)

    def closure():
        optimizer.zero_grad()
        value = f(weights)
        value.backward()
        return value

    theirs = [np.asarray(w)]
    for _ in range(steps):
        optimizer.step(closure)
        theirs.append(weights.detach().numpy().copy())
    return np.stack(ours), np.stack(theirs)


def bowl(w):
    """A sum of curvatures 0.3 to 1.3 with a quartic term."""
    return sum(c * w[i] ** 2 / 2 + w[i] ** 4 / 4 for i, c in enumerate((0.3, 0.5, 0.8, 1.1, 1.3)))


def rosenbrock(w):
    return (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()


START = (0.1, -0.2, 0.15, 0.1, -0.05)


@pytest.mark.parametrize(("start", "lr", "steps", "end"), [(1, 1.0, 20, 1e-5), (10, 1.0, 20, 1e-5), (1, 0.3, 40, 1e-4)])
def test_lbfgs_without_a_search_is_torchs(start, lr, steps, end):
    """From gradients of ‖g‖₁ below and above 1, until pairs are left out."""
    rule, w = optim.rule("lbfgs:torch"), start * jnp.array(START)
    ours, theirs = on_a_function(rule, rule.hyper._replace(lr=lr), bowl, w, steps)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RTOL * np.abs(w).max())
    assert np.abs(ours[-1]).max() < end


SEARCH = {"line_search_fn": "strong_wolfe", "max_eval": 100, "history_size": 10}


def test_lbfgs_is_torchs_where_both_searches_take_their_first_trial():
    """From a gradient of ‖g‖₁ < 1, where both start alike, on curvatures for which every step of length 1 is taken,
    until torch leaves out its first pair."""
    ours, theirs = on_a_function(lbfgs.lbfgs, lbfgs.Hyper(), bowl, jnp.array(START), steps=9, **SEARCH)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RTOL * 0.2)
    assert np.abs(ours[-1]).max() < 1e-6


def test_lbfgs_and_torchs_find_the_same_minimum():
    """Along Rosenbrock's valley the two searches go different ways."""
    start = jnp.array([-1.2, 1.0, -0.5])
    for path in on_a_function(lbfgs.lbfgs, lbfgs.Hyper(), rosenbrock, start, steps=60, **SEARCH):
        np.testing.assert_allclose(path[-1], 1, rtol=1e-7)


def losses(kind: str) -> np.ndarray:
    """Losses of 200 steps: noise, a fall that levels off, steps that repeat themselves, or all below 0."""
    rng, t = np.random.default_rng(3), np.arange(200)
    return {
        "noise": rng.uniform(1, 2, len(t)),
        "leveling": 0.5 + np.exp(-t / 10) + 1e-3 * rng.standard_normal(len(t)),
        "stairs": 10.0 - t // 25,
        "negative": -np.log1p(t) + rng.uniform(0, 1, len(t)),
    }[kind]


@pytest.mark.parametrize("kind", ["noise", "leveling", "stairs", "negative"])
@pytest.mark.parametrize("mode", ["rel", "abs"])
@pytest.mark.parametrize(
    ("factor", "patience", "cooldown", "least"),
    [(0.1, 10, 0, 0.0), (0.5, 0, 0, 1e-3), (0.5, 3, 4, 0.0), (0.7, 1, 1, 0.2)],
)
def test_reduce_on_plateau_is_torchs_scheduler(kind, mode, factor, patience, cooldown, least):
    """torch's patience is one less than ours and optax's."""
    lr, threshold = 0.3, 1e-2
    rule = reduce_on_plateau.reduce_on_plateau
    tolerances = {"rtol": threshold, "atol": 0.0} if mode == "rel" else {"rtol": 0.0, "atol": threshold}
    hp = rule.hyper._replace(
        inner=rule.hyper.inner._replace(lr=lr),
        factor=factor,
        patience=patience + 1,
        cooldown=cooldown,
        least=least,
        **tolerances,
    )
    w = jnp.zeros(())

    def step(state, value):
        update, state = rule.update(hp, jnp.ones(()), state, w, Extra(value=value))
        return state, -update

    _, ours = jax.lax.scan(step, rule.init(hp, w), losses(kind))

    optimizer = torch.optim.SGD([torch.zeros(())], lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=factor,
        patience=patience,
        cooldown=cooldown,
        min_lr=least * lr,
        threshold=threshold,
        threshold_mode=mode,
        eps=0,
    )
    theirs = []
    for value in losses(kind):
        scheduler.step(value)
        theirs.append(optimizer.param_groups[0]["lr"])
    assert theirs[-1] < lr
    np.testing.assert_allclose(ours, theirs, rtol=RTOL, atol=0)
