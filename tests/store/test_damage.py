"""Every file that long work leaves, damaged in every way: the same call goes on to the right result or to a sentence.

Nothing is silently wrong, nothing hangs, and to follow the sentence's advice does no harm.
"""

import contextlib
import functools
import io
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import test_resuming
import xarray as xr
from test_resuming import _recurrence  # noqa: F401  the training is a recurrence in NumPy

from fnn import lab
from fnn.base.errors import InputError
from fnn.lab import findings, plotting, results
from fnn.lab.report import gather
from fnn.lab.verdicts import Answer, Verdict
from fnn.train import checkpoints

SECONDS = 30
"""After which a call hangs."""

MANY = 400
"""Bits of a file that the thorough test flips."""

NAME = "measured"


def streamed(folder, other=False, n=None):
    chunks = test_resuming.stream(folder, code="other" if other else "one")
    if n is None:
        return test_resuming.joined(chunks)
    for _ in range(n):
        next(chunks)
    chunks.close()
    return None


def numbered(folder, other=False, n=5):
    make = lambda number: {"found": np.sin(np.arange(3.0) + number + other)}
    found = list(checkpoints.each(folder, {"code": other}, range(n), make, every=0.0))
    return [block["found"].tobytes() for block in found]


class Cut:
    """A bar at whose n-th report the work is interrupted."""

    def __init__(self, n):
        self.left = n

    def update(self, steps):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def swept(folder, other=False, n=None):
    work = {"settings": 5, "seed": int(other)}
    if n is None:
        return test_resuming.swept(folder, **work)
    with contextlib.suppress(KeyboardInterrupt):
        test_resuming.swept(folder, **work, bar=Cut(n))
    return None


def evaluations(one):
    return [(look["of"], look["value"]) for look in one.evaluations()]


class Drawn:
    """A figure that is drawn once, as Matplotlib takes its time."""

    def __init__(self, title):
        figure = plotting.figure(2, 1.5)
        plotting.axes(figure, title, "x", "y").plot([0, 1])
        self.made = {}
        for kind in ("png", "svg"):
            figure.savefig(buffer := io.BytesIO(), format=kind, dpi=60)
            self.made[kind] = buffer.getvalue()

    def savefig(self, file, format, dpi):
        file.write(self.made[format])

    def set_layout_engine(self, layout):
        pass


drawn = functools.cache(Drawn)


def measured(folder, other=False, n=None):
    """What the command line, the table and the page read of an experiment's results."""
    here = folder / NAME
    if n is not None:
        ds = xr.Dataset({"loss": ("step", np.arange(5.0) + other)}, attrs={"other": int(other)})
        results.save_data(here, ds, {"config": {"seeds": 3 + other}})
        figure = drawn("A title of four words" + " or more" * other)
        verdicts = [Verdict(f"It is {other}", 1.0, 0.5, 1.5, "nats", 3, "holds", "So it is.")]
        results.save_findings(here, verdicts, [Answer(f"{other}?", "Yes.", "drawn", 3)], {"drawn": figure}, {}, {})
        return None
    ds = results.load(here)
    found = findings.gather(folder, [NAME])
    page = gather.gather(folder, {NAME: lab.Experiment(question="Is it?", run=lambda cfg: None)})
    troubles = [*found.unreadable, *page.troubles]
    if troubles:
        raise InputError(troubles[0] + ".")
    return str([ds.loss.values.tolist(), ds.attrs, found.verdicts, found.answers, page.entries])


class Work(NamedTuple):
    """go_on: the call, which gives the whole result. n: how much of it is done before the damage."""

    go_on: Callable
    n: int


WORKS = {
    "stream": Work(streamed, 2),
    "numbers": Work(numbered, 3),
    "blocks": Work(swept, 5),
    "study": Work(functools.partial(test_resuming.searched, more=evaluations), 4),
    "results": Work(measured, 0),
}


