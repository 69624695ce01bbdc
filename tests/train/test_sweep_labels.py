"""Sweeps are labeled and paired: a data set names what was varied, and each of its networks is that of a single run."""

import itertools
import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from small import DATA, LRS, RULES, SCALES, SEEDS, STEPS, Hyper, alone, identical, swept, task

from fnn import models, optim, schedules, stream, sweep, train
from fnn.rule.hyper import names
from fnn.tasks.contract import Label, Trial
from fnn.train.settings import axes, stacked

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def seen(moment):
    """One of its arrays is part of a tree."""
    first, _, last = moment.after
    updates = {"first": moment.updates[0].w, "last": moment.updates[2].w}
    return {
        "mean": jnp.stack([first.w.mean(), last.w.mean()]),
        "norms": jax.tree.map(jnp.linalg.norm, updates),
        "bias": first.b,
    }


SEEN = train.Observation(
    seen,
    {"mean": Label("mean weight", "1", ("layer",)), "norms": Label("norm of the update", "1")},
    {"layer": ["first", "last"]},
)


@pytest.fixture(scope="module")
def both():
    return swept(evaluate=(STEPS, 2, 2), observe=SEEN, observe_at=(1, 4), networks=True)


def test_dimensions_coordinates_and_units(both):
    ds, _ = both
    assert ds.loss.dims == ("rule", "lr", "weights", "seed", "step")
    assert ds.test_accuracy.dims == ("rule", "lr", "weights", "seed", "update")
    assert ds["mean"].dims == ("rule", "lr", "weights", "seed", "observed", "layer")
    assert ds.bias.dims == ("rule", "lr", "weights", "seed", "observed", "bias_0")
    assert ds["norms.last"].dims == ("rule", "lr", "weights", "seed", "observed")
    assert ds.diverged_at.dims == ("rule", "lr", "weights", "seed")
    assert set(ds.data_vars) == {"loss", *METRICS, "mean", "bias", "norms.first", "norms.last", "diverged_at"}
    expected = {"rule": list(RULES), "lr": list(LRS), "weights": list(SCALES), "seed": [0, 1], "update": [2, 6]}
    expected |= {"step": list(range(STEPS)), "observed": [1, 4], "layer": ["first", "last"], "bias_0": [0, 1, 2, 3]}
    assert {name: coord.values.tolist() for name, coord in ds.coords.items()} == expected
    assert ds.loss.attrs == {"long_name": "loss on the minibatch", "units": "nats"}
    assert ds.test_accuracy.attrs == {"long_name": "accuracy on the test set", "units": "1"}
    assert ds["norms.first"].attrs == {"long_name": "norm of the update", "units": "1"}
    assert all("long_name" in ds[name].attrs for name in ("lr", "weights", "step", "update", "observed", "diverged_at"))
    assert ds.attrs["batch"] == 4
    assert ds.attrs["steps"] == STEPS
    assert ds.attrs["compile_seconds"] > 0
    assert "jax" in json.dumps(json.loads(ds.attrs["provenance"]))


def test_every_network_is_that_of_a_single_run(both):
    ds, networks = both
    assert set(networks) == set(RULES)
    for name, rule in RULES.items():
        for lr, (scale, weights) in itertools.product(LRS, SCALES.items()):
            for seed in range(SEEDS):
                hyper = (optim.rule(rule) if isinstance(rule, str) else rule).hyper._replace(lr=lr)
                options = {"rule_hyper": hyper, "hyper": Hyper(weights), "evaluate_at": (2, STEPS), "observe": SEEN}
                state, record = alone(task(), rule, seed, **options)
                one = ds.sel(rule=name, lr=lr, weights=scale, seed=seed)
                close(one.loss, record["loss"])
                for metric in METRICS:
                    close(one[metric], record[metric][[1, STEPS - 1]])
                close(one["mean"], record["mean"][[0, 3]])
                close(one.bias, record["bias"][[0, 3]])
                close(one["norms.last"], record["norms"]["last"][[0, 3]])
                place = (LRS.index(lr), list(SCALES).index(scale), seed)
                jax.tree.map(lambda a, b, place=place: close(a[place], b), networks[name], state.params)


