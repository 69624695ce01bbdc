"""Early abandonment: replays by hand, the compiled program against its replay, claims both ways, and the whole."""

import numpy as np
import pytest
import xarray as xr

from experiments.hyperparameters import _search
from experiments.hyperparameters import early_abandonment as experiment
from experiments.hyperparameters._search import Schedule
from experiments.hyperparameters.early_abandonment import EXPERIMENT
from fnn import data, tasks
from fnn.base.errors import InputError
from fnn.train import engine

TINY = experiment.Config(seeds=2, trials=9, epochs=9, first=1, dataset="mnist_5k")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    TINY.check()
    return EXPERIMENT.run(TINY)


def made_up(accuracy, rungs=None, loss=None, keep=1 / 3):
    """Results with these complete curves `[S, trials, epochs]`, and what a program with these rungs would have kept;
    without rungs the program was not reached."""
    seeds, trials, epochs = accuracy.shape
    dims = ("seed", "trial")
    ds = xr.Dataset(
        {
            "lr": (dims, np.ones((seeds, trials))),
            "l2": (dims, np.ones((seeds, trials))),
            "validation_accuracy": ((*dims, "epoch"), accuracy),
            "validation_loss": ((*dims, "epoch"), -accuracy if loss is None else loss),
            "test_accuracy": (dims, accuracy[..., -1].copy()),
            "diverged_at": (dims, np.full((seeds, trials), -1)),
        },
        {
            "seed": np.arange(seeds),
            "trial": np.arange(trials),
            "epoch": np.arange(1, epochs + 1),
            "rung": [*(rungs or (epochs,))],
        },
        {"dataset": "made up", "keep": keep, "share": 0.2},
    )
    if rungs is None:
        return ds
    reached = experiment.replayed(ds, Schedule(rungs, keep), "loss").reached
    looks = ds.validation_loss.values[..., np.array(rungs) - 1]
    halved = np.where(np.arange(len(rungs)) < reached[..., None], looks, np.nan)
    return ds.assign(halved_loss=((*dims, "rung"), halved))


def climbing(seeds=10, trials=12, epochs=10, fair=True):
    """Curves that rise linearly; or, `unfair`, those with the highest ends start lowest."""
    final = 0.1 + 0.8 * np.random.default_rng(0).uniform(size=(seeds, trials, 1))
    progress = np.linspace(0.1, 1, epochs)
    return final * progress if fair else np.where(progress < 0.8, 0.9 - final, final)


def test_the_experiment_whole(measured):
    assert dict(measured.validation_accuracy.sizes) == {"seed": 2, "trial": 9, "epoch": 9}
    assert measured.rung.values.tolist() == [1, 3, 9]
    assert np.isfinite(measured.halved_loss).sum("trial").values.tolist() == [[9, 3, 1]] * 2
    assert np.isfinite(measured.test_accuracy).all()


def test_every_seed_draws_its_own_images():
    images = tasks.splits(data.load("mnist_5k"))["train"]
    numbered = images._replace(y=np.arange(len(images.y)))
    one, other = (_search.own(key, numbered).y for key in engine.seeds(2))
    assert len(set(np.asarray(one).tolist())) == _search.IMAGES
    assert set(np.asarray(one).tolist()) != set(np.asarray(other).tolist())


def test_the_program_does_what_a_replay_would(measured):
    whole, halved = measured.validation_loss.values, measured.halved_loss.values
    there = np.isfinite(halved)
    np.testing.assert_allclose(halved[there], whole[..., [0, 2, 8]][there], rtol=1e-4)
    replay = experiment.replayed(measured, experiment.shown(measured), "loss")
    np.testing.assert_array_equal(there.sum(-1), replay.reached)
    best, kept = experiment.bests(measured)
    np.testing.assert_allclose(best - kept, replay.lost)


def test_what_validation_chooses_is_judged_on_the_test_set():
    """Of two equals each is as likely; a survivor that validates worse may test better."""
    ds = made_up(np.array([[[0.9], [0.9], [0.5]]]))
    ds["test_accuracy"][:] = [[0.6, 0.8, 0.75]]
    np.testing.assert_allclose(experiment.chosen(ds, np.array([[True, True, True]])), [70])
    np.testing.assert_allclose(experiment.lost(ds, np.array([[False, False, True]])), [-5])


