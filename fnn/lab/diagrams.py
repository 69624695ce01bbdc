"""Diagrams of networks and of computations, drawn from layers, masks and jaxprs."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from fnn import layers
from fnn.base.types import Params
from fnn.lab import plotting
from fnn.nn.layers import Affine, BatchNorm, Layer, through

Point = tuple[float | int, float | int]
INK = "0.25"
FAINT = "0.6"
SHADE = "#56B4E9"

# Units: circles and lines ---------------------------------------------------------------------------------------------


def units_diagram(ax: Axes, sizes: Sequence[int], dropped: Sequence[np.ndarray] | None = None) -> None:
    """Draw a fully connected network into `ax`: one circle per unit, one arrow per weight, inputs at the bottom.

    sizes: the number of units of each layer, inputs first.
    dropped: for every layer a boolean array `[size]`, true where a unit is dropped. Such a unit is crossed out and no
        arrow touches it. None drops none.
    """
    dropped = [np.zeros(n, bool) for n in sizes] if dropped is None else [np.asarray(d, bool) for d in dropped]
    radius, rise = 0.3, 2.0
    places = [[(i - (n - 1) / 2, rise * layer) for i in range(n)] for layer, n in enumerate(sizes)]

    def kept(layer):
        return [place for place, gone in zip(places[layer], dropped[layer], strict=True) if not gone]

    for layer in range(len(sizes) - 1):
        for below in kept(layer):
            for above in kept(layer + 1):
                arrow = {"arrowstyle": "->", "color": FAINT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
                ax.annotate("", _toward(above, below, radius), _toward(below, above, radius), arrowprops=arrow)
    for row, gone in zip(places, dropped, strict=True):
        for (x, y), out in zip(row, gone, strict=True):
            edge = {"linestyle": ":", "edgecolor": FAINT} if out else {"edgecolor": INK}
            ax.add_patch(Circle((x, y), radius, facecolor="white", linewidth=1.3, **edge))
            if out:
                arm = radius * math.sqrt(0.5)
                for slope in (1, -1):
                    ax.plot((x - arm, x + arm), (y - slope * arm, y + slope * arm), color=INK, linewidth=1.3)
    _frame(ax, (-max(sizes) / 2, max(sizes) / 2), (-0.5, rise * (len(sizes) - 1) + 0.5))


def _toward(start: Point, end: Point, length: float) -> tuple[float, float]:
    """The point `length` away from `start` on the way to `end`."""
    step = np.subtract(end, start)
    x, y = np.add(start, length * step / np.hypot(*step))
    return float(x), float(y)


def _frame(ax: Axes, x: Point, y: Point) -> None:
    """Show this part of the plane and no axes."""
    ax.set(xlim=x, ylim=y, aspect="equal")
    ax.set_axis_off()


# Layers: boxes --------------------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "ReLU": layers.relu,
    "Leaky ReLU": layers.leaky_relu,
    "Sigmoid": layers.sigmoid,
    "tanh": layers.tanh,
    "Softplus": layers.softplus,
    "GELU": layers.gelu,
    "Identity": layers.identity,
}


class Block(NamedTuple):
    """A layer as it is drawn: its name and the number of its outputs."""

    name: str
    width: int


def blocks(network: Layer, n_in: int) -> list[Block]:
    """The layers that a `serial` network is made of, for inputs of `n_in` numbers; nothing is computed."""
    x = jax.ShapeDtypeStruct((1, n_in), jnp.float32)
    params, stats = jax.eval_shape(lambda key: network.init(key, x), jax.random.key(0))
    run = lambda params, stats, x: through(network.parts, params, stats, x, None, False)[0]
    outputs = jax.eval_shape(run, params, stats, x)
    return [
        Block(name_of(layer, own), y.shape[-1]) for layer, own, y in zip(network.parts, params, outputs, strict=True)
    ]


def name_of(layer: Layer, params: Params) -> str:
    """The name of a layer: by the type of its parameters or, without parameters, by its outputs for a few numbers."""
    known = {Affine: "Affine", BatchNorm: "Batch Norm"}
    if params != ():
        return known.get(type(params), type(params).__name__)

    probe = jnp.linspace(-3, 3, 61)[None]

    def output(noise, train):
        return layer.apply((), (), probe, jax.random.key(noise), train)[0]

    if not jnp.array_equal(output(0, True), output(1, True)):
        return "Dropout"
    y = output(0, False)
    return next((name for name, f in ACTIVATIONS.items() if jnp.array_equal(y, f(probe))), "Elementwise")


def network_diagram(blocks: Sequence[Block], n_in: int, shaded: str = "Batch Norm") -> Figure:
    """A network as a row of boxes, from its inputs on the left; `shaded` names the layers to highlight.

    Each arrow is labeled with the number of values that it carries.
    """
    step, width, height = 1.0, 0.52, 2.0
    fig = plotting.figure(0.58 * (len(blocks) + 1.6), 2.0)
    ax = fig.subplots()
    for i, (name, _) in enumerate(blocks):
        ax.add_patch(
            FancyBboxPatch(
                (i * step - width / 2, -height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=SHADE if name == shaded else "white",
                edgecolor=INK,
                linewidth=1.2,
            )
        )
        ax.text(i * step, 0, name, rotation=90, ha="center", va="center", color="black")
    gap = step - width
    for i, n in enumerate([n_in, *(block.width for block in blocks)]):
        start = (i - 1) * step + width / 2
        ax.add_patch(FancyArrowPatch((start, 0), (start + gap, 0), **ARROW))
        ax.text(start + gap / 2, 0.12, str(n), ha="center", fontsize="x-small", color=INK)
    _frame(ax, (-step, len(blocks) * step), (-height / 2 - 0.1, height / 2 + 0.1))
    return fig


# Computations: a graph of operations ----------------------------------------------------------------------------------

SYMBOLS = {
    "add": "+",
    "add_any": "+",
    "sub": "−",
    "mul": "×",
    "div": "÷",
    "neg": "−( )",
    "square": "x²",
    "sqrt": "√",
    "rsqrt": "1/√",
    "reduce_sum": "Σ",
    "reduce_max": "max",
    "dot_general": "·",
    "log": "ln",
}
GREEK = {"gamma": "γ", "beta": "β", "eps": "ε", "mu": "μ", "sigma": "σ"}
VIEWS = {"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "expand_dims", "copy", "stop_gradient"}
"""Operations that leave the numbers as they are."""
LOOPS = {"scan", "while", "cond"}
"""Operations whose inner programs may run several times or not at all; they are drawn as one node."""


class Node(NamedTuple):
    """An operation, argument or constant of a computation.

    label: the symbol of an operation, or the name of an argument or constant.
    inputs: the numbers of the nodes it reads, all before it; none for arguments and constants.
    shape: that of its result.
    """

    label: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


class Graph(NamedTuple):
    """A computation: its nodes, every one after those it reads, and the names of some results by node."""

    nodes: tuple[Node, ...]
    names: Mapping[int, str]


class _Value(NamedTuple):
    """What a variable of a jaxpr holds: a node's result, as seen through some views."""

    node: int
    views: str = ""


