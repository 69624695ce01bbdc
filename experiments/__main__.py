"""`python -m experiments`: every experiment with its question; see `fnn.lab.collection`."""

import sys

from fnn.lab.collection import Collection

COLLECTION = Collection("experiments", more="experiments._playground.parts")

if __name__ == "__main__":
    sys.exit(COLLECTION.main())
