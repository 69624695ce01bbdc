"""Diagrams show the network or program that they are drawn from: a change of it changes the diagram."""

from collections import Counter
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from fnn import layers, models
from fnn.lab import diagrams
from fnn.lab.diagrams import Block, blocks, draw, graph_of, layout, network_diagram, units_diagram

X, UNIT = jax.ShapeDtypeStruct((6, 4), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.float32)
FORWARD, BACKWARD = cast(Callable, layers.normalize.fwd), cast(Callable, layers.normalize.bwd)
RESULTS = ("y", "μ", "σ²", "x̂", "", "", "")


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def kinds(ax, kind):
    return [patch for patch in ax.patches if isinstance(patch, kind)]


def operations(graph):
    return Counter(node.label for node in graph.nodes if node.inputs)


# Units


def test_a_full_network_has_every_unit_and_every_weight():
    ax = Figure().subplots()
    units_diagram(ax, [3, 4, 2])
    assert len(kinds(ax, Circle)) == 9
    assert len(ax.texts) == 3 * 4 + 4 * 2  # an empty annotation is an arrow
    assert len(ax.lines) == 0


def test_dropped_units_are_crossed_out_and_have_no_weights():
    ax = Figure().subplots()
    dropped = [np.array(row, bool) for row in ([0, 1, 0], [1, 0, 0, 1], [0, 0])]
    units_diagram(ax, [3, 4, 2], dropped)
    assert len(kinds(ax, Circle)) == 9
    assert len(ax.texts) == 2 * 2 + 2 * 2
    assert len(ax.lines) == 2 * 3  # two strokes each
    middle = lambda ends: round(float(np.mean(np.asarray(ends))), 6)
    centers = {(middle(line.get_xdata()), middle(line.get_ydata())) for line in ax.lines}
    assert centers == {(0.0, 0.0), (-1.5, 2.0), (1.5, 2.0)}


def test_a_mask_belongs_to_its_layer():
    with pytest.raises(ValueError, match="zip"):
        units_diagram(Figure().subplots(), [3, 2], [np.zeros(3, bool), np.zeros(3, bool)])


# Layers


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "Affine ReLU Affine"),
        ({"normalize": "before"}, "Affine Batch_Norm ReLU Affine"),
        ({"normalize": "after"}, "Affine ReLU Batch_Norm Affine"),
        ({"dropout_ratio": 0.3}, "Affine ReLU Dropout Affine"),
        ({"dropout_ratio": 0.3, "drop": layers.inverted_dropout}, "Affine ReLU Dropout Affine"),
        ({"activation": layers.gelu}, "Affine GELU Affine"),
        ({"activation": lambda x: x**3}, "Affine Elementwise Affine"),
    ],
)
def test_layers_are_known_by_what_they_are(options, expected):
    found = blocks(models.multilayer((5,), 2, **options), 7)
    assert [block.name.replace(" ", "_") for block in found] == expected.split()
    assert [block.width for block in found] == [5] * (len(found) - 1) + [2]


@pytest.mark.parametrize("name", diagrams.ACTIVATIONS)
def test_every_activation_is_distinguished_from_the_others(name):
    assert diagrams.name_of(layers.elementwise(diagrams.ACTIVATIONS[name]), ()) == name


def test_the_network_is_drawn_in_order_with_batch_norm_shaded():
    row = [*blocks(models.multilayer((5, 3), 2, normalize="before"), 7), Block("Softmax", 2)]
    ax = network_diagram(row, 7).axes[0]
    names = [block.name for block in row]
    assert texts(ax) == [*names, "7", *(str(block.width) for block in row)]
    shaded = [box.get_facecolor() != (1, 1, 1, 1) for box in kinds(ax, FancyBboxPatch)]
    assert shaded == [name == "Batch Norm" for name in names]


# Computations


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_graph_of_batch_norm(dtype, x64):
    graph = graph_of(FORWARD, X.update(dtype=dtype), UNIT, UNIT, 1e-6, results=RESULTS)
    assert operations(graph) == {"mean": 2, "−": 1, "x²": 1, "+": 2, "1/√": 1, "×": 2}
    number = {name: node for node, name in graph.names.items()}
    label = lambda i: graph.nodes[i].label
    read = lambda i: [label(j) for j in graph.nodes[i].inputs]
    assert (label(number["μ"]), read(number["μ"])) == ("mean", ["x"])
    assert (label(number["σ²"]), read(number["σ²"])) == ("mean", ["x²"])
    assert (label(number["x̂"]), read(number["x̂"])) == ("×", ["−", "1/√"])
    assert (label(number["y"]), read(number["y"])) == ("+", ["×", "β"])
    arguments = {node.label: node.shape for node in graph.nodes if not node.inputs}
    assert arguments == {"x": (6, 4), "γ": (4,), "β": (4,), "ε": ()}