def test_schedules():
    assert _search.schedule(2, 3, 50) == Schedule((2, 6, 18, 50), 1 / 3)
    assert _search.schedule(5, 3, 10) == Schedule((5, 10), 1 / 3)
    assert _search.cost(Schedule((2, 6, 10), 1 / 3), 12) == pytest.approx((12 * 2 + 4 * 4 + 2 * 4) / 120)


def test_a_replay_by_hand():
    """6 trials, half continue after 1 and 2 of 3 epochs: the best at the end starts badly, and is abandoned."""
    accuracy = np.array(
        [[[0.1, 0.2, 0.9], [0.2, 0.3, 0.3], [0.3, 0.5, 0.4], [0.4, 0.4, 0.8], [0.5, 0.2, 0.2], [0, 0, 0]]]
    )
    ds = made_up(accuracy, loss=np.where(accuracy == 0.1, 0, 1 - accuracy))
    found = experiment.replayed(ds, Schedule((1, 2, 3), 0.5), "accuracy")
    np.testing.assert_array_equal(found.reached, [[1, 1, 3, 3, 2, 1]])
    np.testing.assert_allclose(found.lost, [10])
    by_loss = experiment.replayed(ds, Schedule((1, 3), 0.5), "loss")
    np.testing.assert_array_equal(by_loss.reached, [[2, 1, 1, 2, 2, 1]])
    np.testing.assert_allclose(by_loss.lost, [0], atol=1e-12)
    np.testing.assert_allclose(experiment.replayed(ds, Schedule((3,), 0.5), "loss").lost, [0])


def test_trials_that_diverge_are_given_up():
    accuracy = climbing()
    accuracy[:, 3, 2:] = np.nan
    for by in experiment.BY:
        found = experiment.replayed(made_up(accuracy), Schedule((4, 10), 0.5), by)
        assert (found.reached[:, 3] == 1).all()
        assert (found.lost >= 0).all()


def outcomes(ds):
    return [verdict.outcome for verdict in EXPERIMENT.judge(ds)]


def test_fair_curves_cost_nothing_and_unfair_ones_everything():
    fair, unfair = climbing(trials=30), climbing(trials=30, fair=False)
    for curves, expected in ((fair, "holds"), (unfair, "does not hold")):
        ds = made_up(curves, (2, 6, 10))
        assert outcomes(ds)[0] == expected
        for figure in EXPERIMENT.draw(ds).values():
            figure.canvas.draw()


def test_the_better_judge_is_found():
    fair, unfair = climbing(trials=30), climbing(trials=30, fair=False)
    assert outcomes(made_up(unfair, (2, 6, 10), loss=-unfair[..., -1:] + 0 * unfair))[1] == "holds"
    assert outcomes(made_up(fair, (2, 6, 10), loss=fair))[1] == "does not hold"


def test_the_table_has_every_schedule():
    rows = experiment.tables(made_up(climbing(), (2, 6, 10)))["schedules"]
    assert {row["eta"] for row in rows} == set(experiment.ETAS)
    assert all(0 < row["cost"] <= 1 and 0 <= row["gone"] <= 1 for row in rows)


def test_abandoning_keeps_the_pairing():
    """The first comparison of halving is that of whole trials, whichever continue."""
    import types

    splits, keys = tasks.splits(data.load("mnist_5k")), engine.seeds(2)
    settings = _search.samples(keys, 4)
    whole = _search.trainer(splits, 2, evaluate_at=(1, 2))(settings, keys)["validation_loss"]
    found = types.SimpleNamespace(**_search.abandoning(splits, Schedule((1, 2), 0.5))(settings, keys))
    np.testing.assert_allclose(-found.values[..., 0], whole[..., 0], rtol=1e-4)
    assert found.survivors.shape == (2, 2)


BAD = {
    "trials": (1, "--trials is at least 2"),
    "eta": (1, "--eta is at least 2"),
    "first": (50, "--first is less than --epochs 50, not 50"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_a_sentence(name):
    value, sentence = BAD[name]
    with pytest.raises(InputError, match=sentence):
        experiment.Config(**{name: value}).check()
