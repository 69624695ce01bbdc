"""Networks as pure functions: initial weights, layers, losses, models, and instruments that measure them."""