def test_functions_called_inside_are_opened():
    """`normalize` holds its computation inside a custom derivative, and `jit` holds another."""
    own = graph_of(FORWARD, X, UNIT, UNIT, 1e-6)
    called = graph_of(lambda x, gamma, beta, eps: jax.jit(layers.normalize)(x, gamma, beta, eps), X, UNIT, UNIT, 1e-6)
    assert called.nodes == own.nodes


def test_another_function_has_another_graph():
    own = graph_of(FORWARD, X, UNIT, UNIT, 1e-6)

    def by_range(x, gamma, beta, eps):
        centered = x - x.mean(0)
        return gamma * centered / (jnp.abs(centered).max(0) + eps) + beta

    other = graph_of(by_range, X, UNIT, UNIT, 1e-6)
    assert operations(other) == {"mean": 1, "−": 1, "abs": 1, "max": 1, "+": 2, "×": 1, "÷": 1}
    assert other.nodes != own.nodes


def test_equal_work_is_one_node_and_different_work_is_not():
    square = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    assert operations(graph_of(lambda x: (x - x.mean(0)) * (x - x.mean(0)), square)) == {"mean": 1, "−": 1, "×": 1}
    # Means over rows and over columns have one shape here, and so has one mean laid along rows and along columns.
    assert operations(graph_of(lambda x: x.mean(0) * x.mean(1), square)) == {"mean": 2, "×": 1}
    along_both = graph_of(lambda x, v: (x - v[None, :]) * (x - v[:, None]), square, UNIT)
    assert operations(along_both) == {"−": 2, "×": 1}


def test_only_a_sum_over_as_many_is_a_mean():
    assert operations(graph_of(lambda x: x.sum(0) / 6, X)) == {"mean": 1}
    assert operations(graph_of(lambda x: x.sum(0) / 5, X)) == {"Σ": 1, "÷": 1}


def test_what_leads_nowhere_is_dropped():
    def f(x, unused):
        jnp.exp(x + unused)
        return 2 * x, x

    graph = graph_of(f, X, X, results=("twice", "x itself"))
    assert {node.label for node in graph.nodes} == {"x", "2", "×"}
    assert {graph.nodes[i].label: name for i, name in graph.names.items()} == {"×": "twice", "x": "x itself"}


def test_loops_stay_closed_and_constants_and_trees_have_names():
    graph = graph_of(lambda pair: jax.lax.scan(lambda c, a: (c * a, c), pair["start"], pair["rows"])[0],
                     {"rows": X, "start": UNIT})  # fmt: skip
    assert [node.label for node in graph.nodes] == ["pair['rows']", "pair['start']", "scan"]
    table = jnp.arange(4.0)
    assert {node.label for node in graph_of(lambda x: x + table, X).nodes} == {"x", "constant", "+"}


FUNCTIONS = {
    "batch norm": (FORWARD, (X, UNIT, UNIT, 1e-6)),
    "its slopes": (BACKWARD, ((X, UNIT, UNIT, 1e-6), (X, UNIT, UNIT))),
    "a layer": (lambda x, w, b: jnp.tanh(x @ w + b), (X, jax.ShapeDtypeStruct((4, 3), jnp.float32), 1.0)),
    "many paths": (lambda x: ((x + 1) * (x + 2) * (x + 3) * (x - x.mean(0)), x), (X,)),
    "nothing": (lambda x: x, (X,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_layout_flows_to_the_right_and_nothing_overlaps(name):
    f, args = FUNCTIONS[name]
    graph = graph_of(f, *args)
    where = layout(graph)
    assert len(set(where)) == len(graph.nodes)
    for node, (column, _) in zip(graph.nodes, where, strict=True):
        for source in node.inputs:
            # Only an argument may stand in its reader's column, above or below it.
            assert where[source][0] < column or not graph.nodes[source].inputs
    depth = max(column for column, _ in where)
    assert {column for column, row in where if row == 0} == set(range(depth + 1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_drawing_shows_every_node_and_every_edge(name):
    f, args = FUNCTIONS[name]
    graph = graph_of(f, *args)
    ax = draw(graph).axes[0]
    shown = Counter(texts(ax))
    assert Counter(node.label for node in graph.nodes) <= shown
    assert len(kinds(ax, Circle)) == sum(bool(node.inputs) for node in graph.nodes)
    assert len(kinds(ax, FancyArrowPatch)) == sum(len(set(node.inputs)) for node in graph.nodes)


def test_names_are_at_the_end_or_beside_the_edge():
    graph = graph_of(FORWARD, X, UNIT, UNIT, 1e-6, results=RESULTS)
    ax = draw(graph).axes[0]
    place = {text.get_text(): text.get_position() for text in ax.texts}
    where = layout(graph)
    end = where[next(i for i, name in graph.names.items() if name == "y")]
    assert place["y"] == (end[0] + 1, end[1])
    assert place["μ"][0] < place["σ²"][0] < place["x̂"][0] < place["y"][0]
    # One more arrow than edges leads out to y.
    assert len(kinds(ax, FancyArrowPatch)) == sum(len(set(node.inputs)) for node in graph.nodes) + 1
