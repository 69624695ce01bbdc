"""What the tests of several experiments share."""

from pathlib import Path

import pytest

from experiments import _overfit


@pytest.fixture(scope="module")
def small():
    """Networks on few images with two hidden layers of 20, which compile sooner than six of 100."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_overfit, "HIDDEN", (20, 20))
        yield


def pytest_collection_modifyitems(items):
    """The tests of one file run on one worker, since they share the run of their experiment."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
