"""Pictures of a results folder as the page holds them: small, with their size, and in words for who cannot see them."""

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from fnn.lab.verdicts import Answer, Verdict

SMALL_PRINT = "fill: #595959"
"""The grey of `plotting.caption`, as an SVG has it."""

LONGEST_SVG = 4_000_000
"""Bytes of an SVG that are searched for its words."""

LONGEST_CAPTION = 1_000
"""The most characters of a figure's small print."""

PIXELS = 20_000_000
"""The largest picture that is decoded, 60 MB of memory; ours have at most 5 million pixels."""

TALLEST = 5
"""The greatest height of a picture on the page, relative to the greatest width."""


@dataclass(frozen=True)
class Words:
    """What is written in a figure: its headings (titles, axes, legends) and the small print below it."""

    headings: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Figure:
    """A figure in the page. uri: the picture itself; alt: what is written in it and what it shows; caption: its small
    print."""

    name: str
    title: str
    uri: str
    width: int
    height: int
    alt: str
    caption: str


def picture(path: Path, quality: int, widest: int) -> tuple[str, int, int]:
    """(data URI, width, height) of a PNG, as WebP, scaled down to `widest` pixels where it is wider.

    Raises `OSError` or `ValueError` where the file is no such picture, or one too large.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as found:
            if math.prod(found.size) > PIXELS:  # from the file's header, before anything is decoded
                raise ValueError(f"{found.width} × {found.height} pixels are too many")
            image = found.convert("RGB")
    except (Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(str(error)) from error
    scale = min(1, widest / image.width, TALLEST * widest / image.height)
    if scale < 1:
        smaller = [max(1, round(side * scale)) for side in image.size]
        image = image.resize((smaller[0], smaller[1]), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=5)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return uri, image.width, image.height


def words(svg: Path) -> Words:
    """What is written in a figure: matplotlib draws letters as outlines and leaves the text in comments beside them."""
    try:
        with svg.open("rb") as file:
            text = file.read(LONGEST_SVG).decode("utf-8", errors="replace")
    except OSError:
        return Words((), "")
    headings, caption = {}, []
    for comment, style in re.findall(r"<!-- (.{1,300}?) -->\s{0,99}<g([^>]{0,300})>", text, re.S):
        told = _plain(unescape(comment))
        if SMALL_PRINT in style and (caption or len(told) > 20):  # short grey words are labels; later ones end a line
            caption.append(told)
        elif len(told) > 1 and not re.fullmatch(r"[−+\-]?[\d.,]+ ?%?", told) and "mathdefault" not in comment:
            headings[told] = None
    return Words(tuple(headings), " ".join(caption)[:LONGEST_CAPTION])


def _plain(text: str) -> str:
    """matplotlib's mathematics as letters."""
    return re.sub(r"\\mathdefault|[${}\\]", "", text).strip()


def title(name: str, told: Words) -> str:
    """A figure's heading: what is written above its axes, where one heading is told to be that, else its name.

    The notes' figures say which they are; others have a title of four words or more that begins with a capital.
    """
    titles = [one for one in told.headings if "(notes, figure" in one]
    others = [one for one in told.headings if re.match(r"[A-Z]\S*( \S+){3,}", one)]
    return titles[0] if titles else others[0] if len(others) == 1 else named(name)


def named(name: str) -> str:
    """A file's name as words: "15_16_spread" is "Figures 15 and 16: spread"."""
    numbers = re.match(r"((?:\d\d_)+)(?=\D)", name + "_")
    rest = name[len(numbers[1]) :] if numbers else name
    spoken = rest.replace("_", " ").strip()
    if not numbers:
        return spoken[:1].upper() + spoken[1:]
    listed = numbers[1].strip("_").split("_")
    return f"Figure{'s' * (len(listed) > 1)} {' and '.join(listed)}: {spoken}" if spoken else f"Figure {listed[0]}"


def finding(name: str, told: Words, verdicts: Sequence[Verdict], answers: Sequence[Answer]) -> str:
    """What a figure shows: the answer that names it, else the verdict of its experiment whose claim is most like it.

    Likeness is the cosine of the words' tf-idf over the experiment's claims. "" where the experiment has found nothing.
    """
    asked = [answer for answer in answers if answer.figure == name]
    if asked:
        return " ".join(f"{answer.question} {answer.answer}" for answer in asked)
    if not verdicts:
        return ""
    claims = [_stems(verdict.claim) for verdict in verdicts]
    own = _stems(f"{name.replace('_', ' ')} {' '.join(told.headings)}")
    rarity = {word: math.log(1 + len(claims) / sum(word in claim for claim in claims)) for word in set().union(*claims)}

    def likeness(number):
        size = math.sqrt(sum(rarity[word] ** 2 for word in claims[number])) or 1
        return sum(rarity[word] ** 2 for word in own & claims[number]) / size

    best = verdicts[max(range(len(verdicts)), key=likeness)]
    verb = "" if best.outcome in ("holds", "does not hold") else " is"
    outcome = f"{verb} {best.outcome}" if best.outcome else ", effect only"
    return f"This experiment found: “{best.statement}”{outcome}. {best.sentence}"


def _stems(text: str) -> set[str]:
    """The words of a text without their endings."""
    return {re.sub(r"(ies|es|s|ing|ed)$", "", word) for word in re.findall(r"[^\W_]{2,}", text.lower())}
