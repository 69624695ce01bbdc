"""The benchmark of starts: what its processes print, and its verdicts both ways."""

import pytest

from experiments.benchmarks import bench_start
from experiments.benchmarks.bench_start import EXPERIMENT
from fnn.base.errors import InputError


@pytest.fixture(scope="module")
def measured():
    return EXPERIMENT.run(EXPERIMENT.options(quick=True))


def test_a_run_is_labelled(measured):
    assert dict(measured.seconds.sizes) == {"contender": 5, "lap": 1}
    assert (measured.seconds > 0).all()
    sweeps = [*bench_start.RULES, bench_start.AGAIN]
    assert (measured.compile_seconds.sel(contender=sweeps) > 0).all()
    assert measured.compile_seconds.sel(contender=list(bench_start.IMPORTS)).isnull().all()
    rows = bench_start.rows(measured)
    assert [row["contender"] for row in rows] == list(measured.contender)
    assert set(rows[0]) == {"contender", "seconds"}
    for figure in EXPERIMENT.draw(measured).values():
        figure.canvas.draw()


def test_the_second_start_finds_what_the_first_compiled(measured):
    first, second = (measured.sel(contender=name) for name in ("four rules", bench_start.AGAIN))
    assert first.compiled.item() > 0
    assert second.compiled.item() == 0
    assert second.found.item() >= first.compiled.item()


@pytest.mark.parametrize(("factor", "compiled", "outcome"), [(1.1, 0, "holds"), (1.3, 2, "does not hold")])
def test_verdicts_follow_the_numbers(measured, factor, compiled, outcome):
    ds = measured.isel(lap=[0] * 6).copy(deep=True)
    ours = ds.contender.isin(["import fnn", "four rules"])
    ds["seconds"] = (ds.seconds * 0 + 1).where(~ours, factor)
    ds["compile_seconds"] = (ds.compile_seconds * 0 + 1).where(~ours, factor)
    ds["compiled"] = ds.compiled * 0 + compiled
    assert [verdict.outcome for verdict in EXPERIMENT.judge(ds)] == [outcome] * 3


def test_a_process_that_fails_is_named():
    with pytest.raises(InputError, match="A process of the benchmark failed: ZeroDivisionError"):
        bench_start.last_json("1 / 0")
