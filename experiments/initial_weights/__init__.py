"""Initial weights (notes §2): what they do to activations and gradients, and to learning."""
