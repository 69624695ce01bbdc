"""What every loader returns: examples and targets in NumPy, to train, test and, where wanted, validate on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int32, Shaped

PARTS = ("train", "test", "validation")

Pair = tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]
"""The examples and the targets of a part."""


@dataclass(frozen=True, eq=False)  # equality of arrays is not one truth value: compare checksums
class DataSet:
    """Examples, their first axis, and a target for each. All arrays are read-only.

    Examples are bytes (uint8, 0…255), as images are; float32, as tables are; or int32, as tokens are. Targets are
    classes 0, 1, …, or numbers.
    """

    name: str
    x_train: Shaped[np.ndarray, "train ..."]
    y_train: Int32[np.ndarray, "train ..."] | Float32[np.ndarray, "train ..."]
    x_test: Shaped[np.ndarray, "test ..."]
    y_test: Int32[np.ndarray, "test ..."] | Float32[np.ndarray, "test ..."]
    checksum: str
    """SHA-256 (hex) of the bytes of `x_train, y_train, x_test, y_test` and those to validate on, little-endian."""
    source: str
    """Where it was found: a file, a folder, the cache or a mirror, as text."""
    x_validation: Shaped[np.ndarray, "validation ..."] | None = None
    y_validation: Int32[np.ndarray, "validation ..."] | Float32[np.ndarray, "validation ..."] | None = None
    classes: tuple[str, ...] = ()
    """The names of the classes 0, 1, …; none where targets are numbers."""
    features: tuple[str, ...] = ()
    """The names of a table's columns; none elsewhere."""
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By feature, the mean that was subtracted and the standard deviation that was divided by."""

    @property
    def about(self) -> dict[str, str]:
        """Name, checksum and source, the attributes that results have of their data."""
        return {"dataset": self.name, "checksum": self.checksum, "source": self.source}

    @property
    def parts(self) -> dict[str, Pair]:
        """The examples and targets of "train", "test" and, where there are some, "validation"."""
        parts: dict[str, Pair] = {"train": (self.x_train, self.y_train), "test": (self.x_test, self.y_test)}
        if self.x_validation is not None and self.y_validation is not None:
            parts["validation"] = (self.x_validation, self.y_validation)
        return parts


def data_set(
    name: str,
    parts: Mapping[str, Pair],
    source: str,
    classes: tuple[str, ...] = (),
    features: tuple[str, ...] = (),
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> DataSet:
    """The record of arrays that belong together, which it makes read-only.

    parts: by name, see `PARTS`.
    """
    digest, arrays = hashlib.sha256(), {}
    for part in (part for part in PARTS if part in parts):
        for axis, array in zip("xy", parts[part], strict=True):
            array.setflags(write=False)
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
            arrays[f"{axis}_{part}"] = array
    return DataSet(
        name,
        **arrays,
        checksum=digest.hexdigest(),
        source=source,
        classes=classes,
        features=features,
        scales=dict(scales or {}),
    )
