"""A convolutional network of flax.nnx: three rules, two learning rates, five seeds."""

from flax import nnx

from fnn import data, nn, sweep, tasks


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
        self.last = nnx.Linear(8 * 14 * 14, 10, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)).reshape(len(x), -1))


digits = data.load("mnist_5k")
network = nn.from_flax(Network, tasks.images(digits.x_train[:1]))
task = tasks.classification(network, digits, batch=64, prepare=tasks.images)
found = sweep(task, ["adam", "momentum", "sgd"], over={"lr": [0.003, 0.03]}, seeds=5, steps=100)
print(found.test_accuracy.mean("seed").squeeze().to_pandas())
