"""The cost of a program's step: compiled, overwriting its arrays, timed in laps that alternate between contenders."""

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
"""A benchmark's replacement of --seeds: it repeats laps of the same networks."""

LOOKS_AROUND = re.compile(r"stablehlo\.(reduce|dot|while|case|concatenate|iota|custom_call)")
"""Operations whose results depend on other elements of an array, or on positions in it."""

LEAST_LAPS = 3
"""The least number of laps, whatever their time."""


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """A context in which compilations neither read nor write the persistent cache, so that their time is measured."""
    used = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX reads the option once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", used)
        compilation_cache.reset_cache()


class Program:
    """A compiled step `(*given, *carry) -> carry`, which overwrites `carry`.

    compile_seconds: the time of tracing, lowering and compiling it.
    """

    def __init__(self, step: Callable[..., tuple], given: tuple, carry: tuple):
        self.given = given
        # Copied, since donated arrays must not be shared: a twin may keep a hyperparameter in its state.
        self.carry = jax.tree.map(jnp.copy, carry)
        donated = tuple(range(len(given), len(given) + len(carry)))
        start = time.perf_counter()
        self.lowered = jax.jit(step, donate_argnums=donated).lower(*given, *self.carry)
        self.compiled = self.lowered.compile()
        self.compile_seconds = time.perf_counter() - start
        self.lap(1)  # the first one warms up

    def lap(self, steps: int) -> float:
        """Seconds per step, over `steps` steps."""
        start = time.perf_counter()
        for _ in range(steps):
            self.carry = self.compiled(*self.given, *self.carry)
        jax.block_until_ready(self.carry)
        return (time.perf_counter() - start) / steps

    def peak_bytes(self) -> int:
        """The peak memory of a step: its arguments, temporaries, and results that overwrite no argument."""
        memory: Any = self.compiled.memory_analysis()
        held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        return held + memory.output_size_in_bytes - memory.alias_size_in_bytes

    def moved_bytes(self) -> int:
        """The least bytes that a step moves: it reads `given`, and reads and writes `carry`."""
        given, carry = (sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (self.given, self.carry))
        return given + 2 * carry

    def elementwise(self) -> bool:
        """Whether every element of its arrays is computed from those at the same index alone."""
        return not LOOKS_AROUND.search(self.lowered.as_text())


def update(rule: Rule, weights: Params, gradient: Params) -> Program:
    """The program that applies a rule's update, as in a training loop. Hyperparameters are traced.

    What the rule needs of the loss beside its gradient is given by `gradient_streams.extra`.
    """

    def step(hp, g, value, seed, state, w):
        change, state = rule.update(hp, g, state, w, gradient_streams.extra(g, w, value, jax.random.key(seed)))
        return state, apply_updates(w, change)

    hp = jax.tree.map(jnp.float32, rule.hyper)
    return Program(step, (hp, gradient, jnp.float32(1), jnp.int32(0)), (rule.init(hp, weights), weights))


def triad(size: int) -> Program:
    """The program a ← a + s · b on arrays of `size` numbers: it measures the bandwidth of memory, or of a cache."""
    a, b = jnp.ones((2, size))
    return Program(lambda s, b, a: (a + s * b,), (jnp.float32(1e-3), b), (a,))


def product_rates(times: int = 3, with_torch: bool = False) -> list[float]:
    """FLOP/s of a float32 matrix product on the device, `times` times by each library: other programs may be running.

    The product is large enough to fill the device, at the precision of JAX's settings, PyTorch's the same: on GPU,
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
        start = time.perf_counter()
        do()
        rates.append(2 * n**3 * products / (time.perf_counter() - start))
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
    """Weights and gradients of a model of `number` square matrices, of about `size` numbers in all."""
    side = round(math.sqrt(size / number))
    keys = jax.random.split(jax.random.key(0), (2, number))
    weights, gradient = ([jax.random.normal(k, (side, side)) for k in ks] for ks in keys)
    return weights, gradient


def in_turns(programs: Sequence[Program], laps: int, lap: float, patience: float = math.inf) -> np.ndarray:
    """Seconds per step, `[program, lap]`: the programs alternate, in laps of about `lap` seconds.

    After `patience` seconds only the first few laps are still taken; those left out are NaN.
    """
    steps = max(1, math.ceil(lap / max(program.lap(1) for program in programs)))
    seconds = np.full((len(programs), laps), np.nan)
    start = time.perf_counter()
    for number in range(laps):
        if number >= LEAST_LAPS and time.perf_counter() - start > patience:
            break
        for p in range(len(programs))[:: (-1) ** number]:  # in alternating order, so that neighbors change
            seconds[p, number] = programs[p].lap(steps)
    return seconds
