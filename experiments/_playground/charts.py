"""The interactive charts, as Vega-Lite. Their data come from play.js, under the names in this file.

Vega is used because it is small (about 0.9 MB with Vega-Lite, a fifth of Plotly); it draws SVG, which prints sharply,
uses the page's colors (`currentColor`) and has descriptions for screen readers; and its expressions can be interpreted,
so that the page can forbid every evaluation of text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments._playground.play import RULES
from fnn.lab import plotting, titles

Spec = dict[str, Any]

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 1], [1, 2], [10, 3], [3, 3, 1, 3])
INK = "currentColor"
"""The text's color, whatever the page's theme."""

CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "tickColor": INK,
        "domainColor": INK,
        "gridColor": INK,
        "gridOpacity": 0.12,
        "domainOpacity": 0.4,
        "tickOpacity": 0.4,
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleFontWeight": "normal",
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "symbolStrokeWidth": 2},
    "text": {"color": INK},
}


def colors(names: Sequence[str]) -> list[str]:
    """A color for each name: Okabe and Ito's, as in the figures, which reserve some for the notes' rules; the text's
    for black."""
    notes = titles.NOTES if set(names) & set(titles.NOTES) else ()
    order = [*notes, *(name for name in names if name not in notes)]
    picked = [plotting.color(order.index(name)) for name in names]
    return [INK if color == "#000000" else color for color in picked]


def _chart(description: str, height: int, **rest: Any) -> Spec:
    """A spec of the page's width, with its description for screen readers."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "width": "container",
        "height": height,
        "config": CONFIG,
        "autosize": {"type": "fit", "contains": "padding"},
        **rest,
    }


def _number(field: str, title: str, **rest: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **rest}


def _decades(first: int, last: int, every: int = 1) -> Spec:
    """A logarithmic axis that names powers of ten only."""
    powers = range(first, last + 1)
    names = {0: "1", 1: "10"} | {n: f"10{str(n).translate(RAISED)}" for n in powers if n not in (0, 1)}
    named = f"{[names[n] for n in powers]}[round(log(datum.value) / LN10) - ({first})]"
    return {"values": [10.0**n for n in powers][::every], "labelExpr": named}


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _by_rule() -> Spec:
    """Color by rule. The page's checkboxes are the legend."""
    return {
        "field": "rule",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": list(RULES), "range": colors(RULES)},
    }


def _style(name: str, of: Sequence[Any]) -> Spec:
    domain = {"domain": list(RULES), "range": list(of[: len(RULES)])}
    return {"field": "rule", "type": "nominal", "legend": None, "scale": domain, "title": name}


def surface() -> Spec:
    """Contours, minima, and the rules' paths up to a step."""
    window = lambda axis: {
        "domainMin": {"expr": f"{axis}Low"},
        "domainMax": {"expr": f"{axis}High"},
        "nice": False,
        "zero": False,
    }
    place = {
        "x": _number("x", "x", scale=window("x"), axis={"grid": False}),
        "y": _number("y", "y", scale=window("y"), axis={"grid": False}),
    }
    contour = {
        "data": {"name": "contours"},
        "mark": {"type": "line", "clip": True, "strokeWidth": 1, "stroke": INK, "interpolate": "linear"},
        "encoding": {
            **place,
            "detail": {"field": "line"},
            "order": {"field": "i"},
            "opacity": _number("level", "", legend=None, scale={"range": [0.5, 0.12]}),
        },
    }
    tip = [
        {"field": "who", "title": "rule"},
        {"field": "step", "title": "step"},
        _number("x", "x", format=".3f"),
        _number("y", "y", format=".3f"),
        _number("f", "f", format=".3g"),
    ]
    line = {
        "data": {"name": "paths"},
        "mark": {"type": "line", "clip": True, "strokeWidth": 2},
        "encoding": {**place, "color": _by_rule(), "strokeDash": _style("", DASHES), "order": {"field": "step"}},
    }
    steps = {
        "data": {"name": "paths"},
        "mark": {"type": "circle", "clip": True, "size": 22, "opacity": 0.9},
        "encoding": {**place, "color": _by_rule(), "tooltip": tip},
    }
    heads = {
        "data": {"name": "heads"},
        "mark": {"type": "point", "filled": True, "clip": True, "size": 120, "opacity": 1},
        "encoding": {**place, "color": _by_rule(), "shape": _style("", SHAPES), "tooltip": tip},
    }
    minima = {
        "data": {"name": "minima"},
        "mark": {"type": "point", "shape": "cross", "angle": 45, "size": 160, "fill": INK, "stroke": None},
        "encoding": place,
    }
    return _chart(
        "Contours of a surface and the paths of update rules across it. A cross marks each minimum.",
        360,
        params=[
            {"name": f"{axis}{end}", "value": value} for axis in "xy" for end, value in (("Low", -10), ("High", 10))
        ],
        layer=[contour, minima, line, steps, heads],
    )


