"""Update rules: down a valley, on the notes' network, with their learning rates tuned (notes §1)."""
