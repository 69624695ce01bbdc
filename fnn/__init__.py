"""fnn: a laboratory for training dynamics, in pure functions on pytrees.

Import the room you need: `fnn.optim.adam`, `fnn.train`, `fnn.sweep`, … Nothing is imported before it is used.
"""

__version__ = "0.1.0"
