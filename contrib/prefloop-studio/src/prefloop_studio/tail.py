"""Where the last lines of a file begin, so that of a large one no more is read than is shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 2**16


def tail(path: Path, lines: int) -> int:
    """The place at which the last `lines` lines of a file begin; 0 where it has no more, or is not there."""
    try:
        with path.open("rb") as file:
            start = end = file.seek(0, os.SEEK_END)
            parts: list[bytes] = []
            while start and len(parts) <= lines + 1:
                start = max(0, end - 2 * (end - start) - _BLOCK)
                file.seek(start)
                parts = file.read(end - start).split(b"\n")
    except OSError:
        return 0
    return end - len(b"\n".join(parts[-lines - 1 :])) if len(parts) > lines + 1 else 0
