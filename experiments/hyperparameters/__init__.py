"""Hyperparameters: how to search for them, and how far to believe what validation says of them (notes §5)."""
