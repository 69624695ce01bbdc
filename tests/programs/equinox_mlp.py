"""A multilayer perceptron of equinox with dropout."""

import equinox as eqx
import jax

from fnn import data, nn, sweep, tasks


class Network(eqx.Module):
    first: eqx.nn.Linear
    drop: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(784, 64, key=one), eqx.nn.Linear(64, 10, key=two)
        self.drop = eqx.nn.Dropout(0.3)

    def __call__(self, x, key=None):
        return self.last(self.drop(jax.nn.relu(self.first(x)), key=key))


task = tasks.classification(nn.from_equinox(Network), data.load("mnist_5k"), batch=64)
found = sweep(task, "adam", over={"lr": [0.001, 0.01]}, seeds=3, steps=200)
print(found.test_accuracy.mean("seed").squeeze().to_pandas())
