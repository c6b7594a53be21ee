"""Model output is data wherever it is shown."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """`text` without the characters that steer a terminal; line breaks and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))


def one_line(text: str, width: int = 100) -> str:
    """`text` printable, on one line, cut with an ellipsis after `width` characters."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
