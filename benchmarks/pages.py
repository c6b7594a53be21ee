"""Results in pages of the documentation: tables in Markdown, and the places where they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from prefloop.errors import UserError

Cells = Sequence[str]


def markdown(heads: Cells, lines: Iterable[Cells], *, numbers: bool = True) -> str:
    """A table, or nothing where there are no lines. With `numbers`, all columns but the first lean right."""
    rows = list(lines)
    rules = ["---" if i == 0 or not numbers else "---:" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rules, *rows]) if rows else ""


def filled(page: str, tag: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """`page` with what stands between ``<!-- TAG: NAME -->`` and ``<!-- end -->`` made anew.

    Raises `UserError` where it asks for a table that there is not.
    """

    def fill(mark: re.Match[str]) -> str:
        if mark[2] not in tables:
            raise UserError(f"there is no table '{mark[2]}'. Tables: {', '.join(tables)}.")
        return f"{mark[1]}\n\n{tables[mark[2]]() or 'Not measured yet.'}\n\n{mark[3]}"

    return re.sub(rf"(<!-- {tag}: ([\w ]+) -->).*?(<!-- end -->)", fill, page, flags=re.DOTALL)
