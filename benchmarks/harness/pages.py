"""Tables in Markdown, and the places in a page where results stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

Cells = Sequence[str]
Writers = Mapping[str, Callable[[str], str]]
"""By tag: what writes the text of a name."""


def markdown(heads: Cells, lines: Iterable[Cells], *, numbers: bool = True) -> str:
    """A table, or nothing where there are no lines. With `numbers`, all columns but the first lean right."""
    rows = list(lines)
    rules = ["---" if i == 0 or not numbers else "---:" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rules, *rows]) if rows else ""


def fill(page: str, writers: Writers) -> str:
    """`page` with what stands between ``<!-- TAG: NAME -->`` and ``<!-- end -->`` written anew.

    A table gets lines of its own, a number stays within its sentence. Tags without a writer are left as they
    are: other programs write those. Raises `ValueError` where a page asks for what there is not.
    """

    def written(mark: re.Match[str]) -> str:
        try:
            text = writers[mark[2]](mark[3]) or "Not measured yet."
        except KeyError as error:
            raise ValueError(f"a page asks for '{mark[2]}: {mark[3]}', but there is no {error}") from error
        return f"{mark[1]}\n\n{text}\n\n{mark[4]}" if text.startswith("|") else f"{mark[1]}{text}{mark[4]}"

    tags = "|".join(map(re.escape, writers))
    return re.sub(rf"(<!-- ({tags}): ([^>]+?) -->).*?(<!-- end -->)", written, page, flags=re.DOTALL)