def test_it_is_paired(both):
    ds, _ = both
    first = ds.loss.isel(step=0)
    assert (first == first.isel(rule=0, lr=0)).all(), "same weights and minibatch, whatever the rule and its settings"
    assert not np.array_equal(first.isel(seed=0), first.isel(seed=1))
    no_steps = swept(over={"lr": [0.0, 0.0]}, seeds=3)
    at = no_steps.loss.isel(lr=0)
    assert (no_steps.loss == at.isel(rule=0)).all(), "same minibatches at every step"
    assert len(np.unique(at.isel(rule=0, seed=0))) > 2


def test_a_data_set_can_be_written(both, tmp_path):
    both[0].to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as ds:
        xr.testing.assert_allclose(ds, both[0])


def test_of_one_rule_no_dimension_is_made_and_seeds_may_be_any_range(both):
    ds = sweep(task(), "sgd", seeds=range(1, 2), steps=STEPS)
    assert ds.loss.dims == ("seed", "step")
    assert ds.seed.values.tolist() == [1]
    assert ds["update"].values.tolist() == [STEPS], "by default metrics are taken at the end"
    _, record = alone(task(), "sgd", 1)
    close(ds.loss[0], record["loss"])
    _, networks = sweep(task(), "sgd", seeds=range(1, 2), steps=STEPS, networks=True)
    assert set(networks) == {""}
    assert networks[""][0].w.shape == (1, 4, 5)


def test_rules_by_name_alone(both):
    ds = swept(task(), ("adam", "sgd"), evaluate=())
    assert ds.rule.values.tolist() == ["adam", "sgd"]
    assert set(ds.data_vars) == {"loss", "diverged_at"}
    assert ds.loss.identical(both[0].loss)


def test_values_by_rule_are_a_coordinate_of_rule_and_setting(both):
    ds = swept(over={"lr": {"sgd": [0.3, 0.1], "adam": [0.01, 0.2]}, "weights": SCALES})
    assert ds.loss.dims == ("rule", "setting", "weights", "seed", "step")
    assert ds.lr.dims == ("rule", "setting")
    assert ds.lr.sel(rule="sgd").values.tolist() == [0.3, 0.1]
    for rule, at, lr in (("sgd", 0, 0.3), ("adam", 0, 0.01)):
        close(ds.loss.sel(rule=rule).isel(setting=at), both[0].loss.sel(rule=rule, lr=lr))


def test_several_vary_together(both):
    pairs = [(0.3, SCALES["large"]), (0.01, SCALES["small"]), (0.3, SCALES["small"])]
    over = {("lr", "decay"): [(0.3, 0.0), (0.01, 0), (0.3, 0.5)]}
    ds = swept(over=over)
    assert ds.loss.dims == ("rule", "setting", "seed", "step")
    assert ds.lr.values.tolist() == [0.3, 0.01, 0.3]
    assert ds.decay.values.tolist() == [0.0, 0, 0.5]
    assert (ds.loss.isel(setting=2, step=0) > ds.loss.isel(setting=0, step=0)).all(), "decay adds to the loss"
    axis = axes({("lr", "weights"): pairs}, ())
    hps = stacked(axis, both_hypers(), "")
    assert hps.rule.lr.tolist() == [0.3, 0.01, 0.3]
    assert hps.task.weights.std.tolist() == [2.0, 0.1, 0.1]


def both_hypers():
    return train.Hyper(optim.rule("sgd").hyper, Hyper())


def test_settings_are_the_product_with_the_last_fastest():
    along = axes({"lr": [0.1, 0.2], "decay": (0, 1, 2)}, ())
    hps = stacked(along, both_hypers(), "")
    assert hps.rule.lr.tolist() == [0.1, 0.1, 0.1, 0.2, 0.2, 0.2]
    assert hps.task.decay.tolist() == [0, 1, 2, 0, 1, 2]
    assert hps.task.decay.dtype == float, "whole numbers among the values of a real number"
    assert hps.task.weights.std.tolist() == [1.0] * 6
    assert stacked((), both_hypers(), "") == both_hypers()


