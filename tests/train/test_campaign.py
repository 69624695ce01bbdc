"""Campaigns: the numbers of a sweep, whatever devices, cuts and accidents they come by; and nothing is lost."""

import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from fnn import models, optim, store, tasks, train
from fnn.base.errors import InputError
from fnn.train import engine
from fnn.train.campaign import Block, Campaign, Plan, Share

STEPS, SETTINGS, SEEDS = 12, 7, 3
DIMS = {"loss": ("step",), "last": ()}


def problem():
    """A trial that trains a small network, its settings, and its data."""
    rng = np.random.default_rng(0)
    data = {"train": tasks.Split(jnp.asarray(rng.integers(0, 256, (300, 16)), jnp.uint8), jnp.arange(300) % 10)}
    rule = optim.rule("adam")
    run = train.training(tasks.classification(lambda hp: models.multilayer((33, 33), 10), batch=16), rule, STEPS)

    def trial(hp, key, data):
        _, record = train.train(run, STEPS, hp, key, data)
        return {"loss": record["loss"], "last": record["loss"][-1]}

    return trial, train.Hyper(engine.grid(rule.hyper, lr=np.logspace(-4, -1, SETTINGS).tolist())), data


def started(folder, seeds=SEEDS, **options):
    trial, hps, data = problem()
    return Campaign(folder, trial, hps, engine.seeds(seeds), data, **options)