def graph_of(f: Callable[..., Any], *args: Any, results: Sequence[str] = ()) -> Graph:
    """The computation of `f(*args)`, from its jaxpr.

    results: the names of the arrays that f returns, in order; "" for no name.
    Inner functions are inlined, views left out, a sum of n terms ÷ n becomes their mean, equal operations on equal
    inputs are one node (as in the compiled program), and what no result depends on is dropped.
    """
    nodes: list[Node] = []
    known: dict[Any, _Value] = {}

    def add(label, inputs, shape, key):
        """The value of the node with this key, a new node where there is none."""
        if key not in known:
            known[key] = _Value(len(nodes))
            nodes.append(Node(label, tuple(value.node for value in inputs), shape))
        return known[key]

    def operation(eqn, inputs):
        shape, name = eqn.outvars[0].aval.shape, eqn.primitive.name
        if name in VIEWS:
            return inputs[0]._replace(views=inputs[0].views + (f"{name}{eqn.params}" if "broadcast" in name else ""))
        if name == "div" and isinstance(eqn.invars[1], Literal) and nodes[inputs[0].node].label == "Σ":
            summed = nodes[nodes[inputs[0].node].inputs[0]]
            if float(eqn.invars[1].val) * math.prod(shape) == math.prod(summed.shape):
                source = (_Value(nodes[inputs[0].node].inputs[0]),)
                return add("mean", source, shape, ("mean", inputs[0]))
        return add(_symbol(eqn), inputs, shape, (name, str(eqn.params), *inputs))

    def read(jaxpr: Jaxpr, consts, arguments):
        holds = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def value(atom):
            return constant(atom.val) if isinstance(atom, Literal) else holds[atom]

        for eqn in jaxpr.eqns:
            inputs = [value(atom) for atom in eqn.invars]
            inner = [p for p in eqn.params.values() if isinstance(p, Jaxpr | ClosedJaxpr)]
            if inner and eqn.primitive.name not in LOOPS:
                found = opened(inner[0], inputs)
            else:
                found = [operation(eqn, inputs)] * len(eqn.outvars)
            holds |= zip(eqn.outvars, found, strict=True)
        return [value(atom) for atom in jaxpr.outvars]

    def constant(number):
        label = f"{float(number):.3g}" if np.ndim(number) == 0 else "constant"
        return add(label, (), np.shape(number), ("constant", label if np.ndim(number) == 0 else id(number)))

    def opened(jaxpr: Jaxpr | ClosedJaxpr, arguments):
        if isinstance(jaxpr, ClosedJaxpr):
            return read(jaxpr.jaxpr, [constant(c) for c in jaxpr.consts], arguments)
        return read(jaxpr, [], arguments)

    closed = jax.make_jaxpr(f)(*args)
    labels = _argument_names(f, args)
    shapes = [variable.aval.shape for variable in closed.jaxpr.invars]
    arguments = [add(label, (), shape, label) for label, shape in zip(labels, shapes, strict=True)]
    ends = [value.node for value in opened(closed, arguments)]
    names = {end: name for end, name in zip(ends, results, strict=False) if name}
    return _needed(nodes, ends, names)


