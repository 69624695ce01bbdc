"""Update rules, one per file: `fnn/optim/NAME.py` holds the `Rule` called NAME. A new file is a new rule.

A file may also hold `DIALECTS`, the same rule as other places write it, as `{dialect: Rule}`: *book* is the notes'
listing. `rule("adam")` is the rule, `rule("adam:book")` its dialect, `rules()` finds them all.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from fnn.base.errors import InputError, near, require
from fnn.rule.contract import Rule


def __getattr__(name: str) -> ModuleType:
    if name in names():
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"There is no optimizer {name!r}; {near(name, names())}.")


def names() -> tuple[str, ...]:
    """Every rule there is, in alphabetical order."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def dialects(name: str) -> dict[str, Rule]:
    """The dialects of a rule beside its own form."""
    if name not in names():
        raise InputError(f"There is no optimizer {name!r}; {near(name, names())}.")
    return getattr(import_module(f"{__name__}.{name}"), "DIALECTS", {})


def rule(spec: str) -> Rule:
    """The rule called `NAME`, or `NAME:DIALECT`. Raises `InputError` for a name or a dialect that is not there."""
    require(isinstance(spec, str), f"An optimizer is named by text, 'adam' or 'adam:book', not by {spec!r}.")
    name, _, dialect = spec.partition(":")
    spoken = dialects(name)
    if not dialect:
        return getattr(import_module(f"{__name__}.{name}"), name)
    if dialect not in spoken:
        raise InputError(f"{name} has no dialect {dialect!r}; it has {', '.join(spoken) or 'its own form only'}.")
    return spoken[dialect]


def rules() -> dict[str, Rule]:
    """Every rule and every dialect, by `NAME` or `NAME:DIALECT`."""
    specs = [spec for name in names() for spec in (name, *(f"{name}:{d}" for d in dialects(name)))]
    return {spec: rule(spec) for spec in specs}
