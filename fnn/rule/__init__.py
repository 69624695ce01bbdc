"""Update rules as pure functions: contract, hyperparameters, wrappers, schedules, line searches, optax both ways."""

from fnn.rule.contract import (
    EMPTY,
    NOTHING,
    Empty,
    Extra,
    Lifted,
    Part,
    Rule,
    adjusted,
    apply_updates,
    checked,
    increment,
    leafwise,
    needed,
    owned,
    treewise,
)

__all__ = [
    "EMPTY",
    "NOTHING",
    "Empty",
    "Extra",
    "Lifted",
    "Part",
    "Rule",
    "adjusted",
    "apply_updates",
    "checked",
    "increment",
    "leafwise",
    "needed",
    "owned",
    "treewise",
]
