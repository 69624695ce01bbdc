"""The notes' chapter 4: overfitting a few images, and what weight decay, dropout and ensembles do about it."""
