"""Language modeling: the next token of a text, from those before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fnn.base.errors import require, whole
from fnn.base.types import Key
from fnn.data import DataSet
from fnn.nn.contract import Layer
from fnn.nn.losses import next_token_cross_entropy
from fnn.tasks.contract import Label, Task
from fnn.tasks.splits import Split, values
from fnn.tasks.supervised import supervised, unchanged

LN_2 = float(np.log(2))


@dataclass(frozen=True)
class Windows:
    """`(key, data, i) -> starts` of n windows of the training text, which may start anywhere, with replacement."""

    n: int

    def __call__(self, key: Key, data: Mapping[str, Split], i: Int[Array, ""] | int) -> Int[Array, " n"]:
        """The places where the windows of step i start."""
        windows, length = data["train"].x.shape
        return jax.random.randint(jax.random.fold_in(key, i), (self.n,), 0, (windows - 1) * length + 1)


def language(
    network: Layer | Callable[[Any], Layer],
    text: DataSet | Mapping[str, Any],
    batch: int = 32,
    *,
    context: int = 64,
    **options: Any,
) -> Task:
    """The task of predicting the next token at every place of windows of a text, by softmax cross-entropy.

    network: from tokens `[batch, context]` to logits `[batch, context, tokens]`.
    text: a data set as `fnn.data.from_text` returns it, or the tokens 0, 1, … of "train" and of other parts, an array
        of one axis each.
    batch: windows per step, which start anywhere in the training text. context: their length.
    options: further arguments of `supervised`.
    Its metrics are `PART_loss` in nats per token and `PART_bits` in bits, on consecutive windows.
    Raises `InputError` for a text shorter than a window, and for tokens the network has no logit for.
    """
    require(whole(batch, 1), f"A minibatch needs at least 1 window, not {batch!r}.")
    require(whole(context, 1), f"A window has at least 1 token, not {context!r}.")
    require(options.get("sample") is None, "A sample of windows is no text: give a shorter text instead of sample.")
    about = options.pop("about", None) or {}
    if isinstance(text, DataSet):
        stream = text.x_train.ndim == 1 and text.x_train.dtype == np.int32
        require(stream, f"{text.name} is no text: it has examples of shape {text.x_train.shape[1:]}.")
        about, text = text.about | about, {part: np.append(x, y[-1:]) for part, (x, y) in text.parts.items()}
    require(isinstance(text, Mapping), f"A text is a mapping from names to tokens, not {text!r:.80}.")
    data = {name: windows(name, tokens, context) for name, tokens in text.items()}
    bits = lambda logits, y: next_token_cross_entropy(logits, y) / LN_2
    labels = {"loss": Label("loss", "nats"), "bits": Label("loss", "bits")}
    task = supervised(
        *(network, data, next_token_cross_entropy),
        metrics={"bits": bits, **options.pop("metrics", {})},
        batch=Windows(batch),
        about=about,
        **{"check": _check, "labels": labels, "block": max(1, 16_384 // context), **options},
    )
    prepare = options.get("prepare", unchanged)

    def minibatch(data, starts):
        places = starts[:, None] + jnp.arange(context)
        x, y = (part.reshape(-1)[places] for part in data["train"])
        return prepare(x), y

    return task._replace(batch=minibatch, about={**task.about, "context": context})


def windows(name: str, tokens: Any, length: int) -> Split:
    """The windows of a text that follow each other, and the next token of every place; the rest is left out."""
    kind: Any = getattr(tokens, "dtype", None)
    sound = kind is not None and jnp.issubdtype(kind, jnp.integer) and tokens.ndim == 1
    require(sound, f"The tokens of {name} are an array of whole numbers in one axis, not {tokens!r:.80}.")
    n = (len(tokens) - 1) // length
    require(n >= 1, f"{name} has {len(tokens):,} tokens, and a window and the token after it take {length + 1:,}.")
    return Split(tokens[: n * length].reshape(n, length), tokens[1 : n * length + 1].reshape(n, length))


def _check(data, outputs):
    """Raise `InputError` where the network has no logit for a token."""
    for name, split in data.items():
        shape = outputs(split).shape
        fits = len(shape) == 3 and shape[1] == split.y.shape[1]
        require(fits, f"A language model has outputs [batch, length, tokens]; those for {name} are {shape}.")
        most = None if (numbers := values(split.y)) is None else int(numbers.max())
        require(most is None or most < shape[2], f"{name} has the token {most}, and the network {shape[2]} logits.")
