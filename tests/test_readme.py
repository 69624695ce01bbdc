"""The READMEs are true: their examples run, the new optimizer works, their files and commands exist."""

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import COLLECTION
from fnn import optim, schedules, sweep, tasks, train
from fnn.train import engine

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", *sorted(ROOT.glob("fnn/**/README.md")), *sorted(ROOT.glob("experiments/**/README.md"))]
TEXTS = {file: file.read_text(encoding="utf-8") for file in FILES}
README = TEXTS[ROOT / "README.md"]
BLOCKS = re.findall(r"```python\n(.*?)```", "\n".join(TEXTS.values()), re.S)


def executed(code, names=None):
    """The names that are defined after running this code."""
    names = {} if names is None else names
    exec(compile(code, "README.md", "exec"), names)
    return names


def block(word):
    """The one block of code with this word in it."""
    [found] = [text for text in BLOCKS if word in text]
    return found


def test_the_ten_lines_run_and_run_again(tmp_path, monkeypatch, capsys):
    """As do those that spread a sweep over processes, from a file, in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    names = executed(block("results/mine"))
    found = names["found"]
    assert dict(found.loss.sizes) == {"rule": 2, "lr": 3, "seed": 5, "step": 200}
    assert found.loss.units == "nats"
    assert found.test_accuracy.sel(rule="adam", update=200).mean("seed").max() > 0.9
    monkeypatch.setattr(engine, "stream", None)  # the second time nothing is trained
    executed(block("results/mine"), names)
    assert names["found"].loss.identical(found.loss)
    assert capsys.readouterr().out.count("units:      nats") == 2


def test_a_sweep_in_other_processes_runs(tmp_path):
    file = tmp_path / "elsewhere.py"
    ten = block("results/mine").partition("found = sweep(")[0]
    file.write_text(f"{ten}\n{block('ProcessPoolExecutor')}", "utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, file], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "lr       (lr)" in done.stdout


def test_the_optimizer_to_add_is_one():
    names = executed(block("sign_descent"))
    rule = names["sign_descent"]
    update, _ = rule.update(rule.hyper, jnp.array([2.0, -3.0]), rule.init(rule.hyper, jnp.zeros(2)), jnp.zeros(2))
    np.testing.assert_allclose(update, [-0.001, 0.001])


def test_the_rules_in_company_are_some():
    names = executed(block("clip_norm"))
    hp = names["warm"](train.Hyper(names["rule"].hyper), schedules.progress(jnp.int32(5), 100))
    assert hp.rule.inner.inner.inner.lr == pytest.approx(0.0005)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(file):
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[file]):
        assert (file.parent / link).exists(), link


def test_the_face_of_the_project_is_short():
    assert len(README.splitlines()) <= 200
    assert len(FILES) > 5


def test_every_rule_and_experiment_is_in_its_table():
    rules = re.findall(r"`(\w+)`", TEXTS[ROOT / "fnn/optim/README.md"].partition("## Add an optimizer")[0])
    assert set(optim.names()) <= set(rules)
    table = TEXTS[ROOT / "experiments/README.md"]
    for name, experiment in COLLECTION.experiments().items():
        assert f"| [`{name}`]({experiment.file.relative_to(ROOT / 'experiments')}) |" in table


def test_a_network_and_arrays_of_ones_own_are_swept(capsys):
    names = executed(block("quadrants"))
    assert dict(names["quadrants"].test_accuracy.sizes) == {"rule": 3, "lr": 2, "seed": 3, "update": 1}
    assert names["quadrants"].test_accuracy.mean("seed").max() > 0.9
    assert "adam" in capsys.readouterr().out


def test_a_convolutional_network_is_swept(capsys):
    names = executed(block("models.cnn"))
    assert dict(names["found"].test_accuracy.sizes) == {"rule": 2, "lr": 2, "seed": 2, "update": 1}
    assert names["found"].test_accuracy.mean("seed").max() > 0.5
    assert "adam" in capsys.readouterr().out


def test_a_network_of_flax_is_swept(capsys):
    pytest.importorskip("flax")
    names = executed(block("nn.from_flax"))
    assert dict(names["flax_found"].test_accuracy.sizes) == {"rule": 3, "lr": 2, "seed": 5, "update": 1}
    assert names["flax_found"].test_accuracy.mean("seed").max() > 0.6
    assert "momentum" in capsys.readouterr().out


def test_a_regression_stops_early(capsys):
    names = executed(block("EarlyStopping"))
    found = names["stopped"]
    assert dict(found.test_error.sizes) == {"rule": 2, "lr": 2, "seed": 3, "update": 15}
    assert found.updates_done.min() < 300
    assert found.best_validation_loss.isel(update=-1).min() < 0.02
    assert "adam" in capsys.readouterr().out


def test_a_workload_of_ones_own_is_found_in_its_file(tmp_path):
    (tmp_path / "my_task.py").write_text(block("One hidden layer is enough"), "utf-8")
    workload = tasks.workload(tmp_path / "my_task.py", "tiny")
    ds = sweep(workload.task, "adam", over={"lr": [0.01]}, seeds=1, steps=workload.steps, evaluate=(1, workload.steps))
    assert float(ds[workload.metric].isel(update=-1).squeeze()) < 0.6 * float(ds[workload.metric][..., 0].squeeze())


def test_a_sweep_is_logged_in_csv_and_tensorboard(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX")
    monkeypatch.chdir(tmp_path)
    ten = block("results/mine").partition("found = sweep(")[0]
    names = executed(f"{ten}\n{block('SummaryWriter')}")
    table = np.genfromtxt("log.csv", delimiter=",", names=True)
    assert len(table) == 8
    found = names["logged"]
    for row in table:
        expected = found.test_accuracy.sel(lr=row["lr"], seed=row["seed"], update=row["update"])
        assert row["test_accuracy"] == pytest.approx(float(expected))
        assert row["loss"] == pytest.approx(
            float(found.loss.sel(lr=row["lr"], seed=row["seed"], step=row["update"] - 1))
        )
    events = b"".join(path.read_bytes() for path in Path("runs/mine").rglob("*tfevents*"))
    assert b"test_loss/0.001/1" in events
    assert len(names["frames"](found)["loss"]) == 2 * 2 * 50
    assert "test_accuracy" in capsys.readouterr().out


def test_the_two_commands_are_one_line_each():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("-m experiments optimizer_compare_mnist")
    assert "pytest" in commands[1]


def test_the_search_runs(capsys):
    executed(block("search.Log"))
    *_, reached = capsys.readouterr().out.split()
    assert 0 <= float(reached) < 0.1, "the loss is 1 at the start"


def test_data_of_every_kind_are_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f"{40 + i}.5,{i % 5},{'York' if i % 3 else 'Bath'},{1000 * i}" for i in range(50)]
    (tmp_path / "houses.csv").write_text("\n".join(["area,rooms,town,price", *rows]), "utf-8")
    np.savez("skin.npz", train_images=rng.integers(0, 256, (70, 8, 8, 3), np.uint8), train_labels=np.arange(70) % 7)
    (tmp_path / "digits").mkdir()
    for part, n in (("train", 40), ("t10k", 20)):
        images = struct.pack(">4B3I", 0, 0, 8, 3, n, 8, 8) + bytes(n * 64)
        (tmp_path / "digits" / f"{part}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(i % 4 for i in range(n))
        (tmp_path / "digits" / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    (tmp_path / "song.txt").write_text("Row, row, row your boat gently down the stream.\n" * 40, "utf-8")
    names = {}
    for text in re.findall(r"```python\n(.*?)```", TEXTS[ROOT / "fnn/data/README.md"], re.S):
        executed(text, names)
    assert "(70, 8, 8) (10, 8, 8) ('bright', 'dark')" in capsys.readouterr().out
    assert names["houses"].features == ("area", "rooms", "town=Bath", "town=York")
    assert names["houses"].y_train.dtype == np.float32
    assert (len(names["skin"].classes), len(names["digits"].classes)) == (7, 4)
    assert "gently down" in "".join(names["song"].classes[token] for token in names["song"].x_train[:40])
