"""Every rule equals its optax twin: float64, 120 steps, nested trees, adversarial gradients, 1e-12 a coordinate."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import KINDS, RTOL, STEPS, along, streams

from fnn import interop, optim, schedules
from fnn.rule import Rule, gradient_streams, hyper, twins

TWINLESS = {
    "nadam:torch": "optax has no schedule of the momentum; held to torch in test_torch.py",
    "nadamw:torch": "as nadam:torch",
    "rprop:torch": "optax's is a step late; held to torch in test_torch.py",
    "adafactor:torch": "optax adds eps where torch bounds by it, and leaves small matrices whole; held to torch",
    "muon:torch": "optax corrects the means; held to torch in test_torch.py",
    "lbfgs:torch": "optax leaves out no pair of positive product and starts by the 2-norm; held to torch",
    "galore:paper": "optax projects the longer side; held to the paper's step by hand in test_axes.py",
    "asgd": "optax does not average; held to torch in test_torch.py",
    "asgd:torch": "as asgd",
}
"""Rules and dialects that optax has nothing equal to, and what they are held to instead."""

UNMOVED = {
    "reduce_on_plateau": {"factor": "checked by optax in Python", "rtol": "as factor", "atol": "as factor"},
}
"""Hyperparameters that a twin cannot be given as traced numbers."""

APART = {
    ("sam", "zeros"): "optax divides 0 by 0",
    ("prodigy", "zeros"): "optax divides 0 by 0",
    ("dadapt_adamw", "zeros"): "optax divides 0 by 0",
}
"""Where a twin gives NaN and ours, by a better equation, does not."""

pytestmark = pytest.mark.usefixtures("x64")


def moved(name):
    """Off its default: what must stay below 1 goes half way down, the rest doubles; 0 becomes some."""
    kept = name.rpartition(".")[2] in ("mu", "rho", "b", "b1", "b2", "b3", "decay", "rho")
    return lambda value: 0.5 * value + 0.25 if kept else (2 * value if value else 3 if name == "cooldown" else 0.01)


def settings(rule: Rule):
    """The default hyperparameters, then with each of them moved in turn: `(names, hps)`, leaves `[1 + …]`."""
    names = hyper.names(rule.hyper)
    hps = [rule.hyper, *(hyper.put(rule.hyper, name, moved(name)(hyper.get(rule.hyper, name))) for name in names)]
    return names, jax.tree.map(lambda *h: jnp.asarray(h, jnp.float64), *hps)


def test_every_rule_and_dialect_has_a_twin_or_a_reason():
    assert set(twins.TWINS) | set(TWINLESS) == set(optim.rules())
    assert not set(twins.TWINS) & set(TWINLESS)


@pytest.mark.parametrize("spec", [spec for spec in twins.TWINS if spec not in gradient_streams.ON_FUNCTIONS])
def test_parity(spec):
    """At the defaults and with every hyperparameter moved, along every stream; and every hyperparameter matters."""
    rule = optim.rule(spec)
    names, hps = settings(rule)
    ours, theirs = along(rule, hps), along(twins.twin(spec, optim.rule(spec).hyper), hps)
    shared = [i for i, name in enumerate(["", *names]) if name not in UNMOVED.get(spec, {})]
    for k, kind in enumerate(KINDS):
        of_a_kind = [jax.tree.map(lambda a, k=k: a[:, k], side) for side in (ours, theirs)]
        if (spec, kind) in APART:
            assert all(np.isfinite(u).all() for u in jax.tree.leaves(of_a_kind[0]))
            continue
        for a, b, w in zip(*map(jax.tree.leaves, (*of_a_kind, streams()[0])), strict=True):
            np.testing.assert_allclose(a[shared], b[shared], rtol=RTOL, atol=spacing(spec, w, b), err_msg=kind)
            assert a.dtype == jnp.float64
            assert kind != "normal" or np.abs(a[0]).max() > 0
    for i, name in enumerate(names, start=1):
        assert name in UNMOVED.get(spec, {}) or any(np.any(u[i] != u[0]) for u in jax.tree.leaves(ours)), name


def schedule_free(adamw):
    """Of one weight, as optax computes it: z is kept, x found from y and z."""

    def step(hp, t, g, y, s):
        z, total, v = s or (y, 0, 0)
        if adamw:
            v = hp["b2"] * v + (1 - hp["b2"]) * g**2
            g /= (v / (1 - hp["b2"] ** t)).sqrt() + hp["eps"]
        x = (y - (1 - hp["b1"]) * z) / hp["b1"]
        z -= hp["lr"] * (g + hp["weight_decay"] * y)
        total += hp["lr"] ** 2
        x += hp["lr"] ** 2 / total * (z - x)
        return hp["b1"] * x + (1 - hp["b1"]) * z, (z, total, v)

    return step


def cocob(hp, t, g, w, s):
    w_0, largest, total, reward, theta = s or (w, hp["eps"], 0, 0, 0)
    g = hp["lr"] * (g + hp["weight_decay"] * w)
    largest, total = max(largest, abs(g)), total + abs(g)
    reward, theta = max(reward - g * (w - w_0), 0), theta - g
    share = theta / (largest * max(total + largest, hp["alpha"] * largest))
    return w_0 + share * (largest + reward), (w_0, largest, total, reward, theta)


def madgrad(hp, t, g, w, s):
    w_0, s, v = s or (w, 0, 0)
    g += hp["weight_decay"] * w
    rate = (hp["lr"] + hp["eps"]) * Decimal(float(np.sqrt(np.float32(t))))
    s, v = s + rate * g, v + rate * g**2
    z = w_0 - s / (v ** (1 / Decimal(3)) + hp["eps"])
    return hp["mu"] * w + (1 - hp["mu"]) * z, (w_0, s, v)


EQUATIONS = {
    "schedule_free_sgd": schedule_free(adamw=False),
    "schedule_free_adamw": schedule_free(adamw=True),
    "cocob": cocob,
    "madgrad": madgrad,
}
"""Those of `BY_PLACES`, which are within RTOL of the parameters of their twins: held to these, of one weight, in fifty
digits."""


def spacing(spec, w, updates):
    """What may part a rule from its twin, beside RTOL of an update."""
    return RTOL * np.abs(w + np.cumsum(updates, 1)).max() if spec in gradient_streams.BY_PLACES else 0


def in_fifty_digits(spec, hp, w, gradients):
    """The updates of one weight, `[steps]`."""
    with localcontext(prec=50):
        hp = {name: Decimal(float(h)) for name, h in hp._asdict().items()}
        w, state, found = Decimal(float(w)), None, []
        for t, g in enumerate(gradients, start=1):
            after, state = EQUATIONS[spec](hp, t, Decimal(float(g)), w, state)
            found.append(float(after - w))
            w = after
    return np.array(found)


@pytest.mark.parametrize("spec", gradient_streams.BY_PLACES)
def test_rules_rounded_less_than_their_twins_equal_their_equations(spec):
    """To RTOL of an update, and some roundings of the farthest from the start that the weight comes."""
    rule = optim.rule(spec)
    _, hps = settings(rule)
    ours, (params, grads) = along(rule, hps)["scalar"], streams()
    for i in range(len(hps.lr)):
        hp = jax.tree.map(lambda h, i=i: h[i], hps)
        for k, kind in enumerate(KINDS):
            theirs = in_fifty_digits(spec, hp, params["scalar"], grads["scalar"][k])
            rounding = 1e-45 + 4 * np.finfo(float).eps * np.abs(np.cumsum(theirs)).max()
            np.testing.assert_allclose(ours[i, k], theirs, rtol=RTOL, atol=rounding, err_msg=kind)


UNSCHEDULED = {
    "adagrad:book": "its twin multiplies lr by a schedule of its own",
    "adagrad:torch": "as adagrad:book",
    "amsgrad:torch": "as adagrad:book",
    "amsgrad:torch_decoupled": "as adagrad:book",
    "rprop": "lr is the first step, which optax takes once",
    "polyak_sgd": "lr is a bound, which optax takes as a number",
    "schedule_free_sgd": "optax steps by lr(t − 1) and averages by lr(t); ours does both by lr(t − 1)",
    "schedule_free_adamw": "as schedule_free_sgd",
    "lbfgs": "as ON_FUNCTIONS",
}
"""Twins that cannot be given a schedule of lr."""


@pytest.mark.parametrize("spec", [spec for spec in twins.TWINS if spec not in UNSCHEDULED])
def test_parity_under_a_schedule(spec):
    """Our schedule of lr around our rule against optax's own in the twin, which counts for itself. The factors are
    powers of 2, which neither side rounds."""
    rule = optim.rule(spec)
    name = hyper.lr_path(rule.hyper)
    falling = schedules.scheduled(rule, schedules.on(name, schedules.steps(0.5, 0.25, 0.5, 0.75)), STEPS)
    at = {round(share * STEPS): 0.5 for share in (0.25, 0.5, 0.75)}
    lr = optax.piecewise_constant_schedule(hyper.get(rule.hyper, name), at)

    twin = interop.from_optax((), lambda hp: twins.TWINS[spec](hyper.put(hp, name, lr)))
    once = jax.tree.map(lambda h: jnp.asarray([h], jnp.float64), rule.hyper)
    ours, theirs = along(falling, once), along(twin, once)
    for k, kind in enumerate(KINDS):
        for a, b, w in zip(*map(jax.tree.leaves, (ours, theirs, streams()[0])), strict=True):
            if (spec, kind) not in APART:
                rounding = spacing(spec, w, b[:, k])
                np.testing.assert_allclose(a[:, k], b[:, k], rtol=RTOL, atol=rounding, err_msg=kind)


def follow(spec, kind, **changed):
    """Our updates of a scalar parameter along one kind of stream, at these changes of the defaults, `[steps]`."""
    rule = optim.rule(spec) if isinstance(spec, str) else spec
    hp = rule.hyper._replace(**changed)
    once = jax.tree.map(lambda h: jnp.asarray([h], jnp.float64), hp)
    return along(rule, once)["scalar"][0, KINDS.index(kind)]


@pytest.mark.parametrize("spec", ["momentum", "nesterov"])
def test_book_momentum_parts_from_optax_under_a_schedule_only(spec):
    book = f"{spec}:book"
    np.testing.assert_allclose(follow(spec, "normal"), follow(book, "normal"), rtol=1e-9)

    def falling(spec):
        rule = optim.rule(spec)
        return schedules.scheduled(rule, schedules.on("lr", schedules.cosine()), STEPS)

    assert np.max(np.abs(follow(falling(spec), "normal") - follow(falling(book), "normal"))) > 1e-4


@pytest.mark.parametrize("spec", ["adagrad", "adam", "rmsprop"])
def test_book_form_is_not_its_namesake_in_optax(spec):
    """At the very same numbers, tiny gradients meet eps in another place: why each form has a different twin."""
    book = optim.rule(f"{spec}:book").hyper._asdict()
    start = {"h0": 0.0} if spec == "adagrad" else {}
    ours, theirs = follow(f"{spec}:book", "tiny"), follow(spec, "tiny", **book, **start)
    assert np.max(np.abs(ours / theirs - 1)) > 1e-2


def test_a_float32_parity_would_miss_a_misplaced_eps():
    """The reason for float64: eps under Adam's root instead of beside it hides below 1e-5, not below 1e-12."""
    adam = optim.rule("adam")
    misplaced = interop.from_optax(adam.hyper, lambda hp: optax.adam(hp.lr, hp.b1, hp.b2, 0.0, eps_root=hp.eps))
    gap = np.max(np.abs(follow("adam", "normal") / follow(misplaced, "normal") - 1))
    assert RTOL * 100 < gap < 1e-3
