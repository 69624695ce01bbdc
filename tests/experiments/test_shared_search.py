"""A search as in practice: resumed, extended, shared by processes, tested once; its claims on made-up trials."""

import dataclasses
import importlib.util
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from experiments.hyperparameters import shared_search as experiment
from experiments.hyperparameters.shared_search import EXPERIMENT
from fnn import data, store, tasks
from fnn.base.errors import InputError
from fnn.search import study

OPTUNA = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs optuna (extra `search`)")
TINY = experiment.Config(seeds=2, trials=6, epochs=2, startup=3, proposals=2, sampler="random", dataset="mnist_5k")


def made_up(values, test=None, **attrs):
    values = np.asarray(values, float)
    n, seeds = values.shape
    attrs = {"dataset": "made up", "sampler": "random", "by": "mean", "epochs": 1, **attrs}
    return xr.Dataset(
        {
            "lr": ("trial", 10.0 ** -np.arange(1, n + 1)),
            "l2": ("trial", np.full(n, 1e-5)),
            "validation_accuracy": (("trial", "seed"), values),
            **dict.fromkeys(
                ("fresh_accuracy", "test_accuracy"), ("seed", np.full(seeds, np.nan) if test is None else test)
            ),
        },
        {"trial": np.arange(n), "seed": np.arange(seeds)},
        attrs,
    )


def kept(folder, **changed):
    return dataclasses.replace(TINY, out=folder, work=folder / "shared_search" / "blocks", **changed)


def studies(folder):
    return list((folder / "shared_search").glob("study-*"))


def looks(folder):
    return store.read_sealed(folder / study.TEST, study.Evaluations)["evaluations"]


def test_a_study_is_resumed_extended_and_tested_once(tmp_path, capsys):
    cfg = kept(tmp_path)
    few = experiment.run(cfg)
    assert few.validation_accuracy.dims == ("trial", "seed")
    assert few.sizes == {"trial": 6, "seed": 2}
    assert ((few.test_accuracy > 0) & (few.test_accuracy < 1)).all()
    again = experiment.run(cfg)
    assert "that result is kept" in capsys.readouterr().out
    xr.testing.assert_identical(again, few)
    [folder] = studies(tmp_path)
    assert len(store.numbers(folder)) == 3
    assert len(looks(folder)) == 1
    grown = dataclasses.replace(cfg, trials=24, by="low")
    many = experiment.run(grown)
    np.testing.assert_array_equal(many.validation_accuracy[:6], few.validation_accuracy)
    best = [int(experiment.ranked(ds)[0]) for ds in (few, many)]
    assert best[0] != best[1], "another is chosen"
    assert "a second evaluation would choose by it. --retest evaluates it all the same." in capsys.readouterr().out
    assert many.test_accuracy.isnull().all()
    retested = experiment.run(dataclasses.replace(grown, retest=True))
    assert retested.test_accuracy.notnull().all()
    assert [look["of"] for look in looks(folder)] == [f"trial {trial}" for trial in best]


def test_the_setting_that_is_tested_is_the_one_that_was_chosen(tmp_path):
    """Trained by itself it does in validation what it did among the others."""
    ds = experiment.run(kept(tmp_path))
    best = experiment.ranked(ds)[0]
    train = experiment._search.trainer(tasks.splits(data.load("mnist_5k")), TINY.epochs)
    alone = {axis: ds[axis].values[[best]] for axis in experiment.AXES}
    keys = experiment.engine.seeds(2)
    found = experiment.trained(train, alone, keys, 1)["validation_accuracy"]
    np.testing.assert_allclose(found[0, :, 0], ds.validation_accuracy[best], atol=0.011)  # rounding may turn one image


@pytest.mark.parametrize("sampler", ["auto", "cmaes"])
def test_other_searches_and_callers_without_a_folder(sampler, tmp_path):
    cfg = dataclasses.replace(TINY, out=tmp_path, sampler=sampler)
    try:
        cfg.check()
    except InputError as error:
        pytest.skip(str(error))
    ds = experiment.run(cfg)
    assert ds.sizes["trial"] == 6
    assert len(np.unique(ds.lr)) == 6
    assert not studies(tmp_path)


