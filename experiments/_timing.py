"""What a step of a program costs: compiled, overwriting its own arrays, timed in laps that contenders take in turns."""

import math
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _streams
from fnn.rule import Rule, apply_updates
from fnn.types import Params


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
        self.compiled = jax.jit(step, donate_argnums=donated).lower(*given, *self.carry).compile()
        self.compile_seconds = time.perf_counter() - began
        self.lap(1)  # the first one warms up

    def lap(self, steps: int) -> float:
        """Seconds per step, of so many."""
        began = time.perf_counter()
        for _ in range(steps):
            self.carry = self.compiled(*self.given, *self.carry)
        jax.block_until_ready(self.carry)
        return (time.perf_counter() - began) / steps


def update(rule: Rule, weights: Params, gradient: Params) -> Program:
    """What a training loop does with a gradient: the rule's update, applied. Hyperparameters are traced.

    Whatever the rule asks about the loss beside its gradient is answered by `_streams.extra`.
    """

    def step(hp, g, value, seed, state, w):
        change, state = rule.update(hp, g, state, w, _streams.extra(g, w, value, jax.random.key(seed)))
        return state, apply_updates(w, change)

    hp = jax.tree.map(jnp.float32, rule.hyper)
    return Program(step, (hp, gradient, jnp.float32(1), jnp.int32(0)), (rule.init(hp, weights), weights))


def squares(number: int, size: int) -> tuple[Params, Params]:
    """Weights and gradients of a model that is so many square matrices, of about `size` numbers in all."""
    side = round(math.sqrt(size / number))
    keys = jax.random.split(jax.random.key(0), (2, number))
    weights, gradient = ([jax.random.normal(k, (side, side)) for k in ks] for ks in keys)
    return weights, gradient


def in_turns(programs: Sequence[Program], laps: int, lap: float) -> np.ndarray:
    """Seconds per step, `[program, lap]`: the programs take turns, in laps of about `lap` seconds."""
    steps = max(1, math.ceil(lap / max(program.lap(1) for program in programs)))
    seconds = np.empty((len(programs), laps))
    for number in range(laps):
        for p in range(len(programs))[:: (-1) ** number]:  # nobody always comes after the same one
            seconds[p, number] = programs[p].lap(steps)
    return seconds
