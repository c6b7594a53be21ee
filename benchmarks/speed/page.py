"""The tables in `docs/performance.md`, between its marks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks import pages
from benchmarks.speed.table import TABLES, Results


def write_docs(page: Path, results: Results) -> None:
    """Put the tables where the page has ``<!-- speed: NAME -->``, up to ``<!-- end -->``."""
    page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def filled(page: str, results: Results) -> str:
    """`page` with its tables. Raises `UserError` where it asks for one that there is not."""
    return pages.filled(page, "speed", {name: partial(make, results) for name, make in TABLES.items()})