def command(folder, *more):
    numbers = [f"--{name}={number}" for name, number in {"trials": 40, "epochs": 1, "seeds": 2, "proposals": 1}.items()]
    options = [*numbers, "--sampler", "random", "--dataset", "mnist_5k", "--out", str(folder), *more]
    command = [sys.executable, "-m", "experiments", "shared_search", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_after_a_kill_no_trial_is_lost_or_run_twice(tmp_path):
    with command(tmp_path) as one:
        while one.poll() is None and not (studies(tmp_path) and len(store.numbers(studies(tmp_path)[0])) > 3):
            time.sleep(0.02)
        one.send_signal(signal.SIGKILL)
    assert one.returncode == -signal.SIGKILL, one.communicate()
    [folder] = studies(tmp_path)
    before = {path: path.read_bytes() for path in folder.glob("0*.npz")}
    with command(tmp_path) as one:
        said, _ = one.communicate(timeout=240)
    assert one.returncode == 0, said
    with command(tmp_path / "whole") as one:
        said, _ = one.communicate(timeout=240)
    killed, whole = (
        xr.load_dataset(f / "shared_search" / "metrics.nc", engine="h5netcdf") for f in (tmp_path, tmp_path / "whole")
    )
    xr.testing.assert_identical(killed, whole)
    for path, content in before.items():
        assert path.read_bytes() == content


@OPTUNA
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "database"])
def test_many_processes_share_a_study_by_its_command_line(tmp_path, kind):
    """Three start the same command; one is killed. All that end agree, and the test set was evaluated once."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    file = tmp_path / "study"
    storage = str(file) if kind == "journal" else f"sqlite:///{file}"
    several = [command(tmp_path / "out", "--storage", storage) for _ in range(3)]
    while not file.exists():
        time.sleep(0.1)
    time.sleep(1)  # the database's tables
    there = optuna.storages.JournalStorage(JournalFileBackend(str(file))) if kind == "journal" else storage
    while sum(study.n_trials for study in optuna.get_all_study_summaries(there)) < 6:
        time.sleep(0.1)
    several[0].kill()
    said = [one.communicate(timeout=240)[0] for one in several]
    assert [one.returncode for one in several[1:]] == [0, 0], said
    printed = [line for words in said for line in words.splitlines() if "of the chosen setting on the test set" in line]
    assert several[0].returncode == -signal.SIGKILL
    assert len(printed) == 2
    assert len(set(printed)) == 1, printed
    with xr.open_dataset(tmp_path / "out" / "shared_search" / "metrics.nc", engine="h5netcdf") as ds:
        assert 40 <= ds.sizes["trial"] <= 42
        assert len(np.unique(ds.lr)) == ds.sizes["trial"], "nothing is run twice"
        assert ds.test_accuracy.notnull().all()


def test_which_settings_are_distinguished():
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.1, 12)  # of the splits: the same for all settings
    noise = lambda: rng.normal(0, 0.005, 12)
    values = np.stack([0.7 + luck, 0.7 + luck + noise() - 0.001, 0.6 + luck + noise()])
    ds = made_up(values, test=values[0] - 0.05 + noise())
    [answer] = experiment.answers(ds)
    assert answer.answer.startswith("Of 3 settings 2 cannot be distinguished from the chosen one by 12 seeds, paired.")
    assert "between 0.01 and 0.1," in answer.answer
    [verdict] = EXPERIMENT.judge(ds)
    assert verdict.outcome == "holds"
    assert abs(verdict.effect - 5) < 0.5
    [verdict] = EXPERIMENT.judge(made_up(values, test=values[0] + 0.05 + noise()))
    assert verdict.outcome == "does not hold"
    rows = experiment.rows(ds)
    assert [row["worse"] for row in rows] == [False, False, True]
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()


def test_what_is_sure_chooses_otherwise():
    values = [[0.9, 0.1, 0.95, 0.95], [0.6, 0.61, 0.6, 0.6]]
    assert experiment.ranked(made_up(values)).tolist() == [0, 1]
    assert experiment.ranked(made_up(values, by="low")).tolist() == [1, 0]


def test_one_seed_and_no_test_give_no_intervals_and_no_verdicts():
    ds = made_up([[0.5], [0.6]])
    assert experiment.answers(ds) == []
    assert EXPERIMENT.judge(ds) == []
    assert "evaluated once" not in experiment.summary(ds)
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()


BAD = {
    "--sampler is auto, random, tpe, gp, cmaes, not 'magic'": {"sampler": "magic"},
    "--by low takes at least 2 --seeds": {"by": "low", "seeds": 1},
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_options_get_one_sentence(sentence):
    with pytest.raises(InputError, match=sentence):
        experiment.Config(**BAD[sentence]).check()


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs optuna and torch: pip install optuna torch"):
        experiment.Config(sampler="gp").check()
    with pytest.raises(InputError, match="needs optuna: pip"):
        experiment.Config(storage="study.log").check()
    assert experiment.Config().searched_by() == "random"
    experiment.Config().check()


@OPTUNA
@pytest.mark.parametrize("storage", ["nosuch://host/study", "sqlite:////no/such/folder/study.db", "/proc/study.log"])
def test_a_storage_that_cannot_be_used_is_a_sentence(storage, tmp_path):
    with pytest.raises(InputError, match="cannot be used"):
        experiment.run(dataclasses.replace(TINY, out=tmp_path, storage=storage))
