"""Updating the parameters: down a valley and on the notes' network, with tuned learning rates (notes §1)."""
