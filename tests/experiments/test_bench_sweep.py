"""The benchmark of sweeps at tiny size, from its command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from experiments.benchmarks.bench_sweep import AIMS, EXPERIMENT, FEW, OTHERS, Config
from fnn.base.errors import InputError

ROOT = Path(__file__).parents[2]


def test_the_benchmark_at_tiny_size(tmp_path):
    options = ["--quick", "--networks", "4", "--lap", "8", "--laps", "2", "--out", str(tmp_path)]
    program = [sys.executable, "-m", "experiments.benchmarks.bench_sweep", *options]
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        *(({"networks": (n,)}, f"--networks takes 1 and multiples of 4, not {n}") for n in (0, 3, -4)),
        ({"networks": ()}, "--networks names no number of networks"),
        ({"networks": (4, 4)}, "--networks names 4 more than once"),
        ({"contenders": ("fnn", "jax")}, "--contenders takes all, or some of .*, not 'jax'"),
        ({"contenders": ("numpy",)}, "--contenders needs fnn"),
        ({"laps": 0}, "--laps is at least 1, not 0"),
        ({"contenders": ("numpy", "fnn"), "network": "cnn"}, "--contenders has numpy with the dense network only"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options).check()


@pytest.mark.parametrize(
    ("network", "option", "sentence"),
    [
        ("transformer", "mnist_5k", "--network transformer reads a text of 65 characters, and mnist_5k is none"),
        ("cnn", "columns.csv:class", "--network cnn reads images of 28×28, and columns.csv has others"),
    ],
)
def test_data_of_another_kind_get_one_sentence(network, option, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},{i * i},{'ab'[i % 2]}\n" for i in range(40))
    Path("columns.csv").write_text("one,two,class\n" + rows, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        Config(network=network, dataset=option).examples()


def test_contenders_and_numbers_of_networks_suit_the_network():
    assert Config().racers() == ["numpy", "torch", "fnn"]
    assert Config().counts() == (1, 64)
    assert Config(network="cnn").racers() == ["torch", "flax", "flax_scan", "fnn"]
    assert Config(network="cnn").counts() == (1, 4, 16, 64)
    assert "numpy" not in Config(network="transformer", contenders=("all",)).racers()


@pytest.mark.parametrize(("factor", "outcome"), [(1.01, "holds"), (0.99, "does not hold")])
@pytest.mark.parametrize("aims", [AIMS, OTHERS], ids=["dense", "others"])
def test_claims_follow_the_numbers_where_all_rules_run(aims, factor, outcome):
    network, aims = "dense" if aims is AIMS else "cnn", {**aims, "fnn": 1.0}
    seconds = np.array([[[1.0] * 6, [aim * factor if name != "fnn" else 1.0] * 6] for name, aim in aims.items()])
    ds = xr.Dataset(
        {"seconds": (("contender", "networks", "lap"), seconds)},
        {"contender": list(aims), "networks": [1, FEW]},
        {"network": network},
    )
    assert [verdict.outcome for verdict in EXPERIMENT.judge(ds)] == [outcome] * (len(aims) - 1)
    assert not EXPERIMENT.judge(ds.sel(networks=[1]))
