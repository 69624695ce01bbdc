"""Packages that only some of fnn needs: one sentence where they are not installed."""

import importlib.util

from fnn.base.errors import require

MODULES = {"pillow": "PIL", "vl-convert-python": "vl_convert"}
"""What is imported of a package, where that is not its name."""


def missing(*packages: str) -> list[str]:
    """Which of these packages are not installed."""
    return [package for package in packages if importlib.util.find_spec(MODULES.get(package, package)) is None]


def check_installed(user: str, *packages: str) -> None:
    """Raise `InputError`, "USER needs …: pip install …", where one of these packages is not installed."""
    lacking = missing(*packages)
    require(not lacking, f"{user} needs {' and '.join(lacking)}: pip install {' '.join(lacking)}.")
