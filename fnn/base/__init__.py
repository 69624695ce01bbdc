"""Shared by all other packages: types, errors, trees, checks, statistics, matrix factorizations."""
