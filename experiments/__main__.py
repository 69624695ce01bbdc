"""`python -m experiments`: every experiment with its question; see `fnn.lab.collection`."""

import sys

from experiments import _cli
from fnn.lab.collection import Collection

COLLECTION = Collection(
    "experiments",
    lambda module: _cli.record(module) if hasattr(module, "Config") else None,
    "experiments._playground.parts",
)

if __name__ == "__main__":
    sys.exit(COLLECTION.main())
