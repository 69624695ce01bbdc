"""`python -m experiments`: every experiment with its question."""

import ast
from pathlib import Path
from pkgutil import iter_modules

import experiments


def questions() -> dict[str, str]:
    """The first line of every experiment's docstring, read without importing it."""
    folder = Path(experiments.__file__).parent
    names = [m.name for m in iter_modules(experiments.__path__) if not m.name.startswith("_")]
    docs = {name: ast.get_docstring(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))) for name in names}
    return {name: (doc or "").partition("\n")[0] for name, doc in docs.items()}


def main() -> None:
    """Print the list."""
    found = questions()
    width = max(map(len, found))
    for name, question in found.items():
        print(f"{name:{width}}  {question}")
    print("\nStart one with: python -m experiments.NAME [--help]")


if __name__ == "__main__":
    main()
