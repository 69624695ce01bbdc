"""Misuse of the library: arguments of wrong types, numbers, names and shapes get one sentence, and soon."""

import re
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from fnn import (
    data,
    init,
    instruments,
    interop,
    layers,
    models,
    optim,
    schedules,
    search,
    store,
    tasks,
    train,
    wrappers,
)
from fnn.base import provenance, statistics
from fnn.base.errors import InputError
from fnn.lab import plotting, results, verdicts
from fnn.nn import axes
from fnn.nn.losses import softmax_cross_entropy
from fnn.rule import hyper, linesearch, twins
from fnn.search import study
from fnn.train import checkpoints, engine, halving, population

pytestmark = pytest.mark.usefixtures("unchecked")

NAN, INF = float("nan"), float("inf")
NOT_COUNTS = (0, -1, 2.5, NAN, INF, "3", None, [3], True)
"""What no count of steps, seeds or outputs is."""

ADAM = optim.rule("adam")
KEY = jax.random.key(0)
X = np.zeros((6, 4), np.float32)
SPLITS = {"train": tasks.Split(X, np.arange(6) % 2)}
NETWORK = models.multilayer((3,), 2)
TASK = tasks.classification(lambda hp: NETWORK, batch=2)
RUN = train.training(TASK, ADAM, 4)
HP = train.Hyper(ADAM.hyper)
HPS = train.Hyper(engine.grid(ADAM.hyper, lr=[0.1, 0.2]))
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}
SPACE = {"lr": search.Log(1e-3, 1.0), "mu": search.Linear(0, 1)}
SCORE = lambda hp, state, data: 0.0


class Other(NamedTuple):
    momentum: float = 0.9


def counts(**calls):
    """Each call with everything that is no count."""
    return {
        f"{name} {value!r}": lambda call=call, value=value: call(value)
        for name, call in calls.items()
        for value in NOT_COUNTS
    }


def bad(name, call, *values):
    return {f"{name} {shown(value)}": lambda value=value: call(value) for value in values}


def shown(value):
    """The same in every process: no address."""
    return re.sub(r" at 0x\w+", "", f"{value!r:.40}")


def streamed(runs=None, hps=None, keys=None, data=SPLITS, steps=2, **options):
    return list(
        engine.stream(
            runs or {"a": RUN}, hps or {"a": HP}, engine.seeds(2) if keys is None else keys, data, steps, **options
        )
    )


def stepped(rule, grads, params=None, hp=None):
    params = PARAMS if params is None else params
    hp = rule.hyper if hp is None else hp
    return rule.update(hp, grads, rule.init(hp, params), params)


def checkpointed(**changed):
    given = {"folder": Path("work"), "manifest": {}, "runs": {"a": RUN}, "hps": {"a": HP}, "keys": engine.seeds(2)}
    return list(checkpoints.stream(**{**given, "data": SPLITS, "steps": 2, **changed}))


def made(**changed):
    given = {"folder": Path("work"), "manifest": {}, "numbers": [0, 1], "make": lambda number: {"x": np.zeros(2)}}
    return list(checkpoints.each(**{**given, **changed}))


def studied(act=lambda s: None, **changed):
    """`act` on a study in memory: its folder is made by the first trial that is finished."""
    given = {"space": SPACE, "sampler": search.uniform(2), "key": KEY, "manifest": None, **changed}
    folder = given.pop("folder", None)
    if folder is not None:
        with study.opened(folder, **given) as opened:
            return act(opened)
    kept = store.Store(Path("work"), {})
    return act(study.Study(kept, SPACE, search.uniform(2), KEY))


def asked(study):
    study.ask(2)
    return study


def shared(act=lambda s: None, **changed):
    given = {"storage": "sqlite:///:memory:", "name": "n", "space": SPACE, **changed}
    with study.Shared(**given) as one:
        return act(one)


def kept(act):
    return act(store.Store(Path("work"), {}))


def decided(effect=(1.0, 2.0), sentence="{effect}"):
    return verdicts.decide("a claim", effect, "", sentence)


