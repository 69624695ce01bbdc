"""The parts of the page of the notes' experiments beside their results."""

import importlib.metadata
from importlib import import_module
from pathlib import Path

from experiments._playground import embed, play
from fnn import optim
from fnn.base.packages import check_installed
from fnn.lab import titles
from fnn.lab.report.page import More

HERE = Path(__file__).parent

SECTIONS = {
    "updates": {
        "1.1": "SGD",
        "1.2": "Momentum",
        "1.3": "AdaGrad, and RMSProp",
        "1.4": "Adam",
        "1.5": "The update rules compared on MNIST",
    },
    "initial_weights": {
        "2.1": "Can weights start at 0?",
        "2.2": "The distribution of hidden activations",
        "2.2.1": "Vanishing gradients",
        "2.2.2": "Limited expressiveness",
        "2.2.3": "Xavier's initial weights",
        "2.3": "Initial weights for ReLU",
    },
    "batch_norm": {"3.1": "The algorithm", "3.2": "Its evaluation"},
    "regularization": {"4.1": "Overfitting", "4.2": "Weight decay", "4.3": "Dropout", "4.3.1": "Ensembles"},
    "hyperparameters": {"5.1": "Validation data", "5.2": "The search for hyperparameters"},
}
"""The notes' sections of a chapter."""

PLAYS = {
    "paths": ("updates", "Paths down a surface"),
    "plane": ("updates", "Where Momentum is stable"),
    "curves": ("updates", "Learning curves, seed by seed"),
    "activations": ("initial_weights", "Activations by weight scale and depth"),
    "sensitivity": ("", "Sensitivity of every rule to its learning rate"),
}
"""The interactive figures: (chapter, "" for the end of the page; title)."""


def more(out: Path, quick: bool) -> More:
    """The notes' parts of the page of the results folder `out`, with little interactive data if `quick`."""
    check_installed("The report", "jinja2", "vl-convert-python")
    import jinja2
    import vl_convert

    troubles: list[str] = []
    blocks = embed.measured(out, play.QUICK if quick else play.Config())
    curves = embed.learning_curves(out, troubles)
    blocks |= {"curves": curves} if curves else {}
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=jinja2.select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = engine.get_template("play.html.j2")
    common = {"blocks": blocks, "titles": {name: title for name, (_, title) in PLAYS.items()}, "rules": rules()}
    common["version"] = importlib.metadata.version("fnn")
    part = lambda place: template.render(place=place, sections=SECTIONS.get(place, {}).items(), **common)
    contents: dict[str, list[tuple[str, str]]] = {}
    for name, (place, title) in PLAYS.items():
        if name in blocks:
            contents.setdefault(f"experiments.{place}" if place else "", []).append((f"play-{name}", title))
    contents.setdefault("", []).append(("rules", f"The {len(common['rules'])} update rules"))
    return More(
        title="Training dynamics: the notes, measured",
        lead="Reading notes on chapter 6 of Deep Learning from Scratch make claims and leave questions. Each is "
        "an experiment here: what the notes say, what was measured over many seeds, and the result, in the notes’ "
        "order.",
        command="python -m experiments report",
        parts={**{f"experiments.{place}": part(place) for place in SECTIONS}, "": part("end")},
        contents=contents,
        data=blocks,
        scripts=((HERE / "play.js").read_text(encoding="utf-8"),),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed; dispatchEvent(new Event('vega'));"),
        credits="Charts: Vega, Vega-Lite and Vega-Embed, BSD 3-clause.",
        troubles=tuple(troubles),
    )


def rules() -> list[dict[str, str]]:
    """Every update rule: its title, its docstring's first line after that, its dialects."""
    found = []
    for name in optim.names():
        doc = import_module(f"fnn.optim.{name}").__doc__ or ""
        title, about = titles.title(name), doc.partition("\n")[0]
        about = about.removeprefix(title).lstrip(".:, ")  # the name is in the column before it
        dialects = ", ".join(optim.dialects(name))
        found.append({"name": name, "title": title, "about": about[:1].upper() + about[1:], "dialects": dialects})
    return found
