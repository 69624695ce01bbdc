"""The options of every experiment that learns a data set: which they take, and what is no data to classify."""

import numpy as np
import pytest

from fnn.base.errors import InputError
from fnn.lab import DataOptions

Y = np.arange(40) % 4


def options(folder, x, y):
    np.savez(folder / "mine.npz", x=x, y=y)
    return DataOptions(dataset=str(folder / "mine.npz"))


def test_a_path_is_a_data_set(tmp_path, capsys):
    ds = options(tmp_path, np.zeros((40, 3, 3), np.uint8), Y).load()
    assert (ds.name, ds.classes) == ("mine.npz", tuple("0123"))
    assert capsys.readouterr().out == f"mine.npz: 32 training and 8 test images from {tmp_path}/mine.npz\n"


@pytest.mark.parametrize(
    ("x", "y", "complaint"),
    [
        (np.zeros((40, 3)), Y / 2, "has targets that are numbers, and this needs classes"),
        (np.zeros((40, 3), int), Y, "has tokens or whole numbers for examples"),
        (np.zeros(40), Y, "has tokens or whole numbers for examples"),
    ],
    ids=["numbers", "tokens", "no features"],
)
def test_what_is_not_to_be_classified_gets_a_sentence(tmp_path, x, y, complaint):
    with pytest.raises(InputError, match=complaint):
        options(tmp_path, x, y).load()


def test_more_images_than_there_are(tmp_path):
    with pytest.raises(InputError, match=r"--images is at most the 32 training images of mine\.npz, not 33"):
        options(tmp_path, np.zeros((40, 3), np.uint8), Y).load(images=33)
