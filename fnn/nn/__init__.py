"""Networks as pure functions: initial weights, layers, losses, models, and instruments that measure them."""

from fnn.nn.adapters import from_equinox, from_flax, from_functions, frozen

__all__ = ["from_equinox", "from_flax", "from_functions", "frozen"]
