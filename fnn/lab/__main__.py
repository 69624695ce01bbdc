"""`python -m fnn.lab new NAME` writes a working experiment to start from, NAME.py."""

import keyword
import sys
from pathlib import Path

from fnn.base.errors import InputError, require
from fnn.lab import process

TEMPLATE = Path(__file__).with_name("template.py")


def new(name: str) -> Path:
    """Write the example as NAME.py; returns its path. Raises `InputError` where the name is none or taken."""
    sound = name.isidentifier() and not keyword.iskeyword(name)
    require(sound, f"An experiment is named like a Python module, my_question say, not {name!r}.")
    path = Path(f"{name}.py")
    require(not path.exists(), f"{path} is there already.")
    path.write_text(TEMPLATE.read_text(encoding="utf-8").replace("template.py", path.name), encoding="utf-8")
    return path


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    process.console()
    try:
        require(len(argv) == 2 and argv[0] == "new", "The command is: python -m fnn.lab new NAME")
        path = new(argv[1])
    except (InputError, OSError) as error:
        print(f"fnn.lab: {error}", file=sys.stderr)
        return 2
    print(f"Written to {path}: start it with `python {path} --quick`, see its options with `python {path} --help`.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
