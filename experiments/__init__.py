"""Experiments: one question a module, each started as `python -m experiments.NAME`; see `python -m experiments`."""
