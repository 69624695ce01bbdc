"""Sweeps: vmapped runs are single runs, contenders are paired, one that diverges disturbs nobody."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import models, optim, tasks, train
from fnn.base.errors import InputError
from fnn.train import engine

STEPS, SEEDS = 12, 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 300)
    x = rng.integers(0, 60, (300, 4, 4))
    x.reshape(300, 16)[np.arange(300), y] += 190
    return {"train": tasks.Split(jnp.asarray(x, jnp.uint8), jnp.asarray(y, jnp.int32))}


def small_task():
    """The usual task, small."""
    return tasks.classification(lambda hp: models.multilayer((12, 12), 10), batch=16)


def race(rules, **options):
    return {n: train.training(small_task(), r, STEPS, **options) for n, r in rules.items()}


def collect(runs, hps, data, *, chunk=STEPS // 2, **options):
    """All chunks of a stream, joined along the steps. Chunks of one length are one program."""
    chunks = list(engine.stream(runs, hps, engine.seeds(SEEDS), data, STEPS, chunk=chunk, **options))
    assert [i for c in chunks for i in c.steps] == list(range(STEPS))
    return jax.tree.map(lambda *a: np.concatenate(a, axis=1), *(c.record for c in chunks))


RULES = {n: optim.rule(n) for n in ("sgd", "momentum", "adagrad:book", "adam")}
PAIR = {n: RULES[n] for n in ("momentum", "adam")}


def test_grid_is_every_combination():
    hps = engine.grid(optim.rule("momentum").hyper, lr=[0.1, 0.2], mu=[0.0, 0.5, 0.9])
    np.testing.assert_allclose(hps.lr, [0.1] * 3 + [0.2] * 3)
    np.testing.assert_allclose(hps.mu, [0.0, 0.5, 0.9] * 2)
    one = engine.grid(optim.rule("adam").hyper, lr=[0.5])
    assert one.b2.shape == (1,)


@pytest.mark.parametrize(
    ("axes", "message"), [({"rate": [1.0]}, "no hyperparameter 'rate'"), ({"lr": []}, "no value for lr")]
)
def test_grid_names_what_is_wrong(axes, message):
    with pytest.raises(InputError, match=message):
        engine.grid(optim.rule("sgd").hyper, **axes)


def test_what_depends_on_the_seed_alone_is_computed_once_a_seed(data):
    """In the compiled program of seven settings the draws of a step have no axis of settings."""
    run = engine.over_hypers(train.training(small_task(), optim.rule("sgd"), STEPS))
    hps = train.Hyper(engine.grid(optim.rule("sgd").hyper, lr=[0.1 * i for i in range(1, 8)]))
    text = jax.jit(lambda hps, key: train.train(run, STEPS, hps, key, data)).lower(hps, engine.seeds(1)[0]).as_text()
    drawn = set(re.findall(r"tensor<([0-9x]*)ui32>", text))
    assert drawn
    assert not [shape for shape in drawn if "7" in shape.split("x")]


def test_seeds_do_not_depend_on_their_number():
    as_data = jax.random.key_data
    np.testing.assert_array_equal(as_data(engine.seeds(5))[:3], as_data(engine.seeds(3)))
    np.testing.assert_array_equal(as_data(engine.seeds(2, first=3)), as_data(engine.seeds(5))[3:])


def test_contenders_start_alike_and_see_the_same_minibatches(data):
    """Pairing: weights at step 0 are identical across rules and settings; so are batches, seen through lr = 0."""
    hps = {n: train.Hyper(engine.grid(r.hyper, lr=[0.0, 0.1])) for n, r in RULES.items()}
    runs = {n: engine.over_hypers(train.training(small_task(), r, STEPS)) for n, r in RULES.items()}
    key = jax.random.key(0)
    weights = [jax.tree.leaves(runs[n].start(hps[n], key, data).params) for n in RULES]
    for others in weights:
        for a, b in zip(weights[0], others, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a[0], a[1])

    record = collect(runs, hps, data)
    still = [record[n]["loss"][:, :, 0] for n in RULES]  # with lr = 0 only the minibatch moves the loss
    for loss in still[1:]:
        np.testing.assert_allclose(loss, still[0], rtol=1e-6)
    assert np.all(np.ptp(still[0], axis=1) > 0), "minibatches change from step to step"
    assert np.all(np.ptp(still[0], axis=0) > 0), "and from seed to seed"


def test_vmapped_runs_are_single_runs(data):
    hps = {n: train.Hyper(r.hyper) for n, r in PAIR.items()}
    record = collect(race(PAIR, loss_after=True), hps, data)
    for name, rule in PAIR.items():
        run = train.training(small_task(), rule, STEPS, loss_after=True)
        alone = jax.jit(lambda hp, key, run=run: train.train(run, STEPS, hp, key, data)[1]["loss"])
        for s in range(SEEDS):
            np.testing.assert_allclose(record[name]["loss"][s], alone(hps[name], engine.seeds(SEEDS)[s]), rtol=1e-5)


def test_chunks_and_batches_of_seeds_do_not_show(data):
    hps = {n: train.Hyper(r.hyper) for n, r in PAIR.items()}
    whole, parts, abreast = (
        collect(race(PAIR), hps, data, chunk=c, batch_size=k) for c, k in ((STEPS, 1), (5, 1), (5, 2))
    )
    for other in (parts, abreast):  # separate programs: XLA may unroll a short chunk and round differently
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, other)


def test_runs_of_one_task_draw_once(data):
    """By the number of traces, two rules on one task draw no more often than one, except one with a different draw."""
    drawn = []

    def counted(key, data, i):
        drawn.append(1)
        return small_task().draw(key, data, i)

    def losses(*draws):
        named = zip(PAIR.items(), draws, strict=True)
        runs = {n: train.training(small_task()._replace(draw=draw), r, STEPS) for (n, r), draw in named}
        return collect(runs, {n: train.Hyper(r.hyper) for n, r in PAIR.items()}, data)

    together, once = losses(counted, counted), len(drawn)
    alone = losses(counted, lambda key, data, i: counted(key, data, i))
    assert len(drawn) == 3 * once
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), together, alone)


def test_a_diverged_network_disturbs_nobody(data):
    rule = optim.rule("sgd")
    run = engine.over_hypers(train.training(small_task(), rule, STEPS))

    def losses(*lrs):
        return collect({"sgd": run}, {"sgd": train.Hyper(engine.grid(rule.hyper, lr=lrs))}, data)["sgd"]["loss"]

    with_it, without = losses(0.1, 1e30, 0.01), losses(0.1, 0.02, 0.01)
    assert not np.isfinite(with_it[:, -1, 1]).any()
    np.testing.assert_array_equal(with_it[..., [0, 2]], without[..., [0, 2]])


def test_new_values_do_not_recompile(data):
    traces = []
    run = train.training(small_task(), optim.rule("sgd"), STEPS)

    def step(*arguments):
        traces.append(1)
        return run.step(*arguments)

    together = engine.over_hypers(run._replace(step=step))
    f = jax.jit(lambda hps: train.train(together, STEPS, hps, engine.seeds(1)[0], data)[1]["loss"])
    first = f(train.Hyper(engine.grid(optim.rule("sgd").hyper, lr=[0.1, 0.2])))
    before = len(traces)
    second = f(train.Hyper(engine.grid(optim.rule("sgd").hyper, lr=[0.3, 0.4])))
    assert len(traces) == before
    assert np.any(first != second)


@pytest.mark.parametrize(
    ("steps", "chunk", "seeds", "message"),
    [
        (0, 5, 1, "at least 1 step"),
        (5, 0, 1, "at least 1 step"),
        (5, 5, 0, "at least 1 seed"),
    ],
)
def test_sizes_are_checked(data, steps, chunk, seeds, message):
    with pytest.raises(InputError, match=message):
        next(engine.stream(race(RULES), {}, engine.seeds(seeds), data, steps, chunk=chunk))


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import jax
jax.config.update("jax_num_cpu_devices", 7)
import numpy as np
import test_engine as t
from fnn import train
devices = jax.local_devices()
assert len(devices) == 7
hps = {{n: train.Hyper(r.hyper) for n, r in t.PAIR.items()}}
for n in {numbers}:
    record = t.collect(t.race(t.PAIR), hps, t.data.__wrapped__(), devices=devices[:n])
    np.save({out!r} + f"/{{n}}.npy", np.stack([record[name]["loss"] for name in t.PAIR]))
for seeds in (1, 3, 9):
    t.test_any_function_over_seeds_is_that_function_seed_by_seed(seeds)
"""


