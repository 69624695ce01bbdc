"""Python files of a user's own: the module of a path, and what a file defines, `PATH.py` or `PATH.py:NAME`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fnn.base.errors import InputError, near, require


def is_file(spec: str) -> bool:
    """Whether a name is the path of a Python file, `my_rule.py` or `my_rule.py:NAME`."""
    return spec.endswith(".py") or ".py:" in spec


def parted(spec: str) -> tuple[str, str]:
    """The path and the name of `PATH.py:NAME`; of `PATH.py` the name is ""."""
    path, colon, name = spec.rpartition(".py:")
    return (f"{path}.py", name) if colon else (spec, "")


def module(path: str | Path) -> ModuleType:
    """The module of a Python file, which can import the files beside it.

    Raises `InputError` where there is no such file, and where its code fails.
    """
    file = Path(path)
    require(file.is_file(), f"There is no file {file}.")
    spec = importlib.util.spec_from_file_location(_name(file), file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is not a file of Python.")
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # as an import does: dataclasses search for their module there
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(found)
    except BaseException as error:
        del sys.modules[spec.name]  # a part of a module would be taken for the whole
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        raise InputError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return found


def _name(file):
    """The name of the file's module: another one than that of a module from elsewhere, `json` say."""
    known = sys.modules.get(file.stem)
    same = known is None or Path(getattr(known, "__file__", None) or "").resolve() == file.resolve()
    return file.stem if same else f"{file.stem}_of_{file.resolve().parent.name}"


def defined(home: ModuleType, name: str, kind: type | tuple[type, ...], what: str) -> Any:
    """What the module of a file defines under a name; without one what is called like the file, else the only one of
    this kind.

    what: its noun, for messages. Raises `InputError` where the file has none, or several without a name.
    """
    file = home.__file__ or ""
    found = {one: value for one, value in vars(home).items() if isinstance(value, kind)}
    require(not name or name in found, f"{file} has no {what} {name!r}; {near(name, list(found))}.")
    name = name or Path(file).stem
    if name in found:
        return found[name]
    require(len(found) > 0, f"{file} defines no {what}.")
    require(len(found) == 1, f"{file} defines several: name one of {', '.join(found)}, as {file}:NAME.")
    return next(iter(found.values()))
