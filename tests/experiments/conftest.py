"""What the tests of several experiments share."""

import pytest

from experiments.regularization import _overfit


@pytest.fixture(scope="module")
def small():
    """Networks on few images with two hidden layers of 20, which compile sooner than six of 100."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_overfit, "HIDDEN", (20, 20))
        yield
