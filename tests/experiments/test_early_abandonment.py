"""Early abandonment: replays by hand, the compiled program against its replay, verdicts both ways, and the whole."""

import numpy as np
import pytest
import xarray as xr

from experiments import _cli, _search
from experiments import early_abandonment as experiment
from experiments.early_abandonment import Schedule
from fnn import sweep
from fnn.errors import InputError

TINY = experiment.Config(seeds=2, trials=9, epochs=9, first=1, dataset="mnist_5k")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    TINY.check()
    return experiment.run(TINY)


def made_up(accuracy, halved=None, rungs=(2, 6, 10), keep=1 / 3):
    """Results with these complete curves `[S, trials, epochs]`, and perhaps what a program kept."""
    seeds, trials, epochs = accuracy.shape
    dims = ("seed", "trial")
    ds = xr.Dataset(
        {
            "lr": (dims, np.ones((seeds, trials))),
            "l2": (dims, np.ones((seeds, trials))),
            "validation_accuracy": ((*dims, "epoch"), accuracy),
            "diverged_at": (dims, np.full((seeds, trials), -1)),
        },
        {"seed": np.arange(seeds), "trial": np.arange(trials), "epoch": np.arange(1, epochs + 1)},
        {"dataset": "made up", "keep": keep, "complete": 1},
    )
    if halved is None:
        return ds
    return ds.assign(halved_accuracy=((*dims, "rung"), halved)).assign_coords(rung=list(rungs))


def climbing(seeds=10, trials=12, epochs=10, fair=True):
    """Curves that climb evenly to their ends; or, unfairly, those that end high begin low."""
    final = 0.1 + 0.8 * np.random.default_rng(0).uniform(size=(seeds, trials, 1))
    progress = np.linspace(0.1, 1, epochs)
    return final * progress if fair else np.where(progress < 0.8, 0.9 - final, final)


def by_replay(accuracy, rungs, keep):
    """What a perfect program would have kept of complete curves."""
    reached = experiment.replayed(accuracy, Schedule(rungs, keep)).reached
    looks = accuracy[..., np.array(rungs) - 1]
    return np.where(np.arange(len(rungs)) < reached[..., None], looks, np.nan)


def test_the_experiment_whole(measured):
    assert dict(measured.validation_accuracy.sizes) == {"seed": 2, "trial": 9, "epoch": 9}
    assert measured.rung.values.tolist() == [1, 3, 9]
    assert np.isfinite(measured.halved_accuracy).sum("trial").values.tolist() == [[9, 3, 1]] * 2
    assert set(experiment.figures(measured)) == {"price", "curves", "for_real"}
    for figure in experiment.figures(measured).values():
        figure.canvas.draw()
    assert len(experiment.verdicts(measured)) >= 1
    assert "of seeds" in experiment.summary(measured)


def test_the_program_does_what_a_replay_would(measured):
    """An image more or less is rounding, and two trials that are equal but for it may change places."""
    whole, halved = measured.validation_accuracy.values, measured.halved_accuracy.values
    np.testing.assert_allclose(halved[..., 0], whole[..., 0], atol=0.011)
    there = np.isfinite(halved)
    np.testing.assert_allclose(halved[there], whole[..., [0, 2, 8]][there], atol=0.021)
    for seed in range(2):
        gone = ~there[seed, :, 1]
        assert whole[seed, gone, 0].max() <= whole[seed, there[seed, :, 1], 0].min() + 0.011


def test_schedules():
    assert experiment.schedule(2, 3, 50) == Schedule((2, 6, 18, 50), 1 / 3)
    assert experiment.schedule(5, 3, 10) == Schedule((5, 10), 1 / 3)
    assert experiment.cost(Schedule((2, 6, 10), 1 / 3), 12) == pytest.approx((12 * 2 + 4 * 4 + 2 * 4) / 120)


def test_a_replay_by_hand():
    """6 trials, half go on after 1 and 2 of 3 epochs: the best at the end begins badly, and is given up."""
    accuracy = np.array(
        [[[0.1, 0.2, 0.9], [0.2, 0.3, 0.3], [0.3, 0.5, 0.4], [0.4, 0.4, 0.8], [0.5, 0.2, 0.2], [0, 0, 0]]]
    )
    found = experiment.replayed(accuracy, Schedule((1, 2, 3), 0.5))
    np.testing.assert_array_equal(found.reached, [[1, 1, 3, 3, 2, 1]])
    np.testing.assert_allclose(found.lost, [10])
    everyone = experiment.replayed(accuracy, Schedule((3,), 0.5))
    np.testing.assert_allclose(everyone.lost, [0])


def test_trials_that_diverge_are_given_up():
    accuracy = climbing()
    accuracy[:, 3, 2:] = np.nan
    found = experiment.replayed(accuracy, Schedule((4, 10), 0.5))
    assert (found.reached[:, 3] == 1).all()
    assert (found.lost >= 0).all()


def outcomes(ds):
    return [verdict.outcome for verdict in experiment.verdicts(ds)]


def test_fair_curves_cost_nothing_and_unfair_ones_everything():
    fair, unfair = climbing(trials=30), climbing(trials=30, fair=False)
    for curves, expected in ((fair, "holds"), (unfair, "does not hold")):
        ds = made_up(curves, by_replay(curves, (2, 6, 10), 1 / 3))
        assert set(outcomes(ds)) == {expected}
        for figure in experiment.figures(ds).values():
            figure.canvas.draw()


def test_one_seed_decides_nothing_and_an_interrupt_leaves_the_replay():
    curves = climbing(seeds=1)
    assert set(outcomes(made_up(curves, by_replay(curves, (2, 6, 10), 1 / 3)))) == {"depends"}
    cut = made_up(climbing())
    assert experiment.verdicts(cut) == []
    assert set(experiment.figures(cut)) == {"price", "curves"}
    rows = experiment.tables(cut)["schedules"]
    assert {row["eta"] for row in rows} == set(experiment.ETAS)
    assert all(0 < row["cost"] <= 1 and 0 <= row["gone"] <= 1 for row in rows)


def test_abandoning_keeps_the_pairing():
    """The first look of halving is that of whole trials, whoever goes on."""
    import types

    from fnn import data

    images, keys = data.load("mnist_5k"), sweep.seeds(2)
    settings = _search.samples(keys, 4)
    whole = _search.trainer(images, 2, evaluate_at=(1, 2))(settings, keys)["validation_accuracy"]
    found = types.SimpleNamespace(**_search.abandoning(images, (1, 2), 0.5)(settings, keys))
    np.testing.assert_allclose(found.values[..., 0], whole[..., 0], atol=0.011)
    assert found.survivors.shape == (2, 2)


BAD = {
    "--trials 1": "--trials is at least 2",
    "--eta 1": "--eta is at least 2",
    "--first 50": "--first is less than --epochs 50, not 50",
}


@pytest.mark.parametrize("options", BAD)
def test_bad_options_are_a_sentence(options):
    with pytest.raises(InputError, match=BAD[options]):
        _cli.configure(experiment, options.split()).check()
