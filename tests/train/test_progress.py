"""Progress shows in log files as lines now and then, in terminals as a bar, and not at all where it is not wanted."""

import sys

import pytest
from small import STEPS, swept, task

from fnn.train import progress


@pytest.mark.parametrize("chunk", [2, STEPS])
def test_lines_in_a_log_count_all_steps(monkeypatch, capsys, chunk):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr("fnn.train.sweep.CHUNK", chunk)
    swept(task(), "sgd", over=None, progress=True)
    out, lines = capsys.readouterr()
    assert out == ""
    assert [line.split(" steps, ")[0] for line in lines.splitlines()] == [
        f"{n} of {STEPS}" for n in range(chunk, STEPS + 1, chunk)
    ]


def test_short_work_and_silent_work_print_nothing(monkeypatch, capsys):
    swept(task(), "sgd", over=None, progress=True)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    swept(task(), "sgd", over=None)
    assert capsys.readouterr() == ("", "")


def test_a_line_comes_no_sooner_than_it_should_and_one_at_the_end(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    with progress.progress(5000, "step", True) as bar:
        for seconds in (10, 31, 40, 70, 71):
            now[0] = seconds
            bar.update(1000)
    assert capsys.readouterr().err.splitlines() == [
        "2,000 of 5,000 steps, 31 s",
        "4,000 of 5,000 steps, 70 s",
        "5,000 of 5,000 steps, 71 s",
    ]


def test_in_a_terminal_it_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.progress(4, "step", True) as bar:
        bar.update(4)
        assert "4/4" in str(bar)
    assert "0/4" in capsys.readouterr().err
