"""Checks of the update rules: against exact theory, and against optax (notes §1)."""