def descent() -> Spec:
    """f against the step, of the paths on the surface."""
    return _chart(
        "The value of f after every step of each rule, on a logarithmic scale.",
        360,
        data={"name": "paths"},
        mark={"type": "line", "clip": True, "strokeWidth": 2},
        encoding={
            "x": _number("step", "step", scale={"domainMin": 0, "domainMax": {"expr": "last"}, "nice": False}),
            "y": _number("f", "f", scale={"type": "log", "domain": [1e-8, 1e3], "clamp": True}, axis=_decades(-8, 3)),
            "color": _by_rule(),
            "strokeDash": _style("", DASHES),
        },
        params=[{"name": "last", "value": 30}],
    )


def plane() -> Spec:
    """Momentum's factor per step over learning rate and momentum, the edge of stability, and the chosen place."""
    axes = {
        "x": _number("lr0", "learning rate", scale={"nice": False, "zero": True}, axis={"grid": False}),
        "x2": {"field": "lr1"},
        "y": _number("mu0", "momentum α", scale={"nice": False, "zero": False}, axis={"grid": False}),
        "y2": {"field": "mu1"},
    }
    measured = {
        "condition": {"test": "datum.measured >= 1", "value": "#8a8a8a"},
        **_number(
            "measured",
            "left after a step",
            scale={"domain": [0.6, 1], "clamp": True, "scheme": "viridis", "reverse": True},
        ),
    }
    key = {
        "orient": "top",
        "gradientLength": 160,
        "direction": "horizontal",
        "titleOrient": "left",
        "titleFontWeight": "normal",
    }
    cells = {
        "data": {"name": "cells"},
        "mark": "rect",
        "encoding": {
            **axes,
            "color": {**measured, "legend": key},
            "tooltip": [
                _number("lr", "learning rate", format=".3f"),
                _number("mu", "momentum", format=".2f"),
                _number("measured", "measured factor", format=".4f"),
                _number("exact", "exact factor", format=".4f"),
            ],
        },
    }
    edge = {
        "data": {"name": "edge"},
        "mark": {"type": "line", "clip": True, "stroke": "#ffffff", "strokeWidth": 3, "strokeDash": [7, 4]},
        "encoding": {"x": _number("lr", ""), "y": _number("mu", ""), "order": {"field": "mu"}},
    }
    here = {
        "data": {"name": "here"},
        "mark": {"type": "point", "size": 190, "stroke": "#ffffff", "strokeWidth": 3, "fill": "#D55E00", "opacity": 1},
        "encoding": {"x": _number("lr", ""), "y": _number("mu", "")},
    }
    return _chart(
        "Over learning rate and momentum: the factor by which a step of Momentum changes the distance to the minimum. "
        "Gray: it diverges. Dashed: the exact edge of stability, lr = 2 (1 + α) / L.",
        340,
        layer=[cells, edge, here],
    )


def ride() -> Spec:
    """f against the step at the chosen place of the plane."""
    return _chart(
        "The value of f after every step at the chosen learning rate and momentum.",
        340,
        data={"name": "ride"},
        mark={
            "type": "line",
            "clip": True,
            "strokeWidth": 2,
            "stroke": "#D55E00",
            "point": {"fill": "#D55E00", "size": 14},
        },
        encoding={
            "x": _number("step", "step"),
            "y": _number("f", "f", scale={"type": "log", "domain": [1e-8, 1e4], "clamp": True}, axis=_decades(-8, 4)),
        },
    )


def histogram() -> Spec:
    """The activations of one layer."""
    return _chart(
        "Histogram of the activations of the chosen layer.",
        300,
        data={"name": "bins"},
        mark={"type": "bar", "fill": plotting.COLORS[0], "binSpacing": 0.5},
        encoding={
            "x": _number("from", "activation", scale={"nice": False, "zero": False}, bin="binned"),
            "x2": {"field": "to"},
            "y": _number("share", "share of activations (%)", scale={"domainMin": 0, "nice": True}),
            "tooltip": [
                _number("from", "from", format=".3f"),
                _number("to", "to", format=".3f"),
                _number("share", "share (%)", format=".2f"),
            ],
        },
    )


