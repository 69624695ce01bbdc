"""Line search: a step length by Wolfe's conditions. Nocedal & Wright 2006, Algorithms 3.5 and 3.6.

Lengths 1, 2, 4, … are tried until the interval between the last two contains a good one; then the interval is narrowed
at the minimum of a cubic, else of a parabola, else at its midpoint. Decrease is measured by values or, close to a
minimum, where values no longer differ, by slopes (Hager & Zhang 2005, eq. 27).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.base.checks import check_alike, check_params
from fnn.base.errors import real, require
from fnn.base.trees import dot
from fnn.base.types import Params, Scalar

TRIALS = 20
DECREASE, CURVATURE = 1e-4, 0.9
SAME = 1e-6
"""Values this close, relative to the first, are compared by slopes."""
NARROW = 1e-5
"""The interval length at which the search ends with the best point found."""


class Point(NamedTuple):
    """a: a step length; f: the value there; d: the slope along the direction."""

    a: Array
    f: Array
    d: Array


class Search(NamedTuple):
    """The state of a search.

    trials: done so far; now: the last; low, high: the ends of the interval, low the better; third: a point outside it,
    for the cubic; safe: the best with enough decrease; outside: whether the last value was not finite; found: whether
    there is an interval; done, failed: whether the search has ended, and how.
    """

    trials: Array
    now: Point
    low: Point
    high: Point
    third: Point
    safe: Point
    outside: Array
    found: Array
    done: Array
    failed: Array


def wolfe(f: Callable[[Params], Scalar], w: Params, p: Params, value: Scalar, slope: Array) -> Array:
    """The length a for which w + a · p satisfies the strong conditions; `value` and `slope` are those at a = 0.

    Where no trial does, the best of those that decrease enough; 0 where no value was finite.

    Raises `InputError` where f is not a function of parameters like w and p.
    """
    require(callable(f), f"A line search is along a function of the parameters, not {f!r}.")
    check_params(w)
    check_alike(w, p)
    numbers = all(jnp.shape(x) == () if hasattr(x, "dtype") else real(x) for x in (value, slope))
    require(numbers, f"The value and the slope at the start are numbers, not {value!r} and {slope!r}.")
    slope = jnp.asarray(slope, jnp.result_type(float, *jax.tree.leaves(w))) if not hasattr(slope, "dtype") else slope
    dtype = slope.dtype
    start = Point(jnp.zeros((), dtype), jnp.asarray(value, dtype), slope)

    def at(a):
        height, gradient = jax.value_and_grad(f)(jax.tree.map(lambda w, p: w + a * p, w, p))
        return Point(a, jnp.asarray(height, dtype), dot(gradient, p).astype(dtype))

    def go_on(s):
        p = at(jnp.where(s.found, between(s), jnp.where(s.trials == 0, 1, 2 * s.now.a)))
        short, flat = short_of_decrease(p, start), short_of_flatness(p, start)
        return pick(s.found, narrower(s, p, short, flat), wider(s, p, short, flat))

    no = jnp.asarray(False)
    s = Search(jnp.asarray(0), start, start, start, start, start, no, no, no, no)
    s = jax.lax.while_loop(lambda s: ~(s.done | s.failed), go_on, s)
    return jnp.where(s.failed & ((s.safe.a > 0) | s.outside), s.safe.a, s.now.a)


def wider(s: Search, p: Point, short: Array, flat: Array) -> Search:
    """The search for an interval, after a trial at p."""
    over = (short > 0) | ((p.f >= s.now.f) & (s.trials > 0))
    turned = (p.d >= 0) & ~over
    low, high = pick(turned, (p, s.now), (s.now, p))
    done = jnp.maximum(short, flat) <= 0
    return s._replace(
        trials=s.trials + 1,
        now=p,
        low=low,
        high=high,
        third=low,
        safe=pick(short <= 0, p, s.safe),
        outside=jnp.isinf(short),
        found=over | turned | done,
        done=done,
        failed=(s.trials + 1 >= TRIALS) & ~done,
    )


def narrower(s: Search, p: Point, short: Array, flat: Array) -> Search:
    """The search within an interval, after a trial at p."""
    over = (short > 0) | (p.f >= s.low.f)
    crossed = (p.d * (s.high.a - s.low.a) >= 0) & ~over
    safe = pick((short <= 0) & (p.f < s.safe.f), p, s.safe)
    done = jnp.maximum(short, flat) <= 0
    spent = (s.trials + 1 >= TRIALS) | ((jnp.abs(s.high.a - s.low.a) <= NARROW) & (safe.a > 0))
    return s._replace(
        trials=s.trials + 1,
        now=p,
        low=pick(over, s.low, p),
        high=pick(over, p, pick(crossed, s.low, s.high)),
        third=pick(over | crossed, s.high, s.low),
        safe=safe,
        outside=jnp.isinf(short),
        done=done,
        failed=spent & ~done,
    )


def between(s: Search) -> Array:
    """The next length inside the interval."""
    width = jnp.abs(s.high.a - s.low.a)
    left, right = jnp.minimum(s.low.a, s.high.a), jnp.maximum(s.low.a, s.high.a)
    inside = lambda a, share: (a > left + share * width) & (a < right - share * width)
    cubic, parabola, middle = cubic_minimum(s.low, s.high, s.third), parabola_minimum(s.low, s.high), (left + right) / 2
    return jnp.where(inside(cubic, 0.2), cubic, jnp.where(inside(parabola, 0.1), parabola, middle))


def cubic_minimum(p: Point, q: Point, r: Point) -> Array:
    """Where the cubic through p (with its slope), q and r is least."""
    x, y = q.a - p.a, r.a - p.a
    q_over, r_over = q.f - p.f - p.d * x, r.f - p.f - p.d * y
    scale = (x * y) ** 2 * (x - y)
    a = (y**2 * q_over - x**2 * r_over) / scale
    b = (x**3 * r_over - y**3 * q_over) / scale
    return p.a + (-b + jnp.sqrt(b * b - 3 * a * p.d)) / (3 * a)


def parabola_minimum(p: Point, q: Point) -> Array:
    """Where the parabola through p (with its slope) and q is least."""
    x = q.a - p.a
    return p.a - p.d / (2 * (q.f - p.f - p.d * x) / x**2)


def short_of_decrease(p: Point, start: Point) -> Array:
    """By how much p misses the first condition, 0 where it holds, infinite where its value is not finite."""
    exact = p.f - start.f - DECREASE * p.a * start.d
    by_slope = jnp.maximum(p.d - (2 * DECREASE - 1) * start.d, p.f - start.f - SAME * jnp.abs(start.f))
    return _missing(jnp.minimum(exact, by_slope))


def short_of_flatness(p: Point, start: Point) -> Array:
    """By how much p misses the second condition, 0 where it holds."""
    return _missing(jnp.abs(p.d) - CURVATURE * jnp.abs(start.d))


def _missing(x):
    return jnp.where(jnp.isnan(x), jnp.inf, jnp.maximum(x, 0))


def pick(condition: Array, a, b):
    """The first tree where the condition holds, else the second."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), a, b)
