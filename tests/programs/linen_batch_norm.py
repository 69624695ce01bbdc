"""A network of flax.linen whose batch normalization carries running statistics."""

import flax.linen as linen

from fnn import data, nn, sweep, tasks


class Network(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Dense(64)(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return linen.Dense(10)(x)


digits = data.load("mnist_5k")
task = tasks.classification(nn.from_flax(Network(), tasks.rows(digits.x_train[:1])), digits, batch=64)
found = sweep(task, ["adam", "sgd"], over={"lr": [0.01, 0.1]}, seeds=3, steps=200)
print(found.test_accuracy.mean("seed").squeeze().to_pandas())