class Made(NamedTuple):
    """A folder in which work is under way, the files of another work like it, and the right result."""

    folder: Path
    other: dict[Path, bytes]
    right: object


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Gives the folder of a work, made once."""

    @functools.cache
    def make(name):
        work, folder = WORKS[name], tmp_path_factory.mktemp(name)
        for other in (False, True):
            work.go_on(folder / str(other), other, work.n)
        whole = folder / "whole"
        if name == "results":
            work.go_on(whole, False, 0)
        return Made(folder / "False", files(folder / "True"), work.go_on(whole))

    return make


def files(folder):
    """The content of every file of a folder but its locks, by its path in it."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder): path.read_bytes() for path in paths if not path.name.startswith((".lock", ".owner"))
    }


def damages(contents, other, path):
    """(what, content) for a file; None for none, a folder in its place for "folder"."""
    whole = contents[path]
    yield "removed", None
    yield "a folder", "folder"
    for size in sorted({0, 1, len(whole) // 2, len(whole) - 64, len(whole) - 1}):
        yield f"cut to {size}", whole[:size]
    yield "zeros", bytes(len(whole))
    yield "doubled", whole + whole
    yield "with a line more", whole + b"\n"
    for sibling, content in contents.items():
        if sibling != path:
            yield f"{sibling} in its place", content
    for theirs, content in other.items():
        if theirs.suffix == path.suffix:
            yield f"another work's {theirs}", content


def flipped(whole, n):
    """The file with one bit flipped, at n places at most."""
    for i, bit in enumerate(np.unique(np.linspace(0, 8 * len(whole) - 1, n).astype(int)).tolist()):
        place = bit // 8
        which = (bit + i) % 8 if n < 8 * len(whole) else bit % 8
        yield f"bit {which} of byte {place}", whole[:place] + bytes([whole[place] ^ 1 << which]) + whole[place + 1 :]


@contextlib.contextmanager
def no_hang():
    def give_up(*_):
        pytest.fail(f"It hangs for more than {SECONDS} s.")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(work, folder):
    """The result, or the sentence."""
    with no_hang():
        try:
            return work.go_on(folder), None
        except InputError as error:
            said = str(error)
    assert said
    assert "\n" not in said
    return None, said


def check(name, made, tmp_path, path, content, what):
    """Damage one file and resume twice; then follow the sentence's advice and resume."""
    work, folder = WORKS[name], tmp_path / "work"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made.folder, folder)
    (folder / path).unlink()
    if content == "folder":
        (folder / path).mkdir()
    elif content is not None:
        (folder / path).write_bytes(content)
    where = f"{name}: {path}, {what}"
    found, said = outcome(work, folder)
    assert said or found == made.right, f"{where}: silently wrong"
    if said is None:
        assert outcome(work, folder) == (made.right, None), f"{where}: wrong the second time"
        return
    if name == "results":  # they are made again
        if (folder / path).is_dir():
            (folder / path).rmdir()
        work.go_on(folder, n=0)
        assert outcome(work, folder) == (made.right, None), f"{where}: wrong after it was made again"
        return
    for one in [one for one in folder.rglob("*") if str(one) in said and one.is_file()]:
        one.rename(tmp_path / "moved away")
    found, said = outcome(work, folder)
    assert said or found == made.right, f"{where}: wrong after doing what the sentence says"
    assert outcome(work, tmp_path / "new") == (made.right, None), f"{where}: a new folder is wrong"
    shutil.rmtree(tmp_path / "new")


@pytest.mark.parametrize("name", WORKS)
def test_a_damaged_file_is_mended_or_named(name, made, tmp_path, caplog):
    one = made(name)
    contents = files(one.folder)
    assert len(contents) >= 3
    for path, whole in contents.items():
        for what, content in (*damages(contents, one.other, path), *flipped(whole, 12)):
            if content != whole:
                check(name, one, tmp_path, path, content, what)
                caplog.clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_every_bit_is_mended_or_named(name, made, tmp_path, caplog):
    one = made(name)
    for path, whole in files(one.folder).items():
        for what, content in flipped(whole, MANY):
            check(name, one, tmp_path, path, content, what)
            caplog.clear()
