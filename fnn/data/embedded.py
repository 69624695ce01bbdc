"""Data sets that come with Python or with a dependency: they need no file and no network.

- `breast_cancer`: 569 tumors, 30 measurements of each, malignant or benign. W. N. Street, W. H. Wolberg,
  O. L. Mangasarian, "Nuclear feature extraction for breast tumor diagnosis" (1993). From scikit-learn.
- `diabetes`: 442 patients, 10 measurements each, and a measure of the disease a year later. B. Efron, T. Hastie,
  I. Johnstone, R. Tibshirani, "Least angle regression" (2004). From scikit-learn, in its original units.
- `python_topics`: the chapters of Python's language reference that `help()` prints, a text of more than 400,000
  characters. From Python, so that it differs between its versions.

A fifth of a table's rows are the test part, drawn by `jax.random.key(0)`.
"""

import platform

from fnn.base.errors import InputError
from fnn.data.arrays import from_arrays
from fnn.data.data_set import DataSet
from fnn.data.text import tokenized


def breast_cancer() -> DataSet:
    """Tumors as classes 0 (malignant) and 1 (benign), and their measurements, not scaled."""
    return _table("breast_cancer", "load_breast_cancer", classes=("malignant", "benign"))


def diabetes() -> DataSet:
    """A number for each patient, and the measurements of each, not scaled."""
    return _table("diabetes", "load_diabetes", scaled=False)


def _table(name, loader, classes=(), **options):
    import sklearn
    from sklearn import datasets

    found = getattr(datasets, loader)(**options)
    source = f"scikit-learn {sklearn.__version__} (embedded)"
    features = [str(feature) for feature in found.feature_names]
    return from_arrays(found.data, found.target, classes=classes, features=features, name=name, source=source)


def python_topics() -> DataSet:
    """The characters of Python's documentation of its topics, in the order of their names."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError("python_topics is not there: this Python came without its module pydoc_data.") from error
    source = f"Python {platform.python_version()} (embedded)"
    return tokenized("\n".join(topics[name] for name in sorted(topics)), "python_topics", source)
