"""Text for people: model output is data wherever it is shown."""

from __future__ import annotations

import json
import unicodedata
from typing import Any


def printable(text: str) -> str:
    """`text` without the characters that steer a terminal; line breaks and tabs stay."""
    return "".join(c for c in text if _is_printable(c))


def printable_json(value: Any) -> str:
    """`value` as JSON, in which the characters that steer a terminal are escapes: nothing is lost."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if _is_printable(c) else json.dumps(c)[1:-1] for c in text)


def _is_printable(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


def one_line(text: str, width: int = 100) -> str:
    """`text` printable, on one line, cut with an ellipsis after `width` characters."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
