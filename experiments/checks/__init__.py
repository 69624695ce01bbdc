"""Checks: the update rules against exact theory, and against optax."""
