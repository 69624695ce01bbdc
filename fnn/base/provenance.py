"""Provenance: what is needed to repeat a run."""

import dataclasses
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from fnn.base.arithmetic import arithmetic
from fnn.base.errors import require

PACKAGES = ("fnn", "jax", "jaxlib", "optax", "numpy", "scipy", "xarray", "matplotlib")


def provenance(config: Any, **more: Any) -> dict[str, Any]:
    """What is needed to repeat a run, as JSON values: `config`, what `origin` returns, and `more`."""
    require(dataclasses.is_dataclass(type(config)), f"A configuration is a dataclass, not {config!r}.")
    named = {name: shown(x) if isinstance(x, str) else x for name, x in dataclasses.asdict(config).items()}
    return {"config": named, **origin(), **more}


def origin() -> dict[str, Any]:
    """Command line, time, versions, revision, device and arithmetic, as JSON values."""
    return {
        "command": [sys.executable, *map(shown, sys.argv)],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "revision": _revision(),
        "device": describe_devices(jax.local_devices()),
        "arithmetic": arithmetic(),
        "machine": platform.platform(),
    }


def shown(text: Path | str) -> str:
    """The text with the password of a URL in it replaced by ***."""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", str(text))


def describe_devices(devices: Sequence[Any]) -> str:
    """The number and kind of the devices as text: "2 × cpu"."""
    return f"{len(devices)} × {devices[0].device_kind}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit of this package's files; None where they are not tracked, as for an installed package."""
    here = Path(__file__)
    # Git sets variables for its hooks, which would have priority over the folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*command):
        done = subprocess.run(
            ["git", *command],
            cwd=here.parent,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--dirty", "--abbrev=40")
    except (OSError, subprocess.CalledProcessError):
        return None
