"""What a step of a program costs: compiled, overwriting its own arrays, timed in laps that contenders take in turns."""

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.experimental.compilation_cache import compilation_cache

from fnn.base import arithmetic
from fnn.base.types import Params
from fnn.rule import Rule, apply_updates, gradient_streams

Fixed = Annotated[int, tyro.conf.Suppress]
"""An option that a benchmark does not offer: it repeats laps, of the same networks, and no seeds."""

LOOKS_AROUND = re.compile(r"stablehlo\.(reduce|dot|while|case|concatenate|iota|custom_call)")
"""Operations by which numbers of an array come to know of each other, or of where they stand."""

LEAST_LAPS = 3
"""So many laps are taken whatever they cost."""


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """In the block a compilation is asked for what it costs: none is found in the persistent cache, or put there."""
    used = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at the option once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", used)
        compilation_cache.reset_cache()


class Program:
    """A compiled step `(*given, *carry) -> carry`, which overwrites what it carries.

    compile_seconds: for tracing, lowering and compiling it.
    """

    def __init__(self, step: Callable[..., tuple], given: tuple, carry: tuple):
        self.given = given
        # Copied, since what is given away must not be shared: a twin may keep a hyperparameter in its state.
        self.carry = jax.tree.map(jnp.copy, carry)
        donated = tuple(range(len(given), len(given) + len(carry)))
        began = time.perf_counter()
        self.lowered = jax.jit(step, donate_argnums=donated).lower(*given, *self.carry)
        self.compiled = self.lowered.compile()
        self.compile_seconds = time.perf_counter() - began
        self.lap(1)  # the first one warms up

    def lap(self, steps: int) -> float:
        """Seconds per step, of so many."""
        began = time.perf_counter()
        for _ in range(steps):
            self.carry = self.compiled(*self.given, *self.carry)
        jax.block_until_ready(self.carry)
        return (time.perf_counter() - began) / steps

    def peak_bytes(self) -> int:
        """Memory that a step holds at most: its arguments, what it works in, and results that overwrite no argument."""
        memory: Any = self.compiled.memory_analysis()
        held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        return held + memory.output_size_in_bytes - memory.alias_size_in_bytes

    def moved_bytes(self) -> int:
        """Bytes that a step must move at least: it reads all it is given, and reads and writes all it carries."""
        given, carry = (sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (self.given, self.carry))
        return given + 2 * carry

    def elementwise(self) -> bool:
        """Whether every number of its arrays is computed from those at the same place alone."""
        return not LOOKS_AROUND.search(self.lowered.as_text())


def update(rule: Rule, weights: Params, gradient: Params) -> Program:
    """What a training loop does with a gradient: the rule's update, applied. Hyperparameters are traced.

    Whatever the rule asks about the loss beside its gradient is answered by `gradient_streams.extra`.
    """

    def step(hp, g, value, seed, state, w):
        change, state = rule.update(hp, g, state, w, gradient_streams.extra(g, w, value, jax.random.key(seed)))
        return state, apply_updates(w, change)

    hp = jax.tree.map(jnp.float32, rule.hyper)
    return Program(step, (hp, gradient, jnp.float32(1), jnp.int32(0)), (rule.init(hp, weights), weights))


def triad(size: int) -> Program:
    """a ← a + s · b on arrays of so many numbers: the rate at which memory, or cache, lets them through."""
    a, b = jnp.ones((2, size))
    return Program(lambda s, b, a: (a + s * b,), (jnp.float32(1e-3), b), (a,))


def product_rates(times: int = 3, with_torch: bool = False) -> list[float]:
    """FLOP/s of a float32 matrix product on the device, so many times by each library: others may be at work, too.

    The product is of a size that fills the device, at the precision that JAX is set to, PyTorch's the same: on GPU,
    unless `jax_default_matmul_precision` says otherwise, factors are rounded to TF32.
    """
    on_cpu = jax.default_backend() == "cpu"
    n, products = (2048, 1) if on_cpu else (8192, 10)
    factor = np.random.default_rng(0).random((n, n), np.float32)
    on_device, product = jnp.asarray(factor), jax.jit(jnp.matmul)
    product(on_device, on_device).block_until_ready()
    doings = [lambda: jax.block_until_ready([product(on_device, on_device) for _ in range(products)])]
    if on_cpu:
        doings.append(lambda: factor @ factor)
    if with_torch:
        import torch  # pyright: ignore[reportMissingImports]

        tensor = torch.from_numpy(factor).to(torch_device())
        doings.append(lambda: torch.stack([(tensor @ tensor)[0, 0] for _ in range(products)]).cpu())
    rates = []
    for do in doings * times:
        began = time.perf_counter()
        do()
        rates.append(2 * n**3 * products / (time.perf_counter() - began))
    return rates


def torch_device() -> str:
    """PyTorch's name of the kind of device that JAX computes on, with PyTorch set to JAX's precision of products."""
    import torch  # pyright: ignore[reportMissingImports]

    if jax.default_backend() != "gpu" or not torch.cuda.is_available():
        return "cpu"
    rounded = arithmetic.matmul_precision() in ("default", "tensorfloat32")
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    return "cuda"


def squares(number: int, size: int) -> tuple[Params, Params]:
    """Weights and gradients of a model that is so many square matrices, of about `size` numbers in all."""
    side = round(math.sqrt(size / number))
    keys = jax.random.split(jax.random.key(0), (2, number))
    weights, gradient = ([jax.random.normal(k, (side, side)) for k in ks] for ks in keys)
    return weights, gradient


def in_turns(programs: Sequence[Program], laps: int, lap: float, patience: float = math.inf) -> np.ndarray:
    """Seconds per step, `[program, lap]`: the programs take turns, in laps of about `lap` seconds.

    After `patience` seconds no more laps are begun but for the first few; those left out are NaN.
    """
    steps = max(1, math.ceil(lap / max(program.lap(1) for program in programs)))
    seconds = np.full((len(programs), laps), np.nan)
    began = time.perf_counter()
    for number in range(laps):
        if number >= LEAST_LAPS and time.perf_counter() - began > patience:
            break
        for p in range(len(programs))[:: (-1) ** number]:  # nobody always comes after the same one
            seconds[p, number] = programs[p].lap(steps)
    return seconds
