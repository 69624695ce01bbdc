"""The page: one HTML file of the gathered records, whose policy forbids the network and foreign scripts."""

import base64
import hashlib
import importlib.metadata
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fnn import store
from fnn.base.packages import check_installed
from fnn.lab import findings, results
from fnn.lab.experiment import Experiment
from fnn.lab.report import gather
from fnn.lab.verdicts import Verdict

HERE = Path(__file__).parent


@dataclass(frozen=True)
class More:
    """The content of a page beside the results of its experiments. Only `data` may come from a results folder.

    title, lead: at the top. command: that makes the page.
    parts: HTML at the start of a group of experiments, by its package, and at the end of the page, by "".
    contents: more entries of a group in the table of contents, (id, title), in the same way.
    data: JSON by id, for the scripts, in elements `data-ID`. scripts: JavaScript modules. library: one more script,
    kept as text in the element `library` until one of them starts it. credits: of the library. troubles: a sentence for
    each file that could not be read.
    """

    title: str = "What the experiments found"
    lead: str = ""
    command: str = "python -m fnn.lab report"
    parts: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    scripts: Sequence[str] = ()
    library: str = ""
    credits: str = ""
    troubles: Sequence[str] = ()


@dataclass(frozen=True)
class Written:
    """The page: its path, its bytes, the experiments without results, and a sentence for each unreadable file."""

    path: Path
    size: int
    missing: tuple[str, ...]
    troubles: tuple[str, ...]


def write(out: Path, experiments: Mapping[str, Experiment], more: Callable[[], More] = More) -> Written:
    """Write the page of the results folder `out`; returns its path, size and what it lacks.

    experiments: by name, in the page's order. more: returns the rest of its content, called after the checks. Raises
    `InputError` where the folder or the extra is missing.
    """
    check_installed("The report", "jinja2", "pillow")
    results.check_writable(out)
    store.clean(out)
    found, beside = gather.gather(out, experiments), more()
    troubles = [*found.troubles, *beside.troubles]
    # JSON and file names can hold what UTF-8 cannot.
    text = render(found, beside, troubles).encode("utf-8", errors="replace")
    path = out / "report.html"
    store.write(path, text)
    missing = tuple(entry.name for entry in found.missing)
    return Written(path, len(text), missing, tuple(troubles))


def render(found: gather.Gathered, more: More, troubles: Sequence[str]) -> str:
    """The HTML of the page. Everything that comes from results is escaped by the template engine, data by `tojson`."""
    import jinja2

    # Only these scripts may run in the page: their hashes are in its policy.
    scripts = [_harmless(one) for one in ((HERE / "page.js").read_text(encoding="utf-8"), *more.scripts)]
    library = _harmless(more.library)
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    engine.filters |= {"marked": marked, "effect": effect, "whisker": whisker, "slug": slug, "outcome": outcome}
    outcomes = [outcome(verdict) for _, verdict in found.verdicts]
    named = [(entry.name, verdict) for entry, verdict in found.verdicts]
    return engine.get_template("page.html.j2").render(
        found=found,
        groups=found.groups,
        counts={one: outcomes.count(one) for one in OUTCOMES},
        outcomes=OUTCOMES,
        discoveries=findings.discoveries(findings.Findings(named, [], [])),
        troubles=troubles,
        more=more,
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        library=library,
        scripts=scripts,
        policy=f"script-src {' '.join(map(_hash, [*scripts, library] if library else scripts))}",
        version=importlib.metadata.version("fnn"),
    )


OUTCOMES = {
    "holds": "✓",
    "does not hold": "✗",
    "undecided": "~",
    "mixed": "±",
    "not measurable": "–",
    "effect only": "·",
}
"""A sign for every outcome, beside its color; quick runs have effects only."""


def marked(text: str) -> Any:
    """A docstring's text as HTML: `code`, *emphasis* and bullet points marked up, everything else escaped."""
    from markupsafe import Markup, escape

    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    safe = re.sub(r"(?<![\w*])\*(\w[^*<>]*)\*(?![\w*])", r"<em>\1</em>", safe)
    return Markup(re.sub(r"^[-*] ", "• ", safe))


def slug(text: str) -> str:
    """The text with every character that an id must not have replaced by "-"."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def outcome(verdict: Verdict) -> str:
    """The outcome as text, "effect only" for a quick run, which has none."""
    return verdict.outcome or "effect only"


def effect(verdict: Verdict) -> str:
    """The effect with its interval and unit as text."""
    style = ".3g" if verdict.unit == "%" else "+.3g"
    numbers = [format(float(x), style).replace("-", "−") for x in (verdict.effect, verdict.low, verdict.high)]
    interval = f" [{numbers[1]}, {numbers[2]}]" if verdict.seeds > 1 else f", one {verdict.repeats} has no interval"
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
    """The script with `</script` and `<!--` escaped within its strings, so that it cannot end its element."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", script, flags=re.I)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
