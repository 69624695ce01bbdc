"""The benchmark of sweeps at tiny size, from its command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import _cli, bench_sweep

ROOT = Path(__file__).parents[2]


def test_the_benchmark_at_tiny_size(tmp_path):
    options = ["--quick", "--networks", "4", "--lap", "8", "--laps", "2", "--out", str(tmp_path)]
    program = [sys.executable, "-m", "experiments.bench_sweep", *options]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench_sweep" / "benchmark.json").read_text())
    ours = [row for row in rows if row["contender"] == "fnn"]
    assert [row["networks"] for row in ours] == [4]
    for row in rows:
        assert {"contender", "networks", "seconds", "fraction_of_peak", "compile_seconds", "peak_bytes"} <= set(row)
        assert 0 < row["seconds"] < 10
        assert 0 < row["fraction_of_peak"] < 1
    assert all(row["compile_seconds"] > 0 for row in ours)
    assert {"numpy", "fnn"} <= {row["contender"] for row in rows}


@pytest.mark.parametrize("networks", ["0", "3", "-4", "x", ",", "1.5"])
def test_the_benchmark_refuses_odd_numbers_of_networks(networks, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _cli.main(bench_sweep, [f"--networks={networks}"]) == 2
    assert "--networks" in capsys.readouterr().err
