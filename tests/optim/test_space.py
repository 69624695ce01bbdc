"""Search spaces and schedules that rules declare, the defaults of those that do not, and rules of files."""

import builtins
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from fnn import optim
from fnn.base.errors import InputError
from fnn.rule.hyper import get
from fnn.rule.schedules import progress

RULE = """
from typing import NamedTuple
import jax.numpy as jnp
from fnn.rule import leafwise


class Hyper(NamedTuple):
    lr: float = 0.01


def update(hp, t, g, s, w):
    return -hp.lr * jnp.sign(g), s


{more}
descent = leafwise(Hyper(), lambda hp, w: (), update)
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes the rule's file with further lines, and returns its path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def write(more=""):
        file = tmp_path / "descent.py"
        file.write_text(RULE.format(more=more))
        return str(file)

    return write


@pytest.mark.parametrize("spec", optim.names())
def test_every_rule_has_a_space_around_its_defaults_and_a_schedule_of_what_it_has(spec):
    hyper = optim.rule(spec).hyper
    for name, values in optim.space(spec).items():
        assert min(values) <= get(hyper, name) <= max(values) or name.endswith("weight_decay")
    for name, shape in optim.schedule(spec).items():
        assert float(get(hyper, name)) >= 0
        assert 0 <= float(shape(progress(jnp.asarray(3), 100))) <= 1


def test_a_dialect_has_what_its_file_declares():
    """The file's space may lie elsewhere than a dialect's default: torch's lr of SGD is a tenth of ours."""
    for spec, rule in optim.rules().items():
        for name in (*optim.space(spec), *optim.schedule(spec)):
            get(rule.hyper, name)


def test_without_a_declaration_it_is_the_learning_rate(written):
    file = written()
    assert optim.space(file) == {"lr": (pytest.approx(0.01 / 10**1.5), pytest.approx(0.01 * 10**1.5))}
    shape = optim.schedule(file)["lr"]
    shares = [float(shape(progress(jnp.asarray(t), 100))) for t in (0, 5, 100)]
    assert shares == pytest.approx([0, 1, 0], abs=1e-6)


def test_a_file_declares_its_own(written):
    file = written("SPACE = {'lr': [0.1, 0.2]}\nSCHEDULE = {}")
    assert optim.space(file) == {"lr": [0.1, 0.2]}
    assert optim.schedule(file) == {}
    assert optim.rule(file).hyper.lr == optim.rule(f"{file}:descent").hyper.lr == 0.01


def test_a_file_is_executed_once_whatever_its_folder_is_called(written, tmp_path):
    folder = tmp_path / "my.python"
    folder.mkdir()
    counting = "import builtins\nbuiltins.executed = getattr(builtins, 'executed', 0) + 1\nSPACE = {'lr': [1.0]}"
    file = Path(written(counting)).rename(folder / "descent.py")
    assert optim.space(str(file)) == {"lr": [1.0]}
    assert builtins.executed == 1
    del builtins.executed


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("SPACE = {'lr': (1, 0.1)}", "SPACE of .* is"),
        ("SPACE = {'lr': (0, 0.1)}", "SPACE of .* is"),
        ("SPACE = 'lr'", "SPACE of .* is"),
        ("SPACE = {'rate': (0.1, 1)}", "no hyperparameter 'rate'"),
        ("SCHEDULE = {'lr': 0.1}", "SCHEDULE of .* is shapes by name"),
    ],
)
def test_a_declaration_that_is_none_is_a_sentence(written, more, sentence):
    file, read = written(more), optim.space if more.startswith("SPACE") else optim.schedule
    with pytest.raises(InputError, match=sentence):
        read(file)
