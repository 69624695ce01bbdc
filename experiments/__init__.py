"""Experiments: one question a module, each started as `python -m experiments NAME`; see `python -m experiments`."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m experiments…` is being started; otherwise another program imports this
    from fnn.lab import process

    process.guard()