def spread() -> Spec:
    """The standard deviation of the activations layer by layer."""
    axes = {
        "x": _number("layer", "layer", axis={"tickMinStep": 1, "format": "d"}, scale={"nice": False, "zero": False}),
        "y": _number(
            "spread",
            "standard deviation",
            scale={"type": "log", "domain": [1e-6, 100], "clamp": True},
            axis=_decades(-6, 2),
        ),
    }
    return _chart(
        "Standard deviation of the activations in every layer, the chosen one marked.",
        300,
        data={"name": "layers"},
        layer=[
            {"mark": {"type": "line", "stroke": plotting.COLORS[0], "strokeWidth": 2, "clip": True}, "encoding": axes},
            {
                "mark": {"type": "point", "filled": True, "clip": True, "opacity": 1},
                "encoding": {
                    **axes,
                    "size": {"condition": {"test": "datum.chosen", "value": 170}, "value": 40},
                    "color": {
                        "condition": {"test": "datum.chosen", "value": plotting.COLORS[1]},
                        "value": plotting.COLORS[0],
                    },
                },
            },
        ],
    )


def curves(contenders: Mapping[str, str]) -> Spec:
    """One learning curve per seed, thin, and their mean, thick. contenders: color by name. Signal `picked`: a seed."""
    names = list(contenders)
    hover = {
        "name": "followed",
        "select": {"type": "point", "on": "pointerover", "clear": "pointerout", "fields": ["who", "seed"]},
    }
    label = "logarithmic ? format(pow(10, datum.value), '.2~g') : datum.label"
    key = {"title": None, "orient": "top", "symbolType": "stroke", "columns": 4}
    who = lambda seen: {"field": "who", "type": "nominal", "scale": {"domain": names, "range": seen}, "legend": key}
    axes = {
        "x": _number("step", "iteration", scale={"nice": False}),
        "y": _number("loss", "training loss (nats)", scale={"zero": False}, axis={"labelExpr": label}),
        "color": who(list(contenders.values())),
    }
    either = lambda pointed, picked: [
        {"param": "followed", "empty": False, "value": pointed},
        {"test": "datum.seed == picked", "value": picked},
    ]
    each = {
        "data": {"name": "seeds"},
        "params": [hover],
        "mark": "line",
        "encoding": {
            **axes,
            "detail": {"field": "seed"},
            "opacity": {"condition": either(1, 1), "value": 0.28},
            "strokeWidth": {"condition": either(3, 2), "value": 1.2},
        },
    }
    mean = {
        "data": {"name": "means"},
        "mark": {"type": "line", "strokeWidth": 2.6, "tooltip": False},
        "encoding": {**axes, "strokeDash": who([DASHES[i % len(DASHES)] for i in range(len(names))])},
    }
    return _chart(
        "Training loss of every seed, and the mean of the seeds, for each contender.",
        360,
        params=[{"name": "logarithmic", "value": False}, {"name": "picked", "value": -1}],
        layer=[mean, each],
    )


def sensitivity() -> Spec:
    """The loss at the end against the learning rate, one line per rule, one of them chosen."""
    axes = {
        "x": _number(
            "factor", "learning rate / the rule's default", scale={"type": "log", "nice": False}, axis=_decades(-2, 3)
        ),
        "y": _number("loss", "loss at the end (nats)", scale={"domain": [0, 4], "clamp": True}),
        "detail": {"field": "who"},
    }
    tip = [
        {"field": "who", "title": "rule"},
        _number("lr", "learning rate", format=".3g"),
        _number("loss", "loss", format=".3f"),
    ]
    hover = {
        "name": "under",
        "select": {"type": "point", "on": "pointerover", "clear": "pointerout", "fields": ["who"]},
    }
    every = {
        "data": {"name": "lines"},
        "params": [hover],
        "mark": {"type": "line", "stroke": INK, "clip": True},
        "encoding": {
            **axes,
            "opacity": {"condition": {"param": "under", "empty": False, "value": 0.9}, "value": 0.18},
            "strokeWidth": {"condition": {"param": "under", "empty": False, "value": 2.5}, "value": 1.4},
        },
    }
    chosen = {
        "data": {"name": "chosen"},
        "mark": {"type": "line", "strokeWidth": 3, "clip": True, "point": {"size": 50, "filled": True}},
        "encoding": {
            **axes,
            "color": {
                "field": "which",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": [0, 1], "range": [plotting.COLORS[1], plotting.COLORS[0]]},
            },
            "strokeDash": {
                "field": "which",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": [0, 1], "range": [[1, 0], [6, 3]]},
            },
            "tooltip": tip,
        },
    }
    return _chart(
        "The final training loss of every rule, against its learning rate as a multiple of its default.",
        380,
        layer=[every, chosen],
    )
