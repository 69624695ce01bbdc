"""The networks of the benchmark of sweeps, written with each library, of the same arithmetic and the same data.

Dense: the notes' network of images as rows. CNN: LeCun's form of today. Transformer: of characters. Each is in the
idiom of its library: PyTorch has channels first and one matrix for queries, keys and values.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks._timing import torch_device
from fnn import models, tasks
from fnn.data import DataSet
from fnn.tasks import Task
from fnn.tasks.language import windows

SIZES = (784, 100, 100, 100, 100, 10)
CHANNELS, DENSE, CLASSES, SIDE = (16, 32), 128, 10, 28
BLOCKS, WIDTH, HEADS, CONTEXT, TOKENS = 2, 64, 4, 64, 65
EPSILON = 1e-6


class Network(NamedTuple):
    """What the contenders train.

    batch: examples of a minibatch. rules: the update rules that the networks are divided among.
    loss_after: whether a step records the loss after its update, which costs one more forward pass, or that before it.
    chunk: steps that a compiled program goes on for at least, where the networks are few.
    flop: of `batch` examples, the multiplications and additions in the matrix products of one network-step.
    task: ours, of a minibatch's size. split: its training examples.
    flax: the nnx module of a seed. flax_batch: `(key, split, n) -> (inputs, targets)`.
    torch: the module. torch_data: inputs and targets, to be indexed by the examples of a minibatch.
    """

    batch: int
    rules: tuple[str, ...]
    loss_after: bool
    chunk: int
    flop: Callable[[int], int]
    task: Callable[[int], Task]
    split: Callable[[DataSet], tasks.Split]
    flax: Callable[[int], Any]
    flax_batch: Callable[[Any, tasks.Split, int], tuple[Any, Any]]
    torch: Callable[[], Any]
    torch_data: Callable[[DataSet], tuple[Any, Any]]


def _dense_flop(batch):
    """Forward twice (before and after the update) and two products a layer backward, but for the first, whose input
    needs no gradient."""
    layers = [2 * batch * n_in * n_out for n_in, n_out in itertools.pairwise(SIZES)]
    return 4 * sum(layers) - layers[0]


def _dense_task(batch):
    return tasks.classification(lambda hp: models.multilayer(SIZES[1:-1], SIZES[-1]), batch=batch)


def _dense_flax(seed):
    from flax import nnx  # pyright: ignore[reportMissingImports]

    layers, he = [], nnx.initializers.he_normal()
    rngs = nnx.Rngs(seed)
    for n_in, n_out in itertools.pairwise(SIZES):
        layers += [nnx.Linear(n_in, n_out, kernel_init=he, rngs=rngs), nnx.relu]
    return nnx.Sequential(*layers[:-1])


def _dense_torch():
    import torch  # pyright: ignore[reportMissingImports]

    layers = []
    for n_in, n_out in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
        torch.nn.init.kaiming_normal_(layers[-2].weight)
    return torch.nn.Sequential(*layers[:-1])


def _rows(images):
    return tasks.Split(jnp.asarray(images.x_train.reshape(len(images.x_train), -1)), jnp.asarray(images.y_train))


def _images_batch(key, split, n):
    picked = jax.random.randint(key, (n,), 0, len(split.y))
    return split.x[picked].astype(jnp.float32) / 255, split.y[picked]


def _torch_images(*shape):
    def data(images):
        import torch  # pyright: ignore[reportMissingImports]

        x = torch.tensor(images.x_train.reshape(len(images.x_train), *shape), device=torch_device()).float() / 255
        return x, torch.tensor(images.y_train, device=x.device).long()

    return data


def _cnn_flop(batch):
    """A product forward and two backward, but for the first layer, whose input needs no gradient."""
    side, n_in, layers = SIDE, 1, []
    for n_out in CHANNELS:
        layers.append(side**2 * 9 * n_in * n_out)
        side, n_in = side // 2, n_out
    layers += [side**2 * n_in * DENSE, DENSE * CLASSES]
    return 2 * batch * (3 * sum(layers) - layers[0])


def _cnn_task(batch):
    return tasks.classification(models.cnn(CLASSES, CHANNELS, (DENSE,)), batch=batch, prepare=tasks.images)


def _cnn_split(images):
    return tasks.Split(jnp.asarray(images.x_train.reshape(-1, SIDE, SIDE, 1)), jnp.asarray(images.y_train))


def _cnn_flax(seed):
    from flax import nnx  # pyright: ignore[reportMissingImports]

    rngs, he, n_in, layers = nnx.Rngs(seed), nnx.initializers.he_normal(), 1, []
    for n_out in CHANNELS:
        layers += [nnx.Conv(n_in, n_out, (3, 3), kernel_init=he, rngs=rngs), nnx.relu]
        layers.append(lambda x: nnx.max_pool(x, (2, 2), (2, 2)))
        n_in = n_out
    features = (SIDE // 2 ** len(CHANNELS)) ** 2 * n_in
    return nnx.Sequential(
        *(*layers, lambda x: x.reshape(len(x), -1), nnx.Linear(features, DENSE, kernel_init=he, rngs=rngs), nnx.relu),
        nnx.Linear(DENSE, CLASSES, kernel_init=he, rngs=rngs),
    )


def _cnn_torch():
    import torch  # pyright: ignore[reportMissingImports]

    n_in, layers = 1, []
    for n_out in CHANNELS:
        layers += [torch.nn.Conv2d(n_in, n_out, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        n_in = n_out
    features = (SIDE // 2 ** len(CHANNELS)) ** 2 * n_in
    layers += [torch.nn.Flatten(), torch.nn.Linear(features, DENSE), torch.nn.ReLU(), torch.nn.Linear(DENSE, CLASSES)]
    for layer in layers:
        if hasattr(layer, "weight"):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return torch.nn.Sequential(*layers)


def _transformer_flop(batch):
    """A product forward and two backward: of a place with the matrices, and with all places of its window for the
    scores and the values. Places that a causal mask hides count, as all contenders but PyTorch's kernel compute them;
    the first embedding is a look-up."""
    matrices = BLOCKS * 12 * WIDTH**2 + WIDTH * TOKENS
    attention = BLOCKS * 2 * CONTEXT * WIDTH
    return 3 * 2 * batch * CONTEXT * (matrices + attention)


def _transformer_task(batch):
    network = models.transformer(TOKENS, CONTEXT, blocks=BLOCKS, width=WIDTH, heads=HEADS)
    # The data come from the caller, as windows; only their number and the following token of each place count.
    nothing = {"train": np.zeros(CONTEXT + 1, np.int32)}
    return tasks.language(network, nothing, batch=batch, context=CONTEXT)


def _text_split(text):
    return windows("train", np.append(text.x_train, text.y_train[-1:]), CONTEXT)


def _text_batch(key, split, n):
    x, y = (part.reshape(-1) for part in split)
    places = jax.random.randint(key, (n, 1), 0, len(x) - CONTEXT + 1) + jnp.arange(CONTEXT)
    return x[places], y[places]


def _torch_text(text):
    import torch  # pyright: ignore[reportMissingImports]

    x, y = (torch.tensor(part, device=torch_device()).long() for part in (text.x_train, text.y_train))
    return x.unfold(0, CONTEXT, 1), y.unfold(0, CONTEXT, 1)  # views of every window


def _transformer_flax(seed):
    from flax import nnx  # pyright: ignore[reportMissingImports]

    rngs = nnx.Rngs(seed)
    norm = lambda: nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)
    xavier = {"kernel_init": nnx.initializers.lecun_normal(), "rngs": rngs}

    class Block(nnx.Module):
        def __init__(self):
            self.norms = nnx.List([norm(), norm()])
            self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, **xavier)
            self.wide, self.narrow = nnx.Linear(WIDTH, 4 * WIDTH, **xavier), nnx.Linear(4 * WIDTH, WIDTH, **xavier)

        def __call__(self, x, mask):
            x = x + self.attention(self.norms[0](x), mask=mask)
            return x + self.narrow(nnx.gelu(self.wide(self.norms[1](x)), approximate=False))

    class Transformer(nnx.Module):
        def __init__(self):
            self.table = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
            self.places = nnx.Param(0.02 * jax.random.normal(rngs.params(), (CONTEXT, WIDTH)))
            self.blocks = nnx.List([Block() for _ in range(BLOCKS)])
            self.norm, self.head = norm(), nnx.Linear(WIDTH, TOKENS, **xavier)

        def __call__(self, tokens):
            x, mask = self.table(tokens) + self.places[...], nnx.make_causal_mask(tokens)
            for block in self.blocks:
                x = block(x, mask)
            return self.head(self.norm(x))

    return Transformer()


def _transformer_torch():
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    norm = lambda: nn.LayerNorm(WIDTH, eps=EPSILON)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList([norm(), norm()])
            self.into, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            n, time, _ = x.shape
            of_heads = lambda y: y.view(n, time, HEADS, WIDTH // HEADS).transpose(1, 2)
            query, key, value = map(of_heads, self.into(self.norms[0](x)).split(WIDTH, dim=2))
            y = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(n, time, WIDTH))
            return x + self.narrow(nn.functional.gelu(self.wide(self.norms[1](x))))

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.places = nn.Embedding(TOKENS, WIDTH), nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
            self.blocks = nn.ModuleList([Block() for _ in range(BLOCKS)])
            self.norm, self.head = norm(), nn.Linear(WIDTH, TOKENS)
            nn.init.normal_(self.table.weight, std=WIDTH**-0.5)
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
                    nn.init.zeros_(layer.bias)

        def forward(self, tokens):
            x = self.table(tokens) + self.places
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return Transformer()


NETWORKS = {
    "dense": Network(
        *(128, ("sgd", "momentum", "adagrad", "adam"), True, 100, _dense_flop),
        *(_dense_task, _rows, _dense_flax, _images_batch, _dense_torch, _torch_images(SIZES[0])),
    ),
    "cnn": Network(
        *(64, ("adam",), False, 1, _cnn_flop),
        *(_cnn_task, _cnn_split, _cnn_flax, _images_batch, _cnn_torch, _torch_images(1, SIDE, SIDE)),
    ),
    "transformer": Network(
        *(32, ("adam",), False, 1, _transformer_flop),
        *(_transformer_task, _text_split, _transformer_flax, _text_batch, _transformer_torch, _torch_text),
    ),
}