def saved(**changed):
    given = {"verdicts": [], "answers": [], "figures": {}, "tables": {}, "pages": {}}
    return results.save_findings(Path("out"), **{**given, **changed})


NO_EFFECTS = (None, "x", ["a", "b"], np.zeros((3, 2)), np.float64(1.0), [[1.0], [1.0, 2.0]], {"a": 1.0}, [1j], [None])
NO_FOLDERS = (None, 3, "", ["x"], "a\0b")
HALF = lambda w: (w**2).sum() / 2
ONE = jnp.ones(3)

CASES = {
    **counts(
        seeds=engine.seeds,
        steps=lambda n: train.training(TASK, ADAM, n),
        train_steps=lambda n: train.train(RUN, n, HP, KEY, SPLITS),
        stream_steps=lambda n: streamed(steps=n),
        chunk=lambda n: streamed(chunk=n),
        batch=lambda n: tasks.classification(lambda hp: NETWORK, batch=n),
        block=lambda n: tasks.classification(lambda hp: NETWORK, batch=2, block=n),
        outputs=lambda n: models.multilayer((3,), n),
        width=lambda n: models.multilayer((3, n), 2),
        affine=layers.affine,
        accumulate=lambda n: wrappers.accumulate(ADAM, n),
        lookahead=lambda n: wrappers.lookahead(ADAM, n),
        staircase=lambda n: schedules.staircase(schedules.flat, n),
        scheduled=lambda n: schedules.scheduled(ADAM, schedules.constant, n),
        rounds=lambda n: population.population(RUN, 1, n, SCORE, population.perturb()),
        every=lambda n: population.population(RUN, n, 1, SCORE, population.perturb()),
        hyperband=halving.hyperband,
        rungs=lambda n: halving.halving(RUN, (n,), SCORE),
        uniform=search.uniform,
        quasi_random=search.quasi_random,
        narrowing=lambda n: search.narrowing(2, n),
        evolution=lambda n: search.evolution(2, n),
        evolution_axes=search.evolution,
        lattice=lambda n: search.lattice((2, n)),
        lanczos=lambda n: instruments.hessian_extremes(lambda w: (w**2).sum(), jnp.ones(3), KEY, n),
        evaluate_at=lambda n: train.training(TASK, ADAM, 4, evaluate_at=(n,)),
        observe_at=lambda n: train.training(TASK, ADAM, 4, observe=lambda m: {}, observe_at=(n,)),
    ),
    **bad("data name", data.load, "mnits", None, 3, ["mnist"], ""),
    **bad("data path", data.load, 3.5, Path("/nowhere"), "/nowhere.csv", "nowhere.npz", "no/where"),
    **bad("examples", lambda x: data.from_arrays(x, [0, 1] * 3), None, 3, "x", [[1], [2, 3]], [None] * 6, {}),
    **bad("targets", lambda y: data.from_arrays(X, y), None, 3, "x", [0, 1], [None] * 6, [0] * 6, {0: 1}),
    **bad("share", lambda n: data.from_arrays(X, [0, 1] * 3, test=n), 0, -1, 1.0, NAN, "3", None, [3], True, (X,), 6),
    **bad("classes", lambda names: data.from_arrays(X, [0, 1] * 3, classes=names), "ab", 3, ("a",), (1, 2)),
    **bad("split key", lambda key: data.from_arrays(X, [0, 1] * 3, key=key), 3, "key"),
    **bad("npz", data.from_npz, None, 3.5, "", "\0", "/nowhere", "/"),
    **bad("folder", data.from_folder, None, 3.5, "", "\0", "/nowhere", __file__),
    **bad("csv", data.from_csv, None, 3.5, "", "\0", "/nowhere", "/"),
    **bad("text", data.from_text, None, 3.5, "", "\0", "/nowhere", "/"),
    **bad("share of a text", lambda n: data.from_text(__file__, test=n), 0.0, -0.1, 1, NAN, "a", None),
    **bad("standardized", data.standardized, None, "x"),
    **bad("columns", lambda c: data.standardized(data.from_arrays(X, [0, 1] * 3), c), [4], ["a"], "a", 0, [0.5]),
    **bad("data_dir", lambda where: data.load("mnist_5k", where), 3, ["x"], "/nowhere"),
    **bad("idx", data.read_idx, None, 3.5, ["x"], "/nowhere"),
    **bad("network", lambda n: tasks.classification(n, batch=2), 3, None, "mlp"),
    **bad("network of no layer", lambda n: train.train(
        train.training(tasks.classification(lambda hp: n, batch=2), ADAM, 2), 2, HP, KEY, SPLITS), None, "mlp", ADAM),
    **bad("weight decay", lambda w: tasks.classification(lambda hp: NETWORK, batch=2, weight_decay=w), 0.1, "x"),
    **bad("hidden", lambda h: models.multilayer(h, 2), 3, None, "33"),
    **bad("normalize", lambda n: models.multilayer((3,), 2, normalize=n), "befor", True, 3),
    **bad("activation", lambda f: models.multilayer((3,), 2, activation=f), "relu", None),
    **bad("elementwise", layers.elementwise, "relu", None, 3),
    **bad("serial", lambda part: layers.serial(NETWORK, part), None, "affine", layers.affine),
    **bad("dropout", layers.dropout, -0.1, 1.5, NAN, "0.5", None),
    **bad("inverted dropout", layers.inverted_dropout, -0.1, 1.0, NAN, "0.5"),
    **bad("batch_norm momentum", layers.batch_norm, -0.1, 1.5, NAN, "0.9"),
    **bad("batch_norm eps", lambda eps: layers.batch_norm(eps=eps), -1.0, NAN, "x"),
    **bad("weights", lambda w: models.multilayer((3,), 2, weights=w), 0.01, "he", [1]),
    **bad("init std", init.normal, "x", None, -1.0, NAN),
    **bad("init shape", lambda shape: init.he()(KEY, shape), (3,), 3),
    "init key": lambda: init.he()(0, (2, 3)),
    "layer key": lambda: NETWORK.init(0, jnp.ones((1, 4))),
    **bad("rule name", optim.rule, "adma", "", None, 3, "adam:torhc", ["adam"]),
    **bad("task", lambda t: train.training(t, ADAM, 4), None, NETWORK, "mnist"),
    **bad("rule", lambda r: train.training(TASK, r, 4), None, "adam", optim),
    **bad("schedule", lambda s: train.training(TASK, ADAM, 4, schedule=s), "cosine", 0.1, None),
    **bad("observe", lambda o: train.training(TASK, ADAM, 4, observe=o), "norm", 3),
    **bad("evaluate_at", lambda e: train.training(TASK, ADAM, 4, evaluate_at=e), 3, "4", (5,)),
    **bad("train run", lambda r: train.train(r, 2, HP, KEY, SPLITS), TASK, ADAM, None),
    **bad("train hp", lambda hp: train.train(RUN, 2, hp, KEY, SPLITS), ADAM.hyper, None, {}, 0.1, train.Hyper(0.1),
          train.Hyper(None), train.Hyper(optim.rule("sgd").hyper), train.Hyper(Other())),
    **bad("train key", lambda key: train.train(RUN, 2, HP, key, SPLITS), 0, None, "0", engine.seeds(2), 1.5),
    **bad("train data", lambda d: train.train(RUN, 2, HP, KEY, d), None, {}, X, SPLITS["train"],
          {"test": SPLITS["train"]}),
    **bad("hp out of range", lambda lr: train.train(RUN, 2, train.Hyper(ADAM.hyper._replace(lr=lr)), KEY, SPLITS),
          -0.1, NAN, "0.1", None),
    **bad("first seed", lambda first: engine.seeds(2, first), -1, 0.5, "0", None),
    **bad("grid values", lambda v: engine.grid(ADAM.hyper, lr=v), [], 0.1, "0.1", [None], ["0.1"], None, [NAN]),
    **bad("grid hyper", lambda h: engine.grid(h, lr=[0.1]), ADAM, None, 3),
    "grid name": lambda: engine.grid(ADAM.hyper, lrr=[0.1]),
    "grid nested name": lambda: engine.grid(ADAM.hyper, **{"inner.lr": [0.1]}),
    **bad("over_hypers", engine.over_hypers, None, TASK, ADAM),
    **bad("over_seeds", engine.over_seeds, None, "f"),
    **bad("stream runs", lambda r: streamed(r), RUN, [RUN], {"a": None}, {"a": TASK}, {"b": RUN}),
    **bad("stream hps", lambda h: streamed(hps=h), HP, {"b": HP}, {"a": ADAM.hyper}, {"a": None}),
    **bad("stream keys", lambda k: streamed(keys=k), 2, KEY, [0, 1], jnp.arange(2), engine.seeds(2)[:0], "2"),
    **bad("stream data", lambda d: streamed(data=d), None, {}, X, {"train": X}),
    **bad("stream batch_size", lambda n: streamed(batch_size=n), 0, -1, 2.5, "1"),
    **bad("stream done", lambda n: streamed(steps=4, chunk=2, done=n), 1, -2, 8, "2", 2),
    **bad("stream devices", lambda d: streamed(devices=d), [], "cpu", 1),
    **bad("halving rungs", lambda r: halving.halving(RUN, r, SCORE), (), (2, 1), (1, 1), 3, None, "12"),
    **bad("halving keep", lambda k: halving.halving(RUN, (1, 2), SCORE, k), 0, -1, 2, NAN, "0.5", None),
    **bad("halving score", lambda s: halving.halving(RUN, (1, 2), s), None, 0.5, "loss"),
    **bad("halving run", lambda r: halving.halving(r, (1, 2), SCORE), None, TASK),
    **bad("halving hps", lambda h: halving.halving(RUN, (1, 2), SCORE)(h, KEY, SPLITS), HP, None, (), ADAM.hyper),
    **bad("halving key", lambda k: halving.halving(RUN, (1, 2), SCORE)(HPS, k, SPLITS), 0, None, engine.seeds(2)),
    **bad("hyperband least", lambda n: halving.hyperband(9, least=n), 0, 10, 1.5, "1"),
    **bad("hyperband keep", lambda k: halving.hyperband(9, k), 0, 1, -1, NAN, "x"),
    **bad("population share", lambda s: population.population(RUN, 1, 1, SCORE, population.perturb(), share=s), 0,
          0.6, NAN, "x"),
    **bad("population explore", lambda e: population.population(RUN, 1, 1, SCORE, e), None, 1.2),
    **bad("population key", lambda k: population.population(RUN, 1, 1, SCORE, population.perturb())(HPS, k, KEY,
          SPLITS), 0, None),
    **bad("population luck", lambda k: population.population(RUN, 1, 1, SCORE, population.perturb())(HPS, KEY, k,
          SPLITS), 0, None),
    **bad("population of one", lambda h: population.population(RUN, 1, 1, SCORE, population.perturb())(h, KEY, KEY,
          SPLITS),
          HP, train.Hyper(engine.grid(ADAM.hyper, lr=[0.1]))),
    **bad("perturb", lambda d: population.perturb(*d), (0, 1), (2, 1), (NAN, 1), ("a", "b")),
    **bad("linear ends", lambda e: search.Linear(*e), (1, 0), (0, INF), (NAN, 1), ("0", "1"), (None, 1)),
    **bad("log ends", lambda e: search.Log(*e), (0, 1), (-1, 1), (1, 1), ("a", 1)),
    **bad("whole ends", lambda e: search.Whole(*e), (0.5, 2), (2, 1), ("a", 1)),
    **bad("choice", search.Choice, (), ("one",), 3, None, "ab"),
    **bad("settings space", lambda s: search.settings(s, np.zeros((2, 2))), None, {"lr": 0.1}, {},
          {"lr": SPACE["lr"]}),
    **bad("settings points", lambda p: search.settings(SPACE, p), np.zeros((2, 3)), np.zeros(2), None, 3,
          np.full((1, 2), 2.0)),
    "points lack an axis": lambda: search.points(SPACE, {"lr": np.ones(2)}),
    **bad("told", lambda v: search.append(search.History(np.zeros((0, 2)), np.zeros(0)), np.zeros((2, 2)), v),
          np.zeros(3), np.zeros((2, 1)), None),
    **bad("quasi kind", lambda k: search.quasi_random(2, k), "sobl", None, 3),
    **bad("lattice", search.lattice, 3, (), None, "22"),
    **bad("evolution step", lambda s: search.evolution(2, 2, s), 0, -1, NAN, "x"),
    **bad("narrowing keep", lambda k: search.narrowing(2, 4, keep=k), 0, 2, NAN, "x"),
    **bad("bayesian", lambda n: search.bayesian(2, n), "tpee", None, 3),
    **bad("schedule on", lambda name: schedules.on(name, schedules.flat), None, 3),
    **bad("schedule shape", lambda shape: schedules.on("lr", shape), None, 0.1),
    "schedule of no such name": lambda: schedules.on("lrr", schedules.flat)(ADAM.hyper, 0.0),
    **bad("both", schedules.both, "x", 3, None),
    **bad("within", lambda p: schedules.within(*p, schedules.flat), (0.5, 0.2), (-1, 1), (0, 2), (NAN, 1), ("a", 1)),
    **bad("joined", lambda b: schedules.joined([schedules.flat] * 2, b), [], [0.1, 0.2], [2.0], [NAN], 0.5, None),
    **bad("warmup", schedules.warmup, 0, 1, 2, -0.1, NAN, "x"),
    **bad("through", lambda v: schedules.through(v, [0.5]), [1.0], 3, None),
    "through between": lambda: schedules.through([0.0, 1.0], [], "cosin"),
    **bad("steps", lambda b: schedules.steps(0.1, b), 1.5, -0.5, NAN, "x"),
    **bad("exponential", schedules.exponential, "x", None, -1.0, NAN),
    **bad("scheduled rule", lambda r: schedules.scheduled(r, schedules.constant, 3), None, "adam"),
    **bad("wrapped rule", wrappers.clip_norm, None, "adam", optim),
    **bad("decayed rule", wrappers.decay, None, "adam"),
    **bad("averaged rule", wrappers.ema, None, "adam"),
    **bad("bounded rule", wrappers.max_norm, None, "adam"),
    **bad("looking ahead", wrappers.lookahead, None, "adam"),
    **bad("accumulated rule", lambda r: wrappers.accumulate(r, 2), None, "adam"),
    **bad("where", lambda w: wrappers.only(ADAM, w), None, "w", 3),
    **bad("groups", lambda g: wrappers.by_group(g, lambda w: w), None, ADAM, {"a": "adam"}, {}),
    **bad("label", lambda f: wrappers.by_group({"a": ADAM}, f), None, "a"),
    "decoupled decay without a rate": lambda: wrappers.decay_decoupled(optim.rule("cocob")._replace(hyper=())),
    "gradients of another tree": lambda: stepped(ADAM, {"w": jnp.ones((2, 3))}),
    "gradients of another shape": lambda: stepped(ADAM, {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}),
    "gradients of whole numbers": lambda: stepped(ADAM, jax.tree.map(lambda w: w.astype(int), PARAMS)),
    "gradients as text": lambda: stepped(ADAM, {"w": "a", "b": "c"}),
    **bad("parameters", lambda w: ADAM.init(ADAM.hyper, w), {"w": 1}, {"w": "x"}, [jnp.arange(3)]),
    **bad("hyperparameters", lambda hp: stepped(ADAM, PARAMS, hp=hp), ADAM.hyper._replace(b1=1.0),
          ADAM.hyper._replace(lr="x"),
          ADAM.hyper._replace(eps=-1.0), Other(), 0.1, {"lr": 0.1}),
    "a rule that needs more than gradients": lambda: stepped(optim.rule("dpsgd"), PARAMS),
    **bad("to_optax", interop.to_optax, None, "adam", optim),
    "several learning rates for one rule": lambda: stepped(ADAM, PARAMS, hp=ADAM.hyper._replace(lr=np.ones(3))),
    "parameters of 8 bits": lambda: ADAM.init(ADAM.hyper, jnp.ones(2, jnp.float8_e4m3fn)),
    "shapes for parameters": lambda: ADAM.init(ADAM.hyper, jax.ShapeDtypeStruct((2,), jnp.float32)),
    "to_optax without parameters": lambda: interop.to_optax(ADAM).update(PARAMS, interop.to_optax(ADAM).init(PARAMS)),
    **bad("from_optax", lambda build: interop.from_optax(ADAM.hyper, build), None, "adam"),
    **bad("twin", lambda spec: twins.twin(spec, ADAM.hyper), "adma", None, "asgd"),
    **bad("hyper name", lambda name: hyper.get(ADAM.hyper, name), "lrr", "inner.lr", "lr.lr", None, 3),
    **bad("hyper value", lambda hp: hyper.get(hp, "lr"), None, 3, ()),
    **bad("saturated", lambda low: instruments.saturated(X, low, 0.0), 1.0, NAN, "x"),
    **bad("histogram", lambda edges: instruments.histogram(X, edges), None, np.zeros(1), np.array([1.0, 0.0])),
    **bad("activations", lambda n: instruments.activations(n, {}, {}, X), None, "mlp"),
    "distance of other trees": lambda: instruments.distance(PARAMS, {"w": PARAMS["w"]}),
    "distance that broadcasts": lambda: instruments.distance({"w": jnp.ones((4, 1))}, {"w": jnp.ones(4)}),
    "ratio that broadcasts": lambda: instruments.update_ratio({"w": jnp.ones((4, 1))}, {"v": jnp.ones(4)}),
    "extremes without a key": lambda: instruments.hessian_extremes(lambda w: (w**2).sum(), jnp.ones(3), 0),
    "extremes of no function": lambda: instruments.hessian_extremes(None, jnp.ones(3), KEY),
    "loss of columns": lambda: softmax_cross_entropy(jnp.zeros((2, 3)), jnp.zeros((2, 1), int)),
    **bad("stratified", lambda y: tasks.stratified(KEY, y), jnp.zeros((2, 1), int), None, 3),
    "stratified key": lambda: tasks.stratified(0, jnp.zeros(3, int)),
    **bad("results", results.load, None, 3, "/nowhere"),
    **bad("smoothing", lambda w: plotting.smooth(np.zeros(20), w), 0, -3, 2.5, "x"),
    **bad("band", plotting.band, np.zeros((0, 3)), None, 3.0, "x"),
    **counts(study_ask=lambda n: studied(lambda s: s.ask(n))),
    **bad("study folder", lambda f: studied(folder=f), *NO_FOLDERS[1:]),
    **bad("study space", lambda space: studied(folder=Path("work"), space=space), None, {}, {"lr": 0.1}, "lr"),
    **bad("study sampler", lambda sampler: studied(folder=Path("work"), sampler=sampler), None, "tpe", 3),
    **bad("study key", lambda key: studied(folder=Path("work"), key=key), None, 0, engine.seeds(2)),
    **bad("study manifest", lambda m: studied(folder=Path("work"), manifest=m), 3, "x", ["x"], {3: 1}),
    **bad("study values", lambda v: studied(lambda s: asked(s).tell(v)), None, "x", 0.1, [0.1], ["a", "b"], [],
          np.zeros((2, 1, 1)), np.zeros((2, 0)), [[1.0], [1.0, 2.0]], [None, None]),
    "study gets values without pending trials": lambda: studied(lambda s: s.tell([0.1, 0.2])),
    **bad("study trial", lambda n: studied(lambda s: s.test(n, lambda: 0.0)), None, "0", 0, -1, 0.5),
    **bad("shared storage", lambda where: shared(storage=where), None, 3, "", "journal.log", ["x"]),
    **bad("shared name", lambda name: shared(name=name), None, 3, ""),
    **bad("shared space", lambda space: shared(space=space), None, {}, {"lr": 0.1}, "lr"),
    **bad("shared sampler", lambda sampler: shared(sampler=sampler), "tpe", 3, search.uniform(2)),
    **bad("shared lease", lambda lease: shared(lease=lease), None, 3600, "1 h", timedelta(-1)),
    **bad("shared ask", lambda n: shared(lambda s: s.ask(n)), 0, -1, 2.5, "3", None, True),
    **bad("shared values", lambda v: shared(lambda s: asked(s).tell(v)), None, "x", 0.1, [0.1], ["a", "b"],
          np.zeros((2, 1, 1)), np.zeros((2, 0)), [[1.0], [1.0, 2.0]]),
    **bad("shared trial", lambda n: shared(lambda s: s.test(n, lambda: 0.0)), None, "0", 0, -1),
    **bad("checkpoint folder", lambda f: checkpointed(folder=f), *NO_FOLDERS),
    **bad("checkpoint manifest", lambda m: checkpointed(manifest=m), None, 3, "x", {3: 1}),
    **bad("checkpoint runs", lambda r: checkpointed(runs=r), None, RUN, {"a": None}, {}),
    **bad("checkpoint hps", lambda h: checkpointed(hps=h), None, HP, {"b": HP}, {"a": ADAM.hyper}),
    **bad("checkpoint keys", lambda k: checkpointed(keys=k), None, 2, KEY),
    **bad("checkpoint data", lambda d: checkpointed(data=d), None, {}, X),
    **bad("checkpoint steps", lambda n: checkpointed(steps=n), 0, 2.5, None, "2"),
    **bad("checkpoint chunk", lambda n: checkpointed(chunk=n), 0, 2.5, None, "2"),
    **bad("checkpoint every", lambda e: checkpointed(every=e), -1, NAN, None, "20"),
    **bad("each folder", lambda f: made(folder=f), *NO_FOLDERS),
    **bad("each manifest", lambda m: made(manifest=m), None, 3, "x"),
    **bad("each numbers", lambda n: made(numbers=n), None, "12", 2.5, [-1], [0.5], ["a"]),
    **bad("each make", lambda f: made(make=f), None, "f", 3),
    **bad("each every", lambda e: made(every=e), -1, NAN, None, "20"),
    **bad("store folder", lambda f: store.Store(f, {}), *NO_FOLDERS),
    **bad("store manifest", lambda m: store.Store(Path("work"), m), None, 3, "x", ["x"], {3: 1}),
    **bad("block number", lambda n: kept(lambda s: s.write(n, {"x": np.zeros(2)})), None, -1, 0.5, "1"),
    **bad("block read", lambda n: kept(lambda s: s.get(n)), None, -1, 0.5, "1"),
    **bad("block first", lambda n: kept(lambda s: s.write(0, {"x": np.zeros(2)}, n)), None, -1, 0.5, "1"),
    **bad("block arrays", lambda a: kept(lambda s: s.write(0, a)), None, np.zeros(2), {3: np.zeros(2)},
          {"x": None}, {"x": object()}),
    **bad("published folder", lambda f: store.publish(f, {"a": b""}), *NO_FOLDERS),
    **bad("saved data", lambda d: results.save_data(Path("out"), d, {}), None, 3, {"a": 1}, np.zeros(2)),
    **bad("saved provenance", lambda d: results.save_data(Path("out"), xr.Dataset(), d), None, 3, "x"),
    **bad("saved data's folder", lambda f: results.save_data(f, xr.Dataset(), {}), *NO_FOLDERS),
    **bad("saved verdicts", lambda v: saved(verdicts=v), None, 3, "x", [None], ["holds"]),
    **bad("saved answers", lambda a: saved(answers=a), None, 3, "x", [None], [decided]),
    **bad("saved figures", lambda f: saved(figures=f), None, 3, ["x"], {"a": None}, {3: None}),
    **bad("saved tables", lambda t: saved(tables=t), None, 3, ["x"], {3: []}),
    **bad("saved pages", lambda p: saved(pages=p), None, 3, ["x"], {"a": None}, {3: ""}),
    **bad("provenance", provenance.provenance, None, 3, {}, train.Hyper),
    **bad("writable", results.check_writable, *NO_FOLDERS),
    **bad("line", lambda f: linesearch.wolfe(f, ONE, -ONE, 1.5, -3.0), None, 3, "f"),
    **bad("line from", lambda w: linesearch.wolfe(HALF, w, -ONE, 1.5, -3.0), None, "w", 3, np.ones(3, int),
          jnp.ones((3, 1))),
    **bad("line along", lambda p: linesearch.wolfe(HALF, ONE, p, 1.5, -3.0), None, "p", 3, jnp.ones((3, 1)),
          {"w": ONE}),
    **bad("line's value", lambda v: linesearch.wolfe(HALF, ONE, -ONE, v, -3.0), None, "f", [1.0], ONE),
    **bad("line's slope", lambda d: linesearch.wolfe(HALF, ONE, -ONE, 1.5, d), None, "d", [1.0], ONE),
    **bad("effect", decided, *NO_EFFECTS),
    **bad("effect's sentence", lambda s: decided(sentence=s), None, 3, "{effct}", "{0}", "{", "{effect:d}"),
    **bad("effect of points", lambda e: verdicts.decide_every("", e, np.arange(2), "", ""), None, "x", np.zeros(3),
          np.zeros((3, 3)), np.zeros((3, 0))),
    **bad("points of effect", lambda p: verdicts.decide_every("", np.zeros((3, 2)), p, "", ""), None, 3, "ab", [1]),
    **bad("interval", statistics.interval, *NO_EFFECTS),
    **bad("confidence", lambda c: statistics.interval(np.arange(3.0), c), None, 0, 1, 95, NAN, "0.95"),
    **bad("intervals", statistics.intervals, None, "x", 3.0, ["a"]),
    **bad("side", statistics.side, *NO_EFFECTS),
    **bad("bar", lambda b: statistics.side(np.arange(3.0), b), None, "0", NAN, [0, 1]),
    **bad("middle", statistics.middle, *NO_EFFECTS[:3]),
    **bad("share", statistics.share, *NO_EFFECTS, [0.3], [NAN], [2]),
    **bad("hits", lambda h: verdicts.decide_share("", h, 0.5, ""), *NO_EFFECTS, [0.3], [NAN], [2]),
    **bad("above", lambda a: verdicts.decide_share("", [True], a, ""), None, "x", -0.1, 50, NAN),
    **bad("gap", lambda g: verdicts.exact("", g, 0.1, ""), None, "x", ["a"], {"a": 1.0}, [1j], [None]),
    **bad("tolerance", lambda t: verdicts.exact("", [0.0], t, ""), None, "x", -0.1, NAN),
    **bad("paired ours", lambda v: statistics.paired(v, np.zeros(2)), *NO_EFFECTS, np.zeros(3), np.zeros(1)),
    **bad("paired theirs", lambda v: statistics.paired(np.zeros(2), v), *NO_EFFECTS, np.zeros(3), np.zeros(1)),
    **bad("axes", axes.Axes, 0, (0.5,), (-1,), "0", None, [0]),
    "an axis that is two": lambda: axes.Axes((0,), (0,)),
    **bad("convention", lambda c: axes.axes(PARAMS, c), None, "flax", 3, lambda x: None, lambda x: (0,)),
    **bad("convention of matrices", axes.only_matrices, None, "flax", 3),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_misuse_gets_one_sentence_and_soon(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        CASES[name]()
    text = str(caught.value)
    assert 10 < len(text) < 1000
    assert len(text.splitlines()) == 1
    assert time.process_time() - began < 10
    assert list(tmp_path.iterdir()) == []
