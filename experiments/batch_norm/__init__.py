"""Batch normalization: every layer's inputs brought to mean 0 and variance 1 over the minibatch (notes §3)."""
