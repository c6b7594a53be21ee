"""Text for people: model output is data wherever it is shown."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character: no file, terminal or tokenizer takes one."""
_JOINER = "\u200c\u200d"
"""Zero-width non-joiner and joiner: Persian words and emoji families fall apart without them."""
_STRAY_JOINER = re.compile(rf"(?<![^\s{_JOINER}])[{_JOINER}]|[{_JOINER}](?![^\s{_JOINER}])")
"""One that does not stand between two visible characters, where it would join nothing."""


def printable(text: str) -> str:
    """`text` without the characters that steer a terminal; line breaks and tabs stay.

    Joiners stay between visible characters.
    """
    return _STRAY_JOINER.sub("", "".join(c for c in text if c in _JOINER or _is_printable(c)))


def printable_json(value: Any) -> str:
    """`value` as JSON, in which the characters that steer a terminal are escapes: nothing is lost.

    JSON has no infinity and no NaN: they are null.
    """
    text = json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)
    text = "".join(c if c in _JOINER or _is_printable(c) else _escaped(c) for c in text)
    return _STRAY_JOINER.sub(lambda found: _escaped(found[0]), text)


def without_nan(value: Any) -> Any:
    """`value` with null for each number that is not finite, which JSON has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def in_a_line(text: str, most: int = 600) -> str:
    """`text` on one line, for a message that quotes names and values as they come: line breaks, and what
    steers a terminal, as escapes. Of more than `most` characters the middle is left out.
    """
    line = "".join(c if c in _JOINER or (c.isprintable() and _is_printable(c)) else _escaped(c) for c in text)
    line = line if len(line) <= most else f"{line[: most * 2 // 3]}…{line[-most // 3 :]}"
    return _STRAY_JOINER.sub(lambda found: _escaped(found[0]), line)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


def _is_printable(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


def one_line(text: str, width: int = 100) -> str:
    """`text` printable, on one line, cut with an ellipsis after `width` characters."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
