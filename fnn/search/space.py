"""Spaces: hyperparameters by name, each along an axis over the unit interval, so that samplers work on the unit cube.

Numbers on `Log`, `Linear` and `Whole` axes are traced: one compiled program trains any of them. A `Choice` changes
the program: `groups` sorts settings by it, one compilation for each group.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fnn.base.errors import real, require, whole

Points = Float[np.ndarray, "n axes"]
"""Points of the unit cube, one per row."""

Settings = Mapping[str, np.ndarray]
"""For every axis the numbers `[n]` of n settings; of a `Choice` the indices of the options."""


@dataclass(frozen=True)
class Linear:
    """Numbers from low to high, uniformly."""

    low: float | int
    high: float | int

    def __post_init__(self):
        require(real(self.low) and real(self.high), f"An axis has finite ends, unlike {self}.")
        require(self.low < self.high, f"An axis goes from a lower to a higher number, unlike {self}.")

    def at(self, unit: Any) -> Any:
        """low + u · (high − low)"""
        return self.low + unit * (self.high - self.low)

    def unit(self, value: Any) -> Any:
        """The position of a number in the unit interval: the inverse of `at`."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Log(Linear):
    """Numbers from low to high, uniformly on a log scale: 10^U(log₁₀ low, log₁₀ high), as the notes draw them."""

    def __post_init__(self):
        super().__post_init__()
        require(self.low > 0, f"A log axis begins above 0, unlike {self}.")

    def at(self, unit: Any) -> Any:
        """low · (high / low)ᵘ"""
        return self.low * (self.high / self.low) ** unit

    def unit(self, value: Any) -> Any:
        """The position of a number in the unit interval: the inverse of `at`."""
        return np.log(value / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True)
class Whole(Linear):
    """Whole numbers from low to high, both included; traced, so they cannot be shapes (but steps, or masked units)."""

    def __post_init__(self):
        super().__post_init__()
        ends = whole(self.low, -math.inf) and whole(self.high, -math.inf)
        require(ends, f"The ends of an axis of whole numbers are whole numbers, unlike {self}.")

    def at(self, unit: Any) -> Any:
        """⌊low + u · (high − low + 1)⌋"""
        return np.minimum(np.floor(self.low + unit * (self.high - self.low + 1)), self.high)

    def unit(self, value: Any) -> Any:
        """The center of the part of the unit interval that `at` maps to this number."""
        return (value - self.low + 0.5) / (self.high - self.low + 1)


@dataclass(frozen=True)
class Choice:
    """One of some options, of any kind: a rule, a depth, an activation. It changes the program."""

    options: tuple[Any, ...]

    def __post_init__(self):
        several = isinstance(self.options, tuple) and len(self.options) >= 2
        require(several, f"A choice is a tuple of at least 2 options, unlike {self}.")

    def at(self, unit: Any) -> Any:
        """The index of the option, 0, 1, …"""
        return np.minimum(np.floor(unit * len(self.options)), len(self.options) - 1).astype(int)

    def unit(self, value: Any) -> Any:
        """The center of the part of the unit interval that `at` maps to this option."""
        return (value + 0.5) / len(self.options)


Axis = Linear | Choice
Space = Mapping[str, Axis]


def settings(space: Space, points: Points) -> dict[str, np.ndarray]:
    """The settings at points of the unit cube, arrays `[n]` by axis. Raises `InputError` where points do not fit."""
    check_space(space)
    fitting = np.ndim(points) == 2 and np.shape(points)[1] == len(space)
    require(fitting, f"{len(space)} axes need points of as many numbers [n, {len(space)}], not {np.shape(points)}.")
    within = len(points) == 0 or (points.min() >= 0 and points.max() <= 1)
    require(bool(within), "Points lie in the unit cube, all numbers from 0 to 1.")
    return {name: axis.at(points[:, i]) for i, (name, axis) in enumerate(space.items())}


def points(space: Space, settings: Settings) -> Points:
    """The points `[n, axes]` of the unit cube of these settings: the inverse of `settings`."""
    check_space(space)
    lacking = [name for name in space if name not in settings]
    require(not lacking, f"The settings lack {', '.join(lacking)}.")
    return np.stack([axis.unit(np.asarray(settings[name])) for name, axis in space.items()], axis=1)


def check_space(space: Any) -> None:
    """Raise `InputError` where this is not a space."""
    axes = isinstance(space, Mapping) and all(isinstance(axis, Linear | Choice) for axis in space.values())
    require(axes and len(space) > 0, f"A space is a mapping from names to axes, {{'lr': Log(1e-4, 1)}}, not {space!r}.")


class Group(NamedTuple):
    """Settings that one program trains.

    chosen: the option of every `Choice`. numbers: the traced numbers, arrays `[m]`. places: the indices of these
    settings, `[m]`.
    """

    chosen: dict[str, Any]
    numbers: dict[str, np.ndarray]
    places: np.ndarray


def groups(space: Space, settings: Settings) -> list[Group]:
    """The settings grouped by the options that they choose; one group where the space has no `Choice`."""
    choices = {name: axis for name, axis in space.items() if isinstance(axis, Choice)}
    numbers = {name: values for name, values in settings.items() if name not in choices}
    found = []
    for places in itertools.product(*(range(len(axis.options)) for axis in choices.values())):
        same = np.ones(len(next(iter(settings.values()))), bool)
        for name, place in zip(choices, places, strict=True):
            same &= settings[name] == place
        if same.any():
            chosen = {name: axis.options[place] for (name, axis), place in zip(choices.items(), places, strict=True)}
            found.append(Group(chosen, {n: v[same] for n, v in numbers.items()}, np.flatnonzero(same)))
    return found
