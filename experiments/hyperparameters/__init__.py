"""The notes' chapter 5: how to search for hyperparameters, and how far to believe what validation says of them."""
