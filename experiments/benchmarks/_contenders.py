"""The alternatives that a user would write: NumPy as in the notes, PyTorch and flax in loops, and both under vmap.

Each contender is a generator `laps(work)`: it builds its networks, then every `next` trains each of them for
`work.steps` more steps, recording the minibatch loss of each, and yields the seconds of that and of compilation
before it. All do the same arithmetic on the same sizes, each in the idiom of its library.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks._networks import NETWORKS, SIZES, Network
from fnn.data import DataSet

LR = {"sgd": 0.01, "momentum": 0.01, "adagrad": 0.01, "adam": 0.001}


class Work(NamedTuple):
    """rules × seeds networks of one of `NETWORKS`, by its name, with `steps` updates per lap."""

    data: DataSet
    network: str
    rules: tuple[str, ...]
    seeds: int
    steps: int

    @property
    def of(self) -> Network:
        """The network."""
        return NETWORKS[self.network]


class Lap(NamedTuple):
    """Seconds for one lap of all networks, and seconds of compilation before it."""

    seconds: float
    compile_seconds: float = 0.0


# -- as in the notes: layer objects, dictionaries of float64 arrays, one class per optimizer, networks in a loop --


class _Affine:
    def __init__(self, params, number):
        self.params, self.w, self.b = params, f"W{number}", f"b{number}"

    def forward(self, x):
        self.x = x
        return x @ self.params[self.w] + self.params[self.b]

    def backward(self, dy, grads):
        grads[self.w] = self.x.T @ dy
        grads[self.b] = dy.sum(axis=0)
        return dy @ self.params[self.w].T


class _Relu:
    def forward(self, x):
        self.off = x <= 0
        y = x.copy()
        y[self.off] = 0
        return y

    def backward(self, dy, grads):
        dy[self.off] = 0
        return dy


class _Network:
    """The notes' multilayer net, with its weight decay term; here λ is 0, as in §1.5."""

    def __init__(self, sizes, rng, weight_decay=0.0):
        self.params, self.layers, self.weight_decay = {}, [], weight_decay
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes), start=1):
            self.params[f"W{i}"] = np.sqrt(2 / n_in) * rng.standard_normal((n_in, n_out))
            self.params[f"b{i}"] = np.zeros(n_out)
            self.layers += [_Affine(self.params, i), _Relu()]
        self.layers.pop()

    def loss(self, x, t):
        for layer in self.layers:
            x = layer.forward(x)
        shifted = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = shifted / shifted.sum(axis=1, keepdims=True)
        penalty = sum(0.5 * self.weight_decay * np.sum(w**2) for key, w in self.params.items() if key[0] == "W")
        return -np.log(self.y[np.arange(len(t)), t] + 1e-7).mean() + penalty

    def accuracy(self, x, t):
        for layer in self.layers:
            x = layer.forward(x)
        return float((x.argmax(axis=1) == t).mean())

    def gradient(self, x, t):
        self.loss(x, t)
        dy = self.y.copy()
        dy[np.arange(len(t)), t] -= 1
        dy /= len(t)
        grads = {}
        for layer in reversed(self.layers):
            dy = layer.backward(dy, grads)
        return {key: g + self.weight_decay * self.params[key] if key[0] == "W" else g for key, g in grads.items()}


class _Sgd:
    def __init__(self, params, lr=LR["sgd"]):
        self.lr = lr

    def update(self, params, grads):
        for key in params:
            params[key] -= self.lr * grads[key]


class _Momentum:
    def __init__(self, params):
        self.v = {key: np.zeros_like(value) for key, value in params.items()}

    def update(self, params, grads):
        for key in params:
            self.v[key] = 0.9 * self.v[key] - LR["momentum"] * grads[key]
            params[key] += self.v[key]


class _AdaGrad:
    def __init__(self, params):
        self.h = {key: np.zeros_like(value) for key, value in params.items()}

    def update(self, params, grads):
        for key in params:
            self.h[key] += grads[key] * grads[key]
            params[key] -= LR["adagrad"] * grads[key] / (np.sqrt(self.h[key]) + 1e-7)


