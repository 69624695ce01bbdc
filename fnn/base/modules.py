"""Python files of a user's own: the module of a path, and what a file defines, `PATH.py` or `PATH.py:NAME`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fnn.base.errors import InputError, near, require


def is_file(spec: str) -> bool:
    """Whether a name is the path of a Python file, `my_rule.py` or `my_rule.py:NAME`."""
    return spec.partition(".py:")[0].removesuffix(".py") != spec


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
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return found


def _name(file):
    """The name of the file's module: another one than that of a module from elsewhere, `json` say."""
    known = sys.modules.get(file.stem)
    same = known is None or Path(getattr(known, "__file__", None) or "").resolve() == file.resolve()
    return file.stem if same else f"{file.stem}_of_{file.resolve().parent.name}"


def defined(spec: str, kind: type | tuple[type, ...], what: str) -> Any:
    """What `PATH.py:NAME` defines; of `PATH.py` what is named like the file, else the only one of this kind.

    what: its noun, for messages. Raises `InputError` where the file has none, or several without a name.
    """
    path, _, name = spec.partition(".py:")
    path = f"{path.removesuffix('.py')}.py"
    found = {one: value for one, value in vars(module(path)).items() if isinstance(value, kind)}
    name = name or Path(path).stem
    if name in found:
        return found[name]
    require(":" not in spec[len(path) :], f"{path} has no {what} {name!r}; {near(name, list(found))}.")
    require(len(found) > 0, f"{path} defines no {what}.")
    require(len(found) == 1, f"{path} defines several: name one of {', '.join(found)}, as {path}:NAME.")
    return next(iter(found.values()))