def test_the_number_of_devices_does_not_show(tmp_path):
    """3 seeds on 1, 2, 4 and 7 devices: uneven shares are padded, and on 7 the rules are on different devices as well.

    Any function over 1, 3 and 9 seeds on 7 devices is that function seed by seed.
    """
    here, numbers = Path(__file__).parent, (1, 2, 4, 7)
    program = PROGRAM.format(tests=str(here), numbers=numbers, out=str(tmp_path))
    subprocess.run([sys.executable, "-c", program], check=True, cwd=here.parents[1], timeout=600)
    one, *others = (np.load(tmp_path / f"{n}.npy") for n in numbers)
    assert one.shape == (len(PAIR), 3, STEPS)
    for other in others:
        np.testing.assert_allclose(other, one, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 4])
def test_any_function_over_seeds_is_that_function_seed_by_seed(n):
    def f(mine, key, shared):
        return {"drawn": mine + jax.random.normal(key, (2,)), "shared": 2 * shared}

    mine, keys, shared = jnp.arange(float(n)), engine.seeds(n), jnp.arange(3.0)
    found = engine.over_seeds(f)(mine, keys, shared)
    one_by_one = [f(mine[i], keys[i], shared) for i in range(n)]
    assert isinstance(found["drawn"], np.ndarray)
    np.testing.assert_allclose(found["drawn"], [one["drawn"] for one in one_by_one], rtol=1e-6)
    np.testing.assert_array_equal(found["shared"], [one["shared"] for one in one_by_one])
