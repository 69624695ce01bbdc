"""Regularization: overfitting few images, and the effects of weight decay, dropout and ensembles (notes §4)."""