def test_a_name_means_the_shortest_path_and_a_star_all():
    hyper = {"rule": {"lr": 0.1, "inner": {"lr": 0.2, "b1": 0.9}}, "task": {"x": {"b1": 0.5, "s": 1.0}}}
    of = lambda over: stacked(axes(over, ()), hyper, "")
    assert of({"lr": [1.0, 2.0]})["rule"]["lr"].tolist() == [1.0, 2.0]
    assert of({"lr": [1.0, 2.0]})["rule"]["inner"]["lr"].tolist() == [0.2, 0.2]
    assert of({"*.lr": [1.0, 2.0]})["rule"]["inner"]["lr"].tolist() == [1.0, 2.0]
    assert [axis.dim for axis in axes({"*.lr": [1], "inner.b1": [1], "x.b1": [1]}, ())] == ["lr", "inner.b1", "x.b1"]
    assert of({"inner.b1": [1.0], "x.b1": [3.0]})["task"]["x"]["b1"].tolist() == [3.0]
    assert len(names(hyper)) == 5


def test_a_schedule_multiplies_what_it_names(both):
    cosine = schedules.cosine()
    ds = swept(over=None, schedule={"lr": cosine})
    for name, rule in RULES.items():
        _, record = alone(task(), rule, 0, schedule=schedules.on("rule.lr", cosine))
        close(ds.loss.sel(rule=name, seed=0), record["loss"])
    assert not np.allclose(ds.loss[..., 1:], swept(over=None).loss[..., 1:])
    falling = sweep(
        task(), "sgd", seeds=1, steps=STEPS, schedule={"decay": lambda now: 1 - now.share}, over={"decay": [1]}
    )
    scheduled = schedules.on("task.decay", lambda now: 1 - now.share)
    _, record = alone(task(), "sgd", 0, hyper=Hyper(decay=1.0), schedule=scheduled)
    close(falling.loss[0, 0], record["loss"])


def test_the_loss_may_be_that_after_the_update():
    ds = sweep(task(), "sgd", seeds=1, steps=STEPS, loss_after=True, over={"lr": [0.3]})
    _, record = alone(task(), "sgd", 0, rule_hyper=optim.rule("sgd").hyper._replace(lr=0.3), loss_after=True)
    close(ds.loss[0, 0], record["loss"])
    assert ds.loss.attrs == {"long_name": "loss on the minibatch after the update", "units": "nats"}


def test_several_tasks_by_name(both):
    ds, networks = sweep(
        {"narrow": task(), "wide": task(network=models.multilayer((7,), 2), batch=8)},
        RULES,
        over={"lr": LRS},
        seeds=SEEDS,
        steps=STEPS,
        networks=True,
    )
    assert ds.loss.dims == ("task", "rule", "lr", "seed", "step")
    assert ds.test_loss.dims == ("task", "rule", "lr", "seed", "update")
    assert ds.task.values.tolist() == ["narrow", "wide"]
    assert set(networks) == {"narrow/adam", "narrow/sgd", "wide/adam", "wide/sgd"}
    assert networks["wide/sgd"][0].w.shape == (2, SEEDS, 7, 5)
    wide = task(network=models.multilayer((7,), 2), batch=8)
    state, record = alone(wide, "sgd", 1, rule_hyper=optim.rule("sgd").hyper._replace(lr=0.3), evaluate_at=(STEPS,))
    one = ds.sel(task="wide", rule="sgd", lr=0.3, seed=1)
    close(one.loss, record["loss"])
    close(one.test_loss[0], record["test_loss"][-1])
    close(networks["wide/sgd"][2].w[1, 1], state.params[2].w)
    assert "batch" not in ds.attrs, "the tasks differ in it"


def test_what_one_task_lacks_is_not_a_number():
    more = task()
    counted = lambda *arguments: {**more.metrics(*arguments), "seven": jnp.float32(7)}
    ds = sweep({"a": task(), "b": more._replace(metrics=counted)}, "sgd", seeds=1, steps=2)
    assert np.isnan(ds.seven.sel(task="a")).all()
    assert (ds.seven.sel(task="b") == 7).all()
    assert ds.loss.dtype == np.float32


def measure(hp, key, data):
    x = hp["a"] * jax.random.normal(key, (3,)) + data.sum()
    return {"x": x, "largest": x.max(), "parts": {"first": x[0]}}


@pytest.fixture
def trial():
    return Trial(
        *(measure, np.ones(4, np.float32), {"a": 1.0}),
        labels={"x": Label("a place", "m", ("place",)), "parts": Label("a part", "m")},
        coords={"place": ["p", "q", "r"]},
        about={"dataset": "ones"},
    )