class _Adam:
    def __init__(self, params):
        self.t = 0
        self.m = {key: np.zeros_like(value) for key, value in params.items()}
        self.v = {key: np.zeros_like(value) for key, value in params.items()}

    def update(self, params, grads):
        self.t += 1
        lr = LR["adam"] * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        for key in params:
            self.m[key] += 0.1 * (grads[key] - self.m[key])
            self.v[key] += 0.001 * (grads[key] ** 2 - self.v[key])
            params[key] -= lr * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)


def numpy_laps(work: Work) -> Iterator[Lap]:
    """The notes' listing: contenders share each minibatch, and are trained one after another."""
    makers = {"sgd": _Sgd, "momentum": _Momentum, "adagrad": _AdaGrad, "adam": _Adam}
    x = work.data.x_train.reshape(len(work.data.x_train), -1).astype(np.float32) / 255
    y = work.data.y_train
    rngs = [np.random.default_rng(seed) for seed in range(work.seeds)]
    networks = [[_Network(SIZES, rng) for _ in work.rules] for rng in rngs]
    optimizers = [[makers[r](n.params) for r, n in zip(work.rules, row, strict=True)] for row in networks]
    while True:
        start = time.perf_counter()
        losses = []
        for _ in range(work.steps):
            for rng, row, their in zip(rngs, networks, optimizers, strict=True):
                picked = rng.choice(len(y), work.of.batch)
                x_batch, t_batch = x[picked], y[picked]
                for network, optimizer in zip(row, their, strict=True):
                    optimizer.update(network.params, network.gradient(x_batch, t_batch))
                    losses.append(network.loss(x_batch, t_batch))
        yield Lap(time.perf_counter() - start)


class Rows(NamedTuple):
    """Images as rows of numbers 0…1, and labels."""

    x: np.ndarray
    y: np.ndarray