def _symbol(eqn: Any) -> str:
    name: str = eqn.primitive.name
    if name == "integer_pow":
        return {2: "x²", 3: "x³", -1: "1/x"}.get(eqn.params["y"], f"x^{eqn.params['y']}")
    return SYMBOLS.get(name, name)


def _argument_names(f: Callable[..., Any], args: Sequence[Any]) -> list[str]:
    """A name for every array in the arguments: the parameter's, and the path to the array where it holds several."""
    names = list(inspect.signature(f).parameters)[: len(args)]
    leaves = [(GREEK.get(name, name), path) for name, a in zip(names, args, strict=True) for path in _paths(a)]
    return [name + path for name, path in leaves]


def _paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _needed(nodes: Sequence[Node], ends: Sequence[int], names: Mapping[int, str]) -> Graph:
    """The part of a graph that `ends` depend on, renumbered."""
    needed, todo = set(), list(ends)
    while todo:
        number = todo.pop()
        if number not in needed:
            needed.add(number)
            todo += nodes[number].inputs
    new = {old: i for i, old in enumerate(sorted(needed))}
    kept = tuple(nodes[old]._replace(inputs=tuple(new[i] for i in nodes[old].inputs)) for old in new)
    return Graph(kept, {new[end]: name for end, name in names.items()})


def layout(graph: Graph) -> list[tuple[int, int]]:
    """(column, row) of every node: inputs to the left of what reads them, the longest chain along row 0."""
    nodes = graph.nodes
    depth: list[int] = []
    for node in nodes:
        depth.append(1 + max((depth[i] for i in node.inputs), default=-1))
    chain = [int(np.argmax(depth))]
    while nodes[chain[-1]].inputs:
        chain.append(max(nodes[chain[-1]].inputs, key=lambda i: depth[i]))
    found = {number: (depth[number], 0) for number in chain}
    taken = set(found.values())
    for number, node in enumerate(nodes):
        if number not in found:
            # An argument is placed directly below the first operation that reads it.
            readers = [depth[i] for i, other in enumerate(nodes) if number in other.inputs]
            column = depth[number] if node.inputs or not readers else min(readers)
            found[number] = (column, _free(taken, [column]))
            taken.add(found[number])
    return [found[number] for number in range(len(nodes))]


