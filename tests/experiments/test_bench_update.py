"""The benchmark at tiny size, what it counts by hand, and its verdicts in both directions."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.benchmarks import _timing, bench_update
from experiments.benchmarks.bench_update import EXPERIMENT, Config
from fnn import optim
from fnn.base.errors import InputError
from fnn.rule import twins

TINY = Config(rules=("sgd", "adam", "lamb"), sizes=(400, 900), laps=6, lap=0)
JITTER = xr.DataArray(0.01 * np.linspace(-1, 1, 6), dims="lap")
"""Of laps: equal times have no interval at the confidence that many updates need."""
MODEL = _timing.squares(4, 400)


@pytest.fixture(scope="module")
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_update, "TREES", {"many small": 9, "few large": 4})
        return bench_update.run(TINY)


@pytest.fixture(scope="module")
def even(tiny):
    """Ours and the twin's take 2 units, the yardstick 1, and everything moves as many bytes as the yardstick."""
    ds = tiny.copy(deep=True)
    ds.seconds[:], ds.triad[:], ds.compile_seconds[:] = 2, 1, 1
    ds["moved_bytes"] = ds.moved_bytes * 0 + 12 * ds.parameters
    return ds


def test_a_run_is_labelled(tiny):
    sizes = {"rule": 3, "contender": 2, "parameters": 2, "tree": 2}
    assert dict(tiny.compile_seconds.sizes) == sizes
    assert dict(tiny.seconds.sizes) == sizes | {"lap": 6}
    assert dict(tiny.triad.sizes) == {"rule": 3, "parameters": 2, "tree": 2, "lap": 6}
    assert tiny.attrs["complete"] == 1
    assert (tiny.seconds > 0).all()
    assert (tiny.compile_seconds > 0).all()
    assert tiny.elementwise.sel(rule=["sgd", "adam", "lamb"]).values.tolist() == [True, True, False]


def test_the_rows_have_what_was_measured(tiny):
    rows = json.loads(json.dumps(bench_update.rows(tiny), allow_nan=False))
    assert len(rows) == 3 * 2 * 2 * 2
    assert {(row["contender"], row["rule"], row["tree"]) for row in rows} >= {("fnn", "adam", "many small")}
    for row in rows:
        assert {row["parameters"], row["laps"]} <= {400, 900, 6}
        assert min(row[name] for name in ("seconds", "fraction_of_peak", "compile_seconds", "peak_bytes")) > 0
        assert ("of_twin" in row) == (row["contender"] == "fnn")
    ours, twin = rows[:2]
    laps = [tiny.seconds.isel(rule=0, parameters=0, tree=0, contender=c).values for c in (0, 1)]
    assert ours["seconds"] == pytest.approx(np.median(laps[0]))
    assert twin["seconds"] == pytest.approx(np.median(laps[1]))
    assert ours["of_twin"] == pytest.approx(np.median(laps[0] / laps[1]))
    assert ours["low"] <= ours["of_twin"] <= ours["high"]


def test_figures_and_table_come_from_a_run(tiny):
    figures = EXPERIMENT.draw(tiny)
    assert set(figures) == {"beside_twin", "of_bound"}
    for figure in figures.values():
        figure.canvas.draw()
    assert set(EXPERIMENT.draw(tiny.sel(rule=["lamb"]))) == {"beside_twin"}
    assert "Adam" in bench_update.table(tiny)


@pytest.mark.parametrize(
    ("rule", "given", "carried"), [("sgd", 1, 1), ("momentum", 1, 2), ("adam", 1, 3), ("cocob", 1, 6)]
)
def test_bytes_are_counted_in_arrays_as_large_as_the_parameters(rule, given, carried):
    program = _timing.update(optim.rule(rule), *MODEL)
    arrays, rest = divmod(program.moved_bytes(), 4 * 400)
    assert arrays == given + 2 * carried
    assert rest < 64, "a few numbers"
    assert program.peak_bytes() >= 4 * 400 * (given + carried)
    assert program.peak_bytes() < 4 * 400 * (given + 2 * carried), "what is overwritten is held once"


