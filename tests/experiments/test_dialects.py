"""Every dialect has its reason."""

from experiments.checks._dialects import WHY
from fnn import optim


def test_every_dialect_is_explained():
    assert set(WHY) == {spec for spec in optim.rules() if ":" in spec}
