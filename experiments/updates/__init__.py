"""Updating the parameters: rules down a valley and on the notes' network, with their learning rates tuned (notes §1)."""
