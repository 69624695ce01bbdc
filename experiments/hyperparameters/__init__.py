"""Hyperparameters: how to search for them, and how reliable validation scores are (notes §5)."""