def test_a_trial_is_measured(trial):
    ds = sweep(trial, over={"a": [0.0, 2.0]}, seeds=3)
    assert ds.x.dims == ("a", "seed", "place")
    assert ds.largest.dims == ("a", "seed")
    assert "step" not in ds.dims
    assert ds.x.attrs == {"long_name": "a place", "units": "m"}
    assert ds["parts.first"].attrs == {"long_name": "a part", "units": "m"}
    assert ds.place.values.tolist() == ["p", "q", "r"]
    assert ds.attrs["dataset"] == "ones"
    assert set(ds.data_vars) == {"x", "largest", "parts.first"}
    expected = 4 + 2.0 * jax.random.normal(jax.random.key(1), (3,))
    close(ds.x.sel(a=2.0, seed=1), expected)
    assert sweep(trial, seeds=2).x.dims == ("seed", "place")


def test_on_cpu_a_trial_is_kept_after_every_seed_that_a_device_does(trial, tmp_path):
    n = 2 * len(jax.local_devices())
    kept = sweep(trial, seeds=n, keep=tmp_path)
    assert len(list(tmp_path.glob("0*.npz"))) == (2 if jax.default_backend() == "cpu" else 1)
    xr.testing.assert_equal(kept.x, sweep(trial, seeds=n).x)


def test_divergence_is_recorded_with_its_step():
    ds = swept(over={"lr": [0.01, 1e20]})
    assert (ds.diverged_at.sel(lr=0.01) == -1).all()
    late = ds.sel(lr=1e20)
    at = late.diverged_at
    assert (at > 0).any()
    for rule in RULES:
        for seed in range(SEEDS):
            loss, first = late.loss.sel(rule=rule, seed=seed).values, int(at.sel(rule=rule, seed=seed))
            bad = ~np.isfinite(loss)
            assert first == (bad.argmax() if bad.any() else -1)


def test_each_seed_has_examples_of_its_own_the_same_for_all_rules():
    examples = lambda moment: {"seen": jnp.sort(moment.data["train"].x[:, 0])}
    ds = swept(task(sample=3), RULES, over={"lr": LRS}, observe=examples, observe_at=(1, STEPS))
    seen = ds.seen
    assert (seen == seen.isel(rule=0, lr=0, observed=0)).all()
    assert not np.array_equal(seen.isel(seed=0), seen.isel(seed=1))
    assert np.isin(seen, DATA["train"].x[:, 0]).all()
    assert len(np.unique(seen.isel(rule=0, lr=0, observed=0, seed=0))) == 3
    sampled = task(sample=3)
    _, record = alone(sampled, "sgd", 1, rule_hyper=optim.rule("sgd").hyper._replace(lr=0.3), evaluate_at=(STEPS,))
    one = ds.sel(rule="sgd", lr=0.3, seed=1)
    close(one.loss, record["loss"])
    close(one.train_loss[0], record["train_loss"][-1])


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("fnn.train.sweep.CHUNK", 2)


def test_parts_of_a_stream_make_the_sweep(both, small_chunks, tmp_path):
    options = {"over": {"lr": [0.01, 1e20]}, "seeds": SEEDS, "steps": STEPS, "evaluate": (STEPS, 2)}
    expected = sweep(task(), RULES, observe=SEEN, observe_at=(1, 4), **options)
    for keep in (None, tmp_path, tmp_path):
        parts = list(stream(task(), RULES, observe=SEEN, observe_at=(1, 4), keep=keep, **options))
        assert [part.sizes["step"] for part in parts] == [2, 2, 2]
        assert [part["update"].values.tolist() for part in parts] == [[2], [], [6]]
        along = {dim: [n for n, v in expected.items() if dim in v.dims] for dim in ("step", "update", "observed")}
        joined = xr.merge(xr.concat([part[names] for part in parts], dim) for dim, names in along.items())
        identical(joined.assign(diverged_at=parts[-1].diverged_at), expected)
    assert (parts[0].diverged_at == -1).any()


def test_a_program_is_traced_once_and_a_task_once_more_for_the_size_of_its_blocks():
    one, traced = task(), []

    def counted(hp, params, stats, batch, key, train):
        traced.append(train)
        return one.loss(hp, params, stats, batch, key, train)

    swept(one._replace(loss=counted), RULES, seeds=3, memory=1e6)
    assert traced == [True] * (1 + len(RULES))


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swept(over=None, seeds=1)