def test_the_yardstick_moves_three_arrays():
    yardstick = _timing.triad(1000)
    assert yardstick.moved_bytes() == 3 * 4000 + 4
    yardstick.lap(9)
    np.testing.assert_allclose(yardstick.carry[0], 1 + 10e-3, rtol=1e-6)


LOOK_AROUND = ("lamb", "novograd", "muon", "adafactor", "dog", "noisy_sgd", "sophia")
ALONE = ("lion", "radam", "madgrad", "cocob", "schedule_free_adamw")


@pytest.mark.parametrize("rule", LOOK_AROUND + ALONE)
def test_elementwise_rules_are_recognized(rule):
    assert _timing.update(optim.rule(rule), *MODEL).elementwise() == (rule in ALONE)


@pytest.mark.parametrize("rule", ["adam", "polyak_sgd", "sam", "noisy_sgd"])
def test_both_sides_do_the_same_updates_and_overwrite_their_arrays(rule):
    programs = [_timing.update(find(rule), *MODEL) for find in bench_update.CONTENDERS.values()]
    before = [program.carry[1][0] for program in programs]
    ours, theirs = (program.lap(5) and program.carry[1] for program in programs)
    for a, b, start in zip(ours, theirs, MODEL[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.abs(a - start).max() > 1e-4
    assert all(w.is_deleted() for w in before)
    assert not any(w.is_deleted() for w in MODEL[0])


def test_a_twin_that_keeps_hyperparameters_in_its_state_can_be_timed():
    assert _timing.update(twins.twin("adagrad:book", optim.rule("adagrad:book").hyper), *MODEL).lap(2) > 0


def test_without_patience_only_the_first_laps_are_taken():
    seconds = _timing.in_turns([_timing.triad(10), _timing.triad(20)], laps=5, lap=0, patience=0)
    assert (seconds[:, : _timing.LEAST_LAPS] > 0).all()
    assert np.isnan(seconds[:, _timing.LEAST_LAPS :]).all()


def test_squares_have_about_the_given_size():
    weights, gradient = _timing.squares(4, 10_000_000)
    assert [w.shape for w in weights] == [g.shape for g in gradient] == [(1581, 1581)] * 4
    assert all(w.dtype == jnp.float32 for w in jax.tree.leaves((weights, gradient)))
    assert not np.array_equal(weights[0], gradient[0])


def test_the_interval_of_a_median_is_that_of_ranks():
    """15 laps: 1 − 2 P(B(15, ½) ≤ 3) = 96.5 % between the 4th and the 12th."""
    laps = np.array([9, 1, 15, 3, np.nan, 5, 7, 11, 13, 2, 4, 6, 8, 10, 12, 14])
    assert bench_update.median_interval(laps) == (8, 4, 12)
    assert bench_update.median_interval(laps[:3]) == (9, -np.inf, np.inf)


def test_equal_times_are_no_gain_and_no_loss(even):
    even = even.assign(seconds=even.seconds * (1 + JITTER))
    faster, fewer, near, compiling = EXPERIMENT.judge(even)
    assert (faster.effect, faster.outcome) == (1, "does not hold")
    assert (fewer.effect, fewer.outcome) == (100, "undecided"), "of 12 updates none says little of 2.5 %"
    assert near.effect == pytest.approx(2)
    assert near.outcome == "does not hold"
    assert (compiling.effect, compiling.outcome) == (1, "undecided")
    np.testing.assert_allclose(bench_update.bandwidth(even), [12 * 400, 12 * 900])


def test_verdicts_follow_the_numbers(even):
    ds = even.copy(deep=True)
    fast = ds.contender == "fnn"
    by_rule = xr.DataArray([0.49, 0.5, 0.51], dims="rule")  # equal times of three rules would decide nothing
    ds["seconds"] = ds.seconds.where(~fast, 1.2) * (1 + JITTER.where(fast, 0))
    ds["compile_seconds"] = ds.compile_seconds.where(~fast, by_rule)
    found = EXPERIMENT.judge(ds)
    assert [v.outcome for v in found] == ["holds", "undecided", "holds", "holds"]
    assert [round(v.effect, 3) for v in found] == [0.6, 100, 1.2, 0.5]
    one = {"rule": "adam", "contender": "fnn", "parameters": 900, "tree": "few large"}
    ds.seconds.loc[one] = 2.5 * (1 + JITTER)
    faster, fewer, near, _ = EXPERIMENT.judge(ds)
    assert faster.outcome == "holds", "one of twelve does not move the median"
    assert fewer.effect == pytest.approx(100 * 11 / 12)
    assert "Of 12 updates 1 are slower" in fewer.sentence
    assert "Adam at 900 parameters in few large arrays: 1.25 of its time" in fewer.sentence
    assert (near.effect, near.outcome) == (pytest.approx(2.5), "does not hold")
    assert "the worst, update Adam in few large arrays" in near.sentence
    assert "3 of 4 are within the aim" in near.sentence


@pytest.mark.parametrize(("slower", "outcome"), [(0, "holds"), (9, "undecided"), (20, "does not hold")])
def test_slower_updates_are_counted_against_chance(even, slower, outcome):
    """Of 318 updates 8 would be slower by chance: 9 decide nothing, and the worst of them refutes nothing."""
    ds = even.isel(rule=[0] * 318, parameters=[0], tree=[0]).copy(deep=True)
    ds = ds.assign_coords(rule=[f"rule{number}" for number in range(318)])
    ds.seconds[:slower, 0] = 3
    _, fewer, *_ = EXPERIMENT.judge(ds)
    assert (fewer.seeds, fewer.outcome) == (318, outcome)


def test_updates_of_few_laps_are_not_counted(even):
    ds = even.copy(deep=True)
    ds.seconds[0, ..., 3:] = np.nan
    assert EXPERIMENT.judge(ds)[1].seeds == 8
    assert EXPERIMENT.judge(ds.isel(lap=[0, 1, 2]))[1].outcome == "not measurable"


def test_laps_left_out_count_neither_way(even):
    whole = even.assign(seconds=even.seconds * (1 + 0.001 * even.lap))
    ds = whole.copy(deep=True)
    ds.seconds[0, ..., 3:] = np.nan
    assert [v.outcome for v in EXPERIMENT.judge(ds)] == [v.outcome for v in EXPERIMENT.judge(whole)]
    assert EXPERIMENT.judge(ds)[2].seeds == 3, "of elementwise rules the laps that all took"
    assert bench_update.rows(ds)[0]["laps"] == 3
    for figure in EXPERIMENT.draw(ds).values():
        figure.canvas.draw()


@pytest.mark.parametrize("done", [1, 0])
def test_an_interrupt_keeps_the_rules_that_are_done(tiny, monkeypatch, done):
    answers = iter([tiny.isel(rule=0, drop=True)] * (1 + done))  # the first is the control's

    def timed(*specs):
        found = next(answers, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(bench_update, "timed", timed)
    if not done:
        with pytest.raises(KeyboardInterrupt):
            bench_update.run(TINY)
        return
    ds = bench_update.run(TINY)
    assert list(ds.rule.values) == ["sgd"]
    assert ds.attrs["complete"] == 0
    assert len(EXPERIMENT.judge(ds)) == 4


def test_every_rule_with_a_twin_is_discovered():
    assert set(Config(rules=("all",)).specs()) == {spec for spec in twins.TWINS if ":" not in spec} & set(optim.rules())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"laps": 0}, "--laps is at least 1, not 0"),
        ({"lap": -1}, "--lap is at least 0, not -1"),
        ({"patience": float("nan")}, "--patience is at least 0, not nan"),
        ({"rules": ()}, "--rules names no rule"),
        ({"rules": ("sgd", "sgd")}, "--rules names sgd more than once"),
        ({"rules": ("adma",)}, "There is no optimizer 'adma'"),
        ({"rules": ("nadam:torch",)}, "nadam:torch has no optax twin"),
        ({"sizes": ()}, "--sizes names no number of parameters"),
        ({"sizes": (31,)}, "--sizes takes numbers of parameters from 32 on, not 31"),
        ({"sizes": (1000, 1000)}, "--sizes names 1000 more than once"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()


def test_the_defaults_are_good():
    Config().check()
    EXPERIMENT.options(quick=True).check()
