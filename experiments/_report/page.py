"""The page itself: records and charts put into one HTML file, which forbids itself the network and foreign scripts."""

import base64
import hashlib
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments import _lab
from experiments._report import chapters, embed, gather, play
from fnn import optim, store
from fnn.base.errors import require
from fnn.lab import results
from fnn.lab.experiment import Experiment
from fnn.lab.verdicts import Verdict

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Written:
    """Where the page is, its bytes, and what it lacks: experiments without results, and files that cannot be read."""

    path: Path
    size: int
    missing: tuple[str, ...]
    troubles: tuple[str, ...]


def write(out: Path, experiments: Mapping[str, Experiment], *, quick: bool = False) -> Written:
    """Make the page of the results folder `out`, with little to play with if `quick`.

    experiments: by name, in the page's order. Raises `InputError` where the folder or the extra is
    missing.
    """
    lacking = [name for name in ("jinja2", "vl_convert", "PIL") if find_spec(name) is None]
    require(not lacking, f'The report needs {", ".join(lacking)}: pip install -e ".[report]".')
    results.check_writable(out)
    store.clean(out)
    found = gather.gather(out, experiments)
    troubles = list(found.troubles)
    blocks = embed.measured(out, play.QUICK if quick else play.Config())
    curves = embed.learning_curves(out, troubles)
    blocks |= {"curves": curves} if curves else {}
    text = render(found, blocks, troubles).encode(
        "utf-8", errors="replace"
    )  # JSON and file names can hold what it cannot
    path = out / "report.html"
    store.write(path, text)
    missing = tuple(entry.name for entry in found.missing)
    return Written(path, len(text), missing, tuple(troubles))


def render(found: gather.Gathered, blocks: Mapping[str, Any], troubles: list[str]) -> str:
    """The page's text. Everything that comes from results is escaped by the template engine, data by `tojson`."""
    import jinja2
    import vl_convert

    # Only these two scripts may run in the page: their hashes are in its policy.
    library = _harmless(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed; dispatchEvent(new Event('vega'));"))
    ours = _harmless((HERE / "play.js").read_text(encoding="utf-8"))
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    engine.filters |= {"marked": marked, "effect": effect, "whisker": whisker, "slug": slug, "outcome": outcome}
    groups = [
        (chapter, [entry for entry in found.entries if entry.chapter == chapter.number])
        for chapter in chapters.CHAPTERS
    ]
    outcomes = [outcome(verdict) for _, verdict in found.verdicts]
    counts = {one: outcomes.count(one) for one in OUTCOMES}
    return engine.get_template("page.html.j2").render(
        found=found,
        groups=groups,
        counts=counts,
        outcomes=OUTCOMES,
        troubles=troubles,
        blocks=blocks,
        rules=rules(),
        plays=[(number, name, title) for number, name, title in PLAYS if name in blocks],
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        library=library,
        ours=ours,
        policy=f"script-src {_hash(library)} {_hash(ours)}",
        version=importlib.metadata.version("fnn"),
    )


PLAYS = (
    (1, "paths", "Walk down a surface"),
    (1, "plane", "Where Momentum is stable"),
    (1, "curves", "Learning curves, seed by seed"),
    (2, "activations", "Activations by weight scale and depth"),
    (0, "sensitivity", "How much every rule minds its learning rate"),
)
"""What can be played with: chapter, name, title."""

OUTCOMES = {
    "holds": "✓",
    "does not hold": "✗",
    "undecided": "~",
    "mixed": "±",
    "not measurable": "–",
    "effect only": "·",
}
"""Every outcome of a verdict with a sign, so that color is not needed; quick runs have effects only."""


def rules() -> list[dict[str, str]]:
    """Every update rule: its title, its docstring's first line after that, its dialects."""
    found = []
    for name in optim.names():
        doc = import_module(f"fnn.optim.{name}").__doc__ or ""
        title, about = _lab.title(name), doc.partition("\n")[0]
        about = about.removeprefix(title).lstrip(".:, ")  # the name stands beside it already
        dialects = ", ".join(optim.dialects(name))
        found.append({"name": name, "title": title, "about": about[:1].upper() + about[1:], "dialects": dialects})
    return found


def marked(text: str) -> Any:
    """Text of a docstring with its `code`, its *stress* and its points marked up, everything else escaped."""
    from markupsafe import Markup, escape

    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    safe = re.sub(r"(?<![\w*])\*(\w[^*<>]*)\*(?![\w*])", r"<em>\1</em>", safe)
    return Markup(re.sub(r"^[-*] ", "• ", safe))


def slug(text: str) -> str:
    """A name that can stand in an id."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def outcome(verdict: Verdict) -> str:
    """The outcome in words, "effect only" for a quick run, which has none."""
    return verdict.outcome or "effect only"


def effect(verdict: Verdict) -> str:
    """The effect with its interval and unit, as people write them."""
    style = ".3g" if verdict.unit == "%" else "+.3g"
    numbers = [format(float(x), style).replace("-", "−") for x in (verdict.effect, verdict.low, verdict.high)]
    interval = f" [{numbers[1]}, {numbers[2]}]" if verdict.seeds > 1 else ", one seed has no interval"
    return f"{numbers[0]}{interval} {verdict.unit}".strip()


def whisker(verdict: Verdict) -> dict[str, float] | None:
    """The interval as shares of a short line: of 0 to 100 for percentages, else symmetric about 0; None for none."""
    numbers = [float(x) for x in (verdict.low, verdict.effect, verdict.high)]
    if not all(abs(x) < float("inf") for x in numbers):
        return None
    reach = max(map(abs, numbers)) or 1.0
    low, high = (0.0, 100.0) if verdict.unit == "%" and min(numbers) >= 0 and max(numbers) <= 100 else (-reach, reach)
    left, middle, right = ((x - low) / (high - low) for x in numbers)
    return {"left": left, "middle": middle, "right": right, "zero": -low / (high - low)}


def _harmless(script: str) -> str:
    """A script that cannot end the element it stands in: the same characters, written otherwise within its strings."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", script, flags=re.I)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
