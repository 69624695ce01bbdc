"""Arrays made small enough for a page: rounded to 8 or 16 bits, differenced along the last axis, gzipped."""

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rounded:
    """An array and the range in which it is stored, in equal steps: of 16 bits, or of 8 where `short`.

    Values that are not finite or outside the range are stored as missing; values below `low` as `low` where `floor`.
    """

    values: np.ndarray
    low: float
    high: float
    short: bool = False
    floor: bool = False

    def codes(self) -> np.ndarray:
        """Whole numbers, 0 for low; the largest of the type for what is missing."""
        dtype = np.uint8 if self.short else np.uint16
        missing = np.iinfo(dtype).max
        with np.errstate(invalid="ignore", over="ignore"):
            values = np.where(self.values < self.low, self.low, self.values) if self.floor else self.values
            finite = np.isfinite(values) & (values >= self.low) & (values <= self.high)
            scaled = (np.where(finite, values, self.low) - self.low) / (self.high - self.low) * (missing - 1)
        return np.where(finite, np.rint(scaled), missing).astype(dtype)


def pack(arrays: Mapping[str, Rounded]) -> dict[str, Any]:
    """`{"parts": [{name, shape, low, high, short}], "gzip": base64}`: the concatenated bytes of all arrays.

    The bytes are those of differences (modulo the type) along the last axis, low bytes before high bytes: those of a
    smooth curve are small and compress well. `unpack` in play.js does the reverse.
    """
    parts, planes = [], []
    for name, array in arrays.items():
        codes = array.codes()
        steps = np.diff(codes, axis=-1, prepend=np.zeros_like(codes[..., :1]))
        low, high = (steps & 0xFF).astype(np.uint8), (steps >> 8).astype(np.uint8) if not array.short else None
        planes += [low.tobytes(), *([] if high is None else [high.tobytes()])]
        parts.append({"name": name, "shape": codes.shape, "low": array.low, "high": array.high, "short": array.short})
    return {"parts": parts, "gzip": base64.b64encode(gzip.compress(b"".join(planes), 9, mtime=0)).decode()}
