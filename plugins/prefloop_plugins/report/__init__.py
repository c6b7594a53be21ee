"""`report.html`: what a run came to, or how several compare, as one page that needs nothing else.

    reading, records    what is shown of a run
    measures    numbers from them
    words       sentences, tables, and how numbers are written
    findings    the validity checks: what keeps the numbers from meaning what they seem to
    meters      those of them that ask other judges and the style of the answers
    seeds, compared    several runs side by side, those that differ in the seed alone taken together
    charts, curves, svg    the charts, drawn by matplotlib, as a part of the page
    page        all of it put into the template, with everything escaped

The same files of a run give the same bytes. Nothing here is imported until a report is made.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from prefloop import Observer
from prefloop.errors import UserError
from prefloop.runs.files import rewrite

if TYPE_CHECKING:
    from prefloop import RunView
    from prefloop_plugins.report.records import RunFiles

FILE = "report.html"
MOST = 8
"""How many runs one report can compare: as many as there are colours to tell apart."""
MARK = b'<meta name="generator" content="prefloop report">'


@frozen
class ReportObserver(Observer):
    """Writes ``report.html`` into the run's folder when the run ends."""

    def run_finished(self, run: RunView) -> None:
        """A finished run is finished, whether or not there is a page about it: trouble is a warning."""
        if trouble := try_report(run.path):
            logging.getLogger("prefloop").warning(trouble)


def write_report(runs: Sequence[Path], file: Path) -> None:
    """Write the report of one or several runs to `file`, in one piece.

    Raises `UserError` where a folder holds no run, where there are too many, where `file` is there and is no
    report, or cannot be written.
    """
    if len(runs) > MOST:
        raise UserError(f"one report can compare {MOST} runs, not {len(runs)}: their colours would repeat.")
    from prefloop_plugins.report.page import page
    from prefloop_plugins.report.reading import read_run

    _refuse_taken(file)
    write_page(page(disambiguate_names(runs, [read_run(run) for run in runs])), file)


def write_page(text: str, file: Path) -> None:
    """Write a page in one piece. Raises `UserError` where `file` is there and is no report."""
    _refuse_taken(file)
    try:
        rewrite(file, text.encode())
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}.") from error


def disambiguate_names(paths: Sequence[Path], runs: Sequence[RunFiles]) -> list[RunFiles]:
    """The runs, those with equal names named by the paths they were given by."""
    counts = Counter(run.name for run in runs)
    named = zip(paths, runs, strict=True)
    return [evolve(run, name=str(path)) if counts[run.name] > 1 else run for path, run in named]


def try_report(run: Path) -> str | None:
    """Write the report of a run that has ended; returns in one line what kept it from that, if anything did.

    A finished run is finished, whether or not there is a page about it.
    """
    try:
        write_report([run], run / FILE)
    except Exception as error:  # anything at all, a plotting library's mistakes too
        return f"{FILE} could not be made: {' '.join(str(error).split()) or type(error).__name__}"
    return None


def _refuse_taken(file: Path) -> None:
    """An older report is replaced; anything else is left alone."""
    try:
        with file.open("rb") as found:
            if MARK not in found.read(1000):
                raise UserError(
                    f"{file}: exists already and is no report. Give another --output, or remove it."
                )
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}.") from error
