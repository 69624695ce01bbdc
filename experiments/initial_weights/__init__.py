"""Initial weights: what they do to activations and gradients, and to learning (notes §2)."""