def numpy_trial(
    sizes: Sequence[int],
    training: Rows,
    validation: Rows,
    lr: float,
    weight_decay: float,
    epochs: int,
    batch: int,
    rng: np.random.Generator,
) -> list[float]:
    """The validation accuracy after each epoch of one trial of the notes' search by SGD, as by their `Trainer`.

    After every update it computes the minibatch's loss, and after every epoch the accuracy on both sets.
    """
    network = _Network(sizes, rng, weight_decay)
    optimizer, accuracies = _Sgd(network.params, lr), []
    for _ in range(epochs):
        for _ in range(len(training.y) // batch):
            picked = rng.choice(len(training.y), batch)
            x, t = training.x[picked], training.y[picked]
            optimizer.update(network.params, network.gradient(x, t))
            network.loss(x, t)
        network.accuracy(*training)
        accuracies.append(network.accuracy(*validation))
    return accuracies


def _torch_makers() -> dict[str, Callable[[Any], Any]]:
    import torch  # pyright: ignore[reportMissingImports]

    return {
        "sgd": lambda p: torch.optim.SGD(p, LR["sgd"]),
        "momentum": lambda p: torch.optim.SGD(p, LR["momentum"], momentum=0.9),
        "adagrad": lambda p: torch.optim.Adagrad(p, LR["adagrad"]),
        "adam": lambda p: torch.optim.Adam(p, LR["adam"]),
    }


def _torch_loss(outputs: Any, targets: Any) -> Any:
    import torch  # pyright: ignore[reportMissingImports]

    return torch.nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def torch_laps(work: Work, compiled: bool = False) -> Iterator[Lap]:
    """The usual PyTorch loop, a network at a time, eager or with the networks through `torch.compile`."""
    import torch  # pyright: ignore[reportMissingImports]

    x, y = work.of.torch_data(work.data)
    networks = [[work.of.torch().to(x.device) for _ in work.rules] for _ in range(work.seeds)]
    makers = _torch_makers()
    optimizers = [[makers[r](n.parameters()) for r, n in zip(work.rules, row, strict=True)] for row in networks]
    start = time.perf_counter()
    if compiled:
        # One program for all networks: their weights are its arguments.
        shape = networks[0][0]
        program = torch.compile(lambda weights, x: torch.func.functional_call(shape, weights, (x,)))
        networks = [[partial(program, dict(network.named_parameters())) for network in row] for row in networks]
        _torch_loss(networks[0][0](x[: work.of.batch]), y[: work.of.batch]).backward()
        with torch.no_grad():
            networks[0][0](x[: work.of.batch])
        for optimizer in itertools.chain(*optimizers):
            optimizer.zero_grad()
    compile_seconds = time.perf_counter() - start
    while True:
        start = time.perf_counter()
        losses = []
        for _ in range(work.steps):
            for row, their in zip(networks, optimizers, strict=True):
                picked = torch.randint(len(y), (work.of.batch,), device=x.device)
                x_batch, t_batch = x[picked], y[picked]
                for network_, optimizer in zip(row, their, strict=True):
                    optimizer.zero_grad()
                    loss = _torch_loss(network_(x_batch), t_batch)
                    loss.backward()
                    optimizer.step()
                    if work.of.loss_after:
                        with torch.no_grad():
                            loss = _torch_loss(network_(x_batch), t_batch)
                    losses.append(loss.item())
        yield Lap(time.perf_counter() - start, compile_seconds)
        compile_seconds = 0.0


def torch_vmap_laps(work: Work) -> Iterator[Lap]:
    """`torch.func.vmap` over the seeds of a rule, whose weights are stacked; an optimizer steps the stacks."""
    import torch  # pyright: ignore[reportMissingImports]

    x, y = work.of.torch_data(work.data)
    networks = [[work.of.torch().to(x.device) for _ in work.rules] for _ in range(work.seeds)]
    one, makers = networks[0][0], _torch_makers()
    stacks = [torch.func.stack_module_state(list(column))[0] for column in zip(*networks, strict=True)]
    optimizers = [makers[r](list(stack.values())) for r, stack in zip(work.rules, stacks, strict=True)]

    def loss(weights, x, t):
        return _torch_loss(torch.func.functional_call(one, weights, (x,)), t)

    losses_of, gradients_of = torch.vmap(loss), torch.vmap(torch.func.grad_and_value(loss))
    while True:
        start = time.perf_counter()
        losses = []
        for _ in range(work.steps):
            picked = torch.randint(len(y), (work.seeds, work.of.batch), device=x.device)
            x_batch, t_batch = x[picked], y[picked]
            for stack, optimizer in zip(stacks, optimizers, strict=True):
                weights = {name: w.detach() for name, w in stack.items()}
                gradients, values = gradients_of(weights, x_batch, t_batch)
                for name, gradient in gradients.items():
                    stack[name].grad = gradient
                optimizer.step()
                if work.of.loss_after:
                    with torch.no_grad():
                        values = losses_of(weights, x_batch, t_batch)
                losses.append(values.cpu().numpy())
        yield Lap(time.perf_counter() - start)


def _optax_makers() -> dict[str, Any]:
    import optax

    return {
        "sgd": optax.sgd(LR["sgd"]),
        "momentum": optax.sgd(LR["momentum"], 0.9),
        "adagrad": optax.adagrad(LR["adagrad"]),
        "adam": optax.adam(LR["adam"]),
    }


def _flax_loss(model: Any, x: Any, t: Any) -> Any:
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(model(x), t).mean()


def flax_laps(work: Work) -> Iterator[Lap]:
    """A jitted flax.nnx step with optax, called from a Python loop, a network at a time."""
    import jax
    from flax import nnx  # pyright: ignore[reportMissingImports]

    makers = _optax_makers()

    @nnx.jit
    def step(model, optimizer, x, t):
        value, gradients = nnx.value_and_grad(_flax_loss)(model, x, t)
        optimizer.update(model, gradients)
        return _flax_loss(model, x, t) if work.of.loss_after else value

    @jax.jit
    def pick(key, split):
        return work.of.flax_batch(key, split, work.of.batch)

    split = work.of.split(work.data)
    keys = [jax.random.key(seed) for seed in range(work.seeds)]
    networks = [[work.of.flax(seed) for _ in work.rules] for seed in range(work.seeds)]
    optimizers = [
        [nnx.Optimizer(n, makers[r], wrt=nnx.Param) for r, n in zip(work.rules, row, strict=True)] for row in networks
    ]
    start = time.perf_counter()
    for row, their in zip(networks[:1], optimizers[:1], strict=True):
        for model, optimizer in zip(row, their, strict=True):
            step(model, optimizer, *pick(keys[0], split)).block_until_ready()
    compile_seconds, done = time.perf_counter() - start, 0
    while True:
        start = time.perf_counter()
        losses = []
        for i in range(done, done + work.steps):
            for key, row, their in zip(keys, networks, optimizers, strict=True):
                batch = pick(jax.random.fold_in(key, i), split)
                losses += [step(m, o, *batch) for m, o in zip(row, their, strict=True)]
        np.asarray(losses)
        done += work.steps
        yield Lap(time.perf_counter() - start, compile_seconds)
        compile_seconds = 0.0


def flax_scan_laps(work: Work) -> Iterator[Lap]:
    """flax.nnx and optax under `lax.scan` over steps and `vmap` over seeds: a compiled program a rule."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx  # pyright: ignore[reportMissingImports]

    split, keys = work.of.split(work.data), jax.vmap(jax.random.key)(jnp.arange(work.seeds))
    parts = [nnx.split(work.of.flax(seed), nnx.Param, ...) for seed in range(work.seeds)]
    (graph, _, rest), weights = parts[0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *(own for _, own, _ in parts))

    def loss(weights, x, t):
        return _flax_loss(nnx.merge(graph, weights, rest), x, t)

    def program(transformation):
        def go_on(weights, state, key, split, steps):
            def step(carry, i):
                weights, state = carry
                batch = work.of.flax_batch(jax.random.fold_in(key, i), split, work.of.batch)
                value, gradients = jax.value_and_grad(loss)(weights, *batch)
                updates, state = transformation.update(gradients, state, weights)
                weights = optax.apply_updates(weights, updates)
                return (weights, state), loss(weights, *batch) if work.of.loss_after else value

            return jax.lax.scan(step, (weights, state), steps)

        return jax.jit(jax.vmap(go_on, (0, 0, 0, None, None)))

    makers = _optax_makers()
    carries = [(weights, jax.vmap(makers[rule].init)(weights)) for rule in work.rules]
    programs = [program(makers[rule]) for rule in work.rules]
    steps = jnp.arange(work.steps)
    start = time.perf_counter()
    compiled = [one.lower(*carry, keys, split, steps).compile() for one, carry in zip(programs, carries, strict=True)]
    compile_seconds, done = time.perf_counter() - start, 0
    while True:
        start = time.perf_counter()
        results = [one(*carry, keys, split, done + steps) for one, carry in zip(compiled, carries, strict=True)]
        carries = [carry for carry, _ in results]
        np.asarray([losses for _, losses in results])
        done += work.steps
        yield Lap(time.perf_counter() - start, compile_seconds)
        compile_seconds = 0.0


def fnn_laps(work: Work) -> Iterator[Lap]:
    """Ours: every network of the lap in one program."""
    from fnn import optim, train
    from fnn.train import engine

    rules = {name: optim.rule(f"{name}:book") for name in work.rules}
    task, forever = work.of.task(work.of.batch), 10**9
    runs = {n: train.training(task, r, forever, loss_after=work.of.loss_after) for n, r in rules.items()}
    hps = {name: train.Hyper(rule.hyper) for name, rule in rules.items()}
    data = {"train": work.of.split(work.data)}
    for chunk in engine.stream(runs, hps, engine.seeds(work.seeds), data, forever, chunk=work.steps):
        yield Lap(chunk.seconds, chunk.compile_seconds)


CONTENDERS: dict[str, Callable[[Work], Iterator[Lap]]] = {
    "numpy": numpy_laps,
    "torch": torch_laps,
    "torch_compile": partial(torch_laps, compiled=True),
    "torch_vmap": torch_vmap_laps,
    "flax": flax_laps,
    "flax_scan": flax_scan_laps,
    "fnn": fnn_laps,
}