def _free(taken: set[tuple[int, int]], columns: Sequence[int], first: int = -1) -> int:
    """The row nearest to 0 that is free in all these columns, preferring the side of `first`."""
    rows = (row for distance in range(1, len(taken) + 2) for row in (first * distance, -first * distance))
    return next(row for row in rows if not any((column, row) in taken for column in columns))


RADIUS = 0.33
ARROW: dict[str, Any] = {
    "arrowstyle": "-|>",
    "mutation_scale": 9,
    "color": INK,
    "linewidth": 1.1,
    "shrinkA": 0,
    "shrinkB": 0,
}


def draw(graph: Graph) -> Figure:
    """A graph from left to right: circles are operations, boxes are arguments, and named results have their names."""
    where = layout(graph)
    columns = max(x for x, _ in where) + 1
    taken = set(where)
    lines = []
    for number, node in enumerate(graph.nodes):
        for source in dict.fromkeys(node.inputs):
            between = range(where[source][0] + 1, where[number][0])
            row = None
            if between:
                # A line that passes other nodes runs in a row without nodes, and touches its own at top or bottom.
                row = _free(taken, between, first=1)
                taken |= {(column, row) for column in between}
            lines.append((source, number, row))
    rows = [y for _, y in taken]
    fig = plotting.figure(0.95 * (columns + 1.2), 0.95 * (max(rows) - min(rows) + 1.4))
    ax = fig.subplots()
    for source, number, row in lines:
        _connect(ax, where[source], where[number], row)
    for node, (x, y) in zip(graph.nodes, where, strict=True):
        _node(ax, node, x, y)
    for number, name in graph.names.items():
        x, y = where[number]
        if not any(source == number for source, _, _ in lines):
            ax.add_patch(FancyArrowPatch((x + RADIUS, y), (x + 1 - 0.25, y), **ARROW))
            ax.text(x + 1, y, name, ha="center", va="center", fontsize="large")
        elif graph.nodes[number].inputs:
            ax.text(x + 0.5, y + 0.1, name, ha="center", va="bottom", color=plotting.color(0))
    _frame(ax, (-0.6, columns + 0.4), (min(rows) - 0.7, max(rows) + 0.5))
    return fig


def _node(ax: Axes, node: Node, x: float | int, y: float | int) -> None:
    if node.inputs:
        ax.add_patch(Circle((x, y), RADIUS, facecolor="white", edgecolor=INK, linewidth=1.3, zorder=3))
        ax.text(x, y, node.label, ha="center", va="center", fontsize=min(13, 44 / len(node.label)), zorder=4)
        return
    box = {"boxstyle": "round,pad=0.35", "facecolor": "0.93", "edgecolor": INK}
    ax.text(x, y, node.label, ha="center", va="center", fontsize="large", bbox=box, zorder=4)
    if node.shape:
        ax.text(x, y - 0.26, " × ".join(map(str, node.shape)), ha="center", va="top", fontsize="x-small", color="0.35")


def _connect(ax: Axes, start: tuple[int, int], end: tuple[int, int], row: int | None) -> None:
    """An arrow between two nodes, straight or along a row. It starts behind its first node."""
    if row is None:
        ax.add_patch(FancyArrowPatch(start, _toward(end, start, RADIUS), **ARROW))
        return
    corner, shoulder = 0.25, 0.1
    left, right = start[0] + shoulder, end[0] - shoulder

    def short_of_row(y):
        return row - math.copysign(corner, row - y)

    points = [
        (Path.MOVETO, (left, start[1])),
        (Path.LINETO, (left, short_of_row(start[1]))),
        (Path.CURVE3, (left, row)),
        (Path.CURVE3, (left + corner, row)),
        (Path.LINETO, (right - corner, row)),
        (Path.CURVE3, (right, row)),
        (Path.CURVE3, (right, short_of_row(end[1]))),
        (Path.LINETO, (right, end[1] + math.copysign(math.sqrt(RADIUS**2 - shoulder**2), row - end[1]))),
    ]
    codes, corners = zip(*points, strict=True)
    ax.add_patch(FancyArrowPatch(path=Path(corners, codes), **ARROW))
