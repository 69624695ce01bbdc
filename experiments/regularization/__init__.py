"""Regularization: overfitting a few images, and what weight decay, dropout and ensembles do about it (notes §4)."""
