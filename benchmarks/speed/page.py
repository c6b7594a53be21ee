"""The tables in `docs/performance.md`, between its marks."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.speed.table import TABLES, Results

from prefloop import UserError


def write_docs(page: Path, results: Results) -> None:
    """Put the tables where the page has ``<!-- speed: NAME -->``, up to ``<!-- end -->``."""
    page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def filled(page: str, results: Results) -> str:
    """`page` with its tables. Raises `UserError` where it asks for one that there is not."""

    def fill(mark: re.Match[str]) -> str:
        if mark[2] not in TABLES:
            raise UserError(f"there is no table '{mark[2]}'. Tables: {', '.join(TABLES)}.")
        return f"{mark[1]}\n\n{TABLES[mark[2]](results) or 'Not measured yet.'}\n\n{mark[3]}"

    return re.sub(r"(<!-- speed: ([\w ]+) -->).*?(<!-- end -->)", fill, page, flags=re.DOTALL)