def written(one, path):
    """The file that a campaign ends with, as bytes."""
    lr = ("setting", np.asarray(one.hps.rule.lr))
    one.assemble(path, DIMS, xr.Dataset(coords={"lr": lr}, attrs={"about": "a test"}))
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted campaign in blocks of 4 settings, and its file."""
    folder = tmp_path_factory.mktemp("whole")
    one = started(folder / "blocks", block=Block(4, 1))
    reports = list(one.run())
    return reports, written(one, folder / "all.nc"), folder / "all.nc"


def test_every_trial_is_in_one_block():
    for settings, seeds, block in itertools.product((1, 5, 8), (1, 3), (Block(1, 1), Block(4, 1), Block(8, 2))):
        plan, found = Plan(settings, seeds, block), np.zeros((settings, seeds), int)
        for number in range(plan.blocks):
            found[plan.place(number)] += 1
        assert (found == 1).all()
        assert plan.trials == settings * seeds


def test_a_campaign_is_a_sweep_with_labels(whole):
    reports, _, path = whole
    trial, hps, data = problem()
    expected = jax.jit(lambda hps, keys, data: engine.sweep(trial, hps, keys, data))(hps, engine.seeds(SEEDS), data)
    with xr.open_dataset(path, engine="h5netcdf") as ds:
        assert ds.loss.dims == ("setting", "seed", "step")
        assert ds["last"].dims == ("setting", "seed")
        assert ds.attrs["about"] == "a test"
        np.testing.assert_array_equal(ds.lr, hps.rule.lr)
        np.testing.assert_allclose(ds.loss, expected["loss"], rtol=2e-4)
        np.testing.assert_array_equal(ds["last"], ds.loss[..., -1])
    assert sum(report.trials for report in reports) == SETTINGS * SEEDS
    assert all(report.seconds > 0 and report.writing_seconds > 0 for report in reports)


def test_closed_early_it_goes_on_where_it_was(whole, tmp_path, monkeypatch):
    one, write = started(tmp_path / "blocks", block=Block(4, 1)), store.Store.write

    def slow(kept, number, arrays):
        time.sleep(0.3)
        write(kept, number, arrays)

    monkeypatch.setattr(store.Store, "write", slow)
    reports = one.run()
    next(reports)
    reports.close()
    monkeypatch.undo()
    assert 0 < len(one.missing()) < one.plan.blocks
    with pytest.raises(InputError, match=f"lacks {len(one.missing())} of 6 blocks"):
        one.assemble(tmp_path / "all.nc", DIMS, xr.Dataset())
    again = started(tmp_path / "blocks")
    assert again.plan.block == Block(4, 1), "what the folder has"
    left = sum(map(again.trials_in, again.missing()))
    assert again.trials_done() == SETTINGS * SEEDS - left
    assert sum(report.trials for report in again.run()) == left
    assert written(again, tmp_path / "all.nc") == whole[1]


def test_shares_make_a_whole(whole, tmp_path):
    ones = [started(tmp_path / "blocks", block=Block(4, 1)) for _ in range(3)]
    for process, one in enumerate(ones):
        list(one.run(Share(process, len(ones))))
        assert len(one.missing()) == one.plan.blocks - 2 * (process + 1)
    assert written(ones[0], tmp_path / "all.nc") == whole[1]


def test_seeds_are_stepped_together_where_a_block_has_several(whole, tmp_path):
    one = started(tmp_path / "blocks", block=Block(8, 2))
    assert (one.plan.block, one.plan.blocks) == (Block(7, 2), 2)
    list(one.run())
    written(one, tmp_path / "all.nc")
    with (
        xr.open_dataset(tmp_path / "all.nc", engine="h5netcdf") as ours,
        xr.open_dataset(whole[2], engine="h5netcdf") as ds,
    ):
        np.testing.assert_allclose(ours.loss, ds.loss, rtol=2e-4)


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("seeds", "data", "block")]


@pytest.mark.parametrize("changed", ["settings", "program", *LONG])
def test_another_campaign_is_refused(tmp_path, changed):
    trial, hps, data = problem()
    options = {"block": Block(4, 1)}
    ours = Campaign(tmp_path, trial, hps, engine.seeds(2), data, **options)
    reports = ours.run()
    next(reports)
    reports.close()
    keys = engine.seeds(2)
    if changed == "settings":
        hps = hps._replace(rule=hps.rule._replace(b1=hps.rule.b1 * 0.5))
    elif changed == "seeds":
        keys = engine.seeds(2, first=1)
    elif changed == "data":
        data = {"train": data["train"]._replace(y=data["train"].y[::-1])}
    elif changed == "program":
        inner = trial
        trial = lambda hp, key, data: jax.tree.map(lambda a: 2 * a, inner(hp, key, data))
    else:
        options = {"block": Block(3, 1)}
    with pytest.raises(InputError, match=f"part of another run, whose (program, )?{changed} differ"):
        next(Campaign(tmp_path, trial, hps, keys, data, **options).run())
    assert store.manifest(tmp_path) == ours.store.manifest


@pytest.mark.slow
def test_blocks_shrink_to_the_memory(tmp_path):
    usual = started(tmp_path / "a", block=Block(6, 2))
    assert usual.plan.block == Block(6, 2)
    less = started(tmp_path / "a", block=Block(6, 2), memory=0.8 * usual.bytes_needed)
    assert less.plan.block in (Block(6, 1), Block(3, 1))
    assert less.bytes_needed <= 0.8 * usual.bytes_needed
    with pytest.raises(InputError, match=r"A trial on every device takes [\d,]+ MB, and 0 MB are all it may take"):
        started(tmp_path / "a", memory=1000.0)
    list(less.run())
    assert started(tmp_path / "a", memory=1e12).plan.block == less.plan.block, "what the folder has"


def test_an_error_on_a_device_ends_it_and_keeps_the_rest(tmp_path, monkeypatch):
    one, write = started(tmp_path, block=Block(2, 1)), store.Store.write

    def full(kept, number, arrays):
        if number == 3:
            raise InputError("Cannot write: No space left on device.")
        write(kept, number, arrays)

    monkeypatch.setattr(store.Store, "write", full)
    with pytest.raises(InputError, match="No space left"):
        list(one.run())
    assert {0, 1, 2} <= {*store.numbers(tmp_path)}
    assert 3 in one.missing()
    monkeypatch.undo()
    list(one.run())
    assert not one.missing()


@pytest.mark.parametrize("hps", [{}, {"lr": 0.1}, {"lr": jnp.ones(2), "mu": jnp.ones(3)}])
def test_settings_have_one_axis_in_common(tmp_path, hps):
    with pytest.raises(InputError, match="one leading axis in common"):
        Campaign(tmp_path, lambda hp, key, data: {}, hps, engine.seeds(1), ())


PROGRAM = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))
sys.path.insert(0, sys.argv[3])
import test_campaign as t
folder = Path(sys.argv[1])
one = t.started(folder / "blocks", block=t.Block(4, 1))
for report in one.run():
    print(report.trials, flush=True)
t.written(one, folder / "all.nc")
"""


def process(folder, devices=2, **options):
    command = [sys.executable, "-c", PROGRAM, str(folder), str(devices), str(Path(__file__).parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


@pytest.mark.parametrize("devices", [4, pytest.param(2, marks=pytest.mark.slow)])
def test_the_number_of_devices_does_not_show(whole, tmp_path, devices):
    with process(tmp_path, devices) as one:
        said, _ = one.communicate(timeout=300)
    assert one.returncode == 0, said
    assert (tmp_path / "all.nc").read_bytes() == whole[1]


def test_two_at_once_are_refused(tmp_path):
    with store.locked(tmp_path / "blocks", "-0"), process(tmp_path) as one:
        said, _ = one.communicate(timeout=300)
    assert one.returncode == 1
    assert "Another process is at work in" in said
    assert not store.numbers(tmp_path / "blocks")


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(whole, tmp_path, kills):
    rng, cut = random.Random(kills), 0
    for _ in range(kills):
        with process(tmp_path) as one:
            time.sleep(rng.uniform(0.5, 4))
            one.send_signal(signal.SIGKILL)
        cut += one.returncode == -signal.SIGKILL
    with process(tmp_path) as one:
        said, _ = one.communicate(timeout=300)
    assert one.returncode == 0, said
    assert cut > 0
    assert (tmp_path / "all.nc").read_bytes() == whole[1]
