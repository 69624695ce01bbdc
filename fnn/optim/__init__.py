"""Update rules, one per file: `fnn/optim/NAME.py` holds the `Rule` called NAME. A new file is a new rule.

A file may also hold `DIALECTS`, the same rule as other places write it, as `{dialect: Rule}`: *book* is the notes'
listing. `rule("adam")` is the rule, `rule("adam:book")` its dialect, `rules()` finds them all.

A file of one's own is named by its path, `rule("my_rule.py")`; it holds the same, anywhere on disk.
`SPACE` in a file says where to search for its hyperparameters, `SCHEDULE` how they are scheduled; see `space` and
`schedule`.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from fnn.base import modules
from fnn.base.errors import InputError, listed, near, real, require
from fnn.rule.contract import Rule
from fnn.rule.hyper import get, lr_path, paths
from fnn.rule.schedules import Shape, cosine, warmup

AROUND = 1.5
"""Decades to either side of a learning rate's default that are searched where a file declares no `SPACE`."""
WARMUP = 0.05
"""The share of a run in which the learning rate rises, where a file declares no `SCHEDULE`."""


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
    """The rule called `NAME`, or `NAME:DIALECT`, or that of a file, `PATH.py` or `PATH.py:NAME`.

    Raises `InputError` for a name, a dialect or a file that is not there.
    """
    return _found(spec)[0]


def _found(spec):
    """A rule, and the module of its file."""
    require(isinstance(spec, str), f"An optimizer is named by text, 'adam' or 'adam:book', not by {spec!r}.")
    if modules.is_file(spec):
        path, name = modules.parted(spec)
        home = modules.module(path)
        return modules.defined(home, name, Rule, "rule"), home
    name, _, dialect = spec.partition(":")
    spoken, home = dialects(name), import_module(f"{__name__}.{name}")
    if not dialect:
        return getattr(home, name), home
    if dialect not in spoken:
        raise InputError(f"{name} has no dialect {dialect!r}; it has {', '.join(spoken) or 'its own form only'}.")
    return spoken[dialect], home


def rules() -> dict[str, Rule]:
    """Every rule and every dialect, by `NAME` or `NAME:DIALECT`."""
    specs = [spec for name in names() for spec in (name, *(f"{name}:{d}" for d in dialects(name)))]
    return {spec: rule(spec) for spec in specs}


def space(spec: str) -> dict[str, tuple[float, float] | list[float]]:
    """Where to search for the hyperparameters of `rule(spec)`: by name `(low, high)`, on a log scale, or a list.

    That is the `SPACE` of its file; without one the learning rate from 10^−`AROUND` to 10^`AROUND` times its default,
    and of a rule without a learning rate nothing. Raises `InputError` where the file's is none.
    """
    hyper, declared = _declared(spec, "SPACE")
    if declared is None:
        path = lr_path(hyper)
        default = 0.0 if path is None else float(get(hyper, path))
        return {} if path is None else {path: (default / 10**AROUND, default * 10**AROUND)}
    sound = isinstance(declared, Mapping) and all(map(_is_range, declared.values()))
    require(sound, f"SPACE of {spec} is (low, high) above 0, or a list of numbers, by name, not {declared!r:.80}.")
    return {name: values for given, values in declared.items() for name in paths(hyper, given)}


def _is_range(values):
    numbers = listed(values) and len(values) > 0 and all(map(real, values))
    return numbers and (isinstance(values, list) or (len(values) == 2 and 0 < values[0] < values[1]))


def schedule(spec: str) -> dict[str, Shape]:
    """The shapes that `rule(spec)` is scheduled by, by the names of its hyperparameters.

    That is the `SCHEDULE` of its file, `{}` for none; without one the learning rate rises in the first `WARMUP` of a
    run and falls as a cosine. Raises `InputError` where the file's is none.
    """
    hyper, declared = _declared(spec, "SCHEDULE")
    if declared is None:
        path = lr_path(hyper)
        return {} if path is None else {path: warmup(WARMUP, cosine())}
    sound = isinstance(declared, Mapping) and all(map(callable, declared.values()))
    require(sound, f"SCHEDULE of {spec} is shapes by name, {{'lr': schedules.cosine()}}, not {declared!r:.80}.")
    return {name: shape for given, shape in declared.items() for name in paths(hyper, given)}


def _declared(spec, what):
    """The default hyperparameters of a rule, and what its file declares under a name; None where it does not."""
    found, home = _found(spec)
    return found.hyper, getattr(home, what, None)
