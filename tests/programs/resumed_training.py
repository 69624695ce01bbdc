"""Training from saved weights: a hundred updates, saved, and a hundred more from there."""

import jax

from fnn import data, models, sweep, tasks, train

task = tasks.classification(models.multilayer((64,), 10), data.load("mnist_5k"), batch=64)
first, networks = sweep(task, "adam", seeds=1, steps=100, networks=True)
one = jax.tree.map(lambda leaf: leaf[0], networks[""])  # of the one rule, the first seed
train.save("weights.npz", one)

params = train.load("weights.npz", like=one)
found = sweep(train.starting_from(task, params), "adam", seeds=1, steps=100)
print(first.test_accuracy.item(), found.test_accuracy.item())
